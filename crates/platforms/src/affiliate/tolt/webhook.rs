//! Tolt's webhooks, which are signed by the scheme of Standard Webhooks, with its headers or those of
//! Svix, its first implementation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::affiliate::webhook_event::WebhookEvent;
use crate::signature::{Secrets, Verifier, recency_settings};
use crate::{ConfigError, WebhookError};

const INVALID: ConfigError = ConfigError::InvalidSetting {
    name: "webhook secret",
};

/// Checks and reads Tolt's webhooks.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral_platforms::affiliate::tolt::Webhook;
///
/// fn handler(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> StatusCode {
///     match webhook.read(headers, body) {
///         Ok(event) => {
///             println!("{}, ID {:?}", event.name(), event.id());
///             StatusCode::NO_CONTENT
///         }
///         Err(error) => error.status(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Webhook {
    verifier: Verifier,
}

impl Webhook {
    /// Creates a reader of the webhooks that are signed with this secret, the endpoint's own
    /// (`whsec_…`).
    ///
    /// # Errors
    ///
    /// The secret is empty, or isn't Base64 after `whsec_`.
    pub fn new(secret: impl AsRef<str>) -> Result<Self, ConfigError> {
        let verifier = Verifier::new(Secrets::default());
        Self { verifier }.with_secret(secret)
    }

    /// Takes another secret, too: while a secret is replaced, or for a second endpoint.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_secret(mut self, secret: impl AsRef<str>) -> Result<Self, ConfigError> {
        let secret = secret.as_ref().trim();
        let secret = secret.strip_prefix("whsec_").unwrap_or(secret);
        let key = STANDARD.decode(secret).map_err(|_| INVALID)?;
        self.verifier.secrets = self.verifier.secrets.with_key(&key)?;
        Ok(self)
    }

    recency_settings!();

    /// Checks and reads a webhook. `body` is the raw body, byte for byte as it came.
    ///
    /// A webhook may come twice, under one [ID](WebhookEvent::id): handle each event so that it does no
    /// harm the second time. Amounts among its data are texts in minor units.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed by one of the secrets, isn't recent, is longer than 1 MiB, or isn't an
    /// event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<WebhookEvent, WebhookError> {
        let id = self.verifier.verify_standard(headers, body)?;
        Ok(WebhookEvent::read(body, "type", "timestamp")?.with_id(id))
    }
}
