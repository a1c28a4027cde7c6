//! Tapfiliate: what it is told, and what is made of its answers.

use futures_util::TryStreamExt;
use serde_json::json;
use tower_referral_platforms::{
    Advice, Client, Error, Money, Outcome, PlatformId, Refund, ReportRequest, Sale, SignUp,
    Tapfiliate, Unsupported,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

const RECORDED: Outcome = Outcome::Recorded;
/// The answer to what was made.
const MADE: (u16, &str) = (201, r#"{"id":1}"#);

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("99.99")).unwrap()
}

fn client(platform: &StandIn) -> Client<Tapfiliate, StandIn> {
    platform.client(Tapfiliate::new("s3cret-key").unwrap())
}

#[tokio::test]
async fn a_sign_up_is_a_customer() {
    let platform = StandIn::new([(201, r#"{"id":"cus","customer_id":"CUSTOMER-1"}"#)]);
    let sign_up = SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_email("ada@example.com")
        .with_credit(clicked("PARTNER_1", "clk_1"))
        .with_coupon("SUMMER")
        .with_metadata("plan", "pro");
    let receipt = client(&platform).report(sign_up).await.unwrap();
    assert_eq!(receipt.outcome(), RECORDED);
    assert_eq!(receipt.ids().customer, PlatformId::new("cus"));
    let asked = platform.only();
    assert_eq!(asked.line, "POST /1.6/customers/");
    assert_eq!(asked.host, "api.tapfiliate.com");
    assert_eq!(asked.headers["x-api-key"], "s3cret-key");
    assert!(asked.headers["x-api-key"].is_sensitive());
    // One thing credits it, and that is the click.
    assert_eq!(
        asked.json(),
        json!({"customer_id": "CUSTOMER-1", "click_id": "clk_1", "meta_data": {"plan": "pro"}})
    );
}

#[tokio::test]
async fn a_sale_is_a_conversion() {
    let platform = StandIn::new([(200, r#"{"id":77,"external_id":"ORDER-1","amount":99.99}"#)]);
    let receipt = client(&platform)
        .report(sale().with_credit(credit("PARTNER_1")))
        .await
        .unwrap();
    assert_eq!(receipt.outcome(), RECORDED);
    assert_eq!(receipt.ids().sale, PlatformId::new("77"));
    let asked = platform.only();
    assert_eq!(asked.line, "POST /1.6/conversions/");
    assert!(asked.text.contains(r#""amount":99.99,"#), "{}", asked.text);
    assert_eq!(
        asked.json(),
        json!({
            "external_id": "ORDER-1",
            "amount": 99.99,
            "currency": "EUR",
            "customer_id": "CUSTOMER-1",
            "referral_code": "PARTNER_1",
        })
    );
}

/// What credited each of the requests that told something.
fn credited_by(platform: &StandIn) -> Vec<String> {
    let names = ["click_id", "referral_code", "coupon"];
    let told = platform.asked().into_iter();
    let told = told.filter(|asked| asked.line.starts_with("POST"));
    told.map(|asked| {
        let json = asked.json();
        assert_eq!(json["customer_id"], "CUSTOMER-1", "always");
        let mut given = names.iter().filter(|name| json.get(**name).is_some());
        let by = given.next().map_or("customer_id", |name| *name);
        assert_eq!(given.next(), None, "{json}");
        by.to_owned()
    })
    .collect()
}

#[tokio::test]
async fn a_click_id_that_is_refused_gives_way_to_key_then_coupon_then_customer() {
    let every = || {
        sale()
            .with_credit(clicked("PARTNER_1", "clk_1"))
            .with_coupon("SUMMER")
    };
    let ok = MADE;
    let absent = (200, "[]");
    let all = ["click_id", "referral_code", "coupon", "customer_id"];
    for status in [400, 404, 409, 422] {
        let refused = (status, r#"{"message":"whatever"}"#);
        for tries in 1..=4 {
            let mut answers = [refused, absent].repeat(tries - 1);
            answers.push(ok);
            let platform = StandIn::new(answers);
            assert_eq!(client(&platform).outcome(every()).await, Ok(RECORDED));
            assert_eq!(credited_by(&platform), all[..tries]);
        }
        let platform = StandIn::new([refused, absent].repeat(4));
        let error = client(&platform).outcome(every()).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Permanent);
        assert_eq!(credited_by(&platform), all);
    }
}

#[tokio::test]
async fn what_a_report_does_not_have_is_not_tried() {
    let refused = (404, r#"{"message":"not found"}"#);
    let platform = StandIn::new([refused, (200, "[]"), refused, (200, "[]"), MADE]);
    let by_click = sale().with_credit(clicked("P", "clk_1"));
    assert_eq!(client(&platform).outcome(by_click).await, Ok(RECORDED));
    assert_eq!(
        credited_by(&platform),
        ["click_id", "referral_code", "customer_id"]
    );

    // A customer whom Tapfiliate may know.
    let platform = StandIn::new([MADE]);
    assert_eq!(client(&platform).outcome(sale()).await, Ok(RECORDED));
    assert_eq!(credited_by(&platform), ["customer_id"]);

    // Nobody.
    let platform = StandIn::new([]);
    let sign_up = SignUp::new("c").unwrap();
    assert_eq!(
        client(&platform).outcome(sign_up).await,
        Ok(Outcome::NotAttributed)
    );

    // A sign-up isn't credited by its own customer.
    let platform = StandIn::new([refused, (200, "[]")]);
    let sign_up = SignUp::new("c").unwrap().with_coupon("SUMMER");
    let error = client(&platform).outcome(sign_up).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
    assert_eq!(platform.lines()[1], "GET /1.6/customers/?customer_id=c");
    assert_eq!(
        platform.asked()[0].json(),
        json!({"customer_id": "c", "coupon": "SUMMER"})
    );
}

#[tokio::test]
async fn a_refused_sale_that_is_listed_is_a_duplicate() {
    for status in [400, 409, 422] {
        let refused = (status, r#"{"message":"whatever"}"#);
        let platform = StandIn::new([refused, (200, LISTED)]);
        let sale = sale().with_credit(clicked("P", "clk_1"));
        assert_eq!(
            client(&platform).outcome(sale).await,
            Ok(Outcome::Duplicate)
        );
        assert_eq!(
            platform.lines()[1],
            "GET /1.6/conversions/?external_id=ORDER-1"
        );
    }
    let platform = StandIn::new([(409, r#"{"message":"whatever"}"#)]);
    let sign_up = SignUp::new("c").unwrap().with_credit(credit("P"));
    assert_eq!(
        client(&platform).outcome(sign_up).await,
        Ok(Outcome::Duplicate)
    );
}

/// A refusal may be that of a duplicate: the list tells, where it can be read.
#[tokio::test]
async fn a_refusal_that_the_list_cannot_explain_fails_no_sale_that_may_have_arrived() {
    let refused = (422, r#"{"message":"whatever"}"#);
    for (list, expected) in [
        ((200, "[]"), [Advice::Permanent; 2]),
        ((200, "{}"), [Advice::Permanent, Advice::Ambiguous]),
        (
            (200, r#"{"message":"hello"}"#),
            [Advice::Permanent, Advice::Ambiguous],
        ),
        (
            (400, r#"{"message":"no"}"#),
            [Advice::Permanent, Advice::Ambiguous],
        ),
        (
            (404, "404 page not found"),
            [Advice::Permanent, Advice::Ambiguous],
        ),
        ((405, ""), [Advice::Permanent, Advice::Ambiguous]),
        ((503, ""), [Advice::Retry { after: None }; 2]),
    ] {
        for (may_have_arrived, advice) in [false, true].into_iter().zip(expected) {
            let platform = StandIn::new([refused, list]);
            let request = ReportRequest::new(sale()).may_have_arrived(may_have_arrived);
            let error = client(&platform).send_report(&request).await.unwrap_err();
            assert_eq!(error.advice(), advice, "{list:?}");
            if let Error::Rejected { message, .. } = error.error() {
                assert!(list.0 == 503 || message.as_str() == "whatever", "{list:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_any_more_may_have_arrived() {
    for (may_have_arrived, advice) in [(false, Advice::Permanent), (true, Advice::Ambiguous)] {
        let platform = StandIn::new([]);
        let report = sale().with_tag("vip").with_credit(credit("P"));
        let request = ReportRequest::new(report).may_have_arrived(may_have_arrived);
        let error = client(&platform).send_report(&request).await.unwrap_err();
        assert_eq!(error.advice(), advice);
        assert!(error.to_string().contains("tags"), "{error}");
    }
}

#[tokio::test]
async fn a_page_of_a_proxy_is_not_judged() {
    for status in [404, 409] {
        let platform = StandIn::new([(status, "<h1>Conflict</h1>")]);
        let report = sale().with_credit(clicked("P", "clk_1"));
        let error = client(&platform).outcome(report).await.unwrap_err();
        assert!(matches!(error.error(), Error::HtmlPage { .. }));
        assert!(error.pauses_platform());
    }
}

#[tokio::test]
async fn a_field_without_a_place_is_refused_by_name() {
    let platform = StandIn::new([]);
    let report = sale().with_tag("vip").with_credit(credit("P"));
    let error = client(&platform).outcome(report).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Field("tags"))
    );
}

const LISTED: &str = r#"[
    {"id": 1, "external_id": "ORDER-10", "amount": 5},
    {"id": 77, "external_id": "ORDER-1", "amount": 99.99, "currency": "EUR"}
]"#;

#[tokio::test]
async fn a_whole_refund_deletes_the_orders_conversion_and_no_other() {
    let platform = StandIn::new([(200, LISTED), (204, "")]);
    let outcome = client(&platform)
        .outcome(Refund::whole("ORDER-1").unwrap())
        .await;
    assert_eq!(outcome, Ok(RECORDED));
    assert_eq!(
        platform.lines(),
        [
            "GET /1.6/conversions/?external_id=ORDER-1",
            "DELETE /1.6/conversions/77/"
        ]
    );
    assert_eq!(platform.asked()[1].headers["x-api-key"], "s3cret-key");

    // It may show others, or none.
    for listed in [LISTED, "[]", r#"{"data":[]}"#] {
        let platform = StandIn::new([(200, listed)]);
        let outcome = client(&platform)
            .outcome(Refund::whole("ORDER & 2").unwrap())
            .await;
        assert_eq!(outcome, Ok(Outcome::NotAttributed));
        assert_eq!(
            platform.lines(),
            ["GET /1.6/conversions/?external_id=ORDER%20%26%202"]
        );
    }

    let platform = StandIn::new([(200, LISTED), (404, "")]);
    let outcome = client(&platform)
        .outcome(Refund::whole("ORDER-1").unwrap())
        .await;
    assert_eq!(outcome, Ok(Outcome::Duplicate), "somebody was faster");
}

#[tokio::test]
async fn a_partial_refund_leaves_the_rest() {
    for (amount, line, body) in [
        (
            "9.90",
            "PATCH /1.6/conversions/77/?recalculate_commissions=true",
            r#"{"amount":90.09}"#,
        ),
        (
            "99.98",
            "PATCH /1.6/conversions/77/?recalculate_commissions=true",
            r#"{"amount":0.01}"#,
        ),
        ("99.99", "DELETE /1.6/conversions/77/", ""),
    ] {
        let platform = StandIn::new([(200, LISTED), MADE]);
        let part = Refund::part("ORDER-1", euros(amount)).unwrap();
        assert_eq!(client(&platform).outcome(part).await, Ok(RECORDED));
        let asked = platform.asked();
        assert_eq!((&*asked[1].line, &*asked[1].text), (line, body));
    }
    for (refund, reason) in [
        (euros("100"), Unsupported::RefundOverSale),
        (
            Money::new("1", "USD").unwrap(),
            Unsupported::RefundInOtherCurrency,
        ),
    ] {
        let platform = StandIn::new([(200, LISTED)]);
        let part = Refund::part("ORDER-1", refund).unwrap();
        let error = client(&platform).outcome(part).await.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(reason));
        assert_eq!(error.advice(), Advice::Permanent);
    }
}

#[tokio::test]
async fn a_refund_is_repeated_only_where_that_does_no_harm() {
    let whole = || Refund::whole("ORDER-1").unwrap();
    let part = || Refund::part("ORDER-1", euros("1")).unwrap();
    let later = Advice::Retry { after: None };
    for (answers, refund, advice) in [
        // The look-up changes nothing.
        (vec![(500, "")], part(), later),
        (vec![(200, "<html>")], part(), later),
        (vec![(200, "{}")], whole(), later),
        (vec![(200, LISTED), (500, "")], whole(), later),
        (vec![(200, LISTED), (500, "")], part(), Advice::Ambiguous),
        (vec![(200, LISTED), (429, "")], part(), later),
        (vec![(200, LISTED), (400, "")], part(), Advice::Permanent),
        (vec![(401, "")], whole(), later),
    ] {
        let platform = StandIn::new(answers.clone());
        let error = client(&platform).outcome(refund).await.unwrap_err();
        assert_eq!(error.advice(), advice, "{answers:?}");
    }
}

#[tokio::test]
async fn conversions_are_listed_page_by_page() {
    let platform = StandIn::new([(200, LISTED), (200, r#"[{"id":3}]"#), (200, "[]")]);
    let listed: Vec<_> = client(&platform)
        .list_conversions()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[1].money(), Some(euros("99.99")));
    assert_eq!(
        platform.lines(),
        [1, 2, 3].map(|page| format!("GET /1.6/conversions/?page={page}"))
    );
}
