//! The payment providers' webhooks, as they send and sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::outbox::{each_backend, rows};
use crate::shop_process::{Answer, Json, Shop};
use crate::support::reported;

pub(crate) const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw";

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn mac(parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start(provider: &str, args: &[&str]) -> Shop {
    let payment = ["--payment", provider, "--payment-secret", SECRET];
    Shop::start_as_told(&[&payment, args].concat(), &[])
}

fn deliver(shop: &Shop, provider: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers.iter().map(|(name, value)| (*name, &**value)));
    let path = format!("/webhooks/{provider}");
    shop.request("POST", &path, &all, body.as_bytes())
}

fn stripe_at(shop: &Shop, time: u64, event: &Value) -> Answer {
    let body = event.to_string();
    let time = time.to_string();
    let signature = hex(&mac(&[time.as_bytes(), b".", body.as_bytes()]));
    let header = format!("t={time},v1={signature}");
    deliver(shop, "stripe", &[("Stripe-Signature", header)], &body)
}

/// Delivers an event of Stripe's and returns what it led to.
pub(crate) fn stripe(shop: &Shop, name: &str, object: &Value) -> (Vec<String>, Value) {
    let answer = stripe_at(shop, now(), &event(name, object, true));
    assert_eq!(answer.status, 200, "{}", answer.body);
    told(&answer)
}

fn told(answer: &Answer) -> (Vec<String>, Value) {
    let json = answer.json();
    let reports = json["reports"].as_array().unwrap();
    let reports = reports.iter().map(|id| id.as_str().unwrap().to_owned());
    (reports.collect(), json["ignored"].clone())
}

fn event(name: &str, object: &Value, is_live: bool) -> Value {
    json!({ "id": format!("evt_{name}"), "object": "event", "api_version": "2025-03-31.basil",
        "created": now(), "data": { "object": object }, "livemode": is_live, "type": name })
}

fn session(order: &str, customer: &str, token: &Value) -> Value {
    json!({ "id": format!("cs_{order}"), "object": "checkout.session", "mode": "payment",
        "payment_status": "paid", "status": "complete", "amount_total": 11900,
        "amount_subtotal": 10000, "currency": "eur", "created": now(), "customer": "cus_1",
        "client_reference_id": token, "payment_intent": format!("pi_{order}"), "invoice": null,
        "total_details": { "amount_tax": 1900, "amount_shipping": 0, "amount_discount": 0 },
        "metadata": { "customer": customer, "order": order, "referral": token },
        "livemode": true })
}

pub(crate) fn invoice(id: &str, customer: &str, reason: &str) -> Value {
    json!({ "id": id, "object": "invoice", "amount_paid": 11900, "amount_due": 11900,
        "billing_reason": reason, "created": now(), "currency": "eur", "customer": "cus_1",
        "status": "paid", "subtotal": 10000, "total": 11900, "total_excluding_tax": 10000,
        "total_taxes": [{ "amount": 1900, "tax_behavior": "exclusive" }], "metadata": {},
        "lines": { "object": "list", "data": [], "has_more": false }, "livemode": true,
        "parent": { "type": "subscription_details", "quote_details": null,
            "subscription_details": { "subscription": "sub_1",
                "metadata": { "customer": customer } } } })
}

/// Lands, and starts a payment: the carry token.
fn token(shop: &Shop, key: &str) -> Value {
    let mut visitor = shop.visitor();
    visitor.get(&format!("/?aff={key}"));
    let payment = json!({"customer": "c-1", "order": "o", "amount": "1", "currency": "EUR"});
    let started = visitor.post("/checkout", &[], Json(&payment)).json();
    started["client_reference_id"].clone()
}

#[test]
fn a_one_time_payment_at_stripe_is_credited_and_refunded() {
    let mut shop = start("stripe", &[]);
    let sandbox = shop.sandbox();
    let token = token(&shop, "PARTNER_1");
    let paid = session("o-1", "c-1", &token);
    let name = "checkout.session.completed";
    assert_eq!(stripe(&shop, name, &paid).0, ["sale:o-1"]);
    let (reports, reason) = stripe(&shop, name, &paid);
    assert!(reports.is_empty() && reason.is_string(), "{reason}");
    let refund = json!({ "id": "re_1", "object": "refund", "amount": 5950, "currency": "eur",
        "charge": "ch_1", "created": now(), "payment_intent": "pi_o-1", "status": "succeeded",
        "metadata": {} });
    assert_eq!(
        stripe(&shop, "refund.created", &refund).0,
        ["refund:o-1:re_1"]
    );
    let outbox = shop.settles();
    assert_eq!(outbox["outcomes"]["recorded"], 2, "{outbox}");
    let reported = reported(&sandbox);
    assert_eq!(reported[0].1["amount"], 100, "the commission is on the net");
    assert_eq!(reported[0].1["partnership_code"], "PARTNER_1");
    assert_eq!(reported[1].1["amount"], 50);
    // The shop's own row is there, too.
    let customer = shop.get("/customers/c-1").json();
    assert_eq!(customer["orders"][0]["order"], "o-1");
    assert_eq!(customer["orders"][0]["key"], "PARTNER_1");
}

#[test]
fn a_refund_that_comes_before_its_sale_waits_for_it() {
    let mut shop = start("stripe", &[]);
    let sandbox = shop.sandbox();
    let refund = json!({ "id": "re_1", "object": "refund", "amount": 11900, "currency": "eur",
        "charge": "ch_1", "created": now(), "payment_intent": "pi_o-1", "status": "succeeded",
        "metadata": {} });
    let (reports, reason) = stripe(&shop, "refund.created", &refund);
    assert!(reports.is_empty() && reason.is_string(), "{reason}");
    let token = token(&shop, "PARTNER_1");
    let paid = session("o-1", "c-1", &token);
    let (reports, _) = stripe(&shop, "checkout.session.completed", &paid);
    assert_eq!(reports.len(), 2, "{reports:?}");
    shop.settles();
    let lines: Vec<_> = reported(&sandbox)
        .into_iter()
        .map(|(line, _)| line)
        .collect();
    assert_eq!(lines[1], "POST /v1/tracking/conversions/o-1/refund");
}

#[test]
fn every_payment_of_a_subscription_is_credited_by_the_customers_row() {
    let mut shop = start("stripe", &[]);
    let sandbox = shop.sandbox();
    // The first payment overtakes the sign-up's own request.
    let first = invoice("in_1", "c-1", "subscription_create");
    assert_eq!(stripe(&shop, "invoice.paid", &first).0, ["sale:in_1"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_1");
    visitor.post("/signup", &[], Json(&json!({"customer": "c-1"})));
    for id in ["in_2", "in_3"] {
        let renewal = invoice(id, "c-1", "subscription_cycle");
        assert_eq!(
            stripe(&shop, "invoice.paid", &renewal).0,
            [format!("sale:{id}")]
        );
        assert!(stripe(&shop, "invoice.paid", &renewal).0.is_empty());
    }
    shop.settles();
    let mut sales: Vec<_> = reported(&sandbox)
        .into_iter()
        .filter(|(_, body)| body["conversion_type"] != "lead")
        .map(|(_, body)| body["unique_id"].as_str().unwrap().to_owned())
        .collect();
    sales.sort();
    assert_eq!(sales, ["in_1", "in_2", "in_3"]);
}

#[test]
fn what_is_not_signed_or_not_recent_is_refused() {
    let shop = start("stripe", &[]);
    let paid = event(
        "checkout.session.completed",
        &session("o-1", "c-1", &Value::Null),
        true,
    );
    let body = paid.to_string();
    let time = now().to_string();
    let signature = hex(&mac(&[time.as_bytes(), b".", body.as_bytes()]));
    let changed = body.replace("11900", "11901");
    for (headers, body) in [
        (vec![], &body),
        (vec![("Stripe-Signature", String::new())], &body),
        (
            vec![(
                "Stripe-Signature",
                format!("t={time},v1={}", "0".repeat(64)),
            )],
            &body,
        ),
        (
            vec![("Stripe-Signature", format!("t=1,v1={signature}"))],
            &body,
        ),
        (
            vec![("Stripe-Signature", format!("t={time},v1={signature}"))],
            &changed,
        ),
    ] {
        let answer = deliver(&shop, "stripe", &headers, body);
        assert_eq!(answer.status, 400, "{headers:?}: {}", answer.body);
        assert!(!answer.error().contains(SECRET));
    }
    assert_eq!(stripe_at(&shop, now() - 3600, &paid).status, 400);
    let long = json!({ "x": "y".repeat(2 * 1024 * 1024) });
    assert_eq!(stripe_at(&shop, now(), &long).status, 413);
    // Nothing of it was booked, and another provider's webhook isn't there.
    assert_eq!(shop.outbox()["waiting"], 0);
    assert_eq!(deliver(&shop, "paddle", &[], &body).status, 404);
    let plain = Shop::start(&[]);
    assert_eq!(deliver(&plain, "stripe", &[], &body).status, 404);
}

#[test]
fn an_event_that_fits_nothing_is_answered_with_its_reason() {
    let shop = start("stripe", &[]);
    let paid = invoice("in_1", "c-1", "subscription_cycle");
    assert_eq!(stripe(&shop, "invoice.paid", &paid).0, ["sale:in_1"]);
    let mut changed = paid;
    changed["amount_paid"] = 23800.into();
    changed["total"] = 23800.into();
    let unknown_refund = refund("re_1", "pi_unknown", 100);
    // Found by the invoice that an older shape names.
    let mut dollars = refund("re_2", "pi_1", 100);
    dollars["invoice"] = "in_1".into();
    dollars["currency"] = "usd".into();
    let mut nobody = invoice("in_2", "c-1", "subscription_cycle");
    nobody["parent"]["subscription_details"] = json!({ "subscription": "sub_9", "metadata": {} });
    nobody["customer"] = "cus_9".into();
    let mut thin = session("o-1", "c-1", &Value::Null);
    thin["amount_total"] = Value::Null;
    let mut strange = session("o-1", "c-1", &Value::Null);
    strange["metadata"]["order"] = " o-1".into();
    for (name, object, reason) in [
        ("invoice.paid", &changed, "other_amount"),
        ("refund.created", &unknown_refund, "waits_for_sale"),
        ("refund.created", &dollars, "other_currency"),
        ("invoice.paid", &nobody, "unknown_customer"),
        ("checkout.session.completed", &thin, "incomplete"),
        ("checkout.session.completed", &strange, "invalid_id"),
        ("product.created", &thin, "other_type"),
    ] {
        let (reports, ignored) = stripe(&shop, name, object);
        assert_eq!((reports.len(), &ignored), (0, &json!(reason)), "{name}");
    }
    for deep in [
        "[".repeat(1000),
        "{\"a\":".repeat(1000),
        "[]".to_owned(),
        "1".to_owned(),
    ] {
        let time = now().to_string();
        let signature = hex(&mac(&[time.as_bytes(), b".", deep.as_bytes()]));
        let header = format!("t={time},v1={signature}");
        let answer = deliver(&shop, "stripe", &[("Stripe-Signature", header)], &deep);
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[test]
fn test_events_and_live_ones_are_told_apart() {
    for (args, takes_live) in [(&[][..], true), (&["--payment-test"], false)] {
        let shop = start("stripe", args);
        for is_live in [true, false] {
            let paid = session(&format!("o-{is_live}"), "c-1", &Value::Null);
            let paid = event("checkout.session.completed", &paid, is_live);
            let (reports, reason) = told(&stripe_at(&shop, now(), &paid));
            assert_eq!(reports.is_empty(), is_live != takes_live, "{reports:?}");
            if is_live != takes_live {
                let expected = if is_live { "live_mode" } else { "test_mode" };
                assert_eq!(reason, expected);
            }
        }
    }
}

#[test]
fn paddles_transactions_and_adjustments_are_taken() {
    let mut shop = start("paddle", &[]);
    let sandbox = shop.sandbox();
    let token = token(&shop, "PARTNER_1");
    let send = |name: &str, data: Value| {
        let body = json!({ "event_id": "evt_1", "event_type": name, "data": data,
            "occurred_at": "2026-11-26T10:00:01Z", "notification_id": "ntf_1" });
        let body = body.to_string();
        let time = now().to_string();
        let signature = hex(&mac(&[time.as_bytes(), b":", body.as_bytes()]));
        let header = ("Paddle-Signature", format!("ts={time};h1={signature}"));
        let answer = deliver(&shop, "paddle", &[header], &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        told(&answer).0
    };
    let transaction = json!({ "id": "txn_1", "status": "completed", "customer_id": "ctm_1",
        "currency_code": "EUR", "origin": "web", "subscription_id": null,
        "custom_data": { "customer": "c-1", "order": "o-1", "referral": token },
        "billed_at": "2026-11-26T10:00:00Z",
        "details": { "totals": { "subtotal": "10000", "discount": "0", "tax": "1900",
            "total": "11900", "credit": "0", "balance": "0", "grand_total": "11900",
            "fee": "50", "currency_code": "EUR" } },
        "items": [{ "price": { "id": "pri_1", "billing_cycle": null }, "quantity": 1 }] });
    assert_eq!(send("transaction.completed", transaction), ["sale:o-1"]);
    let adjustment = json!({ "id": "adj_1", "action": "refund", "status": "approved",
        "transaction_id": "txn_1", "type": "partial", "customer_id": "ctm_1",
        "currency_code": "EUR", "reason": "requested",
        "totals": { "subtotal": "5000", "tax": "950", "total": "5950", "currency_code": "EUR" } });
    assert_eq!(send("adjustment.created", adjustment), ["refund:o-1:adj_1"]);
    assert_eq!(shop.settles()["outcomes"]["recorded"], 2);
    assert_eq!(reported(&sandbox)[1].1["amount"], 50);
}

#[test]
fn polars_orders_are_taken() {
    let mut shop = start("polar", &[]);
    let sandbox = shop.sandbox();
    let token = token(&shop, "PARTNER_1");
    let body = json!({ "type": "order.paid", "timestamp": "2026-11-26T10:00:00Z", "data": {
        "id": "ord-1", "created_at": "2026-11-26T10:00:00Z", "status": "paid", "paid": true,
        "billing_reason": "purchase", "currency": "eur", "customer_id": "cus-1",
        "subtotal_amount": 10000, "discount_amount": 0, "net_amount": 10000, "tax_amount": 1900,
        "total_amount": 11900, "subscription_id": null,
        "metadata": { "order": "o-1", "referral": token },
        "customer": { "id": "cus-1", "external_id": "c-1", "email": "a@example.com",
            "metadata": {} } } });
    let body = body.to_string();
    let time = now().to_string();
    let signature = mac(&[b"msg_1.", time.as_bytes(), b".", body.as_bytes()]);
    let headers = [
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", time.clone()),
        (
            "webhook-signature",
            format!("v1,{}", BASE64_STANDARD.encode(signature)),
        ),
    ];
    let answer = deliver(&shop, "polar", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(told(&answer).0, ["sale:o-1"]);
    assert_eq!(shop.settles()["outcomes"]["recorded"], 1);
    assert_eq!(reported(&sandbox)[0].1["partnership_code"], "PARTNER_1");
}

#[test]
fn an_erased_customer_is_gone_from_what_is_stored_of_payments_too() {
    each_backend(|backend| {
        let shop = start("stripe", &["--database", &backend.url]);
        let token = token(&shop, "PARTNER_1");
        let paid = session("o-1", "c-1", &token);
        stripe(&shop, "checkout.session.completed", &paid);
        shop.settles();
        let erased = shop.request("DELETE", "/customers/c-1", &[], b"");
        assert_eq!(erased.status, 204);
        let tables = ["customers", "orders", "referral_outbox"];
        for table in tables.into_iter().chain(PAYMENT_TABLES) {
            let rows = rows(backend, table);
            assert!(!rows.is_empty(), "{table}");
            assert!(
                rows.iter().all(|row| !row.contains("PARTNER_1")),
                "{rows:?}"
            );
        }
        for table in PAYMENT_TABLES {
            let rows = rows(backend, table);
            assert!(rows.iter().all(|row| !row.contains("c-1")), "{rows:?}");
        }
        // A later refund still finds its order, and a repeated event brings nothing back.
        let again = stripe(&shop, "checkout.session.completed", &paid);
        assert!(again.0.is_empty());
        let refund = refund("re_1", "pi_o-1", 11900);
        assert_eq!(stripe(&shop, "refund.created", &refund).0.len(), 1);
        let customer = shop.get("/customers/c-1").json();
        assert_eq!(customer["orders"][0]["key"], Value::Null);
        assert_eq!(customer["key"], Value::Null);
    });
}

const PAYMENT_TABLES: [&str; 2] = ["referral_payments", "referral_payment_links"];

fn refund(id: &str, intent: &str, amount: i64) -> Value {
    json!({ "id": id, "object": "refund", "amount": amount, "currency": "eur",
        "charge": format!("ch_{intent}"), "created": now(), "payment_intent": intent,
        "status": "succeeded",
        "metadata": {} })
}

#[test]
fn two_shops_on_one_database_book_every_payment_once() {
    each_backend(|backend| {
        let args = ["--database", &*backend.url];
        let shops = [start("stripe", &args), start("stripe", &args)];
        for n in 0..5 {
            let (id, intent) = (format!("in_{n}"), format!("pi_{n}"));
            let paid_by = json!({ "id": format!("inpay_{n}"), "object": "invoice_payment",
                "invoice": id, "status": "paid",
                "payment": { "type": "payment_intent", "payment_intent": intent } });
            let events = [
                event(
                    "invoice.paid",
                    &invoice(&id, "c-1", "subscription_cycle"),
                    true,
                ),
                event(
                    "refund.created",
                    &refund(&format!("re_{n}"), &intent, 11900),
                    true,
                ),
                event("invoice_payment.paid", &paid_by, true),
            ];
            // Both get all of them at the same time, in orders of their own; what fails comes again.
            std::thread::scope(|scope| {
                for (at, shop) in shops.iter().enumerate() {
                    let mut events: Vec<&Value> = events.iter().collect();
                    events.rotate_left((at + n) % 3);
                    scope.spawn(move || {
                        for event in events {
                            while stripe_at(shop, now(), event).status != 200 {}
                        }
                    });
                }
            });
        }
        let reports = rows(backend, "referral_outbox");
        assert_eq!(reports.len(), 10, "{reports:#?}");
    });
}
