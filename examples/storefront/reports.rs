//! Telling the platform, behind one small trait: directly, or, in a shop without a platform, by a
//! note in its own books. Whatever becomes of it, the visitor's page is there.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tower::{Service, ServiceExt};
use tower_referral::ReferralKey;
use tower_referral::platform::{self, Advice, Credit, Error, Report, ReportError};

/// Where the shop's reports go.
pub(crate) trait Reports: Send + Sync {
    /// Tells of a sign-up, a sale or a refund. Never fails: that it failed is an answer too.
    fn report(&self, report: Report) -> Pin<Box<dyn Future<Output = Answer> + Send>>;
}

/// What became of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
    /// Nobody would record it twice if it were told again.
    #[serde(skip)]
    pub(crate) may_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is credited.
    Recorded,
    /// It waits to be delivered.
    #[expect(dead_code, reason = "for an outbox, which answers so")]
    Queued,
    /// It was told before; nothing is credited twice.
    Duplicate,
    /// Nobody is credited.
    NotAttributed,
    /// The platform wasn't told, or refused.
    Failed,
}

impl Answer {
    pub(crate) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
            may_repeat: false,
        }
    }
}

/// Tells the platform while the visitor waits, once.
#[derive(Debug)]
pub(crate) struct Direct<S> {
    platform: &'static str,
    service: S,
}

impl<S> Direct<S> {
    pub(crate) fn new(platform: &'static str, service: S) -> Self {
        Self { platform, service }
    }
}

impl<S> Reports for Direct<S>
where
    S: Service<Report, Response = platform::Outcome, Error = ReportError>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn report(&self, report: Report) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let (platform, service) = (self.platform, self.service.clone());
        Box::pin(async move {
            let what = what(&report);
            let whom = whom(&report);
            match service.oneshot(report).await {
                Ok(platform::Outcome::Recorded { .. }) => Answer::new(
                    Outcome::Recorded,
                    format!("{platform} has recorded {what}{whom}."),
                ),
                Ok(platform::Outcome::Duplicate) => Answer::new(
                    Outcome::Duplicate,
                    format!("{platform} knew of {what} already. Nothing is credited twice."),
                ),
                Ok(_) => Answer::new(
                    Outcome::NotAttributed,
                    format!("Nobody is credited with {what}."),
                ),
                Err(error) => failure(platform, what, &error),
            }
        })
    }
}

fn failure(platform: &str, what: &str, error: &ReportError) -> Answer {
    let mend = match error.advice() {
        Advice::Later { .. } => "It can be told again later.",
        Advice::Undecided => "It isn't told again: somebody has to look there.",
        _ => "It would be refused again until that is mended.",
    };
    let words = match error.kind() {
        Error::Rejected { message, .. } => format!(" ({})", message.as_str()),
        _ => String::new(),
    };
    Answer {
        outcome: Outcome::Failed,
        detail: format!("{platform} has not confirmed {what}: {error}{words}. {mend}"),
        may_repeat: error.advice() != Advice::Undecided,
    }
}

/// The shop's own books, for want of a platform: whom each order is credited to.
#[derive(Debug, Default)]
pub(crate) struct OwnBooks {
    by_order: Mutex<HashMap<String, ReferralKey>>,
}

impl Reports for OwnBooks {
    fn report(&self, report: Report) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let mut by_order = self.by_order.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match (&report, credit(&report)) {
            (Report::Refund(refund), _) => by_order.get(refund.order()).cloned(),
            (_, credit) => credit.map(|credit| credit.key().clone()),
        };
        if let (Report::Sale(sale), Some(key)) = (&report, &key) {
            by_order.insert(sale.order().to_owned(), key.clone());
        }
        let what = what(&report);
        let answer = match key {
            Some(key) => Answer::new(
                Outcome::Recorded,
                format!(
                    "No platform is configured, so {what} is in the shop's own books, for {key}."
                ),
            ),
            None => Answer::new(
                Outcome::NotAttributed,
                format!("Nobody is credited with {what}."),
            ),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn what(report: &Report) -> &'static str {
    match report {
        Report::SignUp(_) => "the sign-up",
        Report::Sale(_) => "the sale",
        _ => "the refund",
    }
}

fn credit(report: &Report) -> Option<&Credit> {
    match report {
        Report::SignUp(sign_up) => sign_up.credited_to(),
        Report::Sale(sale) => sale.credited_to(),
        _ => None,
    }
}

fn whom(report: &Report) -> String {
    credit(report).map_or_else(String::new, |credit| format!(", for {}", credit.key()))
}
