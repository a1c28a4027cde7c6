//! What the client counts through the `metrics` facade and tells `tracing`, by nothing that came
//! from the visitor. Every label is one of a fixed list, so the number of series is bounded.

use tower_referral::click::Click;

use crate::{Error, Receipt, Report, ReportError};

/// Counts a report with its outcome, or with the advice that follows from its failure, and tells
/// `tracing`.
pub(crate) fn note_report(report: &Report, result: &Result<Receipt, ReportError>) {
    let kind = report.kind();
    let outcome = match result {
        Ok(receipt) => receipt.outcome().as_str(),
        Err(error) => error.advice().as_str(),
    };
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_reports_total", "kind" => kind, "outcome" => outcome)
        .increment(1);
    #[cfg(feature = "tracing")]
    {
        let order = report.order();
        match result {
            Ok(_) => {
                tracing::debug!(target: "tower_referral", kind, order, outcome, "report");
            }
            Err(error) => {
                let (advice, code) = (outcome, error.error().code());
                tracing::warn!(target: "tower_referral", kind, order, advice, code, %error, "report");
            }
        }
    }
    let _ = (kind, outcome);
}

/// Counts a click, and warns of one that failed, with its cause.
pub(crate) fn note_click(result: &Result<Click, Error>) {
    let outcome = match result {
        Ok(_) => "created",
        Err(error) => error.code(),
    };
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_referral_platform_clicks_total", "outcome" => outcome).increment(1);
    #[cfg(feature = "tracing")]
    match result {
        Ok(_) => tracing::debug!(target: "tower_referral", outcome, "click"),
        Err(error) => tracing::warn!(target: "tower_referral", code = outcome, %error, "click"),
    }
    let _ = outcome;
}
