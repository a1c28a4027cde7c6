//! Answers are judged by documented places, whole texts and nothing else, and what is shown of them
//! is short, printable, and without what was sent.

use http::StatusCode;
use tower_referral_platforms::{Advice, Answer, Error};

fn answer(status: u16, body: &str) -> Answer {
    Answer::new(
        StatusCode::from_u16(status).unwrap(),
        body.to_owned().into(),
    )
}

#[test]
fn a_2xx_whose_body_says_no_is_no_success() {
    for body in [
        r#"{"success":false}"#,
        r#"{"ok":false}"#,
        r#"{"status":0}"#,
        r#"{"status":false}"#,
        r#"{"status":"error"}"#,
        r#"{"error":"x"}"#,
        r#"{"error":5}"#,
        r#"{"errors":["x"]}"#,
        r#"{"errors":{"x":[]}}"#,
    ] {
        let error = answer(200, body).accepted().unwrap_err();
        assert!(matches!(error, Error::Rejected { .. }), "{body}");
    }
    for body in [
        "",
        "[]",
        "{}",
        r#"{"status":1,"errors":[ ],"error":null}"#,
        r#"{"errors":{ },"error":""}"#,
        r#"{"status":200}"#,
        r#"{"status":"active"}"#,
    ] {
        assert_eq!(answer(200, body).accepted(), Ok(()), "{body}");
    }
    for body in [
        r#"{"id":"#,
        r#"{"status":2}"#,
        r#"{"status":2.5}"#,
        r#"{"status":2000}"#,
    ] {
        let error = answer(200, body).accepted().unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{body}");
    }
}

#[test]
fn a_page_is_known_by_how_it_begins() {
    for (body, is_html) in [
        ("<!doctype html>", true),
        (" \n<p>", true),
        (r#"{"html":"<p>"}"#, false),
        ("", false),
    ] {
        assert_eq!(answer(200, body).is_html(), is_html, "{body}");
    }
}

#[test]
fn a_text_is_a_mark_if_it_is_the_whole_body_of_a_success() {
    for body in ["OK", " OK\n"] {
        assert!(answer(200, body).shows_text("OK").is_ok(), "{body}");
    }
    for body in ["", "ok", "OK.", "NOT OK", "\"OK\""] {
        let error = answer(200, body).shows_text("OK").unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{body}");
    }
    assert!(
        answer(200, "").shows_text("").is_err(),
        "no text is no mark"
    );
    assert!(answer(500, "OK").shows_text("OK").is_err());
}

#[test]
fn failures_of_the_account_pause_the_platform_and_not_the_report() {
    for (status, body) in [
        (401, "{}"),
        (402, "{}"),
        (403, "<h1>no</h1>"),
        (307, ""),
        (308, ""),
        (429, ""),
        (404, "<!DOCTYPE html>"),
    ] {
        let error = answer(status, body).accepted().unwrap_err();
        assert!(error.pauses_platform(), "{status}");
        let retry = Advice::Retry { after: None };
        assert_eq!(error.advice(false), retry, "{status}");
    }
    for status in [200, 502] {
        let error = answer(status, " <h1>Hello</h1>").accepted().unwrap_err();
        assert_eq!(
            error,
            Error::HtmlPage {
                status: StatusCode::from_u16(status).unwrap()
            }
        );
        assert_eq!(error.advice(false), Advice::Ambiguous);
    }
    for status in [302, 303] {
        let error = answer(status, "").accepted().unwrap_err();
        assert!(error.pauses_platform(), "{status}");
        assert_eq!(error.advice(false), Advice::Ambiguous, "{status}");
        assert!(error.to_string().contains("whether it arrived"), "{error}");
    }
    for (status, body) in [(400, "{}"), (422, r#"{"message":"no"}"#), (500, "oops")] {
        let error = answer(status, body).accepted().unwrap_err();
        assert!(!error.pauses_platform(), "{status}");
    }
}

/// The table of the guide's chapter on answers, for every status there can be.
#[test]
fn every_status_has_its_advice() {
    let retry = Advice::Retry { after: None };
    for status in 100..=999 {
        let [recognised, unrecognised] = match status {
            // It says nothing of what was asked; a 2xx without a mark is for the platform to judge.
            200..=299 => continue,
            // It says that the request wasn't performed.
            301 | 307 | 308 | 401 | 402 | 403 | 429 => [retry; 2],
            408 => [retry, Advice::Ambiguous],
            400..=499 => [Advice::Permanent; 2],
            // Nobody knows whether it was.
            _ => [retry, Advice::Ambiguous],
        };
        for body in ["", "{}", r#"{"message":"no"}"#, "oops"] {
            let error = answer(status, body).accepted().unwrap_err();
            assert_eq!(error.advice(true), recognised, "{status} {body}");
            assert_eq!(error.advice(false), unrecognised, "{status} {body}");
        }
    }
}

#[test]
fn a_refusal_is_compared_from_end_to_end() {
    let duplicate = answer(422, r#"{"message":"Duplicate key","code":7}"#);
    let refusal = duplicate.refusal().unwrap();
    assert!(refusal.message_is("Duplicate key") && refusal.code_is("7"));
    assert_eq!(format!("{refusal:?}"), "Refusal { status: 422, .. }");
    assert!(!refusal.message_is("Duplicate"));
    let coded = answer(404, r#"{"error":{"code":"not_found","message":"gone"}}"#);
    let refusal = coded.refusal().unwrap();
    assert!(refusal.code_is("not_found") && refusal.message_is("gone"));
    let fields = answer(422, r#"{"errors":{"key":["Duplicate key"],"x":["a","b"]}}"#);
    let refusal = fields.refusal().unwrap();
    assert!(refusal.field_is("key", "Duplicate key"));
    assert!(!refusal.field_is("x", "a") && !refusal.is_only_about(&["key"]));
    assert!(refusal.is_only_about(&["key", "x"]));
    for body in ["<h1>Conflict</h1>", "", "[1]"] {
        assert!(!answer(409, body).is_conflict(), "{body}");
    }
    assert!(answer(409, r#"{"a":1}"#).is_conflict());
    assert!(answer(200, r#"{"a":1}"#).refusal().is_none());
    for status in [401, 402, 403, 408, 429, 303, 500] {
        let other = answer(status, r#"{"message":"Duplicate key"}"#);
        assert!(other.refusal().is_none() && !other.is_refused(), "{status}");
    }
}

#[test]
fn an_id_is_visible_and_short_or_none() {
    let id = |body: &str| answer(200, body).id(["id"]).map(|id| id.to_string());
    assert_eq!(id(r#"{"id":7}"#).as_deref(), Some("7"));
    assert_eq!(id(r#"{"data":{"id":"a-1"}}"#).as_deref(), Some("a-1"));
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(60_000));
    for body in [
        r#"{"id":"a\u0000b"}"#,
        r#"{"id":1.5}"#,
        r#"{"id":""}"#,
        &long,
    ] {
        assert_eq!(id(body), None);
    }
}

#[test]
fn hostile_shapes_are_read_to_their_end() {
    let long_name = format!(
        r#"{{"{}":[{}""]}}"#,
        "x".repeat(32_000),
        r#""","#.repeat(10_000)
    );
    let errors = format!(r#"{{"errors":{long_name}}}"#);
    let deep = format!(
        r#"{{"errors":{}1{}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    for body in [&long_name, &errors, &deep] {
        let answer = answer(422, body);
        let Err(Error::Rejected { message, .. }) = answer.accepted() else {
            panic!("refused");
        };
        assert!(message.as_str().chars().count() <= 500);
        assert!(answer.refusal().is_some());
        assert_eq!(answer.id(["id"]), None);
    }
}
