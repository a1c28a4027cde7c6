//! The ready-made capture endpoint: for cached pages and single-page apps, whose landings never
//! reach the layer, so that the page's script has to tell them.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, ORIGIN, REFERER};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use tower_service::Service;

use crate::config::Config;
use crate::landing::{self, Found, Query};
use crate::layer::ReferralLayer;
use crate::reason::Reason;
use crate::respond::Capture;
use crate::visit::{MissingLayer, Visit};

/// The longest body that is read, in bytes.
const MAX_BODY_LEN: usize = 8 * 1024;
/// No key and no extra parameter is longer, in bytes.
const MAX_VALUE_LEN: usize = 255;

/// A service that captures a landing which only the page's script saw.
///
/// A page that a CDN answers never reaches the layer, and a single-page app lands without a
/// request. One line of script makes up for it:
///
/// ```js
/// fetch("/api/track-landing", {method: "POST", body: new URLSearchParams(location.search)})
/// ```
///
/// It takes a `POST` of the landing's parameters, as a form or as a JSON object of strings, from
/// pages of the same origin only, and answers `204 No Content` if there was a key, whatever the
/// attribution rule made of it. Anything else is a 4xx with `{"error": "…"}`. The landing page, and
/// with it whether the visitor was at the till ([`Builder::stand_down`](crate::Builder::stand_down)),
/// is taken from `Referer`.
///
/// It belongs behind the layer:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// # use tower_referral::{Keyring, ReferralLayer, SignedCookie, SigningKey};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cookie = SignedCookie::new(Keyring::new(SigningKey::generate("local")?));
/// let referrals = ReferralLayer::builder(cookie).build()?;
/// let app: axum::Router = axum::Router::new()
///     .route_service("/api/track-landing", referrals.capture_endpoint())
///     .layer(referrals);
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone)]
pub struct CaptureEndpoint {
    config: Arc<Config>,
}

impl ReferralLayer {
    /// The endpoint that captures, by this layer's parameters and rules, landings which only the
    /// page's script saw.
    #[must_use]
    pub fn capture_endpoint(&self) -> CaptureEndpoint {
        CaptureEndpoint {
            config: Arc::clone(&self.config),
        }
    }
}

impl<B> Service<Request<B>> for CaptureEndpoint
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = Arc::clone(&self.config);
        Box::pin(async move {
            let response = match capture(&config, request).await {
                Ok(capture) => {
                    let mut response = Response::new(Full::default());
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    response.extensions_mut().insert(capture);
                    response
                }
                Err(refusal) => refusal.into_response(),
            };
            Ok(response)
        })
    }
}

impl fmt::Debug for CaptureEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureEndpoint").finish_non_exhaustive()
    }
}

async fn capture<B>(config: &Config, request: Request<B>) -> Result<Capture, Refusal>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Visit::of(request.extensions()).map_err(Refusal::MissingLayer)?;
    if request.method() != Method::POST {
        return Err(Refusal::Method);
    }
    let host = host(request.uri(), request.headers());
    if !is_same_origin(request.headers(), host) {
        return Err(Refusal::CrossOrigin);
    }
    let path = landing_path(request.headers(), host);
    let facts = config
        .clicks
        .as_ref()
        .and_then(|clicker| clicker.facts((&request).into()));
    let format = Format::of(request.headers()).ok_or(Refusal::MediaType)?;
    let body = Limited::new(request.into_body(), MAX_BODY_LEN)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal::TooLarge
            } else {
                Refusal::Unreadable
            }
        })?
        .to_bytes();
    let query = match format {
        Format::Form => body,
        Format::Json => query_of_json(config, &body)?.into(),
    };
    find_all(config, &query)?
        .into_iter()
        .map(|(program, found)| Capture::landing(program, found, path.clone(), facts.clone()))
        .reduce(Capture::and)
        .ok_or_else(|| Refusal::no_parameter(config))
}

/// The keys in a form's body, which reads as a query does, with their programs' names.
fn find_all(config: &Config, query: &[u8]) -> Result<Vec<(SmolStr, Found<'static>)>, Refusal> {
    let mut all = Vec::new();
    let Some(query) = Query::of(&config.programs, &config.first_bytes, query) else {
        return Ok(all);
    };
    let mut is_invalid = false;
    for program in &config.programs {
        match landing::read(program, query) {
            Some(Ok(found)) => all.push((program.name.clone(), found.into_owned())),
            Some(Err(Reason::InvalidKey)) => is_invalid = true,
            Some(Err(_)) | None => {}
        }
    }
    if all.is_empty() && is_invalid {
        Err(Refusal::InvalidKey)
    } else {
        Ok(all)
    }
}

/// The parameters of a JSON object that mean something to us, as a query.
fn query_of_json(config: &Config, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let object: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| Refusal::Unreadable)?;
    let mut query = Vec::new();
    for program in &config.programs {
        for name in program.params.iter().chain(&program.keep_params) {
            let Some(value) = object.get(name.as_str()) else {
                continue;
            };
            // What can't be anything, being no string or too long, is empty: it neither stands in
            // the way of the other parameters nor pushes them out of bounds.
            let value = value.as_str().unwrap_or_default();
            let value = if value.len() > MAX_VALUE_LEN {
                ""
            } else {
                value
            };
            query.extend_from_slice(name.as_bytes());
            query.push(b'=');
            for byte in value.bytes() {
                query.extend_from_slice(format!("%{byte:02x}").as_bytes());
            }
            query.push(b'&');
        }
    }
    Ok(query)
}

enum Format {
    Form,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or(value).trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}

/// The authority that the request was made to: that of its target, or its `Host`
/// (RFC 9112 section 3.3).
fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// Does the request come from a page of this origin? Browsers say so in `Sec-Fetch-Site`, older
/// ones in `Origin`; where there is neither, no browser's page is behind it.
fn is_same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let authority_of = |origin: &HeaderValue| {
        let (_, authority) = origin.to_str().ok()?.split_once("://")?;
        Some(authority.to_owned())
    };
    if headers.contains_key("sec-fetch-site") {
        let mut sites = headers.get_all("sec-fetch-site").iter();
        return sites.all(|site| site == "same-origin");
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.all(|origin| authority_of(origin).is_some_and(|origin| host == Some(&*origin)))
}

/// The path of the page whose script is asking.
fn landing_path(headers: &HeaderMap, host: Option<&str>) -> Option<SmolStr> {
    let page: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    let is_ours = page.authority().map(Authority::as_str) == host;
    is_ours.then(|| SmolStr::new(page.path()))
}

/// Why nothing was captured, and what to mend.
enum Refusal {
    MissingLayer(MissingLayer),
    Method,
    CrossOrigin,
    MediaType,
    TooLarge,
    Unreadable,
    NoParameter(String),
    InvalidKey,
}

impl Refusal {
    fn no_parameter(config: &Config) -> Self {
        let names: Vec<_> = config
            .programs
            .iter()
            .flat_map(|program| &program.params)
            .map(SmolStr::as_str)
            .collect();
        Self::NoParameter(names.join(", "))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MissingLayer(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::CrossOrigin => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::NoParameter(_) | Self::InvalidKey => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "error": self.to_string() });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self, Self::Method) {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingLayer(error) => error.fmt(f),
            Self::Method => f.write_str("use POST"),
            Self::CrossOrigin => {
                f.write_str("only pages of this origin may tell of a landing: call it from one")
            }
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
