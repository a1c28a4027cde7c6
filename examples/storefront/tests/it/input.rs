//! Bad input says what to fix.

use serde_json::{Value, json};

use crate::shop_process::{Form, Json, Shop};
use crate::support::{ACCEPT_HTML, ACCEPT_JSON, payment};

#[test]
fn bad_input_says_what_to_fix() {
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
    for (path, body, fix) in cases {
        let answer = shop.visitor().post(path, &[], Json(&body));
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.body);
        let error = answer.error();
        assert!(error.contains(fix), "{path} {body}: {error}");
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
fn a_body_that_cannot_be_read_says_what_to_fix() {
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
fn a_customer_who_is_not_named_well_is_bad_input() {
    let shop = Shop::start_as_told(&["--platform", "partnero-friends"], &[]);
    for (method, path, status, fix) in [
        ("GET", "/customers/%FF", 400, "UTF-8"),
        ("DELETE", "/customers/%FF", 400, "UTF-8"),
        ("GET", "/friends", 422, "`customer` is missing"),
        ("GET", "/friends?customer=", 422, "`customer` is missing"),
        ("GET", "/friends?customer=%FF", 422, "UTF-8"),
        ("GET", "/friends?customer=a&customer=b", 422, "twice"),
    ] {
        let answer = shop.request(method, path, &[ACCEPT_JSON], b"");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let error = answer.error();
        assert!(error.contains(fix), "{method} {path}: {error}");
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
    // A browser that says no more than the page's origin.
    let foreign = ("Origin", "https://evil.example");
    let answer = visitor.post("/consent", &[foreign], Form(&[("answer", "granted")]));
    assert_eq!(answer.status, 403);
    assert!(visitor.cookies.is_empty());
    let ours = ("Sec-Fetch-Site", "same-origin");
    let answer = visitor.post("/consent", &[ours], Form(&[("answer", "granted")]));
    assert_eq!(answer.status, 303);
}
