//! The one wire format, for cookies, carry tokens and records: how bytes are signed, and how a signed
//! text is verified. What the bytes say is in `message`.
//!
//! ```text
//! sealed   = base64url(envelope tag)                   unpadded; the tag is the last 32 bytes
//! envelope = version key-ID message                    version = 2; key-ID = length, bytes
//! tag      = HMAC-SHA256(sub-key, message)             all 32 bytes
//! sub-key  = HMAC-SHA256(secret, item("tower-referral") item(version) item(label)… item(key-ID))
//! item(x)  = length of x as 16 bits, big-endian, then x
//! labels   = "cookie", the cookie's name, the program, the cookie's domain (empty without one)
//!          | "carry", the purpose, the audience
//!          | "record"
//! ```
//!
//! Version, labels and key ID are bound by the sub-key, which is derived once when the layer is built.
//! Deriving keys with the same PRF from length-prefixed labels is the construction of NIST SP 800-108r1
//! section 4.1 with a counter of one.
//!
//! Decoding is strict: one text for one envelope, and anything else doesn't open.

pub(crate) mod keyring;
pub(crate) mod message;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smallvec::SmallVec;

use self::keyring::{Keyring, SigningKey};
use crate::key::{ClickId, ReferralKey};

const VERSION: u8 = 2;
const TAG_LEN: usize = 32;
/// The longest envelope that is written or read, in bytes.
const MAX_ENVELOPE_LEN: usize = 768;
/// The longest sealed text that is written or read, in characters.
pub(crate) const MAX_SEALED_LEN: usize = encoded_len(MAX_ENVELOPE_LEN + TAG_LEN);

// The longest key, click ID and partner ID fit an envelope; `message` leaves out what doesn't.
const _: () = assert!(
    2 + SigningKey::MAX_ID_LEN + 64 + ReferralKey::MAX_BYTES + 2 * ClickId::MAX_LEN
        < MAX_ENVELOPE_LEN
);

/// What a sealed value is for. A value sealed for one purpose doesn't open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    Cookie {
        /// The whole name.
        name: &'a str,
        program: &'a str,
        domain: Option<&'a str>,
    },
    Carry {
        purpose: &'a str,
        audience: &'a str,
    },
    /// The ID of a record on the server.
    #[cfg_attr(not(feature = "_store"), expect(dead_code))]
    Record,
}

impl<'a> Purpose<'a> {
    fn labels(self) -> SmallVec<[&'a str; 4]> {
        match self {
            Self::Cookie {
                name,
                program,
                domain,
            } => SmallVec::from_buf(["cookie", name, program, domain.unwrap_or_default()]),
            Self::Carry { purpose, audience } => {
                SmallVec::from_slice(&["carry", purpose, audience])
            }
            Self::Record => SmallVec::from_slice(&["record"]),
        }
    }
}

/// The sub-keys of a keyring for one purpose, the signing one first.
#[derive(Clone)]
pub(crate) struct Seal(Vec<SubKey>);

#[derive(Clone)]
struct SubKey {
    id: Box<[u8]>,
    /// Keyed and ready: a clone of it signs one message.
    mac: Hmac<Sha256>,
}

/// Why a text doesn't open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    /// Not of the format, or of another version of it.
    Malformed,
    /// Signed by a key that isn't on the keyring.
    UnknownKey,
    /// Not signed by this service, or for another purpose.
    BadSignature,
}

impl Seal {
    pub(crate) fn new(keyring: &Keyring, purpose: Purpose<'_>) -> Self {
        let derive = |key| SubKey::derive(key, purpose);
        Self(keyring.keys().map(derive).collect())
    }

    /// Returns the length of the sealed text for a message of `len` bytes, in characters.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        let id_len = self.0.first().map_or(0, |key| key.id.len());
        encoded_len(2 + id_len + len + TAG_LEN)
    }

    /// Returns the longest message whose sealed text has at most `max_len` characters.
    pub(crate) fn max_message_len(&self, max_len: usize) -> usize {
        let bytes = max_len.min(MAX_SEALED_LEN) * 3 / 4;
        let id_len = self.0.first().map_or(0, |key| key.id.len());
        bytes.saturating_sub(2 + id_len + TAG_LEN)
    }

    /// Seals a message and appends the text to `out`; as bytes, because base64url needs no check that it
    /// is UTF-8.
    pub(crate) fn seal(&self, message: &[u8], out: &mut Vec<u8>) {
        // A keyring always has its signing key.
        let Some(key) = self.0.first() else { return };
        let mut envelope = SmallVec::<[u8; 256]>::new();
        envelope.extend_from_slice(&[VERSION, key.id.len() as u8]);
        envelope.extend_from_slice(&key.id);
        envelope.extend_from_slice(message);
        envelope.extend_from_slice(&key.tag(message));
        let start = out.len();
        out.resize(start + encoded_len(envelope.len()), 0);
        // There is exactly as much room as it takes.
        let written = URL_SAFE_NO_PAD.encode_slice(&envelope, &mut out[start..]);
        debug_assert_eq!(written, Ok(out.len() - start));
    }

    /// Verifies a sealed text and reads its message.
    #[inline]
    pub(crate) fn open<T>(
        &self,
        sealed: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, SealError> {
        if sealed.len() > MAX_SEALED_LEN {
            return Err(SealError::Malformed);
        }
        // A few bytes more than the longest envelope, because base64 decodes in groups of three.
        let mut buffer = [0; MAX_ENVELOPE_LEN + TAG_LEN + 4];
        let len = URL_SAFE_NO_PAD
            .decode_slice(sealed, &mut buffer)
            .map_err(|_| SealError::Malformed)?;
        let envelope = buffer[..len].split_last_chunk::<TAG_LEN>();
        let (envelope, tag) = envelope.ok_or(SealError::Malformed)?;
        let [VERSION, id_len, rest @ ..] = envelope else {
            return Err(SealError::Malformed);
        };
        let id_len = usize::from(*id_len);
        if !(1..=SigningKey::MAX_ID_LEN).contains(&id_len) || rest.len() < id_len {
            return Err(SealError::Malformed);
        }
        let (id, message) = rest.split_at(id_len);
        let key = self.0.iter().find(|key| *key.id == *id);
        let mut mac = key.ok_or(SealError::UnknownKey)?.mac.clone();
        mac.update(message);
        mac.verify_slice(tag).map_err(|_| SealError::BadSignature)?;
        Ok(read(message))
    }

    /// Returns `true` if the key is on the keyring.
    #[cfg(feature = "_store")]
    pub(crate) fn has_key(&self, id: &str) -> bool {
        self.0.iter().any(|key| *key.id == *id.as_bytes())
    }

    /// Returns the ID of the key that signs.
    #[cfg(feature = "_store")]
    pub(crate) fn signing_key_id(&self) -> Option<&str> {
        std::str::from_utf8(&self.0.first()?.id).ok()
    }

    /// Derives 128 bits from a message under each key, with the key's ID; the signing key's first.
    #[cfg(feature = "_store")]
    pub(crate) fn derive<'s>(
        &'s self,
        message: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], [u8; 16])> {
        self.0.iter().map(|key| {
            let tag = key.tag(message);
            let mut derived = [0; 16];
            derived.copy_from_slice(&tag[..16]);
            (&*key.id, derived)
        })
    }
}

impl SubKey {
    fn derive(key: &SigningKey, purpose: Purpose<'_>) -> Self {
        let mut derivation = keyed(key.secret());
        let labels = purpose.labels();
        let labels = labels.iter().map(|label| label.as_bytes());
        let items = [&b"tower-referral"[..], &[VERSION]].into_iter();
        for item in items.chain(labels).chain([key.id().as_bytes()]) {
            // Every label is at most 253 characters by its own rule.
            derivation.update(&(item.len() as u16).to_be_bytes());
            derivation.update(item);
        }
        Self {
            id: key.id().as_bytes().into(),
            mac: keyed(&derivation.finalize().into_bytes()),
        }
    }

    fn tag(&self, message: &[u8]) -> [u8; TAG_LEN] {
        let mut mac = self.mac.clone();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// Returns the length of the base64url of so many bytes.
const fn encoded_len(len: usize) -> usize {
    (len * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose<'_> = Purpose::Cookie {
        name: "c",
        program: "default",
        domain: None,
    };

    fn seal() -> Seal {
        let key = SigningKey::new("k1", (0..32).collect::<Vec<u8>>()).unwrap();
        Seal::new(&Keyring::new(key), PURPOSE)
    }

    fn sealed(seal: &Seal, message: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        seal.seal(message, &mut text);
        assert_eq!(text.len(), seal.sealed_len(message.len()));
        text
    }

    fn open(seal: &Seal, text: &[u8]) -> Result<Vec<u8>, SealError> {
        seal.open(text, <[u8]>::to_vec)
    }

    #[test]
    fn nothing_but_the_sealed_text_opens() {
        // One message for each way in which base64 can end, and one over several vectors.
        for message in [&b"message"[..], b"messages", b"a message", &[b'm'; 100]] {
            let text = sealed(&seal(), message);
            assert_eq!(open(&seal(), &text).as_deref(), Ok(message));
            for at in 0..text.len() {
                for byte in 0..=255 {
                    let mut forged = text.clone();
                    if forged[at] != byte {
                        forged[at] = byte;
                        assert!(open(&seal(), &forged).is_err(), "{at}: {byte}");
                    }
                }
                assert!(open(&seal(), &text[..at]).is_err());
            }
        }
    }

    #[test]
    fn an_old_key_opens_what_it_sealed() {
        let key = |id: &str, secret| {
            SigningKey::new(id, (secret..secret + 48).collect::<Vec<u8>>()).unwrap()
        };
        let old = Seal::new(&Keyring::new(key("old-and-long-id", 2)), PURPOSE);
        let keyring = Keyring::new(key("n", 3)).verify_with(key("old-and-long-id", 2));
        let seal = Seal::new(&keyring.unwrap(), PURPOSE);
        for len in [0, 1, 54, 55, 56, 300, MAX_ENVELOPE_LEN - 17] {
            let message = vec![7; len];
            assert_eq!(open(&seal, &sealed(&old, &message)), Ok(message));
        }
        let foreign = Seal::new(&Keyring::new(key("n", 4)), PURPOSE);
        assert_eq!(
            open(&seal, &sealed(&foreign, b"m")),
            Err(SealError::BadSignature)
        );
    }

    #[test]
    fn every_label_is_bound() {
        let key = SigningKey::new("k1", (0..32).collect::<Vec<u8>>()).unwrap();
        let purposes = [
            PURPOSE,
            Purpose::Cookie {
                name: "d",
                program: "default",
                domain: None,
            },
            Purpose::Cookie {
                name: "c",
                program: "friends",
                domain: None,
            },
            Purpose::Cookie {
                name: "c",
                program: "default",
                domain: Some("shop.test"),
            },
            Purpose::Carry {
                purpose: "c",
                audience: "default",
            },
        ];
        let seals = purposes.map(|purpose| Seal::new(&Keyring::new(key.clone()), purpose));
        for (at, one) in seals.iter().enumerate() {
            let text = sealed(one, b"message");
            for (other, seal) in seals.iter().enumerate() {
                assert_eq!(open(seal, &text).is_ok(), at == other, "{at} {other}");
            }
        }
    }

    #[test]
    fn what_cannot_be_an_envelope_is_malformed() {
        let opened = |envelope: &[u8]| {
            let text = URL_SAFE_NO_PAD.encode([envelope, &[0; TAG_LEN]].concat());
            open(&seal(), text.as_bytes()).err()
        };
        let with_id =
            |said: usize, len: usize| [&[VERSION, said as u8][..], &vec![b'x'; len]].concat();
        let longest = SigningKey::MAX_ID_LEN;
        for (said, len) in [(1, 1), (1, 9), (3, 3), (longest, longest), (longest, 99)] {
            assert_eq!(opened(&with_id(said, len)), Some(SealError::UnknownKey));
        }
        for (said, len) in [
            (0, 0),
            (0, 9),
            (1, 0),
            (4, 3),
            (longest + 1, 99),
            (255, 255),
        ] {
            assert_eq!(opened(&with_id(said, len)), Some(SealError::Malformed));
        }
        assert_eq!(opened(b""), Some(SealError::Malformed));
        assert_eq!(opened(&[VERSION]), Some(SealError::Malformed));
        assert_eq!(opened(&[VERSION - 1, 1, b'x']), Some(SealError::Malformed));
        let long = [b'A'; MAX_SEALED_LEN + 1];
        assert_eq!(open(&seal(), &long), Err(SealError::Malformed));
    }

    #[test]
    fn the_longest_message_fills_the_room_and_no_more() {
        let seal = seal();
        for max_len in 60..400 {
            let len = seal.max_message_len(max_len);
            assert!(seal.sealed_len(len) <= max_len, "{max_len}");
            assert!(seal.sealed_len(len + 1) > max_len, "{max_len}");
        }
    }
}
