//! Sign-ups, checkout, payments and refunds, and who is credited.

use serde_json::{Value, json};

use crate::shop_process::{Form, Json, Shop};
use crate::support::{ACCEPT_HTML, ACCEPT_JSON, pay, payment, reported};

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
    visitor.get("/?aff=PARTNER_123");
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
}

#[test]
fn an_unusually_long_key_takes_a_longer_token_which_fits_a_payments_metadata() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let key = "k".repeat(128);
    visitor.get(&format!("/?aff={key}"));
    let mut webhook = payment("order-1", "5");
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    let token = started["client_reference_id"].as_str().unwrap();
    assert!((201..=500).contains(&token.len()), "{}", token.len());
    webhook["client_reference_id"] = token.into();
    let report = shop
        .visitor()
        .post("/webhooks/payment", &[], Json(&webhook))
        .report();
    assert_eq!(report.0, "recorded");
    assert!(report.1.contains(&key));
}

/// CASES.md R28.
#[test]
fn nobody_claims_the_payment_of_an_order_by_its_id() {
    for key in ["EVIL", &"e".repeat(124)] {
        let shop = Shop::start(&[]);
        let mut thief = shop.visitor();
        thief.get(&format!("/?aff={key}"));
        // Before and after the victim's own checkout.
        thief.post("/checkout", &[], Json(&payment("order-1", "5")));
        let started = shop
            .visitor()
            .post("/checkout", &[], Json(&payment("order-1", "5")));
        assert_eq!(started.json(), json!({"order": "order-1"}));
        thief.post("/checkout", &[], Json(&payment("order-1", "5")));
        let webhook = payment("order-1", "5");
        let paid = shop
            .visitor()
            .post("/webhooks/payment", &[], Json(&webhook));
        assert_eq!(paid.report().0, "not_attributed");
        let customer = shop.get("/customers/cus_1").json();
        assert_eq!(customer["orders"][0]["key"], Value::Null);
    }
}

/// CASES.md R11.
#[test]
fn credit_that_comes_later_is_not_too_late() {
    let shop = Shop::start_as_told(&[], &[]);
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_1");
    let started = visitor.post("/checkout", &[], Json(&payment("order-1", "5")));
    let mut webhook = payment("order-1", "5");
    let deliver = |webhook: &Value| {
        let answer = shop.visitor().post("/webhooks/payment", &[], Json(webhook));
        answer.report().0
    };
    assert_eq!(deliver(&webhook), "not_attributed");
    assert_eq!(shop.settles()["outcomes"]["not_attributed"], 1);
    webhook["client_reference_id"] = started.json()["client_reference_id"].clone();
    assert_eq!(deliver(&webhook), "queued");
    assert_eq!(shop.settles()["outcomes"]["recorded"], 1);
    assert_eq!(deliver(&webhook), "duplicate");
    assert_eq!(shop.settles()["outcomes"]["recorded"], 1);
}

#[test]
fn a_payment_without_a_token_is_credited_by_its_customers_row() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_1");
    visitor.post("/signup", &[], Json(&json!({"customer": "cus_1"})));
    let renewal = shop
        .visitor()
        .post("/webhooks/payment", &[], Json(&payment("invoice-7", "5")))
        .report();
    assert_eq!(renewal.0, "recorded");
    assert!(renewal.1.contains("PARTNER_1"), "{}", renewal.1);

    // A guest's first payment says it for all later ones.
    let mut guest = payment("order-2", "5");
    guest["customer"] = "guest".into();
    let started = visitor.post("/checkout", &[], Json(&guest)).json();
    guest["client_reference_id"] = started["client_reference_id"].clone();
    visitor.post("/webhooks/payment", &[], Json(&guest));
    let mut again = payment("order-3", "5");
    again["customer"] = "guest".into();
    let paid = shop.visitor().post("/webhooks/payment", &[], Json(&again));
    assert_eq!(paid.report().0, "recorded");
}

#[test]
fn an_application_without_cookies_sends_its_key() {
    let shop = Shop::start(&[]);
    let sign_up = json!({"customer": "cus_1", "aff": "APP_1"});
    let report = shop.visitor().post("/signup", &[], Json(&sign_up)).report();
    assert_eq!(report.0, "recorded");
    assert_eq!(shop.get("/customers/cus_1").json()["key"], "APP_1");

    // What the layer kept counts for more than what anybody can send.
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_1");
    let sign_up = json!({"customer": "cus_2", "aff": "APP_1"});
    visitor.post("/signup", &[], Json(&sign_up));
    assert_eq!(shop.get("/customers/cus_2").json()["key"], "PARTNER_1");

    let bad = json!({"customer": "cus_3", "aff": "not a key"});
    let answer = shop.visitor().post("/signup", &[], Json(&bad));
    assert_eq!(answer.status, 422);
    let error = answer.error();
    assert!(error.contains("`aff`") && !error.contains("not a key"));

    let shop = Shop::start(&["--consent", "cookie"]);
    let sign_up = json!({"customer": "cus_1", "aff": "APP_1"});
    let report = shop.visitor().post("/signup", &[], Json(&sign_up)).report();
    assert_eq!(report.0, "not_attributed", "the visitor hasn't agreed");
}

#[test]
fn a_customers_row_is_shown_and_erased() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_1");
    let ada = json!({"customer": "cus/1", "email": "ada@example.com", "name": "Ada"});
    visitor.post("/signup", &[], Json(&ada));
    let path = "/customers/cus%2F1";
    let row = shop.get(path).json();
    assert_eq!(row["customer"], "cus/1");
    assert_eq!(row["email"], "ada@example.com");
    assert_eq!(row["name"], "Ada");
    assert_eq!(row["key"], "PARTNER_1");
    assert_eq!(shop.request("DELETE", path, &[], b"").status, 204);
    let row = shop.get(path).json();
    for field in ["email", "name", "key", "click_id"] {
        assert_eq!(row[field], Value::Null, "{field}");
    }
    // Whoever is erased isn't signed up again by a repeated request.
    let again = visitor.post("/signup", &[], Json(&ada));
    assert_eq!(again.report().0, "duplicate");
    assert_eq!(shop.get(path).json()["email"], Value::Null);
    assert_eq!(shop.get("/customers/nobody").status, 404);
}

#[test]
fn refunds_are_booked_once_and_never_beyond_the_sale() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_123");
    pay(&mut visitor, "order-1", "100");
    let mut refund = |body: Value| visitor.post("/refund", &[], Json(&body));

    let unknown = refund(json!({"order": "order-9", "amount": "1"}));
    assert_eq!(unknown.report().0, "queued");

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
    let rest = json!({"order": "order-1"});
    assert_eq!(refund(rest.clone()).report().0, "recorded");
    assert_eq!(refund(rest).report().0, "duplicate");
    let nothing = refund(json!({"order": "order-1", "refund": "re_3"}));
    assert_eq!(nothing.report().0, "duplicate", "nothing is left");
}

/// CASES.md R12.
#[test]
fn a_refund_waits_for_its_sale() {
    for (refunds, expected) in [
        (&[json!({"order": "order-1"})][..], &["all"][..]),
        (
            &[
                json!({"order": "order-1", "amount": "30", "refund": "re_1"}),
                json!({"order": "order-1", "refund": "re_2"}),
            ],
            &["30", "70"],
        ),
        (&[json!({"order": "order-1", "amount": "100"})], &["all"]),
        (&[json!({"order": "order-1", "amount": "900"})], &["all"]),
    ] {
        let mut shop = Shop::start_as_told(&[], &[]);
        let sandbox = shop.sandbox();
        let mut visitor = shop.browser();
        visitor.get("/?aff=PARTNER_1");
        for refund in refunds {
            for _ in 0..2 {
                let answer = visitor.post("/refund", &[], Json(refund));
                assert_eq!(answer.report().0, "queued");
            }
        }
        assert_eq!(shop.outbox()["waiting"], refunds.len());
        pay(&mut visitor, "order-1", "100");
        shop.settles();
        let reported = reported(&sandbox);
        assert_eq!(reported[0].0, "POST /v1/tracking/conversions");
        let amounts = reported[1..].iter().map(|(line, body)| {
            assert_eq!(line, "POST /v1/tracking/conversions/order-1/refund");
            body["amount"]
                .as_f64()
                .map_or("all".into(), |amount| amount.to_string())
        });
        assert_eq!(amounts.collect::<Vec<String>>(), expected);
    }
}

#[test]
fn a_refund_beyond_its_sale_stays_so_when_it_is_announced_again() {
    let mut shop = Shop::start_as_told(&[], &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_1");
    let whole = json!({"order": "order-1", "amount": "100", "refund": "re_1"});
    let beyond = json!({"order": "order-1", "amount": "30", "refund": "re_2"});
    for refund in [&whole, &beyond] {
        visitor.post("/refund", &[], Json(refund));
    }
    pay(&mut visitor, "order-1", "100");
    let again = visitor.post("/refund", &[], Json(&beyond));
    assert_eq!(again.report().0, "duplicate");
    shop.settles();
    assert_eq!(shop.outbox()["waiting"], 0);
    assert_eq!(reported(&sandbox).len(), 2, "a sale and one refund");
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
