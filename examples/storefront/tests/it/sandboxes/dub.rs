//! Dub.

use serde_json::{Value, json};

use super::{BEARER, StandIn};

#[test]
fn dub_takes_leads_and_sales_and_lets_commissions_be_changed() {
    let dub = StandIn::start("dub", &[BEARER]);
    let lead = json!({ "clickId": "cm3w8x2", "eventName": "Sign up", "customerExternalId": "u1",
        "customerName": "Jo", "customerEmail": "jo@example.com", "mode": "wait" });
    let answer = dub.takes("/track/lead", &lead);
    assert_eq!(answer["click"]["id"], "cm3w8x2");
    assert!(answer["link"]["id"].is_string());
    assert_eq!(answer["customer"]["externalId"], "u1");
    assert_eq!(
        dub.takes("/track/lead", &lead)["link"],
        Value::Null,
        "it came before"
    );
    let known = json!({ "clickId": "", "eventName": "Trial", "customerExternalId": "u1" });
    dub.takes("/track/lead", &known);

    let sale = json!({ "customerExternalId": "u1", "amount": 4990, "currency": "eur",
        "paymentProcessor": "stripe", "invoiceId": "in_1", "eventName": "Invoice paid",
        "metadata": {} });
    let first = dub.takes("/track/sale", &sale);
    assert_eq!(first["sale"]["amount"], 4990);
    assert_eq!(dub.takes("/track/sale", &sale), first);
    let nobody = json!({ "customerExternalId": "u2", "amount": 100, "invoiceId": "in_2" });
    let answer = dub.takes("/track/sale", &nobody);
    assert_eq!(
        (&answer["customer"], &answer["sale"]),
        (&Value::Null, &Value::Null)
    );

    let commissions = dub.call("GET", "/commissions?invoiceId=in_1", "").json();
    assert_eq!(commissions.as_array().unwrap().len(), 1);
    let path = format!("/commissions/{}", commissions[0]["id"].as_str().unwrap());
    assert_eq!(
        dub.call("PATCH", &path, r#"{"saleAmount": 990}"#).json()["amount"],
        990
    );
    let refunded = dub.call("PATCH", &path, r#"{"status": "refunded"}"#);
    assert_eq!(refunded.json()["status"], "refunded");

    let paid = json!({ "customerExternalId": "u1", "amount": 1, "invoiceId": "PAID_1" });
    dub.takes("/track/sale", &paid);
    let commissions = dub.call("GET", "/commissions?invoiceId=PAID_1", "").json();
    let path = format!("/commissions/{}", commissions[0]["id"].as_str().unwrap());
    assert_eq!(
        dub.call("PATCH", &path, r#"{"status": "refunded"}"#).status,
        400
    );
}

#[test]
fn dub_refuses_what_its_documentation_does_not_show() {
    let dub = StandIn::start("dub", &[BEARER]);
    let path = "/track/lead";
    let lead = json!({ "clickId": "c1", "eventName": "Sign up", "customerExternalId": "u1" });
    dub.requires(path, &lead, &["clickId", "eventName", "customerExternalId"]);
    dub.requires_headers(path, &lead, &["Authorization", "Content-Type"]);
    let long = "x".repeat(101);
    dub.refuses_values(
        path,
        &lead,
        &[
            ("customerExternalId", json!(long)),
            ("customerExternalId", json!("")),
            ("mode", json!("sync")),
            ("customer_email", json!("jo@example.com")),
            ("metadata", json!({ "a": "x".repeat(10_001) })),
        ],
    );
    let unknown = json!({ "clickId": "UNKNOWN", "eventName": "e", "customerExternalId": "u1" });
    assert_eq!(dub.refuses(path, &unknown), 404);
    let empty = json!({ "clickId": "", "eventName": "e", "customerExternalId": "u1" });
    assert_eq!(dub.refuses(path, &empty), 400);

    let path = "/track/sale";
    let sale = json!({ "customerExternalId": "u1", "amount": 100 });
    dub.requires(path, &sale, &["customerExternalId", "amount"]);
    dub.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!(49.9)),
            ("amount", json!("4990")),
            ("currency", json!("euro")),
            ("paymentProcessor", json!("cash")),
            ("clickId", json!("UNKNOWN")),
        ],
    );
    let answer = dub.post(path, &json!({ "amount": 1 }).to_string()).json();
    assert_eq!(answer["error"]["code"], "unprocessable_entity");
    assert!(answer["error"]["doc_url"].is_string());
}
