//! How often a report is tried, and how long it waits in between.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How often a report is tried, and how long it waits in between: twice as long each time, a little
/// less for some than for others, so that reports that failed together don't come back together.
///
/// ```
/// use std::time::Duration;
/// use tower_referral_platforms::Retries;
///
/// let for_a_day = Retries::default().max_backoff(Duration::from_secs(900)).max_attempts(100);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Retries {
    initial_backoff: Duration,
    max_backoff: Duration,
    max_attempts: u32,
}

/// 2 seconds at first, at most an hour, 90 attempts: the platform may give no usable answer for three
/// days.
impl Default for Retries {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(3600),
            max_attempts: 90,
        }
    }
}

impl Retries {
    /// Sets the wait after the first attempt; 2 seconds by default.
    pub fn initial_backoff(mut self, wait: Duration) -> Self {
        self.initial_backoff = wait;
        self
    }

    /// Sets the longest wait, which the platform's own `Retry-After` can't exceed either; an hour by
    /// default.
    pub fn max_backoff(mut self, wait: Duration) -> Self {
        self.max_backoff = wait;
        self
    }

    /// Sets after how many attempts a report fails, at least 1; 90 by default. An attempt that
    /// [pauses the platform](crate::Error::pauses_platform), or that found no connection
    /// ([`Error::NotSent`](crate::Error::NotSent)), says nothing about the report and is never the last:
    /// with a wrong host name reports wait, each with that as its
    /// [reason](crate::DeliveryState::Waiting), and every attempt is logged.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Returns `true` if another attempt may follow this one.
    #[must_use]
    pub fn allows_after(&self, attempts: u32) -> bool {
        attempts < self.max_attempts
    }

    /// Returns the longest wait.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.max_backoff
    }

    /// Returns the wait after this many attempts of the report of this ID. `after` is the platform's
    /// own wish, which counts where it is the longer one.
    #[must_use]
    pub fn wait(&self, attempts: u32, after: Option<Duration>, id: &str) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let wait = self.initial_backoff.saturating_mul(1 << doublings);
        let wait = wait.min(self.max_backoff);
        let mut spread = DefaultHasher::new();
        (id, attempts).hash(&mut spread);
        let less = (wait / 4).mul_f64((spread.finish() % 1024) as f64 / 1024.0);
        (wait - less)
            .max(after.unwrap_or_default())
            .min(self.max_backoff)
    }
}
