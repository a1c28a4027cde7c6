//! Bounded, strict reading of a query: which landing parameters it has, and their keys and click IDs.
//!
//! The reading rules, in one place:
//!
//! 1. The query only, split at `&`; at most its first 8 KiB and its first 64 pairs.
//! 2. A pair is split at its first `=`; without one its value is empty.
//! 3. Names are percent-decoded once and compared exactly. A `?` or an `amp;` in front, from mangled
//!    links, is ignored.
//! 4. Values are percent-decoded once and strictly: a `%` without two hexadecimal digits, or
//!    anything that isn't UTF-8 then, is no value. A `+` is a `+`, because keys have them.
//! 5. A value that isn't a key is tried once more after repair: cut at the first `?` or `&amp;`, white
//!    space and zero-width characters trimmed at both ends, trailing `/` dropped.
//! 6. A value that is empty or still no key is as if the pair weren't there.
//! 7. The configured order decides between names, the query's order within one name.

use std::borrow::Cow;

use http::HeaderMap;
use memchr::memchr;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use crate::cookie::scan::foreign;
use crate::key::{ClickId, ReferralKey};
use crate::names::MAX_NAMES;
use crate::program::Program;
use crate::referral::is_extra_value;

/// The longest part of a query that is read, in bytes.
pub(crate) const MAX_QUERY_LEN: usize = 8 * 1024;
const MAX_PAIRS: usize = 64;

/// What a query carries for one program: a key, a click ID, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: Option<ReferralKey>,
    pub(crate) click_id: Option<ClickId>,
    /// The parameter or cookie that carried the key, or the click ID where there is no key.
    pub(crate) parameter: SmolStr,
    pub(crate) extra: Vec<(SmolStr, SmolStr)>,
}

/// The bytes that a landing parameter's name can begin with, as it stands in a query. The first byte is
/// enough to tell most pairs from one.
pub(crate) struct FirstBytes([bool; 256]);

impl FirstBytes {
    pub(crate) fn of(programs: &[Program]) -> Self {
        let mut is_first = [false; 256];
        // Encoded names, and what mangled links have in front of a name.
        for byte in *b"%a?" {
            is_first[usize::from(byte)] = true;
        }
        for name in programs.iter().flat_map(Program::landing_params) {
            is_first[usize::from(name.as_bytes()[0])] = true;
        }
        Self(is_first)
    }
}

/// A query that has a landing parameter, whatever its value.
#[derive(Clone, Copy)]
pub(crate) struct Query<'q> {
    /// As far as it is read.
    text: &'q [u8],
    /// Where the first landing parameter begins.
    ours: usize,
    /// How many pairs are before it.
    before: usize,
}

impl<'q> Query<'q> {
    pub(crate) fn of(
        programs: &[Program],
        first_bytes: &FirstBytes,
        query: &'q [u8],
    ) -> Option<Self> {
        let text = within_bound(query);
        let (mut ours, mut before) = (0, 0);
        while before < MAX_PAIRS {
            let rest = text.get(ours..)?;
            let first = *rest.first()?;
            // Empty pairs aren't pairs.
            if first == b'&' {
                ours += 1;
                continue;
            }
            if first_bytes.0[usize::from(first)] {
                let name = rest.split(|byte| matches!(byte, b'=' | b'&')).next()?;
                if is_landing_param(programs, name) {
                    return Some(Self { text, ours, before });
                }
            }
            ours += end_of_pair(rest)? + 1;
            before += 1;
        }
        None
    }

    /// Returns its pairs from the first landing parameter on.
    fn pairs_from_ours(self) -> impl Iterator<Item = Pair<'q>> {
        pairs(&self.text[self.ours..], MAX_PAIRS - self.before).map(Pair::unmangled)
    }

    fn all_pairs(self) -> impl Iterator<Item = Pair<'q>> {
        pairs(self.text, MAX_PAIRS).map(Pair::unmangled)
    }

    /// Reads what the query carries for a program. `None` where it has no parameter of the program,
    /// `Some(Err)` where none of their values is valid.
    pub(crate) fn read(self, program: &Program) -> Option<Result<Found, InvalidValue>> {
        let (mut is_seen, mut key, mut click_id) = (false, Best::new(), Best::new());
        for pair in self.pairs_from_ours() {
            is_seen |= key.offer(&program.params, pair, |value| {
                let accepts = |text: &str| program.key_rule.accepts(text);
                repaired(value, accepts).map(|text| ReferralKey::valid(&text))
            });
            is_seen |= click_id.offer(&program.click_params, pair, |value| {
                repaired(value, |text| ClickId::is_valid(text.as_bytes()))
                    .map(|text| ClickId::valid(&text))
            });
        }
        let parameter = match (&key.0, &click_id.0) {
            (Some((name, _)), _) => program.params[*name].clone(),
            (None, Some((name, _))) => program.click_params[*name].clone(),
            (None, None) => return is_seen.then_some(Err(InvalidValue)),
        };
        Some(Ok(Found {
            key: key.0.map(|(_, key)| key),
            click_id: click_id.0.map(|(_, click_id)| click_id),
            parameter,
            extra: self.read_extra(program),
        }))
    }

    fn read_extra(self, program: &Program) -> Vec<(SmolStr, SmolStr)> {
        let names = &program.extra_params;
        if names.is_empty() {
            return Vec::new();
        }
        // Found in the query's order, kept in the configured one.
        let mut values: SmallVec<[Option<SmolStr>; MAX_NAMES]> = smallvec![None; names.len()];
        for pair in self.all_pairs() {
            let place = names.iter().zip(&mut values);
            let mut place = place.filter(|(name, _)| name_is(pair.name, name));
            if let Some((_, value @ None)) = place.next() {
                *value = extra_value(pair.value);
            }
        }
        let pairs = names.iter().zip(values);
        pairs
            .filter_map(|(name, value)| Some((name.clone(), value?)))
            .collect()
    }
}

/// A parameter is there, and none of its values is valid. It doesn't hold the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue;

/// The valid value of the most preferred name so far, with the name's index.
struct Best<T>(Option<(usize, T)>);

impl<T> Best<T> {
    fn new() -> Self {
        Self(None)
    }

    /// Takes a pair's value if its name is preferred to what is there already, and the value is valid.
    /// Returns `true` if the name is one of these.
    fn offer(
        &mut self,
        names: &[SmolStr],
        pair: Pair<'_>,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> bool {
        let preferred = self.0.as_ref().map_or(names.len(), |(name, _)| *name);
        let mut preferred = names[..preferred].iter();
        let Some(name) = preferred.position(|name| name_is(pair.name, name)) else {
            return false;
        };
        if let Some(value) = parse(pair.value) {
            self.0 = Some((name, value));
        }
        true
    }
}

/// Decodes a value. Where it isn't valid as it stands, repairs what mail programs, editors and careless
/// links do to it.
fn repaired(raw: &[u8], is_valid: impl Fn(&str) -> bool) -> Option<Cow<'_, str>> {
    let text = decode(raw)?;
    if is_valid(&text) {
        return Some(text);
    }
    let cut = text.find('?').unwrap_or(text.len());
    let cut = text.find("&amp;").unwrap_or(text.len()).min(cut);
    let repaired = text[..cut]
        .trim_matches(is_invisible)
        .trim_end_matches(|c| c == '/' || is_invisible(c));
    is_valid(repaired).then(|| Cow::Owned(repaired.to_owned()))
}

/// White space, and characters that take no room: zero-width spaces and joiners, directional marks, soft
/// hyphens, byte-order marks.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Decodes a value in which a `+` is a blank.
fn extra_value(raw: &[u8]) -> Option<SmolStr> {
    let mut raw = Cow::Borrowed(raw);
    if raw.contains(&b'+') {
        let plusses = raw.to_mut().iter_mut().filter(|byte| **byte == b'+');
        plusses.for_each(|byte| *byte = b' ');
    }
    let value = decode(&raw)?;
    is_extra_value(&value).then(|| SmolStr::new(value))
}

/// Reads the keys that other scripts keep in the cookies that the programs name, with the program's
/// index. Such a cookie is read by the same rules as a parameter's value.
pub(crate) fn read_scripts(programs: &[Program], headers: &HeaderMap) -> Vec<(usize, Found)> {
    let read = |program: &Program| {
        let accepts = |text: &str| program.key_rule.accepts(text);
        program.fallback_cookies.iter().find_map(|name| {
            let key = foreign(headers, name).find_map(|value| repaired(value, accepts))?;
            Some(Found {
                key: Some(ReferralKey::valid(&key)),
                click_id: None,
                parameter: name.clone(),
                extra: Vec::new(),
            })
        })
    };
    let programs = programs.iter().enumerate();
    programs
        .filter_map(|(index, program)| Some((index, read(program)?)))
        .collect()
}

fn is_landing_param(programs: &[Program], raw_name: &[u8]) -> bool {
    let raw_name = unmangled(raw_name);
    programs
        .iter()
        .flat_map(Program::landing_params)
        .any(|name| name_is(raw_name, name))
}

/// Returns the query without landing parameters, every other pair byte for byte; `None` if there are
/// none.
pub(crate) fn without_parameters(programs: &[Program], query: &str) -> Option<String> {
    let is_ours = |pair: &str| {
        let name = pair.split('=').next().unwrap_or(pair);
        is_landing_param(programs, name.as_bytes())
    };
    let others: Vec<_> = query.split('&').filter(|pair| !is_ours(pair)).collect();
    let others = others.join("&");
    (others.len() < query.len()).then_some(others)
}

/// A pair that the bound would cut isn't read at all: half a key is another key.
#[inline]
fn within_bound(query: &[u8]) -> &[u8] {
    match query.get(..=MAX_QUERY_LEN) {
        None => query,
        Some(start) => &query[..memchr::memrchr(b'&', start).unwrap_or(0)],
    }
}

/// Returns the value of a form's field, undecoded. The name has to stand there as it is, and may be behind
/// any number of pairs, so that a link's own parameters push nothing out of what is read.
#[cfg(feature = "endpoint")]
pub(crate) fn pair_value<'q>(form: &'q [u8], name: &str) -> Option<&'q [u8]> {
    let mut pairs = pairs(form, usize::MAX);
    pairs
        .find(|pair| pair.name == name.as_bytes())
        .map(|pair| pair.value)
}

/// Returns what is behind the first pair of a form, if that is the field of this name, else the whole form.
#[cfg(feature = "endpoint")]
pub(crate) fn behind_field<'q>(form: &'q [u8], name: &str) -> &'q [u8] {
    let (pair, behind) = split(form, end_of_pair(form));
    let (found, _) = split(pair, memchr(b'=', pair));
    if found == name.as_bytes() {
        behind
    } else {
        form
    }
}

#[derive(Clone, Copy)]
struct Pair<'q> {
    name: &'q [u8],
    value: &'q [u8],
}

impl Pair<'_> {
    fn unmangled(mut self) -> Self {
        self.name = unmangled(self.name);
        self
    }
}

/// The pairs of a query, at most so many, undecoded. Empty ones (`&&`) aren't pairs.
fn pairs(query: &[u8], most: usize) -> impl Iterator<Item = Pair<'_>> {
    let mut rest = query;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (pair, after) = split(rest, end_of_pair(rest));
            rest = after;
            if !pair.is_empty() {
                // A name is too short for `memchr` to be of use.
                let end = pair.iter().position(|byte| *byte == b'=');
                let (name, value) = split(pair, end);
                return Some(Pair { name, value });
            }
        }
    })
    .take(most)
}

/// Where the first pair ends, if another follows. Most are so short that a plain loop is quicker
/// than `memchr`, which is there for the long ones.
#[inline]
fn end_of_pair(query: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let is_end = |byte: &u8| *byte == b'&';
    let (start, rest) = query.split_at(query.len().min(SHORT));
    match start.iter().position(is_end) {
        None if !rest.is_empty() => Some(SHORT + memchr(b'&', rest)?),
        end => end,
    }
}

/// What is in front of the separator, and what is behind it.
fn split(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    match at {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// Compares a name as it stands in the query, without decoding it into memory of its own.
fn name_is(raw: &[u8], name: &str) -> bool {
    let may_be_encoded = || match (raw, name.as_bytes()) {
        ([b'%', ..], _) => true,
        ([first, rest @ ..], [name_first, ..]) => {
            first == name_first && memchr(b'%', rest).is_some()
        }
        _ => false,
    };
    raw == name.as_bytes() || (may_be_encoded() && bytes(raw).eq(name.bytes().map(Some)))
}

/// Takes away what mangled links have in front of a name: `??aff=`, `&amp;aff=`.
fn unmangled(mut raw: &[u8]) -> &[u8] {
    while let Some(rest) = raw.strip_prefix(b"?").or_else(|| raw.strip_prefix(b"amp;")) {
        raw = rest;
    }
    raw
}

/// Percent-decodes once and strictly.
pub(crate) fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'%') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let decoded: Option<Vec<u8>> = bytes(raw).collect();
    String::from_utf8(decoded?).ok().map(Cow::Owned)
}

/// The bytes that a percent-encoded text stands for; `None` for a `%` that begins no escape.
fn bytes(raw: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let hex = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'%', high, low, after @ ..] => {
                let byte = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low);
                (byte, after)
            }
            [b'%', after @ ..] => (None, after),
            [byte, after @ ..] => (Some(*byte), after),
        };
        rest = after;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str) -> Option<Result<String, InvalidValue>> {
        let programs = [Program::default()];
        let query = Query::of(&programs, &FirstBytes::of(&programs), query.as_bytes())?;
        query
            .read(&programs[0])
            .map(|found| found.map(|found| format!("{}={}", found.parameter, found.key.unwrap())))
    }

    #[test]
    fn bounds_hold_to_the_byte_and_to_the_pair() {
        let filler = |len: usize| "x".repeat(len);
        let fits = format!("{}&aff=K", filler(MAX_QUERY_LEN - 6));
        assert_eq!(fits.len(), MAX_QUERY_LEN);
        assert_eq!(found(&fits), Some(Ok("aff=K".into())));
        let cut = format!("{}&aff=KEY", filler(MAX_QUERY_LEN - 6));
        assert_eq!(found(&cut), None, "half a key must not be read");
        let behind = format!("{}&aff=K", filler(MAX_QUERY_LEN));
        assert_eq!(found(&behind), None);
        let ahead = format!("aff=K&{}", filler(MAX_QUERY_LEN));
        assert_eq!(found(&ahead), Some(Ok("aff=K".into())));

        assert_eq!(
            found(&format!("{}aff=K", "a&".repeat(63))),
            Some(Ok("aff=K".into()))
        );
        assert_eq!(found(&format!("{}aff=K", "a&".repeat(64))), None);
        assert_eq!(
            found(&format!("{}aff=K", "&".repeat(500))),
            Some(Ok("aff=K".into()))
        );
        // However much a link is mangled, it takes no more of the stack.
        for mark in ["?", "amp;", "?amp;"] {
            let query = format!("{}aff=K", mark.repeat(8_000 / mark.len()));
            let read = std::thread::Builder::new().stack_size(64 * 1024);
            let read = read.spawn(move || found(&query)).unwrap().join();
            assert_eq!(read.unwrap(), Some(Ok("aff=K".into())), "{mark}");
        }

        // The bound is of all pairs, wherever the first landing parameter is.
        let apart = |pairs| found(&format!("a&ref=&{}aff=K", "a&".repeat(pairs)));
        assert_eq!(apart(61), Some(Ok("aff=K".into())));
        assert_eq!(apart(62), Some(Err(InvalidValue)));
        // Behind it there is no landing parameter.
        let programs = [Program::default()];
        let first_bytes = FirstBytes::of(&programs);
        let is_ours = |query: &str| Query::of(&programs, &first_bytes, query.as_bytes()).is_some();
        assert!(is_ours(&format!("{}aff=K", "a&".repeat(63))));
        assert!(!is_ours(&format!("{}aff=K", "a&".repeat(64))));
    }

    #[test]
    fn a_parameter_without_a_value_is_one() {
        for query in ["aff", "aff=", "aff&b=1", "b=1&ref&aff"] {
            assert_eq!(found(query), Some(Err(InvalidValue)), "{query}");
        }
    }

    #[test]
    fn decoding_is_strict_and_happens_once() {
        assert_eq!(decode(b"a%41%c3%a9").as_deref(), Some("aAé"));
        assert_eq!(decode(b"%2541").as_deref(), Some("%41"));
        for broken in [&b"%"[..], b"%4", b"%4g", b"%+1", b"%c3", b"\xc3"] {
            assert_eq!(decode(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn what_remains_of_a_query_is_byte_for_byte() {
        let programs = [Program::default()];
        let clean = |query| without_parameters(&programs, query);
        assert_eq!(clean("a=1&aff=K&b=%zz&ref"), Some("a=1&b=%zz".into()));
        assert_eq!(clean("%61ff=K"), Some(String::new()));
        assert_eq!(clean("&&aff=K&&x"), Some("&&&x".into()));
        assert_eq!(clean("affx=K&xaff=K"), None);
    }

    #[test]
    fn mangled_links_are_repaired() {
        let taken = Some(Ok("aff=P2".to_owned()));
        for query in [
            "aff=P2?utm_source=mail",
            "?aff=P2",
            "utm_source=mail&amp;aff=P2",
            "utm_source=mail&amp;amp;aff=P2",
            "aff=P2%26amp%3Butm_source=mail",
            "aff=P2%20",
            "aff=%20%E2%80%8BP2",
            "aff=P2%C2%A0",
            "aff=P2/",
            "aff=P2/%20",
        ] {
            assert_eq!(found(query), taken, "{query}");
        }
        for query in ["aff=P%202", "aff=?P2", "aff=/P2", "aff=%20/"] {
            assert_eq!(found(query), Some(Err(InvalidValue)), "{query}");
        }
    }
}
