//! Where the shop keeps what must survive it: short texts under names, in spaces, in SQLite (a file
//! or memory), PostgreSQL or Redis. A shop has tables of its own for this, in the database that it
//! has anyway. All that is asked of it is to insert what isn't there yet, and to replace what is
//! still as it was read, whoever else is at it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{PgPool, SqlitePool};
use tempfile::TempDir;

pub(crate) type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// How long a database may take to let us in, and SQLite's one writer to let another one in.
const PATIENCE: Duration = Duration::from_secs(5);

/// `SQLITE_BUSY`, as SQLx gives it.
const BUSY: &str = "5";
/// Between two tries to be let in.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// A temporary file goes with the last copy.
    Sqlite(
        SqlitePool,
        #[expect(dead_code, reason = "what counts is when it is dropped")] Option<Arc<TempDir>>,
    ),
    Postgres(PgPool),
    Redis(Redis),
}

#[derive(Clone)]
pub(crate) struct Redis(pub(crate) ConnectionManager);

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

// SQLite and PostgreSQL read these the same way.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS storefront \
    (space TEXT NOT NULL, name TEXT NOT NULL, page TEXT NOT NULL, PRIMARY KEY (space, name))";
const INSERT: &str = "INSERT INTO storefront (space, name, page) VALUES ($1, $2, $3) \
    ON CONFLICT DO NOTHING";
const PUT: &str = "INSERT INTO storefront (space, name, page) VALUES ($1, $2, $3) \
    ON CONFLICT (space, name) DO UPDATE SET page = excluded.page";
const SWAP: &str = "UPDATE storefront SET page = $3 WHERE space = $1 AND name = $2 AND page = $4";
const REMOVE: &str = "DELETE FROM storefront WHERE space = $1 AND name = $2";
const GET: &str = "SELECT page FROM storefront WHERE space = $1 AND name = $2";
const LIST: &str = "SELECT page FROM storefront WHERE space = $1 ORDER BY name";

/// The same for a hash of Redis.
const SWAP_FIELD: &str = "if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end \
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1";

/// Runs a statement with these texts; how many rows it changed.
macro_rules! execute {
    ($pool:expr, $statement:expr $(, $text:expr)*) => {
        sqlx::query($statement)$(.bind($text))*.execute($pool).await?.rows_affected()
    };
}

impl Store {
    /// `memory:`, `sqlite://FILE`, `sqlite://` for a temporary file, `postgres://…`, `redis://…`.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let store = match url.split_once(':') {
            Some(("memory", "")) => {
                // In memory each connection has a database to itself, so there is only one.
                let pool = SqlitePoolOptions::new()
                    .max_connections(1)
                    .idle_timeout(None)
                    .max_lifetime(None);
                Self::Sqlite(pool.connect("sqlite::memory:").await?, None)
            }
            Some(("sqlite", "//")) => {
                let directory = TempDir::with_prefix("storefront-")?;
                let file = directory.path().join("shop.db");
                let options = SqliteConnectOptions::new().filename(file);
                Self::Sqlite(open_file(options).await?, Some(Arc::new(directory)))
            }
            Some(("sqlite", _)) => {
                Self::Sqlite(open_file(SqliteConnectOptions::from_str(url)?).await?, None)
            }
            Some(("postgres" | "postgresql", _)) => {
                let pool = PgPoolOptions::new().acquire_timeout(PATIENCE);
                Self::Postgres(pool.connect(url).await?)
            }
            Some(("redis", _)) => {
                let client = redis::Client::open(url)?;
                let manager = client.get_connection_manager();
                Self::Redis(Redis(tokio::time::timeout(PATIENCE, manager).await??))
            }
            _ => return Err("use memory:, sqlite://FILE, postgres://… or redis://…".into()),
        };
        match &store {
            Self::Sqlite(pool, _) => drop(execute!(pool, CREATE)),
            // PostgreSQL may find that another process makes the same table at this moment.
            Self::Postgres(pool) => {
                let mut lock = pool.begin().await?;
                execute!(&mut *lock, "SELECT pg_advisory_xact_lock(7336411)");
                execute!(&mut *lock, CREATE);
                lock.commit().await?;
            }
            Self::Redis(_) => {}
        }
        Ok(store)
    }

    /// Keeps a page under a name that has none yet; `false` if it has.
    pub(crate) async fn insert(
        &self,
        space: &str,
        name: &str,
        page: &str,
    ) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Sqlite(pool, _) => execute!(pool, INSERT, space, name, page) == 1,
            Self::Postgres(pool) => execute!(pool, INSERT, space, name, page) == 1,
            Self::Redis(redis) => redis.0.clone().hset_nx(hash(space), name, page).await?,
        })
    }

    /// Keeps a page, whatever was there before.
    pub(crate) async fn put(&self, space: &str, name: &str, page: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool, _) => drop(execute!(pool, PUT, space, name, page)),
            Self::Postgres(pool) => drop(execute!(pool, PUT, space, name, page)),
            Self::Redis(redis) => {
                let _: () = redis.0.clone().hset(hash(space), name, page).await?;
            }
        }
        Ok(())
    }

    /// Keeps a page in the place of `old`; `false` if something else is there by now.
    pub(crate) async fn swap(
        &self,
        space: &str,
        name: &str,
        old: &str,
        page: &str,
    ) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Sqlite(pool, _) => execute!(pool, SWAP, space, name, page, old) == 1,
            Self::Postgres(pool) => execute!(pool, SWAP, space, name, page, old) == 1,
            Self::Redis(redis) => {
                let script = redis::Script::new(SWAP_FIELD);
                let mut call = script.key(hash(space));
                call.arg(name).arg(page).arg(old);
                call.invoke_async(&mut redis.0.clone()).await?
            }
        })
    }

    pub(crate) async fn remove(&self, space: &str, name: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool, _) => drop(execute!(pool, REMOVE, space, name)),
            Self::Postgres(pool) => drop(execute!(pool, REMOVE, space, name)),
            Self::Redis(redis) => {
                let _: () = redis.0.clone().hdel(hash(space), name).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn get(&self, space: &str, name: &str) -> Result<Option<String>, StoreError> {
        Ok(match self {
            Self::Sqlite(pool, _) => {
                let query = sqlx::query_scalar(GET).bind(space).bind(name);
                query.fetch_optional(pool).await?
            }
            Self::Postgres(pool) => {
                let query = sqlx::query_scalar(GET).bind(space).bind(name);
                query.fetch_optional(pool).await?
            }
            Self::Redis(redis) => redis.0.clone().hget(hash(space), name).await?,
        })
    }

    /// All pages of a space, for spaces that are short.
    pub(crate) async fn list(&self, space: &str) -> Result<Vec<String>, StoreError> {
        Ok(match self {
            Self::Sqlite(pool, _) => {
                let query = sqlx::query_scalar(LIST).bind(space);
                query.fetch_all(pool).await?
            }
            Self::Postgres(pool) => {
                let query = sqlx::query_scalar(LIST).bind(space);
                query.fetch_all(pool).await?
            }
            Self::Redis(redis) => redis.0.clone().hvals(hash(space)).await?,
        })
    }
}

async fn open_file(options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    // What is committed survives a power cut too: `synchronous` stays at SQLite's own `FULL`.
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new().acquire_timeout(PATIENCE);
    let start = Instant::now();
    loop {
        // Of several shops that make the file at once, SQLite lets one change the journal's mode,
        // and tells the others at once that it is locked, however patient they are.
        match pool.clone().connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(BUSY) && start.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            result => return Ok(result?),
        }
    }
}

fn hash(space: &str) -> String {
    format!("storefront:{space}")
}
