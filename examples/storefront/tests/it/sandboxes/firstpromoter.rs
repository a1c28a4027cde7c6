//! FirstPromoter.

use serde_json::json;

use super::{BEARER, StandIn};

#[test]
fn firstpromoter_takes_the_examples_of_its_documentation() {
    let account = ("Account-ID", "sandbox");
    let promoter = StandIn::start("firstpromoter", &[BEARER, account]);
    let base = "/api/v2/track";
    let sign_up = json!({ "email": "a@example.com", "uid": "u1", "ref_id": "P1",
        "ip": "192.0.2.1", "created_at": "2026-11-01T00:00:00Z", "skip_email_notification": true });
    let answer = promoter.takes(&format!("{base}/signup"), &sign_up);
    assert_eq!(
        (&answer["etype"], &answer["referral"]["uid"]),
        (&json!("signup"), &json!("u1"))
    );
    assert_eq!(promoter.refuses(&format!("{base}/signup"), &sign_up), 422);
    let sale = json!({ "uid": "u1", "event_id": "e1", "amount": 4900, "quantity": 1, "plan": "pro",
        "currency": "usd", "promo_code": "SUMMER", "tid": "t1", "ref_id": "P1",
        "skip_email_notification": true });
    let answer = promoter.takes(&format!("{base}/sale"), &sale);
    assert_eq!(answer["sale_amount"], 4900);
    assert_eq!(promoter.refuses(&format!("{base}/sale"), &sale), 409);
    let nobody = json!({ "uid": "u2", "event_id": "e2", "amount": 100 });
    let answer = promoter.post(&format!("{base}/sale"), &nobody.to_string());
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (404, &json!("not_found"))
    );

    let refund = json!({ "uid": "u1", "event_id": "r1", "amount": 900, "sale_event_id": "e1" });
    promoter.takes(&format!("{base}/refund"), &refund);
    assert_eq!(promoter.refuses(&format!("{base}/refund"), &refund), 409);
    let unknown = json!({ "uid": "u1", "event_id": "r2", "amount": 1, "sale_event_id": "e9" });
    assert_eq!(
        promoter
            .post(&format!("{base}/refund"), &unknown.to_string())
            .status,
        204
    );
    promoter.takes(
        &format!("{base}/cancellation"),
        &json!({ "email": "a@example.com" }),
    );
}

#[test]
fn firstpromoter_refuses_what_its_documentation_does_not_show() {
    let account = ("Account-ID", "sandbox");
    let promoter = StandIn::start("firstpromoter", &[BEARER, account]);
    let path = "/api/v2/track/signup";
    let sign_up = json!({ "uid": "u1", "tid": "t1" });
    promoter.requires(path, &sign_up, &["uid", "tid"]);
    let headers = ["Authorization", "Account-ID", "Content-Type"];
    promoter.requires_headers(path, &sign_up, &headers);
    let values = [("name", json!("Jo")), ("tid", json!("UNKNOWN"))];
    promoter.refuses_values(path, &sign_up, &values);
    promoter.takes(path, &sign_up);
    let path = "/api/v2/track/sale";
    let sale = json!({ "uid": "u1", "event_id": "e1", "amount": 100 });
    promoter.requires(path, &sale, &["uid", "event_id", "amount"]);
    let values = [("amount", json!(1.5)), ("amount", json!("100"))];
    promoter.refuses_values(path, &sale, &values);
}
