//! A sale that must not be lost: it waits in a job queue (apalis, on SQLite) until the platform has
//! it, whatever happens to this process meanwhile. Here the platform fails twice, then works.
//!
//! ```sh
//! cargo run --all-features --example outbox
//! ```
//!
//! Run it with a file of your own, stop it at any moment and run it again, to see what is left and
//! what is never sent twice:
//!
//! ```sh
//! cargo run --all-features --example outbox -- reports.db
//! ```
//!
//! With more processes, other databases and a list of what a person has to look at:
//! `examples/storefront/outbox.rs`.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apalis::prelude::{BoxDynError, Data, TaskBuilder, TaskSink, WorkerBuilder, WorkerContext};
use apalis_sqlite::{Config, SqliteStorage};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tower::service_fn;
use tower_referral::ReferralKey;
use tower_referral::platform::{
    Client, Credit, Delivery, Journal, Money, Partnac, Report, Retries, Sale, Verdict, deliver,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1);
    let directory = tempfile::tempdir()?;
    let file = file.map_or_else(|| directory.path().join("reports.db"), Into::into);
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    SqliteStorage::migrations().run(&pool).await?;
    let table = "CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, page TEXT NOT NULL)";
    sqlx::query(table).execute(&pool).await?;

    // A sale as the payment's webhook knows it. The webhook comes twice, as webhooks do: the queue
    // has it once.
    let partner: ReferralKey = "PARTNER_123".parse()?;
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?
        .credit(Credit::new(partner));
    let report = Report::from(sale);
    let mut queue = queue(&pool);
    for _ in 0..2 {
        let job = TaskBuilder::new(report.clone()).idempotency_key(report.id());
        queue.push_task(job.build()).await?;
        println!("queued {}", report.id());
    }

    // A name of its own each time: a worker that was killed keeps its name for a while. What it had
    // in hand is given to another one after three seconds without a heartbeat.
    let worker = WorkerBuilder::new(format!("worker-{}", std::process::id()))
        .backend(queue)
        .data(pool)
        .build(take_report);
    worker.run().await?;
    Ok(())
}

fn queue(pool: &SqlitePool) -> SqliteStorage<Report> {
    let config = Config::default()
        .queue("reports")
        .heartbeat_interval(Duration::from_secs(1))
        .missed_heartbeats(3);
    SqliteStorage::new(pool).with_config(config)
}

/// What apalis calls with each report.
async fn take_report(
    report: Report,
    pool: Data<SqlitePool>,
    worker: WorkerContext,
) -> Result<(), BoxDynError> {
    let reports = Client::new(Partnac::new("API-KEY")?, service_fn(platform)).reports();
    let mut journal = Deliveries(SqlitePool::clone(&pool));
    let mut delivery = match journal.read(&report.id()).await? {
        Some(delivery) => delivery,
        None => {
            let is_deduplicated = reports.deduplicates(&report);
            Delivery::new(report).deduplicated(is_deduplicated)
        }
    };
    loop {
        let retries = Retries::default();
        match deliver(&mut delivery, reports.clone(), &retries, &mut journal).await? {
            Verdict::Later(wait) => {
                println!("not yet ({:?}); again in {wait:.1?}", delivery.state());
                tokio::time::sleep(wait).await;
            }
            verdict => {
                println!("{verdict:?}, after {} attempts", delivery.attempts());
                break;
            }
        }
    }
    worker.stop()?; // for this example, one report is a day's work
    Ok(())
}

/// What is known of each report's way, beside the queue.
struct Deliveries(SqlitePool);

impl Deliveries {
    async fn read(&self, id: &str) -> Result<Option<Delivery>, BoxDynError> {
        let query = sqlx::query_scalar("SELECT page FROM deliveries WHERE id = $1").bind(id);
        let page: Option<String> = query.fetch_optional(&self.0).await?;
        Ok(page.map(|page| serde_json::from_str(&page)).transpose()?)
    }
}

impl Journal for Deliveries {
    type Error = BoxDynError;

    async fn keep(&mut self, delivery: &Delivery) -> Result<(), BoxDynError> {
        let write = "INSERT INTO deliveries VALUES ($1, $2) \
                     ON CONFLICT (id) DO UPDATE SET page = excluded.page";
        let page = serde_json::to_string(delivery)?;
        let query = sqlx::query(write).bind(delivery.report().id()).bind(page);
        query.execute(&self.0).await?;
        Ok(())
    }
}

/// Plays the platform: it is busy, then broken, then works. A real one is reached over `Https`.
async fn platform(request: Request<Bytes>) -> Result<Response<Full<Bytes>>, BoxDynError> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let status = match CALLS.fetch_add(1, Ordering::Relaxed) {
        0 => StatusCode::TOO_MANY_REQUESTS,
        1 => StatusCode::BAD_GATEWAY,
        _ => StatusCode::CREATED,
    };
    println!("{} {} -> {status}", request.method(), request.uri());
    let mut response = Response::new(Full::from(r#"{"data": {"id": 1}}"#));
    *response.status_mut() = status;
    Ok(response)
}
