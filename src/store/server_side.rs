//! How referrals are kept on the server.

use std::{fmt, sync::Arc, time::Duration};

use super::backend::{DeleteExpired, RecordStore};
use super::deletion::Deletion;
use super::records::Records;
use super::tower_sessions::{AnyExpiredDeletion, AnySessionStore};
use crate::cookie::SignedCookie;
use crate::error::ConfigError;
use crate::program::Program;
use crate::runtime::Runtime;
use crate::seal::{Purpose, Seal};

/// How long one request may wait for the store, unless the user says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(250);
/// Expired records are deleted this often.
const DELETION_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps referrals on the server: the browser holds only a sealed random ID.
///
/// Each referral is a record of its own in any [`SessionStore`] of tower-sessions; the application's
/// sessions may be in the same store. The cookie is as [`SignedCookie`] describes it. A record's ID is
/// derived from the visitor's ID by the signing key, so that no cookie of the layer is a session of
/// the application. A referral that replaces another gets a new record and a new visitor ID, so that a copied
/// cookie shows nothing of what came later.
///
/// # Who deletes records
///
/// A record ends with the referral's window. Say who deletes it then, or building the layer is refused:
/// [`delete_expired`](Self::delete_expired) for SQL stores, [`store_expires_records`] for Redis, moka and
/// memory.
///
/// [`store_expires_records`]: Self::store_expires_records
///
/// # When the store fails
///
/// A request waits for the store for 250 ms at most, over all its calls
/// ([`timeout`](Self::timeout)), and goes out unchanged otherwise. While the store is down,
/// hanging, full or read-only, a new referral is sealed into the cookie, as [`SignedCookie`] would
/// keep it; the visitor's next request after that moves it to the server, where the attribution
/// rule decides between it and what is there. What only the store had can't be read until it is
/// back: such a request has [`Reason::StoreUnavailable`](crate::Reason::StoreUnavailable) among its
/// decisions, and its [`VisitorId`](crate::VisitorId) all the same, by which a referral that comes meanwhile
/// can be looked up and erased later. A referral that is forgotten meanwhile
/// is gone from the browser; its record, whose ID nobody has any more, ends with the window. What the
/// store itself loses is lost.
///
/// # What is read and written when
///
/// A request without our cookie reads nothing from the store. One with it reads once, if a
/// handler's extractor asks or a landing must know; a change is one write, and one deletion where it
/// replaces a record.
///
/// # Overlapping requests
///
/// Once the browser has processed a response that set the cookie, no later landing displaces a
/// first touch. Of two landings of a new visitor that truly overlap, exactly one survives: the one
/// whose response the browser processes last.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_15")] {
/// use tower_referral::{Keyring, ReferralLayer, ServerSide, SigningKey};
/// use tower_sessions::MemoryStore; // or a SQLite, PostgreSQL, Redis, moka store, or your own
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let store = ServerSide::new(MemoryStore::default(), keyring).store_expires_records();
/// let referrals = ReferralLayer::builder(store).build()?;
/// # Ok(())
/// # }
/// # }
/// ```
///
/// [`SessionStore`]: https://docs.rs/tower-sessions/latest/tower_sessions/trait.SessionStore.html
#[derive(Clone)]
#[must_use = "a store does nothing until it is given to `ReferralLayer::builder`"]
pub struct ServerSide {
    pub(crate) cookie: SignedCookie,
    store: Arc<dyn RecordStore>,
    timeout: Duration,
    expiry: Expiry,
}

/// Who deletes records whose window has ended.
#[derive(Clone)]
enum Expiry {
    Nobody,
    Store,
    Layer(Arc<dyn DeleteExpired>),
}

impl ServerSide {
    /// Keeps records in `store`, and the visitor's ID in a cookie: give a
    /// [`Keyring`](crate::Keyring) for the cookie with its default settings, or a [`SignedCookie`] for
    /// one with a domain or another name.
    ///
    /// `Version` is inferred; see [`AnySessionStore`].
    pub fn new<Version>(
        store: impl AnySessionStore<Version>,
        cookie: impl Into<SignedCookie>,
    ) -> Self {
        Self {
            cookie: cookie.into(),
            store: store.into_store().store,
            timeout: DEFAULT_TIMEOUT,
            expiry: Expiry::Nobody,
        }
    }

    /// Deletes expired records of `store`, which is the one that the records are in: once a minute, or every
    /// half window (at least one second) where a program's window is shorter than two minutes. It is for SQL
    /// stores, which keep them otherwise, and deletes expired sessions of the application too, where these
    /// are in the same store.
    ///
    /// It runs on the layer's [`spawner`](crate::ReferralLayerBuilder::spawner), or else on the Tokio runtime
    /// of the first request that uses the store, and ends with the layer.
    pub fn delete_expired<Version>(mut self, store: impl AnyExpiredDeletion<Version>) -> Self {
        self.expiry = Expiry::Layer(store.into_deletion().0);
        self
    }

    /// Says that the store drops records by itself when their time is over, as Redis and moka do, or that
    /// something else sees to it.
    pub fn store_expires_records(mut self) -> Self {
        self.expiry = Expiry::Store;
        self
    }

    /// Sets how long one request may wait for the store, over all its calls; 250 ms by default.
    ///
    /// It needs a Tokio runtime with its timer, or
    /// [`ReferralLayerBuilder::timer`](crate::ReferralLayerBuilder::timer). Without either, the store counts
    /// as down.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn prepare(
        &self,
        programs: &[Program],
        runtime: &Runtime,
    ) -> Result<Records, ConfigError> {
        let deletion = match &self.expiry {
            Expiry::Nobody => return Err(ConfigError::NobodyDeletesRecords),
            Expiry::Store => None,
            Expiry::Layer(store) => {
                let windows = programs.iter().map(|program| program.window);
                let shortest = windows.min().unwrap_or(DELETION_INTERVAL) / 2;
                let interval = shortest.clamp(Duration::from_secs(1), DELETION_INTERVAL);
                Some(Deletion::new(Arc::clone(store), interval))
            }
        };
        let seal = Seal::new(self.cookie.keyring(), Purpose::Record);
        let store = Arc::clone(&self.store);
        Ok(Records::new(
            store,
            deletion,
            self.timeout,
            seal,
            runtime.clone(),
        ))
    }
}

impl fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSide")
            .field("cookie", &self.cookie)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
