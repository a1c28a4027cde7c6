//! Partnac's clicks: those of the layer, those that a page's script tells more of, and the click ID
//! that Partnac's own script keeps in a cookie.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, Request};
use serde::Serialize;
use tower_referral::click::{Click, ClickRequest};
use tower_referral::{ClickId, ReferralKey};

use super::Partnac;
use crate::{Answer, ClickApi, Client, Error, Transport};

#[derive(Serialize)]
struct ClickBody<'a> {
    partnership_code: &'a str,
    click_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    screen_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<IpAddr>,
}

impl ClickApi for Partnac {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = ClickBody {
            partnership_code: click.key().as_str(),
            click_url: click.landing_url(),
            referrer_url: click.referrer(),
            screen_width: None,
            ip_address: click.ip(),
        };
        self.endpoint.post("/clicks", &body)
    }

    /// Where the click ID is in the answer is documented nowhere: `click_id`, `id` and `session_id`
    /// are tried, at the top and under `data`.
    fn read_click(&self, answer: &Answer) -> Result<Click, Error> {
        answer.accepted()?;
        answer.click(["click_id", "id", "session_id"])
    }
}

/// A landing of which a page's script or a native app tells the server, with what no request's
/// headers say: the screen's width.
///
/// ```
/// use std::net::IpAddr;
///
/// use tower_referral::ReferralKey;
/// use tower_referral_platforms::affiliate::partnac::Landing;
/// use tower_referral_platforms::{Client, Credit, Error, Partnac, Transport};
///
/// /// What the page's script posts: the key, its own URL, and `screen.width`.
/// async fn landed(
///     partnac: &Client<Partnac, impl Transport>,
///     key: ReferralKey,
///     url: &str,
///     screen_width: u32,
///     ip: IpAddr,
/// ) -> Result<Credit, Error> {
///     let landing = Landing::new(key.clone(), url).screen_width(screen_width).ip(ip);
///     let click = partnac.create_landing_click(&landing).await?;
///     Ok(Credit::new(key).with_click(&click)) // to be kept with the visitor
/// }
/// ```
#[derive(Clone)]
#[must_use = "a landing does nothing until it is given to a `Client`"]
pub struct Landing {
    key: ReferralKey,
    url: String,
    referrer: Option<String>,
    screen_width: Option<u32>,
    ip: Option<IpAddr>,
}

impl Landing {
    /// Creates the landing of a visitor with this key at this URL.
    pub fn new(key: ReferralKey, url: impl Into<String>) -> Self {
        Self {
            key,
            url: url.into(),
            referrer: None,
            screen_width: None,
            ip: None,
        }
    }

    /// Sets the URL that the visitor came from.
    pub fn referrer(mut self, url: impl Into<String>) -> Self {
        self.referrer = Some(url.into());
        self
    }

    /// Sets the width of the visitor's screen, in pixels.
    pub fn screen_width(mut self, width: u32) -> Self {
        self.screen_width = Some(width);
        self
    }

    /// Sets the visitor's address.
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }
}

/// Shows nothing of the visitor.
impl std::fmt::Debug for Landing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Landing")
            .field("screen_width", &self.screen_width)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Client<Partnac, T> {
    /// Creates the click of a landing.
    ///
    /// # Errors
    ///
    /// The platform couldn't be told, or refused.
    pub async fn create_landing_click(&self, landing: &Landing) -> Result<Click, Error> {
        let body = ClickBody {
            partnership_code: landing.key.as_str(),
            click_url: &landing.url,
            referrer_url: landing.referrer.as_deref(),
            screen_width: landing.screen_width,
            ip_address: landing.ip,
        };
        let request = self.platform().endpoint.post("/clicks", &body);
        let texts = [
            Some(landing.key.as_str()),
            Some(&landing.url),
            landing.referrer.as_deref(),
        ];
        let texts = texts.into_iter().flatten().map(str::to_owned);
        let secrets = texts.chain(landing.ip.map(|ip| ip.to_string()));
        self.send_click(request, secrets).await
    }
}

/// Reads the click ID that Partnac's script keeps in a cookie of this name. *Documented nowhere:* the
/// name; look at the cookies of a page that has the script. The first cookie whose value can be a
/// click ID counts.
///
/// ```
/// use http::HeaderMap;
/// use tower_referral::ReferralKey;
/// use tower_referral_platforms::Credit;
/// use tower_referral_platforms::affiliate::partnac;
///
/// fn credit(headers: &HeaderMap, key: ReferralKey) -> Credit {
///     Credit::new(key).with_click_id(partnac::click_id_cookie(headers, "partnac_click_id"))
/// }
/// # let mut headers = HeaderMap::new();
/// # headers.insert("cookie", "a=b; partnac_click_id=clk_1".parse().unwrap());
/// # assert_eq!(credit(&headers, "P".parse().unwrap()).click_id().unwrap().as_str(), "clk_1");
/// ```
#[must_use]
pub fn click_id_cookie(headers: &HeaderMap, name: &str) -> Option<ClickId> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..at] == name.as_bytes()).then_some(&pair[at + 1..])
    });
    values.find_map(|value| {
        let value = percent_encoding::percent_decode(value).decode_utf8().ok()?;
        value.parse().ok()
    })
}
