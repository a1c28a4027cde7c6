//! What a platform is told: that a customer signed up, that an order was paid, that money went
//! back. Values that say the same to every platform, that can wait in a queue, and that can't be
//! made without the IDs by which a duplicate is recognised.

mod credit;
mod details;
mod fields;
mod id;
mod outcome;
mod refund;
mod sale;
mod sign_up;
mod text;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use tower_referral::click::Click;

pub use self::credit::Credit;
pub use self::details::Contact;
pub(crate) use self::details::Details;
pub(crate) use self::id::Id;
pub use self::id::{InvalidId, PlatformId, PlatformIds};
pub use self::outcome::{Outcome, Receipt};
pub use self::refund::{Refund, RefundReversal};
pub use self::sale::{Sale, SaleUpdate};
pub use self::sign_up::{Cancellation, SignUp};
pub use self::text::OptionalText;
use super::money::Money;

/// The version of the JSON form.
const VERSION: u32 = 1;

/// What happened, for [`Client::report`](super::Client::report).
///
/// It can be stored as JSON and read back, for instance by a job queue. The form lasts: a later
/// version of this crate reads what an earlier one wrote, and a program in another language writes
/// the fields that it has:
///
/// ```
/// use tower_referral_platforms::{Money, Report, Sale, SignUp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sale = Report::from(Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?);
/// let json = r#"{"kind":"sale","order":"ORDER-1","customer":"CUSTOMER-1","amount":"99.99 EUR"}"#;
/// assert_eq!(serde_json::from_str::<Report>(json)?, sale);
///
/// let sign_up = Report::from(SignUp::new("CUSTOMER-1")?);
/// assert_eq!(sale.id(), "sale:ORDER-1");
/// assert_eq!(sale.depends_on(), Some(sign_up.id())); // the order in which a queue is to send them
/// # Ok(())
/// # }
/// ```
///
/// `Debug` hides everything that came from the visitor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Report {
    /// A customer signed up.
    SignUp(SignUp),
    /// An order was paid.
    Sale(Sale),
    /// Money went back.
    Refund(Refund),
    /// A refund was taken back: a dispute was won, or a refund failed.
    RefundReversal(RefundReversal),
    /// Something about an order has changed.
    SaleUpdate(SaleUpdate),
    /// A customer ended a subscription.
    Cancellation(Cancellation),
}

impl Report {
    /// Returns what tells this report from every other, for a queue to be unique by:
    ///
    /// | kind | ID |
    /// |---|---|
    /// | sign-up | `signup:CUSTOMER`; `signup::EMAIL` without a customer's ID |
    /// | sale | `sale:ORDER` |
    /// | refund | `refund:ORDER:REFUND`; `refund:ORDER` for a whole one without an ID, `refund:ORDER::5.00 EUR` for a part without one |
    /// | reversal | `refund_reversal:…`, as the refund |
    /// | update | `sale_update:ORDER:UPDATE` |
    /// | cancellation | `cancellation:CUSTOMER`, or `cancellation:CUSTOMER:SUBSCRIPTION` |
    ///
    /// Two reports with one ID are duplicates. `%` and `:` in the IDs are written as `%25` and
    /// `%3A`. A shop that knows its customers by e-mail address has these in here, so that the ID
    /// isn't for logs there.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::SignUp(sign_up) => format!("signup:{}", sign_up.customer_key()),
            Self::Sale(sale) => format!("sale:{}", sale.ids().0.escaped()),
            Self::Refund(refund) => refund_id("refund", refund.parts()),
            Self::RefundReversal(reversal) => refund_id("refund_reversal", reversal.parts()),
            Self::SaleUpdate(update) => {
                let (order, update) = update.ids();
                format!("sale_update:{}:{}", order.escaped(), update.escaped())
            }
            Self::Cancellation(cancellation) => match cancellation.ids() {
                (customer, None) => format!("cancellation:{}", customer.escaped()),
                (customer, Some(subscription)) => format!(
                    "cancellation:{}:{}",
                    customer.escaped(),
                    subscription.escaped()
                ),
            },
        }
    }

    /// Returns the key under which reports must be sent one after the other:
    /// `customer:CUSTOMER` for a sign-up or a cancellation, `order:ORDER` for everything about an
    /// order.
    #[must_use]
    pub fn sequence_key(&self) -> String {
        let order = |order: &Id| format!("order:{}", order.escaped());
        match self {
            Self::SignUp(sign_up) => format!("customer:{}", sign_up.customer_key()),
            Self::Cancellation(cancellation) => {
                format!("customer:{}", cancellation.ids().0.escaped())
            }
            Self::Sale(sale) => order(sale.ids().0),
            Self::Refund(refund) => order(refund.parts().0),
            Self::RefundReversal(reversal) => order(reversal.parts().0),
            Self::SaleUpdate(update) => order(update.ids().0),
        }
    }

    /// Returns the [`id`](Self::id) of the report that the platform should know before this one: a
    /// sale depends on its customer's sign-up unless the customer is a [guest](Sale::guest), and
    /// what is about an order depends on its sale. There may be no such report, for instance
    /// because the customer signed up years ago.
    #[must_use]
    pub fn depends_on(&self) -> Option<String> {
        let sale = |order: &Id| Some(format!("sale:{}", order.escaped()));
        match self {
            Self::SignUp(_) | Self::Cancellation(_) => None,
            Self::Sale(sale) => {
                (!sale.is_guest()).then(|| format!("signup:{}", sale.ids().1.escaped()))
            }
            Self::Refund(refund) => sale(refund.parts().0),
            Self::RefundReversal(reversal) => sale(reversal.parts().0),
            Self::SaleUpdate(update) => sale(update.ids().0),
        }
    }

    /// Returns the customer's ID, where the report has one.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        match self {
            Self::SignUp(sign_up) => sign_up.customer(),
            Self::Sale(sale) => Some(sale.customer()),
            Self::Cancellation(cancellation) => Some(cancellation.customer()),
            Self::Refund(refund) => refund.customer(),
            Self::RefundReversal(_) | Self::SaleUpdate(_) => None,
        }
    }

    /// Returns the order's ID, where the report is about an order.
    #[must_use]
    pub fn order(&self) -> Option<&str> {
        match self {
            Self::SignUp(_) | Self::Cancellation(_) => None,
            Self::Sale(sale) => Some(sale.order()),
            Self::Refund(refund) => Some(refund.order()),
            Self::RefundReversal(reversal) => Some(reversal.order()),
            Self::SaleUpdate(update) => Some(update.order()),
        }
    }

    /// Returns who is credited, where the report says it.
    #[must_use]
    pub fn credit(&self) -> Option<&Credit> {
        self.details()?.credit()
    }

    /// Adds what the platform answered to the click of the landing after the report was made: the
    /// click's ID, and the partner's where it gave one. The answer is found under the
    /// [reference](Credit::reference) of the report's credit; a report without credit stays as it is.
    #[must_use]
    pub fn with_late_click(mut self, click: &Click) -> Self {
        let details = match &mut self {
            Self::SignUp(sign_up) => &mut sign_up.details,
            Self::Sale(sale) => &mut sale.details,
            _ => return self,
        };
        if let Some(credit) = details.credit.take() {
            let known = credit.partner_id().cloned();
            let credit = credit.with_click(click);
            let partner_id = credit.partner_id().cloned().or(known);
            details.credit = Some(credit.with_partner_id(partner_id));
        }
        self
    }

    /// Returns the coupon, where the report has one.
    #[must_use]
    pub fn coupon(&self) -> Option<&str> {
        self.details()?.coupon.as_deref()
    }

    /// Returns what it is: `sign_up`, `sale`, `refund`, `refund_reversal`, `sale_update` or
    /// `cancellation`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SignUp(_) => "sign_up",
            Self::Sale(_) => "sale",
            Self::Refund(_) => "refund",
            Self::RefundReversal(_) => "refund_reversal",
            Self::SaleUpdate(_) => "sale_update",
            Self::Cancellation(_) => "cancellation",
        }
    }

    pub(crate) fn details(&self) -> Option<&Details> {
        match self {
            Self::SignUp(sign_up) => Some(&sign_up.details),
            Self::Sale(sale) => Some(&sale.details),
            _ => None,
        }
    }

    /// Returns everything of the report that must not come back in an error's text.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let texts = match self {
            Self::Refund(refund) => [refund.id(), refund.reason()],
            Self::RefundReversal(reversal) => [reversal.refund(), reversal.reason()],
            Self::SaleUpdate(update) => [update.new_order(), Some(update.update())],
            Self::Cancellation(end) => [end.contact().email.as_deref(), end.reason()],
            Self::Sale(sale) => [sale.product(), None],
            Self::SignUp(_) => [None, None],
        };
        let facts = match self {
            Self::SaleUpdate(update) => Some(update.metadata()),
            _ => None,
        };
        let facts = facts.into_iter().flat_map(|facts| facts.values());
        let details = self.details().into_iter().flat_map(Details::secrets);
        let texts = texts.into_iter().flatten();
        let texts = texts
            .chain(facts.filter_map(|fact| fact.as_str()))
            .chain(self.customer())
            .chain(self.order());
        details.chain(texts.map(Cow::Borrowed))
    }
}

fn refund_id(kind: &str, (order, id, amount): refund::Parts<'_>) -> String {
    let order = order.escaped();
    match (id, amount) {
        (Some(id), _) => format!("{kind}:{order}:{}", id.escaped()),
        (None, None) => format!("{kind}:{order}"),
        // No ID is empty, so this is none.
        (None, Some(amount)) => format!("{kind}:{order}::{amount}"),
    }
}

/// The tagged object, without its version.
struct Body<R>(R);

impl Serialize for Body<&Report> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Report::serialize(self.0, to)
    }
}

impl<'de> Deserialize<'de> for Body<Report> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Report::deserialize(from).map(Body)
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<B> {
    #[serde(default = "first_version")]
    version: u32,
    #[serde(flatten)]
    body: B,
}

pub(crate) fn first_version() -> u32 {
    1
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let version = VERSION;
        let body = Body(self);
        Versioned { version, body }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Versioned { version, body } = Versioned::<Body<Self>>::deserialize(from)?;
        if version > VERSION {
            return Err(D::Error::custom(format_args!(
                "the report is of version {version}, and this program reads up to version \
                 {VERSION}: update tower-referral-platforms"
            )));
        }
        let Body(report) = body;
        if let Self::SignUp(sign_up) = &report
            && sign_up.customer().is_none()
            && sign_up.contact().email.is_none()
        {
            return Err(D::Error::custom("a sign-up needs `customer` or `email`"));
        }
        Ok(report)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignUp(sign_up) => sign_up.fmt(f),
            Self::Sale(sale) => sale.fmt(f),
            Self::Refund(refund) => refund.fmt(f),
            Self::RefundReversal(reversal) => reversal.fmt(f),
            Self::SaleUpdate(update) => update.fmt(f),
            Self::Cancellation(cancellation) => cancellation.fmt(f),
        }
    }
}

macro_rules! from_kinds {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Report {
            fn from(report: $kind) -> Self {
                Self::$kind(report)
            }
        }
    )*};
}

from_kinds!(
    SignUp,
    Sale,
    Refund,
    RefundReversal,
    SaleUpdate,
    Cancellation
);
