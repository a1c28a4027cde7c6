//! Dub's webhooks, which are signed with the webhook's own secret in `Dub-Signature`.

use http::HeaderMap;

use crate::affiliate::webhook_event::WebhookEvent;
use crate::signature::{Secrets, secret_setting};
use crate::{ConfigError, WebhookError};

/// Checks and reads Dub's webhooks.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral_platforms::affiliate::dub::Webhook;
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
    secrets: Secrets,
}

impl Webhook {
    /// Creates a reader of the webhooks that are signed with this secret.
    ///
    /// # Errors
    ///
    /// The secret is empty: anybody could sign with that.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Ok(Self {
            secrets: Secrets::new(secret.as_ref())?,
        })
    }

    secret_setting!(secrets);

    /// Checks and reads a webhook. `body` is the raw body, byte for byte as it came: JSON that was read
    /// and written again has another signature.
    ///
    /// The signature is compared in constant time. It doesn't cover when the webhook was sent, so
    /// one that somebody has recorded can be sent again: handle each [event ID](WebhookEvent::id) once.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed by one of the secrets, is longer than 1 MiB, or isn't an event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<WebhookEvent, WebhookError> {
        self.secrets.verify_body(headers, "dub-signature", body)?;
        WebhookEvent::read(body, "event", "createdAt")
    }
}
