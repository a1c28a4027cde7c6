//! What a sealed referral says, read byte by byte and written again, by the format that the crate
//! documents in `seal/message.rs` and by the rules that it documents on the types. What can be read can be
//! written in one way only: [`Plain::read`] makes sure of it each time.

use sha2::{Digest as _, Sha256};

/// 400 days.
pub const MAX_WINDOW: u32 = 34_560_000;
/// The first instant of the year 9000, in milliseconds.
const MAX_CAPTURED_AT: i64 = 221_845_392_000_000;

/// Which keys are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// `A-Z a-z 0-9 . _ ~ - @ + : =`
    Ascii,
    /// Whatever is printable and no blank.
    Unicode,
}

/// A referral with all that is sealed of it. A text that is absent is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain<'m> {
    /// Milliseconds since the epoch.
    pub captured_at: i64,
    /// Seconds.
    pub window: u32,
    /// 1 landing, 2 handler, 3 script.
    pub source: u8,
    /// A landing by a link of the own site.
    pub is_own_link: bool,
    /// 0 settled, 1 due, 2 started.
    pub click: u8,
    /// The touch's name; empty or 8 bytes.
    pub touch: &'m [u8],
    /// The keys that were refused as own links, a Bloom filter; empty or 4 bytes.
    pub refused: &'m [u8],
    /// Empty in a cookie.
    pub program: &'m str,
    /// Who referred the visitor.
    pub key: &'m str,
    /// The platform's ID of the click.
    pub click_id: &'m str,
    /// The second ID of the click.
    pub partner_id: &'m str,
    /// The parameter's name.
    pub parameter: &'m str,
    /// The landing page's path.
    pub path: &'m str,
    /// Names and values.
    pub extra: Vec<(&'m str, &'m str)>,
}

impl<'m> Plain<'m> {
    /// A landing at noon by this key, found in this parameter, with nothing else.
    pub fn landing(key: &'m str, parameter: &'m str) -> Self {
        Self {
            captured_at: crate::shop::NOON,
            window: 30 * 86_400,
            source: 1,
            is_own_link: false,
            click: 0,
            touch: b"",
            refused: b"",
            program: "",
            key,
            click_id: "",
            partner_id: "",
            parameter,
            path: "",
            extra: Vec::new(),
        }
    }

    /// What is remembered of a key that was refused as an own link: three of 32 bits.
    pub fn as_refused(&self) -> [u8; 4] {
        let key = if self.key.is_empty() {
            self.click_id
        } else {
            self.key
        };
        let mut bits = std::collections::BTreeSet::new();
        for byte in Sha256::digest(key) {
            if bits.len() < 3 {
                bits.insert(byte & 31);
            }
        }
        let sum: u32 = bits.into_iter().map(|bit| 2_u32.pow(bit.into())).sum();
        sum.to_be_bytes()
    }

    /// How much the touch is worth: 0 a link of the own site, 1 another script's cookie, 2 anything else.
    pub fn rank(&self) -> u8 {
        match (self.is_own_link, self.source) {
            (true, _) => 0,
            (false, 3) => 1,
            (false, _) => 2,
        }
    }

    /// What is remembered beside a new referral that takes this one's place: what was, and this one's own
    /// key where it is a link of the own site that gives way.
    pub fn refused_beside(&self, new: &Self) -> Vec<u8> {
        let gives_way = self.is_own_link && !new.is_own_link && self.key != new.key;
        if !gives_way {
            return self.refused.to_vec();
        }
        let mut all = self.as_refused();
        for (byte, before) in all.iter_mut().zip(self.refused) {
            *byte |= before;
        }
        // Four keys fit; the next one begins anew.
        let set: u32 = all.iter().map(|byte| byte.count_ones()).sum();
        if set > 12 {
            return self.as_refused().to_vec();
        }
        all.to_vec()
    }

    /// Reads a message; `None` if any rule is broken. `names_program` says whether the program must
    /// be named, or must not.
    pub fn read(message: &'m [u8], keys: Keys, names_program: bool) -> Option<Self> {
        let (&1, referral) = message.split_first()? else {
            return None;
        };
        Self::read_referral(referral, keys, names_program)
    }

    /// Reads the referral of a message.
    pub fn read_referral(bytes: &'m [u8], keys: Keys, names_program: bool) -> Option<Self> {
        let mut at = 0;
        let mut take = |len: usize| {
            let part = bytes.get(at..at + len)?;
            at += len;
            Some(part)
        };
        let captured_at = i64::from_be_bytes(take(8)?.try_into().ok()?);
        let window = u32::from_be_bytes(take(4)?.try_into().ok()?);
        let kind = take(1)?[0];
        let present = take(1)?[0];
        let has = |bit: u32| present >> bit & 1 == 1;
        let touch = take(if has(0) { 8 } else { 0 })?;
        let refused = take(if has(1) { 4 } else { 0 })?;
        let mut text = || {
            let len = take(1)?[0];
            std::str::from_utf8(take(len.into())?).ok()
        };
        let mut texts = [""; 6];
        for (bit, place) in (2..).zip(&mut texts) {
            if has(bit) {
                *place = text().filter(|text| !text.is_empty())?;
            }
        }
        let [program, key, click_id, partner_id, parameter, path] = texts;
        let count = take(1)?[0];
        let mut extra = Vec::new();
        for _ in 0..count {
            let mut text = || {
                let len = take(1)?[0];
                std::str::from_utf8(take(len.into())?).ok()
            };
            extra.push((text()?, text()?));
        }
        let plain = Self {
            captured_at,
            window,
            source: kind & 3,
            is_own_link: kind & 4 != 0,
            click: kind >> 3,
            touch,
            refused,
            program,
            key,
            click_id,
            partner_id,
            parameter,
            path,
            extra,
        };
        if at != bytes.len() || !plain.keeps_the_rules(keys, names_program) {
            return None;
        }
        assert_eq!(
            plain.referral_bytes(),
            bytes,
            "one message for one referral"
        );
        Some(plain)
    }

    fn keeps_the_rules(&self, keys: Keys, names_program: bool) -> bool {
        let when = 0 <= self.captured_at && self.captured_at <= MAX_CAPTURED_AT;
        let window = 1 <= self.window && self.window <= MAX_WINDOW;
        let source = matches!((self.source, self.is_own_link), (1..=3, false) | (1, true));
        let click = self.click == 0 || (self.click <= 2 && !self.touch.is_empty());
        let program = if names_program {
            is_program_name(self.program)
        } else {
            self.program.is_empty()
        };
        let is_id = |id: &str| id.is_empty() || is_click_id(id);
        let key = match self.key {
            "" => !self.click_id.is_empty(),
            key => is_key(key, keys),
        };
        let parameter = self.parameter.is_empty() || is_param_name(self.parameter);
        let path = self.path.is_empty() || is_path(self.path);
        let extra = self
            .extra
            .iter()
            .all(|(name, value)| is_param_name(name) && is_extra_value(value));
        when && window
            && source
            && click
            && program
            && key
            && is_id(self.click_id)
            && is_id(self.partner_id)
            && parameter
            && path
            && extra
    }

    /// The message.
    pub fn written(&self) -> Vec<u8> {
        [&[1][..], &self.referral_bytes()].concat()
    }

    /// The referral in the message.
    pub fn referral_bytes(&self) -> Vec<u8> {
        let texts = [
            self.program,
            self.key,
            self.click_id,
            self.partner_id,
            self.parameter,
            self.path,
        ];
        let mut out = Vec::with_capacity(128);
        out.extend(self.captured_at.to_be_bytes());
        out.extend(self.window.to_be_bytes());
        out.push(self.source | u8::from(self.is_own_link) << 2 | self.click << 3);
        let mut present =
            u8::from(!self.touch.is_empty()) | u8::from(!self.refused.is_empty()) << 1;
        for (bit, text) in (2..).zip(texts) {
            present |= u8::from(!text.is_empty()) << bit;
        }
        out.push(present);
        out.extend(self.touch);
        out.extend(self.refused);
        let mut put = |text: &str| {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        };
        texts
            .into_iter()
            .filter(|text| !text.is_empty())
            .for_each(&mut put);
        out.push(self.extra.len() as u8);
        for (name, value) in &self.extra {
            for text in [name, value] {
                out.push(text.len() as u8);
                out.extend(text.as_bytes());
            }
        }
        out
    }

    /// Leaves out the least important thing that is still there; `false` if there is none.
    pub fn drop_one(&mut self) -> bool {
        if self.extra.pop().is_some() {
            true
        } else if !self.path.is_empty() {
            self.path = "";
            true
        } else if !self.parameter.is_empty() {
            self.parameter = "";
            true
        } else {
            false
        }
    }
}

/// 1 to 32 letters, digits, `-` and `_`.
pub fn is_program_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// 1 to 32 letters, digits and what stands for itself in a query.
pub fn is_param_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!*[]:@$".contains(&byte))
}

/// 1 to 128 characters, at most 255 bytes.
pub fn is_key(text: &str, keys: Keys) -> bool {
    let is_of = match keys {
        Keys::Ascii => text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~-@+:=".contains(&byte)),
        Keys::Unicode => is_printable(text) && !text.contains(' '),
    };
    is_of && !text.is_empty() && text.chars().count() <= 128 && text.len() <= 255
}

/// 1 to 128 characters of visible ASCII.
pub fn is_click_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A path that is kept: at most 255 bytes, begins with `/`, no blanks and no control characters.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 255
        && !text.bytes().any(|byte| byte <= b' ' || byte == 127)
}

/// 1 to 128 bytes of printable text.
pub fn is_extra_value(text: &str) -> bool {
    (1..=128).contains(&text.len()) && is_printable(text)
}

fn is_printable(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && !b"\"'\\".contains(&byte))
    } else {
        text.escape_debug().to_string() == text
    }
}
