//! Affiliate platforms. A platform does no I/O: it builds requests and reads answers. One
//! [`Client`] sends them over any HTTP transport, [`Https`] being the ready-made one.
//!
//! ```no_run
//! # #[cfg(all(feature = "https", feature = "partnac"))] {
//! use tower_referral::Clicks;
//! use tower_referral::platform::{Client, Https, Partnac};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let partnac = Client::new(Partnac::new(std::env::var("PARTNAC_API_KEY")?)?, Https::new());
//! let clicks = Clicks::new(partnac.clicks());
//! # Ok(())
//! # }
//! # }
//! ```

mod client;
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
mod endpoint;
#[cfg(feature = "https")]
mod https;
mod money;
#[cfg(feature = "partnac")]
mod partnac;
mod report;
mod take;
#[cfg(feature = "tapfiliate")]
mod tapfiliate;

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;

pub use self::client::{ClickService, Client, NotSent, ReportService};
#[cfg(feature = "https")]
pub use self::https::Https;
pub use self::money::{InvalidMoney, Money};
#[cfg(feature = "partnac")]
pub use self::partnac::Partnac;
pub use self::report::{Contact, Credit, InvalidId, Outcome, Refund, Report, Sale, SignUp};
pub use self::take::{Advice, ReportError, Step, TakeReports, Unsupported};
#[cfg(feature = "tapfiliate")]
pub use self::tapfiliate::Tapfiliate;
use crate::click::{ClickRequest, UnknownKey};
use crate::referral::ClickId;

/// A platform that can be told of a landing. Partnero isn't one: its clicks come from its own
/// script only.
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

/// A platform's answer: everything of a response that matters.
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    /// An answer, for instance in the test of a platform of your own.
    #[must_use]
    pub fn new(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            retry_after: None,
            body,
        }
    }

    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer's body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The JSON of a success; the typed error of anything else.
    ///
    /// # Errors
    ///
    /// The status isn't a success, or the body isn't JSON.
    pub fn success(&self) -> Result<Value, Error> {
        self.accepted()?;
        serde_json::from_slice(&self.body).map_err(|_| Error::Unreadable {
            status: self.status,
        })
    }

    /// Is the status a success? The body may be anything.
    ///
    /// # Errors
    ///
    /// The typed error of a status that isn't a success.
    pub fn accepted(&self) -> Result<(), Error> {
        match self.status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(Error::RateLimited {
                retry_after: self.retry_after,
            }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Error::Unauthorized { status })
            }
            status => Err(Error::Rejected {
                status,
                message: self.message(),
                retry_after: self.retry_after,
            }),
        }
    }

    /// What the platform says in `message`, `error` or `errors`, or the body's text.
    fn message(&self) -> Message {
        let text = match serde_json::from_slice::<Value>(&self.body) {
            Ok(json) => ["message", "error", "errors"]
                .iter()
                .filter_map(|name| json.get(name))
                .map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        Message(text.chars().take(MAX_MESSAGE_CHARS).collect())
    }

    #[cfg(any(feature = "partnac", feature = "tapfiliate"))]
    /// Does a refusal say, in JSON, that there is no such partner? The platforms document neither
    /// status nor wording, so the words are taken together.
    fn says_unknown(&self, subjects: &[&str]) -> bool {
        let is_candidate = matches!(
            self.status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY
        );
        if !is_candidate || serde_json::from_slice::<Value>(&self.body).is_err() {
            return false;
        }
        let text = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        let has_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
        has_any(subjects)
            && has_any(&[
                "unknown",
                "not found",
                "not_found",
                "invalid",
                "not exist",
                "no such",
            ])
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

const MAX_MESSAGE_CHARS: usize = 500;

/// A platform's own words. They may repeat what was sent, so `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// The words, at most 500 characters. They may hold a referral key or an e-mail address: not
    /// for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.0.len())
    }
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
