//! What is set about Partnac.

use http::header::AUTHORIZATION;

use crate::endpoint::Endpoint;
use crate::{BaseUrl, ConfigError};

/// The Partnac platform: `https://api.partnac.com/v1/tracking`, with the API key as a bearer token.
///
/// A sign-up is a conversion of type `lead` under the unique ID `signup:CUSTOMER`, so that a
/// customer and an order of the same ID are two things; a sale is a conversion of type `sale`, or
/// `subscription` where it is a payment of one, under the order's ID. A report's
/// [action](crate::Sale::with_action) is another type: `sale`, `lead`, `referral`, `subscription` or
/// `custom`. Both are credited by the referral key together with the click ID; without a key, by the
/// coupon ([`coupon_wins`](Self::coupon_wins) reverses this). E-mail addresses and names aren't
/// sent.
///
/// *Documented nowhere:* the statuses and shapes of all answers. A JSON 409 is
/// [`Outcome::Duplicate`](crate::Outcome::Duplicate). A conversion that is refused in JSON (a 4xx other than 401, 402, 403, 408
/// and 429, or a 2xx whose body says no) is sent once more without its click ID, and then with the
/// coupon in the key's place, where there is one. If it is refused for good, the last 1000
/// conversions of the list are looked through for its unique ID: there, it is a duplicate; not
/// there, the refusal is a permanent failure, for a person to look at. A JSON 2xx is a success if it has
/// an ID, at the top or under `data`; without one the list is looked through too, and a conversion that
/// isn't there is sent again. Of a refund or an update, a 204 is a success as well. A refund whose outcome is
/// unknown is looked for in the same way, by its [ID](crate::Refund::with_id).
#[derive(Clone, Debug)]
pub struct Partnac {
    pub(super) endpoint: Endpoint,
    pub(super) keep_paid_earnings: bool,
    pub(super) coupon_wins: bool,
}

impl Partnac {
    /// Creates Partnac, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.partnac.com/v1/tracking";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            keep_paid_earnings: false,
            coupon_wins: false,
        })
    }

    /// Sets another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The text isn't a [`BaseUrl`]: neither `https`, nor plain `http` to this machine.
    pub fn base_url(
        self,
        url: impl TryInto<BaseUrl, Error: Into<ConfigError>>,
    ) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url)?;
        Ok(Self { endpoint, ..self })
    }

    /// Leaves partners what was paid out to them already when money goes back
    /// (`reverse_paid_earnings`, on by Partnac's default), unless a refund
    /// [says otherwise](crate::Refund::with_reverse_paid_earnings).
    #[must_use]
    pub fn keep_paid_earnings(mut self) -> Self {
        self.keep_paid_earnings = true;
        self
    }

    /// Credits whom the coupon belongs to where a report has both a coupon and a referral; by
    /// default the referral wins. What loses is tried if the other is refused.
    #[must_use]
    pub fn coupon_wins(mut self) -> Self {
        self.coupon_wins = true;
        self
    }
}
