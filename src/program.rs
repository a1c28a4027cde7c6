//! One referral programme: which parameters carry its keys, which touch keeps the credit, and for
//! how long.

use smol_str::SmolStr;
use time::Duration;

use crate::attribution::Attribution;
use crate::error::ConfigError;
use crate::referral::KeyRule;

/// 400 days: the longest life that browsers grant a cookie (RFC 6265bis section 5.5).
pub(crate) const MAX_WINDOW_SECONDS: u32 = 400 * 24 * 60 * 60;
/// The most parameters, fallback cookies or extra parameters of one program.
pub(crate) const MAX_NAMES: usize = 16;
/// The longest name of a program, a parameter or a fallback cookie, in characters.
const MAX_NAME_LEN: usize = 32;

/// One referral programme: its landing parameters, its attribution rule, its window.
///
/// Programs live side by side, each in a cookie of its own that is named after it; the program
/// `default` has the plain name. They are checked when the layer is built.
///
/// ```
/// use time::Duration;
/// use tower_referral::{Attribution, Program};
///
/// let partners = Program::new("partners")
///     .params(["aff", "via"])
///     .attribution(Attribution::FirstTouch)
///     .window(Duration::days(60))
///     .keep_params(["utm_source", "sub_id"]);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a program does nothing until it is given to `ReferralLayer::builder(..).program(..)`"]
pub struct Program {
    pub(crate) name: SmolStr,
    pub(crate) params: Vec<SmolStr>,
    pub(crate) attribution: Attribution,
    pub(crate) window: Duration,
    pub(crate) key_rule: KeyRule,
    pub(crate) keep_params: Vec<SmolStr>,
    pub(crate) fallback_cookies: Vec<SmolStr>,
}

impl Program {
    /// The name of the program that a layer without any other has.
    pub const DEFAULT_NAME: &'static str = "default";
    /// How long a referral counts unless a program says otherwise: 30 days.
    pub const DEFAULT_WINDOW: Duration = Duration::days(30);

    /// A program of that name, with last touch, 30 days, and no parameters yet.
    ///
    /// The name is 1 to 32 characters of `A-Z a-z 0-9 - _` and becomes part of the cookie's name,
    /// so renaming a program starts it anew.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            name: name.into(),
            params: Vec::new(),
            attribution: Attribution::LastTouch,
            window: Self::DEFAULT_WINDOW,
            key_rule: KeyRule::ascii(),
            keep_params: Vec::new(),
            fallback_cookies: Vec::new(),
        }
    }

    /// The URL parameters that carry a key, in order of preference; at most 16, of 1 to 32
    /// characters each.
    ///
    /// Mind that other sites put parameters such as `ref` on their links too (`?ref=producthunt`):
    /// a [`KeyRule`] tells a key from a label.
    pub fn params<N: Into<SmolStr>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.params = names.into_iter().map(Into::into).collect();
        self
    }

    /// Which of two touches keeps the credit. Last touch by default.
    pub fn attribution(mut self, attribution: Attribution) -> Self {
        self.attribution = attribution;
        self
    }

    /// How long a referral counts, from its capture on: 1 second to 400 days, in whole seconds.
    /// 30 days by default.
    ///
    /// What is kept already keeps the shorter of its own and this window.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Which texts are keys of this program. [`KeyRule::ascii`] by default.
    pub fn key_rule(mut self, rule: KeyRule) -> Self {
        self.key_rule = rule;
        self
    }

    /// Other URL parameters to keep beside the key, such as `utm_source` or a sub-ID; at most 16.
    ///
    /// A value is kept if it is 1 to 128 bytes of printable text, blanks allowed, with `+` read as
    /// a blank. The kept cookie stays under 1 KiB: what doesn't fit is dropped, from the last name
    /// on.
    pub fn keep_params<N: Into<SmolStr>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.keep_params = names.into_iter().map(Into::into).collect();
        self
    }

    /// Cookies in which another script keeps a key, URL-encoded and unsigned, as `PartneroJS` does
    /// in `partnero_partner` and `partnero_referral`; at most 16.
    ///
    /// Such a key is a touch with a lower claim than a landing: it fills an empty slot, gives way
    /// to any landing whatever the attribution rule, and never replaces one. Anyone can write such
    /// a cookie, so it is worth as much as the script's own attribution, and no more. It isn't
    /// ours to delete either: after a [`Forget`](crate::Forget) the next page visit reads it
    /// again, unless your page's script removes it.
    pub fn fallback_cookies<N: Into<SmolStr>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.fallback_cookies = names.into_iter().map(Into::into).collect();
        self
    }

    /// The window in seconds, once [`check`](Self::check) has passed.
    pub(crate) fn window_seconds(&self) -> u32 {
        u32::try_from(self.window.whole_seconds()).unwrap_or(MAX_WINDOW_SECONDS)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let program = || self.name.to_string();
        if !is_program_name(self.name.as_bytes()) {
            return Err(ConfigError::InvalidProgramName { name: program() });
        }
        if self.params.is_empty() {
            return Err(ConfigError::NoParams { program: program() });
        }
        let seconds = self.window.whole_seconds();
        if !(1..=i64::from(MAX_WINDOW_SECONDS)).contains(&seconds)
            || self.window.subsec_nanoseconds() != 0
        {
            return Err(ConfigError::InvalidWindow { program: program() });
        }
        for names in [&self.params, &self.keep_params, &self.fallback_cookies] {
            if names.len() > MAX_NAMES {
                return Err(ConfigError::TooManyNames { program: program() });
            }
            for (at, name) in names.iter().enumerate() {
                if !is_param_name(name.as_bytes()) {
                    return Err(ConfigError::InvalidParam {
                        program: program(),
                        name: name.to_string(),
                    });
                }
                if names[..at].contains(name) {
                    return Err(ConfigError::DuplicateParam {
                        name: name.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The program of a layer that was given none: `aff`, then `ref`, last touch, 30 days.
impl Default for Program {
    fn default() -> Self {
        Self::new(Self::DEFAULT_NAME).params(["aff", "ref"])
    }
}

/// Names a cookie's suffix.
pub(crate) fn is_program_name(name: &[u8]) -> bool {
    is_name(name, |byte| matches!(byte, b'-' | b'_'))
}

/// Stands for itself in a query, and is the name of a cookie to every browser.
pub(crate) fn is_param_name(name: &[u8]) -> bool {
    is_name(name, |byte| {
        matches!(
            byte,
            b'-' | b'_' | b'.' | b'~' | b'!' | b'*' | b'[' | b']' | b':' | b'@' | b'$'
        )
    })
}

fn is_name(name: &[u8], is_symbol: impl Fn(u8) -> bool) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || is_symbol(*b))
}
