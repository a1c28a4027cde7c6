//! Windows: whether a referral still counts, and what is left of it.

use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::Referral;

/// How far in the future a capture may lie, in milliseconds: the clocks of several servers differ.
const MAX_SKEW: UnixMillis = 300_000;

/// Checks that a referral still counts. Its window becomes the shorter of its own and the
/// program's.
pub(crate) fn check_age(
    referral: &mut Referral,
    program: &Program,
    now: UnixMillis,
) -> Result<(), Reason> {
    referral.window = referral.window.min(program.window_seconds());
    if referral.captured_at > now + MAX_SKEW {
        Err(Reason::FromTheFuture)
    } else if millis_left(referral, now) <= 0 {
        Err(Reason::Expired)
    } else {
        Ok(())
    }
}

/// Returns the referral if it still counts, as [`check_age`] says.
pub(crate) fn if_counting(
    mut referral: Arc<Referral>,
    program: &Program,
    now: UnixMillis,
) -> Result<Arc<Referral>, Reason> {
    check_age(Arc::make_mut(&mut referral), program, now)?;
    Ok(referral)
}

/// Returns what is left of the referral's window, in milliseconds; never more than the window.
fn millis_left(referral: &Referral, now: UnixMillis) -> UnixMillis {
    let window = UnixMillis::from(referral.window) * 1000;
    (referral.captured_at + window - now).min(window)
}

/// Returns what is left of the referral's window in whole seconds, rounded up, so that the browser
/// doesn't drop what the server would still accept.
pub(crate) fn seconds_left(referral: &Referral, now: UnixMillis) -> u32 {
    let millis = millis_left(referral, now);
    u32::try_from((millis + 999) / 1000).unwrap_or(0)
}
