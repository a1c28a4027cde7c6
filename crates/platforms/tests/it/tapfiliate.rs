//! Tapfiliate: what it is told, and what is made of its answers.

use futures_util::TryStreamExt;
use serde_json::json;
use tower_referral_platforms::{
    Advice, Client, Error, Money, Outcome, Refund, Sale, SignUp, Tapfiliate, Unsupported,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

const RECORDED: Outcome = Outcome::Recorded;

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
    let outcome = client(&platform).outcome(sign_up).await.unwrap();
    assert_eq!(id_of(outcome), "cus");
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
    let outcome = client(&platform)
        .outcome(sale().with_credit(credit("PARTNER_1")))
        .await
        .unwrap();
    assert_eq!(id_of(outcome), "77");
    let asked = platform.only();
    assert_eq!(asked.line, "POST /1.6/conversions/");
    assert!(asked.text.contains(r#""amount":99.99,"#), "{}", asked.text);
    assert_eq!(
        asked.json(),
        json!({
            "external_id": "ORDER-1",
            "amount": 99.99,
            "currency": "EUR",
            "referral_code": "PARTNER_1",
        })
    );
}

/// What credited each of the requests.
fn credited_by(platform: &StandIn) -> Vec<String> {
    let names = ["click_id", "referral_code", "coupon", "customer_id"];
    let by = |json: serde_json::Value| {
        let given: Vec<_> = names
            .iter()
            .filter(|name| json.get(**name).is_some())
            .collect();
        assert_eq!(given.len(), 1, "{json}");
        (*given[0]).to_owned()
    };
    platform
        .asked()
        .into_iter()
        .map(|asked| by(asked.json()))
        .collect()
}

#[tokio::test]
async fn a_click_id_that_is_refused_gives_way_to_key_then_coupon_then_customer() {
    let click = r#"{"message":"click_id is invalid"}"#;
    let key = r#"{"message":"Referral code not found"}"#;
    let coupon = r#"{"errors":{"coupon":["is unknown"]}}"#;
    let customer = r#"{"message":"No such customer"}"#;
    let every = || {
        sale()
            .with_credit(clicked("PARTNER_1", "clk_1"))
            .with_coupon("SUMMER")
    };
    let ok = (200, "{}");
    let all = ["click_id", "referral_code", "coupon", "customer_id"];
    for status in [400, 404, 409, 422] {
        for (answers, outcome) in [
            (vec![ok], RECORDED),
            (vec![(status, click), ok], RECORDED),
            (vec![(status, click), (status, key), ok], RECORDED),
            (
                vec![(status, click), (status, key), (status, coupon), ok],
                RECORDED,
            ),
            (
                vec![
                    (status, click),
                    (status, key),
                    (status, coupon),
                    (status, customer),
                ],
                Outcome::NotAttributed,
            ),
            // Whatever it says about a click.
            (vec![(status, "<h1>Bad Request</h1>"), ok], RECORDED),
        ] {
            let tries = answers.len();
            let platform = StandIn::new(answers);
            assert_eq!(client(&platform).outcome(every()).await, Ok(outcome));
            assert_eq!(credited_by(&platform), all[..tries]);
        }
    }
}

#[tokio::test]
async fn what_a_report_does_not_have_is_not_tried() {
    let refused = (
        404,
        r#"{"message":"click, referral code, coupon, customer not found"}"#,
    );
    let platform = StandIn::new([refused; 3]);
    let by_click = sale().with_credit(clicked("P", "clk_1"));
    assert_eq!(
        client(&platform).outcome(by_click).await,
        Ok(Outcome::NotAttributed)
    );
    assert_eq!(
        credited_by(&platform),
        ["click_id", "referral_code", "customer_id"]
    );

    // A customer whom Tapfiliate may know.
    let platform = StandIn::new([(200, "{}")]);
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
    let platform = StandIn::new([refused]);
    let sign_up = SignUp::new("c").unwrap().with_coupon("SUMMER");
    assert_eq!(
        client(&platform).outcome(sign_up).await,
        Ok(Outcome::NotAttributed)
    );
    assert_eq!(
        platform.only().json(),
        json!({"customer_id": "c", "coupon": "SUMMER"})
    );
}

#[tokio::test]
async fn a_second_report_is_a_duplicate() {
    for status in [400, 409, 422] {
        for body in [
            r#"{"message":"external_id already exists"}"#,
            r#"{"errors":[{"message":"The external id must be unique"}]}"#,
        ] {
            let platform = StandIn::new([(status, body)]);
            let sale = sale().with_credit(clicked("P", "clk_1"));
            assert_eq!(client(&platform).outcome(sale).await, Ok(Outcome::Duplicate));
        }
        let platform = StandIn::new([(status, r#"{"message":"Customer already exists"}"#)]);
        let sign_up = SignUp::new("c").unwrap().with_credit(credit("P"));
        assert_eq!(
            client(&platform).outcome(sign_up).await,
            Ok(Outcome::Duplicate)
        );
    }
}

#[tokio::test]
async fn a_conflict_that_does_not_name_our_id_is_for_a_person_to_look_at() {
    for body in ["", r#"{"message":"Conflict"}"#, "<h1>Conflict</h1>"] {
        for (report, tries) in [
            (sale(), 1),
            (sale().with_coupon("SUMMER"), 1),
            (sale().with_credit(credit("P")), 1),
            // It might have been the click ID.
            (sale().with_credit(clicked("P", "clk_1")), 2),
        ] {
            let platform = StandIn::new(vec![(409, body); tries]);
            let error = client(&platform).outcome(report).await.unwrap_err();
            assert_eq!(error.advice(), Advice::Permanent, "{body}");
            assert_eq!(platform.asked().len(), tries);
        }
    }
}

#[tokio::test]
async fn other_refusals_are_errors() {
    for (status, body) in [
        (
            422,
            r#"{"message":"amount is invalid","referral_code":"UNKNOWN_1"}"#,
        ),
        (404, "<!DOCTYPE html><title>Not Found</title>"),
        (400, r#"{"message":"referral code is required"}"#),
    ] {
        let platform = StandIn::new([(status, body)]);
        let report = sale().with_credit(credit("UNKNOWN_1"));
        let error = client(&platform).outcome(report).await.unwrap_err();
        assert!(matches!(error.error(), Error::Rejected { .. }), "{body}");
        assert_eq!(error.advice(), Advice::Permanent);
    }
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
        ("9.90", "PATCH /1.6/conversions/77/", r#"{"amount":90.09}"#),
        ("99.98", "PATCH /1.6/conversions/77/", r#"{"amount":0.01}"#),
        ("99.99", "DELETE /1.6/conversions/77/", ""),
    ] {
        let platform = StandIn::new([(200, LISTED), (200, "{}")]);
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
        (vec![(401, "")], whole(), Advice::Permanent),
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
