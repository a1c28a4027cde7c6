//! Tapfiliate. Every path ends in a slash, and the API key goes into a header of its own.

use bytes::Bytes;
use http::{HeaderName, Request};

use super::endpoint::{Endpoint, click_id_in, object};
use super::{Answer, CreateClicks, Error};
use crate::click::{ClickRequest, UnknownKey};
use crate::error::ConfigError;
use crate::referral::ClickId;

/// The Tapfiliate platform: `https://api.tapfiliate.com/1.6`, with the API key in `X-Api-Key`.
#[derive(Clone, Debug)]
pub struct Tapfiliate {
    endpoint: Endpoint,
}

impl Tapfiliate {
    /// Tapfiliate, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let header = HeaderName::from_static("x-api-key");
        let base_url = "https://api.tapfiliate.com/1.6";
        let endpoint = Endpoint::new(base_url, header, "", api_key.as_ref())?;
        Ok(Self { endpoint })
    }

    /// Another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The URL isn't `https`, nor plain `http` to this machine.
    pub fn base_url(self, url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url.as_ref())?;
        Ok(Self { endpoint })
    }
}

impl CreateClicks for Tapfiliate {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = object([
            ("referral_code", Some(click.key.to_string())),
            ("landing_page", Some(click.landing_url.clone())),
            ("referrer", click.referrer.clone()),
            ("user_agent", click.user_agent.clone()),
            ("ip", click.ip.map(|ip| ip.to_string())),
        ]);
        self.endpoint.post("/clicks/", &body)
    }

    fn read_click(&self, answer: &Answer) -> Result<ClickId, Error> {
        if answer.says_unknown(&["referral_code", "referral code", "affiliate"]) {
            return Err(Error::UnknownKey(UnknownKey));
        }
        let json = answer.success()?;
        click_id_in(&json, &["id"]).ok_or(Error::Unreadable {
            status: answer.status(),
        })
    }
}
