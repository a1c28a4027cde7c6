//! Partnac. Paths and request fields are documented; statuses, error bodies and the shape of
//! answers are not, and are read leniently.

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;

use super::endpoint::{Endpoint, click_id_in, object};
use super::{Answer, CreateClicks, Error};
use crate::click::{ClickRequest, UnknownKey};
use crate::error::ConfigError;
use crate::referral::ClickId;

/// The Partnac platform: `https://api.partnac.com/v1/tracking`, with the API key as a bearer token.
#[derive(Clone, Debug)]
pub struct Partnac {
    endpoint: Endpoint,
}

impl Partnac {
    /// Partnac, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.partnac.com/v1/tracking";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
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

impl CreateClicks for Partnac {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = object([
            ("partnership_code", Some(click.key.to_string())),
            ("click_url", Some(click.landing_url.clone())),
            ("referrer_url", click.referrer.clone()),
            ("ip_address", click.ip.map(|ip| ip.to_string())),
        ]);
        self.endpoint.post("/clicks", &body)
    }

    /// Where the click ID stands is documented nowhere: `click_id`, `id` and `session_id` are
    /// tried, at the top and under `data`.
    fn read_click(&self, answer: &Answer) -> Result<ClickId, Error> {
        const PROPERTIES: [&str; 3] = ["click_id", "id", "session_id"];
        if answer.says_unknown(&["partnership", "partner", "code"]) {
            return Err(Error::UnknownKey(UnknownKey));
        }
        let json = answer.success()?;
        click_id_in(&json, &PROPERTIES)
            .or_else(|| click_id_in(json.get("data")?, &PROPERTIES))
            .ok_or(Error::Unreadable {
                status: answer.status(),
            })
    }
}
