//! Where referrals are kept: in the cookie alone, on the server, or with a copy in the visitor's
//! session. Any store of tower-sessions will do; here are four.
//!
//! The released `SQLx` and Redis stores are for tower-sessions 0.14, so the shop is, too.

use std::error::Error;
use std::str::FromStr as _;
use std::time::Duration;

use axum::Router;
use tower_referral::{AppSession, Keyring, ServerSide, SignedCookie, Storage};
use tower_sessions::session_store::ExpiredDeletion;
use tower_sessions::{MemoryStore, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{
    Builder, ClientLike as _, Config, ReconnectPolicy,
};
// Their own `sqlx`, which need not be the newest.
use tower_sessions_sqlx_store::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tower_sessions_sqlx_store::sqlx::{self, SqlitePool};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

use crate::options::{KeepIn, Options};

/// How often sessions whose time is over are deleted. Redis does that by itself.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the shop waits for a database before it opens without.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How often a database is asked whether it is back.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// A way to keep referrals, ready to use.
pub(crate) struct Kept {
    pub(crate) storage: Storage,
    /// Puts the layer of the visitors' sessions around the shop.
    pub(crate) sessions: Option<Box<dyn FnOnce(Router) -> Router>>,
}

/// Opens the store that the options name.
///
/// A database that is down isn't an error: the shop opens without it, referrals are carried by the
/// cookies meanwhile, and its tables are made when it is there.
pub(crate) async fn open(options: &Options, keyring: Keyring) -> Result<Kept, Box<dyn Error>> {
    let kept = open_store(options, keyring).await;
    kept.map_err(|error| format!("can't open --store: {error}").into())
}

async fn open_store(options: &Options, keyring: Keyring) -> Result<Kept, Box<dyn Error>> {
    let mut cookie = SignedCookie::new(keyring);
    if let Some(domain) = &options.domain {
        cookie = cookie.domain(domain);
    }
    if options.plain_http {
        cookie = cookie.plain_http();
    }
    if options.keep == KeepIn::Cookie {
        return Ok(Kept {
            storage: cookie.into(),
            sessions: None,
        });
    }
    let (scheme, rest) = options.store.split_once(':').unwrap_or_default();
    match scheme {
        "memory" => Ok(expiring(options, cookie, MemoryStore::default())),
        "sqlite" => {
            let file = rest.trim_start_matches("//");
            let connect = SqliteConnectOptions::new()
                .filename(file)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(Duration::from_millis(200));
            let store = SqliteStore::new(open_file(connect).await?);
            store.migrate().await?;
            Ok(deleting(options, cookie, store))
        }
        "postgres" | "postgresql" => {
            let pool = PgPoolOptions::new()
                .acquire_timeout(CONNECT_LIMIT)
                .connect_lazy_with(PgConnectOptions::from_str(&options.store)?);
            let store = PostgresStore::new(pool);
            if store.migrate().await.is_err() {
                tracing::warn!("PostgreSQL can't be reached: its tables are made when it is back");
                tokio::spawn(migrate(store.clone()));
            }
            Ok(deleting(options, cookie, store))
        }
        "redis" => {
            let mut config = Config::from_url(&options.store)?;
            // A Redis that isn't there at the start is tried again, too.
            config.fail_fast = false;
            let client = Builder::from_config(config)
                .with_connection_config(|connection| {
                    connection.connection_timeout = Duration::from_secs(1);
                    connection.internal_command_timeout = Duration::from_secs(1);
                    // What waited for a connection when a request gave up isn't worth sending.
                    connection.max_command_attempts = 1;
                })
                .with_performance_config(|performance| {
                    performance.default_command_timeout = Duration::from_millis(500);
                })
                .set_policy(ReconnectPolicy::new_constant(0, 200))
                .build()?;
            client.connect();
            let connected = tokio::time::timeout(CONNECT_LIMIT, client.wait_for_connect()).await;
            if !matches!(connected, Ok(Ok(()))) {
                tracing::warn!("Redis can't be reached yet");
            }
            Ok(expiring(options, cookie, RedisStore::new(client)))
        }
        _ => Err(format!(
            "`{}` is none that the shop knows: use memory:, sqlite://FILE, \
             redis://HOST:PORT or postgres://USER@HOST/DATABASE",
            options.store
        )
        .into()),
    }
}

/// Uses a store that drops records and sessions by itself when their time is over.
fn expiring<S: SessionStore + Clone>(options: &Options, cookie: SignedCookie, store: S) -> Kept {
    if options.keep == KeepIn::Session {
        return with_sessions(options, cookie, store);
    }
    Kept {
        storage: ServerSide::new(store, cookie)
            .store_expires_records()
            .into(),
        sessions: None,
    }
}

/// Uses a store in which somebody has to delete what is over: the layer does so with its records, and
/// the shop with its sessions.
fn deleting<S>(options: &Options, cookie: SignedCookie, store: S) -> Kept
where
    S: SessionStore + ExpiredDeletion + Clone,
{
    if options.keep == KeepIn::Session {
        tokio::spawn(tidy(store.clone()));
        return with_sessions(options, cookie, store);
    }
    Kept {
        storage: ServerSide::new(store.clone(), cookie)
            .delete_expired(store)
            .into(),
        sessions: None,
    }
}

/// Keeps referrals in the cookie, with a copy in the sessions of whoever signs in.
fn with_sessions<S: SessionStore + Clone>(
    options: &Options,
    cookie: SignedCookie,
    store: S,
) -> Kept {
    let storage = AppSession::new(&store, cookie).into();
    let sessions = SessionManagerLayer::new(store).with_secure(!options.plain_http);
    Kept {
        storage,
        sessions: Some(Box::new(|shop| shop.layer(sessions))),
    }
}

/// Of several shops that make the file at once, SQLite lets one change the journal's mode, and tells
/// the others at once that it is locked, however patient they are.
async fn open_file(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    const BUSY: &str = "5";
    for _ in 0..20 {
        match SqlitePool::connect_with(options.clone()).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(BUSY) => {
                tokio::time::sleep(RETRY_EVERY / 5).await;
            }
            result => return result,
        }
    }
    SqlitePool::connect_with(options).await
}

/// Deletes what nobody will read again.
async fn tidy(store: impl ExpiredDeletion) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if let Err(error) = store.delete_expired().await {
            tracing::warn!(%error, "old records couldn't be deleted");
        }
    }
}

/// Makes the tables as soon as the database is there.
async fn migrate(store: PostgresStore) {
    while store.migrate().await.is_err() {
        tokio::time::sleep(RETRY_EVERY).await;
    }
}
