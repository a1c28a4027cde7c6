//! How a fuzzer's bytes become text that is worth reading: most bytes stand for themselves, and
//! each control character stands for a whole word, a name or a sealed value for instance. So one
//! flipped bit swaps, doubles or cuts a thing that random bytes would never hit upon.

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
