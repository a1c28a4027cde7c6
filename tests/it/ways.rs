//! The ways to keep a referral, so that one test of a behaviour runs over all of them. PostgreSQL, Redis
//! and SQLite are driven through the storefront, in its tests.

#[cfg(feature = "tower-sessions-0_15")]
use http::Extensions;
#[cfg(feature = "tower-sessions-0_15")]
use std::sync::Arc;
use std::sync::LazyLock;
use tokio::runtime::Runtime;
use tower_referral::Storage;

use crate::common::{STAGE, Stage, keyring};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Cookie,
    /// On the server, in a store of tower-sessions 0.15.
    #[cfg(feature = "tower-sessions-0_15")]
    Memory,
    /// On the server, in a store of tower-sessions 0.14.
    #[cfg(feature = "tower-sessions-0_14")]
    Memory014,
    /// In the cookie, with a copy in the application's session.
    #[cfg(feature = "tower-sessions-0_15")]
    Session,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

#[cfg(feature = "tower-sessions-0_15")]
static MEMORY: LazyLock<tower_sessions::MemoryStore> =
    LazyLock::new(tower_sessions::MemoryStore::default);
#[cfg(feature = "tower-sessions-0_14")]
static MEMORY_014: LazyLock<tower_sessions_0_14::MemoryStore> =
    LazyLock::new(tower_sessions_0_14::MemoryStore::default);

/// Runs a test one way.
pub(crate) fn keeping(way: Way, test: impl FnOnce()) {
    let storage: fn() -> Storage = match way {
        Way::Cookie => return test(),
        #[cfg(feature = "tower-sessions-0_15")]
        Way::Memory => || on_server(ServerSide::new(MEMORY.clone(), keyring())),
        #[cfg(feature = "tower-sessions-0_14")]
        Way::Memory014 => || on_server(ServerSide::new(MEMORY_014.clone(), keyring())),
        #[cfg(feature = "tower-sessions-0_15")]
        Way::Session => || tower_referral::AppSession::new(&*MEMORY, keyring()).into(),
    };
    STAGE.set(Some(Stage {
        storage,
        block_on: |future| RUNTIME.block_on(future),
        arriving: match way {
            #[cfg(feature = "tower-sessions-0_15")]
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

                #[cfg(feature = "tower-sessions-0_15")]
                #[test]
                fn in_memory() {
                    keeping(Way::Memory, behaviour);
                }

                #[cfg(feature = "tower-sessions-0_14")]
                #[test]
                fn in_memory_0_14() {
                    keeping(Way::Memory014, behaviour);
                }

                #[cfg(feature = "tower-sessions-0_15")]
                #[test]
                fn with_a_session() {
                    keeping(Way::Session, behaviour);
                }
            }
        )*
    };
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
use tower_referral::ServerSide;

/// A behaviour is not about time: a slow machine must not make a store seem down.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
fn on_server(server: ServerSide) -> Storage {
    let patience = std::time::Duration::from_secs(30);
    server.timeout(patience).store_expires_records().into()
}

/// Gives a request the session that its visitor has.
#[cfg(feature = "tower-sessions-0_15")]
fn bring_a_session(extensions: &mut Extensions) {
    use tower_sessions::Session;

    let store = Arc::new(MEMORY.clone());
    let session = RUNTIME.block_on(async {
        let session = Session::new(None, Arc::clone(&store), None);
        session.insert("user", "somebody").await.unwrap();
        session.save().await.unwrap();
        Session::new(session.id(), store, None)
    });
    extensions.insert(session);
}
