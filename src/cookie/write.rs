//! Writing our cookies: one function for keeping, one for forgetting.

use http::HeaderValue;

use super::{CookieCodec, MAX_TOTAL_LEN, ProgramCookie};
use crate::clock::UnixMillis;
use crate::record::RecordRef;
use crate::referral::{ClickState, Referral};
use crate::seal::message::{self, Message};
use crate::window::seconds_left;

/// What a cookie holds where the referral is kept on the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordCookie<'a> {
    pub(crate) record: &'a RecordRef,
    /// The server doesn't have the referral yet, so the cookie carries it.
    pub(crate) carries: bool,
    /// What is carried replaces nothing that the server has.
    pub(crate) fills_only: bool,
}

impl CookieCodec {
    /// Writes the `Set-Cookie` that keeps a referral, whose window is the cookie's life. `others` is the
    /// length of the names and values of all other programs' cookies. `None` where key and click ID don't
    /// fit what is left.
    pub(crate) fn keep(
        &self,
        index: usize,
        referral: &Referral,
        record: Option<RecordCookie<'_>>,
        others: usize,
        now: UnixMillis,
    ) -> Option<HeaderValue> {
        let cookie = &self.programs[index];
        let max_len = cookie.max_message_len(others);
        let message = match record {
            None => message::encode(referral, max_len),
            Some(record) => encode_record(referral, record, max_len),
        };
        if message.len() > max_len {
            return None;
        }
        Some(self.line(cookie, &message, seconds_left(referral, now)))
    }

    /// Writes the `Set-Cookie` that deletes a program's cookie.
    pub(crate) fn forget(&self, index: usize) -> HeaderValue {
        self.line(&self.programs[index], &[], 0)
    }

    /// Returns `true` if a referral can be kept while the other programs' cookies have that length.
    pub(crate) fn fits(&self, index: usize, referral: &Referral, others: usize) -> bool {
        // Most cookies are far below the bound.
        let max_len = self.programs[index].max_message_len(others);
        let max_len = max_len.saturating_sub(self.record_len);
        max_len > MAX_MESSAGE_LEN || message::encode(referral, max_len).len() <= max_len
    }

    /// Returns the length of the shortest name and value that keep a referral.
    pub(crate) fn least_len(&self, index: usize, referral: &Referral) -> usize {
        let cookie = &self.programs[index];
        let len = message::encode(referral, 0).len() + self.record_len;
        cookie.name.len() + 1 + cookie.seal.sealed_len(len)
    }

    /// Returns the length of the name and value that a `Set-Cookie` of the layer sets.
    pub(crate) fn pair_len(line: &HeaderValue) -> usize {
        let line = line.as_bytes();
        line.iter()
            .position(|byte| *byte == b';')
            .unwrap_or(line.len())
    }

    fn line(&self, cookie: &ProgramCookie, message: &[u8], max_age: u32) -> HeaderValue {
        let mut digits = itoa::Buffer::new();
        let max_age = digits.format(max_age);
        let value_len = if message.is_empty() {
            0
        } else {
            cookie.seal.sealed_len(message.len())
        };
        // To the byte, because a header value takes over a buffer only if it is full.
        let mut line = Vec::with_capacity(
            cookie.name.len() + 1 + value_len + self.attributes.len() + max_age.len(),
        );
        line.extend_from_slice(cookie.name.as_bytes());
        line.push(b'=');
        if !message.is_empty() {
            cookie.seal.seal(message, &mut line);
        }
        line.extend_from_slice(self.attributes.as_bytes());
        line.extend_from_slice(max_age.as_bytes());
        // Nothing but ASCII goes in; an empty value is what a page can best live with if that
        // ever changed.
        HeaderValue::try_from(line).unwrap_or(HeaderValue::from_static(""))
    }
}

/// No referral without extra parameters and landing page makes a longer message, in bytes.
const MAX_MESSAGE_LEN: usize = 600;

impl ProgramCookie {
    /// Returns the longest message whose cookie stays within the bounds of one and of all.
    fn max_message_len(&self, others: usize) -> usize {
        let left = MAX_TOTAL_LEN.saturating_sub(others + self.name.len() + 1);
        self.seal.max_message_len(self.max_sealed_len.min(left))
    }
}

fn encode_record(referral: &Referral, record: RecordCookie<'_>, max_len: usize) -> Message {
    let is_due = referral.click == ClickState::Due;
    let carried = record.carries.then_some((referral, record.fills_only));
    message::encode_stored(record.record, is_due, carried, max_len)
}
