//! What came of the calls: counted, and, where the landing's response was out already, kept for the
//! visitor's next request, bounded in number and time.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::UnknownKey;
use crate::boxed::BoxError;
use crate::counters;
use crate::keep::check_age;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Click, ClickId, Referral, TouchId, UnixMillis};

/// How many clicks a layer has seen since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClickCounts {
    /// Calls that were started.
    pub started: u64,
    /// Calls that gave a click ID.
    pub created: u64,
    /// Calls that the platform answered with [`UnknownKey`].
    pub unknown_key: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Calls that reached the time limit; their fate is unknown.
    pub timed_out: u64,
    /// Clicks that were dropped, because too many calls were in flight or because the layer runs
    /// outside a Tokio runtime.
    pub dropped: u64,
    /// Late answers that were dropped because too many visitors hadn't come back for theirs.
    pub late_dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    created: AtomicU64,
    unknown_key: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    dropped: AtomicU64,
    late_dropped: AtomicU64,
}

/// Counts a drop and tells of it: aloud at the first, the second, the fourth and so on, so that a
/// flood of landings doesn't become a flood of log lines.
fn count_drop(counter: &AtomicU64, reason: &'static str) {
    let dropped = counter.fetch_add(1, Ordering::Relaxed) + 1;
    counters::count_drop(reason);
    #[cfg(feature = "tracing")]
    if dropped.is_power_of_two() {
        tracing::warn!(target: "tower_referral", reason, dropped, "click dropped");
    } else {
        tracing::debug!(target: "tower_referral", reason, dropped, "click dropped");
    }
    let _ = (dropped, reason);
}

fn is_unknown_key(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error + 'static>::is::<UnknownKey>)
}

/// What the platform said, for the touch it was asked about.
#[derive(Clone)]
pub(crate) enum Answer {
    Click(ClickId),
    /// Take the capture back, and put back what it had replaced.
    Undo(Option<Box<Referral>>),
}

impl Answer {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Click(_) => Reason::ClickJoined,
            Self::Undo(_) => Reason::UnknownKey,
        }
    }

    /// What becomes of the referral that waited for this.
    pub(crate) fn apply(
        self,
        mut referral: Referral,
        program: &Program,
        now: UnixMillis,
    ) -> Option<Referral> {
        match self {
            Self::Click(click_id) => {
                referral.click = Click::None;
                referral.click_id = Some(click_id);
                Some(referral)
            }
            Self::Undo(replaced) => {
                replaced.and_then(|replaced| check_age(*replaced, program, now).ok())
            }
        }
    }
}

/// Longer than any referral lives, and short enough to be added to any instant.
const MAX_KEEP_FOR: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Where late answers wait for their visitors.
pub(super) struct Desk {
    late: Mutex<Late>,
    keep_for: Duration,
    most: usize,
    counters: Counters,
}

#[derive(Default)]
struct Late {
    /// `None` for a due click that was claimed and has no answer yet.
    answers: HashMap<TouchId, Option<Answer>>,
    /// In order of their coming, which is the order of their going.
    order: VecDeque<(Instant, TouchId)>,
}

impl Desk {
    pub(super) fn new(most: usize, keep_for: Duration) -> Self {
        Self {
            late: Mutex::default(),
            keep_for: keep_for.min(MAX_KEEP_FOR),
            most,
            counters: Counters::default(),
        }
    }

    pub(super) fn count_start(&self) {
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        counters::count_click("started");
    }

    pub(super) fn drop_click(&self, reason: &'static str) {
        count_drop(&self.counters.dropped, reason);
    }

    pub(super) fn counts(&self) -> ClickCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClickCounts {
            started: read(&self.counters.started),
            created: read(&self.counters.created),
            unknown_key: read(&self.counters.unknown_key),
            failed: read(&self.counters.failed),
            timed_out: read(&self.counters.timed_out),
            dropped: read(&self.counters.dropped),
            late_dropped: read(&self.counters.late_dropped),
        }
    }

    /// Counts what came of a call, `None` being a time-out, and says what it means for the
    /// referral.
    pub(super) fn judge(
        &self,
        result: Option<Result<ClickId, BoxError>>,
        undo: Option<Answer>,
    ) -> Option<Answer> {
        let (counter, outcome, answer) = match result {
            Some(Ok(click_id)) => (
                &self.counters.created,
                "created",
                Some(Answer::Click(click_id)),
            ),
            Some(Err(error)) if is_unknown_key(&*error) => {
                (&self.counters.unknown_key, "unknown_key", undo)
            }
            Some(Err(_)) => (&self.counters.failed, "failed", None),
            None => (&self.counters.timed_out, "timed_out", None),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters::count_click(outcome);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tower_referral", outcome, "click");
        answer
    }

    /// Keeps an answer for its visitor's next request.
    pub(super) fn keep(&self, touch: TouchId, answer: Answer) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.drop_expired();
        self.insert(&mut late, touch, Some(answer));
    }

    /// Claims a due click for one of several page views. Says whether this is the first.
    pub(super) fn claim(&self, touch: TouchId) -> bool {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.drop_expired();
        let is_first = !late.answers.contains_key(&touch);
        if is_first {
            self.insert(&mut late, touch, None);
        }
        is_first
    }

    /// Keeps the answer to a click that was claimed, even if a response takes it along: a tab that
    /// doesn't know it yet may write the browser's cookie after that one.
    pub(super) fn answer_claim(&self, touch: TouchId, answer: &Answer) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = late.answers.get_mut(&touch) {
            *claimed = Some(answer.clone());
        }
    }

    fn insert(&self, late: &mut Late, touch: TouchId, answer: Option<Answer>) {
        if late.answers.insert(touch, answer).is_none() {
            let until = Instant::now() + self.keep_for;
            late.order.push_back((until, touch));
        }
        if late.order.len() > self.most && late.drop_oldest() {
            count_drop(&self.counters.late_dropped, "too_many_late");
        }
    }

    /// The answer stays until it expires: the response that carries it may get lost on its way.
    pub(super) fn look_up(&self, touch: TouchId) -> Option<Answer> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.drop_expired();
        late.answers.get(&touch).cloned().flatten()
    }
}

impl Late {
    fn drop_expired(&mut self) {
        let now = Instant::now();
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    /// Says whether an answer was lost by it.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.order.pop_front();
        oldest
            .and_then(|(_, touch)| self.answers.remove(&touch))
            .is_some_and(|answer| answer.is_some())
    }
}
