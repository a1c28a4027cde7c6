//! Consent and the privacy signals of browsers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{COOKIE_NAME, Shop, bare_get, page_visit, with_cookie_line, with_headers};
use http::{Request, Response};
use tower_referral::{Capture, Consent, Program, ReferralLayerBuilder, RequestRef};

in_every_way! {
    denied_consent_captures_nothing_and_forgets_what_is_kept,
    denied_consent_deletes_a_cookie_that_is_not_valid_either,
    any_request_at_all_carries_the_refusal,
    unknown_consent_writes_nothing_durable_and_shows_the_handler_the_landing,
    the_privacy_signals_are_switches_of_their_own_off_by_default,
    a_privacy_signal_weighs_more_than_any_consent,
    a_handler_that_takes_the_banners_answer_speaks_for_this_very_request,
    consent_that_a_handler_says_is_denied_forgets_what_is_kept,
    consent_that_a_handler_says_holds_for_what_it_captures_with_it,
    consent_for_all_captures_is_said_after_the_last,
    the_hook_is_asked_once_a_request_and_sees_all_of_it_but_the_body,
    unknown_consent_hides_nothing_that_is_kept_from_the_handler,
}

/// The banner's answer in the header `x-consent`; granted where it is absent.
fn banner(request: RequestRef<'_>) -> Consent {
    match request.headers().get("x-consent") {
        Some(value) if value == "no" => Consent::Denied,
        Some(value) if value == "not-yet" => Consent::Unknown,
        _ => Consent::Granted,
    }
}

fn saying(consent: &str, uri: &str) -> Request<String> {
    with_headers(page_visit(uri), &[("x-consent", consent)])
}

fn denied_consent_captures_nothing_and_forgets_what_is_kept() {
    let shop = Shop::with(|builder| builder.consent(banner));
    let mut visitor = shop.visitor();
    let page = visitor.send(saying("no", "/?aff=K"));
    assert_eq!((page.key(), page.reason()), (None, "no_consent"));
    assert!(!page.changed(), "there is nothing to forget");

    visitor.visit("/?aff=K");
    let page = visitor.send(saying("no", "/"));
    assert_eq!(page.key(), None, "not shown either");
    assert_eq!(page.reasons(), ["default: no_consent"]);
    assert!(page.is_private());
    assert!(visitor.holds_nothing());

    visitor.visit("/?aff=K");
    let page = visitor.send(saying("no", "/?aff=L"));
    assert_eq!(page.key(), None);
    assert_eq!(page.set_cookies().len(), 1);
    assert!(visitor.holds_nothing());
}

fn denied_consent_deletes_a_cookie_that_is_not_valid_either() {
    let shop = Shop::with(|builder| builder.consent(banner));
    let mut visitor = shop.visitor();
    for value in ["", "forged", "\"x\""] {
        visitor.hold(COOKIE_NAME, value);
        visitor.send(saying("no", "/"));
        assert!(visitor.holds_nothing(), "{value}");
    }
}

fn any_request_at_all_carries_the_refusal() {
    let shop = Shop::with(|builder| builder.consent(banner));
    for method in ["POST", "HEAD", "DELETE"] {
        let mut visitor = shop.visitor();
        visitor.visit("/?aff=K");
        let mut request = with_headers(bare_get("/api"), &[("x-consent", "no")]);
        *request.method_mut() = method.parse().unwrap();
        visitor.send(request);
        assert!(visitor.holds_nothing(), "{method}");
    }
}

fn unknown_consent_writes_nothing_durable_and_shows_the_handler_the_landing() {
    let shop = Shop::with(|builder| builder.consent(banner));
    let mut visitor = shop.visitor();
    let page = visitor.send(saying("not-yet", "/?aff=K"));
    assert_eq!((page.key(), page.reason()), (Some("K"), "no_consent"));
    assert!(!page.changed() && page.is_private());
    assert_eq!(visitor.send(saying("not-yet", "/")).key(), None);

    visitor.visit("/?aff=KEPT");
    let page = visitor.send(saying("not-yet", "/"));
    assert_eq!(
        (page.key(), page.changed()),
        (Some("KEPT"), false),
        "not forgotten"
    );
    let page = visitor.send(saying("not-yet", "/?aff=NEW"));
    assert_eq!((page.key(), page.changed()), (Some("NEW"), false));
    let page = visitor.send(saying("not-yet", "/?aff=KEPT"));
    assert_eq!((page.key(), page.reason()), (Some("KEPT"), "same_key"));
    assert_eq!(visitor.visit("/").key(), Some("KEPT"));
}

fn the_privacy_signals_are_switches_of_their_own_off_by_default() {
    let gpc = |b: ReferralLayerBuilder| b.global_privacy_control();
    let dnt = |b: ReferralLayerBuilder| b.do_not_track();
    let both = |b: ReferralLayerBuilder| b.global_privacy_control().do_not_track();
    type Switch = fn(ReferralLayerBuilder) -> ReferralLayerBuilder;
    // (switches, header, value, reason why nothing is captured)
    let cases: &[(&str, Switch, &str, &str, Option<&str>)] = &[
        ("off", |b| b, "sec-gpc", "1", None),
        ("off", |b| b, "dnt", "1", None),
        ("gpc", gpc, "sec-gpc", "1", Some("global_privacy_control")),
        ("gpc", gpc, "sec-gpc", "0", None),
        ("gpc", gpc, "sec-gpc", "true", None),
        ("gpc", gpc, "sec-gpc", "", None),
        ("gpc", gpc, "dnt", "1", None),
        ("dnt", dnt, "dnt", "1", Some("do_not_track")),
        ("dnt", dnt, "dnt", "0", None),
        ("dnt", dnt, "dnt", "null", None),
        ("dnt", dnt, "sec-gpc", "1", None),
        ("both", both, "sec-gpc", "1", Some("global_privacy_control")),
        ("both", both, "dnt", "1", Some("do_not_track")),
    ];
    for (switches, configure, header, value, reason) in cases {
        let shop = Shop::with(configure);
        let signal = |uri: &str| {
            let mut request = page_visit(uri);
            let name = http::HeaderName::from_bytes(header.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        let case = format!("{switches}: {header}: {value}");
        let mut visitor = shop.visitor();
        let page = visitor.send(signal("/?aff=K"));
        assert_eq!(page.key().is_none(), reason.is_some(), "{case}");
        assert_eq!(page.reason(), reason.unwrap_or("captured"), "{case}");

        visitor.visit("/?aff=K");
        visitor.send(signal("/"));
        assert_eq!(
            visitor.holds_nothing(),
            reason.is_some(),
            "{case}: what is kept"
        );
    }
}

fn a_privacy_signal_weighs_more_than_any_consent() {
    let shop =
        Shop::with(|b| b.global_privacy_control().consent(|_| Consent::Granted)).answering(|_| {
            let mut response = Response::new(String::new());
            let capture = Capture::key("CODE".parse().unwrap()).consent(Consent::Granted);
            response.extensions_mut().insert(capture);
            response
        });
    let page = shop.send(with_headers(page_visit("/?aff=K"), &[("sec-gpc", "1")]));
    assert_eq!((page.key(), page.changed()), (None, false));
    assert_eq!(
        page.reasons(),
        [
            "default: global_privacy_control",
            "default: global_privacy_control"
        ]
    );
}

fn a_handler_that_takes_the_banners_answer_speaks_for_this_very_request() {
    use Consent::{Denied, Granted, Unknown};
    // (what the request says, what the handler says, is the code captured)
    let cases = [
        ("yes", None, true),
        ("yes", Some(Granted), true),
        ("yes", Some(Denied), false),
        ("yes", Some(Unknown), false),
        ("no", None, false),
        ("no", Some(Granted), true),
        ("no", Some(Unknown), false),
        ("not-yet", None, false),
        ("not-yet", Some(Granted), true),
        ("not-yet", Some(Denied), false),
    ];
    for (request, handler, captured) in cases {
        let shop = Shop::with(|b| b.consent(banner)).answering(move |_| {
            let mut response = Response::new(String::new());
            let mut capture = Capture::key("CODE".parse().unwrap());
            if let Some(consent) = handler {
                capture = capture.consent(consent);
            }
            response.extensions_mut().insert(capture);
            response
        });
        let page = shop.send(saying(request, "/"));
        assert_eq!(page.changed(), captured, "{request}, {handler:?}");
        let reason = if captured { "captured" } else { "no_consent" };
        assert_eq!(page.reason(), reason, "{request}, {handler:?}");
    }
}

fn consent_that_a_handler_says_is_denied_forgets_what_is_kept() {
    let shop = Shop::new().answering(|request| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/banner" {
            let refusal = Capture::key("CODE".parse().unwrap()).consent(Consent::Denied);
            response.extensions_mut().insert(refusal);
        }
        response
    });
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=K");
    visitor.visit("/banner");
    assert!(
        visitor.holds_nothing(),
        "a refusal forgets, whoever says it"
    );
}

/// Cookies that bill partners need consent by the header; the visitor asked for a friend's reward.
fn two_programs() -> Shop {
    Shop::with(|builder| {
        builder
            .program(Program::new("partners").params(["aff"]).consent(banner))
            .program(Program::new("friends").params(["via"]))
    })
}

fn consent_that_a_handler_says_holds_for_what_it_captures_with_it() {
    use Consent::{Denied, Granted};
    let code = |program, consent: Option<Consent>| {
        let capture = Capture::key_for(program, "CODE".parse().unwrap());
        match consent {
            None => capture,
            Some(consent) => capture.consent(consent),
        }
    };
    // (the banner, what the handler says of friends and of partners, what is kept of both then)
    let cases = [
        ("no", Some(Granted), None, [Some("CODE"), None]),
        (
            "no",
            Some(Granted),
            Some(Granted),
            [Some("CODE"), Some("CODE")],
        ),
        ("no", None, Some(Granted), [Some("CODE"), Some("CODE")]),
        ("yes", Some(Denied), None, [None, Some("CODE")]),
        ("yes", None, Some(Denied), [Some("CODE"), None]),
        ("yes", Some(Denied), Some(Granted), [None, Some("CODE")]),
    ];
    for (header, friends, partners, kept) in cases {
        for turned in [false, true] {
            let shop = two_programs().answering(move |request| {
                let mut response = Response::new(String::new());
                if request.uri().path() == "/codes" {
                    let mut both = [code("friends", friends), code("partners", partners)];
                    if turned {
                        both.reverse();
                    }
                    let [one, other] = both;
                    response.extensions_mut().insert(one.and(other));
                }
                response
            });
            let mut visitor = shop.visitor();
            visitor.send(saying("yes", "/?aff=EARLIER&via=EARLIER"));
            visitor.send(saying(header, "/codes"));
            let page = visitor.send(saying("yes", "/"));
            let keys = [page.key_of("friends"), page.key_of("partners")];
            assert_eq!(keys, kept, "{header}, {friends:?}, {partners:?}");
        }
    }
    // A refusal of one program says nothing of the other.
    let shop = two_programs().answering(move |request| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/refuse" {
            response
                .extensions_mut()
                .insert(code("partners", Some(Denied)));
        }
        response
    });
    let mut visitor = shop.visitor();
    visitor.send(saying("yes", "/?aff=P&via=F"));
    let page = visitor.send(saying("yes", "/refuse"));
    assert_eq!(
        page.reasons(),
        ["partners: no_consent", "partners: no_consent"]
    );
    let page = visitor.send(saying("yes", "/"));
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (None, Some("F"))
    );
}

fn consent_for_all_captures_is_said_after_the_last() {
    let shop = two_programs().answering(|_| {
        let mut response = Response::new(String::new());
        let key = || "CODE".parse().unwrap();
        let both = Capture::key_for("friends", key()).and(Capture::key_for("partners", key()));
        response
            .extensions_mut()
            .insert(both.consent(Consent::Granted));
        response
    });
    let page = shop.send(saying("no", "/"));
    assert_eq!(page.set_cookies().len(), 2);
}

fn the_hook_is_asked_once_a_request_and_sees_all_of_it_but_the_body() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let shop = Shop::with(|builder| {
        builder.consent(move |request| {
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.method(), "GET");
            assert_eq!(request.uri().query(), Some("aff=K"));
            assert!(request.headers().contains_key("x-here"));
            assert_eq!(request.extensions().get::<u8>(), Some(&7));
            Consent::Granted
        })
    });
    let mut request = with_headers(page_visit("/?aff=K"), &[("x-here", "1")]);
    request.extensions_mut().insert(7_u8);
    assert_eq!(shop.send(request).key(), Some("K"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

fn unknown_consent_hides_nothing_that_is_kept_from_the_handler() {
    let shop = Shop::with(|builder| builder.consent(|_| Consent::Unknown));
    let line = format!("{COOKIE_NAME}={}", Shop::new().sealed("/?aff=K"));
    let page = shop.send(with_cookie_line("/", line));
    assert_eq!((page.key(), page.changed()), (Some("K"), false));
}
