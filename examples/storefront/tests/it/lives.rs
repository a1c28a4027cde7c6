//! The whole life of a customer at every platform, by one table: landing, sign-up, sale, second sale,
//! renewal, partial refund, the rest of it, whole refund. The platform is changed by one option, and
//! what its sandbox was told is compared with what happened.

use serde_json::{Value, json};

use crate::payments::{SECRET, invoice, stripe};
use crate::shop_process::{Json, Shop, Visitor};
use crate::support::{ACCEPT_HTML, LONG_WAIT, payment};

/// What happens in the life, in the words in which each platform's calls are read.
const LIFE: [&str; 7] = [
    "sign-up cus_1",
    "sale order-1 99.99",
    "sale order-2 20",
    "sale in_1 100",
    "refund order-1 30.5",
    "refund order-1 69.49",
    "refund order-2 20",
];

/// How a platform differs from one that takes everything.
struct Row {
    platform: &'static str,
    /// A link of the platform's own kind.
    landing: &'static str,
    /// What it is told in place of [`LIFE`].
    told: &'static [&'static str],
    /// What it can't be told: the report's ID, and words of the reason.
    refused: &'static [(&'static str, &'static str)],
    /// What credits nobody there, and isn't told.
    not_attributed: usize,
    read: fn(&Call) -> Option<String>,
}

const WHOLE_ONLY: &[(&str, &str)] = &[("refund:order-1:re_1", "takes back whole sales only")];
/// A part isn't taken, and once the parts make the whole, the sale goes back.
const TOLD_WHOLE: &[&str] = &[
    LIFE[0],
    LIFE[1],
    LIFE[2],
    LIFE[3],
    "refund order-1 all",
    "refund order-2 all",
];
const TOLD_AS_REST: &[&str] = &[
    LIFE[0],
    LIFE[1],
    LIFE[2],
    LIFE[3],
    "refund order-1 to 69.49",
    "refund order-1 all",
    "refund order-2 all",
];
const NO_REFUNDS: &[(&str, &str)] = &[
    ("refund:order-1:re_1", "no call for a refund"),
    ("refund:order-1:re_2", "no call for a refund"),
    ("refund:order-2", "no call for a refund"),
];

const ROWS: [Row; 10] = [
    Row {
        platform: "partnac",
        landing: "/pricing?aff=PARTNER_1",
        told: &[
            LIFE[0],
            LIFE[1],
            LIFE[2],
            LIFE[3],
            LIFE[4],
            LIFE[5],
            "refund order-2 all",
        ],
        refused: &[],
        not_attributed: 0,
        read: partnac,
    },
    Row {
        platform: "tapfiliate",
        landing: "/pricing?aff=PARTNER_1",
        told: TOLD_AS_REST,
        refused: &[],
        not_attributed: 0,
        read: tapfiliate,
    },
    Row {
        platform: "partnero",
        landing: "/pricing?aff=PARTNER_1",
        told: TOLD_WHOLE,
        refused: WHOLE_ONLY,
        not_attributed: 0,
        read: partnero,
    },
    Row {
        platform: "partnero-friends",
        landing: "/pricing?ref=FRIEND_1",
        told: TOLD_WHOLE,
        refused: WHOLE_ONLY,
        not_attributed: 0,
        read: partnero,
    },
    Row {
        platform: "affonso",
        landing: "/pricing?ref=PARTNER_1",
        told: &LIFE,
        refused: &[],
        not_attributed: 0,
        read: affonso,
    },
    Row {
        platform: "firstpromoter",
        landing: "/pricing?ref=PARTNER_1",
        told: &LIFE,
        refused: &[],
        not_attributed: 0,
        read: firstpromoter,
    },
    Row {
        platform: "tolt",
        landing: "/pricing?ref=PARTNER_1",
        told: TOLD_WHOLE,
        refused: WHOLE_ONLY,
        not_attributed: 0,
        read: tolt,
    },
    Row {
        platform: "dub",
        landing: "/pricing?dub_id=CLICK_1",
        told: TOLD_AS_REST,
        refused: &[],
        not_attributed: 0,
        read: dub,
    },
    Row {
        platform: "postback",
        landing: "/pricing?click_id=CLICK_1",
        told: &LIFE,
        refused: &[],
        not_attributed: 0,
        read: postback,
    },
    Row {
        platform: "awin",
        landing: "/pricing?awc=CLICK_1",
        told: &[LIFE[1], LIFE[2], LIFE[3]],
        refused: NO_REFUNDS,
        // An order alone carries the click.
        not_attributed: 1,
        read: awin,
    },
];

#[test]
fn every_platform_is_told_of_a_customers_life_as_it_was() {
    for row in ROWS {
        live(&row);
    }
}

fn live(row: &Row) {
    let platform = row.platform;
    let options = ["--platform", platform];
    let the_same = ["--payment", "stripe", "--payment-secret", SECRET];
    let options = [&options[..], &the_same, &LONG_WAIT].concat();
    let mut shop = Shop::start_as_told(&options, &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get(row.landing);

    let customer = json!({"customer": "cus_1", "email": "ada@example.com", "name": "Ada"});
    let is_told = row.told.contains(&LIFE[0]);
    says_twice(&mut visitor, "/signup", &customer, is_told);
    shop.settles();
    for (order, amount) in [("order-1", "99.99"), ("order-2", "20")] {
        let mut webhook = payment(order, amount);
        let started = visitor.post("/checkout", &[], Json(&webhook)).json();
        webhook["client_reference_id"] = started["client_reference_id"].clone();
        says_twice(&mut shop.visitor(), "/webhooks/payment", &webhook, true);
        shop.settles();
    }
    // Nothing in a renewal says who is credited: that is in the customer's row.
    let renewal = invoice("in_1", "cus_1", "subscription_cycle");
    assert_eq!(stripe(&shop, "invoice.paid", &renewal).0, ["sale:in_1"]);
    assert!(stripe(&shop, "invoice.paid", &renewal).0.is_empty());
    shop.settles();
    for (id, refund) in [
        (
            "refund:order-1:re_1",
            json!({"order": "order-1", "amount": "30.50", "refund": "re_1"}),
        ),
        (
            "refund:order-1:re_2",
            json!({"order": "order-1", "refund": "re_2"}),
        ),
        ("refund:order-2", json!({"order": "order-2"})),
    ] {
        let refusal = row.refused.iter().find(|(refused, _)| *refused == id);
        match refusal {
            None => says_twice(&mut shop.visitor(), "/refund", &refund, true),
            Some((_, why)) => is_refused(&shop, &refund, id, why),
        }
        shop.settles();
    }

    let outbox = shop.outbox();
    let recorded = LIFE.len() - row.refused.len() - row.not_attributed;
    let outcomes = json!({"recorded": recorded, "duplicate": 0,
        "not_attributed": row.not_attributed});
    assert_eq!(outbox["outcomes"], outcomes, "{platform}: {outbox}");
    let problems = outbox["problems"].as_array().unwrap();
    assert_eq!(problems.len(), row.refused.len(), "{platform}: {outbox}");

    let calls: Vec<Call> = sandbox.calls().iter().rev().map(Call::of).collect();
    let told: Vec<String> = calls.iter().filter_map(row.read).collect();
    assert_eq!(told, row.told, "{platform}");
    // Who is credited is in the first call that it was told of.
    let key = row.landing.split('=').nth(1).unwrap();
    assert!(calls[0].text.contains(key), "{platform}: {}", calls[0].text);
}

#[test]
fn a_coupon_that_the_platform_has_no_place_for_loses_no_sale() {
    let mut shop = Shop::start_as_told(&["--platform", "dub"], &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/?dub_id=CLICK_1");
    visitor.post("/signup", &[], Json(&json!({"customer": "cus_1"})));
    let mut webhook = payment("order-1", "5");
    webhook["coupon"] = "SUMMER".into();
    says_twice(&mut shop.visitor(), "/webhooks/payment", &webhook, true);
    let outbox = shop.settles();
    assert_eq!(outbox["outcomes"]["recorded"], 2, "{outbox}");
    let calls: Vec<Call> = sandbox.calls().iter().rev().map(Call::of).collect();
    let told: Vec<String> = calls.iter().filter_map(dub).collect();
    assert_eq!(told, ["sign-up cus_1", "sale order-1 5"]);
}

/// Sends the same twice, as browsers and payment providers do.
fn says_twice(visitor: &mut Visitor<'_>, path: &str, body: &Value, is_told: bool) {
    let (first, second) = if is_told {
        ("queued", "duplicate")
    } else {
        ("not_attributed", "not_attributed")
    };
    for outcome in [first, second] {
        let report = visitor.post(path, &[], Json(body)).report();
        assert_eq!(report.0, outcome, "{path} {body}: {}", report.1);
        visitor.shop.settles();
    }
}

/// What the platform can't take is never a success, and a person finds it with the reason: in the
/// answer, on its page and in the outbox.
fn is_refused(shop: &Shop, refund: &Value, id: &str, why: &str) {
    for _ in 0..2 {
        let (outcome, detail) = shop.visitor().post("/refund", &[], Json(refund)).report();
        assert_eq!(outcome, "failed", "{detail}");
        assert!(detail.contains(why), "{detail}");
        shop.settles();
    }
    let page = shop.visitor().post("/refund", &[ACCEPT_HTML], Json(refund));
    page.assert_page();
    assert!(page.body.contains("Refund: failed") && page.body.contains(why));
    let outbox = shop.outbox();
    let problems = outbox["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["id"] == id).unwrap();
    assert_eq!(problem["state"], "failed");
    assert!(
        problem["reason"].as_str().unwrap().contains(why),
        "{outbox}"
    );
}

/// A call that a sandbox took.
struct Call {
    /// Method, path and query.
    line: String,
    text: String,
    body: Value,
    answer: Value,
}

impl Call {
    fn of(call: &Value) -> Self {
        let text = |name: &str| call[name].as_str().unwrap().to_owned();
        let (line, body) = (text("call"), text("body"));
        let status = call["status"].as_u64().unwrap();
        assert!(status < 300, "{line} {body}: {}", call["answer"]);
        Self {
            text: format!("{line} {body}"),
            body: serde_json::from_str(&body).unwrap_or_default(),
            answer: serde_json::from_str(&text("answer")).unwrap_or_default(),
            line,
        }
    }

    /// The path's last segment but `above`, if the line begins so.
    fn segment(&self, start: &str) -> Option<&str> {
        let rest = self.line.strip_prefix(start)?;
        rest.split(['/', '?']).next()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.line.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// An amount in major units.
fn major(amount: &Value) -> String {
    amount.to_string()
}

/// An amount in minor units of a currency with two digits.
fn minor(amount: &Value) -> String {
    let minor = amount.as_u64().unwrap();
    let text = format!("{}.{:02}", minor / 100, minor % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn partnac(call: &Call) -> Option<String> {
    let body = &call.body;
    if let Some(order) = call.segment("POST /v1/tracking/conversions/") {
        return Some(match &body["amount"] {
            Value::Null => format!("refund {order} all"),
            amount => format!("refund {order} {}", major(amount)),
        });
    }
    call.line.strip_prefix("POST /v1/tracking/conversions")?;
    let customer = text(&body["metadata"]["customer_id"]);
    assert_eq!(customer, "cus_1");
    Some(match text(&body["conversion_type"]) {
        "lead" => format!("sign-up {customer}"),
        "sale" | "subscription" => {
            assert_eq!(body["metadata"]["currency"], "EUR");
            format!(
                "sale {} {}",
                text(&body["unique_id"]),
                major(&body["amount"])
            )
        }
        other => panic!("{other}"),
    })
}

fn tapfiliate(call: &Call) -> Option<String> {
    let body = &call.body;
    // It names a conversion by its own number, and answers with the shop's.
    let order = match call.segment("DELETE /1.6/conversions/") {
        Some("3") => return Some("refund order-1 all".to_owned()),
        Some("4") => return Some("refund order-2 all".to_owned()),
        Some(other) => panic!("{other}"),
        None => &call.answer["external_id"],
    };
    match call.line.split(' ').next()? {
        "PATCH" => {
            assert_eq!(call.parameter("recalculate_commissions"), Some("true"));
            Some(format!(
                "refund {} to {}",
                text(order),
                major(&body["amount"])
            ))
        }
        "POST" if call.line.ends_with("/customers/") => {
            Some(format!("sign-up {}", text(&body["customer_id"])))
        }
        "POST" if call.line.ends_with("/conversions/") => {
            assert_eq!(body["customer_id"], "cus_1");
            assert_eq!(body["currency"], "EUR");
            let order = text(&body["external_id"]);
            Some(format!("sale {order} {}", major(&body["amount"])))
        }
        _ => None,
    }
}

fn partnero(call: &Call) -> Option<String> {
    let body = &call.body;
    if let Some(order) = call.segment("DELETE /v1/transactions/") {
        return Some(format!("refund {order} all"));
    }
    match &*call.line {
        "POST /v1/customers" => Some(format!("sign-up {}", text(&body["key"]))),
        "POST /v1/transactions" => {
            assert_eq!(body["customer"]["key"], "cus_1");
            assert_eq!(body["amount_units"], "EUR");
            Some(format!(
                "sale {} {}",
                text(&body["key"]),
                major(&body["amount"])
            ))
        }
        _ => None,
    }
}

fn affonso(call: &Call) -> Option<String> {
    let body = &call.body;
    if call.segment("POST /v1/conversions/").is_some() {
        assert_eq!(body["currency"], "EUR");
        let order = text(&call.answer["data"]["external_event_id"]);
        return Some(format!("refund {order} {}", major(&body["amount"])));
    }
    match &*call.line {
        "POST /v1/signups" => Some(format!("sign-up {}", text(&body["external_user_id"]))),
        "POST /v1/conversions" => {
            assert_eq!(body["sale_amount_currency"], "EUR");
            let order = text(&body["external_event_id"]);
            Some(format!("sale {order} {}", major(&body["sale_amount"])))
        }
        _ => None,
    }
}

fn firstpromoter(call: &Call) -> Option<String> {
    let body = &call.body;
    assert_eq!(body["uid"], "cus_1");
    match &*call.line {
        "POST /api/v2/track/signup" => Some("sign-up cus_1".to_owned()),
        "POST /api/v2/track/sale" => {
            assert_eq!(body["currency"], "EUR");
            Some(format!(
                "sale {} {}",
                text(&body["event_id"]),
                minor(&body["amount"])
            ))
        }
        "POST /api/v2/track/refund" => {
            let order = text(&body["sale_event_id"]);
            Some(format!("refund {order} {}", minor(&body["amount"])))
        }
        _ => None,
    }
}

fn tolt(call: &Call) -> Option<String> {
    let body = &call.body;
    if call.segment("PUT /v1/transactions/").is_some() {
        let order = text(&call.answer["data"][0]["charge_id"]);
        return Some(format!("refund {order} all"));
    }
    match &*call.line {
        "POST /v2/customers" => Some(format!("sign-up {}", text(&body["customer_id"]))),
        "POST /v2/transactions" => {
            assert!(
                text(&body["customer_id"]).starts_with("cus_0"),
                "its own ID"
            );
            Some(format!(
                "sale {} {}",
                text(&body["charge_id"]),
                minor(&body["amount"])
            ))
        }
        _ => None,
    }
}

fn dub(call: &Call) -> Option<String> {
    let body = &call.body;
    if call.segment("PATCH /commissions/").is_some() {
        let order = text(&call.answer["invoiceId"]);
        return Some(match body["status"].as_str() {
            Some("refunded") => format!("refund {order} all"),
            _ => format!("refund {order} to {}", minor(&body["saleAmount"])),
        });
    }
    match &*call.line {
        "POST /track/lead" => Some(format!("sign-up {}", text(&body["customerExternalId"]))),
        "POST /track/sale" => {
            assert_eq!(body["customerExternalId"], "cus_1");
            assert_eq!(body["currency"], "eur");
            Some(format!(
                "sale {} {}",
                text(&body["invoiceId"]),
                minor(&body["amount"])
            ))
        }
        _ => None,
    }
}

fn postback(call: &Call) -> Option<String> {
    let parameter = |name| call.parameter(name).unwrap_or_default();
    Some(if call.line.starts_with("GET /refund?") {
        assert_eq!(parameter("currency"), "EUR");
        format!("refund {} {}", parameter("order"), parameter("amount"))
    } else {
        assert_eq!(parameter("click_id"), "CLICK_1");
        match parameter("event") {
            "sign_up" => format!("sign-up {}", parameter("customer")),
            "sale" => format!("sale {} {}", parameter("order"), parameter("amount")),
            _ => return None,
        }
    })
}

fn awin(call: &Call) -> Option<String> {
    call.line
        .strip_prefix("POST /s2s/advertiser/sandbox/orders")?;
    let orders = call.body["orders"].as_array().unwrap();
    let [order] = &orders[..] else {
        panic!("each goes before the next is made: {orders:?}");
    };
    assert_eq!(
        (&order["awc"], &order["currency"]),
        (&json!("CLICK_1"), &json!("EUR"))
    );
    let id = text(&order["orderReference"]);
    Some(format!("sale {id} {}", major(&order["amount"])))
}
