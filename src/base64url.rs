//! Unpadded base64url ([RFC 4648 section 5]), read strictly: one text for one value. For the hundred
//! characters of a cookie, which every request with one pays for; the `base64` crate takes longer,
//! because it knows other alphabets and paddings too. Not for secrets: it looks up in tables.
//!
//! [RFC 4648 section 5]: https://www.rfc-editor.org/rfc/rfc4648#section-5

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Set in the value of a character that isn't in the alphabet, and in no other.
const INVALID: u32 = 1 << 31;

/// The value of each character, at each of its four places in a group of 24 bits.
static VALUES: [[u32; 256]; 4] = [values(18), values(12), values(6), values(0)];

const fn values(shift: u32) -> [u32; 256] {
    let mut values = [INVALID; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = (value as u32) << shift;
        value += 1;
    }
    values
}

/// The two characters of every 12 bits.
static PAIRS: [[u8; 2]; 4096] = {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = [ALPHABET[bits >> 6], ALPHABET[bits & 63]];
        bits += 1;
    }
    pairs
};

/// The length of the text for so many bytes.
pub(crate) const fn encoded_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

/// Writes the text of `value` into `text`, which has exactly that length.
pub(crate) fn encode(value: &[u8], text: &mut [u8]) {
    let (groups, rest) = value.as_chunks::<6>();
    let (texts, rest_text) = text.as_chunks_mut::<8>();
    for (group, text) in groups.iter().zip(&mut *texts) {
        *text = text_of(*group);
    }
    // The rest of fewer than six bytes has seven characters at most.
    let mut last = [0; 6];
    last[..rest.len()].copy_from_slice(rest);
    rest_text.copy_from_slice(&text_of(last)[..rest_text.len()]);
}

#[inline]
fn text_of([a, b, c, d, e, f]: [u8; 6]) -> [u8; 8] {
    let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let pair = |shift: u32| PAIRS[(bits >> shift & 0xfff) as usize];
    let ([a, b], [c, d], [e, f], [g, h]) = (pair(36), pair(24), pair(12), pair(0));
    [a, b, c, d, e, f, g, h]
}

/// The value of `text`, in the front of `buffer`. `None` if it is no base64url, if its last
/// character has bits that no byte has, or if the buffer is too short.
pub(crate) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (groups, rest) = text.as_chunks::<8>();
    let value = buffer.get_mut(..text.len() * 3 / 4)?;
    let (values, rest_value) = value.as_chunks_mut::<6>();
    let mut seen = 0;
    for (group, value) in groups.iter().zip(values) {
        let (high, low) = bits_of(*group);
        seen |= high | low;
        *value = bytes_of(high, low);
    }
    let mut last = [b'A'; 8];
    last[..rest.len()].copy_from_slice(rest);
    let (high, low) = bits_of(last);
    let bytes = bytes_of(high, low);
    let (last_value, bits_behind) = bytes.split_at(rest_value.len());
    rest_value.copy_from_slice(last_value);
    let is_strict = rest.len() % 4 != 1 && bits_behind.iter().all(|bits| *bits == 0);
    (is_strict && (seen | high | low) & INVALID == 0).then_some(value)
}

/// Twice 24 bits.
#[inline]
fn bits_of([a, b, c, d, e, f, g, h]: [u8; 8]) -> (u32, u32) {
    let [first, second, third, fourth] = &VALUES;
    let of = |a: u8, b: u8, c: u8, d: u8| {
        first[usize::from(a)]
            | second[usize::from(b)]
            | third[usize::from(c)]
            | fourth[usize::from(d)]
    };
    (of(a, b, c, d), of(e, f, g, h))
}

#[inline]
fn bytes_of(high: u32, low: u32) -> [u8; 6] {
    let [_, _, bytes @ ..] = (u64::from(high) << 24 | u64::from(low)).to_be_bytes();
    bytes
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn any_text_is_as_the_base64_crate_has_it() {
        let mut seed = 7_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let mut buffer = [0; 768];
        for len in (0..200).chain([767, 768]) {
            let bytes: Vec<u8> = (0..len).map(|_| random()).collect();
            let text = URL_SAFE_NO_PAD.encode(&bytes).into_bytes();
            let mut ours = vec![0; encoded_len(len)];
            encode(&bytes, &mut ours);
            assert_eq!(ours, text);
            assert_eq!(decode(&text, &mut buffer), Some(&bytes[..]));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] = random();
                for text in [&other[..], &text[..at]] {
                    let expected = URL_SAFE_NO_PAD.decode(text).ok();
                    assert_eq!(decode(text, &mut buffer), expected.as_deref());
                }
            }
        }
        assert_eq!(decode(&[b'A'; 1028], &mut buffer), None);
    }
}
