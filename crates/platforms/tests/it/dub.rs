//! Dub: what it is told, and what is made of its answers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use tower_referral_platforms::affiliate::dub::{CLICK_PARAMS, LeadMode, PARAMS, Webhook};
use tower_referral_platforms::{
    Advice, Cancellation, Client, ConfigError, Credit, Dub, Error, Money, Outcome, PlatformId,
    Refund, ReportApi, ReportRequest, Sale, SaleUpdate, SignUp, Unsupported, WebhookError,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};
use crate::strict::{Call, Platform, Strict};

fn dub() -> Dub {
    Dub::new("dub_k3y").unwrap()
}

fn money(amount: &str, currency: &str) -> Money {
    Money::new(amount, currency).unwrap()
}

fn sale(amount: &str) -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", money(amount, "USD")).unwrap()
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1").unwrap()
}

fn of_click(click_id: &str) -> Credit {
    Credit::of_click(click_id.parse().unwrap())
}

fn error(code: &str) -> Value {
    json!({"error": {"code": code, "message": "no", "doc_url": "https://dub.co/docs"}})
}

/// Dub as its documentation has it, with one link whose click is `clk_1`.
#[derive(Default)]
struct Workspace {
    /// By external ID: is there a lead?
    customers: HashMap<String, bool>,
    leads: HashSet<(String, String)>,
    /// Answers by invoice.
    sales: HashMap<String, Value>,
    commissions: Vec<Value>,
    calls: Vec<String>,
}

impl Workspace {
    fn lead(&mut self, call: &Call) -> (u16, Value) {
        let needed = ["clickId", "eventName", "customerExternalId"];
        let optional = ["customerName", "customerEmail", "mode", "metadata"];
        call.assert_fields(&needed, &optional);
        let customer = call.text("customerExternalId").unwrap().to_owned();
        let mode = call.text("mode").unwrap_or("async");
        match call.text("clickId").unwrap() {
            "" if !self.customers.contains_key(&customer) => return (400, error("bad_request")),
            "" | "clk_1" => {}
            _ => return (404, error("not_found")),
        }
        let shown = json!({"id": format!("cus_{customer}"), "externalId": customer});
        let event = call.text("eventName").unwrap().to_owned();
        let is_known = mode != "deferred" && !self.leads.insert((customer.clone(), event));
        let has_lead = self.customers.entry(customer).or_default();
        *has_lead |= mode != "deferred";
        let link = if is_known {
            Value::Null
        } else {
            json!({"id": "link_1"})
        };
        (
            200,
            json!({"click": {"id": "clk_1"}, "link": link, "customer": shown}),
        )
    }

    fn sale(&mut self, call: &Call) -> (u16, Value) {
        let needed = ["customerExternalId", "amount"];
        let optional = [
            "currency",
            "paymentProcessor",
            "invoiceId",
            "eventName",
            "clickId",
            "customerName",
            "customerEmail",
        ];
        call.assert_fields(&needed, &optional);
        let amount = call.body["amount"].as_u64().expect("minor units");
        let invoice = call.text("invoiceId").unwrap().to_owned();
        if let Some(answer) = self.sales.get(&invoice) {
            return (200, answer.clone());
        }
        let customer = call.text("customerExternalId").unwrap().to_owned();
        match (self.customers.get(&customer), call.text("clickId")) {
            (_, Some(click)) if click != "clk_1" => return (404, error("not_found")),
            (Some(false), _) => return (404, error("not_found")),
            (None, None) => {
                return (
                    200,
                    json!({"eventName": "Purchase", "customer": null, "sale": null}),
                );
            }
            _ => {}
        }
        self.customers.insert(customer, true);
        self.commissions.push(json!({
            "id": format!("cm_{}", self.commissions.len()),
            "type": "sale",
            "invoiceId": invoice,
            "amount": amount,
            "earnings": amount / 10,
            "currency": call.text("currency").unwrap_or("usd"),
            "status": "pending",
        }));
        let answer = json!({
            "eventName": "Purchase",
            "customer": {"id": "cus_CUSTOMER-1"},
            "sale": {"amount": amount, "invoiceId": invoice},
        });
        self.sales.insert(invoice, answer.clone());
        (200, answer)
    }

    fn patch(&mut self, id: &str, call: &Call) -> (u16, Value) {
        call.assert_fields(&[], &["status", "saleAmount", "currency"]);
        let mut commissions = self.commissions.iter_mut();
        let Some(found) = commissions.find(|commission| commission["id"] == id) else {
            return (404, error("not_found"));
        };
        if found["status"] == "paid" || found["status"] == "refunded" {
            return (400, error("bad_request"));
        }
        match (call.text("status"), call.body.get("saleAmount")) {
            (Some("refunded"), None) => found["status"] = "refunded".into(),
            (None, Some(amount)) => found["amount"] = amount.as_u64().unwrap().into(),
            other => panic!("{other:?}"),
        }
        (200, found.clone())
    }
}

impl Platform for Workspace {
    fn answer(&mut self, call: &Call) -> (u16, Value) {
        assert_eq!(call.headers["authorization"], "Bearer dub_k3y");
        assert!(call.headers["authorization"].is_sensitive());
        self.calls.push(format!("{} {}", call.method, call.path));
        match (&*call.method, &*call.path, call.query.as_deref()) {
            ("POST", "/track/lead", None) => self.lead(call),
            ("POST", "/track/sale", None) => self.sale(call),
            ("GET", "/commissions", Some(query)) => {
                let invoice = query.strip_prefix("invoiceId=").unwrap();
                let list = self.commissions.iter();
                let list = list.filter(|commission| commission["invoiceId"] == invoice);
                (200, list.cloned().collect())
            }
            ("PATCH", path, None) => self.patch(path.strip_prefix("/commissions/").unwrap(), call),
            other => panic!("{other:?}"),
        }
    }
}

fn workspace() -> Strict<Workspace> {
    Strict::new(Workspace::default())
}

async fn outcome<P: Platform>(
    client: &Client<Dub, Strict<P>>,
    report: impl Into<tower_referral_platforms::Report>,
) -> Outcome {
    client.report(report).await.unwrap().outcome()
}

#[tokio::test]
async fn from_the_landing_to_the_refund() {
    assert_eq!((PARAMS, CLICK_PARAMS), (["via"], ["dub_id"]));
    let platform = workspace();
    let client = platform.client(dub());
    let lead = || {
        sign_up()
            .with_credit(of_click("clk_1"))
            .with_email("ada@example.com")
    };
    let receipt = client.report(lead()).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    assert_eq!(receipt.ids().customer, PlatformId::new("cus_CUSTOMER-1"));
    assert_eq!(outcome(&client, lead()).await, Outcome::Duplicate);

    // A renewal has no click ID of its own.
    assert_eq!(outcome(&client, sale("99.99")).await, Outcome::Recorded);
    assert_eq!(outcome(&client, sale("99.99")).await, Outcome::Recorded);
    assert_eq!(platform.look(|dub| dub.commissions.len()), 1);

    let part = Refund::part("ORDER-1", money("9.99", "USD")).unwrap();
    let receipt = client.report(part).await.unwrap();
    assert_eq!(receipt.ids().sale, PlatformId::new("cm_0"));
    assert_eq!(
        platform.look(|dub| dub.commissions[0]["amount"].clone()),
        9000
    );

    let update = SaleUpdate::new("ORDER-1", "u1").unwrap();
    let update = update.with_amount(money("80", "USD"));
    assert_eq!(outcome(&client, update).await, Outcome::Recorded);
    assert_eq!(
        platform.look(|dub| dub.commissions[0]["amount"].clone()),
        8000
    );

    let whole = || Refund::whole("ORDER-1").unwrap();
    assert_eq!(outcome(&client, whole()).await, Outcome::Recorded);
    assert_eq!(
        platform.look(|dub| dub.commissions[0]["status"].clone()),
        "refunded"
    );
    assert_eq!(outcome(&client, whole()).await, Outcome::Duplicate);
    let unknown = Refund::whole("ORDER-2").unwrap();
    assert_eq!(outcome(&client, unknown).await, Outcome::NotAttributed);
}

#[tokio::test]
async fn a_part_that_is_all_that_is_left_refunds_the_commission() {
    let platform = workspace();
    let client = platform.client(dub());
    let paid = sale("99.99").with_credit(of_click("clk_1"));
    assert_eq!(outcome(&client, paid).await, Outcome::Recorded);
    let all = Refund::part("ORDER-1", money("99.99", "USD")).unwrap();
    assert_eq!(outcome(&client, all).await, Outcome::Recorded);
    assert_eq!(
        platform.look(|dub| dub.commissions[0]["status"].clone()),
        "refunded"
    );
}

#[tokio::test]
async fn what_a_refund_cannot_do_is_said_and_nothing_is_changed() {
    for (amount, currency, status, reason) in [
        ("100", "USD", "pending", Unsupported::RefundOverSale),
        ("1", "EUR", "pending", Unsupported::RefundInOtherCurrency),
        ("1", "USD", "paid", Unsupported::PaidOut),
    ] {
        let platform = workspace();
        let client = platform.client(dub());
        outcome(&client, sale("99.99").with_credit(of_click("clk_1"))).await;
        platform.look(|dub| dub.commissions[0]["status"] = status.into());
        let part = Refund::part("ORDER-1", money(amount, currency)).unwrap();
        let error = client.report(part).await.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(reason));
        assert_eq!(error.advice(), Advice::Permanent);
        assert_eq!(
            platform.look(|dub| dub.calls.pop().unwrap()),
            "GET /commissions"
        );
    }
}

#[tokio::test]
async fn a_click_that_dub_does_not_know_does_not_lose_the_sale() {
    let platform = workspace();
    let client = platform.client(dub());
    let forged = || of_click("clk_forged");
    // Nobody is credited with a forged one.
    let lead = sign_up().with_credit(forged());
    assert_eq!(outcome(&client, lead).await, Outcome::NotAttributed);
    assert_eq!(
        outcome(&client, sale("5").with_credit(forged())).await,
        Outcome::NotAttributed
    );
    // The customer came by a right one before.
    outcome(&client, sign_up().with_credit(of_click("clk_1"))).await;
    assert_eq!(
        outcome(&client, sale("5").with_credit(forged())).await,
        Outcome::Recorded
    );
    // Without a click there is no lead, and nothing is sent.
    let calls = platform.look(|dub| dub.calls.len());
    assert_eq!(
        outcome(&client, sign_up().with_credit(credit("PARTNER_1"))).await,
        Outcome::NotAttributed
    );
    assert_eq!(platform.look(|dub| dub.calls.len()), calls);
}

#[tokio::test]
async fn a_deferred_lead_is_made_by_its_event_or_by_the_first_sale() {
    let deferred = || dub().lead_mode(LeadMode::Deferred);
    let platform = workspace();
    let client = platform.client(deferred());
    let verified = || sign_up().with_action("Verified");
    // Of a customer whom Dub doesn't know.
    assert_eq!(outcome(&client, verified()).await, Outcome::NotAttributed);
    outcome(&client, sign_up().with_credit(of_click("clk_1"))).await;
    assert!(platform.look(|dub| dub.leads.is_empty()));
    assert_eq!(outcome(&client, verified()).await, Outcome::Recorded);
    assert!(platform.look(|dub| {
        dub.leads
            .contains(&("CUSTOMER-1".into(), "Verified".into()))
    }));

    let platform = workspace();
    let client = platform.client(deferred());
    outcome(&client, sign_up().with_credit(of_click("clk_1"))).await;
    assert_eq!(outcome(&client, sale("5")).await, Outcome::Recorded);
    assert_eq!(platform.look(|dub| dub.leads.len()), 1);
}

#[tokio::test]
async fn a_lead_and_a_sale_say_this() {
    let platform = StandIn::new([
        (200, r#"{"click":{"id":"c"},"link":{},"customer":{}}"#),
        (200, r#"{"eventName":"x","customer":{},"sale":{}}"#),
    ]);
    let client = platform.client(dub().payment_processor("stripe").lead_event("Trial"));
    let report = sign_up()
        .with_credit(clicked("PARTNER_1", "clk_1"))
        .with_name("Ada")
        .with_surname("Lovelace")
        .with_metadata("plan", "pro");
    assert_eq!(client.outcome(report).await, Ok(Outcome::Recorded));
    let yen = Sale::new("ORDER 1", "CUSTOMER-1", money("5000", "JPY")).unwrap();
    let yen = yen.with_product("prod_1").with_action("Invoice paid");
    assert_eq!(client.outcome(yen).await, Ok(Outcome::Recorded));
    let asked = platform.asked();
    assert_eq!(asked[0].line, "POST /track/lead");
    assert_eq!(asked[0].host, "api.dub.co");
    assert_eq!(
        asked[0].json(),
        json!({
            "clickId": "clk_1",
            "eventName": "Trial",
            "customerExternalId": "CUSTOMER-1",
            "customerName": "Ada Lovelace",
            "mode": "wait",
            "metadata": {"plan": "pro"},
        })
    );
    assert_eq!(
        asked[1].json(),
        json!({
            "customerExternalId": "CUSTOMER-1",
            "amount": 5000,
            "currency": "jpy",
            "paymentProcessor": "stripe",
            "invoiceId": "ORDER 1",
            "eventName": "Invoice paid",
            "metadata": {"productId": "prod_1"},
        })
    );
}

#[tokio::test]
async fn amounts_are_in_the_units_that_dub_takes() {
    for (amount, currency, units) in [
        ("9.99", "EUR", 999),
        ("5000", "JPY", 5000),
        // Its list isn't that of ISO 4217,
        ("5000", "MGA", 5000),
        ("5000", "ISK", 500_000),
        // and it has no third decimal.
        ("100", "KWD", 10_000),
        ("1.25", "KWD", 125),
    ] {
        let sold = r#"{"eventName":"x","customer":{},"sale":{}}"#;
        let listed = json!([{"id": "cm_1", "amount": units, "currency": currency}]).to_string();
        let platform = StandIn::new([(200, sold), (200, &*listed), (500, "")]);
        let client = platform.client(dub());
        let sale = Sale::new("ORDER-1", "CUSTOMER-1", money(amount, currency)).unwrap();
        assert_eq!(client.outcome(sale).await, Ok(Outcome::Recorded));
        assert_eq!(platform.asked()[0].json()["amount"], units, "{currency}");
        // What Dub lists is read back in the same units: 1 is taken off.
        let part = Refund::part("ORDER-1", money("1", currency)).unwrap();
        client.outcome(part).await.unwrap_err();
        let one = if units == 5000 { 1 } else { 100 };
        let left = platform.asked()[2].json()["saleAmount"].clone();
        assert_eq!(left, units - one, "{currency}");
    }
}

#[tokio::test]
async fn errors_are_typed_and_nothing_is_a_success_by_guess() {
    let permanent = Advice::Permanent;
    let retry = Advice::Retry { after: None };
    for (status, body, advice) in [
        (400, error("bad_request").to_string(), permanent),
        (401, error("unauthorized").to_string(), retry),
        (403, error("forbidden").to_string(), retry),
        (404, error("not_found").to_string(), permanent),
        (409, error("conflict").to_string(), permanent),
        (422, error("unprocessable_entity").to_string(), permanent),
        (429, error("rate_limit_exceeded").to_string(), retry),
        (500, error("internal_server_error").to_string(), retry),
        // Dub says nothing of these.
        (200, "{}".to_owned(), retry),
        (200, "OK".to_owned(), retry),
        (200, r#"{"sale":{}}"#.to_owned(), retry),
        (404, "<h1>not_found</h1>".to_owned(), retry),
    ] {
        let platform = StandIn::new([(status, &*body)]);
        let error = platform.client(dub()).outcome(sale("5")).await.unwrap_err();
        assert_eq!(error.advice(), advice, "{status} {body}");
    }
    // Not by a word within another text.
    let odd = r#"{"error":{"code":"route_not_found","message":"not_found"}}"#;
    let platform = StandIn::new([(404, odd)]);
    let lead = sign_up().with_credit(of_click("clk_1"));
    let error = platform.client(dub()).outcome(lead).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);

    let platform = StandIn::default();
    let busy = http::Response::builder()
        .status(429)
        .header("retry-after", "7");
    platform.then(busy.body(String::new()).unwrap());
    let error = platform.client(dub()).outcome(sale("5")).await.unwrap_err();
    let after = Some(Duration::from_secs(7));
    assert_eq!(error.advice(), Advice::Retry { after });
}

#[tokio::test]
async fn a_partial_refund_is_the_only_thing_that_is_not_repeated() {
    let part = || Refund::part("ORDER-1", money("1", "USD")).unwrap();
    let whole = Refund::whole("ORDER-1").unwrap();
    assert!(dub().deduplicates(&sale("5").into()));
    assert!(dub().deduplicates(&sign_up().into()));
    assert!(dub().deduplicates(&whole.into()));
    let listed = r#"[{"id":"cm_1","amount":500,"currency":"usd","status":"pending"}]"#;
    let platform = StandIn::new([(200, listed), (500, "")]);
    let error = platform.client(dub()).outcome(part()).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
    assert_eq!(platform.asked()[1].json(), json!({"saleAmount": 400}));

    let platform = StandIn::new([]);
    let request = ReportRequest::new(part()).may_have_arrived(true);
    let error = platform
        .client(dub())
        .send_report(&request)
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
}

#[tokio::test]
async fn a_part_of_which_it_is_known_what_is_left_is_the_same_the_second_time() {
    let part = || {
        let part = Refund::part("ORDER-1", money("10", "EUR")).unwrap();
        part.with_sale_amount(money("99.99", "EUR"))
            .with_total_refunded(money("30", "EUR"))
    };
    assert!(dub().deduplicates(&part().into()));
    // Dub keeps dollars.
    let listed = r#"[{"id":"cm_1","amount":9300,"currency":"usd","status":"pending"}]"#;
    let platform = StandIn::new([(200, listed), (500, "")]);
    let error = platform.client(dub()).outcome(part()).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
    assert_eq!(
        platform.asked()[1].json(),
        json!({"saleAmount": 6999, "currency": "eur"})
    );
    let all = part().with_total_refunded(money("99.99", "EUR"));
    let platform = StandIn::new([(200, listed), (200, r#"{"id":"cm_1"}"#)]);
    assert_eq!(
        platform.client(dub()).outcome(all).await,
        Ok(Outcome::Recorded)
    );
    assert_eq!(platform.asked()[1].json(), json!({"status": "refunded"}));
}

#[tokio::test]
async fn what_dub_cannot_take_is_refused_by_name() {
    let long = "x".repeat(101);
    let of = |report: Sale| report.with_credit(of_click("clk_1"));
    let fraction = Sale::new("O", "C", money("1.005", "USD")).unwrap();
    let fine = Sale::new("O", "C", money("1.255", "KWD")).unwrap();
    let customer = Sale::new("O", &long, money("1", "USD")).unwrap();
    let facts = sale("1").with_metadata("fact", "x".repeat(10_000));
    for (report, reason) in [
        (of(sale("1").with_tag("vip")), Unsupported::Field("tags")),
        (
            of(sale("1").with_coupon("SUMMER")),
            Unsupported::Field("coupon"),
        ),
        (
            of(sale("1").with_campaign("c")),
            Unsupported::Field("campaign"),
        ),
        (of(fraction), Unsupported::Value("amount")),
        (of(fine), Unsupported::Value("amount")),
        (of(customer), Unsupported::Value("customer")),
        (of(facts), Unsupported::Value("metadata")),
        (
            of(sale("1").with_action("x".repeat(256))),
            Unsupported::Value("action"),
        ),
    ] {
        let platform = StandIn::new([]);
        let error = platform.client(dub()).outcome(report).await.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(reason));
    }
    let platform = StandIn::new([(200, r#"{"customer":{},"sale":{}}"#)]);
    let client = platform.client(dub().leave_out_coupons());
    let report = of(sale("1").with_coupon("SUMMER"));
    assert_eq!(client.outcome(report).await, Ok(Outcome::Recorded));
    assert!(!platform.only().text.contains("SUMMER"));
    let platform = StandIn::new([]);
    let end = Cancellation::new("C").unwrap();
    let error = platform.client(dub()).outcome(end).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Kind("cancellation"))
    );
}

/// Signed by another implementation: `printf %s BODY | openssl dgst -sha256 -hmac whsec_1`.
const BODY: &[u8] = br#"{"id":"evt_1","event":"sale.created","createdAt":"2026-11-20T12:00:00Z","data":{"sale":{"amount":500}}}"#;
const SIGNATURE: &str = "92820a67ba6a4e46b5eb3d799b4293962b2598492646df49eb18c30ea8124e08";

#[test]
fn webhook_are_read_only_where_the_secret_signed_them() {
    let webhook = Webhook::new("whsec_1").unwrap();
    let signed = |signature: &str| {
        HeaderMap::from_iter([("dub-signature".parse().unwrap(), signature.parse().unwrap())])
    };
    let event = webhook.read(&signed(SIGNATURE), BODY).unwrap();
    assert_eq!((event.id(), event.name()), (Some("evt_1"), "sale.created"));
    assert_eq!(event.created_at(), Some("2026-11-20T12:00:00Z"));
    assert_eq!(event.data()["sale"]["amount"], 500);
    assert_eq!(
        format!("{event:?}"),
        r#"WebhookEvent { id: Some("evt_1"), name: "sale.created", .. }"#
    );

    let upper = SIGNATURE.to_uppercase();
    for unreadable in ["", &SIGNATURE[1..], &upper] {
        let refused = webhook.read(&signed(unreadable), BODY);
        assert_eq!(refused, Err(WebhookError::Unsigned), "{unreadable}");
    }
    let refused = webhook.read(&signed(&"0".repeat(64)), BODY);
    assert_eq!(refused, Err(WebhookError::BadSignature));
    let mut changed = BODY.to_vec();
    for at in 0..changed.len() {
        changed[at] ^= 1;
        let refused = webhook.read(&signed(SIGNATURE), &changed);
        assert_eq!(refused, Err(WebhookError::BadSignature));
        changed[at] ^= 1;
    }
    let mut twice = signed(SIGNATURE);
    twice.append("dub-signature", SIGNATURE.parse().unwrap());
    for headers in [HeaderMap::new(), twice] {
        assert_eq!(webhook.read(&headers, BODY), Err(WebhookError::Unsigned));
    }
    assert_eq!(
        Webhook::new("").unwrap_err(),
        ConfigError::EmptyWebhookSecret
    );
    assert!(!format!("{webhook:?}").contains("whsec"));
}
