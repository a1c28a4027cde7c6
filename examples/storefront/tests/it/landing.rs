//! From a landing to what is kept: forgetting, consent and privacy, where a landing goes, and the cookie.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shop_process::{Body, Form, Json, KEY_A, KEY_B, Shop, shown, words};
use crate::support::{ACCEPT_HTML, payment};

#[test]
fn last_touch_and_first_touch() {
    for (attribution, key) in [
        (None, "SECOND"),
        (Some("last"), "SECOND"),
        (Some("first"), "FIRST"),
    ] {
        let args: Vec<_> = attribution
            .into_iter()
            .flat_map(|a| ["--attribution", a])
            .collect();
        let shop = Shop::start(&args);
        let mut visitor = shop.visitor();
        visitor.get("/?aff=FIRST");
        visitor.get("/?aff=SECOND");
        assert_eq!(visitor.key().as_deref(), Some(key), "{attribution:?}");
    }
}

#[test]
fn configured_parameters_take_the_place_of_the_default_ones() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?ref=friend-7&aff=PARTNER_123");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));

    let shop = Shop::start(&["--param", "via", "--param", "p"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.key(), None);
    let page = visitor.get("/?p=P&via=V");
    assert!(page.body.contains("<strong>V</strong>"), "{}", page.body);
    assert!(
        shop.get("/").body.contains("/pricing?via="),
        "the page shows links that work"
    );
}

#[test]
fn a_click_id_in_the_url_is_kept_with_a_key_or_without() {
    let shop = Shop::start(&["--click-param", "dub_id"]);
    for (query, key) in [
        ("dub_id=cm3w8x2", Value::Null),
        ("aff=P1&dub_id=cm3w8x2", "P1".into()),
    ] {
        let mut visitor = shop.visitor();
        assert_eq!(visitor.get(&format!("/pricing?{query}")).status, 200);
        let referral = visitor.get("/api/referral").json()["referral"].clone();
        assert_eq!(referral["key"], key);
        assert_eq!(referral["click_id"], "cm3w8x2");
        let customer = format!("cus-{}", query.len());
        let sign_up = json!({ "customer": customer });
        visitor.post("/signup", &[], Json(&sign_up));
        let row = shop.get(&format!("/customers/{customer}")).json();
        assert_eq!(row["key"], key);
        assert_eq!(row["click_id"], "cm3w8x2");
    }
}

#[test]
fn a_script_tells_of_a_landing_on_a_cached_page() {
    let shop = Shop::start(&[]);
    for body in [
        Body::Json(json!({"aff": "PARTNER_123"})),
        Body::Form("ref=x&aff=PARTNER_123".into()),
    ] {
        let mut visitor = shop.visitor();
        let answer = visitor.post("/api/track-landing", &[], body);
        assert_eq!(answer.status, 204);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    }
    let mut visitor = shop.visitor();
    let answer = visitor.post("/api/track-landing", &[], Json(&json!({"other": "x"})));
    assert_eq!(answer.status, 422);
    assert!(answer.error().contains("aff, ref"));
    let script = shop.get("/api/track-landing");
    assert_eq!(script.status, 200);
    let content_type = script.header("content-type").unwrap();
    assert!(content_type.contains("javascript"), "{content_type}");
    assert_eq!(
        shop.request("PUT", "/api/track-landing", &[], b"").status,
        405
    );
}

#[test]
fn a_visitor_can_be_forgotten_by_a_program_and_by_a_button() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    let answer = visitor.request("DELETE", "/api/referral", &[], b"");
    assert_eq!((answer.status, &*answer.body), (204, ""));
    assert!(answer.header("set-cookie").unwrap().contains("; Max-Age=0"));
    assert_eq!(visitor.key(), None);

    visitor.get("/?aff=PARTNER_123");
    let answer = visitor.post("/forget", &[ACCEPT_HTML], Form(&[]));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    assert_eq!(visitor.key(), None);
}

#[test]
fn until_the_visitor_agrees_the_page_alone_holds_the_referral() {
    let shop = Shop::start(&["--consent", "cookie"]);
    let mut visitor = shop.visitor();
    let landing = visitor.get("/pricing?aff=PARTNER_123");
    assert_eq!(landing.header("set-cookie"), None);
    assert!(landing.body.contains("You were referred by"));
    assert!(landing.body.contains("<code>no_consent</code>"));
    assert_eq!(visitor.key(), None);

    let token = landing.hidden("landing").unwrap();
    let granted = visitor.post(
        "/consent",
        &[ACCEPT_HTML],
        Form(&[("answer", "granted"), ("landing", &token)]),
    );
    assert_eq!(granted.status, 303);
    assert_eq!(visitor.cookies["consent"], "granted");
    let referral = visitor.get("/api/referral").json()["referral"].clone();
    assert_eq!(referral["key"], "PARTNER_123");
    assert_eq!(referral["landing_page"], "/pricing?aff=PARTNER_123");

    let denied = visitor.post("/consent", &[ACCEPT_HTML], Form(&[("answer", "denied")]));
    assert_eq!(denied.status, 303);
    assert_eq!(visitor.cookies["consent"], "denied");
    assert!(!visitor.cookies.contains_key("__Host-referral"));
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.key(), None);
}

#[test]
fn consent_that_was_given_elsewhere_is_honoured_and_so_is_refusal() {
    let shop = Shop::start(&["--consent", "cookie"]);
    let mut visitor = shop.visitor();
    visitor.cookies.insert("consent".into(), "granted".into());
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    visitor.cookies.insert("consent".into(), "denied".into());
    assert_eq!(visitor.key(), None);
    assert!(!visitor.cookies.contains_key("__Host-referral"));
}

#[test]
fn the_banner_takes_its_own_token_only() {
    let shop = Shop::start(&["--consent", "cookie"]);
    let mut visitor = shop.visitor();
    visitor.cookies.insert("consent".into(), "granted".into());
    visitor.get("/?aff=PARTNER_123");
    let started = visitor.post("/checkout", &[], Json(&payment("order-1", "5")));
    let token = started.json()["client_reference_id"].clone();

    let mut other = shop.visitor();
    for landing in [token.as_str().unwrap(), "nonsense", ""] {
        let form = Form(&[("answer", "granted"), ("landing", landing)]);
        assert_eq!(other.post("/consent", &[], form).status, 303);
        assert_eq!(other.key(), None);
    }
    let answer = other.post("/consent", &[], Form(&[("answer", "maybe")]));
    assert_eq!(answer.status, 422);
    assert!(answer.error().contains("`answer`"));

    let without_banner = Shop::start(&[]);
    let answer = without_banner
        .visitor()
        .post("/consent", &[], Form(&[("answer", "granted")]));
    assert_eq!(answer.status, 404);
}

#[test]
fn global_privacy_control_is_honoured_if_the_shop_says_so() {
    let gpc = ("Sec-GPC", "1");
    let shop = Shop::start(&["--gpc"]);
    let mut visitor = shop.visitor();
    let landing = visitor.request("GET", "/?aff=PARTNER_123", &[gpc], b"");
    assert!(landing.body.contains("<code>global_privacy_control</code>"));
    assert!(visitor.cookies.is_empty());
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    visitor.request("GET", "/", &[gpc], b"");
    assert!(visitor.cookies.is_empty(), "what is kept is forgotten");

    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.request("GET", "/?aff=PARTNER_123", &[gpc], b"");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
}

#[test]
fn the_url_is_cleaned_if_the_shop_says_so() {
    let shop = Shop::start(&["--clean-url"]);
    let mut visitor = shop.browser();
    let landing = visitor.get("/pricing?a=1&aff=PARTNER_123&b=%20");
    assert_eq!(landing.status, 303);
    assert_eq!(landing.header("location"), Some("?a=1&b=%20"));
    assert_eq!(visitor.get("/pricing?a=1&b=%20").status, 200);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
}

#[test]
fn a_landing_at_the_checkout_takes_nobodys_credit() {
    let shop = Shop::start(&["--stand-down", "/checkout", "--stand-down", "/signup"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    for path in ["/checkout?aff=COUPONS", "/signup?ref=COUPONS"] {
        let page = visitor.get(path);
        assert!(
            page.body.contains("<code>kept_stand_down</code>"),
            "{}",
            page.body
        );
    }
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    let mut newcomer = shop.visitor();
    newcomer.get("/checkout?aff=COUPONS");
    assert_eq!(newcomer.key().as_deref(), Some("COUPONS"));
}

/// What a shop with the layer is measured beside.
#[test]
fn without_the_layer_the_pages_are_the_same_and_know_nobody() {
    let (shop, bare) = (Shop::start(&[]), Shop::start(&["--without-layer"]));
    for path in [
        "/",
        "/features",
        "/pricing?aff=PARTNER_123",
        "/about",
        "/nope",
    ] {
        let (with, without) = (shop.browser().get(path), bare.browser().get(path));
        assert_eq!(without.status, with.status, "{path}");
        assert_eq!(words(&without), words(&with), "{path}");
        assert_eq!(shown(&without), Some(None), "{path}");
        assert_eq!(without.header("set-cookie"), None, "{path}");
    }
}

#[test]
fn the_cookie_is_as_the_options_say() {
    for (args, start, attribute) in [
        (
            &["--domain", "shop.example"][..],
            "__Secure-referral=",
            "; Domain=shop.example",
        ),
        (&["--plain-http"], "referral=", "; HttpOnly"),
        (&["--window", "60"], "__Host-referral=", "; Max-Age=60"),
    ] {
        let shop = Shop::start(args);
        let landing = shop.get("/?aff=PARTNER_123");
        let cookie = landing.header("set-cookie").unwrap();
        assert!(cookie.starts_with(start), "{cookie}");
        assert!(cookie.contains(attribute), "{cookie}");
        assert_eq!(
            cookie.contains("; Secure"),
            !args.contains(&"--plain-http"),
            "{cookie}"
        );
    }
}

#[test]
fn the_window_ends_on_the_server_whatever_the_browser_does() {
    let shop = Shop::start(&["--window", "2"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    let landed = Instant::now();
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    while visitor.key().is_some() {
        assert!(landed.elapsed() < Duration::from_secs(10), "still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(visitor.get("/").body.contains("<code>expired</code>"));
}

#[test]
fn keys_rotate_without_losing_a_referral() {
    let old = Shop::start_with(&[], &[("REFERRAL_KEY", KEY_A)]);
    let mut visitor = old.visitor();
    visitor.get("/?aff=PARTNER_123");
    let started = visitor.post("/checkout", &[], Json(&payment("order-1", "5")));
    let mut webhook = payment("order-1", "5");
    webhook["client_reference_id"] = started.json()["client_reference_id"].clone();

    let new = Shop::start_with(
        &[],
        &[("REFERRAL_KEY", KEY_B), ("REFERRAL_OLD_KEYS", KEY_A)],
    );
    let mut visitor = visitor.moves_to(&new);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    let report = visitor.post("/webhooks/payment", &[], Json(&webhook));
    assert_eq!(report.report().0, "recorded");

    let without_old = Shop::start_with(&[], &[("REFERRAL_KEY", KEY_B)]);
    let mut visitor = visitor.moves_to(&without_old);
    assert_eq!(visitor.key(), None);
    let page = visitor.get("/");
    assert!(page.body.contains("<code>unknown_signing_key</code>"));
    let (outcome, detail) = visitor
        .post("/webhooks/payment", &[], Json(&webhook))
        .report();
    assert_eq!(outcome, "not_attributed");
    assert!(detail.contains("not on the keyring"), "{detail}");
}

#[test]
fn a_forged_cookie_is_as_none_and_gives_way_to_the_next_landing() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    let good = visitor.cookies["__Host-referral"].clone();
    for at in [0, good.len() / 4, good.len() / 2, good.len() - 1] {
        let mut forged = good.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        visitor.cookies.insert("__Host-referral".into(), forged);
        assert_eq!(visitor.get("/pricing").status, 200);
        assert_eq!(visitor.key(), None, "altered at {at}");
    }
    visitor.get("/?aff=SECOND");
    assert_eq!(visitor.key().as_deref(), Some("SECOND"));
}

#[test]
fn odd_cookies_of_others_disturb_nothing() {
    let shop = Shop::start(&["--consent", "cookie"]);
    let mut visitor = shop.visitor();
    visitor.cookies.insert("consent".into(), "granted".into());
    visitor.get("/?aff=PARTNER_123");
    let good = visitor.cookies["__Host-referral"].as_bytes();
    for (before, after) in [
        (&b"a=\xff\xfe; consent=granted; "[..], &b"; b=\"x"[..]),
        (b"=; ; \t;consent=granted;x;", b";"),
        (b"consent=granted; __Host-referral=junk; ", b"; x=1"),
        (b"consent=granted; x__Host-referral=junk; ", b"\t"),
        (b"a={\"b\": \"c;\"}; consent=granted;", b"; =="),
    ] {
        let line = [before, b"__Host-referral=", good, after].concat();
        let answer = shop.raw("GET", "/api/referral", &[("Cookie", &line)], b"");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json()["referral"]["key"],
            "PARTNER_123",
            "{}",
            line.escape_ascii()
        );
    }
}
