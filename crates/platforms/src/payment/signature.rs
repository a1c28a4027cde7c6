//! What the webhooks of all providers share: the settings, how headers say that a body is signed, and why
//! a webhook isn't taken.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::ConfigError;
#[cfg(any(feature = "stripe", feature = "paddle"))]
use crate::signature::from_hex;
use crate::signature::{self, Recency, Secrets};

/// The longest body that is read. The largest events that providers send are some 100 KiB.
const MAX_BODY: usize = 1 << 20;

/// Secrets, tolerance and clock of one provider's webhooks.
#[derive(Clone)]
pub(super) struct Verifier {
    secrets: Secrets,
    recency: Recency,
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
            secrets: Secrets::default(),
            recency: Recency::default(),
        };
        verifier.with_secret(secret)
    }

    pub(super) fn with_secret(mut self, secret: &[u8]) -> Result<Self, ConfigError> {
        self.secrets = self.secrets.with(secret.trim_ascii())?;
        Ok(self)
    }

    pub(super) fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.recency.tolerance = tolerance;
        self
    }

    pub(super) fn with_clock(
        mut self,
        now: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> Self {
        self.recency.clock = Arc::new(now);
        self
    }

    /// Checks that one of the signatures is of this content by one of the secrets, and is recent.
    /// The content is given in parts.
    pub(super) fn verify(
        &self,
        signed: &Signed<'_>,
        content: &[&[u8]],
    ) -> Result<(), WebhookError> {
        if !self.secrets.have_signed(content, &signed.signatures) {
            return Err(WebhookError::BadSignature);
        }
        match signed.timestamp.parse() {
            Ok(timestamp) if self.recency.accepts(timestamp) => Ok(()),
            Ok(_) => Err(WebhookError::Expired),
            Err(_) => Err(WebhookError::BadSignature),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.secrets.len())
            .field("tolerance", &self.recency.tolerance)
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
    let value = signature::only(headers, name).and_then(|value| value.to_str().ok());
    value.ok_or(WebhookError::Unsigned)
}

/// Refuses a body that is longer than any event is, before anything looks at it.
pub(super) fn check_len(body: &[u8]) -> Result<(), WebhookError> {
    if body.len() > MAX_BODY {
        return Err(WebhookError::TooLarge);
    }
    Ok(())
}

/// Reads a body as an event's envelope.
pub(super) fn read_envelope<T: DeserializeOwned>(body: &[u8]) -> Result<T, WebhookError> {
    check_len(body)?;
    serde_json::from_slice(body).map_err(|_| WebhookError::Unreadable)
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
            Some((name, value)) if name == signature_name => {
                signatures.extend(from_hex(value.as_bytes()));
            }
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
