//! Partnac: what it is told, and what is made of its answers.

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::{
    Advice, Client, Error, Failure, Money, Outcome, Partnac, PlatformId, Refund, ReportRequest,
    Sale, SaleUpdate, SignUp, Unsupported,
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

fn client(platform: &StandIn) -> Client<Partnac, StandIn> {
    platform.client(Partnac::new("s3cret-key").unwrap())
}

#[tokio::test]
async fn a_sale_is_a_conversion_with_key_and_click_id() {
    let platform = StandIn::new([(201, r#"{"data":{"id":"conv_1"}}"#)]);
    let sale = sale()
        .with_credit(clicked("PARTNER_1", "clk_1"))
        .with_coupon("SUMMER")
        .with_product("prod_1")
        .with_metadata("plan", "pro")
        .with_metadata("currency", "wrong");
    let receipt = client(&platform).report(sale).await.unwrap();
    assert_eq!(receipt.outcome(), RECORDED);
    assert_eq!(receipt.ids().sale, PlatformId::new("conv_1"));

    let asked = platform.only();
    assert_eq!(asked.line, "POST /v1/tracking/conversions");
    assert_eq!(asked.host, "api.partnac.com");
    assert_eq!(asked.headers["authorization"], "Bearer s3cret-key");
    assert!(asked.headers["authorization"].is_sensitive());
    assert_eq!(asked.headers["content-type"], "application/json");
    // Digit by digit, and no property twice.
    assert!(asked.text.contains(r#""amount":99.99,"#), "{}", asked.text);
    assert_eq!(asked.text.matches("currency").count(), 1);
    assert_eq!(
        asked.json(),
        json!({
            "partnership_code": "PARTNER_1",
            "unique_id": "ORDER-1",
            "conversion_type": "sale",
            "amount": 99.99,
            "session_id": "clk_1",
            "metadata": {
                "currency": "EUR",
                "customer_id": "CUSTOMER-1",
                "coupon_code": "SUMMER",
                "product_id": "prod_1",
                "plan": "pro",
            },
        })
    );
}

#[tokio::test]
async fn a_sign_up_is_a_lead_that_is_no_order() {
    let platform = StandIn::new([MADE]);
    let sign_up = SignUp::new("ORDER-1")
        .unwrap()
        .with_email("ada@example.com")
        .with_name("Ada")
        .with_credit(credit("PARTNER_1"));
    assert_eq!(client(&platform).outcome(sign_up).await, Ok(RECORDED));
    assert_eq!(
        platform.only().json(),
        json!({
            "partnership_code": "PARTNER_1",
            "unique_id": "signup:ORDER-1",
            "conversion_type": "lead",
            "amount": 0,
            "metadata": { "customer_id": "ORDER-1" },
        })
    );
}

#[tokio::test]
async fn yen_are_not_scaled() {
    let platform = StandIn::new([MADE]);
    let sale = Sale::new("o", "c", Money::from_minor(5000, "jpy").unwrap()).unwrap();
    client(&platform)
        .outcome(sale.with_credit(credit("P")))
        .await
        .unwrap();
    assert!(platform.only().text.contains(r#""amount":5000,"#));
}

#[tokio::test]
async fn a_coupon_stands_in_for_the_key() {
    let platform = StandIn::new([MADE]);
    let outcome = client(&platform)
        .outcome(sale().with_coupon("SUMMER"))
        .await;
    assert_eq!(outcome, Ok(RECORDED));
    let json = platform.only().json();
    assert_eq!(json["partnership_code"], "SUMMER");
    assert_eq!(json["metadata"]["coupon_code"], "SUMMER");

    // And for a key that is refused; without its click ID, which is of that key.
    let refused = (404, r#"{"message":"partnership not found"}"#);
    let platform = StandIn::new([refused, refused, MADE]);
    let sale = sale()
        .with_credit(clicked("TYPO", "clk_1"))
        .with_coupon("SUMMER");
    assert_eq!(client(&platform).outcome(sale).await, Ok(RECORDED));
    let asked = platform.asked();
    assert_eq!(asked[0].json()["session_id"], "clk_1");
    assert_eq!(asked[1].json()["partnership_code"], "TYPO");
    assert_eq!(asked[1].json().get("session_id"), None);
    assert_eq!(asked[2].json()["partnership_code"], "SUMMER");
    assert_eq!(asked[2].json().get("session_id"), None);
}

#[tokio::test]
async fn nobody_to_credit_sends_nothing() {
    let platform = StandIn::new([]);
    let nobody = Ok(Outcome::NotAttributed);
    assert_eq!(client(&platform).outcome(sale()).await, nobody);
    assert_eq!(
        client(&platform).outcome(SignUp::new("c").unwrap()).await,
        nobody
    );
}

#[tokio::test]
async fn answers_to_a_sale() {
    for (status, body, expected) in [
        (409, r#"{"message":"anything"}"#, Outcome::Duplicate),
        (200, r#"{"id":9}"#, RECORDED),
        (201, r#"{"conversion_id":"c9","id":"x"}"#, RECORDED),
    ] {
        let platform = StandIn::new([(status, body)]);
        let outcome = client(&platform)
            .outcome(sale().with_credit(credit("P")))
            .await;
        assert_eq!(outcome, Ok(expected), "{status} {body}");
    }
}

#[tokio::test]
async fn a_success_without_an_id_is_looked_for_in_the_list() {
    let listed = r#"[{"unique_id":"ORDER-1"}]"#;
    for body in ["{}", "[]", r#"{"id":""}"#] {
        for (list, expected) in [
            (listed, Ok(Outcome::Duplicate)),
            ("[]", Err(Advice::Retry { after: None })),
        ] {
            let platform = StandIn::new([(200, body), (200, list)]);
            let report = sale().with_credit(clicked("P", "clk_1"));
            let outcome = client(&platform).outcome(report).await;
            assert_eq!(outcome.map_err(|error| error.advice()), expected, "{body}");
        }
    }
}

#[tokio::test]
async fn words_in_a_refusal_are_no_success() {
    for (status, body) in [
        (
            422,
            r#"{"errors":{"unique_id":["must be at most 64 characters"]}}"#,
        ),
        (
            422,
            r#"{"errors":{"unique_id":["has already been taken"]}}"#,
        ),
        (400, r#"{"error":"Conversion already exists"}"#),
        (200, r#"{"success":false,"message":"duplicate unique_id"}"#),
        (404, r#"{"message":"Partnership not found"}"#),
        (422, r#"{"errors":{"partnership_code":["is invalid"]}}"#),
        (
            400,
            r#"{"message":"The coupon 'already a conversion' has expired."}"#,
        ),
    ] {
        let list = r#"[{"unique_id":"ORDER-10"}]"#;
        let platform = StandIn::new([(status, body), (200, list), (200, "[]")]);
        let report = sale().with_credit(credit("P"));
        let error = client(&platform).outcome(report).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Permanent, "{status} {body}");
    }
}

#[tokio::test]
async fn a_refusal_that_the_list_cannot_explain_fails_no_sale_that_may_have_arrived() {
    for (list, expected) in [
        ((200, "[]"), [Advice::Permanent; 2]),
        ((200, "{}"), [Advice::Permanent, Advice::Ambiguous]),
        (
            (200, r#"{"message":"hello"}"#),
            [Advice::Permanent, Advice::Ambiguous],
        ),
        (
            (404, "404 page not found"),
            [Advice::Permanent, Advice::Ambiguous],
        ),
    ] {
        for (may_have_arrived, advice) in [false, true].into_iter().zip(expected) {
            let platform = StandIn::new([(422, r#"{"message":"taken"}"#), list]);
            let report = sale().with_credit(credit("P"));
            let request = ReportRequest::new(report).may_have_arrived(may_have_arrived);
            let error = client(&platform).send_report(&request).await.unwrap_err();
            assert_eq!(error.advice(), advice, "{list:?}");
            assert_eq!(Failure::of(error.error()).message(), Some("taken"));
        }
    }
}

#[tokio::test]
async fn a_refused_click_id_loses_no_sale() {
    for status in [400, 404, 422] {
        let refused = (status, r#"{"message":"unknown session"}"#);
        let platform = StandIn::new([refused, (201, r#"{"id":1}"#)]);
        let report = sale().with_credit(clicked("PARTNER_1", "clk_1"));
        assert_eq!(client(&platform).outcome(report).await, Ok(RECORDED));
        assert_eq!(platform.asked()[1].json().get("session_id"), None);
        assert_eq!(platform.asked()[1].json()["partnership_code"], "PARTNER_1");
    }
}

#[tokio::test]
async fn refusals_that_name_nobody_are_errors() {
    for (status, body) in [
        (
            422,
            r#"{"message":"validation failed","errors":{"amount":["is invalid"]},"code":"x"}"#,
        ),
        // What was sent comes back in a text of its own.
        (
            400,
            r#"{"message":"amount is invalid","partnership_code":"P","unique_id":"exists-already"}"#,
        ),
        (400, r#"{"message":"invalid api key for this partner"}"#),
        (
            400,
            r#"{"message":"the campaign of this conversion does not exist"}"#,
        ),
        (200, r#"{"errors":{"amount":["too small"]}}"#),
        (404, r#"{"message":"no such resource"}"#),
        (400, ""),
        (200, r#"{"success":false}"#),
    ] {
        let platform = StandIn::new([(status, body), (status, body)]);
        let report = Sale::new("exists-already", "CUSTOMER-1", euros("1")).unwrap();
        let report = report.with_credit(credit("P"));
        let error = client(&platform).outcome(report).await.unwrap_err();
        assert!(
            matches!(error.error(), Error::Rejected { .. }),
            "{status} {body}: {error:?}"
        );
        assert_eq!(error.advice(), Advice::Permanent, "{status} {body}");
        let lines = platform.lines();
        let asked = [
            "POST /v1/tracking/conversions",
            "GET /v1/tracking/conversions?limit=100&offset=0",
        ];
        assert_eq!(lines, asked[..lines.len()], "{status} {body}");
    }
}

#[tokio::test]
async fn refunds_go_by_the_order() {
    let platform = StandIn::new([(200, r#"{"refund_id":3}"#), (204, ""), MADE]);
    let client = client(&platform);
    let whole = Refund::whole("a/b ü").unwrap();
    let receipt = client.report(whole).await.unwrap();
    assert_eq!(receipt.outcome(), RECORDED);
    assert_eq!(receipt.ids().refund, PlatformId::new("3"));
    let part = Refund::part("ORDER-1", euros("0.10")).unwrap();
    let part = part.with_id("re_1").unwrap().with_reason("broken");
    assert_eq!(client.outcome(part).await, Ok(RECORDED));
    let asked = platform.asked();
    assert_eq!(
        asked[0].line,
        "POST /v1/tracking/conversions/a%2Fb%20%C3%BC/refund"
    );
    assert_eq!(asked[0].json(), json!({}));
    assert_eq!(
        asked[1].line,
        "POST /v1/tracking/conversions/ORDER-1/refund"
    );
    assert_eq!(
        asked[1].json(),
        json!({"amount": 0.1, "reason": "broken", "external_refund_id": "re_1"})
    );

    let kind = Partnac::new("k").unwrap().keep_paid_earnings();
    let whole = Refund::whole("o").unwrap();
    platform.client(kind).outcome(whole).await.unwrap();
    assert_eq!(
        platform.asked()[2].json(),
        json!({"reverse_paid_earnings": false})
    );
}

#[tokio::test]
async fn answers_to_a_refund() {
    let retry = Advice::Retry { after: None };
    let platform = StandIn::new([(404, r#"{"message":"not found"}"#)]);
    let outcome = client(&platform).outcome(Refund::whole("o").unwrap()).await;
    assert_eq!(outcome, Ok(Outcome::NotAttributed));
    for (status, body, advice) in [
        // A page comes from something in between, which handed nothing on.
        (404, "<h1>Not Found</h1>", retry),
        (404, "[999]", Advice::Permanent),
        (
            422,
            r#"{"message":"no such conversion"}"#,
            Advice::Permanent,
        ),
        (400, r#"{"message":"already refunded"}"#, Advice::Permanent),
        (
            409,
            r#"{"message":"another one is under way"}"#,
            Advice::Permanent,
        ),
        (200, "<h1>Log in</h1>", Advice::Ambiguous),
        (200, r#"{"data": {"id": "#, Advice::Ambiguous),
    ] {
        let platform = StandIn::new([(status, body)]);
        let error = client(&platform)
            .outcome(Refund::whole("o").unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.advice(), advice, "{status} {body}");
    }
}

#[tokio::test]
async fn conversions_of_every_type() {
    for (action, name) in [
        (None, "subscription"),
        (Some("sale"), "sale"),
        (Some("lead"), "lead"),
        (Some("referral"), "referral"),
        (Some("subscription"), "subscription"),
        (Some("custom"), "custom"),
    ] {
        let platform = StandIn::new([MADE]);
        let sale = Sale::new("u-1", "CUSTOMER-1", euros("12.5"))
            .unwrap()
            .with_subscription(None::<&str>)
            .with_action(action)
            .with_credit(clicked("PARTNER_1", "clk_1"))
            .with_campaign("camp_1")
            .with_metadata("country", "DE")
            .with_metadata("seats", 5);
        assert_eq!(client(&platform).outcome(sale).await, Ok(RECORDED));
        assert_eq!(
            platform.only().json(),
            json!({
                "partnership_code": "PARTNER_1",
                "unique_id": "u-1",
                "conversion_type": name,
                "amount": 12.5,
                "campaign_id": "camp_1",
                "session_id": "clk_1",
                "metadata": {
                    "currency": "EUR",
                    "customer_id": "CUSTOMER-1",
                    "country": "DE",
                    "seats": 5,
                },
            })
        );
    }
    let platform = StandIn::new([]);
    let odd = sale().with_action("rebate").with_credit(credit("P"));
    let error = client(&platform).outcome(odd).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Value("action"))
    );
}

#[tokio::test]
async fn an_order_that_looks_like_a_sign_up_is_refused() {
    let platform = StandIn::new([]);
    let order = Sale::new("signup:bob", "bob", euros("1")).unwrap();
    let order = order.with_credit(credit("P"));
    let error = client(&platform).outcome(order).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Value("order"))
    );
}

#[tokio::test]
async fn a_zero_sale_is_nothing_to_report() {
    let platform = StandIn::new([]);
    let free = Sale::new("o", "c", euros("0")).unwrap();
    let outcome = client(&platform)
        .outcome(free.with_credit(credit("P")))
        .await;
    assert_eq!(outcome, Ok(Outcome::NotAttributed));
}

#[tokio::test]
async fn a_conversion_can_be_changed() {
    let platform = StandIn::new([MADE, (404, r#"{"message":"not found"}"#), (500, "")]);
    let client = client(&platform);
    let update = SaleUpdate::new("ORDER-1", "u1")
        .unwrap()
        .with_amount(euros("10.01"))
        .with_new_order("ORDER-2")
        .unwrap()
        .with_metadata("plan", "free")
        .recalculate_commissions();
    assert_eq!(client.outcome(update.clone()).await, Ok(RECORDED));
    assert_eq!(
        platform.asked()[0].line,
        "PATCH /v1/tracking/conversions/ORDER-1"
    );
    assert_eq!(
        platform.asked()[0].json(),
        json!({
            "amount": 10.01,
            "unique_id": "ORDER-2",
            "metadata": {"plan": "free"},
            "recalculate_commissions": true,
        })
    );
    assert_eq!(
        client.outcome(update.clone()).await,
        Ok(Outcome::NotAttributed)
    );
    // The same change twice is one change.
    let error = client.outcome(update).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
}

#[tokio::test]
async fn a_list_whose_pages_repeat_ends_with_an_error() {
    let (one, two) = (r#"{"data":[{"id":1}]}"#, r#"{"data":[{"id":2}]}"#);
    let platform = StandIn::new([(200, one), (200, two), (200, one)]);
    let listed: Vec<_> = client(&platform)
        .list_conversions(Filter::all())
        .collect()
        .await;
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[2], Err(Error::EndlessList));
}

#[tokio::test]
async fn lists_are_read_to_their_end_page_by_page() {
    let platform = StandIn::new([
        (
            200,
            r#"{"data":[{"unique_id":"o1","amount":9007199254740993.01,"metadata":{"currency":"EUR"}},{"unique_id":"o2","amount":"5","type":"lead"}]}"#,
        ),
        (200, r#"{"data":[{"id":3}]}"#),
        (200, r#"{"data":[]}"#),
    ]);
    let filter = Filter::all().campaign("c&1").partnership("p");
    let listed: Vec<_> = client(&platform)
        .list_conversions(filter)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        platform.lines(),
        [0, 2, 3].map(|offset| format!(
            "GET /v1/tracking/conversions?limit=100&offset={offset}&campaign_id=c%261&partnership_id=p"
        ))
    );
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].external_id(), Some("o1"));
    assert_eq!(
        listed[0].amount(),
        Some("9007199254740993.01"),
        "no float came near it"
    );
    assert_eq!(
        listed[0].money(),
        Money::new("9007199254740993.01", "EUR").ok()
    );
    assert_eq!(
        (listed[1].amount(), listed[1].currency()),
        (Some("5"), None)
    );
    assert_eq!(listed[1].kind(), Some("lead"));
    assert_eq!(listed[2].id(), Some("3"));
}

#[tokio::test]
async fn a_list_that_knows_no_offset_ends() {
    let page = r#"{"clicks":[{"click_id":"clk_1"}],"offset":0}"#;
    let platform = StandIn::new([(200, page), (200, &page.replace(":0", ":1"))]);
    let clicks: Vec<_> = client(&platform).list_clicks(Filter::all()).collect().await;
    assert_eq!(clicks.len(), 1);
    assert_eq!(clicks[0].as_ref().unwrap().id(), Some("clk_1"));
}

#[tokio::test(start_paused = true)]
async fn a_list_waits_when_the_platform_asks_for_it() {
    let platform = StandIn::new([]);
    for retry_after in [
        "7",
        "nonsense",
        "Wed, 01 Jan 2020 00:00:20 GMT",
        "99999999999999999999999",
    ] {
        let answer = http::Response::builder()
            .status(429)
            .header("retry-after", retry_after);
        let answer = answer.header("date", "Wed, 01 Jan 2020 00:00:00 GMT");
        platform.then(answer.body(String::new()).unwrap());
    }
    platform.then(http::Response::new("[]".to_owned()));
    let started = tokio::time::Instant::now();
    let listed: Vec<_> = client(&platform)
        .list_conversions(Filter::all())
        .collect()
        .await;
    assert!(listed.is_empty());
    assert_eq!(started.elapsed().as_secs(), 7 + 1 + 20 + 60);
}

#[tokio::test(start_paused = true)]
async fn the_last_item_of_a_list_that_breaks_off_is_the_error() {
    let platform = StandIn::new([(200, r#"[{"id":1}]"#), (500, "")]);
    let mut list = client(&platform).list_conversions(Filter::all());
    assert!(list.next().await.unwrap().is_ok());
    assert!(matches!(
        list.next().await,
        Some(Err(Error::Rejected { .. }))
    ));
    assert!(list.next().await.is_none());

    let platform = StandIn::new([(429, ""); 6]);
    let list: Vec<_> = client(&platform)
        .list_conversions(Filter::all())
        .collect()
        .await;
    assert_eq!(list, [Err(Error::RateLimited { retry_after: None })]);

    for body in ["{}", r#"{"data":5}"#, "null", ""] {
        let platform = StandIn::new([(200, body)]);
        let list: Vec<_> = client(&platform)
            .list_conversions(Filter::all())
            .collect()
            .await;
        assert!(
            matches!(list[..], [Err(Error::Unreadable { .. })]),
            "{body}"
        );
    }
}
