//! What can be wrong with a configuration, which is refused when it is built.

use std::fmt;

use crate::affiliate::postback::Problem;

/// Why a platform's configuration was refused.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A platform's API key is empty or can't stand in a header. It isn't shown.
    InvalidApiKey,
    /// A platform's base URL is neither `https` nor plain `http` to this machine, nor allowed to be
    /// [plain](crate::BaseUrl::plain_http).
    InvalidPlatformUrl {
        /// The URL.
        url: String,
    },
    /// The secret of a platform's webhooks is empty.
    EmptyWebhookSecret,
    /// Something else that the platform needs is empty, or can't be what it is taken for.
    InvalidSetting {
        /// What it is.
        name: &'static str,
    },
    /// A postback can't be built like this. Its URL isn't shown.
    InvalidPostback {
        /// Which template: `sale`, `sign_up` or `refund`.
        template: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// The same text as `Display`: a `main` that returns the error, or an `unwrap`, shows this.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidApiKey => f.write_str(
                "the platform's API key is empty or has a character that no key has: copy it \
                 again, without blanks or line ends",
            ),
            Self::InvalidPlatformUrl { url } => write!(
                f,
                "`{url}` can't be a platform's base URL: use https, or http on this machine \
                 (127.0.0.1), so that the API key never crosses a network in the clear; for a \
                 stand-in on another machine or in another container, `BaseUrl::plain_http`"
            ),
            Self::EmptyWebhookSecret => f.write_str(
                "the secret of the webhooks is empty, and anybody could sign with that: copy it \
                 from the platform's settings",
            ),
            Self::InvalidSetting { name } => write!(
                f,
                "the {name} is empty or isn't one: copy it from the platform's settings"
            ),
            Self::InvalidPostback { template, problem } => {
                write!(f, "the {template} postback: {problem}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
