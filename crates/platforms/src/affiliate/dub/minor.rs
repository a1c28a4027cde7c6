//! Amounts in the units that Dub takes.
//!
//! Its documentation has cents "for all two-decimal currencies" and the full amount for those without
//! decimals; for three decimals it says nothing. Its published source divides everything by 100 but for a list
//! of currencies, which isn't that of ISO 4217: `MGA` is on it, `ISK` isn't.

use crate::{Error, InvalidMoney, Money, Unsupported};

/// The currencies whose amounts Dub takes whole.
const WHOLE: [&str; 16] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV",
    "XAF", "XOF", "XPF",
];

fn decimals(currency: &str) -> u8 {
    if WHOLE.iter().any(|it| it.eq_ignore_ascii_case(currency)) {
        0
    } else {
        2
    }
}

/// Returns an amount as Dub takes it.
pub(super) fn units(money: &Money) -> Result<u64, Error> {
    let units = money.to_scaled(decimals(money.currency()));
    units.ok_or(Error::Unsupported(Unsupported::Value("amount")))
}

/// Reads an amount as Dub gives it.
pub(super) fn money(units: i64, currency: &str) -> Result<Money, InvalidMoney> {
    Money::from_scaled(units, decimals(currency), currency)
}
