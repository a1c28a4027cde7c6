//! The delivery of one report that must not be lost, whatever queue it waits in: what is known of
//! it, what may be done next, and what an attempt came to. The queue, the database and the clock
//! that wakes a waiting report are the caller's.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use tower_service::Service;

use super::{Advice, Error, Outcome, Report, ReportError};

/// A report on its way to the platform, and all that is known of the way: the one value to keep
/// durably until it is [finished](Self::is_finished). With the feature `serde` it can be stored and
/// read back.
///
/// What is promised, whenever the process is killed:
///
/// - A platform that recognises what it was told twice ([`deduplicated`](Self::deduplicated)) hears
///   of the report at least once, and records it once.
/// - Any other hears of it at most once. If an attempt was begun and its end isn't known, the
///   report is [undecided](DeliveryState::Undecided), and stays so until a person has looked.
///
/// Both rest on two things that the caller sees to. What [`Journal::keep`] was given is there after
/// a crash; and a report is in one worker's hands at a time, so that one that is read back as
/// [sending](DeliveryState::Sending) was in the hands of a worker that is gone.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[must_use = "a delivery does nothing until it is given to `deliver`"]
pub struct Delivery {
    report: Report,
    is_deduplicated: bool,
    attempts: u32,
    #[serde(flatten)]
    state: DeliveryState,
}

impl Delivery {
    /// The delivery of `report`, not begun yet, to a platform that would record it twice if it were
    /// told twice.
    pub fn new(report: impl Into<Report>) -> Self {
        Self {
            report: report.into(),
            is_deduplicated: false,
            attempts: 0,
            state: DeliveryState::Waiting {
                not_before: 0,
                reason: None,
            },
        }
    }

    /// Does the platform recognise this report if it is told twice?
    /// [`ReportService::deduplicates`](super::ReportService::deduplicates) knows.
    pub fn deduplicated(mut self, is_deduplicated: bool) -> Self {
        self.is_deduplicated = is_deduplicated;
        self
    }

    /// What is delivered.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Where the delivery is.
    #[must_use]
    pub fn state(&self) -> &DeliveryState {
        &self.state
    }

    /// How many attempts were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Is there nothing left to do but, perhaps, for a person?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(
            self.state,
            DeliveryState::Waiting { .. } | DeliveryState::Sending
        )
    }

    /// Somebody has looked at what is dead or undecided, and it is to be sent again: all its attempts
    /// are before it once more. Whatever else the delivery is, it stays.
    pub fn send_again(&mut self) {
        if let DeliveryState::Dead { reason } | DeliveryState::Undecided { reason } = &self.state {
            self.state = DeliveryState::Waiting {
                not_before: 0,
                reason: Some(reason.clone()),
            };
            self.attempts = 0;
        }
    }

    /// Begins an attempt, or says why none may begin.
    fn begin(&mut self, retries: &Retries, now: SystemTime) -> Result<(), Verdict> {
        match &self.state {
            DeliveryState::Waiting { not_before, .. } => {
                let wait = Duration::from_millis(not_before.saturating_sub(unix_millis(now)));
                if !wait.is_zero() {
                    // A clock that was set back puts nothing off for good.
                    return Err(Verdict::Later(wait.min(retries.longest)));
                }
            }
            DeliveryState::Sending if self.is_deduplicated => {}
            DeliveryState::Sending => {
                self.state = DeliveryState::Undecided {
                    reason: Setback::text(
                        "the process ended while the report was being sent: look at the platform \
                         whether it arrived",
                    ),
                };
                return Err(Verdict::Undecided);
            }
            DeliveryState::Done { outcome } => return Err(Verdict::Done(outcome.clone())),
            DeliveryState::Dead { .. } => return Err(Verdict::Dead),
            DeliveryState::Undecided { .. } => return Err(Verdict::Undecided),
        }
        self.attempts = self.attempts.saturating_add(1);
        self.state = DeliveryState::Sending;
        Ok(())
    }

    /// Takes in what the attempt came to.
    fn end(
        &mut self,
        result: Result<Outcome, ReportError>,
        retries: &Retries,
        now: SystemTime,
    ) -> Verdict {
        let error = match result {
            Ok(outcome) => {
                self.state = DeliveryState::Done {
                    outcome: outcome.clone(),
                };
                return Verdict::Done(outcome);
            }
            Err(error) => error,
        };
        let reason = Setback::of(error.kind());
        match error.advice() {
            Advice::Later { after } if self.attempts < retries.attempts => {
                let wait = retries.wait(self.attempts, after, &self.report.id());
                self.state = DeliveryState::Waiting {
                    not_before: unix_millis(now + wait),
                    reason: Some(reason),
                };
                Verdict::Later(wait)
            }
            Advice::Later { .. } | Advice::Dead => {
                self.state = DeliveryState::Dead { reason };
                Verdict::Dead
            }
            Advice::Undecided => {
                self.state = DeliveryState::Undecided { reason };
                Verdict::Undecided
            }
        }
    }
}

/// Shows nothing that came from the visitor.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("report", &self.report)
            .field("is_deduplicated", &self.is_deduplicated)
            .field("attempts", &self.attempts)
            .field("state", &self.state)
            .finish()
    }
}

/// Where a delivery is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// Nothing is under way.
    Waiting {
        /// The next attempt is due, in milliseconds of Unix time.
        not_before: u64,
        /// Why the last attempt came to nothing; `None` before the first.
        reason: Option<Setback>,
    },
    /// An attempt was begun, and its end isn't known.
    Sending,
    /// The platform has answered, and there is no more to do.
    Done {
        /// What it made of the report.
        outcome: Outcome,
    },
    /// It came to nothing and isn't tried again: somebody has to mend what the reason says.
    Dead {
        /// Why.
        reason: Setback,
    },
    /// It may have arrived, and the platform would record it twice: somebody has to look there.
    Undecided {
        /// Why.
        reason: Setback,
    },
}

/// Why an attempt came to nothing, for the person who reads the list of what is dead or undecided.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Setback {
    text: String,
    words: Option<String>,
}

impl Setback {
    fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            words: None,
        }
    }

    fn of(error: &Error) -> Self {
        let Error::Rejected {
            status, message, ..
        } = error
        else {
            return Self::text(&error.to_string());
        };
        let words = message.as_str();
        Self {
            text: format!("the platform refused the request ({status})"),
            words: (!words.is_empty()).then(|| words.to_owned()),
        }
    }

    /// The platform's own words, where it had any. They may hold what was sent: not for logs.
    #[must_use]
    pub fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }
}

/// Without the platform's own words.
impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Without the platform's own words.
impl fmt::Debug for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setback").field(&self.text).finish()
    }
}

/// What became of a report that was given to [`deliver`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The platform has answered; the queue is done with the report.
    Done(Outcome),
    /// Give the same delivery to [`deliver`] again after this time.
    Later(Duration),
    /// It isn't tried again: [`DeliveryState::Dead`] says why.
    Dead,
    /// It isn't tried again: [`DeliveryState::Undecided`] says why.
    Undecided,
}

/// How often a report is tried, and how long it waits in between: twice as long each time, a little
/// less for some than for others, so that reports that failed together don't come back together.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::Retries;
///
/// let for_a_day = Retries::default().longest_wait(Duration::from_secs(900)).attempts(100);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Retries {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

/// 2 seconds at first, at most an hour, 90 attempts: the platform may be away for three days.
impl Default for Retries {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(3600),
            attempts: 90,
        }
    }
}

impl Retries {
    /// The wait after the first attempt; 2 seconds by default.
    pub fn first_wait(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// The longest wait, which the platform's own `Retry-After` can't exceed either; an hour by
    /// default.
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }

    /// After how many attempts a report is given up, at least 1; 90 by default.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The platform's own word counts where it is the longer one.
    fn wait(&self, attempts: u32, after: Option<Duration>, id: &str) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        let mut spread = DefaultHasher::new();
        (id, attempts).hash(&mut spread);
        let less = (wait / 4).mul_f64((spread.finish() % 1024) as f64 / 1024.0);
        (wait - less)
            .max(after.unwrap_or_default())
            .min(self.longest)
    }
}

/// Where deliveries are kept: a table, a hash, a file of the application's own.
pub trait Journal {
    /// Why nothing could be kept.
    type Error;

    /// Keeps the delivery in the place of what was kept of it before. Where several workers could
    /// hold one report after all, for instance because the queue took a slow worker for dead,
    /// refuse a delivery that is [sending](DeliveryState::Sending) if what is kept has changed since
    /// this worker read it.
    ///
    /// # Errors
    ///
    /// It couldn't be kept durably.
    fn keep(&mut self, delivery: &Delivery)
    -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Gives a report to the platform, if it is time to and may be done, and says what became of it.
///
/// That an attempt begins is kept in the journal before anything is sent, and what it came to is
/// kept after it. Drop the future meanwhile, and the attempt is one whose end isn't known.
///
/// # Errors
///
/// The journal failed. If that was before the attempt, nothing was sent; read the delivery back
/// before it is tried again. If it was after, `delivery` is right and what is kept is not: keep it
/// once more, or the attempt is one whose end isn't known.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use tower_referral_platforms::{
///     Delivery, Journal, Outcome, Report, ReportError, Retries, Verdict, deliver,
/// };
///
/// /// As long as a `HashMap` is good enough: a report per entry.
/// struct Memory(std::collections::HashMap<String, Delivery>);
///
/// impl Journal for Memory {
///     type Error = Infallible;
///
///     async fn keep(&mut self, delivery: &Delivery) -> Result<(), Infallible> {
///         self.0.insert(delivery.report().id(), delivery.clone());
///         Ok(())
///     }
/// }
///
/// /// What a worker does with a report from its queue.
/// async fn work<S>(reports: S, journal: &mut Memory, id: &str) -> Option<Duration>
/// where
///     S: tower_service::Service<Report, Response = Outcome, Error = ReportError>,
/// {
///     let mut delivery = journal.0.get(id)?.clone();
///     match deliver(&mut delivery, reports, &Retries::default(), journal).await {
///         Ok(Verdict::Later(wait)) => Some(wait), // put it back for so long
///         Ok(_) => None,                          // take it out of the queue
///         Err(never) => match never {},
///     }
/// }
/// ```
pub async fn deliver<S, J>(
    delivery: &mut Delivery,
    mut reports: S,
    retries: &Retries,
    journal: &mut J,
) -> Result<Verdict, J::Error>
where
    S: Service<Report, Response = Outcome, Error = ReportError>,
    J: Journal,
{
    let before = delivery.clone();
    if let Err(verdict) = delivery.begin(retries, SystemTime::now()) {
        // One that was being sent when its worker went is undecided from now on.
        if *delivery != before {
            journal.keep(delivery).await?;
        }
        return Ok(verdict);
    }
    if let Err(error) = journal.keep(delivery).await {
        *delivery = before;
        return Err(error);
    }
    let result = match std::future::poll_fn(|cx| reports.poll_ready(cx)).await {
        Ok(()) => reports.call(delivery.report.clone()).await,
        Err(error) => Err(error),
    };
    let verdict = delivery.end(result, retries, SystemTime::now());
    journal.keep(delivery).await?;
    Ok(verdict)
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
