//! The error of a report, which says what to do about it.

use std::fmt;

use crate::{Advice, Error, PlatformIds};

/// Why a report failed, and what to do about it.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::{Advice, ReportError};
///
/// /// For a queue of your own; [`deliver`](super::deliver) does all of it for any other.
/// fn next_try(error: &ReportError) -> Option<Duration> {
///     match error.advice() {
///         Advice::Retry { after } => Some(after.unwrap_or(Duration::from_secs(60))),
///         _ => {
///             eprintln!("for a person to look at: {error}");
///             None
///         }
///     }
/// }
/// ```
///
/// Neither `Debug` nor `Display` shows anything that came from the visitor, nor the API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportError {
    error: Error,
    advice: Advice,
    can_be_settled: bool,
    ids: Box<PlatformIds>,
}

impl ReportError {
    /// Creates the error of a report; `is_repeatable` as for [`Error::advice`].
    pub(crate) fn new(error: Error, is_repeatable: bool) -> Self {
        Self {
            advice: error.advice(is_repeatable),
            error,
            can_be_settled: false,
            ids: Box::default(),
        }
    }

    pub(crate) fn with_ids(mut self, ids: PlatformIds) -> Self {
        *self.ids = ids;
        self
    }

    pub(crate) fn settled_by_list(mut self, can_be_settled: bool) -> Self {
        let was_asked = matches!(self.error, Error::NotListed | Error::NotSettled(_));
        self.can_be_settled = can_be_settled && self.advice == Advice::Ambiguous && !was_asked;
        self
    }

    /// Returns what happened.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns what to do about it. It takes into account whether the platform recognises a
    /// duplicate of this report, and whether the request that failed changes anything.
    #[must_use]
    pub fn advice(&self) -> Advice {
        self.advice
    }

    /// Returns `true` if the platform has a list that tells whether an ambiguous report arrived:
    /// send it with [`ReportRequest::may_have_arrived`](crate::ReportRequest::may_have_arrived).
    #[must_use]
    pub fn can_be_settled(&self) -> bool {
        self.can_be_settled
    }

    /// Returns `true` if the failure would meet every other report as well: see
    /// [`Error::pauses_platform`].
    #[must_use]
    pub fn pauses_platform(&self) -> bool {
        self.error.pauses_platform()
    }

    /// Returns the IDs that the platform gave before the failure, to be handed in the next time.
    #[must_use]
    pub fn ids(&self) -> &PlatformIds {
        &self.ids
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ReportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
