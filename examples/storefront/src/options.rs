//! The command line. Options that do nothing beside others are refused here, by name, so that
//! nobody believes in them.

use std::fmt;
use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// A small shop that knows who referred its visitors.
///
/// The signing keys come from `REFERRAL_KEY` (ID:BASE64, the one that signs) and `REFERRAL_OLD_KEYS`
/// (comma-separated, verifying only).
#[derive(Parser)]
#[command(name = "storefront", max_term_width = 100)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,

    /// Which of two partners keeps the credit
    #[arg(long, value_enum, default_value_t = Touch::Last)]
    pub(crate) attribution: Touch,

    /// How long a referral counts
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30 * 24 * 60 * 60,
        allow_negative_numbers = true
    )]
    pub(crate) window: u32,

    /// A URL parameter that carries a key; repeat it in order of preference
    #[arg(long = "param", value_name = "NAME", default_values = ["aff", "ref"])]
    pub(crate) params: Vec<String>,

    /// Share the cookie with all sub-domains of this domain
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,

    /// A cookie without `Secure` and prefix, for browsers that want HTTPS even for localhost
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Where to keep a referral
    #[arg(long, value_enum, default_value_t = KeepIn::Cookie)]
    pub(crate) keep: KeepIn,

    /// The store for `--keep server` and `--keep session`: `memory:`, `sqlite://FILE`,
    /// `redis://HOST:PORT` or `postgres://USER@HOST/DATABASE`
    #[arg(long, value_name = "URL", default_value = Options::MEMORY)]
    pub(crate) store: String,

    /// The affiliate platform that hears of landings, sign-ups, sales and refunds
    #[arg(long, value_enum, default_value_t = Platform::Partnac)]
    pub(crate) platform: Platform,

    /// The platform's base URL; without it, a sandbox in this process plays the platform
    #[arg(long, value_name = "URL")]
    pub(crate) platform_url: Option<String>,

    /// The platform's API key
    #[arg(
        long,
        value_name = "KEY",
        default_value = "sandbox",
        env = "PLATFORM_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: String,

    /// How long a landing may wait for its click ID
    #[arg(long, value_name = "MILLIS", default_value_t = 0)]
    pub(crate) click_wait: u64,

    /// Whether to ask visitors for consent; with `cookie`, the cookie `consent` is `granted` or
    /// `denied`
    #[arg(long, value_enum, default_value_t = AskConsent::Off)]
    pub(crate) consent: AskConsent,

    /// Honour Global Privacy Control
    #[arg(long)]
    pub(crate) gpc: bool,

    /// Redirect a landing to the URL without the parameter
    #[arg(long)]
    pub(crate) clean_url: bool,

    /// A path where a landing never takes another partner's credit; repeat it for several
    #[arg(long, value_name = "PATH")]
    pub(crate) stand_down: Vec<String>,

    /// Where reports wait until they are delivered, and the shop's books with them: `off`,
    /// `memory:`, `sqlite://FILE`, `postgres://…` or `redis://…`; a temporary file without it
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite://",
        hide_default_value = true
    )]
    outbox: String,

    /// Leave the layer out, to measure what it costs: for the pages alone, to which nobody is referred
    #[arg(
        long,
        conflicts_with_all = [
            "keep", "store", "click_wait", "consent", "gpc", "clean_url", "stand_down",
        ],
    )]
    pub(crate) without_layer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Touch {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AskConsent {
    Off,
    Cookie,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeepIn {
    /// A signed cookie
    Cookie,
    /// A record on the server, under a random ID that the cookie holds
    Server,
    /// A signed cookie, and a copy in the session of whoever signs in at /account
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    None,
    Partnero,
    PartneroFriends,
    Partnac,
    Tapfiliate,
}

impl Platform {
    /// What people call it; `None` if there is no platform.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Partnero | Self::PartneroFriends => Some("Partnero"),
            Self::Partnac => Some("Partnac"),
            Self::Tapfiliate => Some("Tapfiliate"),
        }
    }
}

impl Options {
    const MEMORY: &str = "memory:";
    const OFF: &str = "off";

    /// Do reports wait until they are delivered?
    pub(crate) fn has_outbox(&self) -> bool {
        self.outbox != Self::OFF
    }

    /// Where the books are kept, and the reports that wait.
    pub(crate) fn books_url(&self) -> &str {
        if self.has_outbox() {
            &self.outbox
        } else {
            Self::MEMORY
        }
    }

    /// Refuses options that make no sense together.
    pub(crate) fn check(&self) -> Result<(), BadOption> {
        if self.keep == KeepIn::Cookie && self.store != Self::MEMORY {
            return Err(BadOption::StoreWithoutUse);
        }
        if self.platform == Platform::None && self.platform_url.is_some() {
            return Err(BadOption::UrlWithoutPlatform);
        }
        Ok(())
    }
}

/// Options that the command line knows and the shop can't honour.
#[derive(Debug)]
pub(crate) enum BadOption {
    UrlWithoutPlatform,
    StoreWithoutUse,
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoreWithoutUse => f.write_str(
                "--store is of no use with `--keep cookie`: add `--keep server` or `--keep \
                 session`, or leave out the store",
            ),
            Self::UrlWithoutPlatform => f.write_str(
                "--platform-url is of no use with `--platform none`: name the platform that is \
                 there, or leave out the URL",
            ),
        }
    }
}

impl std::error::Error for BadOption {}
