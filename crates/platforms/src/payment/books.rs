//! What an application stores of payments, and what an event led to.

use std::fmt;
use std::future::Future;

use super::event::{Link, shown};
use super::reason::Reason;
use super::record::Record;
use crate::{Credit, Report};

/// What an application stores of payments, in the transaction in which it enqueues the reports.
///
/// An implementation is a table of records, each under its [`id`](Record::id), and an index of their
/// [`links`](Record::links). Two transactions whose [`find`](Self::find) has a link in common must run
/// one after the other, also where nothing is stored under that link yet: with PostgreSQL lock every
/// link (`pg_advisory_xact_lock`) in a statement, or in a `VOLATILE` function, *before* the one that
/// reads; with SQLite begin the transaction with `BEGIN IMMEDIATE`. Without that an invoice and the
/// event that says whose it is can miss each other. Two events may have no link in common and one record
/// all the same, so lock the records that are found, too (`FOR UPDATE`), and read again until the same
/// ones are found: after the wait another record may have their links. Links come sorted; where two
/// transactions lock each other out after all, one fails, and the provider sends its event again.
///
/// Booking a payment takes one `find` and one `save`, and one `credit` where no record has it. Only an
/// event that brings what earlier payments may have been waiting for takes a second `find`, or one that
/// finds several records of payments.
///
/// `Outbox::book` of `tower-referral-outbox` has an implementation on PostgreSQL and SQLite;
/// [`MemoryBooks`](super::MemoryBooks) is one for tests.
pub trait Books {
    /// Why records could neither be read nor written.
    type Error;

    /// Returns every record that has one of these links.
    fn find(
        &mut self,
        links: &[Link],
    ) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Returns every record that has this one among its [`customers`](Record::customers), as it is now:
    /// for [`erase`](super::erase).
    fn of_customer(
        &mut self,
        customer: &str,
    ) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Stores and removes records.
    fn save(&mut self, changes: &Changes) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the credit in the application's own row of this customer. It counts for every payment that
    /// has none yet, however old. By default there is none: the credit is what
    /// [`PaymentLink::of_customer`](super::PaymentLink::of_customer) booked at sign-up.
    fn credit(
        &mut self,
        customer: &str,
    ) -> impl Future<Output = Result<Option<Credit>, Self::Error>> + Send {
        let _ = customer;
        async { Ok(None) }
    }
}

/// What is to be stored. `Debug` shows neither referral nor customer.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// Records to insert, or to put in the place of those with the same ID, links included.
    pub saved: Vec<Record>,
    /// The IDs of records to remove: another one has all that they had, or their customer was erased.
    pub removed: Vec<String>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed: Vec<&str> = self.removed.iter().map(|id| shown(id)).collect();
        f.debug_struct("Changes")
            .field("saved", &self.saved)
            .field("removed", &removed)
            .finish()
    }
}

/// What an event led to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "the reports are to be enqueued in the transaction in which the event was booked"]
pub struct Booked {
    /// What platforms are to be told, in this order.
    pub reports: Vec<Report>,
    /// Why there is nothing to report, or why something is still missing.
    pub reason: Option<Reason>,
}

impl Booked {
    pub(super) fn nothing(reason: Reason) -> Self {
        Self {
            reports: Vec::new(),
            reason: Some(reason),
        }
    }
}
