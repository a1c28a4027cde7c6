//! Partnero, both its programs.

use serde_json::{Value, json};

use super::{BEARER, CURL, JSON, StandIn};

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
