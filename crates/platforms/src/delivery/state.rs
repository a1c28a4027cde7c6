//! Where a delivery is, and why its last attempt failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Outcome};

/// Where a delivery is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// Nothing is under way.
    Waiting {
        /// The next attempt is due, in milliseconds of Unix time.
        not_before: u64,
        /// Why the last attempt failed; `None` before the first.
        reason: Option<Failure>,
    },
    /// An attempt was begun, and its end isn't known.
    Sending,
    /// The platform has answered, and there is no more to do.
    Done {
        /// What it made of the report.
        outcome: Outcome,
    },
    /// It failed and isn't tried again: somebody has to fix what the reason says.
    Failed {
        /// Why.
        reason: Failure,
    },
    /// It isn't sent again by itself: it may have arrived, and nothing shows whether it did. Somebody
    /// has to look there.
    Ambiguous {
        /// Why.
        reason: Failure,
    },
}

impl DeliveryState {
    pub(super) const WAITING: Self = Self::Waiting {
        not_before: 0,
        reason: None,
    };

    /// Returns the state in lower case: `waiting`, `sending`, `done`, `failed` or `ambiguous`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Sending => "sending",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }
}

/// Why an attempt failed, for the person who reads the list of what is failed or ambiguous.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    text: String,
    #[serde(default)]
    code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Failure {
    pub(super) fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            code: String::new(),
            message: None,
        }
    }

    /// Creates what a delivery keeps of an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let text = match error {
            Error::Rejected { status, .. } => {
                format!("the platform refused the request ({status})")
            }
            error => error.to_string(),
        };
        let said = match error {
            Error::NotSettled(error) => error,
            error => error,
        };
        let message = match said {
            Error::Rejected { message, .. } => message.as_str(),
            _ => "",
        };
        Self {
            text,
            code: error.code().to_owned(),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }
    }

    /// Returns a short name of the error: see [`Error::code`].
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the platform's own words, where it had any. They may hold what was sent to it in
    /// another form: not for logs.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// Without the platform's own words.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Without the platform's own words.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.text).finish()
    }
}
