//! Results of clicks that came after their landing's response: kept for the visitor's next request,
//! bounded in number, in time, and for each key.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::request::Click;
use crate::clock::UnixMillis;
use crate::reason::Reason;
use crate::referral::{ClickState, Referral, TouchId};
use crate::telemetry::{self, Dropped};

/// How many clicks a layer has seen since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClickCounts {
    /// Calls that were started.
    pub started: u64,
    /// Calls that gave a click ID.
    pub created: u64,
    /// Calls that the platform answered with [`UnknownKey`](crate::click::UnknownKey).
    pub unknown_key: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Calls that reached the timeout; whether they arrived is unknown.
    pub timed_out: u64,
    /// Clicks that were put off or dropped, because of the bounds of [`Clicks`](crate::click::Clicks),
    /// because there is nothing to run them on, or because their task was ended.
    pub dropped: u64,
    /// Late results that were dropped because too many visitors hadn't come back for theirs.
    pub late_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) started: AtomicU64,
    pub(crate) created: AtomicU64,
    pub(crate) unknown_key: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) late_dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> ClickCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClickCounts {
            started: read(&self.started),
            created: read(&self.created),
            unknown_key: read(&self.unknown_key),
            failed: read(&self.failed),
            timed_out: read(&self.timed_out),
            dropped: read(&self.dropped),
            late_dropped: read(&self.late_dropped),
        }
    }
}

/// What became of a click, for the referral that waits for it.
#[derive(Clone, Debug)]
pub(crate) enum ClickResult {
    Created(Click),
    /// The platform doesn't know the key: the capture is taken back, and what it had replaced is put
    /// back.
    Undo(Option<Box<Referral>>),
    /// There is no click, and none is tried again.
    None,
    /// The call wasn't made: it is tried at the visitor's next page view.
    PutOff,
}

impl ClickResult {
    /// Applies the result to the referral that waited for it. Returns what is kept then, and why it
    /// changed.
    pub(crate) fn apply(self, mut referral: Referral) -> (Option<Referral>, Option<Reason>) {
        referral.click = ClickState::Settled;
        match self {
            Self::Created(click) => {
                referral.click_id = Some(click.id().clone());
                referral.partner_id = click.partner_id().cloned();
                (Some(referral), Some(Reason::ClickJoined))
            }
            Self::Undo(replaced) => (replaced.map(|it| *it), Some(Reason::UnknownKey)),
            Self::None => (Some(referral), None),
            Self::PutOff => {
                referral.click = ClickState::Due;
                (Some(referral), None)
            }
        }
    }
}

/// A hash of the key that a click is for: it only tells keys apart, to share the bounds among them.
pub(crate) type KeyHash = u64;

/// A map by what is random or hashed with a secret already, so that it needs no randomness of its own.
pub(crate) type MapOf<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Where late results wait for their visitors.
pub(crate) struct LateClicks {
    entries: Mutex<Entries>,
    keep_for: UnixMillis,
    capacity: usize,
}

#[derive(Default)]
struct Entries {
    /// `None` for a due click that was claimed and has no result yet.
    results: MapOf<TouchId, (KeyHash, Option<ClickResult>)>,
    /// In the order in which they came, which is the order in which they go. Some may be gone.
    order: VecDeque<(UnixMillis, TouchId)>,
    of_key: MapOf<KeyHash, VecDeque<TouchId>>,
}

impl LateClicks {
    pub(crate) fn new(capacity: usize, keep_for: Duration) -> Self {
        Self {
            entries: Mutex::default(),
            keep_for: UnixMillis::try_from(keep_for.as_millis()).unwrap_or(UnixMillis::MAX / 2),
            capacity,
        }
    }

    /// Keeps a result for its visitor's next request.
    pub(crate) fn keep(
        &self,
        touch: TouchId,
        key: KeyHash,
        result: ClickResult,
        now: UnixMillis,
        dropped: &AtomicU64,
    ) {
        self.insert(
            &mut self.entries(now),
            touch,
            key,
            Some(result),
            now,
            dropped,
        );
    }

    /// Claims a due click for one of several page views. Returns `true` for the first.
    pub(crate) fn claim(
        &self,
        touch: TouchId,
        key: KeyHash,
        now: UnixMillis,
        dropped: &AtomicU64,
    ) -> bool {
        let mut entries = self.entries(now);
        let is_first = !entries.results.contains_key(&touch);
        if is_first {
            self.insert(&mut entries, touch, key, None, now, dropped);
        }
        is_first
    }

    /// Gives back a claim whose click couldn't be started.
    pub(crate) fn unclaim(&self, touch: TouchId, now: UnixMillis) {
        self.entries(now).remove(touch);
    }

    /// Keeps the result of a click that was claimed, even if a response takes it along: a tab that doesn't
    /// know it yet may write the browser's cookie after that one. Returns `true` if it was claimed.
    pub(crate) fn settle_claim(
        &self,
        touch: TouchId,
        result: &ClickResult,
        now: UnixMillis,
    ) -> bool {
        match self.entries(now).results.get_mut(&touch) {
            Some((_, claimed)) => {
                *claimed = Some(result.clone());
                true
            }
            None => false,
        }
    }

    /// Returns the result for a touch. It stays until it expires: the response that carries it may get
    /// lost.
    pub(crate) fn get(&self, touch: TouchId, now: UnixMillis) -> Option<ClickResult> {
        let entries = self.entries(now);
        entries
            .results
            .get(&touch)
            .and_then(|(_, result)| result.clone())
    }

    fn entries(&self, now: UnixMillis) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while entries
            .order
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            entries.drop_oldest();
        }
        entries
    }

    fn insert(
        &self,
        entries: &mut Entries,
        touch: TouchId,
        key: KeyHash,
        result: Option<ClickResult>,
        now: UnixMillis,
        dropped: &AtomicU64,
    ) {
        if entries.results.insert(touch, (key, result)).is_some() {
            return;
        }
        entries
            .order
            .push_back((now.saturating_add(self.keep_for), touch));
        let of_key = entries.of_key.entry(key).or_default();
        of_key.push_back(touch);
        let is_lost = if of_key.len() > (self.capacity / 2).max(1) {
            // One busy key can't push out the others' results.
            let oldest = of_key.front().copied();
            oldest.is_some_and(|oldest| entries.remove(oldest))
        } else if entries.results.len() > self.capacity {
            entries.drop_oldest()
        } else {
            false
        };
        if is_lost {
            telemetry::click_dropped(dropped, Dropped::TooManyLate);
        }
    }
}

impl Entries {
    /// Drops the oldest entry that is still there. Returns `true` if a result was lost by it.
    fn drop_oldest(&mut self) -> bool {
        while let Some((_, touch)) = self.order.pop_front() {
            if self.results.contains_key(&touch) {
                return self.remove(touch);
            }
        }
        false
    }

    /// Removes an entry. Returns `true` if it had a result. Its place in the order stays until it expires,
    /// so the order is at most as long as the entries of one window.
    fn remove(&mut self, touch: TouchId) -> bool {
        let Some((key, result)) = self.results.remove(&touch) else {
            return false;
        };
        if let Some(of_key) = self.of_key.get_mut(&key) {
            of_key.retain(|other| *other != touch);
            if of_key.is_empty() {
                self.of_key.remove(&key);
            }
        }
        result.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> ClickResult {
        ClickResult::Created(Click::new("clk_1".parse().unwrap()))
    }

    #[test]
    fn a_busy_key_pushes_out_only_its_own() {
        let (late, dropped) = (
            LateClicks::new(10, Duration::from_secs(600)),
            AtomicU64::new(0),
        );
        late.keep([0; 8], 1, result(), 0, &dropped);
        for touch in 1..=10_000_u64 {
            late.keep(touch.to_be_bytes(), 2, result(), 1, &dropped);
        }
        assert!(late.get([0; 8], 2).is_some());
        assert!(late.get(10_000_u64.to_be_bytes(), 2).is_some());
        let entries = late.entries(2);
        assert_eq!(entries.results.len(), 6);
        assert_eq!(entries.of_key[&2].len(), 5);
    }

    #[test]
    fn results_expire_and_leave_nothing_behind() {
        let (late, dropped) = (
            LateClicks::new(10, Duration::from_secs(1)),
            AtomicU64::new(0),
        );
        assert!(late.claim([1; 8], 1, 0, &dropped));
        assert!(!late.claim([1; 8], 1, 0, &dropped));
        late.settle_claim([1; 8], &result(), 0);
        assert!(late.get([1; 8], 999).is_some());
        assert!(late.get([1; 8], 1000).is_none());
        let entries = late.entries(1000);
        assert!(
            entries.results.is_empty() && entries.order.is_empty() && entries.of_key.is_empty()
        );
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }
}
