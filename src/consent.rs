//! Whether something may be kept about a visitor: the consent hooks and the privacy signals of the
//! browser.

use std::sync::Arc;

use http::HeaderMap;
use smallvec::SmallVec;

use crate::reason::Reason;
use crate::request::RequestRef;

/// The visitor's consent.
///
/// Some laws require consent for cookies that bill affiliates (the French regulator's reading of
/// the ePrivacy rules, for one); ask a lawyer, not a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consent {
    /// The visitor agreed: referrals are captured and kept.
    Granted,
    /// The visitor refused: nothing is captured, and what is kept is forgotten.
    Denied,
    /// The visitor hasn't said yet: nothing durable is written. The handler still sees a landing's
    /// referral, so that the page can hold a [`CarryToken`](crate::carry::CarryToken) and hand it back
    /// with the consent.
    Unknown,
}

/// What the layer may do in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Capture and keep.
    Granted,
    /// Show a landing's referral to the handler, and write nothing.
    NotYet,
    /// Capture nothing, and forget what is kept.
    Denied(Refusal),
}

/// Who says that nothing may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoConsent,
    GlobalPrivacyControl,
    DoNotTrack,
}

impl Refusal {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::NoConsent => Reason::NoConsent,
            Self::GlobalPrivacyControl => Reason::GlobalPrivacyControl,
            Self::DoNotTrack => Reason::DoNotTrack,
        }
    }
}

/// Reads the visitor's consent from a request.
pub(crate) type ConsentHook = Arc<dyn Fn(RequestRef<'_>) -> Consent + Send + Sync>;

/// What is configured about consent for all programs.
#[derive(Default)]
pub(crate) struct ConsentRules {
    pub(crate) hook: Option<ConsentHook>,
    pub(crate) global_privacy_control: bool,
    pub(crate) do_not_track: bool,
}

/// What the layer may do for each program in one request.
#[derive(Clone, Debug)]
pub(crate) struct Permissions {
    all: Permission,
    /// Of the programs that have a hook of their own, with their indexes.
    own: SmallVec<[(usize, Permission); 1]>,
}

impl Permissions {
    pub(crate) const GRANTED: Self = Self {
        all: Permission::Granted,
        own: SmallVec::new_const(),
    };

    /// Asks the browser's privacy signals, then the hooks. `own` are those of single programs.
    pub(crate) fn read<'h>(
        rules: &ConsentRules,
        own: impl Iterator<Item = (usize, &'h ConsentHook)>,
        request: RequestRef<'_>,
    ) -> Self {
        if let Some(refusal) = rules.signal(request.headers()) {
            return Self {
                all: Permission::Denied(refusal),
                own: SmallVec::new(),
            };
        }
        let hook = rules.hook.as_ref();
        Self {
            all: hook.map_or(Permission::Granted, |hook| hook(request).into()),
            own: own
                .map(|(index, hook)| (index, hook(request).into()))
                .collect(),
        }
    }

    pub(crate) fn of(&self, program: usize) -> Permission {
        let own = self.own.iter().find(|(index, _)| *index == program);
        own.map_or(self.all, |(_, permission)| *permission)
    }

    pub(crate) fn denies(&self, program: usize) -> bool {
        matches!(self.of(program), Permission::Denied(_))
    }

    /// Returns `true` if something must be forgotten.
    pub(crate) fn denies_any(&self) -> bool {
        let denies = |permission| matches!(permission, Permission::Denied(_));
        denies(self.all) || self.own.iter().any(|(_, permission)| denies(*permission))
    }
}

impl ConsentRules {
    /// Returns `true` if anything is to be asked in a request.
    pub(crate) fn is_asked(&self) -> bool {
        self.hook.is_some() || self.global_privacy_control || self.do_not_track
    }

    /// Returns the privacy signal that the browser sent and the layer honours.
    fn signal(&self, headers: &HeaderMap) -> Option<Refusal> {
        let is_on = |name| headers.get_all(name).iter().any(|value| value == "1");
        if self.global_privacy_control && is_on("sec-gpc") {
            Some(Refusal::GlobalPrivacyControl)
        } else if self.do_not_track && is_on("dnt") {
            Some(Refusal::DoNotTrack)
        } else {
            None
        }
    }
}

impl Permission {
    /// Replaces what the request said by what a handler knows of the visitor's consent. A privacy signal
    /// stays.
    pub(crate) fn or_consent(self, consent: Consent) -> Self {
        match self {
            Self::Denied(Refusal::GlobalPrivacyControl | Refusal::DoNotTrack) => self,
            _ => consent.into(),
        }
    }
}

impl From<Consent> for Permission {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::Granted => Self::Granted,
            Consent::Unknown => Self::NotYet,
            Consent::Denied => Self::Denied(Refusal::NoConsent),
        }
    }
}
