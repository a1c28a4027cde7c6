//! Where a referral is kept, one of three ways, and how long it counts there.

pub(crate) mod cookie;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod store;

use std::sync::Arc;

use self::cookie::{Cookies, SignedCookie};
use self::server::{Records, ServerSide};
use self::session::{AppSession, Mirror};
use crate::error::ConfigError;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Referral, UnixMillis};

/// Where referrals are kept: a [`SignedCookie`], which most services want, or, with a feature for
/// the version of tower-sessions, `ServerSide` or `AppSession`.
///
/// Each of them turns into this by itself where [`ReferralLayer::builder`] takes it.
///
/// [`ReferralLayer::builder`]: crate::ReferralLayer::builder
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is given to `ReferralLayer::builder`"]
pub struct Keep(Way);

#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "_store"), allow(dead_code))]
enum Way {
    Cookie(SignedCookie),
    Server(ServerSide),
    Session(AppSession),
}

impl From<SignedCookie> for Keep {
    fn from(cookie: SignedCookie) -> Self {
        Self(Way::Cookie(cookie))
    }
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl From<ServerSide> for Keep {
    fn from(server: ServerSide) -> Self {
        Self(Way::Server(server))
    }
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl From<AppSession> for Keep {
    fn from(session: AppSession) -> Self {
        Self(Way::Session(session))
    }
}

/// The prepared form of [`Keep`].
pub(crate) struct Keeper {
    pub(crate) cookies: Cookies,
    /// Where the cookie holds no more than a visitor's ID.
    pub(crate) records: Option<Records>,
    /// Where the application's session has a copy.
    pub(crate) mirror: Option<Arc<Mirror>>,
}

impl Keep {
    /// Checks the configuration and prepares everything that doesn't depend on a request.
    pub(crate) fn prepare(&self, programs: &[Program]) -> Result<Keeper, ConfigError> {
        let cookie = match &self.0 {
            Way::Cookie(cookie) => cookie,
            Way::Server(server) => &server.cookie,
            Way::Session(session) => &session.cookie,
        };
        Ok(Keeper {
            cookies: cookie.prepare(programs)?,
            records: match &self.0 {
                Way::Server(server) => Some(server.prepare()),
                Way::Cookie(_) | Way::Session(_) => None,
            },
            mirror: match &self.0 {
                Way::Session(session) => Some(Arc::new(session.prepare())),
                Way::Cookie(_) | Way::Server(_) => None,
            },
        })
    }
}

/// How far in the future a capture may lie, in milliseconds: the clocks of several servers differ.
const MAX_SKEW: UnixMillis = 300_000;

/// Is a referral that was kept at `captured_at` still one? Its window becomes the shorter of its
/// own and the configured one.
pub(crate) fn check_age(
    mut referral: Referral,
    program: &Program,
    now: UnixMillis,
) -> Result<Referral, Reason> {
    referral.window = check_window(referral.captured_at, referral.window, program, now)?;
    Ok(referral)
}

/// The same for what isn't a referral yet: gives the window.
fn check_window(
    captured_at: UnixMillis,
    window: u32,
    program: &Program,
    now: UnixMillis,
) -> Result<u32, Reason> {
    let window = window.min(program.window_seconds());
    if captured_at > now + MAX_SKEW {
        Err(Reason::FromTheFuture)
    } else if millis_left(captured_at, window, now) <= 0 {
        Err(Reason::Expired)
    } else {
        Ok(window)
    }
}

/// What is left of the referral's window, in milliseconds; never more than the window.
fn millis_left(captured_at: UnixMillis, window: u32, now: UnixMillis) -> UnixMillis {
    let window = UnixMillis::from(window) * 1000;
    (captured_at + window - now).min(window)
}

/// What is left of the referral's window, in whole seconds, rounded up: the browser is not to drop
/// what the server would still take.
pub(crate) fn seconds_left(referral: &Referral, now: UnixMillis) -> u32 {
    let millis = millis_left(referral.captured_at, referral.window, now);
    u32::try_from((millis + 999) / 1000).unwrap_or(0)
}
