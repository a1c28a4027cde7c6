//! Signatures of webhooks, whoever sends them: HMAC-SHA256, compared in constant time, by one of several
//! secrets, and recent where they say when they were made.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

use crate::ConfigError;

/// As many signatures of one header are compared. Two are sent while a secret is replaced.
pub(crate) const MAX_SIGNATURES: usize = 8;

/// The secrets that webhooks may be signed with.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Hmac<Sha256>>);

impl Secrets {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, ConfigError> {
        Self::default().with(secret)
    }

    pub(crate) fn with(mut self, secret: &[u8]) -> Result<Self, ConfigError> {
        // HMAC takes a key of any length.
        match Hmac::<Sha256>::new_from_slice(secret) {
            Ok(key) if !secret.is_empty() => self.0.push(key),
            _ => return Err(ConfigError::EmptyWebhookSecret),
        }
        Ok(self)
    }

    #[cfg(any(feature = "stripe", feature = "paddle", feature = "polar"))]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if one of the signatures is of this content, which is given in parts.
    pub(crate) fn have_signed(&self, content: &[&[u8]], signatures: &[impl AsRef<[u8]>]) -> bool {
        self.0.iter().any(|key| {
            let mut mac = key.clone();
            content.iter().for_each(|part| mac.update(part));
            let mut signatures = signatures.iter().take(MAX_SIGNATURES);
            signatures.any(|signature| mac.clone().verify_slice(signature.as_ref()).is_ok())
        })
    }

    /// Checks that the body is signed in this header, in lower-case hex.
    pub(crate) fn check_hex(
        &self,
        headers: &HeaderMap,
        name: &str,
        body: &[u8],
    ) -> Result<(), SignatureProblem> {
        let text = only(headers, name).ok_or(SignatureProblem::Unsigned)?;
        let text = text.as_bytes();
        let signature = from_hex(text).filter(|_| !text.iter().any(u8::is_ascii_uppercase));
        match signature {
            Some(signature) if self.have_signed(&[body], &[signature]) => Ok(()),
            _ => Err(SignatureProblem::Wrong),
        }
    }
}

/// Why a body doesn't count as signed.
pub(crate) enum SignatureProblem {
    /// The header is absent, or there more than once.
    Unsigned,
    /// It is of another body, or by another secret.
    Wrong,
}

/// Returns the value of a header that is there once.
pub(crate) fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Reads 32 bytes in hex.
pub(crate) fn from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let text = <&[u8; 64]>::try_from(text).ok()?;
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(any(
    feature = "stripe",
    feature = "paddle",
    feature = "polar",
    feature = "tolt"
))]
pub(crate) use self::recency::Recency;

#[cfg(any(
    feature = "stripe",
    feature = "paddle",
    feature = "polar",
    feature = "tolt"
))]
mod recency {
    use std::sync::Arc;
    use std::time::Duration;

    use time::OffsetDateTime;

    const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

    /// How old a signature may be, or how far in the future, by which clock.
    #[derive(Clone)]
    pub(crate) struct Recency {
        pub(crate) tolerance: Duration,
        pub(crate) clock: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    }

    impl Recency {
        /// Returns `true` if a signature of this Unix time, in seconds, is recent.
        pub(crate) fn accepts(&self, timestamp: i64) -> bool {
            let now = (self.clock)().unix_timestamp();
            now.abs_diff(timestamp) <= self.tolerance.as_secs()
        }
    }

    impl Default for Recency {
        fn default() -> Self {
            Self {
                tolerance: DEFAULT_TOLERANCE,
                clock: Arc::new(OffsetDateTime::now_utc),
            }
        }
    }
}
