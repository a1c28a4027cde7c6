//! The worker's loop: one task over everything that is under way, in the order in which it ends.

mod claims;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sqlx::Pool;
use tokio::sync::watch;

use super::Settings;
use super::call::{Caller, End};
use super::gate::{Gate, Signal, Ticket};
use super::reports::Deduplicates;
use crate::backend::{ClaimRule, Database, Depth};
use crate::outbox::Shared;
use crate::row::{Claim, Claimed, Lease, Saved};
use crate::{Error, Outbox, telemetry};

/// How many rows a claim takes.
const BATCH: usize = 32;
/// The most reports that a worker has in hand, however many a batch takes.
const MAX_IN_HAND: usize = 4096;
/// Between two tries when the database fails.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The front of the queue.
const FRONT: (i64, i64) = (i64::MIN, i64::MIN);

/// Something that was under way has ended.
enum Event {
    Claimed(Result<Claim, Error>),
    Called(Box<Claimed>, Ticket, End, Signal),
    Saved(Vec<Saved>, Result<(), Error>),
    Renewed(Result<Vec<i64>, Error>),
    Released(Result<(), Error>),
    Seen(Result<bool, Error>),
    Sampled(Result<Depth, Error>),
    Cleaned(Result<u64, Error>),
}

pub(super) async fn run<D: Database, S: Deduplicates>(
    outbox: Outbox<D>,
    reports: S,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    D::is_migrated(outbox.pool()).await?;
    let pool = D::worker_pool(outbox.pool());
    let shared = Arc::clone(&outbox.shared);
    let heard = Arc::clone(&shared);
    let mut listening = pin!(D::listen(pool.clone(), move || {
        heard.due.send_replace(());
    }));
    let mut round = Round::new(pool, shared, reports, settings);
    let mut shutdown = pin!(shutdown);
    let mut due = round.shared.due.subscribe();
    let mut probe = round.shared.probe.subscribe();
    loop {
        round.begin_what_may();
        if round.is_stopping && round.under_way.is_empty() {
            break;
        }
        let wake_at = tokio::time::Instant::from_std(round.next_moment());
        tokio::select! {
            Some(event) = round.under_way.next(), if !round.under_way.is_empty() => round.take(event),
            () = &mut shutdown, if !round.is_stopping => round.stop(),
            () = changed(&mut due) => round.claim_at = Instant::now(),
            () = changed(&mut probe) => round.gate.probe(Instant::now()),
            () = tokio::time::sleep_until(wake_at) => {}
            () = &mut listening => {}
        }
    }
    // It isn't shown any more; if that fails, it goes within a day.
    let _ = D::worker_gone(&round.pool, round.rule.worker).await;
    Ok(())
}

async fn changed(receiver: &mut watch::Receiver<()>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Round<D: Database, S> {
    pool: Pool<D>,
    shared: Arc<Shared>,
    caller: Caller<D, S>,
    settings: Settings,
    rule: ClaimRule,
    gate: Gate,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Claimed, and not begun.
    ready: VecDeque<Claimed>,
    /// Everything that is claimed, until it is saved: its token, and until when it is this
    /// worker's for sure.
    leases: HashMap<i64, (String, Instant)>,
    finished: Vec<Saved>,
    calls: usize,
    claims: u64,
    /// When the claim that is under way began.
    claiming_since: Option<Instant>,
    is_saving: bool,
    is_renewing: bool,
    is_seeing: bool,
    is_stopping: bool,
    cursor: (i64, i64),
    cursor_since: Instant,
    /// Something was claimed since the cursor was last at the end.
    pass_found: bool,
    /// Something was passed over since the cursor was last at the front.
    has_passed_over: bool,
    /// How many rows the claim that is under way looks at.
    looking: i64,
    claim_at: Instant,
    save_at: Instant,
    renew_at: Instant,
    seen_at: Instant,
    sample_at: Instant,
    clean_at: Instant,
}

impl<D: Database, S: Deduplicates> Round<D, S> {
    fn new(pool: Pool<D>, shared: Arc<Shared>, service: S, settings: Settings) -> Self {
        static WORKERS: AtomicU64 = AtomicU64::new(0);
        let now = Instant::now();
        let number = WORKERS.fetch_add(1, Ordering::Relaxed);
        // Told apart from every other, also from one in another container with the same process ID.
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unique = since.unwrap_or_default().as_nanos() % 1_000_000_000_000;
        let name = settings.name.as_deref().unwrap_or("worker");
        let worker = format!("{name}-{}-{number}-{unique}", std::process::id());
        let batch = service.batch();
        // What goes in one request is in hand at a time.
        let in_batch = batch.map_or(1, |batch| batch.max.min(MAX_IN_HAND));
        let concurrency = settings.concurrency.max(in_batch);
        Self {
            caller: Caller {
                pool: pool.clone(),
                shared: Arc::clone(&shared),
                service,
                retries: settings.retries.clone(),
                lease: settings.lease,
            },
            rule: ClaimRule {
                worker,
                lease: settings.lease,
                refund_patience: settings.refund_patience,
                click_patience: settings.click_patience,
                follower_delay: settings.follower_delay,
                look: 1,
            },
            gate: Gate::new(concurrency, settings.pause, batch.is_some()),
            pool,
            shared,
            settings,
            under_way: FuturesUnordered::new(),
            ready: VecDeque::new(),
            leases: HashMap::new(),
            finished: Vec::new(),
            calls: 0,
            claims: 0,
            claiming_since: None,
            is_saving: false,
            is_renewing: false,
            is_seeing: false,
            is_stopping: false,
            cursor: FRONT,
            cursor_since: now,
            pass_found: false,
            has_passed_over: false,
            looking: 1,
            claim_at: now,
            save_at: now,
            renew_at: now,
            seen_at: now,
            sample_at: now,
            clean_at: now,
        }
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.release_ready();
    }

    /// Begins everything that may begin at this moment.
    fn begin_what_may(&mut self) {
        let now = Instant::now();
        self.begin_calls(now);
        self.begin_save(now);
        if self.is_stopping {
            self.begin_renewal(now);
            return;
        }
        self.begin_claim(now);
        self.begin_renewal(now);
        self.begin_upkeep(now);
    }

    fn begin_calls(&mut self, now: Instant) {
        while !self.ready.is_empty() {
            let Some(ticket) = self.gate.begin(now, self.calls) else {
                break;
            };
            let Some(row) = self.ready.pop_front() else {
                break;
            };
            let deadline = self
                .leases
                .get(&row.seq)
                .map_or(now, |(_, deadline)| *deadline);
            let call = self.caller.clone().call(row, deadline);
            self.calls += 1;
            self.under_way.push(Box::pin(async move {
                let (row, end, signal) = call.await;
                Event::Called(Box::new(row), ticket, end, signal)
            }));
        }
    }

    fn begin_save(&mut self, now: Instant) {
        if self.is_saving || self.finished.is_empty() || now < self.save_at {
            return;
        }
        self.is_saving = true;
        let mut rows = std::mem::take(&mut self.finished);
        rows.sort_unstable_by_key(|row| row.seq);
        let (pool, clock) = (self.pool.clone(), self.shared.clock::<D>());
        self.under_way.push(Box::pin(async move {
            let result = D::save(&pool, &rows, clock).await;
            Event::Saved(rows, result)
        }));
    }

    /// Gives back what was claimed and not begun.
    fn release_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let rows: Vec<Lease> = self
            .ready
            .drain(..)
            .map(|row| Lease {
                seq: row.seq,
                token: row.token,
            })
            .collect();
        for row in &rows {
            self.forget(row.seq, &row.token);
        }
        let (pool, clock) = (self.pool.clone(), self.shared.clock::<D>());
        self.under_way.push(Box::pin(async move {
            Event::Released(D::release(&pool, &rows, clock).await)
        }));
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Claimed(result) => self.take_claim(now, result),
            Event::Called(row, ticket, end, signal) => {
                self.take_call(now, *row, ticket, end, &signal);
            }
            Event::Saved(rows, Ok(())) => {
                self.is_saving = false;
                for row in rows {
                    self.forget(row.seq, &row.token);
                }
                // What was saved may have woken others.
                self.claim_at = now;
            }
            Event::Saved(rows, Err(error)) => {
                self.is_saving = false;
                self.save_at = now + TRY_AGAIN;
                self.finished.extend(rows);
                telemetry::database_failed("save", &error);
            }
            Event::Renewed(Ok(renewed)) => {
                self.is_renewing = false;
                let deadline = self.deadline(now);
                for seq in renewed {
                    if let Some((_, until)) = self.leases.get_mut(&seq) {
                        *until = deadline;
                    }
                }
            }
            Event::Renewed(Err(error)) => {
                self.is_renewing = false;
                self.renew_at = now + TRY_AGAIN;
                telemetry::database_failed("renew", &error);
            }
            // The lease ends, and somebody takes them up.
            Event::Released(Err(error)) => telemetry::database_failed("release", &error),
            Event::Seen(result) => {
                self.is_seeing = false;
                match result {
                    Ok(true) => self.gate.probe(now),
                    Ok(false) => {}
                    Err(error) => telemetry::database_failed("note a worker", &error),
                }
            }
            Event::Sampled(Ok(depth)) => telemetry::sample(depth),
            Event::Sampled(Err(error)) => telemetry::database_failed("count", &error),
            // A full batch leaves more to do.
            Event::Cleaned(Ok(count)) if count >= 1000 => self.clean_at = now,
            Event::Released(Ok(())) | Event::Cleaned(Ok(_)) => {}
            Event::Cleaned(Err(error)) => telemetry::database_failed("clean up", &error),
        }
    }

    /// A row is out of this worker's hand, unless it has claimed it anew meanwhile.
    fn forget(&mut self, seq: i64, token: &str) {
        if self.leases.get(&seq).is_some_and(|(held, _)| held == token) {
            self.leases.remove(&seq);
        }
    }

    /// Until when a row is this worker's for sure, with a margin for the call itself.
    fn deadline(&self, began: Instant) -> Instant {
        began + self.settings.lease / 3 * 2
    }

    fn take_call(&mut self, now: Instant, row: Claimed, ticket: Ticket, end: End, signal: &Signal) {
        self.calls -= 1;
        if self.gate.end(now, ticket, signal) {
            self.seen_at = now;
            match self.gate.paused() {
                Some((_, reason)) => telemetry::paused(reason),
                None => telemetry::resumed(),
            }
        }
        if self.gate.paused().is_some() {
            self.release_ready();
        }
        match end {
            End::Saved(saved) => {
                telemetry::delivered(&row, &saved);
                self.finished.push(*saved);
            }
            End::Lost => self.forget(row.seq, &row.token),
            End::NotMarked(error) => {
                telemetry::database_failed("mark", &error);
                self.ready.push_front(row);
                self.release_ready();
                self.claim_at = now + TRY_AGAIN;
            }
        }
    }

    /// When there is something to do that nothing else wakes for.
    fn next_moment(&self) -> Instant {
        let mut moment = self.seen_at.min(self.clean_at);
        if telemetry::WANTS_SAMPLES {
            moment = moment.min(self.sample_at);
        }
        if !self.leases.is_empty() && !self.is_renewing {
            moment = moment.min(self.renew_at);
        }
        if !self.finished.is_empty() && !self.is_saving {
            moment = moment.min(self.save_at);
        }
        let now = Instant::now();
        let opens_at = self.gate.opens_at();
        let limit = self.gate.limit(now);
        if self.claiming_since.is_none() && !self.is_stopping {
            if limit > self.calls + self.ready.len() {
                moment = moment.min(self.claim_at);
            } else if let Some(opens_at) = opens_at {
                moment = moment.min(opens_at.max(self.claim_at));
            }
        }
        // Never a loop without a breath, whatever the clock does.
        moment.max(now + Duration::from_millis(1))
    }
}
