//! Polar: orders and refunds.

use http::HeaderMap;
use serde::Deserialize;
use time::OffsetDateTime;

use super::event::{Event, Link, MoneyBack, PaymentKind, checked};
use super::fields::{Fields, ShopFields, amounts, moment, money, share_of};
use super::json::{Lenient, Object, Pairs, Text};
use super::reason::Reason;
use super::settings::{common_settings, read_envelope};
use crate::signature::{Secrets, Verifier};
use crate::{ConfigError, WebhookError};

/// Checks and reads Polar's webhooks.
///
/// | event | becomes |
/// |---|---|
/// | `order.paid` | a payment; where nothing was paid, whose the subscription is |
/// | `refund.created`, `.updated` | a refund once it succeeded, or its failure |
/// | any other, `order.refunded` among them | nothing |
///
/// The net is without tax. The signature's headers are those of Standard Webhooks, and its key is the
/// whole secret as it is shown, `polar_whs_` included.
#[derive(Clone, Debug)]
pub struct Webhook {
    verifier: Verifier,
    fields: Fields,
}

impl Webhook {
    /// Creates a reader of the webhooks that are signed with this secret.
    ///
    /// # Errors
    ///
    /// The secret is empty.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Ok(Self {
            verifier: Verifier::new(Secrets::new(secret.as_ref())?),
            fields: Fields::default(),
        })
    }

    common_settings!();

    /// Checks and reads a webhook. `body` is the body byte for byte as it came.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed by one of the secrets, isn't recent, is longer than 1 MiB, or isn't an
    /// event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, WebhookError> {
        self.verifier.verify_standard(headers, body)?;
        self.parse(body)
    }

    /// Reads an event that was checked before, for instance by a queue in front of the service.
    ///
    /// # Errors
    ///
    /// The body is longer than 1 MiB, or isn't an event.
    pub fn parse(&self, body: &[u8]) -> Result<Event, WebhookError> {
        let envelope: Envelope = read_envelope(body)?;
        let Some(name) = envelope.name.text() else {
            return Err(WebhookError::Unreadable);
        };
        let nothing = Data::default();
        let data = envelope.data.get().unwrap_or(&nothing);
        let at = envelope.timestamp.text().and_then(moment);
        let event = match name {
            "order.paid" => self.order(data, at),
            "order.created" | "order.updated" | "order.refunded" => Err(Reason::ReportedElsewhere),
            "refund.created" | "refund.updated" => refund(data, at),
            _ => Err(Reason::OtherType),
        };
        Ok(event.unwrap_or_else(Event::Ignored))
    }

    fn order(&self, it: &Data, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
        let id = it.id.text().ok_or(Reason::Incomplete)?;
        let of = it.subscription.get();
        let payer = it.customer.get();
        let fields = self.fields.read([
            it.metadata.pairs(),
            of.and_then(|subscription| subscription.metadata.pairs()),
            payer.and_then(|customer| customer.metadata.pairs()),
        ])?;
        let tax = it.tax_amount.or_zero();
        // Older orders have `amount`, the net, and no total.
        let total = it.total_amount.0;
        let total = total.or_else(|| Some(it.net_amount.0.or(it.amount.0)? + tax));
        let total = total.ok_or(Reason::Incomplete)?;
        let net = it.net_amount.0.unwrap_or(total - tax);
        // Below zero a balance paid of it; above, a debt was paid along, which is no part of the order.
        let paid = total + it.applied_balance_amount.or_zero().min(0);
        let amounts = amounts(paid, share_of(net, paid, total), None, it.currency.text());
        let subscription = it.subscription_id.text();
        let subscription = subscription.or_else(|| of.and_then(|of| of.id.text()));
        let kind = match (it.billing_reason.text(), subscription) {
            (Some("subscription_create"), _) => PaymentKind::First,
            (Some("subscription_cycle"), _) => PaymentKind::Renewal,
            (Some("purchase"), _) | (_, None) => PaymentKind::OneTime,
            (_, Some(_)) => PaymentKind::Change,
        };
        let external = payer.and_then(|customer| customer.external_id.text());
        let external = external.filter(|id| checked(id).is_ok()).map(str::to_owned);
        let fields = ShopFields {
            customer: fields.customer.or(external),
            order: fields.order.filter(|_| !kind.is_subscription()),
            ..fields
        };
        let subscription = subscription.map(|id| Link::new(POLAR, "subscription", id));
        let payer_id = it.customer_id.text();
        let payer_id = payer_id.or_else(|| payer.and_then(|customer| customer.id.text()));
        let payer = payer_id.map(|id| Link::new(POLAR, "customer", id));
        if amounts == Err(Reason::NothingPaid) {
            return fields.unpaid(subscription.filter(|_| kind.is_subscription()), payer);
        }
        let payment = fields.payment(id, order_link(id), amounts?)?;
        let mut payment = payment.with_kind(kind);
        payment.subscription = subscription;
        payment.payer = payer;
        payment.paid_at = at.or_else(|| it.created_at.text().and_then(moment));
        Ok(payment.into())
    }
}

const POLAR: &str = "polar";

fn order_link(id: &str) -> Link {
    Link::new(POLAR, "order", id)
}

fn refund(it: &Data, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
    let id = it.id.text().ok_or(Reason::Incomplete)?;
    let order = it.order_id.text().ok_or(Reason::Incomplete)?;
    let net = it.amount.0.ok_or(Reason::Incomplete)?;
    let gross = net + it.tax_amount.or_zero();
    let back = MoneyBack::new(
        id,
        order_link(order),
        money(gross, None, it.currency.text())?,
    );
    let back = back.map_err(|_| Reason::InvalidId)?;
    let back = back
        .with_net(money(net, None, it.currency.text())?)
        .with_time(at);
    match it.status.text() {
        Some("pending") => Err(Reason::NotApproved),
        Some("succeeded") => Ok(Event::Refunded(back.with_stage(1))),
        Some("failed" | "canceled") => Ok(Event::RefundFailed(back.with_stage(2))),
        Some(_) => Err(Reason::UnknownState),
        None => Err(Reason::Incomplete),
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default, rename = "type")]
    name: Lenient<Text>,
    #[serde(default)]
    timestamp: Lenient<Text>,
    #[serde(default)]
    data: Lenient<Object<Data>>,
}

/// An order or a refund.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    amount: Lenient<i64>,
    applied_balance_amount: Lenient<i64>,
    billing_reason: Lenient<Text>,
    created_at: Lenient<Text>,
    currency: Lenient<Text>,
    customer: Lenient<Object<Owner>>,
    customer_id: Lenient<Text>,
    id: Lenient<Text>,
    metadata: Lenient<Pairs>,
    net_amount: Lenient<i64>,
    order_id: Lenient<Text>,
    status: Lenient<Text>,
    subscription: Lenient<Object<Owner>>,
    subscription_id: Lenient<Text>,
    tax_amount: Lenient<i64>,
    total_amount: Lenient<i64>,
}

/// A customer or a subscription.
#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    external_id: Lenient<Text>,
    #[serde(default)]
    id: Lenient<Text>,
    #[serde(default)]
    metadata: Lenient<Pairs>,
}
