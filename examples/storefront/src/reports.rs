//! Telling the platform by way of the outbox, or, in a shop without a platform, by a note in its own
//! books; and in which words the shop says what came of it. Whatever that is, the visitor's page is
//! there.

use std::fmt;

use serde::Serialize;
use tower_referral_platforms::{self as platform, DeliveryState, Report, Setback};

use crate::books::Entry;
use crate::outbox::{Outbox, Told};
use crate::store::StoreError;

/// Where the shop's reports go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Reports {
    /// There is no platform.
    OwnBooks,
    To {
        platform: &'static str,
        outbox: Outbox,
    },
}

/// What became of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
    /// The platform doesn't have it and won't.
    #[serde(skip)]
    pub(crate) is_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is credited.
    Recorded,
    /// It waits to be delivered.
    Queued,
    /// It was told before; nothing is credited twice.
    Duplicate,
    /// Nobody is credited.
    NotAttributed,
    /// The platform refused it, or somebody has to look there.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recorded => "recorded",
            Self::Queued => "queued",
            Self::Duplicate => "duplicate",
            Self::NotAttributed => "not attributed",
            Self::Failed => "failed",
        })
    }
}

impl Answer {
    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
            is_refused: false,
        }
    }
}

impl Reports {
    /// Tells of a sign-up, a sale or a refund, once, however often it is asked to.
    pub(crate) async fn tell(&self, entry: Entry) -> Result<Answer, StoreError> {
        let Self::To { platform, outbox } = self else {
            return Ok(in_the_books(&entry));
        };
        let what = what(&entry.report);
        Ok(match outbox.report(entry.report).await? {
            Told::Before(delivery) => match delivery.state() {
                DeliveryState::Done {
                    outcome: platform::Outcome::NotAttributed,
                } => nobody(what),
                state => problem(platform, what, state).unwrap_or_else(told_before),
            },
            Told::Now(delivery) => match delivery.state() {
                DeliveryState::Done { outcome } => answered(platform, what, outcome),
                DeliveryState::Waiting {
                    reason: Some(reason),
                    ..
                } if !outbox.has_queue() => Answer::new(
                    Outcome::Failed,
                    format!(
                        "{platform} hasn't confirmed {what}: {reason}. It can be told again later."
                    ),
                ),
                state => problem(platform, what, state).unwrap_or_else(|| {
                    let detail = format!(
                        "{platform} hasn't confirmed {what} yet. It waits in the outbox, which tries \
                         again."
                    );
                    Answer::new(Outcome::Queued, detail)
                }),
            },
        })
    }

    /// What a person has to look at is listed there.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        match self {
            Self::OwnBooks => None,
            Self::To { outbox, .. } => Some(outbox),
        }
    }
}

fn answered(platform: &str, what: &str, outcome: &platform::Outcome) -> Answer {
    match outcome {
        platform::Outcome::Recorded { .. } => Answer::new(
            Outcome::Recorded,
            format!("{platform} has recorded {what}."),
        ),
        platform::Outcome::Duplicate => Answer::new(
            Outcome::Duplicate,
            format!("{platform} knew of {what} already. Nothing is credited twice."),
        ),
        _ => nobody(what),
    }
}

/// What is for a person, if it is.
fn problem(platform: &str, what: &str, state: &DeliveryState) -> Option<Answer> {
    let detail = match state {
        DeliveryState::Dead { reason } => format!(
            "{platform} doesn't have {what}: {}. It isn't told again before that is mended: see \
             /outbox.",
            with_words(reason)
        ),
        DeliveryState::Undecided { reason } => format!(
            "{platform} may have {what}: {}. It isn't told again: somebody has to look there, see \
             /outbox.",
            with_words(reason)
        ),
        _ => return None,
    };
    Some(Answer {
        is_refused: matches!(state, DeliveryState::Dead { .. }),
        ..Answer::new(Outcome::Failed, detail)
    })
}

fn with_words(reason: &Setback) -> String {
    match reason.words() {
        Some(words) => format!("{reason} ({words})"),
        None => reason.to_string(),
    }
}

fn in_the_books(entry: &Entry) -> Answer {
    let what = what(&entry.report);
    match &entry.credit {
        _ if !entry.is_new => told_before(),
        Some(credit) => Answer::new(
            Outcome::Recorded,
            format!(
                "No platform is configured, so {what} is in the shop's own books, for {}.",
                credit.key()
            ),
        ),
        None => nobody(what),
    }
}

fn told_before() -> Answer {
    Answer::new(
        Outcome::Duplicate,
        "This has been reported before. Nothing is credited twice.",
    )
}

fn nobody(what: &str) -> Answer {
    Answer::new(
        Outcome::NotAttributed,
        format!("Nobody is credited with {what}."),
    )
}

fn what(report: &Report) -> &'static str {
    match report {
        Report::SignUp(_) => "the sign-up",
        Report::Sale(_) => "the sale",
        _ => "the refund",
    }
}
