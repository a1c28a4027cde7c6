//! What a worker gives its reports to: a platform's service, or one with layers around it.

use std::task::{Context, Poll};

use tower_referral_platforms::{Batch, Receipt, Report, ReportError, ReportRequest, ReportService};
use tower_service::Service;

/// A platform's [`ReportService`], or any Tower service around it: what a worker gives its reports
/// to.
pub trait Deduplicates:
    Service<ReportRequest, Response = Receipt, Error = ReportError, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
    /// Returns `true` if the platform recognises a duplicate of this report, so that it may be sent
    /// again after a crash.
    fn deduplicates(&self, report: &Report) -> bool;

    /// Returns how many reports go in one request, where that is more than one: the worker has as many
    /// in hand then. `None` by default.
    ///
    /// The time between two batches is kept by the service, so by one process: have the worker in one.
    /// A worker that is killed leaves up to a batch [ambiguous](crate::State::Ambiguous) at a platform
    /// that doesn't deduplicate, and nothing at one that does.
    fn batch(&self) -> Option<Batch> {
        None
    }
}

impl<P, T> Deduplicates for ReportService<P, T>
where
    Self: Service<ReportRequest, Response = Receipt, Error = ReportError, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    P: tower_referral_platforms::ReportApi,
{
    fn deduplicates(&self, report: &Report) -> bool {
        Self::deduplicates(self, report)
    }

    fn batch(&self) -> Option<Batch> {
        Self::batch(self)
    }
}

/// A service with layers (timeouts, tracing) around a platform's, such as [`ReportService`]: reports go
/// through `service`; `reports` says what is deduplicated and batched.
#[derive(Clone, Debug)]
pub struct Layered<S, R> {
    service: S,
    reports: R,
}

impl<S, R> Layered<S, R> {
    /// Creates a service that sends through `service`, which ends in `reports`.
    #[must_use]
    pub fn new(service: S, reports: R) -> Self {
        Self { service, reports }
    }
}

impl<S, R> Service<ReportRequest> for Layered<S, R>
where
    S: Service<ReportRequest, Response = Receipt, Error = ReportError>,
{
    type Response = Receipt;
    type Error = ReportError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: ReportRequest) -> S::Future {
        self.service.call(request)
    }
}

impl<S, R> Deduplicates for Layered<S, R>
where
    S: Service<ReportRequest, Response = Receipt, Error = ReportError, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    R: Deduplicates,
{
    fn deduplicates(&self, report: &Report) -> bool {
        self.reports.deduplicates(report)
    }

    fn batch(&self) -> Option<Batch> {
        self.reports.batch()
    }
}
