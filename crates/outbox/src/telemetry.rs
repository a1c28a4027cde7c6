//! What the outbox says to `tracing` and to `metrics`: each for one feature, and nothing that came
//! from a visitor.

use crate::Error;
use crate::backend::Depth;
use crate::row::{Claimed, Saved};

/// Whether anybody sees the counts of the rows.
pub(crate) const WANTS_SAMPLES: bool = cfg!(feature = "metrics");

/// A report was given to the platform, with this result.
pub(crate) fn delivered(row: &Claimed, saved: &Saved) {
    let result = saved.outcome.unwrap_or(saved.state);
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_outbox_attempts_total", "result" => result).increment(1);
    #[cfg(feature = "tracing")]
    {
        let (row, attempts) = (row.seq, saved.attempts);
        match saved.reason.as_deref() {
            None => tracing::debug!(target: "tower_referral", row, attempts, result, "report"),
            Some(reason) if saved.state == "waiting" => {
                tracing::debug!(target: "tower_referral", row, attempts, result, reason, "report");
            }
            Some(reason) => {
                tracing::warn!(target: "tower_referral", row, attempts, result, reason, "report");
            }
        }
    }
    let _ = (row, result);
}

/// Nothing is sent for a while.
pub(crate) fn paused(reason: &str) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("tower_referral_outbox_pauses_total").increment(1);
        metrics::gauge!("tower_referral_outbox_paused").set(1);
    }
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_referral", reason, "the platform is paused");
    let _ = reason;
}

/// Sending goes on.
pub(crate) fn resumed() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("tower_referral_outbox_paused").set(0);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_referral", "the platform works again");
}

/// The database failed, and is tried again.
pub(crate) fn database_failed(doing: &'static str, error: &Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_outbox_database_errors_total", "doing" => doing).increment(1);
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_referral", doing, %error, "the outbox's database failed");
    let _ = (doing, error);
}

/// How many rows there are.
pub(crate) fn sample(depth: Depth) {
    #[cfg(feature = "metrics")]
    {
        let gauge = |count: i64| count as f64;
        metrics::gauge!("tower_referral_outbox_depth").set(gauge(depth.open));
        metrics::gauge!("tower_referral_outbox_oldest_seconds")
            .set(gauge(depth.oldest.unwrap_or_default()) / 1000.0);
        for (state, count) in [
            ("failed", depth.failed),
            ("ambiguous", depth.ambiguous),
            ("unreadable", depth.unreadable),
        ] {
            metrics::gauge!("tower_referral_outbox_problems", "state" => state).set(gauge(count));
        }
    }
    let _ = depth;
}
