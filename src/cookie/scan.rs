//! Finding and verifying our cookies in a request. Cookies are read as bytes: every `Cookie` line, split
//! at `;`, spaces and tabs trimmed, cut at the first `=`, the name compared exactly; never decoded, never
//! unquoted.

use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use memchr::{memchr, memmem};
use smallvec::SmallVec;

use super::CookieCodec;
use crate::clock::UnixMillis;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::Referral;
use crate::seal::SealError;
use crate::seal::message::{self, StoredCookie};
use crate::window::check_age;

/// The most cookies of one name that are verified in one request.
const MAX_VERIFIED: usize = 8;

/// Our cookies in one request, unverified. Cloning a line shares its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) enum FoundCookies {
    #[default]
    None,
    /// The only line that has any, and the first cookie of the layer in it.
    Line {
        line: HeaderValue,
        first: CookieSpan,
    },
    /// The lines that have any.
    Lines(Vec<HeaderValue>),
}

/// Where a cookie of the layer is in its line, and of which program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CookieSpan {
    program: u16,
    /// Where its value begins.
    start: u32,
    /// The value's length. A longer one than this can say is none of the layer's.
    len: u16,
}

/// A cookie of the layer, unverified: the program's index and the value.
type Unverified<'c> = (usize, &'c [u8]);

impl CookieSpan {
    #[inline]
    fn end(self) -> usize {
        self.start as usize + usize::from(self.len)
    }

    #[inline]
    fn cookie(self, line: &HeaderValue) -> Unverified<'_> {
        let value = line.as_bytes().get(self.start as usize..self.end());
        (self.program.into(), value.unwrap_or_default())
    }
}

impl FoundCookies {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Adds a line whose first cookie of the layer is there.
    #[inline]
    fn push(&mut self, line: HeaderValue, first: CookieSpan) {
        *self = match std::mem::take(self) {
            Self::None => Self::Line { line, first },
            Self::Line { line: other, .. } => Self::Lines(vec![other, line]),
            Self::Lines(mut lines) => {
                lines.push(line);
                Self::Lines(lines)
            }
        };
    }
}

impl CookieCodec {
    /// Finds our cookies.
    #[inline]
    pub(crate) fn scan(&self, headers: &HeaderMap) -> FoundCookies {
        let mut found = FoundCookies::None;
        // Where no name is there twice, one line takes less to look up than all.
        if headers.keys_len() == headers.len() {
            if let Some(line) = headers.get(COOKIE) {
                self.scan_line(line, &mut found);
            }
        } else {
            for line in headers.get_all(COOKIE) {
                self.scan_line(line, &mut found);
            }
        }
        found
    }

    fn scan_line(&self, line: &HeaderValue, found: &mut FoundCookies) {
        if let Some(first) = self.first(line.as_bytes(), 0) {
            found.push(line.clone(), first);
        }
    }

    /// Returns `true` if there is a cookie of this program, valid or not.
    pub(crate) fn has(&self, found: &FoundCookies, program: usize) -> bool {
        self.all(found).iter().any(|(index, _)| *index == program)
    }

    /// Returns the length of the names and values of each program's cookies.
    pub(crate) fn lengths(&self, found: &FoundCookies) -> SmallVec<[usize; 1]> {
        let mut lengths = SmallVec::from_elem(0, self.programs.len());
        for (index, value) in self.all(found) {
            lengths[index] = self.programs[index].name.len() + 1 + value.len();
        }
        lengths
    }

    fn all<'c>(&self, found: &'c FoundCookies) -> SmallVec<[Unverified<'c>; 2]> {
        let mut all = SmallVec::new();
        let mut take = |line: &'c HeaderValue, mut next: Option<CookieSpan>| {
            while let Some(span) = next {
                all.push(span.cookie(line));
                next = self.first(line.as_bytes(), span.end());
            }
        };
        match found {
            FoundCookies::None => {}
            FoundCookies::Line { line, first } => take(line, Some(*first)),
            FoundCookies::Lines(lines) => {
                for line in lines {
                    take(line, self.first(line.as_bytes(), 0));
                }
            }
        }
        all
    }

    /// Verifies the cookies of a program and returns the referral that counts. `Err` says why none of
    /// those that are there does.
    pub(crate) fn open(
        &self,
        found: &FoundCookies,
        index: usize,
        program: &Program,
        now: UnixMillis,
    ) -> Result<Option<Arc<Referral>>, Reason> {
        let (mut kept, mut others) = (None, Vec::new());
        self.verify(found, index, |message| {
            let mut referral = message::decode(message, program).ok_or(Reason::Malformed)?;
            check_age(&mut referral, program, now)?;
            match kept {
                None => kept = Some(Arc::new(referral)),
                Some(_) => others.push(Arc::new(referral)),
            }
            Ok(())
        })?;
        if others.is_empty() {
            return Ok(kept);
        }
        // Of two that were captured at once, the first one came first.
        let valid = kept.into_iter().chain(others).collect();
        Ok(program.attribution.pick(valid, |it| it))
    }

    /// Verifies the cookies of a program where referrals are kept on the server.
    pub(crate) fn open_stored(
        &self,
        found: &FoundCookies,
        index: usize,
        program: &Program,
    ) -> Result<Vec<StoredCookie>, Reason> {
        let mut valid = Vec::new();
        self.verify(found, index, |message| {
            valid.push(message::decode_stored(message, program).ok_or(Reason::Malformed)?);
            Ok(())
        })?;
        Ok(valid)
    }

    /// Verifies the cookies of a program, and reads each message. `Err` if none of those that are there can
    /// be read, with the reason of the first.
    #[inline]
    fn verify(
        &self,
        found: &FoundCookies,
        index: usize,
        mut read: impl FnMut(&[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let seal = &self.programs[index].seal;
        let (mut failure, mut verified, mut is_read) = (None, 0, false);
        let cookies = self.all(found).into_iter();
        for (_, value) in cookies.filter(|(program, _)| *program == index) {
            let opened = seal.open(value, &mut read).map_err(Reason::from).flatten();
            // What isn't even of the format costs no signature, and doesn't count.
            verified += usize::from(!matches!(opened, Err(Reason::Malformed)));
            match opened {
                Ok(()) => is_read = true,
                Err(reason) => failure = failure.or(Some(reason)),
            }
            if verified == MAX_VERIFIED {
                break;
            }
        }
        match failure {
            Some(failure) if !is_read => Err(failure),
            _ => Ok(()),
        }
    }

    /// Finds the first cookie of the layer in a line, from a place on. Looks for the name first and only then
    /// at its surroundings.
    fn first(&self, line: &[u8], mut from: usize) -> Option<CookieSpan> {
        // Not by `find_iter`, which copies the whole finder.
        while let Some(at) = self.finder.find(&line[from..]) {
            let span = self.span(line, from + at);
            if span.is_some() {
                return span;
            }
            from += at + self.finder.needle().len();
        }
        None
    }

    /// Reads what begins at `at` with the part of the name that all our cookies have in common. It is
    /// one of them if it is at the start of a pair, and if the rest of a name and the first `=` follow.
    fn span(&self, line: &[u8], at: usize) -> Option<CookieSpan> {
        if !starts_pair(line, at) {
            return None;
        }
        let rest = &line[at + self.finder.needle().len()..];
        let mut programs = self.programs.iter().enumerate();
        programs.find_map(|(index, program)| {
            let value = rest
                .strip_prefix(program.suffix.as_bytes())?
                .strip_prefix(b"=")?;
            let start = line.len() - value.len();
            Some(CookieSpan {
                program: u16::try_from(index).ok()?,
                start: u32::try_from(start).ok()?,
                len: u16::try_from(trimmed_value(value).len()).unwrap_or(u16::MAX),
            })
        })
    }
}

impl From<SealError> for Reason {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Malformed => Self::Malformed,
            SealError::UnknownKey => Self::UnknownSigningKey,
            SealError::BadSignature => Self::BadSignature,
        }
    }
}

/// Returns `true` if a cookie pair begins at `at`.
fn starts_pair(line: &[u8], at: usize) -> bool {
    line[..at]
        .iter()
        .rfind(|byte| !is_blank(**byte))
        .is_none_or(|byte| *byte == b';')
}

/// Returns the value at the start of `rest`: up to the next `;`, without the blanks and tabs at its end.
fn trimmed_value(rest: &[u8]) -> &[u8] {
    let value = &rest[..memchr(b';', rest).unwrap_or(rest.len())];
    let end = value.iter().rposition(|byte| !is_blank(*byte));
    &value[..end.map_or(0, |last| last + 1)]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Returns the values of other cookies called `name`, as bytes.
pub(crate) fn foreign<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .flat_map(move |line| {
            memmem::find_iter(line, name).filter_map(move |at| {
                let value = line[at + name.len()..].strip_prefix(b"=")?;
                starts_pair(line, at).then(|| trimmed_value(value))
            })
        })
}
