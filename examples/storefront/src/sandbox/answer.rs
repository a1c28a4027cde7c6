//! What a stand-in answers: JSON mostly, a page or a text where the platform does that.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use rust_decimal::Decimal;
use serde_json::Value;

/// An answer to a call, or to one that is refused.
pub(super) type Verdict = Result<Answer, Answer>;

#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Empty,
    Json(Value),
    Text(String),
    Page(&'static str),
}

impl Answer {
    pub(super) fn json(status: StatusCode, json: Value) -> Self {
        Self::new(status, Body::Json(json))
    }

    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, Body::Text(text.into()))
    }

    pub(super) fn page(status: StatusCode, page: &'static str) -> Self {
        Self::new(status, Body::Page(page))
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self::new(status, Body::Empty)
    }

    fn new(status: StatusCode, body: Body) -> Self {
        Self {
            status,
            header: None,
            body,
        }
    }

    /// With a wait in seconds.
    pub(super) fn retry_after(mut self, seconds: i64) -> Self {
        self.header = Some((header::RETRY_AFTER, HeaderValue::from(seconds)));
        self
    }

    /// The body as it is shown.
    pub(super) fn shown(&self) -> String {
        match &self.body {
            Body::Empty => String::new(),
            Body::Json(json) => json.to_string(),
            Body::Text(text) => text.clone(),
            Body::Page(page) => (*page).to_owned(),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let headers: Vec<_> = self.header.into_iter().collect();
        let headers = axum::response::AppendHeaders(headers);
        match self.body {
            Body::Empty => (self.status, headers).into_response(),
            Body::Json(json) => (self.status, headers, axum::Json(json)).into_response(),
            Body::Text(text) => (self.status, headers, text).into_response(),
            Body::Page(page) => (self.status, headers, Html(page)).into_response(),
        }
    }
}

/// An amount as a JSON number.
pub(super) fn number(amount: Decimal) -> Value {
    serde_json::from_str(&amount.normalize().to_string()).unwrap_or_default()
}
