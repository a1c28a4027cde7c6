//! What the client counts, through the `metrics` facade. Without the feature `metrics`, nothing is
//! counted. Every label is one of a fixed list, so the number of series is bounded.

/// Counts a report with its outcome, or with the advice that follows from its failure.
pub(crate) fn count_report(kind: &'static str, outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_reports_total", "kind" => kind, "outcome" => outcome)
        .increment(1);
    let _ = (kind, outcome);
}
