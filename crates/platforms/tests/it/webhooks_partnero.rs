//! Partnero's webhooks: only those that its secret signed are read.

use http::HeaderMap;
use tower_referral_platforms::affiliate::partnero::Webhook;
use tower_referral_platforms::{ConfigError, WebhookError};

/// Signed by another implementation: `printf %s BODY | openssl dgst -sha256 -hmac whsec_1`.
const BODY: &[u8] = br#"{"event":"transaction.created","created_at":"2026-11-20T12:00:00Z","data":{"key":"ORDER-1"}}"#;
const SIGNATURE: &str = "68127c6ebe460cbeeff93453b6d32aaab730cfb762159c2e3798c3bcebadf8ac";

fn signed(signature: &str) -> HeaderMap {
    HeaderMap::from_iter([("signature".parse().unwrap(), signature.parse().unwrap())])
}

fn webhook() -> Webhook {
    Webhook::new("whsec_1").unwrap()
}

#[test]
fn a_signed_event_is_read() {
    let event = webhook().read(&signed(SIGNATURE), BODY).unwrap();
    assert_eq!(event.name(), "transaction.created");
    assert_eq!(event.created_at(), Some("2026-11-20T12:00:00Z"));
    assert_eq!(event.data()["key"], "ORDER-1");
    assert_eq!(
        format!("{event:?}"),
        r#"WebhookEvent { id: None, name: "transaction.created", .. }"#
    );
}

#[test]
fn anything_else_is_refused() {
    let refusal =
        |signature: &str, body: &[u8]| webhook().read(&signed(signature), body).unwrap_err();
    let (cut, upper) = (&SIGNATURE[..63], SIGNATURE.to_uppercase());
    let (long, named) = (format!("{SIGNATURE}0"), format!("sha256={SIGNATURE}"));
    for unreadable in ["", cut, &upper, &long, &named] {
        let refused = refusal(unreadable, BODY);
        assert_eq!(refused, WebhookError::Unsigned, "{unreadable}");
    }
    assert_eq!(refusal(&"0".repeat(64), BODY), WebhookError::BadSignature);
    let mut changed = BODY.to_vec();
    for at in 0..changed.len() {
        changed[at] ^= 1;
        assert_eq!(refusal(SIGNATURE, &changed), WebhookError::BadSignature);
        changed[at] ^= 1;
    }
    assert_eq!(refusal(SIGNATURE, b""), WebhookError::BadSignature);

    let other = Webhook::new("whsec_2").unwrap();
    let refused = other.read(&signed(SIGNATURE), BODY);
    assert_eq!(refused, Err(WebhookError::BadSignature));

    let mut twice = signed(SIGNATURE);
    twice.append("signature", SIGNATURE.parse().unwrap());
    for headers in [HeaderMap::new(), twice] {
        assert_eq!(webhook().read(&headers, BODY), Err(WebhookError::Unsigned));
    }
}

#[test]
fn a_signed_body_need_not_be_an_event() {
    // `printf %s '{}' | openssl dgst -sha256 -hmac whsec_1`
    let signature = "b8a3a8213627ec317a52d2306a39ba4d9b874a8360c6910fe160d988c48e1d0f";
    let refused = webhook().read(&signed(signature), b"{}");
    assert_eq!(refused, Err(WebhookError::Unreadable));
}

#[test]
fn the_secret_is_never_empty_and_never_shown() {
    assert_eq!(
        Webhook::new("").unwrap_err(),
        ConfigError::EmptyWebhookSecret
    );
    assert!(!format!("{:?}", webhook()).contains("whsec"));
}
