//! What is set about a refer-a-friend program.

use http::header::AUTHORIZATION;

use super::{BASE_URL, ProgramOptions};
use crate::endpoint::Endpoint;
use crate::{BaseUrl, ConfigError};

/// A refer-a-friend program at Partnero, where customers refer customers:
/// `https://api.partnero.com/v1`, with the program's API key as a bearer token.
///
/// Every sign-up is sent, because every customer may refer others, with the referring customer where
/// there is one. Our ID of a customer is sent as `id` and as `key`, since pages name customers by
/// the one and sales by the other. If Partnero doesn't know the referring customer, the sign-up is
/// sent without, and the outcome is [`Outcome::NotAttributed`](crate::Outcome::NotAttributed).
///
/// A sale to a [guest](crate::Sale::guest), or to a customer whom Partnero doesn't know although there is a
/// referral, is preceded by the sign-up. For the rest see [`Partnero`](super::Partnero).
///
/// ```no_run
/// # #[cfg(feature = "https")] {
/// use tower_referral_platforms::{Client, Https, PartneroFriends};
///
/// # async fn invite(api_key: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let friends = Client::new(PartneroFriends::new(api_key)?, Https::new());
/// if let Some(friend) = friends.friend("CUSTOMER-1").await? {
///     println!("your link: {:?}", friend.referral_link());
///     println!("friends so far: {:?}", friend.referrals_count());
/// }
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PartneroFriends {
    pub(super) endpoint: Endpoint,
    pub(super) referrer_by_id: bool,
    pub(super) options: ProgramOptions,
}

impl PartneroFriends {
    /// Creates a refer-a-friend program, with its API key.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(BASE_URL, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            referrer_by_id: false,
            options: ProgramOptions::default(),
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

    /// Takes the referral key as the referring customer's ID and not as its key.
    #[must_use]
    pub fn referrer_by_id(mut self) -> Self {
        self.referrer_by_id = true;
        self
    }

    /// Sends reports that have a coupon without it, as
    /// [`Partnero::leave_out_coupons`](super::Partnero::leave_out_coupons).
    #[must_use]
    pub fn leave_out_coupons(mut self) -> Self {
        self.options.leaves_out_coupons = true;
        self
    }

    /// Does a partial refund by deleting the sale and making a smaller one, as
    /// [`Partnero::replace_partly_refunded`](super::Partnero::replace_partly_refunded).
    #[must_use]
    pub fn replace_partly_refunded(mut self) -> Self {
        self.options.replaces_partly_refunded = true;
        self
    }
}
