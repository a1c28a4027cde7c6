//! Inputs that once had the wrong result, each under its number in the list of cases.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Method, Request, Response};
use serde_json::json;
use tower::service_fn;
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::affiliate::partnero::Friend;
use tower_referral_platforms::{
    Advice, Client, Delivery, DeliveryOutcome, DeliveryStore, Error, Money, Outcome, Partnac,
    Partnero, PartneroFriends, Refund, Report, ReportApi, Retries, Sale, SaleUpdate, SignUp,
    Tapfiliate, Transport, deliver,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("100")).unwrap()
}

fn partnac() -> Partnac {
    Partnac::new("k").unwrap()
}

fn partnero() -> Partnero {
    Partnero::new("k").unwrap()
}

fn tapfiliate() -> Tapfiliate {
    Tapfiliate::new("k").unwrap()
}

#[tokio::test]
async fn r1_a_refused_unique_id_is_no_duplicate() {
    let refused = r#"{"errors":{"unique_id":["must be at most 64 characters"]}}"#;
    for list in [(200, "[]"), (422, refused), (200, "{}"), (404, "{}")] {
        let platform = StandIn::new([(422, refused), list]);
        let report = sale().with_credit(credit("P"));
        let error = platform.client(partnac()).report(report).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Permanent);
        assert!(matches!(error.error(), Error::Rejected { status, .. } if *status == 422));
    }
    // What is listed is there, whatever the refusal said.
    let list = r#"{"data":[{"unique_id":"ORDER-9"},{"unique_id":"ORDER-1"}]}"#;
    let platform = StandIn::new([(422, refused), (200, list)]);
    let report = sale().with_credit(credit("P"));
    let outcome = platform.client(partnac()).outcome(report).await;
    assert_eq!(outcome, Ok(Outcome::Duplicate));
}

#[tokio::test]
async fn r2_an_echoed_coupon_says_nothing() {
    for (status, body) in [
        (
            400,
            r#"{"message":"The coupon 'already a conversion' has expired."}"#,
        ),
        (422, r#"{"message":"already a conversion"}"#),
        (200, r#"{"success":false,"message":"already a conversion"}"#),
    ] {
        let platform = StandIn::new([(status, body), (200, "[]")]);
        let report = sale().with_coupon("already a conversion");
        let error = platform.client(partnac()).report(report).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Permanent, "{status}");
        let Error::Rejected { message, .. } = error.error() else {
            panic!("{error:?}");
        };
        assert!(!message.as_str().contains("already a conversion"));
    }
}

// Its CPU time is measured by `benches/answers.rs`.
#[tokio::test]
async fn r3_a_long_name_over_a_long_list_is_read() {
    let list = vec!["\"\""; 8 * 1024].join(",");
    let body = format!(r#"{{"errors":{{"{}":[{list}]}}}}"#, "x".repeat(32 * 1024));
    let platform = StandIn::new([(422, &*body), (200, "[]")]);
    let report = sale().with_credit(credit("P"));
    let error = platform.client(partnac()).report(report).await.unwrap_err();
    let Error::Rejected { message, .. } = error.error() else {
        panic!("{error:?}");
    };
    assert!(message.as_str().chars().count() <= 500);
}

#[tokio::test]
async fn r4_an_id_is_short_and_printable_or_none() {
    let long = "x".repeat(60_000);
    for id in [&*long, "a\u{7}b", "a b", "\u{202e}x"] {
        let body = json!({ "id": id }).to_string();
        let platform = StandIn::new([(200, &*body)]);
        let report = sale().with_credit(credit("P"));
        let receipt = platform.client(partnac()).report(report).await.unwrap();
        assert_eq!(
            (receipt.outcome(), &receipt.ids().sale),
            (Outcome::Recorded, &None)
        );
    }
}

#[tokio::test]
async fn r5_a_sign_up_whose_partner_is_null_is_nobodys() {
    let answer = r#"{"data":{"key":"CUSTOMER-1","partner":null},"status":1}"#;
    let platform = StandIn::new([(200, answer), (200, r#"{"data":null,"status":1}"#)]);
    let client = platform.client(partnero());
    let sign_up = SignUp::new("CUSTOMER-1").unwrap().with_credit(credit("P"));
    assert_eq!(client.outcome(sign_up).await, Ok(Outcome::NotAttributed));
    // A sale that is ignored.
    assert_eq!(client.outcome(sale()).await, Ok(Outcome::NotAttributed));
}

#[tokio::test]
async fn r6_several_sales_have_one_customer_on_top() {
    let platform = StandIn::new([(200, r#"{"data":[{"key":"a"}],"status":1}"#)]);
    let sales = [
        sale(),
        Sale::new("ORDER-2", "CUSTOMER-1", euros("5")).unwrap(),
    ];
    let receipt = platform.client(partnero()).report_sales(&sales).await;
    assert_eq!(receipt.unwrap().outcome(), Outcome::Recorded);
    let body = platform.only().json();
    assert_eq!(body["customer"], json!({"key": "CUSTOMER-1"}));
    let items = body["transactions"].as_array().unwrap();
    assert!(items.iter().all(|item| item.get("customer").is_none()));
}

#[tokio::test]
async fn r7_a_refused_click_id_loses_no_sale() {
    let message = r#"{"message":"no"}"#;
    for refused in [
        (400, message),
        (404, message),
        (410, message),
        (422, message),
        (200, r#"{"success":false}"#),
        (200, r#"{"status":0}"#),
    ] {
        let clicked_sale = || sale().with_credit(clicked("P", "clk_1"));
        let platform = StandIn::new([refused, (201, r#"{"id":"c1"}"#)]);
        let outcome = platform.client(partnac()).outcome(clicked_sale()).await;
        assert_eq!(outcome, Ok(Outcome::Recorded), "{refused:?} at Partnac");
        assert_eq!(platform.asked()[0].json()["session_id"], "clk_1");
        assert_eq!(platform.asked()[1].json().get("session_id"), None);

        let sign_up = SignUp::new("c").unwrap().with_credit(clicked("P", "clk_1"));
        for report in [Report::from(clicked_sale()), sign_up.into()] {
            for list in [(200, "[]"), (404, message)] {
                let platform = StandIn::new([refused, list, (201, r#"{"id":1}"#)]);
                let outcome = platform.client(tapfiliate()).outcome(report.clone()).await;
                assert_eq!(outcome, Ok(Outcome::Recorded), "{refused:?} at Tapfiliate");
                assert_eq!(platform.asked()[2].json()["referral_code"], "P");
            }
        }
    }
}

#[tokio::test]
async fn r8_a_renewal_names_its_customer() {
    let platform = StandIn::new([(201, r#"{"id":1}"#)]);
    let renewal = sale()
        .with_subscription("month")
        .with_credit(clicked("P", "clk_1"));
    let outcome = platform.client(tapfiliate()).outcome(renewal).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(
        platform.only().json(),
        json!({
            "external_id": "ORDER-1",
            "amount": 100,
            "currency": "EUR",
            "customer_id": "CUSTOMER-1",
            "click_id": "clk_1",
            "meta_data": {"interval": "month"},
        })
    );
}

#[tokio::test]
async fn r9_a_partial_refund_works_commissions_out_again() {
    let listed = r#"[{"id":7,"external_id":"ORDER-1","amount":100,"currency":"EUR"}]"#;
    let platform = StandIn::new([(200, listed), (200, r#"{"id":7}"#)]);
    let part = Refund::part("ORDER-1", euros("30")).unwrap();
    platform.client(tapfiliate()).report(part).await.unwrap();
    let asked = &platform.asked()[1];
    let line = "PATCH /1.6/conversions/7/?recalculate_commissions=true";
    assert_eq!((&*asked.line, asked.json()), (line, json!({"amount": 70})));
}

/// Tapfiliate with one conversion, that takes its time with every answer.
fn slow_tapfiliate(amount: &Arc<Mutex<String>>) -> Client<Tapfiliate, impl Transport> {
    let amount = Arc::clone(amount);
    let transport = service_fn(move |request: Request<Bytes>| {
        let amount = Arc::clone(&amount);
        async move {
            if *request.method() == Method::PATCH {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
                *amount.lock().unwrap() = body["amount"].to_string();
                return Ok(Response::new(r#"{"id":7}"#.to_owned()));
            }
            let listed = amount.lock().unwrap().clone();
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Infallible>(Response::new(format!(
                r#"[{{"id":7,"external_id":"ORDER-1","amount":{listed},"currency":"EUR"}}]"#
            )))
        }
    });
    Client::new(tapfiliate(), transport)
}

#[tokio::test(start_paused = true)]
async fn r10_two_partial_refunds_at_once_both_count() {
    let part = |id: &str| {
        Refund::part("ORDER-1", euros("30"))
            .unwrap()
            .with_id(id)
            .unwrap()
    };
    let amount = Arc::new(Mutex::new("100".to_owned()));
    let client = slow_tapfiliate(&amount);
    let other = client.clone();
    let (one, two) = tokio::join!(client.report(part("re_1")), other.report(part("re_2")));
    assert_eq!(one.unwrap().outcome(), Outcome::Recorded);
    assert_eq!(two.unwrap().outcome(), Outcome::Recorded);
    assert_eq!(*amount.lock().unwrap(), "40");

    // Those that say what is left end there in any order, from any number of servers.
    let amount = Arc::new(Mutex::new("100".to_owned()));
    let total = |id, total| {
        let refund = part(id).with_sale_amount(euros("100"));
        refund.with_total_refunded(euros(total))
    };
    for (refund, outcome) in [
        (total("re_2", "60"), Outcome::Recorded),
        (total("re_1", "30"), Outcome::Duplicate),
        (total("re_2", "60"), Outcome::Duplicate),
    ] {
        let server = slow_tapfiliate(&amount);
        assert_eq!(server.report(refund).await.unwrap().outcome(), outcome);
        assert_eq!(*amount.lock().unwrap(), "40");
    }
}

/// Keeps nothing: these tests look at the delivery itself.
struct Forgetful;

impl DeliveryStore for Forgetful {
    type Error = Infallible;

    async fn save(&mut self, _: &Delivery) -> Result<(), Infallible> {
        Ok(())
    }
}

async fn attempt<P>(delivery: &mut Delivery, client: &Client<P, StandIn>) -> DeliveryOutcome
where
    P: ReportApi + Send + Sync + 'static,
{
    let soon = Retries::default().initial_backoff(Duration::ZERO);
    match deliver(delivery, client.reports(), &soon, &mut Forgetful).await {
        Ok(outcome) => outcome,
        Err(never) => match never {},
    }
}

#[tokio::test]
async fn r15_what_the_list_shows_is_settled_and_the_rest_is_a_persons() {
    for n in 0..20 {
        // Every other sale arrived before the 503.
        let arrived = n % 2 == 0;
        let item = if arrived {
            format!(r#"{{"key":"ORDER-{n}"}}"#)
        } else {
            String::new()
        };
        let list = format!(r#"{{"data":[{item}],"links":{{"next":null}}}}"#);
        let platform = StandIn::new([(503, ""), (200, &*list)]);
        let client = platform.client(partnero());
        let sale = Sale::new(format!("ORDER-{n}"), "CUSTOMER-1", euros("1")).unwrap();
        let mut delivery = Delivery::new(sale);
        let first = attempt(&mut delivery, &client).await;
        assert!(matches!(first, DeliveryOutcome::Retry { .. }));
        match attempt(&mut delivery, &client).await {
            DeliveryOutcome::Done(receipt) if arrived => assert_eq!(receipt, Outcome::Duplicate),
            DeliveryOutcome::Ambiguous if !arrived => {}
            other => panic!("{other:?}"),
        }
        let posts = platform.lines().into_iter();
        assert_eq!(posts.filter(|line| line.starts_with("POST")).count(), 1);
    }
    // Partnac's list settles a refund that has an ID.
    for (list, is_there) in [
        (
            r#"[{"unique_id":"ORDER-1","refunds":[{"external_refund_id":"re_1"}]}]"#,
            true,
        ),
        (
            r#"[{"unique_id":"ORDER-1","external_refund_id":"re_1"}]"#,
            true,
        ),
        (
            r#"[{"unique_id":"ORDER-2","external_refund_id":"re_1"}]"#,
            false,
        ),
        (r#"[{"unique_id":"ORDER-1","refunds":[]}]"#, false),
    ] {
        let platform = StandIn::new([(503, ""), (200, list), (200, "[]")]);
        let client = platform.client(partnac());
        let mut refund = Delivery::new(Refund::whole("ORDER-1").unwrap().with_id("re_1").unwrap());
        attempt(&mut refund, &client).await;
        let outcome = attempt(&mut refund, &client).await;
        assert_eq!(
            matches!(outcome, DeliveryOutcome::Done(_)),
            is_there,
            "{list}"
        );
        assert_eq!(outcome == DeliveryOutcome::Ambiguous, !is_there, "{list}");
    }
}

#[tokio::test]
async fn r16_a_proxys_page_is_not_judged() {
    let page = (409, "<html><h1>Conflict</h1></html>");
    let report = || Report::from(sale().with_credit(credit("P")));
    for error in [
        StandIn::new([page])
            .client(partnac())
            .report(report())
            .await,
        StandIn::new([page])
            .client(partnero())
            .report(report())
            .await,
        StandIn::new([page])
            .client(tapfiliate())
            .report(report())
            .await,
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error.error(), Error::HtmlPage { .. }), "{error:?}");
        assert_eq!(error.advice(), Advice::Retry { after: None });
        assert!(error.pauses_platform());
    }
}

#[tokio::test]
async fn r17_tags_and_the_date_of_birth_are_sent() {
    let done = r#"{"data":{"key":"c","partner":"P","referring_customer":null},"status":1}"#;
    let platform = StandIn::new([(200, done), (200, done)]);
    let sign_up = || SignUp::new("c").unwrap();
    let report = sign_up()
        .with_tag("vip")
        .with_metadata("tags", json!(["b2b", "trial"]))
        .with_credit(credit("P"));
    platform.client(partnero()).report(report).await.unwrap();
    let report = sign_up().with_metadata("date_of_birth", "1815-12-10");
    let friends = PartneroFriends::new("k").unwrap();
    platform.client(friends).report(report).await.unwrap();
    let asked = platform.asked();
    assert_eq!(asked[0].json()["tags"], json!(["vip", "b2b", "trial"]));
    assert_eq!(
        asked[1].json()["metadata"],
        json!({"date_of_birth": "1815-12-10"})
    );
    // What has no place is refused by its name.
    let report = sign_up()
        .with_metadata("plan", "pro")
        .with_credit(credit("P"));
    let error = platform
        .client(partnero())
        .report(report)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`metadata`"), "{error}");
}

#[tokio::test]
async fn r18_an_order_is_never_a_customers_sign_up() {
    let made = (200, r#"{"id":1}"#);
    let platform = StandIn::new([made, made]);
    let client = platform.client(partnac());
    let sign_up = SignUp::new("bob").unwrap().with_credit(credit("P"));
    client.report(sign_up).await.unwrap();
    let order = |id| {
        Sale::new(id, "bob", euros("1"))
            .unwrap()
            .with_credit(credit("P"))
    };
    client.report(order("bob")).await.unwrap();
    let ids = platform.asked().into_iter();
    let ids: Vec<_> = ids.map(|asked| asked.json()["unique_id"].clone()).collect();
    assert_eq!(ids, ["signup:bob", "bob"]);
    let error = client.report(order("signup:bob")).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
}

#[tokio::test]
async fn r19_pages_that_name_each_other_end_with_an_error() {
    let page = |next| format!(r#"{{"data":[{{"id":"a"}}],"links":{{"next":"{next}"}}}}"#);
    let (one, two) = (
        page("/v1/customers/c/referrals"),
        page("/v1/customers/c/referrals?page=2"),
    );
    let platform = StandIn::new([(200, &*two), (200, &*one)]);
    let client = platform.client(PartneroFriends::new("k").unwrap());
    let list = client.friend_referrals("c").unwrap();
    assert_eq!(list.try_collect::<Vec<_>>().await, Err(Error::EndlessList));

    let round = [
        (200, r#"[{"id":1}]"#),
        (200, r#"[{"id":2}]"#),
        (200, r#"[{"id":1}]"#),
    ];
    let platform = StandIn::new(round);
    let list = platform.client(partnac()).list_conversions(Filter::all());
    assert_eq!(list.try_collect::<Vec<_>>().await, Err(Error::EndlessList));
}

#[tokio::test]
async fn r23_what_the_new_platform_recognises_counts() {
    // The worker died while it sent to Partnac, which deduplicates; then Partnero took its place.
    let report = Report::from(sale().with_credit(credit("P")));
    let mut stored = serde_json::to_value(Delivery::new(report)).unwrap();
    stored["state"] = "sending".into();
    let delivery: Delivery = serde_json::from_value(stored).unwrap();

    let platform = StandIn::new([(409, "{}")]);
    let outcome = attempt(&mut delivery.clone(), &platform.client(partnac())).await;
    assert!(matches!(outcome, DeliveryOutcome::Done(_)));

    let platform = StandIn::new([(200, r#"{"data":[]}"#)]);
    let outcome = attempt(&mut delivery.clone(), &platform.client(partnero())).await;
    assert_eq!(outcome, DeliveryOutcome::Ambiguous);
    // The list is asked, and nothing is sent again.
    assert_eq!(
        platform.lines(),
        ["GET /v1/customers/CUSTOMER-1/transactions"]
    );
}

#[tokio::test]
async fn r24_a_zero_sale_is_nothing_to_report() {
    let zero = Sale::new("ORDER-1", "CUSTOMER-1", euros("0.00")).unwrap();
    let zero = || zero.clone().with_credit(credit("P"));
    let platform = StandIn::new([]);
    for outcome in [
        platform.client(partnac()).outcome(zero()).await,
        platform.client(partnero()).outcome(zero()).await,
        platform.client(tapfiliate()).outcome(zero()).await,
    ] {
        assert_eq!(outcome, Ok(Outcome::NotAttributed));
    }
}

#[tokio::test]
async fn r25_subscriptions_and_updates_wait_in_a_queue_like_any_report() {
    let renewal = sale()
        .with_subscription("month")
        .with_credit(clicked("P", "clk_1"));
    let update = SaleUpdate::new("ORDER-1", "upsell-1")
        .unwrap()
        .with_amount(euros("120"))
        .recalculate_commissions();
    let refund = Refund::part("ORDER-1", euros("20"))
        .unwrap()
        .with_reverse_paid_earnings(false);
    let mut asked = Vec::new();
    for report in [Report::from(renewal), update.into(), refund.into()] {
        let json = serde_json::to_string(&Delivery::new(report)).unwrap();
        let mut delivery: Delivery = serde_json::from_str(&json).unwrap();
        let platform = StandIn::new([(200, r#"{"id":"c1"}"#)]);
        let outcome = attempt(&mut delivery, &platform.client(partnac())).await;
        let DeliveryOutcome::Done(receipt) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(receipt, Outcome::Recorded);
        asked.push(platform.only());
    }
    let path = "/v1/tracking/conversions";
    assert_eq!(asked[0].json()["conversion_type"], "subscription");
    assert_eq!(asked[1].line, format!("PATCH {path}/ORDER-1"));
    assert_eq!(
        asked[1].json(),
        json!({"amount": 120, "recalculate_commissions": true})
    );
    assert_eq!(asked[2].line, format!("POST {path}/ORDER-1/refund"));
    assert_eq!(
        asked[2].json(),
        json!({"amount": 20, "reverse_paid_earnings": false})
    );
}

#[tokio::test]
async fn r27_a_link_that_runs_a_script_is_passed_on_nowhere() {
    for link in [
        "javascript:alert(1)",
        " JAVASCRIPT:x",
        "java\tscript:x",
        "data:text/html,x",
    ] {
        let body = json!({"data": {
            "id": "c",
            "referral_link": link,
            "referral_links": [{"url": link}],
            "social": {"x": link},
        }})
        .to_string();
        let platform = StandIn::new([(200, &*body), (200, &*body), (200, &*body)]);
        let client = platform.client(PartneroFriends::new("k").unwrap());
        let friend = client.friend("c").await.unwrap().unwrap();
        assert_eq!(friend.referral_link(), None, "{link}");
        let stats = client.friend_stats("c").await.unwrap().unwrap();
        let receipt = client.report(SignUp::new("c").unwrap()).await.unwrap();
        assert_eq!(Friend::of_sign_up(&receipt).unwrap().referral_link(), None);
        for json in [friend.json(), &stats, receipt.data()] {
            let json = json.to_string().to_ascii_lowercase();
            assert!(
                !json.contains("script") && !json.contains("data:text"),
                "{json}"
            );
        }
    }
}
