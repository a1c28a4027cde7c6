//! How a fuzzer's bytes become text that is worth reading: most bytes stand for themselves, and
//! each control character stands for a whole word, a name or a sealed value for instance. So one
//! flipped bit swaps, doubles or cuts a thing that random bytes would never hit upon. And how they
//! become a sealed referral: field by field, or a valid one with changes.

use crate::shop::NOON;

const DAY: u32 = 86_400;

/// The words of the bytes 0 to 31. An empty one leaves the byte as it is.
pub type Words = [Vec<u8>; 32];

/// The input with every word written out.
///
/// A word of over a thousand bytes is written only if `is_long`, and once: the bounds are reached by
/// one of them, and it takes as long as ten inputs without.
pub fn written_out(words: &Words, input: &[u8], is_long: bool, text: &mut Vec<u8>) {
    let mut has_long = !is_long;
    for byte in input {
        match words.get(usize::from(*byte)) {
            Some(word) if word.len() > 1000 && has_long => {}
            Some(word) if !word.is_empty() => {
                has_long |= word.len() > 1000;
                text.extend_from_slice(word);
            }
            _ => text.push(*byte),
        }
    }
}

/// What a referral's fields are made of. 0 ends a field.
pub fn referral_words() -> Words {
    let mut words = Words::default();
    let texts: [&str; 18] = [
        "default",
        "friends",
        "PARTNER_123",
        "click-1",
        "aff",
        "/pricing",
        "utm_source",
        "ä",
        "é ",
        "\u{202e}",
        "\u{301}",
        "'",
        "=",
        "\u{1f600}",
        "x",
        "",
        "",
        "",
    ];
    for (word, text) in words[1..].iter_mut().zip(texts) {
        *word = text.into();
    }
    words[16] = b"x".repeat(31);
    words[17] = b"y".repeat(127);
    words[18] = "ü".repeat(64).into();
    words[19] = b"z".repeat(254);
    words
}

/// A message put together from the input, nearly always well-formed and often valid.
pub fn assembled(names_program: bool, header: [u8; 2], text: &[u8]) -> Vec<u8> {
    let captured_at: i64 = match header[0] % 16 {
        0 => NOON + 300_000,
        1 => NOON + 300_001,
        2 => NOON - 30 * 86_400_000,
        3 => NOON - 30 * 86_400_000 + 1,
        4 => -1,
        5 => 0,
        6 => 221_845_392_000_000,
        7 => 221_845_392_000_001,
        8 => i64::MAX,
        9 => i64::MIN,
        hours => NOON - i64::from(hours - 10) * 3_600_000,
    };
    let window: u32 = match header[0] / 16 {
        0 => 0,
        1 => 1,
        2 => 400 * DAY,
        3 => 400 * DAY + 1,
        4 => u32::MAX,
        5 => 14 * DAY,
        _ => 30 * DAY,
    };
    let mut message = vec![1];
    message.extend(captured_at.to_be_bytes());
    message.extend(window.to_be_bytes());
    message.push(match header[1] % 16 {
        source @ 0..=5 => source,
        6 => 1 + 8,
        7 => 1 + 16,
        8 => 5 + 16,
        9 => 1 + 24,
        _ => 1,
    });
    let touch: &[u8] = if header[1] & 16 != 0 {
        b"touchtou"
    } else {
        b""
    };
    let refused: &[u8] = if header[1] & 32 != 0 { b"hash" } else { b"" };
    let mut fields: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
    if !names_program {
        fields.insert(0, b"");
    }
    fields.resize(fields.len().max(6), b"");
    let (six, extra) = fields.split_at(6);
    let mut present = u8::from(!touch.is_empty()) | u8::from(!refused.is_empty()) << 1;
    for (bit, field) in (2..).zip(six) {
        // Sometimes a lie: an empty field that is there.
        present |= u8::from(!field.is_empty() || header[1] & 192 == 192) << bit;
    }
    message.push(present);
    message.extend(touch);
    message.extend(refused);
    let put = |message: &mut Vec<u8>, field: &[u8]| {
        // Too long for its length: a lie about it.
        message.push(field.len() as u8);
        message.extend(field);
    };
    for (bit, field) in (2..).zip(six) {
        if present >> bit & 1 == 1 {
            put(&mut message, field);
        }
    }
    message.push((extra.len() / 2) as u8);
    for field in extra {
        put(&mut message, field);
    }
    message
}

/// A valid text with changes: each of three bytes says what, where and by what.
pub fn changed(valid: &str, changes: &[u8]) -> Vec<u8> {
    let mut text = valid.as_bytes().to_vec();
    for change in changes.as_chunks::<3>().0 {
        let [what, at, by] = *change;
        let at = usize::from(at) % (text.len() + 1);
        match what % 8 {
            0 => text.truncate(at),
            1 => text.insert(at, by),
            2 if at < text.len() => drop(text.remove(at)),
            3 if at < text.len() => text[at] = by,
            4 if at < text.len() => text[at] ^= 1 << (by % 8),
            5 => text.rotate_left(at),
            6 => text.extend_from_within(at..),
            7 => {
                let other = usize::from(by) % (text.len() + 1);
                let (from, to) = (at.min(other), at.max(other));
                text[from..to].reverse();
            }
            _ => {}
        }
    }
    text
}
