//! How a worker claims rows: when, how many, and from where in the queue.

use std::time::{Duration, Instant};

use super::{BATCH, Event, FRONT, Round, TRY_AGAIN};
use crate::backend::Database;
use crate::row::Claim;
use crate::worker::reports::Deduplicates;
use crate::{Error, telemetry};

/// How many rows a claim looks at once it has found some that have to wait for others of their key: a
/// long queue under one key is passed over in few steps.
const LOOK_AROUND: i64 = 2048;
/// How often a claim begins at the front again, rather than behind what the last one left.
const CURSOR_LIFE: Duration = Duration::from_secs(1);

impl<D: Database, S: Deduplicates> Round<D, S> {
    pub(super) fn begin_claim(&mut self, now: Instant) {
        let limit = self.gate.limit(now);
        // One batch ahead, and nothing more while the database doesn't take what became of the last.
        let wanted = limit + limit.saturating_mul(2).min(BATCH);
        let in_hand = self.calls + self.ready.len();
        let room = wanted.saturating_sub(in_hand).min(BATCH);
        let is_due = now >= self.claim_at && self.finished.len() < 16 * BATCH;
        if self.claiming_since.is_some() || !is_due || limit == 0 {
            return;
        }
        // Few at a time only where few may go at a time.
        if room == 0 || (room < BATCH / 2 && limit >= BATCH / 2) {
            return;
        }
        if now >= self.cursor_since + CURSOR_LIFE {
            self.begin_pass(now);
        }
        self.claims += 1;
        self.claiming_since = Some(now);
        let (pool, mut rule, cursor) = (self.pool.clone(), self.rule.clone(), self.cursor);
        rule.look = rule.look.max(room as i64);
        self.looking = rule.look;
        let token = format!("{} {}", rule.worker, self.claims);
        let clock = self.shared.clock::<D>();
        self.under_way.push(Box::pin(async move {
            Event::Claimed(D::claim(&pool, &rule, token, room as i64, clock, cursor).await)
        }));
    }

    /// Has the next claim begin at the front.
    fn begin_pass(&mut self, now: Instant) {
        self.cursor = FRONT;
        self.cursor_since = now;
        self.has_passed_over = false;
    }

    pub(super) fn take_claim(&mut self, now: Instant, result: Result<Claim, Error>) {
        // The lease began no earlier than the claim did.
        let began = self.claiming_since.take().unwrap_or(now);
        let claim = match result {
            Ok(claim) => claim,
            Err(error) => {
                self.claim_at = now + TRY_AGAIN;
                telemetry::database_failed("claim", &error);
                return;
            }
        };
        self.pass_found |= !claim.rows.is_empty();
        self.has_passed_over |= claim.passed_over > 0;
        if claim.rows.is_empty() && claim.passed_over > 0 {
            // Within a long queue: begun again at the front, it would never be passed.
            self.cursor_since = now;
        }
        let is_at_end = claim.looked < self.looking;
        self.rule.look = if claim.passed_over > 0 {
            LOOK_AROUND
        } else {
            1
        };
        if is_at_end && !self.pass_found {
            self.claim_at = now + self.settings.poll;
        }
        if !is_at_end || (self.has_passed_over && claim.looked > 0) {
            self.cursor = claim.next;
        } else if !self.has_passed_over {
            // What committed late, or waits again, is in front. Behind a long queue that is looked for
            // once a second, and meanwhile what comes at the end.
            self.begin_pass(now);
        }
        if is_at_end {
            self.pass_found = false;
        }
        if self.leases.is_empty() {
            self.renew_at = now + self.settings.lease / 3;
        }
        let deadline = self.deadline(began);
        for row in claim.rows {
            self.leases.insert(row.seq, (row.token.clone(), deadline));
            self.ready.push_back(row);
        }
        // A claim may come back after the pause began.
        if self.is_stopping || (self.gate.paused().is_some() && self.gate.limit(now) == 0) {
            self.release_ready();
        }
    }
}
