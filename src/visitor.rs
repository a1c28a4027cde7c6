//! The random name of a visitor whose referral is kept on the server.

use std::{fmt, str::FromStr};

use base64_simd::URL_SAFE_NO_PAD;

/// Under which a visitor's referral is kept on the server: 128 random bits.
///
/// The browser holds it sealed in our cookie. Note it where you note the sign-up, and a request
/// to be forgotten can be met later without the visitor's browser, by `ReferralLayer::erase`.
///
/// The text of it, by `Display` and [`FromStr`], is 22 characters of base64url: the same that
/// tower-sessions and its stores write for the ID of a record. `Debug` doesn't show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VisitorId(i128);

/// The text isn't a [`VisitorId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidVisitorId;

impl VisitorId {
    /// Draws a new one; `None` if the operating system has no randomness.
    pub(crate) fn draw() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self::from_bytes(bytes))
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(i128::from_le_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// As tower-sessions has it.
    pub(crate) fn from_record(id: i128) -> Self {
        Self(id)
    }

    /// As tower-sessions has it.
    pub(crate) fn record(self) -> i128 {
        self.0
    }
}

impl fmt::Display for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode_to_string(self.to_bytes()))
    }
}

impl fmt::Debug for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorId(..)")
    }
}

impl FromStr for VisitorId {
    type Err = InvalidVisitorId;

    fn from_str(text: &str) -> Result<Self, InvalidVisitorId> {
        let bytes = URL_SAFE_NO_PAD.decode_to_vec(text);
        let bytes = bytes.map_err(|_| InvalidVisitorId)?;
        let bytes = bytes.try_into().map_err(|_| InvalidVisitorId)?;
        Ok(Self::from_bytes(bytes))
    }
}

impl fmt::Display for InvalidVisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a visitor ID is 22 characters of base64url: give it as it was displayed")
    }
}

impl std::error::Error for InvalidVisitorId {}
