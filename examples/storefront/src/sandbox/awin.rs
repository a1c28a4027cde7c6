//! A stand-in for Awin's conversion API: batches of orders, ten seconds apart. What it answers is
//! documented nowhere; this is a likely form.

use axum::http::StatusCode;
use serde_json::json;

use super::answer::{Answer, Verdict};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// Between two batches, in seconds.
const APART: i64 = 10;
/// The most orders in a batch.
const MAX_ORDERS: usize = 1000;
/// A reference is cut at so many characters.
const MAX_REFERENCE: usize = 50;

const ORDER: [Field; 12] = [
    required("orderReference", Kind::Text),
    required("amount", Kind::Amount),
    required("channel", Kind::Text),
    optional("currency", Kind::Currency),
    optional("awc", Kind::Text),
    optional("voucher", Kind::Text),
    optional("publisherId", Kind::Integer),
    optional("clickTime", Kind::Integer),
    optional("isTest", Kind::Flag),
    optional("commissionGroups", Kind::Objects),
    optional("custom", Kind::Object),
    optional("customerAcquisition", Kind::OneOf(&["NEW", "RETURNING"])),
];

/// Everything that Awin remembers.
pub(super) struct Awin {
    account: Account,
    last_batch: Option<i64>,
    orders: Vec<String>,
}

impl Awin {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            last_batch: None,
            orders: Vec::new(),
        }
    }

    fn batch(&mut self, call: &Call<'_>) -> Verdict {
        let body = call.object(&[required("orders", Kind::Objects)]);
        let body = body.map_err(|error| invalid(&error))?;
        let orders = body.objects("orders", &ORDER);
        let orders = orders.map_err(|error| invalid(&error))?;
        if orders.is_empty() || orders.len() > MAX_ORDERS {
            let problem = format!("must be 1 to {MAX_ORDERS}");
            return Err(invalid(&Invalid::field("orders", problem)));
        }
        for order in &orders {
            check(order)?;
        }
        if let Some(last) = self.last_batch
            && call.now - last < APART
        {
            let wait = APART - (call.now - last);
            let message = "send batches ten seconds apart";
            return Err(refused(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait));
        }
        self.last_batch = Some(call.now);
        self.orders.extend(orders.iter().map(shown));
        let taken = orders
            .iter()
            .map(|order| order.required_text("orderReference"));
        let taken: Vec<_> = taken
            .map(|order| json!({ "orderReference": order }))
            .collect();
        Ok(Answer::json(
            StatusCode::OK,
            json!({ "successfulOrders": taken }),
        ))
    }
}

/// Checks what the list of fields can't say.
fn check(order: &Fields) -> Result<(), Answer> {
    let by_publisher = order.which(&["publisherId", "clickTime"]).len();
    if by_publisher == 1 {
        let problem = "goes with clickTime";
        return Err(invalid(&Invalid::field("orders.publisherId", problem)));
    }
    if by_publisher == 0 && order.which(&["awc", "voucher"]).is_empty() {
        let problem = "or voucher is required";
        return Err(invalid(&Invalid::field("orders.awc", problem)));
    }
    if order.text("awc").is_some_and(is_unknown) {
        return Err(invalid(&Invalid::field("orders.awc", "is nobody's")));
    }
    let known = [
        required("code", Kind::Text),
        required("amount", Kind::Amount),
    ];
    let groups = order.objects("commissionGroups", &known);
    groups.map_err(|error| invalid(&error))?;
    Ok(())
}

fn shown(order: &Fields) -> String {
    let reference = order.required_text("orderReference");
    let reference: String = reference.chars().take(MAX_REFERENCE).collect();
    let amount = order.amount("amount").unwrap_or_default();
    let currency = order.text("currency").unwrap_or_default();
    let credit = order.text("awc").or(order.text("voucher"));
    let credit = credit.unwrap_or("a publisher");
    format!("sale {reference}: {amount} {currency} by {credit}")
}

impl StandIn for Awin {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        if call.header("x-api-key") != Some(&self.account.api_key) {
            return Err(refused(StatusCode::UNAUTHORIZED, "invalid API key"));
        }
        let route = call.route("").unwrap_or_default();
        let path: Vec<_> = route.1.iter().map(String::as_str).collect();
        match (route.0, &path[..]) {
            ("POST", ["s2s", "advertiser", id, "orders"]) if *id == self.account.account_id => {
                self.batch(call)
            }
            _ => Err(refused(StatusCode::NOT_FOUND, "no such resource")),
        }
    }

    fn records(&self) -> Records {
        vec![("Conversions", self.orders.clone())]
    }
}

fn invalid(invalid: &Invalid) -> Answer {
    let message = format!("{} {}", invalid.name(), invalid.problem());
    refused(StatusCode::BAD_REQUEST, &message)
}

fn refused(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, json!({ "message": message }))
}
