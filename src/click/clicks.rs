//! How clicks are configured.

use std::{fmt, future::Future, net::IpAddr, sync::Arc, time::Duration};

use http::header::USER_AGENT;
use http::{HeaderValue, Uri};
use tower_service::Service;

use super::context::{ClickContextConfig, Exclude, ReadIp, ShortenPath};
use super::crawler::is_crawler;
use super::dispatcher::{ClickDispatcher, DispatcherSettings, OnLateResult};
use super::request::{
    BoxError, Click, ClickRequest, CreateClick, LateClick, ServiceFn, SharedService,
};
use super::timing::ClickTiming;
use crate::error::ConfigError;
use crate::request::RequestRef;
use crate::runtime::Runtime;

/// Creates a click at the affiliate platform for every landing that wins.
///
/// The call starts while the page is made and goes on after it; the page never waits for it unless
/// [`wait`](Self::wait) says so. The click ID joins the referral in this response's cookie if it
/// has arrived by then, and on the visitor's next request otherwise.
///
/// At most one click is created for a winning touch, and a call that failed or timed out is never
/// repeated. Crawlers, link previews, monitors and HTTP tools create none
/// ([`is_crawler`](crate::click::is_crawler)), nor do visitors without consent. Where the landing alone
/// doesn't prove that the visitor saw the page, its click is created at the next page view: a prefetch, a
/// navigation through a service worker, a landing that waited for consent, and one that the bounds of
/// number and rate turned away. [`ClickTiming`] says which of them differ where clicks are created at the capture
/// endpoint.
///
/// With `ServerSide`, a late click ID is written to the visitor's record, whichever web server the
/// visitor's next request reaches. Otherwise it waits in this process's memory: with several web servers,
/// see [the guide](crate::guide::serverless).
///
/// ```
/// use tower_referral::ClickId;
/// use tower_referral::click::{ClickRequest, Clicks};
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
    timeout: Duration,
    max_in_flight: usize,
    max_per_second: u32,
    late_ttl: Duration,
    late_capacity: usize,
    base_url: Option<String>,
    ip: Option<ReadIp>,
    unmasked_ip: bool,
    user_agent: bool,
    exclude: Exclude,
    shorten_path: Option<ShortenPath>,
    undo_unknown_keys: bool,
    timing: ClickTiming,
    on_late_result: Option<OnLateResult>,
}

impl Clicks {
    /// Creates clicks through `service`: any Tower service, so that rate limits, circuit breakers and
    /// mocks can be composed around the platform's own.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<ClickRequest> + Clone + Send + 'static,
        S::Response: Into<Click>,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self {
            service: Arc::new(SharedService::new(service)),
            wait: Duration::ZERO,
            timeout: Duration::from_secs(2),
            max_in_flight: 64,
            max_per_second: 50,
            late_ttl: Duration::from_secs(600),
            late_capacity: 30_000,
            base_url: None,
            ip: None,
            unmasked_ip: false,
            user_agent: false,
            shorten_path: None,
            timing: ClickTiming::default(),
            on_late_result: None,
            exclude: Box::new(|request| {
                let user_agent = request.headers().get(USER_AGENT);
                is_crawler(user_agent.map_or(&[][..], HeaderValue::as_bytes))
            }),
            undo_unknown_keys: false,
        }
    }

    /// Creates clicks through an async function or closure. It returns a [`Click`] or a
    /// [`ClickId`](crate::ClickId).
    pub fn from_fn<F, R, C, E>(create: F) -> Self
    where
        F: Fn(ClickRequest) -> R + Clone + Send + 'static,
        R: Future<Output = Result<C, E>> + Send + 'static,
        C: Into<Click> + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::new(ServiceFn(create))
    }

    /// Sets how long the head of a landing's response may be held back for the click ID, counted from
    /// when the inner service is done. Not at all by default. It applies to
    /// [`ClickTiming::BesideResponse`] alone.
    ///
    /// It needs a Tokio runtime whose timer is enabled, as that of `#[tokio::main]` is, or
    /// [`ReferralLayerBuilder::timer`](crate::ReferralLayerBuilder::timer). Without either, no page waits.
    pub fn wait(mut self, budget: Duration) -> Self {
        self.wait = budget;
        self
    }

    /// Sets when a landing's click is created, and what waits for it; beside the response by default.
    pub fn timing(mut self, timing: ClickTiming) -> Self {
        self.timing = timing;
        self
    }

    /// Sets how long one call may take in all, from waiting for the service to be ready to its answer;
    /// 2 seconds by default. It is measured as that of [`wait`](Self::wait).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many calls may be in flight at once; 64 by default, at most half of them for one key. A
    /// click beyond that is tried at the visitor's next page view.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Sets how many calls may start in a second; 50 by default, at most half of them for one key. A
    /// click beyond that is tried at the visitor's next page view.
    #[doc(alias("rate limit"))]
    pub fn max_per_second(mut self, calls: u32) -> Self {
        self.max_per_second = calls;
        self
    }

    /// Sets how many late results are kept for their visitors, and for how long; 30,000 for 10 minutes
    /// by default, at most half of them for one key. The oldest is dropped beyond that, so memory is bounded
    /// by `capacity` whatever visitors do. A put-off click takes an entry when its call starts; a page view
    /// that the bounds [`max_in_flight`](Self::max_in_flight) and
    /// [`max_per_second`](Self::max_per_second) turn away takes none.
    pub fn late_results(mut self, capacity: usize, ttl: Duration) -> Self {
        self.late_capacity = capacity;
        self.late_ttl = ttl;
        self
    }

    /// Sets what is done with a click whose ID comes after the landing's response was out, in addition to
    /// keeping it in this process's memory: store it under its reference where every web server and the
    /// worker that reports sales can find it, for instance in the outbox's database. A click that was put
    /// off to a later page view is handed on also if its ID comes in time: another tab, which doesn't know
    /// it, may be at another server.
    ///
    /// The ID is in memory before `store` is called, so that one that is slow or panics takes nothing from the
    /// visitor. At most [`max_in_flight`](Self::max_in_flight) run at once; while that many do, a click whose ID
    /// is late keeps its place among those in flight.
    /// [`drain_clicks`](crate::ReferralLayer::drain_clicks) waits for them.
    ///
    /// ```
    /// use tower_referral::ClickId;
    /// use tower_referral::click::{ClickRequest, Clicks, LateClick};
    ///
    /// # async fn create_click(request: ClickRequest) -> Result<ClickId, std::io::Error> { unimplemented!() }
    /// # async fn store(reference: String, id: ClickId) {}
    /// let clicks = Clicks::from_fn(create_click)
    ///     .on_late_result(|late: LateClick| store(late.reference, late.click.id().clone()));
    /// ```
    pub fn on_late_result<F, R>(mut self, store: F) -> Self
    where
        F: Fn(LateClick) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_late_result = Some(Arc::new(move |late| Box::pin(store(late))));
        self
    }

    /// Shortens the path of the landing page that the platform is told: for sites whose paths hold
    /// secrets. The path that is kept with the referral stays.
    ///
    /// ```
    /// # use tower_referral::{ClickId, click::{ClickRequest, Clicks}};
    /// # async fn create_click(request: ClickRequest) -> Result<ClickId, std::io::Error> { unimplemented!() }
    /// let clicks = Clicks::from_fn(create_click)
    ///     .shorten_path(|path| match path.strip_prefix("/reset/") {
    ///         Some(_) => "/reset".to_owned(),
    ///         None => path.to_owned(),
    ///     });
    /// ```
    pub fn shorten_path(
        mut self,
        shorten: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        self.shorten_path = Some(Box::new(shorten));
        self
    }

    /// Sets where the site is, for the landing URL: scheme and host, for instance
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
    /// # use tower_referral::{ClickId, click::{ClickRequest, Clicks}};
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

    /// Sends the address that [`ip`](Self::ip) reads without masking it.
    pub fn unmasked_ip(mut self) -> Self {
        self.unmasked_ip = true;
        self
    }

    /// Sends the visitor's `User-Agent`, up to 512 bytes.
    pub fn user_agent(mut self) -> Self {
        self.user_agent = true;
        self
    }

    /// Sets which requests create no click, in place of [`is_crawler`](crate::click::is_crawler). It
    /// applies to clicks alone: the key is captured and kept all the same.
    pub fn exclude(
        mut self,
        predicate: impl Fn(RequestRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.exclude = Box::new(predicate);
        self
    }

    /// Takes a capture back, on the visitor's next request at the latest, if the platform answers
    /// that it doesn't know the key ([`UnknownKey`](crate::click::UnknownKey)), so that `?ref=typo` holds
    /// no first-touch slot for 30 days. What the capture had replaced is put back.
    pub fn undo_unknown_keys(mut self) -> Self {
        self.undo_unknown_keys = true;
        self
    }

    pub(crate) fn prepare(self, runtime: &Runtime) -> Result<ClickDispatcher, ConfigError> {
        let base_url = self.base_url.map(|url| check_base_url(&url)).transpose()?;
        Ok(ClickDispatcher::new(DispatcherSettings {
            service: self.service,
            context: ClickContextConfig {
                base_url,
                ip: self.ip,
                unmasked_ip: self.unmasked_ip,
                user_agent: self.user_agent,
                exclude: self.exclude,
                shorten_path: self.shorten_path,
            },
            wait: self.wait,
            timeout: self.timeout,
            undo_unknown_keys: self.undo_unknown_keys,
            timing: self.timing,
            on_late_result: self.on_late_result,
            max_in_flight: self.max_in_flight,
            max_per_second: self.max_per_second,
            late_capacity: self.late_capacity,
            late_ttl: self.late_ttl,
            runtime: runtime.clone(),
        }))
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
            .field("timeout", &self.timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_per_second", &self.max_per_second)
            .finish_non_exhaustive()
    }
}

/// Reads the visitor's address from a header that your own proxy sets on every request, for
/// [`Clicks::ip`]. With several lines or several addresses, there is no address: a proxy that only
/// appends to what the visitor sent is no source.
///
/// ```
/// use tower_referral::ClickId;
/// use tower_referral::click::{ClickRequest, Clicks, trusted_header};
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
