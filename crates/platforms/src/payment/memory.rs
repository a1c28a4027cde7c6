//! Books in memory: what an implementation of the trait looks like, for tests and examples.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;

use super::books::{Books, Changes};
use super::event::Link;
use super::record::Record;
use crate::Credit;

/// Books in memory, for tests and examples. They are gone with the process.
///
/// ```
/// use tower_referral_platforms::Money;
/// use tower_referral_platforms::payment::{Link, MemoryBooks, Payment, Reason, book};
///
/// # async fn paid() -> Result<(), Box<dyn std::error::Error>> {
/// let mut books = MemoryBooks::new();
/// let price = Money::new("99.99", "EUR")?;
/// let payment = Payment::new("ORDER-1", Link::new("mollie", "payment", "tr_7"), price, price)?;
/// let event = payment.with_customer("C1")?.into();
/// assert_eq!(book(&mut books, &event).await?.reports[0].id(), "sale:ORDER-1");
/// assert_eq!(book(&mut books, &event).await?.reason, Some(Reason::AlreadyBooked));
/// # Ok(())
/// # }
/// ```
///
/// `Debug` shows neither referral nor customer.
#[derive(Clone, Default)]
pub struct MemoryBooks {
    records: BTreeMap<String, Record>,
    links: BTreeMap<Link, BTreeSet<String>>,
    credits: BTreeMap<String, Credit>,
}

impl MemoryBooks {
    /// Creates empty books.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the credit of a customer, as the application's own row would have it.
    pub fn set_credit(&mut self, customer: impl Into<String>, credit: Credit) {
        self.credits.insert(customer.into(), credit);
    }

    /// Returns all records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    fn remove(&mut self, id: &str) {
        let Some(record) = self.records.remove(id) else {
            return;
        };
        for link in record.links() {
            if let Some(ids) = self.links.get_mut(link) {
                ids.remove(id);
            }
        }
    }
}

impl fmt::Debug for MemoryBooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.records()).finish()
    }
}

impl Books for MemoryBooks {
    type Error = Infallible;

    async fn find(&mut self, links: &[Link]) -> Result<Vec<Record>, Infallible> {
        let ids = links.iter().filter_map(|link| self.links.get(link));
        let ids: BTreeSet<&String> = ids.flatten().collect();
        let records = ids.into_iter().filter_map(|id| self.records.get(id));
        Ok(records.cloned().collect())
    }

    async fn of_customer(&mut self, customer: &str) -> Result<Vec<Record>, Infallible> {
        let is_of = |record: &&Record| record.customers().any(|it| it == customer);
        Ok(self.records().filter(is_of).cloned().collect())
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), Infallible> {
        for id in &changes.removed {
            self.remove(id);
        }
        for record in &changes.saved {
            self.remove(record.id());
            for link in record.links() {
                let ids = self.links.entry(link.clone()).or_default();
                ids.insert(record.id().to_owned());
            }
            self.records.insert(record.id().to_owned(), record.clone());
        }
        Ok(())
    }

    async fn credit(&mut self, customer: &str) -> Result<Option<Credit>, Infallible> {
        Ok(self.credits.get(customer).cloned())
    }
}
