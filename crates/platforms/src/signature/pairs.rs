//! Signatures in one header of `NAME=VALUE` pairs: a timestamp, and signatures in hex.

use http::HeaderMap;

use super::verifier::{Signed, Verifier};
use super::{check_len, from_hex, only};
use crate::WebhookError;

/// How one sender writes and makes signatures.
pub(crate) struct PairScheme {
    pub(crate) header: &'static str,
    /// Between two pairs.
    pub(crate) separator: char,
    /// The name of the timestamp, of which the first counts.
    pub(crate) timestamp: &'static str,
    /// The name of each signature.
    pub(crate) signature: &'static str,
    /// Between timestamp and body in what is signed.
    pub(crate) joint: &'static [u8],
}

impl Verifier {
    /// Checks a webhook that is signed by this scheme.
    pub(crate) fn verify_pairs(
        &self,
        scheme: &PairScheme,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), WebhookError> {
        check_len(body)?;
        let header = only(headers, scheme.header)?;
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for pair in header.split(scheme.separator) {
            match pair.trim().split_once('=') {
                Some((name, value)) if name == scheme.timestamp && timestamp.is_none() => {
                    timestamp = Some(value);
                }
                Some((name, value)) if name == scheme.signature => {
                    signatures.extend(from_hex(value));
                }
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or(WebhookError::Unsigned)?;
        let signed = Signed {
            timestamp,
            signatures,
        };
        self.verify(&signed, &[timestamp.as_bytes(), scheme.joint, body])
    }
}
