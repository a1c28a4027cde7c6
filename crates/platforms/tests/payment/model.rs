//! The books against plain bookkeeping: they end with what follows from a random life whatever the
//! order of its events, at every provider; and whatever comes, they stay sound.

use std::collections::BTreeSet;

use serde_json::json;
use tower_referral_platforms::payment::{Event, MemoryBooks};

use crate::lives::{Life, Random, paddle_life, polar_life, stripe_life};
use crate::stripe_events::{Shape, intent_of, session};
use crate::support::{JsonBooks, Sums, credit, enter, is_send, now, stripe, sums, sums_in};

/// As many lives of each kind are played.
const LIVES: u64 = 40;
/// As many mixtures of events are played.
const MIXTURES: u64 = 150;

fn plays_to_the_same_end(live: fn(&mut Random) -> Life, seed: u64) {
    let mut random = Random::new(seed);
    let life = live(&mut random);
    let owed = life.owed();
    let mut events = life.events.clone();
    for round in 0..4 {
        let mut books = JsonBooks::default();
        let credits = life
            .credits
            .iter()
            .map(|&(customer, key)| (customer.to_owned(), credit(key)));
        books.credits = credits.collect();
        assert_eq!(
            sums_in(&mut books, &events),
            owed,
            "life {seed}, round {round}"
        );
        // Nothing of it is news any more.
        let again = events
            .iter()
            .filter(|event| !matches!(event, Event::Ignored(_)));
        for event in again {
            let booked = enter(&mut books, event);
            assert_eq!(booked.reports, [], "life {seed}, round {round}");
        }
        events = life.shuffled(&mut random);
    }
}

/// Events about few payments, with few IDs that all kinds share.
fn mixture(random: &mut Random) -> Vec<Event> {
    let pick =
        |random: &mut Random, ids: &[&'static str]| ids[random.below(ids.len() as u64) as usize];
    let webhook = stripe().with_payment_intents(true);
    let mut events = Vec::new();
    // A session has one invoice, or none.
    let invoices = [(); 2].map(|()| [None, Some("a1"), Some("b2")][random.below(3) as usize]);
    for _ in 0..4 + random.below(14) {
        let shape = if random.chance(50) {
            Shape::Old
        } else {
            Shape::New
        };
        let id = pick(random, &["a1", "b2", "a1:2", "a1:dispute", "duplicate"]);
        let of = pick(random, &["a1", "b2"]);
        let amount = [100, 200, 300, 300][random.below(4) as usize];
        let at = 1 + random.below(6) as i64;
        let (name, mut object) = match random.below(11) {
            0 | 1 => ("invoice.paid", shape.invoice(of, 300, 200)),
            2 => {
                let mut object = session(of, 300, 100);
                object["invoice"] = invoices[usize::from(of == "b2")].into();
                ("checkout.session.completed", object)
            }
            3 => {
                let object = json!({
                    "id": format!("pi_{of}"), "amount_received": 300, "currency": "eur",
                    "metadata": { "customer": "C1", "order": "O2" },
                    "amount_details": { "tax": { "total_tax_amount": 100 } },
                });
                ("payment_intent.succeeded", object)
            }
            4 => match shape.invoice_payment(of) {
                Some(json) => {
                    let mut object = json["data"]["object"].clone();
                    // At times an intent pays several invoices.
                    if random.chance(30) {
                        let intent = intent_of(pick(random, &["a1", "b2"]));
                        object["payment"]["payment_intent"] = intent.into();
                    }
                    ("invoice_payment.paid", object)
                }
                None => continue,
            },
            5 => ("refund.created", shape.refund(id, of, amount, "succeeded")),
            6 => ("refund.failed", shape.refund(id, of, amount, "failed")),
            7 => ("charge.refunded", shape.charge(of, 300, amount)),
            8 => {
                let object = shape.dispute(id, of, amount, "needs_response");
                ("charge.dispute.created", object)
            }
            9 => (
                "charge.dispute.closed",
                shape.dispute(id, of, amount, "won"),
            ),
            _ => (
                "charge.dispute.closed",
                shape.dispute(id, of, amount, "lost"),
            ),
        };
        if name == "charge.refunded" {
            object["id"] = id.into();
        }
        if object["currency"] == "eur" && random.chance(5) {
            object["currency"] = "usd".into();
        }
        let json = shape.event_at(name, at, object).to_string();
        let event = webhook.parse(json.as_bytes()).expect("an event");
        events.push(event.open_referral(|_| Some(credit("P1"))));
    }
    events
}

#[test]
fn whatever_comes_no_report_goes_out_twice_and_no_more_goes_back_than_came_in() {
    for seed in 1..=MIXTURES {
        let mut random = Random::new(seed);
        let events = mixture(&mut random);
        let mut books = JsonBooks::default();
        // Each report is checked against those before.
        let _ = sums_in(&mut books, &events);
        for event in events.iter().chain(events.iter().rev()) {
            let booked = enter(&mut books, event);
            assert_eq!(
                booked.reports,
                [],
                "mixture {seed}: {event:?} in {events:#?}"
            );
        }
    }
}

/// Erases whoever is in the books, and expects nothing of them back whatever comes again.
fn erased_for_good(live: fn(&mut Random) -> Life, seed: u64) {
    let mut random = Random::new(seed);
    let mut life = live(&mut random);
    // A sign-up after an erasure is a new one.
    life.events.retain(|event| match event {
        Event::PaymentLink(link) => link.subscription.is_some() || link.payer.is_some(),
        _ => true,
    });
    let all = life.events.len();
    for played in [all, random.below(all as u64) as usize] {
        let mut books = JsonBooks::default();
        random.shuffle(&mut life.events);
        for event in &life.events[..played] {
            let _ = enter(&mut books, event);
        }
        let names: BTreeSet<String> = books
            .records()
            .flat_map(|record| record.customers().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        names.iter().for_each(|name| books.erase(name));
        for event in life.shuffled(&mut random).iter().chain(&life.events) {
            let booked = enter(&mut books, event);
            let erased = books.texts().filter(|text| text.contains("is_erased"));
            for text in erased.chain((played == all).then(|| books.text())) {
                let has_any = ["\"C1\"", "\"P1\""].iter().any(|it| text.contains(it));
                assert!(!has_any, "life {seed}: {event:?} brings back {text}");
            }
            if played == all {
                assert_eq!(booked.reports, [], "life {seed}");
            }
        }
    }
}

#[test]
fn no_event_of_a_life_brings_an_erased_customer_back() {
    for live in [stripe_life, paddle_life, polar_life] {
        (1..=LIVES).for_each(|seed| erased_for_good(live, seed));
    }
}

#[test]
fn random_lives_at_stripe() {
    (1..=LIVES).for_each(|seed| plays_to_the_same_end(stripe_life, seed));
}

#[test]
fn random_lives_at_paddle() {
    (1..=LIVES).for_each(|seed| plays_to_the_same_end(paddle_life, seed));
}

#[test]
fn random_lives_at_polar() {
    (1..=LIVES).for_each(|seed| plays_to_the_same_end(polar_life, seed));
}

#[test]
fn the_books_in_memory_and_those_of_json_are_alike() {
    let mut random = Random::new(77);
    let life = stripe_life(&mut random);
    let mut memory = MemoryBooks::new();
    let mut reports = Vec::new();
    for event in &life.events {
        let booked = now(tower_referral_platforms::payment::book(&mut memory, event));
        reports.extend(booked.unwrap_or_else(|never| match never {}).reports);
    }
    let (mut of_memory, mut seen) = (Sums::default(), BTreeSet::default());
    for report in &reports {
        of_memory.add(&mut seen, report);
    }
    assert_eq!(of_memory, sums(&life.events));
    assert!(memory.records().count() > 0);
    let _ = now(async { is_send(&mut memory, &life.events[0]).await });
}
