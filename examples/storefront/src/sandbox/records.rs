//! What a platform remembers of what it was told.

use std::collections::HashMap;

use rust_decimal::Decimal;

#[derive(Default)]
pub(super) struct Records {
    /// Click IDs, in order, and the key of each.
    pub(super) clicks: Vec<(String, String)>,
    pub(super) customers: Vec<Customer>,
    pub(super) conversions: Vec<Conversion>,
    pub(super) refunds: Vec<Refund>,
    /// By customer.
    pub(super) balances: HashMap<String, Decimal>,
}

pub(super) struct Customer {
    pub(super) id: String,
    /// Who referred the customer.
    pub(super) credit: Option<String>,
}

#[derive(Clone)]
pub(super) struct Conversion {
    pub(super) number: u64,
    /// The shop's ID of it.
    pub(super) external_id: String,
    pub(super) kind: String,
    pub(super) amount: Decimal,
    pub(super) currency: String,
    /// Whom it credits, by what the shop said.
    pub(super) credit: String,
}

pub(super) struct Refund {
    pub(super) external_id: String,
    pub(super) id: Option<String>,
    pub(super) amount: Decimal,
}

impl Records {
    /// Drops the oldest.
    pub(super) fn forget_beyond(&mut self, most: usize) {
        fn cut<R>(records: &mut Vec<R>, most: usize) {
            records.drain(..records.len().saturating_sub(most));
        }
        cut(&mut self.clicks, most);
        cut(&mut self.customers, most);
        cut(&mut self.conversions, most);
        cut(&mut self.refunds, most);
    }

    pub(super) fn knows_click(&self, id: &str) -> bool {
        self.clicks.iter().any(|click| click.0 == id)
    }

    pub(super) fn customer(&self, id: &str) -> Option<&Customer> {
        self.customers.iter().find(|customer| customer.id == id)
    }

    pub(super) fn conversion(&mut self, external_id: &str) -> Option<&mut Conversion> {
        let mut conversions = self.conversions.iter_mut();
        conversions.find(|conversion| conversion.external_id == external_id)
    }

    pub(super) fn refund(&mut self, external_id: &str, id: Option<&str>, amount: Decimal) {
        self.refunds.push(Refund {
            external_id: external_id.to_owned(),
            id: id.map(str::to_owned),
            amount,
        });
    }
}
