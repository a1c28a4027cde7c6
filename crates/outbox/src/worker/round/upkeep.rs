//! What a worker does besides its reports: it renews leases, shows that it lives, counts, and cleans
//! up.

use std::time::{Duration, Instant};

use super::{Event, Round};
use crate::backend::{Clean, Database};
use crate::row::{Lease, millis};
use crate::telemetry;
use crate::worker::reports::Deduplicates;

/// How often a worker says that it lives, and looks whether a person wants it to try.
const SEEN: Duration = Duration::from_secs(10);
const SEEN_WHILE_PAUSED: Duration = Duration::from_secs(1);
/// How often the counts for metrics are taken, and how often is cleaned up.
const SAMPLE: Duration = Duration::from_secs(15);
const CLEAN: Duration = Duration::from_secs(60);

impl<D: Database, S: Deduplicates> Round<D, S> {
    /// Renews the lease of everything in hand, three times within each.
    pub(super) fn begin_renewal(&mut self, now: Instant) {
        if self.is_renewing || self.leases.is_empty() || now < self.renew_at {
            return;
        }
        self.is_renewing = true;
        self.renew_at = now + self.settings.lease / 3;
        let rows = self.leases.iter();
        let rows: Vec<Lease> = rows
            .map(|(seq, (token, _))| Lease {
                seq: *seq,
                token: token.clone(),
            })
            .collect();
        let (pool, clock) = (self.pool.clone(), self.shared.clock::<D>());
        let lease = millis(self.settings.lease);
        self.under_way.push(Box::pin(async move {
            Event::Renewed(D::renew(&pool, &rows, lease, clock).await)
        }));
    }

    pub(super) fn begin_upkeep(&mut self, now: Instant) {
        let clock = self.shared.clock::<D>();
        if now >= self.seen_at && !self.is_seeing {
            self.is_seeing = true;
            let paused = self.gate.paused().map(|(since, reason)| {
                (
                    millis(now.saturating_duration_since(since)),
                    reason.to_owned(),
                )
            });
            self.seen_at = now
                + if paused.is_some() {
                    SEEN_WHILE_PAUSED
                } else {
                    SEEN
                };
            let (pool, worker) = (self.pool.clone(), self.rule.worker.clone());
            self.under_way.push(Box::pin(async move {
                Event::Seen(D::worker_seen(&pool, worker, paused, clock).await)
            }));
        }
        if now >= self.sample_at && telemetry::WANTS_SAMPLES {
            self.sample_at = now + SAMPLE;
            let pool = self.pool.clone();
            self.under_way.push(Box::pin(async move {
                Event::Sampled(D::depth(&pool, clock).await)
            }));
        }
        if now >= self.clean_at {
            self.clean_at = now + CLEAN;
            let rules = [
                self.settings.keep_content.map(Clean::Content),
                self.settings.keep_rows.map(Clean::Rows),
                self.settings.keep_payments.map(Clean::Payments),
                Some(Clean::Clicks),
                Some(Clean::Unread),
            ];
            for what in rules.into_iter().flatten() {
                let pool = self.pool.clone();
                self.under_way.push(Box::pin(async move {
                    Event::Cleaned(D::clean(&pool, what, clock).await)
                }));
            }
        }
    }
}
