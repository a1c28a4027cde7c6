//! The shop's own books: who signed up, what was sold and what went back, as it was told first. They
//! decide what is reported, so that a sale that is told again, after a restart too, is the same
//! report again. They are kept where the outbox is.

use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower_referral::Referral;
use tower_referral_platforms::{self as platform, Credit, Report};

use crate::store::{Store, StoreError};

/// The spaces of the store: by customer, and by order.
const SIGN_UPS: &str = "sign_ups";
const SALES: &str = "sales";
/// Whom to credit with orders whose payment couldn't take it along.
const CREDITS: &str = "credits";

#[derive(Clone, Debug)]
pub(crate) struct Books {
    store: Store,
}

/// What the books say was told first.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) report: Report,
    /// Who is to be credited; with a refund, who was credited with the sale.
    pub(crate) credit: Option<Credit>,
    /// It was told for the first time.
    pub(crate) is_new: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sale {
    report: platform::Sale,
    amount: Decimal,
    currency: String,
    refunds: Vec<Refund>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refund {
    report: platform::Refund,
    id: Option<String>,
    amount: Decimal,
}

/// Why a refund was refused.
#[derive(Debug)]
pub(crate) enum RefundError {
    UnknownOrder,
    MoreThanLeft { left: Decimal },
    Invalid(String),
    Store(StoreError),
}

impl Books {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Books a customer's sign-up. The first time decides.
    pub(crate) async fn sign_up(&self, sign_up: platform::SignUp) -> Result<Entry, StoreError> {
        let customer = sign_up.customer().to_owned();
        let (sign_up, is_new) = self.first(SIGN_UPS, &customer, sign_up).await?;
        Ok(Entry {
            credit: sign_up.credited_to().cloned(),
            report: sign_up.into(),
            is_new,
        })
    }

    /// Books a sale. The first delivery of an order decides, and every other is a repetition.
    pub(crate) async fn sale(
        &self,
        sale: platform::Sale,
        amount: Decimal,
        currency: String,
    ) -> Result<Entry, StoreError> {
        let order = sale.order().to_owned();
        let sale = Sale {
            report: sale,
            amount,
            currency,
            refunds: Vec::new(),
        };
        let (sale, is_new) = self.first(SALES, &order, sale).await?;
        Ok(Entry {
            credit: sale.report.credited_to().cloned(),
            report: sale.report.into(),
            is_new,
        })
    }

    /// Notes whom to credit with an order, until it is paid.
    pub(crate) async fn note_credit(
        &self,
        order: &str,
        referral: &Referral,
    ) -> Result<(), StoreError> {
        let credit = serde_json::to_string(&Credit::from(referral))?;
        self.store.put(CREDITS, order, &credit).await
    }

    pub(crate) async fn noted_credit(&self, order: &str) -> Result<Option<Credit>, StoreError> {
        let page = self.store.get(CREDITS, order).await?;
        Ok(page.map(|page| serde_json::from_str(&page)).transpose()?)
    }

    /// Books a refund, of all or a part.
    ///
    /// Two refunds of one order under the same ID, or without one of the same amount, are one
    /// refund that was told twice: rather that than taking a partner's commission back twice.
    pub(crate) async fn refund(
        &self,
        order: &str,
        amount: Decimal,
        id: Option<&str>,
    ) -> Result<Entry, RefundError> {
        loop {
            let page = self.store.get(SALES, order).await?;
            let page = page.ok_or(RefundError::UnknownOrder)?;
            let mut sale: Sale = serde_json::from_str(&page)?;
            let is_same = |refund: &&Refund| match id {
                Some(id) => refund.id.as_deref() == Some(id),
                None => refund.id.is_none() && refund.amount == amount,
            };
            if let Some(refund) = sale.refunds.iter().find(is_same) {
                return Ok(sale.entry(refund.report.clone(), false));
            }
            let refunded: Decimal = sale.refunds.iter().map(|refund| refund.amount).sum();
            let left = sale.amount - refunded;
            if amount > left {
                return Err(RefundError::MoreThanLeft { left });
            }
            let report = sale.refund(order, amount, id)?;
            sale.refunds.push(Refund {
                report: report.clone(),
                id: id.map(str::to_owned),
                amount,
            });
            let booked = serde_json::to_string(&sale)?;
            if self.store.swap(SALES, order, &page, &booked).await? {
                return Ok(sale.entry(report, true));
            }
            // Another refund of this order came in between.
        }
    }

    /// Strikes a refund out again, which the platform wouldn't have.
    pub(crate) async fn strike_refund(
        &self,
        order: &str,
        amount: Decimal,
        id: Option<&str>,
    ) -> Result<(), StoreError> {
        while let Some(page) = self.store.get(SALES, order).await? {
            let mut sale: Sale = serde_json::from_str(&page)?;
            sale.refunds
                .retain(|refund| refund.id.as_deref() != id || refund.amount != amount);
            let struck = serde_json::to_string(&sale)?;
            if self.store.swap(SALES, order, &page, &struck).await? {
                break;
            }
        }
        Ok(())
    }

    /// What is in the books under this name, once `told` is, if nothing was.
    async fn first<T: Serialize + DeserializeOwned>(
        &self,
        space: &str,
        name: &str,
        told: T,
    ) -> Result<(T, bool), StoreError> {
        let page = serde_json::to_string(&told)?;
        let is_new = self.store.insert(space, name, &page).await?;
        if is_new {
            return Ok((told, true));
        }
        let page = self.store.get(space, name).await?;
        let first = serde_json::from_str(&page.ok_or("the entry is gone")?)?;
        Ok((first, false))
    }
}

impl Sale {
    fn entry(&self, refund: platform::Refund, is_new: bool) -> Entry {
        Entry {
            report: refund.into(),
            credit: self.report.credited_to().cloned(),
            is_new,
        }
    }

    fn refund(
        &self,
        order: &str,
        amount: Decimal,
        id: Option<&str>,
    ) -> Result<platform::Refund, RefundError> {
        let refund = if amount == self.amount {
            platform::Refund::whole(order)?
        } else {
            let amount = platform::Money::new(amount.to_string(), &self.currency)?;
            platform::Refund::part(order, amount)?
        };
        Ok(match id {
            Some(id) => refund.id(id)?,
            None => refund,
        })
    }
}

impl From<platform::InvalidId> for RefundError {
    fn from(error: platform::InvalidId) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<platform::InvalidMoney> for RefundError {
    fn from(error: platform::InvalidMoney) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<StoreError> for RefundError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<serde_json::Error> for RefundError {
    fn from(error: serde_json::Error) -> Self {
        Self::Store(error.into())
    }
}
