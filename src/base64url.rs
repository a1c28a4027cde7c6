//! Unpadded base64url ([RFC 4648 section 5]), read strictly: one text for one value. For the hundred
//! characters of a cookie, which every request with one pays for; the `base64` crate takes twice the
//! time, for it also reads other alphabets and paddings. Not for secrets: it looks up in tables.
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

/// The value of `text`, in the front of `buffer`. `None` if it is no base64url, if its last
/// character has bits that no byte has, or if the buffer is too short.
pub(crate) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (groups, rest) = text.as_chunks();
    let value = buffer.get_mut(..text.len() * 3 / 4)?;
    let (values, rest_value) = value.as_chunks_mut();
    let mut seen = 0;
    for (group, value) in groups.iter().zip(values) {
        let bits = bits_of(*group);
        seen |= bits;
        let [_, bytes @ ..] = bits.to_be_bytes();
        *value = bytes;
    }
    let last = match *rest {
        [] => 0,
        [a, b] => bits_of([a, b, b'A', b'A']),
        [a, b, c] => bits_of([a, b, c, b'A']),
        _ => return None,
    };
    let [_, last_bytes @ ..] = last.to_be_bytes();
    let (last_value, bits_behind) = last_bytes.split_at(rest_value.len());
    rest_value.copy_from_slice(last_value);
    let is_strict = bits_behind.iter().all(|bits| *bits == 0);
    (is_strict && (seen | last) & INVALID == 0).then_some(value)
}

fn bits_of([a, b, c, d]: [u8; 4]) -> u32 {
    let [first, second, third, fourth] = &VALUES;
    first[usize::from(a)] | second[usize::from(b)] | third[usize::from(c)] | fourth[usize::from(d)]
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
