//! Paddle Billing: payments, adjustments and their states, in every order.

use serde_json::{Value, json};
use tower_referral_platforms::payment::{Event, Reason};

use crate::paddle_events::{adjustment, event, transaction};
use crate::support::{paddle_event, play, same_in_any_order};

fn completed(data: Value) -> Event {
    paddle_event(&event(
        "transaction.completed",
        "2026-11-26T10:00:01Z",
        data,
    ))
}

fn adjusted(data: Value) -> Event {
    paddle_event(&event("adjustment.updated", "2026-11-27T10:00:01Z", data))
}

#[test]
fn a_payment_is_reported_by_order_or_by_transaction() {
    let one_time = completed(transaction("txn_1", 10_000, 1_900, "web"));
    let renewal = completed(transaction(
        "txn_2",
        10_000,
        1_900,
        "subscription_recurring",
    ));
    let mut first = transaction("txn_3", 10_000, 1_900, "web");
    first["items"][0]["price"]["billing_cycle"] = json!({ "interval": "month", "frequency": 1 });
    let (reports, _) = play(&[one_time, renewal, completed(first)]);
    assert_eq!(
        reports,
        [
            "sale:O1 100.00 EUR by C1 for P1",
            "sale:txn_2 100.00 EUR by C1 for P1",
            "sale:txn_3 100.00 EUR by C1 for P1"
        ]
    );
}

#[test]
fn what_a_credit_paid_is_no_payment() {
    let mut credit = transaction("txn_1", 10_000, 2_000, "web");
    credit["details"]["totals"]["grand_total"] = "6000".into();
    let (reports, _) = play(&[completed(credit.clone())]);
    assert_eq!(reports, ["sale:O1 50.00 EUR by C1 for P1"]);
    credit["details"]["totals"]["grand_total"] = "0".into();
    assert_eq!(completed(credit), Event::Ignored(Reason::NothingPaid));
    let mut yen = transaction("txn_1", 5_000, 500, "web");
    yen["currency_code"] = "JPY".into();
    let (reports, _) = play(&[completed(yen)]);
    assert_eq!(reports, ["sale:O1 5000 JPY by C1 for P1"]);
}

#[test]
fn a_trial_says_whose_the_subscription_is() {
    let trial = completed(transaction("txn_1", 0, 0, "subscription_charge"));
    let mut paid = transaction("txn_2", 10_000, 1_900, "subscription_recurring");
    paid["custom_data"]["referral"] = "expired".into();
    let events = [trial.clone(), completed(paid.clone())];
    let owed = |order: &str| (order.to_owned(), (1_000_000, 0, Some("P1".to_owned())));
    assert_eq!(same_in_any_order(&events).0, [owed("txn_2")].into());
    // Also of whom, where no later payment says it.
    paid["custom_data"] = json!({});
    let (reports, _) = play(&[trial, completed(paid)]);
    assert_eq!(reports, ["sale:txn_2 100.00 EUR by C1 for P1"]);
}

#[test]
fn a_refund_counts_once_approved_and_not_when_reversed() {
    let sale = completed(transaction("txn_1", 10_000, 1_900, "web"));
    let refund = |status| adjusted(adjustment("adj_1", "txn_1", "refund", status, 2_521, 479));
    let pending = refund("pending_approval");
    assert_eq!(pending, Event::Ignored(Reason::NotApproved));
    let events = [sale.clone(), refund("approved")];
    let sums = same_in_any_order(&events);
    assert_eq!(sums.0["O1"].1, 252_100);
    for status in ["rejected", "reversed"] {
        let events = [sale.clone(), refund("approved"), refund(status)];
        assert_eq!(same_in_any_order(&events).0["O1"].1, 0);
        let (reports, _) = play(&events);
        assert_eq!(
            reports[1..],
            [
                "refund:O1:adj_1 25.21 EUR",
                "refund_reversal:O1:adj_1 25.21 EUR"
            ]
        );
    }
    // Tax alone takes no commission back.
    let tax = adjusted(adjustment("adj_2", "txn_1", "refund", "approved", 0, 1_900));
    let (reports, reason) = play(&[sale, tax]);
    assert_eq!((reports.len(), reason), (1, Some(Reason::NoChange)));
}

#[test]
fn a_chargeback_takes_back_and_its_reverse_gives_back() {
    let sale = completed(transaction("txn_1", 10_000, 1_900, "web"));
    let adjust =
        |id, action, net, tax| adjusted(adjustment(id, "txn_1", action, "approved", net, tax));
    let back = adjust("adj_1", "chargeback", 10_000, 1_900);
    let reverse = adjust("adj_2", "chargeback_reverse", 10_000, 1_900);
    let events = [sale.clone(), back.clone(), reverse.clone()];
    assert_eq!(same_in_any_order(&events).0["O1"].1, 0);
    let (reports, _) = play(&events);
    assert_eq!(
        reports[1..],
        [
            "refund:O1:adj_1%3Adispute all",
            "refund_reversal:O1:adj_2%3Aopposite 100.00 EUR"
        ]
    );
    let again = adjust("adj_3", "chargeback", 10_000, 1_900);
    let refund = adjust("adj_4", "refund", 2_000, 380);
    let events = [sale, back, reverse, again, refund];
    assert_eq!(same_in_any_order(&events).0["O1"].1, 1_000_000);
    // Given back twice, by its own status and by its opposite: that hides no later one.
    let [sale, back, reverse, again, _] = events;
    let reversed = adjusted(adjustment(
        "adj_1",
        "txn_1",
        "chargeback",
        "reversed",
        10_000,
        1_900,
    ));
    let events = [sale, back, reverse, reversed];
    assert_eq!(same_in_any_order(&events).0["O1"].1, 0);
    let events = [&events[..], &[again]].concat();
    assert_eq!(same_in_any_order(&events).0["O1"].1, 1_000_000);
    for action in [
        "chargeback_warning",
        "chargeback_warning_reverse",
        "credit",
        "credit_reverse",
    ] {
        let warning = adjust("adj_5", action, 10_000, 1_900);
        assert_eq!(warning, Event::Ignored(Reason::NoMoneyMoves));
    }
}

#[test]
fn other_events_are_named() {
    let data = transaction("txn_1", 10_000, 1_900, "web");
    let paid = paddle_event(&event(
        "transaction.paid",
        "2026-11-26T10:00:01Z",
        data.clone(),
    ));
    assert_eq!(paid, Event::Ignored(Reason::ReportedElsewhere));
    let other = paddle_event(&event("subscription.created", "2026-11-26T10:00:01Z", data));
    assert_eq!(other, Event::Ignored(Reason::OtherType));
    let empty = paddle_event(&event("transaction.completed", "", json!({})));
    assert_eq!(empty, Event::Ignored(Reason::Incomplete));
}
