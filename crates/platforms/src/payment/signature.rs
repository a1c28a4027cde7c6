//! What the webhooks of all providers share: secrets, the tolerance of a signature's age, the clock,
//! and the check of HMAC-SHA256 signatures in constant time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use sha2::Sha256;
use time::OffsetDateTime;

use crate::ConfigError;

/// The longest body that is read. The largest events that providers send are some 100 KiB.
pub(super) const MAX_BODY: usize = 1 << 20;
/// As many signatures of one header are compared. Two are sent while a secret is rolled.
const MAX_SIGNATURES: usize = 8;
const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Secrets, tolerance and clock of one provider's webhooks.
#[derive(Clone)]
pub(super) struct Verifier {
    secrets: Vec<Hmac<Sha256>>,
    tolerance: Duration,
    clock: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

/// What a request's headers say of its signature.
pub(super) struct Signed<'h> {
    /// Seconds of Unix time, as written.
    pub(super) timestamp: &'h str,
    /// Signatures of 32 bytes. Those of another length are no signature.
    pub(super) signatures: Vec<[u8; 32]>,
}

impl Verifier {
    pub(super) fn new(secret: &[u8]) -> Result<Self, ConfigError> {
        let verifier = Self {
            secrets: Vec::new(),
            tolerance: DEFAULT_TOLERANCE,
            clock: Arc::new(OffsetDateTime::now_utc),
        };
        verifier.with_secret(secret)
    }

    pub(super) fn with_secret(mut self, secret: &[u8]) -> Result<Self, ConfigError> {
        // HMAC takes a key of any length.
        let key = Hmac::<Sha256>::new_from_slice(secret.trim_ascii());
        match key {
            Ok(key) if !secret.trim_ascii().is_empty() => self.secrets.push(key),
            _ => return Err(ConfigError::EmptyWebhookSecret),
        }
        Ok(self)
    }

    pub(super) fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    pub(super) fn with_clock(
        mut self,
        now: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> Self {
        self.clock = Arc::new(now);
        self
    }

    /// Checks that one of the signatures is of this content by one of the secrets, and is recent.
    /// The content is given in parts.
    pub(super) fn verify(
        &self,
        signed: &Signed<'_>,
        content: &[&[u8]],
    ) -> Result<(), WebhookError> {
        let is_signed = self.secrets.iter().any(|key| {
            let mut mac = key.clone();
            content.iter().for_each(|part| mac.update(part));
            let mut signatures = signed.signatures.iter().take(MAX_SIGNATURES);
            signatures.any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        if !is_signed {
            return Err(WebhookError::BadSignature);
        }
        let now = (self.clock)().unix_timestamp();
        let age = match signed.timestamp.parse::<i64>() {
            Ok(timestamp) => now.abs_diff(timestamp),
            Err(_) => return Err(WebhookError::BadSignature),
        };
        if age > self.tolerance.as_secs() {
            return Err(WebhookError::Expired);
        }
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.secrets.len())
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

/// The settings that the webhooks of all providers have.
macro_rules! common_settings {
    () => {
        /// Takes another secret, too: while a secret is rolled, or for a second endpoint.
        ///
        /// # Errors
        ///
        /// The secret is empty.
        pub fn with_secret(mut self, secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
            self.verifier = self.verifier.with_secret(secret.as_ref())?;
            Ok(self)
        }

        /// Sets how old a signature may be, or how far in the future; 5 minutes by default.
        #[must_use]
        pub fn with_tolerance(mut self, tolerance: std::time::Duration) -> Self {
            self.verifier = self.verifier.with_tolerance(tolerance);
            self
        }

        /// Sets the clock; the system's by default.
        #[must_use]
        pub fn with_clock(
            mut self,
            now: impl Fn() -> time::OffsetDateTime + Send + Sync + 'static,
        ) -> Self {
            self.verifier = self.verifier.with_clock(now);
            self
        }

        /// Sets the names under which the shop puts its IDs into a payment.
        #[must_use]
        pub fn with_fields(mut self, fields: Fields) -> Self {
            self.fields = fields;
            self
        }
    };
}
pub(super) use common_settings;

/// Returns the only value of a header.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, WebhookError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| WebhookError::Unsigned),
        _ => Err(WebhookError::Unsigned),
    }
}

/// Reads `NAME=VALUE` pairs of a header: the timestamp, and the signatures as lower-case hex.
#[cfg(any(feature = "stripe", feature = "paddle"))]
pub(super) fn read_pairs<'h>(
    header: &'h str,
    separator: char,
    timestamp_name: &str,
    signature_name: &str,
) -> Result<Signed<'h>, WebhookError> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for pair in header.split(separator) {
        match pair.trim().split_once('=') {
            Some((name, value)) if name == timestamp_name && timestamp.is_none() => {
                timestamp = Some(value);
            }
            Some((name, value)) if name == signature_name => signatures.extend(from_hex(value)),
            _ => {}
        }
    }
    let timestamp = timestamp.ok_or(WebhookError::Unsigned)?;
    if signatures.is_empty() {
        return Err(WebhookError::Unsigned);
    }
    Ok(Signed {
        timestamp,
        signatures,
    })
}

#[cfg(any(feature = "stripe", feature = "paddle"))]
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// Why a webhook isn't taken. Nothing of it was looked at: answer with [`status`](Self::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookError {
    /// A header of the signature is absent, repeated or unreadable.
    Unsigned,
    /// No signature is of this body by one of the secrets.
    BadSignature,
    /// The signature is right and too old, or from the future.
    Expired,
    /// The body is longer than 1 MiB.
    TooLarge,
    /// The body is signed and isn't an event.
    Unreadable,
}

impl WebhookError {
    /// Returns the status to answer with: 413 for a body that is too large, 400 otherwise.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => {
                "the webhook has no readable signature: check that the provider sends to this URL, \
                 and that no proxy drops headers"
            }
            Self::BadSignature => {
                "the webhook's signature is wrong: check that the secret is this endpoint's (test \
                 mode and every endpoint have their own), and that the body is given byte for byte \
                 as it came"
            }
            Self::Expired => {
                "the webhook's signature is too old or from the future: check this server's clock"
            }
            Self::TooLarge => "the webhook's body is longer than 1 MiB: no event is",
            Self::Unreadable => {
                "the webhook is signed, but its body isn't an event: check which endpoint sends here"
            }
        })
    }
}

impl std::error::Error for WebhookError {}
