//! The reports that platforms are told of, of every kind, and what is in them.

use tower_referral::click::ClickRequest;
use tower_referral::{ClickId, ReferralKey};
use tower_referral_platforms::{
    Cancellation, Credit, Money, PlatformId, PlatformIds, Refund, RefundReversal, Report,
    ReportRequest, Sale, SaleUpdate, SignUp,
};

/// The API key of every platform.
pub const API_KEY: &str = "sk-SECRET/KEY";
/// The customer.
pub const CUSTOMER: &str = "CUST 1";
/// The order.
pub const ORDER: &str = "ORDER-1";
/// The customer's e-mail address.
pub const EMAIL: &str = "jane@shop.example";
/// The referral key.
pub const KEY: &str = "PARTNER_123";

const CLICK_ID: &str = "click-4711";
const PARTNER_ID: &str = "part-0815";
const COUPON: &str = "SUMMER";
const REFUND: &str = "REFUND-1";
const IP: &str = "203.0.113.77";
const USER_AGENT: &str = "Jane's browser/7";
const REFERRER: &str = "https://blog.example";
const LANDING: &str = "https://shop.example/from-the-blog?via=PARTNER_123";

/// All that could be told of a person or of the shop's business.
const TEXTS: [&str; 11] = [
    CUSTOMER, ORDER, EMAIL, KEY, CLICK_ID, PARTNER_ID, COUPON, REFUND, IP, USER_AGENT, "Doe-Doe",
];

/// What a platform is told, and what of it must not come back in an error.
pub struct Told {
    /// The report.
    pub report: Report,
    /// The texts that are in it.
    pub texts: Vec<&'static str>,
}

fn money(amount: &str) -> Money {
    Money::new(amount, "EUR").expect("money")
}

fn key() -> ReferralKey {
    KEY.parse().expect("a key")
}

fn click_id() -> ClickId {
    CLICK_ID.parse().expect("a click ID")
}

/// The IDs that a platform gave before.
#[must_use]
pub fn ids() -> PlatformIds {
    let mut ids = PlatformIds::default();
    ids.customer = PlatformId::new("cus_1");
    ids.sale = PlatformId::new("txn/1");
    ids
}

/// A click, and what of it must not come back.
#[must_use]
pub fn click() -> (ClickRequest, Vec<&'static str>) {
    let click = ClickRequest::new(key(), LANDING)
        .with_referrer(REFERRER)
        .with_ip(IP.parse().expect("an address"))
        .with_user_agent(USER_AGENT);
    (click, vec![KEY, LANDING, REFERRER, IP, USER_AGENT])
}

/// Orders for one batch.
#[must_use]
pub fn batch() -> Vec<ReportRequest> {
    let credit = || Credit::of_click(click_id());
    let sale = |order| Sale::new(order, CUSTOMER, money("99.90")).expect("IDs");
    let sales = [ORDER, "ORDER-2", "ORDER-3"].map(|order| sale(order).with_credit(credit()));
    let mut batch: Vec<ReportRequest> = sales.map(ReportRequest::new).into();
    // Of these, nothing goes into it.
    batch.push(ReportRequest::new(Refund::whole(ORDER).expect("an ID")));
    batch.push(ReportRequest::new(sale("ORDER-4")));
    batch
}

/// Every kind of report, with and without what decides how it is told.
#[must_use]
pub fn reports() -> Vec<Told> {
    let keyed = || Credit::new(key());
    let credit = || keyed().with_click_id(click_id());
    let sign_up = || SignUp::new(CUSTOMER).expect("an ID").with_email(EMAIL);
    let sale = || Sale::new(ORDER, CUSTOMER, money("99.90")).expect("IDs");
    let guest = |sign_up| Sale::guest(ORDER, sign_up, money("99.90")).expect("an ID");
    let whole = || Refund::whole(ORDER).expect("an ID");
    let part = || Refund::part(ORDER, money("5")).expect("an ID");
    let reversal = || RefundReversal::part(ORDER, money("5")).expect("an ID");
    let update = || SaleUpdate::new(ORDER, "update-1").expect("IDs");
    let ip = || IP.parse::<std::net::IpAddr>().expect("an address");
    let left = part()
        .with_sale_amount(money("99.90"))
        .with_total_refunded(money("5"));
    let named = sign_up().with_name("Jane").with_surname("Doe-Doe");
    let reports: Vec<Report> = vec![
        sign_up().with_credit(credit()).with_coupon(COUPON).into(),
        sign_up().with_credit(keyed()).into(),
        sign_up().into(),
        sale().with_credit(credit()).with_coupon(COUPON).into(),
        sale().with_coupon(COUPON).into(),
        sale().into(),
        guest(sign_up().with_credit(credit())).into(),
        guest(sign_up()).into(),
        whole().into(),
        part().into(),
        left.with_customer(CUSTOMER).expect("an ID").into(),
        reversal().into(),
        reversal()
            .with_sale_amount(money("99.90"))
            .with_total_refunded(money("20"))
            .into(),
        reversal()
            .with_sale_amount(money("99.90"))
            .with_total_refunded(money("94.90"))
            .into(),
        update().with_amount(money("5")).into(),
        whole()
            .with_sale_amount(money("99.90"))
            .with_customer(CUSTOMER)
            .expect("an ID")
            .into(),
        part()
            .with_id(REFUND)
            .and_then(|it| it.with_customer(CUSTOMER))
            .expect("IDs")
            .into(),
        RefundReversal::whole(ORDER).expect("an ID").into(),
        Cancellation::new(CUSTOMER)
            .expect("an ID")
            .with_email(EMAIL)
            .into(),
        named
            .with_credit(keyed())
            .with_ip(ip())
            .with_user_agent(USER_AGENT)
            .into(),
        sale()
            .with_credit(keyed())
            .with_ip(ip())
            .with_user_agent(USER_AGENT)
            .into(),
        sale()
            .with_credit(Credit::of_click(click_id()))
            .with_subscription("month")
            .into(),
        sign_up()
            .with_credit(credit().with_partner_id(PlatformId::new(PARTNER_ID)))
            .into(),
        sign_up().with_action("Trial").into(),
    ];
    let told = |report: Report| {
        let written = serde_json::to_string(&report).expect("JSON");
        let texts = TEXTS.into_iter().filter(|text| written.contains(text));
        Told {
            texts: texts.collect(),
            report,
        }
    };
    reports.into_iter().map(told).collect()
}
