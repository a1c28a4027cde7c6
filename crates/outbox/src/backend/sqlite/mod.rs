//! The outbox in SQLite.

mod payments;

use std::time::SystemTime;

use futures_util::future::BoxFuture;
use serde_json::json;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Pool, Row, Sqlite};
use tower_referral::ClickId;
use tower_referral::click::Click;

use super::{
    Changed, ClaimRule, Clean, Database, Depth, Operations, READS, REPORT_VERSION, enqueued,
    json_of,
};
use crate::row::{Claim, Claimed, Entry, Lease, Paused, Saved, State, millis, time};
use crate::{Enqueued, Error, sql};

/// Takes the database for writing at once, so that what is read within is still so when it is
/// written.
const BEGIN: &str = "BEGIN IMMEDIATE";

impl Database for Sqlite {}

/// What is written must be on the disk before anything is sent to a platform that doesn't
/// deduplicate. `NORMAL`, which is usual with a write-ahead log, may forget it when the power fails.
async fn durable(pool: &Pool<Sqlite>) -> Result<PoolConnection<Sqlite>, Error> {
    let mut connection = pool.acquire().await?;
    sqlx::query("PRAGMA synchronous = FULL")
        .execute(&mut *connection)
        .await?;
    Ok(connection)
}

/// Reads a column of text as bytes: SQLite stores anything there, bytes, and text that isn't UTF-8 or was
/// made of half a surrogate pair in the report's JSON.
fn bytes(row: &SqliteRow, column: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(row.try_get_unchecked(column)?)
}

/// Reads a column of text, with a replacement character for what isn't UTF-8.
fn text(row: &SqliteRow, column: &str) -> Result<Option<String>, Error> {
    let bytes = bytes(row, column)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

impl Operations for Sqlite {
    shared_operations!(sql::SQLITE_ENQUEUE, sql::SQLITE_ENQUEUE_ALL);

    fn clock(offset: i64) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        millis(now.unwrap_or_default()) + offset
    }

    /// A database in memory is one pool's own, and a file has one writer anyway.
    fn worker_pool(pool: &Pool<Sqlite>) -> Pool<Sqlite> {
        pool.clone()
    }

    async fn migrate(pool: &Pool<Sqlite>) -> Result<(), Error> {
        let mut transaction = pool.begin_with(BEGIN).await?;
        run_schema!(transaction, sql::SQLITE_SCHEMA);
        transaction.commit().await?;
        Ok(())
    }

    async fn is_migrated(pool: &Pool<Sqlite>) -> Result<(), Error> {
        is_of_this_version!(
            pool,
            "SELECT version FROM referral_outbox_schema
             WHERE EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'referral_outbox')",
            sql::SQLITE_SCHEMA
        )
    }

    async fn claim(
        pool: &Pool<Sqlite>,
        rule: &ClaimRule,
        token: String,
        batch: i64,
        clock: i64,
        cursor: (i64, i64),
    ) -> Result<Claim, Error> {
        // Nothing is locked to find out that nothing is due.
        let is_due = sqlx::query(include_str!("due.sql"))
            .bind(clock)
            .bind(REPORT_VERSION)
            .fetch_one(pool)
            .await?;
        let mut claim = Claim::default();
        if !is_due.try_get::<bool, _>(0)? {
            return Ok(claim);
        }
        let mut transaction = pool.begin_with(BEGIN).await?;
        let rows = sqlx::query(include_str!("look.sql"))
            .bind(clock)
            .bind(REPORT_VERSION)
            .bind(millis(rule.refund_patience))
            .bind(millis(rule.click_patience))
            .bind(rule.look)
            .bind(cursor.0)
            .bind(cursor.1)
            .bind(rule.decide(batch))
            .fetch_all(&mut *transaction)
            .await?;
        let Some(first) = rows.first() else {
            return Ok(claim);
        };
        claim.looked = first.try_get("looked")?;
        claim.passed_over = first.try_get("passed_over")?;
        let mut next = None;
        let mut decisions = Vec::with_capacity(rows.len());
        for row in &rows {
            let decision: String = row.try_get("decision")?;
            if decision == "claimed" {
                if claim.rows.len() as i64 >= batch {
                    // The next claim goes on with the first that this one leaves.
                    if next.is_none() {
                        next = Some((row.try_get("not_before")?, row.try_get("seq")?));
                    }
                    continue;
                }
                claim.rows.push(claimed!(row, token));
            }
            decisions.push(json!({
                "seq": row.try_get::<i64, _>("seq")?,
                "decision": decision,
                "in_front": row.try_get::<Option<i64>, _>("in_front")?,
                "was_blocked": row.try_get::<i64, _>("was_blocked")?,
            }));
        }
        claim.next = match (next, rows.last()) {
            (None, Some(last)) if rows.len() as i64 >= rule.decide(batch) => {
                (last.try_get("not_before")?, last.try_get("seq")?)
            }
            (None, _) => (
                first.try_get("last_not_before")?,
                first.try_get("last_seq")?,
            ),
            (Some(next), _) => next,
        };
        sqlx::query(include_str!("claim.sql"))
            .bind(json!(decisions).to_string())
            .bind(token)
            .bind(millis(rule.lease))
            .bind(clock)
            .bind(millis(rule.refund_patience))
            .bind(millis(rule.click_patience))
            .bind(millis(rule.follower_delay))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(claim)
    }

    async fn save(pool: &Pool<Sqlite>, rows: &[Saved], clock: i64) -> Result<(), Error> {
        let rows = json!(rows).to_string();
        let mut transaction = pool.begin_with(BEGIN).await?;
        for statement in [
            include_str!("save_missed.sql"),
            include_str!("save.sql"),
            include_str!("wake.sql"),
            include_str!("follow.sql"),
            include_str!("reopen.sql"),
        ] {
            sqlx::query(statement)
                .bind(rows.as_str())
                .bind(clock)
                .fetch_all(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Other processes look every moment; SQLite can't tell them.
    async fn notify(_: &Pool<Sqlite>) -> Result<(), Error> {
        Ok(())
    }

    async fn listen(_: Pool<Sqlite>, _: impl Fn() + Send + 'static) {
        std::future::pending::<()>().await;
    }
}
