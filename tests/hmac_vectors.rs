//! HMAC-SHA256 as the seal uses it, against the published vectors: RFC 4231 section 4, and of
//! Project Wycheproof's `hmac_sha256_test.json` (<https://github.com/C2SP/wycheproof>, Apache-2.0)
//! those of our key size, with the tags that differ in one bit. What is built upon it is in
//! `golden.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn tag(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    // The seal clones a prepared MAC for every message, and leaves the original as it is.
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
    let counting = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let sixteen = "000102030405060708090a0b0c0d0e0f";
    // (number, key, message, tag, valid)
    #[rustfmt::skip]
    let cases = [
        (1, "1e225cafb90339bba1b24076d4206c3e79c355805d851682bc818baa4f5a7779", "", "b175b57d89ea6cb606fb3363f2538abd73a4c00b4a1386905bac809004cf1933", true),
        (2, "8159fd15133cd964c9a6964c94f0ea269a806fd9f43f0da58b6cd1b33d189b2a", "77", "dfc5105d5eecf7ae7b8b8de3930e7659e84c4172f2555142f1e568fc1872ad93", true),
        (10, "b984c6734e0bd12b1737b2fc7a1b3803b4dfec402140a57b9eccc35414ae661b", "dea584d0e2a14ad5fd", "88bc2282e5fce47ec6d9895395cd47fff91a0cdc589a8fd56d8d344616533a3d", true),
        (17, "6fa353868c82e5deeedac7f09471a61bf749ab5498239e947e012eee3c82d7c4", "aeed3e4d4cb9bbb60d482e98c126c0f5", "9ed7f0e73812a27a87a3808ee0c89a6456499e835974ba57c5aab2a0d8c69e93", true),
        (20, "186e248ad824e1eb93329a7fdcd565b6cb4eaf3f85b90b910777128d8c538d27", "92ef9ff52f46eccc7e38b9ee19fd2de3b37726c8e6ce9e1b96db5dda4c317902", "3fc1d73dd4a8858c1fc3d8c4a3f33ed5ad0c70210038394a5902cb26fe287348", true),
        (21, "28855c7efc8532d92567300933cc1ca2d0586f55dcc9f054fcca2f05254fbf7f", "9c09207ff0e6e582cb3747dca954c94d45c05e93f1e6f21179cf0e25b4cede74b5479d32f5166935c86f0441905865", "788c0589000fb7f0b5d51f1596472bc9ec413421a43df96ee32b02b5d275ffe3", true),
        (24, "23209b7c5aadcbd13f7279af1a86d3c7ae8f179d1bcaaad0dff9a15302e78dbf", "84bdac37e1af35d9356404e2787d47ece58348dea76a4a46e8aade3463d4db8c94a051be3733b38d756984865d56c60e8025f15e3f968f093e7fb7ebc7e31189c5692d15ed4256737b9b1894e5809503aaa1c9983fb096aa21916361eeb6ef455b129723a1a1ddf9deddea208529a648", "4a85c479d1650dbd73bc5248074a55ff50218bddaa8d1fddaaf44946dc19aefb", true),
        (28, counting, "", "d28b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb", false),
        (29, counting, sixteen, "d9b99f2709a3ca74172cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e", false),
        (30, counting, "", "d18b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb", false),
        (31, counting, sixteen, "dab99f2709a3ca74172cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e", false),
        (32, counting, "", "538b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb", false),
        (33, counting, sixteen, "58b99f2709a3ca74172cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e", false),
        (34, counting, "", "d38a42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb", false),
        (35, counting, sixteen, "d8b89f2709a3ca74172cbe93824c1f29b23a0c1e9c21bd851ff2d2c39dbef14e", false),
    ];
    for (number, key, message, expected, valid) in cases {
        let (tag, expected) = (tag(&bytes(key), &bytes(message)), bytes(expected));
        assert_eq!(tag[..] == expected, valid, "tcId {number}");
        // The seal compares encoded tags: no two tags have the same text.
        let [tag, expected] = [&tag[..], &expected].map(|tag| URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(tag == expected, valid, "tcId {number}, encoded");
        assert_eq!(tag.len(), 43);
    }
}
