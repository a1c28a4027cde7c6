//! Affonso: what it is told, and what is made of its answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::util::Oneshot;
use tower::{Layer as _, service_fn};
use tower_referral::click::Clicks;
use tower_referral::{Keyring, Program, ReferralLayer, SignedCookie, SigningKey};
use tower_referral_platforms::affiliate::affonso::PARAMS;
use tower_referral_platforms::{
    Advice, Affonso, Answer, ClickApi as _, ConfigError, Credit, Error, Money, Outcome, PlatformId,
    PlatformIds, Refund, Report, ReportRequest, Sale, SignUp, Unsupported,
};

use crate::stand_in::{Asked, ReportOutcome as _, StandIn, clicked, credit};
use crate::strict::{Call, Platform, Strict};

fn affonso() -> Affonso {
    Affonso::new("sk_live_k3y", "prog_1").unwrap()
}

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale(order: &str) -> Sale {
    Sale::new(order, "CUSTOMER-1", euros("99.99")).unwrap()
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1").unwrap()
}

fn refused(status: u16) -> (u16, Value) {
    (
        status,
        json!({"success": false, "error": {"message": "no"}}),
    )
}

/// Affonso as its documentation has it, with one partner, `PARTNER_1`.
#[derive(Default)]
struct Account {
    clicks: Vec<String>,
    users: Vec<String>,
    conversions: HashMap<String, String>,
    refunds: Vec<(String, Value)>,
    calls: Vec<String>,
}

impl Account {
    fn click(&mut self, call: &Call) -> (u16, Value) {
        call.assert_fields(
            &["programId", "trackingId"],
            &["referrer", "userAgent", "ip"],
        );
        assert_eq!(call.text("programId"), Some("prog_1"));
        if call.text("trackingId") != Some("PARTNER_1") {
            return refused(404);
        }
        let id = format!("clk_{}", self.clicks.len());
        self.clicks.push(id.clone());
        (201, json!({"success": true, "data": {"id": id}}))
    }

    fn sign_up(&mut self, call: &Call) -> (u16, Value) {
        call.assert_fields(&["click_id"], &["email", "external_user_id", "name"]);
        if !self
            .clicks
            .iter()
            .any(|id| Some(&**id) == call.text("click_id"))
        {
            return refused(404);
        }
        let user = call
            .text("external_user_id")
            .or(call.text("email"))
            .unwrap();
        let is_known = self.users.iter().any(|known| known == user);
        if !is_known {
            self.users.push(user.to_owned());
        }
        let status = if is_known { 200 } else { 201 };
        (status, json!({"success": true, "data": {"id": "ref_1"}}))
    }

    fn conversion(&mut self, call: &Call) -> (u16, Value) {
        let needed = ["sale_amount", "sale_amount_currency", "external_event_id"];
        let optional = [
            "click_id",
            "external_user_id",
            "sales_status",
            "is_subscription",
            "interval",
            "product_ids",
        ];
        call.assert_fields(&needed, &optional);
        assert!(call.body["sale_amount"].is_number());
        let by = (call.text("click_id"), call.text("external_user_id"));
        let is_known = match by {
            (Some(click), None) => self.clicks.iter().any(|id| id == click),
            (None, Some(user)) => self.users.iter().any(|known| known == user),
            _ => panic!("one of them: {by:?}"),
        };
        if !is_known {
            return refused(404);
        }
        let next = format!("conv_{}", self.conversions.len());
        let event = call.text("external_event_id").unwrap().to_owned();
        let id = self.conversions.entry(event).or_insert(next);
        (200, json!({"success": true, "data": {"id": id}}))
    }

    fn refund(&mut self, id: &str, call: &Call) -> (u16, Value) {
        call.assert_fields(&["external_event_id", "amount", "currency"], &[]);
        assert!(self.conversions.values().any(|known| known == id));
        let event = call.text("external_event_id").unwrap().to_owned();
        if self.refunds.iter().any(|(known, _)| *known == event) {
            return refused(409);
        }
        self.refunds.push((event, call.body["amount"].clone()));
        (200, json!({"success": true, "data": {"id": "rfd_1"}}))
    }
}

impl Platform for Account {
    fn answer(&mut self, call: &Call) -> (u16, Value) {
        assert_eq!(call.headers["authorization"], "Bearer sk_live_k3y");
        assert_eq!((&*call.method, call.query.as_deref()), ("POST", None));
        let path = call.path.strip_prefix("/v1/").unwrap();
        self.calls.push(path.to_owned());
        match path.split('/').collect::<Vec<_>>()[..] {
            ["clicks"] => self.click(call),
            ["signups"] => self.sign_up(call),
            ["conversions"] => self.conversion(call),
            ["conversions", id, "refund"] => self.refund(id, call),
            _ => panic!("{path}"),
        }
    }
}

fn program() -> Strict<Account> {
    Strict::new(Account::default())
}

fn calls(platform: &Strict<Account>) -> Vec<String> {
    platform.look(|affonso| std::mem::take(&mut affonso.calls))
}

#[tokio::test]
async fn from_the_sign_up_to_the_refund() {
    let platform = program();
    let client = platform.client(affonso());
    // No click came with the visitor.
    let report = || {
        sign_up()
            .with_credit(credit("PARTNER_1"))
            .with_email("ada@example.com")
    };
    let receipt = client.report(report()).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    assert_eq!(receipt.ids().click, PlatformId::new("clk_0"));
    assert_eq!(calls(&platform), ["clicks", "signups"]);
    // A later attempt uses the same click.
    let again = ReportRequest::new(report()).with_ids(receipt.ids().clone());
    let receipt = client.send_report(&again).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Duplicate);
    assert_eq!(calls(&platform), ["signups"]);

    // The first sale, and a renewal without credit of its own.
    for order in ["ORDER-1", "ORDER-2"] {
        let receipt = client.report(sale(order)).await.unwrap();
        assert_eq!(receipt.outcome(), Outcome::Recorded);
    }
    let receipt = client.report(sale("ORDER-1")).await.unwrap();
    assert_eq!(receipt.ids().sale, PlatformId::new("conv_0"));
    assert_eq!(platform.look(|affonso| affonso.conversions.len()), 2);

    let part = || {
        Refund::part("ORDER-1", euros("9.90"))
            .unwrap()
            .with_id("re_1")
            .unwrap()
    };
    let refund = |refund: Refund| ReportRequest::new(refund).with_ids(receipt.ids().clone());
    let recorded = client.send_report(&refund(part())).await.unwrap();
    assert_eq!(recorded.outcome(), Outcome::Recorded);
    assert_eq!(recorded.ids().refund, PlatformId::new("rfd_1"));
    let duplicate = client.send_report(&refund(part())).await.unwrap();
    assert_eq!(duplicate.outcome(), Outcome::Duplicate);
    let whole = || Refund::whole("ORDER-1").unwrap();
    let error = client.send_report(&refund(whole())).await.unwrap_err();
    let missing = Unsupported::MissingField("sale_amount");
    assert_eq!(*error.error(), Error::Unsupported(missing));
    let whole = refund(whole().with_sale_amount(euros("99.99")));
    assert!(client.send_report(&whole).await.unwrap().is_credited());
    let refunds = platform.look(|affonso| affonso.refunds.clone());
    let expected = [
        ("refund:ORDER-1:re_1", json!(9.9)),
        ("refund:ORDER-1", json!(99.99)),
    ];
    assert_eq!(
        refunds,
        expected.map(|(id, amount)| (id.to_owned(), amount))
    );
}

/// As after two payments with a refund have turned out to be one.
#[tokio::test]
async fn refunds_of_two_orders_with_one_id_are_two() {
    let platform = program();
    platform.look(|affonso| affonso.users.push("CUSTOMER-1".to_owned()));
    let client = platform.client(affonso());
    for order in ["O7", "in_1"] {
        let receipt = client.report(sale(order)).await.unwrap();
        let refund = Refund::part(order, euros("25.21")).unwrap();
        let refund = ReportRequest::new(refund.with_id("re_1").unwrap());
        let refund = refund.with_ids(receipt.ids().clone());
        let outcome = client.send_report(&refund).await.unwrap().outcome();
        assert_eq!(outcome, Outcome::Recorded, "{order}");
    }
}

#[tokio::test]
async fn a_sale_is_credited_by_the_first_thing_that_affonso_knows() {
    let platform = program();
    platform.look(|affonso| affonso.clicks.push("clk_own".to_owned()));
    let client = platform.client(affonso());
    let by = |credit: Credit| sale("ORDER-1").with_credit(credit);
    for (credit, expected) in [
        (clicked("PARTNER_1", "clk_own"), &["conversions"][..]),
        (
            credit("PARTNER_1"),
            &["conversions", "clicks", "conversions"],
        ),
        (
            clicked("PARTNER_1", "clk_forged"),
            &["conversions", "conversions", "clicks", "conversions"],
        ),
    ] {
        assert_eq!(
            client.report(by(credit)).await.unwrap().outcome(),
            Outcome::Recorded
        );
        assert_eq!(calls(&platform), expected);
    }
    // A guest isn't looked for.
    let guest =
        |credit: Option<Credit>| Sale::guest("G", sign_up().with_credit(credit), euros("1"));
    let known = guest(Some(credit("PARTNER_1"))).unwrap();
    assert_eq!(
        client.report(known).await.unwrap().outcome(),
        Outcome::Recorded
    );
    assert_eq!(calls(&platform), ["clicks", "conversions"]);
    let nobody = guest(None).unwrap();
    assert_eq!(
        client.report(nobody).await.unwrap().outcome(),
        Outcome::NotAttributed
    );
    assert!(calls(&platform).is_empty());

    // Nobody referred the customer.
    let receipt = client.report(sale("ORDER-9")).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::NotAttributed);
    let refund = ReportRequest::new(Refund::whole("ORDER-9").unwrap());
    let unrecorded = refund.clone().sale_is_unrecorded(true);
    let receipt = client.send_report(&unrecorded).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::NotAttributed);
    // Otherwise Affonso may have the sale.
    let error = client.send_report(&refund).await.unwrap_err();
    assert_eq!(*error.error(), Error::MissingId("sale"));
    assert_eq!(error.advice(), Advice::Permanent);
    assert_eq!(calls(&platform), ["conversions"]);
    // A partner whom Affonso doesn't know is for a person to look at.
    let error = client.report(by(credit("NOBODY"))).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
    let error = client
        .report(sign_up().with_credit(credit("NOBODY")))
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
    let nobody = client.report(sign_up()).await.unwrap();
    assert_eq!(nobody.outcome(), Outcome::NotAttributed);
}

#[tokio::test]
async fn a_click_is_made_for_a_landing() {
    assert_eq!(PARAMS[0], "atp");
    let platform = StandIn::new([(201, r#"{"success":true,"data":{"id":"clk_1"}}"#)]);
    let key = SigningKey::new("test", (0..32).collect::<Vec<u8>>()).unwrap();
    let layer = ReferralLayer::builder(SignedCookie::new(Keyring::new(key)))
        .program(Program::new("partners").params(PARAMS))
        .clicks(Clicks::new(platform.client(affonso()).clicks()))
        .build()
        .unwrap();
    let page = |_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(())));
    let landing = Request::get("/pricing?atp=PARTNER_1")
        .header("host", "shop.example")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101",
        )
        .header("referer", "https://blog.example/")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-site", "cross-site");
    let service = layer.layer(service_fn(page));
    Oneshot::new(service, landing.body(()).unwrap())
        .await
        .unwrap();
    assert!(layer.drain_clicks(Duration::from_secs(60)).await);
    let asked = platform.only();
    assert_eq!(asked.line, "POST /v1/clicks");
    assert_eq!(asked.host, "api.affonso.io");
    assert_eq!(
        asked.json(),
        json!({
            "programId": "prog_1",
            "trackingId": "PARTNER_1",
            "referrer": "https://blog.example",
        })
    );
}

#[test]
fn a_click_is_read_where_there_is_one() {
    let read = |body: &'static str| {
        let answer = Answer::new(StatusCode::CREATED, body.into());
        affonso()
            .read_click(&answer)
            .map(|click| click.id().to_string())
    };
    let made = read(r#"{"success":true,"data":{"id":"clk_1"}}"#);
    assert_eq!(made.as_deref(), Ok("clk_1"));
    for answer in [
        r#"{"success":false,"data":{"id":"clk_1"}}"#,
        r#"{"success":true}"#,
        "OK",
    ] {
        assert!(read(answer).is_err(), "{answer}");
    }
}

#[tokio::test]
async fn a_sale_and_a_sign_up_say_this() {
    let ok = (200, r#"{"success":true,"data":{"id":"x"}}"#);
    let platform = StandIn::new([ok, ok, ok]);
    let client = platform.client(affonso());
    let report = sale("ORDER-1")
        .with_credit(clicked("PARTNER_1", "clk_1"))
        .with_subscription("month")
        .with_product("prod_1");
    assert_eq!(client.outcome(report).await, Ok(Outcome::Recorded));
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let report = SignUp::by_email("ada@example.com").unwrap();
    let report = report.with_name("Ada").with_credit(credit("PARTNER_1"));
    let report = report.with_ip(ip).with_user_agent("Mozilla");
    assert_eq!(client.outcome(report).await, Ok(Outcome::Duplicate));
    let asked = platform.asked();
    assert!(
        asked[0].text.contains(r#""sale_amount":99.99,"#),
        "{}",
        asked[0].text
    );
    let bodies: Vec<_> = asked.iter().map(Asked::json).collect();
    assert_eq!(
        bodies,
        [
            json!({
                "click_id": "clk_1",
                "sale_amount": 99.99,
                "sale_amount_currency": "EUR",
                "external_event_id": "ORDER-1",
                "sales_status": "complete",
                "is_subscription": true,
                "interval": "monthly",
                "product_ids": ["prod_1"],
            }),
            json!({
                "programId": "prog_1",
                "trackingId": "PARTNER_1",
                "ip": "203.0.113.7",
                "userAgent": "Mozilla",
            }),
            json!({"click_id": "x", "email": "ada@example.com", "name": "Ada"}),
        ]
    );
}

#[tokio::test]
async fn a_failure_is_one_whatever_its_status() {
    let later = Advice::Retry { after: None };
    for (status, body, advice) in [
        (
            200,
            r#"{"success":false,"data":{"id":"x"}}"#,
            Advice::Permanent,
        ),
        (201, r#"{"success":false}"#, Advice::Permanent),
        (200, "OK", later),
        (500, "", later),
        (401, r#"{"success":false}"#, later),
        (409, "<h1>Conflict</h1>", later),
    ] {
        let platform = StandIn::new([(status, body)]);
        let error = platform
            .client(affonso())
            .outcome(sale("O"))
            .await
            .unwrap_err();
        assert_eq!(error.advice(), advice, "{status} {body}");
    }
    let platform = StandIn::new([(409, r#"{"success":false}"#)]);
    let outcome = platform.client(affonso()).outcome(sale("O")).await;
    assert_eq!(outcome, Ok(Outcome::Duplicate));
}

#[tokio::test]
async fn a_rate_limit_ends_at_the_time_that_affonso_names() {
    let limited = |reset: &str, status: u16| {
        let platform = StandIn::default();
        let answer = Response::builder()
            .status(status)
            .header("date", "Fri, 20 Nov 2026 12:00:00 GMT")
            .header("x-ratelimit-reset", reset);
        platform.then(answer.body(r#"{"success":false}"#.to_owned()).unwrap());
        platform
    };
    let platform = StandIn::default();
    let answer = Response::builder()
        .status(429)
        .header("date", "Fri, 20 Nov 2026 12:00:00 GMT")
        .header("x-ratelimit-reset", "1795176042");
    platform.then(answer.body(String::new()).unwrap());
    let error = platform
        .client(affonso())
        .outcome(sale("O"))
        .await
        .unwrap_err();
    let after = Some(Duration::from_secs(42));
    assert_eq!(error.advice(), Advice::Retry { after });
    assert!(error.pauses_platform());
    for (reset, status, after) in [
        ("60", 429, None),
        ("soon", 429, None),
        ("99999999999999999999", 429, None),
        ("9999999999", 429, Some(Duration::from_secs(3600))),
        // Only where the limit was met.
        ("9999999999", 500, None),
    ] {
        let platform = limited(reset, status);
        let error = platform
            .client(affonso())
            .outcome(sale("O"))
            .await
            .unwrap_err();
        assert_eq!(error.error().retry_after(), after, "{reset}");
    }
}

#[tokio::test]
async fn a_click_of_which_nobody_knows_is_made_again_and_kept_once_it_is_known() {
    let report = || Report::from(sign_up().with_credit(credit("PARTNER_1")));
    let platform = StandIn::new([(500, "")]);
    let error = platform
        .client(affonso())
        .outcome(report())
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
    assert!(error.ids().is_empty());

    let made = (201, r#"{"success":true,"data":{"id":"clk_1"}}"#);
    let platform = StandIn::new([made, (500, "")]);
    let error = platform
        .client(affonso())
        .outcome(report())
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
    let mut ids = PlatformIds::default();
    ids.click = PlatformId::new("clk_1");
    assert_eq!(*error.ids(), ids);
}

#[tokio::test]
async fn what_affonso_cannot_take_is_refused_by_name() {
    let platform = StandIn::new([]);
    let report = sale("O")
        .with_credit(credit("P"))
        .with_metadata("plan", "pro");
    let error = platform
        .client(affonso())
        .outcome(report)
        .await
        .unwrap_err();
    let field = Unsupported::Field("metadata");
    assert_eq!(*error.error(), Error::Unsupported(field));
    for id in ["", "prog 1"] {
        let error = Affonso::new("sk", id).unwrap_err();
        assert!(matches!(error, ConfigError::InvalidSetting { .. }));
    }
}
