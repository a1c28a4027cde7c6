//! Webhooks that are signed together with the time at which they were sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Secrets, Signature};
use crate::WebhookError;

const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Secrets, tolerance and clock of one sender's webhooks.
#[derive(Clone)]
pub(crate) struct Verifier {
    pub(crate) secrets: Secrets,
    /// How old a signature may be, or how far in the future.
    pub(crate) tolerance: Duration,
    pub(crate) clock: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

/// What a request's headers say of its signature.
pub(super) struct Signed<'h> {
    /// Seconds of Unix time, as written.
    pub(super) timestamp: &'h str,
    pub(super) signatures: Vec<Signature>,
}

impl Verifier {
    /// Creates a verifier that takes these secrets, within 5 minutes by the system's clock.
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            tolerance: DEFAULT_TOLERANCE,
            clock: Arc::new(OffsetDateTime::now_utc),
        }
    }

    /// Checks that one of the signatures is of this content by one of the secrets, and is recent.
    /// The content is given in parts.
    pub(super) fn verify(
        &self,
        signed: &Signed<'_>,
        content: &[&[u8]],
    ) -> Result<(), WebhookError> {
        if signed.signatures.is_empty() {
            return Err(WebhookError::Unsigned);
        }
        self.secrets.verify(content, &signed.signatures)?;
        let Ok(timestamp) = signed.timestamp.parse::<i64>() else {
            return Err(WebhookError::BadSignature);
        };
        let now = (self.clock)().unix_timestamp();
        if now.abs_diff(timestamp) > self.tolerance.as_secs() {
            return Err(WebhookError::NotRecent);
        }
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.secrets)
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

/// Defines the settings of a type with a [`Verifier`] in its field `verifier`.
macro_rules! recency_settings {
    () => {
        /// Sets how old a signature may be, or how far in the future; 5 minutes by default.
        #[must_use]
        pub fn with_tolerance(mut self, tolerance: std::time::Duration) -> Self {
            self.verifier.tolerance = tolerance;
            self
        }

        /// Sets the clock; the system's by default.
        #[must_use]
        pub fn with_clock(
            mut self,
            now: impl Fn() -> time::OffsetDateTime + Send + Sync + 'static,
        ) -> Self {
            self.verifier.clock = std::sync::Arc::new(now);
            self
        }
    };
}
pub(crate) use recency_settings;
