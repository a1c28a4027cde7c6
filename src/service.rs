//! The service that the layer makes of another: the fast path, or an exchange.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::config::Config;
use crate::exchange::Exchange;
use crate::request::RequestRef;
use crate::response::ResponseFuture;

/// The service that [`ReferralLayer`](crate::ReferralLayer) makes of another.
///
/// It has no bounds on the body types; the inner service takes an `http::Request` and returns an
/// `http::Response`.
#[derive(Clone)]
pub struct ReferralService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> ReferralService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for ReferralService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline] // where it is called, a request is moved once less
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if Exchange::is_marked(request.extensions()) {
            // Two layers, one inside the other: the outer one does the work.
            return ResponseFuture::pass_through(self.inner.call(request));
        }
        let config = &self.config;
        let view = RequestRef::from(&request);
        let cookies = config.cookies.scan(view.headers());
        let query = config.query(view);
        let has_ours = query.is_some() || !cookies.is_empty();
        if !has_ours && !config.looks_at_all && view.method().is_safe() {
            // Most requests.
            let config = Arc::clone(config);
            let permissions = config.permissions(view);
            Exchange::mark_nothing(request.extensions_mut());
            return ResponseFuture::watching(self.inner.call(request), config, permissions);
        }
        let exchange = Exchange::begin(config, view, cookies, query);
        request.extensions_mut().insert(Arc::clone(&exchange));
        ResponseFuture::exchanging(self.inner.call(request), exchange)
    }
}

impl<S: fmt::Debug> fmt::Debug for ReferralService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferralService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
