//! A stand-in for the affiliate platform, inside the shop's own process and on a port of its own.
//! It takes what the real one takes and refuses the rest, and shows at `/` what it received, as a
//! page or, where `Accept` asks for it, as JSON. A shop talks to the real platform and has no such
//! folder.

mod call;
mod partnac;
mod partnero;
mod records;
mod tapfiliate;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use self::call::{Call as Asked, UNKNOWN};
use self::records::Records;

use crate::answer::{Accept, Format};
use crate::options::Platform;
use crate::pages::STYLE;

/// How many calls are shown.
const MAX_CALLS: usize = 100;
/// No call is longer, in bytes.
const MAX_BODY_LEN: usize = 16 * 1024;
/// How many of each kind are remembered.
const MAX_RECORDS: usize = 10_000;

/// A running sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) address: SocketAddr,
    /// The platform's base URL; it ends as the real one's does.
    pub(crate) base_url: String,
}

impl Sandbox {
    /// Starts a stand-in for `platform` on a free port. It runs for as long as the process does.
    pub(crate) async fn start(platform: Platform, api_key: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk {
            platform,
            api_key: api_key.to_owned(),
            ledger: Mutex::default(),
        });
        let app = Router::new()
            .route("/", get(show))
            .fallback(receive)
            .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
            .with_state(desk);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let path = match platform {
            Platform::Tapfiliate => "1.6",
            Platform::Partnero | Platform::PartneroFriends => "v1",
            Platform::Partnac | Platform::None => "v1/tracking",
        };
        Ok(Self {
            address,
            base_url: format!("http://{address}/{path}"),
        })
    }
}

/// What the handlers share.
struct Desk {
    platform: Platform,
    api_key: String,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    received: u64,
    /// The newest first.
    calls: VecDeque<Call>,
    records: Records,
}

/// What was received, and what was answered.
struct Call {
    at: OffsetDateTime,
    line: String,
    body: String,
    answer: Answer,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    body: AnswerBody,
}

#[derive(Clone)]
enum AnswerBody {
    Json(Value),
    Page(&'static str),
}

impl Answer {
    fn json(status: StatusCode, json: Value) -> Self {
        let body = AnswerBody::Json(json);
        Self { status, body }
    }

    fn refusal(status: StatusCode, message: &str) -> Self {
        Self::json(status, json!({ "message": message }))
    }

    fn invalid(field: &str, message: &str) -> Self {
        Self::json(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "message": "validation failed", "errors": { field: [message] } }),
        )
    }

    fn page(status: StatusCode, page: &'static str) -> Self {
        let body = AnswerBody::Page(page);
        Self { status, body }
    }

    fn text(&self) -> String {
        match &self.body {
            AnswerBody::Json(json) => json.to_string(),
            AnswerBody::Page(page) => (*page).to_owned(),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self.body {
            AnswerBody::Json(json) => (self.status, Json(json)).into_response(),
            AnswerBody::Page(page) => (self.status, Html(page)).into_response(),
        }
    }
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any call of the platform's interface.
async fn receive(
    State(desk): State<Arc<Desk>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut ledger = desk.open();
    ledger.received += 1;
    let call = Asked {
        method: &method,
        uri: &uri,
        headers: &headers,
        body: &body,
        number: ledger.received,
    };
    let (records, api_key) = (&mut ledger.records, &*desk.api_key);
    let verdict = match desk.platform {
        Platform::Partnac | Platform::None => partnac::answer(records, api_key, &call),
        Platform::Tapfiliate => tapfiliate::answer(records, api_key, &call),
        Platform::Partnero => partnero::answer(records, api_key, false, &call),
        Platform::PartneroFriends => partnero::answer(records, api_key, true, &call),
    };
    records.forget_beyond(MAX_RECORDS);
    let answer = verdict.unwrap_or_else(|refusal| refusal);
    ledger.calls.truncate(MAX_CALLS - 1);
    ledger.calls.push_front(Call {
        at: OffsetDateTime::now_utc(),
        line: format!("{method} {uri}"),
        body: String::from_utf8_lossy(&body).into_owned(),
        answer: answer.clone(),
    });
    answer
}

/// An amount as a JSON number.
fn number(amount: Decimal) -> Value {
    serde_json::from_str(&amount.normalize().to_string()).unwrap_or_default()
}

/// `GET /`: what was received, the newest first.
async fn show(State(desk): State<Arc<Desk>>, accept: Accept) -> Response {
    let ledger = desk.open();
    match accept.or(Format::Html) {
        Format::Html => {
            let name = desk.platform.name().unwrap_or_default();
            Html(page(name, &ledger).into_string()).into_response()
        }
        Format::Json => {
            let calls = ledger.calls.iter().map(|call| {
                json!({
                    "call": call.line,
                    "body": call.body,
                    "status": call.answer.status.as_u16(),
                    "answer": call.answer.text(),
                })
            });
            Json(calls.collect::<Value>()).into_response()
        }
    }
}

fn page(name: &str, ledger: &Ledger) -> Markup {
    let title = format!("A sandbox for {name}");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="3";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { strong { (title) } }
                main {
                    h1 {
                        @match ledger.received {
                            0 => "Nothing received yet",
                            1 => "1 call received",
                            received => { (received) " calls received" }
                        }
                    }
                    p {
                        "This plays the platform, inside the shop's own process; nothing leaves "
                        "this machine. It refuses keys that begin with " code { (UNKNOWN) } "."
                    }
                    @if name != "Partnero" {
                        p {
                            "The shop tells it of every landing that wins, but not of visits by "
                            "tools and crawlers: with curl, add " code { "-A Mozilla/5.0" } "."
                        }
                    }
                    (arrived(&ledger.records))
                    @for call in &ledger.calls { (call_card(call)) }
                }
            }
        }
    }
}

/// What a platform's own pages would show: clicks, customers, conversions and refunds, the newest
/// first.
fn arrived(records: &Records) -> Markup {
    let clicks = records.clicks.iter();
    let clicks = clicks.map(|(id, key)| format!("{id} by {key}")).collect();
    let customers = records.customers.iter().map(|customer| {
        let credit = customer.credit.as_deref().unwrap_or("nobody");
        format!("{} by {credit}", customer.id)
    });
    let conversions = records.conversions.iter().map(|sale| {
        let (kind, id, credit) = (&sale.kind, &sale.external_id, &sale.credit);
        match &**kind {
            // A sign-up, which is worth nothing yet.
            "lead" => format!("{kind} {id} by {credit}"),
            _ => format!("{kind} {id}: {} {} by {credit}", sale.amount, sale.currency),
        }
    });
    let refunds = records.refunds.iter();
    let refunds = refunds.map(|refund| format!("{}: {}", refund.external_id, refund.amount));
    let kinds: [(&str, Vec<String>); 4] = [
        ("Clicks", clicks),
        ("Customers", customers.collect()),
        ("Conversions", conversions.collect()),
        ("Refunds", refunds.collect()),
    ];
    html! {
        @for (kind, records) in kinds {
            @if !records.is_empty() {
                section.card {
                    h2 { (kind) ": " (records.len()) }
                    ul { @for record in records.iter().rev().take(MAX_CALLS) { li { (record) } } }
                }
            }
        }
    }
}

fn call_card(call: &Call) -> Markup {
    let (hour, minute, second) = call.at.to_hms();
    html! {
        section.card {
            h2 { code { (call.line) } }
            p.small { (format!("{hour:02}:{minute:02}:{second:02} UTC")) }
            pre { code { (readable(&call.body)) } }
            p.small { "answered with " (call.answer.status) }
            pre { code { (readable(&call.answer.text())) } }
        }
    }
}

/// JSON in several lines; anything else as it is.
fn readable(text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .and_then(|json| serde_json::to_string_pretty(&json))
        .unwrap_or_else(|_| text.to_owned())
}
