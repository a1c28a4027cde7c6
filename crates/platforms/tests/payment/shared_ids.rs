//! Refunds, disputes and totals that have one ID: each kind is numbered by itself.

use tower_referral_platforms::Money;
use tower_referral_platforms::payment::{
    Event, Link, MoneyBack, Payment, PaymentKind, PaymentLink, Reason,
};

use crate::support::{JsonBooks, credit, enter, lines, play, same_in_any_order};

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
    let event = of_order("a1", "p1", "SECRET-C");
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &event);
    assert!(books.text().contains("SECRET-C"));
    books.erase("SECRET-C");
    let _ = enter(&mut books, &event);
    assert_secret(&books);
}

/// A one-time payment that brings a credit.
fn of_order(order: &str, id: &str, customer: &str) -> Event {
    let link = Link::new("shop", "payment", id);
    let payment = Payment::new(order, link, eur(300), eur(200)).expect("an ID");
    let payment = payment.with_customer(customer).expect("an ID");
    payment.with_credit(credit("SECRET-KEY")).into()
}

fn payer() -> Link {
    Link::new("shop", "customer", "cus_1")
}

fn subscription(id: &str) -> Link {
    Link::new("shop", "subscription", id)
}

/// A payment of a subscription by the payer, with all that the shop put into it.
fn of_subscription(id: &str, of: &str, customer: Option<&str>) -> Event {
    let link = Link::new("shop", "payment", id);
    let payment = Payment::new(id, link, eur(300), eur(200)).expect("an ID");
    let payment = payment
        .with_kind(PaymentKind::Renewal)
        .with_subscription(subscription(of))
        .with_payer(payer())
        .with_credit(credit("SECRET-KEY"));
    Event::from(match customer {
        Some(customer) => payment.with_customer(customer).expect("an ID"),
        None => payment,
    })
}

fn whose_payer(customer: &str) -> PaymentLink {
    let link = PaymentLink::of_customer(customer).expect("an ID");
    link.with_payer(payer()).with_credit(credit("SECRET-KEY"))
}

#[track_caller]
fn assert_secret(books: &JsonBooks) {
    assert!(!books.text().contains("SECRET"), "{}", books.text());
}

#[test]
fn an_erased_customer_of_a_second_payment_comes_back_by_no_repetition() {
    let first = of_order("O1", "1", "OTHER");
    let second = of_order("O1", "2", "SECRET-C");
    for events in [[&first, &second], [&second, &first]] {
        let mut books = JsonBooks::default();
        for event in events {
            let _ = enter(&mut books, event);
        }
        books.erase("SECRET-C");
        assert!(!books.text().contains("SECRET-C"), "{}", books.text());
        for event in events {
            let booked = enter(&mut books, event);
            assert_eq!(booked.reports, []);
        }
        // The other's payment is there as it was.
        assert!(!books.text().contains("SECRET-C"), "{}", books.text());
        assert!(books.text().contains("OTHER"), "{}", books.text());
        books.erase("OTHER");
        assert_secret(&books);
    }
}

#[test]
fn a_second_payment_of_an_erased_order_is_of_nobody() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &of_order("O1", "1", "SECRET-C"));
    books.erase("SECRET-C");
    let booked = enter(&mut books, &of_order("O1", "2", "SECRET-C"));
    assert_eq!(
        (booked.reports, booked.reason),
        (vec![], Some(Reason::OrderPaidBefore))
    );
    assert_secret(&books);
    // Whoever pays it beside is no less known for that.
    let payment = Payment::new("O1", Link::new("shop", "payment", "3"), eur(300), eur(200));
    let payment = payment.expect("an ID").with_payer(payer());
    let _ = enter(&mut books, &payment.into());
    let _ = enter(&mut books, &whose_payer("D").into());
    let booked = enter(&mut books, &of_subscription("in_1", "s1", None));
    assert_eq!(
        lines(&booked.reports),
        ["sale:in_1 2.00 EUR by D for SECRET-KEY"]
    );
}

#[test]
fn no_event_of_an_erased_customers_subscription_brings_the_customer_back() {
    let first = of_subscription("in_1", "s1", Some("SECRET-C"));
    let session = |payer: Link| {
        let link = PaymentLink::of_customer("SECRET-C").expect("an ID");
        let link = link.with_subscription(subscription("s1")).with_payer(payer);
        Event::from(link.with_credit(credit("SECRET-KEY")))
    };
    let mut books = JsonBooks::default();
    for event in [&session(payer()), &first] {
        let _ = enter(&mut books, event);
    }
    books.erase("SECRET-C");
    assert_secret(&books);
    let again = [
        first,
        session(payer()),
        // With an account that is news.
        session(Link::new("shop", "customer", "cus_2")),
        whose_payer("SECRET-C").into(),
    ];
    for event in &again {
        assert_eq!(enter(&mut books, event).reports, []);
        assert_secret(&books);
    }
    for customer in [Some("SECRET-C"), None] {
        let renewal = of_subscription("in_2", "s1", customer);
        let booked = enter(&mut books, &renewal);
        assert_eq!(
            (booked.reports, booked.reason),
            (vec![], Some(Reason::Erased))
        );
        assert_secret(&books);
    }
}

#[test]
fn a_payment_that_turns_out_to_be_an_erased_customers_is_erased_too() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &of_order("O1", "1", "SECRET-C"));
    books.erase("SECRET-C");
    let _ = enter(&mut books, &of_order("O2", "2", "SECRET-C"));
    let links = ["1", "2"].map(|id| Link::new("shop", "payment", id));
    let booked = enter(&mut books, &PaymentLink::of_payment(links).into());
    assert_eq!(lines(&booked.reports), ["refund:O2:%3Aduplicate all"]);
    assert_secret(&books);
}

#[test]
fn accounts_without_a_payment_or_without_a_name_are_erased() {
    let mut books = JsonBooks::default();
    let link = whose_payer("SECRET-C").with_subscription(subscription("s1"));
    let _ = enter(&mut books, &link.into());
    books.erase("SECRET-C");
    assert_secret(&books);
    // The subscription has the credit, and only its payment says whose it is.
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &of_subscription("in_1", "s1", None));
    books.erase("cus_1");
    assert_secret(&books);
    let booked = enter(&mut books, &of_subscription("in_2", "s1", None));
    assert_eq!(booked.reason, Some(Reason::Erased));
    assert_secret(&books);
}

#[test]
fn an_erased_customer_who_buys_again_is_new() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &whose_payer("C").into());
    let _ = enter(&mut books, &of_subscription("in_1", "s1", Some("C")));
    books.erase("C");
    assert_secret(&books);
    let sign_up = PaymentLink::of_customer("C").expect("an ID");
    let _ = enter(&mut books, &sign_up.with_credit(credit("NEW")).into());
    let booked = enter(&mut books, &of_subscription("in_2", "s2", Some("C")));
    assert_eq!(lines(&booked.reports), ["sale:in_2 2.00 EUR by C for NEW"]);
    let booked = enter(&mut books, &of_order("O2", "2", "C"));
    assert_eq!(
        lines(&booked.reports),
        ["sale:O2 2.00 EUR by C for SECRET-KEY"]
    );
    // What was before stays erased.
    let booked = enter(&mut books, &of_subscription("in_3", "s1", Some("C")));
    assert_eq!(
        (booked.reports, booked.reason),
        (vec![], Some(Reason::Erased))
    );
}

#[test]
fn an_account_of_another_customer_outlives_an_erasure() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &whose_payer("D").into());
    // Paid by D's account, for C.
    let _ = enter(&mut books, &of_subscription("in_1", "s1", Some("C")));
    books.erase("C");
    let payment = of_subscription("in_2", "s2", None);
    let booked = enter(&mut books, &payment);
    assert_eq!(
        lines(&booked.reports),
        ["sale:in_2 2.00 EUR by D for SECRET-KEY"]
    );
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
