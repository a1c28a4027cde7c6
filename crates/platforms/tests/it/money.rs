//! Money: exact, with its currency, and never a float on its way.

use tower_referral_platforms::{InvalidMoney, Money};

fn money(amount: &str, currency: &str) -> Money {
    Money::new(amount, currency).unwrap()
}

#[test]
fn an_amount_is_what_was_written() {
    for (written, amount, shown) in [
        ("99.99", "99.99", "99.99 EUR"),
        ("99.9", "99.9", "99.90 EUR"),
        ("99.90", "99.9", "99.90 EUR"),
        ("99", "99", "99.00 EUR"),
        ("0", "0", "0.00 EUR"),
        ("0.00", "0", "0.00 EUR"),
        ("007.10", "7.1", "7.10 EUR"),
        ("0.1", "0.1", "0.10 EUR"),
        ("0.05", "0.05", "0.05 EUR"),
        ("33.333333333", "33.333333333", "33.333333333 EUR"),
        ("100", "100", "100.00 EUR"),
        // No float holds these.
        (
            "9007199254740993",
            "9007199254740993",
            "9007199254740993.00 EUR",
        ),
        (
            "123456789012345.678",
            "123456789012345.678",
            "123456789012345.678 EUR",
        ),
        (
            "999999999999999999",
            "999999999999999999",
            "999999999999999999.00 EUR",
        ),
    ] {
        let money = money(written, "EUR");
        assert_eq!(money.amount(), amount);
        assert_eq!(money.to_string(), shown);
        assert_eq!(shown.parse(), Ok(money));
    }
}

#[test]
fn minor_units_are_those_of_the_currency() {
    for (units, currency, shown) in [
        (9999, "eur", "99.99 EUR"),
        (9900, "EUR", "99.00 EUR"),
        (5, "USD", "0.05 USD"),
        (0, "USD", "0.00 USD"),
        (9999, "JPY", "9999 JPY"),
        (5000, "jpy", "5000 JPY"),
        (9999, "KWD", "9.999 KWD"),
        (9999, "CLF", "0.9999 CLF"),
        (9999, "XYZ", "99.99 XYZ"),
    ] {
        assert_eq!(
            Money::from_minor(units, currency).unwrap().to_string(),
            shown
        );
    }
    // Stripe's own way with Icelandic krónur.
    let krona = Money::from_scaled(10000, 2, "isk").unwrap();
    assert_eq!(krona, money("100", "ISK"));
    assert_ne!(krona, Money::from_minor(10000, "ISK").unwrap());
}

#[test]
fn equal_is_what_is_worth_the_same() {
    assert_eq!(money("1.50", "EUR"), money("1.5", "eur"));
    assert_eq!(money("10", "EUR"), Money::from_minor(1000, "EUR").unwrap());
    assert_ne!(money("1.5", "EUR"), money("1.5", "USD"));
    assert_ne!(money("1.5", "EUR"), money("15", "EUR"));
    assert!(money("0.00", "EUR").is_zero() && !money("0.01", "EUR").is_zero());
}

#[test]
fn what_is_left() {
    let left = |a: &str, b: &str| money(a, "EUR").checked_sub(&money(b, "EUR"));
    assert_eq!(left("99.99", "9.9"), Some(money("90.09", "EUR")));
    assert_eq!(left("100", "0.01"), Some(money("99.99", "EUR")));
    assert_eq!(left("1.5", "0.5"), Some(money("1", "EUR")));
    assert_eq!(left("5", "5"), Some(money("0", "EUR")));
    assert_eq!(left("5", "5.01"), None);
    assert_eq!(left("999999999999999999", "0.000000001"), None, "no room");
    assert_eq!(money("5", "EUR").checked_sub(&money("1", "USD")), None);
}

#[test]
fn what_is_no_money_is_refused() {
    for amount in [
        "",
        " ",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1,50",
        "1.2.3",
        "1e3",
        "0x1",
        "NaN",
        "inf",
        " 1",
        "1 ",
        "1_000",
        "١",
        "0.0000000001",
        "1000000000000000000",
        "12345678901.123456789",
    ] {
        assert_eq!(
            Money::new(amount, "EUR"),
            Err(InvalidMoney::Amount),
            "{amount:?}"
        );
    }
    for currency in ["", "E", "EURO", "EU1", "€", "E R", "EÜ"] {
        assert_eq!(
            Money::new("1", currency),
            Err(InvalidMoney::Currency),
            "{currency:?}"
        );
        assert_eq!(Money::from_minor(1, currency), Err(InvalidMoney::Currency));
    }
    for units in [-1, i64::MIN, i64::MAX, 1_000_000_000_000_000_000] {
        assert_eq!(Money::from_minor(units, "EUR"), Err(InvalidMoney::Amount));
    }
    assert!(Money::from_minor(999_999_999_999_999_999, "EUR").is_ok());
    assert_eq!(Money::from_scaled(1, 10, "EUR"), Err(InvalidMoney::Amount));
    assert!("1".parse::<Money>().is_err() && "1 EUR ".parse::<Money>().is_err());
}

#[test]
fn stored_it_is_text() {
    let money = money("99.90", "EUR");
    assert_eq!(serde_json::to_string(&money).unwrap(), r#""99.90 EUR""#);
    assert_eq!(
        serde_json::from_str::<Money>(r#""99.90 EUR""#).unwrap(),
        money
    );
    for bad in [r#""99.90""#, "99.90", r#""-1 EUR""#, "null"] {
        assert!(serde_json::from_str::<Money>(bad).is_err(), "{bad}");
    }
}
