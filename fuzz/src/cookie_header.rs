//! `Cookie` lines read as the rules have it: split at `;`, trim blanks and tabs, split at the first
//! `=`, compare the whole name. And which of several cookies counts, and what a `Set-Cookie` of
//! ours looks like.

use std::cmp::Ordering;

use crate::envelope::{Envelopes, Fault};
use crate::message::{Keys, Plain};
use crate::shop::{KEYS, KNOWN_KEYS};

/// Milliseconds that a capture may lie in the future.
const SKEW: i64 = 300_000;

/// The values of the cookies of one name, in the order in which they came.
pub fn values<'l>(lines: &[&'l [u8]], name: &str) -> Vec<&'l [u8]> {
    let mut values = Vec::new();
    for line in lines {
        for pair in line.split(|byte| *byte == b';') {
            let pair = trim(pair);
            if let Some(at) = pair.iter().position(|byte| *byte == b'=')
                && &pair[..at] == name.as_bytes()
            {
                values.push(&pair[at + 1..]);
            }
        }
    }
    values
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Two referrals of different keys and equal claim: the first one stays, or the last one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// First touch.
    First,
    /// Last touch.
    Last,
}

/// A program, as far as its cookies go.
pub struct Program {
    /// The cookie's name.
    pub cookie: String,
    /// Its keys.
    pub envelopes: Envelopes,
    /// Which keys are keys.
    pub keys: Keys,
    /// Seconds.
    pub window: u32,
    /// Whose is the credit.
    pub credit: Credit,
}

/// The program of a layer that was given none.
impl Default for Program {
    fn default() -> Self {
        let cookie = "__Host-referral";
        Self {
            cookie: cookie.to_owned(),
            envelopes: Envelopes::of_cookie(&KEYS[..KNOWN_KEYS], cookie, "default"),
            keys: Keys::Ascii,
            window: 30 * 86_400,
            credit: Credit::Last,
        }
    }
}

impl Program {
    /// The message of a cookie, if it is one of ours.
    pub fn open(&self, value: &[u8]) -> Result<Vec<u8>, Fault> {
        self.envelopes.open(value)
    }

    /// A message that passed the signature, if it still counts.
    pub fn read<'m>(&self, message: &'m [u8], now: i64) -> Result<Plain<'m>, Fault> {
        let plain = Plain::read(message, self.keys, false).ok_or(Fault::Malformed)?;
        self.counts(plain, now)
    }

    /// A referral, if it still counts, with the window that it has here.
    pub fn counts<'m>(&self, mut plain: Plain<'m>, now: i64) -> Result<Plain<'m>, Fault> {
        plain.window = plain.window.min(self.window);
        if plain.captured_at > now + SKEW {
            Err(Fault::FromTheFuture)
        } else if now >= plain.captured_at + i64::from(plain.window) * 1000 {
            Err(Fault::Expired)
        } else {
            Ok(plain)
        }
    }

    /// Does a new referral take the place of the one that is kept?
    pub fn replaces(&self, kept: &Plain<'_>, new: &Plain<'_>) -> bool {
        let credited = |plain: &Plain<'_>| match plain.key {
            "" => (true, plain.click_id.to_owned()),
            key => (false, key.to_owned()),
        };
        match new.rank().cmp(&kept.rank()) {
            Ordering::Less => false,
            _ if credited(kept) == credited(new) => kept.rank() < 2 && new.rank() == 2,
            Ordering::Greater => true,
            Ordering::Equal => self.credit == Credit::Last,
        }
    }

    /// Which of the values counts, by its index; or why none does. `opened` has what
    /// [`open`](Self::open) says of each.
    pub fn pick<'m>(
        &self,
        opened: &'m [Result<Vec<u8>, Fault>],
        now: i64,
    ) -> Result<Option<Plain<'m>>, Fault> {
        let mut valid: Vec<Plain<'m>> = Vec::new();
        let mut fault = None;
        let mut well_formed = 0;
        for opened in opened {
            let read = match opened {
                Ok(message) => self.read(message, now),
                Err(fault) => Err(*fault),
            };
            if !matches!(read, Err(Fault::Malformed)) {
                well_formed += 1;
            }
            match read {
                Ok(plain) => valid.push(plain),
                Err(why) => fault = fault.or(Some(why)),
            }
            if well_formed == 8 {
                break;
            }
        }
        if valid.is_empty() {
            return fault.map_or(Ok(None), Err);
        }
        valid.sort_by_key(|plain| plain.captured_at);
        let mut valid = valid.into_iter();
        let mut kept = valid.next();
        for new in valid {
            if kept.as_ref().is_some_and(|kept| self.replaces(kept, &new)) {
                kept = Some(new);
            }
        }
        Ok(kept)
    }

    /// The `Set-Cookie` that keeps a referral for what is left of its window.
    pub fn set_cookie(&self, mut plain: Plain<'_>, now: i64) -> String {
        let name = &self.cookie;
        let attributes = "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=";
        loop {
            let value = self
                .envelopes
                .seal(crate::shop::KEYS[0].0, &plain.written());
            // Room for the longest window, whatever this one's is.
            let longest = name.len() + 1 + value.len() + attributes.len() + "34560000".len();
            if longest < 1024 || !plain.drop_one() {
                let passed = (now - plain.captured_at).max(0) / 1000;
                let left = i64::from(plain.window) - passed;
                return format!("{name}={value}{attributes}{left}");
            }
        }
    }
}
