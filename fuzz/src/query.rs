//! Queries read as the seven rules at the top of `query.rs` have it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::message::{self, Keys};

const MAX_LEN: usize = 8 * 1024;
const MAX_PAIRS: usize = 64;

/// A program, as far as queries go.
pub struct Program {
    /// The parameters, the preferred one first.
    pub params: &'static [&'static str],
    /// The parameters of click IDs.
    pub click_params: &'static [&'static str],
    /// Other parameters to keep.
    pub keep: &'static [&'static str],
    /// Which keys are keys.
    pub keys: Keys,
}

/// What a query has for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'q> {
    /// The key; empty if there is none.
    pub key: Cow<'q, str>,
    /// The click ID; empty if there is none.
    pub click_id: Cow<'q, str>,
    /// The parameter that the key was in, or the click ID where there is no key.
    pub parameter: &'static str,
    /// The other parameters that are kept.
    pub extra: Vec<(&'static str, String)>,
}

/// A name and a value that isn't decoded yet. A name that can't be decoded is nobody's.
pub type Pair<'q> = (Option<Cow<'q, str>>, &'q [u8]);

/// The first 64 pairs that end within the first 8 KiB.
pub fn pairs(query: &str) -> Vec<Pair<'_>> {
    let mut pairs = Vec::with_capacity(16);
    let mut end = 0;
    for pair in query.as_bytes().split(|byte| *byte == b'&') {
        end += pair.len();
        if end > MAX_LEN || pairs.len() == MAX_PAIRS {
            break;
        }
        if !pair.is_empty() {
            let at = pair.iter().position(|byte| *byte == b'=');
            let name = name_of(&pair[..at.unwrap_or(pair.len())]);
            pairs.push((name, at.map_or(&[][..], |at| &pair[at + 1..])));
        }
        // The `&` behind it.
        end += 1;
    }
    pairs
}

/// Decodes once and strictly.
pub fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'%') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    for (at, byte) in raw.iter().enumerate() {
        let is_hex = |at: usize| raw.get(at).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(is_hex(at + 1) && is_hex(at + 2)) {
            return None;
        }
    }
    percent_decode(raw).decode_utf8().ok()
}

/// Decodes a value; one that isn't valid as it stands is tried once more after repair.
pub fn repaired(raw: &[u8], is_valid: impl Fn(&str) -> bool) -> Option<Cow<'_, str>> {
    let whole = decode(raw)?;
    if is_valid(&whole) {
        return Some(whole);
    }
    let start = whole.split('?').next()?.split("&amp;").next()?;
    let mut chars: Vec<char> = start
        .chars()
        .skip_while(|char| takes_no_room(*char))
        .collect();
    while chars
        .pop_if(|char| *char == '/' || takes_no_room(*char))
        .is_some()
    {}
    let text: String = chars.into_iter().collect();
    is_valid(&text).then_some(Cow::Owned(text))
}

/// White space and what is zero characters wide.
fn takes_no_room(char: char) -> bool {
    const ZERO_WIDTH: [char; 12] = [
        '\u{ad}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2060}',
        '\u{2061}', '\u{2062}', '\u{2063}', '\u{2064}', '\u{feff}',
    ];
    char.is_whitespace() || ZERO_WIDTH.contains(&char)
}

/// The name of a pair, without what mangled links have in front of it.
fn name_of(mut raw: &[u8]) -> Option<Cow<'_, str>> {
    while let [b'?', rest @ ..] | [b'a', b'm', b'p', b';', rest @ ..] = raw {
        raw = rest;
    }
    decode(raw)
}

fn is_named(decoded: &Option<Cow<'_, str>>, name: &str) -> bool {
    decoded.as_deref() == Some(name)
}

impl Program {
    fn is_ours(&self, decoded: &Option<Cow<'_, str>>) -> bool {
        let mut names = self.params.iter().chain(self.click_params);
        names.any(|name| is_named(decoded, name))
    }

    /// `None` if there is no parameter of the program's; `Some(None)` if there is, and neither a key nor
    /// a click ID.
    pub fn read<'q>(&self, pairs: &[Pair<'q>]) -> Option<Option<Found<'q>>> {
        if !pairs.iter().any(|(name, _)| self.is_ours(name)) {
            return None;
        }
        let key = first_valid(pairs, self.params, |text| message::is_key(text, self.keys));
        let click_id = first_valid(pairs, self.click_params, message::is_click_id);
        let Some((parameter, _)) = key.as_ref().or(click_id.as_ref()) else {
            return Some(None);
        };
        Some(Some(Found {
            parameter,
            key: key.map(|(_, key)| key).unwrap_or_default(),
            click_id: click_id.map(|(_, click_id)| click_id).unwrap_or_default(),
            extra: self.extra(pairs),
        }))
    }

    fn extra(&self, pairs: &[Pair<'_>]) -> Vec<(&'static str, String)> {
        let value_of = |wanted: &str| {
            let mut named = pairs.iter().filter(|(name, _)| is_named(name, wanted));
            named.find_map(|(_, value)| {
                let blanks: Vec<u8> = value
                    .iter()
                    .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                    .collect();
                let value = decode(&blanks)?.into_owned();
                message::is_extra_value(&value).then_some(value)
            })
        };
        let kept = self.keep.iter();
        kept.filter_map(|name| Some((*name, value_of(name)?)))
            .collect()
    }
}

/// The first name with a valid value, and the first such value.
fn first_valid<'q>(
    pairs: &[Pair<'q>],
    names: &[&'static str],
    is_valid: impl Fn(&str) -> bool,
) -> Option<(&'static str, Cow<'q, str>)> {
    names.iter().find_map(|wanted| {
        let mut named = pairs.iter().filter(|(name, _)| is_named(name, wanted));
        let value = named.find_map(|(_, value)| repaired(value, &is_valid))?;
        Some((*wanted, value))
    })
}

/// The query without the programs' parameters, however long it is; `None` if there are none.
pub fn without(programs: &[&Program], query: &str) -> Option<String> {
    let pairs: Vec<&str> = query.split('&').collect();
    let is_ours = |pair: &&&str| {
        let name = name_of(pair.split('=').next().unwrap_or_default().as_bytes());
        programs.iter().any(|program| program.is_ours(&name))
    };
    let others: Vec<&str> = pairs
        .iter()
        .filter(|pair| !is_ours(pair))
        .copied()
        .collect();
    (others.len() < pairs.len()).then(|| others.join("&"))
}
