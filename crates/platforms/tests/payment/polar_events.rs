//! Polar's events as Polar sends them.

use serde_json::{Value, json};
use tower_referral_platforms::payment::Event;

use crate::common::polar_event;

pub(crate) fn event(name: &str, data: Value) -> Event {
    polar_event(&json!({ "type": name, "timestamp": "2026-11-26T10:00:00.123456Z", "data": data }))
}

pub(crate) fn order(id: &str, reason: &str, net: i64, tax: i64, is_old: bool) -> Value {
    let mut order = json!({
        "id": id, "created_at": "2026-11-26T10:00:00Z", "status": "paid", "billing_reason": reason,
        "currency": "eur", "customer_id": "cus-1", "tax_amount": tax,
        "subscription_id": if reason == "purchase" { Value::Null } else { "sub-1".into() },
        "metadata": { "order": "O1", "referral": "token-P1" },
        "customer": { "id": "cus-1", "external_id": "C1", "email": "ann@example.com", "metadata": {} },
    });
    if is_old {
        order["amount"] = net.into();
    } else {
        order["paid"] = true.into();
        order["subtotal_amount"] = net.into();
        order["discount_amount"] = 0.into();
        order["net_amount"] = net.into();
        order["total_amount"] = (net + tax).into();
    }
    order
}

pub(crate) fn refund(id: &str, of: &str, net: i64, tax: i64, status: &str) -> Value {
    json!({
        "id": id, "created_at": "2026-11-27T10:00:00Z", "status": status, "order_id": of,
        "reason": "customer_request", "amount": net, "tax_amount": tax, "currency": "eur",
        "customer_id": "cus-1", "subscription_id": null, "revoke_benefits": false, "metadata": {},
    })
}
