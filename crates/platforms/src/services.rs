//! A client as two Tower services: one takes reports, the other clicks.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower_referral::click::{Click, ClickRequest};
use tower_service::Service;

use crate::batches::Batches;
use crate::boxed::BoxFuture;
use crate::{
    Batch, ClickApi, Client, Error, Receipt, Report, ReportApi, ReportError, ReportRequest,
    Transport,
};

impl<P, T> Client<P, T> {
    /// Returns this platform as a Tower service that takes reports, so that layers can be composed
    /// around it. It is always ready: each request waits for the transport by itself.
    #[must_use]
    pub fn reports(&self) -> ReportService<P, T>
    where
        P: ReportApi,
        T: Clone,
    {
        ReportService {
            client: self.clone(),
            batches: Arc::new(Batches::new()),
        }
    }

    /// Returns the click service of this platform, for
    /// [`Clicks::new`](tower_referral::click::Clicks::new). It is always ready: each click waits for the
    /// transport by itself.
    #[must_use]
    pub fn clicks(&self) -> ClickService<P, T>
    where
        P: ClickApi,
        T: Clone,
    {
        ClickService(self.clone())
    }
}

/// Tells a platform of reports; made by [`Client::reports`].
///
/// Where the platform takes [batches](Self::batch), reports wait here for the next one, and an answer
/// may take as long as the time between two: have one service, and clone it, and give many reports to
/// it at a time.
#[derive(Debug)]
pub struct ReportService<P, T> {
    client: Client<P, T>,
    batches: Arc<Batches>,
}

impl<P: ReportApi, T> ReportService<P, T> {
    /// Returns `true` if the platform recognises a duplicate of this report.
    #[must_use]
    pub fn deduplicates(&self, report: &Report) -> bool {
        self.client.platform().deduplicates(report)
    }

    /// Returns how many reports one request may carry, where that is more than one; for
    /// [`Client::report_batch`].
    #[must_use]
    pub fn batch(&self) -> Option<Batch> {
        self.client.platform().batch()
    }

    /// Returns the client.
    #[must_use]
    pub fn client(&self) -> &Client<P, T> {
        &self.client
    }
}

impl<P, T: Clone> Clone for ReportService<P, T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            batches: Arc::clone(&self.batches),
        }
    }
}

impl<P, T> Service<ReportRequest> for ReportService<P, T>
where
    P: ReportApi + Send + Sync + 'static,
    T: Transport,
{
    type Response = Receipt;
    type Error = ReportError;
    type Future = BoxFuture<'static, Result<Receipt, ReportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ReportRequest) -> Self::Future {
        let client = self.client.clone();
        let Some(batch) = self.batch() else {
            return Box::pin(async move { client.send_report(&request).await });
        };
        let batches = Arc::clone(&self.batches);
        Box::pin(async move { batches.send(client, batch, request).await })
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

impl<P, T> Service<ClickRequest> for ClickService<P, T>
where
    P: ClickApi + Send + Sync + 'static,
    T: Transport,
{
    type Response = Click;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Click, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, click: ClickRequest) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.create_click(&click).await })
    }
}
