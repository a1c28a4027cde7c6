//! What a client is asked to report, with what is known from before.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use crate::{PlatformIds, Report};

/// A report for a platform, with what is known from before.
#[derive(Clone)]
#[must_use = "a request does nothing until it is given to a `Client`"]
pub struct ReportRequest {
    pub(crate) report: Report,
    pub(crate) ids: PlatformIds,
    pub(crate) may_have_arrived: bool,
    sale_is_unrecorded: bool,
    id_sink: Option<IdSink>,
}

impl ReportRequest {
    /// Creates the request of a report that wasn't sent before.
    pub fn new(report: impl Into<Report>) -> Self {
        Self {
            report: report.into(),
            ids: PlatformIds::default(),
            may_have_arrived: false,
            sale_is_unrecorded: false,
            id_sink: None,
        }
    }

    /// Hands in the IDs that the platform returned for reports before this one: for its customer's
    /// sign-up, for its sale, or for an attempt of this report itself.
    pub fn with_ids(mut self, ids: PlatformIds) -> Self {
        self.ids = ids;
        self
    }

    /// Says that an earlier attempt was begun whose end isn't known. A platform that deduplicates is
    /// told again, one that has a list is asked, and for any other the report is
    /// [ambiguous](crate::Advice::Ambiguous) and nothing is sent. Only an answer to the report itself
    /// refuses it then: any other failure is worth a retry, or ambiguous.
    pub fn may_have_arrived(mut self, may_have_arrived: bool) -> Self {
        self.may_have_arrived = may_have_arrived;
        self
    }

    /// Says that the platform is known not to have the sale that a refund, a reversal or an update is
    /// about: it was credited to nobody, or failed. A platform that needs its own ID of it is told
    /// nothing then, and the outcome is [`NotAttributed`](crate::Outcome::NotAttributed). Otherwise the
    /// sale may be there, and without the ID the report is [`Error::MissingId`](crate::Error::MissingId).
    pub fn sale_is_unrecorded(mut self, is_unrecorded: bool) -> Self {
        self.sale_is_unrecorded = is_unrecorded;
        self
    }

    /// Returns `true` if the report is about a sale that the platform is known not to have.
    pub(crate) fn is_about_unrecorded(&self) -> bool {
        let is_about_sale = match self.report {
            Report::Refund(_) | Report::RefundReversal(_) | Report::SaleUpdate(_) => true,
            Report::SignUp(_) | Report::Sale(_) | Report::Cancellation(_) => false,
        };
        is_about_sale && self.sale_is_unrecorded
    }

    /// Has the IDs that the platform returns between two calls told at once, and not only with the
    /// result.
    pub(crate) fn with_id_sink(mut self, id_sink: IdSink) -> Self {
        self.id_sink = Some(id_sink);
        self
    }

    /// Tells whoever keeps the report of IDs that the platform has returned, and waits until they are
    /// stored.
    pub(crate) async fn tell_ids(&self, ids: &PlatformIds) {
        if let Some(IdSink(sink)) = &self.id_sink {
            let (stored, is_stored) = oneshot::channel();
            if sink.send((ids.clone(), stored)).is_ok() {
                // Nobody stores them any more: they go with the result.
                let _ = is_stored.await;
            }
        }
    }

    /// Returns the report.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Returns the IDs that were handed in.
    #[must_use]
    pub fn ids(&self) -> &PlatformIds {
        &self.ids
    }
}

/// Without where its IDs are told.
impl PartialEq for ReportRequest {
    fn eq(&self, other: &Self) -> bool {
        self.report == other.report
            && self.ids == other.ids
            && self.may_have_arrived == other.may_have_arrived
            && self.sale_is_unrecorded == other.sale_is_unrecorded
    }
}

impl Eq for ReportRequest {}

impl fmt::Debug for ReportRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportRequest")
            .field("report", &self.report)
            .field("ids", &self.ids)
            .field("may_have_arrived", &self.may_have_arrived)
            .field("sale_is_unrecorded", &self.sale_is_unrecorded)
            .finish_non_exhaustive()
    }
}

impl From<Report> for ReportRequest {
    fn from(report: Report) -> Self {
        Self::new(report)
    }
}

/// Where IDs are told, with what says that they are stored.
#[derive(Clone)]
pub(crate) struct IdSink(mpsc::UnboundedSender<(PlatformIds, oneshot::Sender<()>)>);

/// The IDs that are told at an [`IdSink`].
pub(crate) struct ToldIds(mpsc::UnboundedReceiver<(PlatformIds, oneshot::Sender<()>)>);

impl ToldIds {
    pub(crate) fn channel() -> (IdSink, Self) {
        let (sink, told) = mpsc::unbounded_channel();
        (IdSink(sink), Self(told))
    }

    /// Returns the next IDs; never, once nobody can tell any.
    pub(crate) async fn next(&mut self) -> (PlatformIds, oneshot::Sender<()>) {
        match self.0.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}
