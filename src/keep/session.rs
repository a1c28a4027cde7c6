//! The application's own session: a copy of what the cookie keeps, for code that reads it there.
//! The cookie stays the source of truth, and no session is ever made for a referral's sake.

use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap};

use super::cookie::SignedCookie;
use super::store::{AppSessionHandle, Budget, Store};
use crate::ledger::Ledger;
use crate::referral::Referral;

/// Keeps referrals in a signed cookie, and puts a copy into the application's own
/// `tower_sessions::Session`, for code that reads it there.
///
/// The copy is under [`AppSession::KEY`], an object with each program's referral under the
/// program's name, as `serde` writes a [`Referral`]:
/// `{"default": {"key": "PARTNER_123", "click_id": null, …}}`. It is there from the request after
/// the landing on, and goes with [`Forget`](crate::Forget). The extractors read the cookie.
///
/// - A landing never makes a session. Where the browser held the session's `SameSite=Strict` cookie
///   back, as it does on a landing from another site, the session stays as it is and the visitor
///   stays logged in; the copy follows with the next request that has the session.
/// - The copy is looked after on every response to a page or a script (going by
///   `Sec-Fetch-Dest`) that has the visitor's session and referral: put back when a concurrent
///   request, a rotation or a logout has lost it. That is one read of the session's record, and one
///   write if the copy is missing. Where the handler changed the session itself, the copy goes
///   along with that.
/// - While the store fails, a request waits for 250 ms at most ([`time_limit`](Self::time_limit));
///   nothing of ours makes the application save its session.
///
/// `SessionManagerLayer` goes outside, so that its session is there when a request reaches us; in
/// axum, `.layer(referrals).layer(session_manager)`. Where no session is found in the request at
/// all, the extractors answer `500` with a text that says so.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_15")] {
/// use tower_referral::{AppSession, Keyring, ReferralLayer, SigningKey};
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let store = MemoryStore::default();
/// let referrals = ReferralLayer::builder(AppSession::new(store.clone(), keyring)).build()?;
/// let sessions = SessionManagerLayer::new(store);
/// let app: axum::Router = axum::Router::new()
///     // … routes …
///     .layer(referrals)
///     .layer(sessions);
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a store does nothing until it is given to `ReferralLayer::builder`"]
#[cfg_attr(not(feature = "_store"), allow(dead_code, unreachable_pub))]
pub struct AppSession {
    pub(super) cookie: SignedCookie,
    store: Arc<dyn Store>,
    time_limit: Duration,
    always_save: bool,
}

#[cfg(feature = "_store")]
impl AppSession {
    /// Where the copy is in the session.
    pub const KEY: &'static str = super::store::KEY;

    /// Puts the copies into the sessions of `store`, which is the one that `SessionManagerLayer`
    /// has. For the cookie, give a [`Keyring`](crate::Keyring), or a [`SignedCookie`] if it has a domain or another
    /// name.
    ///
    /// `Version` is inferred; see [`AnySessionStore`](super::store::AnySessionStore).
    pub fn new<Version>(
        store: impl super::store::AnySessionStore<Version>,
        cookie: impl Into<SignedCookie>,
    ) -> Self {
        Self {
            cookie: cookie.into(),
            store: store.into_store().0,
            time_limit: super::server::DEFAULT_TIME_LIMIT,
            always_save: false,
        }
    }

    /// How long one request may wait for the store; 250 ms without this.
    ///
    /// It needs a Tokio runtime with its timer. Without one, nothing is copied.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Say so if the `SessionManagerLayer` is one `with_always_save(true)`: it writes every
    /// session at the end of every request, so the copy has to go along with that.
    pub fn always_save(mut self) -> Self {
        self.always_save = true;
        self
    }
}

impl fmt::Debug for AppSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSession")
            .field("cookie", &self.cookie)
            .field("time_limit", &self.time_limit)
            .field("always_save", &self.always_save)
            .finish_non_exhaustive()
    }
}

impl AppSession {
    pub(super) fn prepare(&self) -> Mirror {
        Mirror {
            store: Arc::clone(&self.store),
            time_limit: self.time_limit,
            always_save: self.always_save,
        }
    }
}

/// What puts the copies into the sessions.
pub(crate) struct Mirror {
    store: Arc<dyn Store>,
    time_limit: Duration,
    always_save: bool,
}

impl Mirror {
    pub(crate) fn session(&self, extensions: &Extensions) -> Option<Box<dyn AppSessionHandle>> {
        self.store.session(extensions)
    }

    /// Makes the session's copy what the ledger keeps.
    pub(crate) async fn reflect(&self, ledger: &Ledger, session: &dyn AppSessionHandle) {
        let referrals: Vec<Referral> = ledger.all_kept().cloned().collect();
        let put = if session.is_modified() || (self.always_save && session.id().is_some()) {
            session.put(referrals)
        } else if let Some(id) = session.id() {
            self.store.put(id, referrals)
        } else {
            return;
        };
        if let Err(fault) = Budget::new(self.time_limit).run(put).await {
            fault.tell("put the copy into");
        }
    }
}

/// May what answers this request have read the session? Images, styles and the like don't.
pub(crate) fn may_use_session(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-dest")
        .is_none_or(|dest| dest == "document" || dest == "empty")
}
