//! One referral programme: which parameters carry its keys, which touch keeps the credit, and for
//! how long.

use std::{fmt, sync::Arc, time::Duration};

use smol_str::SmolStr;

use crate::attribution::Attribution;
use crate::consent::{Consent, ConsentHook};
use crate::error::ConfigError;
use crate::key::KeyRule;
use crate::names::{MAX_NAMES, MAX_WINDOW_SECONDS, is_param_name, is_program_name};
use crate::request::RequestRef;

/// One referral programme: its landing parameters, its attribution rule, its window.
///
/// Programs live side by side, each in a cookie of its own that is named after it; the program
/// `default` has the plain name. They are checked when the layer is built.
///
/// ```
/// use std::time::Duration;
/// use tower_referral::{Attribution, Program};
///
/// let partners = Program::new("partners")
///     .params(["aff", "via"])
///     .attribution(Attribution::FirstTouch)
///     .window(Duration::from_secs(60 * 24 * 60 * 60))
///     .extra_params(["utm_source", "sub_id"]);
/// ```
#[derive(Clone)]
#[must_use = "a program does nothing until it is given to `ReferralLayer::builder(..).program(..)`"]
pub struct Program {
    pub(crate) name: SmolStr,
    pub(crate) params: Vec<SmolStr>,
    pub(crate) click_params: Vec<SmolStr>,
    pub(crate) attribution: Attribution,
    pub(crate) window: Duration,
    pub(crate) key_rule: KeyRule,
    pub(crate) extra_params: Vec<SmolStr>,
    pub(crate) fallback_cookies: Vec<SmolStr>,
    pub(crate) consent: Option<ConsentHook>,
}

impl Program {
    /// The name of the program that a layer without any other has.
    pub const DEFAULT_NAME: &'static str = "default";
    /// How long a referral counts unless a program says otherwise: 30 days.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Creates a program of that name, with last touch, 30 days, and no parameters yet.
    ///
    /// The name is 1 to 32 characters of `A-Z a-z 0-9 - _` and becomes part of the cookie's name,
    /// so a program that is renamed starts anew.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self {
            name: name.as_ref().into(),
            params: Vec::new(),
            click_params: Vec::new(),
            attribution: Attribution::LastTouch,
            window: Self::DEFAULT_WINDOW,
            key_rule: KeyRule::ascii(),
            extra_params: Vec::new(),
            fallback_cookies: Vec::new(),
            consent: None,
        }
    }

    /// Sets the URL parameters that carry a key, in order of preference; at most 16, of 1 to 32
    /// characters each.
    ///
    /// Other sites put parameters such as `ref` on their links too (`?ref=producthunt`): a [`KeyRule`]
    /// tells a key from a label. Some privacy tools strip parameters; `via` is on none of their default
    /// lists: [`guide::parameters`](crate::guide::parameters).
    pub fn params<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.params = names_of(names);
        self
    }

    /// Sets the URL parameters that carry the platform's own click ID, in order of preference; at most
    /// 16. For platforms whose links create the click themselves: `dub_id`, `awc`, `irclickid`.
    ///
    /// The click ID is kept with the key of the same landing, or alone where there is no key: then
    /// [`Referral::key`](crate::Referral::key) is `None`. No click is created for such a landing.
    ///
    /// ```
    /// use tower_referral::Program;
    ///
    /// let dub = Program::new("dub").params(["via"]).click_params(["dub_id"]);
    /// ```
    pub fn click_params<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.click_params = names_of(names);
        self
    }

    /// Sets which of two touches keeps the credit. Last touch by default.
    pub fn attribution(mut self, attribution: Attribution) -> Self {
        self.attribution = attribution;
        self
    }

    /// Sets how long a referral counts, from its capture on: 1 second to 400 days, in whole seconds.
    /// 30 days by default.
    ///
    /// What is kept already keeps the shorter of its own and this window.
    #[doc(alias("cookie duration", "cookie lifetime", "attribution window"))]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets which texts are keys of this program. [`KeyRule::ascii`] by default.
    pub fn key_rule(mut self, rule: KeyRule) -> Self {
        self.key_rule = rule;
        self
    }

    /// Sets other URL parameters to keep with the key, such as `utm_source` or a sub-ID; at most 16.
    ///
    /// A value is kept if it is 1 to 128 bytes of printable text, blanks allowed, with `+` read as
    /// a blank. The kept cookie stays under 1 KiB: what doesn't fit is left out, from the last name
    /// on.
    #[doc(alias("utm", "sub_id"))]
    pub fn extra_params<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.extra_params = names_of(names);
        self
    }

    /// Sets the cookies in which another script keeps a key, URL-encoded and unsigned, as `PartneroJS`
    /// does in `partnero_partner` and `partnero_referral`; at most 16.
    ///
    /// Such a key ranks between a landing from outside and a link of the own site: whatever the attribution
    /// rule, it replaces such a link, gives way to any landing from outside and never replaces one. Anyone can write such a cookie, so it is
    /// worth as much as the script's own attribution. The layer doesn't delete it: after a
    /// [`Forget`](crate::Forget) the next page visit reads it again, unless the page's script removes it.
    pub fn fallback_cookies<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.fallback_cookies = names_of(names);
        self
    }

    /// Sets the visitor's consent for this program alone, in place of
    /// [`ReferralLayerBuilder::consent`](crate::ReferralLayerBuilder::consent): the law may ask for
    /// consent before a cookie that bills affiliates and not before a reward that the visitor asked for.
    ///
    /// It is called on every request, so it must be quick and must not block.
    pub fn consent(
        mut self,
        consent: impl Fn(RequestRef<'_>) -> Consent + Send + Sync + 'static,
    ) -> Self {
        self.consent = Some(Arc::new(consent));
        self
    }

    /// Returns the window in seconds, once [`check`](Self::check) has passed.
    pub(crate) fn window_seconds(&self) -> u32 {
        u32::try_from(self.window.as_secs()).unwrap_or(MAX_WINDOW_SECONDS)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let program = || self.name.to_string();
        if !is_program_name(self.name.as_bytes()) {
            return Err(ConfigError::InvalidProgramName { name: program() });
        }
        if self.params.is_empty() && self.click_params.is_empty() {
            return Err(ConfigError::NoParams { program: program() });
        }
        let seconds = self.window.as_secs();
        if !(1..=u64::from(MAX_WINDOW_SECONDS)).contains(&seconds)
            || self.window.subsec_nanos() != 0
        {
            return Err(ConfigError::InvalidWindow { program: program() });
        }
        for names in [
            &self.params,
            &self.click_params,
            &self.extra_params,
            &self.fallback_cookies,
        ] {
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
        match self
            .click_params
            .iter()
            .find(|name| self.params.contains(name))
        {
            None => Ok(()),
            Some(name) => Err(ConfigError::DuplicateParam {
                name: name.to_string(),
            }),
        }
    }

    /// Returns every URL parameter that makes a landing.
    pub(crate) fn landing_params(&self) -> impl Iterator<Item = &SmolStr> {
        self.params.iter().chain(&self.click_params)
    }
}

fn names_of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Vec<SmolStr> {
    names
        .into_iter()
        .map(|name| SmolStr::new(name.as_ref()))
        .collect()
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("params", &self.params)
            .field("click_params", &self.click_params)
            .field("attribution", &self.attribution)
            .field("window", &self.window)
            .field("key_rule", &self.key_rule)
            .field("extra_params", &self.extra_params)
            .field("fallback_cookies", &self.fallback_cookies)
            .finish_non_exhaustive()
    }
}

/// Creates the program of a layer that was given none: `aff`, then `ref`, last touch, 30 days.
impl Default for Program {
    fn default() -> Self {
        Self::new(Self::DEFAULT_NAME).params(["aff", "ref"])
    }
}
