//! Stripe: Checkout sessions, invoices, refunds and disputes, in the shapes before and since API
//! version 2025-03-31 (`basil`), which moved an invoice's subscription, payment intent and charge.

mod links;
mod objects;

use std::collections::BTreeSet;

use http::HeaderMap;
use time::OffsetDateTime;

use self::links::{charge_link, customer, invoice, payment_intent, session, subscription};
use self::objects::{Envelope, Line, PaidBy, StripeObject, Tax};
use crate::payment::event::{Event, Link, MoneyBack, PaymentKind, PaymentLink};
use crate::payment::fields::{Fields, ShopFields, amounts, money, share_of};
use crate::payment::json::{Lenient, List, Object};
use crate::payment::reason::Reason;
use crate::payment::settings::{common_settings, read_envelope};
use crate::signature::{PairScheme, Secrets, Verifier};
use crate::{ConfigError, WebhookError};

const SIGNATURE: PairScheme = PairScheme {
    header: "stripe-signature",
    separator: ',',
    timestamp: "t",
    signature: "v1",
    joint: b".",
};

/// Checks and reads Stripe's webhooks.
///
/// | event | becomes |
/// |---|---|
/// | `checkout.session.completed`, `….async_payment_succeeded` | a payment where `mode` is `payment` and it is paid; whose the subscription is where `mode` is `subscription` |
/// | `invoice.paid`, `invoice.payment_succeeded` | a payment; without a subscription only with the shop's own metadata; where nothing was paid, whose the subscription is |
/// | `invoice_payment.paid` | which payment intent paid which invoice |
/// | `payment_intent.succeeded` | a payment, if [switched on](Self::with_payment_intents) and with the shop's own metadata |
/// | `refund.created`, `.updated`, `.failed`, `charge.refund.updated` | a refund, or its failure |
/// | `charge.refunded` | all that was refunded so far: what refunds don't account for |
/// | `charge.dispute.*` | a dispute, won or lost; an inquiry moves no money, until funds are withdrawn |
/// | any other | nothing |
///
/// The net of a payment is without tax and shipping.
///
/// ```
/// use http::HeaderMap;
/// use tower_referral_platforms::payment::{Event, stripe::Webhook};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let webhook = Webhook::new("whsec_…")?;
/// let is_taken = |headers: &HeaderMap, body: &[u8]| webhook.read(headers, body).is_ok();
/// assert!(!is_taken(&HeaderMap::new(), b"{}"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Webhook {
    verifier: Verifier,
    fields: Fields,
    accounts: BTreeSet<String>,
    is_test: bool,
    with_shipping: bool,
    with_payment_intents: bool,
}

impl Webhook {
    /// Creates a reader of the webhooks that are signed with this secret (`whsec_…`, as the endpoint's
    /// page shows it).
    ///
    /// # Errors
    ///
    /// The secret is empty.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Ok(Self {
            verifier: Verifier::new(Secrets::new(secret.as_ref())?),
            fields: Fields::default(),
            accounts: BTreeSet::new(),
            is_test: false,
            with_shipping: false,
            with_payment_intents: false,
        })
    }

    common_settings!();

    /// Takes the events of test mode and ignores live ones, instead of the other way round.
    #[must_use]
    pub fn with_test_mode(mut self, is_test: bool) -> Self {
        self.is_test = is_test;
        self
    }

    /// Takes the events of this connected account (`acct_…`), too. Those of others are ignored.
    #[must_use]
    pub fn with_connected_account(mut self, account: impl Into<String>) -> Self {
        self.accounts.insert(account.into());
        self
    }

    /// Counts shipping for the commission.
    #[must_use]
    pub fn with_shipping(mut self, counts: bool) -> Self {
        self.with_shipping = counts;
        self
    }

    /// Takes `payment_intent.succeeded`, too: for a shop with payment pages of its own, which puts its
    /// metadata into the payment intent. One that belongs to an invoice is ignored, and one that
    /// belongs to a session is joined with it.
    #[must_use]
    pub fn with_payment_intents(mut self, takes: bool) -> Self {
        self.with_payment_intents = takes;
        self
    }

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
        let Some(name) = envelope.name.text() else {
            return Err(WebhookError::Unreadable);
        };
        if let Some(reason) = self.is_foreign(&envelope) {
            return Ok(Event::Ignored(reason));
        }
        let nothing = StripeObject::default();
        let data = envelope.data.get();
        let object = data.and_then(|data| data.object.get()).unwrap_or(&nothing);
        let at = envelope.created.0.and_then(at);
        Ok(self.event(name, object, at).unwrap_or_else(Event::Ignored))
    }

    fn is_foreign(&self, envelope: &Envelope) -> Option<Reason> {
        let is_live = envelope.livemode.0;
        match (is_live, self.is_test, envelope.account.text()) {
            (_, _, Some(account)) if !self.accounts.contains(account) => Some(Reason::OtherAccount),
            (Some(false), false, _) => Some(Reason::TestMode),
            (Some(true), true, _) => Some(Reason::LiveMode),
            _ => None,
        }
    }

    fn event(
        &self,
        name: &str,
        object: &StripeObject,
        at: Option<OffsetDateTime>,
    ) -> Result<Event, Reason> {
        match name {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
                self.session(object, at)
            }
            "checkout.session.async_payment_failed" | "checkout.session.expired" => {
                Err(Reason::NotPaid)
            }
            "invoice.paid" | "invoice.payment_succeeded" => self.invoice(object, at),
            "invoice_payment.paid" => invoice_payment(object),
            "payment_intent.succeeded" if self.with_payment_intents => {
                self.payment_intent(object, at)
            }
            "payment_intent.succeeded" => Err(Reason::PaymentIntentsOff),
            "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
                refund(object, at)
            }
            "charge.refunded" => charge(object, at),
            "charge.dispute.created"
            | "charge.dispute.updated"
            | "charge.dispute.closed"
            | "charge.dispute.funds_reinstated" => dispute(object, at),
            // Whatever the status, the money is gone.
            "charge.dispute.funds_withdrawn" => disputed(object, at).map(Event::Disputed),
            _ => Err(Reason::OtherType),
        }
    }

    fn session(&self, object: &StripeObject, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
        let mut fields = self.fields.read([object.metadata.pairs()])?;
        let token = object.client_reference_id.text().map(str::to_owned);
        fields.referral = fields.referral.or(token);
        match object.mode.text() {
            Some("payment") => {}
            Some("subscription") => {
                // The invoice is the payment; the session says whose it is.
                let mut link = PaymentLink::default()
                    .with_subscription(object.subscription.text().map(subscription))
                    .with_payer(object.customer.text().map(customer));
                link.customer = fields.customer;
                link.referral_token = fields.referral;
                return Ok(link.into());
            }
            Some(_) => return Err(Reason::NoMoneyMoves),
            None => return Err(Reason::Incomplete),
        }
        match object.payment_status.text() {
            Some("paid") => {}
            Some("no_payment_required") => return Err(Reason::NothingPaid),
            Some("unpaid") => return Err(Reason::NotPaid),
            Some(_) => return Err(Reason::UnknownState),
            None => return Err(Reason::Incomplete),
        }
        let gross = object.amount_total.0.ok_or(Reason::Incomplete)?;
        let details = object.total_details.get();
        let tax = details.map_or(0, |details| details.amount_tax.or_zero());
        let net = gross - tax - self.shipping(object);
        let id = object.id.text().ok_or(Reason::Incomplete)?;
        let mut links = vec![session(id)];
        links.extend(object.payment_intent.text().map(payment_intent));
        links.extend(object.invoice.text().map(invoice));
        // Without an order of the shop's, what the other events about this payment name, too.
        let invoice = object.invoice.text();
        let fallback = invoice.or(object.payment_intent.text()).unwrap_or(id);
        Self::payment(object, fields, fallback, links, (gross, net), at, None)
    }

    /// The shipping that doesn't count, without its tax.
    fn shipping(&self, object: &StripeObject) -> i64 {
        if self.with_shipping {
            return 0;
        }
        match (object.shipping_cost.get(), object.total_details.get()) {
            (Some(cost), _) => cost.amount_total.or_zero() - cost.amount_tax.or_zero(),
            (None, Some(details)) => details.amount_shipping.or_zero(),
            (None, None) => 0,
        }
    }

    fn invoice(&self, object: &StripeObject, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
        let parent = object.parent.get();
        let details = parent.and_then(|parent| parent.subscription_details.get());
        let details = details.or_else(|| object.subscription_details.get());
        let line = object.lines.get().and_then(|lines| {
            let mut lines = lines.data.iter().map(|Object(line)| line);
            lines.find(|line| line.subscription().is_some())
        });
        let of = details.and_then(|details| details.subscription.text());
        let of = of.or(object.subscription.text());
        let of = of.or_else(|| line.and_then(Line::subscription));
        let fields = self.fields.read([
            details.and_then(|details| details.metadata.pairs()),
            object.metadata.pairs(),
            line.and_then(|line| line.metadata.pairs()),
        ])?;
        if of.is_none() && fields.is_empty() {
            return Err(Reason::NotOurs);
        }
        let id = object.id.text().ok_or(Reason::Incomplete)?;
        let total = object
            .total
            .0
            .or(object.amount_paid.0)
            .ok_or(Reason::Incomplete)?;
        let paid = match object.amount_paid.0 {
            Some(0) if object.paid_out_of_band.0 == Some(true) => {
                object.amount_due.0.unwrap_or(total)
            }
            paid => paid.unwrap_or(total),
        };
        let taxes = |list: &Lenient<List<Object<Tax>>>| -> Option<i64> {
            let taxes = list.0.as_ref()?;
            Some(taxes.0.iter().map(|Object(tax)| tax.amount.or_zero()).sum())
        };
        let tax = taxes(&object.total_taxes)
            .or_else(|| taxes(&object.total_tax_amounts))
            .unwrap_or_else(|| object.tax.or_zero());
        let net = object.total_excluding_tax.0.unwrap_or(total - tax) - self.shipping(object);
        let mut links = vec![invoice(id)];
        links.extend(object.payment_intent.text().map(payment_intent));
        links.extend(object.charge.text().map(charge_link));
        for Object(paid) in object
            .payments
            .get()
            .iter()
            .flat_map(|list| list.data.iter())
        {
            links.extend(paid.payment.get().into_iter().flat_map(PaidBy::links));
        }
        let kind = match (of, object.billing_reason.text()) {
            (None, _) => PaymentKind::OneTime,
            (_, Some("subscription_create")) => PaymentKind::First,
            (_, Some("subscription_cycle")) => PaymentKind::Renewal,
            _ => PaymentKind::Change,
        };
        let amounts = (paid, share_of(net, paid, total));
        let paid_at = object.status_transitions.get();
        let paid_at = paid_at.and_then(|moments| moments.paid_at.0.and_then(self::at));
        let fields = if of.is_some() {
            ShopFields {
                order: None,
                ..fields
            }
        } else {
            fields
        };
        let of = of.map(subscription);
        let event = Self::payment(object, fields, id, links, amounts, paid_at.or(at), of)?;
        Ok(match event {
            Event::Payment(payment) => payment.with_kind(kind).into(),
            event => event,
        })
    }

    fn payment_intent(
        &self,
        object: &StripeObject,
        at: Option<OffsetDateTime>,
    ) -> Result<Event, Reason> {
        let fields = self.fields.read([object.metadata.pairs()])?;
        if object.invoice.text().is_some() {
            return Err(Reason::ReportedElsewhere);
        }
        if fields.is_empty() {
            return Err(Reason::NotOurs);
        }
        let id = object.id.text().ok_or(Reason::Incomplete)?;
        let gross = object.amount_received.0.or(object.amount.0);
        let gross = gross.ok_or(Reason::Incomplete)?;
        let details = object.amount_details.get();
        let tax = details.and_then(|details| details.tax.get()?.total_tax_amount.0);
        let shipping = details.and_then(|details| details.shipping.get()?.amount.0);
        let shipping = shipping.filter(|_| !self.with_shipping);
        let net = gross - tax.unwrap_or(0) - shipping.unwrap_or(0);
        let mut links = vec![payment_intent(id)];
        links.extend(object.latest_charge.text().map(charge_link));
        let event = Self::payment(object, fields, id, links, (gross, net), at, None)?;
        Ok(match event {
            Event::Payment(mut payment) => {
                payment.is_weak = true;
                payment.into()
            }
            event => event,
        })
    }

    fn payment(
        object: &StripeObject,
        fields: ShopFields,
        fallback: &str,
        links: Vec<Link>,
        (gross, net): (i64, i64),
        at: Option<OffsetDateTime>,
        subscription: Option<Link>,
    ) -> Result<Event, Reason> {
        let decimals = object.currency.text().map(decimals);
        let payer = object.customer.text().map(customer);
        let amounts = amounts(gross, net, decimals, object.currency.text());
        if amounts == Err(Reason::NothingPaid) {
            return fields.unpaid(subscription, payer);
        }
        let mut links = links.into_iter();
        let first = links.next().ok_or(Reason::Incomplete)?;
        let mut payment = fields.payment(fallback, first, amounts?)?;
        payment.links.extend(links);
        payment.decimals = decimals.unwrap_or(payment.decimals);
        payment.paid_at = at;
        payment.subscription = subscription;
        payment.payer = payer;
        Ok(payment.into())
    }
}

fn at(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// The decimals that Stripe writes amounts with. `ISK` and `UGX` have none and are written with two.
fn decimals(currency: &str) -> u8 {
    match &*currency.to_ascii_uppercase() {
        "BIF" | "CLP" | "DJF" | "GNF" | "JPY" | "KMF" | "KRW" | "MGA" | "PYG" | "RWF" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn invoice_payment(object: &StripeObject) -> Result<Event, Reason> {
    let id = object.invoice.text().ok_or(Reason::Incomplete)?;
    let mut links = vec![invoice(id)];
    links.extend(object.payment.get().into_iter().flat_map(PaidBy::links));
    links.extend(object.payment_intent.text().map(payment_intent));
    links.extend(object.charge.text().map(charge_link));
    if links.len() < 2 {
        // Paid by something that no refund comes from.
        return Err(Reason::NoMoneyMoves);
    }
    Ok(PaymentLink::of_payment(links).into())
}

fn money_back(object: &StripeObject, amount: i64, id: &str) -> Result<MoneyBack, Reason> {
    let currency = object.currency.text();
    let gross = money(amount, currency.map(decimals), currency)?;
    let intent = object.payment_intent.text().map(payment_intent);
    let links = intent
        .into_iter()
        .chain(object.charge.text().map(charge_link));
    let mut links = links.chain(object.invoice.text().map(invoice));
    let first = links.next().ok_or(Reason::Incomplete)?;
    let mut back = MoneyBack::new(id, first, gross).map_err(|_| Reason::InvalidId)?;
    back.links.extend(links);
    Ok(back)
}

fn refund(object: &StripeObject, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
    let id = object.id.text().ok_or(Reason::Incomplete)?;
    let amount = object.amount.0.ok_or(Reason::Incomplete)?;
    let mut back = money_back(object, amount, id)?.with_time(at);
    back.total = object.charge.text().map(str::to_owned);
    match object.status.text() {
        // Old refunds have no status, and are made.
        Some("pending") => Ok(Event::Refunded(back.with_stage(1))),
        Some("succeeded") | None => Ok(Event::Refunded(back.with_stage(2))),
        Some("failed" | "canceled") => Ok(Event::RefundFailed(back.with_stage(3))),
        Some("requires_action") => Err(Reason::NotApproved),
        Some(_) => Err(Reason::UnknownState),
    }
}

/// All that was refunded of a charge so far.
fn charge(object: &StripeObject, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
    let id = object.id.text().ok_or(Reason::Incomplete)?;
    let amount = object.amount_refunded.0.ok_or(Reason::Incomplete)?;
    let currency = object.currency.text();
    let gross = money(amount, currency.map(decimals), currency)?;
    let back = MoneyBack::new(id, charge_link(id), gross).map_err(|_| Reason::InvalidId)?;
    let mut back = back.with_time(at).into_total();
    back.links
        .extend(object.payment_intent.text().map(payment_intent));
    back.links.extend(object.invoice.text().map(invoice));
    Ok(Event::Refunded(back))
}

fn disputed(object: &StripeObject, at: Option<OffsetDateTime>) -> Result<MoneyBack, Reason> {
    let id = object.id.text().ok_or(Reason::Incomplete)?;
    let amount = object.amount.0.ok_or(Reason::Incomplete)?;
    Ok(money_back(object, amount, id)?.with_time(at))
}

fn dispute(object: &StripeObject, at: Option<OffsetDateTime>) -> Result<Event, Reason> {
    let back = disputed(object, at)?;
    match object.status.text() {
        Some("needs_response" | "under_review") => Ok(Event::Disputed(back)),
        Some("won") => Ok(Event::DisputeWon(back)),
        Some("lost") => Ok(Event::DisputeLost(back)),
        // Old ones that the bank gave back without a decision.
        Some("charge_refunded") => Err(Reason::ReportedElsewhere),
        Some("warning_needs_response" | "warning_under_review" | "warning_closed") => {
            Err(Reason::NoMoneyMoves)
        }
        Some("prevented") => Err(Reason::DisputePrevented),
        Some(_) => Err(Reason::UnknownState),
        None => Err(Reason::Incomplete),
    }
}
