//! What the webhooks of all affiliate platforms have in common.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, StatusCode};
use sha2::Sha256;
use tower_referral_platforms::WebhookError;
use tower_referral_platforms::affiliate::{WebhookEvent, dub, partnero, tolt};

const NOW: i64 = 1_800_000_000;
/// Base64, so that it can be a secret of Tolt's.
const OLD: &str = "b2xk";
const NEW: &str = "bmV3";

type Read = Box<dyn Fn(&HeaderMap, &[u8]) -> Result<WebhookEvent, WebhookError>>;
type Sign = fn(&str, &[u8]) -> HeaderMap;

fn hmac(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(content);
    mac.finalize().into_bytes().to_vec()
}

fn headers<const N: usize>(pairs: [(&'static str, String); N]) -> HeaderMap {
    let pairs = pairs.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    HeaderMap::from_iter(pairs)
}

fn hex_header(name: &'static str, secret: &str, body: &[u8]) -> HeaderMap {
    let signature = hmac(secret.as_bytes(), body);
    let signature = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    headers([(name, signature)])
}

fn standard_headers(secret: &str, body: &[u8]) -> HeaderMap {
    let content = [format!("evt_1.{NOW}.").as_bytes(), body].concat();
    let signature = STANDARD.encode(hmac(&STANDARD.decode(secret).unwrap(), &content));
    headers([
        ("webhook-id", "evt_1".to_owned()),
        ("webhook-timestamp", NOW.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ])
}

/// Tests the webhooks of each platform, which have both secrets.
fn each(test: impl Fn(Read, Sign)) {
    let old = format!(" {OLD}\n");
    let dub = dub::Webhook::new(NEW).unwrap().with_secret(&old).unwrap();
    let partnero = partnero::Webhook::new(NEW).unwrap();
    let partnero = partnero.with_secret(&old).unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let tolt = tolt::Webhook::new(NEW).unwrap().with_secret(&old).unwrap();
    let tolt = tolt.with_clock(move || now);
    test(
        Box::new(move |headers, body| dub.read(headers, body)),
        |secret, body| hex_header("dub-signature", secret, body),
    );
    test(
        Box::new(move |headers, body| partnero.read(headers, body)),
        |secret, body| hex_header("signature", secret, body),
    );
    test(
        Box::new(move |headers, body| tolt.read(headers, body)),
        standard_headers,
    );
}

#[test]
fn both_secrets_are_taken_while_one_is_replaced() {
    const BODY: &[u8] = br#"{"event":"sale.created","type":"sale.created"}"#;
    each(|read, sign| {
        for secret in [OLD, NEW] {
            let event = read(&sign(secret, BODY), BODY).unwrap();
            assert_eq!(event.name(), "sale.created");
        }
        let refused = read(&sign("b3RoZXI=", BODY), BODY);
        assert_eq!(refused, Err(WebhookError::BadSignature));
    });
}

#[test]
fn a_body_is_read_up_to_a_mebibyte() {
    each(|read, sign| {
        let mut body = vec![b' '; 1 << 20];
        let refused = read(&sign(NEW, &body), &body);
        assert_eq!(refused, Err(WebhookError::Unreadable));
        body.push(b' ');
        let refused = read(&sign(NEW, &body), &body);
        assert_eq!(refused, Err(WebhookError::TooLarge));
    });
}

#[test]
fn every_error_names_its_fix_and_has_a_status() {
    for error in [
        WebhookError::Unsigned,
        WebhookError::BadSignature,
        WebhookError::NotRecent,
        WebhookError::TooLarge,
        WebhookError::Unreadable,
    ] {
        assert!(error.to_string().contains(": check "), "{error}");
        assert!(error.status().is_client_error(), "{error}");
    }
    let status = WebhookError::TooLarge.status();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}
