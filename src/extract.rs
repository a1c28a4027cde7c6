//! What handlers see: `ReferralKey`, `Referral` and `Referrals`, from the extensions of a request, and
//! as axum extractors.

use std::iter::{Chain, FusedIterator};
use std::sync::Arc;
use std::{fmt, option, slice};

use http::Extensions;

use crate::commands::{Capture, Forget, HandlerCommands};
use crate::exchange::Exchange;
use crate::key::ReferralKey;
use crate::missing_layer::MissingLayer;
use crate::reason::Decisions;
use crate::referral::Referral;
use crate::state::RequestState;
use crate::visitor::VisitorId;

impl ReferralKey {
    /// Returns the key of the first configured program that holds one, from the extensions of a request:
    /// what the extractor does, for everything but axum.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower_referral::{MissingLayer, ReferralKey};
    ///
    /// async fn sign_up<B>(request: Request<B>) -> Result<Response<String>, MissingLayer> {
    ///     let key = ReferralKey::from_extensions(request.extensions()).await?;
    ///     Ok(Response::new(match key {
    ///         Some(key) => format!("{key} sent you"),
    ///         None => "Welcome".to_owned(),
    ///     }))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The request didn't pass a [`ReferralLayer`](crate::ReferralLayer), or, with `AppSession`, it has no
    /// session of tower-sessions.
    ///
    /// Where it can't be known whether the request passed, there is no error and no key: where the
    /// extensions are empty, and from the moment on that a layer of this process has let a request with
    /// empty extensions pass, as one around an axum `Router` does.
    pub async fn from_extensions(extensions: &Extensions) -> Result<Option<Self>, MissingLayer> {
        let Some(exchange) = Exchange::of(extensions)? else {
            return Ok(None);
        };
        let state = exchange.resolve().await;
        Ok(state.all_shown().find_map(|referral| referral.key.clone()))
    }
}

impl Referral {
    /// Returns the referral of the first configured program that holds one, from the extensions of a
    /// request: what the extractor does, for everything but axum. See
    /// [`ReferralKey::from_extensions`] for an example.
    ///
    /// # Errors
    ///
    /// As [`ReferralKey::from_extensions`].
    pub async fn from_extensions(extensions: &Extensions) -> Result<Option<Self>, MissingLayer> {
        let Some(exchange) = Exchange::of(extensions)? else {
            return Ok(None);
        };
        let state = exchange.resolve().await;
        Ok(state.all_shown().next().map(|it| Self::clone(it)))
    }
}

/// The referrals of one visitor, of each program that holds one.
///
/// An axum extractor, which fails only where a layer is missing: see [`MissingLayer`]. Without axum, read
/// it from the request's extensions with [`from_extensions`](Self::from_extensions).
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use tower_referral::Referrals;
///
/// async fn checkout(referrals: Referrals) -> String {
///     let key_of = |program| {
///         let key = referrals.get(program).and_then(|it| it.key());
///         key.map_or("nobody", |key| key.as_str()).to_owned()
///     };
///     format!("partner: {}, friend: {}", key_of("partners"), key_of("friends"))
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Referrals {
    first: Option<Arc<Referral>>,
    more: Option<Box<More>>,
    exchange: Option<Arc<Exchange>>,
}

/// Rarely used fields, boxed to keep [`Referrals`] small.
#[derive(Clone, Default, PartialEq, Eq)]
struct More {
    /// All but the first.
    referrals: Vec<Arc<Referral>>,
    visitors: Vec<VisitorId>,
    decisions: Decisions,
}

impl Referrals {
    /// Reads what the layer left in the extensions of a request.
    ///
    /// # Errors
    ///
    /// As [`ReferralKey::from_extensions`].
    pub async fn from_extensions(extensions: &Extensions) -> Result<Self, MissingLayer> {
        let Some(exchange) = Exchange::of(extensions)? else {
            return Ok(Self::default());
        };
        let state = exchange.resolve().await;
        Ok(Self::of_state(state, Arc::clone(exchange)))
    }

    fn of_state(state: &RequestState, exchange: Arc<Exchange>) -> Self {
        let mut shown = state.all_shown().cloned();
        let first = shown.next();
        let records = state.slots.iter().filter_map(|slot| slot.record.as_ref());
        let more = More {
            referrals: shown.collect(),
            visitors: records
                .filter_map(|record| Some(record.current.as_ref()?.visitor))
                .collect(),
            decisions: state.decisions.clone(),
        };
        let has_more = more != More::default();
        Self {
            first,
            more: has_more.then(|| Box::new(more)),
            exchange: Some(exchange),
        }
    }

    /// Returns the referral of the first configured program that holds one.
    #[must_use]
    pub fn first(&self) -> Option<&Referral> {
        self.first.as_deref()
    }

    /// Returns the referral of one program.
    #[must_use]
    pub fn get(&self, program: impl AsRef<str>) -> Option<&Referral> {
        let program = program.as_ref();
        self.iter().find(|referral| referral.program() == program)
    }

    /// Returns all of them, in the configured order of the programs.
    #[must_use]
    pub fn iter(&self) -> ReferralsIter<'_> {
        let more = self.more.as_ref().map_or(&[][..], |more| &more.referrals);
        ReferralsIter(self.first.iter().chain(more))
    }

    /// Returns the IDs under which the referrals are stored, in the configured order of the programs;
    /// none where they are kept in a cookie. Each program's referral has an ID of its own. They are known
    /// even while the store fails, and change with every referral that replaces another.
    #[must_use]
    pub fn visitor_ids(&self) -> &[VisitorId] {
        self.more.as_ref().map_or(&[], |more| &more.visitors)
    }

    /// Returns what was decided before the handler was called, and why.
    #[must_use]
    pub fn decisions(&self) -> &Decisions {
        self.more
            .as_ref()
            .map_or(Decisions::NONE, |more| &more.decisions)
    }

    /// Forgets the visitor's referrals with this response, as [`Forget`] does: for handlers that don't own
    /// their response, such as server functions and GraphQL resolvers.
    ///
    /// # Errors
    ///
    /// The request's method is safe (`GET`, `HEAD`, `OPTIONS`, `TRACE`), and it has neither a cookie nor a
    /// parameter of the layer.
    pub fn forget(&self) -> Result<(), ReadOnlyRequest> {
        self.command(Forget.into())
    }

    /// Captures a referral with this response, as [`Capture`] in the response does.
    ///
    /// # Errors
    ///
    /// The request's method is safe (`GET`, `HEAD`, `OPTIONS`, `TRACE`), and it has neither a cookie nor a
    /// parameter of the layer.
    ///
    /// ```
    /// use tower_referral::{Capture, Referrals};
    ///
    /// /// A GraphQL resolver or a server function, called by `POST`.
    /// fn redeem(referrals: &Referrals, code: &str) -> Result<(), Box<dyn std::error::Error>> {
    ///     referrals.capture(Capture::key(code.parse()?))?;
    ///     Ok(())
    /// }
    /// ```
    pub fn capture(&self, capture: Capture) -> Result<(), ReadOnlyRequest> {
        self.command(capture.into())
    }

    fn command(&self, commands: HandlerCommands) -> Result<(), ReadOnlyRequest> {
        let exchange = self.exchange.as_ref().ok_or(ReadOnlyRequest)?;
        exchange.command(commands);
        Ok(())
    }
}

impl PartialEq for Referrals {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.more == other.more
    }
}

impl Eq for Referrals {}

impl fmt::Debug for Referrals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// The request only reads, so nothing can be captured or forgotten through [`Referrals`]: answer with
/// [`Capture`] or [`Forget`] as a part of the response, or use `POST`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOnlyRequest;

impl fmt::Display for ReadOnlyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a request with a safe method (`GET`, `HEAD`, `OPTIONS`, `TRACE`) can't capture or forget a \
             referral through `Referrals`: use `POST`, or answer with `Capture` or `Forget` as a part \
             of the response",
        )
    }
}

/// Shows the same text as `Display`.
impl fmt::Debug for ReadOnlyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ReadOnlyRequest {}

impl<'a> IntoIterator for &'a Referrals {
    type Item = &'a Referral;
    type IntoIter = ReferralsIter<'a>;

    fn into_iter(self) -> ReferralsIter<'a> {
        self.iter()
    }
}

/// Goes through [`Referrals`], in the configured order of the programs.
#[derive(Clone, Debug)]
pub struct ReferralsIter<'a>(
    Chain<option::Iter<'a, Arc<Referral>>, slice::Iter<'a, Arc<Referral>>>,
);

impl<'a> Iterator for ReferralsIter<'a> {
    type Item = &'a Referral;

    fn next(&mut self) -> Option<&'a Referral> {
        self.0.next().map(|referral| &**referral)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for ReferralsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|referral| &**referral)
    }
}

impl ExactSizeIterator for ReferralsIter<'_> {}

impl FusedIterator for ReferralsIter<'_> {}

#[cfg(feature = "axum")]
pub(crate) mod axum {
    //! The extractors of axum, and what they answer where there is nothing to extract.

    use std::fmt;

    use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
    use axum_core::response::{IntoResponse, Response};
    use http::request::Parts;
    use http::{Extensions, StatusCode};

    use super::{Exchange, MissingLayer, Referral, ReferralKey, Referrals};

    /// Why a required [`ReferralKey`] or [`Referral`] could not be extracted.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ReferralRejection {
        /// The visitor wasn't referred: `400 Bad Request`. Take an `Option` where that is fine.
        NoReferral,
        /// A layer is missing around the route: `500 Internal Server Error`.
        MissingLayer(MissingLayer),
    }

    impl fmt::Display for ReferralRejection {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NoReferral => f.write_str(
                    "no referral: this page is for visitors who came through a partner's or a \
                     friend's link; open that link again",
                ),
                Self::MissingLayer(error) => error.fmt(f),
            }
        }
    }

    /// Shows the same text as `Display`: some frameworks print only this.
    impl fmt::Debug for ReferralRejection {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }

    impl std::error::Error for ReferralRejection {}

    impl IntoResponse for ReferralRejection {
        fn into_response(self) -> Response {
            match self {
                Self::NoReferral => (StatusCode::BAD_REQUEST, self.to_string()).into_response(),
                Self::MissingLayer(error) => error.into_response(),
            }
        }
    }

    impl IntoResponse for MissingLayer {
        fn into_response(self) -> Response {
            (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
        }
    }

    impl From<MissingLayer> for ReferralRejection {
        fn from(error: MissingLayer) -> Self {
            Self::MissingLayer(error)
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for ReferralKey {
        type Rejection = MissingLayer;

        async fn from_request_parts(
            parts: &mut Parts,
            _: &S,
        ) -> Result<Option<Self>, MissingLayer> {
            Self::from_extensions(filled(&parts.extensions)?).await
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for Referral {
        type Rejection = MissingLayer;

        async fn from_request_parts(
            parts: &mut Parts,
            _: &S,
        ) -> Result<Option<Self>, MissingLayer> {
            Self::from_extensions(filled(&parts.extensions)?).await
        }
    }

    impl<S: Sync> FromRequestParts<S> for ReferralKey {
        type Rejection = ReferralRejection;

        async fn from_request_parts(
            parts: &mut Parts,
            state: &S,
        ) -> Result<Self, ReferralRejection> {
            <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state)
                .await?
                .ok_or(ReferralRejection::NoReferral)
        }
    }

    impl<S: Sync> FromRequestParts<S> for Referral {
        type Rejection = ReferralRejection;

        async fn from_request_parts(
            parts: &mut Parts,
            state: &S,
        ) -> Result<Self, ReferralRejection> {
            <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state)
                .await?
                .ok_or(ReferralRejection::NoReferral)
        }
    }

    impl<S: Sync> FromRequestParts<S> for Referrals {
        type Rejection = MissingLayer;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
            Self::from_extensions(filled(&parts.extensions)?).await
        }
    }

    /// Behind axum's `Router` extensions are never empty, unless a middleware inside the layer built a new
    /// request and left them out.
    fn filled(extensions: &Extensions) -> Result<&Extensions, MissingLayer> {
        if extensions.is_empty() && !Exchange::may_be_unmarked() {
            return Err(MissingLayer::REFERRALS);
        }
        Ok(extensions)
    }
}
