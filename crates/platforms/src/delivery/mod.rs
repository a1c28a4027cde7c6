//! The delivery of one report that must not be lost, whatever queue it waits in: what is known of
//! it, what may be done next, and the result of an attempt. The queue, the database and the clock
//! that wakes a waiting report are the caller's.

mod state;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use tower_service::Service;

pub use self::state::{DeliveryState, Failure};
use crate::report::first_version;
use crate::report_request::ToldIds;
use crate::{
    Advice, Error, Outcome, PlatformIds, Receipt, Report, ReportError, ReportRequest, Retries,
};

/// The version of the JSON form.
const VERSION: u32 = 1;

/// A report on its way to the platform, and all that is known of the way: the one value to keep
/// durably until it is [finished](Self::is_finished). It can be stored as JSON and read back; the
/// form lasts as that of [`Report`] does.
///
/// What is promised, whenever the process is killed:
///
/// - A platform that recognises duplicates ([`ReportApi::deduplicates`](crate::ReportApi)) hears of
///   the report at least once, and records it once.
/// - Any other records it at most once. If an attempt was begun and its end isn't known, the
///   platform's list is asked where it has one; what that doesn't show is
///   [ambiguous](DeliveryState::Ambiguous), and stays so until a person has looked.
///
/// Both rest on two things that the caller sees to. What [`DeliveryStore::save`] was given is there
/// after a crash; and a report is in one worker's hands at a time, so that one that is read back as
/// [sending](DeliveryState::Sending) was in the hands of a worker that is gone.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[must_use = "a delivery does nothing until it is given to `deliver`"]
pub struct Delivery {
    version: u32,
    report: Report,
    attempts: u32,
    /// An earlier attempt may have arrived.
    may_have_arrived: bool,
    #[serde(skip_serializing_if = "PlatformIds::is_empty")]
    ids: PlatformIds,
    /// Only as of now.
    #[serde(skip)]
    sale_is_unrecorded: bool,
    #[serde(flatten)]
    state: DeliveryState,
}

impl Delivery {
    /// Creates the delivery of `report`, not begun yet.
    pub fn new(report: impl Into<Report>) -> Self {
        Self {
            version: VERSION,
            report: report.into(),
            attempts: 0,
            may_have_arrived: false,
            ids: PlatformIds::default(),
            sale_is_unrecorded: false,
            state: DeliveryState::WAITING,
        }
    }

    /// Restores a delivery of which the caller keeps the parts, in columns of a table for instance: it is
    /// waiting, and due. `attempts` and `may_have_arrived` are what [`attempts`](Self::attempts) and
    /// [`may_have_arrived`](Self::may_have_arrived) returned when it was last saved. Where it was saved as
    /// [sending](DeliveryState::Sending), `may_have_arrived` is `true`: the worker is gone, and whether
    /// it sent the report isn't known. The IDs are handed in by [`with_ids`](Self::with_ids).
    ///
    /// ```
    /// use tower_referral_platforms::{Delivery, Report};
    ///
    /// struct Row {
    ///     report: String,
    ///     attempts: u32,
    ///     is_sending: bool,
    ///     may_have_arrived: bool,
    /// }
    ///
    /// fn restore(row: Row) -> Result<Delivery, serde_json::Error> {
    ///     let report: Report = serde_json::from_str(&row.report)?;
    ///     let may_have_arrived = row.may_have_arrived || row.is_sending;
    ///     Ok(Delivery::resumed(report, row.attempts, may_have_arrived))
    /// }
    /// # let report = r#"{"kind": "sign_up", "customer": "C1"}"#.to_owned();
    /// # let row = Row { report, attempts: 1, is_sending: true, may_have_arrived: false };
    /// # assert!(restore(row).unwrap().may_have_arrived());
    /// ```
    pub fn resumed(report: impl Into<Report>, attempts: u32, may_have_arrived: bool) -> Self {
        Self {
            attempts,
            may_have_arrived,
            ..Self::new(report)
        }
    }

    /// Hands in the IDs that the platform returned for reports that this one belongs to: for its
    /// customer's sign-up, for its sale. They are kept with this delivery's own.
    pub fn with_ids(mut self, ids: &PlatformIds) -> Self {
        self.ids = self.ids.or(ids);
        self
    }

    /// Says that the platform is known not to have the sale that this report is about: see
    /// [`ReportRequest::sale_is_unrecorded`]. It isn't stored with the delivery, because it may change:
    /// say it before each attempt.
    pub fn sale_is_unrecorded(mut self, is_unrecorded: bool) -> Self {
        self.sale_is_unrecorded = is_unrecorded;
        self
    }

    /// Returns what is delivered.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Returns where the delivery is.
    #[must_use]
    pub fn state(&self) -> &DeliveryState {
        &self.state
    }

    /// Returns how many attempts were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns `true` if an attempt that has ended may have reached a platform that doesn't recognise
    /// duplicates, so that the next one must not just send the report again.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        self.may_have_arrived
    }

    /// Returns the IDs that the platform returned for this report, and those that were handed in.
    #[must_use]
    pub fn ids(&self) -> &PlatformIds {
        &self.ids
    }

    /// Returns `true` if no further automatic attempt follows.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(
            self.state,
            DeliveryState::Waiting { .. } | DeliveryState::Sending
        )
    }

    /// Has a failed or ambiguous report sent again, after somebody has looked at it: all its
    /// attempts are before it once more. Anything else stays as it is.
    pub fn send_again(&mut self) {
        if let DeliveryState::Failed { reason } | DeliveryState::Ambiguous { reason } = &self.state
        {
            self.state = DeliveryState::Waiting {
                not_before: 0,
                reason: Some(reason.clone()),
            };
            self.attempts = 0;
            self.may_have_arrived = false;
        }
    }

    /// Begins an attempt, or says why none may begin.
    fn begin(&mut self, retries: &Retries, now: SystemTime) -> Result<(), DeliveryOutcome> {
        match &self.state {
            DeliveryState::Waiting { not_before, .. } => {
                let wait = Duration::from_millis(not_before.saturating_sub(unix_millis(now)));
                if !wait.is_zero() {
                    // A clock that was set back puts nothing off for good.
                    return Err(DeliveryOutcome::Retry {
                        after: wait.min(retries.longest()),
                        pauses_platform: false,
                    });
                }
            }
            // The worker is gone, and whether the request was sent isn't known.
            DeliveryState::Sending => self.may_have_arrived = true,
            DeliveryState::Done { outcome } => {
                let receipt = Receipt::stored(*outcome).with_ids(self.ids.clone());
                return Err(DeliveryOutcome::Done(receipt));
            }
            DeliveryState::Failed { .. } => return Err(DeliveryOutcome::Failed),
            DeliveryState::Ambiguous { .. } => return Err(DeliveryOutcome::Ambiguous),
        }
        self.attempts = self.attempts.saturating_add(1);
        self.state = DeliveryState::Sending;
        Ok(())
    }

    fn request(&self) -> ReportRequest {
        ReportRequest::new(self.report.clone())
            .with_ids(self.ids.clone())
            .may_have_arrived(self.may_have_arrived)
            .sale_is_unrecorded(self.sale_is_unrecorded)
    }

    /// Takes in the result of the attempt.
    fn end(
        &mut self,
        result: Result<Receipt, ReportError>,
        retries: &Retries,
        now: SystemTime,
    ) -> DeliveryOutcome {
        let error = match result {
            Ok(receipt) => {
                self.ids = receipt.ids().clone().or(&self.ids);
                self.state = DeliveryState::Done {
                    outcome: receipt.outcome(),
                };
                return DeliveryOutcome::Done(receipt);
            }
            Err(error) => error,
        };
        self.ids = error.ids().clone().or(&self.ids);
        let pauses_platform = error.pauses_platform();
        let reason = Failure::of(error.error());
        let after = match error.advice() {
            Advice::Retry { after } => after,
            Advice::Ambiguous if error.can_be_settled() => {
                self.may_have_arrived = true;
                None
            }
            Advice::Permanent => {
                self.state = DeliveryState::Failed { reason };
                return DeliveryOutcome::Failed;
            }
            Advice::Ambiguous => {
                self.state = DeliveryState::Ambiguous { reason };
                return DeliveryOutcome::Ambiguous;
            }
        };
        // Without a connection nothing was asked of the platform, and any other report would fail too.
        let is_about_all = pauses_platform || *error.error() == Error::NotSent;
        if is_about_all || retries.allows_after(self.attempts) {
            let after = retries.wait(self.attempts, after, &self.report.id());
            self.state = DeliveryState::Waiting {
                not_before: unix_millis(now + after),
                reason: Some(reason),
            };
            DeliveryOutcome::Retry {
                after,
                pauses_platform,
            }
        } else if self.may_have_arrived {
            self.state = DeliveryState::Ambiguous { reason };
            DeliveryOutcome::Ambiguous
        } else {
            self.state = DeliveryState::Failed { reason };
            DeliveryOutcome::Failed
        }
    }
}

impl<'de> Deserialize<'de> for Delivery {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// What a state has, each part of it where it is there.
        #[derive(Deserialize)]
        struct Stored {
            #[serde(default = "first_version")]
            version: u32,
            report: Report,
            #[serde(default)]
            attempts: u32,
            #[serde(default)]
            may_have_arrived: bool,
            #[serde(default)]
            ids: PlatformIds,
            #[serde(default)]
            state: Option<String>,
            #[serde(default)]
            not_before: u64,
            #[serde(default)]
            reason: Option<Failure>,
            #[serde(default)]
            outcome: Option<Outcome>,
        }

        let stored = Stored::deserialize(from)?;
        if stored.version > VERSION {
            return Err(D::Error::custom(format_args!(
                "the delivery is of version {}, and this program reads up to version {VERSION}: \
                 update tower-referral-platforms",
                stored.version
            )));
        }
        let known = |reason: Option<Failure>| reason.unwrap_or_else(|| Failure::text("unknown"));
        let state = match stored.state.as_deref() {
            None | Some("waiting") => DeliveryState::Waiting {
                not_before: stored.not_before,
                reason: stored.reason,
            },
            Some("sending") => DeliveryState::Sending,
            Some("done") => DeliveryState::Done {
                outcome: stored
                    .outcome
                    .ok_or_else(|| D::Error::missing_field("outcome"))?,
            },
            Some("failed") => DeliveryState::Failed {
                reason: known(stored.reason),
            },
            Some("ambiguous") => DeliveryState::Ambiguous {
                reason: known(stored.reason),
            },
            Some(_) => {
                return Err(D::Error::custom(
                    "`state` is none of waiting, sending, done, failed and ambiguous",
                ));
            }
        };
        Ok(Self {
            version: VERSION,
            report: stored.report,
            attempts: stored.attempts,
            may_have_arrived: stored.may_have_arrived,
            ids: stored.ids,
            sale_is_unrecorded: false,
            state,
        })
    }
}

/// Shows nothing that came from the visitor.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("report", &self.report)
            .field("attempts", &self.attempts)
            .field("may_have_arrived", &self.may_have_arrived)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What [`deliver`] has done with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryOutcome {
    /// The platform has answered; the queue is done with the report.
    Done(Receipt),
    /// Give the same delivery to [`deliver`] again later.
    Retry {
        /// After this time.
        after: Duration,
        /// The failure would meet every other report as well: see [`Error::pauses_platform`](crate::Error::pauses_platform).
        pauses_platform: bool,
    },
    /// It isn't tried again: [`DeliveryState::Failed`] says why.
    Failed,
    /// It isn't tried again: [`DeliveryState::Ambiguous`] says why.
    Ambiguous,
}

/// Where deliveries are stored: a table, a hash, a file of the application's own.
pub trait DeliveryStore {
    /// Why nothing could be stored.
    type Error;

    /// Stores the delivery in the place of what was stored of it before. Where several workers could
    /// hold one report after all, for instance because the queue took a slow worker for dead,
    /// refuse a delivery that is [sending](DeliveryState::Sending) if what is stored has changed
    /// since this worker read it.
    ///
    /// # Errors
    ///
    /// It couldn't be stored durably.
    fn save(&mut self, delivery: &Delivery)
    -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores the [IDs](Delivery::ids) that the platform has returned between two calls of an attempt
    /// that is under way, as [`save`](Self::save) does by default. Should the worker be killed before
    /// the attempt ends, the next one goes on with them: a click that a sign-up needs is made once.
    ///
    /// # Errors
    ///
    /// The attempt ends here, and no further call is made: for instance because another worker has
    /// the report. A store that couldn't be reached may well return `Ok`: the IDs are in the delivery,
    /// which is saved again at the end of the attempt.
    fn save_ids(
        &mut self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.save(delivery)
    }
}

/// Gives a report to the platform, if it is time to and may be done, and returns the result.
///
/// That an attempt begins is saved before anything is sent, and its result is saved after it. Drop
/// the future meanwhile, and the attempt is one whose end isn't known.
///
/// # Errors
///
/// The store failed. If that was before the attempt, nothing was sent; read the delivery back
/// before it is tried again. If it was during the attempt ([`DeliveryStore::save_ids`]), its end isn't
/// known. If it was after, `delivery` is right and what is stored is not: save it once more, or the
/// attempt is one whose end isn't known.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use tower_referral_platforms::{
///     Delivery, DeliveryOutcome, DeliveryStore, Receipt, ReportError, ReportRequest, Retries,
///     deliver,
/// };
///
/// /// As long as a `HashMap` is good enough: a report per entry.
/// struct Memory(std::collections::HashMap<String, Delivery>);
///
/// impl DeliveryStore for Memory {
///     type Error = Infallible;
///
///     async fn save(&mut self, delivery: &Delivery) -> Result<(), Infallible> {
///         self.0.insert(delivery.report().id(), delivery.clone());
///         Ok(())
///     }
/// }
///
/// /// What a worker does with a report from its queue.
/// async fn work<S>(reports: S, store: &mut Memory, id: &str) -> Option<Duration>
/// where
///     S: tower_service::Service<ReportRequest, Response = Receipt, Error = ReportError>,
/// {
///     let mut delivery = store.0.get(id)?.clone();
///     match deliver(&mut delivery, reports, &Retries::default(), store).await {
///         Ok(DeliveryOutcome::Retry { after, .. }) => Some(after), // put it back for so long
///         Ok(_) => None,                                           // take it out of the queue
///         Err(never) => match never {},
///     }
/// }
/// ```
pub async fn deliver<S, D>(
    delivery: &mut Delivery,
    reports: S,
    retries: &Retries,
    store: &mut D,
) -> Result<DeliveryOutcome, D::Error>
where
    S: Service<ReportRequest, Response = Receipt, Error = ReportError>,
    D: DeliveryStore,
{
    deliver_by_clock(delivery, reports, retries, store, SystemTime::now).await
}

/// Does what [`deliver`] does, by a clock of the caller's: for tests in virtual time, and for targets
/// whose standard library has no clock.
///
/// # Errors
///
/// As [`deliver`].
pub async fn deliver_by_clock<S, D>(
    delivery: &mut Delivery,
    mut reports: S,
    retries: &Retries,
    store: &mut D,
    now: impl Fn() -> SystemTime,
) -> Result<DeliveryOutcome, D::Error>
where
    S: Service<ReportRequest, Response = Receipt, Error = ReportError>,
    D: DeliveryStore,
{
    let before = delivery.clone();
    if let Err(outcome) = delivery.begin(retries, now()) {
        return Ok(outcome);
    }
    if let Err(error) = store.save(delivery).await {
        *delivery = before;
        return Err(error);
    }
    let result = match std::future::poll_fn(|cx| reports.poll_ready(cx)).await {
        Ok(()) => {
            let (id_sink, mut told) = ToldIds::channel();
            let mut call = pin!(reports.call(delivery.request().with_id_sink(id_sink)));
            loop {
                let (ids, stored) = match select(call.as_mut(), pin!(told.next())).await {
                    Either::Left((result, _)) => break result,
                    Either::Right((told, _)) => told,
                };
                delivery.ids = ids.or(&delivery.ids);
                store.save_ids(delivery).await?;
                // Whoever asked may have given up.
                let _ = stored.send(());
            }
        }
        Err(error) => Err(error),
    };
    let outcome = delivery.end(result, retries, now());
    store.save(delivery).await?;
    Ok(outcome)
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
