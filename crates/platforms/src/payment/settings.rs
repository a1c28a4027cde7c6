//! What the webhooks of all providers share: the settings, and how a body is read.

use serde::de::DeserializeOwned;

use crate::WebhookError;
use crate::signature::check_len;

/// Defines the settings that the webhooks of all providers have.
macro_rules! common_settings {
    () => {
        $crate::signature::secret_setting!(verifier.secrets);

        $crate::signature::recency_settings!();

        /// Sets the names under which the shop puts its IDs into a payment.
        #[must_use]
        pub fn with_fields(mut self, fields: Fields) -> Self {
            self.fields = fields;
            self
        }
    };
}
pub(super) use common_settings;

/// Reads a body as an event's envelope.
pub(super) fn read_envelope<T: DeserializeOwned>(body: &[u8]) -> Result<T, WebhookError> {
    check_len(body)?;
    serde_json::from_slice(body).map_err(|_| WebhookError::Unreadable)
}
