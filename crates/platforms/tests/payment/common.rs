//! What the tests of events share with those of the books in a database: readers of events, and the
//! plain sum of what was reported.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use time::OffsetDateTime;
use tower_referral_platforms::payment::{Event, paddle, polar, stripe};
use tower_referral_platforms::{Credit, Money, Report};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &str = "whsec_test";

pub(crate) fn clock() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).expect("a moment")
}

pub(crate) fn stripe() -> stripe::Webhook {
    let webhook = stripe::Webhook::new(SECRET).expect("a secret");
    webhook.with_clock(clock)
}

pub(crate) fn paddle() -> paddle::Webhook {
    let webhook = paddle::Webhook::new(SECRET).expect("a secret");
    webhook.with_clock(clock)
}

pub(crate) fn polar() -> polar::Webhook {
    let webhook = polar::Webhook::new(SECRET).expect("a secret");
    webhook.with_clock(clock)
}

/// Reads Stripe's event as its endpoint would, and opens tokens that are keys themselves.
pub(crate) fn stripe_event(json: &Value) -> Event {
    let event = stripe().parse(json.to_string().as_bytes());
    open(event.expect("an event"))
}

pub(crate) fn paddle_event(json: &Value) -> Event {
    let event = paddle().parse(json.to_string().as_bytes());
    open(event.expect("an event"))
}

pub(crate) fn polar_event(json: &Value) -> Event {
    let event = polar().parse(json.to_string().as_bytes());
    open(event.expect("an event"))
}

fn open(event: Event) -> Event {
    event.open_referral(|token| Some(credit(token.strip_prefix("token-")?)))
}

pub(crate) fn credit(key: &str) -> Credit {
    Credit::new(key.parse().expect("a key"))
}

/// Runs a future that never waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("books in memory never wait"),
    }
}

/// What a platform that was told all this would have: for each order its net, in minor units of the
/// finest kind, what went back of it, and who is credited.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums(pub(crate) BTreeMap<String, (i128, i128, Option<String>)>);

pub(crate) fn units(money: Money) -> i128 {
    let amount = money.amount();
    let (whole, fraction) = amount.split_once('.').unwrap_or((&amount, ""));
    format!("{whole}{fraction:0<4}").parse().expect("a number")
}

impl Sums {
    pub(crate) fn add(&mut self, seen: &mut BTreeSet<String>, report: &Report) {
        match report {
            Report::Sale(sale) => {
                let key = sale.credit().and_then(Credit::key);
                let key = key.map(|key| key.as_str().to_owned());
                let order = self.0.entry(sale.order().to_owned()).or_default();
                let is_first = seen.insert(report.id());
                assert!(
                    is_first || (order.2.is_none() && key.is_some()),
                    "twice: {report:?}"
                );
                order.0 = units(sale.amount());
                order.2 = key;
            }
            Report::Refund(refund) => {
                assert!(seen.insert(report.id()), "twice: {report:?}");
                let order = self.0.get_mut(refund.order()).expect("a sale before");
                order.1 += refund.amount().map_or(order.0, units);
                assert!(order.1 <= order.0, "below zero: {report:?}");
                assert!(refund.known_amount().is_some());
                assert_eq!(refund.total_refunded().map(units), Some(order.1));
            }
            Report::RefundReversal(back) => {
                assert!(seen.insert(report.id()), "twice: {report:?}");
                let order = self.0.get_mut(back.order()).expect("a sale before");
                order.1 -= back.amount().map_or(order.1, units);
                assert!(order.1 >= 0, "more than all: {report:?}");
                assert_eq!(back.total_refunded().map(units), Some(order.1));
                assert_eq!(back.left().map(units), Some(order.0 - order.1));
            }
            other => panic!("{} isn't a report of a payment", other.kind()),
        }
    }
}
