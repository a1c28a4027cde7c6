//! The command line. An option that contradicts another is refused here, by name, so that nobody
//! relies on it.

use std::fmt;
use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use tower_referral_platforms::affiliate::postback::Problem;
use tower_referral_platforms::{self as platforms, affiliate};

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

    /// A URL parameter that carries the platform's click ID; repeat it for several. Without it, the
    /// one that the platform's own links have, if they have one
    #[arg(long = "click-param", value_name = "NAME")]
    click_params: Vec<String>,

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
    /// `redis://HOST:PORT` or `postgres://USER@HOST/DATABASE`. The shop starts without a server that
    /// is down, and referrals stay in the cookies until it is back
    #[arg(long, value_name = "URL", default_value = Options::MEMORY)]
    pub(crate) store: String,

    /// The affiliate platform that gets the landings, sign-ups, sales and refunds
    #[arg(long, value_enum, default_value_t = Platform::Partnac)]
    pub(crate) platform: Platform,

    /// The platform's base URL, for a postback the template of a sale; without it, a sandbox in
    /// this process stands in for the platform
    #[arg(long, value_name = "URL")]
    pub(crate) platform_url: Option<String>,

    /// The template of a refund, for `--platform postback`
    #[arg(long, value_name = "URL")]
    pub(crate) postback_refund_url: Option<String>,

    /// What a tracker's answer contains if it took the call, for `--platform postback`
    #[arg(long, value_name = "TEXT")]
    pub(crate) postback_success: Option<String>,

    /// The platform's API key
    #[arg(
        long,
        value_name = "KEY",
        default_value = "sandbox",
        env = "PLATFORM_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: String,

    /// The shop's account at the platform: `FirstPromoter`'s `Account-ID`, Awin's advertiser
    #[arg(long, value_name = "ID", default_value = "sandbox")]
    pub(crate) account_id: String,

    /// The shop's program at the platform: Affonso's
    #[arg(long, value_name = "ID", default_value = "sandbox")]
    pub(crate) program_id: String,

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

    /// Redirect a landing to the URL without the parameters
    #[arg(long)]
    pub(crate) clean_url: bool,

    /// A path where a landing never takes another partner's credit; repeat it for several
    #[arg(long, value_name = "PATH")]
    pub(crate) stand_down: Vec<String>,

    /// The shop's own database, the outbox included: `sqlite://FILE` or `postgres://…`; without it
    /// a temporary file. The shop doesn't start without it
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite://",
        hide_default_value = true
    )]
    pub(crate) database: String,

    /// The payment provider whose webhooks are taken
    #[arg(long, value_enum)]
    pub(crate) payment: Option<Provider>,

    /// The secret of its webhook; also from `PAYMENT_SECRET`
    #[arg(long, value_name = "SECRET")]
    payment_secret: Option<String>,

    /// Take the provider's test events and ignore live ones
    #[arg(long)]
    pub(crate) payment_test: bool,

    /// Leave the layer out, to measure what it costs: no visitor is referred then
    #[arg(
        long,
        hide = true,
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
pub(crate) enum Provider {
    Stripe,
    Paddle,
    Polar,
}

impl Provider {
    /// Returns its name, as it is in its webhook's path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Paddle => "paddle",
            Self::Polar => "polar",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    None,
    Partnero,
    PartneroFriends,
    Partnac,
    Tapfiliate,
    /// Any tracker that takes postbacks
    Postback,
    Dub,
    Affonso,
    Firstpromoter,
    Tolt,
    Awin,
}

impl Platform {
    /// Returns what people call it; `None` if there is no platform.
    pub(crate) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Partnero | Self::PartneroFriends => "Partnero",
            Self::Partnac => "Partnac",
            Self::Tapfiliate => "Tapfiliate",
            Self::Postback => "the tracker",
            Self::Dub => "Dub",
            Self::Affonso => "Affonso",
            Self::Firstpromoter => "FirstPromoter",
            Self::Tolt => "Tolt",
            Self::Awin => "Awin",
        })
    }

    /// Returns the URL parameters with which the platform's own links bring a click ID.
    fn click_params(self) -> &'static [&'static str] {
        match self {
            Self::Dub => &affiliate::dub::CLICK_PARAMS,
            Self::Awin => &affiliate::awin::CLICK_PARAMS,
            // A tracker's own name for it is on its account page; this one is the sandbox's.
            Self::Postback => &["click_id"],
            _ => &[],
        }
    }

    /// Returns `true` if the shop's server tells the platform of landings. The others know of them
    /// by their own links or scripts.
    pub(crate) fn has_clicks(self) -> bool {
        matches!(
            self,
            Self::Partnac | Self::Tapfiliate | Self::Affonso | Self::Tolt
        )
    }
}

impl Options {
    const MEMORY: &str = "memory:";

    /// Returns `true` if the platform is one that this process stands in for.
    pub(crate) fn needs_sandbox(&self) -> bool {
        self.platform != Platform::None && self.platform_url.is_none()
    }

    /// Returns `true` if the platform is elsewhere, and no stand-in on this machine.
    pub(crate) fn is_remote(&self) -> bool {
        let url = self.platform_url.as_deref();
        url.is_some_and(|url| url.starts_with("https:"))
    }

    /// Returns the URL parameters that carry a click ID.
    pub(crate) fn click_params(&self) -> Vec<&str> {
        if !self.click_params.is_empty() {
            return self.click_params.iter().map(String::as_str).collect();
        }
        let of_platform = self.platform.click_params().iter().copied();
        of_platform
            .filter(|name| self.params.iter().all(|param| param != name))
            .collect()
    }

    /// Returns the secret of the payment provider's webhook.
    pub(crate) fn payment_secret(&self) -> Option<String> {
        let from_env = || std::env::var("PAYMENT_SECRET").ok();
        let secret = self.payment_secret.clone().or_else(from_env);
        secret.filter(|secret| !secret.is_empty())
    }

    /// Refuses options that contradict each other.
    pub(crate) fn check(&self) -> Result<(), BadOption> {
        let is_postback = self.platform == Platform::Postback;
        let refusal = if self.keep == KeepIn::Cookie && self.store != Self::MEMORY {
            "--store is of no use with `--keep cookie`: add `--keep server` or `--keep session`, or \
             leave out the store"
        } else if self.platform == Platform::None && self.platform_url.is_some() {
            "--platform-url is of no use with `--platform none`: name the platform that is there, or \
             leave out the URL"
        } else if self.postback_refund_url.is_some() && !is_postback {
            "--postback-refund-url is of no use without `--platform postback`: add that, or leave \
             out the URL"
        } else if self.postback_success.is_some() && !is_postback {
            "--postback-success is of no use without `--platform postback`: add that, or leave out \
             the text"
        } else if self.postback_refund_url.is_some() && self.platform_url.is_none() {
            "--postback-refund-url is of no use without --platform-url: give the template of a sale \
             as well, or leave out that of a refund"
        } else if self.postback_success.is_some() && self.platform_url.is_none() {
            "--postback-success is of no use without --platform-url: give the template of a sale as \
             well, or leave out the text"
        } else if self.payment_secret.is_some() && self.payment.is_none() {
            "--payment-secret is of no use without --payment: name the payment provider, or leave \
             out the secret"
        } else if self.payment_test && self.payment.is_none() {
            "--payment-test is of no use without --payment: name the payment provider, or leave it \
             out"
        } else if self.payment.is_some() && self.payment_secret().is_none() {
            "--payment needs the secret of the provider's webhook: give it with --payment-secret or \
             as PAYMENT_SECRET"
        } else {
            return self.check_parameters();
        };
        Err(BadOption(refusal.to_owned()))
    }

    /// Refuses a parameter that would carry both a key and a click ID, or that is named twice.
    fn check_parameters(&self) -> Result<(), BadOption> {
        for (at, name) in self.click_params.iter().enumerate() {
            if self.params.contains(name) {
                return Err(BadOption(format!(
                    "--click-param `{name}` is a --param as well: a parameter carries a key or a \
                     click ID"
                )));
            }
            if self.click_params[..at].contains(name) {
                return Err(BadOption(format!("--click-param `{name}` is named twice")));
            }
        }
        Ok(())
    }
}

/// Options that the command line knows and the shop can't honour, with what to do about it.
#[derive(Debug)]
pub(crate) struct BadOption(String);

impl BadOption {
    /// What a platform's client refused, or a payment provider's webhook.
    pub(crate) fn of_client(platform: Platform, error: &platforms::ConfigError) -> Self {
        use platforms::ConfigError;

        let option = match error {
            ConfigError::InvalidApiKey => "--api-key (or PLATFORM_API_KEY)",
            ConfigError::InvalidSetting { .. } if platform == Platform::Affonso => "--program-id",
            ConfigError::InvalidSetting { .. } => "--account-id",
            ConfigError::EmptyWebhookSecret => "--payment-secret (or PAYMENT_SECRET)",
            ConfigError::InvalidPostback { problem, .. } if *problem == Problem::InvalidRule => {
                "--postback-success"
            }
            ConfigError::InvalidPostback { template, .. } if *template == "refund" => {
                "--postback-refund-url"
            }
            ConfigError::InvalidPlatformUrl { .. } | ConfigError::InvalidPostback { .. } => {
                "--platform-url"
            }
            _ => return Self(error.to_string()),
        };
        Self(format!("{option}: {error}"))
    }

    /// What the layer refused.
    pub(crate) fn of_layer(options: &Options, error: &tower_referral::ConfigError) -> Self {
        use tower_referral::ConfigError;

        let option = match error {
            ConfigError::InvalidParam { name, .. } if options.click_params.contains(name) => {
                "--click-param"
            }
            ConfigError::InvalidParam { .. } | ConfigError::DuplicateParam { .. } => "--param",
            ConfigError::TooManyNames { .. } => "--param and --click-param",
            ConfigError::InvalidWindow { .. } => "--window",
            ConfigError::InvalidDomain { .. } => "--domain",
            ConfigError::InvalidStandDown { .. } => "--stand-down",
            _ => return Self(error.to_string()),
        };
        Self(format!("{option}: {error}"))
    }
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadOption {}
