//! Tolt.

use serde_json::json;

use super::{BEARER, StandIn};

#[test]
fn tolt_takes_a_click_a_customer_and_a_payment() {
    let tolt = StandIn::start("tolt", &[BEARER]);
    let click = json!({ "param": "ref", "value": "sam", "page": "https://acme.com/pricing",
        "referrer": "https://twitter.com" });
    let click = tolt.takes("/v2/clicks", &click)["data"].clone();
    let customer = json!({ "email": "Jane@example.com", "customer_id": "u1",
        "partner_id": click["partner_id"], "click_id": click["id"] });
    let made = tolt.takes("/v2/customers", &customer)["data"].clone();
    assert!(made["id"].as_str().unwrap().starts_with("cus_"));
    assert_eq!(made["email"], "jane@example.com");
    assert_eq!(tolt.refuses("/v2/customers", &customer), 409);
    let charge = json!({ "customer_id": made["id"], "amount": 4900, "charge_id": "ch_3Qf8x2aBcD",
        "billing_type": "subscription", "interval": "month", "source": "api" });
    let payment = tolt.takes("/v2/transactions", &charge);
    assert_eq!(
        payment["data"]["amount"], "4900",
        "money comes back as a text"
    );
    let again = tolt.post("/v2/transactions", &charge.to_string());
    assert_eq!(
        (again.status, &again.json()["code"]),
        (409, &json!("already_exists"))
    );
    let id = payment["data"]["id"].as_str().unwrap();
    let refunded = tolt.call("PUT", &format!("/v1/transactions/{id}/refund"), "");
    assert_eq!(refunded.json()["data"][0]["status"], "refunded");
}

#[test]
fn tolt_refuses_what_its_documentation_does_not_show() {
    let tolt = StandIn::start("tolt", &[BEARER]);
    let click = json!({ "param": "ref", "value": "sam" });
    tolt.requires("/v2/clicks", &click, &["param", "value"]);
    tolt.requires_headers("/v2/clicks", &click, &["Authorization", "Content-Type"]);
    tolt.refuses_values("/v2/clicks", &click, &[("value", json!("UNKNOWN"))]);
    tolt.refuses("/v2/clicks", &json!({}));
    let customer = json!({ "email": "a@example.com", "partner_id": "part_sam" });
    tolt.requires("/v2/customers", &customer, &["email", "partner_id"]);
    tolt.refuses_values("/v2/customers", &customer, &[("click_id", json!("clk_9"))]);
    let id = tolt.takes("/v2/customers", &customer)["data"]["id"].clone();
    let charge = json!({ "customer_id": id, "amount": 100 });
    tolt.requires("/v2/transactions", &charge, &["customer_id", "amount"]);
    tolt.refuses_values(
        "/v2/transactions",
        &charge,
        &[
            ("customer_id", json!("a@example.com")),
            ("amount", json!(49.9)),
            ("billing_type", json!("once")),
            ("currency", json!("usd")),
        ],
    );
    let answer = tolt.post("/v2/transactions", "{}").json();
    assert_eq!(
        (&answer["success"], &answer["code"]),
        (&json!(false), &json!("validation_error"))
    );
}
