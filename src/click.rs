//! The click collaborator: tells the affiliate platform about a landing, beside the page and never
//! in its way. Bounded in calls, time and memory; what can't be done within the bounds is dropped,
//! counted and logged, and the key is kept all the same.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::header::{HOST, REFERER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::crawler::is_crawler;
use crate::error::ConfigError;
use crate::referral::{ClickId, Referral, ReferralKey, TouchId};
use crate::request::RequestRef;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type ReadIp = Box<dyn Fn(RequestRef<'_>) -> Option<IpAddr> + Send + Sync>;
type NotFor = Box<dyn Fn(RequestRef<'_>) -> bool + Send + Sync>;

/// The longest user agent and the longest referrer that are passed on, in bytes.
const MAX_FACT_LEN: usize = 512;

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
/// the visitor first really looks at a page.
///
/// Late click IDs wait in this process's memory. With several web servers, a visitor whose next
/// request reaches another one gets the click ID when a later request comes back here.
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
    /// request says otherwise.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sends the visitor's address, masked to its /24 (IPv4) or /48 (IPv6) network, from a source
    /// that you name: axum's `ConnectInfo`, or a header that your own proxy sets
    /// ([`trusted_header`]). There is no default, because `X-Forwarded-For` holds whatever the
    /// visitor likes.
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
        let in_flight = self.max_in_flight.min(Semaphore::MAX_PERMITS);
        Ok(Clicker {
            max_in_flight: in_flight,
            permits: Arc::new(Semaphore::new(in_flight)),
            desk: Arc::new(Desk {
                late: Mutex::default(),
                keep_for: self.keep_late_for,
                most: self.max_late,
                counters: Counters::default(),
            }),
            service: self.service,
            wait: self.wait,
            time_limit: self.time_limit,
            base_url,
            ip: self.ip,
            whole_ip: self.whole_ip,
            user_agent: self.user_agent,
            not_for: self.not_for,
            undo_unknown_keys: self.undo_unknown_keys,
        })
    }
}

fn check_base_url(url: &str) -> Result<String, ConfigError> {
    let is_base = url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path_and_query().is_none_or(|path| path == "/")
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

/// How many clicks a layer has seen since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClickCounts {
    /// Calls that were started.
    pub started: u64,
    /// Calls that gave a click ID.
    pub created: u64,
    /// Calls that the platform answered with [`UnknownKey`].
    pub unknown_key: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Calls that reached the time limit; their fate is unknown.
    pub timed_out: u64,
    /// Clicks that were dropped, because too many calls were in flight or because the layer runs
    /// outside a Tokio runtime.
    pub dropped: u64,
    /// Late answers that were dropped because too many visitors hadn't come back for theirs.
    pub late_dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    created: AtomicU64,
    unknown_key: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    dropped: AtomicU64,
    late_dropped: AtomicU64,
}

/// The prepared form of [`Clicks`], one for each layer.
pub(crate) struct Clicker {
    service: Arc<dyn CreateClick>,
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    desk: Arc<Desk>,
    wait: Duration,
    time_limit: Duration,
    base_url: Option<String>,
    ip: Option<ReadIp>,
    whole_ip: bool,
    user_agent: bool,
    not_for: NotFor,
    undo_unknown_keys: bool,
}

/// What a click has to know of the request beside the referral.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    base_url: String,
    referrer: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

/// What the platform said, for the touch it was asked about.
#[derive(Clone)]
pub(crate) enum Answer {
    Click(ClickId),
    /// Take the capture back, and put back what it had replaced.
    Undo(Option<Box<Referral>>),
}

/// A click on its way, as the response of its landing sees it.
pub(crate) struct Pending {
    touch: TouchId,
    receiver: oneshot::Receiver<Answer>,
    /// What came while the response was held back.
    received: Option<Option<Answer>>,
}

impl Pending {
    pub(crate) fn touch(&self) -> TouchId {
        self.touch
    }

    /// Is the call over, whatever came of it?
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.received.is_none() {
            self.received = Some(ready!(Pin::new(&mut self.receiver).poll(cx)).ok());
        }
        Poll::Ready(())
    }

    /// The answer, if it has come by now. From here on it goes to the late ones.
    pub(crate) fn close(mut self) -> Option<Answer> {
        self.receiver.close();
        self.received
            .unwrap_or_else(|| self.receiver.try_recv().ok())
    }
}

impl Clicker {
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// What a click would have to know of this request; `None` if it creates none.
    pub(crate) fn facts(&self, request: RequestRef<'_>) -> Option<Facts> {
        if (self.not_for)(request) {
            return None;
        }
        let headers = request.headers();
        let ip = self.ip.as_ref().and_then(|source| source(request));
        Some(Facts {
            base_url: match &self.base_url {
                Some(url) => url.clone(),
                None => own_base_url(request.uri(), headers),
            },
            referrer: referrer_origin(headers),
            ip: if self.whole_ip { ip } else { ip.map(masked) },
            user_agent: self.user_agent.then(|| text_of(headers)).flatten(),
        })
    }

    /// Starts the call for a winning touch. `replaced` is what the touch had replaced.
    pub(crate) fn start(
        &self,
        referral: &Referral,
        facts: Facts,
        replaced: Option<Referral>,
    ) -> Option<Pending> {
        let counters = &self.desk.counters;
        let mut touch = TouchId::default();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            count_drop(&counters.dropped, "too_many_in_flight");
            return None;
        };
        // Outside a Tokio runtime there is nothing to spawn on, and Tower doesn't promise one.
        let (Ok(runtime), Ok(())) = (Handle::try_current(), getrandom::fill(&mut touch)) else {
            count_drop(&counters.dropped, "no_runtime");
            return None;
        };
        counters.started.fetch_add(1, Ordering::Relaxed);
        let call = timeout(
            self.time_limit,
            self.service.create(request(referral, facts)),
        );
        let desk = Arc::clone(&self.desk);
        let undo = self
            .undo_unknown_keys
            .then(|| Answer::Undo(replaced.map(Box::new)));
        let (sender, receiver) = oneshot::channel();
        runtime.spawn(async move {
            let result = call.await;
            if let Some(answer) = desk.judge(result, undo)
                && let Err(answer) = sender.send(answer)
            {
                // The landing's response is out already: the next request asks for it.
                desk.keep(touch, answer);
            }
            drop(permit);
        });
        Some(Pending {
            touch,
            receiver,
            received: None,
        })
    }

    /// What has come for a touch since its landing.
    pub(crate) fn late_answer(&self, touch: TouchId) -> Option<Answer> {
        self.desk.look_up(touch)
    }

    pub(crate) fn counts(&self) -> ClickCounts {
        let counters = &self.desk.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClickCounts {
            started: read(&counters.started),
            created: read(&counters.created),
            unknown_key: read(&counters.unknown_key),
            failed: read(&counters.failed),
            timed_out: read(&counters.timed_out),
            dropped: read(&counters.dropped),
            late_dropped: read(&counters.late_dropped),
        }
    }

    /// Waits until no call is in flight, up to the limit. Says whether that was reached.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        let all = u32::try_from(self.max_in_flight).unwrap_or(u32::MAX);
        timeout(limit, self.permits.acquire_many(all)).await.is_ok()
    }
}

fn request(referral: &Referral, facts: Facts) -> ClickRequest {
    let page = referral.landing_page().unwrap_or_else(|| "/".to_owned());
    ClickRequest {
        key: referral.key.clone(),
        program: referral.program.clone(),
        landing_url: format!("{}{page}", facts.base_url),
        referrer: facts.referrer,
        ip: facts.ip,
        user_agent: facts.user_agent,
    }
}

/// Counts a drop and tells of it: aloud at the first, the second, the fourth and so on, so that a
/// flood of landings doesn't become a flood of log lines.
fn count_drop(counter: &AtomicU64, reason: &'static str) {
    let dropped = counter.fetch_add(1, Ordering::Relaxed) + 1;
    #[cfg(feature = "tracing")]
    if dropped.is_power_of_two() {
        tracing::warn!(target: "tower_referral", reason, dropped, "click dropped");
    } else {
        tracing::debug!(target: "tower_referral", reason, dropped, "click dropped");
    }
    let _ = (dropped, reason);
}

/// Where late answers wait for their visitors.
struct Desk {
    late: Mutex<Late>,
    keep_for: Duration,
    most: usize,
    counters: Counters,
}

#[derive(Default)]
struct Late {
    answers: HashMap<TouchId, Answer>,
    /// In order of their coming, which is the order of their going.
    order: VecDeque<(Instant, TouchId)>,
}

impl Desk {
    /// Counts what came of a call, and says what it means for the referral.
    fn judge(
        &self,
        result: Result<Result<ClickId, BoxError>, impl Sized>,
        undo: Option<Answer>,
    ) -> Option<Answer> {
        let (counter, outcome, answer) = match result {
            Ok(Ok(click_id)) => (
                &self.counters.created,
                "created",
                Some(Answer::Click(click_id)),
            ),
            Ok(Err(error)) if is_unknown_key(&*error) => {
                (&self.counters.unknown_key, "unknown_key", undo)
            }
            Ok(Err(_)) => (&self.counters.failed, "failed", None),
            Err(_) => (&self.counters.timed_out, "timed_out", None),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_referral", outcome, "click");
        let _ = outcome;
        answer
    }

    fn keep(&self, touch: TouchId, answer: Answer) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.drop_expired();
        late.answers.insert(touch, answer);
        late.order
            .push_back((Instant::now() + self.keep_for, touch));
        if late.order.len() > self.most {
            late.drop_oldest();
            count_drop(&self.counters.late_dropped, "too_many_late");
        }
    }

    /// The answer stays until it expires: the response that carries it may get lost on its way.
    fn look_up(&self, touch: TouchId) -> Option<Answer> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.drop_expired();
        late.answers.get(&touch).cloned()
    }
}

impl Late {
    fn drop_expired(&mut self) {
        let now = Instant::now();
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, touch)) = self.order.pop_front() {
            self.answers.remove(&touch);
        }
    }
}

fn is_unknown_key(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<UnknownKey>())
}

/// Scheme and host as the request gives them. Most servers don't see the scheme, and nearly all
/// sites are on HTTPS.
fn own_base_url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = uri
        .authority()
        .cloned()
        .or_else(|| host?.parse::<Authority>().ok());
    match authority {
        Some(authority) => format!("{}://{authority}", uri.scheme_str().unwrap_or("https")),
        None => "https://localhost".to_owned(),
    }
}

fn referrer_origin(headers: &HeaderMap) -> Option<String> {
    let referrer: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    let host = referrer.host()?;
    let port = referrer.port().map(|port| format!(":{port}"));
    let origin = format!(
        "{}://{host}{}",
        referrer.scheme_str()?,
        port.unwrap_or_default()
    );
    (origin.len() <= MAX_FACT_LEN).then_some(origin)
}

fn text_of(headers: &HeaderMap) -> Option<String> {
    let user_agent = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(user_agent.chars().take(MAX_FACT_LEN).collect())
}

fn masked(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

/// A click service behind a pointer: beside a call over the network, its boxed future costs
/// nothing, and the layer needs no type parameter for it.
trait CreateClick: Send + Sync {
    fn create(&self, request: ClickRequest) -> BoxFuture<Result<ClickId, BoxError>>;
}

/// Services are cloned for each call, as Tower means them to be; the lock is held for the clone.
struct Shared<S>(Mutex<S>);

impl<S> CreateClick for Shared<S>
where
    S: Service<ClickRequest, Response = ClickId> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn create(&self, request: ClickRequest) -> BoxFuture<Result<ClickId, BoxError>> {
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
