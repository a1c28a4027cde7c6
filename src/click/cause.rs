//! Why a click failed, as it may be shown: without what came from the visitor, however that is spelled.

use std::fmt::Write as _;

use memchr::memmem;

/// The longest cause that is shown, in characters.
const MAX_CHARS: usize = 300;
/// How much of an error's text is looked at, in bytes: what is shown is at its start.
const MAX_LEN: usize = 8 * 1024;
/// So often something may be escaped within something that was.
const MAX_ROUNDS: usize = 4;
/// In the place of what must not be shown.
const HIDDEN: &str = "[hidden]";

/// Returns the text of an error and its sources, in one line, without these texts.
pub(super) fn of(error: &(dyn std::error::Error + 'static), hidden: &[String]) -> String {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(cause, ": {error}");
        source = error.source();
    }
    let cause = without(&cause, hidden);
    let printable = cause.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_CHARS).collect()
}

/// Returns the text with a mark in the place of each of these, in any case, percent-encoded,
/// form-encoded or escaped as in JSON. Both sides are compared without any of that, so that no spelling
/// has to be thought of.
fn without(text: &str, hidden: &[String]) -> String {
    let plain = Plain::of(text);
    let hidden = hidden.iter().map(|text| Plain::of(text).bytes());
    let hidden: Vec<_> = hidden.filter(|bytes| !bytes.is_empty()).collect();
    let bytes = plain.bytes();
    let mut is_hidden = vec![false; bytes.len()];
    for hidden in &hidden {
        for at in memmem::find_iter(&bytes, hidden) {
            is_hidden[at..at + hidden.len()].fill(true);
        }
    }
    let mut end = bytes.len();
    if text.len() > MAX_LEN {
        // What is cut off may be the rest of something that began before.
        end -= hidden.iter().map(Vec::len).max().unwrap_or(0).min(end);
    }
    let mut shown = Vec::with_capacity(end);
    let (mut last, mut was_hidden) = (0, false);
    for (unit, is_hidden) in plain.0[..end].iter().zip(is_hidden) {
        if is_hidden {
            if !was_hidden {
                shown.extend_from_slice(HIDDEN.as_bytes());
            }
            last = unit.end;
        } else if unit.start >= last {
            shown.extend_from_slice(&text.as_bytes()[unit.start..unit.end]);
            last = unit.end;
        }
        was_hidden = is_hidden;
    }
    String::from_utf8_lossy(&shown).into_owned()
}

/// A byte of a text, and where it is written there.
#[derive(Clone, Copy)]
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
}

/// A text without its escapes.
struct Plain(Vec<Unit>);

impl Plain {
    fn of(text: &str) -> Self {
        let bytes = text.bytes().take(MAX_LEN).enumerate();
        let units = bytes.map(|(start, byte)| Unit {
            byte,
            start,
            end: start + 1,
        });
        let mut plain = Self(units.collect());
        for _ in 0..MAX_ROUNDS {
            let len = plain.0.len();
            plain = plain.unescaped();
            if plain.0.len() == len {
                break;
            }
        }
        for unit in &mut plain.0 {
            unit.byte = match unit.byte {
                b'+' => b' ',
                byte => byte.to_ascii_lowercase(),
            };
        }
        plain
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().map(|unit| unit.byte).collect()
    }

    fn unescaped(&self) -> Self {
        let mut units = Vec::with_capacity(self.0.len());
        let mut rest = &self.0[..];
        while let Some(first) = rest.first() {
            let Some((text, len)) = escape(rest) else {
                units.push(*first);
                rest = &rest[1..];
                continue;
            };
            let end = rest[len - 1].end;
            units.extend(text.into_iter().map(|byte| Unit {
                byte,
                start: first.start,
                end,
            }));
            rest = &rest[len..];
        }
        Self(units)
    }
}

/// Reads the escape that this begins with: the bytes that it means, and how many it takes.
fn escape(units: &[Unit]) -> Option<(Vec<u8>, usize)> {
    let at = |index: usize| units.get(index).map(|unit| unit.byte);
    match (at(0)?, at(1)?) {
        (b'%', _) => Some((vec![u8::try_from(hex(units, 1, 2)?).ok()?], 3)),
        (b'\\', b'u') if at(2) == Some(b'{') => {
            let len = (1..=6).find(|len| at(3 + len) == Some(b'}'))?;
            Some((utf8(hex(units, 3, len)?)?, 4 + len))
        }
        (b'\\', b'u') => {
            let first = hex(units, 2, 4)?;
            if !(0xD800..0xDC00).contains(&first) {
                return Some((utf8(first)?, 6));
            }
            // A character in two halves.
            let second =
                hex(units, 8, 4).filter(|_| at(6) == Some(b'\\') && at(7) == Some(b'u'))?;
            let second = second.checked_sub(0xDC00).filter(|half| *half < 0x400)?;
            Some((utf8(0x1_0000 + (first - 0xD800) * 0x400 + second)?, 12))
        }
        (b'\\', byte @ (b'"' | b'\'' | b'\\' | b'/')) => Some((vec![byte], 2)),
        _ => None,
    }
}

fn hex(units: &[Unit], start: usize, len: usize) -> Option<u32> {
    let digits = units.get(start..start + len)?.iter();
    digits
        .map(|unit| char::from(unit.byte).to_digit(16))
        .try_fold(0, |number, digit| Some(number * 16 + digit?))
}

fn utf8(code: u32) -> Option<Vec<u8>> {
    Some(char::from_u32(code)?.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn what_came_from_the_visitor_is_hidden_in_every_spelling() {
        let key = "Zoë O'x/y@shop.example 😀".to_owned();
        for spelling in [
            "Zoë O'x/y@shop.example 😀",
            "zoë o'X/Y@SHOP.example 😀",
            "Zo%C3%AB%20O%27x%2Fy%40shop.example%20%F0%9F%98%80",
            "Zo%c3%ab+O%27x%2fy%40shop.example+%f0%9f%98%80",
            "Zo%25C3%25AB%2520O%2527x%252Fy%2540shop.example%2520%25F0%259F%2598%2580",
            r"Zo\u00eb O'x\/y\u0040shop.example \uD83D\uDE00",
            r"Zo\u{eb} O\'x/y@shop.example \u{1f600}",
            "%5Ao%C3%AB O'x/y@sho%70.example 😀",
        ] {
            let text = format!("no answer from https://p.test/?k={spelling}&n=%20\\u00e4: closed");
            assert_eq!(
                without(&text, std::slice::from_ref(&key)),
                "no answer from https://p.test/?k=[hidden]&n=%20\\u00e4: closed"
            );
        }
    }

    #[test]
    fn what_is_spelled_with_escapes_itself_is_hidden_as_it_is_meant() {
        let url = "https://shop.test/a%20b?aff=P+1".to_owned();
        for spelling in [
            "https://shop.test/a%20b?aff=P+1",
            "https://shop.test/a b?aff=P 1",
            "https%3A%2F%2Fshop.test%2Fa%2520b%3Faff%3DP%2B1",
        ] {
            assert_eq!(without(spelling, std::slice::from_ref(&url)), "[hidden]");
        }
        assert_eq!(
            without("100%, %zz \\ and \\u00", &[url]),
            "100%, %zz \\ and \\u00"
        );
    }

    #[test]
    fn what_is_cut_off_within_a_long_text_is_not_shown() {
        let key = "k".repeat(100);
        let text = format!("{}{}", "-".repeat(8 * 1024 - 50), key);
        assert!(!without(&text, &[key]).contains('k'));
    }
}
