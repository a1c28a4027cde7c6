//! Tapfiliate.

use serde_json::json;

use super::{CURL, JSON, StandIn};

#[test]
fn tapfiliate_takes_the_examples_of_its_documentation() {
    let tapfiliate = StandIn::start("tapfiliate", &[("X-Api-Key", "sandbox")]);
    let click = json!({ "referral_code": "ref-value-goes-here" });
    let answer = tapfiliate.takes("/1.6/clicks/", &click);
    assert_eq!(answer.as_object().unwrap().len(), 1);
    let click_id = &answer["id"];
    let conversion = json!({ "click_id": click_id, "external_id": "ORDER001", "amount": 10 });
    let answer = tapfiliate.takes("/1.6/conversions/", &conversion);
    assert!(answer["id"].is_u64() && answer["commissions"].is_array());
    assert_eq!(tapfiliate.refuses("/1.6/conversions/", &conversion), 422);

    let customer = json!({ "customer_id": "USER123", "click_id": click_id });
    let answer = tapfiliate.takes("/1.6/customers/", &customer);
    assert_eq!(answer["customer_id"], "USER123");
    let renewal = json!({ "external_id": "O2", "amount": 99.0, "currency": "EUR",
        "customer_id": "USER123", "meta_data": { "plan": "pro" } });
    let path = "/1.6/conversions/?override_max_cookie_time=true";
    let id = tapfiliate.takes(path, &renewal)["id"].clone();

    let found = tapfiliate.call("GET", "/1.6/conversions/?external_id=O2", "");
    assert_eq!(found.json()[0]["id"], id);
    let path = format!("/1.6/conversions/{id}/?recalculate_commissions=true");
    let part = tapfiliate.call("PATCH", &path, r#"{"amount": 50}"#);
    assert_eq!(part.json()["amount"], 50);
    let path = format!("/1.6/conversions/{id}/");
    assert_eq!(tapfiliate.call("DELETE", &path, "").status, 204);
    assert_eq!(tapfiliate.call("DELETE", &path, "").status, 404);
}

#[test]
fn tapfiliate_refuses_what_its_documentation_does_not_show() {
    let tapfiliate = StandIn::start("tapfiliate", &[("X-Api-Key", "sandbox")]);
    let sale = json!({ "external_id": "O1", "amount": 9.5, "referral_code": "P" });
    for path in ["/1.6/conversions", "/1.6/clicks", "/1.6/customers"] {
        assert_eq!(
            tapfiliate.refuses(path, &sale),
            404,
            "a slash ends every path"
        );
    }
    let path = "/1.6/conversions/";
    tapfiliate.requires_headers(path, &sale, &["X-Api-Key", "Content-Type"]);
    tapfiliate.requires(path, &sale, &["referral_code"]);
    tapfiliate.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!("9.5")),
            ("click_id", json!("no-such-click")),
            ("coupon", json!("SUMMER")),
            ("external_id", json!(7)),
            ("order", json!("O1")),
        ],
    );
    let bad_click = json!({ "external_id": "O1", "amount": 1, "click_id": "expired" });
    assert_eq!(tapfiliate.refuses(path, &bad_click), 400);
    let nobody = json!({ "external_id": "O1", "amount": 1, "customer_id": "nobody" });
    assert_eq!(tapfiliate.refuses(path, &nobody), 400);
    let answer = tapfiliate
        .sandbox
        .post(path, &[CURL, JSON], &sale.to_string());
    assert!(answer.body.starts_with("<!DOCTYPE html>"));
}
