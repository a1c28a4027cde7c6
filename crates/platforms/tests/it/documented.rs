//! Stand-ins that remember what they are told and refuse what their platform's documentation doesn't
//! allow: unknown fields, wrong types, wrong headers.

#![allow(dead_code)] // No platform needs all of it.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tower::Service;
use tower_referral_platforms::Client;

/// A platform that answers by itself.
pub(crate) trait Platform: Send + 'static {
    fn answer(&mut self, call: &Call) -> Said;
}

/// A status and a JSON body, `null` for none.
pub(crate) type Said = (u16, Value);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Method and path, for instance `POST /v1/customers`.
    pub(crate) line: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What a field may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    OneOf(&'static [&'static str]),
    List,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default()
    }

    /// The body as an object of these fields and no others; a name with `*` is required.
    pub(crate) fn fields(&self, known: &[(&str, Kind)]) -> Result<Map<String, Value>, String> {
        if self.header("content-type") != "application/json" {
            return Err("the body must be application/json".to_owned());
        }
        let body = serde_json::from_slice::<Value>(&self.body).map_err(|e| e.to_string())?;
        check(&body, known)
    }
}

/// Checks that a value is an object of these fields and no others.
pub(crate) fn check(value: &Value, known: &[(&str, Kind)]) -> Result<Map<String, Value>, String> {
    let object = value.as_object().ok_or("must be an object")?;
    for (name, kind) in known {
        let (name, is_required) = match name.strip_suffix('*') {
            Some(name) => (name, true),
            None => (*name, false),
        };
        let is_right = match (object.get(name), kind) {
            (None, _) => !is_required,
            (Some(value), Kind::Text) => value.as_str().is_some_and(|text| !text.is_empty()),
            (Some(value), Kind::Whole) => value.is_u64(),
            (Some(value), Kind::Number) => value.is_number(),
            (Some(value), Kind::OneOf(all)) => value.as_str().is_some_and(|one| all.contains(&one)),
            (Some(value), Kind::List) => value.is_array(),
        };
        if !is_right {
            return Err(format!("`{name}` is missing or wrong"));
        }
    }
    let is_known = |name: &str| {
        known
            .iter()
            .any(|(one, _)| one.trim_end_matches('*') == name)
    };
    match object.keys().find(|name| !is_known(name)) {
        Some(name) => Err(format!("`{name}` isn't a field")),
        None => Ok(object.clone()),
    }
}

/// A field's text.
pub(crate) fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str().map(str::to_owned)
}

/// A transport to such a platform.
#[derive(Debug, Default)]
pub(crate) struct Strict<S>(Arc<Mutex<(S, Vec<Call>)>>);

impl<S> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Platform> Strict<S> {
    pub(crate) fn new(platform: S) -> Self {
        Self(Arc::new(Mutex::new((platform, Vec::new()))))
    }

    pub(crate) fn client<P>(&self, platform: P) -> Client<P, Self> {
        Client::new(platform, self.clone())
    }

    /// The platform and all that it was asked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, (S, Vec<Call>)> {
        self.0.lock().unwrap()
    }

    /// The lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().1.iter().map(|call| call.line.clone()).collect()
    }
}

impl<S: Platform> Service<Request<Bytes>> for Strict<S> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let call = Call {
            line: format!("{} {}", parts.method, parts.uri.path_and_query().unwrap()),
            headers: parts.headers,
            body: body.to_vec(),
        };
        let mut platform = self.lock();
        let (status, said) = platform.0.answer(&call);
        platform.1.push(call);
        let body = match said {
            Value::Null => String::new(),
            said => said.to_string(),
        };
        let response = Response::builder().status(status).body(Full::from(body));
        std::future::ready(Ok(response.unwrap()))
    }
}

/// A refusal with a message.
pub(crate) fn refused(status: u16, message: impl Into<String>) -> Said {
    (status, json!({ "message": message.into() }))
}
