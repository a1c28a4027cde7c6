//! A customer signed up, or cancelled a subscription.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tower_referral::Referral;

use super::details::{Details, details_api};
use super::id::escaped;
use super::text::optional;
use super::{Contact, Credit, Id, InvalidId, OptionalText};

/// A customer signed up.
///
/// ```
/// use tower_referral::Referral;
/// use tower_referral_platforms::{InvalidId, SignUp};
///
/// fn welcome(customer: u64, email: &str, referral: Option<&Referral>) -> Result<SignUp, InvalidId> {
///     Ok(SignUp::new(customer)?.with_email(email).referral(referral))
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct SignUp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer: Option<Id>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    signed_up_at: Option<OffsetDateTime>,
    #[serde(flatten)]
    pub(crate) details: Details,
}

impl SignUp {
    /// Creates the sign-up of the customer that the shop knows by this ID, the same through the
    /// customer's life.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn new(customer: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            customer: Some(Id::new(customer)?),
            signed_up_at: None,
            details: Details::default(),
        })
    }

    /// Creates the sign-up of a customer whom the shop knows by e-mail address only, at a platform
    /// that gives customers an ID of its own.
    ///
    /// # Errors
    ///
    /// The address is empty, longer than an ID, or has control characters.
    pub fn by_email(email: impl fmt::Display) -> Result<Self, InvalidId> {
        let email = Id::new(email)?;
        let sign_up = Self {
            customer: None,
            signed_up_at: None,
            details: Details::default(),
        };
        Ok(sign_up.with_email(email.as_str()))
    }

    /// Sets when the customer signed up.
    pub fn with_signed_up_at(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.signed_up_at = at.into();
        self
    }

    /// Returns the customer's ID, where there is one.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        self.customer.as_ref().map(Id::as_str)
    }

    /// Returns when the customer signed up, where that was set.
    #[must_use]
    pub fn signed_up_at(&self) -> Option<OffsetDateTime> {
        self.signed_up_at
    }

    /// `CUSTOMER`, or `:EMAIL` without one; escaped.
    pub(super) fn customer_key(&self) -> String {
        match &self.customer {
            Some(customer) => customer.escaped(),
            // No ID is empty, so this is none.
            None => format!(
                ":{}",
                escaped(self.details.contact.email.as_deref().unwrap_or_default())
            ),
        }
    }

    pub(super) fn customer_id(&self) -> Option<&Id> {
        self.customer.as_ref()
    }
}

details_api!(SignUp);

/// Shows whether there is credit, and nothing of the customer.
impl fmt::Debug for SignUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignUp")
            .field("has_credit", &self.credit().is_some())
            .finish_non_exhaustive()
    }
}

/// A customer ended a subscription, for platforms that show it to the partner.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct Cancellation {
    customer: Id,
    /// Which subscription, where a customer may have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscription: Option<Id>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    cancelled_at: Option<OffsetDateTime>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    reason: Option<String>,
    #[serde(flatten)]
    contact: Contact,
}

impl Cancellation {
    /// Creates the cancellation of a customer's subscription.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn new(customer: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            customer: Id::new(customer)?,
            subscription: None,
            cancelled_at: None,
            reason: None,
            contact: Contact::default(),
        })
    }

    /// Sets the subscription's ID, which tells several cancellations of one customer apart.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn with_subscription(mut self, id: impl fmt::Display) -> Result<Self, InvalidId> {
        self.subscription = Some(Id::new(id)?);
        Ok(self)
    }

    /// Sets when the subscription was cancelled.
    pub fn with_cancelled_at(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.cancelled_at = at.into();
        self
    }

    /// Sets why.
    pub fn with_reason(mut self, reason: impl OptionalText) -> Self {
        self.reason = reason.filled();
        self
    }

    /// Sets the customer's e-mail address, for platforms that know customers by it.
    pub fn with_email(mut self, email: impl OptionalText) -> Self {
        self.contact.email = email.filled();
        self
    }

    /// Returns the customer's ID.
    #[must_use]
    pub fn customer(&self) -> &str {
        self.customer.as_str()
    }

    /// Returns the subscription's ID.
    #[must_use]
    pub fn subscription(&self) -> Option<&str> {
        self.subscription.as_ref().map(Id::as_str)
    }

    /// Returns when the subscription was cancelled.
    #[must_use]
    pub fn cancelled_at(&self) -> Option<OffsetDateTime> {
        self.cancelled_at
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns how the customer can be reached.
    #[must_use]
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    pub(super) fn ids(&self) -> (&Id, Option<&Id>) {
        (&self.customer, self.subscription.as_ref())
    }
}

/// Shows nothing of the customer.
impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").finish_non_exhaustive()
    }
}
