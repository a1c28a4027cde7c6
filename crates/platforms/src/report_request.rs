//! What a client is asked to report, with what is known from before.

use crate::{PlatformIds, Report};

/// A report for a platform, with what is known from before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request does nothing until it is given to a `Client`"]
pub struct ReportRequest {
    pub(crate) report: Report,
    pub(crate) ids: PlatformIds,
    pub(crate) may_have_arrived: bool,
}

impl ReportRequest {
    /// Creates the request of a report that wasn't sent before.
    pub fn new(report: impl Into<Report>) -> Self {
        Self {
            report: report.into(),
            ids: PlatformIds::default(),
            may_have_arrived: false,
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
    /// [ambiguous](crate::Advice::Ambiguous) and nothing is sent.
    pub fn may_have_arrived(mut self, may_have_arrived: bool) -> Self {
        self.may_have_arrived = may_have_arrived;
        self
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

impl From<Report> for ReportRequest {
    fn from(report: Report) -> Self {
        Self::new(report)
    }
}
