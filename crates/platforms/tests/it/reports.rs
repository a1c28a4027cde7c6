//! Reports as values: what can be said, what can't, how they are told apart, and how they wait in a
//! queue.

use std::convert::Infallible;
use std::task::{Context, Poll, Waker};

use tower_referral::KeyRule;
use tower_referral::click::ClickRequest;
use tower_referral_platforms::{
    Advice, Cancellation, Client, Credit, Error, Money, Outcome, Partnac, PlatformId, Refund,
    RefundReversal, Report, ReportRequest, Sale, SaleUpdate, SignUp,
};

use crate::stand_in::{NOBODY, StandIn, clicked, credit};

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn full_sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("99.99"))
        .unwrap()
        .with_credit(clicked("PARTNER_1", "clk_1"))
        .with_coupon("SUMMER")
        .with_product("prod_1")
        .with_product_type("monthly")
        .with_metadata("plan", "pro")
}

fn full_sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_email("ada@example.com")
        .with_name("Ada")
        .with_surname("Lovelace")
        .with_credit(credit("PARTNER_1"))
        .with_coupon("SUMMER")
        .with_metadata("plan", "pro")
}

#[test]
fn every_report_has_an_id_of_its_own() {
    let refund = || Refund::part("ORDER-1", euros("5")).unwrap();
    let ids: Vec<String> = [
        Report::from(full_sign_up()),
        full_sale().into(),
        Refund::whole("ORDER-1").unwrap().into(),
        refund().with_id("re_1").unwrap().into(),
        refund().into(),
        Refund::part("ORDER-1", euros("6")).unwrap().into(),
        Sale::new("CUSTOMER-1", "CUSTOMER-1", euros("1"))
            .unwrap()
            .into(),
        // IDs that look like parts of other IDs.
        Refund::whole("ORDER-1:re_1").unwrap().into(),
        Refund::whole("ORDER-1%3Are_1").unwrap().into(),
        refund().with_id(":5.00 EUR").unwrap().into(),
    ]
    .iter()
    .map(Report::id)
    .collect();
    assert_eq!(ids[0], "signup:CUSTOMER-1");
    assert_eq!(ids[1], "sale:ORDER-1");
    assert_eq!(ids[2], "refund:ORDER-1");
    assert_eq!(ids[3], "refund:ORDER-1:re_1");
    assert_eq!(ids[4], "refund:ORDER-1::5.00 EUR");
    let different: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");

    let same = Refund::part("ORDER-1", euros("5.00")).unwrap();
    assert_eq!(Report::from(same).id(), ids[4]);
}

#[test]
fn a_sale_depends_on_its_sign_up_and_a_refund_for_its_sale() {
    let sale = Report::from(full_sale());
    assert_eq!(sale.depends_on(), Some(Report::from(full_sign_up()).id()));
    let refund = Report::from(Refund::whole("ORDER-1").unwrap());
    assert_eq!(refund.depends_on(), Some(sale.id()));
    assert_eq!(Report::from(full_sign_up()).depends_on(), None);
    let guest = Sale::guest("ORDER-2", full_sign_up(), euros("1")).unwrap();
    assert_eq!(Report::from(guest).depends_on(), None);
    let update = Report::from(SaleUpdate::new("ORDER-1", "u").unwrap());
    let reversal = Report::from(RefundReversal::whole("ORDER-1").unwrap());
    assert_eq!(update.depends_on(), Some(sale.id()));
    assert_eq!(reversal.depends_on(), Some(sale.id()));
}

#[test]
fn a_reversal_says_what_is_left() {
    let part = |amount, total| {
        let reversal = RefundReversal::part("ORDER-1", euros(amount)).unwrap();
        let reversal = reversal
            .with_sale_amount(euros("100"))
            .with_total_refunded(euros(total));
        (reversal.left(), reversal.reverses_whole())
    };
    assert_eq!(part("100", "0"), (Some(euros("100")), true));
    assert_eq!(part("40", "60"), (Some(euros("40")), true));
    assert_eq!(part("40", "50"), (Some(euros("50")), false));
    assert_eq!(part("40", "101"), (None, false));
    let whole = RefundReversal::whole("ORDER-1").unwrap();
    assert_eq!((whole.left(), whole.reverses_whole()), (None, true));
    let whole = whole.with_sale_amount(euros("100"));
    assert_eq!(whole.left(), Some(euros("100")));
    // What earlier versions have stored.
    let bare = RefundReversal::part("ORDER-1", euros("40")).unwrap();
    assert_eq!((bare.left(), bare.reverses_whole()), (None, false));
}

#[test]
fn what_is_about_one_order_or_customer_goes_in_sequence() {
    let orders = [
        Report::from(Sale::new("O:1", "C", euros("1")).unwrap()),
        Refund::whole("O:1").unwrap().into(),
        RefundReversal::whole("O:1").unwrap().into(),
        SaleUpdate::new("O:1", "u").unwrap().into(),
    ];
    for report in orders {
        assert_eq!(report.sequence_key(), "order:O%3A1", "{report:?}");
    }
    let customers = [
        Report::from(SignUp::new("C:1").unwrap()),
        Cancellation::new("C:1").unwrap().into(),
    ];
    for report in customers {
        assert_eq!(report.sequence_key(), "customer:C%3A1", "{report:?}");
    }
    let nameless = Report::from(SignUp::by_email("a:b@c.example").unwrap());
    assert_eq!(nameless.id(), "signup::a%3Ab@c.example");
    assert_eq!(nameless.sequence_key(), "customer::a%3Ab@c.example");
}

#[test]
fn texts_and_ids_come_in_any_form() {
    let (text, number) = (String::from("ada@example.com"), 42_u64);
    let sign_up = SignUp::new(number)
        .unwrap()
        .with_email(&text)
        .with_name(Some(&text))
        .with_surname(text.clone())
        .with_coupon(Some("X"));
    assert_eq!(sign_up.customer(), Some("42"));
    assert_eq!(sign_up.contact().email.as_deref(), Some(&*text));
}

#[test]
fn an_id_that_is_none_cannot_be_said() {
    let long = "x".repeat(129);
    for text in [
        "", " ", " a", "a ", "a\nb", "a\0", "\u{85}", ".", "..", &long,
    ] {
        assert!(SignUp::new(text).is_err(), "{text:?}");
        assert!(Sale::new(text, "c", euros("1")).is_err(), "{text:?}");
        assert!(Sale::new("o", text, euros("1")).is_err(), "{text:?}");
        assert!(Refund::whole(text).is_err(), "{text:?}");
        assert!(
            Refund::whole("o").unwrap().with_id(text).is_err(),
            "{text:?}"
        );
    }
    for text in ["0", "...", "#42", "a/b", "Ü", "a b", &long[..128]] {
        assert!(SignUp::new(text).is_ok(), "{text:?}");
    }
    let queued = serde_json::to_string(&Report::from(full_sale())).unwrap();
    assert!(serde_json::from_str::<Report>(&queued.replace("ORDER-1", "")).is_err());
    assert!(serde_json::from_str::<Report>(&queued.replace("CUSTOMER-1", " ")).is_err());
    assert!(serde_json::from_str::<Report>(&queued.replace("PARTNER_1", "")).is_err());
    assert!(serde_json::from_str::<Report>(&queued.replace("clk_1", "a b")).is_err());
    assert!(serde_json::from_str::<Report>(&queued.replace("99.99", "9e9")).is_err());
}

#[test]
fn what_is_empty_is_absent() {
    let sign_up = full_sign_up()
        .with_email("")
        .with_name(" ")
        .with_surname(None::<&str>)
        .with_coupon("  ")
        .with_credit(None);
    assert_eq!(sign_up.contact().email, None);
    assert_eq!(sign_up.contact().name, None);
    assert_eq!(sign_up.contact().surname, None);
    assert_eq!(sign_up.coupon(), None);
    assert_eq!(sign_up.referral(NOBODY).credit(), None);
}

#[test]
fn a_report_survives_a_queue_whole() {
    let unicode = KeyRule::printable_unicode().parse("Müller™").unwrap();
    for report in [
        Report::from(full_sign_up()),
        full_sale().into(),
        Sale::guest("ORDER-1", full_sign_up(), euros("1.10"))
            .unwrap()
            .into(),
        Sale::new("o", "c", Money::new("5000", "JPY").unwrap())
            .unwrap()
            .with_credit(Credit::new(unicode))
            .into(),
        Refund::whole("o").unwrap().with_reason("broken").into(),
        Refund::part("o", euros("0.01"))
            .unwrap()
            .with_id("re_1")
            .unwrap()
            .into(),
    ] {
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            serde_json::from_str::<Report>(&json).unwrap(),
            report,
            "{json}"
        );
    }
    for outcome in [
        Outcome::Recorded,
        Outcome::Duplicate,
        Outcome::NotAttributed,
    ] {
        let json = serde_json::to_string(&outcome).unwrap();
        assert!(json.contains(outcome.as_str()), "{json}");
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
    }
}

#[test]
fn debug_shows_nothing_of_the_customer() {
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        Report::from(full_sign_up()),
        Report::from(full_sale()),
        Sale::guest("ORDER-2", full_sign_up(), euros("1")).unwrap(),
        full_sign_up().contact(),
        full_sale().credit(),
    );
    for secret in [
        "CUSTOMER", "ada", "Ada", "Lovelace", "PARTNER", "clk", "SUMMER", "pro",
    ] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(
        shown.contains("ORDER-1") && shown.contains("99.99 EUR"),
        "{shown}"
    );
}

#[test]
fn the_advice_is_never_to_repeat_what_may_be_recorded_twice() {
    let later = Advice::Retry { after: None };
    assert_eq!(Error::NotSent.advice(false), later);
    assert_eq!(
        Error::RateLimited { retry_after: None }.advice(false),
        later
    );
    assert_eq!(Error::UnknownOutcome.advice(true), later);
    assert_eq!(Error::UnknownOutcome.advice(false), Advice::Ambiguous);
    let status = http::StatusCode::UNAUTHORIZED;
    // Not taken, so it goes again once the key is right.
    assert_eq!(Error::Unauthorized { status }.advice(false), later);
}

#[tokio::test]
async fn reports_are_a_tower_service_as_well() {
    use tower::{Service, ServiceExt};

    let platform = StandIn::new([(201, r#"{"id":7}"#), (201, r#"{"id":8}"#)]);
    let client = platform.client(Partnac::new("key").unwrap());
    let mut reports = client.reports();
    let request = ReportRequest::new(full_sale());
    let receipt = reports.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    assert_eq!(receipt.ids().sale, PlatformId::new("7"));
    let request = Report::from(full_sign_up()).into();
    let receipt = reports.clone().oneshot(request).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
}

/// A transport that is never ready.
#[derive(Clone)]
struct Busy;

impl tower::Service<http::Request<bytes::Bytes>> for Busy {
    type Response = http::Response<String>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: http::Request<bytes::Bytes>) -> Self::Future {
        unreachable!("not ready");
    }
}

#[test]
fn both_services_are_ready_however_busy_the_transport_is() {
    fn is_ready<R>(mut service: impl tower::Service<R>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        service.poll_ready(&mut context).is_ready()
    }
    let client = Client::new(Partnac::new("key").unwrap(), Busy);
    assert!(is_ready::<ReportRequest>(client.reports()));
    assert!(is_ready::<ClickRequest>(client.clicks()));
}

#[tokio::test]
async fn a_key_is_checked_before_the_first_sale() {
    let platform = StandIn::new([
        (200, r#"{"data":[]}"#),
        (401, r#"{"message":"no"}"#),
        (200, "<html>log in</html>"),
    ]);
    let client = platform.client(Partnac::new("key").unwrap());
    assert_eq!(client.check().await, Ok(()));
    assert!(client.check().await.unwrap_err().pauses_platform());
    assert!(client.check().await.is_err());
    assert!(platform.lines().iter().all(|line| line.starts_with("GET ")));
}
