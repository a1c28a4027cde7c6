//! The outbox itself: how it is opened, how reports get in, and what people and dashboards ask of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Acquire, Executor, Pool};
use tokio::sync::watch;
use tower_referral::click::Click;
use tower_referral::{ClickId, InvalidClickId};
use tower_referral_platforms::{Outcome, Report};

use crate::backend::Database;
use crate::row::{Entry, Status, millis};
use crate::{Enqueued, Error, sql};

/// Reports in the application's own database. Cheap to clone.
pub struct Outbox<D: Database> {
    pool: Pool<D>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) credit_query: Option<Arc<str>>,
}

/// What the outbox and its workers in this process share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Changes when something is due.
    pub(crate) due: watch::Sender<()>,
    /// Changes when a person wants paused workers to try at once.
    pub(crate) probe: watch::Sender<()>,
    /// Milliseconds that are added to the database's clock.
    offset: AtomicI64,
}

impl Shared {
    pub(crate) fn clock<D: Database>(&self) -> i64 {
        D::clock(self.offset.load(Ordering::Relaxed))
    }
}

#[cfg(feature = "postgres")]
impl Outbox<sqlx::Postgres> {
    /// Opens the outbox in a PostgreSQL database.
    #[must_use]
    pub fn postgres(pool: Pool<sqlx::Postgres>) -> Self {
        Self::new(pool)
    }
}

#[cfg(feature = "sqlite")]
impl Outbox<sqlx::Sqlite> {
    /// Opens the outbox in an SQLite database. Use a write-ahead log (`journal_mode(Wal)`), so that
    /// the shop's pages don't wait for the worker.
    #[must_use]
    pub fn sqlite(pool: Pool<sqlx::Sqlite>) -> Self {
        Self::new(pool)
    }
}

impl<D: Database> Outbox<D> {
    fn new(pool: Pool<D>) -> Self {
        Self {
            pool,
            shared: Arc::default(),
            credit_query: None,
        }
    }

    /// Creates the outbox's tables where they aren't there yet, in the same database as the
    /// application's: several processes may do so at once, and a later version of this crate adds
    /// what it needs. For migrations by another tool there is [`sql::POSTGRES_SCHEMA`].
    ///
    /// # Errors
    ///
    /// The database failed, or doesn't let this user create tables.
    pub async fn migrate(self) -> Result<Self, Error> {
        D::migrate(&self.pool).await?;
        Ok(self)
    }

    /// Enqueues a report: one row, in one round trip, within the transaction of the caller. With the
    /// transaction it is committed, or never was. The report is sent soon after the commit, by any
    /// worker on this database; call [`wake`](Self::wake) after the commit to have it sent at once.
    ///
    /// A report of an ID that is there already is [known](Enqueued::Known), and nothing is sent
    /// again; one that brings the credit that the first lacked [changes](Enqueued::Changed) it.
    ///
    /// In PostgreSQL a transaction that enqueues for several orders should do so by
    /// [`enqueue_all`](Self::enqueue_all), or in the order of their IDs, so that two such
    /// transactions don't wait for each other.
    ///
    /// # Errors
    ///
    /// The database failed: roll the transaction back. Or the report can't be read back from its JSON:
    /// [`Error::Report`], and the database hasn't seen it. Metadata is never the cause: what can't be
    /// stored of it is [cut](sql::json).
    pub fn enqueue<'c, E>(
        &self,
        executor: E,
        report: impl Into<Report>,
    ) -> BoxFuture<'c, Result<Enqueued, Error>>
    where
        E: Executor<'c, Database = D> + 'c,
    {
        match sql::json(report) {
            Ok(report) => D::enqueue(executor, report),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// Enqueues several reports in one round trip, and returns what became of each. Of reports with
    /// one ID the first counts, or the first with credit.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue): one report that can't be read back refuses all.
    pub fn enqueue_all<'c, E>(
        &self,
        executor: E,
        reports: impl IntoIterator<Item = Report>,
    ) -> BoxFuture<'c, Result<Vec<Enqueued>, Error>>
    where
        E: Executor<'c, Database = D> + 'c,
    {
        let reports: Vec<Report> = reports.into_iter().collect();
        let ids: Vec<String> = reports.iter().map(Report::id).collect();
        let mut distinct: Vec<usize> = Vec::new();
        for (place, report) in reports.iter().enumerate() {
            match distinct.iter_mut().find(|kept| ids[**kept] == ids[place]) {
                Some(kept) if reports[*kept].credit().is_none() && report.credit().is_some() => {
                    *kept = place;
                }
                Some(_) => {}
                None => distinct.push(place),
            }
        }
        let texts: Result<Vec<String>, Error> = distinct
            .iter()
            .map(|place| sql::json(reports[*place].clone()))
            .collect();
        let list = match texts {
            Ok(texts) => format!("[{}]", texts.join(",")),
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let changed = D::enqueue_all(executor, list);
        Box::pin(async move {
            let changed = changed.await?;
            let outcome = |place: usize| {
                if !distinct.contains(&place) {
                    return Enqueued::Known;
                }
                let id = Some(&ids[place]);
                match changed.iter().find(|(changed, _)| changed.as_ref() == id) {
                    Some((_, 1)) => Enqueued::New,
                    Some(_) => Enqueued::Changed,
                    None => Enqueued::Known,
                }
            };
            Ok((0..ids.len()).map(outcome).collect())
        })
    }

    /// Has the workers look at once, in this process and, on PostgreSQL, in every other: call it
    /// after the commit. Without it they look several times a second.
    ///
    /// # Errors
    ///
    /// The database failed, and nothing is lost by it.
    pub async fn wake(&self) -> Result<(), Error> {
        self.shared.due.send_replace(());
        D::notify(&self.pool).await
    }

    /// Returns what needs a person: [failed](crate::State::Failed),
    /// [ambiguous](crate::State::Ambiguous) and [unreadable](crate::State::Unreadable) reports, by
    /// row, after the row of the page before (0 for the first) and at most so many. No row's content
    /// hides the others: what can't be read of one is [said in its entry](Entry::unreadable).
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn problems(&self, after: i64, limit: u32) -> Result<Vec<Entry>, Error> {
        D::problems(&self.pool, after, limit.into()).await
    }

    /// Sends one of the [problems](Self::problems) again, by its ID: after somebody has looked at
    /// the platform that it isn't there. Returns `false` if it is none, or if its content was removed.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn resend(&self, id: &str) -> Result<bool, Error> {
        let sent = D::resend(&self.pool, Some(id.to_owned()), None, self.clock()).await?;
        self.wake().await?;
        Ok(sent > 0)
    }

    /// Sends one of the [problems](Self::problems) again, by its row, as [`resend`](Self::resend): for
    /// what has no ID.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn resend_row(&self, row: i64) -> Result<bool, Error> {
        let sent = D::resend(&self.pool, None, Some(row), self.clock()).await?;
        self.wake().await?;
        Ok(sent > 0)
    }

    /// Sends all [problems](Self::problems) again whose content is still there, and has paused workers
    /// try at once. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn resend_all(&self) -> Result<u64, Error> {
        let sent = D::resend(&self.pool, None, None, self.clock()).await?;
        self.probe().await?;
        Ok(sent)
    }

    /// Has paused workers try at once, in every process: after the API key was replaced, say.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn probe(&self) -> Result<(), Error> {
        self.shared.probe.send_replace(());
        D::probe(&self.pool).await?;
        self.wake().await
    }

    /// Closes one of the [problems](Self::problems) after somebody has looked at the platform: the
    /// report is there, or is not wanted there. Returns `false` if it is no problem.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn settle(&self, id: &str, outcome: Outcome) -> Result<bool, Error> {
        let settled = D::settle(&self.pool, id.to_owned(), outcome.as_str(), self.clock()).await?;
        Ok(settled > 0)
    }

    /// Returns the report of this [ID](Report::id).
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn find(&self, id: &str) -> Result<Option<Entry>, Error> {
        D::find(&self.pool, id.to_owned()).await
    }

    /// Returns everything about an order or a customer, the oldest first: "why wasn't this partner
    /// paid?" An order's ID gives its sale, refunds and updates; a customer's ID gives the sign-up
    /// and everything about the customer's orders.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn history(&self, order_or_customer: &str) -> Result<Vec<Entry>, Error> {
        let escaped = order_or_customer.replace('%', "%25").replace(':', "%3A");
        let order_key = format!("order:{escaped}");
        let customer_key = format!("customer:{escaped}");
        D::history(
            &self.pool,
            order_or_customer.to_owned(),
            order_key,
            customer_key,
        )
        .await
    }

    /// Erases a customer, by ID or, for those without one, by e-mail address: removes the content of
    /// all the customer's reports, withdraws what wasn't sent, and returns how many reports there
    /// were. A refund, its reversal or an update of a sale that the platform may know of is sent all the
    /// same, without the customer and the reason, so that money that went back earns no commission; a
    /// platform that can't do without the customer makes it one of the [problems](Self::problems), with the
    /// order and the amount. What is on its way isn't written back; clicks of the reports' landings that
    /// are or would be [kept](Self::put_click) go too, and the customer of [payments](Self::book). IDs of
    /// orders and outcomes stay, so that a repeated webhook reports nothing twice; nor does one that comes
    /// later bring the customer back, as long as [payments are kept](crate::WorkerBuilder::keep_payments):
    /// see [`payment::erase`](tower_referral_platforms::payment::erase), which says who is new after that.
    ///
    /// What a customer of a payment provider paid before it was known whose the payment is was reported
    /// under the provider's ID (`cus_…`), or under the order's where there is none: erase that, too.
    ///
    /// The connection may be a transaction in which the application erases its own rows.
    ///
    /// # Errors
    ///
    /// The database failed: roll the transaction back.
    pub fn erase<'c, C>(&self, connection: C, customer: &str) -> BoxFuture<'c, Result<u64, Error>>
    where
        C: Acquire<'c, Database = D> + Send + 'c,
    {
        D::erase(connection, customer.to_owned(), self.clock())
    }

    /// Keeps the platform's answer to a click that came after the page was gone, under the reference
    /// of the landing, for the report that needs it: of whichever server. `ttl` is how long a referral
    /// counts.
    ///
    /// A report whose [credit](tower_referral_platforms::Credit) has the reference and no click ID waits
    /// for it a moment ([`click_patience`](crate::WorkerBuilder::click_patience)), and goes without it
    /// after that. Credit of a [`Referral`](tower_referral::Referral) has its reference. After the
    /// customer of such a report was [erased](Self::erase), nothing is kept under it any more.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// # use tower_referral_outbox::Outbox;
    /// # fn configure(pool: sqlx::PgPool, outbox: Outbox<sqlx::Postgres>, clicks: tower_referral::click::Clicks) {
    /// use std::time::Duration;
    /// use tower_referral::click::LateClick;
    ///
    /// const WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    ///
    /// let clicks = clicks.on_late_result(move |late: LateClick| {
    ///     let (pool, outbox) = (pool.clone(), outbox.clone());
    ///     async move {
    ///         let kept = outbox.put_click(&pool, &late.reference, &late.click, WINDOW);
    ///         if let Err(error) = kept.await {
    ///             eprintln!("a click ID that came late is lost: {error}");
    ///         }
    ///     }
    /// });
    /// # }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn put_click<'c, E>(
        &self,
        executor: E,
        reference: &str,
        click: &Click,
        ttl: Duration,
    ) -> BoxFuture<'c, Result<(), Error>>
    where
        E: Executor<'c, Database = D> + 'c,
    {
        D::put_click(
            executor,
            reference.to_owned(),
            click.clone(),
            millis(ttl),
            self.clock(),
        )
    }

    /// Returns the click that is kept under a landing's reference.
    ///
    /// # Errors
    ///
    /// The database failed, or what another program stored there isn't the ID of a click.
    pub async fn click(&self, reference: &str) -> Result<Option<Click>, Error> {
        let stored = D::click(&self.pool, reference.to_owned(), self.clock()).await?;
        let click = stored.map(|(id, partner_id)| read_click(&id, partner_id.as_deref()));
        click
            .transpose()
            .map_err(|error| Error::Database(sqlx::Error::Decode(error.into())))
    }

    /// Returns how the outbox is: what waits, what needs a person, and which workers pause and why.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn status(&self) -> Result<Status, Error> {
        let clock = self.clock();
        let depth = D::depth(&self.pool, clock).await?;
        let count = |count: i64| count.max(0) as u64;
        Ok(Status {
            open: count(depth.open),
            oldest: depth.oldest.map(|age| Duration::from_millis(count(age))),
            failed: count(depth.failed),
            ambiguous: count(depth.ambiguous),
            unreadable: count(depth.unreadable),
            pauses: D::pauses(&self.pool, clock).await?,
        })
    }

    /// Sets the outbox's clock forward, for tests of what takes days.
    #[doc(hidden)]
    pub fn advance_clock(&self, by: Duration) {
        self.shared.offset.fetch_add(millis(by), Ordering::Relaxed);
    }

    pub(crate) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    fn clock(&self) -> i64 {
        self.shared.clock::<D>()
    }
}

impl<D: Database> Clone for Outbox<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            shared: Arc::clone(&self.shared),
            credit_query: self.credit_query.clone(),
        }
    }
}

impl<D: Database> fmt::Debug for Outbox<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// Reads a click as it is stored.
pub(crate) fn read_click(id: &str, partner_id: Option<&str>) -> Result<Click, InvalidClickId> {
    let partner_id = partner_id.map(str::parse::<ClickId>).transpose()?;
    Ok(Click::new(id.parse()?).with_partner_id(partner_id))
}
