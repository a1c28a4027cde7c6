//! The shop's own database, SQLite or PostgreSQL: customers, orders, refunds and the outbox, so that
//! an order and its report are written in one transaction. A shop with one kind of database has a
//! pool and an outbox, and no such file.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use tempfile::TempDir;
use tower_referral::click::LateClick;
use tower_referral_outbox::{Enqueued, Entry, Error, Outbox, Status, WorkerBuilder};
use tower_referral_platforms::Report;
use tower_referral_platforms::payment::{Booked, Event, book};

use crate::platform::Reports;

/// How long a database may take to let us in, and SQLite's one writer to let another one in.
const PATIENCE: Duration = Duration::from_secs(5);
/// `SQLITE_BUSY`, as sqlx gives it.
const BUSY: &str = "5";
/// Between two tries to be let in.
const PAUSE: Duration = Duration::from_millis(50);
/// Of `pg_advisory_xact_lock`: of several shops that start, one creates the tables.
const CREATING: i64 = 7_336_411;

#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite {
        pool: SqlitePool,
        outbox: Outbox<Sqlite>,
        /// A temporary file goes with the last copy.
        _file: Option<Arc<TempDir>>,
    },
    Postgres {
        pool: PgPool,
        outbox: Outbox<Postgres>,
    },
}

/// A transaction of the shop's, in which reports are enqueued too.
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>, Outbox<Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>, Outbox<Postgres>),
}

/// Does the same in both databases.
macro_rules! either {
    ($database:expr, $pool:ident, $outbox:ident => $body:expr) => {
        match $database {
            Database::Sqlite {
                pool: $pool,
                outbox: $outbox,
                ..
            } => $body,
            Database::Postgres {
                pool: $pool,
                outbox: $outbox,
            } => $body,
        }
    };
}

/// Runs the same query in both databases.
macro_rules! within {
    ($transaction:expr, $connection:ident => $body:expr) => {
        match $transaction {
            $crate::database::Transaction::Sqlite(transaction, _) => {
                let $connection = &mut **transaction;
                $body
            }
            $crate::database::Transaction::Postgres(transaction, _) => {
                let $connection = &mut **transaction;
                $body
            }
        }
    };
}

/// Runs a statement of the shop's.
macro_rules! execute {
    ($transaction:expr, $statement:expr $(, $value:expr)* $(,)?) => {
        $crate::database::within!($transaction, connection => {
            sqlx::query($statement)$(.bind($value))*.execute(connection).await.map(drop)?
        })
    };
}

/// Runs a query of the shop's and reads its rows: `fetch_one`, `fetch_optional` or `fetch_all`.
macro_rules! query {
    ($transaction:expr, $fetch:ident, $statement:expr $(, $value:expr)* $(,)?) => {
        $crate::database::within!($transaction, connection => {
            sqlx::query_as($statement)$(.bind($value))*.$fetch(connection).await?
        })
    };
}

pub(crate) use {execute, query, within};

impl Database {
    /// Opens `sqlite://FILE`, `sqlite://` for a temporary file, or `postgres://…`, and creates what
    /// isn't there yet.
    pub(crate) async fn open(url: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        match scheme {
            "sqlite" => {
                let (options, file) = if rest == "//" {
                    let directory = TempDir::with_prefix("storefront-")?;
                    let options =
                        SqliteConnectOptions::new().filename(directory.path().join("shop.db"));
                    (options, Some(Arc::new(directory)))
                } else {
                    (SqliteConnectOptions::from_str(url)?, None)
                };
                let pool = open_file(options).await?;
                // The writer's turn is waited for before anything is read.
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
                transaction.commit().await?;
                let outbox = Outbox::sqlite(pool.clone()).with_credit_query(CREDIT);
                let outbox = outbox.migrate().await?;
                Ok(Self::Sqlite {
                    pool,
                    outbox,
                    _file: file,
                })
            }
            "postgres" | "postgresql" => {
                let pool = PgPoolOptions::new()
                    .acquire_timeout(PATIENCE)
                    .connect(url)
                    .await?;
                let mut transaction = pool.begin().await?;
                let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CREATING);
                lock.execute(&mut *transaction).await?;
                sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
                transaction.commit().await?;
                let outbox = Outbox::postgres(pool.clone()).with_credit_query(CREDIT);
                let outbox = outbox.migrate().await?;
                Ok(Self::Postgres { pool, outbox })
            }
            _ => Err("use sqlite://FILE or postgres://…".into()),
        }
    }

    pub(crate) async fn begin(&self) -> Result<Transaction, Error> {
        Ok(match self {
            Self::Sqlite { pool, outbox, .. } => {
                let transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                Transaction::Sqlite(transaction, outbox.clone())
            }
            Self::Postgres { pool, outbox } => {
                Transaction::Postgres(pool.begin().await?, outbox.clone())
            }
        })
    }

    /// Gives the outbox's reports to the platform until `shutdown`.
    pub(crate) async fn deliver(
        self,
        reports: Reports,
        settings: impl WorkerSettings,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        either!(&self, _pool, outbox => settings.set(outbox.worker(reports)).run(shutdown).await)
    }

    /// Has the workers look for what was just committed.
    pub(crate) async fn wake(&self) -> Result<(), Error> {
        either!(self, _pool, outbox => outbox.wake().await)
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Option<Entry>, Error> {
        either!(self, _pool, outbox => outbox.find(id).await)
    }

    pub(crate) async fn history(&self, customer: &str) -> Result<Vec<Entry>, Error> {
        either!(self, _pool, outbox => outbox.history(customer).await)
    }

    pub(crate) async fn problems(&self, after: i64, limit: u32) -> Result<Vec<Entry>, Error> {
        either!(self, _pool, outbox => outbox.problems(after, limit).await)
    }

    pub(crate) async fn status(&self) -> Result<Status, Error> {
        either!(self, _pool, outbox => outbox.status().await)
    }

    pub(crate) async fn resend(&self, id: &str) -> Result<bool, Error> {
        either!(self, _pool, outbox => outbox.resend(id).await)
    }

    pub(crate) async fn resend_row(&self, row: i64) -> Result<bool, Error> {
        either!(self, _pool, outbox => outbox.resend_row(row).await)
    }

    pub(crate) async fn resend_all(&self) -> Result<u64, Error> {
        either!(self, _pool, outbox => outbox.resend_all().await)
    }

    pub(crate) async fn probe(&self) -> Result<(), Error> {
        either!(self, _pool, outbox => outbox.probe().await)
    }

    /// Keeps the platform's answer to a click that came after the page was out.
    pub(crate) async fn put_click(&self, late: &LateClick, ttl: Duration) -> Result<(), Error> {
        let (reference, click) = (&late.reference, &late.click);
        either!(self, pool, outbox => outbox.put_click(pool, reference, click, ttl).await)
    }
}

impl Transaction {
    /// Enqueues a report: it is sent if this is committed.
    pub(crate) async fn enqueue(&mut self, report: Report) -> Result<Enqueued, Error> {
        match self {
            Self::Sqlite(transaction, outbox) => outbox.enqueue(&mut **transaction, report).await,
            Self::Postgres(transaction, outbox) => outbox.enqueue(&mut **transaction, report).await,
        }
    }

    /// Books an event of the payment provider, and enqueues what the platform is to be told, if there
    /// is a platform.
    pub(crate) async fn book(
        &mut self,
        event: &Event,
        has_platform: bool,
    ) -> Result<Booked, Error> {
        match self {
            Self::Sqlite(transaction, outbox) => {
                book_in(outbox, transaction, event, has_platform).await
            }
            Self::Postgres(transaction, outbox) => {
                book_in(outbox, transaction, event, has_platform).await
            }
        }
    }

    /// Erases a customer from the outbox, and from what it holds of payments.
    pub(crate) async fn erase_reports(&mut self, customer: &str) -> Result<u64, Error> {
        match self {
            Self::Sqlite(transaction, outbox) => outbox.erase(&mut **transaction, customer).await,
            Self::Postgres(transaction, outbox) => outbox.erase(&mut **transaction, customer).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(transaction, _) => transaction.commit().await?,
            Self::Postgres(transaction, _) => transaction.commit().await?,
        }
        Ok(())
    }
}

/// The settings of a worker, for either database.
pub(crate) trait WorkerSettings {
    fn set<D: tower_referral_outbox::Database>(
        &self,
        worker: WorkerBuilder<D, Reports>,
    ) -> WorkerBuilder<D, Reports>;
}

async fn book_in<D: tower_referral_outbox::Database>(
    outbox: &Outbox<D>,
    transaction: &mut sqlx::Transaction<'_, D>,
    event: &Event,
    has_platform: bool,
) -> Result<Booked, Error> {
    if has_platform {
        return outbox.book(transaction, event).await;
    }
    book(&mut outbox.payment_books(transaction), event).await
}

/// Whom the customer of a payment is credited to.
const CREDIT: &str = "SELECT credit FROM customers WHERE customer = $1";

/// Both databases read this the same way. A credit is JSON, an amount is written `49.90 EUR`.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS customers (
    customer TEXT PRIMARY KEY,
    email TEXT,
    name TEXT,
    -- Whom all payments of the customer credit.
    credit TEXT,
    -- How often the customer has signed up: 0 for a guest.
    sign_ups BIGINT NOT NULL DEFAULT 0,
    is_erased BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY,
    -- Nothing but the ID is known of an order whose refund came before its payment.
    customer TEXT,
    amount TEXT,
    coupon TEXT,
    credit TEXT,
    is_guest BOOLEAN NOT NULL DEFAULT FALSE,
    -- How often the payment was announced.
    deliveries BIGINT NOT NULL DEFAULT 0,
    is_erased BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX IF NOT EXISTS orders_customer ON orders (customer);
CREATE TABLE IF NOT EXISTS refunds (
    order_id TEXT NOT NULL,
    -- The provider's ID of the refund, or what stands for it.
    refund TEXT NOT NULL,
    refund_id TEXT,
    -- In major units; all that was left if there is none.
    amount TEXT,
    is_reported BOOLEAN NOT NULL,
    PRIMARY KEY (order_id, refund)
);
";

async fn open_file(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    // What is committed survives a power cut too: `synchronous` stays at SQLite's own `FULL`.
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new().acquire_timeout(PATIENCE);
    let mut tries = 0;
    loop {
        // Of several shops that create the file at once, SQLite lets one change the journal's mode,
        // and tells the others at once that it is locked, however patient they are.
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(BUSY) && tries < 100 =>
            {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}
