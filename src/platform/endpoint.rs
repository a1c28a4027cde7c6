//! What every request to a platform has in common, and what their answers have: where the platform
//! is, how it knows us, JSON both ways.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::Value;

use crate::click::is_this_machine;
use crate::error::ConfigError;
use crate::referral::ClickId;

/// Where a platform is and how it knows us: what every request to it has in common.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Without a slash at the end.
    base_url: String,
    auth_header: HeaderName,
    /// Marked sensitive.
    auth: HeaderValue,
}

impl Endpoint {
    pub(super) fn new(
        base_url: &'static str,
        auth_header: HeaderName,
        auth_prefix: &str,
        api_key: &str,
    ) -> Result<Self, ConfigError> {
        let is_key = !api_key.is_empty() && api_key.bytes().all(|byte| byte.is_ascii_graphic());
        let auth = HeaderValue::from_str(&format!("{auth_prefix}{api_key}"));
        let (true, Ok(mut auth)) = (is_key, auth) else {
            return Err(ConfigError::InvalidApiKey);
        };
        auth.set_sensitive(true);
        Ok(Self {
            base_url: base_url.to_owned(),
            auth_header,
            auth,
        })
    }

    pub(super) fn with_base_url(mut self, url: &str) -> Result<Self, ConfigError> {
        if !is_platform_url(url) {
            return Err(ConfigError::InvalidPlatformUrl {
                url: url.to_owned(),
            });
        }
        self.base_url = url.trim_end_matches('/').to_owned();
        Ok(self)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Request<Bytes> {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        // The base URL was checked when it was set, and the paths are ours.
        *request.uri_mut() = format!("{}{path}", self.base_url)
            .parse()
            .unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        headers.insert(self.auth_header.clone(), self.auth.clone());
        request
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// `https`, or plain `http` to this very machine: an API key must not cross a network in the clear.
fn is_platform_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    // Neither a port out of range, which would become the default one, nor a user's name.
    let authority = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let is_plain =
        uri.authority().is_some_and(|given| *given == *authority) && !url.contains(['?', '#']);
    let is_safe = match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_this_machine(host),
        _ => false,
    };
    is_safe && is_plain
}

/// The click ID in one of the properties of `json`, a string or a number.
pub(super) fn click_id_in(json: &Value, properties: &[&str]) -> Option<ClickId> {
    properties.iter().find_map(|name| match json.get(name)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) if number.is_u64() => number.to_string().parse().ok(),
        _ => None,
    })
}

/// A JSON object of the properties that have a value: an absent one is left out, never `null`.
pub(super) fn object<const N: usize>(properties: [(&str, Option<String>); N]) -> Value {
    properties
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
