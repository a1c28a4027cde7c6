//! Reports through a job engine that a service already has, here `graphile_worker`: `deliver` is
//! the rule, the application's own table keeps each delivery, and the job is enqueued by SQL, in the
//! transaction of the order, from any driver or ORM.
//!
//! ```sh
//! DATABASE_URL=postgres://localhost/shop cargo run -p graphile
//! ```
//!
//! A service without a job engine needs none of this: see `tower-referral-outbox`. What that does
//! and this doesn't: it pauses for a refused API key, brakes for 429, puts a refund behind its sale
//! and takes up what a killed worker had in hand (here: `WorkerOptions`' recovery).

use std::convert::Infallible;

use bytes::Bytes;
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext, WorkerOptions};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, Transaction};
use tower::util::BoxCloneSyncService;
use tower_referral_platforms::affiliate::partnac::Partnac;
use tower_referral_platforms::{
    Client, Credit, Delivery, DeliveryOutcome, DeliveryStore, Money, Receipt, Report, ReportError,
    ReportRequest, Retries, Sale, deliver,
};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// One row for each report, by its ID, so that a repeated webhook enqueues nothing.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS deliveries (id text PRIMARY KEY, delivery jsonb NOT NULL)";

const INSERT: &str = "INSERT INTO deliveries VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

/// Jobs of one queue run one after another: those about one order. A job key is unique.
const ADD_JOB: &str = "SELECT graphile_worker.add_job('deliver_report', \
    json_build_object('id', $1::text), queue_name := $2, job_key := $1, \
    run_at := now() + make_interval(secs => $3))";

/// Enqueues a report in the transaction of the order.
async fn enqueue(tx: &mut Transaction<'_, Postgres>, report: Report) -> Result<(), Failed> {
    let (id, queue) = (report.id(), report.sequence_key());
    let inserted = sqlx::query(INSERT)
        .bind(&id)
        .bind(Json(Delivery::new(report)))
        .execute(&mut **tx)
        .await?;
    if inserted.rows_affected() > 0 {
        add_job(&mut **tx, &id, &queue, 0.0).await?;
    }
    Ok(())
}

async fn add_job(
    executor: impl sqlx::PgExecutor<'_>,
    id: &str,
    queue: &str,
    seconds: f64,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(ADD_JOB).bind(id).bind(queue).bind(seconds);
    query.execute(executor).await.map(drop)
}

/// Where `deliver` notes what it does.
struct Row<'p> {
    pool: &'p PgPool,
    id: &'p str,
    /// What this worker has read or written last.
    stored: Delivery,
}

impl DeliveryStore for Row<'_> {
    type Error = sqlx::Error;

    async fn save(&mut self, delivery: &Delivery) -> Result<(), sqlx::Error> {
        const UPDATE: &str = "UPDATE deliveries SET delivery = $2 WHERE id = $1 AND delivery = $3";
        let updated = sqlx::query(UPDATE)
            .bind(self.id)
            .bind(Json(delivery))
            .bind(Json(&self.stored))
            .execute(self.pool)
            .await?;
        if updated.rows_affected() == 0 {
            // Another worker has it: nothing is sent.
            return Err(sqlx::Error::RowNotFound);
        }
        self.stored = delivery.clone();
        Ok(())
    }
}

type Reports = BoxCloneSyncService<ReportRequest, Receipt, ReportError>;

/// What jobs share: in a service the platform's client.
#[derive(Clone)]
struct Platform(Reports);

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Platform")
    }
}

#[derive(Deserialize, Serialize)]
struct DeliverReport {
    id: String,
}

impl TaskHandler for DeliverReport {
    const IDENTIFIER: &'static str = "deliver_report";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let platform = context.get_ext::<Platform>().ok_or("no platform")?;
        let done = self.deliver(context.pg_pool(), platform.clone()).await;
        done.map_err(|error| error.to_string())
    }
}

impl DeliverReport {
    async fn deliver(&self, pool: &PgPool, platform: Platform) -> Result<(), Failed> {
        let read = sqlx::query_as("SELECT delivery FROM deliveries WHERE id = $1");
        let (Json(stored),): (Json<Delivery>,) = read.bind(&self.id).fetch_one(pool).await?;
        let mut delivery = stored.clone();
        let mut row = Row {
            pool,
            id: &self.id,
            stored,
        };
        let outcome = deliver(&mut delivery, platform.0, &Retries::default(), &mut row).await?;
        println!("{}: {outcome:?}", self.id);
        if let DeliveryOutcome::Retry { after, .. } = outcome {
            let queue = delivery.report().sequence_key();
            add_job(pool, &self.id, &queue, after.as_secs_f64()).await?;
        }
        Ok(())
    }
}

/// Stands in for the platform and shows what it receives; in a service this is `Https::new()`.
async fn stand_in(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
    println!("{} {}", request.method(), request.uri());
    Ok(Response::new(r#"{"id": "conv_1"}"#.to_owned()))
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to a PostgreSQL")?;
    let pool = PgPool::connect(&url).await?;
    sqlx::query(TABLE).execute(&pool).await?;
    let client = Client::new(Partnac::new("sandbox")?, tower::service_fn(stand_in));
    let worker = WorkerOptions::default()
        .concurrency(16)
        .schema("graphile_worker")
        .pg_pool(pool.clone())
        .add_extension(Platform(BoxCloneSyncService::new(client.reports())))
        .define_job::<DeliverReport>()
        .init()
        .await?;

    let mut tx = pool.begin().await?;
    // ... the order's own statements ...
    let credit = Credit::new("PARTNER_123".parse()?);
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?;
    enqueue(&mut tx, sale.with_credit(credit).into()).await?;
    tx.commit().await?;

    worker.run_once().await?; // in a service: `worker.run()`
    Ok(())
}
