//! What the layer asks of a store, each call within a time budget; and the error when it fails.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use http::Extensions;
use time::OffsetDateTime;

use crate::click::request::BoxFuture;
use crate::runtime::Runtime;
use crate::telemetry;

/// The key under which a record, and a copy in the application's session, is stored.
pub(crate) const KEY: &str = "tower_referral";

/// The session of the application in one request, of one version of tower-sessions.
pub(crate) trait AppSessionAccess: Send + Sync {
    /// Returns `true` if the application changed the session in this request, and so saves it.
    fn is_modified(&self) -> bool;

    /// Puts the copy into the session, or removes it, without waiting for anything: where the session
    /// isn't loaded, nothing happens.
    fn set(&self, value: Option<serde_json::Value>);
}

/// Finds the application's session in a request.
pub(crate) type SessionFinder = fn(&Extensions) -> Option<Arc<dyn AppSessionAccess>>;

/// A store of records behind a pointer: against a call over a network its boxed future costs nothing, and
/// the layer needs no type parameter for it.
pub(crate) trait RecordStore: Send + Sync {
    /// Creates a record and returns the ID that it got, nearly always `id`.
    fn create(&self, id: i128, text: String, expiry: OffsetDateTime) -> StoreCall<'_, i128>;

    /// Replaces a record. Some stores do nothing where there is none.
    fn save(&self, id: i128, text: String, expiry: OffsetDateTime) -> StoreCall<'_, ()>;

    fn load(&self, id: i128) -> StoreCall<'_, Option<String>>;

    fn delete(&self, id: i128) -> StoreCall<'_, ()>;
}

/// Deletes the records whose time is over.
pub(crate) trait DeleteExpired: Send + Sync {
    fn delete_expired(&self) -> StoreCall<'_, ()>;
}

pub(crate) type StoreCall<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Why a call to a store failed. It is the kind of error only: a store's own text may hold the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// A record can't be written or read as the store keeps it.
    Codec,
    /// The store's backend failed.
    Backend,
    TimedOut,
    Panicked,
    NoTimer,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Codec => "the store could not encode or decode a record",
            Self::Backend => "the store's backend failed",
            Self::TimedOut => "no answer within the timeout",
            Self::Panicked => "the store panicked",
            Self::NoTimer => {
                "nothing measures the timeout: serve in a Tokio runtime with its timer, or give \
                 `ReferralLayerBuilder::timer`"
            }
        })
    }
}

impl StoreError {
    /// Logs what couldn't be done and why.
    pub(crate) fn log(self, what: &'static str) {
        telemetry::store_failed(&FAILURES, what, &self);
    }
}

/// The failures since a call last succeeded, for the log.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// How long one request may wait for the store, over all its calls.
pub(crate) struct Budget {
    left: Mutex<Duration>,
    runtime: Runtime,
}

impl Budget {
    pub(crate) fn new(timeout: Duration, runtime: Runtime) -> Self {
        Self {
            left: Mutex::new(timeout),
            runtime,
        }
    }

    /// Waits for a call as long as the budget lasts.
    pub(crate) async fn run<T>(&self, call: StoreCall<'_, T>) -> Result<T, StoreError> {
        let left = *self.left();
        if left.is_zero() {
            return Err(StoreError::TimedOut);
        }
        let Some(timer) = self.runtime.sleep(left) else {
            return Err(StoreError::NoTimer);
        };
        let start = self.runtime.stopwatch();
        let result = timer.limit(caught(call)).await;
        let mut left = self.left();
        *left = left.saturating_sub(self.runtime.elapsed(start));
        if matches!(result, Some(Ok(_))) && FAILURES.load(Ordering::Relaxed) != 0 {
            FAILURES.store(0, Ordering::Relaxed);
        }
        result.unwrap_or_else(|| {
            *left = Duration::ZERO;
            Err(StoreError::TimedOut)
        })
    }

    fn left(&self) -> MutexGuard<'_, Duration> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Treats a call that panics as failed, so that the page goes on. Database clients panic at answers that
/// are damaged on the way: SQLx 0.9, for one, at a message that claims to be shorter than its own head.
async fn caught<T>(mut call: StoreCall<'_, T>) -> Result<T, StoreError> {
    // Whatever state it is in then, nobody polls it again.
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(StoreError::Panicked)))
    })
    .await
}

/// Why [`ReferralLayer::erase`](crate::ReferralLayer::erase) or
/// [`look_up`](crate::ReferralLayer::look_up) failed: the store didn't answer, or not in time.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUnavailable(pub(crate) StoreError);

impl fmt::Display for StoreUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the store can't be reached: {}; check that it is up and try again",
            self.0
        )
    }
}

/// Shows the same text as `Display`.
impl fmt::Debug for StoreUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StoreUnavailable {}
