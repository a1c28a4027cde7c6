//! The sandboxes take what their platforms' own documentation prints, as curl sends it, and refuse
//! what that doesn't show.

use serde_json::{Value, json};

use crate::shop_process::{Answer, Sandbox, Shop};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const CURL: (&str, &str) = ("Accept", "*/*");
const BEARER: (&str, &str) = ("Authorization", "Bearer sandbox");

/// A stand-in and the headers that its platform wants.
struct StandIn {
    _shop: Shop,
    sandbox: Sandbox,
    headers: Vec<(&'static str, &'static str)>,
}

impl StandIn {
    fn start(platform: &str, headers: &[(&'static str, &'static str)]) -> Self {
        let mut shop = Shop::start_as_told(&["--platform", platform], &[]);
        let sandbox = shop.sandbox();
        Self {
            _shop: shop,
            sandbox,
            headers: [&[CURL, JSON], headers].concat(),
        }
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.sandbox.post(path, &self.headers, body)
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.sandbox.call(method, path, &self.headers, body)
    }

    /// Posts what is taken and gives the answer.
    fn takes(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, &body.to_string());
        assert!((200..300).contains(&answer.status), "{}", answer.body);
        answer.json()
    }

    /// Posts what isn't, and says by which status it was refused.
    fn refuses(&self, path: &str, body: &Value) -> u16 {
        let answer = self.post(path, &body.to_string());
        assert!(answer.status >= 400, "{body}: {}", answer.body);
        answer.status
    }

    /// Posts the body without each of its fields, which must be refused each time.
    fn requires(&self, path: &str, body: &Value, fields: &[&str]) {
        for field in fields {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(*field).unwrap();
            self.refuses(path, &without);
        }
    }

    /// Posts the body with another value in a field, which must be refused each time.
    fn refuses_values(&self, path: &str, body: &Value, values: &[(&str, Value)]) {
        for (field, value) in values {
            let mut with = body.clone();
            with[*field] = value.clone();
            self.refuses(path, &with);
        }
    }

    /// Posts the body without each header.
    fn requires_headers(&self, path: &str, body: &Value, names: &[&str]) {
        for name in names {
            let headers = self.headers.iter().copied();
            let without: Vec<_> = headers.filter(|(header, _)| header != name).collect();
            let answer = self.sandbox.post(path, &without, &body.to_string());
            assert!(answer.status >= 400, "{name}: {}", answer.body);
        }
    }
}

#[test]
fn partnero_takes_the_examples_of_its_guides() {
    let partnero = StandIn::start("partnero", &[BEARER]);
    let sign_up = json!({
        "partner": { "key": "PARTNER_KEY_FROM_YOUR_STORAGE" },
        "key": "customer_123",
        "email": "customer@example.com",
        "name": "John",
        "surname": "Doe",
        "options": {
            "referral_url": "https://yoursite.com/pricing?aff=PARTNER_KEY_FROM_YOUR_STORAGE"
        }
    });
    let answer = partnero.takes("/v1/customers", &sign_up);
    assert_eq!(answer["status"], 1);
    assert_eq!(answer["data"]["key"], "customer_123");
    assert_eq!(answer["data"]["partner"], "PARTNER_KEY_FROM_YOUR_STORAGE");
    assert_eq!(answer["data"]["status"], "active");
    let again = partnero.post("/v1/customers", &sign_up.to_string());
    assert_eq!(
        (again.status, &again.json()["message"]),
        (422, &json!("Duplicate key"))
    );

    let sale = r#"{"customer": {"key": "customer_123"}, "key": "invoice_123", "amount": 99.99,
        "action": "sale"}"#;
    for _ in 0..2 {
        // A key isn't unique here.
        let answer = partnero.post("/v1/transactions", sale);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let data = &answer.json()["data"];
        assert_eq!(data["key"], "invoice_123");
        assert_eq!(data["partner"], "PARTNER_KEY_FROM_YOUR_STORAGE");
    }
    let several = json!({
        "customer": { "key": "customer_123" },
        "transactions": [
            { "key": "invoice_123", "amount": 99.99, "action": "sale" },
            { "key": "invoice_456", "amount": 199.99, "action": "sale" }
        ]
    });
    let answer = partnero.takes("/v1/transactions", &several);
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let guest = json!({
        "customer": { "key": "guest_1", "email": "g@example.com", "partner": { "key": "P1" } },
        "key": "invoice_789", "amount": 10, "action": "sale",
        "options": { "create_customer": true }
    });
    assert_eq!(
        partnero.takes("/v1/transactions", &guest)["data"]["partner"],
        "P1"
    );

    let deleted = partnero.call("DELETE", "/v1/transactions/invoice_456", "");
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({ "status": 1 }))
    );
    assert_eq!(
        partnero
            .call("DELETE", "/v1/transactions/invoice_456", "")
            .status,
        404
    );
    assert_eq!(partnero.call("GET", "/v1/test", "").status, 200);
    let of_customer = partnero.call("GET", "/v1/customers/customer_123/transactions", "");
    assert_eq!(of_customer.json()["meta"]["total"], 3);
}

#[test]
fn partnero_ignores_who_was_not_referred_as_its_guides_promise() {
    let partnero = StandIn::start("partnero", &[BEARER]);
    for (at, partner) in [json!(null), json!({ "key": null }), json!({})]
        .iter()
        .enumerate()
    {
        let key = format!("c{at}");
        let sign_up = json!({ "partner": partner, "key": key, "name": "Jo" });
        assert_eq!(
            partnero.takes("/v1/customers", &sign_up)["data"]["partner"],
            Value::Null
        );
    }
    let ignored = json!({ "partner": { "key": "IGNORED_1" }, "key": "c4" });
    assert_eq!(
        partnero.takes("/v1/customers", &ignored)["data"]["partner"],
        Value::Null
    );
    let unknown = json!({ "partner": { "key": "UNKNOWN_1" }, "key": "c5" });
    assert_eq!(partnero.refuses("/v1/customers", &unknown), 400);
    let sale = json!({ "customer": { "key": "c1" }, "key": "o1", "amount": 1, "action": "sale" });
    let answer = partnero.takes("/v1/transactions", &sale);
    assert_eq!(answer["data"]["partner"], Value::Null);
    assert_eq!(
        partnero.call("DELETE", "/v1/transactions/o1", "").status,
        404
    );
}

#[test]
fn partnero_refuses_what_its_documentation_does_not_show() {
    let partnero = StandIn::start("partnero", &[BEARER]);
    let path = "/v1/customers";
    let sign_up = json!({ "partner": { "key": "P1" }, "key": "c1", "email": "c@example.com" });
    partnero.requires(path, &sign_up, &["key"]);
    partnero.requires_headers(path, &sign_up, &["Authorization", "Content-Type"]);
    partnero.refuses_values(
        path,
        &sign_up,
        &[
            ("key", json!(7)),
            ("partner", json!("P1")),
            ("partner", json!({ "code": "P1" })),
            ("metadata", json!({ "a": "b" })),
            ("tags", json!("vip")),
            ("options", json!({ "url": "https://shop.example/" })),
        ],
    );
    let headers = [("Accept", "text/html"), JSON, BEARER];
    let answer = partnero.sandbox.post(path, &headers, &sign_up.to_string());
    assert_eq!(answer.status, 406);
    partnero.takes(path, &sign_up);

    let path = "/v1/transactions";
    let sale = json!({ "customer": { "key": "c1" }, "key": "o1", "amount": 9.5, "action": "sale" });
    partnero.requires(path, &sale, &["customer", "amount", "action"]);
    partnero.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!("9.50")),
            ("amount", json!(-1)),
            ("customer", json!({ "id": "c1" })),
            ("currency", json!("EUR")),
            ("transactions", json!([])),
        ],
    );
    let in_items = json!({ "transactions": [sale] });
    partnero.refuses(path, &in_items);
}

#[test]
fn partnero_friends_takes_the_examples_of_its_guide() {
    let friends = StandIn::start("partnero-friends", &[BEARER]);
    let alice = json!({ "key": "customer_123", "email": "a@example.com", "name": "Alice" });
    let answer = friends.takes("/v1/customers", &alice);
    assert_eq!(answer["data"]["id"], "customer_123");
    assert_eq!(answer["data"]["referring_customer"], Value::Null);
    assert_eq!(
        answer["data"]["referral_link"],
        "https://yoursite.com?ref=customer_123"
    );
    let bob = json!({
        "referring_customer": { "key": "customer_123" },
        "key": "customer_456", "email": "b@example.com", "name": "Bob",
        "metadata": { "date_of_birth": "1990-02-28" }
    });
    assert_eq!(
        friends.takes("/v1/customers", &bob)["data"]["referring_customer"],
        "customer_123"
    );
    let anonymous = friends.takes("/v1/customers", &json!({ "name": "Eve" }));
    assert!(
        anonymous["data"]["id"].is_string(),
        "a key is made where there is none"
    );

    let sale = json!({
        "customer": { "key": "customer_456" },
        "key": "invoice_123", "amount": 100, "action": "sale"
    });
    assert_eq!(
        friends.takes("/v1/transactions", &sale)["data"]["partner"],
        "customer_123"
    );
    let credit = json!({ "amount": 10, "is_currency": true, "amount_units": "usd" });
    friends.takes("/v1/customers/customer_123/balance/credit", &credit);
    let points = json!({ "amount": 50, "is_currency": false, "amount_units": "points" });
    friends.takes("/v1/customers/customer_123/balance/credit", &points);

    // As printed, without a Content-Type.
    let get = |path: &str| {
        friends
            .sandbox
            .call("GET", path, &[CURL, BEARER], "")
            .json()
    };
    assert_eq!(
        get("/v1/customers/customer_123")["data"]["referrals_count"],
        1
    );
    assert_eq!(
        get("/v1/customers/customer_123/stats")["data"]["referrals"],
        1
    );
    let credits = &get("/v1/customers/customer_123/balance")["data"]["credits"];
    assert_eq!(credits.as_array().unwrap().len(), 2);
    assert_eq!(
        get("/v1/customers/customer_123/referrals")["data"][0]["name"],
        "Bob"
    );

    friends.refuses_values(
        "/v1/customers",
        &json!({ "key": "c9" }),
        &[
            ("referring_customer", json!(null)),
            ("referring_customer", json!({})),
            ("partner", json!({ "key": "P1" })),
            ("metadata", json!({ "date_of_birth": "28.02.1990" })),
            ("metadata", json!({ "date_of_birth": "1990-02-30" })),
            ("metadata", json!({ "age": "30" })),
        ],
    );
}

#[test]
fn partnero_friends_lists_go_on_at_the_next_link() {
    let friends = StandIn::start("partnero-friends", &[BEARER]);
    friends.takes("/v1/customers", &json!({ "key": "a" }));
    for name in ["b", "c", "d"] {
        let friend = json!({ "key": name, "referring_customer": { "key": "a" } });
        friends.takes("/v1/customers", &friend);
    }
    let first = friends.call("GET", "/v1/customers/a/referrals", "").json();
    let origin = format!("http://{}", friends.sandbox.0);
    let next = first["links"]["next"].as_str().unwrap();
    let path = next.strip_prefix(&origin).expect("the link is a URL");
    let second = friends.call("GET", path, "").json();
    assert_eq!(second["links"]["next"], Value::Null);
    assert_eq!(second["data"][0]["id"], "d");
}

#[test]
fn partnac_takes_the_example_of_its_documentation() {
    let partnac = StandIn::start("partnac", &[BEARER]);
    let click = json!({
        "partnership_code": "PARTNER_REF_123",
        "click_url": "https://shop.example/?aff=PARTNER_REF_123",
        "referrer_url": "https://blog.example/", "screen_width": 1280, "ip_address": "192.168.1.1"
    });
    let click_id = partnac.takes("/v1/tracking/clicks", &click)["data"]["click_id"].clone();
    let conversion = r#"{
        "partnership_code": "PARTNER_REF_123",
        "unique_id": "order_10045",
        "conversion_type": "sale",
        "amount": 99.00,
        "metadata": {
            "currency": "USD",
            "customer_id": "cus_987654",
            "ip_address": "192.168.1.1",
            "user_agent": "Mozilla/5.0..."
        }
    }"#;
    let path = "/v1/tracking/conversions";
    assert_eq!(partnac.post(path, conversion).status, 201);
    assert_eq!(partnac.post(path, conversion).status, 409);
    let with_session = json!({
        "partnership_code": "PARTNER_REF_123", "unique_id": "order_2", "conversion_type": "lead",
        "amount": 0, "session_id": click_id, "campaign_id": "c1"
    });
    partnac.takes(path, &with_session);
    let update = r#"{"amount": 120.5, "unique_id": "order_10045", "metadata": {"a": "b"},
        "recalculate_commissions": true}"#;
    let updated = partnac.call("PATCH", "/v1/tracking/conversions/order_10045", update);
    assert_eq!(
        updated.json()["data"]["metadata"]["customer_id"],
        "cus_987654"
    );
    assert_eq!(updated.json()["data"]["metadata"]["a"], "b");
    let refund = json!({ "amount": 20.5, "reason": "fraud", "external_refund_id": "re_1",
        "reverse_paid_earnings": false });
    let path = "/v1/tracking/conversions/order_10045/refund";
    // Nothing says that it is recognised when it comes again.
    partnac.takes(path, &refund);
    partnac.takes(path, &refund);
    partnac.takes(path, &json!({}));
    partnac.refuses(path, &json!({}));
    let list = partnac.call("GET", "/v1/tracking/conversions?limit=1&offset=1", "");
    assert_eq!(list.json()["data"][0]["unique_id"], "order_2");
}

#[test]
fn partnac_refuses_what_its_documentation_does_not_show() {
    let partnac = StandIn::start("partnac", &[BEARER]);
    let path = "/v1/tracking/conversions";
    let sale = json!({ "partnership_code": "P", "unique_id": "o", "conversion_type": "sale",
        "amount": 1.5 });
    let required = ["partnership_code", "unique_id", "conversion_type", "amount"];
    partnac.requires(path, &sale, &required);
    partnac.requires_headers(path, &sale, &["Authorization", "Content-Type"]);
    partnac.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!("1.5")),
            ("conversion_type", json!("signup")),
            ("session_id", json!("clk_999999")),
            ("partnership_code", json!("UNKNOWN_1")),
            ("currency", json!("EUR")),
            ("metadata", json!({ "currency": "euro" })),
            ("metadata", json!({ "customer_id": 7 })),
        ],
    );
    let click = json!({ "partnership_code": "P", "click_url": "https://shop.example/" });
    let path = "/v1/tracking/clicks";
    partnac.requires(path, &click, &["partnership_code", "click_url"]);
    partnac.refuses_values(
        path,
        &click,
        &[
            ("screen_width", json!("1280")),
            ("user_agent", json!("Mozilla")),
        ],
    );
}

#[test]
fn tapfiliate_takes_the_examples_of_its_documentation() {
    let tapfiliate = StandIn::start("tapfiliate", &[("X-Api-Key", "sandbox")]);
    let click = json!({ "referral_code": "ref-value-goes-here" });
    let answer = tapfiliate.takes("/1.6/clicks/", &click);
    assert_eq!(answer.as_object().unwrap().len(), 1);
    let click_id = &answer["id"];
    let conversion = json!({ "click_id": click_id, "external_id": "ORDER001", "amount": 10 });
    let answer = tapfiliate.takes("/1.6/conversions/", &conversion);
    assert!(answer["id"].is_u64() && answer["commissions"].is_array());
    assert_eq!(tapfiliate.refuses("/1.6/conversions/", &conversion), 422);

    let customer = json!({ "customer_id": "USER123", "click_id": click_id });
    let answer = tapfiliate.takes("/1.6/customers/", &customer);
    assert_eq!(answer["customer_id"], "USER123");
    let renewal = json!({ "external_id": "O2", "amount": 99.0, "currency": "EUR",
        "customer_id": "USER123", "meta_data": { "plan": "pro" } });
    let path = "/1.6/conversions/?override_max_cookie_time=true";
    let id = tapfiliate.takes(path, &renewal)["id"].clone();

    let found = tapfiliate.call("GET", "/1.6/conversions/?external_id=O2", "");
    assert_eq!(found.json()[0]["id"], id);
    let path = format!("/1.6/conversions/{id}/?recalculate_commissions=true");
    let part = tapfiliate.call("PATCH", &path, r#"{"amount": 50}"#);
    assert_eq!(part.json()["amount"], 50);
    let path = format!("/1.6/conversions/{id}/");
    assert_eq!(tapfiliate.call("DELETE", &path, "").status, 204);
    assert_eq!(tapfiliate.call("DELETE", &path, "").status, 404);
}

#[test]
fn tapfiliate_refuses_what_its_documentation_does_not_show() {
    let tapfiliate = StandIn::start("tapfiliate", &[("X-Api-Key", "sandbox")]);
    let sale = json!({ "external_id": "O1", "amount": 9.5, "referral_code": "P" });
    for path in ["/1.6/conversions", "/1.6/clicks", "/1.6/customers"] {
        assert_eq!(
            tapfiliate.refuses(path, &sale),
            404,
            "a slash ends every path"
        );
    }
    let path = "/1.6/conversions/";
    tapfiliate.requires_headers(path, &sale, &["X-Api-Key", "Content-Type"]);
    tapfiliate.requires(path, &sale, &["referral_code"]);
    tapfiliate.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!("9.5")),
            ("click_id", json!("no-such-click")),
            ("coupon", json!("SUMMER")),
            ("external_id", json!(7)),
            ("order", json!("O1")),
        ],
    );
    let bad_click = json!({ "external_id": "O1", "amount": 1, "click_id": "expired" });
    assert_eq!(tapfiliate.refuses(path, &bad_click), 400);
    let nobody = json!({ "external_id": "O1", "amount": 1, "customer_id": "nobody" });
    assert_eq!(tapfiliate.refuses(path, &nobody), 400);
    let answer = tapfiliate
        .sandbox
        .post(path, &[CURL, JSON], &sale.to_string());
    assert!(answer.body.starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_tracker_takes_postbacks_and_answers_200_in_any_case() {
    let tracker = StandIn::start("postback", &[]);
    let get = |path: &str| {
        let answer = tracker.sandbox.call("GET", path, &[CURL], "");
        assert_eq!(answer.status, 200, "{path}");
        answer.body
    };
    let sale = "/postback?click_id=c%2F1&key=P1&event=sale&order=O1&customer=C1&amount=99.90\
        &currency=EUR&coupon=";
    for _ in 0..2 {
        // Nothing is recognised.
        assert_eq!(get(sale), "success=true;");
    }
    let sign_up = "/postback?click_id=&key=P1&event=signup&order=&customer=C1&amount=&currency=\
        &coupon=";
    assert_eq!(get(sign_up), "success=true;");
    let refund = "/refund?order=O1&refund=re_1&amount=9.90&amount_minor=990&currency=EUR\
        &click_id=&key=P1";
    assert_eq!(get(refund), "success=true;");
    let form = [CURL, ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = tracker.sandbox.post("/postback", &form, &sale[10..]);
    assert_eq!(answer.body, "success=true;");

    for wrong in [
        "/postback?click_id=&key=&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?click_id=UNKNOWN1&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=1,5&currency=EUR",
        "/postback?key=P1&event=sale&order=&amount=1&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=1&currency=EUR&affiliate=P1",
        "/postback?key=P1&key=P2&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=P+1&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=%zz&event=sale&order=O1&amount=1&currency=EUR",
        "/refund?order=O9&refund=&amount=1&currency=EUR",
    ] {
        let body = get(wrong);
        assert!(
            body.starts_with("success=false; err_msg="),
            "{wrong}: {body}"
        );
    }
}

#[test]
fn dub_takes_leads_and_sales_and_lets_commissions_be_changed() {
    let dub = StandIn::start("dub", &[BEARER]);
    let lead = json!({ "clickId": "cm3w8x2", "eventName": "Sign up", "customerExternalId": "u1",
        "customerName": "Jo", "customerEmail": "jo@example.com", "mode": "wait" });
    let answer = dub.takes("/track/lead", &lead);
    assert_eq!(answer["click"]["id"], "cm3w8x2");
    assert!(answer["link"]["id"].is_string());
    assert_eq!(answer["customer"]["externalId"], "u1");
    assert_eq!(
        dub.takes("/track/lead", &lead)["link"],
        Value::Null,
        "it came before"
    );
    let known = json!({ "clickId": "", "eventName": "Trial", "customerExternalId": "u1" });
    dub.takes("/track/lead", &known);

    let sale = json!({ "customerExternalId": "u1", "amount": 4990, "currency": "eur",
        "paymentProcessor": "stripe", "invoiceId": "in_1", "eventName": "Invoice paid",
        "metadata": {} });
    let first = dub.takes("/track/sale", &sale);
    assert_eq!(first["sale"]["amount"], 4990);
    assert_eq!(dub.takes("/track/sale", &sale), first);
    let nobody = json!({ "customerExternalId": "u2", "amount": 100, "invoiceId": "in_2" });
    let answer = dub.takes("/track/sale", &nobody);
    assert_eq!(
        (&answer["customer"], &answer["sale"]),
        (&Value::Null, &Value::Null)
    );

    let commissions = dub.call("GET", "/commissions?invoiceId=in_1", "").json();
    assert_eq!(commissions.as_array().unwrap().len(), 1);
    let path = format!("/commissions/{}", commissions[0]["id"].as_str().unwrap());
    assert_eq!(
        dub.call("PATCH", &path, r#"{"saleAmount": 990}"#).json()["amount"],
        990
    );
    let refunded = dub.call("PATCH", &path, r#"{"status": "refunded"}"#);
    assert_eq!(refunded.json()["status"], "refunded");

    let paid = json!({ "customerExternalId": "u1", "amount": 1, "invoiceId": "PAID_1" });
    dub.takes("/track/sale", &paid);
    let commissions = dub.call("GET", "/commissions?invoiceId=PAID_1", "").json();
    let path = format!("/commissions/{}", commissions[0]["id"].as_str().unwrap());
    assert_eq!(
        dub.call("PATCH", &path, r#"{"status": "refunded"}"#).status,
        400
    );
}

#[test]
fn dub_refuses_what_its_documentation_does_not_show() {
    let dub = StandIn::start("dub", &[BEARER]);
    let path = "/track/lead";
    let lead = json!({ "clickId": "c1", "eventName": "Sign up", "customerExternalId": "u1" });
    dub.requires(path, &lead, &["clickId", "eventName", "customerExternalId"]);
    dub.requires_headers(path, &lead, &["Authorization", "Content-Type"]);
    let long = "x".repeat(101);
    dub.refuses_values(
        path,
        &lead,
        &[
            ("customerExternalId", json!(long)),
            ("customerExternalId", json!("")),
            ("mode", json!("sync")),
            ("customer_email", json!("jo@example.com")),
            ("metadata", json!({ "a": "x".repeat(10_001) })),
        ],
    );
    let unknown = json!({ "clickId": "UNKNOWN", "eventName": "e", "customerExternalId": "u1" });
    assert_eq!(dub.refuses(path, &unknown), 404);
    let empty = json!({ "clickId": "", "eventName": "e", "customerExternalId": "u1" });
    assert_eq!(dub.refuses(path, &empty), 400);

    let path = "/track/sale";
    let sale = json!({ "customerExternalId": "u1", "amount": 100 });
    dub.requires(path, &sale, &["customerExternalId", "amount"]);
    dub.refuses_values(
        path,
        &sale,
        &[
            ("amount", json!(49.9)),
            ("amount", json!("4990")),
            ("currency", json!("euro")),
            ("paymentProcessor", json!("cash")),
            ("clickId", json!("UNKNOWN")),
        ],
    );
    let answer = dub.post(path, &json!({ "amount": 1 }).to_string()).json();
    assert_eq!(answer["error"]["code"], "unprocessable_entity");
    assert!(answer["error"]["doc_url"].is_string());
}

#[test]
fn affonso_takes_the_examples_of_its_documentation() {
    let affonso = StandIn::start("affonso", &[BEARER]);
    let click = json!({ "programId": "sandbox", "trackingId": "PARTNER123",
        "referrer": "https://blog.example/", "userAgent": "Mozilla/5.0", "sub1": "a" });
    let answer = affonso.takes("/v1/clicks", &click);
    assert_eq!(answer["success"], true);
    let click_id = &answer["data"]["id"];
    let sign_up = json!({ "click_id": click_id, "email": "jane@example.com",
        "external_user_id": "user_42", "name": "Jane Doe" });
    assert_eq!(
        affonso.post("/v1/signups", &sign_up.to_string()).status,
        201
    );
    assert_eq!(
        affonso.post("/v1/signups", &sign_up.to_string()).status,
        200
    );
    let conversion = r#"{
        "customer_id": "cust_123",
        "click_id": "ref_clk_000001",
        "sale_amount": 99.00,
        "sale_amount_currency": "USD",
        "external_event_id": "inv_2026_000145",
        "sales_status": "complete",
        "is_subscription": true,
        "interval": "monthly",
        "price_ids": ["price_monthly_usd"]
    }"#;
    let first = affonso.post("/v1/conversions", conversion);
    assert_eq!(first.status, 201, "{}", first.body);
    let again = affonso.post("/v1/conversions", conversion);
    assert_eq!(again.json()["data"]["id"], first.json()["data"]["id"]);
    let renewal = json!({ "external_user_id": "user_42", "sale_amount": 99,
        "sale_amount_currency": "USD", "external_event_id": "inv_2" });
    affonso.takes("/v1/conversions", &renewal);

    let path = format!(
        "/v1/conversions/{}/refund",
        first.json()["data"]["id"].as_str().unwrap()
    );
    let refund = r#"{"amount": 49.50, "currency": "USD", "reason": "customer_cancellation",
        "external_event_id": "refund_evt_123"}"#;
    for _ in 0..2 {
        let refunded = affonso.post(&path, refund);
        assert_eq!(refunded.json()["data"]["sale_amount"], 49.5);
        assert_eq!(refunded.json()["data"]["sales_status"], "partial_refunded");
    }
    affonso.refuses(&path, &json!({ "amount": 60, "external_event_id": "r2" }));
}

#[test]
fn affonso_refuses_what_its_documentation_does_not_show() {
    let affonso = StandIn::start("affonso", &[BEARER]);
    let click = json!({ "programId": "sandbox", "trackingId": "P1" });
    affonso.requires("/v1/clicks", &click, &["programId", "trackingId"]);
    affonso.requires_headers("/v1/clicks", &click, &["Authorization", "Content-Type"]);
    affonso.refuses_values(
        "/v1/clicks",
        &click,
        &[
            ("programId", json!("another")),
            ("trackingId", json!("UNKNOWN")),
            ("tracking_id", json!("P1")),
            ("user_agent", json!("Mozilla")),
        ],
    );
    let id = affonso.takes("/v1/clicks", &click)["data"]["id"].clone();
    let sign_up = json!({ "click_id": id, "email": "a@example.com" });
    affonso.requires("/v1/signups", &sign_up, &["click_id", "email"]);
    let values = [
        ("click_id", json!("no-such")),
        ("externalUserId", json!("u1")),
    ];
    affonso.refuses_values("/v1/signups", &sign_up, &values);
    let sale = json!({ "click_id": id, "sale_amount": 9.9, "sale_amount_currency": "EUR",
        "external_event_id": "e1" });
    let required = [
        "click_id",
        "sale_amount",
        "sale_amount_currency",
        "external_event_id",
    ];
    affonso.requires("/v1/conversions", &sale, &required);
    affonso.refuses_values(
        "/v1/conversions",
        &sale,
        &[
            ("click_id", json!("no-such")),
            ("sale_amount", json!("9.9")),
            ("sale_amount", json!(0)),
            ("interval", json!("month")),
        ],
    );
    let refused = affonso.post("/v1/conversions", "{}").json();
    assert_eq!(refused["success"], false);
}

#[test]
fn firstpromoter_takes_the_examples_of_its_documentation() {
    let account = ("Account-ID", "sandbox");
    let promoter = StandIn::start("firstpromoter", &[BEARER, account]);
    let base = "/api/v2/track";
    let sign_up = json!({ "email": "a@example.com", "uid": "u1", "ref_id": "P1",
        "ip": "192.0.2.1", "created_at": "2026-11-01T00:00:00Z", "skip_email_notification": true });
    let answer = promoter.takes(&format!("{base}/signup"), &sign_up);
    assert_eq!(
        (&answer["etype"], &answer["referral"]["uid"]),
        (&json!("signup"), &json!("u1"))
    );
    assert_eq!(promoter.refuses(&format!("{base}/signup"), &sign_up), 422);
    let sale = json!({ "uid": "u1", "event_id": "e1", "amount": 4900, "quantity": 1, "plan": "pro",
        "currency": "usd", "promo_code": "SUMMER", "tid": "t1", "ref_id": "P1",
        "skip_email_notification": true });
    let answer = promoter.takes(&format!("{base}/sale"), &sale);
    assert_eq!(answer["sale_amount"], 4900);
    assert_eq!(promoter.refuses(&format!("{base}/sale"), &sale), 409);
    let nobody = json!({ "uid": "u2", "event_id": "e2", "amount": 100 });
    let answer = promoter.post(&format!("{base}/sale"), &nobody.to_string());
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (404, &json!("not_found"))
    );

    let refund = json!({ "uid": "u1", "event_id": "r1", "amount": 900, "sale_event_id": "e1" });
    promoter.takes(&format!("{base}/refund"), &refund);
    assert_eq!(promoter.refuses(&format!("{base}/refund"), &refund), 409);
    let unknown = json!({ "uid": "u1", "event_id": "r2", "amount": 1, "sale_event_id": "e9" });
    assert_eq!(
        promoter
            .post(&format!("{base}/refund"), &unknown.to_string())
            .status,
        204
    );
    promoter.takes(
        &format!("{base}/cancellation"),
        &json!({ "email": "a@example.com" }),
    );
}

#[test]
fn firstpromoter_refuses_what_its_documentation_does_not_show() {
    let account = ("Account-ID", "sandbox");
    let promoter = StandIn::start("firstpromoter", &[BEARER, account]);
    let path = "/api/v2/track/signup";
    let sign_up = json!({ "uid": "u1", "tid": "t1" });
    promoter.requires(path, &sign_up, &["uid", "tid"]);
    let headers = ["Authorization", "Account-ID", "Content-Type"];
    promoter.requires_headers(path, &sign_up, &headers);
    let values = [("name", json!("Jo")), ("tid", json!("UNKNOWN"))];
    promoter.refuses_values(path, &sign_up, &values);
    promoter.takes(path, &sign_up);
    let path = "/api/v2/track/sale";
    let sale = json!({ "uid": "u1", "event_id": "e1", "amount": 100 });
    promoter.requires(path, &sale, &["uid", "event_id", "amount"]);
    let values = [("amount", json!(1.5)), ("amount", json!("100"))];
    promoter.refuses_values(path, &sale, &values);
}

#[test]
fn tolt_takes_a_click_a_customer_and_a_payment() {
    let tolt = StandIn::start("tolt", &[BEARER]);
    let click = json!({ "param": "ref", "value": "sam", "page": "https://acme.com/pricing",
        "referrer": "https://twitter.com" });
    let click = tolt.takes("/v2/clicks", &click)["data"].clone();
    let customer = json!({ "email": "Jane@example.com", "customer_id": "u1",
        "partner_id": click["partner_id"], "click_id": click["id"] });
    let made = tolt.takes("/v2/customers", &customer)["data"].clone();
    assert!(made["id"].as_str().unwrap().starts_with("cus_"));
    assert_eq!(made["email"], "jane@example.com");
    assert_eq!(tolt.refuses("/v2/customers", &customer), 409);
    let charge = json!({ "customer_id": made["id"], "amount": 4900, "charge_id": "ch_3Qf8x2aBcD",
        "billing_type": "subscription", "interval": "month", "source": "api" });
    let payment = tolt.takes("/v2/transactions", &charge);
    assert_eq!(
        payment["data"]["amount"], "4900",
        "money comes back as a text"
    );
    let again = tolt.post("/v2/transactions", &charge.to_string());
    assert_eq!(
        (again.status, &again.json()["code"]),
        (409, &json!("already_exists"))
    );
    let id = payment["data"]["id"].as_str().unwrap();
    let refunded = tolt.call("PUT", &format!("/v1/transactions/{id}/refund"), "");
    assert_eq!(refunded.json()["data"][0]["status"], "refunded");
}

#[test]
fn tolt_refuses_what_its_documentation_does_not_show() {
    let tolt = StandIn::start("tolt", &[BEARER]);
    let click = json!({ "param": "ref", "value": "sam" });
    tolt.requires("/v2/clicks", &click, &["param", "value"]);
    tolt.requires_headers("/v2/clicks", &click, &["Authorization", "Content-Type"]);
    tolt.refuses_values("/v2/clicks", &click, &[("value", json!("UNKNOWN"))]);
    tolt.refuses("/v2/clicks", &json!({}));
    let customer = json!({ "email": "a@example.com", "partner_id": "part_sam" });
    tolt.requires("/v2/customers", &customer, &["email", "partner_id"]);
    tolt.refuses_values("/v2/customers", &customer, &[("click_id", json!("clk_9"))]);
    let id = tolt.takes("/v2/customers", &customer)["data"]["id"].clone();
    let charge = json!({ "customer_id": id, "amount": 100 });
    tolt.requires("/v2/transactions", &charge, &["customer_id", "amount"]);
    tolt.refuses_values(
        "/v2/transactions",
        &charge,
        &[
            ("customer_id", json!("a@example.com")),
            ("amount", json!(49.9)),
            ("billing_type", json!("once")),
            ("currency", json!("usd")),
        ],
    );
    let answer = tolt.post("/v2/transactions", "{}").json();
    assert_eq!(
        (&answer["success"], &answer["code"]),
        (&json!(false), &json!("validation_error"))
    );
}

#[test]
fn awin_takes_batches_of_orders_ten_seconds_apart() {
    let awin = StandIn::start("awin", &[("x-api-key", "sandbox")]);
    let path = "/s2s/advertiser/sandbox/orders";
    let order = json!({ "orderReference": "#1100011", "amount": 111, "channel": "aw",
        "currency": "GBP", "voucher": "10_OFF", "isTest": false, "awc": "1001_1_abc",
        "commissionGroups": [{ "code": "DEFAULT", "amount": 111 }] });
    let batch = |order: &Value| json!({ "orders": [order] });
    for field in ["orderReference", "amount", "channel"] {
        let mut without = order.clone();
        without.as_object_mut().unwrap().remove(field);
        awin.refuses(path, &batch(&without));
    }
    for (field, value) in [
        ("amount", json!("111")),
        ("awc", json!("UNKNOWN")),
        ("isTest", json!("false")),
        ("order", json!("1")),
        ("publisherId", json!(7)),
    ] {
        let mut with = order.clone();
        with[field] = value;
        awin.refuses(path, &batch(&with));
    }
    let nobody = json!({ "orderReference": "1", "amount": 1, "channel": "aw" });
    awin.refuses(path, &batch(&nobody));
    awin.refuses(path, &json!({ "orders": [] }));
    awin.refuses("/s2s/advertiser/7/orders", &batch(&order));
    awin.requires_headers(path, &batch(&order), &["x-api-key", "Content-Type"]);
    awin.takes(path, &batch(&order));
    let answer = awin.post(path, &batch(&order).to_string());
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait));
}

#[test]
fn every_sandbox_shows_what_it_received() {
    for platform in [
        "partnero",
        "partnero-friends",
        "partnac",
        "tapfiliate",
        "postback",
        "dub",
        "affonso",
        "firstpromoter",
        "tolt",
        "awin",
    ] {
        let stand_in = StandIn::start(platform, &[]);
        stand_in.post("/nowhere", r#"{"seen": true}"#);
        let calls = stand_in.sandbox.calls();
        assert_eq!(calls[0]["call"], "POST /nowhere", "{platform}");
        assert_eq!(calls[0]["body"], r#"{"seen": true}"#);
        assert!(calls[0]["status"].as_u64() >= Some(200));
        let page = stand_in
            .sandbox
            .call("GET", "/", &[("Accept", "text/html")], "");
        assert!(page.body.contains("1 call received"), "{platform}");
    }
}
