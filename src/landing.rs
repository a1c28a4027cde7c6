//! Is this request a landing, and what key does it carry? Pure, bounded reading of the query and
//! of the Fetch Metadata headers; what becomes of the key is decided elsewhere.
//!
//! The reading rules, in one place:
//!
//! 1. The query only, split at `&`; at most its first 8 KiB and its first 64 pairs.
//! 2. A pair is split at its first `=`; without one its value is empty.
//! 3. Names are percent-decoded once and compared exactly.
//! 4. Values are percent-decoded once and strictly: a `%` without two hexadecimal digits, or
//!    anything that isn't UTF-8 then, is no value. A `+` is a `+`, because keys have them.
//! 5. A value that is empty or no key is as if the pair weren't there.
//! 6. The configured order decides between names, the query's order within one name.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use memchr::memchr;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use crate::keep::cookie::foreign;
use crate::program::{MAX_NAMES, Program};
use crate::reason::Reason;
use crate::referral::{
    Click, Referral, ReferralKey, Source, UnixMillis, is_extra_value, is_landing_path,
};
use crate::request::RequestRef;

const MAX_QUERY_LEN: usize = 8 * 1024;
const MAX_PAIRS: usize = 64;

/// A key that was read for one program, where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<'r> {
    /// A key by the program's rule.
    key: Cow<'r, str>,
    /// Which of the program's parameters carried it, or of its fallback cookies.
    name: usize,
    extra: Vec<(SmolStr, SmolStr)>,
}

impl Found<'_> {
    #[cfg(feature = "endpoint")]
    pub(crate) fn into_owned(self) -> Found<'static> {
        Found {
            key: Cow::Owned(self.key.into_owned()),
            name: self.name,
            extra: self.extra,
        }
    }

    #[inline(always)] // as `Arrival::landing_touch`
    pub(crate) fn into_referral(
        self,
        program: &Program,
        source: Source,
        path: Option<&str>,
        now: UnixMillis,
    ) -> Referral {
        let names = match source {
            Source::Script => &program.fallback_cookies,
            Source::Landing | Source::Handler => &program.params,
        };
        Referral {
            key: ReferralKey::valid(&self.key),
            click_id: None,
            click: Click::None,
            program: program.name.clone(),
            source,
            captured_at: now,
            window: program.window_seconds(),
            parameter: names.get(self.name).cloned(),
            landing_path: path
                .filter(|path| is_landing_path(path.as_bytes()))
                .map(SmolStr::new),
            extra: self.extra,
        }
    }
}

/// The bytes that the name of one of our parameters can begin with, as it stands in a query. Nearly
/// every pair of nearly every query is told from ours by its first byte.
pub(crate) struct FirstBytes([bool; 256]);

impl FirstBytes {
    pub(crate) fn of(programs: &[Program]) -> Self {
        let mut is_first = [false; 256];
        is_first[usize::from(b'%')] = true;
        for name in programs.iter().flat_map(|program| &program.params) {
            is_first[usize::from(name.as_bytes()[0])] = true;
        }
        Self(is_first)
    }
}

/// A query that has a parameter of ours, whatever its value.
#[derive(Clone, Copy)]
pub(crate) struct Query<'q> {
    /// As far as it is read.
    text: &'q [u8],
    /// Where the first parameter of ours begins: nobody looks for it again.
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
                if programs.iter().any(|program| program.is_ours(name)) {
                    return Some(Self { text, ours, before });
                }
            }
            ours += end_of_pair(rest)? + 1;
            before += 1;
        }
        None
    }

    /// Its pairs from the first of ours on.
    fn pairs_from_ours(self) -> impl Iterator<Item = Pair<'q>> {
        pairs(&self.text[self.ours..], MAX_PAIRS - self.before)
    }

    fn all_pairs(self) -> impl Iterator<Item = Pair<'q>> {
        pairs(self.text, MAX_PAIRS)
    }
}

/// A pair that the bound would cut isn't read at all: half a key is another key.
#[inline]
fn within_bound(query: &[u8]) -> &[u8] {
    match query.get(..=MAX_QUERY_LEN) {
        None => query,
        Some(start) => &query[..memchr::memrchr(b'&', start).unwrap_or(0)],
    }
}

/// The key that `query` carries for `program`. `Some(Err)` where a parameter is there and none of
/// its values is a key.
pub(crate) fn read<'q>(program: &Program, query: Query<'q>) -> Option<Result<Found<'q>, Reason>> {
    let mut seen = false;
    let mut found: Option<(usize, Cow<'q, str>)> = None;
    for pair in query.pairs_from_ours() {
        // Only a name that is preferred to what is found already, and none is to the first.
        let better = found
            .as_ref()
            .map_or(program.params.len(), |(name, _)| *name);
        if better == 0 {
            break;
        }
        let mut names = program.params[..better].iter();
        if let Some(name) = names.position(|name| name_is(pair.name, name)) {
            seen = true;
            if let Some(key) = decode(pair.value).filter(|key| program.key_rule.accepts(key)) {
                found = Some((name, key));
            }
        }
    }
    match found {
        Some((name, key)) => Some(Ok(Found {
            key,
            name,
            extra: read_extra(program, query),
        })),
        None => seen.then_some(Err(Reason::InvalidKey)),
    }
}

fn read_extra(program: &Program, query: Query<'_>) -> Vec<(SmolStr, SmolStr)> {
    let names = &program.keep_params;
    if names.is_empty() {
        return Vec::new();
    }
    // Found in the query's order, kept in the configured one.
    let mut values: SmallVec<[Option<SmolStr>; MAX_NAMES]> = smallvec![None; names.len()];
    for pair in query.all_pairs() {
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

/// A value in which a `+` is a blank.
fn extra_value(raw: &[u8]) -> Option<SmolStr> {
    let mut raw = Cow::Borrowed(raw);
    if raw.contains(&b'+') {
        let plusses = raw.to_mut().iter_mut().filter(|byte| **byte == b'+');
        plusses.for_each(|byte| *byte = b' ');
    }
    let value = decode(&raw)?;
    is_extra_value(&value).then(|| SmolStr::new(value))
}

/// The keys that other scripts keep in the cookies that the programs name, with the program's
/// index. Such a cookie is read by the same rules as a parameter's value.
pub(crate) fn read_scripts<'r>(
    programs: &'r [Program],
    headers: &'r HeaderMap,
) -> Vec<(usize, Found<'r>)> {
    let read = |program: &'r Program| {
        let mut names = program.fallback_cookies.iter().enumerate();
        names.find_map(|(name, text)| {
            let is_key = |key: &Cow<'_, str>| program.key_rule.accepts(key);
            let key = foreign(headers, text).find_map(|value| decode(value).filter(is_key))?;
            Some(Found {
                key,
                name,
                extra: Vec::new(),
            })
        })
    };
    programs
        .iter()
        .enumerate()
        .filter_map(|(index, program)| Some((index, read(program)?)))
        .collect()
}

impl Program {
    fn is_ours(&self, raw_name: &[u8]) -> bool {
        self.params.iter().any(|name| name_is(raw_name, name))
    }
}

/// The query without our parameters, every other pair byte for byte; `None` if there are none of
/// ours. Not bounded, so that nothing of ours stays behind the bounds of reading.
pub(crate) fn without_parameters(programs: &[Program], query: &str) -> Option<String> {
    let is_ours = |pair: &str| {
        let name = pair.split('=').next().unwrap_or(pair);
        programs
            .iter()
            .any(|program| program.is_ours(name.as_bytes()))
    };
    let others: Vec<_> = query.split('&').filter(|pair| !is_ours(pair)).collect();
    let others = others.join("&");
    (others.len() < query.len()).then_some(others)
}

/// The same URL without our parameters, relative, so that no `Host` header can bend it. `None`
/// where there is nothing to take away, and where a browser would take the path for another host:
/// it reads `//` and `/\` as the start of one (WHATWG URL, "relative slash state").
pub(crate) fn clean_location(programs: &[Program], uri: &Uri) -> Option<HeaderValue> {
    let (path, query) = (uri.path(), uri.query()?);
    if !path.starts_with('/') || path[1..].starts_with(['/', '\\']) {
        return None;
    }
    let others = without_parameters(programs, query)?;
    let separator = if others.is_empty() { "" } else { "?" };
    HeaderValue::from_bytes(format!("{path}{separator}{others}").as_bytes()).ok()
}

#[derive(Clone, Copy)]
struct Pair<'q> {
    name: &'q [u8],
    value: &'q [u8],
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

// As names and not as texts: that a header is none of these is nearly always known without a look at
// its text.
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
static PURPOSE: HeaderName = HeaderName::from_static("purpose");
static X_MOZ: HeaderName = HeaderName::from_static("x-moz");

/// A `GET` that can be a top-level page visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageVisit {
    /// The link that led here is on this very site.
    pub(crate) same_origin: bool,
    /// The browser fetches the page ahead of time and may never show it.
    pub(crate) speculative: bool,
}

impl PageVisit {
    /// Reads method and [Fetch Metadata]. A header that the browser didn't send says nothing, and
    /// one that it sent must say a page visit on every line: a hidden image or frame earns nobody
    /// anything.
    ///
    /// [Fetch Metadata]: https://www.w3.org/TR/fetch-metadata/
    pub(crate) fn of(request: RequestRef<'_>) -> Option<Self> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return None;
        }
        let mut visit = Self {
            same_origin: false,
            speculative: false,
        };
        let (mut has_dest, mut is_old_prefetch) = (false, false);
        // Once through all of them: looking up six names that no table knows takes longer.
        for (name, value) in headers {
            let value = value.as_bytes();
            if *name == SEC_FETCH_DEST {
                if value != b"document" {
                    return None;
                }
                has_dest = true;
            } else if *name == SEC_FETCH_MODE {
                if value != b"navigate" {
                    return None;
                }
            } else if *name == SEC_FETCH_SITE {
                visit.same_origin |= value == b"same-origin";
            } else if *name == SEC_PURPOSE {
                visit.speculative |= value.starts_with(b"prefetch");
            } else if *name == PURPOSE || *name == X_MOZ {
                is_old_prefetch |= value.eq_ignore_ascii_case(b"prefetch");
            }
        }
        // Browsers from before Fetch Metadata mark prefetched subresources this way. Where the
        // metadata is there, it has spoken: a speculative page visit is one all the same.
        (has_dest || !is_old_prefetch).then_some(visit)
    }
}

/// Is `path` at or below `prefix`, by whole segments? Both are compared percent-decoded and
/// without empty segments, so that a path which a router may treat alike is treated alike here.
pub(crate) fn is_below(path: &str, prefix: &str) -> bool {
    fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decode(segment.as_bytes()).unwrap_or(Cow::Borrowed(segment)))
    }
    let mut path = segments(path);
    segments(prefix).all(|segment| path.next() == Some(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str) -> Option<Result<String, Reason>> {
        let programs = [Program::default()];
        let query = Query::of(&programs, &FirstBytes::of(&programs), query.as_bytes())?;
        read(&programs[0], query).map(|found| {
            found.map(|found| format!("{}={}", programs[0].params[found.name], found.key))
        })
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

        // The bound is of all pairs, wherever the first of ours is.
        let apart = |pairs| found(&format!("a&ref=&{}aff=K", "a&".repeat(pairs)));
        assert_eq!(apart(61), Some(Ok("aff=K".into())));
        assert_eq!(apart(62), Some(Err(Reason::InvalidKey)));
        // Behind it there is nothing of ours, not even a parameter.
        let programs = [Program::default()];
        let first_bytes = FirstBytes::of(&programs);
        let is_ours = |query: &str| Query::of(&programs, &first_bytes, query.as_bytes()).is_some();
        assert!(is_ours(&format!("{}aff=K", "a&".repeat(63))));
        assert!(!is_ours(&format!("{}aff=K", "a&".repeat(64))));
    }

    #[test]
    fn a_parameter_without_a_value_is_one() {
        for query in ["aff", "aff=", "aff&b=1", "b=1&ref&aff"] {
            assert_eq!(found(query), Some(Err(Reason::InvalidKey)), "{query}");
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
    fn paths_compare_by_whole_segments() {
        for path in [
            "/checkout",
            "/checkout/",
            "/checkout/pay",
            "//checkout",
            "/%63heckout",
        ] {
            assert!(is_below(path, "/checkout"), "{path}");
        }
        for path in ["/", "/checkouts", "/shop/checkout", "/Checkout"] {
            assert!(!is_below(path, "/checkout"), "{path}");
        }
    }
}
