//! The bounds of a layer's clicks: in flight, by the second, and for each key.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::UnixMillis;
use crate::telemetry::Dropped;

/// A hash of the key that a click is for: it only tells keys apart, to share the bounds among them.
pub(super) type KeyHash = u64;

/// A map by what is hashed with a secret already, so that it needs no randomness of its own.
type MapOf<V> = HashMap<KeyHash, V, BuildHasherDefault<DefaultHasher>>;

/// How many calls may be in flight and how many may start in a second; one key gets half of either.
pub(super) struct Bounds {
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    max_per_second: u32,
    usage: Arc<Mutex<Usage>>,
}

#[derive(Default)]
struct Usage {
    second: UnixMillis,
    started: u32,
    started_of_key: MapOf<u32>,
    in_flight_of_key: MapOf<usize>,
}

/// Lets one call run. Dropped when the call is over.
pub(super) struct Permit {
    key: KeyHash,
    usage: Arc<Mutex<Usage>>,
    _permit: OwnedSemaphorePermit,
}

impl Bounds {
    pub(super) fn new(max_in_flight: usize, max_per_second: u32) -> Self {
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            max_per_second,
            usage: Arc::default(),
        }
    }

    pub(super) fn acquire(&self, key: KeyHash, now: UnixMillis) -> Result<Permit, Dropped> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if usage.second != now / 1000 {
            usage.second = now / 1000;
            usage.started = 0;
            usage.started_of_key.clear();
        }
        let of_key = |all: usize| all.div_ceil(2);
        let started_of_key = usage.started_of_key.get(&key).copied().unwrap_or(0);
        let in_flight_of_key = usage.in_flight_of_key.get(&key).copied().unwrap_or(0);
        if usage.started >= self.max_per_second || started_of_key >= self.max_per_second.div_ceil(2)
        {
            return Err(Dropped::TooManyPerSecond);
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let (Ok(permit), true) = (permit, in_flight_of_key < of_key(self.max_in_flight)) else {
            return Err(Dropped::TooManyInFlight);
        };
        usage.started += 1;
        *usage.started_of_key.entry(key).or_default() += 1;
        *usage.in_flight_of_key.entry(key).or_default() += 1;
        Ok(Permit {
            key,
            usage: Arc::clone(&self.usage),
            _permit: permit,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = usage.in_flight_of_key.get_mut(&self.key) {
            *in_flight -= 1;
            if *in_flight == 0 {
                usage.in_flight_of_key.remove(&self.key);
            }
        }
    }
}
