//! Random lives of customers, each with plain bookkeeping: who is owed what follows from the life alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tower_referral_platforms::payment::{Event, PaymentLink};

use crate::common::{Sums, credit, paddle_event, stripe_event};
use crate::stripe_events::{Shape, charge_of, intent_of, session, subscription_session};
use crate::{paddle_events, polar_events};

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }
}

/// What the shop's own accounts say of one payment, in cents.
pub(crate) struct Entry {
    gross: i64,
    net: i64,
    key: Option<&'static str>,
    /// Gross and net of what went back and stayed away.
    back: Vec<(i64, Option<i64>)>,
}

impl Entry {
    /// In ten-thousandths, as [`Sums`] has it.
    fn owed(&self) -> (i128, i128, Option<String>) {
        let (gross, net) = (i128::from(self.gross), i128::from(self.net));
        let share = |&(part, own): &(i64, Option<i64>)| match own {
            Some(own) => i128::from(own),
            None => {
                let exact = i128::from(part) * net;
                exact / gross + i128::from(exact % gross * 2 >= gross)
            }
        };
        let all: i128 = self.back.iter().map(|&(part, _)| i128::from(part)).sum();
        let back = if all >= gross {
            net
        } else {
            self.back.iter().map(share).sum::<i128>().min(net)
        };
        (net * 100, back * 100, self.key.map(str::to_owned))
    }
}

/// What happened to one customer, in the order in which it happened.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) events: Vec<Event>,
    entries: BTreeMap<String, Entry>,
    /// Whom the application's own rows credit.
    pub(crate) credits: Vec<(&'static str, &'static str)>,
}

impl Life {
    /// Returns what follows from the life alone.
    pub(crate) fn owed(&self) -> Sums {
        let entries = self.entries.iter();
        Sums(
            entries
                .map(|(order, entry)| (order.clone(), entry.owed()))
                .collect(),
        )
    }

    /// Returns the events in another order, some of them twice.
    pub(crate) fn shuffled(&self, random: &mut Random) -> Vec<Event> {
        let mut events = self.events.clone();
        let repeats = random.below(events.len() as u64 + 1) as usize;
        events.extend_from_within(..repeats);
        random.shuffle(&mut events);
        events
    }
}

fn taxed(random: &mut Random) -> (i64, i64) {
    let net = 100 + random.below(20_000) as i64;
    let rate = [0, 7, 19, 25][random.below(4) as usize];
    (net + (net * rate + 50) / 100, net)
}

/// Parts of an amount that may make all of it.
fn parts(random: &mut Random, all: i64) -> Vec<i64> {
    match random.below(6) {
        0 => vec![all],
        1 => {
            let first = 1 + random.below(all as u64 - 1) as i64;
            vec![first, all - first]
        }
        2 => vec![1 + random.below(all as u64) as i64],
        _ => Vec::new(),
    }
}

pub(crate) fn stripe_life(random: &mut Random) -> Life {
    let mut life = Life::default();
    let shape = if random.chance(50) {
        Shape::Old
    } else {
        Shape::New
    };
    let by_totals = random.chance(40);
    // Where the referral is: nowhere, with the sign-up, in the application's row, with the session.
    let source = random.below(4);
    let key = (source > 0).then_some("P1");
    match source {
        1 => {
            let link = PaymentLink::of_customer("C1").expect("an ID");
            life.events.push(link.with_credit(credit("P1")).into());
        }
        2 => life.credits.push(("C1", "P1")),
        _ => {}
    }
    let in_metadata = random.chance(60);
    let token = |mut session: Value| {
        if source != 3 {
            session["client_reference_id"] = Value::Null;
        }
        session
    };
    let mut at = 1_000;
    if random.chance(50) {
        let (gross, net) = taxed(random);
        let mut paid = token(session("cs_0", gross, gross - net));
        if random.chance(40) {
            paid["invoice"] = "in_00".into();
            paid["payment_intent"] = intent_of("in_00").into();
            let own = json!({ "customer": "C1", "order": "O1" });
            let invoice = shape.manual_invoice("in_00", gross, net, own);
            life.events
                .push(stripe_event(&shape.event("invoice.paid", invoice)));
            life.events
                .extend(shape.invoice_payment("in_00").map(|it| stripe_event(&it)));
        }
        life.events.push(stripe_event(
            &shape.event("checkout.session.completed", paid.clone()),
        ));
        let of = if paid["invoice"].is_null() {
            "cs_0"
        } else {
            "in_00"
        };
        let entry = Entry {
            gross,
            net,
            key,
            back: Vec::new(),
        };
        give_back(
            random, &mut life, shape, of, "O1", entry, by_totals, &mut at,
        );
    }
    life.events.push(stripe_event(&shape.event(
        "checkout.session.completed",
        token(subscription_session("cs_1", "in_0")),
    )));
    for month in 0..2 + random.below(34) {
        let id = format!("in_{month}");
        let (gross, net) = if month == 0 && random.chance(30) {
            (0, 0)
        } else {
            taxed(random)
        };
        let mut invoice = shape.invoice(&id, gross, net);
        invoice["billing_reason"] = match month {
            0 => "subscription_create",
            _ if random.chance(10) => "subscription_update",
            _ => "subscription_cycle",
        }
        .into();
        if !in_metadata {
            invoice["lines"]["data"] = json!([]);
            match shape {
                Shape::Old => invoice["subscription_details"] = Value::Null,
                Shape::New => invoice["parent"]["subscription_details"]["metadata"] = Value::Null,
            }
        }
        at += 100;
        life.events
            .push(stripe_event(&shape.event_at("invoice.paid", at, invoice)));
        life.events
            .extend(shape.invoice_payment(&id).map(|it| stripe_event(&it)));
        if gross > 0 {
            let entry = Entry {
                gross,
                net,
                key,
                back: Vec::new(),
            };
            give_back(
                random, &mut life, shape, &id, &id, entry, by_totals, &mut at,
            );
        }
    }
    life
}

#[expect(clippy::too_many_arguments, reason = "the parts of one life")]
fn give_back(
    random: &mut Random,
    life: &mut Life,
    shape: Shape,
    of: &str,
    order: &str,
    mut entry: Entry,
    by_totals: bool,
    at: &mut i64,
) {
    let mut total = 0;
    let events = &mut life.events;
    // The first refund, the dispute and the charge may have one ID: each kind is numbered by itself.
    let is_shared = random.chance(40);
    for (n, part) in parts(random, entry.gross).into_iter().enumerate() {
        *at += 10;
        let id = match (is_shared, n) {
            (true, 0) => charge_of(of),
            _ => format!("re_{of}_{n}"),
        };
        let fails = random.chance(20);
        total += part;
        let status = if random.chance(30) {
            "pending"
        } else {
            "succeeded"
        };
        let mut refund = |name: &str, at, status| {
            let object = shape.refund(&id, of, part, status);
            events.push(stripe_event(&shape.event_at(name, at, object)));
        };
        refund("refund.created", *at, status);
        if status == "pending" {
            refund("refund.updated", *at + 1, "succeeded");
        }
        if fails {
            refund("refund.failed", *at + 5, "failed");
        } else {
            entry.back.push((part, None));
        }
        if by_totals {
            let charge = shape.charge(of, entry.gross, total);
            events.push(stripe_event(&shape.event_at(
                "charge.refunded",
                *at,
                charge,
            )));
        }
        if fails {
            total -= part;
        }
    }
    if random.chance(15) {
        *at += 10;
        let part = entry.gross - total;
        let mut is_lost = true;
        if part > 0 {
            let mut dispute = |name: &str, at, status| {
                let id = if is_shared {
                    charge_of(of)
                } else {
                    format!("dp_{of}")
                };
                let object = shape.dispute(&id, of, part, status);
                events.push(stripe_event(&shape.event_at(name, at, object)));
            };
            dispute("charge.dispute.created", *at, "needs_response");
            for n in 1..=random.below(4) as i64 {
                is_lost = random.chance(50);
                let status = if is_lost { "lost" } else { "won" };
                dispute("charge.dispute.closed", *at + n, status);
            }
            if is_lost {
                entry.back.push((part, None));
            }
        }
    }
    life.entries.insert(order.to_owned(), entry);
}

pub(crate) fn paddle_life(random: &mut Random) -> Life {
    let mut life = Life::default();
    let key = random.chance(70).then_some("P1");
    let (mut at, mut events) = (0, Vec::new());
    let mut event = |name: &str, data: Value| {
        at += 1;
        events.push(paddle_event(&paddle_events::event(
            name,
            &format!("2026-11-26T10:00:{:02}Z", at % 60),
            data,
        )));
    };
    for month in 0..=random.below(24) {
        let id = format!("txn_{month}");
        let (gross, net) = taxed(random);
        let origin = if month == 0 {
            "web"
        } else {
            "subscription_recurring"
        };
        let mut paid = paddle_events::transaction(&id, net, gross - net, origin);
        paid["subscription_id"] = "sub_1".into();
        if key.is_none() {
            paid["custom_data"] = json!({ "customer": "C1" });
        }
        event("transaction.completed", paid);
        let mut entry = Entry {
            gross,
            net,
            key,
            back: Vec::new(),
        };
        let mut left = (gross, net);
        let is_shared = random.chance(40);
        let (mut refunds, mut chargebacks) = (0, 0);
        for n in 0..random.below(3) {
            let part_net = random.below(left.1 as u64 + 1) as i64;
            let part_tax = random.below((left.0 - left.1) as u64 + 1) as i64;
            let is_refund = random.chance(50);
            let nth = if is_refund {
                &mut refunds
            } else {
                &mut chargebacks
            };
            *nth += 1;
            let nth = *nth;
            let adjustment = |action, status| {
                let id = if is_shared {
                    format!("adj_{month}_{nth}")
                } else {
                    format!("adj_{month}_{n}_{action}")
                };
                paddle_events::adjustment(
                    &id,
                    &format!("txn_{month}"),
                    action,
                    status,
                    part_net,
                    part_tax,
                )
            };
            let stays = random.chance(60);
            if is_refund {
                event(
                    "adjustment.created",
                    adjustment("refund", "pending_approval"),
                );
                event("adjustment.updated", adjustment("refund", "approved"));
                if !stays {
                    event("adjustment.updated", adjustment("refund", "reversed"));
                }
            } else {
                event("adjustment.created", adjustment("chargeback", "approved"));
                if !stays {
                    event(
                        "adjustment.created",
                        adjustment("chargeback_reverse", "approved"),
                    );
                    if random.chance(50) {
                        event("adjustment.updated", adjustment("chargeback", "reversed"));
                    }
                }
            }
            if stays {
                entry.back.push((part_net + part_tax, Some(part_net)));
                left = (left.0 - part_net - part_tax, left.1 - part_net);
            }
        }
        life.entries.insert(id, entry);
    }
    life.events = events;
    life
}

pub(crate) fn polar_life(random: &mut Random) -> Life {
    let mut life = Life::default();
    let is_old = random.chance(50);
    let key = random.chance(70).then_some("P1");
    for month in 0..=random.below(24) {
        let id = format!("ord-{month}");
        let (gross, net) = taxed(random);
        let reason = if month == 0 {
            "subscription_create"
        } else {
            "subscription_cycle"
        };
        let mut paid = polar_events::order(&id, reason, net, gross - net, is_old);
        if key.is_none() {
            paid["metadata"] = json!({});
        }
        life.events.push(polar_events::event("order.paid", paid));
        let mut entry = Entry {
            gross,
            net,
            key,
            back: Vec::new(),
        };
        let mut left = (gross, net);
        for n in 0..random.below(3) {
            let part_net = random.below(left.1 as u64 + 1) as i64;
            let part_tax = random.below((left.0 - left.1) as u64 + 1) as i64;
            let stays = random.chance(70);
            let statuses: &[&str] = if stays {
                &["pending", "succeeded"]
            } else {
                &["pending", "succeeded", "failed"]
            };
            for status in statuses {
                let data = polar_events::refund(
                    &format!("ref-{month}-{n}"),
                    &id,
                    part_net,
                    part_tax,
                    status,
                );
                life.events
                    .push(polar_events::event("refund.updated", data));
            }
            if stays {
                entry.back.push((part_net + part_tax, Some(part_net)));
                left = (left.0 - part_net - part_tax, left.1 - part_net);
            }
        }
        life.entries.insert(id, entry);
    }
    life
}
