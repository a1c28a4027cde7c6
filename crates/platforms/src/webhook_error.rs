//! Why a webhook isn't taken, whoever sends it.

use std::fmt;

use http::StatusCode;

/// Why a webhook isn't taken. Answer with [`status`](Self::status).
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral_platforms::affiliate::partnero::Webhook;
///
/// fn status(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> StatusCode {
///     match webhook.read(headers, body) {
///         Ok(_) => StatusCode::NO_CONTENT,
///         Err(error) => {
///             eprintln!("{error}");
///             error.status()
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookError {
    /// A header of the signature is absent, repeated or unreadable.
    Unsigned,
    /// No signature is of this body by one of the secrets.
    BadSignature,
    /// The signature is right and too old, or from the future.
    NotRecent,
    /// The body is longer than 1 MiB.
    TooLarge,
    /// The body isn't an event.
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
                "the webhook has no readable signature: check that the platform or payment provider \
                 itself sends to this URL, and that no proxy drops or repeats headers"
            }
            Self::BadSignature => {
                "the webhook's signature is wrong: check that the secret is this endpoint's (test \
                 mode and every endpoint have their own), and that the body is given byte for byte \
                 as it came"
            }
            Self::NotRecent => {
                "the webhook's signature is too old or from the future: check this server's clock, \
                 and that webhooks don't wait in front of it"
            }
            Self::TooLarge => {
                "the webhook's body is longer than 1 MiB, and no event is: check what sends to this \
                 URL, and refuse such bodies before they are read"
            }
            Self::Unreadable => {
                "the webhook's body isn't an event: check that only webhooks of this platform or \
                 payment provider are sent to this URL"
            }
        })
    }
}

impl std::error::Error for WebhookError {}
