//! Payments in the application's database: what an event of a payment provider leads to is stored
//! beside the outbox, and enqueued, in one transaction.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;
use sqlx::Transaction;
use tower_referral_platforms::payment::{self, Booked, Books, Changes, Event, Link, Record, book};
use tower_referral_platforms::{Credit, Report};

use crate::backend::Database;
use crate::backend::payments::{key, owner, read, saved};
use crate::{Error, Outbox, sql};

impl<D: Database> Outbox<D> {
    /// Sets a query that gives the credit in the application's own row of a customer: one column, with
    /// the JSON of a [`Credit`] or of a `Referral`, as text or as JSON, or null. Its parameter is any
    /// customer's ID, as text: the shop's, or, where the shop put none into the payment, the payment
    /// provider's. Without it the credit is what [`PaymentLink::of_customer`] booked at sign-up.
    ///
    /// [`PaymentLink::of_customer`]: tower_referral_platforms::payment::PaymentLink::of_customer
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # fn open(pool: sqlx::PgPool) {
    /// let outbox = tower_referral_outbox::Outbox::postgres(pool).with_credit_query(
    ///     "SELECT credit FROM users WHERE id::text = $1 OR stripe_customer = $1",
    /// );
    /// # }
    /// ```
    #[must_use]
    pub fn with_credit_query(mut self, query: impl Into<String>) -> Self {
        let query = query.into();
        let query = query.trim().trim_end_matches(';');
        // As text, whatever the column's type is.
        let query = format!(
            "WITH referral_credit_query(credit) AS (\n{query}\n) \
             SELECT CAST(credit AS text) AS credit FROM referral_credit_query LIMIT 1"
        );
        self.credit_query = Some(query.into());
        self
    }

    /// Books an event of a payment provider, within the transaction of the caller: stores what is new
    /// of it, enqueues what platforms are to be told, and returns both.
    ///
    /// Events may come twice, in any order, and at the same time in several processes: see
    /// [`book`]. It takes two round trips, and one more where the
    /// [credit query](Self::with_credit_query) is asked or where an event brings what earlier payments
    /// were waiting for.
    ///
    /// In SQLite begin the transaction with `BEGIN IMMEDIATE` if it reads before it books; in
    /// PostgreSQL it is one of READ COMMITTED, which is the default, or SERIALIZABLE.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn book(
    /// #     outbox: tower_referral_outbox::Outbox<sqlx::Postgres>,
    /// #     pool: sqlx::PgPool,
    /// #     event: tower_referral_platforms::payment::Event,
    /// # ) -> Result<(), tower_referral_outbox::Error> {
    /// let mut tx = pool.begin().await?;
    /// let booked = outbox.book(&mut tx, &event).await?;
    /// tx.commit().await?;
    /// if booked.reason.is_some_and(|reason| reason.needs_attention()) {
    ///     eprintln!("an event needs a person: {:?}", booked.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The database failed, or the credit query's answer isn't a credit. Roll the transaction back, and
    /// answer with a 5xx status: the provider sends the event again.
    pub async fn book(
        &self,
        transaction: &mut Transaction<'_, D>,
        event: &Event,
    ) -> Result<Booked, Error> {
        let mut books = self.payment_books(transaction);
        books.is_deferred = true;
        let booked = book(&mut books, event).await?;
        if let Some(changes) = books.deferred.take() {
            books.store(&changes, &booked.reports).await?;
        }
        Ok(booked)
    }

    /// Returns the books of [`book`](Self::book) alone, for an application that does something else
    /// with the reports than to enqueue them all:
    /// [`payment::book`](tower_referral_platforms::payment::book) takes them.
    pub fn payment_books<'t>(
        &self,
        transaction: &'t mut Transaction<'_, D>,
    ) -> PaymentBooks<'t, D> {
        PaymentBooks {
            credit_query: self.credit_query.as_deref().map(str::to_owned),
            ..PaymentBooks::new(&mut **transaction, self.shared.clock::<D>())
        }
    }
}

/// Removes a customer from what is stored of payments.
pub(crate) async fn erase<D: Database>(
    connection: &mut D::Connection,
    customer: &str,
    clock: i64,
) -> Result<(), Error> {
    let mut books = PaymentBooks::<D>::new(connection, clock);
    payment::erase(&mut books, customer).await
}

/// What is stored of payments, in a transaction: see [`Outbox::payment_books`].
pub struct PaymentBooks<'t, D: Database> {
    connection: &'t mut D::Connection,
    credit_query: Option<String>,
    clock: i64,
    /// Keys of links that are locked, and whose records are all in `found`.
    known: BTreeSet<String>,
    found: Vec<Record>,
    /// Whether changes wait for the reports that they are stored with.
    is_deferred: bool,
    deferred: Option<Changes>,
}

impl<D: Database> Books for PaymentBooks<'_, D> {
    type Error = Error;

    async fn find(&mut self, links: &[Link]) -> Result<Vec<Record>, Error> {
        let keys: Vec<String> = links.iter().map(|link| key(link.as_str())).collect();
        let is_new = |key: &&String| !self.known.contains(*key);
        let new: Vec<String> = keys.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            let found = D::find_payments(&mut *self.connection, new.clone()).await?;
            for text in &found.records {
                let record = read(text)?;
                if !self.found.iter().any(|known| known.id() == record.id()) {
                    self.found.push(record);
                }
            }
            self.known.extend(new);
            self.known.extend(found.locked);
        }
        let has_link = |record: &&Record| {
            record
                .links()
                .any(|link| keys.contains(&key(link.as_str())))
        };
        Ok(self.found.iter().filter(has_link).cloned().collect())
    }

    async fn of_customer(&mut self, customer: &str) -> Result<Vec<Record>, Error> {
        let texts = D::payments_of(&mut *self.connection, owner(customer)).await?;
        texts.iter().map(|text| read(text)).collect()
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), Error> {
        if self.is_deferred {
            self.deferred = Some(changes.clone());
            return Ok(());
        }
        self.store(changes, &[]).await
    }

    async fn credit(&mut self, customer: &str) -> Result<Option<Credit>, Error> {
        let Some(query) = self.credit_query.clone() else {
            return Ok(None);
        };
        let json = D::customer_credit(&mut *self.connection, query, customer.to_owned()).await?;
        json.map_or(Ok(None), |json| read_credit(&json))
    }
}

impl<'t, D: Database> PaymentBooks<'t, D> {
    fn new(connection: &'t mut D::Connection, clock: i64) -> Self {
        Self {
            connection,
            credit_query: None,
            clock,
            known: BTreeSet::new(),
            found: Vec::new(),
            is_deferred: false,
            deferred: None,
        }
    }

    async fn store(&mut self, changes: &Changes, reports: &[Report]) -> Result<(), Error> {
        let mut rows = saved(changes)?;
        let is_same = |id: &&str| {
            let is_saved = changes.saved.iter().any(|record| record.id() == *id);
            !is_saved && !changes.removed.iter().any(|removed| removed == id)
        };
        let used = self.found.iter().map(Record::id).filter(is_same);
        rows.used = used.map(key).collect();
        let texts: Result<Vec<String>, Error> = reports.iter().cloned().map(sql::json).collect();
        let reports = format!("[{}]", texts?.join(","));
        D::save_payments(&mut *self.connection, rows, reports, self.clock).await?;
        self.known.clear();
        self.found.clear();
        Ok(())
    }
}

impl<D: Database> fmt::Debug for PaymentBooks<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentBooks").finish_non_exhaustive()
    }
}

/// Reads the answer of the credit query. What can't be read isn't shown: it may be of a visitor. What
/// credits nobody although it has a value has a wrong name, and a partner wouldn't be paid.
fn read_credit(json: &str) -> Result<Option<Credit>, Error> {
    if json.trim().is_empty() {
        return Ok(None);
    }
    let fields: Option<serde_json::Map<String, Value>> =
        serde_json::from_str(json).map_err(|_| Error::Credit)?;
    let mut fields = fields.unwrap_or_default();
    fields.retain(|_, value| !value.is_null());
    if fields.is_empty() {
        return Ok(None);
    }
    let credit: Credit =
        serde_json::from_value(Value::Object(fields)).map_err(|_| Error::Credit)?;
    let has_any = credit.key().is_some()
        || credit.click_id().is_some()
        || credit.partner_id().is_some()
        || credit.reference().is_some();
    if has_any {
        Ok(Some(credit))
    } else {
        Err(Error::Credit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_read_or_there_is_none_or_it_is_refused() {
        let key = |json| read_credit(json).map(|credit| Some(credit?.key()?.to_string()));
        for json in ["null", " ", "{}", r#"{"key": null}"#] {
            assert_eq!(key(json).unwrap(), None, "{json}");
        }
        let referral = r#"{"key": "P1", "click_id": null, "program": "default", "window": 9,
            "captured_at": "2026-11-26T12:00:00Z", "landing_page": "/", "extra": {"a": "b"}}"#;
        for json in [r#"{"key": "P1"}"#, referral] {
            assert_eq!(key(json).unwrap().as_deref(), Some("P1"), "{json}");
        }
        for json in [
            "P1",
            r#""P1""#,
            "[]",
            r#"{"referral_key": "P1"}"#,
            r#"{"key": 7}"#,
        ] {
            assert!(matches!(read_credit(json), Err(Error::Credit)), "{json}");
        }
    }
}
