//! Where a platform is.

use std::convert::Infallible;
use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;

use crate::ConfigError;

/// The base URL of a platform's API, checked. Everything that is text becomes one:
/// `.base_url("https://api.example.com")?`.
///
/// It is `https`, or plain `http` to this machine, so that an API key never crosses a network in the clear.
/// For a stand-in elsewhere, such as in another container, say so by [`BaseUrl::plain_http`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads a URL that is `https`, or `http` to `localhost` or a loopback address.
    ///
    /// # Errors
    ///
    /// The URL is neither, or has a user's name, a query or a fragment.
    pub fn new(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        Self::read(url.as_ref(), is_this_machine)
    }

    /// Reads a URL that may be plain `http` to any host, for a stand-in on a network of your own:
    /// whoever reads that network's traffic reads the API key.
    ///
    /// ```
    /// use tower_referral_platforms::{BaseUrl, Partnac};
    ///
    /// let stand_in = BaseUrl::plain_http("http://stand-in:18101")?;
    /// let partnac = Partnac::new("sandbox")?.base_url(stand_in)?;
    /// # Ok::<_, tower_referral_platforms::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The URL is neither `https` nor `http`, or has a user's name, a query or a fragment.
    pub fn plain_http(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        Self::read(url.as_ref(), |host| !host.is_empty())
    }

    fn read(url: &str, may_be_plain: fn(&str) -> bool) -> Result<Self, ConfigError> {
        if !is_platform_url(url, may_be_plain) {
            return Err(ConfigError::InvalidPlatformUrl {
                url: url.to_owned(),
            });
        }
        Ok(Self(url.trim_end_matches('/').to_owned()))
    }

    /// Returns the URL, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<&str> for BaseUrl {
    type Error = ConfigError;

    fn try_from(url: &str) -> Result<Self, ConfigError> {
        Self::new(url)
    }
}

impl TryFrom<&String> for BaseUrl {
    type Error = ConfigError;

    fn try_from(url: &String) -> Result<Self, ConfigError> {
        Self::new(url)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = ConfigError;

    fn try_from(url: String) -> Result<Self, ConfigError> {
        Self::new(url)
    }
}

/// A `BaseUrl` is one without fail, which `base_url` has to know.
impl From<Infallible> for ConfigError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns `true` for `https`, and for plain `http` to the hosts that may have it.
pub(crate) fn is_platform_url(url: &str, may_be_plain: impl Fn(&str) -> bool) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    // Neither a port out of range, which would become the default one, nor a user's name.
    let authority = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let is_bare =
        uri.authority().is_some_and(|given| *given == *authority) && !url.contains(['?', '#']);
    let scheme = uri.scheme();
    let is_safe = (scheme == Some(&Scheme::HTTPS) && !host.is_empty())
        || (scheme == Some(&Scheme::HTTP) && may_be_plain(host));
    is_safe && is_bare
}

/// Returns `true` for this very machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}
