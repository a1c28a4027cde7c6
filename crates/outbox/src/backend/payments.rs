//! What the payment books do in a database: find records by their links, and store them together with
//! the reports that follow.

use std::collections::BTreeSet;
use std::future::Future;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tower_referral_platforms::payment::{Changes, Record};

use crate::Error;

/// A longer ID, in bytes, has a key in its place: an index has its bounds.
const MAX_KEY: usize = 256;

/// Records that were found, and what is locked besides the links that were asked for.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it would show customers")]
#[derive(Default)]
pub struct FoundPayments {
    pub(crate) locked: Vec<String>,
    pub(crate) records: Vec<String>,
}

/// What is to be stored of payments.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it would show customers")]
#[derive(Default, Serialize)]
pub struct SavedPayments {
    /// IDs of records.
    pub(crate) removed: Vec<String>,
    pub(crate) saved: Vec<SavedPayment>,
    /// Links, each with the ID of its record.
    pub(crate) links: Vec<(String, String)>,
    /// IDs of records that were needed, and stay as they are.
    pub(crate) used: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct SavedPayment {
    pub(crate) id: String,
    /// The link of the customer whose account it is.
    pub(crate) customer: Option<String>,
    pub(crate) record: String,
}

/// The operations of [`Operations`](super::Operations) on payments, each within a transaction of the
/// caller's.
#[doc(hidden)]
pub trait Payments: sqlx::Database {
    /// Locks the links until the transaction ends, and returns the records that have one of them. Of
    /// every customer whose account is among them, the records are returned, too.
    fn find_payments(
        connection: &mut Self::Connection,
        links: Vec<String>,
    ) -> impl Future<Output = Result<FoundPayments, Error>> + Send;
    /// Stores records, and enqueues reports with different IDs, given as a JSON array.
    fn save_payments(
        connection: &mut Self::Connection,
        changes: SavedPayments,
        reports: String,
        clock: i64,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// Returns the records that have this link, and locks nothing.
    fn payments_of(
        connection: &mut Self::Connection,
        link: String,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send;
    /// Runs a query of the application's that gives a customer's credit.
    fn customer_credit(
        connection: &mut Self::Connection,
        query: String,
        customer: String,
    ) -> impl Future<Output = Result<Option<String>, Error>> + Send;
}

pub(crate) fn read(text: &str) -> Result<Record, Error> {
    serde_json::from_str(text).map_err(Error::Payment)
}

pub(crate) fn saved(changes: &Changes) -> Result<SavedPayments, Error> {
    let mut rows = SavedPayments {
        removed: changes.removed.iter().map(|id| key(id)).collect(),
        ..SavedPayments::default()
    };
    for record in &changes.saved {
        let links: BTreeSet<String> = record
            .links()
            .map(|link| key(link.as_str()))
            .chain(record.customers().map(owner))
            .collect();
        let id = key(record.id());
        rows.links
            .extend(links.into_iter().map(|link| (link, id.clone())));
        rows.saved.push(SavedPayment {
            id,
            customer: record.account_of().map(|it| key(&format!("customer:{it}"))),
            record: serde_json::to_string(record).map_err(Error::Payment)?,
        });
    }
    Ok(rows)
}

/// The link by which a customer's records are found. No event names it.
pub(crate) fn owner(customer: &str) -> String {
    key(&format!("owner:{customer}"))
}

/// Returns what stands for a link, or for the ID of a record, in the database: itself, unless it is
/// longer than any provider's, or has what PostgreSQL can't store, or the sign of those that are
/// shortened.
pub(crate) fn key(link: &str) -> String {
    if link.len() <= MAX_KEY && !link.contains(['\0', '~']) {
        return link.to_owned();
    }
    // A customer may choose an ID: none that is alike can be found, nor one that is alike as it is.
    let hash = Sha256::digest(link);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let start: String = link.chars().filter(|c| *c != '\0').take(32).collect();
    format!("{start}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_of_any_length_has_a_short_key() {
        assert_eq!(key("stripe:invoice:in_1"), "stripe:invoice:in_1");
        let long = |end: &str| format!("shop:payment:{}{end}", "ü".repeat(1000));
        assert!(key(&long("1")).len() < MAX_KEY);
        assert_ne!(key(&long("1")), key(&long("2")));
        assert_eq!(key("shop:payment:a\0b").find('\0'), None);
    }

    #[test]
    fn no_link_has_the_key_of_another_by_being_spelled_like_it() {
        let long = owner(&"漢".repeat(100));
        let customer = long.strip_prefix("owner:").expect("a customer");
        assert_ne!(owner(customer), long);
        assert_eq!(owner("a-b"), "owner:a-b");
        assert_ne!(owner("a~b"), "owner:a~b");
    }
}
