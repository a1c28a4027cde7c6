//! Affiliate platforms. A platform does no I/O: it builds requests and reads answers. One
//! [`Client`] sends them over any HTTP transport, [`Https`] being the ready-made one.
//!
//! | | clicks | [`SignUp`] | [`Sale`] | whole [`Refund`] | partial [`Refund`] |
//! |---|---|---|---|---|---|
//! | [`Partnac`] | yes | a conversion `lead` | a conversion `sale`, once for each order | yes | yes |
//! | [`Partnero`] (affiliate) | from its own script only | with a referral only | yes, not recognised if told twice | yes | [`Unsupported`] |
//! | [`PartneroFriends`] (refer-a-friend) | from its own script only | always | yes, not recognised if told twice | yes | [`Unsupported`] |
//! | [`Tapfiliate`] | yes | a customer | once for each order | yes | yes, not recognised if told twice |
//!
//! Reports say the same to all of them, so a service changes platform by changing one line. What
//! only one platform has is on its client: [`partnac`], [`partnero`], [`tapfiliate`]. A report that
//! must not be lost waits in a job queue of the service's own: [`deliver`] says what may be done with
//! it, and what came of that.
//!
//! ```no_run
//! # #[cfg(all(feature = "https", feature = "partnac"))] {
//! use tower_referral::Clicks;
//! use tower_referral_platforms::{Client, Https, Partnac};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let partnac = Client::new(Partnac::new(std::env::var("PARTNAC_API_KEY")?)?, Https::new());
//! let clicks = Clicks::new(partnac.clicks());
//! # Ok(())
//! # }
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod boxed;
mod client;
mod delivery;
#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
mod endpoint;
mod error;
#[cfg(feature = "https")]
mod https;
#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
mod json;
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
mod listed;
mod money;
#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
mod pages;
#[cfg(feature = "partnac")]
pub mod partnac;
#[cfg(feature = "partnero")]
pub mod partnero;
mod report;
mod take;
#[cfg(feature = "tapfiliate")]
pub mod tapfiliate;
mod telemetry;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};

pub use self::answer::{Answer, Message};
pub use self::client::{ClickService, Client, NotSent, ReportService, Transport};
pub use self::delivery::{Delivery, DeliveryState, Journal, Retries, Setback, Verdict, deliver};
pub use self::error::ConfigError;
#[cfg(feature = "https")]
pub use self::https::Https;
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
pub use self::listed::ListedConversion;
pub use self::money::{InvalidMoney, Money};
#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
pub use self::pages::Pages;
#[cfg(feature = "partnac")]
pub use self::partnac::Partnac;
#[cfg(feature = "partnero")]
pub use self::partnero::{Partnero, PartneroFriends};
pub use self::report::{Contact, Credit, InvalidId, Outcome, Refund, Report, Sale, SignUp};
pub use self::take::{Advice, ReportError, SafeToRepeat, Step, TakeReports, Unsupported};
#[cfg(feature = "tapfiliate")]
pub use self::tapfiliate::Tapfiliate;
use tower_referral::{ClickId, ClickRequest, UnknownKey};

/// A platform that can be told of a landing. Partnero isn't one: its clicks come from its own
/// script only.
///
/// ```
/// use bytes::Bytes;
/// use http::{Method, Request, Uri};
/// use tower_referral_platforms::{Answer, CreateClicks, Error};
/// use tower_referral::{ClickId, ClickRequest};
///
/// struct InHouse;
///
/// impl CreateClicks for InHouse {
///     fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
///         let line = format!("{} {}", click.key, click.landing_url);
///         let mut request = Request::new(Bytes::from(line));
///         *request.method_mut() = Method::POST;
///         *request.uri_mut() = Uri::from_static("https://partners.example/clicks");
///         request
///     }
///
///     fn read_click(&self, answer: &Answer) -> Result<ClickId, Error> {
///         let json = answer.success()?; // the typed error of everything that isn't a success
///         let id = json["id"].as_str().and_then(|id| id.parse().ok());
///         id.ok_or(Error::Unreadable { status: answer.status() })
///     }
/// }
/// ```
pub trait CreateClicks {
    /// The request that creates a click.
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes>;

    /// Reads the platform's answer to it.
    ///
    /// # Errors
    ///
    /// The platform refused, or its answer can't be read.
    fn read_click(&self, answer: &Answer) -> Result<ClickId, Error>;
}

/// Why a call to a platform came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request provably never left.
    NotSent,
    /// The request left, and no whole answer came: what became of it is unknown.
    FateUnknown,
    /// The platform wants fewer requests.
    RateLimited {
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The platform doesn't take the API key.
    Unauthorized {
        /// The answer's status.
        status: StatusCode,
    },
    /// The platform doesn't know the referral key.
    UnknownKey(UnknownKey),
    /// The platform refused the request.
    Rejected {
        /// The answer's status.
        status: StatusCode,
        /// The platform's own words.
        message: Message,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The platform has no call for such a report; nothing was sent that changes anything.
    Unsupported(Unsupported),
    /// A list goes on at another host, which the API key must not be sent to.
    ForeignLink,
    /// The platform's answer can't be read, so what became of the request is unknown.
    Unreadable {
        /// The answer's status.
        status: StatusCode,
    },
}

impl Error {
    /// Is it safe to send the very same request again, on any platform? Only if it never left, or
    /// if the platform put it off.
    #[must_use]
    pub fn is_safe_to_repeat(&self) -> bool {
        matches!(self, Self::NotSent | Self::RateLimited { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str(
                "the platform could not be reached: check its base URL and this host's network",
            ),
            Self::FateUnknown => f.write_str(
                "the request left and no answer came: look at the platform whether it arrived",
            ),
            Self::RateLimited { retry_after: None } => {
                f.write_str("the platform is rate limiting: try again later")
            }
            Self::RateLimited {
                retry_after: Some(wait),
            } => write!(
                f,
                "the platform is rate limiting: try again in {} seconds",
                wait.as_secs()
            ),
            Self::Unauthorized { status } => write!(
                f,
                "the platform refused the API key ({status}): check that it is the right one, and \
                 for this program"
            ),
            Self::UnknownKey(error) => error.fmt(f),
            Self::Rejected { status, .. } => write!(
                f,
                "the platform refused the request ({status}): its own words are in `message`"
            ),
            Self::Unreadable { status } => write!(
                f,
                "the platform's answer ({status}) can't be read: look there whether the request \
                 arrived"
            ),
            Self::Unsupported(what) => what.fmt(f),
            Self::ForeignLink => f.write_str(
                "the platform's list goes on at another host, where the API key isn't sent: check \
                 the base URL",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownKey(error) => Some(error),
            _ => None,
        }
    }
}

/// All but the unreserved characters percent-encoded (RFC 3986 section 2.3): an ID as one segment of a
/// path, or as a value in a query.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
