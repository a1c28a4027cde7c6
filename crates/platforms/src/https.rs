//! The ready-made transport: HTTPS by rustls, with bundled roots, over hyper, with a limit on
//! everything that takes time. None of their types are in the API.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, Sleep, timeout, timeout_at};
use tower_service::Service;

use super::NotSent;
use crate::boxed::{BoxError, BoxFuture};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. A platform that closes one just as a sale goes out on it
/// leaves that sale's fate unknown, so rather a new one than one that is old.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// An HTTPS client with pooled connections: TLS by rustls, the roots of Mozilla's list, HTTP/1 and
/// HTTP/2. It follows no redirects. Cheap to clone.
///
/// Finding a host, connecting to it and the TLS handshake may take 5 seconds together, a whole call
/// to the last byte of its answer 30; both can be set. What goes wrong before there is a connection
/// (no such host, nobody there, a certificate that isn't good, the limit) is [`NotSent`]; of what
/// goes wrong later the fate is unknown.
///
/// It takes any URL; that an API key goes out in the clear to this machine only is the platforms'
/// business.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::Https;
///
/// let transport = Https::new().time_limit(Duration::from_secs(10));
/// ```
#[derive(Clone)]
pub struct Https {
    client: Client<Impatient<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    time_limit: Duration,
    connect_limit: Duration,
}

impl Https {
    /// A client of its own, with its own pool of connections.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(CONNECT_LIMIT, TIME_LIMIT)
    }

    /// How long it may take until there is a connection: 5 seconds by default. The pool begins
    /// anew.
    #[must_use]
    pub fn connect_limit(self, limit: Duration) -> Self {
        Self::with_limits(limit, self.time_limit)
    }

    /// How long a call may take in all, to the last byte of its answer: 30 seconds by default. The
    /// pool begins anew.
    #[must_use]
    pub fn time_limit(self, limit: Duration) -> Self {
        Self::with_limits(self.connect_limit, limit)
    }

    fn with_limits(connect_limit: Duration, time_limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let inner = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        let connector = Impatient {
            inner,
            limit: connect_limit,
        };
        Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_LIMIT)
                .build(connector),
            time_limit,
            connect_limit,
        }
    }
}

impl Default for Https {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https")
            .field("connect_limit", &self.connect_limit)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

impl Service<Request<Bytes>> for Https {
    type Response = Response<BoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let response = self.client.request(request.map(Full::new));
        let time_limit = self.time_limit;
        Box::pin(async move {
            // A limit beyond the clock's range is none.
            let end = Instant::now().checked_add(time_limit);
            let response = match end {
                Some(end) => timeout_at(end, response).await?,
                None => response.await,
            };
            match response {
                Ok(response) => Ok(response.map(|body| BodyExt::boxed(Timed::new(body, end)))),
                Err(error) if error.is_connect() => Err(NotSent.into()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// A connector with a limit on all that it does: looking up the host, connecting, TLS.
#[derive(Clone)]
struct Impatient<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Impatient<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connection = timeout(self.limit, self.inner.call(uri));
        Box::pin(async move { connection.await?.map_err(Into::into) })
    }
}

/// A body that has to be there by a certain moment.
struct Timed<B> {
    body: B,
    end: Option<Pin<Box<Sleep>>>,
}

impl<B> Timed<B> {
    fn new(body: B, end: Option<Instant>) -> Self {
        let end = end.map(|end| Box::pin(tokio::time::sleep_until(end)));
        Self { body, end }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match &mut self.end {
            Some(end) => end
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err("the answer took too long".into()))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
