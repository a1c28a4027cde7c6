//! A copy of the referrals in the application's own session, for code that reads it there. The cookie
//! stays the source of truth: no session is created, saved or deleted for a referral's sake.

use std::{fmt, sync::Arc};

use http::Extensions;

use super::backend::{AppSessionAccess, KEY, SessionFinder};
use super::tower_sessions::AnySessionStore;
use crate::cookie::SignedCookie;
use crate::referral::Referral;

/// Keeps referrals in a signed cookie, and puts a copy into the application's own
/// `tower_sessions::Session`, for code that reads it there.
///
/// The copy is under [`AppSession::KEY`], an object with each program's referral under the
/// program's name, as `serde` writes a [`Referral`]:
/// `{"default": {"key": "PARTNER_123", "click_id": null, …}}`. The extractors read the cookie.
///
/// The copy goes along with a save of the application's own: where a handler changed the session, it is
/// not empty and the answer is no 5xx, the copy is inserted, so that the same save carries it. So it is
/// there from the application's next save on, and not before. The layer itself never creates, loads, saves
/// or deletes a session.
///
/// `SessionManagerLayer` goes outside, so that its session is there when a request reaches the layer; in
/// axum, `.layer(referrals).layer(session_manager)`. axum-login's `AuthManagerLayer` has it inside. Where
/// no session is found in the request at all, the extractors answer `500` with a text that says so.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_15")] {
/// use tower_referral::{AppSession, Keyring, ReferralLayer, SigningKey};
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let store = MemoryStore::default();
/// let referrals = ReferralLayer::builder(AppSession::new(&store, keyring)).build()?;
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
#[must_use = "it does nothing until it is given to `ReferralLayer::builder`"]
pub struct AppSession {
    pub(crate) cookie: SignedCookie,
    sessions: SessionFinder,
}

impl AppSession {
    /// The key of the copy in the session.
    pub const KEY: &'static str = KEY;

    /// Puts the copies into the sessions of `SessionManagerLayer` with a store like this one, whose type
    /// says the version of tower-sessions; the store itself isn't used. For the cookie, give a
    /// [`Keyring`](crate::Keyring), or a [`SignedCookie`] if it has a domain or another name.
    pub fn new<Version>(
        store: &(impl AnySessionStore<Version> + Clone),
        cookie: impl Into<SignedCookie>,
    ) -> Self {
        Self {
            cookie: cookie.into(),
            sessions: store.clone().into_store().sessions,
        }
    }

    pub(crate) fn prepare(&self) -> SessionCopies {
        SessionCopies(self.sessions)
    }
}

impl fmt::Debug for AppSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSession")
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}

/// Finds the application's session in a request.
pub(crate) struct SessionCopies(SessionFinder);

/// The application's session in one request.
pub(crate) struct SessionHandle(Arc<dyn AppSessionAccess>);

impl SessionCopies {
    /// Returns the session; `None` if its layer isn't there.
    pub(crate) fn handle(&self, extensions: &Extensions) -> Option<SessionHandle> {
        (self.0)(extensions).map(SessionHandle)
    }
}

impl SessionHandle {
    /// Returns `true` if the application changed the session in this request, and so saves it.
    pub(crate) fn is_modified(&self) -> bool {
        self.0.is_modified()
    }

    /// Puts the copy into a session that the application saves.
    pub(crate) fn copy<'r>(&self, referrals: impl Iterator<Item = &'r Referral>) {
        if !self.is_modified() {
            return;
        }
        let by_program = referrals.map(|referral| {
            let value = serde_json::to_value(referral).unwrap_or_default();
            (referral.program().to_owned(), value)
        });
        let by_program: serde_json::Map<_, _> = by_program.collect();
        self.0
            .set((!by_program.is_empty()).then(|| by_program.into()));
    }
}
