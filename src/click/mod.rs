//! The click collaborator: tells the affiliate platform about a landing, beside the page and never
//! in its way. Bounded in calls, time and memory; what can't be done within the bounds is dropped,
//! counted and logged, and the key is kept all the same.

mod clicker;
mod facts;
mod late;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::header::USER_AGENT;
use http::{HeaderValue, Uri};
use smol_str::SmolStr;
use tokio::sync::Semaphore;
use tower_service::Service;

pub(crate) use self::clicker::{Clicker, Destination, Late, Pending};
pub(crate) use self::facts::Facts;
use self::facts::FactsRule;
pub(crate) use self::late::Answer;
pub use self::late::ClickCounts;
use self::late::Desk;
use crate::boxed::{BoxError, BoxFuture};
use crate::crawler::is_crawler;
use crate::error::ConfigError;
use crate::referral::{ClickId, ReferralKey};
use crate::request::RequestRef;

type ReadIp = Box<dyn Fn(RequestRef<'_>) -> Option<IpAddr> + Send + Sync>;
type NotFor = Box<dyn Fn(RequestRef<'_>) -> bool + Send + Sync>;

/// What the platform is told about a landing.
///
/// `Debug` hides everything that came from the visitor.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClickRequest {
    /// Who referred the visitor.
    pub key: ReferralKey,
    /// The name of the [`Program`](crate::Program).
    pub program: SmolStr,
    /// The page that the visitor landed on, with our parameter and no other, for instance
    /// `https://shop.example/pricing?aff=PARTNER_123`.
    pub landing_url: String,
    /// The origin of the page that the link was on, for instance `https://blog.example`.
    pub referrer: Option<String>,
    /// The visitor's address, only where [`Clicks::ip`] says so.
    pub ip: Option<IpAddr>,
    /// The visitor's browser, only where [`Clicks::user_agent`] says so.
    pub user_agent: Option<String>,
}

impl fmt::Debug for ClickRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickRequest")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// The platform doesn't know the key.
///
/// A click service says so by failing with this error, bare or as the source of another; see
/// [`Clicks::undo_unknown_keys`].
///
/// ```
/// use std::error::Error;
/// use tower_referral::{ClickId, ClickRequest, Clicks, UnknownKey};
///
/// # async fn ask(request: ClickRequest) -> Result<(u16, String), std::io::Error> { unimplemented!() }
/// let clicks = Clicks::from_fn(|request: ClickRequest| async move {
///     let (status, id) = ask(request).await?; // an in-house platform
///     match status {
///         404 => Err(UnknownKey.into()),
///         _ => Ok::<ClickId, Box<dyn Error + Send + Sync>>(id.parse()?),
///     }
/// })
/// .undo_unknown_keys();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKey;

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the platform doesn't know this referral key: check the link it came from")
    }
}

impl std::error::Error for UnknownKey {}

/// Creates a click at the affiliate platform for every landing that wins.
///
/// The call starts beside the page and goes on after it; the page never waits for it unless
/// [`wait`](Self::wait) says so. The click ID joins the referral in this response's cookie if it
/// has arrived by then, and on the visitor's next request otherwise.
///
/// At most one click is created for a winning touch, and a call that failed or timed out is never
/// repeated here: whether it is safe to repeat one is for the service to know. Crawlers, link
/// previews, monitors and HTTP tools create none ([`is_crawler`](crate::is_crawler)), nor do
/// visitors without consent. A page that the browser fetches ahead of time creates its click when
/// the visitor first really looks at a page; so does a landing that waited for consent.
///
/// With `ServerSide`, a late click ID is written straight to the visitor's record, whichever web
/// server the visitor's next request reaches. Otherwise it waits in this process's memory: with
/// several web servers, a visitor whose next request reaches another one gets it when a later
/// request comes back here. So does the note that a deferred click was made, for the visitor who
/// opens several pages at once.
///
/// ```
/// use tower_referral::{ClickId, ClickRequest, Clicks};
///
/// # async fn create_click(request: ClickRequest) -> Result<ClickId, std::io::Error> { unimplemented!() }
/// let clicks = Clicks::from_fn(|request: ClickRequest| async move {
///     create_click(request).await // any async function
/// });
/// ```
#[must_use = "clicks do nothing until they are given to `ReferralLayer::builder(..).clicks(..)`"]
pub struct Clicks {
    service: Arc<dyn CreateClick>,
    wait: Duration,
    time_limit: Duration,
    max_in_flight: usize,
    keep_late_for: Duration,
    max_late: usize,
    base_url: Option<String>,
    ip: Option<ReadIp>,
    whole_ip: bool,
    user_agent: bool,
    not_for: NotFor,
    undo_unknown_keys: bool,
}

impl Clicks {
    /// Clicks that `service` creates: any Tower service, so that time-outs, rate limits, circuit
    /// breakers and mocks can be composed around the platform's own.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<ClickRequest, Response = ClickId> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self {
            service: Arc::new(Shared(Mutex::new(service))),
            wait: Duration::ZERO,
            time_limit: Duration::from_secs(2),
            max_in_flight: 64,
            keep_late_for: Duration::from_secs(600),
            max_late: 10_000,
            base_url: None,
            ip: None,
            whole_ip: false,
            user_agent: false,
            not_for: Box::new(|request| {
                let user_agent = request.headers().get(USER_AGENT);
                is_crawler(user_agent.map_or(&[][..], HeaderValue::as_bytes))
            }),
            undo_unknown_keys: false,
        }
    }

    /// Clicks that an async function or closure creates.
    pub fn from_fn<F, R, E>(create: F) -> Self
    where
        F: Fn(ClickRequest) -> R + Clone + Send + 'static,
        R: Future<Output = Result<ClickId, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::new(ServiceFn(create))
    }

    /// How long the head of a landing's response may be held back for the click ID, counted from
    /// when the inner service is done. Not at all by default.
    ///
    /// A time by Tokio's clock: it needs a runtime whose timer is enabled, as that of
    /// `#[tokio::main]` is.
    pub fn wait(mut self, budget: Duration) -> Self {
        self.wait = budget;
        self
    }

    /// How long one call may take in all, from waiting for the service to be ready to its answer;
    /// 2 seconds by default.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How many calls may be in flight at once; 64 by default. The newest is dropped beyond that.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many late answers are kept for their visitors, and for how long; 10,000 for 10 minutes
    /// by default. The oldest is dropped beyond that.
    pub fn late_answers(mut self, most: usize, keep_for: Duration) -> Self {
        self.max_late = most;
        self.keep_late_for = keep_for;
        self
    }

    /// Where the site is, for the landing URL: scheme and host, for instance
    /// `https://shop.example`. By default the request's own host, with `https` unless the
    /// request says otherwise or the host is this very machine.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sends the visitor's address, masked to its /24 (IPv4) or /48 (IPv6) network, from a source
    /// that you name: axum's `ConnectInfo`, or a header that your own proxy sets
    /// ([`trusted_header`]). There is no default, because `X-Forwarded-For` holds whatever the
    /// visitor likes.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// # use tower_referral::{ClickId, ClickRequest, Clicks};
    /// # async fn create_click(request: ClickRequest) -> Result<ClickId, std::io::Error> { unimplemented!() }
    ///
    /// let clicks = Clicks::from_fn(create_click).ip(|request| {
    ///     let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(peer.0.ip())
    /// });
    /// ```
    pub fn ip(
        mut self,
        source: impl Fn(RequestRef<'_>) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.ip = Some(Box::new(source));
        self
    }

    /// Sends the address that [`ip`](Self::ip) reads unmasked.
    pub fn whole_ip(mut self) -> Self {
        self.whole_ip = true;
        self
    }

    /// Sends the visitor's `User-Agent`, up to 512 bytes.
    pub fn user_agent(mut self) -> Self {
        self.user_agent = true;
        self
    }

    /// Which requests create no click, in place of [`is_crawler`](crate::is_crawler). It decides
    /// over clicks alone: whatever it says, the key is captured and kept.
    pub fn not_for(
        mut self,
        predicate: impl Fn(RequestRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.not_for = Box::new(predicate);
        self
    }

    /// Takes a capture back, on the visitor's next request at the latest, if the platform answers
    /// that it doesn't know the key ([`UnknownKey`]), so that `?ref=typo` holds no first-touch
    /// slot for 30 days. What the capture had replaced is put back.
    pub fn undo_unknown_keys(mut self) -> Self {
        self.undo_unknown_keys = true;
        self
    }

    pub(crate) fn prepare(self) -> Result<Clicker, ConfigError> {
        let base_url = self.base_url.map(|url| check_base_url(&url)).transpose()?;
        let max_in_flight = self.max_in_flight.min(Semaphore::MAX_PERMITS);
        Ok(Clicker {
            service: self.service,
            facts: FactsRule {
                base_url,
                ip: self.ip,
                whole_ip: self.whole_ip,
                user_agent: self.user_agent,
                not_for: self.not_for,
            },
            wait: self.wait,
            time_limit: self.time_limit,
            undo_unknown_keys: self.undo_unknown_keys,
            max_in_flight,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            desk: Arc::new(Desk::new(self.max_late, self.keep_late_for)),
        })
    }
}

fn check_base_url(url: &str) -> Result<String, ConfigError> {
    let is_base = url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path_and_query().is_none_or(|path| path == "/")
            && !url.contains(['#', '@'])
    });
    if is_base {
        Ok(url.trim_end_matches('/').to_owned())
    } else {
        Err(ConfigError::InvalidBaseUrl {
            url: url.to_owned(),
        })
    }
}

impl fmt::Debug for Clicks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clicks")
            .field("wait", &self.wait)
            .field("time_limit", &self.time_limit)
            .field("max_in_flight", &self.max_in_flight)
            .field("keep_late_for", &self.keep_late_for)
            .field("max_late", &self.max_late)
            .finish_non_exhaustive()
    }
}

/// Reads the visitor's address from a header that your own proxy sets on every request, for
/// [`Clicks::ip`]. With several lines or several addresses, there is no address: a proxy that only
/// appends to what the visitor sent is no source.
///
/// ```
/// use tower_referral::{ClickId, ClickRequest, Clicks, trusted_header};
///
/// # async fn create_click(request: ClickRequest) -> Result<ClickId, std::io::Error> { unimplemented!() }
/// let clicks = Clicks::from_fn(create_click).ip(trusted_header("x-real-ip"));
/// ```
pub fn trusted_header(
    name: &'static str,
) -> impl Fn(RequestRef<'_>) -> Option<IpAddr> + Send + Sync + 'static {
    move |request| {
        let mut lines = request.headers().get_all(name).iter();
        let only = lines.next()?.to_str().ok()?;
        match lines.next() {
            None => only.trim().parse().ok(),
            Some(_) => None,
        }
    }
}

/// A click service behind a pointer: beside a call over the network, its boxed future costs
/// nothing, and the layer needs no type parameter for it.
trait CreateClick: Send + Sync {
    fn create(&self, request: ClickRequest) -> BoxFuture<'static, Result<ClickId, BoxError>>;
}

/// Services are cloned for each call, as Tower means them to be; the lock is held for the clone.
struct Shared<S>(Mutex<S>);

impl<S> CreateClick for Shared<S>
where
    S: Service<ClickRequest, Response = ClickId> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn create(&self, request: ClickRequest) -> BoxFuture<'static, Result<ClickId, BoxError>> {
        let mut service = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(Into::into)?;
            service.call(request).await.map_err(Into::into)
        })
    }
}

#[derive(Clone)]
struct ServiceFn<F>(F);

impl<F, R, E> Service<ClickRequest> for ServiceFn<F>
where
    F: Fn(ClickRequest) -> R,
    R: Future<Output = Result<ClickId, E>>,
{
    type Response = ClickId;
    type Error = E;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ClickRequest) -> R {
        (self.0)(request)
    }
}
