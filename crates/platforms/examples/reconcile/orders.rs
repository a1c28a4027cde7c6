//! The shop's orders, from a CSV, and the period that counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::error::Error;
use std::io::Read;

use tower_referral_platforms::Money;

/// Days as text, both included: they compare as they are written.
#[derive(Default)]
pub(crate) struct Period {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
}

impl Period {
    pub(crate) fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Is this moment, which begins with its day, within the period?
    pub(crate) fn has(&self, moment: &str) -> bool {
        let day = moment.get(..10).unwrap_or(moment);
        self.from.as_deref().is_none_or(|from| day >= from)
            && self.to.as_deref().is_none_or(|to| day <= to)
    }
}

pub(crate) fn day(text: &str) -> Result<String, String> {
    let is_day = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_day
        .then(|| text.to_owned())
        .ok_or_else(|| "write it as YYYY-MM-DD".to_owned())
}

/// The shop's orders of the period.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) amounts: BTreeMap<String, Money>,
    pub(crate) uncredited: BTreeSet<String>,
    /// All that the CSV has, whenever they were.
    pub(crate) known: HashSet<String>,
    pub(crate) customers: BTreeSet<String>,
}

pub(crate) fn read_orders(
    file: &str,
    csv: impl Read,
    period: &Period,
    by_customer: bool,
) -> Result<Orders, Box<dyn Error>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(csv);
    let headers = reader.headers()?.clone();
    let column = |name: &str| {
        let mut names = headers
            .iter()
            .map(|header| header.trim_start_matches('\u{feff}'));
        let at = names.position(|header| header.eq_ignore_ascii_case(name));
        at.ok_or_else(|| format!("{file} has no column `{name}`: name it in the first line"))
    };
    let (order, amount, currency) = (column("order")?, column("amount")?, column("currency")?);
    let date = match (column("date"), period.is_whole()) {
        (Err(error), false) => return Err(error.into()),
        (date, _) => date.ok(),
    };
    let customer = match (column("customer"), by_customer) {
        (Err(error), true) => return Err(error.into()),
        (customer, _) => customer.ok(),
    };
    let credit = column("credit").ok();
    let mut orders = Orders::default();
    // The first line is the columns' names.
    for (record, line) in reader.records().zip(2..) {
        let record = record?;
        let field = |column| record.get(column).unwrap_or_default();
        let money = Money::new(field(amount), field(currency))
            .map_err(|error| format!("{file}, line {line}: {error}"))?;
        let id = field(order).to_owned();
        if id.is_empty() {
            return Err(format!("{file}, line {line}: the order has no ID").into());
        }
        if !orders.known.insert(id.clone()) {
            return Err(format!("{file}, line {line}: order {id} is there twice").into());
        }
        if let Some(date) = date
            && !period.has(field(date))
        {
            continue;
        }
        if credit.is_some_and(|credit| field(credit).is_empty()) {
            orders.uncredited.insert(id.clone());
        }
        if let Some(customer) = customer.map(field).filter(|customer| !customer.is_empty()) {
            orders.customers.insert(customer.to_owned());
        }
        orders.amounts.insert(id, money);
    }
    Ok(orders)
}
