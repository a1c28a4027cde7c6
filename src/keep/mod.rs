//! Where a referral is kept, and how long it counts there.

pub(crate) mod cookie;

use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Referral, UnixMillis};

/// How far in the future a capture may lie, in milliseconds: the clocks of several servers differ.
const MAX_SKEW: UnixMillis = 300_000;

/// Is a referral that was kept at `captured_at` still one? Its window becomes the shorter of its
/// own and the configured one.
pub(crate) fn check_age(
    mut referral: Referral,
    program: &Program,
    now: UnixMillis,
) -> Result<Referral, Reason> {
    referral.window = referral.window.min(program.window_seconds());
    if referral.captured_at > now + MAX_SKEW {
        Err(Reason::FromTheFuture)
    } else if millis_left(&referral, now) <= 0 {
        Err(Reason::Expired)
    } else {
        Ok(referral)
    }
}

/// What is left of the referral's window, in milliseconds; never more than the window.
fn millis_left(referral: &Referral, now: UnixMillis) -> UnixMillis {
    let window = UnixMillis::from(referral.window) * 1000;
    (referral.captured_at + window - now).min(window)
}

/// What is left of the referral's window, in whole seconds, rounded up: the browser is not to drop
/// what the server would still take.
pub(crate) fn seconds_left(referral: &Referral, now: UnixMillis) -> u32 {
    u32::try_from((millis_left(referral, now) + 999) / 1000).unwrap_or(0)
}
