//! The shop's own books, in memory: whose sign-ups and sales have been credited to whom. They see
//! to it that everything is credited once, however often it is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rust_decimal::Decimal;
use serde::Serialize;
use tower_referral::{Referral, ReferralKey};

#[derive(Debug)]
pub(crate) struct Books {
    pages: Mutex<Pages>,
    /// Why there is nobody else to tell.
    why_here: String,
}

#[derive(Debug, Default)]
struct Pages {
    /// By customer.
    sign_ups: HashMap<String, Credit>,
    /// By order.
    sales: HashMap<String, Sale>,
}

/// Who gets the credit, if anybody does.
type Credit = Option<ReferralKey>;

#[derive(Debug)]
struct Sale {
    credit: Credit,
    amount: Decimal,
    refunds: Vec<Refund>,
}

#[derive(Debug)]
struct Refund {
    id: Option<String>,
    amount: Decimal,
}

/// What became of a sign-up, a sale or a refund.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is credited.
    Recorded,
    /// It was told before; nothing is credited twice.
    Duplicate,
    /// Nobody referred this customer.
    NotAttributed,
}

/// Why a refund was refused.
#[derive(Debug)]
pub(crate) enum RefundError {
    UnknownOrder,
    MoreThanLeft { left: Decimal },
}

impl Books {
    /// `platform` is the name of the one that should be told, if there is any.
    pub(crate) fn new(platform: Option<&str>) -> Self {
        Self {
            pages: Mutex::default(),
            why_here: match platform {
                None => "No platform is configured".to_owned(),
                Some(name) => format!("Reporting to {name} is not built yet"),
            },
        }
    }

    /// Books a customer's sign-up. The first time decides.
    pub(crate) fn sign_up(&self, customer: &str, referral: Option<&Referral>) -> Report {
        match self.open().sign_ups.entry(customer.to_owned()) {
            Entry::Occupied(_) => duplicate("This customer has signed up before."),
            Entry::Vacant(entry) => {
                let credit = entry.insert(credit_of(referral));
                self.credited(credit, "the sign-up", "this visitor has no referral")
            }
        }
    }

    /// Books a sale. The first delivery of an order decides, and every other is a repetition.
    pub(crate) fn sale(
        &self,
        order: &str,
        amount: Decimal,
        referral: Result<&Referral, &str>,
    ) -> Report {
        match self.open().sales.entry(order.to_owned()) {
            Entry::Occupied(_) => duplicate("This order has been reported before."),
            Entry::Vacant(entry) => {
                let sale = entry.insert(Sale {
                    credit: credit_of(referral.ok()),
                    amount,
                    refunds: Vec::new(),
                });
                self.credited(&sale.credit, "the sale", referral.err().unwrap_or_default())
            }
        }
    }

    /// Books a refund, of all or a part.
    ///
    /// Two refunds of one order under the same ID, or without one of the same amount, are one
    /// refund that was told twice: rather that than taking a partner's commission back twice.
    pub(crate) fn refund(
        &self,
        order: &str,
        amount: Decimal,
        id: Option<&str>,
    ) -> Result<Report, RefundError> {
        let mut books = self.open();
        let sale = books
            .sales
            .get_mut(order)
            .ok_or(RefundError::UnknownOrder)?;
        let is_same = |refund: &Refund| match id {
            Some(id) => refund.id.as_deref() == Some(id),
            None => refund.id.is_none() && refund.amount == amount,
        };
        if sale.refunds.iter().any(is_same) {
            return Ok(duplicate("This refund has been reported before."));
        }
        let refunded: Decimal = sale.refunds.iter().map(|refund| refund.amount).sum();
        let left = sale.amount - refunded;
        if amount > left {
            return Err(RefundError::MoreThanLeft { left });
        }
        sale.refunds.push(Refund {
            id: id.map(str::to_owned),
            amount,
        });
        Ok(self.credited(
            &sale.credit,
            "the refund",
            "the sale was credited to nobody, so there is nothing to take back",
        ))
    }

    fn credited(&self, credit: &Credit, what: &str, why_not: &str) -> Report {
        match credit {
            Some(key) => Report {
                outcome: Outcome::Recorded,
                detail: format!(
                    "{}, so {what} is in the shop's own books, for {key}.",
                    self.why_here
                ),
            },
            None => Report {
                outcome: Outcome::NotAttributed,
                detail: format!("Nobody is credited with {what}: {why_not}."),
            },
        }
    }

    /// A handler that panicked with the books open leaves them as they were between two entries.
    fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credit_of(referral: Option<&Referral>) -> Credit {
    referral.map(|referral| referral.key().clone())
}

fn duplicate(detail: &str) -> Report {
    Report {
        outcome: Outcome::Duplicate,
        detail: format!("{detail} Nothing is credited twice."),
    }
}
