//! `GET /` of a stand-in: what it received and what it made of it, as a page or, where `Accept` asks
//! for it, as JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value, json};

use super::{Log, MAX_CALLS, Received, SandboxState, UNKNOWN};
use crate::answer::{Accept, Format};
use crate::pages::STYLE;

pub(super) async fn show(State(state): State<Arc<SandboxState>>, accept: Accept) -> Response {
    let log = state.open();
    match accept.or(Format::Html) {
        Format::Html => {
            let has_clicks = state.platform.has_clicks();
            let name = state.platform.name().unwrap_or_default();
            Html(page(name, has_clicks, &log).into_string()).into_response()
        }
        Format::Json => {
            let calls = log.calls.iter().map(|call| {
                json!({
                    "call": call.line,
                    "body": call.body,
                    "status": call.answer.status.as_u16(),
                    "answer": call.answer.shown(),
                })
            });
            Json(calls.collect::<Value>()).into_response()
        }
    }
}

fn page(name: &str, has_clicks: bool, log: &Log) -> Markup {
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
                        @match log.received {
                            0 => "Nothing received yet",
                            1 => "1 call received",
                            received => { (received) " calls received" }
                        }
                    }
                    p {
                        "This stands in for the platform, inside the shop's own process; nothing "
                        "leaves this machine. Keys that begin with " code { (UNKNOWN) }
                        " are unknown to it."
                    }
                    @if has_clicks {
                        p {
                            "The shop reports every landing that wins, but not those of tools and "
                            "crawlers: with curl, add " code { "-A Mozilla/5.0" } "."
                        }
                    }
                    (records(log))
                    @for call in &log.calls { (call_card(call)) }
                }
            }
        }
    }
}

fn records(log: &Log) -> Markup {
    html! {
        @for (heading, entries) in log.stand_in.records() {
            @if !entries.is_empty() {
                section.card {
                    h2 { (heading) ": " (entries.len()) }
                    ul { @for entry in entries.iter().rev().take(MAX_CALLS) { li { (entry) } } }
                }
            }
        }
    }
}

fn call_card(call: &Received) -> Markup {
    let (hour, minute, second) = call.at.to_hms();
    html! {
        section.card {
            h2 { code { (call.line) } }
            p.small { (format!("{hour:02}:{minute:02}:{second:02} UTC")) }
            (shown(&call.body))
            p.small { "answered with " (call.answer.status) }
            (shown(&call.answer.shown()))
        }
    }
}

/// A body, if there is one.
fn shown(body: &str) -> Markup {
    html! { @if !body.is_empty() { pre { code { (readable(body)) } } } }
}

/// JSON in several lines; anything else as it is.
fn readable(text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .and_then(|json| serde_json::to_string_pretty(&json))
        .unwrap_or_else(|_| text.to_owned())
}
