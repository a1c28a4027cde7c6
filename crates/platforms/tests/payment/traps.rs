//! The fifteen traps between Stripe's webhooks and an affiliate platform, each in the old and the new
//! shape, repeated, and in every order.

use serde_json::{Value, json};
use tower_referral_platforms::Money;
use tower_referral_platforms::payment::{
    Event, Link, MemoryBooks, MoneyBack, Payment, PaymentLink, Reason, book,
};

use crate::stripe_events::{SHAPES, Shape, session, subscription_session};
use crate::support::{
    JsonBooks, NOW, Sums, clock, credit, enter, lines, now, permute, play, same_in_any_order,
    stripe, stripe_event,
};

fn ignored(json: &Value) -> Reason {
    match stripe_event(json) {
        Event::Ignored(reason) => reason,
        event => panic!("{event:?}"),
    }
}

/// One order with this net, of which that went back, in ten-thousandths.
fn one(order: &str, net: i128, back: i128, key: Option<&str>) -> Sums {
    let key = key.map(str::to_owned);
    Sums([(order.to_owned(), (net, back, key))].into())
}

fn signed_up(key: &str) -> Event {
    let link = PaymentLink::of_customer("C1").expect("an ID");
    link.with_credit(credit(key)).into()
}

fn invoice(shape: Shape, id: &str) -> Event {
    stripe_event(&shape.event("invoice.paid", shape.invoice(id, 11_900, 10_000)))
}

fn refund(shape: Shape, id: &str, of: &str, amount: i64, status: &str) -> Event {
    let name = if status == "failed" {
        "refund.failed"
    } else {
        "refund.created"
    };
    stripe_event(&shape.event(name, shape.refund(id, of, amount, status)))
}

fn with_link(shape: Shape, of: &str, mut events: Vec<Event>) -> Vec<Event> {
    events.extend(shape.invoice_payment(of).map(|json| stripe_event(&json)));
    events
}

#[test]
fn trap_1_a_first_payment_is_one_report_keyed_by_the_invoice() {
    for shape in SHAPES {
        let mut first = shape.invoice("in_1", 11_900, 10_000);
        first["billing_reason"] = "subscription_create".into();
        let events = with_link(
            shape,
            "in_1",
            vec![
                stripe_event(&shape.event(
                    "checkout.session.completed",
                    subscription_session("cs_1", "in_1"),
                )),
                stripe_event(&shape.event("invoice.paid", first.clone())),
                stripe_event(&shape.event("invoice.payment_succeeded", first)),
            ],
        );
        let (reports, _) = play(&events);
        assert_eq!(reports, ["sale:in_1 100.00 EUR by C1 for P1"]);
        assert_eq!(
            same_in_any_order(&events),
            one("in_1", 1_000_000, 0, Some("P1"))
        );
    }
    let mut setup = session("cs_2", 0, 0);
    setup["mode"] = "setup".into();
    let setup = Shape::New.event("checkout.session.completed", setup);
    assert_eq!(ignored(&setup), Reason::NoMoneyMoves);
}

#[test]
fn trap_2_the_subscription_is_found_in_old_and_new_shapes() {
    for shape in SHAPES {
        let (reports, _) = play(&[signed_up("P1"), invoice(shape, "in_2")]);
        assert_eq!(reports, ["sale:in_2 100.00 EUR by C1 for P1"]);
    }
    // Before `subscription_details` the metadata was only in the lines.
    let mut oldest = Shape::Old.invoice("in_3", 11_900, 10_000);
    oldest["subscription_details"] = Value::Null;
    let oldest = Shape::Old.event("invoice.paid", oldest);
    let (reports, _) = play(&[signed_up("P1"), stripe_event(&oldest)]);
    assert_eq!(reports, ["sale:in_3 100.00 EUR by C1 for P1"]);
    // An object in the place of its ID.
    let mut expanded = Shape::Old.invoice("in_4", 11_900, 10_000);
    expanded["subscription"] = json!({ "id": "sub_1", "items": { "data": [{ "id": "si_1" }] } });
    expanded["payment_intent"] = json!({ "id": "pi_in_4", "charges": { "data": [] } });
    let expanded = stripe_event(&Shape::Old.event("invoice.paid", expanded));
    let refund = refund(Shape::New, "re_1", "in_4", 11_900, "succeeded");
    let (reports, _) = play(&[expanded, refund]);
    assert_eq!(
        reports,
        [
            "sale:in_4 100.00 EUR by C1 for nobody",
            "refund:in_4:re_1 all"
        ]
    );
}

#[test]
fn trap_3_a_refund_finds_its_invoice_by_the_payment_intent() {
    for shape in SHAPES {
        let events = with_link(
            shape,
            "in_1",
            vec![
                signed_up("P1"),
                invoice(shape, "in_1"),
                refund(shape, "re_1", "in_1", 3_000, "succeeded"),
            ],
        );
        let sums = same_in_any_order(&events);
        assert_eq!(sums, one("in_1", 1_000_000, 252_100, Some("P1")));
    }
    // `invoice.payments`, where an endpoint gets it expanded.
    let mut expanded = Shape::New.invoice("in_1", 11_900, 10_000);
    expanded["payments"] = json!({ "object": "list", "data": [{
        "id": "inpay_1",
        "payment": { "type": "payment_intent", "payment_intent": "pi_in_1" },
    }] });
    let expanded = stripe_event(&Shape::New.event("invoice.paid", expanded));
    let refund = refund(Shape::New, "re_1", "in_1", 3_000, "succeeded");
    same_in_any_order(&[expanded.clone(), refund.clone()]);
    let (reports, _) = play(&[refund.clone(), expanded]);
    assert_eq!(reports[1], "refund:in_1:re_1 25.21 EUR");
    // Until both links are known the refund waits, and says so.
    let (reports, reason) = play(&[invoice(Shape::New, "in_1"), refund]);
    assert_eq!(reports.len(), 1);
    assert_eq!(reason, Some(Reason::WaitsForSale));
}

#[test]
fn trap_3_a_session_is_found_by_its_payment_intent() {
    for shape in SHAPES {
        let events = [
            stripe_event(
                &shape.event("checkout.session.completed", session("cs_1", 11_900, 1_900)),
            ),
            refund(shape, "re_1", "cs_1", 11_900, "succeeded"),
        ];
        let sums = same_in_any_order(&events);
        assert_eq!(sums, one("O1", 1_000_000, 1_000_000, Some("P1")));
    }
}

#[test]
fn trap_4_refunds_and_the_cumulative_total_are_never_both_reported() {
    for shape in SHAPES {
        let total = |at, amount| {
            let charge = shape.charge("in_1", 11_900, amount);
            stripe_event(&shape.event_at("charge.refunded", at, charge))
        };
        let refunds = [
            refund(shape, "re_1", "in_1", 3_000, "succeeded"),
            refund(shape, "re_2", "in_1", 2_000, "succeeded"),
        ];
        let totals = [total(10, 3_000), total(20, 5_000)];
        let base = with_link(shape, "in_1", vec![invoice(shape, "in_1")]);
        let both = [&base[..], &refunds, &totals].concat();
        let expected = one("in_1", 1_000_000, 420_200, None);
        assert_eq!(same_in_any_order(&both), expected);
        // One kind of event alone, where only that is switched on.
        let objects = [&base[..], &refunds].concat();
        assert_eq!(same_in_any_order(&objects), expected);
        let (reports, _) = play(&[&base[..], &totals].concat());
        assert_eq!(
            reports[1..],
            [
                "refund:in_1:ch_in_1%3Atotal 25.21 EUR",
                "refund:in_1:ch_in_1%3Atotal%3A2 16.81 EUR"
            ]
        );
        // The same event again, and an older total after a newer one.
        let late = [&base[..], &totals, &totals].concat();
        assert_eq!(play(&late).0.len(), 3);
    }
}

#[test]
fn trap_4_an_invoice_that_two_charges_paid_has_two_totals() {
    let charge = |of: &str, amount, at| {
        let charge = Shape::New.charge(of, 5_950, amount);
        stripe_event(&Shape::New.event_at("charge.refunded", at, charge))
    };
    let second = json!({
        "id": "inpay_2", "object": "invoice_payment", "invoice": "in_1", "status": "paid",
        "payment": { "payment_intent": "pi_b", "type": "payment_intent" },
    });
    let second = stripe_event(&Shape::New.event("invoice_payment.paid", second));
    let mut events = with_link(Shape::New, "in_1", vec![invoice(Shape::New, "in_1")]);
    events.extend([second, charge("in_1", 3_000, 10), charge("b", 2_000, 20)]);
    let expected = one("in_1", 1_000_000, 420_200, None);
    assert_eq!(same_in_any_order(&events), expected);
}

#[test]
fn trap_4_a_payment_intent_that_paid_two_invoices_takes_neither_sale_back() {
    let paid = |invoice: &str| {
        let mut json = Shape::New.invoice_payment(invoice).expect("since basil");
        json["data"]["object"]["payment"]["payment_intent"] = "pi_in_1".into();
        stripe_event(&json)
    };
    let [one_paid, two_paid] = ["in_1", "in_2"].map(paid);
    let [one_sale, two_sale] = ["in_1", "in_2"].map(|id| invoice(Shape::New, id));
    let refund = refund(Shape::New, "re_1", "in_1", 3_000, "succeeded");
    let events = [signed_up("P1"), one_sale, two_sale, one_paid, two_paid];
    let expected = ["in_1", "in_2"].map(|id| one(id, 1_000_000, 0, Some("P1")));
    let sums = same_in_any_order(&events);
    assert_eq!(sums.0, expected.into_iter().flat_map(|it| it.0).collect());
    let [_, one_sale, two_sale, one_paid, two_paid] = events;
    // Whichever event shows it, that one and each refund go to a person.
    for events in [
        [&one_sale, &two_sale, &one_paid, &two_paid],
        [&one_sale, &one_paid, &two_paid, &two_sale],
        [&one_paid, &one_sale, &two_paid, &two_sale],
        [&two_paid, &one_paid, &two_sale, &one_sale],
    ] {
        let mut books = JsonBooks::default();
        let booked = events.map(|event| enter(&mut books, event));
        let reasons = booked.iter().filter_map(|booked| booked.reason);
        assert!(reasons.clone().any(|it| it == Reason::SharedPayment));
        for _ in 0..2 {
            let booked = enter(&mut books, &refund);
            assert_eq!(
                (booked.reports, booked.reason),
                (vec![], Some(Reason::SharedPayment))
            );
        }
    }
    assert!(Reason::SharedPayment.needs_attention());
}

/// A manual invoice in the old shape, which names what paid it.
fn old_invoice(id: &str, order: &str, intent: &str, charge: &str) -> Event {
    let own = json!({ "customer": "C1", "order": order });
    let mut invoice = Shape::Old.manual_invoice(id, 11_900, 10_000, own);
    invoice["payment_intent"] = intent.into();
    invoice["charge"] = charge.into();
    stripe_event(&Shape::Old.event("invoice.paid", invoice))
}

#[test]
fn trap_4_old_invoices_of_one_charge_are_two_sales_of_their_own_orders() {
    let manual = |id: &str, order: &str| old_invoice(id, order, "pi_in_1", "ch_in_1");
    let events = [manual("in_1", "O1"), manual("in_2", "O2")];
    let expected = ["O1", "O2"].map(|id| one(id, 1_000_000, 0, None));
    let sums = same_in_any_order(&events);
    assert_eq!(sums.0, expected.into_iter().flat_map(|it| it.0).collect());
    // A refund that names its invoice is that one's.
    let mut named = Shape::Old.refund("re_1", "in_1", 3_000, "succeeded");
    named["invoice"] = "in_2".into();
    let named = stripe_event(&Shape::Old.event("refund.created", named));
    let (reports, _) = play(&[&events[..], &[named]].concat());
    assert_eq!(reports[2..], ["refund:O2:re_1 25.21 EUR"]);
    // One order is one sale, also here.
    let (reports, reason) = play(&[manual("in_1", "O1"), manual("in_2", "O1")]);
    assert_eq!((reports.len(), reason), (1, Some(Reason::SharedPayment)));
}

#[test]
fn trap_4_a_refund_whose_own_ids_are_of_one_invoice_is_that_ones() {
    let manual = |id: &str, intent: &str| old_invoice(id, id, intent, "ch_of_both");
    let mut refund = Shape::Old.refund("re_1", "in_1", 11_900, "succeeded");
    refund["charge"] = Value::Null;
    refund["payment_intent"] = "pi_in_1".into();
    let refund = stripe_event(&Shape::Old.event("refund.created", refund));
    let events = [manual("in_1", "pi_in_1"), manual("in_2", "pi_in_2"), refund];
    let sums = same_in_any_order(&events).0;
    assert_eq!(sums["in_1"].1, 1_000_000);
    assert_eq!(sums["in_2"].1, 0);
}

/// A session, the invoice of its payment intent, another invoice of its charge, and a refund.
#[test]
fn trap_4_what_was_kept_apart_stays_so_when_it_comes_again() {
    let links = |names: &[(&str, &str)]| -> Vec<Link> {
        let links = names.iter();
        links
            .map(|(kind, id)| Link::new("stripe", kind, id))
            .collect()
    };
    let eur = |amount| Money::from_minor(amount, "EUR").expect("an amount");
    let paid = |order: &str, names: &[(&str, &str)]| {
        let mut links = links(names).into_iter();
        let first = links.next().expect("a link");
        let payment = Payment::new(order, first, eur(300), eur(200)).expect("an ID");
        let payment = payment.with_customer("C").expect("an ID");
        Event::from(links.fold(payment, Payment::with_link))
    };
    let (intent, charge) = (("payment_intent", "p1"), ("charge", "c1"));
    let [by_intent, by_charge] = [intent, charge].map(|it| links(&[it]).remove(0));
    let refund = MoneyBack::new("re_1", by_intent, eur(100)).expect("an ID");
    let events = [
        paid("O", &[("session", "s1"), intent]),
        paid("in_2", &[("invoice", "in_2"), intent, charge]),
        paid("in_1", &[("invoice", "in_1"), charge]),
        Event::Refunded(refund.with_link(by_charge)),
    ];
    let mut order: Vec<usize> = (0..events.len()).collect();
    permute(&mut order, 0, &mut |order| {
        let mut books = JsonBooks::default();
        for &at in order {
            let _ = enter(&mut books, &events[at]);
        }
        for &at in order.iter().chain(order.iter().rev()) {
            let again = enter(&mut books, &events[at]);
            assert_eq!(again.reports, [], "{order:?}: {at}");
        }
    });
}

#[test]
fn trap_4_a_payment_intent_of_two_invoices_is_no_third_sale() {
    let webhook = stripe().with_payment_intents(true);
    let own = json!({ "customer": "C1", "order": "O7" });
    let intent = json!({
        "id": "pi_in_1", "object": "payment_intent", "amount_received": 23_800, "currency": "eur",
        "metadata": own,
    });
    let intent = Shape::New.event("payment_intent.succeeded", intent);
    let intent = webhook.parse(intent.to_string().as_bytes());
    let two = PaymentLink::of_payment(
        [
            ("invoice", "in_1"),
            ("invoice", "in_2"),
            ("payment_intent", "pi_in_1"),
        ]
        .map(|(kind, id)| Link::new("stripe", kind, id)),
    );
    let link = Shape::New.invoice_payment("in_1").expect("since basil");
    let events = [
        invoice(Shape::New, "in_1"),
        invoice(Shape::New, "in_2"),
        stripe_event(&link),
        two.into(),
        PaymentLink::of_payment(
            [("invoice", "in_2"), ("payment_intent", "pi_in_1")]
                .map(|(kind, id)| Link::new("stripe", kind, id)),
        )
        .into(),
        intent.expect("an event"),
    ];
    let (reports, reason) = play(&events);
    assert_eq!((reports.len(), reason), (2, Some(Reason::SharedPayment)));
}

#[test]
fn trap_4_a_total_that_includes_a_refund_that_failed_later() {
    for shape in SHAPES {
        let at = |name: &str, at, object| stripe_event(&shape.event_at(name, at, object));
        let created = shape.refund("re_1", "in_1", 3_000, "succeeded");
        let failed = shape.refund("re_1", "in_1", 3_000, "failed");
        let events = with_link(
            shape,
            "in_1",
            vec![
                at("invoice.paid", 1, shape.invoice("in_1", 11_900, 10_000)),
                at("refund.created", 10, created),
                at("charge.refunded", 10, shape.charge("in_1", 11_900, 3_000)),
                at("refund.failed", 20, failed),
            ],
        );
        assert_eq!(same_in_any_order(&events), one("in_1", 1_000_000, 0, None));
    }
}

#[test]
fn trap_4_a_refund_that_failed_is_taken_from_the_total_of_its_own_charge() {
    let at = |name: &str, at, object| stripe_event(&Shape::New.event_at(name, at, object));
    let mut second = Shape::New.invoice_payment("in_1").expect("since basil");
    second["data"]["object"]["payment"]["payment_intent"] = "pi_b".into();
    let base = [
        at(
            "invoice.paid",
            1,
            Shape::New.invoice("in_1", 10_000, 10_000),
        ),
        stripe_event(&second),
    ];
    let base = with_link(Shape::New, "in_1", base.into());
    let refund = |id, of, amount, status| Shape::New.refund(id, of, amount, status);
    let failing = [
        at(
            "charge.refunded",
            10,
            Shape::New.charge("in_1", 6_000, 6_000),
        ),
        at("refund.failed", 20, refund("re_1", "in_1", 6_000, "failed")),
    ];
    let later = [at(
        "charge.refunded",
        30,
        Shape::New.charge("b", 4_000, 2_000),
    )];
    let events = [&base[..], &failing, &later].concat();
    let expected = one("in_1", 1_000_000, 200_000, None);
    assert_eq!(same_in_any_order(&events), expected);
    // A refund is no part of another charge's total.
    let other = [at(
        "refund.created",
        30,
        refund("re_2", "b", 2_000, "succeeded"),
    )];
    let events = [&base[..], &failing[..1], &other].concat();
    let expected = one("in_1", 1_000_000, 800_000, None);
    assert_eq!(same_in_any_order(&events), expected);
}

#[test]
fn trap_5_the_commission_is_on_the_net() {
    let net = |json: &Value| match stripe_event(json) {
        Event::Payment(payment) => payment.net.to_string(),
        event => panic!("{event:?}"),
    };
    for shape in SHAPES {
        let paid = |object| net(&shape.event("invoice.paid", object));
        assert_eq!(paid(shape.invoice("in_1", 11_900, 10_000)), "100.00 EUR");
        let mut without = shape.invoice("in_1", 11_900, 10_000);
        without["total_excluding_tax"] = Value::Null;
        assert_eq!(paid(without), "100.00 EUR");
        // 40 % of it was paid from the customer's balance.
        let mut balance = shape.invoice("in_1", 11_900, 10_000);
        balance["amount_paid"] = 7_140.into();
        assert_eq!(paid(balance.clone()), "60.00 EUR");
        // The rest was paid in cash.
        balance["amount_due"] = 7_140.into();
        balance["amount_paid"] = 0.into();
        balance["paid_out_of_band"] = true.into();
        assert_eq!(paid(balance.clone()), "60.00 EUR");
        balance["amount_due"] = Value::Null;
        assert_eq!(paid(balance), "100.00 EUR");
        let mut shipped = shape.invoice("in_1", 11_900, 10_000);
        shipped["shipping_cost"] =
            json!({ "amount_subtotal": 500, "amount_tax": 95, "amount_total": 595 });
        assert_eq!(paid(shipped), "95.00 EUR");
    }
    let mut shipped = session("cs_1", 11_900, 1_900);
    shipped["total_details"]["amount_shipping"] = 500.into();
    let json = |object| Shape::New.event("checkout.session.completed", object);
    assert_eq!(net(&json(session("cs_1", 11_900, 1_900))), "100.00 EUR");
    assert_eq!(net(&json(shipped.clone())), "95.00 EUR");
    let with = stripe().with_shipping(true);
    let event = with.parse(json(shipped).to_string().as_bytes());
    assert!(matches!(event, Ok(Event::Payment(it)) if it.net.to_string() == "100.00 EUR"));
}

#[test]
fn trap_6_nothing_paid_is_nothing_to_report() {
    for shape in SHAPES {
        for (gross, net) in [(0, 0), (-11_900, -10_000), (100, 0)] {
            let mut nothing = shape.invoice("in_1", gross, net);
            let json = shape.event("invoice.paid", nothing.clone());
            assert_eq!(play(&[stripe_event(&json)]).0, [""; 0]);
            // Nor does it say whose it is.
            nothing["lines"]["data"][0]["metadata"] = json!({});
            nothing["subscription_details"] = Value::Null;
            nothing["parent"]["subscription_details"]["metadata"] = json!({});
            let json = shape.event("invoice.paid", nothing);
            assert_eq!(ignored(&json), Reason::NothingPaid);
        }
        // A trial's first invoice, then the first that is paid.
        let trial = stripe_event(&shape.event("invoice.paid", shape.invoice("in_0", 0, 0)));
        let events = [trial, signed_up("P1"), invoice(shape, "in_1")];
        assert_eq!(
            same_in_any_order(&events),
            one("in_1", 1_000_000, 0, Some("P1"))
        );
        // A token that comes with the trial only.
        let mut trial = shape.invoice("in_0", 0, 0);
        trial["lines"]["data"][0]["metadata"]["referral"] = "token-P1".into();
        let trial = stripe_event(&shape.event("invoice.paid", trial));
        assert_eq!(
            same_in_any_order(&[trial, invoice(shape, "in_1")]),
            one("in_1", 1_000_000, 0, Some("P1"))
        );
    }
}

#[test]
fn trap_7_minor_units() {
    let net = |currency: &str, gross: i64, tax: i64| {
        let mut object = session("cs_1", gross, tax);
        object["currency"] = currency.into();
        match stripe_event(&Shape::New.event("checkout.session.completed", object)) {
            Event::Payment(payment) => payment.net.to_string(),
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(net("jpy", 5_500, 500), "5000 JPY");
    assert_eq!(net("kwd", 11_000, 1_000), "10.000 KWD");
    assert_eq!(net("isk", 620_000, 120_000), "5000 ISK");
    assert_eq!(net("ugx", 620_000, 120_000), "5000 UGX");
    assert_eq!(net("mga", 6_000, 1_000), "5000.00 MGA");
    assert_eq!(net("xof", 6_000, 1_000), "5000 XOF");
    // A third of it, in units that can be paid.
    for (currency, gross, tax, back, expected) in [
        ("jpy", 1_190, 190, 100, "refund:O1:re_1 84 JPY"),
        ("isk", 119_000, 19_000, 10_000, "refund:O1:re_1 84 ISK"),
        ("kwd", 11_900, 1_900, 1_000, "refund:O1:re_1 0.840 KWD"),
        ("mga", 1_190, 190, 100, "refund:O1:re_1 84.00 MGA"),
    ] {
        let mut sale = session("cs_1", gross, tax);
        sale["currency"] = currency.into();
        let mut refund = Shape::New.refund("re_1", "cs_1", back, "succeeded");
        refund["currency"] = currency.into();
        let (reports, _) = play(&[
            stripe_event(&Shape::New.event("checkout.session.completed", sale)),
            stripe_event(&Shape::New.event("refund.created", refund)),
        ]);
        assert_eq!(reports[1], expected);
    }
}

#[test]
fn trap_8_an_invoice_before_its_session_waits_for_whose_it_is() {
    for shape in SHAPES {
        // The shop put its customer into the session only.
        let bare = |id, reason: &str| {
            let mut bare = shape.invoice(id, 11_900, 10_000);
            bare["billing_reason"] = reason.into();
            bare["lines"]["data"][0]["metadata"] = json!({});
            match shape {
                Shape::Old => bare["subscription_details"] = Value::Null,
                Shape::New => bare["parent"]["subscription_details"]["metadata"] = json!({}),
            }
            stripe_event(&shape.event("invoice.paid", bare))
        };
        let invoice = bare("in_1", "subscription_create");
        let renewal = bare("in_2", "subscription_cycle");
        let session = subscription_session("cs_1", "in_1");
        let session = stripe_event(&shape.event("checkout.session.completed", session));
        let (reports, reason) = play(std::slice::from_ref(&invoice));
        assert_eq!((reports.len(), reason), (0, Some(Reason::UnknownCustomer)));
        let (reports, _) = play(&[invoice.clone(), renewal.clone(), session.clone()]);
        assert_eq!(
            reports,
            [
                "sale:in_1 100.00 EUR by C1 for P1",
                "sale:in_2 100.00 EUR by C1 for P1"
            ]
        );
        let refund = refund(shape, "re_1", "in_1", 3_000, "succeeded");
        let events = with_link(shape, "in_1", vec![invoice, renewal, session, refund]);
        let sums = same_in_any_order(&events);
        let expected = [
            one("in_1", 1_000_000, 252_100, Some("P1")),
            one("in_2", 1_000_000, 0, Some("P1")),
        ];
        assert_eq!(sums.0, expected.into_iter().flat_map(|it| it.0).collect());
    }
}

#[test]
fn trap_8_credit_that_comes_later_is_reported_with_the_same_order() {
    for shape in SHAPES {
        let events = [
            invoice(shape, "in_1"),
            invoice(shape, "in_2"),
            signed_up("P1"),
        ];
        let (reports, _) = play(&events);
        assert_eq!(
            reports,
            [
                "sale:in_1 100.00 EUR by C1 for nobody",
                "sale:in_2 100.00 EUR by C1 for nobody",
                "sale:in_1 100.00 EUR by C1 for P1",
                "sale:in_2 100.00 EUR by C1 for P1"
            ]
        );
        same_in_any_order(&events);
    }
}

#[test]
fn trap_8_a_later_referral_takes_no_earlier_sale() {
    // Bought without a referral in spring, subscribed by somebody's link in summer.
    let mut spring = session("cs_1", 11_900, 1_900);
    spring["client_reference_id"] = Value::Null;
    let spring = Shape::New.event("checkout.session.completed", spring);
    let summer = subscription_session("cs_2", "in_1");
    let summer = Shape::New.event("checkout.session.completed", summer);
    let events = [
        stripe_event(&spring),
        stripe_event(&summer),
        invoice(Shape::New, "in_1"),
    ];
    let expected = [
        one("O1", 1_000_000, 0, None),
        one("in_1", 1_000_000, 0, Some("P1")),
    ];
    let sums = same_in_any_order(&events);
    assert_eq!(sums.0, expected.into_iter().flat_map(|it| it.0).collect());
}

#[test]
fn trap_8_a_credit_that_counts_from_a_moment_takes_no_earlier_sale() {
    let of = |month: i64, id: &str| {
        let mut object = Shape::New.invoice(id, 11_900, 10_000);
        object["status_transitions"]["paid_at"] = (NOW + month * 2_600_000).into();
        stripe_event(&Shape::New.event("invoice.paid", object))
    };
    let link = |since: Option<i64>| -> Event {
        let link = PaymentLink::of_customer("C1").expect("an ID");
        let since = since.map(|since| clock() + time::Duration::seconds(since));
        let link = link.with_credit(credit("P1"));
        link.with_credit_since(since).into()
    };
    let payments = [of(0, "in_1"), of(1, "in_2"), of(2, "in_3")];
    let credited = |since| {
        let sums = same_in_any_order(&[&payments[..], &[link(since)]].concat());
        let is_credited = |(_, _, key): &(i128, i128, Option<String>)| key.is_some();
        sums.0.values().map(is_credited).collect::<Vec<_>>()
    };
    assert_eq!(credited(None), [true, true, true]);
    assert_eq!(credited(Some(2_600_000)), [false, true, true]);
    // The shop's last word counts.
    let events = [link(None), link(Some(2_600_000)), payments[0].clone()];
    let (reports, _) = play(&events);
    assert_eq!(reports, ["sale:in_1 100.00 EUR by C1 for nobody"]);
}

#[test]
fn trap_9_a_dispute_takes_back_and_gives_back() {
    for shape in SHAPES {
        let dispute = |name: &str, at, status: &str| {
            let object = shape.dispute("dp_1", "in_1", 11_900, status);
            stripe_event(&shape.event_at(name, at, object))
        };
        let opened = dispute("charge.dispute.created", 10, "needs_response");
        let lost = dispute("charge.dispute.closed", 30, "lost");
        let won = dispute("charge.dispute.closed", 40, "won");
        let base = with_link(shape, "in_1", vec![signed_up("P1"), invoice(shape, "in_1")]);
        let (reports, reason) = play(&[&base[..], &[opened.clone(), lost.clone()]].concat());
        assert_eq!(reports[1..], ["refund:in_1:dp_1%3Adispute all"]);
        assert_eq!(reason, Some(Reason::NoChange));
        let (reports, _) = play(&[&base[..], &[opened.clone(), won.clone()]].concat());
        assert_eq!(
            reports[1..],
            [
                "refund:in_1:dp_1%3Adispute all",
                "refund_reversal:in_1:dp_1%3Adispute 100.00 EUR"
            ]
        );
        // First lost, then won after all; and then lost again.
        let twice = [&base[..], &[opened.clone(), lost.clone(), won.clone()]].concat();
        assert_eq!(
            same_in_any_order(&twice),
            one("in_1", 1_000_000, 0, Some("P1"))
        );
        let again = dispute("charge.dispute.closed", 50, "lost");
        let (reports, _) = play(&[&twice[..], &[again]].concat());
        assert_eq!(
            reports.last().map(String::as_str),
            Some("refund:in_1:dp_1%3Adispute%3A2 all")
        );
        // An inquiry moves no money.
        let object = shape.dispute("dp_2", "in_1", 11_900, "warning_needs_response");
        let inquiry = shape.event("charge.dispute.created", object);
        assert_eq!(ignored(&inquiry), Reason::NoMoneyMoves);
        // One that was settled before it came to a dispute: whether money went is another event's.
        let prevented = |name| {
            let object = shape.dispute("dp_3", "in_1", 11_900, "prevented");
            shape.event(name, object)
        };
        for name in ["charge.dispute.created", "charge.dispute.closed"] {
            assert_eq!(ignored(&prevented(name)), Reason::DisputePrevented);
        }
        assert!(Reason::DisputePrevented.needs_attention());
        for status in ["prevented", "warning_closed", "needs_response", "lost"] {
            let object = shape.dispute("dp_3", "in_1", 11_900, status);
            let withdrawn = shape.event("charge.dispute.funds_withdrawn", object);
            let (reports, _) = play(&[&base[..], &[stripe_event(&withdrawn)]].concat());
            assert_eq!(reports[1..], ["refund:in_1:dp_3%3Adispute all"]);
        }
    }
}

#[test]
fn trap_9_a_refund_that_fails_later_gives_back() {
    for shape in SHAPES {
        let events = with_link(
            shape,
            "in_1",
            vec![
                invoice(shape, "in_1"),
                refund(shape, "re_1", "in_1", 3_000, "pending"),
                refund(shape, "re_1", "in_1", 3_000, "failed"),
                refund(shape, "re_2", "in_1", 2_000, "succeeded"),
            ],
        );
        let expected = one("in_1", 1_000_000, 168_100, None);
        assert_eq!(same_in_any_order(&events), expected);
        let base = with_link(shape, "in_1", vec![invoice(shape, "in_1")]);
        let (reports, _) = play(
            &[
                &base[..],
                &[
                    refund(shape, "re_1", "in_1", 3_000, "succeeded"),
                    refund(shape, "re_1", "in_1", 3_000, "failed"),
                ],
            ]
            .concat(),
        );
        assert_eq!(
            reports[1..],
            [
                "refund:in_1:re_1 25.21 EUR",
                "refund_reversal:in_1:re_1 25.21 EUR"
            ]
        );
    }
}

#[test]
fn trap_10_test_events_and_other_accounts_are_ignored_by_name() {
    for shape in SHAPES {
        let live = shape.event("invoice.paid", shape.invoice("in_1", 11_900, 10_000));
        let mut test = live.clone();
        test["livemode"] = false.into();
        let mut connected = live.clone();
        connected["account"] = "acct_2".into();
        assert_eq!(ignored(&test), Reason::TestMode);
        assert_eq!(ignored(&connected), Reason::OtherAccount);
        let read = |webhook: &tower_referral_platforms::payment::stripe::Webhook, json: &Value| {
            webhook
                .parse(json.to_string().as_bytes())
                .expect("an event")
        };
        let in_test = stripe().with_test_mode(true);
        assert_eq!(read(&in_test, &live), Event::Ignored(Reason::LiveMode));
        assert!(matches!(read(&in_test, &test), Event::Payment(_)));
        let platform = stripe().with_connected_account("acct_2");
        assert!(matches!(read(&platform, &connected), Event::Payment(_)));
        assert!(matches!(read(&platform, &live), Event::Payment(_)));
        connected["account"] = "acct_3".into();
        assert_eq!(
            read(&platform, &connected),
            Event::Ignored(Reason::OtherAccount)
        );
    }
}

#[test]
fn trap_11_a_token_that_stripe_dropped_is_found_in_the_metadata() {
    let mut dropped = session("cs_1", 11_900, 1_900);
    dropped["client_reference_id"] = Value::Null;
    dropped["metadata"]["referral"] = "token-P1".into();
    for shape in SHAPES {
        let json = shape.event("checkout.session.completed", dropped.clone());
        let (reports, _) = play(&[stripe_event(&json)]);
        assert_eq!(reports, ["sale:O1 100.00 EUR by C1 for P1"]);
    }
    // A token that doesn't open is no credit and no error.
    dropped["metadata"]["referral"] = "forged".into();
    let json = Shape::New.event("checkout.session.completed", dropped);
    let (reports, _) = play(&[stripe_event(&json)]);
    assert_eq!(reports, ["sale:O1 100.00 EUR by C1 for nobody"]);
}

#[test]
fn trap_12_an_upgrade_counts_by_what_was_paid() {
    for shape in SHAPES {
        let mut upgrade = shape.invoice("in_2", 2_380, 2_000);
        upgrade["billing_reason"] = "subscription_update".into();
        let upgrade = stripe_event(&shape.event("invoice.paid", upgrade));
        let events = [signed_up("P1"), invoice(shape, "in_1"), upgrade];
        let sums = same_in_any_order(&events);
        assert_eq!(sums.0["in_2"], (200_000, 0, Some("P1".to_owned())));
        // A downgrade leaves a credit, and nothing to report.
        let mut downgrade = shape.invoice("in_3", -2_380, -2_000);
        downgrade["billing_reason"] = "subscription_update".into();
        let downgrade = stripe_event(&shape.event("invoice.paid", downgrade));
        assert_eq!(play(&[downgrade]).0, [""; 0]);
    }
}

#[test]
fn trap_13_the_same_share_goes_back_and_never_more_than_all() {
    for shape in SHAPES {
        // Thirds that round up, and thirds that round down.
        for (gross, net, part, backs) in [
            (300, 200, 100, ["0.67 EUR", "0.67 EUR", "0.66 EUR"]),
            (300, 100, 100, ["0.33 EUR", "0.33 EUR", "0.34 EUR"]),
        ] {
            let sale = shape.event("invoice.paid", shape.invoice("in_1", gross, net));
            let mut events = with_link(shape, "in_1", vec![stripe_event(&sale)]);
            for id in ["re_1", "re_2", "re_3"] {
                events.push(refund(shape, id, "in_1", part, "succeeded"));
            }
            let (reports, _) = play(&events);
            for (report, back) in reports[1..].iter().zip(backs) {
                assert!(report.ends_with(back), "{report}: {back}");
            }
            let all = i128::from(net) * 100;
            assert_eq!(same_in_any_order(&events), one("in_1", all, all, None));
        }
        // More than was paid: an over-refund takes all, and no more.
        let mut events = with_link(shape, "in_1", vec![invoice(shape, "in_1")]);
        events.push(refund(shape, "re_1", "in_1", 11_000, "succeeded"));
        events.push(refund(shape, "re_2", "in_1", 9_000, "succeeded"));
        assert_eq!(
            same_in_any_order(&events),
            one("in_1", 1_000_000, 1_000_000, None)
        );
    }
}

#[test]
fn trap_13_parts_of_a_cent_never_take_more_than_all() {
    let sale = Shape::Old.event("invoice.paid", Shape::Old.invoice("in_1", 100, 50));
    let mut events = vec![stripe_event(&sale)];
    for at in 0..60 {
        events.push(refund(
            Shape::Old,
            &format!("re_{at}"),
            "in_1",
            1,
            "succeeded",
        ));
    }
    let (reports, reason) = play(&events);
    assert_eq!(reports.len(), 1 + 50); // each cent rounds up, until nothing is left
    assert_eq!(reason, Some(Reason::NoChange));
}

#[test]
fn trap_14_a_one_time_session_with_an_invoice_is_one_report() {
    for shape in SHAPES {
        let own = json!({ "customer": "C1", "order": "O1" });
        let mut session = session("cs_1", 11_900, 1_900);
        session["invoice"] = "in_1".into();
        session["payment_intent"] = "pi_in_1".into();
        let completed = stripe_event(&shape.event("checkout.session.completed", session.clone()));
        let invoice = |metadata| {
            let invoice = shape.manual_invoice("in_1", 11_900, 10_000, metadata);
            stripe_event(&shape.event("invoice.paid", invoice))
        };
        let refund = refund(shape, "re_1", "in_1", 3_000, "succeeded");
        let events = with_link(shape, "in_1", vec![completed, invoice(own), refund.clone()]);
        let expected = one("O1", 1_000_000, 252_100, Some("P1"));
        assert_eq!(same_in_any_order(&events), expected);
        // Without metadata of the shop's the invoice is ignored by name.
        assert_eq!(invoice(json!({})), Event::Ignored(Reason::NotOurs));
        // Without an order both are known by the invoice.
        session["metadata"] = json!({ "customer": "C1" });
        let completed = stripe_event(&shape.event("checkout.session.completed", session));
        let events = [completed, invoice(json!({ "customer": "C1" })), refund];
        let expected = one("in_1", 1_000_000, 252_100, Some("P1"));
        assert_eq!(same_in_any_order(&events), expected);
    }
}

#[test]
fn trap_15_no_payment_required_is_nothing_to_report() {
    for shape in SHAPES {
        for (status, reason) in [
            ("no_payment_required", Reason::NothingPaid),
            ("unpaid", Reason::NotPaid),
        ] {
            let mut object = session("cs_1", 11_900, 1_900);
            object["payment_status"] = status.into();
            let json = shape.event("checkout.session.completed", object);
            assert_eq!(ignored(&json), reason);
        }
        // A bank debit is paid days later.
        let mut unpaid = session("cs_1", 11_900, 1_900);
        unpaid["payment_status"] = "unpaid".into();
        let paid = session("cs_1", 11_900, 1_900);
        let events = [
            stripe_event(&shape.event("checkout.session.completed", unpaid)),
            stripe_event(&shape.event("checkout.session.async_payment_succeeded", paid)),
        ];
        assert_eq!(
            same_in_any_order(&events),
            one("O1", 1_000_000, 0, Some("P1"))
        );
    }
}

#[test]
fn payment_intents_are_taken_by_opting_in() {
    let own = json!({ "customer": "C1", "order": "O1", "referral": "token-P1" });
    let object = json!({
        "id": "pi_cs_1", "object": "payment_intent", "amount": 11_900, "amount_received": 11_900,
        "currency": "eur", "customer": "cus_1", "latest_charge": "ch_cs_1", "metadata": own,
        "status": "succeeded",
        "amount_details": { "tax": { "total_tax_amount": 1_900 } },
    });
    let json = Shape::New.event("payment_intent.succeeded", object.clone());
    assert_eq!(ignored(&json), Reason::PaymentIntentsOff);
    let webhook = stripe().with_payment_intents(true);
    let read = |object: &Value| {
        let json = Shape::New.event("payment_intent.succeeded", object.clone());
        let event = webhook
            .parse(json.to_string().as_bytes())
            .expect("an event");
        event.open_referral(|token| Some(credit(token.strip_prefix("token-")?)))
    };
    let refund = refund(Shape::New, "re_1", "cs_1", 3_000, "succeeded");
    let events = [read(&object), refund.clone()];
    let expected = one("O1", 1_000_000, 252_100, Some("P1"));
    assert_eq!(same_in_any_order(&events), expected);
    // The same payment by Checkout: joined, by the order and by the payment intent.
    let session = Shape::New.event("checkout.session.completed", session("cs_1", 11_900, 1_900));
    let events = [read(&object), stripe_event(&session), refund];
    assert_eq!(same_in_any_order(&events), expected);
    // One that belongs to an invoice says so in the old shape, and has no metadata in the new one.
    let mut of_invoice = object.clone();
    of_invoice["invoice"] = "in_1".into();
    assert_eq!(read(&of_invoice), Event::Ignored(Reason::ReportedElsewhere));
    let mut bare = object;
    bare["metadata"] = json!({});
    assert_eq!(read(&bare), Event::Ignored(Reason::NotOurs));
}

#[test]
fn another_net_that_comes_too_late_is_for_a_person() {
    let own = json!({ "customer": "C1", "order": "O1", "referral": "token-P1" });
    // The tax is in the session only.
    let object = json!({
        "id": "pi_cs_1", "object": "payment_intent", "amount_received": 11_900, "currency": "eur",
        "metadata": own,
    });
    let json = Shape::New.event("payment_intent.succeeded", object);
    let webhook = stripe().with_payment_intents(true);
    let intent = webhook.parse(json.to_string().as_bytes());
    let intent = intent.expect("an event");
    let intent = intent.open_referral(|token| Some(credit(token.strip_prefix("token-")?)));
    let session = Shape::New.event("checkout.session.completed", session("cs_1", 11_900, 1_900));
    let session = stripe_event(&session);
    let (reports, reason) = play(&[intent.clone(), session.clone()]);
    assert_eq!(reports, ["sale:O1 119.00 EUR by C1 for P1"]);
    assert_eq!(reason, Some(Reason::OtherAmount));
    // What says less than is known is no news.
    let (reports, reason) = play(&[session, intent]);
    assert_eq!(reports, ["sale:O1 100.00 EUR by C1 for P1"]);
    assert_eq!(reason, Some(Reason::AlreadyBooked));
}

#[test]
fn a_payment_intent_and_an_invoice_that_turn_out_to_be_one_are_one_sale() {
    let own = json!({ "customer": "C1", "order": "O7" });
    let object = json!({
        "id": "pi_in_1", "object": "payment_intent", "amount": 11_900, "amount_received": 11_900,
        "currency": "eur", "metadata": own,
        "amount_details": { "tax": { "total_tax_amount": 1_900 } },
    });
    let json = Shape::New.event("payment_intent.succeeded", object);
    let webhook = stripe().with_payment_intents(true);
    let intent = webhook
        .parse(json.to_string().as_bytes())
        .expect("an event");
    let link = Shape::New.invoice_payment("in_1").expect("since basil");
    let (reports, _) = play(&[
        signed_up("P1"),
        intent,
        invoice(Shape::New, "in_1"),
        refund(Shape::New, "re_1", "in_1", 3_000, "succeeded"),
        stripe_event(&link),
    ]);
    assert_eq!(
        reports,
        [
            "sale:O7 100.00 EUR by C1 for P1",
            "sale:in_1 100.00 EUR by C1 for P1",
            "refund:O7:re_1 25.21 EUR",
            "refund:O7:%3Aduplicate 74.79 EUR",
            "refund:in_1:re_1 25.21 EUR"
        ]
    );
}

#[test]
fn an_order_that_is_paid_twice_is_one_sale_and_the_refund_of_the_second_takes_nothing() {
    let first = session("cs_1", 11_900, 1_900);
    let second = session("cs_2", 11_900, 1_900);
    let json = |object| Shape::New.event("checkout.session.completed", object);
    let second = stripe_event(&json(second));
    let (reports, reason) = play(&[stripe_event(&json(first.clone())), second.clone()]);
    assert_eq!(reports, ["sale:O1 100.00 EUR by C1 for P1"]);
    assert_eq!(reason, Some(Reason::OrderPaidBefore));
    assert!(reason.is_some_and(Reason::needs_attention));
    let refund = refund(Shape::New, "re_1", "cs_2", 11_900, "succeeded");
    let (reports, reason) = play(&[stripe_event(&json(first)), refund, second]);
    assert_eq!(reports, ["sale:O1 100.00 EUR by C1 for P1"]);
    assert_eq!(reason, Some(Reason::OrderPaidBefore));
}

#[test]
fn another_currency_and_another_amount_are_named_and_change_nothing() {
    for shape in SHAPES {
        let mut other = shape.refund("re_1", "in_1", 3_000, "succeeded");
        other["currency"] = "usd".into();
        let other = stripe_event(&shape.event("refund.created", other));
        let mut events = with_link(shape, "in_1", vec![invoice(shape, "in_1")]);
        events.push(other);
        let (reports, reason) = play(&events);
        assert_eq!((reports.len(), reason), (1, Some(Reason::OtherCurrency)));
        let changed = shape.event("invoice.paid", shape.invoice("in_1", 23_800, 20_000));
        let (reports, reason) = play(&[invoice(shape, "in_1"), stripe_event(&changed)]);
        assert_eq!((reports.len(), reason), (1, Some(Reason::OtherAmount)));
        let mut charge = shape.charge("in_1", 11_900, 3_000);
        charge["currency"] = "usd".into();
        let total = stripe_event(&shape.event("charge.refunded", charge));
        let mut events = with_link(shape, "in_1", vec![invoice(shape, "in_1")]);
        events.push(total);
        assert_eq!(play(&events).1, Some(Reason::OtherCurrency));
    }
}

#[test]
fn a_guest_buys_under_the_orders_id_and_a_customer_of_the_provider_under_its() {
    let mut guest = session("cs_1", 11_900, 1_900);
    guest["metadata"] = json!({ "order": "O1" });
    let json = |object| Shape::New.event("checkout.session.completed", object);
    let (reports, _) = play(&[stripe_event(&json(guest.clone()))]);
    assert_eq!(reports, ["sale:O1 100.00 EUR by guest O1 for P1"]);
    guest["customer"] = "cus_9".into();
    let guest = stripe_event(&json(guest));
    let (reports, _) = play(std::slice::from_ref(&guest));
    assert_eq!(reports, ["sale:O1 100.00 EUR by guest cus_9 for P1"]);
    // A shop that knows its customers by Stripe's IDs.
    let mut books = JsonBooks::default();
    books.credits.insert("cus_9".to_owned(), credit("P9"));
    let booked = enter(&mut books, &guest);
    assert_eq!(
        lines(&booked.reports),
        ["sale:O1 100.00 EUR by cus_9 for P1"]
    );
    let mut renewal = Shape::New.invoice("in_1", 11_900, 10_000);
    renewal["customer"] = "cus_9".into();
    renewal["parent"]["subscription_details"]["metadata"] = json!({});
    renewal["lines"]["data"] = json!([]);
    let renewal = stripe_event(&Shape::New.event("invoice.paid", renewal));
    let booked = enter(&mut books, &renewal);
    assert_eq!(
        lines(&booked.reports),
        ["sale:in_1 100.00 EUR by cus_9 for P9"]
    );
}

#[test]
fn whose_customer_it_is_comes_first_for_a_subscription_and_the_own_referral_for_an_order() {
    let json = |object| Shape::New.event("checkout.session.completed", object);
    let events = [
        signed_up("P0"),
        stripe_event(&json(session("cs_1", 11_900, 1_900))),
        stripe_event(&json(subscription_session("cs_2", "in_1"))),
        invoice(Shape::New, "in_1"),
    ];
    let (reports, _) = play(&events);
    assert_eq!(
        reports,
        [
            "sale:O1 100.00 EUR by C1 for P1",
            "sale:in_1 100.00 EUR by C1 for P0"
        ]
    );
}

#[test]
fn a_sale_takes_three_round_trips_and_the_application_may_ask_its_own_row() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &signed_up("P1"));
    for shape in SHAPES {
        for reason in ["subscription_create", "subscription_cycle"] {
            let mut object = shape.invoice(&format!("in_{shape:?}_{reason}"), 11_900, 10_000);
            object["billing_reason"] = reason.into();
            books.calls.clear();
            let event = stripe_event(&shape.event("invoice.paid", object));
            let booked = enter(&mut books, &event);
            assert_eq!(booked.reports.len(), 1); // and one to enqueue it
            assert_eq!(books.calls, ["find", "save"]);
            books.calls.clear();
            let booked = enter(&mut books, &event);
            assert_eq!(booked.reason, Some(Reason::AlreadyBooked));
            assert_eq!(books.calls, ["find"]);
        }
    }
    let mut books = JsonBooks::default();
    books.credits.insert("C1".to_owned(), credit("P1"));
    let booked = enter(&mut books, &invoice(Shape::New, "in_1"));
    assert_eq!(
        lines(&booked.reports),
        ["sale:in_1 100.00 EUR by C1 for P1"]
    );
}

#[test]
fn an_erased_customer_is_in_no_record_and_a_refund_still_finds_the_order() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &signed_up("P1"));
    let mut events = with_link(Shape::New, "in_1", vec![invoice(Shape::New, "in_1")]);
    for event in &events {
        let _ = enter(&mut books, event);
    }
    books.erase("C1");
    let text = books.text();
    assert!(!text.contains("C1") && !text.contains("P1"), "{text}");
    events = vec![refund(Shape::New, "re_1", "in_1", 3_000, "succeeded")];
    let booked = enter(&mut books, &events[0]);
    assert_eq!(lines(&booked.reports), ["refund:in_1:re_1 25.21 EUR"]);
    let booked = enter(&mut books, &invoice(Shape::New, "in_1"));
    assert_eq!(booked.reports, []);
}

#[test]
fn no_customer_and_no_referral_is_shown() {
    let mut books = JsonBooks::default();
    let mut memory = MemoryBooks::new();
    memory.set_credit("SECRET", credit("SECRET"));
    let customer = PaymentLink::of_customer("SECRET").expect("an ID");
    let link = Link::new("shop", "payment", "p1");
    let price = Money::from_minor(300, "EUR").expect("an amount");
    let payment = Payment::new("O1", link, price, price).expect("an ID");
    for event in [
        payment.with_customer("SECRET").expect("an ID").into(), // waits for a credit
        customer.with_credit(credit("SECRET")).into(),
    ] {
        let _ = enter(&mut books, &event);
        let _ = now(book(&mut memory, &event));
        let shown = format!("{event:?} {memory:?} {}", books.shown);
        assert!(
            books.shown.contains("Changes") && !shown.contains("SECRET"),
            "{shown}"
        );
    }
    assert!(books.text().contains("customer:SECRET"));
    books.erase("SECRET");
    assert!(!books.shown.contains("SECRET"), "{}", books.shown);
}

#[test]
fn records_show_no_referral_and_have_a_lasting_form() {
    let mut books = JsonBooks::default();
    let _ = enter(&mut books, &signed_up("SECRET-KEY"));
    let _ = enter(&mut books, &invoice(Shape::Old, "in_1"));
    let shown = format!("{:?}", books.records().collect::<Vec<_>>());
    assert!(!shown.contains("SECRET-KEY"), "{shown}");
    let payment = books.records().find(|it| it.id().contains("charge"));
    let payment = serde_json::to_value(payment.expect("a payment")).expect("JSON");
    assert_eq!(payment["version"], 1);
    assert_eq!(payment["kind"], "payment");
    assert_eq!(payment["sale"]["net"], "100.00 EUR");
    // What is left out is read as its default.
    let first = json!({
        "id": "stripe:invoice:in_1", "kind": "payment", "links": ["stripe:invoice:in_1"],
        "sale": { "order": "in_1", "gross": "119.00 EUR", "net": "100.00 EUR", "decimals": 2 },
    });
    let record: Result<tower_referral_platforms::payment::Record, _> =
        serde_json::from_value(first);
    assert!(record.is_ok(), "{record:?}");
}

#[test]
fn amounts_are_bounded_by_what_money_holds() {
    let mut huge = session("cs_1", 11_900, 1_900);
    huge["amount_total"] = i64::MAX.into();
    let json = Shape::New.event("checkout.session.completed", huge);
    assert_eq!(ignored(&json), Reason::Incomplete);
    assert!(Money::from_minor(i64::MAX, "EUR").is_err());
}

#[test]
fn what_is_stored_stays_readable() {
    let mut books = JsonBooks::default();
    let mut events = vec![
        signed_up("P1"),
        stripe_event(&Shape::New.event(
            "checkout.session.completed",
            subscription_session("cs_1", "in_1"),
        )),
        invoice(Shape::New, "in_1"),
        refund(Shape::New, "re_1", "in_1", 3_000, "pending"),
        refund(Shape::New, "re_1", "in_1", 3_000, "failed"),
    ];
    let charge = Shape::New.charge("in_1", 11_900, 5_000);
    let late = NOW + 10;
    events.push(stripe_event(&Shape::New.event_at(
        "charge.refunded",
        late,
        charge,
    )));
    let dispute = Shape::New.dispute("dp_1", "in_1", 6_900, "needs_response");
    events.push(stripe_event(
        &Shape::New.event("charge.dispute.created", dispute),
    ));
    for event in with_link(Shape::New, "in_1", events) {
        let _ = enter(&mut books, &event);
    }
    let records: Vec<_> = books.records().collect();
    let golden = include_str!("golden/records.json");
    let written = serde_json::to_value(&records).expect("JSON");
    let expected: Value = serde_json::from_str(golden).expect("JSON");
    assert_eq!(written, expected, "{written:#}");
    let read: Vec<tower_referral_platforms::payment::Record> =
        serde_json::from_str(golden).expect("records");
    assert_eq!(read, records);
    let mut newer = expected[0].clone();
    newer["version"] = 2.into();
    let newer: Result<tower_referral_platforms::payment::Record, _> = serde_json::from_value(newer);
    assert!(newer.is_err_and(|error| error.to_string().contains("version 2")));
}
