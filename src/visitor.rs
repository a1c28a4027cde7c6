//! The random name of a visitor whose referral is kept on the server.

use std::{fmt, str::FromStr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The ID under which a visitor's referral is kept on the server: 128 random bits.
///
/// The browser holds it sealed in the layer's cookie. Store it with the sign-up, and a request for
/// erasure can be met later without the visitor's browser, by `ReferralLayer::erase`.
///
/// It isn't the ID of the record in the store: that one is derived from it, so that nobody who knows a
/// visitor ID can load the record as a session of the application.
///
/// Its text, by `Display` and [`FromStr`], is 22 characters of base64url. `Debug` doesn't show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VisitorId([u8; 16]);

/// The text isn't a [`VisitorId`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidVisitorId;

impl VisitorId {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorId(hidden)")
    }
}

impl FromStr for VisitorId {
    type Err = InvalidVisitorId;

    fn from_str(text: &str) -> Result<Self, InvalidVisitorId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidVisitorId)?;
        let bytes = bytes.try_into().map_err(|_| InvalidVisitorId)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<&str> for VisitorId {
    type Error = InvalidVisitorId;

    fn try_from(text: &str) -> Result<Self, InvalidVisitorId> {
        text.parse()
    }
}

impl TryFrom<String> for VisitorId {
    type Error = InvalidVisitorId;

    fn try_from(text: String) -> Result<Self, InvalidVisitorId> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for VisitorId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for VisitorId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for InvalidVisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a visitor ID is 22 characters of base64url: pass it as it was displayed")
    }
}

/// Shows the same text as `Display`.
impl fmt::Debug for InvalidVisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for InvalidVisitorId {}
