//! A record's text: the referral's message in base64url.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use crate::clock::{UnixMillis, from_unix_millis};
use crate::key::ReferralKey;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::Referral;
use crate::seal::message;
use crate::window::{if_counting, seconds_left};

/// No referral makes a longer message, in bytes.
const MAX_MESSAGE_LEN: usize = 8 * 1024;

/// Returns a record's text, the referral's message in base64url, and when it ends.
pub(super) fn as_text(referral: &Referral, now: UnixMillis) -> (String, OffsetDateTime) {
    let message = message::encode_named(referral, MAX_MESSAGE_LEN);
    let left = time::Duration::seconds(seconds_left(referral, now).into());
    (
        URL_SAFE_NO_PAD.encode(&message),
        from_unix_millis(now) + left,
    )
}

/// Reads a record's text. `Err` says why it doesn't count.
pub(super) fn of_text(
    text: &str,
    programs: &[Program],
    now: UnixMillis,
) -> Result<Arc<Referral>, Reason> {
    let decode = || {
        let message = URL_SAFE_NO_PAD.decode(text).ok()?;
        let referral = message::decode_named(&message)?;
        let mut programs = programs.iter();
        let program = programs.find(|program| program.name == referral.program)?;
        let rule = &program.key_rule;
        let is_key = |key: &ReferralKey| rule.was_accepted(key.as_str());
        referral
            .key
            .as_ref()
            .is_none_or(is_key)
            .then_some((referral, program))
    };
    let (referral, program) = decode().ok_or(Reason::Malformed)?;
    if_counting(Arc::new(referral), program, now)
}
