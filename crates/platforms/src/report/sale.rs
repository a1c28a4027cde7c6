//! An order was paid, and what changed about it later.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tower_referral::Referral;

use super::details::{Details, details_api};
use super::text::optional;
use super::{Contact, Credit, Id, InvalidId, Money, OptionalText, SignUp};

/// An order was paid.
///
/// ```
/// use tower_referral::Referral;
/// use tower_referral_platforms::{Money, Sale};
///
/// # fn paid(referral: Option<&Referral>) -> Result<Sale, Box<dyn std::error::Error>> {
/// let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?
///     .referral(referral)
///     .with_coupon("SUMMER");
/// # Ok(sale)
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct Sale {
    order: Id,
    customer: Id,
    amount: Money,
    /// Of a customer who never signed up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    guest: bool,
    /// A payment of a subscription.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    subscription: bool,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    interval: Option<String>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    product: Option<String>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    product_type: Option<String>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    commission_type: Option<String>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    paid_at: Option<OffsetDateTime>,
    #[serde(flatten)]
    pub(crate) details: Details,
}

impl Sale {
    /// Creates the sale of an order to a customer whose sign-up was reported before.
    ///
    /// # Errors
    ///
    /// The order or the customer isn't an ID: see [`InvalidId`].
    pub fn new(
        order: impl fmt::Display,
        customer: impl fmt::Display,
        amount: Money,
    ) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            customer: Id::new(customer)?,
            amount,
            guest: false,
            subscription: false,
            interval: None,
            product: None,
            product_type: None,
            commission_type: None,
            paid_at: None,
            details: Details::default(),
        })
    }

    /// Creates the sale of an order to a customer who never signed up: a guest checkout. Whoever
    /// the sign-up credits is credited with the sale; the sign-up needs no report of its own.
    ///
    /// # Errors
    ///
    /// The order isn't an ID, or the sign-up has no customer's ID: see [`InvalidId`].
    pub fn guest(
        order: impl fmt::Display,
        customer: SignUp,
        amount: Money,
    ) -> Result<Self, InvalidId> {
        let id = customer.customer_id().cloned().ok_or(InvalidId)?;
        Ok(Self {
            guest: true,
            details: customer.details,
            ..Self::new(order, String::from(id), amount)?
        })
    }

    /// Marks it as a payment of a subscription, the first one or a renewal. The interval is for
    /// instance `month` or `year`, for platforms that want it.
    pub fn with_subscription(mut self, interval: impl OptionalText) -> Self {
        self.subscription = true;
        self.interval = interval.filled();
        self
    }

    /// Sets what was sold, by the shop's ID of it.
    pub fn with_product(mut self, product: impl OptionalText) -> Self {
        self.product = product.filled();
        self
    }

    /// Sets what kind of thing was sold, for instance `monthly`.
    pub fn with_product_type(mut self, kind: impl OptionalText) -> Self {
        self.product_type = kind.filled();
        self
    }

    /// Sets the platform's name of the commission that the sale earns, where it has several.
    pub fn with_commission_type(mut self, kind: impl OptionalText) -> Self {
        self.commission_type = kind.filled();
        self
    }

    /// Sets when the order was paid.
    pub fn with_paid_at(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.paid_at = at.into();
        self
    }

    /// Returns the order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// Returns the customer's ID.
    #[must_use]
    pub fn customer(&self) -> &str {
        self.customer.as_str()
    }

    /// Returns what was paid.
    #[must_use]
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Returns `true` if the customer never signed up.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.guest
    }

    /// Returns `true` if it is a payment of a subscription.
    #[must_use]
    pub fn is_subscription(&self) -> bool {
        self.subscription
    }

    /// Returns the subscription's interval.
    #[must_use]
    pub fn interval(&self) -> Option<&str> {
        self.interval.as_deref()
    }

    /// Returns the product.
    #[must_use]
    pub fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// Returns the kind of product.
    #[must_use]
    pub fn product_type(&self) -> Option<&str> {
        self.product_type.as_deref()
    }

    /// Returns the platform's name of the commission.
    #[must_use]
    pub fn commission_type(&self) -> Option<&str> {
        self.commission_type.as_deref()
    }

    /// Returns when the order was paid, where that was set.
    #[must_use]
    pub fn paid_at(&self) -> Option<OffsetDateTime> {
        self.paid_at
    }

    pub(crate) fn amount_ref(&self) -> &Money {
        &self.amount
    }

    pub(super) fn ids(&self) -> (&Id, &Id) {
        (&self.order, &self.customer)
    }
}

details_api!(Sale);

/// Shows the order and the amount, and nothing of the customer.
impl fmt::Debug for Sale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sale")
            .field("order", &self.order)
            .field("amount", &self.amount)
            .field("has_credit", &self.credit().is_some())
            .finish_non_exhaustive()
    }
}

/// Something about an order that was reported has changed, for platforms that take changes
/// (Partnac, Tapfiliate).
///
/// ```
/// use tower_referral_platforms::{Money, SaleUpdate};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let update = SaleUpdate::new("ORDER-1", "correction-1")?
///     .with_amount(Money::new("89.99", "EUR")?)
///     .recalculate_commissions();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct SaleUpdate {
    order: Id,
    update: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new_order: Option<Id>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    recalculate_commissions: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, Value>,
}

impl SaleUpdate {
    /// Creates a change of an order, without anything that changes yet. The update's own ID tells
    /// several changes of one order apart.
    ///
    /// # Errors
    ///
    /// The order or the update isn't an ID: see [`InvalidId`].
    pub fn new(order: impl fmt::Display, update: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            update: Id::new(update)?,
            amount: None,
            new_order: None,
            recalculate_commissions: false,
            metadata: BTreeMap::new(),
        })
    }

    /// Sets the right amount.
    pub fn with_amount(mut self, amount: Money) -> Self {
        self.amount = Some(amount);
        self
    }

    /// Gives the order another ID.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn with_new_order(mut self, order: impl fmt::Display) -> Result<Self, InvalidId> {
        self.new_order = Some(Id::new(order)?);
        Ok(self)
    }

    /// Adds a fact, or replaces one.
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Asks for commissions to be worked out again.
    pub fn recalculate_commissions(mut self) -> Self {
        self.recalculate_commissions = true;
        self
    }

    /// Returns the order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// Returns the update's ID.
    #[must_use]
    pub fn update(&self) -> &str {
        self.update.as_str()
    }

    /// Returns the right amount, where it changes.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        self.amount
    }

    /// Returns the order's new ID, where it changes.
    #[must_use]
    pub fn new_order(&self) -> Option<&str> {
        self.new_order.as_ref().map(Id::as_str)
    }

    /// Returns `true` if commissions are to be worked out again.
    #[must_use]
    pub fn recalculates_commissions(&self) -> bool {
        self.recalculate_commissions
    }

    /// Returns the facts that are added or replaced.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    pub(super) fn ids(&self) -> (&Id, &Id) {
        (&self.order, &self.update)
    }
}

/// Shows the order and the amount.
impl fmt::Debug for SaleUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaleUpdate")
            .field("order", &self.order)
            .field("amount", &self.amount)
            .field("recalculate_commissions", &self.recalculate_commissions)
            .finish_non_exhaustive()
    }
}
