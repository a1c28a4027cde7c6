//! The outbox in PostgreSQL.

mod payments;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use sqlx::{Executor, Pool, Postgres, Row};
use tower_referral::ClickId;
use tower_referral::click::Click;

use super::{
    Changed, ClaimRule, Clean, Database, Depth, Operations, READS, REPORT_VERSION, enqueued,
    json_of,
};
use crate::row::{Claim, Claimed, Entry, Lease, Paused, Saved, State, millis, time};
use crate::{Enqueued, Error, sql};

const CHANNEL: &str = "referral_outbox";
/// How many connections a worker has of its own, the one that listens among them.
const CONNECTIONS: u32 = 6;
/// The settings of these connections. A worker that is killed leaves its statement behind in the
/// server, for a while; and every statement of a worker looks few rows up by an index, whatever the
/// planner believes of a table that has just grown.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET enable_seqscan = off; \
    SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET jit = off";
/// The advisory lock that lets one process migrate at a time.
const MIGRATING: i64 = 0x7265_6665_7272_616c;
/// Between two tries to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

impl Database for Postgres {}

/// A transaction's writes are on the disk once it is committed, unless somebody has switched that off.
async fn durable(pool: &Pool<Postgres>) -> Result<PoolConnection<Postgres>, Error> {
    Ok(pool.acquire().await?)
}

/// Reads a column of text.
fn text(row: &PgRow, column: &str) -> Result<Option<String>, Error> {
    Ok(row.try_get(column)?)
}

fn bytes(row: &PgRow, column: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(text(row, column)?.map(String::into_bytes))
}

impl Operations for Postgres {
    shared_operations!(sql::POSTGRES_ENQUEUE, sql::POSTGRES_ENQUEUE_ALL);

    fn clock(offset: i64) -> i64 {
        offset
    }

    fn worker_pool(pool: &Pool<Postgres>) -> Pool<Postgres> {
        PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(SETTINGS).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with((*pool.connect_options()).clone())
    }

    async fn migrate(pool: &Pool<Postgres>) -> Result<(), Error> {
        let mut transaction = pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATING)
            .execute(&mut *transaction)
            .await?;
        run_schema!(transaction, sql::POSTGRES_SCHEMA);
        transaction.commit().await?;
        Ok(())
    }

    async fn is_migrated(pool: &Pool<Postgres>) -> Result<(), Error> {
        is_of_this_version!(
            pool,
            "SELECT version FROM referral_outbox_schema
             WHERE to_regclass('referral_outbox') IS NOT NULL",
            sql::POSTGRES_SCHEMA
        )
    }

    async fn claim(
        pool: &Pool<Postgres>,
        rule: &ClaimRule,
        token: String,
        batch: i64,
        clock: i64,
        cursor: (i64, i64),
    ) -> Result<Claim, Error> {
        let rows = sqlx::query(include_str!("claim.sql"))
            .bind(&token)
            .bind(batch)
            .bind(millis(rule.lease))
            .bind(clock)
            .bind(cursor.0)
            .bind(cursor.1)
            .bind(REPORT_VERSION)
            .bind(millis(rule.refund_patience))
            .bind(millis(rule.click_patience))
            .bind(millis(rule.follower_delay))
            .bind(rule.look)
            .fetch_all(pool)
            .await?;
        let mut claim = Claim::default();
        for row in &rows {
            claim.looked = row.try_get("looked")?;
            claim.passed_over = row.try_get("passed_over")?;
            claim.next = (row.try_get("next_not_before")?, row.try_get("next_seq")?);
            // There is one row at least, and perhaps nothing that was decided on.
            let decision: Option<String> = row.try_get("decision")?;
            if decision.as_deref() == Some("claimed") {
                claim.rows.push(claimed!(row, token));
            }
        }
        Ok(claim)
    }

    async fn save(pool: &Pool<Postgres>, rows: &[Saved], clock: i64) -> Result<(), Error> {
        sqlx::query(include_str!("save.sql"))
            .bind(json!(rows).to_string())
            .bind(clock)
            .fetch_all(pool)
            .await?;
        Ok(())
    }

    async fn notify(pool: &Pool<Postgres>) -> Result<(), Error> {
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(CHANNEL)
            .execute(pool)
            .await?;
        Ok(())
    }

    async fn listen(pool: Pool<Postgres>, heard: impl Fn() + Send + 'static) {
        loop {
            if let Ok(mut listener) = PgListener::connect_with(&pool).await
                && listener.listen(CHANNEL).await.is_ok()
            {
                while listener.recv().await.is_ok() {
                    heard();
                }
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }
}
