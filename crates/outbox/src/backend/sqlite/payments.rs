//! Payments in SQLite, where one transaction writes at a time.

use serde_json::json;
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection};

use crate::backend::payments::{FoundPayments, Payments, SavedPayments};
use crate::{Error, sql};

/// Waits for the writer's turn before anything is read.
async fn lock(connection: &mut SqliteConnection) -> Result<(), Error> {
    sqlx::query(include_str!("lock_payments.sql"))
        .execute(connection)
        .await?;
    Ok(())
}

impl Payments for Sqlite {
    async fn find_payments(
        connection: &mut SqliteConnection,
        links: Vec<String>,
    ) -> Result<FoundPayments, Error> {
        lock(connection).await?;
        let mut found = FoundPayments::default();
        let mut wanted = links;
        while !wanted.is_empty() {
            let rows = sqlx::query(include_str!("find_payments.sql"))
                .bind(json!(wanted).to_string())
                .fetch_all(&mut *connection)
                .await?;
            let mut more = Vec::new();
            for row in &rows {
                found.records.push(row.try_get("record")?);
                if let Some(link) = row.try_get::<Option<String>, _>("customer")? {
                    let is_known = [&found.locked, &wanted, &more]
                        .iter()
                        .any(|links| links.contains(&link));
                    if !is_known {
                        more.push(link);
                    }
                }
            }
            found.locked.extend(more.iter().cloned());
            wanted = more;
        }
        Ok(found)
    }

    async fn save_payments(
        connection: &mut SqliteConnection,
        changes: SavedPayments,
        reports: String,
        clock: i64,
    ) -> Result<(), Error> {
        let changes = json!(changes).to_string();
        for statement in [
            include_str!("remove_payments.sql"),
            include_str!("unlink_payments.sql"),
            include_str!("save_payments.sql"),
            include_str!("link_payments.sql"),
            include_str!("use_payments.sql"),
        ] {
            sqlx::query(statement)
                .bind(changes.as_str())
                .bind(clock)
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query(sql::SQLITE_ENQUEUE_ALL)
            .bind(reports)
            .fetch_all(connection)
            .await?;
        Ok(())
    }

    async fn payments_of(
        connection: &mut SqliteConnection,
        link: String,
    ) -> Result<Vec<String>, Error> {
        lock(connection).await?;
        let rows = sqlx::query(include_str!("payments_of.sql"))
            .bind(link)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get("record")?)).collect()
    }

    customer_credit!();
}
