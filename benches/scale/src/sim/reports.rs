//! The outbox, as far as a simulation needs one: rows of JSON, a worker for each that may die in the
//! middle of a call, and a platform that is paused. What is sent and when is for `deliver` to say.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tower_referral_platforms::{
    Delivery, DeliveryOutcome, DeliveryStore, Receipt, Report, ReportError, ReportRequest, Retries,
    deliver_by_clock,
};
use tower_service::Service;

use super::clock::{Clock, SECOND, sleep};
use super::random::Random;

/// How long a row stays with a worker that is gone.
const LEASE: i64 = 60 * SECOND;
/// How often a worker dies in the middle of a call.
const DEATHS: f64 = 0.05;
/// A pause ends by a new attempt at the latest then.
const LONGEST_PAUSE: i64 = 60 * SECOND;

/// The reports for one platform.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    random: Random,
    /// By the report's ID.
    rows: HashMap<String, String>,
    paused_until: i64,
    attempts: u64,
    deaths: u64,
}

impl Outbox {
    pub(crate) fn new(clock: Clock, random: Random) -> Self {
        let shared = Shared {
            random,
            rows: HashMap::new(),
            paused_until: 0,
            attempts: 0,
            deaths: 0,
        };
        Self {
            clock,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    fn open(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a row back.
    fn read(&self, id: &str) -> Result<Delivery, serde_json::Error> {
        serde_json::from_str(self.open().rows.get(id).map_or("", String::as_str))
    }

    /// Returns the state of every report, by its ID.
    pub(crate) fn states(&self) -> Result<Vec<(String, &'static str)>, serde_json::Error> {
        let shared = self.open();
        let states = shared.rows.iter().map(|(id, row)| {
            let delivery: Delivery = serde_json::from_str(row)?;
            Ok((id.clone(), delivery.state().as_str()))
        });
        states.collect()
    }

    /// Returns how many attempts there were, and how many workers died in one.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let shared = self.open();
        (shared.attempts, shared.deaths)
    }

    /// Writes a report, as in the transaction of an order; a second one of the same ID changes nothing.
    pub(crate) fn enqueue(&self, id: &str, report: impl Into<Report>) -> bool {
        let mut shared = self.open();
        if shared.rows.contains_key(id) {
            return false;
        }
        let row = serde_json::to_string(&Delivery::new(report)).unwrap_or_default();
        shared.rows.insert(id.to_owned(), row);
        true
    }

    /// Delivers a row, by as many workers as it takes.
    pub(crate) async fn send<S>(self, id: String, reports: S)
    where
        S: Service<ReportRequest, Response = Receipt, Error = ReportError> + Clone,
    {
        let retries = Retries::default();
        loop {
            let paused_until = self.open().paused_until;
            if paused_until > self.clock.now() {
                // Not all of them at once.
                let spread = self.open().random.between(0, SECOND);
                sleep(paused_until - self.clock.now() + spread).await;
                continue;
            }
            let Ok(mut delivery) = self.read(&id) else {
                return;
            };
            let mut row = Row {
                outbox: &self,
                id: &id,
            };
            let clock = self.clock;
            let attempt = deliver_by_clock(
                &mut delivery,
                reports.clone(),
                &retries,
                &mut row,
                move || clock.system_time(),
            );
            let dies_after = {
                let mut shared = self.open();
                shared.attempts += 1;
                let dies = shared.random.chance(DEATHS);
                dies.then(|| shared.random.between(0, 300) as u64)
            };
            let outcome = match dies_after {
                None => attempt.await,
                Some(millis) => {
                    let limit = Duration::from_millis(millis);
                    let Ok(outcome) = tokio::time::timeout(limit, attempt).await else {
                        self.open().deaths += 1;
                        sleep(LEASE).await;
                        continue;
                    };
                    outcome
                }
            };
            let Ok(DeliveryOutcome::Retry {
                after,
                pauses_platform,
            }) = outcome
            else {
                return;
            };
            let after = after.as_millis() as i64;
            if pauses_platform {
                let until = self.clock.now() + after.min(LONGEST_PAUSE);
                let mut shared = self.open();
                shared.paused_until = shared.paused_until.max(until);
            }
            sleep(after).await;
        }
    }
}

/// One row of the outbox.
struct Row<'a> {
    outbox: &'a Outbox,
    id: &'a str,
}

impl DeliveryStore for Row<'_> {
    type Error = Infallible;

    async fn save(&mut self, delivery: &Delivery) -> Result<(), Infallible> {
        let row = serde_json::to_string(delivery).unwrap_or_default();
        self.outbox.open().rows.insert(self.id.to_owned(), row);
        Ok(())
    }
}
