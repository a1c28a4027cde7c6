//! One report on its way: what the row says becomes a delivery, the platform is told, and what it
//! said becomes the row again.

use std::error::Error;
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
use crate::outbox::{Shared, read_click};
use crate::row::{Claimed, Saved};
use crate::telemetry;

/// Why a row's report, or the click that belongs to it, can't be read.
type Unreadable = Box<dyn Error + Send + Sync>;

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
fn read(row: &Claimed) -> Result<Report, Unreadable> {
    let report: Report = serde_json::from_slice(&row.report)?;
    let Some(id) = &row.click_id else {
        return Ok(report);
    };
    let click = read_click(id, row.partner_id.as_deref())?;
    Ok(report.with_late_click(&click))
}

/// Makes the delivery that the row stands for, with the IDs that its own earlier calls got back, and what
/// is known of its sale.
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
    Delivery::resumed(report, row.attempts, row.may_have_arrived)
        .with_ids(&ids)
        .sale_is_unrecorded(row.sale_is_unrecorded)
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
    let saved = Saved {
        outcome,
        platform_ids: ids_of(delivery),
        reason: failure.map(Failure::to_string),
        details: failure.and_then(Failure::message).map(str::to_owned),
        attempts,
        wait,
        // Of interest only where it goes on.
        may_have_arrived: is_waiting && delivery.may_have_arrived(),
        ..Saved::of(row, state)
    };
    saved.with_attempt()
}

fn unreadable(row: &Claimed, error: &Unreadable) -> Saved {
    let reason = "this version can't read the report: `details` says where; repair the row's \
         JSON and resend it";
    let saved = Saved {
        reason: Some(reason.to_owned()),
        // It may quote the report: for people, and not for logs.
        details: Some(error.to_string()),
        reads: Some(READS),
        // A later version that can read it has to know whether it may have arrived.
        may_have_arrived: row.may_have_arrived,
        ..Saved::of(row, "unreadable")
    };
    saved.with_attempt()
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
    let reason = "the report service panicked: fix it; whether the report arrived isn't known";
    let saved = Saved {
        platform_ids: ids_of(delivery),
        reason: Some(reason.to_owned()),
        attempts: delivery.attempts(),
        wait: 60_000,
        may_have_arrived: !is_deduplicated,
        ..Saved::of(row, state)
    };
    saved.with_attempt()
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
            self.row.seq,
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
            self.row.seq,
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
