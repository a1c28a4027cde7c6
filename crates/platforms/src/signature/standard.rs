//! The scheme of [Standard Webhooks](https://www.standardwebhooks.com), with its headers or those of
//! Svix, its first implementation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::verifier::{Signed, Verifier};
use super::{Signature, check_len, only};
use crate::WebhookError;

impl Verifier {
    /// Checks a webhook that is signed by this scheme, and returns its ID, the same each time that it
    /// is sent.
    pub(crate) fn verify_standard<'h>(
        &self,
        headers: &'h HeaderMap,
        body: &[u8],
    ) -> Result<&'h str, WebhookError> {
        check_len(body)?;
        let prefix = if headers.contains_key("webhook-id") {
            "webhook"
        } else {
            "svix"
        };
        let header = |name: &str| only(headers, &format!("{prefix}-{name}"));
        let (id, timestamp) = (header("id")?, header("timestamp")?);
        let signatures = header("signature")?.split(' ');
        let signatures = signatures.filter_map(|signature| signature.strip_prefix("v1,"));
        let signed = Signed {
            timestamp,
            signatures: signatures.filter_map(from_base64).collect(),
        };
        let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        self.verify(&signed, &content)?;
        Ok(id)
    }
}

fn from_base64(text: &str) -> Option<Signature> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
