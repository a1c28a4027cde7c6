//! How a platform takes reports, without I/O: which request comes first, and what follows from each
//! answer. And what is to be done about a report that failed, decided in one place.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::{Answer, Error, Outcome, Report};

/// A platform that can be told of sign-ups, sales and refunds.
///
/// Implement it for a platform of your own, and [`Client`](super::Client) does the rest. Most
/// platforms need one request for a report, and no stage:
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tower_referral_platforms::{Answer, Error, Outcome, Report, Step, TakeReports};
///
/// struct InHouse;
///
/// impl TakeReports for InHouse {
///     type Stage = ();
///
///     fn begin(&self, report: &Report) -> Result<Step<()>, Error> {
///         let Report::Sale(sale) = report else {
///             return Ok(Step::Done(Outcome::NotAttributed));
///         };
///         let Some(credit) = sale.credited_to() else {
///             return Ok(Step::Done(Outcome::NotAttributed));
///         };
///         let line = format!("{} {} {}", sale.order(), sale.amount(), credit.key());
///         let mut request = Request::new(Bytes::from(line));
///         *request.method_mut() = http::Method::POST;
///         *request.uri_mut() = http::Uri::from_static("https://partners.example/sales");
///         Ok(Step::Send(request, ()))
///     }
///
///     fn next(&self, _: &Report, (): (), answer: &Answer) -> Result<Step<()>, Error> {
///         if answer.status() == http::StatusCode::CONFLICT {
///             return Ok(Step::Done(Outcome::Duplicate));
///         }
///         answer.accepted()?; // the typed error of everything that isn't a success
///         Ok(Step::Done(Outcome::Recorded { id: None }))
///     }
///
///     fn deduplicates(&self, _: &Report) -> bool {
///         true // orders are unique there
///     }
/// }
/// ```
pub trait TakeReports {
    /// Where an exchange of several requests is; `()` if one request does it.
    type Stage: Send;

    /// The first request of a report, or what becomes of it without any.
    ///
    /// # Errors
    ///
    /// The platform can't take such a report: [`Error::Unsupported`].
    fn begin(&self, report: &Report) -> Result<Step<Self::Stage>, Error>;

    /// What follows from the answer to the request of this stage. A request that asks for something
    /// and changes nothing is a `GET`; the client goes by that.
    ///
    /// # Errors
    ///
    /// The platform refused, or its answer can't be read.
    fn next(
        &self,
        report: &Report,
        stage: Self::Stage,
        answer: &Answer,
    ) -> Result<Step<Self::Stage>, Error>;

    /// May this report be sent again, although nobody knows what became of it the first time?
    /// Only if the platform recognises it by our ID.
    fn deduplicates(&self, report: &Report) -> bool;
}

/// In the extensions of a request of [`Step::Send`]: the whole report may be sent again if nobody
/// knows what became of this request, although the platform wouldn't recognise the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafeToRepeat;

/// What comes next for a report.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives for the time of a call over the network"
)]
pub enum Step<S> {
    /// Send this request, and give its answer to [`TakeReports::next`] with this stage.
    Send(Request<Bytes>, S),
    /// There is no more to do.
    Done(Outcome),
}

/// What to do about a report that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Try the same report again later: it is safe, and may well succeed.
    Later {
        /// The platform's own word on how much later, at most one hour.
        after: Option<Duration>,
    },
    /// Don't try again until somebody has mended what the error names: the platform would refuse it
    /// again.
    Dead,
    /// Don't try again: it may have arrived, and the platform would record it twice. Somebody has
    /// to look there.
    Undecided,
}

impl Advice {
    /// The advice in lower case: `later`, `dead` or `undecided`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Later { .. } => "later",
            Self::Dead => "dead",
            Self::Undecided => "undecided",
        }
    }
}

impl Error {
    /// What to do about a report that failed like this; `deduplicates` says whether the platform
    /// recognises a report that it was told twice.
    #[must_use]
    pub fn advice(&self, deduplicates: bool) -> Advice {
        let fate_unknown = |after| {
            if deduplicates {
                Advice::Later { after }
            } else {
                Advice::Undecided
            }
        };
        match self {
            Self::NotSent => Advice::Later { after: None },
            Self::RateLimited { retry_after } => Advice::Later {
                after: *retry_after,
            },
            Self::FateUnknown | Self::Unreadable { .. } => fate_unknown(None),
            // A proxy's word for a request that it may have handed on.
            Self::Rejected {
                status,
                retry_after,
                ..
            } if status.is_server_error() || status.as_u16() == 408 => fate_unknown(*retry_after),
            Self::Rejected { .. }
            | Self::Unauthorized { .. }
            | Self::UnknownKey(_)
            | Self::Unsupported(_)
            | Self::ForeignLink => Advice::Dead,
        }
    }
}

/// Why a report came to nothing, and what to do about it.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::{Advice, ReportError};
///
/// /// For a queue of your own; [`deliver`](super::deliver) does all of it for any other.
/// fn next_try(error: &ReportError) -> Option<Duration> {
///     match error.advice() {
///         Advice::Later { after } => Some(after.unwrap_or(Duration::from_secs(60))),
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
}

impl ReportError {
    /// `is_repeatable`: would a second copy do no harm, whatever became of the first?
    pub(crate) fn new(error: Error, is_repeatable: bool) -> Self {
        Self {
            advice: error.advice(is_repeatable),
            error,
        }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &Error {
        &self.error
    }

    /// What to do about it. It takes into account whether the platform recognises this report if it
    /// is told twice, and whether the request that failed only asked for something.
    #[must_use]
    pub fn advice(&self) -> Advice {
        self.advice
    }

    /// May the same report be sent again?
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        matches!(self.advice, Advice::Later { .. })
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

/// What a platform's interface has no call for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The platform takes back whole sales only (Partnero).
    PartialRefund,
    /// More goes back than is left of the sale.
    RefundOverSale,
    /// The refund isn't in the currency of the sale.
    RefundInOtherCurrency,
    /// What was asked for isn't the ID of anything: see [`InvalidId`](super::InvalidId).
    NotAnId,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PartialRefund => {
                "this platform takes back whole sales only: make the partial refund by hand there, \
                 or refund the whole order"
            }
            Self::RefundOverSale => {
                "more goes back than the platform knows to be left of the sale: look there what \
                 was refunded before"
            }
            Self::RefundInOtherCurrency => {
                "the refund isn't in the currency that the sale was reported in: convert it first"
            }
            Self::NotAnId => {
                "not an ID: an ID has 1 to 128 characters, none of them a control character"
            }
        })
    }
}
