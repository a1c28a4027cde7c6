//! Refunds, disputes and totals that have one ID: each kind is numbered by itself.

use tower_referral_platforms::Money;
use tower_referral_platforms::payment::{Event, Link, MoneyBack, Payment};

use crate::support::{JsonBooks, enter, play, same_in_any_order};

fn eur(amount: i64) -> Money {
    Money::from_minor(amount, "EUR").expect("an amount")
}

fn link() -> Link {
    Link::new("shop", "payment", "p1")
}

fn paid() -> Event {
    let payment = Payment::new("a1", link(), eur(300), eur(200)).expect("an ID");
    payment.with_customer("C").expect("an ID").into()
}

fn back(id: &str, amount: i64) -> MoneyBack {
    MoneyBack::new(id, link(), eur(amount)).expect("an ID")
}

#[test]
fn a_refund_and_a_dispute_of_one_id_are_two() {
    let events = [
        paid(),
        Event::Refunded(back("a1", 100)),
        Event::Disputed(back("a1", 150)),
    ];
    let expected = &same_in_any_order(&events).0["a1"];
    assert_eq!((expected.0, expected.1), (20_000, 16_700));
    let (reports, _) = play(&events);
    assert_eq!(
        reports[1..],
        ["refund:a1:a1 0.67 EUR", "refund:a1:a1%3Adispute 1.00 EUR"]
    );
    // Each comes to its own end.
    let won = [&events[..], &[Event::DisputeWon(back("a1", 150))]].concat();
    assert_eq!(same_in_any_order(&won).0["a1"].1, 6_700);
    let failed = Event::RefundFailed(back("a1", 100).with_stage(9));
    let failed = [&events[..], &[failed]].concat();
    let (reports, _) = play(&failed);
    assert_eq!(reports[3..], ["refund_reversal:a1:a1 0.67 EUR"]);
}

#[test]
fn a_dispute_and_its_opposite_of_one_id_are_two() {
    let opposite = back("a1", 300).into_opposite();
    let events = [
        paid(),
        Event::Disputed(back("a1", 300)),
        Event::DisputeWon(opposite),
    ];
    assert_eq!(same_in_any_order(&events).0["a1"].1, 0);
}

#[test]
fn a_total_that_comes_to_the_same_amount_again_is_reported_again() {
    let total = |at: i64, amount| {
        let at = time::OffsetDateTime::from_unix_timestamp(at).expect("a moment");
        Event::Refunded(back("a1", amount).with_time(at).into_total())
    };
    let refund = |at: i64| {
        let at = time::OffsetDateTime::from_unix_timestamp(at).expect("a moment");
        back("a1", 300).with_time(at)
    };
    let (reports, _) = play(&[
        paid(),
        total(10, 300),
        Event::Refunded(refund(10)),
        Event::RefundFailed(refund(15)),
        total(20, 300),
    ]);
    assert_eq!(
        reports[1..],
        [
            "refund:a1:a1%3Atotal all",
            "refund_reversal:a1:a1 2.00 EUR",
            "refund:a1:a1%3Atotal%3A2 all"
        ]
    );
}

#[test]
fn no_id_of_a_provider_is_like_one_that_is_derived() {
    let mut events = vec![paid()];
    events.extend(
        ["a1", "a1:dispute", "a1:2", "a1:total", ":duplicate"]
            .map(|id| Event::Refunded(back(id, 20))),
    );
    events.extend(["a1", "a1:2"].map(|id| Event::Disputed(back(id, 20))));
    events.push(Event::Refunded(back("a1", 120).into_total()));
    let mut books = JsonBooks::default();
    let reports = events
        .iter()
        .flat_map(|event| enter(&mut books, event).reports);
    let mut ids: Vec<String> = reports.map(|report| report.id()).collect();
    assert_eq!(ids.len(), 9);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 9, "{ids:?}");
}

#[test]
fn an_amount_that_changes_later_is_made_up_for_under_the_same_refund() {
    let events = [
        paid(),
        Event::Refunded(back("re_1", 300).with_stage(1)),
        Event::Refunded(back("re_1", 150).with_stage(2)),
    ];
    assert_eq!(same_in_any_order(&events).0["a1"].1, 10_000);
    let (reports, _) = play(&events);
    assert_eq!(
        reports[1..],
        ["refund:a1:re_1 all", "refund_reversal:a1:re_1 1.00 EUR"]
    );
}

#[test]
fn an_amount_in_another_currency_is_taken_out_again() {
    let usd = Money::from_minor(150, "USD").expect("an amount");
    let other = MoneyBack::new("re_1", link(), usd).expect("an ID");
    let (reports, _) = play(&[
        paid(),
        Event::Refunded(back("re_1", 150).with_stage(1)),
        Event::Refunded(other.with_stage(2)),
    ]);
    assert_eq!(
        reports[1..],
        [
            "refund:a1:re_1 1.00 EUR",
            "refund_reversal:a1:re_1 1.00 EUR"
        ]
    );
}

#[test]
fn an_erased_customer_comes_back_by_no_repetition() {
    let credit = crate::support::credit("SECRET-KEY");
    let payment = Payment::new("a1", link(), eur(300), eur(200)).expect("an ID");
    let payment = payment.with_customer("SECRET-C").expect("an ID");
    let event = Event::from(payment.with_credit(credit));
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &event);
    assert!(books.text().contains("SECRET-C"));
    books.erase("SECRET-C");
    let _ = enter(&mut books, &event);
    assert!(!books.text().contains("SECRET"), "{}", books.text());
}

#[test]
fn a_guest_who_is_known_later_is_erased_by_either_name() {
    let json = |customer: Option<&str>| {
        let payment = Payment::new("a1", link(), eur(300), eur(200)).expect("an ID");
        let payer = Link::new("shop", "customer", "cus_1");
        let payment = payment.with_payer(payer);
        Event::from(match customer {
            Some(customer) => payment.with_customer(customer).expect("an ID"),
            None => payment,
        })
    };
    for name in ["C1", "cus_1"] {
        let mut books = JsonBooks::default();
        let _ = enter(&mut books, &json(None));
        let _ = enter(&mut books, &json(Some("C1")));
        let record = books.records().next().expect("a payment");
        assert_eq!(record.customers().collect::<Vec<_>>(), ["C1", "cus_1"]);
        books.erase(name);
        let record = books.records().next().expect("a payment");
        assert_eq!(record.customers().count(), 0);
    }
}
