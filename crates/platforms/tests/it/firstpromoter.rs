//! FirstPromoter: what it is told, and what is made of its answers.

use serde_json::{Value, json};
use time::macros::datetime;
use tower_referral_platforms::{
    Advice, Cancellation, Client, ConfigError, Error, FirstPromoter, Money, Outcome, PlatformId,
    Refund, RefundReversal, Sale, SaleUpdate, SignUp, Unsupported,
};

use crate::documented::{Call, Kind, Platform, Said, Strict, refused, text};
use crate::stand_in::{Asked, ReportOutcome as _, StandIn, clicked, credit};

/// What every call is answered with, as it is documented: the event that it made.
const EVENT: (u16, &str) = (200, r#"{"id":45831611,"referral":{"id":29203686}}"#);

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("99.99")).unwrap()
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1").unwrap()
}

fn part(order: &str, amount: &str, id: &str) -> Refund {
    let refund = Refund::part(order, euros(amount)).unwrap();
    let refund = refund.with_id(id).unwrap();
    refund.with_customer("CUSTOMER-1").unwrap()
}

fn platform() -> FirstPromoter {
    FirstPromoter::new("s3cret-key", "acc0unt").unwrap()
}

fn client(stand_in: &StandIn) -> Client<FirstPromoter, StandIn> {
    stand_in.client(platform())
}

#[tokio::test]
async fn a_sign_up_is_a_lead() {
    let answer =
        r#"{"id":45831611,"etype":"signup","referral":{"id":29203686,"uid":"CUSTOMER-1"}}"#;
    let stand_in = StandIn::new([(200, answer)]);
    let report = sign_up()
        .with_email("ada@example.com")
        .with_name("Ada")
        .with_ip(Some("203.0.113.9".parse().unwrap()))
        .with_signed_up_at(datetime!(2026-11-20 12:00 UTC))
        .with_credit(credit("PARTNER_1"));
    let receipt = client(&stand_in).report(report).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    assert_eq!(receipt.ids().customer, PlatformId::new("29203686"));
    let asked = stand_in.only();
    assert_eq!(asked.line, "POST /api/v2/track/signup");
    assert_eq!(asked.host, "api.firstpromoter.com");
    assert_eq!(asked.headers["authorization"], "Bearer s3cret-key");
    assert_eq!(asked.headers["account-id"], "acc0unt");
    assert_eq!(
        asked.json(),
        json!({
            "uid": "CUSTOMER-1",
            "email": "ada@example.com",
            "ref_id": "PARTNER_1",
            "ip": "203.0.113.9",
            "created_at": "2026-11-20T12:00:00Z",
        })
    );
}

#[tokio::test]
async fn a_sale_is_reported_in_minor_units_whoever_is_credited() {
    let stand_in = StandIn::new([(200, r#"{"id":7}"#), (200, r#"{"id":8}"#)]);
    let report = sale()
        .with_credit(credit("PARTNER_1"))
        .with_email("ada@example.com")
        .with_coupon("SUMMER")
        .with_product("pro-monthly")
        .with_subscription("month");
    let receipt = client(&stand_in).report(report).await.unwrap();
    assert_eq!(receipt.ids().sale, PlatformId::new("7"));
    let yen = Money::new("5000", "JPY").unwrap();
    let renewal = Sale::new("ORDER-2", "CUSTOMER-1", yen).unwrap();
    let outcome = client(&stand_in).outcome(renewal).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let asked = stand_in.asked();
    assert_eq!(asked[0].line, "POST /api/v2/track/sale");
    assert_eq!(
        asked[0].json(),
        json!({
            "event_id": "ORDER-1",
            "amount": 9999,
            "currency": "EUR",
            "uid": "CUSTOMER-1",
            "email": "ada@example.com",
            "ref_id": "PARTNER_1",
            "plan": "pro-monthly",
            "promo_code": "SUMMER",
        })
    );
    assert_eq!(
        asked[1].json(),
        json!({"event_id": "ORDER-2", "amount": 5000, "currency": "JPY", "uid": "CUSTOMER-1"})
    );
}

#[tokio::test]
async fn a_refund_has_its_own_event_an_amount_and_a_customer() {
    let stand_in = StandIn::new([EVENT, EVENT, EVENT]);
    let whole = Refund::whole("ORDER-1")
        .unwrap()
        .with_sale_amount(euros("99.99"));
    let whole = whole.with_customer("CUSTOMER-1").unwrap();
    let same_id = part("ORDER-2", "5", "1");
    for refund in [whole, part("ORDER-1", "5", "1"), same_id] {
        let outcome = client(&stand_in).outcome(refund).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
    }
    let bodies: Vec<_> = stand_in.asked().iter().map(Asked::json).collect();
    assert_eq!(stand_in.lines(), ["POST /api/v2/track/refund"; 3]);
    let body = |event: &str, amount: u64, order: &str| json!({"event_id": event, "amount": amount, "uid": "CUSTOMER-1", "sale_event_id": order});
    assert_eq!(
        bodies,
        [
            body("refund:ORDER-1", 9999, "ORDER-1"),
            body("refund:ORDER-1:1", 500, "ORDER-1"),
            // The shop's ID of a refund tells those of one order apart, and no others.
            body("refund:ORDER-2:1", 500, "ORDER-2"),
        ]
    );
}

#[tokio::test]
async fn what_a_refund_needs_is_named() {
    let stand_in = StandIn::new([]);
    let whole = || Refund::whole("ORDER-1").unwrap();
    for (refund, missing) in [
        (whole().with_sale_amount(euros("1")), "customer"),
        (whole().with_customer("C").unwrap(), "sale_amount"),
    ] {
        let error = client(&stand_in).outcome(refund).await.unwrap_err();
        let missing = Unsupported::MissingField(missing);
        assert_eq!(*error.error(), Error::Unsupported(missing));
        assert_eq!(error.advice(), Advice::Permanent);
    }
}

#[tokio::test]
async fn what_has_no_place_is_refused_by_name() {
    let stand_in = StandIn::new([]);
    let refused = |reason| Error::Unsupported(reason);
    let fraction = Sale::new("O", "C", euros("0.001")).unwrap();
    let update = SaleUpdate::new("O", "1").unwrap();
    for (report, reason) in [
        (sale().with_tag("vip").into(), Unsupported::Field("tags")),
        (
            sale().with_metadata("a", 1).into(),
            Unsupported::Field("metadata"),
        ),
        (fraction.into(), Unsupported::Value("amount")),
        (
            Sale::new("refund:ORDER-1", "C", euros("1")).unwrap().into(),
            Unsupported::Value("order"),
        ),
        (update.into(), Unsupported::Kind("sale_update")),
        (
            RefundReversal::whole("O").unwrap().into(),
            Unsupported::Kind("refund_reversal"),
        ),
    ] {
        let report: tower_referral_platforms::Report = report;
        let error = client(&stand_in).outcome(report).await.unwrap_err();
        assert_eq!(*error.error(), refused(reason));
    }
}

#[tokio::test]
async fn a_visitors_id_that_is_refused_gives_way_to_the_key() {
    let not_found = (404, r#"{"message":"Not found","code":"not_found"}"#);
    let stand_in = StandIn::new([not_found, EVENT]);
    let report = sign_up().with_credit(clicked("PARTNER_1", "tid-1"));
    let outcome = client(&stand_in).outcome(report).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let bodies: Vec<_> = stand_in.asked().iter().map(Asked::json).collect();
    assert_eq!(
        bodies,
        [
            json!({"uid": "CUSTOMER-1", "tid": "tid-1"}),
            json!({"uid": "CUSTOMER-1", "ref_id": "PARTNER_1"}),
        ]
    );
}

#[tokio::test]
async fn a_422_is_a_duplicate_unless_it_names_fields() {
    for (body, outcome) in [
        (r#"{"message":"already"}"#, Some(Outcome::Duplicate)),
        (
            r#"{"message":"already","errors":[]}"#,
            Some(Outcome::Duplicate),
        ),
        (r#"{"errors":{"email":["is invalid"]}}"#, None),
        ("<h1>422</h1>", None),
    ] {
        let stand_in = StandIn::new([(422, body)]);
        let report = sign_up().with_credit(credit("P"));
        let result = client(&stand_in).outcome(report).await.ok();
        assert_eq!(result, outcome, "{body}");
    }
    // Of a sale it says nothing of the kind.
    let stand_in = StandIn::new([(422, r#"{"message":"already"}"#)]);
    let error = client(&stand_in).outcome(sale()).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
}

#[tokio::test]
async fn failures_are_typed() {
    let later = Advice::Retry { after: None };
    for (status, body, advice) in [
        (200, "", later),
        (200, "<html>", later),
        (
            200,
            r#"{"success":false,"message":"no"}"#,
            Advice::Permanent,
        ),
        (400, r#"{"message":"amount is missing"}"#, Advice::Permanent),
        (401, "{}", later),
        (404, "<h1>Not Found</h1>", later),
        (404, "", Advice::Permanent),
        (409, "<h1>Conflict</h1>", later),
        (429, "{}", later),
        (500, "", later),
    ] {
        let stand_in = StandIn::new([(status, body)]);
        let error = client(&stand_in).outcome(sale()).await.unwrap_err();
        assert_eq!(error.advice(), advice, "{status} {body}");
    }
}

#[test]
fn a_wrong_account_is_refused_when_it_is_built() {
    for (key, account, error) in [
        ("", "a", ConfigError::InvalidApiKey),
        ("k", "", ConfigError::InvalidSetting { name: "account ID" }),
        (
            "k",
            "a b",
            ConfigError::InvalidSetting { name: "account ID" },
        ),
        (
            "k",
            "a\n",
            ConfigError::InvalidSetting { name: "account ID" },
        ),
    ] {
        assert_eq!(FirstPromoter::new(key, account).unwrap_err(), error);
    }
    let shown = format!("{:?}", platform());
    assert!(
        !shown.contains("s3cret") && !shown.contains("acc0unt"),
        "{shown}"
    );
}

/// FirstPromoter as its documentation has it: leads by `uid`, events by `event_id`.
#[derive(Default)]
struct Promoters {
    leads: Vec<String>,
    events: Vec<String>,
    left: u64,
}

impl Platform for Promoters {
    fn answer(&mut self, call: &Call) -> Said {
        if call.header("authorization") != "Bearer s3cret-key" {
            return refused(401, "wrong key");
        }
        if call.header("account-id") != "acc0unt" {
            return refused(401, "wrong account");
        }
        let known: &[_] = match &*call.line {
            "POST /api/v2/track/signup" => &[
                ("email", Kind::Text),
                ("uid", Kind::Text),
                ("tid", Kind::Text),
                ("ref_id", Kind::Text),
                ("ip", Kind::Text),
                ("created_at", Kind::Text),
            ],
            "POST /api/v2/track/sale" => &[
                ("event_id*", Kind::Text),
                ("amount*", Kind::Whole),
                ("email", Kind::Text),
                ("uid", Kind::Text),
                ("ref_id", Kind::Text),
                ("plan", Kind::Text),
                ("currency", Kind::Text),
                ("promo_code", Kind::Text),
            ],
            "POST /api/v2/track/refund" => &[
                ("event_id*", Kind::Text),
                ("amount*", Kind::Whole),
                ("email", Kind::Text),
                ("uid", Kind::Text),
                ("sale_event_id", Kind::Text),
            ],
            "POST /api/v2/track/cancellation" => &[("email", Kind::Text), ("uid", Kind::Text)],
            _ => return refused(404, "no such page"),
        };
        let fields = match call.fields(known) {
            Ok(fields) => fields,
            Err(error) => return refused(400, error),
        };
        let Some(uid) = text(&fields, "uid").or(text(&fields, "email")) else {
            return refused(400, "email or uid is required");
        };
        let is_lead = self.leads.contains(&uid);
        let amount = fields.get("amount").and_then(Value::as_u64).unwrap_or(0);
        if call.line.ends_with("signup") {
            let partner = text(&fields, "ref_id").or(text(&fields, "tid"));
            return match partner.as_deref() {
                _ if is_lead => refused(422, "has signed up"),
                Some("PARTNER_1") => {
                    self.leads.push(uid);
                    (200, json!({"id": 1, "referral": {"id": 2}}))
                }
                _ => (404, json!({"code": "not_found"})),
            };
        }
        if let Some(event) = text(&fields, "event_id") {
            if self.events.contains(&event) {
                return refused(409, "event_id is taken");
            }
            if is_lead {
                self.events.push(event);
            }
        }
        if !is_lead {
            return (404, json!({"code": "not_found"}));
        }
        if call.line.ends_with("sale") {
            self.left += amount;
        } else if call.line.ends_with("refund") {
            if self.left == 0 {
                return (204, Value::Null);
            }
            self.left -= amount.min(self.left);
        }
        (200, json!({"id": 3}))
    }
}

#[tokio::test]
async fn from_sign_up_to_cancellation() {
    use Outcome::{Duplicate, NotAttributed, Recorded};

    let promoters = Strict::new(Promoters::default());
    let client = promoters.client(platform());
    let told = async |report: tower_referral_platforms::Report| {
        client.report(report).await.unwrap().outcome()
    };
    let referred = || sign_up().with_credit(credit("PARTNER_1"));
    let of_nobody = sign_up().with_credit(credit("UNKNOWN"));
    assert_eq!(told(of_nobody.into()).await, NotAttributed);
    assert_eq!(told(sale().into()).await, NotAttributed);
    assert_eq!(told(referred().into()).await, Recorded);
    assert_eq!(told(referred().into()).await, Duplicate);
    assert_eq!(told(sale().into()).await, Recorded);
    assert_eq!(told(sale().into()).await, Duplicate);
    assert_eq!(told(part("ORDER-1", "9.99", "re_1").into()).await, Recorded);
    assert_eq!(
        told(part("ORDER-1", "9.99", "re_1").into()).await,
        Duplicate
    );
    assert_eq!(promoters.lock().0.left, 9000);
    assert_eq!(told(part("ORDER-1", "90", "re_2").into()).await, Recorded);
    assert_eq!(
        told(part("ORDER-1", "1", "re_3").into()).await,
        NotAttributed
    );
    let end = || Cancellation::new("CUSTOMER-1").unwrap();
    assert_eq!(told(end().into()).await, Recorded);
    let stranger = Cancellation::new("SOMEBODY").unwrap();
    assert_eq!(told(stranger.into()).await, NotAttributed);
    // Nobody's sign-up sends nothing.
    let asked = promoters.lines().len();
    assert_eq!(told(sign_up().into()).await, NotAttributed);
    assert_eq!(promoters.lines().len(), asked);
}

#[tokio::test]
async fn a_shop_that_knows_addresses_only_is_understood() {
    let stand_in = StandIn::new([EVENT, EVENT]);
    let report = SignUp::by_email("ada@example.com").unwrap();
    let report = report.with_credit(credit("P"));
    assert!(client(&stand_in).outcome(report).await.is_ok());
    let refund = Refund::part("O", euros("1")).unwrap();
    let refund = refund.with_customer("ada@example.com").unwrap();
    assert!(client(&stand_in).outcome(refund).await.is_ok());
    let bodies: Vec<_> = stand_in.asked().iter().map(Asked::json).collect();
    assert_eq!(
        bodies[0],
        json!({"email": "ada@example.com", "ref_id": "P"})
    );
    assert_eq!(bodies[1]["email"], "ada@example.com");
}

#[tokio::test]
async fn a_lead_that_has_signed_up_is_a_duplicate_however_no_errors_are_written() {
    for errors in ["null", "[]", "[ ]", "{}", "{\n}", "false", "\"\""] {
        let body = format!(r#"{{"message":"already signed up","errors":{errors}}}"#);
        let stand_in = StandIn::new([(422, &*body)]);
        let report = sign_up().with_credit(credit("P"));
        let outcome = client(&stand_in).outcome(report).await;
        assert_eq!(outcome, Ok(Outcome::Duplicate), "{errors}");
    }
}
