//! The hand-over to axum: `ReferralKey`, `Referral` and `Referrals` as extractors, and what they
//! answer where there is nothing to extract.

use std::fmt;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::referral::{Referral, ReferralKey};
use crate::visit::{MissingLayer, Referrals};

/// Why a required [`ReferralKey`] or [`Referral`] could not be extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferralRejection {
    /// The visitor wasn't referred: `400 Bad Request`. Take an `Option` where that is fine.
    NoReferral,
    /// The route isn't behind the layer: `500 Internal Server Error`.
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

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Option<Self>, MissingLayer>> + Send {
        Self::from_extensions(&parts.extensions)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Referral {
    type Rejection = MissingLayer;

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Option<Self>, MissingLayer>> + Send {
        Self::from_extensions(&parts.extensions)
    }
}

impl<S: Sync> FromRequestParts<S> for ReferralKey {
    type Rejection = ReferralRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ReferralRejection> {
        <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state)
            .await?
            .ok_or(ReferralRejection::NoReferral)
    }
}

impl<S: Sync> FromRequestParts<S> for Referral {
    type Rejection = ReferralRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ReferralRejection> {
        <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state)
            .await?
            .ok_or(ReferralRejection::NoReferral)
    }
}

impl<S: Sync> FromRequestParts<S> for Referrals {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        Self::from_extensions(&parts.extensions).await
    }
}
