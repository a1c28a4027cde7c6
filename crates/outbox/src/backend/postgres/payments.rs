//! Payments in PostgreSQL. To find takes one round trip, and so does to store and enqueue.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};

use crate::Error;
use crate::backend::payments::{FoundPayments, Payments, SavedPayments};

/// Stores, and enqueues what follows.
const SAVE: &str = concat!(
    include_str!("save_payments.sql"),
    include_str!("enqueue_all.sql"),
    include_str!("../on_conflict.sql"),
    ") SELECT count(*) AS seq FROM reported"
);

impl Payments for Postgres {
    async fn find_payments(
        connection: &mut PgConnection,
        links: Vec<String>,
    ) -> Result<FoundPayments, Error> {
        let rows = sqlx::query(include_str!("find_payments.sql"))
            .bind(links)
            .fetch_all(connection)
            .await?;
        let mut found = FoundPayments::default();
        for row in &rows {
            found.locked.extend(row.try_get::<Option<_>, _>("locked")?);
            found.records.extend(row.try_get::<Option<_>, _>("found")?);
        }
        Ok(found)
    }

    async fn save_payments(
        connection: &mut PgConnection,
        changes: SavedPayments,
        reports: String,
        clock: i64,
    ) -> Result<(), Error> {
        let (mut ids, mut customers, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for row in changes.saved {
            ids.push(row.id);
            customers.push(row.customer);
            records.push(row.record);
        }
        let (links, of): (Vec<String>, Vec<String>) = changes.links.into_iter().unzip();
        sqlx::query(SAVE)
            .bind(reports)
            .bind(changes.removed)
            .bind(ids)
            .bind(customers)
            .bind(records)
            .bind(links)
            .bind(of)
            .bind(changes.used)
            .bind(clock)
            .fetch_one(connection)
            .await?;
        Ok(())
    }

    async fn payments_of(
        connection: &mut PgConnection,
        link: String,
    ) -> Result<Vec<String>, Error> {
        let rows = sqlx::query(include_str!("payments_of.sql"))
            .bind(link)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get("record")?)).collect()
    }

    customer_credit!();
}
