//! What the outbox shows of its rows: to people, to dashboards, and to the worker that claims them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tower_referral_platforms::Report;

/// What became of a report that was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Enqueued {
    /// It is new, and is sent.
    New,
    /// It brings the credit that the report of this ID lacked, and is sent unless the platform has
    /// recorded that one.
    Changed,
    /// The outbox knows it; nothing is sent again.
    Known,
}

/// Where a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It waits for its time or for an earlier report.
    Waiting,
    /// A refund or the like waits for its sale, which the outbox doesn't know.
    Held,
    /// A worker has it in hand. Where the platform deduplicates, it may be on its way.
    Claimed,
    /// It is on its way to a platform that doesn't deduplicate.
    Sending,
    /// The platform has answered.
    Done,
    /// The platform refused it, and would refuse it again: see the reason.
    Failed,
    /// It may have arrived, and nothing shows whether it did: look there, then send it again
    /// or settle it.
    Ambiguous,
    /// The row's JSON isn't a report that this version can read.
    Unreadable,
    /// It isn't sent: its customer, or that of its sale, was erased before, or its content was removed.
    Withdrawn,
}

impl State {
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "held" => Self::Held,
            "claimed" => Self::Claimed,
            "sending" => Self::Sending,
            "done" => Self::Done,
            "failed" => Self::Failed,
            "ambiguous" => Self::Ambiguous,
            "unreadable" => Self::Unreadable,
            "withdrawn" => Self::Withdrawn,
            _ => Self::Waiting,
        }
    }

    /// Returns the state as the column `state` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Claimed => "claimed",
            Self::Sending => "sending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Ambiguous => "ambiguous",
            Self::Unreadable => "unreadable",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Returns `true` if no further automatic attempt follows.
    #[must_use]
    pub fn is_finished(self) -> bool {
        !matches!(
            self,
            Self::Waiting | Self::Held | Self::Claimed | Self::Sending
        )
    }
}

/// A report in the outbox, with everything that happened to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// The row's number.
    pub row: i64,
    /// The report's ID; `None` if the row isn't a report.
    pub id: Option<String>,
    /// The kind of report.
    pub kind: Option<String>,
    /// The report; `None` once its content was removed, or if it's [unreadable](Self::unreadable).
    pub report: Option<Report>,
    /// Why this version can't read the row's JSON as a report, if it can't. Once it is repaired,
    /// [resend](crate::Outbox::resend_row) the row. The text may quote the report: not for logs.
    pub unreadable: Option<String>,
    /// Who is credited and by what, as the report's JSON has it; `None` without credit and once the
    /// content was removed.
    pub credit: Option<serde_json::Value>,
    /// Where it is.
    pub state: State,
    /// Which report it waits for.
    pub waits_for: Option<String>,
    /// The next attempt isn't made before, for a report that isn't finished.
    pub not_before: SystemTime,
    /// How many attempts were begun since it was last sent by a person.
    pub attempts: u32,
    /// `recorded`, `duplicate` or `not_attributed`, once it is done.
    pub outcome: Option<String>,
    /// The platform's own IDs, as JSON.
    pub platform_ids: Option<serde_json::Value>,
    /// Why the last attempt failed, and what to do.
    pub reason: Option<String>,
    /// The platform's own words. They may hold what was sent: not for logs.
    pub details: Option<String>,
    /// Each attempt, the oldest first; of very many the first and the newest. Empty if the column can't
    /// be read.
    pub history: Vec<Attempt>,
    /// When it was enqueued.
    pub created_at: SystemTime,
    /// When it was finished.
    pub finished_at: Option<SystemTime>,
}

/// Shows nothing that came from the visitor, nor the platform's own words.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("row", &self.row)
            .field("kind", &self.kind)
            .field("state", &self.state)
            .field("is_unreadable", &self.unreadable.is_some())
            .field("attempts", &self.attempts)
            .field("outcome", &self.outcome)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// One attempt to give a report to the platform.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// When it ended, in milliseconds of Unix time.
    pub at: i64,
    /// What the report was afterwards: `done`, `waiting`, `failed`, `ambiguous` or `unreadable`.
    pub state: String,
    /// The outcome, if it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The platform's own IDs, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_ids: Option<serde_json::Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The platform's own words. They may hold what was sent: not for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// Without the platform's own words.
impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("at", &self.at)
            .field("state", &self.state)
            .field("outcome", &self.outcome)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// How the outbox is, for a dashboard or a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How many reports aren't finished; 100,000 stands for that many or more.
    pub open: u64,
    /// How long the oldest report that is due has been there.
    pub oldest: Option<Duration>,
    /// How many failed; 10,000 stands for that many or more, here and below.
    pub failed: u64,
    /// How many are ambiguous.
    pub ambiguous: u64,
    /// How many can't be read.
    pub unreadable: u64,
    /// The workers whose sending is paused, in all processes.
    pub pauses: Vec<Paused>,
}

/// A worker that the platform has made pause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paused {
    /// The worker's name.
    pub worker: String,
    /// Since when.
    pub since: SystemTime,
    /// Why, and what to do.
    pub reason: String,
}

/// A row in a worker's hand.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) seq: i64,
    pub(crate) token: String,
    pub(crate) report: Vec<u8>,
    pub(crate) attempts: u32,
    pub(crate) may_have_arrived: bool,
    /// The click that came late, and its partner, as they are stored.
    pub(crate) click_id: Option<String>,
    pub(crate) partner_id: Option<String>,
    /// The IDs that the platform gave for the report itself, for the one that it depends on, and for
    /// the one before that.
    pub(crate) platform_ids: Vec<String>,
    /// The sale that it depends on is there, and the platform hasn't recorded it.
    pub(crate) sale_is_unrecorded: bool,
}

/// What a claim came to.
#[derive(Debug, Default)]
pub struct Claim {
    pub(crate) rows: Vec<Claimed>,
    /// How many rows were looked at.
    pub(crate) looked: i64,
    /// How many of them wait for another of their key that was looked at, too.
    pub(crate) passed_over: i64,
    /// From where the next claim may go on.
    pub(crate) next: (i64, i64),
}

/// A claimed row and the token under which it is claimed, as a statement takes them.
#[derive(Clone, Debug, Serialize)]
pub struct Lease {
    pub(crate) seq: i64,
    pub(crate) token: String,
}

/// What became of a claimed row, as the statement takes it.
#[derive(Clone, Debug, Serialize)]
pub struct Saved {
    pub(crate) seq: i64,
    pub(crate) token: String,
    pub(crate) state: &'static str,
    pub(crate) outcome: Option<&'static str>,
    pub(crate) platform_ids: Option<serde_json::Value>,
    pub(crate) reason: Option<String>,
    pub(crate) details: Option<String>,
    pub(crate) attempts: u32,
    /// Milliseconds until the next attempt.
    pub(crate) wait: u64,
    /// What this build reads, for a row that it can't.
    pub(crate) reads: Option<i32>,
    pub(crate) may_have_arrived: bool,
    /// The [`Attempt`] as the row's history has it, without the time.
    pub(crate) attempt: serde_json::Value,
}

impl Saved {
    /// The row in this state, with nothing else that is new.
    pub(crate) fn of(row: &Claimed, state: &'static str) -> Self {
        Self {
            seq: row.seq,
            token: row.token.clone(),
            state,
            outcome: None,
            platform_ids: None,
            reason: None,
            details: None,
            attempts: row.attempts,
            wait: 0,
            reads: None,
            may_have_arrived: false,
            attempt: serde_json::Value::Null,
        }
    }

    /// Adds the attempt to the row's history.
    pub(crate) fn with_attempt(mut self) -> Self {
        let mut attempt = serde_json::Map::new();
        attempt.insert("state".to_owned(), self.state.into());
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                attempt.insert(name.to_owned(), value);
            }
        };
        put("outcome", self.outcome.map(Into::into));
        put("platform_ids", self.platform_ids.clone());
        put("reason", self.reason.clone().map(Into::into));
        put("details", self.details.clone().map(Into::into));
        self.attempt = attempt.into();
        self
    }
}

pub(crate) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.max(0) as u64)
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}
