//! What is kept about a visitor. Parsed once, valid ever after: a value of these types has passed
//! its rule, wherever it came from.

use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};

use smol_str::SmolStr;
use time::{Duration, OffsetDateTime};

/// The code in a URL that names a partner or a referring customer.
///
/// 1 to 128 characters of `A-Z a-z 0-9 . _ ~ - @ + : =`, case kept; a program's [`KeyRule`] can
/// narrow that, or widen it to printable Unicode. Cheap to clone.
///
/// `Debug` hides the key, because keys don't belong in logs; `Display` and
/// [`as_str`](Self::as_str) show it. Both are safe in HTML text and attributes only after the
/// escaping that your templates do anyway.
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
/// where a visitor without one is answered `400 Bad Request`, `Option<ReferralKey>` where everyone is
/// welcome. Without axum: [`from_extensions`](Self::from_extensions).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferralKey(SmolStr);

impl ReferralKey {
    /// The longest key, in characters.
    pub const MAX_CHARS: usize = 128;
    /// The longest key, in bytes of UTF-8. Only a key of [`KeyRule::printable_unicode`] can
    /// reach it.
    pub const MAX_BYTES: usize = 255;

    /// A key that has passed its rule.
    pub(crate) fn valid(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a key by the default rule, [`KeyRule::ascii`].
impl FromStr for ReferralKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        KeyRule::ascii().parse(text)
    }
}

impl AsRef<str> for ReferralKey {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for ReferralKey {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ReferralKey {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ReferralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ReferralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReferralKey(hidden)")
    }
}

/// A text that isn't a referral key. It doesn't say which text: an invalid key is never echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl std::error::Error for InvalidKey {}

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
    /// The default: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ - @ + : =`.
    #[must_use]
    pub fn ascii() -> Self {
        Self {
            charset: Charset::Ascii,
            only_if: None,
        }
    }

    /// 1 to 128 printable Unicode characters and at most 255 bytes of UTF-8: whatever
    /// [`str::escape_debug`] leaves as it is, without blanks. So no control, formatting or
    /// bidirectional-override characters, no quotes and no backslash.
    #[must_use]
    pub fn printable_unicode() -> Self {
        Self {
            charset: Charset::PrintableUnicode,
            ..Self::ascii()
        }
    }

    /// Takes only the keys that `predicate` says yes to, for instance those that exist.
    ///
    /// It is asked on every landing, before the page is made, so it must be quick and must not
    /// block. It decides over captures only: a key that is already kept stays kept.
    #[must_use]
    pub fn only_if(mut self, predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.only_if = Some(match self.only_if.take() {
            None => Arc::new(predicate),
            Some(first) => Arc::new(move |key| first(key) && predicate(key)),
        });
        self
    }

    /// Reads a key by this rule.
    ///
    /// # Errors
    ///
    /// The text isn't a key by this rule.
    pub fn parse(&self, text: &str) -> Result<ReferralKey, InvalidKey> {
        if self.accepts(text) {
            Ok(ReferralKey::valid(text))
        } else {
            Err(InvalidKey)
        }
    }

    /// Is this a key?
    pub(crate) fn accepts(&self, text: &str) -> bool {
        self.is_kept(text) && self.only_if.as_ref().is_none_or(|only_if| only_if(text))
    }

    /// Was this a key when it was captured by this rule: is it one by everything but `only_if`?
    #[inline]
    pub(crate) fn is_kept(&self, text: &str) -> bool {
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
    // Without a branch for each byte, for nearly all are.
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

/// Printable as the standard library sees it: nothing that `escape_debug` would escape.
fn is_printable(text: &str) -> bool {
    let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    text.bytes().all(is_plain) || text.escape_debug().eq(text.chars())
}

/// The longest value of an extra parameter, in bytes.
const MAX_EXTRA_LEN: usize = 128;
/// The longest path of a landing page, in bytes.
const MAX_PATH_LEN: usize = 255;

/// May this be kept as the value of an extra parameter?
pub(crate) fn is_extra_value(text: &str) -> bool {
    (1..=MAX_EXTRA_LEN).contains(&text.len()) && is_printable(text)
}

/// May this be kept as the path of a landing page? Any that `http::Uri` can hold, if it isn't too
/// long.
pub(crate) fn is_landing_path(text: &[u8]) -> bool {
    text.len() <= MAX_PATH_LEN
        && text.starts_with(b"/")
        && (text.iter().all(u8::is_ascii_graphic)
            || std::str::from_utf8(text)
                .is_ok_and(|text| text.bytes().all(|byte| byte > b' ' && byte != 0x7f)))
}

/// The affiliate platform's identifier of a landing.
///
/// 1 to 128 characters of visible ASCII. `Debug` hides it; `Display` and
/// [`as_str`](Self::as_str) show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickId(SmolStr);

impl ClickId {
    /// The longest click ID, in characters.
    pub const MAX_LEN: usize = 128;

    /// A click ID that has passed the rule.
    pub(crate) fn valid(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    pub(crate) fn is_valid(text: &[u8]) -> bool {
        (1..=Self::MAX_LEN).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
    }

    /// The click ID as text.
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

impl AsRef<str> for ClickId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<&str> for ClickId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClickId(hidden)")
    }
}

/// A text that isn't a click ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidClickId;

impl fmt::Display for InvalidClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a click ID: a click ID has 1 to 128 characters of visible ASCII")
    }
}

impl std::error::Error for InvalidClickId {}

/// How a referral came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A page visit whose URL carried the key, seen by the layer or by the
    /// [`CaptureEndpoint`](crate::CaptureEndpoint).
    Landing,
    /// A handler's [`Capture`](crate::Capture), for instance of a code that the visitor typed in.
    Handler,
    /// A cookie that another script keeps; see
    /// [`Program::fallback_cookies`](crate::Program::fallback_cookies). Its claim is lower than
    /// that of the other two.
    Script,
}

impl Source {
    /// The source in lower case: `landing`, `handler` or `script`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landing => "landing",
            Self::Handler => "handler",
            Self::Script => "script",
        }
    }
}

/// Milliseconds since the Unix epoch: the precision of [`Referral::captured_at`].
pub(crate) type UnixMillis = i64;

/// Names one touch, at random, so that a late click ID finds the visitor it belongs to and nobody
/// else. 64 bits: it is sealed, so nobody can try any, and few live at a time.
pub(crate) type TouchId = [u8; 8];

/// Where a touch is with its click.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Click {
    /// None was ever started, nor will be.
    #[default]
    None,
    /// Waits for the visitor's first real page view: the page was fetched ahead of time, or held
    /// back for consent.
    Due(TouchId),
    /// Was started for the touch of that name.
    Started(TouchId),
}

/// What is kept about a visitor who was referred.
///
/// As an axum extractor it is the referral of the first configured program that holds one; see
/// [`Referrals`](crate::Referrals) for several programs. `Debug` hides the key, the click ID and
/// everything else that came from the URL.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use tower_referral::Referral;
///
/// async fn sign_up(referral: Option<Referral>) -> String {
///     let Some(referral) = referral else {
///         return "Welcome.".to_owned();
///     };
///     // For the new customer's row: who, when, by which page, and the platform's own ID of it.
///     let (key, since) = (referral.key(), referral.captured_at());
///     let page = referral.landing_page().unwrap_or_default();
///     let click_id = referral.click_id().map_or("none yet", |id| id.as_str());
///     format!("{key} sent you to {page} at {since}, click {click_id}.")
/// }
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Referral {
    pub(crate) key: ReferralKey,
    pub(crate) click_id: Option<ClickId>,
    pub(crate) click: Click,
    pub(crate) program: SmolStr,
    pub(crate) source: Source,
    pub(crate) captured_at: UnixMillis,
    /// Seconds.
    pub(crate) window: u32,
    pub(crate) parameter: Option<SmolStr>,
    /// Starts with `/`; at most 255 bytes.
    pub(crate) landing_path: Option<SmolStr>,
    pub(crate) extra: Vec<(SmolStr, SmolStr)>,
}

impl Referral {
    /// Who referred the visitor.
    #[must_use]
    pub fn key(&self) -> &ReferralKey {
        &self.key
    }

    /// The platform's identifier of the landing, once it is known.
    #[must_use]
    pub fn click_id(&self) -> Option<&ClickId> {
        self.click_id.as_ref()
    }

    /// The name of the [`Program`](crate::Program) that the referral belongs to.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Was this a landing whose click was never started, for want of consent?
    pub(crate) fn awaits_click(&self) -> bool {
        self.source == Source::Landing && self.click_id.is_none() && self.click == Click::None
    }

    /// How the referral came to be known.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The URL parameter that carried the key; for [`Source::Script`] the name of the script's
    /// cookie.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// When the key was captured, to the millisecond. Seeing the same key again doesn't move it.
    #[must_use]
    pub fn captured_at(&self) -> OffsetDateTime {
        from_unix_millis(self.captured_at)
    }

    /// How long the referral counts from [`captured_at`](Self::captured_at) on.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::seconds(self.window.into())
    }

    /// When the referral stops counting.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.captured_at() + self.window()
    }

    /// The page that the visitor landed on: its path and our parameter, nothing else, for
    /// instance `/pricing?aff=PARTNER_123`. `None` where there was no landing, and where the
    /// path has over 255 bytes or the cookie had no room for it.
    #[must_use]
    pub fn landing_page(&self) -> Option<String> {
        let (path, parameter) = (self.landing_path.as_ref()?, self.parameter.as_ref()?);
        let mut page = format!("{path}?{parameter}=");
        for byte in self.key.as_str().bytes() {
            match byte {
                // Form decoders read a bare `+` as a blank.
                b'+' => page.push_str("%2B"),
                _ if is_key_byte(byte) => page.push(char::from(byte)),
                _ => page.push_str(&format!("%{byte:02X}")),
            }
        }
        Some(page)
    }

    /// The extra parameters that the program keeps, in the configured order, as far as the
    /// landing carried them; see [`Program::keep_params`](crate::Program::keep_params).
    pub fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Referral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Referral")
            .field("program", &self.program)
            .field("source", &self.source)
            .field("captured_at", &self.captured_at().unix_timestamp())
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// The last instant that a referral can be captured at, the year 9000: far enough from the end of
/// `OffsetDateTime`'s range that no sum with a window overflows.
pub(crate) const MAX_UNIX_MILLIS: UnixMillis = 221_845_392_000_000;

pub(crate) fn from_unix_millis(millis: UnixMillis) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(millis.clamp(0, MAX_UNIX_MILLIS))
}

pub(crate) fn to_unix_millis(time: OffsetDateTime) -> UnixMillis {
    // Its own `unix_timestamp_nanos` has 128 bits, and dividing those takes longer than all of this.
    let millis = time.unix_timestamp() * 1000 + UnixMillis::from(time.millisecond());
    millis.clamp(0, MAX_UNIX_MILLIS)
}

/// The same for the system's clock, which needs no calendar. A time before the epoch is the epoch.
pub(crate) fn unix_millis_of(time: SystemTime) -> UnixMillis {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = UnixMillis::try_from(since_epoch.as_secs()).unwrap_or(MAX_UNIX_MILLIS);
    let millis =
        seconds.min(MAX_UNIX_MILLIS / 1000) * 1000 + UnixMillis::from(since_epoch.subsec_millis());
    millis.clamp(0, MAX_UNIX_MILLIS)
}

#[cfg(feature = "serde")]
mod serde_impls {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
    use time::format_description::well_known::Rfc3339;

    use super::{ClickId, Referral, ReferralKey};

    impl Serialize for ReferralKey {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.as_str())
        }
    }

    /// By the default rule, as `FromStr`.
    impl<'de> Deserialize<'de> for ReferralKey {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        }
    }

    impl Serialize for ClickId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.as_str())
        }
    }

    impl<'de> Deserialize<'de> for ClickId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        }
    }

    /// `{"key", "click_id", "program", "parameter", "captured_at", "landing_page", "extra"}`, with
    /// `captured_at` in RFC 3339 and `extra` as a map.
    impl Serialize for Referral {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            struct Extra<'a>(&'a Referral);

            impl Serialize for Extra<'_> {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let mut map = serializer.serialize_map(Some(self.0.extra.len()))?;
                    for (name, value) in self.0.extra() {
                        map.serialize_entry(name, value)?;
                    }
                    map.end()
                }
            }

            let captured_at = self
                .captured_at()
                .format(&Rfc3339)
                .map_err(serde::ser::Error::custom)?;
            let mut referral = serializer.serialize_struct("Referral", 7)?;
            referral.serialize_field("key", &self.key)?;
            referral.serialize_field("click_id", &self.click_id)?;
            referral.serialize_field("program", self.program())?;
            referral.serialize_field("parameter", &self.parameter())?;
            referral.serialize_field("captured_at", &captured_at)?;
            referral.serialize_field("landing_page", &self.landing_page())?;
            referral.serialize_field("extra", &Extra(self))?;
            referral.end()
        }
    }
}
