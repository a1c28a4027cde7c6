//! Queries read as the six rules in `landing.rs` have it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::message::{self, Keys};

const MAX_LEN: usize = 8 * 1024;
const MAX_PAIRS: usize = 64;

/// A program, as far as queries go.
pub struct Program {
    /// The parameters, the preferred one first.
    pub params: &'static [&'static str],
    /// Other parameters to keep.
    pub keep: &'static [&'static str],
    /// Which keys are keys.
    pub keys: Keys,
}

/// What a query has for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'q> {
    /// The key.
    pub key: Cow<'q, str>,
    /// The parameter that it was in.
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
            let name = decode(&pair[..at.unwrap_or(pair.len())]);
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

fn is_named(decoded: &Option<Cow<'_, str>>, name: &str) -> bool {
    decoded.as_deref() == Some(name)
}

impl Program {
    fn is_ours(&self, decoded: &Option<Cow<'_, str>>) -> bool {
        self.params.iter().any(|name| is_named(decoded, name))
    }

    /// `None` if there is no parameter of the program's; `Some(None)` if there is, and no key.
    pub fn read<'q>(&self, pairs: &[Pair<'q>]) -> Option<Option<Found<'q>>> {
        if !pairs.iter().any(|(name, _)| self.is_ours(name)) {
            return None;
        }
        for parameter in self.params {
            for (name, value) in pairs {
                if is_named(name, parameter)
                    && let Some(key) = decode(value)
                    && message::is_key(&key, self.keys)
                {
                    let extra = self.extra(pairs);
                    return Some(Some(Found {
                        key,
                        parameter,
                        extra,
                    }));
                }
            }
        }
        Some(None)
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

/// The query without the programs' parameters, however long it is; `None` if there are none.
pub fn without(programs: &[&Program], query: &str) -> Option<String> {
    let pairs: Vec<&str> = query.split('&').collect();
    let is_ours = |pair: &&&str| {
        let name = decode(pair.split('=').next().unwrap_or_default().as_bytes());
        programs.iter().any(|program| program.is_ours(&name))
    };
    let others: Vec<&str> = pairs
        .iter()
        .filter(|pair| !is_ours(pair))
        .copied()
        .collect();
    (others.len() < pairs.len()).then(|| others.join("&"))
}
