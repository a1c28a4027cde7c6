//! The fields that are read of Stripe's objects, in old and new shapes.

use serde::Deserialize;

use super::links::{charge_link, payment_intent};
use crate::payment::event::Link;
use crate::payment::json::{Lenient, List, Object, Pairs, Text};

#[derive(Deserialize)]
pub(super) struct Envelope {
    #[serde(default, rename = "type")]
    pub(super) name: Lenient<Text>,
    #[serde(default)]
    pub(super) account: Lenient<Text>,
    #[serde(default)]
    pub(super) created: Lenient<i64>,
    #[serde(default)]
    pub(super) livemode: Lenient<bool>,
    #[serde(default)]
    pub(super) data: Lenient<Object<Data>>,
}

#[derive(Deserialize)]
pub(super) struct Data {
    #[serde(default)]
    pub(super) object: Lenient<Object<StripeObject>>,
}

/// Every field of every object that is read. An event says what it is about after the object, and
/// where two objects have a field of one name they mean the same by it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StripeObject {
    pub(super) amount: Lenient<i64>,
    pub(super) amount_details: Lenient<Object<AmountDetails>>,
    pub(super) amount_due: Lenient<i64>,
    pub(super) amount_paid: Lenient<i64>,
    pub(super) amount_received: Lenient<i64>,
    pub(super) amount_refunded: Lenient<i64>,
    pub(super) amount_total: Lenient<i64>,
    pub(super) billing_reason: Lenient<Text>,
    pub(super) charge: Lenient<Text>,
    pub(super) client_reference_id: Lenient<Text>,
    pub(super) currency: Lenient<Text>,
    pub(super) customer: Lenient<Text>,
    pub(super) id: Lenient<Text>,
    pub(super) invoice: Lenient<Text>,
    pub(super) latest_charge: Lenient<Text>,
    pub(super) lines: Lenient<Object<Page<Line>>>,
    pub(super) metadata: Lenient<Pairs>,
    pub(super) mode: Lenient<Text>,
    pub(super) paid_out_of_band: Lenient<bool>,
    pub(super) parent: Lenient<Object<Parent>>,
    pub(super) payment: Lenient<Object<PaidBy>>,
    pub(super) payment_intent: Lenient<Text>,
    pub(super) payment_status: Lenient<Text>,
    pub(super) payments: Lenient<Object<Page<InvoicePayment>>>,
    pub(super) shipping_cost: Lenient<Object<ShippingCost>>,
    pub(super) status: Lenient<Text>,
    pub(super) status_transitions: Lenient<Object<Moments>>,
    pub(super) subscription: Lenient<Text>,
    pub(super) subscription_details: Lenient<Object<SubscriptionDetails>>,
    pub(super) tax: Lenient<i64>,
    pub(super) total: Lenient<i64>,
    pub(super) total_details: Lenient<Object<TotalDetails>>,
    pub(super) total_excluding_tax: Lenient<i64>,
    pub(super) total_tax_amounts: Lenient<List<Object<Tax>>>,
    pub(super) total_taxes: Lenient<List<Object<Tax>>>,
}

#[derive(Deserialize)]
#[serde(bound = "T: serde::de::DeserializeOwned")]
pub(super) struct Page<T> {
    #[serde(default)]
    pub(super) data: Lenient<List<Object<T>>>,
}

#[derive(Deserialize)]
pub(super) struct Parent {
    #[serde(default)]
    pub(super) subscription_details: Lenient<Object<SubscriptionDetails>>,
    #[serde(default)]
    pub(super) subscription_item_details: Lenient<Object<SubscriptionDetails>>,
}

#[derive(Deserialize)]
pub(super) struct SubscriptionDetails {
    #[serde(default)]
    pub(super) metadata: Lenient<Pairs>,
    #[serde(default)]
    pub(super) subscription: Lenient<Text>,
}

#[derive(Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    pub(super) metadata: Lenient<Pairs>,
    #[serde(default)]
    pub(super) parent: Lenient<Object<Parent>>,
    #[serde(default)]
    pub(super) subscription: Lenient<Text>,
}

impl Line {
    pub(super) fn subscription(&self) -> Option<&str> {
        let parent = self.parent.get();
        let details = parent.and_then(|parent| parent.subscription_item_details.get());
        let details = details.and_then(|details| details.subscription.text());
        details.or(self.subscription.text())
    }
}

#[derive(Deserialize)]
pub(super) struct InvoicePayment {
    #[serde(default)]
    pub(super) payment: Lenient<Object<PaidBy>>,
}

#[derive(Deserialize)]
pub(super) struct PaidBy {
    #[serde(default)]
    pub(super) charge: Lenient<Text>,
    #[serde(default)]
    pub(super) payment_intent: Lenient<Text>,
}

impl PaidBy {
    pub(super) fn links(&self) -> impl Iterator<Item = Link> {
        let intent = self.payment_intent.text().map(payment_intent);
        intent
            .into_iter()
            .chain(self.charge.text().map(charge_link))
    }
}

#[derive(Deserialize)]
pub(super) struct TotalDetails {
    #[serde(default)]
    pub(super) amount_shipping: Lenient<i64>,
    #[serde(default)]
    pub(super) amount_tax: Lenient<i64>,
}

#[derive(Deserialize)]
pub(super) struct ShippingCost {
    #[serde(default)]
    pub(super) amount_tax: Lenient<i64>,
    #[serde(default)]
    pub(super) amount_total: Lenient<i64>,
}

#[derive(Deserialize)]
pub(super) struct AmountDetails {
    #[serde(default)]
    pub(super) shipping: Lenient<Object<Amount>>,
    #[serde(default)]
    pub(super) tax: Lenient<Object<Amount>>,
}

#[derive(Deserialize)]
pub(super) struct Amount {
    #[serde(default)]
    pub(super) amount: Lenient<i64>,
    #[serde(default)]
    pub(super) total_tax_amount: Lenient<i64>,
}

#[derive(Deserialize)]
pub(super) struct Moments {
    #[serde(default)]
    pub(super) paid_at: Lenient<i64>,
}

#[derive(Deserialize)]
pub(super) struct Tax {
    #[serde(default)]
    pub(super) amount: Lenient<i64>,
}
