//! Paddle Billing's events as Paddle sends them.

use serde_json::{Value, json};

pub(crate) fn event(name: &str, at: &str, data: Value) -> Value {
    json!({
        "event_id": "evt_01", "event_type": name, "occurred_at": at,
        "notification_id": "ntf_01", "data": data,
    })
}

/// Amounts are texts of minor units.
pub(crate) fn transaction(id: &str, subtotal: i64, tax: i64, origin: &str) -> Value {
    let total = subtotal + tax;
    json!({
        "id": id, "status": "completed", "customer_id": "ctm_1", "currency_code": "EUR",
        "origin": origin,
        "subscription_id": if origin == "web" { Value::Null } else { "sub_1".into() },
        "custom_data": { "customer": "C1", "order": "O1", "referral": "token-P1" },
        "billed_at": "2026-11-26T10:00:00.5Z",
        "details": { "totals": {
            "subtotal": subtotal.to_string(), "discount": "0", "tax": tax.to_string(),
            "total": total.to_string(), "credit": "0", "balance": "0",
            "grand_total": total.to_string(), "fee": "50", "currency_code": "EUR",
        } },
        "items": [{ "price": { "id": "pri_1", "billing_cycle": null }, "quantity": 1 }],
    })
}

pub(crate) fn adjustment(
    id: &str,
    of: &str,
    action: &str,
    status: &str,
    subtotal: i64,
    tax: i64,
) -> Value {
    json!({
        "id": id, "action": action, "status": status, "transaction_id": of, "type": "partial",
        "customer_id": "ctm_1", "currency_code": "EUR", "reason": "requested",
        "totals": {
            "subtotal": subtotal.to_string(), "tax": tax.to_string(),
            "total": (subtotal + tax).to_string(), "currency_code": "EUR",
        },
    })
}
