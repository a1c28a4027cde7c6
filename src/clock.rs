//! Moments, to the millisecond.

use time::{Duration, OffsetDateTime};

/// Milliseconds since the Unix epoch: the precision of a capture.
pub(crate) type UnixMillis = i64;

/// The last moment at which a referral can be captured, in the year 9000: no sum with a window
/// overflows `OffsetDateTime`.
pub(crate) const MAX_UNIX_MILLIS: UnixMillis = 221_845_392_000_000;

pub(crate) fn from_unix_millis(millis: UnixMillis) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(millis.clamp(0, MAX_UNIX_MILLIS))
}

pub(crate) fn to_unix_millis(time: OffsetDateTime) -> UnixMillis {
    // `unix_timestamp_nanos` divides 128 bits, which takes longer than all of this.
    let millis = time.unix_timestamp() * 1000 + UnixMillis::from(time.millisecond());
    millis.clamp(0, MAX_UNIX_MILLIS)
}

/// Returns the system's time. A time before the epoch is the epoch.
pub(crate) fn system_now() -> UnixMillis {
    system::now().clamp(0, MAX_UNIX_MILLIS)
}

/// The system has a clock. Without one, `build` asks for one.
pub(crate) const HAS_SYSTEM_CLOCK: bool = system::HAS_CLOCK;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod system {
    use std::time::SystemTime;

    use super::UnixMillis;

    pub(super) const HAS_CLOCK: bool = true;

    pub(super) fn now() -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since_epoch.unwrap_or_default().as_millis();
        UnixMillis::try_from(millis).unwrap_or(UnixMillis::MAX)
    }
}

/// JavaScript's clock. On Cloudflare Workers it stands still between two answers from outside.
#[cfg(all(target_family = "wasm", target_os = "unknown", feature = "wasm"))]
mod system {
    use super::UnixMillis;

    pub(super) const HAS_CLOCK: bool = true;

    pub(super) fn now() -> UnixMillis {
        js_sys::Date::now() as UnixMillis
    }
}

/// The standard library's clock traps here.
#[cfg(all(target_family = "wasm", target_os = "unknown", not(feature = "wasm")))]
mod system {
    use super::UnixMillis;

    pub(super) const HAS_CLOCK: bool = false;

    pub(super) fn now() -> UnixMillis {
        0
    }
}
