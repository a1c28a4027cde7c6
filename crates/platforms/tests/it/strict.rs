//! A platform that is strict about what it is told and remembers it: it refuses every field, type and
//! header that its documentation doesn't have. What it answers follows from its state.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use serde_json::{Map, Value};
use tower::Service;
use tower_referral_platforms::Client;

/// A request, read as far as all platforms read it.
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    /// An empty object where there is no body.
    pub(crate) body: Map<String, Value>,
}

impl Call {
    /// Panics unless the body has all of the first names, and no others than these and the second.
    pub(crate) fn assert_fields(&self, needed: &[&str], optional: &[&str]) {
        for name in needed {
            assert!(self.body.contains_key(*name), "{name} is missing");
        }
        for (name, value) in &self.body {
            let is_known = needed.contains(&&**name) || optional.contains(&&**name);
            assert!(is_known, "{name} isn't documented");
            assert!(!value.is_null(), "{name} is null");
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        Some(self.body.get(name)?.as_str().expect("a text"))
    }
}

pub(crate) trait Platform: Send + 'static {
    fn answer(&mut self, call: &Call) -> (u16, Value);
}

/// A platform as a transport.
pub(crate) struct Strict<P>(Arc<Mutex<P>>);

impl<P> Clone for Strict<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Platform> Strict<P> {
    pub(crate) fn new(platform: P) -> Self {
        Self(Arc::new(Mutex::new(platform)))
    }

    pub(crate) fn client<C>(&self, platform: C) -> Client<C, Self> {
        Client::new(platform, self.clone())
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut P) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }
}

impl<P: Platform> Service<Request<Bytes>> for Strict<P> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let body = request.body();
        let body = if body.is_empty() {
            Map::new()
        } else {
            assert_eq!(request.headers()["content-type"], "application/json");
            serde_json::from_slice(body).expect("a JSON object")
        };
        let call = Call {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            headers: request.headers().clone(),
            body,
        };
        let (status, answer) = self.look(|platform| platform.answer(&call));
        let answer = Full::from(answer.to_string());
        let response = Response::builder().status(status).body(answer);
        std::future::ready(Ok(response.unwrap()))
    }
}
