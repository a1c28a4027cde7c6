//! Tolt: what it is told, and what is made of its answers.

use http::HeaderMap;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_referral::ClickId;
use tower_referral::click::ClickRequest;
use tower_referral_platforms::affiliate::tolt::Webhook;
use tower_referral_platforms::{
    Advice, Cancellation, ClickApi, Client, ConfigError, Credit, Error, Money, Outcome, PlatformId,
    PlatformIds, Receipt, Refund, Report, ReportApi, ReportRequest, Sale, SignUp, Tolt,
    Unsupported, WebhookError,
};

use crate::documented::{Call, Kind, Platform, Said, Strict, text};
use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

fn dollars(amount: &str) -> Money {
    Money::new(amount, "USD").unwrap()
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", dollars("49")).unwrap()
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1").unwrap()
}

fn platform() -> Tolt {
    Tolt::new("s3cret-key").unwrap()
}

fn client(stand_in: &StandIn) -> Client<Tolt, StandIn> {
    stand_in.client(platform())
}

fn with_partner(credit: Credit) -> Credit {
    credit.with_partner_id(PlatformId::new("part_1"))
}

async fn with_ids<T>(
    client: &Client<Tolt, T>,
    report: impl Into<Report>,
    ids: &PlatformIds,
) -> Result<Receipt, tower_referral_platforms::ReportError>
where
    T: tower_referral_platforms::Transport,
{
    let request = ReportRequest::new(report).with_ids(ids.clone());
    client.send_report(&request).await
}

#[tokio::test]
async fn a_click_names_the_parameter_that_carried_the_key() {
    let click = r#"{"data":{"id":"clk_7","partner_id":"part_1"}}"#;
    let landing = "https://shop.example/pricing?ref=footer&%76ia=s%61m#top";
    for (landing, platform, param) in [
        (Some(landing), platform(), "via"),
        (
            Some("https://shop.example/pricing?ref=sam"),
            platform().param("via"),
            "ref",
        ),
        (
            Some("https://shop.example/"),
            platform().param("via"),
            "via",
        ),
        (None, platform(), "ref"),
    ] {
        let stand_in = StandIn::new([(201, click), (201, r#"{"data":{"id":"cus_1"}}"#)]);
        let report = sign_up()
            .with_referral_url(landing)
            .with_credit(credit("sam"));
        let outcome = stand_in.client(platform).outcome(report).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
        let mut body = json!({"param": param, "value": "sam"});
        if let Some(landing) = landing {
            body["page"] = landing.into();
        }
        assert_eq!(stand_in.asked()[0].json(), body);
    }
}

#[test]
fn a_clicks_answer_has_the_partner_too() {
    use bytes::Bytes;
    use http::StatusCode;
    use tower_referral_platforms::Answer;

    let read = |body: &'static str| {
        platform().read_click(&Answer::new(StatusCode::CREATED, Bytes::from(body)))
    };
    // Version 1 wraps it in a list.
    for body in [
        r#"{"success":true,"data":{"id":"clk_1","partner_id":"part_1"}}"#,
        r#"{"success":true,"data":[{"id":"clk_1","partner_id":"part_1"}]}"#,
    ] {
        let click = read(body).unwrap();
        assert_eq!(click.id().as_str(), "clk_1");
        assert_eq!(click.partner_id().map(ClickId::as_str), Some("part_1"));
        let by_hand = clicked("sam", "clk_1").with_partner_id(PlatformId::new("part_1"));
        assert_eq!(credit("sam").with_click(&click), by_hand);
    }
    for body in ["{}", r#"{"data":[]}"#, r#"{"data":{"id":""}}"#, ""] {
        assert!(read(body).is_err(), "{body}");
    }
}

/// Tolt as its documentation has it.
#[derive(Default)]
struct Program {
    clicks: usize,
    customers: Vec<String>,
    charges: Vec<String>,
    refunded: Vec<String>,
}

fn error(status: u16, code: &str, field: &str) -> Said {
    let errors = json!([{"field": field, "message": "is wrong"}]);
    let body = json!({"success": false, "message": "no", "code": code, "errors": errors});
    (status, body)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a JSON value as it is written"
)]
fn data(status: u16, data: Value) -> Said {
    (status, json!({"success": true, "data": data}))
}

impl Program {
    fn click(&mut self, call: &Call) -> Said {
        let fields = match call.fields(&[
            ("param*", Kind::OneOf(&["ref", "via"])),
            ("value*", Kind::Text),
            ("page", Kind::Text),
            ("referrer", Kind::Text),
        ]) {
            Ok(fields) => fields,
            Err(problem) => return error(400, "validation_error", &problem),
        };
        if text(&fields, "value").unwrap() == "UNKNOWN" {
            return error(404, "not_found", "value");
        }
        self.clicks += 1;
        data(201, json!({"id": "clk_7", "partner_id": "part_1"}))
    }

    fn customer(&mut self, call: &Call) -> Said {
        let fields = match call.fields(&[
            ("email", Kind::Text),
            ("customer_id", Kind::Text),
            ("partner_id*", Kind::Text),
            ("click_id", Kind::Text),
        ]) {
            Ok(fields) => fields,
            Err(problem) => return error(400, "validation_error", &problem),
        };
        if text(&fields, "partner_id").unwrap() != "part_1" {
            return error(400, "invalid_reference", "partner_id");
        }
        if text(&fields, "click_id").is_some_and(|id| !["clk_7", "clk_1"].contains(&&*id)) {
            return error(400, "invalid_reference", "click_id");
        }
        let Some(customer) = text(&fields, "customer_id").or(text(&fields, "email")) else {
            return error(400, "validation_error", "customer_id");
        };
        if self.customers.contains(&customer) {
            return error(409, "already_exists", "customer_id");
        }
        self.customers.push(customer.clone());
        data(
            201,
            json!({"id": format!("cus_{customer}"), "partner_id": "part_1"}),
        )
    }

    fn transaction(&mut self, call: &Call) -> Said {
        let fields = match call.fields(&[
            ("customer_id*", Kind::Text),
            ("amount*", Kind::Whole),
            ("charge_id*", Kind::Text),
            ("billing_type*", Kind::OneOf(&["subscription", "one_time"])),
            ("interval", Kind::OneOf(&["month", "year"])),
            ("product_id", Kind::Text),
            ("source", Kind::Text),
        ]) {
            Ok(fields) => fields,
            Err(problem) => return error(400, "validation_error", &problem),
        };
        let customer = text(&fields, "customer_id").unwrap();
        let is_known = |known: &String| format!("cus_{known}") == customer;
        if !self.customers.iter().any(is_known) {
            return error(400, "invalid_reference", "customer_id");
        }
        let charge = text(&fields, "charge_id").unwrap();
        if self.charges.contains(&charge) {
            return error(409, "already_exists", "charge_id");
        }
        self.charges.push(charge.clone());
        data(
            201,
            json!({"id": format!("txn_{charge}"), "amount": "4900"}),
        )
    }
}

impl Platform for Program {
    fn answer(&mut self, call: &Call) -> Said {
        if call.header("authorization") != "Bearer s3cret-key" {
            return error(401, "unauthorized", "");
        }
        match &*call.line {
            "POST /v2/clicks" => self.click(call),
            "POST /v2/customers" => self.customer(call),
            "POST /v2/transactions" => self.transaction(call),
            "PUT /v1/transactions/txn_ORDER-1/refund" => {
                self.refunded.push("txn_ORDER-1".to_owned());
                data(200, json!([{"id": "txn_ORDER-1", "status": "refunded"}]))
            }
            "GET /v2/partners?limit=1" => data(200, json!([])),
            _ => error(404, "not_found", ""),
        }
    }
}

#[tokio::test]
async fn from_click_to_refund() {
    let program = Strict::new(Program::default());
    let client = program.client(platform());
    client.check().await.unwrap();
    // The layer had no answer to its click, so the delivery makes one.
    let report = sign_up()
        .with_email("ada@example.com")
        .with_credit(credit("sam"));
    let signed_up = client.report(report).await.unwrap();
    assert_eq!(signed_up, Outcome::Recorded);
    let ids = signed_up.ids();
    assert_eq!(ids.click, PlatformId::new("clk_7"));
    assert_eq!(ids.partner, PlatformId::new("part_1"));
    assert_eq!(ids.customer, PlatformId::new("cus_CUSTOMER-1"));

    let monthly = || sale().with_subscription("month").with_product("pro");
    let sold = with_ids(&client, monthly(), ids).await.unwrap();
    assert_eq!(sold, Outcome::Recorded);
    assert_eq!(sold.ids().sale, PlatformId::new("txn_ORDER-1"));
    let again = with_ids(&client, monthly(), ids).await.unwrap();
    assert_eq!(again, Outcome::Duplicate);

    let refund = Refund::whole("ORDER-1").unwrap();
    let refunded = with_ids(&client, refund, sold.ids()).await.unwrap();
    assert_eq!(refunded, Outcome::Recorded);
    assert_eq!(program.lock().0.refunded, ["txn_ORDER-1"]);
    assert_eq!(
        program.lines()[1..],
        [
            "POST /v2/clicks",
            "POST /v2/customers",
            "POST /v2/transactions",
            "POST /v2/transactions",
            "PUT /v1/transactions/txn_ORDER-1/refund",
        ]
    );
}

#[tokio::test]
async fn a_known_partner_needs_no_click() {
    let stand_in = StandIn::new([(201, r#"{"success":true,"data":{"id":"cus_1"}}"#)]);
    let credit = with_partner(clicked("sam", "clk_1"));
    let report = sign_up().with_email("ada@example.com").with_credit(credit);
    let outcome = client(&stand_in).outcome(report).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let asked = stand_in.only();
    assert_eq!(asked.line, "POST /v2/customers");
    assert_eq!(asked.host, "api.tolt.com");
    assert_eq!(asked.headers["authorization"], "Bearer s3cret-key");
    assert_eq!(
        asked.json(),
        json!({
            "customer_id": "CUSTOMER-1",
            "email": "ada@example.com",
            "partner_id": "part_1",
            "click_id": "clk_1",
        })
    );
}

#[tokio::test]
async fn a_sale_is_a_transaction_in_minor_units() {
    let stand_in = StandIn::new([(201, r#"{"success":true,"data":[{"id":"txn_1"}]}"#)]);
    let ids = serde_json::from_value(json!({"customer": "cus_1"})).unwrap();
    let receipt = with_ids(&client(&stand_in), sale(), &ids).await.unwrap();
    assert_eq!(receipt, Outcome::Recorded);
    assert_eq!(
        stand_in.only().json(),
        json!({
            "customer_id": "cus_1",
            "amount": 4900,
            "charge_id": "ORDER-1",
            "billing_type": "one_time",
            "source": "api",
        })
    );
}

#[tokio::test]
async fn an_unknown_partner_is_nobody() {
    let program = Strict::new(Program::default());
    let client = program.client(platform().leave_out_coupons());
    let by_key = sign_up().with_credit(credit("UNKNOWN"));
    let unknown = credit("sam").with_partner_id(PlatformId::new("part_9"));
    let by_id = sign_up().with_credit(unknown);
    for report in [by_key, by_id, sign_up(), sign_up().with_coupon("SUMMER")] {
        let receipt = client.report(report).await.unwrap();
        assert_eq!(receipt, Outcome::NotAttributed);
    }
    // A 404 without the code that is documented is no answer of Tolt's.
    for body in [r#"{"message":"no"}"#, "<h1>no</h1>"] {
        let stand_in = StandIn::new([(404, body)]);
        let report = sign_up().with_credit(credit("sam"));
        assert!(self::client(&stand_in).outcome(report).await.is_err());
    }
}

#[tokio::test]
async fn a_click_id_that_is_refused_does_not_lose_the_sign_up() {
    let program = Strict::new(Program::default());
    let client = program.client(platform());
    let report = sign_up().with_credit(with_partner(clicked("sam", "clk_old")));
    let receipt = client.report(report).await.unwrap();
    assert_eq!(receipt, Outcome::Recorded);
    assert_eq!(
        program.lines(),
        ["POST /v2/customers", "POST /v2/customers"]
    );
}

#[tokio::test]
async fn what_refuses_no_report_credits_nobody() {
    for status in [408, 401, 403, 429] {
        for code in ["not_found", "invalid_reference"] {
            let said = format!(r#"{{"success":false,"code":"{code}"}}"#);
            let by_click = credit("P");
            let by_partner = with_partner(clicked("P", "clk_1"));
            for (credit, path) in [(by_click, "/v2/clicks"), (by_partner, "/v2/customers")] {
                let stand_in = StandIn::new([(status, said.as_str())]);
                let report = sign_up().with_credit(credit);
                let error = client(&stand_in).outcome(report).await.unwrap_err();
                let again = Advice::Retry { after: None };
                assert_eq!(error.advice(), again, "{status} {code} {path}");
                assert_eq!(stand_in.lines(), [format!("POST {path}")]);
            }
        }
    }
}

#[tokio::test]
async fn a_customer_who_is_refused_fails_no_sale_that_may_have_arrived() {
    for (may_have_arrived, advice) in [(false, Advice::Permanent), (true, Advice::Ambiguous)] {
        // The second one is known, and nobody here knows the ID.
        for status in [422, 409] {
            let stand_in = StandIn::new([(status, r#"{"message":"no"}"#)]);
            let report = sale().with_credit(with_partner(credit("sam")));
            let request = ReportRequest::new(report).may_have_arrived(may_have_arrived);
            let error = client(&stand_in).send_report(&request).await.unwrap_err();
            assert_eq!(error.advice(), advice, "{status}");
            assert_eq!(stand_in.lines(), ["POST /v2/customers"]);
        }
    }
}

#[tokio::test]
async fn a_sale_of_an_unknown_customer_makes_the_customer() {
    let program = Strict::new(Program::default());
    let client = program.client(platform());
    let guest = Sale::guest(
        "ORDER-1",
        sign_up().with_credit(credit("sam")),
        dollars("49"),
    );
    let receipt = client.report(guest.unwrap()).await.unwrap();
    assert_eq!(receipt, Outcome::Recorded);
    assert_eq!(receipt.ids().customer, PlatformId::new("cus_CUSTOMER-1"));
    assert_eq!(receipt.ids().sale, PlatformId::new("txn_ORDER-1"));

    // Tolt has the customer, and nobody here knows the ID.
    let other = Sale::new("ORDER-2", "CUSTOMER-1", dollars("49")).unwrap();
    let error = client
        .report(other.with_credit(credit("sam")))
        .await
        .unwrap_err();
    assert_eq!(*error.error(), Error::MissingId("customer"));
    assert_eq!(error.advice(), Advice::Permanent);

    let of_nobody = Sale::new("ORDER-3", "CUSTOMER-3", dollars("49")).unwrap();
    let asked = program.lines().len();
    assert_eq!(
        client.report(of_nobody).await.unwrap(),
        Outcome::NotAttributed
    );
    assert_eq!(program.lines().len(), asked);
}

#[tokio::test]
async fn a_click_of_a_delivery_is_made_once() {
    let click = (201, r#"{"data":{"id":"clk_7","partner_id":"part_1"}}"#);
    let customer = (201, r#"{"data":{"id":"cus_1"}}"#);
    let stand_in = StandIn::new([click, (503, ""), customer]);
    let client = client(&stand_in);
    let report = || sign_up().with_credit(credit("sam"));
    let error = client.report(report()).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
    // The queue keeps what was learned, and hands it in again.
    let receipt = with_ids(&client, report(), error.ids()).await.unwrap();
    assert_eq!(receipt, Outcome::Recorded);
    assert_eq!(
        stand_in.lines(),
        [
            "POST /v2/clicks",
            "POST /v2/customers",
            "POST /v2/customers"
        ]
    );
    assert_eq!(stand_in.asked()[2].json()["click_id"], "clk_7");
}

/// A click can't have such an ID of the partner, and a sign-up can.
#[tokio::test]
async fn a_partners_id_that_is_longer_than_a_clicks_reaches_the_sign_up() {
    let partner = "p".repeat(255);
    let click = format!(r#"{{"data":{{"id":"clk_7","partner_id":"{partner}"}}}}"#);
    let answers = [
        (201, &*click),
        (201, &*click),
        (201, r#"{"data":{"id":"1"}}"#),
    ];
    let stand_in = StandIn::new(answers);
    let client = client(&stand_in);
    let landing = ClickRequest::new("sam".parse().unwrap(), "https://shop.example/?via=sam");
    let created = client.create_click(&landing).await.unwrap();
    assert_eq!(created.partner_id(), None);
    let credit = credit("sam").with_click(&created);
    let receipt = client.outcome(sign_up().with_credit(credit)).await;
    assert_eq!(receipt, Ok(Outcome::Recorded));
    assert_eq!(stand_in.asked()[2].json()["partner_id"], partner);
}

#[tokio::test]
async fn what_tolt_can_not_take_is_named() {
    let stand_in = StandIn::new([]);
    let ids: PlatformIds = serde_json::from_value(json!({"customer": "cus_1"})).unwrap();
    let euros = platform().currency("eur").unwrap();
    let client = stand_in.client(euros);
    let unsupported = Error::Unsupported;
    let part = Refund::part("ORDER-1", dollars("1")).unwrap();
    let in_euros = || Sale::new("O", "C", Money::new("1", "EUR").unwrap()).unwrap();
    let by_click = Credit::of_click("clk_1".parse().unwrap());
    let reports: [(Report, Error); 7] = [
        (sale().into(), unsupported(Unsupported::Value("currency"))),
        (
            in_euros().with_subscription("week").into(),
            unsupported(Unsupported::Value("interval")),
        ),
        (
            in_euros().with_tag("vip").into(),
            unsupported(Unsupported::Field("tags")),
        ),
        (part.into(), unsupported(Unsupported::PartialRefund)),
        (
            Refund::whole("ORDER-1").unwrap().into(),
            Error::MissingId("sale"),
        ),
        (
            sign_up().with_credit(by_click).into(),
            unsupported(Unsupported::MissingField("partner_id")),
        ),
        (
            Cancellation::new("C").unwrap().into(),
            unsupported(Unsupported::Kind("cancellation")),
        ),
    ];
    let unknown = ReportRequest::new(Refund::whole("ORDER-1").unwrap());
    let error = client.send_report(&unknown).await.unwrap_err();
    assert_eq!(*error.error(), Error::MissingId("sale"));
    let unrecorded = unknown.sale_is_unrecorded(true);
    let nothing = client.send_report(&unrecorded).await.unwrap();
    assert_eq!(nothing, Outcome::NotAttributed);
    for (report, reason) in reports {
        let error = with_ids(&client, report, &ids).await.unwrap_err();
        assert_eq!(*error.error(), reason);
        assert_eq!(error.advice(), Advice::Permanent);
    }
    assert!(platform().currency("euro").is_err());
}

#[tokio::test]
async fn failures_are_typed() {
    let later = Advice::Retry { after: None };
    let ids: PlatformIds = serde_json::from_value(json!({"customer": "cus_1"})).unwrap();
    for (status, body, advice) in [
        (201, "", later),
        (
            200,
            r#"{"success":false,"code":"bad_request"}"#,
            Advice::Permanent,
        ),
        (
            400,
            r#"{"success":false,"code":"invalid_reference"}"#,
            Advice::Permanent,
        ),
        (401, "{}", later),
        (409, "<h1>Conflict</h1>", later),
        (429, r#"{"success":false}"#, later),
        (500, "", later),
    ] {
        let stand_in = StandIn::new([(status, body)]);
        let error = with_ids(&client(&stand_in), sale(), &ids)
            .await
            .unwrap_err();
        assert_eq!(error.advice(), advice, "{status} {body}");
    }
    assert!(platform().deduplicates(&sale().into()));
}

/// The example of the scheme's own documentation.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const SENT_AT: i64 = 1_614_265_330;

fn webhook(now: i64) -> Webhook {
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
    Webhook::new(SECRET).unwrap().with_clock(move || now)
}

fn headers(prefix: &str, signature: &str) -> HeaderMap {
    let values = [
        ("id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
        ("timestamp", SENT_AT.to_string()),
        ("signature", signature.to_owned()),
    ];
    let header = |(name, value): (&str, String)| {
        let name = format!("{prefix}-{name}")
            .parse::<http::HeaderName>()
            .unwrap();
        (name, value.parse().unwrap())
    };
    HeaderMap::from_iter(values.map(header))
}

#[test]
fn a_signed_webhook_is_read() {
    // Signed by another implementation:
    // printf %s "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.BODY" |
    //     openssl dgst -sha256 -mac HMAC -macopt hexkey:31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0 -binary | base64
    let body = br#"{"type":"commission.created","timestamp":"2026-11-20T12:00:00Z","data":{"id":"comm_1","amount":"980"}}"#;
    let signature = "v1,is761sPG1fqpi5H67SPHydxyjZWHUITh5xU0W4YL8Uc=";
    for prefix in ["webhook", "svix"] {
        let event = webhook(SENT_AT + 300).read(&headers(prefix, signature), body);
        let event = event.unwrap();
        assert_eq!(event.name(), "commission.created");
        assert_eq!(event.id(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert_eq!(event.created_at(), Some("2026-11-20T12:00:00Z"));
        assert_eq!(event.data()["amount"], "980");
        assert!(!format!("{event:?}").contains("comm_1"));
    }
}

#[test]
fn any_other_webhook_is_refused() {
    let read = |now: i64, headers: &HeaderMap, body: &[u8]| webhook(now).read(headers, body);
    let signed = headers("webhook", SIGNATURE);
    let of = |signature: &str| headers("webhook", signature);
    // It is signed, and no event.
    assert_eq!(read(SENT_AT, &signed, BODY), Err(WebhookError::Unreadable));
    let several = of(&format!("v1,AAAA v2,xyz {SIGNATURE}"));
    assert_eq!(read(SENT_AT, &several, BODY), Err(WebhookError::Unreadable));
    for now in [SENT_AT - 301, SENT_AT + 301] {
        assert_eq!(read(now, &signed, BODY), Err(WebhookError::NotRecent));
    }
    let mut changed = BODY.to_vec();
    changed[3] ^= 1;
    assert_eq!(
        read(SENT_AT, &signed, &changed),
        Err(WebhookError::BadSignature)
    );
    let bare = SIGNATURE.trim_start_matches("v1,");
    for wrong in ["", "v1,", "v1,AAAA", bare] {
        assert_eq!(read(SENT_AT, &of(wrong), BODY), Err(WebhookError::Unsigned));
    }
    let mut twice = signed.clone();
    twice.append("webhook-timestamp", "1614265331".parse().unwrap());
    for headers in [HeaderMap::new(), twice] {
        assert_eq!(read(SENT_AT, &headers, BODY), Err(WebhookError::Unsigned));
    }
    let two = Webhook::new("whsec_AAAA")
        .unwrap()
        .with_secret(SECRET)
        .unwrap();
    let now = OffsetDateTime::from_unix_timestamp(SENT_AT).unwrap();
    let two = two.with_clock(move || now);
    assert_eq!(two.read(&signed, BODY), Err(WebhookError::Unreadable));
}

#[test]
fn a_secret_that_is_none_is_refused() {
    for (secret, error) in [
        ("", ConfigError::EmptyWebhookSecret),
        ("whsec_", ConfigError::EmptyWebhookSecret),
        (
            "whsec_%%%",
            ConfigError::InvalidSetting {
                name: "webhook secret",
            },
        ),
    ] {
        assert_eq!(Webhook::new(secret).unwrap_err(), error);
    }
    assert!(!format!("{:?}", webhook(0)).contains("MfKQ"));
}
