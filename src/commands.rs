//! What a handler asks of the layer: `Capture` and `Forget`. In axum they are parts of the response;
//! anywhere else they go into the response's extensions, or through
//! [`Referrals`](crate::Referrals) on the request's side.

use std::fmt;
use std::sync::Arc;

use http::Extensions;
use smol_str::SmolStr;

use crate::attribution::{ClickDue, Touch};
use crate::click::context::ClickContext;
use crate::config::Config;
use crate::consent::{Consent, Permissions};
use crate::key::ReferralKey;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{ClickState, Rank, Referral, Source};
use crate::state::{RequestState, Win};
use crate::window::if_counting;

/// Tells the layer to forget the visitor's referrals, of all programs.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::IntoResponse;
/// use tower_referral::Forget;
///
/// /// For the `POST` that books the order: a `GET` could be opened by anyone's link.
/// async fn pay() -> impl IntoResponse {
///     (Forget, "Thank you for your order.")
/// }
/// # }
/// ```
///
/// Without axum: `response.extensions_mut().insert(Forget)`. The cookie is deleted even if the
/// browser didn't send it with this request. For handlers that don't own their response:
/// [`Referrals::forget`](crate::Referrals::forget).
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
///     (ForgetProgram::new("friends"), "Your friend gets no more rewards.")
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "`ForgetProgram` does nothing unless it is part of a response"]
pub struct ForgetProgram(Vec<SmolStr>);

impl ForgetProgram {
    /// Forgets the referral of the program of that name. A name that isn't configured is noted in
    /// the response's [`Decisions`](crate::Decisions) and changes nothing.
    pub fn new(program: impl AsRef<str>) -> Self {
        Self(vec![program.as_ref().into()])
    }

    /// Adds another program's referral.
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
///         Ok(key) => Ok((Capture::key(key), "Your friend is credited.")),
///         Err(error) => Err(error.to_string()),
///     }
/// }
/// # }
/// ```
///
/// Without axum: `response.extensions_mut().insert(Capture::key(key))`. For handlers that don't own
/// their response: [`Referrals::capture`](crate::Referrals::capture).
#[derive(Clone)]
#[must_use = "`Capture` does nothing unless it is part of a response"]
pub struct Capture(Vec<(Captured, Option<Consent>)>);

#[derive(Clone)]
enum Captured {
    /// A bare key, for the named or the first program.
    Key(Option<SmolStr>, ReferralKey),
    /// A referral that was captured before, from a carry token.
    Referral(Arc<Referral>),
    /// A landing that only the page's script saw, and what the platform would be told of it.
    #[cfg_attr(not(feature = "endpoint"), expect(dead_code))]
    Landing(Box<Touch>, Option<ClickContext>),
}

impl Capture {
    /// Captures a key for the first configured program.
    pub fn key(key: ReferralKey) -> Self {
        Self::of(Captured::Key(None, key))
    }

    /// Captures a key for the program of that name. A name that isn't configured is noted in the
    /// response's [`Decisions`](crate::Decisions) and changes nothing.
    pub fn key_for(program: impl AsRef<str>, key: ReferralKey) -> Self {
        Self::of(Captured::Key(Some(program.as_ref().into()), key))
    }

    /// Captures a referral that a [`CarryToken`](crate::carry::CarryToken) brought back, with the moment
    /// of its first capture. It never displaces one that was captured later, as far as this request shows it.
    ///
    /// A `POST` from another site (an identity provider's `form_post`, or a form that a stranger made) comes
    /// without the visitor's `SameSite=Lax` cookie, and the referral would take the place of whatever is kept. So
    /// refuse such requests where nobody is to send them (tower-http's `CsrfLayer` does), and answer the others
    /// with a redirect to a `GET` of your own site that captures.
    ///
    /// If no click was started for it, for want of consent, one is created at the visitor's next page view, or with
    /// `ClickTiming::AtEndpoint` in this very request where that is a `POST`. A click that was started, whatever
    /// became of it, isn't repeated.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::extract::State;
    /// use tower_referral::{Capture, carry::Carry};
    ///
    /// /// The visitor comes back from the identity provider, with what the log-in sent along.
    /// async fn logged_in(State(carry): State<Carry>, state: String) -> Option<Capture> {
    ///     carry.open(&state).ok().map(Capture::referral)
    /// }
    /// # }
    /// ```
    pub fn referral(referral: Referral) -> Self {
        Self::of(Captured::Referral(Arc::new(referral)))
    }

    /// Sets the consent that the visitor has given or denied in this very request, whose headers can't
    /// say so yet. For the handler that takes the consent banner's answer.
    ///
    /// It holds in this response for what is captured here, everything that was [added](Self::and) before
    /// included, in place of what the consent hooks say; it doesn't override a privacy signal that the layer
    /// honours. With [`Consent::Denied`] nothing is captured, and what is kept for the same programs is
    /// forgotten. Other programs go by their own consent: for a refusal of all of them answer with
    /// [`Forget`].
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::response::IntoResponse;
    /// use tower_referral::{Capture, Consent, carry::Carry};
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
        for (_, own) in &mut self.0 {
            *own = Some(consent);
        }
        self
    }

    /// Adds another one, for services with several programs. Each keeps the [`consent`](Self::consent) that
    /// it has.
    ///
    /// ```
    /// use tower_referral::{Capture, ReferralKey};
    ///
    /// # fn codes(partner: ReferralKey, friend: ReferralKey) -> Capture {
    /// Capture::key_for("partners", partner).and(Capture::key_for("friends", friend))
    /// # }
    /// ```
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    #[cfg(feature = "endpoint")]
    pub(crate) fn landing(touch: Touch, context: Option<ClickContext>) -> Self {
        Self::of(Captured::Landing(Box::new(touch), context))
    }

    fn of(captured: Captured) -> Self {
        Self(vec![(captured, None)])
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consents: Vec<_> = self.0.iter().map(|(_, consent)| consent).collect();
        f.debug_struct("Capture")
            .field("consents", &consents)
            .finish_non_exhaustive()
    }
}

/// Everything that handlers ask for in one request.
#[derive(Default)]
pub(crate) struct HandlerCommands {
    forget: Option<Forget>,
    forget_programs: Option<ForgetProgram>,
    capture: Option<Capture>,
}

impl From<Forget> for HandlerCommands {
    fn from(forget: Forget) -> Self {
        Self {
            forget: Some(forget),
            ..Self::default()
        }
    }
}

impl From<Capture> for HandlerCommands {
    fn from(capture: Capture) -> Self {
        Self {
            capture: Some(capture),
            ..Self::default()
        }
    }
}

impl HandlerCommands {
    /// Takes the commands out of a response.
    #[inline]
    pub(crate) fn take(extensions: &mut Extensions) -> Self {
        if extensions.is_empty() {
            return Self::default();
        }
        Self {
            forget: extensions.remove(),
            forget_programs: extensions.remove(),
            capture: extensions.remove(),
        }
    }

    /// Adds commands that came later.
    pub(crate) fn add(&mut self, later: Self) {
        self.forget = later.forget.or(self.forget);
        self.forget_programs = match (self.forget_programs.take(), later.forget_programs) {
            (Some(earlier), Some(later)) => Some(earlier.and(later)),
            (earlier, later) => earlier.or(later),
        };
        self.capture = match (self.capture.take(), later.capture) {
            (Some(earlier), Some(later)) => Some(earlier.and(later)),
            (earlier, later) => earlier.or(later),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.forget.is_none() && self.forget_programs.is_none() && self.capture.is_none()
    }

    /// Returns `true` if the result depends on what is kept.
    pub(crate) fn captures(&self) -> bool {
        self.capture.is_some()
    }

    /// Returns what the platform would be told of a landing that only the page's script saw.
    pub(crate) fn click_context(&self) -> Option<&ClickContext> {
        let mut captured = self.capture.iter().flat_map(|capture| &capture.0);
        captured.find_map(|(captured, _)| match captured {
            Captured::Landing(_, context) => context.as_ref(),
            Captured::Key(..) | Captured::Referral(_) => None,
        })
    }

    /// Carries the commands out. Returns the touches that won, with what the platform would be told.
    pub(crate) fn apply(
        self,
        config: &Config,
        permissions: &Permissions,
        state: &mut RequestState,
    ) -> Vec<(Win, Option<ClickContext>)> {
        if self.forget.is_some() {
            state.forget_all(config, Reason::Forgotten);
        }
        for name in self.forget_programs.into_iter().flat_map(|names| names.0) {
            if let Some(index) = find(config, &name, state) {
                state.forget(config, index, Reason::Forgotten);
            }
        }
        let captured = self.capture.into_iter().flat_map(|capture| capture.0);
        captured
            .filter_map(|(captured, consent)| captured.apply(config, permissions, consent, state))
            .collect()
    }
}

impl Captured {
    fn apply(
        self,
        config: &Config,
        permissions: &Permissions,
        consent: Option<Consent>,
        state: &mut RequestState,
    ) -> Option<(Win, Option<ClickContext>)> {
        let index = match &self {
            // By its name: what it was read for may have come from behind another layer.
            Self::Landing(touch, _) => find(config, &touch.referral.program, state)?,
            Self::Key(None, _) => 0,
            Self::Key(Some(name), _) => find(config, name, state)?,
            Self::Referral(referral) => find(config, &referral.program, state)?,
        };
        let permission = permissions.of(index);
        let permission = consent.map_or(permission, |consent| permission.or_consent(consent));
        if consent == Some(Consent::Denied) {
            state.forget_kept(config, index, Reason::NoConsent);
        }
        let (touch, context) = match self {
            Self::Landing(touch, context) => {
                let program = index;
                (Ok(Touch { program, ..*touch }), context)
            }
            Self::Key(_, key) => (touch_of_key(config, index, &key, state), None),
            Self::Referral(referral) => (touch_of_referral(config, index, referral, state), None),
        };
        match touch {
            Err(reason) => {
                state.note(config, index, reason);
                None
            }
            Ok(touch) => {
                let win = state.touch(config, touch, permission)?;
                Some((win, context))
            }
        }
    }
}

fn touch_of_key(
    config: &Config,
    index: usize,
    key: &ReferralKey,
    state: &RequestState,
) -> Result<Touch, Reason> {
    let program = &config.programs[index];
    let referral = Referral {
        key: Some(valid_key(program, key)?),
        click_id: None,
        partner_id: None,
        program: program.name.clone(),
        source: Source::Handler,
        rank: Rank::Outside,
        touch: None,
        click: ClickState::Settled,
        captured_at: state.now,
        window: program.window_seconds(),
        parameter: None,
        landing_path: None,
        refused: None,
        extra: Vec::new(),
    };
    Ok(Touch::new(index, referral))
}

fn touch_of_referral(
    config: &Config,
    index: usize,
    referral: Arc<Referral>,
    state: &RequestState,
) -> Result<Touch, Reason> {
    let program = &config.programs[index];
    if let Some(key) = &referral.key {
        valid_key(program, key)?;
    }
    let click = match referral.click {
        ClickState::Due => ClickDue::AtNextPageView,
        ClickState::Started | ClickState::Settled => ClickDue::Never,
    };
    Ok(Touch {
        is_carried: true,
        click,
        ..Touch::new(index, if_counting(referral, program, state.now)?)
    })
}

fn valid_key(program: &Program, key: &ReferralKey) -> Result<ReferralKey, Reason> {
    let key = program.key_rule.parse(key.as_str());
    key.map_err(|_| Reason::InvalidKey)
}

/// Returns the index of the program of that name; notes one that isn't configured.
fn find(config: &Config, name: &SmolStr, state: &mut RequestState) -> Option<usize> {
    let index = config.program_index(name);
    if index.is_none() {
        state.decisions.push(name, Reason::UnknownProgram);
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
