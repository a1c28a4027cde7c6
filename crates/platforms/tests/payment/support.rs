//! What the tests share: signed requests, books that store JSON and count, and the plain sum of what
//! was reported.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tower_referral_platforms::payment::{
    Booked, Books, Changes, Event, Link, MemoryBooks, Reason, Record, book, erase,
};
use tower_referral_platforms::{Credit, Money, Report};

pub(crate) use crate::common::*;

pub(crate) fn hmac(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(content);
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Books that store JSON, as a database does, and count the calls.
#[derive(Clone, Default)]
pub(crate) struct JsonBooks {
    records: BTreeMap<String, String>,
    links: BTreeMap<Link, BTreeSet<String>>,
    pub(crate) credits: BTreeMap<String, Credit>,
    pub(crate) calls: Vec<&'static str>,
    /// The changes that were saved last, as `Debug` shows them.
    pub(crate) shown: String,
}

impl JsonBooks {
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.records.values().map(|json| from_json(json))
    }

    pub(crate) fn erase(&mut self, customer: &str) {
        now(erase(self, customer)).unwrap_or_else(|never| match never {});
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.records.values().cloned()
    }

    pub(crate) fn text(&self) -> String {
        self.texts().collect()
    }
}

fn to_json(record: &Record) -> String {
    serde_json::to_string(record).expect("JSON")
}

fn from_json(json: &str) -> Record {
    serde_json::from_str(json).expect("a record")
}

impl Books for JsonBooks {
    type Error = Infallible;

    async fn find(&mut self, links: &[Link]) -> Result<Vec<Record>, Infallible> {
        self.calls.push("find");
        let ids: BTreeSet<&String> = links
            .iter()
            .filter_map(|it| self.links.get(it))
            .flatten()
            .collect();
        let records = ids.iter().filter_map(|id| self.records.get(*id));
        Ok(records.map(|json| from_json(json)).collect())
    }

    async fn of_customer(&mut self, customer: &str) -> Result<Vec<Record>, Infallible> {
        self.calls.push("of_customer");
        let is_of = |record: &Record| record.customers().any(|it| it == customer);
        Ok(self.records().filter(is_of).collect())
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), Infallible> {
        self.calls.push("save");
        self.shown = format!("{changes:?}");
        let saved = changes.saved.iter().map(|record| record.id().to_owned());
        for id in changes.removed.iter().cloned().chain(saved) {
            match self.records.remove(&id) {
                Some(json) => from_json(&json).links().for_each(|link| {
                    self.links.get_mut(link).map(|ids| ids.remove(&id));
                }),
                None => assert!(!changes.removed.contains(&id), "{id} was there"),
            }
        }
        for record in &changes.saved {
            let json = to_json(record);
            assert_eq!(*record, from_json(&json));
            for link in record.links() {
                let ids = self.links.entry(link.clone()).or_default();
                ids.insert(record.id().to_owned());
            }
            self.records.insert(record.id().to_owned(), json);
        }
        Ok(())
    }

    async fn credit(&mut self, customer: &str) -> Result<Option<Credit>, Infallible> {
        self.calls.push("credit");
        Ok(self.credits.get(customer).cloned())
    }
}

/// Whether a future that books can cross threads is a question for the compiler.
pub(crate) fn is_send(books: &mut MemoryBooks, event: &Event) -> impl Future + Send {
    book(books, event)
}

pub(crate) fn enter(books: &mut JsonBooks, event: &Event) -> Booked {
    now(book(books, event)).unwrap_or_else(|never| match never {})
}

/// A report in one line.
pub(crate) fn line(report: &Report) -> String {
    let amount = |amount: Option<Money>| amount.map_or("all".to_owned(), |it| it.to_string());
    match report {
        Report::Sale(sale) => {
            let key = sale.credit().and_then(Credit::key);
            let key = key.map_or("nobody", |key| key.as_str());
            let guest = if sale.is_guest() { " guest" } else { "" };
            let customer = sale.customer();
            format!(
                "{} {} by{guest} {customer} for {key}",
                report.id(),
                sale.amount()
            )
        }
        Report::Refund(refund) => format!("{} {}", report.id(), amount(refund.amount())),
        Report::RefundReversal(back) => format!("{} {}", report.id(), amount(back.amount())),
        other => panic!("{} isn't a report of a payment", other.kind()),
    }
}

pub(crate) fn lines(reports: &[Report]) -> Vec<String> {
    reports.iter().map(line).collect()
}

/// All reports and the last reason.
pub(crate) fn play(events: &[Event]) -> (Vec<String>, Option<Reason>) {
    let mut books = JsonBooks::default();
    let booked: Vec<Booked> = events
        .iter()
        .map(|event| enter(&mut books, event))
        .collect();
    let reports = booked.iter().flat_map(|booked| lines(&booked.reports));
    (
        reports.collect(),
        booked.last().and_then(|last| last.reason),
    )
}

pub(crate) fn sums(events: &[Event]) -> Sums {
    let mut books = JsonBooks::default();
    sums_in(&mut books, events)
}

pub(crate) fn sums_in(books: &mut JsonBooks, events: &[Event]) -> Sums {
    let (mut sums, mut seen) = (Sums::default(), BTreeSet::new());
    for event in events {
        for report in enter(books, event).reports {
            sums.add(&mut seen, &report);
        }
    }
    sums
}

/// Plays the events in every order, each once and each twice, and expects the same sums.
pub(crate) fn same_in_any_order(events: &[Event]) -> Sums {
    let expected = sums(events);
    let mut order: Vec<usize> = (0..events.len()).collect();
    permute(&mut order, 0, &mut |order| {
        let once: Vec<Event> = order.iter().map(|&at| events[at].clone()).collect();
        assert_eq!(sums(&once), expected, "{order:?}");
        let twice = once.iter().flat_map(|it| [it.clone(), it.clone()]);
        let again: Vec<Event> = twice.chain(once.iter().cloned()).collect();
        assert_eq!(
            sums(&again),
            expected,
            "{order:?}, each twice, and all again"
        );
    });
    expected
}

pub(crate) fn permute(order: &mut Vec<usize>, from: usize, see: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return see(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permute(order, from + 1, see);
        order.swap(from, at);
    }
}
