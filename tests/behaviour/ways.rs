//! The ways to keep a referral, so that one test of a behaviour runs over all of them.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use http::Extensions;
use tokio::runtime::Runtime;
use tower_referral::{AppSession, Keep, ServerSide};
use tower_sessions::{MemoryStore, Session};
use tower_sessions_0_14::MemoryStore as MemoryStore014;
use tower_sessions_moka_store::MokaStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Client, ClientLike as _, Config};
use tower_sessions_sqlx_store::sqlx::postgres::{PgPool, PgPoolOptions};
use tower_sessions_sqlx_store::sqlx::sqlite::{
    SqliteConnectOptions, SqlitePool, SqlitePoolOptions,
};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

use crate::common::{STAGE, Stage, keyring};
use crate::servers::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Cookie,
    /// On the server, in a store of tower-sessions 0.15.
    Memory,
    /// On the server, in a store of tower-sessions 0.14.
    Memory014,
    Moka,
    Sqlite,
    Postgres,
    Redis,
    /// In the cookie, with a copy in the application's session.
    Session,
}

/// One for all, because connections belong to the runtime that made them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static MEMORY: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::default);
static MEMORY_014: LazyLock<MemoryStore014> = LazyLock::new(MemoryStore014::default);

static MOKA: LazyLock<MokaStore> = LazyLock::new(|| MokaStore::new(None));

/// Runs a test one way; doesn't if the way needs a server that isn't there.
pub(crate) fn keeping(way: Way, test: impl FnOnce()) {
    let keep: fn() -> Keep = match way {
        Way::Cookie => return test(),
        Way::Memory => || on_server(ServerSide::new(MEMORY.clone(), keyring())),
        Way::Memory014 => || on_server(ServerSide::new(MEMORY_014.clone(), keyring())),
        Way::Moka => || on_server(ServerSide::new(MOKA.clone(), keyring())),
        Way::Sqlite => || on_server(ServerSide::new(sqlite(), keyring())),
        Way::Postgres if postgres().is_none() => return,
        Way::Postgres => || on_server(ServerSide::new(postgres().unwrap().clone(), keyring())),
        Way::Redis if redis().is_none() => return,
        Way::Redis => || on_server(ServerSide::new(redis().unwrap().clone(), keyring())),
        Way::Session => || {
            AppSession::new(MEMORY.clone(), keyring())
                .time_limit(PATIENCE)
                .into()
        },
    };
    STAGE.set(Some(Stage {
        keep,
        block_on: |future| RUNTIME.block_on(future),
        arriving: match way {
            Way::Session => bring_a_session,
            _ => |_| {},
        },
    }));
    test();
    STAGE.set(None);
}

/// Makes tests of functions that check a behaviour, each over all ways to keep a referral.
macro_rules! in_every_way {
    ($($behaviour:ident),* $(,)?) => {
        $(
            mod $behaviour {
                use super::$behaviour as behaviour;
                use $crate::ways::{Way, keeping};

                #[test]
                fn in_a_cookie() {
                    keeping(Way::Cookie, behaviour);
                }

                #[test]
                fn in_memory() {
                    keeping(Way::Memory, behaviour);
                }

                #[test]
                fn in_memory_0_14() {
                    keeping(Way::Memory014, behaviour);
                }

                #[test]
                fn in_moka() {
                    keeping(Way::Moka, behaviour);
                }

                #[test]
                fn in_sqlite() {
                    keeping(Way::Sqlite, behaviour);
                }

                #[test]
                fn in_postgres() {
                    keeping(Way::Postgres, behaviour);
                }

                #[test]
                fn in_redis() {
                    keeping(Way::Redis, behaviour);
                }

                #[test]
                fn with_a_session() {
                    keeping(Way::Session, behaviour);
                }
            }
        )*
    };
}

/// A behaviour is not about time: a slow machine must not make a store seem down.
const PATIENCE: Duration = Duration::from_secs(30);

fn on_server(server: ServerSide) -> Keep {
    server.time_limit(PATIENCE).into()
}

/// The request of a visitor who has a session.
fn bring_a_session(extensions: &mut Extensions) {
    let store = Arc::new(MEMORY.clone());
    let session = RUNTIME.block_on(async {
        let session = Session::new(None, Arc::clone(&store), None);
        session.insert("user", "somebody").await.unwrap();
        session.save().await.unwrap();
        Session::new(session.id(), store, None)
    });
    extensions.insert(session);
}

fn sqlite() -> SqliteStore {
    static POOL: OnceLock<SqlitePool> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        RUNTIME.block_on(async {
            let options = SqliteConnectOptions::new().in_memory(true);
            let one = SqlitePoolOptions::new()
                .max_connections(1)
                .idle_timeout(None)
                .max_lifetime(None);
            let pool = one.connect_with(options).await.unwrap();
            SqliteStore::new(pool.clone()).migrate().await.unwrap();
            pool
        })
    });
    SqliteStore::new(pool.clone())
}

fn postgres() -> Option<&'static PostgresStore> {
    static STORE: OnceLock<Option<(PostgresStore, Server)>> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let server = Server::postgres()?;
        let store = RUNTIME.block_on(async {
            let pool: PgPool = PgPoolOptions::new().connect(&server.url()).await.unwrap();
            let store = PostgresStore::new(pool);
            store.migrate().await.unwrap();
            store
        });
        Some((store, server))
    });
    store.as_ref().map(|(store, _)| store)
}

fn redis() -> Option<&'static RedisStore<Client>> {
    static STORE: OnceLock<Option<(RedisStore<Client>, Server)>> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let server = Server::redis()?;
        let store = RUNTIME.block_on(async {
            let config = Config::from_url(&server.url()).unwrap();
            let client = Client::new(config, None, None, None);
            client.init().await.unwrap();
            RedisStore::new(client)
        });
        Some((store, server))
    });
    store.as_ref().map(|(store, _)| store)
}
