//! What every request to a platform has in common: where the platform is, how it knows us, and that
//! the API key goes nowhere else.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::{BaseUrl, ConfigError};

/// All but the unreserved characters (RFC 3986 section 2.3) are encoded: an ID as one segment of a
/// path, or as a value in a query.
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(crate) fn encoded(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, UNRESERVED)
}

/// In the extensions of a request: the answer is a page of a list, which may be under one of these
/// names.
#[derive(Clone, Copy)]
pub(crate) struct ListPage(pub(crate) [&'static str; 2]);

/// Where a platform is and how it knows us: what every request to it has in common.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Without a slash at the end.
    base_url: String,
    auth_header: HeaderName,
    /// Marked sensitive.
    auth: HeaderValue,
}

impl Endpoint {
    pub(crate) fn new(
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

    pub(crate) fn with_base_url(
        mut self,
        url: impl TryInto<BaseUrl, Error: Into<ConfigError>>,
    ) -> Result<Self, ConfigError> {
        self.base_url = url.try_into().map_err(Into::into)?.into_string();
        Ok(self)
    }

    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> Request<Bytes> {
        self.request(Method::POST, path, json(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &impl Serialize) -> Request<Bytes> {
        self.request(Method::PATCH, path, json(body))
    }

    pub(crate) fn put(&self, path: &str) -> Request<Bytes> {
        self.request(Method::PUT, path, Bytes::new())
    }

    pub(crate) fn get(&self, path: &str) -> Request<Bytes> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// A page of a list, which may be longer than other answers, and under one of these names.
    pub(crate) fn get_list(&self, path: &str, names: [&'static str; 2]) -> Request<Bytes> {
        let mut request = self.get(path);
        request.extensions_mut().insert(ListPage(names));
        request
    }

    pub(crate) fn delete(&self, path: &str) -> Request<Bytes> {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// The request for the next part of a list, at a URL that the platform gave. `None` if that is
    /// on another origin than the base URL: the API key never goes elsewhere. A platform behind a
    /// proxy may take itself for an `http` one; it is asked where we know it to be.
    pub(crate) fn get_next(&self, url: &str, names: [&'static str; 2]) -> Option<Request<Bytes>> {
        let base: Uri = self.base_url.parse().ok()?;
        let next: Uri = url.parse().ok()?;
        let is_same_origin = match (next.scheme_str(), next.authority()) {
            (None, None) => true,
            (Some(scheme), Some(authority)) => {
                let is_same_scheme = Some(scheme) == base.scheme_str() || scheme == "http";
                is_same_scheme && Some(authority) == base.authority()
            }
            _ => false,
        };
        let path = next.path_and_query()?.as_str();
        // Two slashes would name another host.
        if !is_same_origin || !path.starts_with('/') || path.starts_with("//") {
            return None;
        }
        let mut request = self.get_list("", names);
        *request.uri_mut() = Uri::builder()
            .scheme(base.scheme_str()?)
            .authority(base.authority()?.as_str())
            .path_and_query(path)
            .build()
            .ok()?;
        Some(request)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Bytes> {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(body);
        *request.method_mut() = method;
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

/// Our bodies have texts as names and no maps with other keys, so that none fails.
fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}
