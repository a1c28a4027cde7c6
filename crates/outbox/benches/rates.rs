//! Prints the figures of the outbox: reports a second, by one worker and by two, where each is marked and
//! where ten times as many wait; a long queue under one key in front; on PostgreSQL the round trips; and
//! what enqueueing adds to an order, as a statement of its own and as a part of the order's.
//!
//! ```sh
//! cargo bench -p tower-referral-outbox --features postgres,sqlite -- [REPORTS] [DATABASE_URL]
//! ```
//!
//! Small by default (2,000 reports). SQLite is in a temporary file, with a write-ahead log and
//! `synchronous=FULL`; PostgreSQL is measured where `DATABASE_URL` names a server, in a database of
//! its own. The platform is inside the process and answers at once, or after 5 ms.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Pool, Postgres, Sqlite};
use tower::Service;
use tower_referral_outbox::{Database, Outbox, sql};
use tower_referral_platforms::{
    Answer, Client, Credit, Error, Money, PlatformIds, Receipt, Report, ReportApi, ReportService,
    Sale, SaleUpdate, Step,
};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A platform that answers at once, or after a while.
#[derive(Clone)]
struct StandIn {
    latency: Duration,
    calls: Arc<AtomicUsize>,
    deduplicates: bool,
}

impl StandIn {
    fn new(latency: Duration, deduplicates: bool) -> Self {
        Self {
            latency,
            calls: Arc::default(),
            deduplicates,
        }
    }

    fn reports(&self) -> ReportService<Self, Self> {
        Client::new(self.clone(), self.clone()).reports()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Service<Request<Bytes>> for StandIn {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let platform = self.clone();
        Box::pin(async move {
            if !platform.latency.is_zero() {
                tokio::time::sleep(platform.latency).await;
            }
            platform.calls.fetch_add(1, Ordering::Relaxed);
            Ok(Response::new(r#"{"id":1}"#.to_owned()))
        })
    }
}

impl ReportApi for StandIn {
    type Stage = ();

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
        let body = serde_json::to_vec(report).unwrap_or_default();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = http::Method::POST;
        Ok(Step::send(request, ()))
    }

    fn next(
        &self,
        _: &Report,
        _: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        let mark = answer.shows(["/id"])?;
        Ok(Receipt::recorded(mark).into())
    }

    fn deduplicates(&self, _: &Report) -> bool {
        self.deduplicates
    }
}

fn sale(number: usize) -> Result<Sale, Failed> {
    let credit = Credit::new("PARTNER_123".parse()?);
    let amount = Money::new("99.99", "EUR")?;
    Ok(Sale::new(
        format!("ORDER-{number}"),
        format!("CUSTOMER-{number}"),
        amount,
    )?
    .with_credit(credit))
}

async fn fill<D: Database>(
    outbox: &Outbox<D>,
    reports: usize,
    enqueue: impl AsyncFn(Vec<Report>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let _ = outbox;
    for start in (0..reports).step_by(1000) {
        let end = (start + 1000).min(reports);
        let list: Result<Vec<Report>, Failed> = (start..end)
            .map(|number| Ok(sale(number)?.into()))
            .collect();
        enqueue(list?).await?;
    }
    Ok(())
}

/// Delivers everything, by so many workers, and returns how many reports a second that was.
async fn drain<D: Database>(
    outboxes: &[Outbox<D>],
    platform: &StandIn,
    reports: usize,
) -> Result<f64, Failed> {
    let (stop, _) = tokio::sync::broadcast::channel::<()>(1);
    let begin = Instant::now();
    let workers: Vec<_> = outboxes
        .iter()
        .map(|outbox| {
            let mut stopped = stop.subscribe();
            let worker = outbox.worker(platform.reports());
            tokio::spawn(worker.run(async move {
                let _ = stopped.recv().await;
            }))
        })
        .collect();
    while platform.calls() < reports {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = reports as f64 / begin.elapsed().as_secs_f64();
    drop(stop);
    for worker in workers {
        worker.await??;
    }
    if platform.calls() > reports {
        return Err(format!("{} calls for {reports} reports", platform.calls()).into());
    }
    Ok(rate)
}

macro_rules! measure {
    ($name:literal, $open:expr, $reports:expr, $left:expr, $round_trips:expr, $within:expr) => {{
        let mut one_worker = 0.0;
        for (what, deduplicates, latency, workers, times) in [
            ("one worker, deduplicates", true, 0, 1, 1),
            ("two workers, deduplicates", true, 0, 2, 1),
            ("one worker, marks each", false, 0, 1, 1),
            ("one worker, 5 ms a call", true, 5, 1, 1),
            ("two workers, 5 ms a call", true, 5, 2, 1),
            ("ten times as many waiting", true, 0, 1, 10),
        ] {
            let reports = $reports * times;
            let (pool, outbox) = $open.await?;
            fill(&outbox, reports, async |list| {
                outbox.enqueue_all(&pool, list).await?;
                Ok(())
            })
            .await?;
            let platform = StandIn::new(Duration::from_millis(latency), deduplicates);
            let outboxes = vec![outbox.clone(); workers];
            let before = $round_trips(&pool).await?;
            let rate = drain(&outboxes, &platform, reports).await?;
            let after = $round_trips(&pool).await?;
            if one_worker == 0.0 {
                one_worker = rate;
            }
            print!(
                "{:10} {what:28} {rate:9.0} reports/s, {:3.0} % of the first",
                $name,
                rate / one_worker * 100.0
            );
            match after {
                0 => println!(),
                _ => println!(
                    ", {:.2} transactions a report",
                    (after - before) as f64 / reports as f64
                ),
            }
        }
        let reports = $reports;
        // As many rows of one key in front as there are others.
        let (pool, outbox) = $open.await?;
        let long = (0..reports).map(|n| Ok(SaleUpdate::new("LONG", n)?.into()));
        let long: Result<Vec<Report>, Failed> = long.collect();
        let mut long = long?;
        long.insert(0, Sale::new("LONG", "C", Money::new("1", "EUR")?)?.into());
        for part in long.chunks(1000) {
            outbox.enqueue_all(&pool, part.to_vec()).await?;
        }
        fill(&outbox, reports, async |list| {
            outbox.enqueue_all(&pool, list).await?;
            Ok(())
        })
        .await?;
        let platform = StandIn::new(Duration::ZERO, true);
        let begin = Instant::now();
        let (stop, mut stopped) = tokio::sync::mpsc::channel::<()>(1);
        let worker = outbox.worker(platform.reports());
        let worker = tokio::spawn(worker.run(async move {
            let _ = stopped.recv().await;
        }));
        let left = $left;
        while sqlx::query_as::<_, (i64,)>(left).fetch_one(&pool).await?.0 > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rate = reports as f64 / begin.elapsed().as_secs_f64();
        println!(
            "{:10} {:28} {rate:9.0} reports/s, {:3.0} % of the first",
            $name,
            "others, long key in front",
            rate / one_worker * 100.0
        );
        drop(stop);
        worker.await??;

        // What enqueueing adds to an order of six statements.
        let (pool, outbox) = $open.await?;
        sqlx::query("CREATE TABLE shop_orders (id bigint PRIMARY KEY, state text)")
            .execute(&pool)
            .await?;
        let orders = (reports / 4).max(100);
        let within: Option<String> = $within;
        let mut times = [Duration::ZERO; 3];
        for number in 0..3 * orders {
            let how = number % 3;
            let begin = Instant::now();
            let mut tx = pool.begin().await?;
            for step in 0..4 {
                let id = (4 * number + step) as i64;
                match &within {
                    Some(statement) if how == 2 && step == 3 => {
                        sqlx::query(AssertSqlSafe(statement.clone()))
                            .bind(sql::json(sale(number)?)?)
                            .bind(id)
                            .execute(&mut *tx)
                            .await?;
                    }
                    _ => {
                        sqlx::query("INSERT INTO shop_orders VALUES ($1, 'open')")
                            .bind(id)
                            .execute(&mut *tx)
                            .await?;
                    }
                }
            }
            for step in 0..2 {
                sqlx::query("UPDATE shop_orders SET state = 'paid' WHERE id = $1")
                    .bind((4 * number + step) as i64)
                    .execute(&mut *tx)
                    .await?;
            }
            if how == 1 {
                outbox.enqueue(&mut *tx, sale(number)?).await?;
            }
            tx.commit().await?;
            times[how] += begin.elapsed();
        }
        let [bare, own, part] = times.map(|time| time.as_secs_f64() * 1e6 / orders as f64);
        for (what, time) in [("a statement of its own", own), ("a part of one", part)] {
            if what == "a part of one" && within.is_none() {
                continue;
            }
            println!(
                "{:10} order of six statements      {bare:6.0} µs, {time:6.0} µs with a report as {what}: {:+.0} %",
                $name,
                (time / bare - 1.0) * 100.0
            );
        }
    }};
}

/// A transaction is one round trip, but for those of several statements, which a worker has none of.
async fn transactions(pool: &Pool<Postgres>) -> Result<i64, Failed> {
    // What a connection has done is counted when it is closed, or after a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let count = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let (count,): (i64,) = sqlx::query_as(count).fetch_one(pool).await?;
    Ok(count)
}

async fn not_counted(_: &Pool<Sqlite>) -> Result<i64, Failed> {
    Ok(0)
}

const LEFT: &str = "SELECT count(*) FROM (SELECT 1 FROM referral_outbox WHERE open AND kind = 'sale' LIMIT 1) AS o";

async fn sqlite(folder: &std::path::Path) -> Result<(Pool<Sqlite>, Outbox<Sqlite>), Failed> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let file = folder.join(format!("{}.db", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(8);
    let pool = pool.connect_with(options).await?;
    Ok((pool.clone(), Outbox::sqlite(pool).migrate().await?))
}

async fn postgres(url: &str) -> Result<(Pool<Postgres>, Outbox<Postgres>), Failed> {
    let pool = PgPoolOptions::new().max_connections(8).connect(url).await?;
    // The database is the bench's own, and each figure begins with an empty one.
    for statement in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
        sqlx::query(statement).execute(&pool).await?;
    }
    Ok((pool.clone(), Outbox::postgres(pool).migrate().await?))
}

async fn run(reports: usize, url: Option<String>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    measure!(
        "SQLite",
        sqlite(folder.path()),
        reports,
        LEFT,
        not_counted,
        None
    );
    let Some(url) = url else {
        println!("PostgreSQL isn't measured: give DATABASE_URL");
        return Ok(());
    };
    let (server, _) = url.rsplit_once('/').ok_or("DATABASE_URL has no database")?;
    let name = "tower_referral_outbox_bench";
    let pool = PgPoolOptions::new().connect(&url).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {name}"),
        format!("CREATE DATABASE {name}"),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await?;
    }
    let own = format!("{server}/{name}");
    // The order's own statement and the report's in one, as `sql` describes it.
    let order = "WITH shop_order AS (INSERT INTO shop_orders VALUES ($2, 'open')), input";
    let within = sql::POSTGRES_ENQUEUE.replacen("WITH input", order, 1);
    measure!(
        "PostgreSQL",
        postgres(&own),
        reports,
        LEFT,
        transactions,
        Some(within.clone())
    );
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let reports = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2000);
    let url = arguments
        .next()
        .or_else(|| std::env::var("DATABASE_URL").ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(run(reports, url)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
