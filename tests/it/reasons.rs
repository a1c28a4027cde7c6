//! Every decision has a reason, and no reason, event or `Debug` output tells a key, a click ID or
//! a cookie's value.

use std::collections::BTreeSet;

use crate::common::{
    COOKIE_NAME, Clock, DAY, Page, Shop, keyring, page_visit, signing_key, with_cookie_line,
    with_headers,
};
use http::{Request, Response};
use tower_referral::carry::Carry;
use tower_referral::{
    Attribution, Capture, Consent, Forget, Keyring, Program, Reason, Referral, SignedCookie,
    Verdict,
};

/// No test row but the hiding ones may show these.
const HIDDEN: &str = "HIDDENKEY";
const ALSO_HIDDEN: &str = "HIDDENTOO";

fn cookie(value: &str) -> String {
    format!("{COOKIE_NAME}={value}")
}

fn sealed() -> String {
    cookie(&Shop::new().sealed(&format!("/?aff={HIDDEN}")))
}

fn landing() -> Request<String> {
    page_visit(&format!("/?aff={ALSO_HIDDEN}&x=HIDDENQUERY"))
}

fn second_landing() -> Request<String> {
    with_cookie_line(&format!("/?aff={ALSO_HIDDEN}"), sealed())
}

fn saying<T: Clone + Send + Sync + 'static>(shop: Shop, word: T) -> Shop {
    shop.answering(move |_| {
        let mut response = Response::new(String::new());
        response.extensions_mut().insert(word.clone());
        response
    })
}

fn landed(shop: &Shop) -> Referral {
    shop.send(landing()).referral().unwrap().clone()
}

/// Every reason, and a request that is decided for it.
fn cases() -> Vec<(Reason, Page)> {
    #[cfg(feature = "tracing")]
    events::listen();
    let first_touch = || Program::default().attribution(Attribution::FirstTouch);
    let rule = |verdict: Verdict| {
        Shop::program(Program::default().attribution(Attribution::rule(move |_, _| verdict)))
    };
    let late = |days| {
        let clock = Clock::new();
        clock.pass(DAY * days);
        Shop::at(clock, SignedCookie::new(keyring()), |b| b)
    };
    let early = || {
        let line = cookie(&late(1).sealed(&format!("/?aff={HIDDEN}")));
        with_cookie_line(&format!("/?aff={ALSO_HIDDEN}"), line)
    };
    let same_origin = [("sec-fetch-site", "same-origin")];
    let mut within = second_landing();
    within.headers_mut().remove("sec-fetch-site");
    let within = with_headers(within, &same_origin);
    let mut post = landing();
    *post.method_mut() = http::Method::POST;
    let elsewhere = Keyring::new(signing_key("k1", 77));
    let unknown = Keyring::new(signing_key("k2", 77));
    let renamed = |keyring| Shop::keeping(SignedCookie::new(keyring), |b| b);
    let script_cookie = format!("{}; partnero=SCRIPTKEY", sealed());

    vec![
        (Reason::Captured, Shop::new().send(landing())),
        (
            Reason::Rule("mine"),
            rule(Verdict::Replace("mine")).send(second_landing()),
        ),
        (
            Reason::Rule("theirs"),
            rule(Verdict::Keep("theirs")).send(second_landing()),
        ),
        (
            Reason::SameKey,
            Shop::new().send(with_cookie_line(&format!("/?aff={HIDDEN}"), sealed())),
        ),
        (
            Reason::KeptFirstTouch,
            Shop::program(first_touch()).send(second_landing()),
        ),
        (Reason::KeptOwnLink, Shop::new().send(within)),
        (
            Reason::KeptPrefetch,
            Shop::new().send(with_headers(
                second_landing(),
                &[("sec-purpose", "prefetch")],
            )),
        ),
        (Reason::KeptReload, {
            let reload = [
                ("cache-control", "max-age=0"),
                ("sec-ch-ua", "\"Chromium\""),
            ];
            Shop::new().send(with_headers(second_landing(), &reload))
        }),
        (Reason::KeptPossibleFrame, {
            let mut request = second_landing();
            for (name, value) in [("sec-fetch-site", "same-site"), ("sec-fetch-dest", "empty")] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            Shop::new().send(request)
        }),
        (Reason::NoRoom, {
            let shop = Shop::with(|b| {
                let programs =
                    (0..6).map(|n| Program::new(format!("p{n}")).params([format!("a{n}")]));
                programs.fold(b, |b, program| {
                    b.program(program.extra_params(["x1", "x2", "x3", "x4", "x5"]))
                })
            });
            let mut visitor = shop.visitor();
            let extra: String = (1..6)
                .map(|n| format!("&x{n}={}", "v".repeat(128)))
                .collect();
            for n in 0..5 {
                visitor.visit(&format!("/?a{n}=HIDDENKEY{extra}"));
            }
            visitor.visit(&format!("/?a5=HIDDENKEY{}", "K".repeat(100)))
        }),
        (
            Reason::KeptStandDown,
            Shop::with(|b| b.stand_down("/")).send(second_landing()),
        ),
        (
            Reason::KeptHigherRank,
            // Another script's key, brought back over a kept landing.
            {
                let scripts = Program::default().fallback_cookies(["partnero"]);
                let shop = Shop::program(scripts);
                let page = shop.send(with_cookie_line("/", "partnero=SCRIPTKEY"));
                let script = page.referral().unwrap().clone();
                saying(shop, Capture::referral(script)).send(with_cookie_line("/", script_cookie))
            },
        ),
        (Reason::KeptNewer, {
            let old = landed(&Shop::new());
            let shop = late(1);
            let line = cookie(&shop.sealed(&format!("/?aff={HIDDEN}")));
            saying(shop, Capture::referral(old)).send(with_cookie_line("/", line))
        }),
        (
            Reason::InvalidKey,
            Shop::new().send(page_visit("/?aff=HIDDEN%20KEY")),
        ),
        (Reason::NotAPageVisit, Shop::new().send(post)),
        (
            Reason::NoConsent,
            Shop::with(|b| b.consent(|_| Consent::Denied)).send(landing()),
        ),
        (
            Reason::GlobalPrivacyControl,
            Shop::with(tower_referral::ReferralLayerBuilder::global_privacy_control)
                .send(with_headers(landing(), &[("sec-gpc", "1")])),
        ),
        (
            Reason::DoNotTrack,
            Shop::with(tower_referral::ReferralLayerBuilder::do_not_track)
                .send(with_headers(landing(), &[("dnt", "1")])),
        ),
        (
            Reason::UnknownProgram,
            saying(
                Shop::new(),
                Capture::key_for("nobody", HIDDEN.parse().unwrap()),
            )
            .send(page_visit("/")),
        ),
        (
            Reason::Forgotten,
            saying(Shop::new(), Forget).send(second_landing()),
        ),
        (
            Reason::Malformed,
            Shop::new().send(with_cookie_line("/?aff=HIDDENKEY", cookie("HIDDENVALUE"))),
        ),
        (
            Reason::UnknownSigningKey,
            renamed(unknown).send(second_landing()),
        ),
        (
            Reason::BadSignature,
            renamed(elsewhere).send(second_landing()),
        ),
        (Reason::Expired, late(30).send(second_landing())),
        (Reason::FromTheFuture, Shop::new().send(early())),
    ]
}

#[test]
fn every_reason_is_reached_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for (reason, page) in cases() {
        let decisions = page.decisions();
        let found: Vec<_> = decisions
            .iter()
            .map(tower_referral::Decision::reason)
            .collect();
        assert!(found.contains(&reason), "{reason}: {:?}", page.reasons());
        assert_eq!(reason.to_string(), reason.as_str());
        let is_snake = |b: u8| b.is_ascii_lowercase() || b == b'_';
        assert!(reason.as_str().bytes().all(is_snake), "{reason}");
        assert!(names.insert(reason.as_str()), "{reason} twice");
        assert_eq!(
            format!("{reason:>30}").len(),
            30,
            "it can be aligned in a log"
        );
    }
    assert_eq!(names.len(), 25);
}

#[test]
fn decisions_come_in_order_and_the_last_one_explains_what_is_kept() {
    let (_, page) = cases().pop().unwrap();
    assert_eq!(
        page.reasons(),
        ["default: from_the_future", "default: captured"]
    );
    let decisions = page.decisions();
    assert!(!decisions.is_empty());
    assert_eq!(decisions.last_of("default"), Some(Reason::Captured));
    assert_eq!(decisions.last_of("other"), None);
    assert_eq!((&decisions).into_iter().count(), 2);
    assert!(Shop::new().send(page_visit("/")).decisions().is_empty());
    // The handler sees what was decided on the way in.
    assert_eq!(
        crate::common::reasons(page.seen.decisions()),
        page.reasons()
    );
}

#[test]
fn no_debug_output_shows_what_is_hidden() {
    let assert_hides = |text: String| assert!(!text.contains("HIDDEN"), "{text}");
    for (_, page) in cases() {
        assert_hides(format!("{:?} {:?}", page.seen, page.decisions()));
    }
    let shop = Shop::program(Program::default().extra_params(["x"]));
    let page = shop.send(landing());
    let referral = page.referral().unwrap();
    assert_eq!(referral.extra().next(), Some(("x", "HIDDENQUERY")));
    let carry = Carry::builder(keyring())
        .clock(shop.clock.reader())
        .build()
        .unwrap();
    let token = referral.carry_token(&carry).unwrap();
    assert_hides(format!("{referral:?} {:?} {:?}", referral.key(), token));
    let key: tower_referral::ReferralKey = HIDDEN.parse().unwrap();
    assert_hides(format!("{key:?} {:?}", Capture::key(key.clone())));
    assert_hides(format!("{:?}", Capture::referral(referral.clone())));
    let click_id: tower_referral::ClickId = HIDDEN.parse().unwrap();
    assert_hides(format!("{click_id:?}"));
    assert_hides(format!(
        "{:?}",
        " HIDDEN".parse::<tower_referral::ReferralKey>()
    ));
    assert!(!format!("{token:?} {carry:?}").contains(token.as_str()));

    // A secret is 32 bytes from 0 on, in whatever form somebody might print it.
    let shown = format!(
        "{:?} {carry:?} {:?} {:?}",
        shop.layer,
        tower_referral::ReferralLayer::builder(SignedCookie::new(keyring())),
        keyring()
    );
    for secret in [
        "0, 1, 2, 3",
        "00010203",
        "AAECAw",
        "\\x01\\x02",
        "\\u{1}\\u{2}",
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// What the capture endpoint hands to the layer passes through every middleware between them.
#[cfg(feature = "endpoint")]
#[test]
fn a_capture_on_its_way_from_the_endpoint_hides_what_came_from_the_url() {
    use tower::{Layer as _, Service as _};

    #[cfg(feature = "tracing")]
    events::listen();
    let shop = Shop::program(Program::default().extra_params(["x"]));
    let request = Request::post("/track")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("host", "shop.example")
        .header("referer", "https://shop.example/HIDDENPATH")
        .body(format!("aff={HIDDEN}&x=HIDDENQUERY"))
        .unwrap();
    let mut endpoint = shop.layer.capture_endpoint();
    let (send, receive) = std::sync::mpsc::channel();
    let service = tower::service_fn(|request: Request<String>| {
        let answer = endpoint.call(request);
        let send = send.clone();
        async move {
            let response = answer.await?;
            let capture = response.extensions().get::<Capture>();
            send.send(format!("{capture:?}")).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let Ok(response) = crate::common::at_once(shop.layer.layer(service).call(request));
    assert_eq!(response.status(), 204);
    let shown = receive.recv().unwrap();
    assert!(shown.contains("Capture"), "{shown}");
    assert!(!shown.contains("HIDDEN"), "{shown}");
}

#[cfg(feature = "tracing")]
mod events {
    use std::cell::RefCell;
    use std::fmt::{Debug, Write as _};
    use std::sync::Once;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    thread_local! {
        static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Writes down every event of this thread: target and fields.
    struct Notebook;

    /// Listens for the whole process, once and before anything happens: a subscriber that comes
    /// while another thread meets an event for the first time may never hear of it.
    pub(super) fn listen() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Notebook).unwrap());
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }

    impl Subscriber for Notebook {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("tower_referral")
        }

        fn event(&self, event: &Event<'_>) {
            let metadata = event.metadata();
            assert_eq!(*metadata.level(), Level::DEBUG);
            let mut line = Line(metadata.target().to_owned());
            event.record(&mut line);
            LINES.with_borrow_mut(|lines| lines.push(line.0));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn noted(act: impl FnOnce()) -> Vec<String> {
        listen();
        LINES.take();
        act();
        LINES.take()
    }

    #[test]
    fn every_decision_is_an_event_and_none_tells_a_key_or_a_cookie() {
        let mut pages = Vec::new();
        let lines = noted(|| pages = cases());
        for (reason, _) in &pages {
            let field = format!("reason=\"{reason}\"");
            assert!(
                lines.iter().any(|line| line.contains(&field)),
                "{reason}: {lines:#?}"
            );
        }
        let values: Vec<_> = pages
            .iter()
            .flat_map(|(_, page)| page.set_cookies())
            .filter_map(|line| cookie::Cookie::parse(line).ok())
            .map(|cookie| cookie.value().to_owned())
            .filter(|value| !value.is_empty())
            .collect();
        assert!(values.len() > 5);
        for line in &lines {
            assert!(line.contains("program="), "{line}");
            assert!(
                !line.contains("HIDDEN") && !line.contains("SCRIPTKEY"),
                "{line}"
            );
            assert!(
                !values.iter().any(|value| line.contains(&**value)),
                "{line}"
            );
        }
    }

    #[test]
    fn one_landing_is_one_event() {
        let lines = noted(|| drop(Shop::new().send(landing())));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("tower_referral"), "{lines:#?}");
        assert!(
            lines[0].contains("program=\"default\" reason=\"captured\""),
            "{lines:#?}"
        );
        let shop = Shop::new();
        let lines = noted(|| drop(shop.send(page_visit("/?q=1"))));
        assert!(
            lines.is_empty(),
            "nothing of ours, nothing to tell: {lines:#?}"
        );
        let line = sealed();
        let lines = noted(|| drop(shop.send(with_cookie_line("/", line))));
        assert!(lines.is_empty(), "a returning visitor: {lines:#?}");
        let lines = noted(|| drop(shop.send(with_cookie_line("/", cookie("HIDDENVALUE")))));
        assert_eq!(
            lines.len(),
            1,
            "a broken cookie that a handler asked about: {lines:#?}"
        );
        assert!(lines[0].contains("reason=\"malformed\""), "{lines:#?}");
    }

    #[test]
    fn a_word_over_a_broken_cookie_tells_of_it_once() {
        let shop = saying(Shop::new(), Forget);
        // The handler asks, and the way back has to know too.
        let lines = noted(|| drop(shop.send(with_cookie_line("/", cookie("HIDDENVALUE")))));
        for reason in ["malformed", "forgotten"] {
            let told = lines.iter().filter(|line| line.contains(reason)).count();
            assert_eq!(told, 1, "{reason}: {lines:#?}");
        }
    }
}
