//! What a platform is told: that a customer signed up, that an order was paid, that money went
//! back. Values that say the same to every platform, that can wait in a queue, and that can't be
//! made without the IDs by which a repetition is recognised.

use std::collections::BTreeMap;
use std::fmt;

use super::money::Money;
use tower_referral::{ClickId, Referral, ReferralKey};

/// A sign-up, a sale or a refund, for [`Client::report`](super::Client::report).
///
/// With the feature `serde` it can be stored and read back, for instance by a job queue. `Debug`
/// hides everything that came from the visitor.
///
/// ```
/// use tower_referral_platforms::{Money, Report, Sale, SignUp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sign_up = Report::from(SignUp::new("CUSTOMER-1")?);
/// let sale = Report::from(Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?);
/// assert_eq!(sale.id(), "sale:ORDER-1");
/// assert_eq!(sale.waits_for(), Some(sign_up.id())); // the order in which a queue is to send them
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Report {
    /// A customer signed up.
    SignUp(SignUp),
    /// An order was paid.
    Sale(Sale),
    /// Money went back.
    Refund(Refund),
}

impl Report {
    /// What tells this report from every other, for a queue to be unique by: `signup:CUSTOMER`,
    /// `sale:ORDER`, `refund:ORDER:REFUND` (`refund:ORDER` for a whole one without an ID,
    /// `refund:ORDER::5.00 EUR` for a part without one). Two reports with one ID are one report
    /// that was told twice.
    ///
    /// `%` and `:` in the IDs are written as `%25` and `%3A`. For logs it is only if customers'
    /// IDs are: a shop that knows its customers by e-mail address has these in here.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::SignUp(sign_up) => sign_up_id(&sign_up.customer),
            Self::Sale(sale) => sale_id(&sale.order),
            Self::Refund(refund) => {
                let order = escaped(refund.order());
                match (&refund.id, &refund.amount) {
                    (Some(id), _) => format!("refund:{order}:{}", escaped(id.as_str())),
                    (None, None) => format!("refund:{order}"),
                    // No ID is empty, so this is none.
                    (None, Some(amount)) => format!("refund:{order}::{amount}"),
                }
            }
        }
    }

    /// The [`id`](Self::id) of the report that the platform should know before this one: a sale
    /// waits for its customer's sign-up unless the customer is a [guest](Sale::guest), a refund
    /// waits for its sale. There may be no such report, for instance because the customer signed up
    /// years ago.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        match self {
            Self::SignUp(_) => None,
            Self::Sale(sale) => (!sale.is_guest()).then(|| sign_up_id(&sale.customer)),
            Self::Refund(refund) => Some(sale_id(&refund.order)),
        }
    }

    /// The customer's ID, which a refund doesn't have.
    #[must_use]
    pub fn customer(&self) -> Option<&str> {
        match self {
            Self::SignUp(sign_up) => Some(sign_up.customer()),
            Self::Sale(sale) => Some(sale.customer()),
            Self::Refund(_) => None,
        }
    }

    /// The order's ID, which a sign-up doesn't have.
    #[must_use]
    pub fn order(&self) -> Option<&str> {
        match self {
            Self::SignUp(_) => None,
            Self::Sale(sale) => Some(sale.order()),
            Self::Refund(refund) => Some(refund.order()),
        }
    }

    /// What it is, for logs: `sign_up`, `sale` or `refund`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SignUp(_) => "sign_up",
            Self::Sale(_) => "sale",
            Self::Refund(_) => "refund",
        }
    }

    /// What came from the visitor and must not come back in an error's words.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let (customer, contact, credit, coupon, metadata) = match self {
            Self::SignUp(SignUp {
                customer,
                contact,
                credit,
                coupon,
                metadata,
            }) => (
                Some(customer),
                Some(contact),
                credit,
                coupon,
                Some(metadata),
            ),
            Self::Sale(Sale {
                customer,
                guest,
                credit,
                coupon,
                metadata,
                ..
            }) => (
                Some(customer),
                guest.as_ref(),
                credit,
                coupon,
                Some(metadata),
            ),
            Self::Refund(_) => (None, None, &None, &None, None),
        };
        let contact = contact
            .into_iter()
            .flat_map(|contact| [&contact.email, &contact.name, &contact.surname]);
        let credit = credit.iter().flat_map(Credit::secrets);
        let texts = contact.chain([coupon]).filter_map(Option::as_deref);
        let metadata = metadata.into_iter().flat_map(BTreeMap::values);
        texts
            .chain(customer.map(Id::as_str))
            .chain(credit)
            .chain(metadata.map(String::as_str))
    }
}

fn sign_up_id(customer: &Id) -> String {
    format!("signup:{}", escaped(customer.as_str()))
}

fn sale_id(order: &Id) -> String {
    format!("sale:{}", escaped(order.as_str()))
}

fn escaped(id: &str) -> String {
    id.replace('%', "%25").replace(':', "%3A")
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignUp(sign_up) => sign_up.fmt(f),
            Self::Sale(sale) => sale.fmt(f),
            Self::Refund(refund) => refund.fmt(f),
        }
    }
}

impl From<SignUp> for Report {
    fn from(sign_up: SignUp) -> Self {
        Self::SignUp(sign_up)
    }
}

impl From<Sale> for Report {
    fn from(sale: Sale) -> Self {
        Self::Sale(sale)
    }
}

impl From<Refund> for Report {
    fn from(refund: Refund) -> Self {
        Self::Refund(refund)
    }
}

/// A customer signed up.
///
/// ```
/// use tower_referral::Referral;
/// use tower_referral_platforms::{InvalidId, SignUp};
///
/// fn welcome(customer: &str, email: &str, referral: Option<&Referral>) -> Result<SignUp, InvalidId> {
///     Ok(SignUp::new(customer)?.email(email).referral(referral))
/// }
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct SignUp {
    customer: Id,
    contact: Contact,
    credit: Option<Credit>,
    coupon: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl SignUp {
    /// The sign-up of the customer that the shop knows by this ID, the same through the customer's
    /// life.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn new(customer: impl Into<String>) -> Result<Self, InvalidId> {
        Ok(Self {
            customer: Id::new(customer)?,
            contact: Contact::default(),
            credit: None,
            coupon: None,
            metadata: BTreeMap::new(),
        })
    }

    /// The customer's e-mail address. It goes to Partnero and to no other platform; empty is as
    /// if absent.
    pub fn email<'t>(mut self, email: impl Into<Option<&'t str>>) -> Self {
        self.contact.email = filled(email.into());
        self
    }

    /// The customer's first name, or the whole one. It goes to Partnero and to no other platform.
    pub fn name<'t>(mut self, name: impl Into<Option<&'t str>>) -> Self {
        self.contact.name = filled(name.into());
        self
    }

    /// The customer's last name. It goes to Partnero and to no other platform.
    pub fn surname<'t>(mut self, surname: impl Into<Option<&'t str>>) -> Self {
        self.contact.surname = filled(surname.into());
        self
    }

    /// Who referred the customer: `&Referral` or `Option<&Referral>`.
    pub fn referral<'r>(self, referral: impl Into<Option<&'r Referral>>) -> Self {
        self.credit(referral.into().map(Credit::from))
    }

    /// The same where no [`Referral`] is at hand: `Credit` or `Option<Credit>`.
    pub fn credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
        self.credit = credit.into();
        self
    }

    /// The coupon that the customer used; empty is as if absent.
    pub fn coupon<'t>(mut self, coupon: impl Into<Option<&'t str>>) -> Self {
        self.coupon = filled(coupon.into());
        self
    }

    /// A fact of your own, for platforms that keep metadata (Partnac and Tapfiliate).
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The customer's ID.
    #[must_use]
    pub fn customer(&self) -> &str {
        self.customer.as_str()
    }

    /// E-mail address and name, for a platform of your own.
    #[must_use]
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Who is to be credited with it, for a platform of your own.
    #[must_use]
    pub fn credited_to(&self) -> Option<&Credit> {
        self.credit.as_ref()
    }

    /// The coupon, for a platform of your own.
    #[must_use]
    pub fn coupon_code(&self) -> Option<&str> {
        self.coupon.as_deref()
    }

    /// The metadata, for a platform of your own.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.metadata)
    }
}

/// Shows that there is one, and nothing of it.
impl fmt::Debug for SignUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignUp")
            .field("has_credit", &self.credit.is_some())
            .finish_non_exhaustive()
    }
}

/// An order was paid.
///
/// ```
/// use tower_referral::Referral;
/// use tower_referral_platforms::{Money, Sale};
///
/// # fn paid(referral: Option<&Referral>) -> Result<Sale, Box<dyn std::error::Error>> {
/// let sale = Sale::new("ORDER-1", "CUSTOMER-1", Money::new("99.99", "EUR")?)?
///     .referral(referral)
///     .coupon("SUMMER");
/// # Ok(sale)
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct Sale {
    order: Id,
    customer: Id,
    amount: Money,
    /// Of a customer who never signed up.
    guest: Option<Contact>,
    credit: Option<Credit>,
    coupon: Option<String>,
    product: Option<String>,
    product_type: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Sale {
    /// The sale of an order to a customer whose sign-up was reported before.
    ///
    /// # Errors
    ///
    /// The order or the customer isn't an ID: see [`InvalidId`].
    pub fn new(
        order: impl Into<String>,
        customer: impl Into<String>,
        amount: Money,
    ) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            customer: Id::new(customer)?,
            amount,
            guest: None,
            credit: None,
            coupon: None,
            product: None,
            product_type: None,
            metadata: BTreeMap::new(),
        })
    }

    /// The sale of an order to a customer who never signed up: a guest checkout. Whoever the
    /// sign-up credits is credited with the sale, and no sign-up need be reported beside it.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn guest(
        order: impl Into<String>,
        customer: SignUp,
        amount: Money,
    ) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            customer: customer.customer,
            amount,
            guest: Some(customer.contact),
            credit: customer.credit,
            coupon: customer.coupon,
            product: None,
            product_type: None,
            metadata: customer.metadata,
        })
    }

    /// Who referred the customer: `&Referral` or `Option<&Referral>`.
    pub fn referral<'r>(self, referral: impl Into<Option<&'r Referral>>) -> Self {
        self.credit(referral.into().map(Credit::from))
    }

    /// The same where no [`Referral`] is at hand: `Credit` or `Option<Credit>`.
    pub fn credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
        self.credit = credit.into();
        self
    }

    /// The coupon that the customer used; empty is as if absent.
    pub fn coupon<'t>(mut self, coupon: impl Into<Option<&'t str>>) -> Self {
        self.coupon = filled(coupon.into());
        self
    }

    /// What was sold, by the shop's ID of it; empty is as if absent.
    pub fn product<'t>(mut self, product: impl Into<Option<&'t str>>) -> Self {
        self.product = filled(product.into());
        self
    }

    /// What kind of thing was sold, for instance `monthly`; empty is as if absent.
    pub fn product_type<'t>(mut self, kind: impl Into<Option<&'t str>>) -> Self {
        self.product_type = filled(kind.into());
        self
    }

    /// A fact of your own, for platforms that keep metadata (Partnac and Tapfiliate).
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// The customer's ID.
    #[must_use]
    pub fn customer(&self) -> &str {
        self.customer.as_str()
    }

    /// What was paid.
    #[must_use]
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Has the customer never signed up?
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// A guest's e-mail address and name, for a platform of your own.
    #[must_use]
    pub fn guest_contact(&self) -> Option<&Contact> {
        self.guest.as_ref()
    }

    /// Who is to be credited with it, for a platform of your own.
    #[must_use]
    pub fn credited_to(&self) -> Option<&Credit> {
        self.credit.as_ref()
    }

    /// The coupon, for a platform of your own.
    #[must_use]
    pub fn coupon_code(&self) -> Option<&str> {
        self.coupon.as_deref()
    }

    /// The product, for a platform of your own.
    #[must_use]
    pub fn product_id(&self) -> Option<&str> {
        self.product.as_deref()
    }

    /// The kind of product, for a platform of your own.
    #[must_use]
    pub fn kind_of_product(&self) -> Option<&str> {
        self.product_type.as_deref()
    }

    /// The metadata, for a platform of your own.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.metadata)
    }
}

/// Shows the order and the amount, and nothing of the customer.
impl fmt::Debug for Sale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sale")
            .field("order", &self.order)
            .field("amount", &self.amount)
            .field("has_credit", &self.credit.is_some())
            .finish_non_exhaustive()
    }
}

/// All or a part of what was paid for an order went back.
///
/// Two refunds of one order under the same ID, or without one of the same amount, are one refund
/// that was told twice: give partial refunds the payment provider's ID.
///
/// ```
/// use tower_referral_platforms::{Money, Refund};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let all = Refund::whole("ORDER-1")?.reason("never arrived");
/// let some = Refund::part("ORDER-2", Money::new("5.00", "EUR")?)?.id("re_3MmlLrLkdIwHu7ix")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[must_use = "a report does nothing until it is given to a `Client`"]
pub struct Refund {
    order: Id,
    /// All of it if absent.
    amount: Option<Money>,
    id: Option<Id>,
    reason: Option<String>,
}

impl Refund {
    /// All that was paid for the order went back.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn whole(order: impl Into<String>) -> Result<Self, InvalidId> {
        Ok(Self {
            order: Id::new(order)?,
            amount: None,
            id: None,
            reason: None,
        })
    }

    /// A part of what was paid for the order went back: this much, no matter what went back before.
    ///
    /// # Errors
    ///
    /// The order isn't an ID: see [`InvalidId`].
    pub fn part(order: impl Into<String>, amount: Money) -> Result<Self, InvalidId> {
        Ok(Self {
            amount: Some(amount),
            ..Self::whole(order)?
        })
    }

    /// The ID of the refund, which tells two refunds of one order apart.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn id(mut self, id: impl Into<String>) -> Result<Self, InvalidId> {
        self.id = Some(Id::new(id)?);
        Ok(self)
    }

    /// Why the money went back, for platforms that keep it (Partnac); empty is as if absent.
    pub fn reason<'t>(mut self, reason: impl Into<Option<&'t str>>) -> Self {
        self.reason = filled(reason.into());
        self
    }

    /// The order's ID.
    #[must_use]
    pub fn order(&self) -> &str {
        self.order.as_str()
    }

    /// How much went back; `None` is all of it.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        self.amount
    }

    /// The refund's ID, for a platform of your own.
    #[must_use]
    pub fn refund_id(&self) -> Option<&str> {
        self.id.as_ref().map(Id::as_str)
    }

    /// The reason, for a platform of your own.
    #[must_use]
    pub fn reason_given(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

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

/// Who is to be credited: of a [`Referral`], what a report needs.
///
/// ```
/// use tower_referral_platforms::{Credit, Money, Sale};
///
/// # fn renewed(key: &str, click_id: Option<&str>) -> Result<Sale, Box<dyn std::error::Error>> {
/// // A renewal, months later: key and click ID were noted beside the customer's row.
/// let click_id = click_id.map(str::parse).transpose()?;
/// let credit = Credit::new(key.parse()?).with_click_id(click_id);
/// let sale = Sale::new("INVOICE-7", "CUSTOMER-1", Money::new("9.99", "EUR")?)?.credit(credit);
/// # Ok(sale)
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Credit {
    #[serde(with = "kept_key")]
    key: ReferralKey,
    click_id: Option<ClickId>,
}

impl Credit {
    /// Credit to a key, without a click.
    #[must_use]
    pub fn new(key: ReferralKey) -> Self {
        Self {
            key,
            click_id: None,
        }
    }

    /// With the platform's ID of the landing.
    #[must_use]
    pub fn with_click_id(mut self, click_id: impl Into<Option<ClickId>>) -> Self {
        self.click_id = click_id.into();
        self
    }

    /// Who is credited.
    #[must_use]
    pub fn key(&self) -> &ReferralKey {
        &self.key
    }

    /// The platform's ID of the landing, if it is known.
    #[must_use]
    pub fn click_id(&self) -> Option<&ClickId> {
        self.click_id.as_ref()
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let click_id = self.click_id.as_ref().map(ClickId::as_str);
        std::iter::once(self.key.as_str()).chain(click_id)
    }
}

impl From<&Referral> for Credit {
    fn from(referral: &Referral) -> Self {
        Self {
            key: referral.key().clone(),
            click_id: referral.click_id().cloned(),
        }
    }
}

/// Hides both.
impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("has_click_id", &self.click_id.is_some())
            .finish_non_exhaustive()
    }
}

/// How a customer can be reached. `Debug` hides all of it.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Contact {
    /// The e-mail address, not empty.
    pub email: Option<String>,
    /// The first name, or the whole one; not empty.
    pub name: Option<String>,
    /// The last name, not empty.
    pub surname: Option<String>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").finish_non_exhaustive()
    }
}

/// The shop's own ID of an order, a customer or a refund.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Id(String);

impl Id {
    pub(crate) const MAX_CHARS: usize = 128;

    pub(crate) fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        let is_id = !text.is_empty()
            && text.chars().count() <= Self::MAX_CHARS
            && text.trim() == text
            && !text.contains(char::is_control)
            && text != "."
            && text != "..";
        if is_id {
            Ok(Self(text))
        } else {
            Err(InvalidId)
        }
    }

    /// An ID that names what it is an ID of, for platforms that keep all IDs in one place.
    #[cfg(feature = "partnac")]
    pub(crate) fn prefixed(prefix: &str, id: &str) -> Self {
        Self(format!("{prefix}{id}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that isn't the ID of an order, a customer or a refund: these have 1 to 128 characters,
/// none of them a control character, no blanks around them, and are neither `.` nor `..`, which mean
/// something else in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not an ID: the ID of an order, a customer or a refund has 1 to 128 characters, none \
             of them a control character, and no blanks around them",
        )
    }
}

impl std::error::Error for InvalidId {}

/// What a platform made of a report.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is recorded.
    Recorded {
        /// The platform's own ID of it, if it says one.
        id: Option<String>,
    },
    /// The platform knew it already: a success.
    Duplicate,
    /// Nobody is credited, so nothing is recorded: there is no referral, or none that the platform
    /// knows. That is as it should be for most customers, and no error.
    NotAttributed,
}

impl Outcome {
    /// The outcome in snake case: `recorded`, `duplicate` or `not_attributed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Recorded { .. } => "recorded",
            Self::Duplicate => "duplicate",
            Self::NotAttributed => "not_attributed",
        }
    }

    /// Does the platform have it now? If so, the visitor's referral has done its work, and may be
    /// forgotten.
    #[must_use]
    pub fn is_credited(&self) -> bool {
        matches!(self, Self::Recorded { .. } | Self::Duplicate)
    }
}

/// Text without blanks around it, if there is any.
pub(crate) fn filled(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

pub(crate) fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(name, value)| (&**name, &**value))
}

/// A key that has passed the program's own rule before is taken by the widest one.
mod kept_key {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use tower_referral::{KeyRule, ReferralKey};

    pub(crate) fn serialize<S: Serializer>(key: &ReferralKey, to: S) -> Result<S::Ok, S::Error> {
        key.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ReferralKey, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        KeyRule::printable_unicode()
            .parse(&text)
            .map_err(D::Error::custom)
    }
}
