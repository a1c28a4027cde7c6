//! In which words the shop says what became of a report. Whatever that is, the visitor's page is
//! there.

use std::fmt;

use serde::Serialize;
use tower_referral::{ClickId, ReferralKey};
use tower_referral_outbox::{Enqueued, Entry, State};
use tower_referral_platforms::{self as platforms, Credit, Report};

use crate::database::Database;
use crate::platform::{Forecast, Platform};

/// What became of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is credited.
    Recorded,
    /// It waits to be sent.
    Queued,
    /// It was reported before; nothing is credited twice.
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
    /// The detail is a sentence; its first letter is made a capital.
    pub(crate) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some(first) = detail.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self { outcome, detail }
    }

    /// Nothing is sent a second time.
    pub(crate) fn duplicate() -> Self {
        let detail = "This has been reported before. Nothing is credited twice.";
        Self::new(Outcome::Duplicate, detail)
    }
}

/// What the outbox made of a report, or the shop's own rows where there is no platform.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Booked {
    InOutbox(Enqueued),
    InBooks { is_new: bool },
}

/// Says what became of a report, as far as that is known without waiting for the platform. `credit`
/// is whom the sign-up or the sale credits, with a refund the sale that it takes back.
pub(crate) async fn answer(
    database: &Database,
    platform: Option<&Platform>,
    report: &Report,
    credit: Option<&Credit>,
    booked: Booked,
) -> Result<Answer, tower_referral_outbox::Error> {
    let what = what(report);
    let (Some(platform), Booked::InOutbox(enqueued)) = (platform, booked) else {
        let is_new = !matches!(booked, Booked::InBooks { is_new: false });
        return Ok(in_the_books(what, credit, is_new));
    };
    let name = platform.name();
    if enqueued == Enqueued::Known {
        let entry = database.find(&report.id()).await?;
        return Ok(entry
            .and_then(|entry| problem(name, what, &entry))
            .unwrap_or_else(|| match credit {
                None if !platform.takes_all(report) => nobody(what),
                _ => Answer::duplicate(),
            }));
    }
    if credit.is_none() && report.coupon().is_none() && !platform.takes_all(report) {
        return Ok(nobody(what));
    }
    Ok(match platform.forecast(report) {
        Forecast::Open => {
            let detail = format!("{name} hasn't got {what} yet. It waits in the outbox.");
            Answer::new(Outcome::Queued, detail)
        }
        Forecast::NotAttributed => nobody(what),
        Forecast::Refused(reason) => {
            let detail = format!("{name} doesn't take {what}: {reason}.");
            Answer::new(Outcome::Failed, detail)
        }
    })
}

/// Says what a repetition is told of a report that needs a person, or that credited nobody.
fn problem(platform: &str, what: &str, entry: &Entry) -> Option<Answer> {
    let reason = entry.reason.as_deref().unwrap_or("the reason isn't known");
    let detail = match entry.state {
        State::Failed => format!("{platform} doesn't have {what}: {reason}. See /outbox."),
        State::Ambiguous => format!(
            "{platform} may have {what}: {reason}. It isn't sent again before somebody has looked \
             there: see /outbox."
        ),
        State::Unreadable => format!("{what} can't be read from the outbox: {reason}."),
        _ => {
            let not_attributed = platforms::Outcome::NotAttributed.as_str();
            return (entry.outcome.as_deref() == Some(not_attributed)).then(|| nobody(what));
        }
    };
    Some(Answer::new(Outcome::Failed, detail))
}

fn in_the_books(what: &str, credit: Option<&Credit>, is_new: bool) -> Answer {
    match credit {
        _ if !is_new => Answer::duplicate(),
        Some(credit) => {
            let by = credit.key().map(ReferralKey::as_str);
            let by = by.or_else(|| credit.click_id().map(ClickId::as_str));
            let by = by.unwrap_or("somebody");
            let detail = format!(
                "No platform is configured, so {what} is in the shop's own books, for {by}."
            );
            Answer::new(Outcome::Recorded, detail)
        }
        None => nobody(what),
    }
}

fn nobody(what: &str) -> Answer {
    let detail = format!("Nobody is credited with {what}.");
    Answer::new(Outcome::NotAttributed, detail)
}

fn what(report: &Report) -> &'static str {
    match report {
        Report::SignUp(_) => "the sign-up",
        Report::Sale(_) => "the sale",
        _ => "the refund",
    }
}
