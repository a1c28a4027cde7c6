//! Money went back, or came back after that.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::text::optional;
use super::{Id, InvalidId, Money, OptionalText};

/// All or a part of what was paid for an order went back.
///
/// Two refunds of one order under the same ID, or without one of the same amount, are duplicates:
/// give partial refunds the payment provider's ID.
///
/// ```
/// use tower_referral_platforms::{Money, Refund};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let all = Refund::whole("ORDER-1")?.with_reason("never arrived");
/// let some = Refund::part("ORDER-2", Money::new("5.00", "EUR")?)?.with_id("re_3MmlLrLkdIwHu7ix")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct Refund {
    order: Id,
    /// All of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// The refund's ID.
    #[serde(default, rename = "refund", skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sale_amount: Option<Money>,
    /// What went back of the order in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total_refunded: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer: Option<Id>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reverse_paid_earnings: Option<bool>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    refunded_at: Option<OffsetDateTime>,
}

impl Refund {
    /// Creates the refund of all that was paid for an order.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn whole(order: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            amount: None,
            id: None,
            sale_amount: None,
            total_refunded: None,
            customer: None,
            reason: None,
            reverse_paid_earnings: None,
            refunded_at: None,
        })
    }

    /// Creates the refund of a part of what was paid for an order: this much, no matter what went
    /// back before.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn part(order: impl fmt::Display, amount: Money) -> Result<Self, InvalidId> {
        Ok(Self {
            amount: Some(amount),
            ..Self::whole(order)?
        })
    }

    /// Sets the refund's own ID, which tells two refunds of one order apart.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn with_id(mut self, id: impl fmt::Display) -> Result<Self, InvalidId> {
        self.id = Some(Id::new(id)?);
        Ok(self)
    }

    /// Sets what the order was worth, for platforms that want the amount of a whole refund too.
    pub fn with_sale_amount(mut self, amount: impl Into<Option<Money>>) -> Self {
        self.sale_amount = amount.into();
        self
    }

    /// Sets what went back of the order in all, this refund included, as payment providers say it
    /// (Stripe: a charge's `amount_refunded`). Together with the [sale's
    /// amount](Self::with_sale_amount) it says what is left: a platform that takes back whole sales
    /// only does so once the parts make the whole, and one that lowers the sale's amount lowers it
    /// once, in whatever order the refunds arrive.
    pub fn with_total_refunded(mut self, amount: impl Into<Option<Money>>) -> Self {
        self.total_refunded = amount.into();
        self
    }

    /// Sets the customer, for platforms that want it with a refund.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn with_customer(mut self, customer: impl fmt::Display) -> Result<Self, InvalidId> {
        self.customer = Some(Id::new(customer)?);
        Ok(self)
    }

    /// Sets why the money went back.
    pub fn with_reason(mut self, reason: impl OptionalText) -> Self {
        self.reason = reason.filled();
        self
    }

    /// Sets whether partners give back what was paid out to them already; by default the platform
    /// decides.
    pub fn with_reverse_paid_earnings(mut self, reverse: impl Into<Option<bool>>) -> Self {
        self.reverse_paid_earnings = reverse.into();
        self
    }

    /// Sets when the money went back.
    pub fn with_refunded_at(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.refunded_at = at.into();
        self
    }

    /// Returns the order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// Returns how much went back; `None` is all of it.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        self.amount
    }

    /// Returns how much went back where that is known: the amount of a part, or what the order was
    /// worth.
    #[must_use]
    pub fn known_amount(&self) -> Option<Money> {
        self.amount.or(self.sale_amount)
    }

    /// Returns what the order was worth, where that was set.
    #[must_use]
    pub fn sale_amount(&self) -> Option<Money> {
        self.sale_amount
    }

    /// Returns what went back of the order in all, where that was set.
    #[must_use]
    pub fn total_refunded(&self) -> Option<Money> {
        self.total_refunded
    }

    /// Returns what is left of the order after this refund, where that is known: nothing after a
    /// whole one, and otherwise the sale's amount without the total refunded.
    #[must_use]
    pub fn left(&self) -> Option<Money> {
        let sale = self.sale_amount?;
        let refunded = match (self.amount, self.total_refunded) {
            (None, _) => sale,
            (Some(_), Some(total)) => total,
            // One part that is all of it.
            (Some(amount), None) if amount >= sale => sale,
            (Some(_), None) => return None,
        };
        if refunded >= sale {
            return sale.checked_sub(&sale);
        }
        sale.checked_sub(&refunded)
    }

    /// Returns `true` if nothing is left of the order: it is a whole refund, or the part that makes
    /// the whole.
    #[must_use]
    pub fn completes_whole(&self) -> bool {
        self.amount.is_none() || self.left().is_some_and(|left| left.is_zero())
    }

    /// Returns the refund's ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(Id::as_str)
    }

    /// Returns the customer's ID.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        self.customer.as_ref().map(Id::as_str)
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns whether partners give back what was paid out to them already, where that was set.
    #[must_use]
    pub fn reverse_paid_earnings(&self) -> Option<bool> {
        self.reverse_paid_earnings
    }

    /// Returns when the money went back, where that was set.
    #[must_use]
    pub fn refunded_at(&self) -> Option<OffsetDateTime> {
        self.refunded_at
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        (&self.order, self.id.as_ref(), self.amount)
    }
}

/// Order, the refund's ID and the amount.
pub(super) type Parts<'r> = (&'r Id, Option<&'r Id>, Option<Money>);

/// Shows the order and the amount.
impl fmt::Debug for Refund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refund")
            .field("order", &self.order)
            .field("amount", &self.amount)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A refund was taken back: a dispute was won, or a refund failed. It gives commission back.
///
/// How much of the order is left then is for platforms that set the sale's amount: what was taken back
/// before may have been a part, or all of it, or may never have reached the platform.
///
/// ```
/// use tower_referral_platforms::{Money, RefundReversal};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 60 of 100 euros went back, then the other 40; the second refund failed.
/// let euros = |amount| Money::new(amount, "EUR");
/// let reversal = RefundReversal::part("ORDER-1", euros("40")?)?
///     .with_refund("re_2")?
///     .with_sale_amount(euros("100")?)
///     .with_total_refunded(euros("60")?);
/// assert_eq!(reversal.left(), Some(euros("40")?));
/// assert!(reversal.reverses_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct RefundReversal {
    order: Id,
    /// All of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// The ID of the refund that is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refund: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sale_amount: Option<Money>,
    /// What is still refunded of the order in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total_refunded: Option<Money>,
    #[serde(
        default,
        deserialize_with = "optional",
        skip_serializing_if = "Option::is_none"
    )]
    reason: Option<String>,
}

impl RefundReversal {
    /// Creates the reversal of a refund of all that was paid for an order.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn whole(order: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            amount: None,
            refund: None,
            sale_amount: None,
            total_refunded: None,
            reason: None,
        })
    }

    /// Creates the reversal of a refund of this much.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn part(order: impl fmt::Display, amount: Money) -> Result<Self, InvalidId> {
        Ok(Self {
            amount: Some(amount),
            ..Self::whole(order)?
        })
    }

    /// Sets the ID of the refund that is taken back.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn with_refund(mut self, refund: impl fmt::Display) -> Result<Self, InvalidId> {
        self.refund = Some(Id::new(refund)?);
        Ok(self)
    }

    /// Sets what the order was worth, as in [`Refund::with_sale_amount`].
    pub fn with_sale_amount(mut self, amount: impl Into<Option<Money>>) -> Self {
        self.sale_amount = amount.into();
        self
    }

    /// Sets what is still refunded of the order in all, after this reversal; of a reversal of the
    /// whole that is nothing. Together with the [sale's amount](Self::with_sale_amount) it says what is
    /// [left](Self::left).
    pub fn with_total_refunded(mut self, amount: impl Into<Option<Money>>) -> Self {
        self.total_refunded = amount.into();
        self
    }

    /// Sets why.
    pub fn with_reason(mut self, reason: impl OptionalText) -> Self {
        self.reason = reason.filled();
        self
    }

    /// Returns the order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// Returns how much comes back; `None` is all of it.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        self.amount
    }

    /// Returns what the order was worth, where that was set.
    #[must_use]
    pub fn sale_amount(&self) -> Option<Money> {
        self.sale_amount
    }

    /// Returns what is still refunded of the order in all, where that was set.
    #[must_use]
    pub fn total_refunded(&self) -> Option<Money> {
        self.total_refunded
    }

    /// Returns what is left of the order after this reversal, where that is known: all of it after that
    /// of the whole, and otherwise the sale's amount without the total refunded. `None` also where that
    /// total is more than the sale's amount, or in another currency.
    #[must_use]
    pub fn left(&self) -> Option<Money> {
        match self.amount {
            None => self.sale_amount,
            Some(_) => self.sale_amount?.checked_sub(&self.total_refunded?),
        }
    }

    /// Returns `true` if nothing was left of the order before this reversal, as far as that is known: it
    /// is that of the whole, or no more is left than comes back.
    #[must_use]
    pub fn reverses_whole(&self) -> bool {
        match self.amount {
            None => true,
            Some(amount) => self.left().is_some_and(|left| left <= amount),
        }
    }

    /// Returns the ID of the refund that is taken back.
    #[must_use]
    pub fn refund(&self) -> Option<&str> {
        self.refund.as_ref().map(Id::as_str)
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        (&self.order, self.refund.as_ref(), self.amount)
    }
}

/// Shows the order and the amount.
impl fmt::Debug for RefundReversal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefundReversal")
            .field("order", &self.order)
            .field("amount", &self.amount)
            .field("refund", &self.refund)
            .finish_non_exhaustive()
    }
}
