//! Redirects a captured landing to the same URL without landing parameters, before the handler runs.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::header::{LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::click::is_crawler;
use crate::exchange::Exchange;
use crate::program::Program;
use crate::query::{MAX_QUERY_LEN, without_parameters};
use crate::request::RequestRef;
use crate::telemetry;

/// Redirects a captured landing (`303 See Other`) to the same URL without landing parameters, so that
/// visitors don't bookmark and share a partner's link.
///
/// [`ReferralLayer::with_clean_url`](crate::ReferralLayer::with_clean_url) puts it where most services
/// want it. By itself it can stand anywhere inside a `ReferralLayer`, for instance behind a layer that
/// answers some pages itself; without one outside it passes everything on and logs a warning.
///
/// The handler doesn't run for such a landing: it runs once, at the clean URL. The `Location` is relative,
/// so that it is right behind `Router::nest` and behind a proxy that strips a prefix: `?others` where
/// parameters remain, `./last-segment` where none do. Only the nested root without a slash at its end
/// (`/shop`, which is `/` inside of `nest("/shop", …)`) needs
/// [`original_uri`](crate::ReferralLayerBuilder::original_uri) to be told from `/shop/`.
///
/// There is no redirect for crawlers and programs that only fetch links, which may hand on the last URL that
/// they saw; for a query of over 8 KiB; and where the visitor's consent is missing. Where the browser refuses
/// cookies there is no loop, because the new URL has no parameter left to capture.
///
/// Nor is there one, but a warning in the log, where clicks are created at the capture endpoint
/// (`ClickTiming::AtEndpoint`): its script needs the parameter in the page's URL. Let the page clean its URL there,
/// once the script is loaded: `history.replaceState(null, "", url)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CleanUrlLayer(());

impl CleanUrlLayer {
    /// Creates the layer.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for CleanUrlLayer {
    type Service = CleanUrlService<S>;

    fn layer(&self, inner: S) -> CleanUrlService<S> {
        CleanUrlService { inner }
    }
}

/// The service that [`CleanUrlLayer`] makes of another.
#[derive(Clone)]
pub struct CleanUrlService<S> {
    inner: S,
}

impl<S> CleanUrlService<S> {
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

impl<S, B, R> Service<Request<B>> for CleanUrlService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = CleanUrlFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match redirect((&request).into()) {
            None => CleanUrlFuture {
                state: State::Inner {
                    future: self.inner.call(request),
                },
            },
            Some(location) => {
                let mut response = Response::new(R::default());
                *response.status_mut() = StatusCode::SEE_OTHER;
                response.headers_mut().insert(LOCATION, location);
                CleanUrlFuture {
                    state: State::Redirect {
                        response: Some(response),
                    },
                }
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for CleanUrlService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanUrlService")
            .field("inner", &self.inner)
            .finish()
    }
}

pin_project! {
    /// The future of [`CleanUrlService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CleanUrlFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F, R> {
        // The handler's response.
        Inner {
            #[pin]
            future: F,
        },
        // A redirect, ready.
        Redirect {
            response: Option<Response<R>>,
        },
    }
}

impl<F, R, E> Future for CleanUrlFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            Projected::Inner { future } => future.poll(cx),
            Projected::Redirect { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
        }
    }
}

impl<F, R> fmt::Debug for CleanUrlFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanUrlFuture").finish_non_exhaustive()
    }
}

/// Returns where a landing is redirected to; `None` where the handler is to run.
fn redirect(request: RequestRef<'_>) -> Option<HeaderValue> {
    let Ok(exchange) = Exchange::of(request.extensions()) else {
        telemetry::misplaced(
            "`CleanUrlLayer` found no mark of a `ReferralLayer` outside it: add `.layer(referrals)` \
             after it (in axum the layer that is added last is the outermost)",
        );
        return None;
    };
    let exchange = exchange.filter(|exchange| exchange.is_captured_landing())?;
    if exchange.config.clicks_at_endpoint() {
        telemetry::misplaced(
            "`CleanUrlLayer` doesn't redirect where clicks are created at the capture endpoint, whose script \
             needs the parameter: choose another `ClickTiming`, or remove the layer and let the page clean its \
             URL once the script is loaded (`history.replaceState`)",
        );
        return None;
    }
    let user_agent = request.headers().get(USER_AGENT);
    let user_agent = user_agent.map_or(&[][..], HeaderValue::as_bytes);
    if is_crawler(user_agent) || fetches_links(user_agent) {
        return None;
    }
    clean_location(&exchange.config.programs, exchange.config.page_uri(request))
}

/// Returns `true` for programs that fetch a link for another program, which opens the last URL that they
/// saw. Microsoft Office does, and says so in its user agent.
fn fetches_links(user_agent: &[u8]) -> bool {
    let user_agent = user_agent.to_ascii_lowercase();
    ["ms-office", "msoffice", "microsoft office"]
        .iter()
        .any(|name| memchr::memmem::find(&user_agent, name.as_bytes()).is_some())
}

/// Returns the same URL without our parameters, relative, so that neither a `Host` header nor a prefix that
/// was stripped on the way can bend it.
fn clean_location(programs: &[Program], uri: &Uri) -> Option<HeaderValue> {
    let (path, query) = (uri.path(), uri.query()?);
    if query.len() > MAX_QUERY_LEN {
        return None;
    }
    let others = without_parameters(programs, query)?;
    let location = if others.is_empty() {
        let last = path.rsplit('/').next().unwrap_or_default();
        format!("./{last}")
    } else {
        format!("?{others}")
    };
    HeaderValue::from_bytes(location.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative() {
        let programs = [Program::default()];
        let clean = |uri: &'static str| {
            let location = clean_location(&programs, &Uri::from_static(uri));
            location.map(|location| location.to_str().unwrap().to_owned())
        };
        for (uri, location) in [
            ("/pricing?aff=K", "./pricing"),
            ("/?aff=K", "./"),
            ("/a/b/?aff=K", "./"),
            ("/a/b:c?aff=K", "./b:c"),
            ("//evil.example?aff=K", "./evil.example"),
            ("/a?b=1&aff=K&c=%zz", "?b=1&c=%zz"),
            ("/a?&&aff=K&&x", "?&&&x"),
        ] {
            assert_eq!(clean(uri).as_deref(), Some(location), "{uri}");
        }
        assert_eq!(clean("/a?b=1"), None);
    }
}
