//! What the layer and the client count, for whatever the application collects its metrics with: the
//! counters of the `metrics` facade, by the feature of that name. Without it, nothing is counted.
//!
//! Every label is one of a list that the configuration and the code give. Nothing that comes from a
//! visitor is ever one, so the number of series is bounded.

use crate::reason::Reason;

/// One decision about a program.
pub(crate) fn count_decision(program: &str, reason: Reason) {
    #[cfg(feature = "metrics")]
    {
        // A handler may have made the name of a program that isn't there of anything.
        let program = match reason {
            Reason::UnknownProgram => "",
            _ => program,
        };
        metrics::counter!(
            "tower_referral_decisions_total",
            "program" => program.to_owned(),
            "reason" => reason.as_str()
        )
        .increment(1);
    }
    let _ = (program, reason);
}

/// A click: started, or what came of it.
pub(crate) fn count_click(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_clicks_total", "outcome" => outcome).increment(1);
    let _ = outcome;
}

/// A click, or the late answer to one, that was dropped.
pub(crate) fn count_drop(reason: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_clicks_dropped_total", "reason" => reason).increment(1);
    let _ = reason;
}
