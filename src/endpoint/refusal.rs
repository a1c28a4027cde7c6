//! The refusals of the capture endpoint.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use smol_str::SmolStr;

use crate::missing_layer::MissingLayer;
use crate::program::Program;

/// The longest body that is read, in bytes: a query of 8 KiB, as much as is read of a landing's, and a path and a
/// referrer of 4 KiB each, percent-encoded.
pub(super) const MAX_BODY_LEN: usize = 32 * 1024;

/// Why nothing was captured.
pub(super) enum Refusal {
    MissingLayer(MissingLayer),
    Method,
    CrossOrigin,
    ForeignFrame,
    MediaType,
    TooLarge,
    TooSlow,
    Unreadable,
    NoParameter(String),
    InvalidKey,
}

impl Refusal {
    pub(super) fn no_parameter(programs: &[Program]) -> Self {
        let names: Vec<_> = programs
            .iter()
            .flat_map(Program::landing_params)
            .map(SmolStr::as_str)
            .collect();
        Self::NoParameter(names.join(", "))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MissingLayer(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::CrossOrigin | Self::ForeignFrame => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::NoParameter(_) | Self::InvalidKey => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "error": self.to_string() });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self, Self::Method) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingLayer(error) => error.fmt(f),
            Self::Method => f.write_str("use POST to send a landing, or GET for the script"),
            Self::CrossOrigin => f.write_str(
                "only pages of this origin may post a landing: call it from one, or name the page's \
                 origin in `CaptureEndpoint::allow_origins`",
            ),
            Self::ForeignFrame => f.write_str(
                "a frame in a foreign page may not post a landing: open the page by itself",
            ),
            Self::TooSlow => f.write_str("the body took over 10 seconds: send it again"),
            Self::MediaType => f.write_str(
                "send application/json or application/x-www-form-urlencoded, and say so in \
                 Content-Type",
            ),
            Self::TooLarge => write!(f, "send at most {MAX_BODY_LEN} bytes"),
            Self::Unreadable => {
                f.write_str("the body can't be read: send one complete JSON object or form")
            }
            Self::NoParameter(names) => write!(f, "send the landing's parameter, one of: {names}"),
            Self::InvalidKey => f.write_str(
                "the parameter is no referral key: send its value as it stood in the URL, as a \
                 string",
            ),
        }
    }
}
