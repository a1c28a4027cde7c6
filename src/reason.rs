//! Why the layer did what it did: one reason for each decision, for logs, tests and the person who
//! asks why a visit wasn't captured.

use std::fmt;

use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::telemetry;

/// Why the layer decided as it did.
///
/// [`as_str`](Self::as_str) gives the name in snake case, as it stands in `tracing` events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    // Captured.
    /// The touch won and is kept.
    Captured,
    /// A rule of your own decided, with this reason.
    Rule(&'static str),

    /// A click ID came for the referral that is kept, and joined it.
    ClickJoined,

    // Nothing changed: the referral that is kept stays.
    /// The key is the one that is kept already.
    SameKey,
    /// Another key came first, and the first touch counts.
    KeptFirstTouch,
    /// Another key is kept, and a link of the own site replaces nothing.
    KeptOwnLink,
    /// Another key is kept, and a landing on a stand-down path replaces nothing.
    KeptStandDown,
    /// Another key is kept, and a page that was fetched ahead of time replaces nothing.
    KeptPrefetch,
    /// Another key is kept, and a page that was reloaded, or gone back to, replaces nothing.
    KeptReload,
    /// Another key is kept, and what may be a hidden frame replaces nothing.
    KeptPossibleFrame,
    /// A touch of a higher rank is kept: a landing from outside, against another script's cookie or a
    /// link of the own site, or a script's cookie, against such a link.
    KeptHigherRank,
    /// A later referral is kept than the one that a carry token brought back.
    KeptNewer,

    // Not captured.
    /// The parameter is there, but its value is empty or isn't a key by the program's rule.
    InvalidKey,
    /// The request isn't a `GET` that a browser makes as a page visit.
    NotAPageVisit,
    /// The cookies of all programs together would be over 4 KiB.
    NoRoom,
    /// The visitor denied consent or hasn't given it yet.
    NoConsent,
    /// The browser sent `Sec-GPC: 1`, and the layer honours it.
    GlobalPrivacyControl,
    /// The browser sent `DNT: 1`, and the layer honours it.
    DoNotTrack,
    /// A handler's `Capture` or `ForgetProgram` named a program that isn't configured.
    UnknownProgram,

    // Forgotten.
    /// What was kept is deleted.
    Forgotten,
    /// The platform doesn't know the key, and the capture is taken back.
    UnknownKey,

    // A cookie of the layer that is ignored.
    /// The cookie isn't of the layer's format: damaged, truncated or of another version.
    Malformed,
    /// The cookie was signed by a key that isn't on the keyring.
    UnknownSigningKey,
    /// The cookie wasn't signed by this service, or for another cookie's name, domain or program.
    BadSignature,
    /// The referral's window has ended.
    Expired,
    /// The referral was captured over 300 seconds in the future.
    FromTheFuture,

    // The server's store.
    /// The store gave no answer in time, or an error. What it has of this visitor couldn't be read,
    /// or what is new couldn't be written and is carried by the cookie until it can.
    StoreUnavailable,
}

impl Reason {
    /// Returns the reason's name in snake case, or your own rule's reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Rule(reason) => reason,
            Self::ClickJoined => "click_joined",
            Self::SameKey => "same_key",
            Self::KeptFirstTouch => "kept_first_touch",
            Self::KeptOwnLink => "kept_own_link",
            Self::KeptStandDown => "kept_stand_down",
            Self::KeptPrefetch => "kept_prefetch",
            Self::KeptReload => "kept_reload",
            Self::KeptPossibleFrame => "kept_possible_frame",
            Self::KeptHigherRank => "kept_higher_rank",
            Self::KeptNewer => "kept_newer",
            Self::InvalidKey => "invalid_key",
            Self::NotAPageVisit => "not_a_page_visit",
            Self::NoRoom => "no_room",
            Self::NoConsent => "no_consent",
            Self::GlobalPrivacyControl => "global_privacy_control",
            Self::DoNotTrack => "do_not_track",
            Self::UnknownProgram => "unknown_program",
            Self::Forgotten => "forgotten",
            Self::UnknownKey => "unknown_key",
            Self::Malformed => "malformed",
            Self::UnknownSigningKey => "unknown_signing_key",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::FromTheFuture => "from_the_future",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One decision: which program it was about, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(crate) program: SmolStr,
    pub(crate) reason: Reason,
}

impl Decision {
    /// Returns the program's name.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    fn log(&self) {
        // A handler may have made up the name of a program that isn't configured.
        let label = match self.reason {
            Reason::UnknownProgram => "",
            _ => self.program.as_str(),
        };
        telemetry::decision(label, &self.program, self.reason.as_str());
    }
}

/// Everything that was decided in one request, in order.
///
/// The layer puts it into the extensions of the response whenever something was decided on the
/// way in or out, for outer layers and tests to read. What a handler's extractor found in a cookie
/// on a request without a landing is in [`Referrals::decisions`](crate::Referrals::decisions).
///
/// ```
/// use http::Response;
/// use tower_referral::{Decisions, Reason};
///
/// /// In an outer layer, or in a test: was this landing captured, and if not, why not?
/// fn why_not<B>(response: &Response<B>) -> Option<&'static str> {
///     match response.extensions().get::<Decisions>()?.last_of("default")? {
///         Reason::Captured | Reason::SameKey => None,
///         reason => Some(reason.as_str()), // `not_a_page_visit`, `invalid_key`, …
///     }
/// }
/// ```
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decisions(SmallVec<[Decision; 1]>);

/// Written out, because one decision is by far the most usual number.
impl Clone for Decisions {
    fn clone(&self) -> Self {
        Self(match &self.0[..] {
            [only] => SmallVec::from_buf([only.clone()]),
            all => all.iter().cloned().collect(),
        })
    }
}

impl Decisions {
    pub(crate) const NONE: &'static Self = &Self(SmallVec::new_const());

    /// Returns the decisions, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Decision> {
        self.0.iter()
    }

    /// Returns the last decision about `program`: the one that explains what is kept now.
    #[must_use]
    pub fn last_of(&self, program: &str) -> Option<Reason> {
        let last = self
            .0
            .iter()
            .rfind(|decision| decision.program == program)?;
        Some(last.reason)
    }

    /// Returns `true` if nothing was decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a decision, counts it and logs it.
    pub(crate) fn push(&mut self, program: &SmolStr, reason: Reason) {
        let decision = Decision {
            program: program.clone(),
            reason,
        };
        decision.log();
        self.0.push(decision);
    }
}

impl<'a> IntoIterator for &'a Decisions {
    type Item = &'a Decision;
    type IntoIter = std::slice::Iter<'a, Decision>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
