//! Dub's webhooks: whether they are signed, and what they tell.

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

use crate::ConfigError;
use crate::signature::{Secrets, SignatureProblem};

/// Reads Dub's webhooks, which are signed with the webhook's own secret in `Dub-Signature`.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral_platforms::affiliate::dub::Webhooks;
///
/// fn webhook(webhooks: &Webhooks, headers: &HeaderMap, body: &[u8]) -> StatusCode {
///     match webhooks.read(headers, body) {
///         Ok(event) => {
///             println!("{}, ID {:?}", event.name(), event.id());
///             StatusCode::NO_CONTENT
///         }
///         Err(_) => StatusCode::BAD_REQUEST,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    secrets: Secrets,
}

impl Webhooks {
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

    /// Reads a webhook. `body` is the raw body, byte for byte as it came: JSON that was read and
    /// written again has another signature.
    ///
    /// The signature is compared in constant time. It doesn't cover when the webhook was sent, so
    /// one that somebody has recorded can be sent again: handle each [event ID](Event::id) once.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed with this secret, or isn't an event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, InvalidWebhook> {
        self.secrets.check_hex(headers, "dub-signature", body)?;
        Event::read(body).ok_or(InvalidWebhook::Unreadable)
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

/// What a webhook tells. `Debug` hides its data.
#[derive(Clone, PartialEq)]
pub struct Event {
    id: Option<String>,
    name: String,
    created_at: Option<String>,
    data: Value,
}

impl Event {
    fn read(body: &[u8]) -> Option<Self> {
        let mut json: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            id: text("id"),
            name: text("event")?,
            created_at: text("createdAt"),
            data: json.get_mut("data").map(Value::take).unwrap_or_default(),
        })
    }

    /// Returns the event's own ID, by which a webhook that comes again is recognised.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns what happened, for instance `sale.created`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when, in Dub's own writing.
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

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a webhook isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWebhook {
    /// There is no `Dub-Signature`, or more than one.
    Unsigned,
    /// The signature is another one: wrong secret, or a body that was changed.
    BadSignature,
    /// It is signed, and isn't an event.
    Unreadable,
}

impl From<SignatureProblem> for InvalidWebhook {
    fn from(problem: SignatureProblem) -> Self {
        match problem {
            SignatureProblem::Unsigned => Self::Unsigned,
            SignatureProblem::Wrong => Self::BadSignature,
        }
    }
}

impl fmt::Display for InvalidWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "the webhook has no `Dub-Signature`, or more than one",
            Self::BadSignature => {
                "the webhook's signature is wrong: check that the secret is this webhook's, and \
                 that the body is given as it came, byte for byte"
            }
            Self::Unreadable => "the webhook is signed, but its body is no event",
        })
    }
}

impl std::error::Error for InvalidWebhook {}
