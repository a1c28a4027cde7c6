//! A record on the server: what is asked of the store and when, what happens while it fails, and
//! that no referral is lost through any of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::click::{ClickRequest, Clicks, UnknownKey};
use tower_referral::testing::Clock;
use tower_referral::{
    Attribution, Capture, ClickId, ConfigError, Consent, Forget, KeyRule, Keyring, Program,
    ReferralLayer, ReferralLayerBuilder, Referrals, ServerSide, SignedCookie, VisitorId,
};
use tower_sessions::session::Record;
use tower_sessions::{Session, SessionManagerLayer};

use crate::scripted_store::{Mood, Scripted};
use crate::support::{
    COOKIE_NAME, at_once, clock, keyring, page_visit, reasons, signing_key, with_headers,
};

const DAY: Duration = Duration::from_secs(86_400);

/// What a request without its cookies says about the handler behind the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    Asks,
    DoesNotAsk,
    Forgets,
    Captures(&'static str),
    /// Asks, and gives up before it is answered; then goes on with the page.
    GivesUp,
}

use Handler::{Asks, Captures, DoesNotAsk, Forgets, GivesUp};

#[derive(Clone)]
struct Site {
    layer: ReferralLayer,
    store: Scripted,
    clock: Clock,
}

/// A visitor's browser.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
}

#[derive(Debug)]
struct Seen {
    key: Option<String>,
    click_id: Option<String>,
    visitors: Vec<VisitorId>,
    /// What the response told.
    reasons: Vec<String>,
    set_cookie: Option<String>,
}

impl Site {
    fn new(configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder) -> Self {
        let (store, clock) = (Scripted::default(), clock());
        let server = ServerSide::new(store.clone(), keyring()).store_expires_records();
        let builder = ReferralLayer::builder(server).clock(clock.reader());
        Self {
            layer: configure(builder).build().unwrap(),
            store,
            clock,
        }
    }

    fn first_touch() -> Self {
        Self::new(|b| b.program(Program::default().attribution(Attribution::FirstTouch)))
    }

    async fn send(&self, browser: &mut Browser, request: Request<String>, as_: Handler) -> Seen {
        let mut request = request;
        if let Some(cookie) = &browser.cookie {
            let line = format!("{COOKIE_NAME}={cookie}");
            request.headers_mut().append(COOKIE, line.parse().unwrap());
        }
        let seen = Arc::new(Mutex::new((None, None, Vec::new())));
        let handler = {
            let seen = Arc::clone(&seen);
            service_fn(move |request: Request<String>| {
                let seen = Arc::clone(&seen);
                async move {
                    let mut response = Response::new(());
                    let asked = Referrals::from_extensions(request.extensions());
                    match as_ {
                        Asks => {
                            let referrals = asked.await.unwrap();
                            let first = referrals.first();
                            *seen.lock().unwrap() = (
                                first.and_then(|referral| referral.key().map(ToString::to_string)),
                                first.and_then(|r| r.click_id().map(ToString::to_string)),
                                referrals.visitor_ids().to_vec(),
                            );
                        }
                        GivesUp => {
                            let short = Duration::from_millis(1);
                            let _ = tokio::time::timeout(short, asked).await;
                        }
                        DoesNotAsk => {}
                        Forgets => drop(response.extensions_mut().insert(Forget)),
                        Captures(key) => {
                            let capture = Capture::key(key.parse().unwrap());
                            response.extensions_mut().insert(capture);
                        }
                    }
                    Ok::<_, std::convert::Infallible>(response)
                }
            })
        };
        let Ok(response) = self.layer.layer(handler).oneshot(request).await;
        let set_cookie = response.headers().get(SET_COOKIE);
        let set_cookie = set_cookie.map(|line| line.to_str().unwrap().to_owned());
        if let Some(line) = &set_cookie {
            let cookie = cookie::Cookie::parse(line.clone()).unwrap();
            let is_kept = cookie.max_age() > Some(time::Duration::ZERO);
            browser.cookie = is_kept.then(|| cookie.value().to_owned());
        }
        let (key, click_id, visitors) = seen.lock().unwrap().clone();
        Seen {
            key,
            click_id,
            visitors,
            reasons: reasons(&response),
            set_cookie,
        }
    }

    async fn lands(&self, browser: &mut Browser, key: &str) -> Seen {
        let request = page_visit(&format!("/?aff={key}"));
        self.send(browser, request, Asks).await
    }

    async fn returns(&self, browser: &mut Browser) -> Seen {
        self.send(browser, page_visit("/"), Asks).await
    }

    /// The key that a handler sees.
    async fn key(&self, browser: &mut Browser) -> Option<String> {
        self.returns(browser).await.key
    }
}

impl Browser {
    /// Does the cookie hold a referral, and not only an ID?
    fn carries(&self, key: &str) -> bool {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let cookie = self.cookie.as_deref().unwrap_or_default();
        let bytes = engine.decode(cookie).unwrap();
        bytes.windows(key.len()).any(|part| part == key.as_bytes())
    }
}

// ===== What is asked of the store, and when =====

#[tokio::test]
async fn the_store_is_asked_when_something_must_be_known_and_not_otherwise() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();

    site.send(&mut browser, page_visit("/"), Asks).await;
    assert_eq!(site.store.calls(), [""; 0], "nothing of ours");
    site.send(&mut browser, page_visit("/"), Forgets).await;
    assert_eq!(site.store.calls(), [""; 0], "nothing to forget");
    site.lands(&mut browser, "A").await;
    assert_eq!(site.store.calls(), ["create"], "a new visitor's landing");

    site.send(&mut browser, page_visit("/"), DoesNotAsk).await;
    assert_eq!(site.store.calls(), [""; 0], "nobody asks");
    site.returns(&mut browser).await;
    assert_eq!(site.store.calls(), ["load"], "a handler asks");
    let page = site.lands(&mut browser, "A").await;
    assert_eq!(site.store.calls(), ["load"], "the same key");
    assert_eq!(page.set_cookie, None);
    site.lands(&mut browser, "B").await;
    assert_eq!(
        site.store.calls(),
        ["load", "delete", "create"],
        "another key"
    );
    site.send(&mut browser, page_visit("/?aff=C"), DoesNotAsk)
        .await;
    assert_eq!(
        site.store.calls(),
        ["load", "delete", "create"],
        "and nobody asks"
    );
    site.send(&mut browser, page_visit("/"), Captures("D"))
        .await;
    assert_eq!(
        site.store.calls(),
        ["load", "delete", "create"],
        "a handler's command"
    );
    site.send(&mut browser, page_visit("/"), Forgets).await;
    assert_eq!(site.store.calls(), ["delete"], "forgotten without a look");
    assert_eq!(browser.cookie, None);
    assert_eq!(site.store.records(), []);

    for forged in ["forged", "AAAA", &"A".repeat(90)] {
        let mut browser = Browser {
            cookie: Some(forged.to_owned()),
        };
        site.returns(&mut browser).await;
        assert_eq!(site.store.calls(), [""; 0], "{forged}");
    }
}

#[tokio::test]
async fn the_browser_holds_an_id_and_the_record_lives_as_long_as_the_referral() {
    let window = Duration::from_secs(3 * 3600);
    let site = Site::new(|b| b.program(Program::default().window(window)));
    let mut browser = Browser::default();
    let page = site.lands(&mut browser, "PARTNER_123").await;
    assert!(!browser.carries("PARTNER_123"));
    assert!(page.set_cookie.unwrap().ends_with("; Max-Age=10800"));
    let [record] = &site.store.records()[..] else {
        panic!("one record");
    };
    let left = record.expiry_date - site.clock.now();
    assert_eq!(left, window);
    // The store needn't be on time: the window is enforced by the layer's own clock.
    site.clock.advance(window);
    let page = site.returns(&mut browser).await;
    assert_eq!(page.key, None);
}

#[tokio::test]
async fn a_visitors_id_finds_the_record_and_erases_it() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    let landing = site.lands(&mut browser, "A").await;
    let [visitor] = landing.visitors[..] else {
        panic!("known on the landing itself: {landing:?}");
    };
    let same: VisitorId = visitor.to_string().parse().unwrap();
    assert_eq!(same, visitor);
    assert_eq!(site.returns(&mut browser).await.visitors, [visitor]);
    // The same key again changes nothing.
    site.lands(&mut browser, "A").await;
    assert_eq!(site.returns(&mut browser).await.visitors, [visitor]);

    let found = site.layer.look_up(visitor).await.unwrap().unwrap();
    assert_eq!(found.key().unwrap().as_str(), "A");
    site.layer.erase(visitor).await.unwrap();
    assert_eq!(site.layer.look_up(visitor).await.unwrap(), None);
    assert_eq!(site.store.records(), []);
    assert_eq!(site.key(&mut browser).await, None);
    // Erased is erased: whoever comes back is somebody new.
    let again = site.lands(&mut browser, "C").await;
    assert_ne!(again.visitors, [visitor]);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("C"));

    site.store.is(Mood::Down);
    let error = site.layer.erase(visitor).await.unwrap_err().to_string();
    assert!(error.contains("the store's backend failed"), "{error}");
    assert!(!error.contains("Record"), "{error}");
}

#[tokio::test]
async fn the_longest_referral_is_kept_whole() {
    let names: Vec<_> = (0..16).map(|n| format!("{n:_>32}")).collect();
    let site = Site::new(|b| b.program(Program::default().extra_params(names.clone())));
    let extra = names.iter().map(|n| format!("&{n}={}", "v".repeat(128)));
    let (path, extra) = ("p".repeat(254), extra.collect::<String>());
    let landing = page_visit(&format!("/{path}?aff={}{extra}", "K".repeat(128)));
    let page = site.send(&mut Browser::default(), landing, Asks).await;
    let found = site.layer.look_up(page.visitors[0]).await.unwrap().unwrap();
    assert_eq!(found.extra().count(), 16);
    assert!(
        found
            .landing_page()
            .unwrap()
            .starts_with(&format!("/{path}?aff="))
    );
}

#[test]
fn debug_says_what_was_chosen_and_shows_no_secret() {
    let server = ServerSide::new(Scripted::default(), keyring());
    let shown = format!("{:?}", server.timeout(Duration::from_millis(70)));
    assert!(
        shown.starts_with("ServerSide { cookie: SignedCookie"),
        "{shown}"
    );
    assert!(shown.contains("timeout: 70ms"), "{shown}");
    assert!(!shown.contains("0, 1, 2, 3"), "{shown}");
}

#[tokio::test]
async fn what_is_in_the_record_is_validated_again() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    for text in ["", "!", "AAAA", "x".repeat(100_000).as_str()] {
        let mut record = site.store.records().remove(0);
        record.data.insert("tower_referral".into(), text.into());
        site.store.put(record);
        let page = site.returns(&mut browser).await;
        assert_eq!(page.key, None, "{text:.9}");
    }
    let mut record = site.store.records().remove(0);
    record.data.clear();
    site.store.put(record);
    assert_eq!(site.key(&mut browser).await, None);
    site.lands(&mut browser, "B").await;
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
}

#[tokio::test]
async fn a_signed_cookie_from_before_moves_in() {
    let site = Site::new(|b| b);
    let before = ReferralLayer::builder(SignedCookie::new(keyring()))
        .clock(site.clock.reader())
        .build()
        .unwrap();
    let mut browser = Browser::default();
    let cookies = Site {
        layer: before,
        ..site.clone()
    };
    cookies.lands(&mut browser, "BEFORE").await;
    assert!(browser.carries("BEFORE"));
    let page = site.returns(&mut browser).await;
    assert_eq!(page.key.as_deref(), Some("BEFORE"));
    assert!(!browser.carries("BEFORE"));
    assert_eq!(site.store.records().len(), 1);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("BEFORE"));
    // The way back isn't one: an ID means nothing to a signed cookie.
    assert_eq!(cookies.key(&mut browser).await, None);
}

// ===== While the store fails =====

const TROUBLES: [Mood; 4] = [Mood::Down, Mood::Hanging, Mood::Panicking, Mood::ReadOnly];

#[tokio::test(start_paused = true)]
async fn a_landing_while_the_store_fails_is_carried_and_moves_in_when_it_is_back() {
    for trouble in TROUBLES {
        let site = Site::new(|b| b);
        let mut browser = Browser::default();
        site.store.is(trouble);
        let page = site.lands(&mut browser, "KEY").await;
        assert_eq!(page.key.as_deref(), Some("KEY"), "{trouble:?}");
        assert_eq!(
            page.reasons,
            ["default: captured", "default: store_unavailable"]
        );
        assert!(browser.carries("KEY"), "{trouble:?}");
        let page = site.returns(&mut browser).await;
        assert_eq!(page.key.as_deref(), Some("KEY"), "{trouble:?}");

        site.store.is(Mood::Well);
        let page = site.send(&mut browser, page_visit("/"), DoesNotAsk).await;
        assert!(page.set_cookie.is_some(), "{trouble:?}");
        assert!(!browser.carries("KEY"), "{trouble:?}");
        assert_eq!(site.store.records().len(), 1, "{trouble:?}");
        assert_eq!(site.key(&mut browser).await.as_deref(), Some("KEY"));
        let page = site.returns(&mut browser).await;
        assert_eq!(page.set_cookie, None, "moved in once");
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_store_failed_is_decided_over_when_it_is_back() {
    for trouble in TROUBLES {
        for (site, kept) in [(Site::new(|b| b), "LATER"), (Site::first_touch(), "FIRST")] {
            let mut browser = Browser::default();
            site.lands(&mut browser, "FIRST").await;
            let visitor = site.returns(&mut browser).await.visitors;
            site.clock.advance(DAY);
            site.store.is(trouble);
            site.lands(&mut browser, "LATER").await;
            site.lands(&mut browser, "LATER").await;
            let page = site.returns(&mut browser).await;
            // Where the store can still be read, the replacement has an ID of its own.
            let is_replaced = trouble == Mood::ReadOnly && kept == "LATER";
            assert_eq!(
                page.visitors == visitor,
                !is_replaced,
                "{trouble:?}: known all the same"
            );
            site.store.is(Mood::Well);
            let key = site.key(&mut browser).await;
            assert_eq!(key.as_deref(), Some(kept), "{trouble:?}");
            let page = site.returns(&mut browser).await;
            assert_eq!(page.key.as_deref(), Some(kept), "{trouble:?}");
            // What couldn't be deleted ends with its window.
            let left = usize::from(is_replaced);
            assert_eq!(site.store.records().len(), 1 + left, "{trouble:?}");
        }
    }
}

#[tokio::test]
async fn what_another_tab_has_moved_in_is_not_written_again() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.store.is(Mood::Down);
    site.lands(&mut browser, "KEY").await;
    site.store.is(Mood::Well);
    let mut tab = browser.clone();
    site.store.calls();
    site.returns(&mut browser).await;
    assert_eq!(site.store.calls(), ["load", "create"]);
    let page = site.returns(&mut tab).await;
    assert_eq!(site.store.calls(), ["load"]);
    assert!(page.set_cookie.is_some() && !tab.carries("KEY"));
}

#[tokio::test]
async fn a_store_that_could_not_be_read_is_not_written_to() {
    let site = Site::first_touch();
    let mut browser = Browser::default();
    site.lands(&mut browser, "FIRST").await;
    site.store.calls();
    site.store.is(Mood::WriteOnly);
    let page = site.lands(&mut browser, "LATER").await;
    assert_eq!(page.key.as_deref(), Some("LATER"));
    assert_eq!(site.store.calls(), ["load"], "what is there is unknown");
    assert!(browser.carries("LATER"));
    site.store.is(Mood::Well);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("FIRST"));
    assert_eq!(site.store.records().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_link_within_the_site_replaces_nothing_even_if_nothing_could_be_read() {
    let within = || with_headers(page_visit("/?aff=FOOTER"), &[]);
    let mut same_origin = within();
    same_origin
        .headers_mut()
        .insert("sec-fetch-site", "same-origin".parse().unwrap());
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "PARTNER").await;
    let mut empty = Browser::default();
    site.store.is(Mood::Down);
    site.send(&mut browser, same_origin.clone(), Asks).await;
    site.send(&mut empty, same_origin, Asks).await;
    site.store.is(Mood::Well);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("PARTNER"));
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("PARTNER"));
    assert_eq!(site.key(&mut empty).await.as_deref(), Some("FOOTER"));
}

#[tokio::test(start_paused = true)]
async fn a_landing_of_a_key_that_only_filled_a_slot_counts_once_the_store_is_back() {
    let own_link = || {
        let headers = [("sec-fetch-site", "same-origin")];
        with_headers(page_visit("/?aff=LATER"), &headers)
    };
    let stand_down = || page_visit("/checkout?aff=LATER");
    // (the requests while the store is down, the key that is kept afterwards)
    let cases = [
        (vec![stand_down()], "FIRST"),
        (vec![stand_down(), page_visit("/?aff=LATER")], "LATER"),
        (vec![page_visit("/?aff=LATER"), stand_down()], "LATER"),
        (vec![own_link(), page_visit("/?aff=LATER")], "LATER"),
        (vec![stand_down(), own_link(), stand_down()], "FIRST"),
    ];
    for (requests, kept) in cases {
        let case = requests.iter().map(|it| it.uri().to_string());
        let case = case.collect::<Vec<_>>().join(", ");
        let site = Site::new(|b| b.stand_down("/checkout"));
        let mut browser = Browser::default();
        site.lands(&mut browser, "FIRST").await;
        site.clock.advance(DAY);
        site.store.is(Mood::Down);
        for request in requests {
            let page = site.send(&mut browser, request, Asks).await;
            assert_eq!(page.key.as_deref(), Some("LATER"), "{case}");
        }
        site.store.is(Mood::Well);
        assert_eq!(
            site.key(&mut browser).await.as_deref(),
            Some(kept),
            "{case}"
        );
        assert_eq!(
            site.key(&mut browser).await.as_deref(),
            Some(kept),
            "{case}"
        );
    }
    // A handler's capture is such a touch, too.
    let site = Site::new(|b| b.stand_down("/checkout"));
    let mut browser = Browser::default();
    site.lands(&mut browser, "FIRST").await;
    site.store.is(Mood::Down);
    site.send(&mut browser, stand_down(), Asks).await;
    site.send(&mut browser, page_visit("/"), Captures("LATER"))
        .await;
    site.store.is(Mood::Well);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("LATER"));
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_for_250_milliseconds_at_most_over_all_its_calls() {
    let limit = Duration::from_millis(250);
    let cases = [
        (Mood::Hanging, Asks, limit),
        (Mood::Hanging, DoesNotAsk, limit),
        (Mood::Hanging, Captures("X"), limit),
        (Mood::Hanging, Forgets, limit),
        (Mood::Slow(100), Asks, limit),
        (Mood::Slow(200), Asks, limit),
        (Mood::Slow(200), Captures("X"), limit),
        (Mood::Down, Asks, Duration::ZERO),
        (Mood::Panicking, Asks, Duration::ZERO),
    ];
    for (mood, handler, longest) in cases {
        let site = Site::new(|b| b);
        let mut browser = Browser::default();
        site.lands(&mut browser, "A").await;
        site.store.is(mood);
        let start = Instant::now();
        site.send(&mut browser, page_visit("/?aff=B"), handler)
            .await;
        let took = start.elapsed();
        // The timer's own grain is a millisecond.
        assert!(
            took <= longest + Duration::from_millis(2),
            "{mood:?} {handler:?} {took:?}"
        );
        site.store.is(Mood::Well);
        let kept = site.key(&mut browser).await;
        let expected = match handler {
            Forgets => None,
            Captures(key) => Some(key),
            _ => Some("B"),
        };
        assert_eq!(kept.as_deref(), expected, "{mood:?} {handler:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_up_asking_loses_nothing() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    site.store.is(Mood::Slow(50));
    site.send(&mut browser, page_visit("/?aff=B"), GivesUp)
        .await;
    site.send(&mut browser, page_visit("/"), GivesUp).await;
    site.store.is(Mood::Well);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
}

#[test]
fn without_a_runtime_the_store_is_as_if_down() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    let page = at_once(site.lands(&mut browser, "KEY"));
    assert_eq!(page.key.as_deref(), Some("KEY"));
    assert!(browser.carries("KEY"));
}

#[tokio::test(start_paused = true)]
async fn forgetting_deletes_the_cookie_even_if_the_record_cannot_be() {
    for trouble in TROUBLES {
        let site = Site::new(|b| b);
        let mut browser = Browser::default();
        site.lands(&mut browser, "A").await;
        site.store.is(trouble);
        let page = site.send(&mut browser, page_visit("/"), Forgets).await;
        assert_eq!(
            page.reasons,
            ["default: forgotten", "default: store_unavailable"]
        );
        assert_eq!(browser.cookie, None);
        // What is captured now has nothing to do with what was to be forgotten.
        site.lands(&mut browser, "B").await;
        site.store.is(Mood::Well);
        assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
    }
}

#[tokio::test]
async fn consent_that_is_denied_deletes_the_record_and_one_not_yet_given_moves_nothing() {
    let site = Site::new(|b| {
        b.consent(|request| match request.headers().get("x-consent") {
            None => Consent::Granted,
            Some(answer) if answer == "unknown" => Consent::Unknown,
            Some(_) => Consent::Denied,
        })
    });
    let with = |answer| with_headers(page_visit("/"), &[("x-consent", answer)]);
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    site.store.calls();
    site.send(&mut browser, with("denied"), Asks).await;
    assert_eq!(site.store.calls(), ["delete"]);
    assert_eq!(browser.cookie, None);
    assert_eq!(site.store.records(), []);

    site.store.is(Mood::Down);
    site.lands(&mut browser, "B").await;
    site.store.is(Mood::Well);
    let page = site.send(&mut browser, with("unknown"), Asks).await;
    assert_eq!(page.key.as_deref(), Some("B"));
    assert_eq!(page.set_cookie, None);
    assert_eq!(site.store.records(), []);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
    assert_eq!(site.store.records().len(), 1);
}

#[tokio::test]
async fn a_store_that_was_emptied_has_lost_what_it_had_and_nothing_else() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    site.store.forget_everything();
    assert_eq!(site.key(&mut browser).await, None);
    site.lands(&mut browser, "B").await;
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
}

// ===== Overlapping requests =====

#[tokio::test(start_paused = true)]
async fn of_two_first_landings_that_overlap_exactly_one_survives() {
    let site = Site::first_touch();
    site.store.is(Mood::Slow(20));
    let (mut one, mut other) = (Browser::default(), Browser::default());
    tokio::join!(site.lands(&mut one, "A"), site.lands(&mut other, "B"));
    // It is one browser: the response that it processes last wins.
    for (mut browser, kept) in [(one, "A"), (other, "B")] {
        assert_eq!(site.key(&mut browser).await.as_deref(), Some(kept));
        site.lands(&mut browser, "C").await;
        assert_eq!(site.key(&mut browser).await.as_deref(), Some(kept));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_move_a_referral_in_at_once_leave_one_record() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.store.is(Mood::Down);
    site.lands(&mut browser, "KEY").await;
    site.store.is(Mood::Slow(20));
    let mut tabs = [browser.clone(), browser.clone(), browser];
    let [one, two, three] = &mut tabs;
    tokio::join!(site.returns(one), site.returns(two), site.returns(three));
    assert_eq!(site.store.records().len(), 1);
    for mut tab in tabs {
        assert!(!tab.carries("KEY"));
        assert_eq!(site.key(&mut tab).await.as_deref(), Some("KEY"));
    }
}

// ===== The ID that handlers see is the one that is stored =====

impl Site {
    /// The same store and time, with other keys.
    fn with_keyring(&self, keyring: Keyring) -> Self {
        let server = ServerSide::new(self.store.clone(), keyring).store_expires_records();
        let builder = ReferralLayer::builder(server).clock(self.clock.reader());
        Self {
            layer: builder.build().unwrap(),
            ..self.clone()
        }
    }

    /// Asserts that what a handler was shown with its referral finds that referral, and erases it.
    async fn assert_erases(&self, visitor: VisitorId, key: &str) {
        let found = self.layer.look_up(visitor).await.unwrap();
        let found = found.and_then(|it| it.key().map(ToString::to_string));
        assert_eq!(found.as_deref(), Some(key));
        self.layer.erase(visitor).await.unwrap();
        assert_eq!(self.store.records(), []);
    }
}

#[tokio::test]
async fn what_is_carried_keeps_its_id_when_the_key_of_its_record_is_gone() {
    let [old, new] = [("k1", 0), ("k2", 32)].map(|(id, first)| signing_key(id, first));
    let site = Site::new(|b| b);
    let rotating = site.with_keyring(Keyring::new(new.clone()).verify_with(old).unwrap());
    let rotated = site.with_keyring(Keyring::new(new));
    let mut browser = Browser::default();
    site.lands(&mut browser, "EARLIER").await;
    site.store.is(Mood::Down);
    let landing = rotating.lands(&mut browser, "LATER").await;
    assert!(browser.carries("LATER"));
    let [visitor] = landing.visitors[..] else {
        panic!("known while the store is down: {landing:?}");
    };
    let mut tab = browser.clone();
    let page = rotated.returns(&mut browser).await;
    assert_eq!(
        (page.visitors, page.key.as_deref()),
        (vec![visitor], Some("LATER"))
    );
    // The first referral ends with its window. Nobody could find it by then.
    site.store.forget_everything();
    site.store.is(Mood::Well);
    for browser in [&mut browser, &mut tab] {
        let page = rotated.returns(browser).await;
        assert_eq!(
            (page.visitors, page.key.as_deref()),
            (vec![visitor], Some("LATER"))
        );
        assert!(!browser.carries("LATER"));
    }
    assert_eq!(rotated.returns(&mut browser).await.visitors, [visitor]);
    rotated.assert_erases(visitor, "LATER").await;
}

#[tokio::test]
async fn an_id_that_was_shown_while_the_store_was_down_finds_what_came_then() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "EARLIER").await;
    let copied = browser.clone();
    site.store.is(Mood::Down);
    let [shown] = site.lands(&mut browser, "LATER").await.visitors[..] else {
        panic!("known while the store is down");
    };
    site.store.is(Mood::Slow(1));
    // Requests that move it in at once agree on one record.
    let mut tab = browser.clone();
    let (one, two) = tokio::join!(site.returns(&mut browser), site.returns(&mut tab));
    assert_eq!(one.key.as_deref(), Some("LATER"));
    assert_eq!(one.visitors, two.visitors);
    assert_eq!(site.store.records().len(), 1);
    // Whoever has an old cookie sees nothing of it.
    assert_ne!(one.visitors, [shown]);
    assert_eq!(site.key(&mut copied.clone()).await, None);
    site.assert_erases(shown, "LATER").await;
    assert_eq!(site.key(&mut browser).await, None);
}

#[tokio::test]
async fn an_id_that_was_shown_then_finds_it_after_the_key_has_been_rotated() {
    let [old, new] = [("k1", 0), ("k2", 32)].map(|(id, first)| signing_key(id, first));
    let site = Site::new(|b| b);
    let before = site.with_keyring(Keyring::new(old.clone()));
    let rotating = site.with_keyring(Keyring::new(new).verify_with(old).unwrap());
    for mover in [&before, &rotating] {
        let mut browser = Browser::default();
        before.lands(&mut browser, "EARLIER").await;
        site.store.is(Mood::Down);
        let landing = before.lands(&mut browser, "LATER").await;
        site.store.is(Mood::Well);
        mover.returns(&mut browser).await;
        assert!(!browser.carries("LATER"));
        rotating.assert_erases(landing.visitors[0], "LATER").await;
    }
}

#[tokio::test]
async fn a_record_whose_key_is_gone_is_not_looked_for() {
    let site = Site::new(|b| b);
    let [old, new] = [("k1", 0), ("k2", 32)].map(|(id, first)| signing_key(id, first));
    let rotating = site.with_keyring(Keyring::new(new.clone()).verify_with(old).unwrap());
    let rotated = site.with_keyring(Keyring::new(new));
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    let mut own_link = page_visit("/?aff=OTHER");
    let site_header = "same-origin".parse().unwrap();
    own_link.headers_mut().insert("sec-fetch-site", site_header);
    // The refusal is remembered in the same record, with the new key's seal around its name.
    rotating.send(&mut browser, own_link, Asks).await;
    site.store.calls();
    let page = rotated.returns(&mut browser).await;
    assert_eq!((page.key, page.visitors), (None, vec![]));
    assert_eq!(site.store.calls(), [""; 0]);
}

#[tokio::test]
async fn an_id_is_shown_only_where_the_referral_is_stored() {
    let site = Site::new(|b| {
        b.skip(|request| request.uri().path().starts_with("/assets"))
            .consent(|request| {
                let is_unknown = request.headers().contains_key("x-unknown");
                if is_unknown {
                    Consent::Unknown
                } else {
                    Consent::Granted
                }
            })
    });
    let before = ReferralLayer::builder(SignedCookie::new(keyring()))
        .clock(site.clock.reader())
        .build()
        .unwrap();
    let cookies = Site {
        layer: before,
        ..site.clone()
    };
    let mut browser = Browser::default();
    cookies.lands(&mut browser, "BEFORE").await;
    let not_yet = with_headers(page_visit("/"), &[("x-unknown", "1")]);
    for request in [not_yet, page_visit("/assets/logo.png")] {
        let page = site.send(&mut browser, request, Asks).await;
        assert_eq!(page.key.as_deref(), Some("BEFORE"));
        assert_eq!((page.visitors, page.set_cookie), (vec![], None));
        assert_eq!(site.store.records(), []);
    }
    let page = site.returns(&mut browser).await;
    let [visitor] = page.visitors[..] else {
        panic!("moved in: {page:?}");
    };
    site.assert_erases(visitor, "BEFORE").await;
}

#[tokio::test]
async fn of_two_cookies_that_carry_the_one_that_counts_keeps_its_id() {
    let site = Site::new(|b| b);
    let mut browsers = [Browser::default(), Browser::default()];
    let mut seen = Vec::new();
    site.store.is(Mood::Down);
    for (browser, key) in browsers.iter_mut().zip(["EARLIER", "LATER"]) {
        seen.extend(site.lands(browser, key).await.visitors);
        site.clock.advance(DAY);
    }
    site.store.is(Mood::Well);
    let [earlier, later] = browsers;
    for (first, second) in [(&earlier, &later), (&later, &earlier)] {
        let mut request = page_visit("/");
        let second = format!("{COOKIE_NAME}={}", second.cookie.as_ref().unwrap());
        request
            .headers_mut()
            .append(COOKIE, second.parse().unwrap());
        let page = site.send(&mut first.clone(), request, Asks).await;
        assert_eq!(
            (page.visitors, page.key.as_deref()),
            (vec![seen[1]], Some("LATER"))
        );
        site.assert_erases(seen[1], "LATER").await;
    }
}

/// A cookie with room for the referral and none for the ID of its record would lose the ID.
#[tokio::test]
async fn a_referral_that_leaves_no_room_for_its_id_is_not_kept() {
    let programs = 0..9;
    for len in 1..=127 {
        let site = Site::new(|builder| {
            programs.clone().fold(builder, |builder, n| {
                let program = Program::new(format!("p{n}")).params([format!("aff{n}")]);
                let program = program.click_params([format!("cid{n}")]);
                builder.program(program.key_rule(KeyRule::printable_unicode()))
            })
        });
        site.store.is(Mood::Down);
        let landings = programs.clone().map(|n| {
            let len = if n == 0 { len } else { 127 };
            let (key, click_id) = ("%C3%BC".repeat(len), "c".repeat(128));
            format!("aff{n}={key}&cid{n}={click_id}")
        });
        let uri = format!("/?{}", landings.collect::<Vec<_>>().join("&"));
        let (landing, jar) = all_cookies(&site, page_visit(&uri)).await;
        assert!((6..=7).contains(&landing.len()), "{}", landing.len());
        site.store.is(Mood::Well);
        let mut request = page_visit("/");
        let line = jar.join("; ").parse().unwrap();
        request.headers_mut().append(COOKIE, line);
        let (page, _) = all_cookies(&site, request).await;
        assert_eq!(page, landing, "{len}");
    }
}

/// The visitor's IDs that a handler sees, and what all programs' cookies hold after the response.
async fn all_cookies(site: &Site, request: Request<String>) -> (Vec<VisitorId>, Vec<String>) {
    let page = service_fn(async |request: Request<String>| {
        let referrals = Referrals::from_extensions(request.extensions()).await;
        let visitors = referrals.unwrap().visitor_ids().to_vec();
        Ok::<_, std::convert::Infallible>(Response::new(visitors))
    });
    let response = site.layer.layer(page).oneshot(request).await.unwrap();
    let lines = response.headers().get_all(SET_COOKIE).iter();
    let pair = |line: &str| line.split(';').next().unwrap().to_owned();
    let jar = lines.map(|line| pair(line.to_str().unwrap())).collect();
    (response.into_body(), jar)
}

// ===== Clicks =====

fn clicks(delay: u64) -> Clicks {
    Clicks::from_fn(move |request: ClickRequest| async move {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let id: ClickId = format!("click-of-{}", request.key()).parse().unwrap();
        Ok::<_, std::convert::Infallible>(id)
    })
    .exclude(|_| false)
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_is_written_straight_to_the_record() {
    let site = Site::new(|b| b.clicks(clicks(100)));
    let mut browser = Browser::default();
    let page = site.lands(&mut browser, "A").await;
    assert_eq!(page.click_id, None);
    let visitor = page.visitors[0];
    pass(150).await;
    // Another server knows it, which has nothing in common with this one but the store.
    let other = ReferralLayer::builder(
        ServerSide::new(site.store.clone(), keyring()).store_expires_records(),
    )
    .clock(site.clock.reader())
    .build()
    .unwrap();
    let found = other.look_up(visitor).await.unwrap().unwrap();
    assert_eq!(found.click_id().unwrap().as_str(), "click-of-A");
    site.store.calls();
    let page = site.returns(&mut browser).await;
    assert_eq!(page.click_id.as_deref(), Some("click-of-A"));
    assert_eq!(site.store.calls(), ["load"]);
    assert_eq!(page.set_cookie, None);
}

#[tokio::test(start_paused = true)]
async fn a_touch_takes_no_record_whose_click_id_is_still_to_come() {
    let site = Site::new(|b| b.clicks(clicks(100)));
    let mut browser = Browser::default();
    let before = site.lands(&mut browser, "A").await.visitors;
    // Whoever waits for that click may have read the record and be about to write it back.
    site.lands(&mut browser, "B").await;
    let after = site.returns(&mut browser).await;
    assert_eq!(after.key.as_deref(), Some("B"));
    assert_ne!(after.visitors, before);
    assert_eq!(site.store.records().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_of_a_touch_that_was_replaced_changes_nothing() {
    let site = Site::new(|b| b.clicks(clicks(100)));
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    pass(50).await;
    site.lands(&mut browser, "B").await;
    pass(75).await;
    let page = site.returns(&mut browser).await;
    assert_eq!((page.key.as_deref(), page.click_id), (Some("B"), None));
    pass(50).await;
    let page = site.returns(&mut browser).await;
    assert_eq!(page.click_id.as_deref(), Some("click-of-B"));
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_survives_a_store_that_fails() {
    for trouble in TROUBLES {
        // Down when the answer comes, up again soon.
        let site = Site::new(|b| b.clicks(clicks(100)));
        let mut browser = Browser::default();
        site.lands(&mut browser, "A").await;
        site.store.is(trouble);
        pass(300).await;
        site.store.is(Mood::Well);
        pass(5_000).await;
        let page = site.returns(&mut browser).await;
        assert_eq!(page.click_id.as_deref(), Some("click-of-A"), "{trouble:?}");

        // Down for long: the next request brings it in.
        let site = Site::new(|b| b.clicks(clicks(100)));
        let mut browser = Browser::default();
        site.lands(&mut browser, "A").await;
        site.store.is(trouble);
        pass(60_000).await;
        site.store.is(Mood::Well);
        let page = site.returns(&mut browser).await;
        assert_eq!(page.click_id.as_deref(), Some("click-of-A"), "{trouble:?}");
        let found = site.layer.look_up(page.visitors[0]).await.unwrap().unwrap();
        assert_eq!(found.click_id().unwrap().as_str(), "click-of-A");

        // Down at the landing: the cookie waits for it.
        let site = Site::new(|b| b.clicks(clicks(100)));
        let mut browser = Browser::default();
        site.store.is(trouble);
        site.lands(&mut browser, "A").await;
        pass(1_000).await;
        let page = site.returns(&mut browser).await;
        assert_eq!(page.click_id.as_deref(), Some("click-of-A"), "{trouble:?}");
        site.store.is(Mood::Well);
        site.returns(&mut browser).await;
        let page = site.returns(&mut browser).await;
        assert_eq!(page.click_id.as_deref(), Some("click-of-A"), "{trouble:?}");
        assert!(!browser.carries("click-of-A"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_click_starts_beside_the_page_even_if_the_record_must_be_read_first() {
    let site = Site::new(|b| b.clicks(clicks(30).wait(Duration::from_millis(500))));
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    let start = Instant::now();
    site.lands(&mut browser, "B").await;
    assert!(start.elapsed() < Duration::from_millis(40));
    let page = site.returns(&mut browser).await;
    assert_eq!(page.click_id.as_deref(), Some("click-of-B"));
}

#[tokio::test(start_paused = true)]
async fn a_page_fetched_ahead_creates_its_click_at_the_first_real_view() {
    let site = Site::new(|b| b.clicks(clicks(10)));
    let mut browser = Browser::default();
    let ahead = with_headers(page_visit("/?aff=A"), &[("sec-purpose", "prefetch")]);
    site.send(&mut browser, ahead, Asks).await;
    pass(100).await;
    assert_eq!(site.layer.click_counts().started, 0);
    site.returns(&mut browser).await;
    pass(100).await;
    assert_eq!(site.layer.click_counts().started, 1);
    let page = site.returns(&mut browser).await;
    assert_eq!(page.click_id.as_deref(), Some("click-of-A"));
    assert_eq!(site.layer.click_counts().started, 1);
    site.store.calls();
    site.send(&mut browser, page_visit("/"), DoesNotAsk).await;
    assert_eq!(site.store.calls(), [""; 0], "nothing is due any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_its_click_id_is_written_stays_deleted() {
    // From a first time on: the click ID comes at 100 ms, the record is read at 150 and written at 200.
    for after in [60, 90, 110, 140, 160, 190] {
        for erases in [true, false] {
            let site = Site::new(|b| b.clicks(clicks(100)));
            site.store.upserts();
            let mut browser = Browser::default();
            let visitor = site.lands(&mut browser, "A").await.visitors[0];
            site.store.is(Mood::Slow(50));
            pass(after).await;
            if erases {
                site.layer.erase(visitor).await.unwrap();
            } else {
                site.send(&mut browser, page_visit("/"), Forgets).await;
            }
            pass(1_000).await;
            assert_eq!(site.store.records(), [], "{after} ms, {erases}");
        }
    }
}

/// As [`clicks`], of a platform that doesn't know the key `TYPO`.
fn undoing(delay: u64) -> Clicks {
    Clicks::from_fn(move |request: ClickRequest| async move {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if *request.key() == "TYPO" {
            return Err(UnknownKey);
        }
        Ok("click".parse::<ClickId>().unwrap())
    })
    .exclude(|_| false)
    .undo_unknown_keys()
}

/// A visitor of `PARTNER_1`, whose click is known.
async fn of_partner_1(site: &Site) -> (Browser, VisitorId) {
    let mut browser = Browser::default();
    let visitor = site.lands(&mut browser, "PARTNER_1").await.visitors[0];
    pass(1_000).await;
    site.returns(&mut browser).await;
    site.clock.advance(DAY);
    (browser, visitor)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_takes_nothing_from_a_server_that_could_not_be_asked() {
    for trouble in TROUBLES.into_iter().chain([Mood::WriteOnly]) {
        // The answer comes before the response.
        let site = Site::new(|b| b.clicks(undoing(10).wait(Duration::from_millis(500))));
        let (mut browser, visitor) = of_partner_1(&site).await;
        site.store.is(trouble);
        let page = site.lands(&mut browser, "TYPO").await;
        assert!(page.reasons.contains(&"default: unknown_key".to_owned()));
        let is_unknown = trouble != Mood::ReadOnly;
        assert_eq!(page.set_cookie.is_none(), is_unknown, "{trouble:?}");
        site.store.is(Mood::Well);
        let page = site.returns(&mut browser).await;
        assert_eq!(page.key.as_deref(), Some("PARTNER_1"), "{trouble:?}");
        assert_eq!(page.click_id.as_deref(), Some("click"), "{trouble:?}");
        assert_eq!(page.visitors == [visitor], is_unknown, "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_that_was_carried_gives_back_what_the_server_has() {
    for trouble in TROUBLES.into_iter().chain([Mood::WriteOnly]) {
        for earlier in [None, Some("PARTNER_2")] {
            let case = format!("{trouble:?}, {earlier:?}");
            let site = Site::new(|b| b.clicks(undoing(100)));
            let (mut browser, visitor) = of_partner_1(&site).await;
            site.store.is(trouble);
            if let Some(earlier) = earlier {
                site.lands(&mut browser, earlier).await;
                site.clock.advance(Duration::from_secs(1));
            }
            site.lands(&mut browser, "TYPO").await;
            assert!(browser.carries("TYPO"), "{case}");
            pass(2_000).await;
            let kept = earlier.unwrap_or("PARTNER_1");
            if trouble != Mood::ReadOnly {
                let page = site.returns(&mut browser).await;
                assert_eq!(page.key.as_deref(), earlier, "{case}: while it is down");
            }
            site.store.is(Mood::Well);
            let page = site.returns(&mut browser).await;
            assert_eq!(page.key.as_deref(), Some(kept), "{case}");
            assert_eq!(
                site.key(&mut browser).await.as_deref(),
                Some(kept),
                "{case}"
            );
            for key in ["TYPO", kept] {
                assert!(!browser.carries(key), "{case}");
            }
            if trouble != Mood::ReadOnly {
                let found = site.layer.look_up(visitor).await.unwrap().unwrap();
                assert_eq!(found.key().unwrap().as_str(), kept, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_is_still_to_be_written() {
    let site = Site::new(|b| b.clicks(clicks(100)));
    let mut browser = Browser::default();
    let visitor = site.lands(&mut browser, "A").await.visitors[0];
    site.store.is(Mood::Slow(50));
    assert!(site.layer.drain_clicks(Duration::from_secs(5)).await);
    site.store.is(Mood::Well);
    let found = site.layer.look_up(visitor).await.unwrap().unwrap();
    assert!(found.click_id().is_some());
}

// ===== What a cookie and a record give away =====

/// An application whose sessions are in the same store.
async fn session_of(store: &Scripted, cookie: &str) -> Option<String> {
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async |session: Session| {
                session
                    .get_value("tower_referral")
                    .await
                    .unwrap()
                    .map_or_else(|| "no session".to_owned(), |value| value.to_string())
            }),
        )
        .layer(SessionManagerLayer::new(store.clone()));
    let request = Request::get("/").header(COOKIE, format!("id={cookie}"));
    let response = app
        .oneshot(request.body(axum::body::Body::empty()).unwrap())
        .await
        .unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (text != "no session").then_some(text)
}

#[tokio::test]
async fn k3_a_visitor_id_is_no_session_of_the_application() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    let visitor = site.lands(&mut browser, "A").await.visitors[0];
    let record = site.store.records().remove(0);
    assert_ne!(record.id.to_string(), visitor.to_string());
    assert_eq!(session_of(&site.store, &visitor.to_string()).await, None);
    assert_eq!(
        session_of(&site.store, browser.cookie.as_deref().unwrap()).await,
        None
    );
    // The record itself is there, and would be found under its own ID: the test can fail.
    assert!(
        session_of(&site.store, &record.id.to_string())
            .await
            .is_some()
    );
    // Nobody without the key gets from one to the other.
    let foreign = ServerSide::new(site.store.clone(), Keyring::new(signing_key("k1", 7)));
    let foreign = ReferralLayer::builder(foreign.store_expires_records())
        .build()
        .unwrap();
    assert_eq!(foreign.look_up(visitor).await.unwrap(), None);
}

#[tokio::test]
async fn no_record_is_created_under_a_key_that_has_ceased_to_sign() {
    let before = Site::new(|b| b);
    let after = |keyring: Keyring| {
        let server = ServerSide::new(before.store.clone(), keyring).store_expires_records();
        let builder = ReferralLayer::builder(server).clock(before.clock.reader());
        Site {
            layer: builder.build().unwrap(),
            ..before.clone()
        }
    };
    let mut browser = Browser::default();
    before.lands(&mut browser, "A").await;

    // The next key signs. A landing while the store is down, and what the store had comes to its end.
    let second = Keyring::new(signing_key("k2", 40));
    let both = after(second.clone().verify_with(signing_key("k1", 0)).unwrap());
    both.store.is(Mood::Down);
    let shown = both.lands(&mut browser, "B").await.visitors;
    both.store.is(Mood::Well);
    both.store.forget_everything();
    assert_eq!(both.key(&mut browser).await.as_deref(), Some("B"));

    // The former key is dropped within the window of that landing.
    let alone = after(second);
    assert_eq!(alone.key(&mut browser).await.as_deref(), Some("B"));
    let found = alone.layer.look_up(shown[0]).await.unwrap();
    assert_eq!(found.unwrap().key().unwrap().as_str(), "B");
}

#[tokio::test]
async fn k4_a_copied_cookie_shows_nothing_of_what_came_later() {
    let site = Site::new(|b| b.program(Program::default().extra_params(["utm_source"])));
    let mut browser = Browser::default();
    let first = site.lands(&mut browser, "A").await.visitors;
    let mut thief = browser.clone();
    assert_eq!(site.key(&mut thief.clone()).await.as_deref(), Some("A"));
    let later = page_visit("/private?aff=B&utm_source=secret");
    let second = site.send(&mut browser, later, Asks).await.visitors;
    assert_ne!(first, second);
    assert_eq!(site.key(&mut thief).await, None);
    assert_eq!(site.layer.look_up(first[0]).await.unwrap(), None);
    assert_eq!(site.store.records().len(), 1);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
    // A handler's capture is a replacement, too.
    let mut thief = browser.clone();
    site.send(&mut browser, page_visit("/"), Captures("C"))
        .await;
    assert_eq!(site.key(&mut thief).await, None);
}

#[tokio::test(start_paused = true)]
async fn k4_a_copied_cookie_shows_nothing_even_if_the_old_record_could_not_be_deleted() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    site.lands(&mut browser, "A").await;
    let mut thief = browser.clone();
    site.store.is(Mood::Down);
    site.lands(&mut browser, "B").await;
    site.store.is(Mood::Well);
    assert_eq!(site.key(&mut browser).await.as_deref(), Some("B"));
    let seen = site.key(&mut thief).await;
    assert_ne!(seen.as_deref(), Some("B"), "the later referral");
}

#[tokio::test(start_paused = true)]
async fn k5_expired_records_are_deleted_by_the_layer_where_the_store_does_not() {
    let store = Scripted::default();
    let server = ServerSide::new(store.clone(), keyring()).delete_expired(store.clone());
    let window = Duration::from_secs(3);
    let layer = ReferralLayer::builder(server)
        .program(Program::default().window(window))
        .build()
        .unwrap();
    let page =
        service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(Response::new(())));
    layer
        .layer(page)
        .oneshot(page_visit("/?aff=A"))
        .await
        .unwrap();
    assert_eq!(store.records().len(), 1);
    tokio::time::sleep(window + Duration::from_millis(100)).await;
    assert_eq!(store.deletions(), 2, "twice in a window");
    // It goes on after a failure, and ends with the layer.
    store.is(Mood::Down);
    tokio::time::sleep(window).await;
    store.is(Mood::Well);
    let before = store.deletions();
    tokio::time::sleep(window).await;
    assert!(store.deletions() > before);
    drop(layer);
    tokio::time::sleep(window).await;
    let after = store.deletions();
    tokio::time::sleep(10 * window).await;
    assert_eq!(store.deletions(), after);
}

#[test]
fn k5_without_anyone_who_deletes_building_is_refused() {
    let error = ReferralLayer::builder(ServerSide::new(Scripted::default(), keyring()))
        .build()
        .unwrap_err();
    assert!(matches!(error, ConfigError::NobodyDeletesRecords));
    let text = error.to_string();
    assert!(
        text.contains("delete_expired") && text.contains("store_expires_records"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn k6_an_error_says_its_kind_and_nothing_of_the_record() {
    let site = Site::new(|b| b);
    let mut browser = Browser::default();
    let visitor = site.lands(&mut browser, "PARTNER_123").await.visitors[0];
    let record: Record = site.store.records().remove(0);
    for mood in [Mood::Down, Mood::Hanging, Mood::Panicking] {
        site.store.is(mood);
        for error in [
            site.layer.look_up(visitor).await.unwrap_err(),
            site.layer.erase(visitor).await.unwrap_err(),
        ] {
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(text.contains("can't be reached"), "{text}");
                assert!(!text.contains(&record.id.to_string()), "{text}");
                assert!(!text.contains(&visitor.to_string()), "{text}");
                assert!(!text.contains("tower_referral"), "{text}");
            }
        }
    }
}

/// The cookies of all programs together, while the store is down and they carry the referrals.
#[tokio::test(start_paused = true)]
async fn k7_all_programs_cookies_stay_under_4_kib_together() {
    let names: Vec<_> = (0..16).map(|n| format!("program-{n}")).collect();
    let extra: Vec<_> = (0..10).map(|n| format!("extra{n}")).collect();
    let configure = |builder: ReferralLayerBuilder| {
        names.iter().fold(builder, |builder, name| {
            let program = Program::new(name).params([format!("aff-{name}")]);
            builder.program(program.extra_params(&extra))
        })
    };
    let values = extra
        .iter()
        .map(|name| format!("&{name}={}", "v".repeat(100)));
    let values: String = values.collect();
    let keys = names
        .iter()
        .map(|name| format!("aff-{name}=K{}", "x".repeat(50)));
    let link = format!(
        "/{}?{}{values}",
        "p".repeat(200),
        keys.collect::<Vec<_>>().join("&")
    );
    let cookie_layer = configure(ReferralLayer::builder(keyring()))
        .build()
        .unwrap();
    let site = Site::new(configure);
    site.store.is(Mood::Down);
    for layer in [&site.layer, &cookie_layer] {
        let mut pairs: Vec<String> = Vec::new();
        // In one landing, and in one landing for each.
        let single = names
            .iter()
            .map(|name| format!("/?aff-{name}=K{}{values}", "y".repeat(50)));
        for uri in std::iter::once(link.clone()).chain(single) {
            let mut request = page_visit(&uri);
            if !pairs.is_empty() {
                request
                    .headers_mut()
                    .append(COOKIE, pairs.join("; ").parse().unwrap());
            }
            let page = service_fn(async |_: Request<String>| {
                Ok::<_, std::convert::Infallible>(Response::new(()))
            });
            let response = layer.layer(page).oneshot(request).await.unwrap();
            for line in response.headers().get_all(SET_COOKIE) {
                let line = line.to_str().unwrap();
                assert!(line.len() < 1024, "{} bytes", line.len());
                let pair = line.split(';').next().unwrap();
                let name = pair.split_once('=').unwrap().0;
                pairs.retain(|held| held.split_once('=').unwrap().0 != name);
                pairs.push(pair.to_owned());
            }
            let all: usize = pairs.iter().map(String::len).sum();
            assert!(all <= 4096, "{all} bytes in {} cookies", pairs.len());
        }
        assert!(pairs.len() >= 8, "{}", pairs.len());
    }
}

#[test]
fn k8_keys_that_are_one_key_to_hmac_and_weak_keys_are_refused() {
    use tower_referral::SigningKey;

    let secret: Vec<u8> = (0..32).collect();
    let padded = [&secret[..], &[0]].concat();
    let one = SigningKey::new("one", secret.clone()).unwrap();
    for same in [secret.clone(), padded] {
        let other = SigningKey::new("other", same).unwrap();
        assert!(Keyring::new(one.clone()).verify_with(other).is_err());
    }
    // A key longer than a block of SHA-256 is its hash to HMAC.
    let long: Vec<u8> = (0..100).collect();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&long).to_vec();
    let long = SigningKey::new("long", long).unwrap();
    let hashed = SigningKey::new("hash", hash).unwrap();
    assert!(Keyring::new(long).verify_with(hashed).is_err());
    for weak in [
        b"password".repeat(4),
        b"abcdefghijklmnop".repeat(2),
        b"x".repeat(64),
        b"abc".repeat(20),
        (0..31).collect(),
    ] {
        assert!(SigningKey::new("weak", weak).is_err());
    }
}
