//! What the platforms' own guides print, key by key: each example of a body as this crate sends it.

use serde_json::{Value, json};
use time::macros::datetime;
use tower_referral_platforms::affiliate::partnac::Landing;
use tower_referral_platforms::affiliate::partnero::{Friend, PartnerBy};
use tower_referral_platforms::{
    Money, Outcome, Partnac, Partnero, PartneroFriends, Refund, Report, ReportApi, Sale,
    SaleUpdate, SignUp,
};

use crate::stand_in::{Asked, StandIn, clicked, credit};

/// The answer that Partnero's guide prints, of an affiliate program and of friends.
const PRINTED: &str = r#"{
    "data": {
        "key": "customer_123",
        "partner": "PARTNER_KEY",
        "name": "John",
        "surname": "Doe",
        "email": "customer@example.com",
        "status": "active",
        "tags": [],
        "created_at": "2025-05-09T17:42:13.000000Z",
        "updated_at": "2025-05-09T17:42:13.000000Z"
    },
    "status": 1
}"#;
const PRINTED_FRIEND: &str = r#"{
    "data": {
        "id": "customer_123",
        "email": "alice@example.com",
        "name": "Alice",
        "surname": null,
        "status": "active",
        "approved": true,
        "referring_customer": {"id": "customer_1"},
        "referrals_count": 0,
        "referral_link": "https://yoursite.com?ref=x1y2",
        "referral_links": []
    },
    "status": 1
}"#;

async fn sent<P: ReportApi>(platform: P, answer: &str, report: impl Into<Report>) -> Asked {
    let stand_in = StandIn::new([(200, answer)]);
    let receipt = stand_in.client(platform).report(report).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    stand_in.only()
}

fn dollars(amount: &str) -> Money {
    Money::new(amount, "USD").unwrap()
}

fn partnero() -> Partnero {
    Partnero::new("YOUR_API_KEY").unwrap()
}

fn friends() -> PartneroFriends {
    PartneroFriends::new("YOUR_API_KEY").unwrap()
}

/// Checks what is printed, key by key; what comes with it is documented beside the example.
fn assert_printed(asked: &Asked, line: &str, printed: &Value, more: &[&str]) {
    assert_eq!(asked.line, line);
    assert_eq!(asked.headers["authorization"], "Bearer YOUR_API_KEY");
    assert_eq!(asked.headers["content-type"], "application/json");
    let mut body = asked.json();
    for name in more {
        assert!(body.as_object_mut().unwrap().remove(*name).is_some());
    }
    assert_eq!(body, *printed);
}

#[tokio::test]
async fn partneros_affiliate_sign_up() {
    let referral_url = "https://yoursite.com/pricing?aff=PARTNER_KEY_FROM_YOUR_STORAGE";
    let report = SignUp::new("customer_123")
        .unwrap()
        .with_email("customer@example.com")
        .with_name("John")
        .with_surname("Doe")
        .with_referral_url(referral_url)
        .with_credit(credit("PARTNER_KEY_FROM_YOUR_STORAGE"));
    let asked = sent(partnero(), PRINTED, report).await;
    let printed = json!({
        "partner": { "key": "PARTNER_KEY_FROM_YOUR_STORAGE" },
        "key": "customer_123",
        "email": "customer@example.com",
        "name": "John",
        "surname": "Doe",
        "options": { "referral_url": referral_url },
    });
    assert_printed(&asked, "POST /v1/customers", &printed, &[]);

    let report = SignUp::new("customer_123")
        .unwrap()
        .with_tag("trial")
        .with_credit(credit("partner@example.com"));
    let by_email = partnero().partner_by(PartnerBy::Email);
    let asked = sent(by_email, PRINTED, report).await;
    assert_eq!(
        asked.json(),
        json!({"partner": {"email": "partner@example.com"}, "key": "customer_123", "tags": ["trial"]})
    );
}

#[tokio::test]
async fn partneros_friend_signs_up() {
    let report = SignUp::new("customer_456")
        .unwrap()
        .with_email("friend@example.com")
        .with_name("Alex")
        .with_credit(credit("REFERRAL_KEY_FROM_YOUR_STORAGE"));
    let asked = sent(friends(), PRINTED_FRIEND, report).await;
    let printed = json!({
        "referring_customer": { "key": "REFERRAL_KEY_FROM_YOUR_STORAGE" },
        "key": "customer_456",
        "email": "friend@example.com",
        "name": "Alex",
    });
    assert_printed(&asked, "POST /v1/customers", &printed, &["id"]);

    // Not referred: the field is left out. And what the parameters' table has besides.
    let report = SignUp::by_email("alice@example.com")
        .unwrap()
        .with_name("Alice")
        .with_date_of_birth("1990-05-17");
    let stand_in = StandIn::new([(200, PRINTED_FRIEND)]);
    let receipt = stand_in.client(friends()).report(report).await.unwrap();
    assert_eq!(
        stand_in.only().json(),
        json!({
            "email": "alice@example.com",
            "name": "Alice",
            "metadata": { "date_of_birth": "1990-05-17" },
        })
    );
    // The answer's link is for the customer's page.
    let friend = Friend::of_sign_up(&receipt).unwrap();
    assert_eq!(friend.id(), Some("customer_123"));
    assert_eq!(
        friend.referral_link(),
        Some("https://yoursite.com?ref=x1y2")
    );

    let report = SignUp::new("c").unwrap().with_credit(credit("customer_1"));
    let asked = sent(friends().referrer_by_id(), PRINTED_FRIEND, report).await;
    assert_eq!(
        asked.json()["referring_customer"],
        json!({"id": "customer_1"})
    );
}

#[tokio::test]
async fn partneros_sales() {
    let sale = || Sale::new("invoice_123", "customer_123", dollars("99.99")).unwrap();
    let printed = json!({
        "customer": { "key": "customer_123" },
        "key": "invoice_123",
        "amount": 99.99,
        "action": "sale",
    });
    let asked = sent(partnero(), PRINTED, sale()).await;
    assert_printed(&asked, "POST /v1/transactions", &printed, &["amount_units"]);
    let asked = sent(friends(), PRINTED, sale()).await;
    assert_printed(&asked, "POST /v1/transactions", &printed, &["amount_units"]);

    let report = sale()
        .with_action("upgrade")
        .with_product("pro")
        .with_subscription("year")
        .with_paid_at(datetime!(2026-11-01 10:00:00 UTC));
    let asked = sent(partnero(), PRINTED, report).await;
    assert_eq!(
        asked.json(),
        json!({
            "customer": { "key": "customer_123" },
            "key": "invoice_123",
            "amount": 99.99,
            "amount_units": "USD",
            "action": "upgrade",
            "product_id": "pro",
            "product_type": "yearly",
            "created_at": "2026-11-01T10:00:00Z",
        })
    );

    let stand_in = StandIn::new([(200, r#"{"data":[{"key":"invoice_123"}],"status":1}"#)]);
    let other = Sale::new("invoice_456", "customer_123", dollars("199.99")).unwrap();
    let client = stand_in.client(partnero());
    client.report_sales(&[sale(), other]).await.unwrap();
    let mut body = stand_in.only().json();
    for item in body["transactions"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().remove("amount_units");
    }
    assert_eq!(
        body,
        json!({
            "customer": { "key": "customer_123" },
            "transactions": [
                { "key": "invoice_123", "amount": 99.99, "action": "sale" },
                { "key": "invoice_456", "amount": 199.99, "action": "sale" },
            ],
        })
    );
}

#[tokio::test]
async fn partneros_credit() {
    let stand_in = StandIn::new([(200, r#"{"status":1}"#), (200, r#"{"status":1}"#)]);
    let client = stand_in.client(friends());
    client
        .credit_friend("customer_123", dollars("10"))
        .await
        .unwrap();
    client
        .credit_friend_points("customer_123", 250, "points")
        .await
        .unwrap();
    let asked = stand_in.asked();
    let line = "POST /v1/customers/customer_123/balance/credit";
    assert_printed(
        &asked[0],
        line,
        &json!({"amount": 10, "is_currency": true, "amount_units": "USD"}),
        &[],
    );
    assert_printed(
        &asked[1],
        line,
        &json!({"amount": 250, "is_currency": false, "amount_units": "points"}),
        &[],
    );
}

#[tokio::test]
async fn partnacs_conversion() {
    let report = Sale::new("order_10045", "cus_987654", dollars("99.00"))
        .unwrap()
        .with_ip("192.168.1.1".parse::<std::net::IpAddr>().unwrap())
        .with_user_agent("Mozilla/5.0...")
        .with_credit(credit("PARTNER_REF_123"));
    let partnac = || Partnac::new("YOUR_API_KEY").unwrap();
    let asked = sent(partnac(), r#"{"id":1}"#, report).await;
    let mut printed = json!({
        "partnership_code": "PARTNER_REF_123",
        "unique_id": "order_10045",
        "conversion_type": "sale",
        "amount": 99,
        "metadata": {
            "currency": "USD",
            "customer_id": "cus_987654",
            "ip_address": "192.168.1.1",
            "user_agent": "Mozilla/5.0...",
        },
    });
    assert_printed(&asked, "POST /v1/tracking/conversions", &printed, &[]);

    // Every other field, metadata of any type, and every conversion type.
    for kind in ["sale", "lead", "referral", "subscription", "custom"] {
        let report = Sale::new("order_10045", "cus_987654", dollars("99.00"))
            .unwrap()
            .with_action(kind)
            .with_campaign("camp_1")
            .with_coupon("SUMMER")
            .with_metadata("country", "DE")
            .with_metadata("city", "Berlin")
            .with_metadata("region", "BE")
            .with_metadata("seats", 3)
            .with_metadata("trial", true)
            .with_metadata("plan", json!({"name": "pro", "addons": ["x", null, 1.5]}))
            .with_credit(clicked("PARTNER_REF_123", "clk_1"));
        let asked = sent(partnac(), r#"{"id":1}"#, report).await;
        printed["conversion_type"] = kind.into();
        printed["campaign_id"] = "camp_1".into();
        printed["session_id"] = "clk_1".into();
        printed["metadata"] = json!({
            "currency": "USD",
            "customer_id": "cus_987654",
            "coupon_code": "SUMMER",
            "country": "DE",
            "city": "Berlin",
            "region": "BE",
            "seats": 3,
            "trial": true,
            "plan": {"name": "pro", "addons": ["x", null, 1.5]},
        });
        assert_eq!(asked.json(), printed);
    }

    let report = SignUp::new("cus_987654").unwrap().with_credit(credit("P"));
    let asked = sent(partnac(), r#"{"id":1}"#, report).await;
    assert_eq!(asked.json()["conversion_type"], "lead");
    assert_eq!(asked.json()["amount"], 0);
}

#[tokio::test]
async fn partnacs_refund_update_and_click() {
    let partnac = || Partnac::new("YOUR_API_KEY").unwrap();
    let refund = Refund::part("order_10045", dollars("10.50"))
        .unwrap()
        .with_id("re_1")
        .unwrap()
        .with_reason("customer_request")
        .with_reverse_paid_earnings(true);
    let asked = sent(partnac(), r#"{"id":1}"#, refund).await;
    let line = "POST /v1/tracking/conversions/order_10045/refund";
    let printed = json!({
        "amount": 10.5,
        "reason": "customer_request",
        "external_refund_id": "re_1",
        "reverse_paid_earnings": true,
    });
    assert_printed(&asked, line, &printed, &[]);

    let update = SaleUpdate::new("order_10045", "u1")
        .unwrap()
        .with_amount(dollars("120"))
        .with_new_order("order_10045b")
        .unwrap()
        .with_metadata("upsold", true)
        .recalculate_commissions();
    let asked = sent(partnac(), r#"{"id":1}"#, update).await;
    let line = "PATCH /v1/tracking/conversions/order_10045";
    let printed = json!({
        "amount": 120,
        "unique_id": "order_10045b",
        "metadata": {"upsold": true},
        "recalculate_commissions": true,
    });
    assert_printed(&asked, line, &printed, &[]);

    let stand_in = StandIn::new([(201, r#"{"click_id":"clk_9"}"#)]);
    let client = stand_in.client(partnac());
    let landing = Landing::new("PARTNER_REF_123".parse().unwrap(), "https://shop.example/p")
        .referrer("https://blog.example/post")
        .screen_width(1920)
        .ip("192.168.1.1".parse().unwrap());
    let click = client.create_landing_click(&landing).await.unwrap();
    assert_eq!(click.id().as_str(), "clk_9");
    let printed = json!({
        "partnership_code": "PARTNER_REF_123",
        "click_url": "https://shop.example/p",
        "referrer_url": "https://blog.example/post",
        "screen_width": 1920,
        "ip_address": "192.168.1.1",
    });
    assert_printed(&stand_in.only(), "POST /v1/tracking/clicks", &printed, &[]);
}
