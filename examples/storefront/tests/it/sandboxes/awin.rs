//! Awin.

use serde_json::{Value, json};

use super::StandIn;

#[test]
fn awin_takes_batches_of_orders_ten_seconds_apart() {
    let awin = StandIn::start("awin", &[("x-api-key", "sandbox")]);
    let path = "/s2s/advertiser/sandbox/orders";
    let order = json!({ "orderReference": "#1100011", "amount": 111, "channel": "aw",
        "currency": "GBP", "voucher": "10_OFF", "isTest": false, "awc": "1001_1_abc",
        "commissionGroups": [{ "code": "DEFAULT", "amount": 111 }] });
    let batch = |order: &Value| json!({ "orders": [order] });
    for field in ["orderReference", "amount", "channel"] {
        let mut without = order.clone();
        without.as_object_mut().unwrap().remove(field);
        awin.refuses(path, &batch(&without));
    }
    for (field, value) in [
        ("amount", json!("111")),
        ("awc", json!("UNKNOWN")),
        ("isTest", json!("false")),
        ("order", json!("1")),
        ("publisherId", json!(7)),
    ] {
        let mut with = order.clone();
        with[field] = value;
        awin.refuses(path, &batch(&with));
    }
    let nobody = json!({ "orderReference": "1", "amount": 1, "channel": "aw" });
    awin.refuses(path, &batch(&nobody));
    awin.refuses(path, &json!({ "orders": [] }));
    awin.refuses("/s2s/advertiser/7/orders", &batch(&order));
    awin.requires_headers(path, &batch(&order), &["x-api-key", "Content-Type"]);
    awin.takes(path, &batch(&order));
    let answer = awin.post(path, &batch(&order).to_string());
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait));
}
