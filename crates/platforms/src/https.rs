//! The ready-made transport: HTTPS by rustls, with bundled roots, over hyper, with a timeout on
//! everything that takes time. None of their types are in the API.

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower_http::timeout::DeadlineBody;
use tower_service::Service;

use crate::NotSent;
use crate::boxed::{BoxError, BoxFuture};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. A platform that closes one just as a sale goes out on it
/// leaves the outcome of that sale unknown, so rather a new one than one that is old.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connector = BoxCloneSyncService<http::Uri, Stream, BoxError>;

/// An HTTPS client with pooled connections: TLS by rustls, the roots of Mozilla's list, HTTP/1 and
/// HTTP/2. It follows no redirects. Cheap to clone.
///
/// Finding a host, connecting to it and the TLS handshake may take 5 seconds together, a whole call
/// to the last byte of its answer 30; both can be set. What fails before there is a connection (no
/// such host, nobody there, a certificate that isn't good, the timeout) is [`NotSent`]; the outcome
/// of what fails later is unknown.
///
/// It takes any URL; that an API key goes out in the clear to this machine only is the platforms'
/// business.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::Https;
///
/// let transport = Https::new().timeout(Duration::from_secs(10));
/// ```
#[derive(Clone)]
pub struct Https {
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
    connect_timeout: Duration,
}

impl Https {
    /// Creates a client with its own pool of connections.
    #[must_use]
    pub fn new() -> Self {
        Self::with_timeouts(CONNECT_TIMEOUT, TIMEOUT)
    }

    /// Sets how long it may take until there is a connection: 5 seconds by default. The pool begins
    /// anew.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self::with_timeouts(timeout, self.timeout)
    }

    /// Sets how long a call may take in all, to the last byte of its answer: 30 seconds by default.
    /// The pool begins anew.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self::with_timeouts(self.connect_timeout, timeout)
    }

    fn with_timeouts(connect_timeout: Duration, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        // Over all that connecting does: looking up the host, connecting, TLS.
        let connector = BoxCloneSyncService::new(Timeout::new(connector, connect_timeout));
        Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .build(connector),
            timeout,
            connect_timeout,
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
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
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
        let timeout = self.timeout;
        Box::pin(async move {
            let started = Instant::now();
            match tokio::time::timeout(timeout, response).await? {
                Ok(response) => Ok(response.map(|body| {
                    let left = timeout.saturating_sub(started.elapsed());
                    DeadlineBody::new(left, body).boxed()
                })),
                Err(error) if error.is_connect() => Err(NotSent.into()),
                Err(error) => Err(error.into()),
            }
        })
    }
}
