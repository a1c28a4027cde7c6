//! Polar: orders and refunds, in the shape with `amount` and in the one with totals.

use serde_json::{Value, json};
use tower_referral_platforms::payment::{Event, Reason};

use crate::support::{play, polar_event, same_in_any_order};

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

#[test]
fn an_order_is_a_payment_in_both_shapes() {
    for is_old in [true, false] {
        let (reports, _) = play(&[
            event(
                "order.paid",
                order("ord-1", "purchase", 10_000, 1_900, is_old),
            ),
            event(
                "order.paid",
                order("ord-2", "subscription_create", 10_000, 1_900, is_old),
            ),
            event(
                "order.paid",
                order("ord-3", "subscription_cycle", 10_000, 1_900, is_old),
            ),
        ]);
        assert_eq!(
            reports,
            [
                "sale:O1 100.00 EUR by C1 for P1",
                "sale:ord-2 100.00 EUR by C1 for P1",
                "sale:ord-3 100.00 EUR by C1 for P1"
            ]
        );
    }
}

#[test]
fn the_customers_balance_is_no_payment_and_a_trial_is_nothing() {
    let mut balance = order("ord-1", "purchase", 10_000, 2_000, false);
    balance["applied_balance_amount"] = (-6_000).into();
    let (reports, _) = play(&[event("order.paid", balance)]);
    assert_eq!(reports, ["sale:O1 50.00 EUR by C1 for P1"]);
    let trial = event(
        "order.paid",
        order("ord-1", "subscription_create", 0, 0, false),
    );
    assert_eq!(trial, Event::Ignored(Reason::NothingPaid));
}

#[test]
fn a_refund_counts_once_it_succeeded_and_the_cumulative_event_never() {
    for is_old in [true, false] {
        let sale = event(
            "order.paid",
            order("ord-1", "purchase", 10_000, 1_900, is_old),
        );
        let back = |status| {
            event(
                "refund.updated",
                refund("ref-1", "ord-1", 2_521, 479, status),
            )
        };
        assert_eq!(back("pending"), Event::Ignored(Reason::NotApproved));
        let mut refunded = order("ord-1", "purchase", 10_000, 1_900, is_old);
        refunded["refunded_amount"] = 2_521.into();
        let cumulative = event("order.refunded", refunded);
        assert_eq!(cumulative, Event::Ignored(Reason::ReportedElsewhere));
        let events = [sale.clone(), back("succeeded"), cumulative, back("pending")];
        assert_eq!(same_in_any_order(&events).0["O1"].1, 252_100);
        let events = [sale, back("succeeded"), back("failed")];
        assert_eq!(same_in_any_order(&events).0["O1"].1, 0);
        let rest = event(
            "refund.created",
            refund("ref-2", "ord-1", 7_479, 1_421, "succeeded"),
        );
        let events = [&events[..2], &[rest]].concat();
        assert_eq!(same_in_any_order(&events).0["O1"].1, 1_000_000);
    }
}

#[test]
fn other_events_are_named() {
    let data = order("ord-1", "purchase", 10_000, 1_900, false);
    for (name, reason) in [
        ("order.created", Reason::ReportedElsewhere),
        ("checkout.updated", Reason::OtherType),
        ("subscription.active", Reason::OtherType),
    ] {
        assert_eq!(event(name, data.clone()), Event::Ignored(reason));
    }
    assert_eq!(
        event("order.paid", json!({})),
        Event::Ignored(Reason::Incomplete)
    );
}
