//! Moments, to the millisecond.

use std::time::SystemTime;

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
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since_epoch.unwrap_or_default().as_millis();
    UnixMillis::try_from(millis).map_or(MAX_UNIX_MILLIS, |millis| millis.min(MAX_UNIX_MILLIS))
}
