//! What a handler says to the layer with its response: `Capture` and `Forget`. In axum they are
//! parts of the response; anywhere else they go into the response's extensions.

use std::fmt;

use http::Extensions;
use smol_str::SmolStr;

use crate::attribution::Touch;
use crate::click::{Facts, Pending};
use crate::config::Config;
use crate::consent::{Consent, Permission};
use crate::keep::check_age;
use crate::landing::Found;
use crate::ledger::Ledger;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Click, Referral, ReferralKey, Source};

/// Tells the layer to forget the visitor's referrals, of all programs.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::IntoResponse;
/// use tower_referral::Forget;
///
/// async fn thank_you() -> impl IntoResponse {
///     (Forget, "Thank you for your order.")
/// }
/// # }
/// ```
///
/// Without axum: `response.extensions_mut().insert(Forget)`. The cookie is deleted even if the
/// browser didn't send it with this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "`Forget` does nothing unless it is part of a response"]
pub struct Forget;

/// Tells the layer to forget the visitor's referral of one program, as [`Forget`] does for all.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::IntoResponse;
/// use tower_referral::ForgetProgram;
///
/// async fn leave_the_club() -> impl IntoResponse {
///     (ForgetProgram::new("friends"), "Your friend earns nothing by you any more.")
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "`ForgetProgram` does nothing unless it is part of a response"]
pub struct ForgetProgram(Vec<SmolStr>);

impl ForgetProgram {
    /// Forgets the referral of the program of that name. A name that isn't configured is noted in
    /// the response's [`Decisions`](crate::Decisions) and changes nothing.
    pub fn new(program: impl Into<SmolStr>) -> Self {
        Self(vec![program.into()])
    }

    /// Forgets another program's referral as well.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// Tells the layer to capture a referral, under the same attribution rule as a landing.
///
/// For a code that the visitor typed in, a key from a JSON body, or a carry token that came back.
/// It comes after what the request's own URL carried, and after a [`Forget`] in the same response.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::IntoResponse;
/// use tower_referral::{Capture, ReferralKey};
///
/// async fn redeem(code: String) -> impl IntoResponse {
///     match code.parse::<ReferralKey>() {
///         Ok(key) => Ok((Capture::key(key), "Your friend will be told.")),
///         Err(error) => Err(error.to_string()),
///     }
/// }
/// # }
/// ```
///
/// Without axum: `response.extensions_mut().insert(Capture::key(key))`.
#[derive(Clone)]
#[must_use = "`Capture` does nothing unless it is part of a response"]
pub struct Capture {
    captured: Vec<Captured>,
    consent: Option<Consent>,
}

#[derive(Clone)]
enum Captured {
    /// A bare key, for the named or the first program.
    Key(Option<SmolStr>, ReferralKey),
    /// A referral that was captured before, from a carry token.
    Referral(Referral),
    /// A landing that only the page's script saw.
    #[cfg_attr(not(feature = "endpoint"), expect(dead_code))]
    Landing(SmolStr, Found<'static>, Option<SmolStr>, Option<Facts>),
}

impl Capture {
    /// Captures a key for the first configured program.
    pub fn key(key: ReferralKey) -> Self {
        Self::of(Captured::Key(None, key))
    }

    /// Captures a key for the program of that name. A name that isn't configured is noted in the
    /// response's [`Decisions`](crate::Decisions) and changes nothing.
    pub fn key_for(program: impl Into<SmolStr>, key: ReferralKey) -> Self {
        Self::of(Captured::Key(Some(program.into()), key))
    }

    /// Captures a referral that a [`CarryToken`](crate::CarryToken) brought back, with the moment
    /// of its first capture. It never displaces one that was captured later.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::extract::State;
    /// use tower_referral::{Capture, Carry};
    ///
    /// /// The visitor comes back from the identity provider, with what the log-in sent along.
    /// async fn logged_in(State(carry): State<Carry>, state: String) -> Option<Capture> {
    ///     carry.open(&state).ok().map(Capture::referral)
    /// }
    /// # }
    /// ```
    pub fn referral(referral: Referral) -> Self {
        Self::of(Captured::Referral(referral))
    }

    /// Says that the visitor has consented, or not, in this very request, whose headers can't say
    /// so yet. For the handler that takes the consent banner's answer.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::response::IntoResponse;
    /// use tower_referral::{Capture, Carry, Consent};
    ///
    /// /// The page has held what the landing brought in a hidden field, as a carry token.
    /// async fn agreed(carry: Carry, held: String) -> impl IntoResponse {
    ///     let referral = carry.open(&held).ok();
    ///     let capture = referral.map(|it| Capture::referral(it).consent(Consent::Granted));
    ///     ([("set-cookie", "consent=yes; Path=/; Max-Age=15552000")], capture, "Thank you.")
    /// }
    /// # }
    /// ```
    pub fn consent(mut self, consent: Consent) -> Self {
        self.consent = Some(consent);
        self
    }

    /// Captures another one as well, for services with several programs.
    ///
    /// ```
    /// use tower_referral::{Capture, ReferralKey};
    ///
    /// # fn codes(partner: ReferralKey, friend: ReferralKey) -> Capture {
    /// Capture::key_for("partners", partner).and(Capture::key_for("friends", friend))
    /// # }
    /// ```
    pub fn and(mut self, other: Self) -> Self {
        self.captured.extend(other.captured);
        self.consent = other.consent.or(self.consent);
        self
    }

    #[cfg(feature = "endpoint")]
    pub(crate) fn landing(
        program: SmolStr,
        found: Found<'static>,
        path: Option<SmolStr>,
        facts: Option<Facts>,
    ) -> Self {
        Self::of(Captured::Landing(program, found, path, facts))
    }

    fn of(captured: Captured) -> Self {
        Self {
            captured: vec![captured],
            consent: None,
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("consent", &self.consent)
            .finish_non_exhaustive()
    }
}

/// Everything that a handler said in one response.
pub(crate) struct Word {
    forget: Option<Forget>,
    forget_program: Option<ForgetProgram>,
    capture: Option<Capture>,
}

impl Word {
    /// Takes the handler's word out of the response.
    #[inline]
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        if extensions.is_empty() {
            return None;
        }
        Self::take_of_any(extensions)
    }

    fn take_of_any(extensions: &mut Extensions) -> Option<Self> {
        let word = Self {
            forget: extensions.remove(),
            forget_program: extensions.remove(),
            capture: extensions.remove(),
        };
        let is_silent =
            word.forget.is_none() && word.forget_program.is_none() && word.capture.is_none();
        (!is_silent).then_some(word)
    }

    /// Does it depend on what is kept?
    pub(crate) fn captures(&self) -> bool {
        self.capture.is_some()
    }

    /// Does what was said, and gives the clicks that it started, with the program's index.
    pub(crate) fn apply(
        self,
        config: &Config,
        permission: Permission,
        ledger: &mut Ledger,
    ) -> Vec<(usize, Pending)> {
        let mut clicks = Vec::new();
        if self.forget.is_some() {
            ledger.forget_all(config, Reason::Forgotten);
        }
        for name in self.forget_program.into_iter().flat_map(|word| word.0) {
            if let Some(index) = find(config, &name, ledger) {
                ledger.forget(config, index, Reason::Forgotten);
            }
        }
        if let Some(capture) = self.capture {
            let permission = capture
                .consent
                .map_or(permission, |consent| permission.or_consent(consent));
            if capture.consent == Some(Consent::Denied) {
                ledger.forget_kept(config, Reason::NoConsent);
            }
            for captured in capture.captured {
                clicks.extend(captured.apply(config, permission, ledger));
            }
        }
        clicks
    }
}

/// When the platform hears of what a handler captured, if it wins.
enum ClickDue {
    Never,
    Now(Facts),
    AtTheNextPageView,
}

impl Captured {
    fn apply(
        self,
        config: &Config,
        permission: Permission,
        ledger: &mut Ledger,
    ) -> Option<(usize, Pending)> {
        let index = match self.program() {
            None => 0,
            Some(name) => find(config, name, ledger)?,
        };
        let click_due = self.click_due();
        let win = match self.into_touch(config, &config.programs[index], ledger) {
            Ok(touch) => ledger.touch(config, index, touch, permission),
            Err(reason) => {
                ledger.note(config, index, reason);
                return None;
            }
        };
        match (&config.clicks, win, click_due) {
            (Some(clicker), Some(win), ClickDue::Now(facts)) => {
                ledger.start_click(clicker, facts, win)
            }
            (Some(clicker), Some(win), ClickDue::AtTheNextPageView) => {
                ledger.defer_click(clicker, &win);
                None
            }
            _ => None,
        }
    }

    fn program(&self) -> Option<&SmolStr> {
        match self {
            Self::Key(name, _) => name.as_ref(),
            Self::Referral(referral) => Some(&referral.program),
            Self::Landing(name, ..) => Some(name),
        }
    }

    fn click_due(&self) -> ClickDue {
        match self {
            Self::Landing(_, _, _, Some(facts)) => ClickDue::Now(facts.clone()),
            Self::Referral(referral) if referral.awaits_click() => ClickDue::AtTheNextPageView,
            _ => ClickDue::Never,
        }
    }

    fn into_touch(
        self,
        config: &Config,
        program: &Program,
        ledger: &Ledger,
    ) -> Result<Touch, Reason> {
        let now = ledger.now();
        match self {
            Self::Key(_, key) => Ok(Touch::new(Referral {
                key: valid_key(program, &key)?,
                click_id: None,
                click: Click::None,
                program: program.name.clone(),
                source: Source::Handler,
                captured_at: now,
                window: program.window_seconds(),
                parameter: None,
                landing_path: None,
                extra: Vec::new(),
            })),
            Self::Referral(referral) => {
                valid_key(program, &referral.key)?;
                Ok(Touch {
                    carried: true,
                    ..Touch::new(check_age(referral, program, now)?)
                })
            }
            Self::Landing(_, found, path, _) => {
                let path = path.as_deref();
                let stands_down = path.is_some_and(|path| config.stands_down(path));
                Ok(Touch {
                    fills_only: stands_down.then_some(Reason::KeptStandDown),
                    ..Touch::new(found.into_referral(program, Source::Landing, path, now))
                })
            }
        }
    }
}

fn valid_key(program: &Program, key: &ReferralKey) -> Result<ReferralKey, Reason> {
    program
        .key_rule
        .parse(key.as_str())
        .map_err(|_| Reason::InvalidKey)
}

/// The index of the program of that name; notes one that isn't there.
fn find(config: &Config, name: &SmolStr, ledger: &mut Ledger) -> Option<usize> {
    let index = config
        .programs
        .iter()
        .position(|program| program.name == *name);
    if index.is_none() {
        ledger.note_unknown(name);
    }
    index
}

#[cfg(feature = "axum")]
mod axum {
    use std::convert::Infallible;

    use axum_core::response::{IntoResponseParts, ResponseParts};

    use super::{Capture, Forget, ForgetProgram};

    impl IntoResponseParts for Forget {
        type Error = Infallible;

        fn into_response_parts(
            self,
            mut parts: ResponseParts,
        ) -> Result<ResponseParts, Infallible> {
            parts.extensions_mut().insert(self);
            Ok(parts)
        }
    }

    impl IntoResponseParts for ForgetProgram {
        type Error = Infallible;

        fn into_response_parts(
            self,
            mut parts: ResponseParts,
        ) -> Result<ResponseParts, Infallible> {
            let all = match parts.extensions_mut().remove::<Self>() {
                None => self,
                Some(earlier) => earlier.and(self),
            };
            parts.extensions_mut().insert(all);
            Ok(parts)
        }
    }

    impl IntoResponseParts for Capture {
        type Error = Infallible;

        fn into_response_parts(
            self,
            mut parts: ResponseParts,
        ) -> Result<ResponseParts, Infallible> {
            let both = match parts.extensions_mut().remove::<Self>() {
                None => self,
                Some(earlier) => earlier.and(self),
            };
            parts.extensions_mut().insert(both);
            Ok(parts)
        }
    }
}
