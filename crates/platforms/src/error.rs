//! What can be wrong with a call to a platform: each error says whether a repeat is safe and whether the
//! platform is to be left alone.

use std::{fmt, time::Duration};

use http::StatusCode;
use tower_referral::click::UnknownKey;

use crate::{Advice, Message, Unsupported};

/// Why a call to a platform failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request provably never left.
    NotSent,
    /// The request left, and no whole answer came: whether the platform took it is unknown.
    UnknownOutcome,
    /// An earlier attempt may have arrived, and the platform's list doesn't show it (yet).
    NotListed,
    /// An earlier attempt may have arrived, and this one ended with this failure before the platform
    /// said whether it has the report: its list can't be read, for instance.
    NotSettled(Box<Error>),
    /// The platform wants fewer requests (429).
    RateLimited {
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The platform doesn't take the API key (401, 403).
    Unauthorized {
        /// The answer's status.
        status: StatusCode,
    },
    /// Something is wrong with the account or the URL: a payment is due (402), or the answer is a
    /// redirect (3xx), which isn't followed. Only a 301, a 307 and a 308 say that the request has yet
    /// to be performed; of the other redirects it isn't known.
    Account {
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer is an HTML page: it comes from a proxy or a login page and not from the
    /// platform's interface.
    HtmlPage {
        /// The answer's status.
        status: StatusCode,
    },
    /// The platform doesn't know the referral key.
    UnknownKey(UnknownKey),
    /// The platform refused the request.
    Rejected {
        /// The answer's status.
        status: StatusCode,
        /// The platform's own words.
        message: Message,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The platform refused several reports as a whole and took none of them, perhaps because of a
    /// single one: they go again in smaller batches.
    BatchRefused {
        /// The answer's status.
        status: StatusCode,
        /// The platform's own words.
        message: Message,
    },
    /// The platform needs its own ID of this (`customer`, `sale`, `click`), which nobody has handed in:
    /// see [`PlatformIds`](crate::PlatformIds). Of what is about a sale, it isn't known whether the
    /// platform has that: see
    /// [`sale_is_unrecorded`](crate::ReportRequest::sale_is_unrecorded).
    MissingId(&'static str),
    /// The platform can't take such a report; nothing was sent that changes anything.
    Unsupported(Unsupported),
    /// A list goes on at another host, which the API key must not be sent to.
    ForeignLink,
    /// A list repeats itself: a page came a second time.
    EndlessList,
    /// The platform's answer can't be read: whether it took the request is unknown.
    Unreadable {
        /// The answer's status.
        status: StatusCode,
    },
}

impl Error {
    /// Returns `true` if the failure is about the account or the way to the platform and would meet
    /// every other report as well (401, 402, 403, 3xx, 429, an HTML page): a queue should pause the
    /// platform. What becomes of this report is in its [advice](Self::advice).
    #[must_use]
    pub fn pauses_platform(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Unauthorized { .. }
                | Self::Account { .. }
                | Self::HtmlPage { .. }
        )
    }

    /// Returns how long the platform wants to be left alone, if it says so; at most one hour.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns a short name of the error in snake case, for a column or a metric.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::UnknownOutcome => "unknown_outcome",
            Self::NotListed => "not_listed",
            Self::NotSettled(_) => "not_settled",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Account { .. } => "account",
            Self::HtmlPage { .. } => "html_page",
            Self::UnknownKey(_) => "unknown_key",
            Self::Rejected { .. } => "rejected",
            Self::BatchRefused { .. } => "batch_refused",
            Self::MissingId(_) => "missing_id",
            Self::Unsupported(_) => "unsupported",
            Self::ForeignLink => "foreign_link",
            Self::EndlessList => "endless_list",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Returns what to do about a report that failed like this. `is_repeatable` says whether a second copy
    /// does no harm, whether the first arrived or not: for instance because the platform recognises a
    /// duplicate.
    #[must_use]
    pub fn advice(&self, is_repeatable: bool) -> Advice {
        let unknown = |after| {
            if is_repeatable {
                Advice::Retry { after }
            } else {
                Advice::Ambiguous
            }
        };
        match self {
            // A redirect may be the answer to a request that was performed (RFC 9110, section 15.4).
            Self::Account { status } if !is_before_performing(*status) => unknown(None),
            Self::NotSent
            | Self::Unauthorized { .. }
            | Self::Account { .. }
            | Self::BatchRefused { .. } => Advice::Retry { after: None },
            Self::RateLimited { retry_after } => Advice::Retry {
                after: *retry_after,
            },
            Self::NotListed | Self::NotSettled(_) => Advice::Ambiguous,
            // A proxy that refuses a request doesn't hand it on.
            Self::HtmlPage { status }
                if status.is_client_error() && *status != StatusCode::REQUEST_TIMEOUT =>
            {
                Advice::Retry { after: None }
            }
            Self::UnknownOutcome | Self::Unreadable { .. } | Self::HtmlPage { .. } => unknown(None),
            // A proxy's answer to a request that it may have handed on, or a status of which nobody
            // knows what it means.
            Self::Rejected {
                status,
                retry_after,
                ..
            } if !is_refusal(*status) => unknown(*retry_after),
            Self::Rejected { .. }
            | Self::UnknownKey(_)
            | Self::MissingId(_)
            | Self::Unsupported(_)
            | Self::ForeignLink
            | Self::EndlessList => Advice::Permanent,
        }
    }
}

/// Returns `true` if a request with such an answer was turned away before it was performed: a payment
/// is due, or the request has to go to another URL, as where plain HTTP is led to HTTPS.
fn is_before_performing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 402 | 301 | 307 | 308)
}

/// Returns `true` if such a status refuses what was asked. A 2xx does where its body says no.
fn is_refusal(status: StatusCode) -> bool {
    status.is_success() || status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT
}

impl Error {
    /// Returns what a failure means that says nothing of the report itself: where an earlier attempt may
    /// have arrived, a permanent one is [`NotSettled`](Self::NotSettled).
    pub(crate) fn unsettled(self, may_have_arrived: bool) -> Self {
        if may_have_arrived && self.advice(true) == Advice::Permanent {
            Self::NotSettled(Box::new(self))
        } else {
            self
        }
    }

    /// Returns what the refusal of a request with so many reports means for each of them.
    pub(crate) fn of_batch(self, reports: usize) -> Self {
        let is_permanent = self.advice(false) == Advice::Permanent;
        match self {
            Self::Rejected {
                status, message, ..
            } if reports > 1 && is_permanent => Self::BatchRefused { status, message },
            error => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str(
                "the platform could not be reached: check its base URL and this host's network",
            ),
            Self::UnknownOutcome => f.write_str(
                "the request left and no answer came: look at the platform whether it arrived",
            ),
            Self::NotListed => f.write_str(
                "an earlier attempt may have arrived, and the platform's list doesn't show it: \
                 look at the platform, and send it again if it isn't there",
            ),
            Self::NotSettled(error) => {
                f.write_str(
                    "an earlier attempt may have arrived, and it couldn't be found out whether it \
                     did (",
                )?;
                match &**error {
                    // Its own words are for those who may see them.
                    Self::Rejected { status, .. } => {
                        write!(f, "the platform refused the request ({status})")?;
                    }
                    error => error.fmt(f)?,
                }
                f.write_str("): look at the platform, and send it again if it isn't there")
            }
            Self::RateLimited { retry_after: None } => {
                f.write_str("the platform is rate limiting: try again later")
            }
            Self::RateLimited {
                retry_after: Some(wait),
            } => write!(
                f,
                "the platform is rate limiting: try again in {} seconds",
                wait.as_secs()
            ),
            Self::Unauthorized { status } => write!(
                f,
                "the platform refused the API key ({status}): check that it is the right one, and \
                 for this program"
            ),
            Self::Account { status } if is_before_performing(*status) => write!(
                f,
                "the platform turned the request away ({status}): check the account and its \
                 payments, and the base URL"
            ),
            Self::Account { status } => write!(
                f,
                "the platform redirects ({status}), which doesn't say whether it took the request: \
                 look there whether it arrived, and check the base URL"
            ),
            Self::HtmlPage { status } => write!(
                f,
                "an HTML page came in the place of an answer ({status}): check the base URL, the \
                 API key, and proxies on the way"
            ),
            Self::UnknownKey(error) => error.fmt(f),
            Self::Rejected { status, .. } => write!(
                f,
                "the platform refused the request ({status}): its own words are in `message`"
            ),
            Self::Unreadable { status } => write!(
                f,
                "the platform's answer ({status}) can't be read: look there whether the request \
                 arrived"
            ),
            Self::BatchRefused { status, .. } => write!(
                f,
                "the platform refused several reports in one request ({status}): they go again in \
                 smaller batches"
            ),
            Self::MissingId(what) => write!(
                f,
                "the platform needs its own ID of the {what}, which isn't known here: hand in the \
                 IDs that it gave, or look there"
            ),
            Self::Unsupported(what) => what.fmt(f),
            Self::ForeignLink => f.write_str(
                "the platform's list goes on at another host, where the API key isn't sent: check \
                 the base URL",
            ),
            Self::EndlessList => f.write_str(
                "the platform's list repeats itself: what was read up to here may not be all of \
                 it; ask the platform",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownKey(error) => Some(error),
            _ => None,
        }
    }
}
