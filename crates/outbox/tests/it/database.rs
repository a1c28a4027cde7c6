//! A database of a test's own, and tests that run on both kinds.

use std::sync::OnceLock;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Pool, Postgres, Sqlite};
use tower_referral_outbox::{Database, Entry, Outbox, State};

use crate::servers::Server;

/// Longer than anything takes here, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Db<D: Database> {
    pub(crate) pool: Pool<D>,
    pub(crate) outbox: Outbox<D>,
    /// What sqlx 0.8 connects to.
    pub(crate) url: String,
    _file: Option<tempfile::TempDir>,
}

pub(crate) async fn sqlite() -> Option<Db<Sqlite>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new().max_connections(8);
    let pool = pool.connect_with(options).await.unwrap();
    Some(Db {
        outbox: Outbox::sqlite(pool.clone()).migrate().await.unwrap(),
        pool,
        url: format!("sqlite://{}", file.display()),
        _file: Some(folder),
    })
}

/// `None` where no server is installed, which is said aloud.
pub(crate) async fn postgres() -> Option<Db<Postgres>> {
    let url = tokio::task::spawn_blocking(|| {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(Server::postgres).as_ref()?;
        Some(server.empty_database())
    });
    let url = url.await.unwrap()?;
    let pool = PgPoolOptions::new().max_connections(8);
    let pool = pool.connect(&url).await.unwrap();
    Some(Db {
        outbox: Outbox::postgres(pool.clone()).migrate().await.unwrap(),
        pool,
        url,
        _file: None,
    })
}

impl<D: Database> Db<D> {
    /// Waits until the report of this ID is there, and is what it is to be.
    pub(crate) async fn until(&self, id: &str, is_so: impl Fn(&Entry) -> bool) -> Entry {
        let wait = async {
            loop {
                if let Some(entry) = self.outbox.find(id).await.unwrap()
                    && is_so(&entry)
                {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(entry) => entry,
            Err(_) => panic!("{id} stays {:?}", self.outbox.find(id).await),
        }
    }

    pub(crate) async fn until_state(&self, id: &str, state: State) -> Entry {
        self.until(id, |entry| entry.state == state).await
    }

    pub(crate) async fn until_done(&self, id: &str) -> Entry {
        self.until_state(id, State::Done).await
    }

    /// Waits until everything is finished.
    pub(crate) async fn until_empty(&self) {
        let wait = async {
            while self.outbox.status().await.unwrap().open > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{:?}", self.outbox.status().await);
    }
}

impl Db<Postgres> {
    /// Returns `true` if a statement waits for another's transaction.
    pub(crate) async fn has_waiting_statement(&self) -> bool {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let (waiting,): (i64,) = sqlx::query_as(waiting).fetch_one(&self.pool).await.unwrap();
        waiting > 0
    }

    /// Waits until a statement waits for another's transaction.
    pub(crate) async fn until_statement_waits(&self) {
        let wait = async {
            while !self.has_waiting_statement().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.expect("a statement waits");
    }
}

/// The same tests on both databases. The words of SQL in them are the same, too.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident) $body:block)*) => {
        mod sqlite {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[tokio::test] async fn $name() {
                let Some($db) = crate::database::sqlite().await else { return };
                $body
            })*
        }
        mod postgres {
            #[allow(unused_imports)]
            use super::*;
            $($(#[$meta])* #[tokio::test] async fn $name() {
                let Some($db) = crate::database::postgres().await else { return };
                $body
            })*
        }
    };
}
pub(crate) use on_both;

/// A worker that runs while the value lives; dropping it is killing the process.
pub(crate) struct Running {
    task: tokio::task::JoinHandle<Result<(), tower_referral_outbox::Error>>,
    shutdown: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Running {
    /// Lets it come to its end.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown.take());
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.expect("it stops").unwrap().unwrap();
    }

    /// Kills it at the next point where it waits.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn start<D: Database, S: tower_referral_outbox::Deduplicates>(
    worker: tower_referral_outbox::WorkerBuilder<D, S>,
) -> Running {
    let (shutdown, ended) = tokio::sync::oneshot::channel::<()>();
    let worker = worker.poll(Duration::from_millis(10));
    let task = tokio::spawn(worker.run(async {
        let _ = ended.await;
    }));
    Running {
        task,
        shutdown: Some(shutdown),
    }
}
