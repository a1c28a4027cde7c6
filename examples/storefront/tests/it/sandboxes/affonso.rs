//! Affonso.

use serde_json::json;

use super::{BEARER, StandIn};

#[test]
fn affonso_takes_the_examples_of_its_documentation() {
    let affonso = StandIn::start("affonso", &[BEARER]);
    let click = json!({ "programId": "sandbox", "trackingId": "PARTNER123",
        "referrer": "https://blog.example/", "userAgent": "Mozilla/5.0", "sub1": "a" });
    let answer = affonso.takes("/v1/clicks", &click);
    assert_eq!(answer["success"], true);
    let click_id = &answer["data"]["id"];
    let sign_up = json!({ "click_id": click_id, "email": "jane@example.com",
        "external_user_id": "user_42", "name": "Jane Doe" });
    assert_eq!(
        affonso.post("/v1/signups", &sign_up.to_string()).status,
        201
    );
    assert_eq!(
        affonso.post("/v1/signups", &sign_up.to_string()).status,
        200
    );
    let conversion = r#"{
        "customer_id": "cust_123",
        "click_id": "ref_clk_000001",
        "sale_amount": 99.00,
        "sale_amount_currency": "USD",
        "external_event_id": "inv_2026_000145",
        "sales_status": "complete",
        "is_subscription": true,
        "interval": "monthly",
        "price_ids": ["price_monthly_usd"]
    }"#;
    let first = affonso.post("/v1/conversions", conversion);
    assert_eq!(first.status, 201, "{}", first.body);
    let again = affonso.post("/v1/conversions", conversion);
    assert_eq!(again.json()["data"]["id"], first.json()["data"]["id"]);
    let renewal = json!({ "external_user_id": "user_42", "sale_amount": 99,
        "sale_amount_currency": "USD", "external_event_id": "inv_2" });
    affonso.takes("/v1/conversions", &renewal);

    let path = format!(
        "/v1/conversions/{}/refund",
        first.json()["data"]["id"].as_str().unwrap()
    );
    let refund = r#"{"amount": 49.50, "currency": "USD", "reason": "customer_cancellation",
        "external_event_id": "refund_evt_123"}"#;
    for _ in 0..2 {
        let refunded = affonso.post(&path, refund);
        assert_eq!(refunded.json()["data"]["sale_amount"], 49.5);
        assert_eq!(refunded.json()["data"]["sales_status"], "partial_refunded");
    }
    affonso.refuses(&path, &json!({ "amount": 60, "external_event_id": "r2" }));
}

#[test]
fn affonso_refuses_what_its_documentation_does_not_show() {
    let affonso = StandIn::start("affonso", &[BEARER]);
    let click = json!({ "programId": "sandbox", "trackingId": "P1" });
    affonso.requires("/v1/clicks", &click, &["programId", "trackingId"]);
    affonso.requires_headers("/v1/clicks", &click, &["Authorization", "Content-Type"]);
    affonso.refuses_values(
        "/v1/clicks",
        &click,
        &[
            ("programId", json!("another")),
            ("trackingId", json!("UNKNOWN")),
            ("tracking_id", json!("P1")),
            ("user_agent", json!("Mozilla")),
        ],
    );
    let id = affonso.takes("/v1/clicks", &click)["data"]["id"].clone();
    let sign_up = json!({ "click_id": id, "email": "a@example.com" });
    affonso.requires("/v1/signups", &sign_up, &["click_id", "email"]);
    let values = [
        ("click_id", json!("no-such")),
        ("externalUserId", json!("u1")),
    ];
    affonso.refuses_values("/v1/signups", &sign_up, &values);
    let sale = json!({ "click_id": id, "sale_amount": 9.9, "sale_amount_currency": "EUR",
        "external_event_id": "e1" });
    let required = [
        "click_id",
        "sale_amount",
        "sale_amount_currency",
        "external_event_id",
    ];
    affonso.requires("/v1/conversions", &sale, &required);
    affonso.refuses_values(
        "/v1/conversions",
        &sale,
        &[
            ("click_id", json!("no-such")),
            ("sale_amount", json!("9.9")),
            ("sale_amount", json!(0)),
            ("interval", json!("month")),
        ],
    );
    let refused = affonso.post("/v1/conversions", "{}").json();
    assert_eq!(refused["success"], false);
}
