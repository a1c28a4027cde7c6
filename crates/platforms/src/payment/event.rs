//! What payment providers tell, in one form for all of them. The modules of the providers make these
//! from webhooks; a service whose provider has no module here makes them itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::amounts::minor_decimals;
use super::entry;
use super::reason::Reason;
use crate::report::Id;
use crate::{Credit, InvalidId, Money};

/// What happened to a payment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Money came in: a one-time payment, the first payment of a subscription, or a renewal.
    Payment(Payment),
    /// Money goes back to the customer.
    Refunded(MoneyBack),
    /// A refund came to nothing: the money stays.
    RefundFailed(MoneyBack),
    /// The customer's bank takes the money back.
    Disputed(MoneyBack),
    /// The dispute ended, and the money stays.
    DisputeWon(MoneyBack),
    /// The dispute ended, and the money is gone.
    DisputeLost(MoneyBack),
    /// IDs of one payment that belong together, or the customer that an ID belongs to.
    PaymentLink(PaymentLink),
    /// Nothing to report.
    Ignored(Reason),
}

impl Event {
    /// Returns the shop's ID of the customer, where the shop put it into the payment.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        match self {
            Self::Payment(payment) => payment.customer.as_deref(),
            Self::PaymentLink(link) => link.customer.as_deref(),
            _ => None,
        }
    }

    /// Returns the carry token that the shop put into the payment.
    #[must_use]
    pub fn referral_token(&self) -> Option<&str> {
        match self {
            Self::Payment(payment) => payment.referral_token.as_deref(),
            Self::PaymentLink(link) => link.referral_token.as_deref(),
            _ => None,
        }
    }

    /// Replaces the carry token by what it opens to. A token that doesn't open is no credit.
    ///
    /// ```
    /// use tower_referral::carry::Carry;
    /// use tower_referral_platforms::{Credit, payment::Event};
    ///
    /// fn opened(event: Event, carry: &Carry) -> Event {
    ///     event.open_referral(|token| Some(Credit::from(&carry.open(token).ok()?)))
    /// }
    /// ```
    #[must_use]
    pub fn open_referral(mut self, open: impl FnOnce(&str) -> Option<Credit>) -> Self {
        let (token, credit) = match &mut self {
            Self::Payment(payment) => (&mut payment.referral_token, &mut payment.credit),
            Self::PaymentLink(link) => (&mut link.referral_token, &mut link.credit),
            _ => return self,
        };
        if let Some(token) = token.take() {
            *credit = credit.take().or_else(|| open(&token));
        }
        self
    }
}

impl From<Payment> for Event {
    fn from(payment: Payment) -> Self {
        Self::Payment(payment)
    }
}

impl From<PaymentLink> for Event {
    fn from(link: PaymentLink) -> Self {
        Self::PaymentLink(link)
    }
}

/// An ID at the provider, with what it is an ID of: `stripe:invoice:in_1`. Two events about one
/// payment have at least one link in common, or are joined by a third that has one of each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Link(String);

impl Link {
    /// Creates the link `PROVIDER:KIND:ID`.
    #[must_use]
    pub fn new(provider: &str, kind: &str, id: impl fmt::Display) -> Self {
        Self(format!("{provider}:{kind}:{id}"))
    }

    /// The link of what the shop itself calls this order.
    pub(super) fn order(order: &str) -> Self {
        Self(format!("order:{order}"))
    }

    /// The link of what the shop itself calls this customer.
    pub(super) fn customer(customer: &str) -> Self {
        Self(format!("customer:{customer}"))
    }

    /// Returns `true` if it is what the shop itself calls a customer.
    pub(super) fn is_customer(&self) -> bool {
        self.0.starts_with("customer:")
    }

    /// The link of payments that lack something which this link may bring.
    pub(super) fn waiting(&self) -> Self {
        Self(format!("waiting:{}", self.0))
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.0.starts_with("waiting:")
    }

    /// Returns `true` if records of several payments may have it.
    pub(super) fn is_shared(&self) -> bool {
        self.is_waiting() || self.0.starts_with("order:")
    }

    /// Returns `true` if it is an invoice. Each is a sale of its own: one payment may have other IDs twice,
    /// but never this.
    pub(super) fn is_invoice(&self) -> bool {
        let kind = self.0.split(':').nth(1);
        kind == Some("invoice") && !self.is_shared() && !self.is_customer()
    }

    /// The ID at the end of a link of three parts.
    pub(super) fn id(&self) -> Option<&str> {
        self.0.splitn(3, ':').nth(2)
    }

    /// Returns the text of the link.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Shows no ID of the shop's customers: it may be an e-mail address.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.0).fmt(f)
    }
}

/// What may be shown of a link, or of the ID of a record, which is one of its links.
pub(super) fn shown(link: &str) -> &str {
    let of = link.strip_prefix("waiting:").unwrap_or(link);
    match of.strip_prefix("customer:") {
        Some(customer) => &link[..link.len() - customer.len()],
        None => link,
    }
}

/// What kind of payment it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PaymentKind {
    /// A payment outside any subscription.
    #[default]
    OneTime,
    /// The first payment of a subscription.
    First,
    /// The payment of a further period.
    Renewal,
    /// An upgrade, usage, or another payment within a subscription.
    Change,
}

impl PaymentKind {
    /// Returns `true` unless the payment is outside any subscription.
    #[must_use]
    pub fn is_subscription(self) -> bool {
        self != Self::OneTime
    }
}

/// Money came in.
///
/// ```
/// use tower_referral_platforms::Money;
/// use tower_referral_platforms::payment::{Event, Link, Payment, PaymentKind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A provider that has no module here.
/// let paid = Money::from_minor(11_900, "EUR")?;
/// let before_tax = Money::from_minor(10_000, "EUR")?;
/// let event: Event = Payment::new("tr_7", Link::new("mollie", "payment", "tr_7"), paid, before_tax)?
///     .with_kind(PaymentKind::Renewal)
///     .with_subscription(Link::new("mollie", "subscription", "sub_3"))
///     .with_customer("C1")?
///     .into();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Payment {
    /// The order's ID: the shop's own for a one-time payment, and the provider's otherwise.
    pub order: String,
    /// What the customer paid.
    pub gross: Money,
    /// What the commission is on.
    pub net: Money,
    /// What kind of payment it is.
    pub kind: PaymentKind,
    /// The shop's ID of the customer, if the shop put it into the payment.
    pub customer: Option<String>,
    /// The carry token, if the shop put one into the payment.
    pub referral_token: Option<String>,
    /// The coupon, if the shop put one into the payment.
    pub coupon: Option<String>,
    /// When it was paid.
    pub paid_at: Option<OffsetDateTime>,
    /// The subscription that it is a payment of.
    pub subscription: Option<Link>,
    /// The customer at the provider.
    pub payer: Option<Link>,
    pub(super) credit: Option<Credit>,
    pub(super) links: Vec<Link>,
    /// The decimals of the smallest amount that the provider knows.
    pub(super) decimals: u8,
    /// `order` comes from the shop.
    pub(super) is_own_order: bool,
    /// Another event may tell more of the same payment.
    pub(super) is_weak: bool,
}

impl Payment {
    /// Creates a one-time payment of `gross`, of which `net` counts for the commission: without tax,
    /// and without shipping where that is known. `order` is the shop's ID of the order, or the
    /// provider's ID of the payment.
    ///
    /// # Errors
    ///
    /// `order` isn't an ID: see [`InvalidId`].
    pub fn new(
        order: impl fmt::Display,
        link: Link,
        gross: Money,
        net: Money,
    ) -> Result<Self, InvalidId> {
        Ok(Self {
            order: checked(order)?,
            decimals: minor_decimals(&gross),
            gross,
            net,
            kind: PaymentKind::OneTime,
            customer: None,
            referral_token: None,
            coupon: None,
            paid_at: None,
            subscription: None,
            payer: None,
            credit: None,
            links: vec![link],
            is_own_order: true,
            is_weak: false,
        })
    }

    /// Sets what kind of payment it is.
    #[must_use]
    pub fn with_kind(mut self, kind: PaymentKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds another ID of the same payment.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }

    /// Sets the subscription that it is a payment of.
    #[must_use]
    pub fn with_subscription(mut self, link: impl Into<Option<Link>>) -> Self {
        self.subscription = link.into();
        self
    }

    /// Sets the customer at the provider.
    #[must_use]
    pub fn with_payer(mut self, link: impl Into<Option<Link>>) -> Self {
        self.payer = link.into();
        self
    }

    /// Sets the shop's ID of the customer.
    ///
    /// # Errors
    ///
    /// `customer` isn't an ID: see [`InvalidId`].
    pub fn with_customer(mut self, customer: impl fmt::Display) -> Result<Self, InvalidId> {
        self.customer = Some(checked(customer)?);
        Ok(self)
    }

    /// Sets who is credited with this payment.
    #[must_use]
    pub fn with_credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
        self.credit = credit.into();
        self
    }

    /// Returns who is credited by the payment itself, without what is stored of the customer.
    #[must_use]
    pub fn credit(&self) -> Option<&Credit> {
        self.credit.as_ref()
    }
}

/// Shows amounts and IDs, and nothing of the referral.
impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payment")
            .field("order", &self.order)
            .field("gross", &self.gross)
            .field("net", &self.net)
            .field("kind", &self.kind)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

/// Money that goes back, by refund or by dispute, or that doesn't after all.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MoneyBack {
    /// The provider's ID of the refund or the dispute.
    pub id: String,
    /// What goes back, tax included.
    pub gross: Money,
    /// What of it counts for the commission, where the provider says so.
    pub net: Option<Money>,
    /// When this happened.
    pub at: Option<OffsetDateTime>,
    /// The ID of the total that a refund is part of, where that is known.
    pub(super) total: Option<String>,
    pub(super) links: Vec<Link>,
    pub(super) progress: Progress,
}

/// How what is known of one refund or dispute grows, in whatever order the events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes through its states once, and this is one of them: the furthest counts.
    Stage(u8),
    /// It may go to and fro: the latest counts.
    Latest,
    /// It says all that went back from this payment so far.
    Total,
    /// It is the opposite of another one.
    Contra,
}

impl MoneyBack {
    /// Creates a refund or a dispute of this much. `link` is an ID of the payment that it is of. A
    /// refund and a dispute may have one ID.
    ///
    /// # Errors
    ///
    /// `id` isn't an ID (see [`InvalidId`]), or has over 108 characters, each `:` and `%` counted
    /// three times: the IDs of several reports are made from it.
    pub fn new(id: impl fmt::Display, link: Link, gross: Money) -> Result<Self, InvalidId> {
        let id = id.to_string();
        entry::check(&id)?;
        Ok(Self {
            id,
            gross,
            net: None,
            at: None,
            total: None,
            links: vec![link],
            progress: Progress::Latest,
        })
    }

    /// Adds another ID of the payment.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }

    /// Sets what of it counts for the commission.
    #[must_use]
    pub fn with_net(mut self, net: impl Into<Option<Money>>) -> Self {
        self.net = net.into();
        self
    }

    /// Sets when this happened: of several events about one refund or dispute the latest counts.
    #[must_use]
    pub fn with_time(mut self, at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.at = at.into();
        self
    }

    /// Sets how far the refund or dispute got: of several events about it the furthest counts,
    /// whatever their times.
    #[must_use]
    pub fn with_stage(mut self, stage: u8) -> Self {
        self.progress = Progress::Stage(stage);
        self
    }

    /// Makes it all that was refunded of the payment so far, instead of one refund. `id` is then the
    /// payment's, and what refunds don't account for is taken from it.
    #[must_use]
    pub fn into_total(mut self) -> Self {
        self.progress = Progress::Total;
        self
    }

    /// Makes it the opposite of an earlier dispute, under an ID of its own, as
    /// [`Event::DisputeWon`].
    #[must_use]
    pub fn into_opposite(mut self) -> Self {
        self.progress = Progress::Contra;
        self
    }
}

/// IDs of one payment that belong together; or whose a subscription or a customer at the provider is;
/// or who is credited with a customer.
///
/// ```
/// use tower_referral_platforms::payment::{Event, PaymentLink};
/// use tower_referral_platforms::{Credit, InvalidId};
///
/// /// At sign-up: all that this customer ever pays is credited from here.
/// fn signed_up(customer: &str, credit: Credit) -> Result<Event, InvalidId> {
///     Ok(PaymentLink::of_customer(customer)?.with_credit(credit).into())
/// }
/// ```
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PaymentLink {
    /// The shop's ID of the customer.
    pub customer: Option<String>,
    /// The carry token, if the shop put one into the payment.
    pub referral_token: Option<String>,
    /// The subscription whose customer and credit these are.
    pub subscription: Option<Link>,
    /// The customer at the provider.
    pub payer: Option<Link>,
    pub(super) credit: Option<Credit>,
    pub(super) credit_since: Option<OffsetDateTime>,
    pub(super) links: Vec<Link>,
}

impl PaymentLink {
    /// Joins the IDs of one payment.
    #[must_use]
    pub fn of_payment(links: impl IntoIterator<Item = Link>) -> Self {
        Self {
            links: links.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Says something of the customer that the shop knows by this ID.
    ///
    /// # Errors
    ///
    /// `customer` isn't an ID: see [`InvalidId`].
    pub fn of_customer(customer: impl fmt::Display) -> Result<Self, InvalidId> {
        Ok(Self {
            customer: Some(checked(customer)?),
            ..Self::default()
        })
    }

    /// Sets a subscription of the customer's. A credit is then one of this subscription only.
    #[must_use]
    pub fn with_subscription(mut self, link: impl Into<Option<Link>>) -> Self {
        self.subscription = link.into();
        self
    }

    /// Sets the customer at the provider.
    #[must_use]
    pub fn with_payer(mut self, link: impl Into<Option<Link>>) -> Self {
        self.payer = link.into();
        self
    }

    /// Sets who is credited with all payments of the customer, or of the subscription. That is those
    /// of the past, too, which were reported without credit: right at sign-up. A customer who bought
    /// before needs a [moment](Self::with_credit_since).
    #[must_use]
    pub fn with_credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
        self.credit = credit.into();
        self
    }

    /// Sets since when the credit counts, for instance the referral's `captured_at`: what was
    /// [paid](Payment::paid_at) before isn't credited by it. A payment that doesn't say when it was paid
    /// is credited.
    ///
    /// It counts for sales, and not for the customer's sign-up. One that is enqueued with this credit and
    /// recorded has the outbox send all sales of the customer again that nobody is credited with, the
    /// earlier ones too, and a platform that knows the customer credits them. So don't enqueue the sign-up
    /// again where these mustn't be credited: each later sale carries the credit itself.
    #[must_use]
    pub fn with_credit_since(mut self, moment: impl Into<Option<OffsetDateTime>>) -> Self {
        self.credit_since = moment.into();
        self
    }
}

impl fmt::Debug for PaymentLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentLink")
            .field("links", &self.links)
            .field("subscription", &self.subscription)
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}

/// Takes a text as an ID that reports can carry.
pub(super) fn checked(id: impl fmt::Display) -> Result<String, InvalidId> {
    Id::new(id.to_string()).map(String::from)
}
