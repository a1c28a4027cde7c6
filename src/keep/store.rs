//! Session stores of tower-sessions, of whichever version, as one: what is read and written there,
//! each call within a time limit.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use http::Extensions;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::boxed::BoxFuture;
use crate::referral::Referral;

/// Where a record of ours keeps what it has, and where the application's session has it.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub(crate) const KEY: &str = "tower_referral";

/// A session store, behind a pointer: beside a call over a network, a boxed future costs nothing,
/// and the layer needs no type parameter for it.
pub(crate) trait Store: Send + Sync {
    /// Makes a record, and gives the ID that it got, nearly always `id`.
    fn create(&self, id: i128, text: String, expiry: OffsetDateTime) -> Call<'_, i128>;

    /// Replaces a record that is there. Some stores do nothing for one that isn't.
    fn save(&self, id: i128, text: String, expiry: OffsetDateTime) -> Call<'_, ()>;

    fn load(&self, id: i128) -> Call<'_, Option<String>>;

    fn delete(&self, id: i128) -> Call<'_, ()>;

    /// The application's own session, which its layer has left in the request.
    fn session(&self, extensions: &Extensions) -> Option<Box<dyn AppSessionHandle>>;

    /// Puts the referrals into the session of that ID, if there is such a session, it hasn't got them
    /// already, and it still may be written once it was read. Says whether it might.
    fn put<'a>(
        &'a self,
        session: i128,
        referrals: Vec<Referral>,
        may_write: &'a (dyn Fn() -> bool + Sync),
    ) -> Call<'a, bool>;
}

/// The application's own session in one request.
pub(crate) trait AppSessionHandle: Send + Sync {
    /// `None` if the browser sent none, or the application has just renewed it.
    fn id(&self) -> Option<i128>;

    /// The application changed it in this request, and so saves it.
    fn is_modified(&self) -> bool;

    /// Puts the referrals into it, unless the application has just ended it.
    fn put(&self, referrals: Vec<Referral>) -> Call<'_, ()>;
}

pub(crate) type Call<'a, T> = BoxFuture<'a, Result<T, StoreFault>>;

/// Why a call to a store came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum StoreFault {
    /// In the store's own words.
    #[cfg_attr(not(feature = "_store"), allow(dead_code))]
    Failed(String),
    TimedOut,
    Panicked,
    NoRuntime,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(error),
            Self::TimedOut => f.write_str("no answer within the time limit"),
            Self::Panicked => f.write_str("the store panicked"),
            Self::NoRuntime => f.write_str("no Tokio runtime to watch the time"),
        }
    }
}

impl StoreFault {
    /// Tells `tracing` what couldn't be done and why: aloud at the first since all was
    /// well, the second, the fourth and so on, so that a dead store doesn't become a flood of log
    /// lines.
    pub(crate) fn tell(&self, what: &'static str) {
        let faults = FAULTS.fetch_add(1, Ordering::Relaxed) + 1;
        #[cfg(feature = "tracing")]
        if faults.is_power_of_two() {
            tracing::warn!(target: "tower_referral", what, fault = %self, faults, "store unavailable");
        } else {
            tracing::debug!(target: "tower_referral", what, fault = %self, faults, "store unavailable");
        }
        let _ = (self, what, faults);
    }
}

/// The faults since a call last succeeded, for the log.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// How long one request may wait for the store, over all its calls.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Duration>);

impl Budget {
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Mutex::new(limit))
    }

    /// Waits for a call as long as the budget goes.
    pub(crate) async fn run<T>(&self, call: Call<'_, T>) -> Result<T, StoreFault> {
        if Handle::try_current().is_err() {
            return Err(StoreFault::NoRuntime);
        }
        let left = *self.left();
        if left.is_zero() {
            return Err(StoreFault::TimedOut);
        }
        let start = Instant::now();
        let result = timeout(left, caught(call)).await;
        let mut left = self.left();
        *left = left.saturating_sub(start.elapsed());
        if matches!(result, Ok(Ok(_))) && FAULTS.load(Ordering::Relaxed) != 0 {
            FAULTS.store(0, Ordering::Relaxed);
        }
        result.unwrap_or_else(|_| {
            *left = Duration::ZERO;
            Err(StoreFault::TimedOut)
        })
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that panics has failed, and the page goes on. Database clients do that at answers that are
/// damaged on the way: SQLx 0.9, for one, at a message that claims to be shorter than its own head.
async fn caught<T>(mut call: Call<'_, T>) -> Result<T, StoreFault> {
    // Whatever state it is in then, nobody polls it again.
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(StoreFault::Panicked)))
    })
    .await
}

/// A `tower_sessions::SessionStore`, of a version whose feature is on.
///
/// `Version` tells the versions apart and is always inferred. The feature `tower-sessions-0_15`
/// takes stores for tower-sessions 0.15, `tower-sessions-0_14` those for 0.14; both may be on.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no session store of a tower-sessions version that is enabled",
    note = "a store made for tower-sessions 0.15 needs tower-referral's feature \
            `tower-sessions-0_15`, one for 0.14 (as the released SQLx, Redis and moka stores are) \
            the feature `tower-sessions-0_14`"
)]
pub trait AnySessionStore<Version>: sealed::IntoStore<Version> {}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub(crate) mod sealed {
    use std::sync::Arc;

    use super::Store;

    /// A store that is none of the user's business any more.
    #[derive(Clone)]
    #[expect(missing_debug_implementations, reason = "nobody can name it")]
    pub struct Adapted(pub(crate) Arc<dyn Store>);

    pub trait IntoStore<Version> {
        fn into_store(self) -> Adapted;
    }
}

/// Adapts the stores of one version of tower-sessions, all of which look alike.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
macro_rules! adapt {
    ($feature:literal, $module:ident, $version:ident, $core:ident) => {
        #[cfg(feature = $feature)]
        mod $module {
            use std::{collections::HashMap, sync::Arc};

            use http::Extensions;
            use serde_json::Value;
            use time::OffsetDateTime;
            use $core::session::{Id, Record};
            use $core::{Session, SessionStore};

            use super::{
                AnySessionStore, AppSessionHandle, Call, KEY, Store, StoreFault, as_value, sealed,
            };
            use crate::referral::Referral;

            /// Marks the stores of one version of tower-sessions.
            #[derive(Debug)]
            #[allow(
                unreachable_pub,
                reason = "never named, and yet not private: it is inferred"
            )]
            pub enum $version {}

            impl<S: SessionStore> AnySessionStore<$version> for S {}

            impl<S: SessionStore> sealed::IntoStore<$version> for S {
                fn into_store(self) -> sealed::Adapted {
                    sealed::Adapted(Arc::new(Adapted(self)))
                }
            }

            struct Adapted<S>(S);

            fn record(id: i128, text: String, expiry_date: OffsetDateTime) -> Record {
                Record {
                    id: Id(id),
                    data: HashMap::from([(KEY.to_owned(), Value::String(text))]),
                    expiry_date,
                }
            }

            fn fault(error: impl ToString) -> StoreFault {
                StoreFault::Failed(error.to_string())
            }

            impl<S: SessionStore> Store for Adapted<S> {
                fn create(&self, id: i128, text: String, expiry: OffsetDateTime) -> Call<'_, i128> {
                    let mut record = record(id, text, expiry);
                    Box::pin(async move {
                        self.0.create(&mut record).await.map_err(fault)?;
                        Ok(record.id.0)
                    })
                }

                fn save(&self, id: i128, text: String, expiry: OffsetDateTime) -> Call<'_, ()> {
                    let record = record(id, text, expiry);
                    Box::pin(async move { self.0.save(&record).await.map_err(fault) })
                }

                fn load(&self, id: i128) -> Call<'_, Option<String>> {
                    Box::pin(async move {
                        let record = self.0.load(&Id(id)).await.map_err(fault)?;
                        Ok(record.and_then(|mut record| match record.data.remove(KEY) {
                            Some(Value::String(text)) => Some(text),
                            _ => None,
                        }))
                    })
                }

                fn delete(&self, id: i128) -> Call<'_, ()> {
                    Box::pin(async move { self.0.delete(&Id(id)).await.map_err(fault) })
                }

                fn session(&self, extensions: &Extensions) -> Option<Box<dyn AppSessionHandle>> {
                    let session = extensions.get::<Session>()?.clone();
                    Some(Box::new(Handle(session)))
                }

                fn put<'a>(
                    &'a self,
                    session: i128,
                    referrals: Vec<Referral>,
                    may_write: &'a (dyn Fn() -> bool + Sync),
                ) -> Call<'a, bool> {
                    Box::pin(async move {
                        let wanted = as_value(&referrals)?;
                        let loaded = self.0.load(&Id(session)).await.map_err(fault)?;
                        let Some(mut record) = loaded else {
                            return Ok(true);
                        };
                        if record.data.get(KEY) == wanted.as_ref() {
                            return Ok(true);
                        }
                        if !may_write() {
                            return Ok(false);
                        }
                        match wanted {
                            Some(value) => record.data.insert(KEY.to_owned(), value),
                            None => record.data.remove(KEY),
                        };
                        self.0.save(&record).await.map_err(fault)?;
                        Ok(true)
                    })
                }
            }

            struct Handle(Session);

            impl AppSessionHandle for Handle {
                fn id(&self) -> Option<i128> {
                    self.0.id().map(|id| id.0)
                }

                fn is_modified(&self) -> bool {
                    self.0.is_modified()
                }

                fn put(&self, referrals: Vec<Referral>) -> Call<'_, ()> {
                    Box::pin(async move {
                        let present = self.0.get_value(KEY).await.map_err(fault)?;
                        // By now the session is loaded; an empty one without an ID is none.
                        let wanted = as_value(&referrals)?;
                        if present == wanted || self.0.is_empty().await {
                            return Ok(());
                        }
                        match wanted {
                            Some(value) => {
                                self.0.insert_value(KEY, value).await.map_err(fault)?;
                            }
                            None => drop(self.0.remove_value(KEY).await.map_err(fault)?),
                        }
                        Ok(())
                    })
                }
            }
        }
    };
}

/// An object with each program's referral under the program's name; nothing if there is none.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
fn as_value(referrals: &[Referral]) -> Result<Option<serde_json::Value>, StoreFault> {
    let by_program = referrals.iter().map(|referral| {
        let value = serde_json::to_value(referral)?;
        Ok((referral.program().to_owned(), value))
    });
    let by_program: serde_json::Map<_, _> = by_program
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|error| StoreFault::Failed(error.to_string()))?;
    Ok((!by_program.is_empty()).then_some(by_program.into()))
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
adapt!(
    "tower-sessions-0_14",
    v0_14,
    V0_14,
    tower_sessions_core_0_14
);
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
adapt!(
    "tower-sessions-0_15",
    v0_15,
    V0_15,
    tower_sessions_core_0_15
);
