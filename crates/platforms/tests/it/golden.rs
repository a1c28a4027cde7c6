//! The JSON forms that last: what this version writes is what is checked in, and what earlier
//! versions and other languages wrote is read.

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;
use tower_referral_platforms::{
    Cancellation, Delivery, Money, PlatformId, Refund, RefundReversal, Report, Sale, SaleUpdate,
    SignUp,
};

use crate::stand_in::{clicked, credit};

const AT: OffsetDateTime = datetime!(2026-11-21 12:00:00 UTC);

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn reports() -> Vec<(&'static str, Report)> {
    let sign_up = SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_email("ada@example.com")
        .with_name("Ada")
        .with_surname("Lovelace")
        .with_date_of_birth("1815-12-10")
        .with_credit(
            clicked("PARTNER_1", "clk_1")
                .with_partner_id(PlatformId::new("part_1"))
                .with_source("parameter"),
        )
        .with_coupon("SUMMER")
        .with_tag("vip")
        .with_referral_url("https://shop.example/?aff=PARTNER_1")
        .with_campaign("camp_1")
        .with_action("lead")
        .with_ip("192.0.2.1".parse::<std::net::IpAddr>().unwrap())
        .with_user_agent("Firefox")
        .with_metadata("plan", "pro")
        .with_metadata("seats", 5)
        .with_signed_up_at(AT);
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", euros("99.99"))
        .unwrap()
        .with_credit(credit("PARTNER_1"))
        .with_subscription("month")
        .with_product("prod_1")
        .with_product_type("monthly")
        .with_commission_type("standard")
        .with_paid_at(AT);
    let guest = SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_email("ada@example.com");
    let refund = Refund::part("ORDER-1", euros("5"))
        .unwrap()
        .with_id("re_1")
        .unwrap()
        .with_sale_amount(euros("99.99"))
        .with_customer("CUSTOMER-1")
        .unwrap()
        .with_reason("broken")
        .with_reverse_paid_earnings(false)
        .with_refunded_at(AT);
    let reversal = RefundReversal::part("ORDER-1", euros("5"))
        .unwrap()
        .with_refund("re_1")
        .unwrap()
        .with_reason("dispute won");
    let update = SaleUpdate::new("ORDER-1", "u-1")
        .unwrap()
        .with_amount(euros("89.99"))
        .with_new_order("ORDER-2")
        .unwrap()
        .with_metadata("plan", "free")
        .recalculate_commissions();
    let cancellation = Cancellation::new("CUSTOMER-1")
        .unwrap()
        .with_subscription("sub_1")
        .unwrap()
        .with_email("ada@example.com")
        .with_cancelled_at(AT)
        .with_reason("too dear");
    vec![
        ("sign_up", sign_up.into()),
        ("sale", sale.into()),
        (
            "sale_guest",
            Sale::guest("ORDER-2", guest, euros("1")).unwrap().into(),
        ),
        ("refund", refund.into()),
        ("refund_whole", Refund::whole("ORDER-1").unwrap().into()),
        ("refund_reversal", reversal.clone().into()),
        (
            "refund_reversal_left",
            reversal
                .with_sale_amount(euros("99.99"))
                .with_total_refunded(euros("20"))
                .into(),
        ),
        ("sale_update", update.into()),
        ("cancellation", cancellation.into()),
    ]
}

fn golden(name: &str) -> String {
    let path = format!(
        "{}/tests/it/golden_files/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn reports_are_written_and_read_as_ever() {
    for (name, report) in reports() {
        let stored = golden(name);
        let written = serde_json::to_value(&report).unwrap();
        let expected: Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(written, expected, "{name}: {written:#}");
        assert_eq!(
            serde_json::from_str::<Report>(&stored).unwrap(),
            report,
            "{name}"
        );
    }
}

#[test]
fn another_language_writes_the_natural_fields() {
    for (json, id) in [
        (r#"{"kind":"sign_up","customer":"C1"}"#, "signup:C1"),
        (
            r#"{"kind":"sign_up","email":" a@b.example "}"#,
            "signup::a@b.example",
        ),
        (
            r#"{"kind":"sale","order":"O1","customer":"C1","amount":"99.99 EUR"}"#,
            "sale:O1",
        ),
        (
            r#"{"amount":"5 EUR","version":1,"order":"O:1","kind":"refund","x":[1]}"#,
            "refund:O%3A1::5.00 EUR",
        ),
        (
            r#"{"kind":"refund_reversal","order":"O1","refund":"re_1"}"#,
            "refund_reversal:O1:re_1",
        ),
        (
            r#"{"kind":"sale_update","order":"O1","update":"u"}"#,
            "sale_update:O1:u",
        ),
        (
            r#"{"kind":"cancellation","customer":"C1"}"#,
            "cancellation:C1",
        ),
    ] {
        let report: Report = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(report.id(), id);
    }
    let json = r#"{"kind":"sale","order":"O1","customer":"C1","amount":"9 EUR",
        "credit":{"key":null,"click_id":null},"coupon":null,"email":""}"#;
    let report: Report = serde_json::from_str(json).unwrap();
    assert_eq!((report.credit(), report.coupon()), (None, None));
    for bad in [
        r#"{"kind":"sign_up"}"#,
        r#"{"kind":"gift","order":"O1"}"#,
        r#"{"order":"O1"}"#,
        r#"{"version":2,"kind":"refund","order":"O1"}"#,
    ] {
        assert!(serde_json::from_str::<Report>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_delivery_is_written_and_read_as_ever() {
    let stored = golden("delivery");
    let delivery: Delivery = serde_json::from_str(&stored).unwrap();
    assert_eq!(delivery.attempts(), 3);
    assert_eq!(delivery.ids().customer, PlatformId::new("cus_1"));
    assert_eq!(
        serde_json::to_value(&delivery).unwrap(),
        serde_json::from_str::<Value>(&stored).unwrap()
    );
    // The report is enough.
    let least = r#"{"report":{"kind":"refund","order":"O1"}}"#;
    let delivery: Delivery = serde_json::from_str(least).unwrap();
    assert_eq!(delivery, Delivery::new(Refund::whole("O1").unwrap()));
    for bad in [
        r#"{"version":2,"report":{"kind":"refund","order":"O1"}}"#,
        r#"{"report":{"kind":"refund","order":"O1"},"state":"odd"}"#,
        r#"{"report":{"kind":"refund","order":"O1"},"state":"done"}"#,
    ] {
        assert!(serde_json::from_str::<Delivery>(bad).is_err(), "{bad}");
    }
}
