//! Who is credited with a report.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tower_referral::click::Click;
use tower_referral::{ClickId, Referral, ReferralKey};

use super::PlatformId;

/// Who is credited: of a [`Referral`], what a report needs. It has a key, a click ID, or both.
///
/// ```
/// use tower_referral_platforms::{Credit, Money, Sale};
///
/// # fn renewed(key: &str, click_id: Option<&str>) -> Result<Sale, Box<dyn std::error::Error>> {
/// // A renewal, months later: key and click ID were stored with the customer.
/// let click_id = click_id.map(str::parse).transpose()?;
/// let credit = Credit::new(key.parse()?).with_click_id(click_id);
/// let sale = Sale::new("INVOICE-7", "CUSTOMER-1", Money::new("9.99", "EUR")?)?.with_credit(credit);
/// # Ok(sale)
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credit {
    #[serde(with = "kept_key", skip_serializing_if = "Option::is_none")]
    key: Option<ReferralKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<ClickId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<PlatformId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Box<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, String>,
}

impl Credit {
    /// Creates credit for a key, without a click.
    #[must_use]
    pub fn new(key: ReferralKey) -> Self {
        Self {
            key: Some(key),
            ..Self::default()
        }
    }

    /// Creates credit for a click, without a key.
    #[must_use]
    pub fn of_click(click_id: ClickId) -> Self {
        Self {
            click_id: Some(click_id),
            ..Self::default()
        }
    }

    /// Sets the platform's ID of the landing.
    #[must_use]
    pub fn with_click_id(mut self, click_id: impl Into<Option<ClickId>>) -> Self {
        self.click_id = click_id.into();
        self
    }

    /// Sets both IDs that the platform gave to a [click](crate::Client::create_click).
    #[must_use]
    pub fn with_click(mut self, click: &Click) -> Self {
        self.click_id = Some(click.id().clone());
        self.partner_id = click.partner_id().and_then(PlatformId::new);
        self
    }

    /// Sets the platform's ID of the partner, a second ID that some platforms give to a click and
    /// want back with a sign-up.
    #[must_use]
    pub fn with_partner_id(mut self, partner_id: impl Into<Option<PlatformId>>) -> Self {
        self.partner_id = partner_id.into();
        self
    }

    /// Sets the [reference of the landing](Referral::click_reference), under which a click ID that came
    /// late is found.
    #[must_use]
    pub fn with_reference(mut self, reference: impl super::OptionalText) -> Self {
        self.reference = reference.filled().map(String::into_boxed_str);
        self
    }

    /// Sets where the credit comes from, for instance `parameter`, `cookie` or `manual`, for
    /// platforms that keep it.
    #[must_use]
    pub fn with_source(mut self, source: impl super::OptionalText) -> Self {
        self.source = source.filled().map(String::into_boxed_str);
        self
    }

    /// Adds an extra parameter of the landing, for platforms that want it back.
    #[must_use]
    pub fn with_extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// Returns the referral key.
    #[must_use]
    pub fn key(&self) -> Option<&ReferralKey> {
        self.key.as_ref()
    }

    /// Returns the platform's ID of the landing.
    #[must_use]
    pub fn click_id(&self) -> Option<&ClickId> {
        self.click_id.as_ref()
    }

    /// Returns the platform's ID of the partner.
    #[must_use]
    pub fn partner_id(&self) -> Option<&PlatformId> {
        self.partner_id.as_ref()
    }

    /// Returns the reference of the landing, under which a click ID that came late is found.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Returns where the credit comes from.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Returns the extra parameter of the landing of this name.
    #[must_use]
    pub fn extra(&self, name: &str) -> Option<&str> {
        self.extra.get(name).map(String::as_str)
    }

    /// Returns `true` if it names nobody.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none() && self.click_id.is_none() && self.partner_id.is_none()
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let click_id = self.click_id.as_ref().map(ClickId::as_str);
        let partner_id = self.partner_id.as_ref().map(PlatformId::as_str);
        let key = self.key.as_ref().map(ReferralKey::as_str);
        let extra = self.extra.values().map(String::as_str);
        key.into_iter()
            .chain(click_id)
            .chain(partner_id)
            .chain(extra)
    }
}

impl From<&Referral> for Credit {
    fn from(referral: &Referral) -> Self {
        Self {
            key: referral.key().cloned(),
            click_id: referral.click_id().cloned(),
            partner_id: referral.partner_id().and_then(PlatformId::new),
            reference: referral.click_reference().map(String::into_boxed_str),
            source: Some(referral.source().as_str().into()),
            extra: referral
                .extra()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

/// Hides all IDs.
impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("has_key", &self.key.is_some())
            .field("has_click_id", &self.click_id.is_some())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A key that has passed the program's own rule before is taken by the widest one.
mod kept_key {
    use std::borrow::Cow;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};
    use tower_referral::{KeyRule, ReferralKey};

    #[expect(clippy::ref_option, reason = "serde gives it so")]
    pub(crate) fn serialize<S: Serializer>(
        key: &Option<ReferralKey>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        key.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ReferralKey>, D::Error> {
        let Some(text) = Option::<Cow<'de, str>>::deserialize(from)? else {
            return Ok(None);
        };
        let key = KeyRule::printable_unicode().parse(&text);
        key.map(Some).map_err(D::Error::custom)
    }
}
