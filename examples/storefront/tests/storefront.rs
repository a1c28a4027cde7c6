//! The storefront as its visitors know it: the built example on a free port, driven over sockets
//! with every byte of a request in the test's own hand.
mod shop_process;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tower_referral::ClickId;
use tower_referral_platforms::partnac::{Conversion, ConversionType, Filter, Update};
use tower_referral_platforms::{
    Client, Credit, Https, Money, Outcome, Partnac, Partnero, PartneroFriends, Refund, Sale,
    SignUp, Tapfiliate,
};

use shop_process::{
    Body, Form, Json, KEY_A, KEY_B, Sandbox, Shop, Visitor, command, send, shown, words,
};

const ACCEPT_HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const ACCEPT_JSON: (&str, &str) = ("Accept", "application/json");

// --- Start and configuration -------------------------------------------------------------------

#[test]
fn the_first_line_says_where_it_listens_and_the_rest_what_to_open() {
    let mut shop = Shop::start(&[]);
    assert_eq!(shop.get("/").status, 200);
    let rest = shop.stop();
    assert!(rest.contains("/pricing?aff=PARTNER_123"), "{rest}");
    assert!(rest.contains("REFERRAL_KEY is not set"), "{rest}");

    let mut shop = Shop::start_with(&[], &[("REFERRAL_KEY", KEY_A)]);
    assert!(!shop.stop().contains("REFERRAL_KEY"));
}

#[cfg(unix)]
#[test]
fn sigterm_ends_it_in_good_order() {
    let mut shop = Shop::start(&[]);
    shop.terminate();
    assert!(shop.child.wait().unwrap().success());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_mend() {
    for (args, mend) in [
        (&["--window", "0"][..], "from 1 second to 400 days"),
        (&["--store", "sqlite://shop.db"], "add `--keep server`"),
        (
            &["--keep", "server", "--store", "mysql://shop"],
            "use memory:, sqlite://FILE",
        ),
        (&["--keep", "session", "--store", "shop.db"], "use memory:"),
        (&["--window", "34560001"], "from 1 second to 400 days"),
        (&["--window", "-1"], "--window"),
        (&["--window", "soon"], "--window"),
        (&["--param", "a/b"], "`a/b`"),
        (&["--param", ""], "can't be the name of a parameter"),
        (&["--param", "aff", "--param", "aff"], "named twice"),
        (
            &["--domain", "https://shop.example"],
            "use a host name such as",
        ),
        (&["--stand-down", "checkout"], "begin it with a slash"),
        (&["--attribution", "both"], "--attribution"),
        (&["--consent", "maybe"], "--consent"),
        (&["--platform", "nobody"], "--platform"),
        (
            &["--platform", "none", "--platform-url", "http://127.0.0.1:9"],
            "leave out the URL",
        ),
        (&["--store", "sqlite://shop.db"], "add `--keep server`"),
        (
            &["--keep", "server", "--store", "mysql://127.0.0.1"],
            "none that the shop knows",
        ),
        (
            &["--keep", "session", "--store", "redis"],
            "none that the shop knows",
        ),
        (&["--platform-url", "nonsense"], "base URL: use https"),
        (
            &["--platform-url", "http://127.0.0.1:99999/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "https://127.0.0.1:-1/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "http://u:p@127.0.0.1/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "https://127.0.0.1/v1#f"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "http://api.partnac.com/v1/tracking"],
            "never crosses a network in the clear",
        ),
        (
            &["--platform", "tapfiliate", "--platform-url", ""],
            "base URL: use https",
        ),
        (&["--click-wait", "soon"], "--click-wait"),
        (&["--outbox", "nonsense"], "use memory:, sqlite://FILE"),
        (
            &["--outbox", "sqlite:///no/such/folder/x.db"],
            "can't open the outbox",
        ),
        (&["--without-layer", "--clean-url"], "--clean-url"),
        (&["--listen", "here"], "--listen"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let error = refusal(args, &[]);
        assert!(error.starts_with("error: "), "{args:?}: {error}");
        assert!(error.contains(mend), "{args:?}: {error}");
    }
}

#[test]
fn a_bad_key_is_refused_and_never_shown() {
    for (variables, mend) in [
        (&[("REFERRAL_KEY", "")][..], "no colon"),
        (&[("REFERRAL_KEY", "a:c2VjcmV0")], "at least 32 are needed"),
        (
            &[("REFERRAL_KEY", KEY_A), ("REFERRAL_OLD_KEYS", "old")],
            "REFERRAL_OLD_KEYS",
        ),
        (
            &[("REFERRAL_KEY", KEY_A), ("REFERRAL_OLD_KEYS", KEY_A)],
            "rename one",
        ),
    ] {
        let error = refusal(&[], variables);
        assert!(error.starts_with("error: "), "{variables:?}: {error}");
        assert!(error.contains(mend), "{variables:?}: {error}");
        assert!(!error.contains("c2VjcmV0") && !error.contains("AAECAw"));
    }
}

#[test]
fn a_bad_api_key_is_refused_and_never_shown() {
    for platform in ["partnac", "tapfiliate"] {
        for key in ["", "two words", "line\nend", "gr\u{fc}n"] {
            for (args, variables) in [
                (&["--platform", platform, "--api-key", key][..], &[][..]),
                (&["--platform", platform], &[("PLATFORM_API_KEY", key)]),
            ] {
                let error = refusal(args, variables);
                assert!(error.starts_with("error: the platform's API key"));
                assert!(key.is_empty() || !error.contains(key), "{error}");
            }
        }
    }
}

#[test]
fn a_port_in_use_is_an_error_and_no_panic() {
    let shop = Shop::start(&[]);
    let output = run(&["--listen", &shop.address.to_string()], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: can't serve on"), "{error}");
}

// --- Pages -------------------------------------------------------------------------------------

#[test]
fn pages_are_for_people_and_never_for_shared_caches() {
    let shop = Shop::start(&[]);
    for path in [
        "/",
        "/pricing",
        "/features",
        "/about",
        "/signup",
        "/checkout",
    ] {
        let page = shop.get(path);
        assert_eq!(page.status, 200, "{path}");
        page.assert_page();
        assert_eq!(page.header("cache-control"), Some("private, no-cache"));
        assert_eq!(page.header("set-cookie"), None, "{path}");
        assert!(page.body.contains("Nobody referred you"), "{path}");
        assert!(page.body.contains("/pricing?aff=PARTNER_123"), "{path}");
        assert!(!page.body.contains("<script"), "{path}");
    }
}

#[test]
fn a_path_that_does_not_exist_is_a_page_of_its_own_and_still_a_landing() {
    let shop = Shop::start(&[]);
    let page = shop.get("/nope");
    assert_eq!(page.status, 404);
    page.assert_page();
    assert_eq!(shop.request("POST", "/nope", &[], b"").status, 404);

    let json = shop.request("GET", "/nope", &[ACCEPT_JSON], b"");
    assert_eq!(json.status, 404);
    assert!(json.error().contains("no such page"));

    let mut visitor = shop.visitor();
    assert_eq!(visitor.get("/gone?aff=PARTNER_123").status, 404);
    assert_eq!(visitor.key(), Some("PARTNER_123".into()));
}

#[test]
fn a_page_says_who_referred_the_visitor_and_why() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let landing = visitor.get("/pricing?aff=PARTNER_123");
    for text in [
        "You were referred by <strong>PARTNER_123</strong>",
        "just now",
        "/pricing?aff=PARTNER_123",
        "<code>captured</code>",
        "Forget me",
    ] {
        assert!(landing.body.contains(text), "{text}: {}", landing.body);
    }
    let later = visitor.get("/about");
    assert!(later.body.contains("PARTNER_123"));
    assert!(later.body.contains("nothing new"));
    assert_eq!(later.header("set-cookie"), None);
}

#[test]
fn whatever_a_visitor_typed_is_escaped() {
    let shop = Shop::start(&[]);
    let page = shop.visitor().post(
        "/checkout",
        &[ACCEPT_HTML],
        Form(&[
            ("customer", "\"><script>alert(1)</script>"),
            ("order", "<b>1</b>"),
            ("amount", "1"),
            ("currency", "EUR"),
        ]),
    );
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<script"), "{}", page.body);
    assert!(page.body.contains("&lt;b&gt;1&lt;/b&gt;"), "{}", page.body);
}

// --- From landing to sign-up -------------------------------------------------------------------

#[test]
fn a_landing_is_known_to_the_api_and_credited_at_sign_up_once() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let landing = visitor.get("/pricing?utm_source=x&aff=PARTNER_123");
    let cookie = landing.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-referral="), "{cookie}");
    for attribute in [
        "; Path=/",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Secure",
        "; Max-Age=2592000",
    ] {
        assert!(cookie.contains(attribute), "{cookie}");
    }

    let answer = visitor.get("/api/referral");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let referral = answer.json()["referral"].clone();
    let captured_at = referral["captured_at"].as_str().unwrap();
    assert!(captured_at.ends_with('Z') && captured_at.as_bytes()[10] == b'T');
    assert_eq!(
        referral,
        json!({
            "key": "PARTNER_123",
            "click_id": null,
            "program": "default",
            "parameter": "aff",
            "captured_at": captured_at,
            "landing_page": "/pricing?aff=PARTNER_123",
            "extra": {},
        })
    );

    let ada = json!({"customer": "cus_1", "email": "ada@example.com", "name": "Ada"});
    let report = visitor.post("/signup", &[], Json(&ada)).report();
    assert_eq!(report.0, "recorded");
    assert!(report.1.contains("PARTNER_123"), "{}", report.1);
    assert!(
        report.1.contains("No platform is configured"),
        "{}",
        report.1
    );
    assert_eq!(
        visitor.post("/signup", &[], Json(&ada)).report().0,
        "duplicate"
    );
}

#[test]
fn a_sign_up_without_a_referral_is_fine_and_credited_to_nobody() {
    let shop = Shop::start(&[]);
    assert_eq!(
        shop.get("/api/referral").json(),
        json!({ "referral": null })
    );
    let customer = json!({"customer": "cus_1"});
    let report = shop.visitor().post("/signup", &[], Json(&customer));
    assert_eq!(report.report().0, "not_attributed");
    let again = shop.visitor().post("/signup", &[], Json(&customer));
    assert_eq!(again.report().0, "duplicate");
}

#[test]
fn a_sign_up_is_answered_in_the_form_that_was_asked_for() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let form = Form(&[("customer", "cus 1+é"), ("email", ""), ("other", "x")]);
    visitor.post("/signup", &[], form).assert_page();
    visitor.post("/signup", &[ACCEPT_HTML], form).assert_page();
    let page = visitor.post("/signup", &[ACCEPT_HTML], Json(&json!({"customer": "1"})));
    page.assert_page();
    assert!(page.body.contains("not attributed"));
    assert_eq!(
        visitor.post("/signup", &[ACCEPT_JSON], form).report().0,
        "duplicate"
    );
    let any = ("Accept", "*/*");
    let body = json!({"customer": "cus 1+é"});
    assert_eq!(
        visitor.post("/signup", &[any], Json(&body)).report().0,
        "duplicate"
    );
}

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
    assert_eq!(shop.get("/api/track-landing").status, 405);
}

// --- From checkout to refund -------------------------------------------------------------------

#[test]
fn a_sale_is_credited_by_a_webhook_without_a_cookie_and_once() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    let order = payment("order-1", "99.99");
    let started = visitor.post("/checkout", &[], Json(&order)).json();
    let token = started["client_reference_id"].as_str().unwrap();
    assert_eq!(
        started,
        json!({"order": "order-1", "client_reference_id": token})
    );
    assert!(token.len() <= 200);
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );

    let mut webhook = order;
    webhook["client_reference_id"] = token.into();
    let report = shop
        .visitor()
        .post("/webhooks/payment", &[], Json(&webhook))
        .report();
    assert_eq!(report.0, "recorded");
    assert!(report.1.contains("PARTNER_123"), "{}", report.1);
    let again = shop
        .visitor()
        .post("/webhooks/payment", &[], Json(&webhook));
    assert_eq!(again.report().0, "duplicate");
}

#[test]
fn a_checkout_is_json_unless_a_browser_asks_and_the_page_plays_the_webhook() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    let form = Form(&[
        ("customer", "cus_1"),
        ("order", "order-1"),
        ("amount", "10.00"),
        ("currency", "eur"),
        ("coupon", "TEN"),
    ]);
    assert_eq!(
        visitor.post("/checkout", &[], form).json()["order"],
        "order-1"
    );
    let page = visitor.post("/checkout", &[ACCEPT_HTML], form);
    page.assert_page();
    let token = page.hidden("client_reference_id").unwrap();
    let amount = page.hidden("amount").unwrap();
    let currency = page.hidden("currency").unwrap();
    assert_eq!((amount.as_str(), currency.as_str()), ("10.00", "EUR"));
    let played = visitor.post(
        "/webhooks/payment",
        &[ACCEPT_HTML],
        Form(&[
            ("customer", "cus_1"),
            ("order", "order-1"),
            ("amount", &amount),
            ("currency", &currency),
            ("coupon", "TEN"),
            ("client_reference_id", &token),
        ]),
    );
    played.assert_page();
    assert!(played.body.contains("Payment: recorded"), "{}", played.body);
}

#[test]
fn a_payment_without_a_token_that_opens_is_credited_to_nobody() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let started = visitor.post("/checkout", &[], Json(&payment("order-1", "5")));
    assert_eq!(started.json(), json!({"order": "order-1"}));
    visitor.get(&format!("/?aff={}", "k".repeat(128)));
    assert!(visitor.key().is_some());
    let started = visitor.post("/checkout", &[], Json(&payment("order-2", "5")));
    assert_eq!(
        started.json(),
        json!({"order": "order-2"}),
        "too long a token is left out"
    );

    let cookie = visitor.cookies["__Host-referral"].clone();
    for (order, token, why) in [
        ("order-1", Value::Null, "no referral"),
        ("order-3", "nonsense".into(), "not a carry token"),
        ("order-4", "a".repeat(5000).into(), "not a carry token"),
        ("order-5", cookie.into(), "altered"),
    ] {
        let mut webhook = payment(order, "5");
        webhook["client_reference_id"] = token;
        // The visitor's own cookie is no payment's token, even where it comes along.
        let (outcome, detail) = visitor
            .post("/webhooks/payment", &[], Json(&webhook))
            .report();
        assert_eq!(outcome, "not_attributed", "{order}");
        assert!(detail.contains(why), "{order}: {detail}");
    }
    // What is too long to be carried, the shop has noted itself.
    let answer = visitor.post("/webhooks/payment", &[], Json(&payment("order-2", "5")));
    assert_eq!(answer.report().0, "recorded");
}

#[test]
fn refunds_are_booked_once_and_never_beyond_the_sale() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    pay(&mut visitor, "order-1", "100");
    let mut refund = |body: Value| visitor.post("/refund", &[], Json(&body));

    let unknown = refund(json!({"order": "order-9", "amount": "1"}));
    assert_eq!(unknown.status, 404);
    assert!(unknown.error().contains("`order`"));

    let too_much = refund(json!({"order": "order-1", "amount": "100.01"}));
    assert_eq!(too_much.status, 422);
    assert!(too_much.error().contains("100"));

    let part = json!({"order": "order-1", "amount": "30"});
    let (outcome, detail) = refund(part.clone()).report();
    assert_eq!(outcome, "recorded");
    assert!(detail.contains("PARTNER_123"), "{detail}");
    assert_eq!(refund(part).report().0, "duplicate");
    let same = json!({"order": "order-1", "amount": "30.00"});
    assert_eq!(refund(same).report().0, "duplicate");
    let other = json!({"order": "order-1", "amount": 30, "refund": "re_2"});
    assert_eq!(refund(other.clone()).report().0, "recorded");
    assert_eq!(refund(other).report().0, "duplicate");

    let beyond = refund(json!({"order": "order-1", "amount": "40.01"}));
    assert_eq!(beyond.status, 422);
    let rest = json!({"order": "order-1", "amount": "40"});
    assert_eq!(refund(rest.clone()).report().0, "recorded");
    assert_eq!(refund(rest).report().0, "duplicate");
}

#[test]
fn a_refund_of_a_sale_that_was_credited_to_nobody_takes_nothing_back() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    pay(&mut visitor, "order-1", "100");
    let refund = json!({"order": "order-1", "amount": "100"});
    assert_eq!(
        visitor.post("/refund", &[], Json(&refund)).report().0,
        "not_attributed"
    );
}

// --- Bad input ---------------------------------------------------------------------------------

#[test]
fn bad_input_says_what_to_mend() {
    let shop = Shop::start(&[]);
    let with = |name: &str, value: Value| {
        let mut body = payment("order-1", "5");
        body[name] = value;
        body
    };
    let long = "x".repeat(129);
    let mut cases = vec![
        ("/signup", json!({}), "`customer`"),
        ("/signup", json!({"customer": ""}), "`customer`"),
        ("/signup", json!({"customer": "  \t"}), "`customer`"),
        ("/signup", json!({"customer": null}), "`customer`"),
        ("/signup", json!({"customer": ["a"]}), "`customer`"),
        ("/signup", json!({"customer": true}), "`customer`"),
        ("/signup", json!({"customer": "a\u{0}b"}), "`customer`"),
        ("/signup", json!({"customer": long}), "at most 128"),
        (
            "/signup",
            json!({"customer": "a", "email": "ada"}),
            "`email`",
        ),
        (
            "/signup",
            json!({"customer": "a", "email": "@example.com"}),
            "`email`",
        ),
        (
            "/signup",
            json!({"customer": "a", "name": "x".repeat(201)}),
            "`name`",
        ),
        ("/refund", json!({"amount": "1"}), "`order`"),
        ("/refund", json!({"order": "order-1"}), "`amount`"),
        (
            "/refund",
            json!({"order": "order-1", "amount": "-1"}),
            "`amount`",
        ),
    ];
    for path in ["/checkout", "/webhooks/payment"] {
        for name in ["customer", "order", "amount", "currency"] {
            cases.push((path, with(name, Value::Null), "is missing"));
            cases.push((path, with(name, "".into()), "is missing"));
            cases.push((path, with(name, "x".repeat(129).into()), "at most"));
        }
        for amount in [
            "0",
            "0.00",
            "-5",
            "+5",
            "1e3",
            "1,50",
            "1.5.0",
            "1_000",
            "5 EUR",
            "NaN",
            "0x10",
            "1.00001",
            "1000000001",
            "٣",
            ".",
            "79228162514264337593543950336",
        ] {
            cases.push((path, with("amount", amount.into()), "`amount`"));
        }
        for amount in [json!(0), json!(-1), json!(1e30), json!(0.00001)] {
            cases.push((path, with("amount", amount), "`amount`"));
        }
        for currency in ["E", "EURO", "E1R", "€€€", "É"] {
            cases.push((path, with("currency", currency.into()), "`currency`"));
        }
        cases.push((path, with("coupon", "x".repeat(65).into()), "`coupon`"));
    }
    for (path, body, mend) in cases {
        let answer = shop.visitor().post(path, &[], Json(&body));
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.body);
        let error = answer.error();
        assert!(error.contains(mend), "{path} {body}: {error}");
    }
    assert_eq!(
        shop.visitor()
            .post("/webhooks/payment", &[], Json(&payment("order-1", "5")))
            .report()
            .0,
        "not_attributed",
        "nothing of it was booked"
    );
}

#[test]
fn amounts_may_be_text_or_number() {
    let shop = Shop::start(&[]);
    for (order, amount) in [
        ("1", json!("99.99")),
        ("2", json!(99.99)),
        ("3", json!(5000)),
        ("4", json!("0.001")),
        ("5", json!("1000000000")),
    ] {
        let mut body = payment(order, "");
        body["amount"] = amount;
        let answer = shop.visitor().post("/webhooks/payment", &[], Json(&body));
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    }
}

#[test]
fn a_body_that_cannot_be_read_says_what_to_mend() {
    let shop = Shop::start(&[]);
    let json = ("Content-Type", "application/json");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let too_long = vec![b'x'; 17 * 1024];
    let long_form = [b"customer=", &*too_long].concat();
    for (header, body, status) in [
        (Some(json), &b"{\"customer\":"[..], 400),
        (Some(json), b"", 400),
        (Some(json), b"{\"customer\":\"a\"}x", 400),
        (Some(json), b"{\"customer\":\"\xff\"}", 400),
        (Some(json), b"[]", 422),
        (Some(json), b"\"customer\"", 422),
        (Some(json), &too_long, 413),
        (Some(form), &long_form, 413),
        (Some(form), b"", 422),
        (Some(form), b"customer=a&customer=b&order=1&order=2", 422),
        (
            Some(form),
            b"customer=%ff&order=%ff&amount=1&currency=EUR",
            422,
        ),
        (Some(("Content-Type", "text/plain")), b"customer=a", 415),
        (Some(("Content-Type", "multipart/form-data")), b"x", 415),
        (None, b"customer=a", 415),
    ] {
        for path in ["/signup", "/checkout", "/webhooks/payment", "/refund"] {
            let headers: Vec<_> = header.into_iter().collect();
            let answer = shop.request("POST", path, &headers, body);
            assert_eq!(answer.status, status, "{path} {header:?}: {}", answer.body);
            assert!(!answer.error().is_empty());
        }
    }
}

#[test]
fn a_wrong_method_says_which_ones_there_are() {
    let shop = Shop::start(&[]);
    for (method, path, allow) in [
        ("POST", "/", "GET,HEAD"),
        ("POST", "/pricing", "GET,HEAD"),
        ("PUT", "/signup", "GET,HEAD,POST"),
        ("DELETE", "/checkout", "GET,HEAD,POST"),
        ("GET", "/webhooks/payment", "POST"),
        ("GET", "/refund", "POST"),
        ("POST", "/api/referral", "GET,HEAD,DELETE"),
    ] {
        let answer = shop.request(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        assert!(answer.error().contains("Allow"), "{method} {path}");
    }
}

#[test]
fn a_browser_gets_a_problem_as_a_page() {
    let shop = Shop::start(&[]);
    let page = shop
        .visitor()
        .post("/signup", &[ACCEPT_HTML], Form(&[("customer", "")]));
    assert_eq!(page.status, 422);
    page.assert_page();
    assert!(page.body.contains("`customer` is missing"), "{}", page.body);
    let page = shop.request("POST", "/", &[ACCEPT_HTML], b"");
    assert_eq!(page.status, 405);
    page.assert_page();
}

#[test]
fn other_sites_send_nothing_in_a_visitors_name() {
    let shop = Shop::start(&["--consent", "cookie"]);
    let foreign = ("Sec-Fetch-Site", "cross-site");
    let mut visitor = shop.visitor();
    for path in ["/signup", "/checkout", "/consent", "/forget"] {
        let answer = visitor.post(path, &[foreign], Form(&[("answer", "granted")]));
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.error().is_empty());
    }
    assert!(visitor.cookies.is_empty());
    let ours = ("Sec-Fetch-Site", "same-origin");
    let answer = visitor.post("/consent", &[ours], Form(&[("answer", "granted")]));
    assert_eq!(answer.status, 303);
}

// --- Forgetting, consent and privacy -----------------------------------------------------------

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

// --- Where a landing goes ----------------------------------------------------------------------

#[test]
fn the_url_is_cleaned_if_the_shop_says_so() {
    let shop = Shop::start(&["--clean-url"]);
    let mut visitor = shop.visitor();
    let landing = visitor.get("/pricing?a=1&aff=PARTNER_123&b=%20");
    assert_eq!(landing.status, 303);
    assert_eq!(landing.header("location"), Some("/pricing?a=1&b=%20"));
    assert_eq!(visitor.get("/pricing?a=1&b=%20").status, 200);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
}

#[test]
fn a_landing_at_the_till_takes_nobodys_credit() {
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

// --- The cookie --------------------------------------------------------------------------------

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

// --- Clicks ------------------------------------------------------------------------------------

/// Far longer than a click to the sandbox takes, so a landing has its answer when it is out.
const LONG_WAIT: [&str; 2] = ["--click-wait", "60000"];

#[test]
fn by_default_a_sandbox_plays_partnac_and_the_click_id_shows_everywhere() {
    let mut shop = Shop::start_as_told(&LONG_WAIT, &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    let blog = [("Referer", "https://blog.example/lamps?draft=1")];
    let landing = visitor.request("GET", "/pricing?utm_source=x&aff=PARTNER_123", &blog, b"");
    assert!(landing.body.contains("on its way"), "{}", landing.body);
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
    let page = visitor.get("/about");
    assert!(
        page.body.contains("<code>clk_000001</code>"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("on its way"));

    let calls = sandbox.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["call"], "POST /v1/tracking/clicks");
    assert_eq!(calls[0]["status"], 201);
    assert_eq!(
        serde_json::from_str::<Value>(calls[0]["body"].as_str().unwrap()).unwrap(),
        json!({
            "partnership_code": "PARTNER_123",
            "click_url": format!("http://{}/pricing?aff=PARTNER_123", shop.address),
            "referrer_url": "https://blog.example",
        })
    );

    let (outcome, detail) = visitor
        .post("/signup", &[], Json(&json!({"customer": "cus_1"})))
        .report();
    assert_eq!(outcome, "recorded");
    assert_eq!(detail, "Partnac has recorded the sign-up.");
}

#[test]
fn tapfiliate_has_a_sandbox_too() {
    let args = [&["--platform", "tapfiliate"], &LONG_WAIT[..]].concat();
    let mut shop = Shop::start_as_told(&args, &[("PLATFORM_API_KEY", "secret-key")]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/pricing?aff=PARTNER_123");
    assert_eq!(visitor.click_id().as_deref(), Some("000001-0afe3c"));

    let calls = sandbox.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["call"], "POST /1.6/clicks/");
    assert_eq!(
        serde_json::from_str::<Value>(calls[0]["body"].as_str().unwrap()).unwrap(),
        json!({
            "referral_code": "PARTNER_123",
            "landing_page": format!("http://{}/pricing?aff=PARTNER_123", shop.address),
        })
    );
    let page = send(sandbox.0, "GET", "/", &[], b"");
    assert!(page.body.contains("A sandbox for Tapfiliate"));
    assert!(page.body.contains("1 call received"), "{}", page.body);
    assert!(!page.body.contains("secret-key"));
}

#[test]
fn the_referral_goes_on_without_waiting_and_the_click_id_joins_later() {
    let mut shop = Shop::start_as_told(&[], &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_1");
    assert_eq!(visitor.awaits_click_id(), "clk_000001");
    // The same link once more, and a page, are no new touch.
    visitor.get("/?aff=PARTNER_1");
    visitor.get("/");
    // A cached page's script tells of a landing too.
    let mut other = shop.browser();
    let body = json!({"aff": "PARTNER_2"});
    assert_eq!(
        other.post("/api/track-landing", &[], Json(&body)).status,
        204
    );
    assert_eq!(other.awaits_click_id(), "clk_000002");
    assert_eq!(sandbox.calls().len(), 2);
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
}

#[test]
fn the_page_waits_for_nobody_and_says_so() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/tracking", platform.local_addr().unwrap());
    let shop = Shop::start_as_told(&["--platform-url", &url], &[]);
    let mut visitor = shop.browser();
    // Nobody has taken the platform's call, and nobody will before this page is here.
    let landing = visitor.get("/?aff=PARTNER_123");
    assert_eq!(landing.status, 200);
    assert!(landing.body.contains("on its way"), "{}", landing.body);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    assert_eq!(visitor.click_id(), None);

    let call = answer_one(&platform, r#"{"id": "late-1"}"#);
    assert!(
        call.starts_with("POST /v1/tracking/clicks HTTP/1.1\r\n"),
        "{call}"
    );
    assert!(call.contains("Bearer sandbox"), "{call}");
    assert_eq!(visitor.awaits_click_id(), "late-1");
}

#[test]
fn a_platform_that_is_not_there_costs_nobody_the_credit() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{port}/1.6/");
    for args in [
        &["--platform", "tapfiliate", "--platform-url", &url][..],
        &["--platform-url", &url],
    ] {
        let args = [args, &LONG_WAIT].concat();
        let shop = Shop::start_as_told(&args, &[]);
        let mut visitor = shop.browser();
        assert_eq!(visitor.get("/?aff=PARTNER_123").status, 200);
        assert_eq!(visitor.click_id(), None);
        let customer = json!({"customer": "cus_1"});
        let (outcome, detail) = visitor.post("/signup", &[], Json(&customer)).report();
        assert_eq!(outcome, "queued");
        assert!(detail.contains("waits in the outbox"), "{detail}");

        let args = [&args[..], &["--outbox", "off"]].concat();
        let shop = Shop::start_as_told(&args, &[]);
        let mut visitor = shop.browser();
        visitor.get("/?aff=PARTNER_123");
        // Nothing left, so it may be told as often as anybody likes.
        for _ in 0..2 {
            let (outcome, detail) = visitor.post("/signup", &[], Json(&customer)).report();
            assert_eq!(outcome, "failed");
            assert!(detail.contains("could not be reached"), "{detail}");
            assert!(detail.contains("told again later"), "{detail}");
        }
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    }
}

#[test]
fn a_key_that_the_platform_does_not_know_stays_kept() {
    for platform in ["partnac", "tapfiliate"] {
        let args = [&["--platform", platform], &LONG_WAIT[..]].concat();
        let mut shop = Shop::start_as_told(&args, &[]);
        let sandbox = shop.sandbox();
        let mut visitor = shop.browser();
        visitor.get("/?aff=UNKNOWN-1");
        assert_eq!(visitor.key().as_deref(), Some("UNKNOWN-1"));
        assert_eq!(visitor.click_id(), None);
        assert_eq!(sandbox.calls()[0]["status"], 404);
    }
}

#[test]
fn tools_and_the_undecided_create_no_click_and_the_page_says_why() {
    let mut shop = Shop::start_as_told(&LONG_WAIT, &[]);
    let sandbox = shop.sandbox();
    let tool = shop.visitor().get("/?aff=PARTNER_123");
    assert!(tool.body.contains("tools and crawlers"), "{}", tool.body);
    assert_eq!(sandbox.calls(), [Value::Null; 0]);

    let args = [&["--consent", "cookie"], &LONG_WAIT[..]].concat();
    let mut shop = Shop::start_as_told(&args, &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    let landing = visitor.get("/?aff=PARTNER_123");
    assert!(
        landing.body.contains("nothing until you agree"),
        "{}",
        landing.body
    );
    assert_eq!(sandbox.calls(), [Value::Null; 0]);
    visitor.cookies.insert("consent".into(), "granted".into());
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
}

#[test]
fn without_a_platform_there_is_no_word_of_clicks() {
    let mut shop = Shop::start(&["--click-wait", "50"]);
    let mut visitor = shop.browser();
    let landing = visitor.get("/?aff=PARTNER_123");
    assert!(!landing.body.contains("Click ID"), "{}", landing.body);
    assert!(!shop.stop().contains("sandbox"));
}

#[cfg(unix)]
#[test]
fn the_end_waits_for_clicks_that_are_under_way() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/tracking", platform.local_addr().unwrap());
    let mut shop = Shop::start_as_told(&["--platform-url", &url], &[]);
    shop.browser().get("/?aff=PARTNER_123");
    let mut call = accept(&platform);
    shop.terminate();
    // The server is gone when nobody answers at its port any more; the process is still there.
    while TcpStream::connect(shop.address).is_ok() {
        std::thread::yield_now();
    }
    assert!(
        shop.child.try_wait().unwrap().is_none(),
        "it left a click behind"
    );
    read_call(&mut call);
    call.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{\"id\": 1 }")
        .unwrap();
    assert!(shop.child.wait().unwrap().success());
}

#[test]
fn the_sandbox_is_strict() {
    let bearer = ("Authorization", "Bearer sandbox");
    let json = ("Content-Type", "application/json");
    let click = r#"{"partnership_code": "P", "click_url": "https://x"}"#;
    let mut shop = Shop::start_as_told(&[], &[]);
    let sandbox = shop.sandbox();
    let path = "/v1/tracking/clicks";
    for (path, headers, body, status) in [
        (path, &[bearer, json][..], click, 201),
        (path, &[json], click, 401),
        (path, &[("Authorization", "Bearer other"), json], click, 401),
        (path, &[bearer], click, 415),
        (path, &[bearer, json], "[]", 400),
        (path, &[bearer, json], r#"{"partnership_code": "P"}"#, 422),
        (
            path,
            &[bearer, json],
            r#"{"partnership_code": "", "click_url": "x"}"#,
            422,
        ),
        (
            path,
            &[bearer, json],
            r#"{"partnership_code": 1, "click_url": "x"}"#,
            422,
        ),
        (
            path,
            &[bearer, json],
            r#"{"partnership_code": "P", "click_url": "x", "ip": "x"}"#,
            422,
        ),
        (
            path,
            &[bearer, json],
            r#"{"partnership_code": "P", "click_url": "x", "ip_address": null}"#,
            422,
        ),
        (
            path,
            &[bearer, json],
            r#"{"partnership_code": "P", "click_url": "x", "screen_width": 800}"#,
            201,
        ),
        ("/v1/tracking/clicks/", &[bearer, json], click, 404),
        ("/1.6/clicks/", &[bearer, json], click, 404),
    ] {
        assert_eq!(
            sandbox.post(path, headers, body).status,
            status,
            "{path} {body}"
        );
    }
    assert_eq!(sandbox.calls().len(), 13);

    let mut shop = Shop::start_as_told(&["--platform", "tapfiliate"], &[]);
    let sandbox = shop.sandbox();
    let key = ("X-Api-Key", "sandbox");
    let click = r#"{"referral_code": "P"}"#;
    let path = "/1.6/clicks/";
    for (path, headers, body, status) in [
        (path, &[key, json][..], click, 201),
        (path, &[json], click, 404),
        (path, &[bearer, json], click, 404),
        (path, &[("X-Api-Key", "other"), json], click, 401),
        (
            path,
            &[key, json],
            r#"{"referral_code": "P", "meta_data": "x"}"#,
            422,
        ),
        ("/1.6/clicks", &[key, json], click, 404),
    ] {
        assert_eq!(
            sandbox.post(path, headers, body).status,
            status,
            "{path} {body}"
        );
    }
    let page = sandbox.post(path, &[json], click);
    assert!(page.body.starts_with("<!DOCTYPE html>"));
    let shown = send(sandbox.0, "GET", "/", &[], b"");
    assert!(
        !shown.body.contains("<title>Not Found"),
        "escaped: {}",
        shown.body
    );
}

// --- Reporting ---------------------------------------------------------------------------------

/// The calls that aren't clicks, the oldest first: method and path, and what was sent.
fn reported(sandbox: &Sandbox) -> Vec<(String, Value)> {
    let told = |call: &Value| {
        let line = call["call"].as_str().unwrap().to_owned();
        let body = call["body"].as_str().unwrap();
        let status = call["status"].as_u64().unwrap();
        assert!(status < 300, "{line} {body}: {}", call["answer"]);
        (line, serde_json::from_str(body).unwrap_or_default())
    };
    let calls = sandbox.calls();
    let calls = calls.iter().rev().map(told);
    calls
        .filter(|(line, _)| !line.contains("/clicks"))
        .collect()
}

/// A visitor lands, signs up, pays and gets all of it back: the outcome of each, told twice.
fn whole_life(shop: &Shop, landing: &str) -> Vec<[String; 2]> {
    let mut visitor = shop.browser();
    visitor.get(landing);
    let ada = json!({"customer": "cus_1", "email": "ada@example.com", "name": "Ada"});
    let mut twice =
        |path: &str, body: &Value| [(); 2].map(|()| visitor.post(path, &[], Json(body)).report().0);
    let sign_up = twice("/signup", &ada);
    let mut visitor = visitor_again(shop, landing);
    let mut webhook = payment("order-1", "99.99");
    webhook["coupon"] = "SUMMER".into();
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    webhook["client_reference_id"] = started["client_reference_id"].clone();
    let mut nobody = shop.visitor();
    let sale = [(); 2].map(|()| {
        nobody
            .post("/webhooks/payment", &[], Json(&webhook))
            .report()
            .0
    });
    let all = json!({"order": "order-1", "amount": "99.99"});
    let refund = [(); 2].map(|()| nobody.post("/refund", &[], Json(&all)).report().0);
    vec![sign_up, sale, refund]
}

fn visitor_again<'s>(shop: &'s Shop, landing: &str) -> Visitor<'s> {
    let mut visitor = shop.browser();
    visitor.get(landing);
    visitor
}

fn once_each() -> Vec<[String; 2]> {
    vec![["recorded".to_owned(), "duplicate".to_owned()]; 3]
}

fn shop_at(platform: &str) -> Shop {
    Shop::start_as_told(&[&["--platform", platform], &LONG_WAIT[..]].concat(), &[])
}

#[test]
fn partnac_hears_of_sign_up_sale_and_refund_once_each() {
    let mut shop = shop_at("partnac");
    let sandbox = shop.sandbox();
    assert_eq!(whole_life(&shop, "/?aff=PARTNER_1"), once_each());
    let reported = reported(&sandbox);
    let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
    assert_eq!(
        lines,
        [
            "POST /v1/tracking/conversions",
            "POST /v1/tracking/conversions",
            "POST /v1/tracking/conversions/order-1/refund",
        ]
    );
    assert_eq!(reported[0].1["conversion_type"], "lead");
    assert_eq!(reported[0].1["session_id"], "clk_000001");
    assert_eq!(reported[1].1["unique_id"], "order-1");
    assert_eq!(reported[1].1["amount"], 99.99);
    assert_eq!(reported[1].1["metadata"]["coupon_code"], "SUMMER");
    assert_eq!(reported[2].1, json!({}), "all of it");

    let page = send(sandbox.0, "GET", "/", &[], b"").body;
    for shown in [
        "Clicks: 2",
        "lead signup:cus_1 by PARTNER_1",
        "sale order-1: 0.00 EUR by PARTNER_1",
        "order-1: 99.99",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
}

#[test]
fn tapfiliate_hears_of_sign_up_sale_and_refund_once_each() {
    let mut shop = shop_at("tapfiliate");
    let sandbox = shop.sandbox();
    assert_eq!(whole_life(&shop, "/?aff=PARTNER_1"), once_each());
    let reported = reported(&sandbox);
    let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
    assert_eq!(
        lines,
        [
            "POST /1.6/customers/",
            "POST /1.6/conversions/",
            "GET /1.6/conversions/?external_id=order-1",
            "DELETE /1.6/conversions/4/",
        ]
    );
    assert_eq!(
        reported[0].1,
        json!({"customer_id": "cus_1", "click_id": "000001-0afe3c"})
    );
    assert_eq!(reported[1].1["click_id"], "000003-0afe3c");
}

#[test]
fn partnero_hears_of_sign_up_sale_and_refund_once_each() {
    for (platform, referrer) in [
        ("partnero", "partner"),
        ("partnero-friends", "referring_customer"),
    ] {
        let mut shop = shop_at(platform);
        let sandbox = shop.sandbox();
        assert_eq!(
            whole_life(&shop, "/?ref=FRIEND_1"),
            once_each(),
            "{platform}"
        );
        let reported = reported(&sandbox);
        let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
        assert_eq!(
            lines,
            [
                "POST /v1/customers",
                "POST /v1/transactions",
                "DELETE /v1/transactions/order-1",
            ]
        );
        assert_eq!(reported[0].1[referrer], json!({"key": "FRIEND_1"}));
        assert_eq!(reported[0].1["email"], "ada@example.com");
        assert_eq!(reported[1].1["customer"], json!({"key": "cus_1"}));
        assert_eq!(reported[1].1["amount_units"], "EUR");
    }
}

#[test]
fn a_sale_to_a_customer_who_never_signed_up_is_credited_at_partnero_too() {
    for platform in ["partnero", "partnero-friends"] {
        let shop = shop_at(platform);
        let mut visitor = shop.browser();
        visitor.get("/?ref=FRIEND_1");
        let mut webhook = payment("order-1", "5");
        let started = visitor.post("/checkout", &[], Json(&webhook)).json();
        webhook["client_reference_id"] = started["client_reference_id"].clone();
        let report = visitor
            .post("/webhooks/payment", &[], Json(&webhook))
            .report();
        assert_eq!(report.0, "recorded", "{}", report.1);
        let sale = payment("order-2", "5");
        let mut stranger = sale.clone();
        stranger["customer"] = "cus_2".into();
        // The platform knows the one customer by now, and not the other.
        let outcome = |sale: &Value| {
            shop.visitor()
                .post("/webhooks/payment", &[], Json(sale))
                .report()
                .0
        };
        assert_eq!(outcome(&stranger), "not_attributed");
        stranger["order"] = "order-3".into();
        stranger["customer"] = "cus_1".into();
        assert_eq!(outcome(&stranger), "recorded");
    }
}

#[test]
fn parts_go_back_where_the_platform_takes_parts() {
    for (platform, expected) in [
        ("partnac", "recorded"),
        ("tapfiliate", "recorded"),
        ("partnero", "failed"),
        ("partnero-friends", "failed"),
    ] {
        let shop = shop_at(platform);
        let mut visitor = shop.browser();
        visitor.get("/?aff=PARTNER_1");
        visitor.post("/signup", &[], Json(&json!({"customer": "cus_1"})));
        pay(&mut visitor, "order-1", "100");
        let part = json!({"order": "order-1", "amount": "30.5", "refund": "re_1"});
        let answer = visitor.post("/refund", &[], Json(&part));
        let (outcome, detail) = answer.report();
        assert_eq!(outcome, expected, "{platform}: {detail}");
        assert_eq!(
            detail.contains("whole sales only"),
            expected == "failed",
            "{detail}"
        );
    }
}

#[test]
fn nobody_is_credited_for_a_key_that_the_platform_does_not_know() {
    for platform in ["partnac", "tapfiliate", "partnero", "partnero-friends"] {
        let shop = shop_at(platform);
        let mut visitor = shop.browser();
        visitor.get("/?aff=UNKNOWN-1");
        let customer = json!({"customer": "cus_1"});
        let report = visitor.post("/signup", &[], Json(&customer)).report();
        assert_eq!(report.0, "not_attributed", "{platform}: {}", report.1);
        assert_eq!(
            visitor.post("/signup", &[], Json(&customer)).report().0,
            "not_attributed"
        );
    }
}

#[test]
fn a_bad_api_key_fails_no_page() {
    // A sandbox of one shop is the platform of another, which has the wrong key.
    for (platform, base) in [
        ("partnac", "v1/tracking"),
        ("tapfiliate", "1.6"),
        ("partnero", "v1"),
        ("partnero-friends", "v1"),
    ] {
        let mut theirs = shop_at(platform);
        let url = format!("http://{}/{base}", theirs.sandbox().0);
        let args = [
            "--platform",
            platform,
            "--platform-url",
            &url,
            "--api-key",
            "wr0ng",
        ];
        let shop = Shop::start_as_told(&args, &[]);
        let mut visitor = shop.visitor();
        visitor.get("/?aff=PARTNER_1");
        let customer = json!({"customer": "cus_1"});
        let (outcome, detail) = visitor.post("/signup", &[], Json(&customer)).report();
        assert_eq!(outcome, "failed");
        assert!(
            detail.contains("refused the API key"),
            "{platform}: {detail}"
        );
        assert!(!detail.contains("wr0ng"));
        let page = visitor.post("/signup", &[ACCEPT_HTML], Json(&customer));
        assert_eq!(page.status, 200);
        page.assert_page();
        assert!(page.body.contains("Sign-up: failed"));
    }
}

#[test]
fn what_may_have_arrived_is_not_told_again() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", platform.local_addr().unwrap());
    let args = ["--platform", "partnero", "--platform-url", &url];
    let shop = Shop::start_as_told(&args, &[]);
    let sale = payment("order-1", "5");
    let outcomes = std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let mut visitor = shop.visitor();
            let mut tell = || visitor.post("/webhooks/payment", &[], Json(&sale)).report();
            [tell(), tell()]
        });
        // It takes the call, and hangs up.
        let mut call = accept(&platform);
        assert!(read_call(&mut call).starts_with("POST /v1/transactions "));
        drop(call);
        told.join().unwrap()
    });
    for (outcome, detail) in outcomes {
        assert_eq!(outcome, "failed");
        assert!(detail.contains("somebody has to look there"), "{detail}");
    }
    platform.set_nonblocking(true).unwrap();
    assert!(platform.accept().is_err(), "it was told again");
}

#[test]
fn the_sandbox_is_strict_with_reports_too() {
    let json = ("Content-Type", "application/json");
    let bearer = ("Authorization", "Bearer sandbox");
    let accept = ("Accept", "application/json");
    let key = ("X-Api-Key", "sandbox");
    for (platform, headers, calls) in [
        (
            "partnac",
            vec![bearer, json],
            vec![
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"sale"}"#,
                    422,
                ),
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"gift","amount":1}"#,
                    422,
                ),
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"sale","amount":"1"}"#,
                    422,
                ),
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"sale","amount":1,"session_id":"x"}"#,
                    422,
                ),
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"sale","amount":1}"#,
                    201,
                ),
                (
                    "/v1/tracking/conversions",
                    r#"{"partnership_code":"P","unique_id":"o","conversion_type":"sale","amount":1}"#,
                    409,
                ),
                ("/v1/tracking/conversions/o/refund", r#"{"amount":2}"#, 422),
                ("/v1/tracking/conversions/x/refund", "{}", 404),
                ("/v1/tracking/conversions/o/refund", "{}", 200),
            ],
        ),
        (
            "tapfiliate",
            vec![key, json],
            vec![
                ("/1.6/customers/", r#"{"customer_id":"c"}"#, 400),
                (
                    "/1.6/customers/",
                    r#"{"customer_id":"c","referral_code":"P","coupon":"C"}"#,
                    400,
                ),
                (
                    "/1.6/customers/",
                    r#"{"customer_id":"c","click_id":"x"}"#,
                    422,
                ),
                (
                    "/1.6/customers/",
                    r#"{"customer_id":"c","referral_code":"P"}"#,
                    201,
                ),
                (
                    "/1.6/customers/",
                    r#"{"customer_id":"c","referral_code":"P"}"#,
                    400,
                ),
                ("/1.6/conversions", r#"{}"#, 404),
                (
                    "/1.6/conversions/",
                    r#"{"external_id":"o","amount":1,"currency":"EUR","customer_id":"d"}"#,
                    404,
                ),
                (
                    "/1.6/conversions/",
                    r#"{"external_id":"o","amount":1,"currency":"EUR","customer_id":"c"}"#,
                    200,
                ),
                (
                    "/1.6/conversions/",
                    r#"{"external_id":"o","amount":1,"currency":"EUR","customer_id":"c"}"#,
                    400,
                ),
            ],
        ),
        (
            "partnero",
            vec![bearer, json, accept],
            vec![
                ("/v1/customers", r#"{"key":"c"}"#, 422),
                ("/v1/customers", r#"{"key":"c","partner":{}}"#, 422),
                (
                    "/v1/customers",
                    r#"{"key":"c","partner":{"key":"UNKNOWN"}}"#,
                    400,
                ),
                ("/v1/customers", r#"{"key":"c","partner":{"key":"P"}}"#, 200),
                ("/v1/customers", r#"{"key":"c","partner":{"key":"P"}}"#, 422),
                (
                    "/v1/customers/",
                    r#"{"key":"d","partner":{"key":"P"}}"#,
                    404,
                ),
                (
                    "/v1/transactions",
                    r#"{"customer":{"key":"d"},"amount":1,"action":"sale"}"#,
                    422,
                ),
                (
                    "/v1/transactions",
                    r#"{"customer":{"key":"c"},"amount":"1","action":"sale"}"#,
                    422,
                ),
                (
                    "/v1/transactions",
                    r#"{"customer":{"key":"c"},"amount":1,"action":"sale"}"#,
                    200,
                ),
                (
                    "/v1/transactions",
                    r#"{"transactions":[{"customer":{"key":"c"},"amount":1,"action":"sale"}]}"#,
                    200,
                ),
            ],
        ),
        (
            "partnero-friends",
            vec![bearer, json, accept],
            vec![
                (
                    "/v1/customers",
                    r#"{"key":"c","referring_customer":null}"#,
                    422,
                ),
                ("/v1/customers", r#"{"key":"c","partner":{"key":"P"}}"#, 422),
                ("/v1/customers", r#"{"key":"c"}"#, 200),
                (
                    "/v1/customers/c/balance/credit",
                    r#"{"amount":1,"amount_units":"EUR","is_currency":true}"#,
                    200,
                ),
            ],
        ),
    ] {
        let mut shop = shop_at(platform);
        let sandbox = shop.sandbox();
        for (path, body, status) in calls {
            let answer = sandbox.post(path, &headers, body);
            assert_eq!(
                answer.status, status,
                "{platform} {path} {body}: {}",
                answer.body
            );
        }
        let answer = sandbox.post("/v1/customers", &[json], "{}");
        assert!([401, 404].contains(&answer.status), "{platform}");
    }
}

/// A sandbox as a platform: where it is, and the shop that it is in.
fn platform_of(platform: &str, base: &str) -> (Shop, String) {
    let mut shop = shop_at(platform);
    let url = format!("http://{}/{base}", shop.sandbox().0);
    (shop, url)
}

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn partner(key: &str) -> Credit {
    Credit::new(key.parse().unwrap())
}

#[tokio::test]
async fn what_only_partnac_has_passes_its_sandbox() {
    let (_shop, url) = platform_of("partnac", "v1/tracking");
    let partnac = Partnac::new("sandbox").unwrap().base_url(url).unwrap();
    let client = Client::new(partnac, Https::new());
    for number in 0..103 {
        let conversion = Conversion::new(format!("u/{number}"), ConversionType::Custom, euros("1"))
            .unwrap()
            .credit(partner("P"))
            .campaign("c")
            .metadata("country", "DE");
        let outcome = client.record(&conversion).await.unwrap();
        assert!(matches!(outcome, Outcome::Recorded { id: Some(_) }));
    }
    let again = Conversion::new("u/0", ConversionType::Sale, None).unwrap();
    let again = client.record(&again.credit(partner("P"))).await;
    assert_eq!(again, Ok(Outcome::Duplicate));
    let update = Update::new()
        .amount(euros("9.99"))
        .recalculate_commissions();
    assert_eq!(client.update("u/0", &update).await, Ok(true));
    assert_eq!(client.update("u/999", &update).await, Ok(false));
    let listed: Vec<_> = client
        .list_conversions(Filter::all())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 103);
    assert_eq!(listed[0].money(), Some(euros("9.99")));
    let clicks: Vec<_> = client
        .list_clicks(Filter::all())
        .try_collect()
        .await
        .unwrap();
    assert!(clicks.is_empty());
    let part = Refund::part("u/0", euros("9.98"))
        .unwrap()
        .id("re_1")
        .unwrap();
    let outcome = client.report(part.clone()).await.unwrap();
    assert!(outcome.is_credited());
    assert_eq!(client.report(part).await, Ok(Outcome::Duplicate));
    let nobodys = client.report(Refund::whole("u/999").unwrap()).await;
    assert_eq!(nobodys, Ok(Outcome::NotAttributed));
}

#[tokio::test]
async fn what_only_partnero_has_passes_its_sandbox() {
    let (_shop, url) = platform_of("partnero", "v1");
    let partnero = Partnero::new("sandbox").unwrap().base_url(&url).unwrap();
    let client = Client::new(partnero, Https::new());
    assert_eq!(client.check_key().await, Ok(()));
    let wrong = Partnero::new("wrong").unwrap().base_url(&url).unwrap();
    assert!(Client::new(wrong, Https::new()).check_key().await.is_err());
    let guest = || {
        SignUp::new("c-1")
            .unwrap()
            .email("a@b.c")
            .credit(partner("P"))
    };
    for order in ["o-1", "o-2"] {
        let sale = Sale::guest(order, guest(), euros("1")).unwrap();
        assert!(client.report(sale).await.unwrap().is_credited(), "{order}");
    }
    let sales = ["o-3", "o-4"].map(|order| Sale::new(order, "c-1", euros("2.5")).unwrap());
    assert!(client.report_sales(&sales).await.unwrap().is_credited());
    let whole = Refund::whole("o-4").unwrap();
    assert!(client.report(whole.clone()).await.unwrap().is_credited());
    assert_eq!(client.report(whole).await, Ok(Outcome::NotAttributed));

    let (_shop, url) = platform_of("partnero-friends", "v1");
    let friends = PartneroFriends::new("sandbox")
        .unwrap()
        .base_url(&url)
        .unwrap();
    let client = Client::new(friends, Https::new());
    assert_eq!(client.check_key().await, Ok(()));
    let ada = SignUp::new("ada").unwrap();
    assert!(client.report(ada).await.unwrap().is_credited());
    for number in 0..5 {
        let friend = SignUp::new(format!("friend-{number}")).unwrap();
        let outcome = client.report(friend.credit(partner("ada"))).await.unwrap();
        assert!(outcome.is_credited());
    }
    let ada = client.friend("ada").await.unwrap().unwrap();
    assert_eq!(ada.referral_link(), Some("https://shop.example/?ref=ada"));
    assert_eq!(ada.referrals_count(), Some(5));
    assert_eq!(client.friend("bob").await, Ok(None));
    assert_eq!(
        client.friend_stats("ada").await.unwrap().unwrap()["data"]["referrals"],
        5
    );
    client.credit_friend("ada", euros("7.5")).await.unwrap();
    assert_eq!(
        client.friend_balance("ada").await.unwrap().unwrap()["data"]["balance"],
        7.5
    );
    let list = client.friend_referrals("ada").unwrap();
    let list: Vec<_> = list.try_collect().await.unwrap();
    let ids: Vec<_> = list.iter().map(|friend| friend.id().unwrap()).collect();
    assert_eq!(
        ids,
        ["friend-0", "friend-1", "friend-2", "friend-3", "friend-4"]
    );
}

#[tokio::test]
async fn what_only_tapfiliate_has_passes_its_sandbox() {
    let (_shop, url) = platform_of("tapfiliate", "1.6");
    let tapfiliate = Tapfiliate::new("sandbox").unwrap().base_url(url).unwrap();
    let client = Client::new(tapfiliate, Https::new());
    // A click ID that isn't one gives way to the key, an unknown key to the coupon.
    let nobodys = partner("UNKNOWN").with_click_id("nobodys".parse::<ClickId>().unwrap());
    for number in 0..30 {
        let sale = Sale::new(format!("o {number}"), "c", euros("10")).unwrap();
        let sale = sale.credit(nobodys.clone()).coupon("SUMMER");
        assert!(client.report(sale).await.unwrap().is_credited());
    }
    let again = Sale::new("o 0", "c", euros("10")).unwrap().coupon("SUMMER");
    assert_eq!(client.report(again).await, Ok(Outcome::Duplicate));
    let stranger = Sale::new("o", "c", euros("10")).unwrap();
    assert_eq!(client.report(stranger).await, Ok(Outcome::NotAttributed));
    for part in ["2.5", "7.5"] {
        let part = Refund::part("o 1", euros(part)).unwrap();
        assert!(client.report(part).await.unwrap().is_credited());
    }
    let gone = client.report(Refund::whole("o 1").unwrap()).await;
    assert_eq!(gone, Ok(Outcome::NotAttributed));
    let listed: Vec<_> = client.list_conversions().try_collect().await.unwrap();
    assert_eq!(listed.len(), 29);
}

/// Takes one call and answers it.
fn answer_one(platform: &TcpListener, json: &str) -> String {
    let mut call = accept(platform);
    let text = read_call(&mut call);
    let length = json.len();
    let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{json}");
    call.write_all(answer.as_bytes()).unwrap();
    text
}

fn accept(platform: &TcpListener) -> TcpStream {
    platform.set_nonblocking(true).unwrap();
    let started = Instant::now();
    loop {
        if let Ok((call, _)) = platform.accept() {
            call.set_nonblocking(false).unwrap();
            return call;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "no call came");
        std::thread::yield_now();
    }
}

/// Reads a call up to the end of its body, a JSON object without others in it.
fn read_call(call: &mut TcpStream) -> String {
    call.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut bytes = Vec::new();
    while bytes.last() != Some(&b'}') {
        let mut some = [0; 4096];
        let count = call.read(&mut some).unwrap();
        assert_ne!(count, 0, "the call ended early");
        bytes.extend_from_slice(&some[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Runs the storefront with a configuration that it doesn't start with.
fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = command(args, variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} {variables:?} should have been refused");
        }
        std::thread::yield_now();
    }
    child.wait_with_output().unwrap()
}

/// The error with which the storefront refuses a configuration.
fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(args, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?}");
    error
}

fn payment(order: &str, amount: &str) -> Value {
    json!({"customer": "cus_1", "order": order, "amount": amount, "currency": "EUR"})
}

/// Checks out, and plays the payment provider's webhook.
fn pay(visitor: &mut Visitor<'_>, order: &str, amount: &str) {
    let mut webhook = payment(order, amount);
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    webhook["client_reference_id"] = started["client_reference_id"].clone();
    let answer = visitor.post("/webhooks/payment", &[], Json(&webhook));
    assert_eq!(answer.status, 200, "{}", answer.body);
}
