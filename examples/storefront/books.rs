//! The shop's own books, in memory: what was sold and what went back, and what has been reported. They
//! see to it that everything is reported once, however often it is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rust_decimal::Decimal;
use tower_referral::platform::{InvalidId, InvalidMoney, Money, Refund};

#[derive(Debug, Default)]
pub(crate) struct Books {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// By order.
    sales: HashMap<String, Sale>,
    /// By the report's ID.
    told: HashMap<String, Told>,
}

#[derive(Debug)]
struct Sale {
    amount: Decimal,
    currency: String,
    /// By ID, or by amount where there is none.
    refunds: HashMap<String, Decimal>,
}

/// Where a report is that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is being told, or was.
    Yes,
    /// Nobody knows whether the platform has it.
    Undecided,
}

/// Why a refund was refused.
#[derive(Debug)]
pub(crate) enum RefundError {
    UnknownOrder,
    MoreThanLeft { left: Decimal },
    Invalid(String),
}

impl From<InvalidId> for RefundError {
    fn from(error: InvalidId) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<InvalidMoney> for RefundError {
    fn from(error: InvalidMoney) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl Books {
    /// Notes that a report is being told. It isn't if it was before: then here is how that went.
    pub(crate) fn begin(&self, report: &str) -> Result<(), Told> {
        match self.open().told.entry(report.to_owned()) {
            Entry::Occupied(told) => Err(*told.get()),
            Entry::Vacant(untold) => {
                untold.insert(Told::Yes);
                Ok(())
            }
        }
    }

    /// Notes that a report came to nothing and may be told again.
    pub(crate) fn begin_anew(&self, report: &str) {
        self.open().told.remove(report);
    }

    /// Notes that nobody knows what became of a report.
    pub(crate) fn undecided(&self, report: &str) {
        self.open().told.insert(report.to_owned(), Told::Undecided);
    }

    /// Books a sale. The first delivery of an order decides.
    pub(crate) fn sale(&self, order: &str, amount: Decimal, currency: &str) {
        let mut books = self.open();
        let sale = books.sales.entry(order.to_owned());
        sale.or_insert_with(|| Sale {
            amount,
            currency: currency.to_owned(),
            refunds: HashMap::new(),
        });
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
    ) -> Result<Refund, RefundError> {
        let mut books = self.open();
        let sale = books
            .sales
            .get_mut(order)
            .ok_or(RefundError::UnknownOrder)?;
        let refund = if amount == sale.amount {
            Refund::whole(order)?
        } else {
            let amount = Money::new(amount.to_string(), &sale.currency)?;
            Refund::part(order, amount)?
        };
        let refund = match id {
            Some(id) => refund.id(id)?,
            None => refund,
        };
        let which = id.map_or_else(
            || format!("{}", amount.normalize()),
            |id| format!("id {id}"),
        );
        if !sale.refunds.contains_key(&which) {
            let left = sale.amount - sale.refunds.values().sum::<Decimal>();
            if amount > left {
                return Err(RefundError::MoreThanLeft { left });
            }
            sale.refunds.insert(which, amount);
        }
        Ok(refund)
    }

    /// A handler that panicked with the books open leaves them as they were between two entries.
    fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
