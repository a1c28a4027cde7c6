//! What a platform implements, without I/O: which request comes first for a click or a report, what
//! follows from each answer, and what is to be done about a failure.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tower_referral::click::{Click, ClickRequest};

use crate::{Answer, Error, PlatformIds, Receipt, Report, ReportRequest, Unsupported};

/// A platform that can be told of a landing. Partnero isn't one: its clicks come from its own
/// script only.
///
/// ```
/// use bytes::Bytes;
/// use http::{Method, Request, Uri};
/// use tower_referral::click::{Click, ClickRequest};
/// use tower_referral_platforms::{Answer, ClickApi, Error};
///
/// struct InHouse;
///
/// impl ClickApi for InHouse {
///     fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
///         let line = format!("{} {}", click.key(), click.landing_url());
///         let mut request = Request::new(Bytes::from(line));
///         *request.method_mut() = Method::POST;
///         *request.uri_mut() = Uri::from_static("https://partners.example/clicks");
///         request
///     }
///
///     fn read_click(&self, answer: &Answer) -> Result<Click, Error> {
///         answer.accepted()?; // the typed error of a refusal
///         answer.click(["id"])
///     }
/// }
/// ```
pub trait ClickApi {
    /// Returns the request that creates a click.
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes>;

    /// Reads the platform's answer to it.
    ///
    /// # Errors
    ///
    /// The platform refused, or its answer can't be read.
    fn read_click(&self, answer: &Answer) -> Result<Click, Error>;
}

/// A platform that can be told of sign-ups, sales and refunds.
///
/// Implement it for a platform of your own, and [`Client`](crate::Client) does the rest. Most
/// platforms need one request for a report, and no stage:
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tower_referral_platforms::{
///     Answer, Error, PlatformIds, Receipt, Report, ReportApi, Step,
/// };
///
/// struct InHouse;
///
/// impl ReportApi for InHouse {
///     type Stage = ();
///
///     fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
///         let Report::Sale(sale) = report else {
///             return Ok(Receipt::not_attributed().into());
///         };
///         let Some(key) = sale.credit().and_then(|credit| credit.key()) else {
///             return Ok(Receipt::not_attributed().into());
///         };
///         let line = format!("{} {} {key}", sale.order(), sale.amount());
///         let mut request = Request::new(Bytes::from(line));
///         *request.method_mut() = http::Method::POST;
///         *request.uri_mut() = http::Uri::from_static("https://partners.example/sales");
///         Ok(Step::send(request, ()))
///     }
///
///     fn next(
///         &self,
///         _: &Report,
///         _: &PlatformIds,
///         (): (),
///         answer: &Answer,
///     ) -> Result<Step<()>, Error> {
///         if answer.is_conflict() {
///             return Ok(Receipt::duplicate().into());
///         }
///         // Where its documentation puts the ID of what was made. Anything else is a typed error.
///         let mark = answer.shows(["/data/id"])?;
///         Ok(Receipt::recorded(mark).into())
///     }
///
///     fn deduplicates(&self, _: &Report) -> bool {
///         true // orders are unique there
///     }
/// }
/// ```
pub trait ReportApi {
    /// Where an exchange of several requests is; `()` if one request is enough.
    type Stage: Send;

    /// Returns the first request of a report, or the outcome if none is needed. `ids` are what the
    /// platform returned for earlier reports that this one belongs to.
    ///
    /// # Errors
    ///
    /// The platform can't take such a report: [`Error::Unsupported`].
    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Self::Stage>, Error>;

    /// Returns what follows from the answer to the request of this stage. `ids` are those of
    /// [`begin`](Self::begin) and those of earlier [steps](Step::with_ids).
    ///
    /// A `GET` only asks for something and may be repeated, and anything else may not, unless the
    /// platform [deduplicates](Self::deduplicates); the extension [`Repeat`] of a request says
    /// otherwise. Where the platform doesn't deduplicate, let the request that records the report be the
    /// last: should another one fail after it, the report fails, or is sent again.
    ///
    /// # Errors
    ///
    /// The platform refused, or its answer can't be read.
    fn next(
        &self,
        report: &Report,
        ids: &PlatformIds,
        stage: Self::Stage,
        answer: &Answer,
    ) -> Result<Step<Self::Stage>, Error>;

    /// Returns `true` if the platform recognises a duplicate of this report by our ID, so that the
    /// report may be sent again although nobody knows whether it arrived.
    fn deduplicates(&self, report: &Report) -> bool;

    /// Returns the first request that finds out whether this report arrived, where the platform
    /// doesn't deduplicate but has a list. Its stages lead to
    /// [`Outcome::Duplicate`](crate::Outcome::Duplicate), or to [`Error::NotListed`]. A list that
    /// can't be read refuses no report: the client makes [`Error::NotSettled`] of its failures, unless
    /// they are worth another try.
    fn settle(&self, report: &Report, ids: &PlatformIds) -> Option<Step<Self::Stage>> {
        let _ = (report, ids);
        None
    }

    /// Returns a request that changes nothing and that only a right API key can make; `None` if the
    /// platform has none.
    fn check_request(&self) -> Option<Request<Bytes>> {
        None
    }

    /// Reads the answer to it.
    ///
    /// # Errors
    ///
    /// The platform refused it.
    fn read_check(&self, answer: &Answer) -> Result<(), Error> {
        answer.accepted_json()
    }

    /// Returns how many reports one request may carry, where that is more than one.
    fn batch(&self) -> Option<Batch> {
        None
    }

    /// Returns the one request of several reports; at most as many as [`batch`](Self::batch) says.
    ///
    /// # Errors
    ///
    /// The platform can't take such reports together.
    fn batch_request(&self, reports: &[ReportRequest]) -> Result<Request<Bytes>, Error> {
        let _ = reports;
        Err(Error::Unsupported(Unsupported::Batch))
    }

    /// Reads the answer to it: a result for each report, in their order. By default, nobody knows what
    /// an answer means that isn't a refusal.
    fn read_batch(
        &self,
        reports: &[ReportRequest],
        answer: &Answer,
    ) -> Vec<Result<Receipt, Error>> {
        let refused = answer.accepted().err();
        let error = refused.unwrap_or_else(|| answer.unreadable());
        vec![Err(error.of_batch(reports.len())); reports.len()]
    }
}

/// How reports go in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The most reports in one request.
    pub max: usize,
    /// The least time between two requests.
    pub interval: Duration,
}

impl Batch {
    /// Creates the limits of a platform's batches.
    #[must_use]
    pub fn new(max: usize, interval: Duration) -> Self {
        Self { max, interval }
    }
}

/// In the extensions of a request: whether the whole report may be sent again if nobody knows
/// whether this request arrived, whatever its method and the platform's deduplication say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may: this request does no harm a second time.
    Safe,
    /// It may not: for instance a `GET` that changes something.
    Unsafe,
}

/// What comes next for a report. `Debug` shows nothing of the request: its URL may hold a secret.
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives for the time of a call over the network"
)]
pub enum Step<S> {
    /// Send this request, and give its answer to [`ReportApi::next`] with this stage.
    Send {
        /// The request.
        request: Request<Bytes>,
        /// The stage.
        stage: S,
        /// What the answers so far have told: kept even if this request fails.
        ids: PlatformIds,
    },
    /// There is no more to do.
    Done(Receipt),
}

impl<S> Step<S> {
    /// Sends this request, and gives its answer to [`ReportApi::next`] with this stage.
    #[must_use]
    pub fn send(request: Request<Bytes>, stage: S) -> Self {
        Self::Send {
            request,
            stage,
            ids: PlatformIds::default(),
        }
    }

    /// Adds IDs that the platform has given meanwhile.
    #[must_use]
    pub fn with_ids(self, new: PlatformIds) -> Self {
        match self {
            Self::Send {
                request,
                stage,
                ids,
            } => Self::Send {
                request,
                stage,
                ids: new.or(&ids),
            },
            Self::Done(receipt) => {
                let ids = new.or(receipt.ids());
                Self::Done(receipt.with_ids(ids))
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Step<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { stage, ids, .. } => f
                .debug_struct("Send")
                .field("stage", stage)
                .field("ids", ids)
                .finish_non_exhaustive(),
            Self::Done(receipt) => f.debug_tuple("Done").field(receipt).finish(),
        }
    }
}

impl<S> From<Receipt> for Step<S> {
    fn from(receipt: Receipt) -> Self {
        Self::Done(receipt)
    }
}
