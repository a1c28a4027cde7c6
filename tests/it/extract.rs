//! What handlers get: the extractors of axum, and the extensions without it.
#![cfg(feature = "axum")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use crate::common::{COOKIE_NAME, DAY, Shop, arriving, page_visit, run, storage, with_cookie_line};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_referral::{Program, Referral, ReferralKey, ReferralLayer, Referrals, Source};

in_every_way! {
    behind_the_layer_an_option_never_fails_and_a_bare_one_says_what_is_missing,
    a_referral_tells_all_that_is_known_about_it,
    a_returning_visitors_cookie_is_verified_when_a_handler_asks_and_says_why_it_does_not_count,
    whoever_asks_again_in_one_request_gets_the_same_answer,
    keys_and_referrals_as_json,
    keys_and_click_ids_are_checked_wherever_they_come_from,
}

fn app() -> Router {
    Router::new()
        .route("/key", get(async |key: ReferralKey| key.to_string()))
        .route(
            "/maybe-key",
            get(async |key: Option<ReferralKey>| {
                format!("{:?}", key.as_ref().map(ReferralKey::as_str))
            }),
        )
        .route(
            "/referral",
            get(async |referral: Referral| referral.key().unwrap().to_string()),
        )
        .route(
            "/maybe-referral",
            get(async |referral: Option<Referral>| format!("{}", referral.is_some())),
        )
        .route(
            "/referrals",
            get(async |referrals: Referrals| format!("{}", referrals.iter().count())),
        )
}

fn ask(app: Router, uri: &str) -> (StatusCode, String) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let Ok(response) = run(app.oneshot(arriving(request)));
    let status = response.status();
    let body = run(response.into_body().collect()).unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn layer() -> ReferralLayer {
    ReferralLayer::builder(storage()).build().unwrap()
}

fn behind_the_layer_an_option_never_fails_and_a_bare_one_says_what_is_missing() {
    // (path, with a referral, without)
    let cases = [
        ("/key", (200, "K"), (400, "no referral")),
        ("/referral", (200, "K"), (400, "no referral")),
        ("/maybe-key", (200, "Some(\"K\")"), (200, "None")),
        ("/maybe-referral", (200, "true"), (200, "false")),
        ("/referrals", (200, "1"), (200, "0")),
    ];
    for (path, with, without) in cases {
        for (uri, (status, text)) in [(format!("{path}?aff=K"), with), (path.to_owned(), without)] {
            let (got, body) = ask(app().layer(layer()), &uri);
            assert_eq!(got.as_u16(), status, "{uri}: {body}");
            assert!(body.starts_with(text), "{uri}: {body}");
        }
    }
}

fn a_referral_tells_all_that_is_known_about_it() {
    let shop = Shop::new();
    let page = shop.send(page_visit("/pricing?ref=K"));
    let referral = page.referral().unwrap();
    assert_eq!(*referral.key().unwrap(), "K");
    assert!(referral.click_id().is_none());
    assert_eq!(referral.program(), "default");
    assert_eq!(referral.source(), Source::Landing);
    assert_eq!(referral.source().as_str(), "landing");
    assert_eq!(referral.parameter(), Some("ref"));
    assert_eq!(referral.captured_at(), shop.clock.now());
    assert_eq!(referral.window(), DAY * 30);
    assert_eq!(referral.expires_at(), shop.clock.now() + DAY * 30);
    assert_eq!(referral.landing_page().as_deref(), Some("/pricing?ref=K"));
    assert_eq!(referral.extra().count(), 0);
}

fn a_returning_visitors_cookie_is_verified_when_a_handler_asks_and_says_why_it_does_not_count() {
    let shop = Shop::new();
    let mut visitor = shop.visitor();
    visitor.hold(COOKIE_NAME, "forged");
    let page = visitor.visit("/");
    let reasons = crate::common::reasons(page.seen.decisions());
    assert_eq!(reasons, ["default: malformed"]);
    assert_eq!(page.reasons(), reasons, "the response says it too");
}

/// Two extractors of one handler, or a middleware and the handler.
fn whoever_asks_again_in_one_request_gets_the_same_answer() {
    let program = || Program::default().extra_params(["sub"]);
    let before = Shop::program(program());
    let mut visitor = before.visitor();
    visitor.visit("/p?aff=K&sub=7");
    // What counts by now is shorter than what was sealed.
    let shop = Shop::at(before.clock.clone(), storage(), |builder| {
        builder.program(program().window(DAY * 7))
    });
    let held = visitor.held(COOKIE_NAME).unwrap();
    for (cookie, known) in [(held, true), ("forged", false)] {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let mut service = shop.layer.layer(service_fn(|request: Request<String>| {
            let answers = Arc::clone(&answers);
            async move {
                let extensions = request.extensions();
                for _ in 0..3 {
                    let referrals = Referrals::from_extensions(extensions).await.unwrap();
                    let key = ReferralKey::from_extensions(extensions).await.unwrap();
                    answers
                        .lock()
                        .unwrap()
                        .push((referrals.first().cloned(), key));
                }
                Ok::<_, Infallible>(Response::new(()))
            }
        }));
        let request = with_cookie_line("/", format!("{COOKIE_NAME}={cookie}"));
        let Ok(_) = run(service.call(arriving(request)));

        let answers = answers.lock().unwrap();
        let (referral, key) = &answers[0];
        assert_eq!(key.as_ref().map(ReferralKey::as_str), known.then_some("K"));
        assert_eq!(referral.is_some(), known);
        if let Some(referral) = referral {
            assert_eq!(referral.window(), DAY * 7);
            assert_eq!(referral.extra().collect::<Vec<_>>(), [("sub", "7")]);
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
    }
}

#[cfg(feature = "serde")]
fn keys_and_referrals_as_json() {
    let shop = Shop::program(Program::default().extra_params(["sub", "utm"]));
    let page = shop.send(page_visit("/p?utm=b&sub=a&aff=K"));
    let json = serde_json::to_value(page.referral().unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "key": "K",
            "click_id": null,
            "partner_id": null,
            "click_reference": null,
            "program": "default",
            "source": "landing",
            "own_link": false,
            "parameter": "aff",
            "captured_at": "2096-10-02T07:06:40Z",
            "window": 2_592_000,
            "landing_page": "/p?aff=K",
            "extra": {"sub": "a", "utm": "b"},
        })
    );
    let back: Referral = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(&back, page.referral().unwrap());
    // What another program writes, with everything else at its default.
    let least = r#"{"key":"K","captured_at":"2027-01-15T08:00:00Z"}"#;
    let least: Referral = serde_json::from_str(least).unwrap();
    assert_eq!(
        (least.key().unwrap().as_str(), least.program()),
        ("K", "default")
    );
    assert_eq!(
        (least.source(), least.window()),
        (Source::Landing, DAY * 30)
    );
    for (field, value) in [
        ("key", serde_json::json!("a b")),
        ("key", serde_json::json!(null)),
        ("program", serde_json::json!("a b")),
        ("window", serde_json::json!(0)),
        ("parameter", serde_json::json!("a=b")),
        ("landing_page", serde_json::json!("https://evil.example/")),
        ("click_reference", serde_json::json!("short")),
        ("captured_at", serde_json::json!("yesterday")),
        ("extra", serde_json::json!({"a": "b\n"})),
    ] {
        let mut bad = json.clone();
        bad[field] = value;
        assert!(serde_json::from_value::<Referral>(bad).is_err(), "{field}");
    }
    let key: ReferralKey = serde_json::from_str("\"K-1\"").unwrap();
    assert_eq!(key, "K-1");
    for bad in ["\"\"", "\"a b\"", "\"a\\u0000\"", "7", "null"] {
        assert!(serde_json::from_str::<ReferralKey>(bad).is_err(), "{bad}");
    }
    for (text, valid) in [
        ("\"abc-1/2\"", true),
        ("\"\"", false),
        ("\"a b\"", false),
        ("\"a\\n\"", false),
        ("\"é\"", false),
    ] {
        let parsed = serde_json::from_str::<tower_referral::ClickId>(text);
        assert_eq!(parsed.is_ok(), valid, "{text}");
    }
    let error = serde_json::from_str::<ReferralKey>("\"<WICKED >\"").unwrap_err();
    assert!(
        !error.to_string().contains("WICKED"),
        "an invalid key is never echoed"
    );
}

fn keys_and_click_ids_are_checked_wherever_they_come_from() {
    let long = "x".repeat(128);
    let too_long = "x".repeat(129);
    // (text, a key, a click ID)
    let cases: &[(&str, bool, bool)] = &[
        ("a", true, true),
        ("azAZ09._~-@+:=", true, true),
        ("a/b?c#d\"'\\", false, true),
        ("", false, false),
        ("a b", false, false),
        ("a\t", false, false),
        ("a\0", false, false),
        ("a\r\nb", false, false),
        ("a\u{7f}", false, false),
        ("é", false, false),
        (&long, true, true),
        (&too_long, false, false),
    ];
    for (text, key, click_id) in cases {
        assert_eq!(text.parse::<ReferralKey>().is_ok(), *key, "{text:?}");
        assert_eq!(
            text.parse::<tower_referral::ClickId>().is_ok(),
            *click_id,
            "{text:?}"
        );
    }
}
