//! The databases: the same operations on PostgreSQL and SQLite, each with statements of its own in the
//! folder of its name.

use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Executor, Pool};
use tower_referral::click::Click;

use crate::row::{Claim, Entry, Lease, Paused, Saved};
use crate::{Enqueued, Error};

/// A database that the outbox can be in: `sqlx::Postgres` or `sqlx::Sqlite`.
pub trait Database: sqlx::Database + Operations + Payments {}

/// The newest version of a report's JSON that this build reads.
pub(crate) const REPORT_VERSION: i32 = 1;
/// Grows with every kind of report that this build reads, so that what an older build set aside is
/// looked at again.
pub(crate) const READS: i32 = 1;

/// What a worker may claim, and how long what can't be claimed is put off.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct ClaimRule {
    pub(crate) worker: String,
    pub(crate) lease: Duration,
    pub(crate) refund_patience: Duration,
    pub(crate) click_patience: Duration,
    pub(crate) follower_delay: Duration,
    /// How many rows are looked at, at least as many as are claimed.
    pub(crate) look: i64,
}

impl ClaimRule {
    /// How many of the rows that are looked at are decided on, at most: the first of each key.
    #[cfg(feature = "sqlite")]
    pub(crate) fn decide(&self, batch: i64) -> i64 {
        (batch * 2).max(self.look / 8)
    }
}

/// IDs of rows that were written, with their revisions.
type Changed = Vec<(Option<String>, i32)>;

/// Counts in [`Status`](crate::Status), as the database has them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    pub(crate) open: i64,
    pub(crate) oldest: Option<i64>,
    pub(crate) failed: i64,
    pub(crate) ambiguous: i64,
    pub(crate) unreadable: i64,
}

/// What the outbox does in its database. `clock` is what a statement takes for the time: in
/// PostgreSQL an offset from the server's own clock, in SQLite the time itself.
#[doc(hidden)]
pub trait Operations: sqlx::Database {
    fn clock(offset: i64) -> i64;
    fn worker_pool(pool: &Pool<Self>) -> Pool<Self>;
    fn migrate(pool: &Pool<Self>) -> impl Future<Output = Result<(), Error>> + Send;
    fn is_migrated(pool: &Pool<Self>) -> impl Future<Output = Result<(), Error>> + Send;
    fn enqueue<'c, E: Executor<'c, Database = Self> + 'c>(
        executor: E,
        report: String,
    ) -> BoxFuture<'c, Result<Enqueued, Error>>;
    fn enqueue_all<'c, E: Executor<'c, Database = Self> + 'c>(
        executor: E,
        reports: String,
    ) -> BoxFuture<'c, Result<Changed, Error>>;
    fn claim(
        pool: &Pool<Self>,
        rule: &ClaimRule,
        token: String,
        batch: i64,
        clock: i64,
        cursor: (i64, i64),
    ) -> impl Future<Output = Result<Claim, Error>> + Send;
    fn mark(
        pool: &Pool<Self>,
        seq: i64,
        token: String,
        lease: i64,
        clock: i64,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Stores the IDs that the platform returned in the midst of an attempt, and returns whether the
    /// row is still in this worker's hand.
    fn save_ids(
        pool: &Pool<Self>,
        seq: i64,
        token: String,
        ids: String,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    fn renew(
        pool: &Pool<Self>,
        rows: &[Lease],
        lease: i64,
        clock: i64,
    ) -> impl Future<Output = Result<Vec<i64>, Error>> + Send;
    fn release(
        pool: &Pool<Self>,
        rows: &[Lease],
        clock: i64,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    fn save(
        pool: &Pool<Self>,
        rows: &[Saved],
        clock: i64,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    fn resend(
        pool: &Pool<Self>,
        id: Option<String>,
        seq: Option<i64>,
        clock: i64,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
    fn settle(
        pool: &Pool<Self>,
        id: String,
        outcome: &'static str,
        clock: i64,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
    fn find(
        pool: &Pool<Self>,
        id: String,
    ) -> impl Future<Output = Result<Option<Entry>, Error>> + Send;
    fn problems(
        pool: &Pool<Self>,
        after: i64,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Entry>, Error>> + Send;
    fn history(
        pool: &Pool<Self>,
        name: String,
        order_key: String,
        customer_key: String,
    ) -> impl Future<Output = Result<Vec<Entry>, Error>> + Send;
    fn erase<'c, C: sqlx::Acquire<'c, Database = Self> + Send + 'c>(
        connection: C,
        customer: String,
        clock: i64,
    ) -> BoxFuture<'c, Result<u64, Error>>;
    /// Runs one of the statements that clean up, and returns how many rows it changed.
    fn clean(
        pool: &Pool<Self>,
        what: Clean,
        clock: i64,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
    fn put_click<'c, E: Executor<'c, Database = Self> + 'c>(
        executor: E,
        reference: String,
        click: Click,
        ttl: i64,
        clock: i64,
    ) -> BoxFuture<'c, Result<(), Error>>;
    /// Returns the IDs of click and partner.
    fn click(
        pool: &Pool<Self>,
        reference: String,
        clock: i64,
    ) -> impl Future<Output = Result<Option<(String, Option<String>)>, Error>> + Send;
    /// Notes that a worker lives, and returns whether a person wants it to try at once.
    fn worker_seen(
        pool: &Pool<Self>,
        worker: String,
        paused: Option<(i64, String)>,
        clock: i64,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    fn worker_gone(
        pool: &Pool<Self>,
        worker: String,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    fn probe(pool: &Pool<Self>) -> impl Future<Output = Result<(), Error>> + Send;
    fn pauses(
        pool: &Pool<Self>,
        clock: i64,
    ) -> impl Future<Output = Result<Vec<Paused>, Error>> + Send;
    fn depth(pool: &Pool<Self>, clock: i64) -> impl Future<Output = Result<Depth, Error>> + Send;
    /// Has the other processes look for due reports at once, where the database can.
    fn notify(pool: &Pool<Self>) -> impl Future<Output = Result<(), Error>> + Send;
    /// Waits until another process calls [`notify`](Self::notify), or for ever where that can't be.
    fn listen(
        pool: Pool<Self>,
        heard: impl Fn() + Send + 'static,
    ) -> impl Future<Output = ()> + Send;
}

/// Which rows are cleaned up.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Clean {
    /// The content of what was finished so long ago.
    Content(Duration),
    /// What is left of what was finished so long ago.
    Rows(Duration),
    /// Payments and accounts that nobody has needed for so long.
    Payments(Duration),
    /// Clicks that nobody has asked for in time.
    Clicks,
    /// Rows that an older build couldn't read.
    Unread,
}

fn enqueued(revision: Option<i32>) -> Enqueued {
    match revision {
        None => Enqueued::Known,
        Some(1) => Enqueued::New,
        Some(_) => Enqueued::Changed,
    }
}

/// Reads a column of JSON, as far as it can be read.
fn json_of<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

pub(crate) use payments::Payments;

pub(crate) mod payments;
#[macro_use]
mod shared;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
