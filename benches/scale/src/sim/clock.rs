//! Virtual time: Tokio's paused clock, read as milliseconds since the start of the run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use tokio::time::Instant;

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// When every run starts, in seconds: 15 January 2027.
const START: u64 = 1_800_000_000;

/// The true time, which no server of the simulation has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts the run.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the milliseconds since the start.
    pub(crate) fn now(self) -> i64 {
        self.0.elapsed().as_millis() as i64
    }

    /// Returns what a clock shows that is wrong by so many milliseconds.
    pub(crate) fn skewed(self, skew: i64) -> OffsetDateTime {
        let start = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(START);
        start + time::Duration::milliseconds(self.now() + skew)
    }

    pub(crate) fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START) + self.0.elapsed()
    }

    pub(crate) async fn sleep_until(self, at: i64) {
        let at = self.0 + Duration::from_millis(at.max(0) as u64);
        if at > Instant::now() {
            tokio::time::sleep_until(at).await;
        }
    }
}

pub(crate) async fn sleep(millis: i64) {
    tokio::time::sleep(Duration::from_millis(millis.max(0) as u64)).await;
}
