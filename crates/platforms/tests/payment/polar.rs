//! Polar: orders and refunds, in the shape with `amount` and in the one with totals.

use serde_json::json;
use tower_referral_platforms::payment::{Event, Reason};

use crate::polar_events::{event, order, refund};
use crate::support::{play, same_in_any_order};

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
fn the_customers_balance_is_no_payment_and_a_trial_says_whose_the_subscription_is() {
    let mut balance = order("ord-1", "purchase", 10_000, 2_000, false);
    balance["applied_balance_amount"] = (-6_000).into();
    let (reports, _) = play(&[event("order.paid", balance)]);
    assert_eq!(reports, ["sale:O1 50.00 EUR by C1 for P1"]);
    // A debt that was paid along is no part of this order, and takes nothing from it.
    let mut debt = order("ord-1", "purchase", 10_000, 2_000, false);
    debt["applied_balance_amount"] = 3_000.into();
    let debt = event("order.paid", debt);
    let amounts = |event: &Event| match event {
        Event::Payment(payment) => (payment.gross.to_string(), payment.net.to_string()),
        event => panic!("{event:?}"),
    };
    let expected = ("120.00 EUR".to_owned(), "100.00 EUR".to_owned());
    assert_eq!(amounts(&debt), expected);
    let refund = event(
        "refund.created",
        refund("ref-1", "ord-1", 10_000, 2_000, "succeeded"),
    );
    assert_eq!(play(&[debt, refund]).0[1], "refund:O1:ref-1 all");
    let trial = event(
        "order.paid",
        order("ord-1", "subscription_create", 0, 0, false),
    );
    let mut paid = order("ord-2", "subscription_cycle", 10_000, 1_900, false);
    paid["metadata"]["referral"] = "expired".into();
    let paid = event("order.paid", paid);
    assert_eq!(play(std::slice::from_ref(&trial)).0, [""; 0]);
    let sums = same_in_any_order(&[trial, paid]);
    assert_eq!(sums.0["ord-2"], (1_000_000, 0, Some("P1".to_owned())));
    let free = event("order.paid", order("ord-3", "purchase", 0, 0, false));
    assert_eq!(free, Event::Ignored(Reason::NothingPaid));
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
