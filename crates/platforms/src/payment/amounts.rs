//! Arithmetic on amounts: the same share of the net as of the gross, rounded to what the currency can
//! pay out.

use crate::Money;

/// The amounts of one sale, as whole numbers of one unit: `10^scale` of them are one of the major
/// unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    gross: i128,
    net: i128,
    scale: u32,
    /// The smallest amount that can be paid, in these units.
    step: i128,
}

impl Ratio {
    /// `decimals` are those of the smallest amount that the provider knows.
    pub(super) fn new(gross: Money, net: Money, decimals: u8) -> Option<Self> {
        let smallest = u32::from(decimals.min(minor_decimals(&net)));
        let scale = scale_of(&gross).max(scale_of(&net)).max(smallest);
        Some(Self {
            gross: units(&gross, scale)?,
            net: units(&net, scale)?,
            scale,
            step: 10_i128.checked_pow(scale - smallest)?,
        })
    }

    pub(super) fn net(&self) -> i128 {
        self.net
    }

    pub(super) fn gross(&self) -> i128 {
        self.gross
    }

    /// Returns an amount in units, cut to whole ones.
    pub(super) fn units(&self, money: &Money) -> Option<i128> {
        let scale = scale_of(money).max(self.scale);
        Some(units(money, scale)? / 10_i128.checked_pow(scale - self.scale)?)
    }

    /// Returns the share of the net that this much of the gross is, rounded half up.
    pub(super) fn share(&self, gross: i128) -> Option<i128> {
        if self.gross <= 0 {
            return Some(0);
        }
        let divisor = self.gross.checked_mul(self.step)?;
        let doubled = gross.checked_mul(self.net)?.checked_mul(2)?;
        let steps = doubled
            .checked_add(divisor)?
            .div_euclid(divisor.checked_mul(2)?);
        steps.checked_mul(self.step)
    }

    pub(super) fn money(&self, units: i128, currency: &str) -> Option<Money> {
        let scale = u8::try_from(self.scale).ok()?;
        Money::from_scaled(i64::try_from(units).ok()?, scale, currency).ok()
    }
}

/// The digits behind the point of the currency's minor unit.
pub(super) fn minor_decimals(money: &Money) -> u8 {
    let smallest = Money::from_minor(1, money.currency());
    smallest.map_or(2, |money| u8::try_from(scale_of(&money)).unwrap_or(2))
}

fn scale_of(money: &Money) -> u32 {
    let amount = money.amount();
    let fraction = amount.split_once('.').map_or("", |(_, fraction)| fraction);
    u32::try_from(fraction.len()).unwrap_or(0)
}

fn units(money: &Money, scale: u32) -> Option<i128> {
    let digits: i128 = money.amount().replace('.', "").parse().ok()?;
    digits.checked_mul(10_i128.checked_pow(scale.checked_sub(scale_of(money))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(gross: &str, net: &str, decimals: u8, part: &str, currency: &str) -> String {
        let money = |text: &str| Money::new(text, currency).unwrap();
        let ratio = Ratio::new(money(gross), money(net), decimals).unwrap();
        let share = ratio.share(ratio.units(&money(part)).unwrap()).unwrap();
        ratio.money(share, currency).unwrap().amount()
    }

    #[test]
    fn rounds_to_what_the_currency_can_pay() {
        assert_eq!(share("119", "100", 2, "30", "EUR"), "25.21");
        assert_eq!(share("1190", "1000", 0, "100", "JPY"), "84");
        assert_eq!(share("11.9", "10", 3, "1", "KWD"), "0.84");
        assert_eq!(share("11.903", "10", 3, "1", "KWD"), "0.84");
        assert_eq!(share("1.05", "1", 3, "0.333", "KWD"), "0.317");
        // Stripe writes these with decimals that they don't have.
        assert_eq!(share("1240", "1000", 2, "100", "ISK"), "81");
        assert_eq!(share("100", "50", 2, "0.01", "EUR"), "0.01");
    }

    #[test]
    fn takes_the_largest_amounts() {
        assert_eq!(
            share(
                "999999999999999.99",
                "999999999999999.99",
                2,
                "999999999999999.99",
                "EUR"
            ),
            "999999999999999.99"
        );
    }
}
