//! Paddle Billing: transactions and adjustments.

use http::HeaderMap;
use serde::Deserialize;
use time::OffsetDateTime;

use super::event::{Event, Link, MoneyBack, PaymentKind};
use super::fields::{Fields, ShopFields, amounts, moment, money, share_of};
use super::json::{Lenient, List, Object, Pairs, Text};
use super::reason::Reason;
use super::settings::{common_settings, read_envelope};
use crate::signature::{PairScheme, Secrets, Verifier};
use crate::{ConfigError, WebhookError};

const SIGNATURE: PairScheme = PairScheme {
    header: "paddle-signature",
    separator: ';',
    timestamp: "ts",
    signature: "h1",
    joint: b":",
};

/// Checks and reads Paddle Billing's webhooks.
///
/// | event | becomes |
/// |---|---|
/// | `transaction.completed` | a payment; where nothing was paid, whose the subscription is |
/// | `adjustment.created`, `.updated` | by its `action`: an approved `refund`, or one that was reversed; a `chargeback`, or its reverse |
/// | any other | nothing |
///
/// The net is without tax. The sandbox has secrets of its own, so its events fail the signature.
#[derive(Clone, Debug)]
pub struct Webhook {
    verifier: Verifier,
    fields: Fields,
}

impl Webhook {
    /// Creates a reader of the webhooks that are signed with this secret (`pdl_ntfset_…`).
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
        self.verifier.verify_pairs(&SIGNATURE, headers, body)?;
        self.parse(body)
    }

    /// Reads an event that was checked before, for instance by a queue in front of the service.
    ///
    /// # Errors
    ///
    /// The body is longer than 1 MiB, or isn't an event.
    pub fn parse(&self, body: &[u8]) -> Result<Event, WebhookError> {
        let envelope: Envelope = read_envelope(body)?;
        let Some(name) = envelope.event_type.text() else {
            return Err(WebhookError::Unreadable);
        };
        let nothing = Data::default();
        let data = envelope.data.get().unwrap_or(&nothing);
        let at = envelope.occurred_at.text().and_then(moment);
        let event = match name {
            "transaction.completed" => self.transaction(data, at),
            "transaction.paid" => Err(Reason::ReportedElsewhere),
            "adjustment.created" | "adjustment.updated" => adjustment(data, at),
            _ => Err(Reason::OtherType),
        };
        Ok(event.unwrap_or_else(Event::Ignored))
    }

    fn transaction(&self, it: &Data, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
        let id = it.id.text().ok_or(Reason::Incomplete)?;
        let fields = self.fields.read([it.custom_data.pairs()])?;
        let details = it.details.get().and_then(|details| details.totals.get());
        let totals = details.ok_or(Reason::Incomplete)?;
        let total = totals.total.0.ok_or(Reason::Incomplete)?;
        let paid = totals.grand_total.0.unwrap_or(total);
        let net = share_of(total - totals.tax.or_zero(), paid, total);
        let currency = it.currency_code.text().or(totals.currency_code.text());
        let amounts = amounts(paid, net, None, currency);
        let origin = it.origin.text().unwrap_or_default();
        let is_recurring = it.items.iter().any(|Object(item)| {
            let price = item.price.get();
            price.is_some_and(|price| price.billing_cycle.0.is_some())
        });
        let subscription = it.subscription_id.text();
        let kind = match (origin, subscription) {
            ("subscription_recurring", _) => PaymentKind::Renewal,
            (origin, _) if origin.starts_with("subscription_") => PaymentKind::Change,
            (_, Some(_)) => PaymentKind::First,
            (_, None) if is_recurring => PaymentKind::First,
            (_, None) => PaymentKind::OneTime,
        };
        let fields = if kind.is_subscription() {
            ShopFields {
                order: None,
                ..fields
            }
        } else {
            fields
        };
        let subscription = subscription.map(|id| Link::new(PADDLE, "subscription", id));
        let payer = it.customer_id.text();
        let payer = payer.map(|id| Link::new(PADDLE, "customer", id));
        if amounts == Err(Reason::NothingPaid) {
            return fields.unpaid(subscription, payer);
        }
        let payment = fields.payment(id, transaction_link(id), amounts?)?;
        let mut payment = payment.with_kind(kind);
        payment.subscription = subscription;
        payment.payer = payer;
        payment.paid_at = it.billed_at.text().and_then(moment).or(at);
        Ok(payment.into())
    }
}

const PADDLE: &str = "paddle";

fn transaction_link(id: &str) -> Link {
    Link::new(PADDLE, "transaction", id)
}

fn adjustment(it: &Data, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
    let action = it.action.text().ok_or(Reason::Incomplete)?;
    match action {
        "refund" | "chargeback" | "chargeback_reverse" => {}
        // A warning that money may go; a credit towards what isn't paid yet.
        "chargeback_warning" | "chargeback_warning_reverse" | "credit" | "credit_reverse" => {
            return Err(Reason::NoMoneyMoves);
        }
        _ => return Err(Reason::UnknownState),
    }
    let id = it.id.text().ok_or(Reason::Incomplete)?;
    let transaction = it.transaction_id.text().ok_or(Reason::Incomplete)?;
    let totals = it.totals.get().ok_or(Reason::Incomplete)?;
    let total = totals.total.0.ok_or(Reason::Incomplete)?;
    let currency = it.currency_code.text().or(totals.currency_code.text());
    let net = match (totals.subtotal.0, totals.tax.0) {
        (Some(net), _) => Some(net),
        (None, Some(tax)) => Some(total - tax),
        (None, None) => None,
    };
    let net = net.map(|net| money(net, None, currency)).transpose()?;
    let gross = money(total, None, currency)?;
    let back = MoneyBack::new(id, transaction_link(transaction), gross);
    let back = back.map_err(|_| Reason::InvalidId)?;
    let back = back.with_net(net).with_time(at);
    let stage = |stage| back.clone().with_stage(stage);
    match (action, it.status.text()) {
        ("refund", Some("approved")) => Ok(Event::Refunded(stage(1))),
        ("refund", Some("rejected" | "reversed")) => Ok(Event::RefundFailed(stage(2))),
        ("chargeback", Some("approved") | None) => Ok(Event::Disputed(stage(1))),
        ("chargeback", Some("rejected" | "reversed")) => Ok(Event::DisputeWon(stage(2))),
        ("chargeback_reverse", Some("approved") | None) => {
            Ok(Event::DisputeWon(back.into_opposite()))
        }
        (_, Some("pending_approval")) => Err(Reason::NotApproved),
        (_, Some(_)) => Err(Reason::UnknownState),
        (_, None) => Err(Reason::Incomplete),
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    event_type: Lenient<Text>,
    #[serde(default)]
    occurred_at: Lenient<Text>,
    #[serde(default)]
    data: Lenient<Object<Data>>,
}

/// A transaction or an adjustment.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    action: Lenient<Text>,
    billed_at: Lenient<Text>,
    currency_code: Lenient<Text>,
    custom_data: Lenient<Pairs>,
    customer_id: Lenient<Text>,
    details: Lenient<Object<Details>>,
    id: Lenient<Text>,
    items: Lenient<List<Object<Item>>>,
    origin: Lenient<Text>,
    status: Lenient<Text>,
    subscription_id: Lenient<Text>,
    totals: Lenient<Object<Totals>>,
    transaction_id: Lenient<Text>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    totals: Lenient<Object<Totals>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Totals {
    currency_code: Lenient<Text>,
    grand_total: Lenient<i64>,
    subtotal: Lenient<i64>,
    tax: Lenient<i64>,
    total: Lenient<i64>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    price: Lenient<Object<Price>>,
}

#[derive(Deserialize)]
struct Price {
    #[serde(default)]
    billing_cycle: Lenient<Object<serde::de::IgnoredAny>>,
}
