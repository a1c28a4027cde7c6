//! One report on its way: what the row says becomes a delivery, the platform is told, and what it
//! said becomes the row again.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::Pool;
use tower_referral_platforms::{
    Delivery, DeliveryState, DeliveryStore, Failure, Outcome, PlatformIds, Receipt, Report,
    ReportError, ReportRequest, Retries, deliver,
};
use tower_service::Service;

use super::gate::Signal;
use super::reports::Deduplicates;
use crate::backend::{Database, READS};
use crate::outbox::Shared;
use crate::row::{Claimed, Saved};
use crate::telemetry;

/// How a call ended.
#[derive(Debug)]
pub(super) enum End {
    /// This became of the row.
    Saved(Box<Saved>),
    /// Nothing was sent: somebody else has the row, or it was withdrawn.
    Lost,
    /// Nothing was sent, because the database couldn't note that something will be.
    NotMarked(crate::Error),
}

/// What every call of a worker shares.
#[derive(Debug)]
pub(super) struct Caller<D: Database, S> {
    pub(super) pool: Pool<D>,
    pub(super) shared: Arc<Shared>,
    pub(super) service: S,
    pub(super) retries: Retries,
    pub(super) lease: Duration,
}

impl<D: Database, S: Clone> Clone for Caller<D, S> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            shared: Arc::clone(&self.shared),
            service: self.service.clone(),
            retries: self.retries.clone(),
            lease: self.lease,
        }
    }
}

impl<D: Database, S: Deduplicates> Caller<D, S> {
    /// Gives the row's report to the platform. Nothing is sent after `deadline`, when the row may be
    /// somebody else's.
    pub(super) async fn call(self, row: Claimed, deadline: Instant) -> (Claimed, End, Signal) {
        let report = match read(&row) {
            Ok(report) => report,
            Err(error) => {
                let saved = unreadable(&row, &error);
                return (row, End::Saved(Box::new(saved)), Signal::Silent);
            }
        };
        let mut delivery = resume(&row, report);
        let signal = Arc::new(Mutex::new(Signal::Silent));
        let watched = Watched {
            service: self.service.clone(),
            signal: Arc::clone(&signal),
        };
        let mut store = Marker {
            needs_mark: !self.service.deduplicates(delivery.report()),
            pool: &self.pool,
            shared: &self.shared,
            lease: self.lease,
            row: &row,
            deadline,
        };
        let delivered = deliver(&mut delivery, watched, &self.retries, &mut store);
        // A service that panics is one whose answer nobody knows.
        let delivered = AssertUnwindSafe(delivered).catch_unwind().await;
        let signal = signal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let end = match delivered {
            Ok(Ok(_)) => End::Saved(Box::new(saved(&row, &delivery, &signal))),
            Ok(Err(NotBegun::Lost)) => End::Lost,
            Ok(Err(NotBegun::Database(error))) => End::NotMarked(error),
            Err(_) => {
                let is_deduplicated = self.service.deduplicates(delivery.report());
                End::Saved(Box::new(panicked(&row, &delivery, is_deduplicated)))
            }
        };
        (row, end, signal)
    }
}

/// Reads the row's report, with the click that came late.
fn read(row: &Claimed) -> Result<Report, serde_json::Error> {
    let Some(click_id) = &row.click_id else {
        return serde_json::from_slice(&row.report);
    };
    let mut value: Value = serde_json::from_slice(&row.report)?;
    if let Some(credit) = value.get_mut("credit").and_then(Value::as_object_mut) {
        credit.insert("click_id".to_owned(), json!(click_id));
        if let Some(partner_id) = &row.partner_id {
            credit.insert("partner_id".to_owned(), json!(partner_id));
        }
    }
    serde_json::from_value(value)
}

/// Makes the delivery that the row stands for, with the IDs that its own earlier calls got back.
fn resume(row: &Claimed, report: Report) -> Delivery {
    let ids = row
        .platform_ids
        .iter()
        .rev()
        .fold(PlatformIds::default(), |known, ids| {
            // IDs that can't be read are none: the platform is asked again.
            serde_json::from_str::<PlatformIds>(ids)
                .unwrap_or_default()
                .or(&known)
        });
    if row.attempts > 0 || row.may_have_arrived {
        let value = json!({
            "report": report,
            "attempts": row.attempts,
            "may_have_arrived": row.may_have_arrived,
            "state": "waiting",
        });
        if let Ok(delivery) = serde_json::from_value::<Delivery>(value) {
            return delivery.with_ids(&ids);
        }
    }
    Delivery::new(report).with_ids(&ids)
}

fn saved(row: &Claimed, delivery: &Delivery, signal: &Signal) -> Saved {
    let (outcome, failure) = match delivery.state() {
        DeliveryState::Done { outcome } => (Some(outcome.as_str()), None),
        DeliveryState::Failed { reason } | DeliveryState::Ambiguous { reason } => {
            (None, Some(reason))
        }
        DeliveryState::Waiting { reason, .. } => (None, reason.as_ref()),
        _ => (None, None),
    };
    let is_waiting = !delivery.is_finished();
    let is_spared = is_waiting && signal.spares_report();
    let wait = match delivery.state() {
        DeliveryState::Waiting { not_before, .. } if !is_spared => {
            not_before.saturating_sub(unix_millis())
        }
        // It goes as soon as anything does.
        _ => 0,
    };
    // Private to the delivery, and of interest only where it goes on.
    let may_have_arrived = is_waiting
        && json!(delivery)
            .get("may_have_arrived")
            .and_then(Value::as_bool)
            .unwrap_or_default();
    let attempts = if is_spared {
        row.attempts
    } else {
        delivery.attempts()
    };
    let state = if is_waiting {
        "waiting"
    } else {
        delivery.state().as_str()
    };
    row_of(
        row,
        state,
        attempts,
        wait,
        outcome,
        ids_of(delivery),
        failure,
        may_have_arrived,
    )
}

#[expect(clippy::too_many_arguments, reason = "the columns of a row")]
fn row_of(
    row: &Claimed,
    state: &'static str,
    attempts: u32,
    wait: u64,
    outcome: Option<&'static str>,
    platform_ids: Option<Value>,
    failure: Option<&Failure>,
    may_have_arrived: bool,
) -> Saved {
    let reason = failure.map(Failure::to_string);
    let details = failure.and_then(Failure::message).map(str::to_owned);
    let mut saved = Saved {
        seq: row.row,
        token: row.token.clone(),
        state,
        outcome,
        platform_ids,
        reason,
        details,
        attempts,
        wait,
        reads: None,
        may_have_arrived,
        entry: Value::Null,
    };
    saved.entry = entry(&saved);
    saved
}

/// The attempt as the row's history has it.
fn entry(saved: &Saved) -> Value {
    let mut entry = serde_json::Map::new();
    entry.insert("state".to_owned(), json!(saved.state));
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(name.to_owned(), value);
        }
    };
    put("outcome", saved.outcome.map(Value::from));
    put("platform_ids", saved.platform_ids.clone());
    put("reason", saved.reason.clone().map(Value::from));
    put("details", saved.details.clone().map(Value::from));
    Value::Object(entry)
}

fn unreadable(row: &Claimed, error: &serde_json::Error) -> Saved {
    // A later version that can read it has to know whether it may have arrived.
    let arrived = row.may_have_arrived;
    let mut saved = row_of(
        row,
        "unreadable",
        row.attempts,
        0,
        None,
        None,
        None,
        arrived,
    );
    saved.reason = Some(
        "this version can't read the report: `details` says where; repair the row's JSON and \
         resend it"
            .to_owned(),
    );
    // It may quote the report: for people, and not for logs.
    saved.details = Some(error.to_string());
    saved.reads = Some(READS);
    saved.entry = entry(&saved);
    saved
}

/// The IDs that are stored with the row, if there are any.
fn ids_of(delivery: &Delivery) -> Option<Value> {
    (!delivery.ids().is_empty()).then(|| json!(delivery.ids()))
}

fn panicked(row: &Claimed, delivery: &Delivery, is_deduplicated: bool) -> Saved {
    let state = if is_deduplicated {
        "waiting"
    } else {
        "ambiguous"
    };
    let mut saved = row_of(
        row,
        state,
        delivery.attempts(),
        60_000,
        None,
        ids_of(delivery),
        None,
        !is_deduplicated,
    );
    saved.reason = Some(
        "the report service panicked: fix it; whether the report arrived isn't known".to_owned(),
    );
    saved.entry = entry(&saved);
    saved
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// Why a call wasn't begun.
#[derive(Debug)]
enum NotBegun {
    Lost,
    Database(crate::Error),
}

/// Notes in the database that a report is about to be sent, where the platform would record it
/// twice. What became of it is saved by the worker, with that of others.
struct Marker<'c, D: Database> {
    needs_mark: bool,
    pool: &'c Pool<D>,
    shared: &'c Shared,
    lease: Duration,
    row: &'c Claimed,
    deadline: Instant,
}

impl<D: Database> DeliveryStore for Marker<'_, D> {
    type Error = NotBegun;

    async fn save(&mut self, delivery: &Delivery) -> Result<(), NotBegun> {
        if *delivery.state() != DeliveryState::Sending {
            return Ok(());
        }
        if Instant::now() >= self.deadline {
            return Err(NotBegun::Lost);
        }
        if !self.needs_mark {
            return Ok(());
        }
        let marked = D::mark(
            self.pool,
            self.row.row,
            self.row.token.clone(),
            crate::row::millis(self.lease),
            self.shared.clock::<D>(),
        );
        match marked.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotBegun::Lost),
            Err(error) => Err(NotBegun::Database(error)),
        }
    }

    /// IDs are stored whoever has the row by now, and whatever has become of it.
    async fn save_ids(&mut self, delivery: &Delivery) -> Result<(), NotBegun> {
        let saved = D::save_ids(
            self.pool,
            self.row.row,
            self.row.token.clone(),
            json!(delivery.ids()).to_string(),
        );
        match saved.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotBegun::Lost),
            Err(error) => {
                // They are saved at the end of the attempt.
                telemetry::database_failed("save IDs", &error);
                Ok(())
            }
        }
    }
}

/// The service, with an ear for what its answers say about the platform as a whole.
struct Watched<S> {
    service: S,
    signal: Arc<Mutex<Signal>>,
}

impl<S: Deduplicates> Service<ReportRequest> for Watched<S> {
    type Response = Receipt;
    type Error = ReportError;
    type Future = BoxFuture<'static, Result<Receipt, ReportError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: ReportRequest) -> Self::Future {
        let answer = self.service.call(request);
        let signal = Arc::clone(&self.signal);
        Box::pin(async move {
            let result = answer.await;
            let said = match &result {
                // A report without credit needs no call.
                Ok(receipt) if receipt.outcome() == Outcome::NotAttributed => Signal::Silent,
                Ok(_) => Signal::Works,
                Err(error) => Signal::of(error.error()),
            };
            *signal.lock().unwrap_or_else(PoisonError::into_inner) = said;
            result
        })
    }
}
