//! One client for all platforms, over any HTTP transport: it sends what a platform built, and
//! reads no more of an answer than anyone needs.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tower_service::Service;

use super::{Answer, CreateClicks, Error, Outcome, Report, ReportError, Step, TakeReports};
use crate::click::ClickRequest;
use crate::referral::ClickId;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

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

/// A platform over a transport: any Tower service from `http::Request<Bytes>` to an
/// `http::Response`.
///
/// The client follows no redirects, reads at most 64 KiB of an answer and repeats nothing. Cheap
/// to clone.
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
    /// # Errors
    ///
    /// The platform couldn't be told, or refused. [`Outcome::NotAttributed`] is no error.
    pub async fn report<B>(&self, report: impl Into<Report>) -> Result<Outcome, ReportError>
    where
        P: TakeReports,
        T: Service<Request<Bytes>, Response = Response<B>> + Clone,
        T::Error: Into<BoxError>,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let report = report.into();
        let mut is_repeatable = true; // as long as nothing was sent
        let mut step = self.platform.begin(&report);
        loop {
            match step.map_err(|error| ReportError::new(error, is_repeatable))? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Send(request, stage) => {
                    // A request that only asks for something can do no harm twice.
                    is_repeatable =
                        request.method().is_safe() || self.platform.deduplicates(&report);
                    step = match self.send(request).await {
                        Ok(answer) => self.platform.next(&report, stage, &answer),
                        Err(error) => Err(error),
                    };
                }
            }
        }
    }

    /// This platform as a Tower service that takes reports.
    #[must_use]
    pub fn reports(&self) -> ReportService<P, T>
    where
        P: TakeReports,
        T: Clone,
    {
        ReportService(self.clone())
    }

    /// The click service of this platform, for [`Clicks::new`](crate::Clicks::new).
    #[must_use]
    pub fn clicks(&self) -> ClickService<P, T>
    where
        P: CreateClicks,
        T: Clone,
    {
        ClickService(self.clone())
    }
}

impl<P, T> Client<P, T> {
    /// Sends one request on a transport of its own, once that is ready.
    async fn send<B>(&self, request: Request<Bytes>) -> Result<Answer, Error>
    where
        T: Service<Request<Bytes>, Response = Response<B>> + Clone,
        T::Error: Into<BoxError>,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let mut transport = self.transport.clone();
        std::future::poll_fn(|cx| transport.poll_ready(cx))
            .await
            .map_err(|_| Error::NotSent)?;
        read(transport.call(request)).await
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
    type Future = Pin<Box<dyn Future<Output = Result<ClickId, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A transport that isn't ready hasn't sent anything.
        self.0.transport.poll_ready(cx).map_err(|_| Error::NotSent)
    }

    fn call(&mut self, click: ClickRequest) -> Self::Future {
        let platform = Arc::clone(&self.0.platform);
        let response = self.0.transport.call(platform.click_request(&click));
        Box::pin(async move { platform.read_click(&read(response).await?) })
    }
}

/// Tells a platform of sign-ups, sales and refunds; made by [`Client::reports`].
#[derive(Debug)]
pub struct ReportService<P, T>(Client<P, T>);

impl<P, T: Clone> Clone for ReportService<P, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, T, B> Service<Report> for ReportService<P, T>
where
    P: TakeReports + Send + Sync + 'static,
    T: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send + 'static,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Outcome;
    type Error = ReportError;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, ReportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        // A report may take several requests, so each of them waits for the transport.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, report: Report) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.report(report).await })
    }
}

/// Waits for the response and reads it, as far as it goes.
async fn read<B, E>(response: impl Future<Output = Result<Response<B>, E>>) -> Result<Answer, Error>
where
    B: Body,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    let response = response.await.map_err(|error| fate_of(&*error.into()))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_LEN)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Error::Unreadable {
                    status: parts.status,
                }
            } else {
                Error::FateUnknown
            }
        })?;
    Ok(Answer {
        status: parts.status,
        retry_after: retry_after(&parts.headers),
        body: body.to_bytes(),
    })
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

/// The delay of `Retry-After` in seconds (RFC 9110 section 10.2.3). The other form, a date, would
/// have to trust two clocks, and is as if absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
