//! Awin: what it is told, what is made of its answers, and how orders are gathered into batches.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};
use tower_referral_platforms::{
    Advice, Awin, Client, ConfigError, Credit, Error, Money, Outcome, Refund, Report, ReportError,
    ReportRequest, Sale, SignUp, Unsupported,
};

use crate::documented::{Call, Kind, Platform, Said, Strict, check, refused, text};
use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

fn pounds(amount: &str) -> Money {
    Money::new(amount, "GBP").unwrap()
}

fn by_click() -> Credit {
    Credit::of_click("1001_awc_x".parse().unwrap())
}

fn sale(order: impl std::fmt::Display) -> Sale {
    let sale = Sale::new(order, "CUSTOMER-1", pounds("83.29")).unwrap();
    sale.with_credit(by_click())
}

fn platform() -> Awin {
    Awin::new("s3cret-key", 1001).unwrap()
}

fn client(stand_in: &StandIn) -> Client<Awin, StandIn> {
    stand_in.client(platform())
}

#[tokio::test]
async fn a_sale_is_an_order() {
    let taken =
        r#"{"successfulOrders":[{"orderReference":"ORDER-1"},{"orderReference":"ORDER-2"}]}"#;
    let stand_in = StandIn::new([(200, taken), (200, taken)]);
    let outcome = client(&stand_in).outcome(sale("ORDER-1")).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let by_voucher = Sale::new("ORDER-2", "C", pounds("5")).unwrap();
    let by_voucher = by_voucher.with_coupon("SUMMER").with_credit(credit("KEY"));
    let by_voucher = by_voucher.with_commission_type("NEW").with_action("email");
    let outcome = client(&stand_in).outcome(by_voucher).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let asked = stand_in.asked();
    assert_eq!(asked[0].line, "POST /s2s/advertiser/1001/orders");
    assert_eq!(asked[0].host, "api.awin.com");
    assert_eq!(asked[0].headers["x-api-key"], "s3cret-key");
    assert!(asked[0].headers["x-api-key"].is_sensitive());
    assert!(
        asked[0].text.contains(r#""amount":83.29,"#),
        "{}",
        asked[0].text
    );
    assert_eq!(
        asked[0].json(),
        json!({"orders": [{
            "orderReference": "ORDER-1",
            "amount": 83.29,
            "currency": "GBP",
            "channel": "aw",
            "awc": "1001_awc_x",
            "commissionGroups": [{"code": "DEFAULT", "amount": 83.29}],
        }]})
    );
    assert_eq!(
        asked[1].json(),
        json!({"orders": [{
            "orderReference": "ORDER-2",
            "amount": 5,
            "currency": "GBP",
            "channel": "email",
            "voucher": "SUMMER",
            "commissionGroups": [{"code": "NEW", "amount": 5}],
        }]})
    );
}

#[tokio::test]
async fn a_reference_that_would_be_cut_off_is_refused_by_name() {
    for fits in ["x".repeat(50), "ä".repeat(50)] {
        let taken = format!(r#"{{"successfulOrders":[{{"orderReference":"{fits}"}}]}}"#);
        let stand_in = StandIn::new([(200, &*taken)]);
        let outcome = client(&stand_in).outcome(sale(fits)).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
    }
    let stand_in = StandIn::default();
    let long = sale("x".repeat(51));
    let error = client(&stand_in).outcome(long).await.unwrap_err();
    let too_long = Unsupported::TooLong {
        field: "order",
        max: 50,
    };
    assert_eq!(*error.error(), Error::Unsupported(too_long));
    assert_eq!(error.advice(), Advice::Permanent);
    assert!(error.to_string().contains("50 characters of `order`"));
}

#[tokio::test]
async fn nothing_is_sent_for_nobody() {
    let stand_in = StandIn::new([]);
    let bare = || Sale::new("O", "C", pounds("1")).unwrap();
    let free = Sale::new("O", "C", pounds("0"))
        .unwrap()
        .with_credit(by_click());
    let signed_up = SignUp::new("C").unwrap().with_credit(clicked("KEY", "awc"));
    let reports: [Report; 4] = [
        bare().into(),
        bare().with_credit(credit("KEY")).into(),
        free.into(),
        signed_up.into(),
    ];
    for report in reports {
        let outcome = client(&stand_in).outcome(report).await;
        assert_eq!(outcome, Ok(Outcome::NotAttributed));
    }
    let refund = Refund::whole("ORDER-1").unwrap();
    let error = client(&stand_in).outcome(refund).await.unwrap_err();
    let kind = Unsupported::Kind("refund");
    assert_eq!(*error.error(), Error::Unsupported(kind));
}

#[tokio::test]
async fn an_answer_is_a_success_only_where_it_says_so() {
    let recorded = Ok(Outcome::Recorded);
    let later = Err(Advice::Retry { after: None });
    let listed = |list: &str| format!(r#"{{"{list}":[{{"orderReference":"ORDER-1"}}]}}"#);
    let failed =
        r#"{"failedOrders":[{"order":{"orderReference":"ORDER-1"},"errors":["bad awc"]}]}"#;
    for (status, body, expected) in [
        (200, listed("successfulOrders"), recorded),
        (206, listed("successfulOrders"), recorded),
        (202, listed("pendingOrders"), recorded),
        (200, failed.to_owned(), Err(Advice::Permanent)),
        (400, failed.to_owned(), Err(Advice::Permanent)),
        // Nobody knows.
        (206, "{}".to_owned(), Err(Advice::Ambiguous)),
        (200, "{}".to_owned(), Err(Advice::Ambiguous)),
        (202, r#"{"message":"accepted","orders":1}"#.to_owned(), Err(Advice::Ambiguous)),
        // It says two things.
        (
            200,
            r#"{"success":false,"successfulOrders":[{"orderReference":"ORDER-1"}]}"#.to_owned(),
            Err(Advice::Ambiguous),
        ),
        (
            200,
            r#"{"successfulOrders":[{"orderReference":"ORDER-1","success":"false"}]}"#.to_owned(),
            Err(Advice::Ambiguous),
        ),
        (
            200,
            r#"{"successfulOrders":[{"orderReference":"ORDER-1"}],"successfulOrders":[]}"#.to_owned(),
            Err(Advice::Ambiguous),
        ),
        (200, String::new(), Err(Advice::Ambiguous)),
        (200, "<html>".to_owned(), Err(Advice::Ambiguous)),
        (200, r#"{"successfulOrders":[]}"#.to_owned(), Err(Advice::Ambiguous)),
        (200, r#"{"successfulOrders":[{"orderReference":"ORDER-10"}]}"#.to_owned(), Err(Advice::Ambiguous)),
        (
            200,
            r#"{"successfulOrders":[{"orderReference":"ORDER-1"}],"failedOrders":[{"orderReference":"ORDER-1"}]}"#.to_owned(),
            Err(Advice::Ambiguous),
        ),
        (500, listed("successfulOrders"), Err(Advice::Ambiguous)),
        (503, String::new(), Err(Advice::Ambiguous)),
        // It wasn't taken.
        (200, r#"{"success":false}"#.to_owned(), Err(Advice::Permanent)),
        (400, r#"{"message":"no"}"#.to_owned(), Err(Advice::Permanent)),
        (409, r#"{"message":"known"}"#.to_owned(), Err(Advice::Permanent)),
        (401, "{}".to_owned(), later),
        (429, listed("successfulOrders"), later),
        (307, String::new(), later),
        // It may have been.
        (302, String::new(), Err(Advice::Ambiguous)),
        (303, listed("successfulOrders"), Err(Advice::Ambiguous)),
        (101, String::new(), Err(Advice::Ambiguous)),
        (408, failed.to_owned(), Err(Advice::Ambiguous)),
        (600, failed.to_owned(), Err(Advice::Ambiguous)),
    ] {
        let stand_in = StandIn::new([(status, &*body)]);
        let result = client(&stand_in).outcome(sale("ORDER-1")).await;
        assert_eq!(result.map_err(|error| error.advice()), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_words_about_an_order_are_kept_and_clean() {
    let body = r#"{"failedOrders":[{"orderReference":"ORDER-1","message":"1001_awc_x of ORDER-1 is old"}]}"#;
    let stand_in = StandIn::new([(206, body)]);
    let error = client(&stand_in)
        .outcome(sale("ORDER-1"))
        .await
        .unwrap_err();
    let Error::Rejected { message, .. } = error.error() else {
        panic!("{error:?}");
    };
    assert_eq!(message.as_str(), "[hidden] of [hidden] is old");
}

#[tokio::test]
async fn nothing_is_repeated_by_guess() {
    let stand_in = StandIn::new([]);
    let again = ReportRequest::new(sale("ORDER-1")).may_have_arrived(true);
    let error = client(&stand_in).send_report(&again).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
    let results = client(&stand_in).report_batch(&[again]).await;
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
}

#[test]
fn a_wrong_account_is_refused_when_it_is_built() {
    for wrong in ["", "1/2", "12 ", "../x"] {
        let error = Awin::new("k", wrong).unwrap_err();
        assert_eq!(
            error,
            ConfigError::InvalidSetting {
                name: "advertiser ID"
            }
        );
    }
    assert!(!format!("{:?}", platform()).contains("s3cret"));
}

/// Awin as its documentation has it, with answers that name each order. An order of an unknown click
/// is refused, and one of the click `spoils` refuses the whole batch.
#[derive(Default)]
struct Network {
    last: Option<Instant>,
    batches: Vec<usize>,
    orders: Vec<String>,
}

impl Platform for Network {
    fn answer(&mut self, call: &Call) -> Said {
        if call.header("x-api-key") != "s3cret-key" {
            return refused(401, "wrong key");
        }
        if call.line != "POST /s2s/advertiser/1001/orders" {
            return refused(404, "no such page");
        }
        let now = Instant::now();
        let is_early = |last| now - last < Duration::from_secs(10);
        if self.last.is_some_and(is_early) {
            return refused(429, "too early");
        }
        self.last = Some(now);
        let orders = call.fields(&[("orders*", Kind::List)]).unwrap();
        let orders = orders["orders"].as_array().unwrap();
        assert!((1..=1000).contains(&orders.len()), "{}", orders.len());
        let (mut taken, mut failed) = (Vec::new(), Vec::new());
        for order in orders {
            let fields = check(
                order,
                &[
                    ("orderReference*", Kind::Text),
                    ("amount*", Kind::Number),
                    ("channel*", Kind::Text),
                    ("currency*", Kind::Text),
                    ("awc", Kind::Text),
                    ("voucher", Kind::Text),
                    ("commissionGroups", Kind::List),
                ],
            );
            let fields = fields.unwrap();
            let reference = text(&fields, "orderReference").unwrap();
            assert!(reference.len() <= 50, "it would be cut off");
            let listed = json!({"orderReference": reference});
            match text(&fields, "awc").as_deref() {
                Some("spoils") => return refused(400, "malformed"),
                Some("unknown") => failed.push(listed),
                _ => taken.push((reference, listed)),
            }
        }
        self.batches.push(orders.len());
        let (references, taken): (Vec<String>, Vec<Value>) = taken.into_iter().unzip();
        self.orders.extend(references);
        let status = if failed.is_empty() { 200 } else { 206 };
        let body = json!({"batchId": "b", "successfulOrders": taken, "failedOrders": failed});
        (status, body)
    }
}

fn credited_by(order: impl std::fmt::Display, awc: &str) -> Sale {
    sale(order).with_credit(Credit::of_click(awc.parse().unwrap()))
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_report() {
    let network = Strict::new(Network::default());
    let reports: [Report; 6] = [
        sale("ORDER-1").into(),
        SignUp::new("C").unwrap().into(),
        credited_by("ORDER-2", "unknown").into(),
        sale("x".repeat(51)).into(),
        sale("ORDER-3").into(),
        Refund::whole("ORDER-0").unwrap().into(),
    ];
    let reports = reports.map(ReportRequest::new);
    let results = network.client(platform()).report_batch(&reports).await;
    let results = results.iter().map(|result| match result {
        Ok(receipt) => receipt.outcome().as_str(),
        Err(error) => error.error().code(),
    });
    assert_eq!(
        results.collect::<Vec<_>>(),
        [
            "recorded",
            "not_attributed",
            "rejected",
            "unsupported",
            "recorded",
            "unsupported"
        ]
    );
    assert_eq!(network.lock().0.orders, ["ORDER-1", "ORDER-3"]);
    assert_eq!(network.lines().len(), 1);
}

#[tokio::test]
async fn a_batch_has_a_thousand_orders_at_most() {
    let network = Strict::new(Network::default());
    let client = network.client(platform());
    let reports: Vec<_> = (0..1001).map(|n| ReportRequest::new(sale(n))).collect();
    let results = client.report_batch(&reports).await;
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(*error.error(), Error::Unsupported(Unsupported::Batch));
    let results = client.report_batch(&reports[..1000]).await;
    assert!(results.iter().all(Result::is_ok));
}

/// The results of several reports that are given to one service at once.
async fn all_at_once(
    network: &Strict<Network>,
    sales: impl IntoIterator<Item = Sale>,
) -> Vec<Result<Outcome, ReportError>> {
    let reports = network.client(platform()).reports();
    let calls = sales.into_iter().map(|sale| {
        let call = reports.clone().oneshot(ReportRequest::new(sale));
        async move { call.await.map(|receipt| receipt.outcome()) }
    });
    join_all(calls).await
}

#[tokio::test(start_paused = true)]
async fn a_service_gathers_reports_ten_seconds_apart() {
    let network = Strict::new(Network::default());
    let began = Instant::now();
    let results = all_at_once(&network, (0..2500).map(sale)).await;
    assert!(
        results
            .iter()
            .all(|result| *result == Ok(Outcome::Recorded))
    );
    let batches = network.lock().0.batches.clone();
    // All had been given in before the first was polled a second time.
    assert_eq!(batches.iter().sum::<usize>(), 2500);
    assert!(batches.len() <= 4, "{batches:?}");
    let waits = u64::try_from(batches.len() - 1).unwrap();
    let elapsed = began.elapsed().as_secs();
    assert!((10 * waits..10 * waits + 5).contains(&elapsed), "{elapsed}");
    // None twice.
    let mut orders = network.lock().0.orders.clone();
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 2500);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_spoils_its_batch_fails_alone() {
    let network = Strict::new(Network::default());
    let reports = network.client(platform()).reports();
    let deliver = |sale: Sale| {
        let mut reports = reports.clone();
        // As a queue does it.
        async move {
            loop {
                let request = ReportRequest::new(sale.clone());
                match reports.call(request).await.map(|receipt| receipt.outcome()) {
                    Err(error) if matches!(error.advice(), Advice::Retry { .. }) => {
                        assert_eq!(error.error().code(), "batch_refused");
                    }
                    result => return result.map_err(|error| error.error().code()),
                }
            }
        }
    };
    let sales = (0..40).map(|n| credited_by(n, if n == 17 { "spoils" } else { "good" }));
    let results = join_all(sales.map(deliver)).await;
    for (n, result) in results.into_iter().enumerate() {
        let expected = if n == 17 {
            Err("rejected")
        } else {
            Ok(Outcome::Recorded)
        };
        assert_eq!(result, expected, "{n}");
    }
    let mut orders = network.lock().0.orders.clone();
    orders.sort();
    orders.dedup();
    assert_eq!((orders.len(), network.lock().0.orders.len()), (39, 39));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_before_the_batch_is_not_sent_and_stops_nobody() {
    let network = Strict::new(Network::default());
    let reports = network.client(platform()).reports();
    let send = |order: &str| reports.clone().oneshot(ReportRequest::new(sale(order)));
    send("ORDER-1").await.unwrap();
    // The first in line has the next batch in hand, and gives up.
    let impatient = tokio::time::timeout(Duration::from_secs(2), send("ORDER-2"));
    let (gave_up, other) = tokio::join!(impatient, send("ORDER-3"));
    assert!(gave_up.is_err());
    assert_eq!(other.unwrap(), Outcome::Recorded);
    assert_eq!(network.lock().0.orders, ["ORDER-1", "ORDER-3"]);
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_request_does_not_wait() {
    let network = Strict::new(Network::default());
    let reports = network.client(platform()).reports();
    let send = |report: Report| reports.clone().oneshot(ReportRequest::new(report));
    send(sale("ORDER-1").into()).await.unwrap();
    let began = Instant::now();
    let nobody = send(SignUp::new("C").unwrap().into()).await.unwrap();
    assert_eq!(nobody, Outcome::NotAttributed);
    assert!(send(Refund::whole("O").unwrap().into()).await.is_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
}
