//! What is to be done about a failure.

use std::time::Duration;

/// What to do about a report that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Send the same report again later: it is safe, and may well succeed.
    Retry {
        /// How much later, if the platform says so; at most one hour.
        after: Option<Duration>,
    },
    /// Don't send it again until somebody has fixed what the error names: the platform would refuse
    /// it again.
    Permanent,
    /// Don't send it again by itself: it may have arrived, and nothing shows whether it did. Somebody
    /// has to look there.
    Ambiguous,
}

impl Advice {
    /// Returns the advice in lower case: `retry`, `permanent` or `ambiguous`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Permanent => "permanent",
            Self::Ambiguous => "ambiguous",
        }
    }
}
