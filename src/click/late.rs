//! Results of clicks that came after their landing's response: kept for the visitor's next request,
//! bounded in number, in time, and for each key.
//!
//! Whatever visitors do, there are never more entries than the capacity, claims included. Each costs its
//! result and a fixed number of bytes, and every operation takes a time that grows with the logarithm of
//! their number; each entry is dropped once, by whichever operation finds it expired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bounds::KeyHash;
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
    Undo(Option<Arc<Referral>>),
    /// There is no click, and none is tried again.
    None,
    /// The call wasn't made: it is tried at the visitor's next page view.
    PutOff,
}

impl ClickResult {
    /// Applies the result to the referral that waited for it. Returns what is kept then, and why it
    /// changed.
    pub(crate) fn apply(
        self,
        mut referral: Arc<Referral>,
    ) -> (Option<Arc<Referral>>, Option<Reason>) {
        let (state, reason) = match self {
            Self::Undo(replaced) => return (replaced, Some(Reason::UnknownKey)),
            Self::Created(click) => {
                let referral = Arc::make_mut(&mut referral);
                referral.click_id = Some(click.id().clone());
                referral.partner_id = click.partner_id().cloned();
                (ClickState::Settled, Some(Reason::ClickJoined))
            }
            Self::None => (ClickState::Settled, None),
            Self::PutOff => (ClickState::Due, None),
        };
        Arc::make_mut(&mut referral).click = state;
        (Some(referral), reason)
    }
}

/// Where late results wait for their visitors.
pub(crate) struct LateClicks {
    entries: Mutex<Entries>,
    keep_for: UnixMillis,
    capacity: usize,
}

/// Where an entry stands in the order in which they came, which is the order in which they go. No two ever
/// have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

struct Entry {
    touch: TouchId,
    key: KeyHash,
    until: UnixMillis,
    /// `None` for a due click that was claimed and has no result yet.
    result: Option<ClickResult>,
}

/// An entry is at its place and nowhere else. The other maps only name places, and change with the first.
#[derive(Default)]
struct Entries {
    in_order: BTreeMap<Place, Entry>,
    of_touch: BTreeMap<TouchId, Place>,
    of_key: BTreeMap<KeyHash, BTreeSet<Place>>,
    next: Place,
}

impl LateClicks {
    pub(crate) fn new(capacity: usize, keep_for: Duration) -> Self {
        Self {
            entries: Mutex::default(),
            keep_for: UnixMillis::try_from(keep_for.as_millis()).unwrap_or(UnixMillis::MAX / 2),
            capacity,
        }
    }

    /// Keeps a result for its visitor's next request, in place of the touch's claim if there is one.
    pub(crate) fn keep(
        &self,
        touch: TouchId,
        key: KeyHash,
        result: ClickResult,
        now: UnixMillis,
        dropped: &AtomicU64,
    ) {
        let mut entries = self.entries(now);
        if let Some(&place) = entries.of_touch.get(&touch) {
            entries.remove(place);
        }
        self.insert(&mut entries, touch, key, Some(result), now, dropped);
    }

    /// Returns `true` if a touch's click was claimed, or its result is there.
    pub(crate) fn holds(&self, touch: TouchId, now: UnixMillis) -> bool {
        self.entries(now).of_touch.contains_key(&touch)
    }

    /// Claims a due click for one of several page views. `None` for all but the first.
    pub(crate) fn claim(
        &self,
        touch: TouchId,
        key: KeyHash,
        now: UnixMillis,
        dropped: &AtomicU64,
    ) -> Option<Place> {
        let mut entries = self.entries(now);
        if entries.of_touch.contains_key(&touch) {
            return None;
        }
        Some(self.insert(&mut entries, touch, key, None, now, dropped))
    }

    /// Gives back a claim whose call wasn't made. One that is gone already takes no other along.
    pub(crate) fn unclaim(&self, claim: Place, now: UnixMillis) {
        self.entries(now).remove(claim);
    }

    /// Returns the result for a touch. It stays until it expires: the response that carries it may get
    /// lost.
    pub(crate) fn get(&self, touch: TouchId, now: UnixMillis) -> Option<ClickResult> {
        let entries = self.entries(now);
        let place = entries.of_touch.get(&touch)?;
        entries.in_order.get(place)?.result.clone()
    }

    /// Returns the entries, without those that have expired. Where the clock was set back, the newer ones
    /// stay at least as long as those before them.
    fn entries(&self, now: UnixMillis) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((&oldest, entry)) = entries.in_order.first_key_value()
            && entry.until <= now
        {
            entries.remove(oldest);
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
    ) -> Place {
        let place = entries.push(Entry {
            touch,
            key,
            until: now.saturating_add(self.keep_for),
            result,
        });
        // One busy key can't push out the others' results.
        let of_key = &entries.of_key[&key];
        let surplus = if of_key.len() > (self.capacity / 2).max(1) {
            of_key.first().copied()
        } else if entries.in_order.len() > self.capacity {
            entries.in_order.keys().next().copied()
        } else {
            None
        };
        let lost = surplus.and_then(|oldest| entries.remove(oldest));
        if lost.is_some_and(|entry| entry.result.is_some()) {
            telemetry::click_dropped(dropped, Dropped::TooManyLate);
        }
        place
    }
}

impl Entries {
    /// Gives an entry the last place. There is none of its touch.
    fn push(&mut self, entry: Entry) -> Place {
        let place = self.next;
        self.next = Place(place.0 + 1);
        self.of_touch.insert(entry.touch, place);
        self.of_key.entry(entry.key).or_default().insert(place);
        self.in_order.insert(place, entry);
        place
    }

    fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = self.in_order.remove(&place)?;
        self.of_touch.remove(&entry.touch);
        if let Some(of_key) = self.of_key.get_mut(&entry.key) {
            of_key.remove(&place);
            if of_key.is_empty() {
                self.of_key.remove(&entry.key);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES_10: Duration = Duration::from_secs(600);

    fn result() -> ClickResult {
        ClickResult::Created(Click::new("clk_1".parse().unwrap()))
    }

    fn late(capacity: usize) -> (LateClicks, AtomicU64) {
        (LateClicks::new(capacity, MINUTES_10), AtomicU64::new(0))
    }

    /// Counts the entries of all keys, and of each of some, after a look at whether the maps agree.
    fn count<const KEYS: usize>(
        late: &LateClicks,
        keys: [KeyHash; KEYS],
        now: UnixMillis,
    ) -> (usize, [usize; KEYS]) {
        let entries = late.entries(now);
        for (place, entry) in &entries.in_order {
            assert_eq!(entries.of_touch[&entry.touch], *place);
            assert!(entries.of_key[&entry.key].contains(place));
        }
        let places = entries.in_order.len();
        assert_eq!(entries.of_touch.len(), places);
        assert_eq!(
            entries.of_key.values().map(BTreeSet::len).sum::<usize>(),
            places
        );
        assert!(entries.of_key.values().all(|places| !places.is_empty()));
        let of_key = |key| entries.of_key.get(&key).map_or(0, BTreeSet::len);
        (places, keys.map(of_key))
    }

    #[test]
    fn a_busy_key_pushes_out_only_its_own() {
        let (late, dropped) = late(10);
        late.keep([0; 8], 1, result(), 0, &dropped);
        for touch in 1..=10_000_u64 {
            late.keep(touch.to_be_bytes(), 2, result(), 1, &dropped);
        }
        assert!(late.get([0; 8], 2).is_some());
        assert!(late.get(9_996_u64.to_be_bytes(), 2).is_some());
        assert!(late.get(10_000_u64.to_be_bytes(), 2).is_some());
        assert_eq!(count(&late, [1, 2], 2), (6, [1, 5]));
        assert_eq!(dropped.load(Ordering::Relaxed), 9_995);
    }

    #[test]
    fn results_expire_and_leave_nothing_behind() {
        let (late, dropped) = late(10);
        assert!(late.claim([1; 8], 1, 0, &dropped).is_some());
        assert!(late.claim([1; 8], 1, 0, &dropped).is_none());
        assert!(late.get([1; 8], 0).is_none());
        late.keep([1; 8], 1, result(), 0, &dropped);
        assert!(late.claim([1; 8], 1, 599_999, &dropped).is_none());
        assert!(late.get([1; 8], 599_999).is_some());
        assert!(late.get([1; 8], 600_000).is_none());
        assert_eq!(count(&late, [1], 600_000), (0, [0]));
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn claims_given_back_leave_no_places() {
        let (late, dropped) = late(10);
        for now in 0..1_000 {
            let claim = late.claim([9; 8], 1, now, &dropped).unwrap();
            assert_eq!(count(&late, [1], now), (1, [1]));
            late.unclaim(claim, now);
            assert_eq!(count(&late, [1], now), (0, [0]));
        }
    }

    #[test]
    fn a_claim_given_back_takes_no_result_along() {
        let (late, dropped) = late(10_000);
        let claim = late.claim([9; 8], 1, 0, &dropped).unwrap();
        late.unclaim(claim, 0);
        late.keep([1; 8], 2, result(), 599_000, &dropped);
        assert!(late.get([1; 8], 600_001).is_some());
        assert!(late.get([1; 8], 1_198_999).is_some());
        assert!(late.get([1; 8], 1_199_000).is_none());
    }

    #[test]
    fn a_claim_lasts_its_whole_time_after_another_was_given_back() {
        let (late, dropped) = late(10);
        let claim = late.claim([9; 8], 1, 0, &dropped).unwrap();
        late.unclaim(claim, 0);
        assert!(late.claim([9; 8], 1, 599_000, &dropped).is_some());
        assert!(late.claim([9; 8], 1, 600_001, &dropped).is_none());
        // The first one, given back again, isn't the second one.
        late.unclaim(claim, 600_001);
        assert!(late.claim([9; 8], 1, 1_198_999, &dropped).is_none());
        assert!(late.claim([9; 8], 1, 1_199_000, &dropped).is_some());
    }

    #[test]
    fn no_capacity_keeps_nothing() {
        let (late, dropped) = late(0);
        late.keep([1; 8], 1, result(), 0, &dropped);
        assert!(late.claim([2; 8], 2, 0, &dropped).is_some());
        assert_eq!(count(&late, [1, 2], 0), (0, [0, 0]));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    /// Every order of operations, by three keys of which one is busy, with a clock that is also set back.
    #[test]
    fn whatever_is_done_there_are_no_more_places_than_the_capacity() {
        let (late, dropped) = late(8);
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut now, mut claims) = (0, Vec::new());
        let mut most = (0, 0);
        for _ in 0..50_000 {
            now += UnixMillis::try_from(draw(100_000)).unwrap() - 20_000;
            let touch = draw(20).to_be_bytes();
            let key = draw(5).saturating_sub(2);
            match draw(4) {
                0 => late.keep(touch, key, result(), now, &dropped),
                1 => claims.extend(late.claim(touch, key, now, &dropped)),
                2 => drop(late.get(touch, now)),
                _ if claims.is_empty() => {}
                _ => {
                    let any = usize::try_from(draw(1 << 20)).unwrap() % claims.len();
                    late.unclaim(claims.swap_remove(any), now);
                }
            }
            let (places, of_key) = count(&late, [0, 1, 2], now);
            most = (most.0.max(places), most.1.max(of_key[0]));
        }
        assert_eq!(most, (8, 4));
    }
}
