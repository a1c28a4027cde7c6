//! One client for all platforms, over any HTTP transport: it sends what a platform built, reads no
//! more of an answer than anyone needs, and keeps what was sent out of the errors.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tower_service::Service;

use super::{
    Answer, CreateClicks, Error, Outcome, Report, ReportError, SafeToRepeat, Step, TakeReports,
};
use crate::boxed::{BoxError, BoxFuture};
use crate::telemetry;
use tower_referral::ClickId;
use tower_referral::ClickRequest;

/// The longest answer that is read, in bytes. No platform's is anywhere near it.
const MAX_ANSWER_LEN: usize = 64 * 1024;
/// The longest wait that a `Retry-After` is taken for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The request never left. A transport says so by failing with this error, bare or as the source
/// of another; of any other failure it isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSent;

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent: no connection could be made")
    }
}

impl std::error::Error for NotSent {}

/// What carries requests to a platform: any Tower service from `http::Request<Bytes>` to an
/// `http::Response`, cheap to clone. There is nothing to implement but [`Service`].
///
/// ```
/// # #[cfg(feature = "partnac")] {
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use tower::service_fn;
/// use tower_referral_platforms::{Client, Partnac};
///
/// /// A stand-in for tests, without a network.
/// async fn says_yes(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
///     assert_eq!(request.uri().path(), "/v1/tracking/conversions");
///     Ok(Response::new(r#"{"conversion_id": "conv_1"}"#.to_owned()))
/// }
///
/// # fn main() -> Result<(), tower_referral_platforms::ConfigError> {
/// let platform = Client::new(Partnac::new("test")?, service_fn(says_yes));
/// # Ok(())
/// # }
/// # }
/// ```
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends one request once the transport is ready, and reads at most so many bytes of the
    /// answer.
    #[doc(hidden)]
    fn carry(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> BoxFuture<'static, Result<Answer, Error>>;
}

impl<T, B> Transport for T
where
    T: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Boxed here, where the types are still names: in a handler's future, the compiler would have
    // to show anew that each of them may go to another thread, and can't.
    fn carry(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let mut transport = self.clone();
        Box::pin(async move {
            // A transport that isn't ready hasn't sent anything.
            std::future::poll_fn(|cx| transport.poll_ready(cx))
                .await
                .map_err(|_| Error::NotSent)?;
            read(transport.call(request), max_len).await
        })
    }
}

/// A platform over a transport: any Tower service from `http::Request<Bytes>` to an
/// `http::Response`.
///
/// The client follows no redirects, reads at most 64 KiB of an answer (1 MiB of a page of a list)
/// and repeats nothing that changes anything: that is for whoever holds the report, by the error's
/// [advice](ReportError::advice). Cheap to clone.
///
/// ```no_run
/// # #[cfg(all(feature = "https", feature = "partnac"))] {
/// use tower_referral::Referral;
/// use tower_referral_platforms::{Client, Https, Money, Outcome, Partnac, Sale};
///
/// # async fn paid(api_key: &str, referral: Option<Referral>) -> Result<(), Box<dyn std::error::Error>> {
/// let platform = Client::new(Partnac::new(api_key)?, Https::new()); // the line that changes
///
/// let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?;
/// match platform.report(sale.referral(referral.as_ref())).await? {
///     Outcome::Recorded { .. } | Outcome::Duplicate => println!("credited, once"),
///     _ => println!("nobody to credit"),
/// }
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Debug)]
pub struct Client<P, T> {
    platform: Arc<P>,
    transport: T,
}

impl<P, T> Client<P, T> {
    /// A client for `platform` over `transport`.
    pub fn new(platform: P, transport: T) -> Self {
        Self {
            platform: Arc::new(platform),
            transport,
        }
    }

    /// Tells the platform of a sign-up, a sale or a refund, once: nothing is repeated here. What to
    /// do about a failure is in the error's [advice](ReportError::advice).
    ///
    /// There is no time limit but the transport's; [`Https`](super::Https) has one.
    ///
    /// # Errors
    ///
    /// The platform couldn't be told, or refused. [`Outcome::NotAttributed`] is no error.
    pub async fn report(&self, report: impl Into<Report>) -> Result<Outcome, ReportError>
    where
        P: TakeReports,
        T: Transport,
    {
        let report = report.into();
        let result = self.exchange(&report).await;
        note(&report, &result);
        result
    }

    async fn exchange(&self, report: &Report) -> Result<Outcome, ReportError>
    where
        P: TakeReports,
        T: Transport,
    {
        let mut is_repeatable = true; // as long as nothing was sent
        let mut step = self.platform.begin(report);
        loop {
            match step.map_err(|error| ReportError::new(error, is_repeatable))? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Send(request, stage) => {
                    // A request that only asks for something can do no harm twice.
                    is_repeatable = request.method().is_safe()
                        || request.extensions().get::<SafeToRepeat>().is_some()
                        || self.platform.deduplicates(report);
                    step = match self.send(request, MAX_ANSWER_LEN).await {
                        Ok(answer) => {
                            let answer = answer.without(report.secrets().chain(report.order()));
                            self.platform.next(report, stage, &answer)
                        }
                        Err(error) => Err(error),
                    };
                }
            }
        }
    }

    /// One request for what only one platform has. `is_repeatable` says whether it does no harm
    /// twice.
    #[cfg(any(feature = "partnac", feature = "partnero"))]
    pub(crate) async fn tell(
        &self,
        request: Request<Bytes>,
        secrets: impl Iterator<Item = &str>,
        is_repeatable: bool,
    ) -> Result<Answer, ReportError>
    where
        T: Transport,
    {
        match self.send(request, MAX_ANSWER_LEN).await {
            Ok(answer) => Ok(answer.without(secrets)),
            Err(error) => Err(ReportError::new(error, is_repeatable)),
        }
    }

    /// This platform as a Tower service that takes reports, so that layers can be composed around
    /// it. It is always ready: each request waits for the transport by itself.
    #[must_use]
    pub fn reports(&self) -> ReportService<P, T>
    where
        P: TakeReports,
        T: Clone,
    {
        ReportService(self.clone())
    }

    /// The click service of this platform, for [`Clicks::new`](tower_referral::Clicks::new).
    #[must_use]
    pub fn clicks(&self) -> ClickService<P, T>
    where
        P: CreateClicks,
        T: Clone,
    {
        ClickService(self.clone())
    }

    #[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
    pub(crate) fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    /// Sends one request that isn't a report.
    #[cfg(feature = "partnero")]
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<Answer, Error>
    where
        T: Transport,
    {
        self.send(request, MAX_ANSWER_LEN).await
    }

    /// Sends one request on a transport of its own, once that is ready.
    pub(crate) async fn send(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> Result<Answer, Error>
    where
        T: Transport,
    {
        let credentials = credentials(request.headers());
        let answer = self.transport.carry(request, max_len).await?;
        Ok(answer.without(credentials.iter().map(String::as_str)))
    }
}

impl<P, T: Clone> Clone for Client<P, T> {
    fn clone(&self) -> Self {
        Self {
            platform: Arc::clone(&self.platform),
            transport: self.transport.clone(),
        }
    }
}

/// What must not come back in an error's words: the sensitive headers, without their scheme.
fn credentials(headers: &HeaderMap) -> Vec<String> {
    let values = headers.values().filter(|value| value.is_sensitive());
    values
        .filter_map(|value| value.to_str().ok()?.rsplit(' ').next())
        .map(str::to_owned)
        .collect()
}

/// Counts what became of a report and tells `tracing`, by nothing that came from the visitor.
fn note(report: &Report, result: &Result<Outcome, ReportError>) {
    let outcome = match result {
        Ok(outcome) => outcome.as_str(),
        Err(error) => error.advice().as_str(),
    };
    telemetry::count_report(report.kind(), outcome);
    #[cfg(feature = "tracing")]
    {
        let (kind, order) = (report.kind(), report.order());
        match result {
            Ok(outcome) => {
                let outcome = outcome.as_str();
                tracing::debug!(target: "tower_referral", kind, order, outcome, "report");
            }
            Err(error) => {
                let advice = error.advice().as_str();
                tracing::warn!(target: "tower_referral", kind, order, advice, %error, "report");
            }
        }
    }
}

/// Tells a platform of sign-ups, sales and refunds; made by [`Client::reports`].
#[derive(Debug)]
pub struct ReportService<P, T>(Client<P, T>);

impl<P: TakeReports, T> ReportService<P, T> {
    /// Does the platform recognise this report if it is told twice? For
    /// [`Delivery::deduplicated`](super::Delivery::deduplicated).
    #[must_use]
    pub fn deduplicates(&self, report: &Report) -> bool {
        self.0.platform.deduplicates(report)
    }
}

impl<P, T: Clone> Clone for ReportService<P, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, T> Service<Report> for ReportService<P, T>
where
    P: TakeReports + Send + Sync + 'static,
    T: Transport,
{
    type Response = Outcome;
    type Error = ReportError;
    type Future = BoxFuture<'static, Result<Outcome, ReportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, report: Report) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.report(report).await })
    }
}

/// Creates clicks at a platform; made by [`Client::clicks`].
#[derive(Debug)]
pub struct ClickService<P, T>(Client<P, T>);

impl<P, T: Clone> Clone for ClickService<P, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, T, B> Service<ClickRequest> for ClickService<P, T>
where
    P: CreateClicks + Send + Sync + 'static,
    T: Service<Request<Bytes>, Response = Response<B>>,
    T::Error: Into<BoxError>,
    T::Future: Send + 'static,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = ClickId;
    type Error = Error;
    type Future = BoxFuture<'static, Result<ClickId, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A transport that isn't ready hasn't sent anything.
        self.0.transport.poll_ready(cx).map_err(|_| Error::NotSent)
    }

    fn call(&mut self, click: ClickRequest) -> Self::Future {
        let platform = Arc::clone(&self.0.platform);
        let request = platform.click_request(&click);
        let credentials = credentials(request.headers());
        let response = self.0.transport.call(request);
        Box::pin(async move {
            let answer = read(response, MAX_ANSWER_LEN).await?;
            let secrets = credentials.iter().map(String::as_str);
            let answer = answer.without(secrets.chain([click.key.as_str()]));
            platform.read_click(&answer)
        })
    }
}

/// Waits for the response and reads it, as far as it goes. Of a refusal the status is enough.
async fn read<B, E>(
    response: impl Future<Output = Result<Response<B>, E>>,
    max_len: usize,
) -> Result<Answer, Error>
where
    B: Body,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    let response = response.await.map_err(|error| fate_of(&*error.into()))?;
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, max_len).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) if !parts.status.is_success() => Bytes::new(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Error::Unreadable {
                status: parts.status,
            });
        }
        Err(_) => return Err(Error::FateUnknown),
    };
    let mut answer = Answer::new(parts.status, body);
    answer.retry_after = retry_after(&parts.headers);
    Ok(answer)
}

fn fate_of(error: &(dyn std::error::Error + 'static)) -> Error {
    let never_left = std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error + 'static>::is::<NotSent>);
    if never_left {
        Error::NotSent
    } else {
        Error::FateUnknown
    }
}

/// The wait of a `Retry-After` in either form (RFC 9110 section 10.2.3), capped. A date is taken
/// from the answer's own `Date` if there is one, so that it takes no two clocks to agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let wait = text(RETRY_AFTER)?;
    let wait = if !wait.is_empty() && wait.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a long wait all the same.
        Duration::from_secs(wait.parse().unwrap_or(u64::MAX))
    } else {
        let read = |date| httpdate::parse_http_date(date).ok();
        let now = text(DATE).and_then(read).unwrap_or_else(SystemTime::now);
        read(wait)?.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}
