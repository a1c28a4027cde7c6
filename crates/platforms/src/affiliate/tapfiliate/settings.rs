//! What is set about Tapfiliate.

use http::HeaderName;

use crate::endpoint::Endpoint;
use crate::{BaseUrl, ConfigError};

/// The Tapfiliate platform: `https://api.tapfiliate.com/1.6`, with the API key in `X-Api-Key`.
///
/// A sign-up is a customer, a sale a conversion whose `external_id` is the order and whose
/// `customer_id` is always sent, by which Tapfiliate ties a payment to its customer. Each is
/// credited by one more thing: by the click ID; if there is none or it is refused, by the referral
/// key; then by the coupon ([`coupon_wins`](Self::coupon_wins) puts that first). Product, interval
/// and times go into the metadata. E-mail addresses and names aren't sent.
///
/// A refund is looked up by the order. All of it deletes the conversion, or
/// [disapproves](Self::disapprove_refunds) its commissions; a part of it lowers the amount and has
/// commissions worked out again. A part that says what is [left](crate::Refund::left) sets that amount, and
/// does no harm twice; any other is taken from the amount that is listed, for which there must be no
/// other refund of the order under way at the same time ([`Report::sequence_key`](crate::Report::sequence_key); one client sees to
/// that by itself), and of which a duplicate isn't detected.
///
/// A reversal sets the amount that is [left](crate::RefundReversal::left), which it has to say unless it
/// is that of the whole. Where nothing was left before, commissions that were disapproved are approved
/// again. A conversion that isn't listed then may have been deleted: the reversal is refused, for a
/// person to make the conversion anew there.
///
/// *Documented nowhere:* the status of a duplicate and of a click ID that is refused. After a refusal
/// in JSON (a 4xx other than 401, 402, 403, 408 and 429, or a 2xx whose body says no) the list of
/// conversions is asked for the order, or that of customers for the customer: there it is a
/// duplicate; not there, the report is sent once more without the click ID, by key, then by coupon. A
/// refusal that stays is a permanent failure, for a person to look at.
#[derive(Clone, Debug)]
pub struct Tapfiliate {
    pub(super) endpoint: Endpoint,
    pub(super) coupon_wins: bool,
    pub(super) override_max_cookie_time: bool,
    pub(super) disapprove_refunds: bool,
}

impl Tapfiliate {
    /// Creates Tapfiliate, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let header = HeaderName::from_static("x-api-key");
        let base_url = "https://api.tapfiliate.com/1.6";
        let endpoint = Endpoint::new(base_url, header, "", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            coupon_wins: false,
            override_max_cookie_time: false,
            disapprove_refunds: false,
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

    /// Credits whom the coupon belongs to where a report has both a coupon and a referral; by
    /// default the referral wins. What loses is tried if the other is refused.
    #[must_use]
    pub fn coupon_wins(mut self) -> Self {
        self.coupon_wins = true;
        self
    }

    /// Lets conversions count that come after the program's cookie time
    /// (`override_max_cookie_time`): the window of the referral decides.
    #[must_use]
    pub fn override_max_cookie_time(mut self) -> Self {
        self.override_max_cookie_time = true;
        self
    }

    /// Takes a whole refund back by disapproving the conversion's commissions, as Tapfiliate advises,
    /// so that the partner sees why; by default the conversion is deleted. A
    /// [`RefundReversal`](crate::RefundReversal) approves them again, at what is left of the order then;
    /// one of the whole that doesn't say what the order was worth, at the amount that is listed.
    #[must_use]
    pub fn disapprove_refunds(mut self) -> Self {
        self.disapprove_refunds = true;
        self
    }
}
