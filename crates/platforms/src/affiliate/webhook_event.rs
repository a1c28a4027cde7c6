//! What an affiliate platform's webhook tells.

use std::fmt;

use serde_json::Value;

use crate::WebhookError;

/// What an affiliate platform's webhook tells. `Debug` hides its data.
#[derive(Clone, PartialEq)]
pub struct WebhookEvent {
    id: Option<String>,
    name: String,
    created_at: Option<String>,
    data: Value,
}

impl WebhookEvent {
    /// Reads an event whose name and time are under these names. `data` is so at all platforms.
    pub(super) fn read(body: &[u8], name: &str, created_at: &str) -> Result<Self, WebhookError> {
        let mut json: Value = serde_json::from_slice(body).map_err(|_| WebhookError::Unreadable)?;
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        Ok(Self {
            id: text("id"),
            name: text(name).ok_or(WebhookError::Unreadable)?,
            created_at: text(created_at),
            data: json.get_mut("data").map(Value::take).unwrap_or_default(),
        })
    }

    #[cfg(feature = "tolt")]
    pub(super) fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Returns the event's own ID, by which a webhook that comes again is recognised. Partnero has
    /// none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns what happened, for instance `sale.created`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when it happened, as the platform writes it.
    #[must_use]
    pub fn created_at(&self) -> Option<&str> {
        self.created_at.as_deref()
    }

    /// Returns to what it happened.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }
}

impl fmt::Debug for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEvent")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
