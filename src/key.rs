//! Referral keys and click IDs: what their text may be. A value of these types has passed its rule.

use std::{fmt, str::FromStr, sync::Arc};

use smol_str::SmolStr;

/// The code in a URL that names a partner or a referring customer.
///
/// 1 to 128 characters of `A-Z a-z 0-9 . _ ~ - @ + : =`, case kept; a program's [`KeyRule`] can
/// narrow that, or widen it to printable Unicode. Cheap to clone.
///
/// `Debug` hides the key, because keys don't belong in logs; `Display` and
/// [`as_str`](Self::as_str) show it. Both are safe in HTML only after the escaping that templates do
/// anyway.
///
/// ```
/// use tower_referral::ReferralKey;
///
/// let key: ReferralKey = "PARTNER_123".parse()?;
/// assert_eq!(key, "PARTNER_123");
/// assert_eq!(format!("{key:?}"), "ReferralKey(hidden)");
/// assert!("PARTNER 123".parse::<ReferralKey>().is_err());
/// # Ok::<_, tower_referral::InvalidKey>(())
/// ```
///
/// As an axum extractor it is the key of the first configured program that holds one: `ReferralKey`
/// answers `400 Bad Request` to a visitor without one, `Option<ReferralKey>` lets everyone in. Without
/// axum, use [`from_extensions`](Self::from_extensions).
#[doc(alias("affiliate code", "partner key", "coupon code"))]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferralKey(SmolStr);

impl ReferralKey {
    /// The longest key, in characters.
    pub const MAX_CHARS: usize = 128;
    /// The longest key, in bytes of UTF-8. Only a key of [`KeyRule::printable_unicode`] can
    /// reach it.
    pub const MAX_BYTES: usize = 255;

    /// Makes a key of text that has passed its rule.
    pub(crate) fn valid(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses by the default rule, [`KeyRule::ascii`].
impl FromStr for ReferralKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        KeyRule::ascii().parse(text)
    }
}

impl fmt::Debug for ReferralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReferralKey(hidden)")
    }
}

/// The text isn't a referral key. The error doesn't hold the text: an invalid key is never echoed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a referral key: a key has 1 to 128 characters, by default of \
             A-Z a-z 0-9 . _ ~ - @ + : =",
        )
    }
}

/// Which texts are referral keys.
///
/// ```
/// use tower_referral::KeyRule;
///
/// let rule = KeyRule::ascii().only_if(|key| key.starts_with("PARTNER_"));
/// assert!(rule.parse("PARTNER_123").is_ok());
/// assert!(rule.parse("footer").is_err());
/// ```
#[derive(Clone)]
pub struct KeyRule {
    charset: Charset,
    only_if: Option<Arc<OnlyIf>>,
}

type OnlyIf = dyn Fn(&str) -> bool + Send + Sync;

#[derive(Clone, Copy, Debug)]
enum Charset {
    Ascii,
    PrintableUnicode,
}

impl KeyRule {
    /// Accepts 1 to 128 characters of `A-Z a-z 0-9 . _ ~ - @ + : =`. The default.
    #[must_use]
    pub fn ascii() -> Self {
        Self {
            charset: Charset::Ascii,
            only_if: None,
        }
    }

    /// Accepts 1 to 128 printable Unicode characters of at most 255 bytes of UTF-8: whatever
    /// [`str::escape_debug`] leaves unchanged, without blanks. So no control, formatting or
    /// bidirectional-override characters, no quotes and no backslash.
    #[must_use]
    pub fn printable_unicode() -> Self {
        Self {
            charset: Charset::PrintableUnicode,
            ..Self::ascii()
        }
    }

    /// Accepts only the keys for which `predicate` returns `true`, for instance those that exist.
    ///
    /// It is called on every landing, before the page is made, so it must be quick and must not
    /// block. It applies to captures only: a key that is already kept stays kept.
    #[must_use]
    pub fn only_if(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.only_if = Some(match self.only_if.take() {
            None => Arc::new(predicate),
            Some(first) => Arc::new(move |key| first(key) && predicate(key)),
        });
        self
    }

    /// Parses a key by this rule.
    ///
    /// # Errors
    ///
    /// The text isn't a key by this rule.
    pub fn parse(&self, text: impl AsRef<str>) -> Result<ReferralKey, InvalidKey> {
        let text = text.as_ref();
        if self.accepts(text) {
            Ok(ReferralKey::valid(text))
        } else {
            Err(InvalidKey)
        }
    }

    /// Returns `true` if this is a key that may be captured.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        self.was_accepted(text) && self.only_if.as_ref().is_none_or(|only_if| only_if(text))
    }

    /// Returns `true` if this may have been captured by this rule: everything but `only_if` holds.
    #[inline]
    pub(crate) fn was_accepted(&self, text: &str) -> bool {
        match self.charset {
            Charset::Ascii => is_ascii_key(text.as_bytes()),
            Charset::PrintableUnicode => is_unicode_key(text),
        }
    }
}

impl Default for KeyRule {
    fn default() -> Self {
        Self::ascii()
    }
}

impl fmt::Debug for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRule")
            .field("charset", &self.charset)
            .field("only_if", &self.only_if.is_some())
            .finish()
    }
}

fn is_ascii_key(text: &[u8]) -> bool {
    // Without a branch for each byte.
    let is_key = |all, byte: &u8| all & is_key_byte(*byte);
    (1..=ReferralKey::MAX_CHARS).contains(&text.len()) && text.iter().fold(true, is_key)
}

fn is_unicode_key(text: &str) -> bool {
    (1..=ReferralKey::MAX_BYTES).contains(&text.len())
        && text.chars().count() <= ReferralKey::MAX_CHARS
        && is_printable(text)
        && !text.contains(' ')
}

fn is_key_byte(byte: u8) -> bool {
    const IS_KEY_BYTE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            let char = byte as u8;
            table[byte] = char.is_ascii_alphanumeric()
                || matches!(char, b'.' | b'_' | b'~' | b'-' | b'@' | b'+' | b':' | b'=');
            byte += 1;
        }
        table
    };
    IS_KEY_BYTE[usize::from(byte)]
}

/// Returns `true` if `escape_debug` would leave the text unchanged.
pub(crate) fn is_printable(text: &str) -> bool {
    let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    text.bytes().all(is_plain) || text.escape_debug().eq(text.chars())
}

/// The affiliate platform's identifier of a click.
///
/// 1 to 128 characters of visible ASCII. `Debug` hides it; `Display` and
/// [`as_str`](Self::as_str) show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickId(SmolStr);

impl ClickId {
    /// The longest click ID, in characters.
    pub const MAX_LEN: usize = 128;

    /// Makes a click ID of text that has passed the rule.
    pub(crate) fn valid(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    pub(crate) fn is_valid(text: &[u8]) -> bool {
        (1..=Self::MAX_LEN).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
    }

    /// Returns the click ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClickId {
    type Err = InvalidClickId;

    fn from_str(text: &str) -> Result<Self, InvalidClickId> {
        if Self::is_valid(text.as_bytes()) {
            Ok(Self(SmolStr::new(text)))
        } else {
            Err(InvalidClickId)
        }
    }
}

impl fmt::Debug for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClickId(hidden)")
    }
}

/// The text isn't a click ID.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidClickId;

impl fmt::Display for InvalidClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a click ID: a click ID has 1 to 128 characters of visible ASCII")
    }
}

/// What keys and click IDs have in common: text in and out, and comparison with text.
macro_rules! text_type {
    ($name:ident, $error:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $error;

            fn try_from(text: &str) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        /// Shows the same text as `Display`.
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::error::Error for $error {}

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

text_type!(ReferralKey, InvalidKey);
text_type!(ClickId, InvalidClickId);

/// Parses by the widest rule, [`KeyRule::printable_unicode`]: a key that was stored has passed its
/// program's own rule before.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ReferralKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let key = KeyRule::printable_unicode().parse(&text);
        key.map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ClickId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
