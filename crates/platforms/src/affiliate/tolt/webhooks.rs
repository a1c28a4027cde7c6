//! Tolt's webhooks: whether they are signed and recent, and what they tell. They are signed by the
//! scheme of Standard Webhooks, with its headers or those of Svix, its first implementation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;

use crate::ConfigError;
use crate::signature::{self, MAX_SIGNATURES, Recency, Secrets};

const INVALID: ConfigError = ConfigError::InvalidSetting {
    name: "webhook secret",
};

/// Reads Tolt's webhooks, which are signed with the endpoint's own secret (`whsec_…`).
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral_platforms::affiliate::tolt::Webhooks;
///
/// fn webhook(webhooks: &Webhooks, headers: &HeaderMap, body: &[u8]) -> StatusCode {
///     match webhooks.read(headers, body) {
///         Ok(event) => {
///             println!("{} under {}", event.name(), event.id());
///             StatusCode::NO_CONTENT
///         }
///         Err(_) => StatusCode::BAD_REQUEST,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    secrets: Secrets,
    recency: Recency,
}

impl Webhooks {
    /// Creates a reader of the webhooks that are signed with this secret.
    ///
    /// # Errors
    ///
    /// The secret is empty, or isn't Base64 after `whsec_`.
    pub fn new(secret: impl AsRef<str>) -> Result<Self, ConfigError> {
        let webhooks = Self {
            secrets: Secrets::default(),
            recency: Recency::default(),
        };
        webhooks.with_secret(secret)
    }

    /// Takes another secret, too, while one is replaced.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_secret(mut self, secret: impl AsRef<str>) -> Result<Self, ConfigError> {
        let secret = secret.as_ref().trim();
        let secret = secret.strip_prefix("whsec_").unwrap_or(secret);
        if secret.is_empty() {
            return Err(ConfigError::EmptyWebhookSecret);
        }
        let secret = STANDARD.decode(secret);
        let secret = secret.map_err(|_| INVALID)?;
        self.secrets = self.secrets.with(&secret)?;
        Ok(self)
    }

    /// Sets how old a webhook may be, or how far in the future; 5 minutes by default.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.recency.tolerance = tolerance;
        self
    }

    /// Sets the clock; the system's by default.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.recency.clock = Arc::new(now);
        self
    }

    /// Reads a webhook. `body` is the raw body, byte for byte as it came.
    ///
    /// A webhook may come twice, under one [ID](Event::id): handle each event so that it does no harm
    /// the second time.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed with the secret, isn't recent, or isn't an event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, InvalidWebhook> {
        let prefix = if headers.contains_key("webhook-id") {
            "webhook"
        } else {
            "svix"
        };
        let header = |name| {
            let value = signature::only(headers, &format!("{prefix}-{name}"));
            let text = value.and_then(|value| value.to_str().ok());
            text.ok_or(InvalidWebhook::Unsigned)
        };
        let (id, timestamp) = (header("id")?, header("timestamp")?);
        let signatures = header("signature")?.split(' ');
        let signatures = signatures.filter_map(|signature| signature.strip_prefix("v1,"));
        let signatures = signatures.take(MAX_SIGNATURES);
        let signatures: Vec<_> = signatures
            .filter_map(|text| STANDARD.decode(text).ok())
            .collect();
        let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        if !self.secrets.have_signed(&content, &signatures) {
            return Err(InvalidWebhook::BadSignature);
        }
        let sent = timestamp.parse();
        if !sent.is_ok_and(|sent| self.recency.accepts(sent)) {
            return Err(InvalidWebhook::NotRecent);
        }
        Event::read(id, body).ok_or(InvalidWebhook::Unreadable)
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("tolerance", &self.recency.tolerance)
            .finish_non_exhaustive()
    }
}

/// What a webhook tells. `Debug` hides its data.
#[derive(Clone, PartialEq)]
pub struct Event {
    id: String,
    name: String,
    timestamp: Option<String>,
    data: Value,
}

impl Event {
    fn read(id: &str, body: &[u8]) -> Option<Self> {
        let mut json: Value = serde_json::from_slice(body).ok()?;
        let timestamp = json.get("timestamp").and_then(Value::as_str);
        Some(Self {
            id: id.to_owned(),
            name: json.get("type")?.as_str()?.to_owned(),
            timestamp: timestamp.map(str::to_owned),
            data: json.get_mut("data").map(Value::take).unwrap_or_default(),
        })
    }

    /// Returns the event's ID, the same each time that it is sent.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what happened, for instance `commission.created`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when, in Tolt's own writing.
    #[must_use]
    pub fn timestamp(&self) -> Option<&str> {
        self.timestamp.as_deref()
    }

    /// Returns to what it happened. Amounts are texts in minor units.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a webhook isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWebhook {
    /// A header of the signature is absent, or there more than once.
    Unsigned,
    /// The signature is another one: wrong secret, or a body that was changed.
    BadSignature,
    /// It is signed, and too old or from the future.
    NotRecent,
    /// It is signed, and isn't an event.
    Unreadable,
}

impl fmt::Display for InvalidWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => {
                "the webhook has no signature: check that Tolt sends to this URL, and that no proxy \
                 drops headers"
            }
            Self::BadSignature => {
                "the webhook's signature is wrong: check that the secret is this endpoint's, and that \
                 the body is given as it came, byte for byte"
            }
            Self::NotRecent => {
                "the webhook is too old or from the future: check this server's clock"
            }
            Self::Unreadable => "the webhook is signed, but its body is no event",
        })
    }
}

impl std::error::Error for InvalidWebhook {}
