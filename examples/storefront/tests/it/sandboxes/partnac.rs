//! Partnac.

use serde_json::json;

use super::{BEARER, StandIn};

#[test]
fn partnac_takes_the_example_of_its_documentation() {
    let partnac = StandIn::start("partnac", &[BEARER]);
    let click = json!({
        "partnership_code": "PARTNER_REF_123",
        "click_url": "https://shop.example/?aff=PARTNER_REF_123",
        "referrer_url": "https://blog.example/", "screen_width": 1280, "ip_address": "192.168.1.1"
    });
    let click_id = partnac.takes("/v1/tracking/clicks", &click)["data"]["click_id"].clone();
    let conversion = r#"{
        "partnership_code": "PARTNER_REF_123",
        "unique_id": "order_10045",
        "conversion_type": "sale",
        "amount": 99.00,
        "metadata": {
            "currency": "USD",
            "customer_id": "cus_987654",
            "ip_address": "192.168.1.1",
            "user_agent": "Mozilla/5.0..."
        }
    }"#;
    let path = "/v1/tracking/conversions";
    assert_eq!(partnac.post(path, conversion).status, 201);
    assert_eq!(partnac.post(path, conversion).status, 409);
    let with_session = json!({
        "partnership_code": "PARTNER_REF_123", "unique_id": "order_2", "conversion_type": "lead",
        "amount": 0, "session_id": click_id, "campaign_id": "c1"
    });
    partnac.takes(path, &with_session);
    let update = r#"{"amount": 120.5, "unique_id": "order_10045", "metadata": {"a": "b"},
        "recalculate_commissions": true}"#;
    let updated = partnac.call("PATCH", "/v1/tracking/conversions/order_10045", update);
    assert_eq!(
        updated.json()["data"]["metadata"]["customer_id"],
        "cus_987654"
    );
    assert_eq!(updated.json()["data"]["metadata"]["a"], "b");
    let refund = json!({ "amount": 20.5, "reason": "fraud", "external_refund_id": "re_1",
        "reverse_paid_earnings": false });
    let path = "/v1/tracking/conversions/order_10045/refund";
    // Nothing says that it is recognised when it comes again.
    partnac.takes(path, &refund);
    partnac.takes(path, &refund);
    partnac.takes(path, &json!({}));
    partnac.refuses(path, &json!({}));
    let list = partnac.call("GET", "/v1/tracking/conversions?limit=1&offset=1", "");
    assert_eq!(list.json()["data"][0]["unique_id"], "order_2");
}

#[test]
fn partnac_refuses_what_its_documentation_does_not_show() {
    let partnac = StandIn::start("partnac", &[BEARER]);
    let path = "/v1/tracking/conversions";
    let sale = json!({ "partnership_code": "P", "unique_id": "o", "conversion_type": "sale",
        "amount": 1.5 });
    let required = ["partnership_code", "unique_id", "conversion_type", "amount"];
    partnac.requires(path, &sale, &required);
    partnac.requires_headers(path, &sale, &["Authorization", "Content-Type"]);
    partnac.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!("1.5")),
            ("conversion_type", json!("signup")),
            ("session_id", json!("clk_999999")),
            ("partnership_code", json!("UNKNOWN_1")),
            ("currency", json!("EUR")),
            ("metadata", json!({ "currency": "euro" })),
            ("metadata", json!({ "customer_id": 7 })),
        ],
    );
    let click = json!({ "partnership_code": "P", "click_url": "https://shop.example/" });
    let path = "/v1/tracking/clicks";
    partnac.requires(path, &click, &["partnership_code", "click_url"]);
    partnac.refuses_values(
        path,
        &click,
        &[
            ("screen_width", json!("1280")),
            ("user_agent", json!("Mozilla")),
        ],
    );
}
