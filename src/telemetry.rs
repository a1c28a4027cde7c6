//! What is counted through the `metrics` facade and logged through `tracing`. Without these features,
//! nothing is.
//!
//! Every label of a counter is one of a list that the configuration and the code give. Nothing that comes
//! from a visitor is ever one, so the number of series is bounded.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts and logs one decision about a program; `label` is the program's name as a counter's label.
pub(crate) fn decision(label: &str, program: &str, reason: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "tower_referral_decisions_total",
        "program" => label.to_owned(),
        "reason" => reason
    )
    .increment(1);
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "tower_referral", program, reason, "referral");
    let _ = (label, program, reason);
}

/// Counts a click that was started, or what became of it.
pub(crate) fn click(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_clicks_total", "outcome" => outcome).increment(1);
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "tower_referral", outcome, "click");
    let _ = outcome;
}

/// Counts and logs a click that failed, with its cause: at WARN for the failures 1, 2, 4, 8 and so on, at
/// DEBUG otherwise.
pub(crate) fn click_failed(counter: &AtomicU64, outcome: &'static str, cause: &dyn fmt::Display) {
    let failures = counter.fetch_add(1, Ordering::Relaxed) + 1;
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_clicks_total", "outcome" => outcome).increment(1);
    #[cfg(feature = "tracing")]
    if failures.is_power_of_two() {
        tracing::warn!(target: "tower_referral", outcome, %cause, failures, "click failed");
    } else {
        tracing::debug!(target: "tower_referral", outcome, %cause, failures, "click failed");
    }
    let _ = (failures, outcome, cause);
}

/// Why a click, or the late result of one, was put off or dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dropped {
    NoRuntime,
    NoRandomness,
    NotRun,
    Ended,
    TooManyInFlight,
    TooManyPerSecond,
    TooManyLate,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::NoRuntime => "no_runtime",
            Self::NoRandomness => "no_randomness",
            Self::NotRun => "not_run",
            Self::Ended => "ended",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::TooManyPerSecond => "too_many_per_second",
            Self::TooManyLate => "too_many_late",
        }
    }

    /// Returns what to do about it.
    #[cfg(feature = "tracing")]
    fn fix(self) -> &'static str {
        match self {
            Self::NoRuntime => {
                "there is no Tokio runtime to run the call on: put a `Spawner` into the request's \
                 extensions, or give `ReferralLayerBuilder::spawner`"
            }
            Self::NoRandomness => {
                "there was no randomness to name the click by: check `ReferralLayerBuilder::random_source`"
            }
            Self::NotRun => "the spawner dropped the call unrun: let it run every task to its end",
            Self::Ended => {
                "the call was ended before its answer: wait for `ReferralLayer::drain_clicks` at \
                 shutdown, and where nothing runs after a response choose `ClickTiming::BeforeResponse`"
            }
            Self::TooManyInFlight => {
                "calls take too long or come too often: see `Clicks::max_in_flight`"
            }
            Self::TooManyPerSecond => "landings come too often: see `Clicks::max_per_second`",
            Self::TooManyLate => {
                "too many results wait for their visitors: see `Clicks::late_results`"
            }
        }
    }
}

/// Counts and logs a click, or the late result of one, that was put off or dropped: at WARN for the drops
/// 1, 2, 4, 8 and so on, so that a flood of landings doesn't become a flood of log lines.
pub(crate) fn click_dropped(counter: &AtomicU64, why: Dropped) {
    let dropped = counter.fetch_add(1, Ordering::Relaxed) + 1;
    let reason = why.label();
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_clicks_dropped_total", "reason" => reason).increment(1);
    #[cfg(feature = "tracing")]
    if dropped.is_power_of_two() {
        tracing::warn!(target: "tower_referral", reason, dropped, fix = why.fix(), "click dropped");
    } else {
        tracing::debug!(target: "tower_referral", reason, dropped, "click dropped");
    }
    let _ = (dropped, reason);
}

/// Logs a timeout that nothing measures: at WARN for the times 1, 2, 4, 8 and so on.
pub(crate) fn no_timer(counter: &AtomicU64) {
    let times = counter.fetch_add(1, Ordering::Relaxed) + 1;
    #[cfg(feature = "tracing")]
    {
        let fix = "serve in a Tokio runtime with its timer (`enable_time`), or give \
                   `ReferralLayerBuilder::timer`";
        if times.is_power_of_two() {
            tracing::warn!(target: "tower_referral", times, fix, "nothing measures a timeout");
        } else {
            tracing::debug!(target: "tower_referral", times, fix, "nothing measures a timeout");
        }
    }
    let _ = times;
}

/// Logs what couldn't be done with the store, and the kind of error, never the store's own text: at WARN
/// for the failures 1, 2, 4, 8 and so on since a call last succeeded.
#[cfg(feature = "_store")]
pub(crate) fn store_failed(counter: &AtomicU64, what: &'static str, error: &dyn fmt::Display) {
    let failures = counter.fetch_add(1, Ordering::Relaxed) + 1;
    #[cfg(feature = "tracing")]
    if failures.is_power_of_two() {
        tracing::warn!(target: "tower_referral", what, %error, failures, "store unavailable");
    } else {
        tracing::debug!(target: "tower_referral", what, %error, failures, "store unavailable");
    }
    let _ = (failures, what, error);
}

/// Logs a mistake in how layers are put together.
pub(crate) fn misplaced(text: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_referral", "{text}");
    let _ = text;
}
