//! What goes out: JSON for programs, pages for people. Every way in which the shop says no has the
//! same two forms.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::fields::Fields;
use crate::pages::{self, Page};
use crate::reports;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Html,
}

/// What the request's `Accept` asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept(Option<Format>);

impl Accept {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let asks_for = |media_type: &str| {
            let mut lines = headers.get_all(header::ACCEPT).iter();
            lines.any(|line| {
                line.to_str()
                    .is_ok_and(|line| line.to_ascii_lowercase().contains(media_type))
            })
        };
        Self(if asks_for("application/json") {
            Some(Format::Json)
        } else if asks_for("text/html") {
            Some(Format::Html)
        } else {
            None
        })
    }

    /// The format that was asked for, or `default` where the request doesn't mind.
    pub(crate) fn or(self, default: Format) -> Format {
        self.0.unwrap_or(default)
    }
}

impl<S: Sync> FromRequestParts<S> for Accept {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// A request that the shop can't do anything with: `{"error": "…"}`, or a page where a browser
/// asks.
#[derive(Debug)]
pub(crate) struct Problem {
    format: Format,
    status: StatusCode,
    /// What to fix.
    message: String,
}

impl Problem {
    /// A problem for a program, whatever it accepts.
    pub(crate) fn json(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            format: Format::Json,
            status,
            message: message.into(),
        }
    }

    pub(crate) fn new(accept: Accept, status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            format: accept.or(Format::Json),
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self.format {
            Format::Json => (self.status, Json(json!({ "error": self.message }))).into_response(),
            Format::Html => pages::problem(self.status, &self.message).into_response(),
        }
    }
}

/// Answers as the request came, unless it asks for something else.
pub(crate) fn as_asked(
    fields: &Fields,
    answer: &reports::Answer,
    page: impl FnOnce() -> Page,
) -> Response {
    match fields.accept.or(fields.format) {
        Format::Json => Json(answer).into_response(),
        Format::Html => page().into_response(),
    }
}
