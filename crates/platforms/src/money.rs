//! Money: an exact decimal and its currency. No floating-point number is anywhere near it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// An amount of money, zero or more, in the major unit of its currency.
///
/// Exact: up to 18 digits, up to 9 of them behind the point. Nothing is ever rounded or scaled: 5000
/// yen are `5000`, and 99.99 euros are `99.99`, in JSON too. Two amounts are equal if their values
/// and currencies are, however they were written.
///
/// ```
/// use tower_referral_platforms::Money;
///
/// # fn main() -> Result<(), tower_referral_platforms::InvalidMoney> {
/// let price = Money::new("99.90", "EUR")?;
/// assert_eq!(price, Money::from_minor(9990, "eur")?); // as payment webhooks give it
/// assert_eq!(price.to_string(), "99.90 EUR");
/// assert_eq!(Money::from_minor(5000, "JPY")?.to_string(), "5000 JPY");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// The value is `digits / 10^scale`. No zero at the end while there is a scale, so that equal
    /// values are equal.
    digits: u64,
    scale: u8,
    currency: [u8; 3],
}

/// No amount has more digits; their number fits an `u64`.
const MAX_DIGITS: usize = 18;
/// No amount has more digits behind the point. No currency has over 4; computed shares may.
const MAX_SCALE: usize = 9;

impl Money {
    /// Reads an amount written as `99.99`, in a currency given by its ISO 4217 code.
    ///
    /// # Errors
    ///
    /// The amount isn't digits with at most one point between them, or is longer than
    /// [`Money`] holds; or the currency isn't three letters.
    pub fn new(amount: impl AsRef<str>, currency: impl AsRef<str>) -> Result<Self, InvalidMoney> {
        let currency = read_currency(currency.as_ref())?;
        let (whole, fraction) = match amount.as_ref().split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(InvalidMoney::Amount),
            None => (amount.as_ref(), ""),
        };
        let fraction = fraction.trim_end_matches('0');
        let whole = match whole.trim_start_matches('0') {
            "" if whole.is_empty() => return Err(InvalidMoney::Amount),
            digits => digits,
        };
        let is_bounded = fraction.len() <= MAX_SCALE && whole.len() + fraction.len() <= MAX_DIGITS;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_bounded || !is_plain(whole) || !is_plain(fraction) {
            return Err(InvalidMoney::Amount);
        }
        let digits = whole.bytes().chain(fraction.bytes());
        Ok(Self {
            digits: digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
            scale: fraction.len() as u8,
            currency,
        })
    }

    /// Creates an amount in the currency's minor unit by ISO 4217, as payment webhooks give it: 9999 is
    /// 99.99 in `EUR`, 9999 in `JPY` and 9.999 in `KWD`. A currency that isn't in the standard has
    /// two decimals.
    ///
    /// Payment providers have exceptions of their own. Stripe counts `ISK` and `UGX` in hundredths
    /// and `MGA` in whole units; for these, see [`from_scaled`](Self::from_scaled).
    ///
    /// # Errors
    ///
    /// The amount is below zero or has over 18 digits, or the currency isn't three letters.
    pub fn from_minor(units: i64, currency: impl AsRef<str>) -> Result<Self, InvalidMoney> {
        let decimals = decimals_of(read_currency(currency.as_ref())?);
        Self::from_scaled(units, decimals, currency)
    }

    /// Creates an amount in units of which `10^decimals` are one of the currency's major unit, whatever ISO
    /// 4217 says.
    ///
    /// # Errors
    ///
    /// The amount is below zero or has over 18 digits, the decimals are over 9, or the currency
    /// isn't three letters.
    pub fn from_scaled(
        units: i64,
        decimals: u8,
        currency: impl AsRef<str>,
    ) -> Result<Self, InvalidMoney> {
        let currency = read_currency(currency.as_ref())?;
        let mut digits = u64::try_from(units).map_err(|_| InvalidMoney::Amount)?;
        let mut scale = decimals;
        if digits >= 10_u64.pow(MAX_DIGITS as u32) || usize::from(scale) > MAX_SCALE {
            return Err(InvalidMoney::Amount);
        }
        while scale > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            scale -= 1;
        }
        Ok(Self {
            digits,
            scale,
            currency,
        })
    }

    /// Returns the amount in the currency's minor unit by ISO 4217: 9999 for `99.99 EUR`, 5000 for
    /// `5000 JPY`. `None` if it has a fraction of one.
    #[must_use]
    pub fn to_minor(&self) -> Option<u64> {
        self.to_scaled(decimals_of(self.currency))
    }

    /// Returns the amount in units of which `10^decimals` are one of the currency's major unit;
    /// `None` if it has a fraction of one or is too large.
    #[must_use]
    pub fn to_scaled(&self, decimals: u8) -> Option<u64> {
        let factor = decimals.checked_sub(self.scale)?;
        self.digits.checked_mul(10_u64.checked_pow(factor.into())?)
    }

    /// Returns the ISO 4217 code of the currency, in capitals.
    #[must_use]
    pub fn currency(&self) -> &str {
        // ASCII letters, by `read_currency`.
        std::str::from_utf8(&self.currency).unwrap_or_default()
    }

    /// Returns the amount as a decimal without superfluous zeros, for instance `99.9`: a JSON number.
    #[must_use]
    pub fn amount(&self) -> String {
        self.with_decimals(0)
    }

    /// Returns `true` if the amount is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.digits == 0
    }

    /// Returns what is left when `other` is taken away; `None` if that is more, or of another currency.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        let scale = self.scale.max(other.scale);
        let digits =
            |money: &Self| u128::from(money.digits) * 10_u128.pow(u32::from(scale - money.scale));
        self.of_digits(digits(self).checked_sub(digits(other))?, scale)
    }

    /// Returns the sum; `None` if it is too large, or the currencies differ.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        let scale = self.scale.max(other.scale);
        let digits =
            |money: &Self| u128::from(money.digits) * 10_u128.pow(u32::from(scale - money.scale));
        self.of_digits(digits(self) + digits(other), scale)
    }

    fn of_digits(&self, mut digits: u128, mut scale: u8) -> Option<Self> {
        while scale > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            scale -= 1;
        }
        let digits = u64::try_from(digits).ok()?;
        (digits < 10_u64.pow(MAX_DIGITS as u32)).then_some(Self {
            digits,
            scale,
            ..*self
        })
    }

    /// Returns the amount with at least so many digits behind the point.
    fn with_decimals(&self, decimals: usize) -> String {
        let scale = usize::from(self.scale);
        let digits = format!("{:0>width$}", self.digits, width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        match decimals.max(scale) {
            0 => whole.to_owned(),
            decimals => format!("{whole}.{fraction:0<decimals$}"),
        }
    }
}

/// Amounts of one currency are ordered.
impl PartialOrd for Money {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let scale = self.scale.max(other.scale);
        let digits =
            |money: &Self| u128::from(money.digits) * 10_u128.pow(u32::from(scale - money.scale));
        (self.currency == other.currency).then(|| digits(self).cmp(&digits(other)))
    }
}

/// `99.90 EUR`: with as many decimals as the currency has, or more if the amount does.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.with_decimals(decimals_of(self.currency).into());
        f.pad(&format!("{amount} {}", self.currency()))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Money({self})")
    }
}

/// Reads what `Display` writes: `99.90 EUR`.
impl FromStr for Money {
    type Err = InvalidMoney;

    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        let (amount, currency) = text.split_once(' ').ok_or(InvalidMoney::Amount)?;
        Self::new(amount, currency)
    }
}

fn read_currency(code: &str) -> Result<[u8; 3], InvalidMoney> {
    match <[u8; 3]>::try_from(code.as_bytes()) {
        Ok(code) if code.iter().all(u8::is_ascii_alphabetic) => {
            Ok(code.map(|b| b.to_ascii_uppercase()))
        }
        _ => Err(InvalidMoney::Currency),
    }
}

/// The digits behind the point by ISO 4217, list one; 2 where it says nothing else.
fn decimals_of(currency: [u8; 3]) -> u8 {
    match &currency {
        b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF"
        | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
        b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
        b"CLF" | b"UYW" => 4,
        _ => 2,
    }
}

/// A text or number that isn't an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidMoney {
    /// The amount isn't a decimal of zero or more that [`Money`] can hold.
    Amount,
    /// The currency isn't a code of three letters.
    Currency,
}

impl fmt::Display for InvalidMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amount => {
                "not an amount: write it as 99.99, zero or more, with at most 18 digits in all and \
                 9 behind the point"
            }
            Self::Currency => "not a currency: use its ISO 4217 code, for instance EUR",
        })
    }
}

impl std::error::Error for InvalidMoney {}

mod serde_impls {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::Money;

    /// As text, `99.90 EUR`, so that no reader makes a float of it.
    impl Serialize for Money {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Money {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        }
    }
}
