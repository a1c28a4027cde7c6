//! What sign-ups and sales have in common: the person, who is credited, and facts of the shop's own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::credit::Credit;
use super::text::optional;

/// How a customer can be reached. `Debug` hides all of it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Contact {
    /// The e-mail address, not empty.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The first name, or the whole one; not empty.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The last name, not empty.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub surname: Option<String>,
    /// The date of birth as `YYYY-MM-DD`.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub date_of_birth: Option<String>,
}

impl Contact {
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.email, &self.name, &self.surname, &self.date_of_birth];
        texts.into_iter().filter_map(Option::as_deref)
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").finish_non_exhaustive()
    }
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    #[serde(flatten)]
    pub(crate) contact: Contact,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credit: Option<Credit>,
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub(crate) coupon: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub(crate) referral_url: Option<String>,
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub(crate) campaign: Option<String>,
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<IpAddr>,
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, Value>,
}

impl Details {
    /// Who is credited; credit that names nobody is none.
    pub(crate) fn credit(&self) -> Option<&Credit> {
        self.credit.as_ref().filter(|credit| !credit.is_empty())
    }

    /// The facts as they are sent back in error texts: every text of the metadata, at any depth.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let mut texts = Vec::new();
        for value in self.metadata.values() {
            push_texts(value, &mut texts);
        }
        let optional = [
            &self.coupon,
            &self.referral_url,
            &self.campaign,
            &self.user_agent,
        ];
        self.contact
            .secrets()
            .chain(self.credit.iter().flat_map(Credit::secrets))
            .chain(optional.into_iter().filter_map(Option::as_deref))
            .chain(self.tags.iter().map(String::as_str))
            .chain(texts)
            .map(Cow::Borrowed)
            .chain(self.ip.map(|ip| ip.to_string().into()))
    }
}

fn push_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| push_texts(value, texts)),
        Value::Object(map) => map.values().for_each(|value| push_texts(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The setters and getters that sign-ups and sales share.
macro_rules! details_api {
    ($report:ty) => {
        impl $report {
            /// Sets who referred the customer: `&Referral` or `Option<&Referral>`.
            pub fn referral<'r>(self, referral: impl Into<Option<&'r Referral>>) -> Self {
                self.with_credit(referral.into().map(Credit::from))
            }

            /// Sets who is credited where no [`Referral`] is at hand: `Credit` or
            /// `Option<Credit>`.
            pub fn with_credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
                self.details.credit = credit.into();
                self
            }

            /// Sets the customer's e-mail address.
            pub fn with_email(mut self, email: impl OptionalText) -> Self {
                self.details.contact.email = email.filled();
                self
            }

            /// Sets the customer's first name, or the whole one.
            pub fn with_name(mut self, name: impl OptionalText) -> Self {
                self.details.contact.name = name.filled();
                self
            }

            /// Sets the customer's last name.
            pub fn with_surname(mut self, surname: impl OptionalText) -> Self {
                self.details.contact.surname = surname.filled();
                self
            }

            /// Sets the customer's date of birth, as `YYYY-MM-DD`.
            pub fn with_date_of_birth(mut self, date: impl OptionalText) -> Self {
                self.details.contact.date_of_birth = date.filled();
                self
            }

            /// Sets the coupon that the customer used.
            pub fn with_coupon(mut self, coupon: impl OptionalText) -> Self {
                self.details.coupon = coupon.filled();
                self
            }

            /// Adds a tag, for platforms that keep tags of customers.
            pub fn with_tag(mut self, tag: impl OptionalText) -> Self {
                self.details.tags.extend(tag.filled());
                self
            }

            /// Sets the URL of the landing, by which some platforms tell several links of one
            /// partner apart.
            pub fn with_referral_url(mut self, url: impl OptionalText) -> Self {
                self.details.referral_url = url.filled();
                self
            }

            /// Sets the platform's ID of the campaign.
            pub fn with_campaign(mut self, campaign: impl OptionalText) -> Self {
                self.details.campaign = campaign.filled();
                self
            }

            /// Sets what the platform calls such an event where it isn't the usual one: Partnac's
            /// conversion type, Partnero's action.
            pub fn with_action(mut self, action: impl OptionalText) -> Self {
                self.details.action = action.filled();
                self
            }

            /// Sets the visitor's IP address, for platforms whose fraud checks want it.
            pub fn with_ip(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
                self.details.ip = ip.into();
                self
            }

            /// Sets the visitor's browser, for platforms whose fraud checks want it.
            pub fn with_user_agent(mut self, user_agent: impl OptionalText) -> Self {
                self.details.user_agent = user_agent.filled();
                self
            }

            /// Adds a fact of your own, of any JSON type, for platforms that keep metadata.
            pub fn with_metadata(
                mut self,
                name: impl Into<String>,
                value: impl Into<Value>,
            ) -> Self {
                self.details.metadata.insert(name.into(), value.into());
                self
            }

            /// Returns e-mail address, name and date of birth.
            #[must_use]
            pub fn contact(&self) -> &Contact {
                &self.details.contact
            }

            /// Returns who is credited.
            #[must_use]
            pub fn credit(&self) -> Option<&Credit> {
                self.details.credit()
            }

            /// Returns the coupon.
            #[must_use]
            pub fn coupon(&self) -> Option<&str> {
                self.details.coupon.as_deref()
            }

            /// Returns the tags.
            #[must_use]
            pub fn tags(&self) -> &[String] {
                &self.details.tags
            }

            /// Returns the URL of the landing.
            #[must_use]
            pub fn referral_url(&self) -> Option<&str> {
                self.details.referral_url.as_deref()
            }

            /// Returns the campaign.
            #[must_use]
            pub fn campaign(&self) -> Option<&str> {
                self.details.campaign.as_deref()
            }

            /// Returns what the platform calls such an event, where that was set.
            #[must_use]
            pub fn action(&self) -> Option<&str> {
                self.details.action.as_deref()
            }

            /// Returns the visitor's IP address.
            #[must_use]
            pub fn ip(&self) -> Option<IpAddr> {
                self.details.ip
            }

            /// Returns the visitor's browser.
            #[must_use]
            pub fn user_agent(&self) -> Option<&str> {
                self.details.user_agent.as_deref()
            }

            /// Returns the facts of the shop's own.
            #[must_use]
            pub fn metadata(&self) -> &BTreeMap<String, Value> {
                &self.details.metadata
            }
        }
    };
}

pub(crate) use details_api;
