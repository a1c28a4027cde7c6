//! What is stored of payments: one record for each payment and for each account, as JSON that later
//! versions of this crate read too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::entry::Told;
use super::event::{Link, PaymentKind, shown};
use crate::{Credit, Money};

/// What is stored of one payment, or of one account: opaque to the store, which keeps it as JSON under
/// its [`id`](Self::id) and finds it by its [`links`](Self::links).
///
/// `Debug` shows neither referral nor customer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(default = "first_version", deserialize_with = "known_version")]
    pub(super) version: u32,
    pub(super) id: String,
    #[serde(default)]
    pub(super) links: BTreeSet<Link>,
    #[serde(flatten)]
    pub(super) facts: Facts,
}

/// The version that this crate writes, and the newest that it reads.
const VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// Refuses what a newer version wrote, so that nothing of it is lost by writing it again.
fn known_version<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(from)?;
    if version > VERSION {
        return Err(D::Error::custom(format_args!(
            "the record is of version {version}, and this program reads up to version {VERSION}: \
             update tower-referral-platforms"
        )));
    }
    Ok(version)
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Facts {
    Payment(Box<PaymentFacts>),
    Account(AccountFacts),
}

/// What is known of a subscription, of a customer at the provider, or of a customer of the shop.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AccountFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credit: Option<Credit>,
    /// What was paid before isn't credited by that.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) credit_since: Option<OffsetDateTime>,
    /// Its customer was erased: nothing is known of it any more, for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_erased: bool,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PaymentFacts {
    /// Absent while only refunds or links of the payment are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sale: Option<SaleFacts>,
    /// Refunds and disputes by their [names](super::entry::EntryKind::name).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) back: BTreeMap<String, BackFacts>,
    /// The latest word on all that was refunded, of each charge by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) totals: BTreeMap<String, TotalFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reported: Option<Reported>,
    /// Its customer was erased: nothing but amounts and the order is stored of it, for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_erased: bool,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SaleFacts {
    pub(super) order: String,
    pub(super) gross: Money,
    pub(super) net: Money,
    pub(super) decimals: u8,
    #[serde(default)]
    pub(super) payment_kind: PaymentKind,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_own_order: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_weak: bool,
    /// Another payment of the same order was there first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_second: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) customer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subscription: Option<Link>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payer: Option<Link>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) credit: Option<Credit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) coupon: Option<String>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) paid_at: Option<OffsetDateTime>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BackFacts {
    pub(super) gross: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) net: Option<Money>,
    /// It gives back what another one took.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_contra: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_dispute: bool,
    /// Seconds of Unix time, and how far it got: the greatest pair counts.
    #[serde(default)]
    pub(super) state: (i64, u8),
    /// The money goes back, by that state.
    pub(super) is_active: bool,
    /// The name of the total that it is part of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<String>,
    /// When it was first known to have failed, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed_at: Option<i64>,
    /// It is part of what was reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_applied: bool,
    #[serde(flatten)]
    pub(super) told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TotalFacts {
    pub(super) gross: Money,
    /// Seconds of Unix time.
    #[serde(default)]
    pub(super) at: i64,
    /// It is part of what was reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_applied: bool,
    #[serde(flatten)]
    pub(super) told: Told,
}

/// What platforms were told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reported {
    pub(super) order: String,
    pub(super) customer: String,
    pub(super) net: Money,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_guest: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_credited: bool,
    /// How much of the net went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back: Option<Money>,
}

impl Record {
    /// `is_taken` says whether there is a record under an ID.
    pub(super) fn new(
        links: BTreeSet<Link>,
        facts: Facts,
        is_taken: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut free = links.iter().filter(|link| !is_taken(link.as_str()));
        let own = free.clone().find(|link| !link.is_shared());
        let id = own.or_else(|| free.next())?.as_str().to_owned();
        Some(Self {
            version: VERSION,
            id,
            links,
            facts,
        })
    }

    /// Returns the ID, under which there is one record.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the links by which the record is to be found. Records may have links in common, and
    /// links come and go.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    /// Returns the shop's customers whose record it is, as far as that is known: a payment may have been
    /// reported as a guest's before its customer was. By these a customer's records are found when the
    /// customer is to be [erased](super::erase).
    pub fn customers(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match &self.facts {
            Facts::Account(account) => (account.customer.as_deref(), None),
            Facts::Payment(payment) => {
                let sale = payment.sale.as_ref();
                let reported = payment.reported.as_ref().map(|sale| &*sale.customer);
                let customer = sale.and_then(|sale| sale.customer.as_deref());
                let reported = reported.filter(|it| !it.is_empty() && Some(*it) != customer);
                (customer, reported)
            }
        };
        first.into_iter().chain(second)
    }

    /// Returns the customer of an account: of a subscription, of a customer at the provider, or of the
    /// shop's own. A store may hand out the records of that customer together with the account's.
    #[must_use]
    pub fn account_of(&self) -> Option<&str> {
        match &self.facts {
            Facts::Account(account) => account.customer.as_deref(),
            Facts::Payment(_) => None,
        }
    }

    /// Returns `true` if its customer was erased.
    pub(super) fn is_erased(&self) -> bool {
        match &self.facts {
            Facts::Payment(payment) => payment.is_erased,
            Facts::Account(account) => account.is_erased,
        }
    }

    /// Returns the links of the accounts that it is of: its own, or the subscription and the payer of a
    /// payment.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Link> {
        let (first, second) = match &self.facts {
            Facts::Account(_) => (self.links.first(), None),
            Facts::Payment(payment) => payment.sale.as_ref().map_or((None, None), |sale| {
                (sale.subscription.as_ref(), sale.payer.as_ref())
            }),
        };
        first.into_iter().chain(second)
    }

    pub(super) fn has_invoice(&self) -> bool {
        self.links.iter().any(Link::is_invoice)
    }

    /// Returns `true` if it is of a payment of which only refunds or links are known.
    pub(super) fn is_without_sale(&self) -> bool {
        self.payment().is_some_and(|payment| payment.sale.is_none())
    }

    pub(super) fn payment(&self) -> Option<&PaymentFacts> {
        match &self.facts {
            Facts::Payment(payment) => Some(payment),
            Facts::Account(_) => None,
        }
    }
}

impl AccountFacts {
    /// Returns who is credited with a payment of this moment.
    pub(super) fn credit_of(&self, paid_at: Option<OffsetDateTime>) -> Option<&Credit> {
        let is_earlier = paid_at
            .zip(self.credit_since)
            .is_some_and(|(at, since)| at < since);
        self.credit.as_ref().filter(|_| !is_earlier)
    }

    pub(super) fn erased() -> Self {
        Self {
            is_erased: true,
            ..Self::default()
        }
    }
}

impl PaymentFacts {
    /// Removes customer and referral, so that a refund still finds its order, and nothing else does.
    pub(super) fn erase(&mut self) {
        self.is_erased = true;
        if let Some(sale) = &mut self.sale {
            sale.customer = None;
            sale.subscription = None;
            sale.payer = None;
            sale.credit = None;
            sale.coupon = None;
        }
        if let Some(reported) = &mut self.reported {
            reported.customer.clear();
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut record = f.debug_struct("Record");
        record.field("id", &shown(&self.id));
        record.field("links", &self.links);
        if let Some(payment) = self.payment() {
            record
                .field("back", &payment.back)
                .field("totals", &payment.totals);
        }
        record.finish_non_exhaustive()
    }
}
