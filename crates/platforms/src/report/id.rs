//! IDs: those of the shop, which tell reports apart, and those that a platform gave.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The shop's own ID of an order, a customer, a refund or an update.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Id(String);

impl Id {
    pub(crate) const MAX_CHARS: usize = 128;

    pub(crate) fn new(text: impl fmt::Display) -> Result<Self, InvalidId> {
        let text = text.to_string();
        let is_id = !text.is_empty()
            && text.chars().take(Self::MAX_CHARS + 1).count() <= Self::MAX_CHARS
            && text.trim() == text
            && !text.contains(char::is_control)
            && text != "."
            && text != "..";
        if is_id {
            Ok(Self(text))
        } else {
            Err(InvalidId)
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID with `%` and `:` written as `%25` and `%3A`.
    pub(crate) fn escaped(&self) -> String {
        escaped(&self.0)
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(':', "%3A")
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that isn't the ID of an order, a customer or a refund: these have 1 to 128 characters,
/// none of them a control character, no blanks around them, and are neither `.` nor `..`, which mean
/// something else in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not an ID: the ID of an order, a customer or a refund has 1 to 128 characters, none \
             of them a control character, and no blanks around them",
        )
    }
}

impl std::error::Error for InvalidId {}

/// An ID that a platform gave to a customer, a sale or a click: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PlatformId(Box<str>);

impl PlatformId {
    const MAX_LEN: usize = 255;

    /// Takes a text as an ID, or returns `None` if it can't be one.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Option<Self> {
        let text = text.as_ref();
        let is_id = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then(|| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PlatformId> for String {
    fn from(id: PlatformId) -> Self {
        id.0.into()
    }
}

impl TryFrom<String> for PlatformId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text).ok_or(InvalidId)
    }
}

impl PartialEq<str> for PlatformId {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for PlatformId {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The IDs that a platform gave for what it was told: kept with the delivery of the report that they
/// came from, and handed to later reports that need them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PlatformIds {
    /// The customer, which the sales of some platforms need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<PlatformId>,
    /// The sale, which the refunds of some platforms need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale: Option<PlatformId>,
    /// The refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund: Option<PlatformId>,
    /// The click, where the delivery of a report had to make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub click: Option<PlatformId>,
    /// The partner, where the answer to a click names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner: Option<PlatformId>,
}

impl PlatformIds {
    /// Returns `true` if there is no ID.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the IDs of `other` where this has none.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let or =
            |one: Option<PlatformId>, other: &Option<PlatformId>| one.or_else(|| other.clone());
        Self {
            customer: or(self.customer, &other.customer),
            sale: or(self.sale, &other.sale),
            refund: or(self.refund, &other.refund),
            click: or(self.click, &other.click),
            partner: or(self.partner, &other.partner),
        }
    }
}
