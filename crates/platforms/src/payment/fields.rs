//! What the shop puts into a payment at checkout, and under which names.

use std::collections::BTreeMap;

#[cfg(any(feature = "paddle", feature = "polar"))]
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::event::{Event, Link, Payment, PaymentLink, checked};
use super::reason::Reason;
use crate::Money;

/// The names under which the shop puts its IDs into a payment's metadata (Paddle: `custom_data`).
///
/// ```
/// use tower_referral_platforms::payment::Fields;
///
/// let fields = Fields::default().with_customer("user_id").with_order("order_id");
/// ```
#[derive(Clone, Debug)]
pub struct Fields {
    customer: String,
    order: String,
    referral: String,
    coupon: Option<String>,
}

/// `customer`, `order` and `referral`; no coupon.
impl Default for Fields {
    fn default() -> Self {
        Self {
            customer: "customer".to_owned(),
            order: "order".to_owned(),
            referral: "referral".to_owned(),
            coupon: None,
        }
    }
}

impl Fields {
    /// Sets the name of the shop's ID of the customer.
    #[must_use]
    pub fn with_customer(mut self, name: impl Into<String>) -> Self {
        self.customer = name.into();
        self
    }

    /// Sets the name of the shop's ID of a one-time order.
    #[must_use]
    pub fn with_order(mut self, name: impl Into<String>) -> Self {
        self.order = name.into();
        self
    }

    /// Sets the name of the carry token.
    #[must_use]
    pub fn with_referral(mut self, name: impl Into<String>) -> Self {
        self.referral = name.into();
        self
    }

    /// Sets the name of a coupon that is to be reported with the sale. By default there is none: a
    /// platform that has no place for a coupon refuses the sale.
    #[must_use]
    pub fn with_coupon(mut self, name: impl Into<String>) -> Self {
        self.coupon = Some(name.into());
        self
    }

    /// Reads what the shop put into the first of these that has anything of it.
    pub(super) fn read<'m>(
        &self,
        metadata: impl IntoIterator<Item = Option<&'m BTreeMap<String, Option<String>>>>,
    ) -> Result<ShopFields, Reason> {
        let mut fields = ShopFields::default();
        for pairs in metadata.into_iter().flatten() {
            let value =
                |known: Option<String>, name: &str| known.or_else(|| pairs.get(name)?.clone());
            let is_unreadable = |name: &str| pairs.get(name).is_some_and(Option::is_none);
            if is_unreadable(&self.customer) || is_unreadable(&self.order) {
                return Err(Reason::InvalidId);
            }
            fields.customer = value(fields.customer, &self.customer);
            fields.order = value(fields.order, &self.order);
            fields.referral = value(fields.referral, &self.referral);
            if let Some(name) = &self.coupon {
                fields.coupon = value(fields.coupon, name);
            }
        }
        for id in [&fields.customer, &fields.order].into_iter().flatten() {
            checked(id).map_err(|_| Reason::InvalidId)?;
        }
        Ok(fields)
    }
}

/// What the shop put into a payment.
#[derive(Default)]
pub(super) struct ShopFields {
    pub(super) customer: Option<String>,
    pub(super) order: Option<String>,
    pub(super) referral: Option<String>,
    pub(super) coupon: Option<String>,
}

impl ShopFields {
    #[cfg(feature = "stripe")]
    pub(super) fn is_empty(&self) -> bool {
        self.customer.is_none() && self.order.is_none() && self.referral.is_none()
    }

    /// Returns the payment with this link. `id` is its order where the shop gave none.
    pub(super) fn payment(
        self,
        id: &str,
        link: Link,
        (gross, net): (Money, Money),
    ) -> Result<Payment, Reason> {
        let order = self.order.as_deref().unwrap_or(id);
        let payment = Payment::new(order, link, gross, net);
        let mut payment = payment.map_err(|_| Reason::InvalidId)?;
        payment.is_own_order = self.order.is_some();
        payment.customer = self.customer;
        payment.referral_token = self.referral;
        payment.coupon = self.coupon;
        Ok(payment)
    }

    /// Returns whose subscription it is of which nothing is paid yet: a token that came with a trial
    /// may have expired when the first payment comes.
    pub(super) fn unpaid(
        self,
        subscription: Option<Link>,
        payer: Option<Link>,
    ) -> Result<Event, Reason> {
        let says_nothing = self.customer.is_none() && self.referral.is_none();
        if subscription.is_none() || says_nothing {
            return Err(Reason::NothingPaid);
        }
        let link = PaymentLink::default().with_subscription(subscription);
        let mut link = link.with_payer(payer);
        link.customer = self.customer;
        link.referral_token = self.referral;
        Ok(link.into())
    }
}

/// Gross and net of a payment in the provider's unit, or why there is nothing to report.
pub(super) fn amounts(
    gross: i64,
    net: i64,
    decimals: Option<u8>,
    currency: Option<&str>,
) -> Result<(Money, Money), Reason> {
    if gross <= 0 || net <= 0 {
        return Err(Reason::NothingPaid);
    }
    let money = |units| money(units, decimals, currency);
    Ok((money(gross)?, money(net.min(gross))?))
}

/// An amount in the provider's unit; without decimals in the currency's minor unit.
pub(super) fn money(
    units: i64,
    decimals: Option<u8>,
    currency: Option<&str>,
) -> Result<Money, Reason> {
    let currency = currency.ok_or(Reason::Incomplete)?;
    let money = match decimals {
        Some(decimals) => Money::from_scaled(units, decimals, currency),
        None => Money::from_minor(units, currency),
    };
    money.map_err(|_| Reason::Incomplete)
}

/// Reads a moment by RFC 3339.
#[cfg(any(feature = "paddle", feature = "polar"))]
pub(super) fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// The part of the net that was paid: all of it, unless a credit paid the rest.
pub(super) fn share_of(net: i64, paid: i64, total: i64) -> i64 {
    if total <= 0 || paid >= total {
        return net;
    }
    let doubled = 2 * i128::from(net) * i128::from(paid) + i128::from(total);
    i64::try_from(doubled.div_euclid(2 * i128::from(total))).unwrap_or(net)
}
