//! A stand-in for the affiliate platform, inside the shop's own process and on a port of its own.
//! It takes what the real one takes and refuses the rest, and shows at `/` what it received, as a
//! page or, where `Accept` asks for it, as JSON. A shop talks to the real platform and has no such
//! file.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::answer::{Accept, Format};
use crate::options::Platform;
use crate::pages::STYLE;

/// How many calls are shown.
const MAX_CALLS: usize = 100;
/// No call is longer, in bytes.
const MAX_BODY_LEN: usize = 16 * 1024;
/// Keys that begin like this are nobody's, so that one can see what comes of a mistyped link.
const UNKNOWN: &str = "UNKNOWN";

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
            _ => "v1/tracking",
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

/// The answer to a call, or to one that is refused.
type Verdict = Result<Answer, Answer>;

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
    let number = ledger.received;
    let verdict = match (desk.platform, &method, uri.path()) {
        (Platform::Partnac, &Method::POST, "/v1/tracking/clicks") => {
            partnac_click(&desk.api_key, &headers, &body, number)
        }
        // With a slash at the end, as all of its paths.
        (Platform::Tapfiliate, &Method::POST, "/1.6/clicks/") => {
            tapfiliate_click(&desk.api_key, &headers, &body, number)
        }
        _ => Err(Answer::refusal(StatusCode::NOT_FOUND, "no such resource")),
    };
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

/// Neither the statuses nor the shape of the answer are documented: these are likely ones.
fn partnac_click(api_key: &str, headers: &HeaderMap, body: &[u8], number: u64) -> Verdict {
    let expected = format!("Bearer {api_key}");
    if headers
        .get(header::AUTHORIZATION)
        .is_none_or(|value| *value != *expected)
    {
        return Err(Answer::refusal(StatusCode::UNAUTHORIZED, "invalid API key"));
    }
    let fields = read_fields(
        headers,
        body,
        &[
            ("partnership_code", Kind::RequiredText),
            ("click_url", Kind::RequiredText),
            ("referrer_url", Kind::Text),
            ("screen_width", Kind::Integer),
            ("ip_address", Kind::Text),
        ],
    )?;
    if is_unknown(&fields, "partnership_code") {
        let message = "partnership not found";
        return Err(Answer::refusal(StatusCode::NOT_FOUND, message));
    }
    let click = json!({ "data": { "click_id": format!("clk_{number:06}") } });
    Ok(Answer::json(StatusCode::CREATED, click))
}

fn tapfiliate_click(api_key: &str, headers: &HeaderMap, body: &[u8], number: u64) -> Verdict {
    match headers.get("x-api-key") {
        Some(key) if *key == *api_key => {}
        Some(_) => return Err(Answer::refusal(StatusCode::UNAUTHORIZED, "invalid API key")),
        None => {
            return Err(Answer {
                status: StatusCode::UNAUTHORIZED,
                body: AnswerBody::Page("<!DOCTYPE html><title>Unauthorized</title>"),
            });
        }
    }
    let fields = read_fields(
        headers,
        body,
        &[
            ("referral_code", Kind::RequiredText),
            ("source_id", Kind::Text),
            ("meta_data", Kind::Object),
            ("referrer", Kind::Text),
            ("landing_page", Kind::Text),
            ("user_agent", Kind::Text),
            ("ip", Kind::Text),
        ],
    )?;
    if is_unknown(&fields, "referral_code") {
        let message = "referral_code not found";
        return Err(Answer::refusal(StatusCode::NOT_FOUND, message));
    }
    let click = json!({ "id": format!("{number:06}-0afe3c") });
    Ok(Answer::json(StatusCode::CREATED, click))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequiredText,
    Text,
    Integer,
    Object,
}

/// The JSON object of a call. What the real platforms ignore, an unknown field for one, is refused
/// here: a client that sends it is mistaken.
fn read_fields(
    headers: &HeaderMap,
    body: &[u8],
    known: &[(&str, Kind)],
) -> Result<Map<String, Value>, Answer> {
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value != "application/json")
    {
        let message = "send application/json";
        return Err(Answer::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(body) else {
        let message = "the body is not a JSON object";
        return Err(Answer::refusal(StatusCode::BAD_REQUEST, message));
    };
    for (name, value) in &fields {
        let is_right = match known.iter().find(|(known, _)| known == name) {
            Some((_, Kind::RequiredText | Kind::Text)) => value.is_string(),
            Some((_, Kind::Integer)) => value.is_u64(),
            Some((_, Kind::Object)) => value.is_object(),
            None => return Err(Answer::invalid(name, "is unknown")),
        };
        if !is_right {
            return Err(Answer::invalid(name, "is of the wrong type"));
        }
    }
    for (name, kind) in known {
        let is_there = fields.get(*name).is_some_and(|value| value != "");
        if *kind == Kind::RequiredText && !is_there {
            return Err(Answer::invalid(name, "is required"));
        }
    }
    Ok(fields)
}

fn is_unknown(fields: &Map<String, Value>, name: &str) -> bool {
    let code = fields.get(name).and_then(Value::as_str);
    code.is_some_and(|code| code.starts_with(UNKNOWN))
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
                    p {
                        "The shop tells it of every landing that wins, but not of visits by tools "
                        "and crawlers: with curl, add " code { "-A Mozilla/5.0" } "."
                    }
                    @for call in &ledger.calls { (call_card(call)) }
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
