//! May something be kept about this visitor? The consent hook and the privacy signals of the
//! browser.

use http::HeaderMap;

use crate::reason::Reason;
use crate::request::RequestRef;

/// What a visitor said about being remembered.
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
    /// referral, so that the page can hold a [`CarryToken`](crate::CarryToken) and hand it back
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

/// Everything that is configured about consent.
#[derive(Default)]
pub(crate) struct ConsentRules {
    pub(crate) hook: Option<ConsentHook>,
    pub(crate) global_privacy_control: bool,
    pub(crate) do_not_track: bool,
}

pub(crate) type ConsentHook = Box<dyn Fn(RequestRef<'_>) -> Consent + Send + Sync>;

impl ConsentRules {
    /// Is there anything to be asked in a request?
    pub(crate) fn is_asked(&self) -> bool {
        self.hook.is_some() || self.global_privacy_control || self.do_not_track
    }

    pub(crate) fn permission(&self, request: RequestRef<'_>) -> Permission {
        if let Some(refusal) = self.signal(request.headers()) {
            return Permission::Denied(refusal);
        }
        self.hook
            .as_ref()
            .map_or(Permission::Granted, |hook| hook(request).into())
    }

    /// The privacy signal that the browser sent and the layer honours.
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
    /// What a handler knows of the visitor's consent takes the place of what the request said,
    /// though not of a privacy signal.
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
