//! Where referrals are kept, one of three ways.

use crate::cookie::SignedCookie;
use crate::error::ConfigError;
use crate::program::Program;
use crate::runtime::Runtime;
use crate::seal::keyring::Keyring;
use crate::store::{Records, SessionCopies};
#[cfg(feature = "_store")]
use crate::store::{server_side::ServerSide, session::AppSession};

/// Where referrals are kept: a [`SignedCookie`], which most services want, or, with a feature for
/// the version of tower-sessions, `ServerSide` or `AppSession`.
///
/// Each of them, and a [`Keyring`] for a cookie with its default settings, converts into this where
/// [`ReferralLayer::builder`](crate::ReferralLayer::builder) takes it.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is given to `ReferralLayer::builder`"]
pub struct Storage(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Cookie(SignedCookie),
    #[cfg(feature = "_store")]
    Server(ServerSide),
    #[cfg(feature = "_store")]
    Session(AppSession),
}

impl From<Keyring> for Storage {
    fn from(keyring: Keyring) -> Self {
        SignedCookie::new(keyring).into()
    }
}

impl From<SignedCookie> for Storage {
    fn from(cookie: SignedCookie) -> Self {
        Self(Kind::Cookie(cookie))
    }
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl From<ServerSide> for Storage {
    fn from(server: ServerSide) -> Self {
        Self(Kind::Server(server))
    }
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl From<AppSession> for Storage {
    fn from(session: AppSession) -> Self {
        Self(Kind::Session(session))
    }
}

impl Storage {
    pub(crate) fn cookie(&self) -> &SignedCookie {
        match &self.0 {
            Kind::Cookie(cookie) => cookie,
            #[cfg(feature = "_store")]
            Kind::Server(server) => &server.cookie,
            #[cfg(feature = "_store")]
            Kind::Session(session) => &session.cookie,
        }
    }

    /// Prepares the records on the server, where referrals are kept there.
    #[cfg(feature = "_store")]
    pub(crate) fn records(
        &self,
        programs: &[Program],
        runtime: &Runtime,
    ) -> Result<Option<Records>, ConfigError> {
        match &self.0 {
            Kind::Server(server) => server.prepare(programs, runtime).map(Some),
            Kind::Cookie(_) | Kind::Session(_) => Ok(None),
        }
    }

    /// Prepares the copies in the application's session, where it gets them.
    #[cfg(feature = "_store")]
    pub(crate) fn session_copies(&self) -> Option<SessionCopies> {
        match &self.0 {
            Kind::Session(session) => Some(session.prepare()),
            Kind::Cookie(_) | Kind::Server(_) => None,
        }
    }

    #[cfg(not(feature = "_store"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with a store"
    )]
    pub(crate) fn records(
        &self,
        _: &[Program],
        _: &Runtime,
    ) -> Result<Option<Records>, ConfigError> {
        Ok(None)
    }

    #[cfg(not(feature = "_store"))]
    #[expect(clippy::unused_self, reason = "as with a store")]
    pub(crate) fn session_copies(&self) -> Option<SessionCopies> {
        None
    }
}
