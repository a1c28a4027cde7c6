//! Signatures of webhooks, whoever sends them: HMAC-SHA256, compared in constant time, by one of several
//! secrets. [`Verifier`] also checks when a webhook was signed, where the signature covers that.

#[cfg(any(feature = "stripe", feature = "paddle"))]
mod pairs;
#[cfg(any(feature = "polar", feature = "tolt"))]
mod standard;
#[cfg(any(
    feature = "stripe",
    feature = "paddle",
    feature = "polar",
    feature = "tolt"
))]
mod verifier;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

#[cfg(any(feature = "stripe", feature = "paddle"))]
pub(crate) use self::pairs::PairScheme;
#[cfg(any(
    feature = "stripe",
    feature = "paddle",
    feature = "polar",
    feature = "tolt"
))]
pub(crate) use self::verifier::{Verifier, recency_settings};
use crate::{ConfigError, WebhookError};

/// The longest body that is read. The largest events that providers send are some 100 KiB.
const MAX_BODY: usize = 1 << 20;
/// As many signatures of one header are compared. Two are sent while a secret is replaced.
const MAX_SIGNATURES: usize = 8;

/// A signature's bytes. Those of another length are no signature.
type Signature = [u8; 32];

/// The secrets that webhooks may be signed with. `Debug` shows how many there are.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Hmac<Sha256>>);

impl Secrets {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, ConfigError> {
        Self::default().with(secret)
    }

    /// Takes a secret as a settings page shows it. Blanks around it are no part of it.
    pub(crate) fn with(self, secret: &[u8]) -> Result<Self, ConfigError> {
        self.with_key(secret.trim_ascii())
    }

    /// Takes a key, byte for byte.
    pub(crate) fn with_key(mut self, key: &[u8]) -> Result<Self, ConfigError> {
        // HMAC takes a key of any length.
        match Hmac::<Sha256>::new_from_slice(key) {
            Ok(mac) if !key.is_empty() => self.0.push(mac),
            _ => return Err(ConfigError::EmptyWebhookSecret),
        }
        Ok(self)
    }

    /// Checks that one of the signatures is of this content, which is given in parts.
    fn verify(&self, content: &[&[u8]], signatures: &[Signature]) -> Result<(), WebhookError> {
        let is_signed = self.0.iter().any(|key| {
            let mut mac = key.clone();
            content.iter().for_each(|part| mac.update(part));
            let mut signatures = signatures.iter().take(MAX_SIGNATURES);
            signatures.any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        is_signed.then_some(()).ok_or(WebhookError::BadSignature)
    }

    /// Checks that the body is signed in this header, in hex.
    pub(crate) fn verify_body(
        &self,
        headers: &HeaderMap,
        name: &str,
        body: &[u8],
    ) -> Result<(), WebhookError> {
        check_len(body)?;
        let signature = from_hex(only(headers, name)?).ok_or(WebhookError::Unsigned)?;
        self.verify(&[body], &[signature])
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

/// Defines `with_secret` of a type with [`Secrets`] in this field.
macro_rules! secret_setting {
    ($($field:ident).+) => {
        /// Takes another secret, too: while a secret is replaced, or for a second endpoint.
        ///
        /// # Errors
        ///
        /// The secret is empty: anybody could sign with that.
        pub fn with_secret(
            mut self,
            secret: impl AsRef<[u8]>,
        ) -> Result<Self, $crate::ConfigError> {
            self.$($field).+ = self.$($field).+.with(secret.as_ref())?;
            Ok(self)
        }
    };
}
pub(crate) use secret_setting;

/// Refuses a body that is longer than any event is, before anything looks at it.
pub(crate) fn check_len(body: &[u8]) -> Result<(), WebhookError> {
    if body.len() > MAX_BODY {
        return Err(WebhookError::TooLarge);
    }
    Ok(())
}

/// Returns the value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, WebhookError> {
    let mut values = headers.get_all(name).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    value.ok_or(WebhookError::Unsigned)
}

/// Reads a signature in lower-case hex.
fn from_hex(text: &str) -> Option<Signature> {
    let text = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? * 16 + digit(digits[1])?;
    }
    Some(bytes)
}
