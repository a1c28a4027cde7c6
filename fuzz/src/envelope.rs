//! The envelope around a message, opened and sealed by the format that the crate documents in
//! `seal.rs`: base64url by the `base64` crate, HMAC-SHA256 by `hmac` and `sha2`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tower_referral::Reason;

/// Bytes of a tag.
pub const TAG_LEN: usize = 32;
/// Bytes of the longest envelope.
pub const MAX_ENVELOPE: usize = 768;

/// Why something that was sealed doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not of the format.
    Malformed,
    /// Of a key that isn't on the keyring.
    UnknownKey,
    /// Not ours.
    BadSignature,
    /// Too old.
    Expired,
    /// Too young.
    FromTheFuture,
}

impl Fault {
    /// What the crate says of it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed => Reason::Malformed,
            Self::UnknownKey => Reason::UnknownSigningKey,
            Self::BadSignature => Reason::BadSignature,
            Self::Expired => Reason::Expired,
            Self::FromTheFuture => Reason::FromTheFuture,
        }
    }
}

/// The keys of one purpose and audience, by their IDs.
pub struct Envelopes(Vec<(&'static str, Hmac<Sha256>)>);

impl Envelopes {
    /// The keys under which a program's cookie of that name, without a domain, is sealed.
    pub fn of_cookie(keys: &[(&'static str, [u8; 32])], name: &str, program: &str) -> Self {
        Self::derive(keys, &["cookie", name, program, ""])
    }

    /// The keys under which a carry token is sealed.
    pub fn of_carry(keys: &[(&'static str, [u8; 32])], purpose: &str, audience: &str) -> Self {
        Self::derive(keys, &["carry", purpose, audience])
    }

    fn derive(keys: &[(&'static str, [u8; 32])], labels: &[&str]) -> Self {
        let derived = keys.iter().map(|(id, secret)| {
            let mut label = Vec::new();
            let items = ["tower-referral", "\u{2}"].iter().chain(labels).chain([id]);
            for item in items {
                label.extend((item.len() as u16).to_be_bytes());
                label.extend(item.as_bytes());
            }
            let mut mac = mac(secret);
            mac.update(&label);
            (*id, self::mac(&mac.finalize().into_bytes()))
        });
        Self(derived.collect())
    }

    /// The tag of a message under one of the keys; `None` if there is none of that ID.
    pub fn tag(&self, id: &[u8], message: &[u8]) -> Option<[u8; 32]> {
        let (_, mac) = self.0.iter().find(|(known, _)| known.as_bytes() == id)?;
        let mut mac = mac.clone();
        mac.update(message);
        Some(mac.finalize().into_bytes().into())
    }

    /// The sealed text of a message.
    pub fn seal(&self, id: &str, message: &[u8]) -> String {
        let tag = self.tag(id.as_bytes(), message).expect("one of the keys");
        let mut envelope = vec![2, id.len() as u8];
        envelope.extend(id.as_bytes());
        envelope.extend(message);
        text_of(&envelope, &tag)
    }

    /// The message of a sealed text.
    pub fn open(&self, text: &[u8]) -> Result<Vec<u8>, Fault> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Malformed)?;
        let envelope_len = bytes.len().checked_sub(TAG_LEN).ok_or(Fault::Malformed)?;
        let (envelope, tag) = bytes.split_at(envelope_len);
        let id_len = match *envelope {
            [2, len @ 1..=16, ..] => usize::from(len),
            _ => return Err(Fault::Malformed),
        };
        if envelope.len() > MAX_ENVELOPE || envelope.len() < 2 + id_len {
            return Err(Fault::Malformed);
        }
        let (head, message) = envelope.split_at(2 + id_len);
        let right = self.tag(&head[2..], message).ok_or(Fault::UnknownKey)?;
        if tag != right {
            return Err(Fault::BadSignature);
        }
        assert_eq!(
            text_of(envelope, &right).as_bytes(),
            text,
            "one text for one envelope"
        );
        Ok(message.to_vec())
    }
}

/// Envelope and tag as they are sent.
pub fn text_of(envelope: &[u8], tag: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode([envelope, tag].concat())
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("keys of any length")
}
