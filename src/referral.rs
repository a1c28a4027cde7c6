//! What is kept about a visitor who was referred.

use std::{fmt, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use smol_str::SmolStr;
use time::OffsetDateTime;

use crate::clock::{UnixMillis, from_unix_millis};
use crate::key::{ClickId, ReferralKey, is_printable};
use crate::refused_keys::RefusedKeys;

/// The longest value of an extra parameter, in bytes.
const MAX_EXTRA_LEN: usize = 128;
/// The longest path of a landing page, in bytes.
const MAX_PATH_LEN: usize = 255;

/// What a key may hold stays readable in a URL, but for `+`, which form decoders read as a blank.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-')
    .remove(b'@')
    .remove(b':')
    .remove(b'=');

/// Returns `true` if this may be kept as the value of an extra parameter.
pub(crate) fn is_extra_value(text: &str) -> bool {
    (1..=MAX_EXTRA_LEN).contains(&text.len()) && is_printable(text)
}

/// Returns `true` if this may be kept as the path of a landing page: whatever `http::Uri` can hold, if it
/// isn't too long.
pub(crate) fn is_landing_path(text: &[u8]) -> bool {
    text.len() <= MAX_PATH_LEN
        && text.starts_with(b"/")
        && (text.iter().all(u8::is_ascii_graphic)
            || std::str::from_utf8(text)
                .is_ok_and(|text| text.bytes().all(|byte| byte > b' ' && byte != 0x7f)))
}

/// How a referral came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Source {
    /// A page visit whose URL carried the key, seen by the layer or by the
    /// [`CaptureEndpoint`](crate::CaptureEndpoint).
    Landing,
    /// A handler's [`Capture`](crate::Capture), for instance of a code that the visitor typed in.
    Handler,
    /// A cookie that another script keeps; see
    /// [`Program::fallback_cookies`](crate::Program::fallback_cookies).
    Script,
}

impl Source {
    /// Returns the source in lower case: `landing`, `handler` or `script`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landing => "landing",
            Self::Handler => "handler",
            Self::Script => "script",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much a touch is worth. It is compared first: see `attribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A link of the own site, or another script's cookie.
    Own,
    /// Anything that somebody outside the site, the visitor or a handler did.
    Outside,
}

/// Names one touch at random, so that a late click ID finds the referral it belongs to and no other.
/// 64 bits are enough: the name is sealed, so nobody can try any, and few live at a time.
pub(crate) type TouchId = [u8; 8];

/// Where a touch is with its click.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClickState {
    /// None is to be created, or its result is known.
    #[default]
    Settled,
    /// Waits for the visitor's next page view.
    Due,
    /// Was started; its result isn't known yet.
    Started,
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
///     let key = referral.key().map_or("none", |key| key.as_str());
///     let since = referral.captured_at();
///     let page = referral.landing_page().unwrap_or_default();
///     let click_id = referral.click_id().map_or("none yet", |id| id.as_str());
///     format!("{key} sent you to {page} at {since}, click {click_id}.")
/// }
/// # }
/// ```
///
/// With the feature `serde` it can be stored as JSON and read back, for instance in a column of the
/// customers' table: [`guide::users_table`](crate::guide::users_table).
#[derive(Clone, PartialEq, Eq)]
pub struct Referral {
    /// At least one of key and click ID is there.
    pub(crate) key: Option<ReferralKey>,
    pub(crate) click_id: Option<ClickId>,
    pub(crate) partner_id: Option<ClickId>,
    pub(crate) program: SmolStr,
    pub(crate) source: Source,
    pub(crate) rank: Rank,
    /// The name of the touch, where clicks are created.
    pub(crate) touch: Option<TouchId>,
    pub(crate) click: ClickState,
    pub(crate) captured_at: UnixMillis,
    /// Seconds.
    pub(crate) window: u32,
    pub(crate) parameter: Option<SmolStr>,
    /// Starts with `/`; at most 255 bytes.
    pub(crate) landing_path: Option<SmolStr>,
    /// The keys that were refused as links of the own site.
    pub(crate) refused: Option<RefusedKeys>,
    pub(crate) extra: Vec<(SmolStr, SmolStr)>,
}

impl Referral {
    /// Returns who referred the visitor. `None` where the landing's URL carried only the platform's
    /// click ID: see [`Program::click_params`](crate::Program::click_params).
    #[must_use]
    pub fn key(&self) -> Option<&ReferralKey> {
        self.key.as_ref()
    }

    /// Returns the platform's identifier of the click, once it is known.
    #[must_use]
    pub fn click_id(&self) -> Option<&ClickId> {
        self.click_id.as_ref()
    }

    /// Returns the second ID that the platform gave with the click, where it gives one: Tolt's
    /// `partner_id`, which a sign-up there needs.
    #[must_use]
    pub fn partner_id(&self) -> Option<&ClickId> {
        self.partner_id.as_ref()
    }

    /// Returns the random name of the touch, under which a click ID that comes late can be stored and
    /// found; see [`Clicks::on_late_result`](crate::click::Clicks::on_late_result). `None` where no
    /// clicks are created.
    #[must_use]
    pub fn click_reference(&self) -> Option<String> {
        self.touch.map(click_reference)
    }

    /// Returns the name of the [`Program`](crate::Program) that the referral belongs to.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns how the referral came to be known.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns the URL parameter that carried the key, or the click ID where there is no key; for
    /// [`Source::Script`] the name of the script's cookie.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// Returns when the key was captured, to the millisecond. Seeing the same key again doesn't move
    /// it.
    #[must_use]
    pub fn captured_at(&self) -> OffsetDateTime {
        from_unix_millis(self.captured_at)
    }

    /// Returns how long the referral counts from [`captured_at`](Self::captured_at) on.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window.into())
    }

    /// Returns when the referral stops counting.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.captured_at() + time::Duration::seconds(self.window.into())
    }

    /// Returns the page that the visitor landed on: its path and our parameter, nothing else, for
    /// instance `/pricing?aff=PARTNER_123`. `None` where there was no landing, and where the
    /// path has over 255 bytes or the cookie had no room for it.
    #[must_use]
    pub fn landing_page(&self) -> Option<String> {
        self.page_at(self.landing_path.as_deref()?)
    }

    /// Returns a path with our parameter.
    pub(crate) fn page_at(&self, path: &str) -> Option<String> {
        let parameter = self.parameter.as_ref()?;
        let value = match (&self.key, &self.click_id) {
            (Some(key), _) => key.as_str(),
            (None, Some(click_id)) => click_id.as_str(),
            (None, None) => return None,
        };
        let value = utf8_percent_encode(value, QUERY_VALUE);
        Some(format!("{path}?{parameter}={value}"))
    }

    /// Returns the extra parameters that the program keeps, in the configured order, as far as the
    /// landing carried them; see [`Program::extra_params`](crate::Program::extra_params).
    pub fn extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.extra.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns `true` if both credit the same: the same key, or without keys the same click.
    pub(crate) fn credits_same(&self, other: &Self) -> bool {
        match (&self.key, &other.key) {
            (None, None) => self.click_id == other.click_id,
            (one, another) => one == another,
        }
    }

    /// Returns `true` if a click is to be created for this landing and none was started, because consent
    /// was missing.
    pub(crate) fn lacks_click(&self) -> bool {
        self.source == Source::Landing
            && self.key.is_some()
            && self.click_id.is_none()
            && self.click == ClickState::Settled
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

/// Writes the name of a touch as 11 characters of base64url.
pub(crate) fn click_reference(touch: TouchId) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(touch)
}

#[cfg(feature = "serde")]
mod json {
    //! A referral as JSON: `{"key", "click_id", "partner_id", "program", "source", "own_link",
    //! "parameter", "captured_at", "window", "landing_page", "extra", "click_reference"}`, with
    //! `captured_at` in RFC 3339, `window` in seconds and `extra` as a map. Absent fields are read
    //! as their defaults.

    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::{ClickState, Rank, Referral, Source, is_extra_value, is_landing_path};
    use crate::clock::to_unix_millis;
    use crate::key::{ClickId, ReferralKey};
    use crate::names::{MAX_NAMES, MAX_WINDOW_SECONDS, is_param_name, is_program_name};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Json<'a, E> {
        #[serde(default)]
        key: Option<ReferralKey>,
        #[serde(default)]
        click_id: Option<ClickId>,
        #[serde(default)]
        partner_id: Option<ClickId>,
        #[serde(default = "default_program", borrow)]
        program: Cow<'a, str>,
        #[serde(default = "default_source")]
        source: Source,
        #[serde(default)]
        own_link: bool,
        #[serde(default, borrow)]
        parameter: Option<Cow<'a, str>>,
        captured_at: String,
        #[serde(default = "default_window")]
        window: u32,
        #[serde(default)]
        landing_page: Option<String>,
        #[serde(default)]
        extra: E,
        #[serde(default)]
        click_reference: Option<String>,
    }

    fn default_program() -> Cow<'static, str> {
        "default".into()
    }

    fn default_source() -> Source {
        Source::Landing
    }

    fn default_window() -> u32 {
        30 * 24 * 60 * 60
    }

    /// Writes the extra parameters as a map in their order.
    #[derive(Default)]
    struct Extra<'a>(&'a [(smol_str::SmolStr, smol_str::SmolStr)]);

    impl Serialize for Extra<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (name, value) in self.0 {
                map.serialize_entry(name.as_str(), value.as_str())?;
            }
            map.end()
        }
    }

    impl Serialize for Referral {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let captured_at = self.captured_at().format(&Rfc3339);
            Json {
                key: self.key.clone(),
                click_id: self.click_id.clone(),
                partner_id: self.partner_id.clone(),
                program: Cow::Borrowed(self.program()),
                source: self.source,
                own_link: self.source == Source::Landing && self.rank == Rank::Own,
                parameter: self.parameter().map(Cow::Borrowed),
                captured_at: captured_at.map_err(S::Error::custom)?,
                window: self.window,
                landing_page: self.landing_page(),
                extra: Extra(&self.extra),
                click_reference: self.click_reference(),
            }
            .serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Referral {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let json = Json::<BTreeMap<String, String>>::deserialize(deserializer)?;
            let captured_at = OffsetDateTime::parse(&json.captured_at, &Rfc3339);
            let path = json.landing_page.as_deref();
            let path = path.and_then(|page| page.split('?').next());
            let touch = json.click_reference.map(|text| {
                let bytes = URL_SAFE_NO_PAD.decode(text).ok();
                bytes.and_then(|bytes| bytes.try_into().ok())
            });
            let is_valid = (json.key.is_some() || json.click_id.is_some())
                && is_program_name(json.program.as_bytes())
                && (1..=MAX_WINDOW_SECONDS).contains(&json.window)
                && json
                    .parameter
                    .as_ref()
                    .is_none_or(|name| is_param_name(name.as_bytes()))
                && path.is_none_or(|path| is_landing_path(path.as_bytes()))
                && touch != Some(None)
                && json.extra.len() <= MAX_NAMES
                && json
                    .extra
                    .iter()
                    .all(|(name, value)| is_param_name(name.as_bytes()) && is_extra_value(value));
            if !is_valid {
                return Err(D::Error::custom(
                    "not a referral as this crate writes it: hand it back unaltered",
                ));
            }
            let is_own = json.own_link || json.source == Source::Script;
            Ok(Self {
                key: json.key,
                click_id: json.click_id,
                partner_id: json.partner_id,
                program: json.program.as_ref().into(),
                source: json.source,
                rank: if is_own { Rank::Own } else { Rank::Outside },
                touch: touch.flatten(),
                click: ClickState::Settled,
                captured_at: to_unix_millis(captured_at.map_err(D::Error::custom)?),
                window: json.window,
                parameter: json.parameter.map(Into::into),
                landing_path: path.map(Into::into),
                refused: None,
                extra: json
                    .extra
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            })
        }
    }
}
