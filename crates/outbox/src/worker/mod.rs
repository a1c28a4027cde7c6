//! The worker: claims due reports, gives them to the platform, and writes back what became of them.
//! Everything that it does is one future, so that dropping it is as good as killing the process.

mod call;
mod gate;
mod reports;
mod round;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tower_referral_platforms::Retries;

use self::gate::PauseRule;
pub use self::reports::{Deduplicates, Layered};
use crate::backend::Database;
use crate::{Error, Outbox};

/// A worker that is being configured; [`run`](Self::run) starts it.
#[must_use = "a worker does nothing until it runs"]
pub struct WorkerBuilder<D: Database, S> {
    outbox: Outbox<D>,
    reports: S,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    name: Option<String>,
    concurrency: usize,
    retries: Retries,
    lease: Duration,
    poll: Duration,
    refund_patience: Duration,
    click_patience: Duration,
    follower_delay: Duration,
    pause: PauseRule,
    keep_content: Option<Duration>,
    keep_rows: Option<Duration>,
    keep_payments: Option<Duration>,
}

impl<D: Database> Outbox<D> {
    /// Prepares a worker that gives the reports to `reports`, for instance
    /// [`client.reports()`](tower_referral_platforms::Client::reports). Any number of processes may
    /// run one.
    pub fn worker<S: Deduplicates>(&self, reports: S) -> WorkerBuilder<D, S> {
        WorkerBuilder::new(self.clone(), reports)
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl<D: Database, S: Deduplicates> WorkerBuilder<D, S> {
    pub(crate) fn new(outbox: Outbox<D>, reports: S) -> Self {
        Self {
            outbox,
            reports,
            settings: Settings {
                name: None,
                concurrency: 16,
                retries: Retries::default(),
                lease: Duration::from_secs(45),
                poll: Duration::from_millis(250),
                refund_patience: 3 * DAY,
                click_patience: Duration::from_secs(10),
                follower_delay: Duration::from_secs(5),
                pause: PauseRule {
                    initial: Duration::from_secs(1),
                    max: Duration::from_secs(60),
                },
                keep_content: Some(90 * DAY),
                keep_rows: None,
                keep_payments: None,
            },
        }
    }

    /// Sets the name under which the worker is shown; by default one with the process's ID.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets how many reports are on their way at a time; 16 by default. Where the platform takes
    /// [batches](Deduplicates::batch), it is at least one batch.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency.clamp(1, 1024);
        self
    }

    /// Sets how often a report is tried, and how long it waits in between.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.settings.retries = retries;
        self
    }

    /// Sets after how long another worker takes up what this one had in hand when it was killed, at
    /// least a second; 45 seconds by default. A worker that lives renews its lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// Sets how often an idle worker looks for due reports; 250 ms by default.
    /// [`Outbox::wake`] has it look at once.
    pub fn poll(mut self, interval: Duration) -> Self {
        self.settings.poll = interval.max(Duration::from_millis(1));
        self
    }

    /// Sets how long a refund waits for its sale where the outbox doesn't know one; 3 days by
    /// default. Then it is sent: the sale may be older than the outbox. A platform that needs its own ID
    /// of the sale can't take it, and it [fails](crate::State::Failed), for a person.
    pub fn refund_patience(mut self, patience: Duration) -> Self {
        self.settings.refund_patience = patience;
        self
    }

    /// Sets how long a report waits for the click of its landing; 10 seconds by default. Then it
    /// goes by its referral key.
    pub fn click_patience(mut self, patience: Duration) -> Self {
        self.settings.click_patience = patience;
        self
    }

    /// Sets the first and the longest wait between two probes while the platform is paused; 1
    /// second, doubling, and 60 seconds by default.
    pub fn pause(mut self, initial: Duration, max: Duration) -> Self {
        let initial = initial.max(Duration::from_millis(1));
        self.settings.pause = PauseRule {
            initial,
            max: max.max(initial),
        };
        self
    }

    /// Sets how long the content of a delivered report is kept: amount, credit, what came from the
    /// visitor. Its ID and outcome stay. 90 days by default; `None` for ever. A refund that found no
    /// sale, and whose sale is credited after that, can't be sent any more: it becomes one of the
    /// [problems](crate::Outbox::problems), for a person to enter at the platform.
    pub fn keep_content(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.settings.keep_content = age.into();
        self
    }

    /// Sets how long what is stored of [payments](crate::Outbox::book) is kept after it was last needed;
    /// for ever by default. Choose it longer than the longest period of a subscription, and than the
    /// time in which a refund or a dispute may come: what is gone is known to nobody. A customer is
    /// erased by [`Outbox::erase`](crate::Outbox::erase).
    pub fn keep_payments(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.settings.keep_payments = age.into();
        self
    }

    /// Sets how long IDs and outcomes are kept, by which a repeated webhook is recognised; for ever
    /// by default. It has an effect once the content is gone. Choose it longer than the time in which a
    /// refund or a dispute may come: the platform's IDs go too, and a platform that needs its own ID of the
    /// sale can't take a later one, which [fails](crate::State::Failed), for a person.
    pub fn keep_rows(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.settings.keep_rows = age.into();
        self
    }

    /// Delivers reports until `shutdown` is ready, and then lets what is on its way come to its end.
    /// A database that fails is tried again for as long as it takes.
    ///
    /// Drop the future, or kill the process, and nothing is lost: what a platform that deduplicates
    /// was being told is told again once the lease is over, and at any other platform it becomes
    /// [ambiguous](crate::State::Ambiguous), unless the platform has a list that settles it.
    ///
    /// # Errors
    ///
    /// The outbox's tables aren't there, or the database can't be reached at the start.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        round::run(self.outbox, self.reports, self.settings, shutdown).await
    }
}

impl<D: Database, S> fmt::Debug for WorkerBuilder<D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
