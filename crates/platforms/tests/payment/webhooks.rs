//! Signatures of all three providers, and what bodies are refused.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tower_referral_platforms::payment::{Event, Reason, paddle, polar, stripe};
use tower_referral_platforms::{ConfigError, WebhookError};

use crate::support::{
    NOW, SECRET, clock, hex, hmac, paddle as paddle_webhook, polar as polar_webhook,
    stripe as stripe_webhook,
};

const BODY: &[u8] =
    br#"{"type":"product.created","event_type":"product.created","livemode":true,"data":{}}"#;

type Read<'w> = &'w dyn Fn(&HeaderMap, &[u8]) -> Result<Event, WebhookError>;
type Sign = fn(&str, i64, &[u8]) -> HeaderMap;

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let value = HeaderValue::try_from(value).expect("a value");
        (HeaderName::from_static(name), value)
    });
    pairs.collect()
}

fn stripe_signature(secret: &str, at: i64, body: &[u8]) -> String {
    let content = [format!("{at}.").as_bytes(), body].concat();
    hex(&hmac(secret.as_bytes(), &content))
}

fn sign_stripe(secret: &str, at: i64, body: &[u8]) -> HeaderMap {
    let v1 = stripe_signature(secret, at, body);
    headers(&[("stripe-signature", format!("t={at},v1={v1},v0=00"))])
}

fn sign_paddle(secret: &str, at: i64, body: &[u8]) -> HeaderMap {
    let content = [format!("{at}:").as_bytes(), body].concat();
    let h1 = hex(&hmac(secret.as_bytes(), &content));
    headers(&[("paddle-signature", format!("ts={at};h1={h1}"))])
}

fn sign_polar(secret: &str, at: i64, body: &[u8]) -> HeaderMap {
    let content = [format!("msg_1.{at}.").as_bytes(), body].concat();
    let v1 = STANDARD.encode(hmac(secret.as_bytes(), &content));
    headers(&[
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", at.to_string()),
        ("webhook-signature", format!("v1,{v1}")),
    ])
}

fn each(test: impl Fn(Read<'_>, Sign)) {
    let (stripe, paddle, polar) = (stripe_webhook(), paddle_webhook(), polar_webhook());
    test(&|headers, body| stripe.read(headers, body), sign_stripe);
    test(&|headers, body| paddle.read(headers, body), sign_paddle);
    test(&|headers, body| polar.read(headers, body), sign_polar);
}

#[test]
fn a_signed_webhook_is_taken_and_no_other() {
    each(|read, sign| {
        let signed = sign(SECRET, NOW, BODY);
        assert_eq!(read(&signed, BODY), Ok(Event::Ignored(Reason::OtherType)));
        assert_eq!(
            read(&sign("whsec_other", NOW, BODY), BODY),
            Err(WebhookError::BadSignature)
        );
        let mut changed = BODY.to_vec();
        changed[10] ^= 1;
        assert_eq!(read(&signed, &changed), Err(WebhookError::BadSignature));
        assert_eq!(read(&HeaderMap::new(), BODY), Err(WebhookError::Unsigned));
        let mut twice = signed.clone();
        for (name, value) in &signed {
            twice.append(name, value.clone());
        }
        assert_eq!(read(&twice, BODY), Err(WebhookError::Unsigned));
        assert_eq!(WebhookError::Unsigned.status(), StatusCode::BAD_REQUEST);
    });
}

#[test]
fn an_old_signature_and_one_from_the_future_are_refused() {
    each(|read, sign| {
        for (at, is_taken) in [
            (NOW - 300, true),
            (NOW + 300, true),
            (NOW - 301, false),
            (NOW + 301, false),
        ] {
            let result = read(&sign(SECRET, at, BODY), BODY);
            assert_eq!(result.is_ok(), is_taken, "{at}");
            if !is_taken {
                assert_eq!(result, Err(WebhookError::NotRecent));
            }
        }
        let extremes = [i64::MAX, i64::MIN];
        for at in extremes {
            assert_eq!(
                read(&sign(SECRET, at, BODY), BODY),
                Err(WebhookError::NotRecent)
            );
        }
    });
    let patient = stripe_webhook().with_tolerance(Duration::from_secs(3600));
    assert!(
        patient
            .read(&sign_stripe(SECRET, NOW - 3600, BODY), BODY)
            .is_ok()
    );
}

#[test]
fn several_secrets_and_several_signatures_while_one_is_rolled() {
    let stripe = stripe_webhook().with_secret("whsec_new").expect("a secret");
    assert!(
        stripe
            .read(&sign_stripe("whsec_new", NOW, BODY), BODY)
            .is_ok()
    );
    assert!(stripe.read(&sign_stripe(SECRET, NOW, BODY), BODY).is_ok());
    // Stripe and Paddle send one signature for each secret, Polar separates them by a space.
    let (new, old) = ("whsec_new", SECRET);
    let both = [new, old].map(|secret| stripe_signature(secret, NOW, BODY));
    let header = format!("t={NOW},v1={},v1={}", both[0], both[1]);
    let header = headers(&[("stripe-signature", header)]);
    assert!(stripe_webhook().read(&header, BODY).is_ok());
    let join = |sign: Sign, name: &str, by: &str| {
        let mut first = sign(new, NOW, BODY);
        let second = sign(old, NOW, BODY);
        let texts = [&first, &second].map(|it| it[name].to_str().expect("text").to_owned());
        let second = texts[1].split_once(by).map_or(&*texts[1], |(_, rest)| rest);
        let value = format!("{}{by}{second}", texts[0]);
        first.insert(
            HeaderName::try_from(name).expect("a name"),
            value.parse().expect("a value"),
        );
        first
    };
    let header = join(sign_paddle, "paddle-signature", ";");
    assert!(paddle_webhook().read(&header, BODY).is_ok());
    let header = join(sign_polar, "webhook-signature", " ");
    assert!(polar_webhook().read(&header, BODY).is_ok());
}

#[test]
fn broken_headers_are_no_signature() {
    let good = stripe_signature(SECRET, NOW, BODY);
    for header in [
        String::new(),
        format!("v1={good}"),
        format!("t={NOW}"),
        format!("t={NOW},v1="),
        format!("t={NOW},v1={}", &good[1..]),
        format!("t={NOW},v1={}x", &good[1..]),
        format!("t={NOW},v0={good}"),
        format!("t={NOW} v1={good}"),
        format!("t={NOW},v1={}", good.to_uppercase()),
    ] {
        let result = stripe_webhook().read(&headers(&[("stripe-signature", header.clone())]), BODY);
        assert_eq!(result, Err(WebhookError::Unsigned), "{header}");
    }
    for header in [
        format!("t=x,v1={good}"),
        format!("t=,v1={good}"),
        format!("t={NOW}0,v1={good}"),
    ] {
        let result = stripe_webhook().read(&headers(&[("stripe-signature", header.clone())]), BODY);
        assert_eq!(result, Err(WebhookError::BadSignature), "{header}");
    }
    let mut not_text = HeaderMap::new();
    not_text.insert(
        "stripe-signature",
        HeaderValue::from_bytes(b"t=1\xff").expect("a value"),
    );
    assert_eq!(
        stripe_webhook().read(&not_text, BODY),
        Err(WebhookError::Unsigned)
    );
}

#[test]
fn polars_key_is_the_secret_as_it_is_shown() {
    let secret = "polar_whs_c2VjcmV0";
    let webhook = polar::Webhook::new(secret)
        .expect("a secret")
        .with_clock(clock);
    assert!(webhook.read(&sign_polar(secret, NOW, BODY), BODY).is_ok());
    let decoded = sign_polar("secret", NOW, BODY);
    assert_eq!(
        webhook.read(&decoded, BODY),
        Err(WebhookError::BadSignature)
    );
}

#[test]
fn blanks_around_a_secret_are_no_part_of_it_and_an_empty_one_is_refused() {
    let webhook = stripe::Webhook::new(format!("{SECRET}\n"))
        .expect("a secret")
        .with_clock(clock);
    assert!(webhook.read(&sign_stripe(SECRET, NOW, BODY), BODY).is_ok());
    for empty in ["", " \n"] {
        assert_eq!(
            stripe::Webhook::new(empty).err(),
            Some(ConfigError::EmptyWebhookSecret)
        );
        assert_eq!(
            paddle::Webhook::new(empty).err(),
            Some(ConfigError::EmptyWebhookSecret)
        );
        assert_eq!(
            polar::Webhook::new(empty).err(),
            Some(ConfigError::EmptyWebhookSecret)
        );
        assert_eq!(
            stripe_webhook().with_secret(empty).err(),
            Some(ConfigError::EmptyWebhookSecret)
        );
    }
    let shown = format!("{webhook:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn a_body_of_any_size_and_depth_has_an_answer() {
    each(|read, sign| {
        let large = vec![b' '; (1 << 20) + 1];
        let result = read(&sign(SECRET, NOW, &large), &large);
        assert_eq!(result, Err(WebhookError::TooLarge));
        assert_eq!(
            WebhookError::TooLarge.status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        for body in [
            "",
            "null",
            "[]",
            "1",
            "\"event\"",
            "{",
            "{}",
            r#"{"type":null,"event_type":{}}"#,
            "\u{feff}{}",
        ] {
            let result = read(&sign(SECRET, NOW, body.as_bytes()), body.as_bytes());
            assert_eq!(result, Err(WebhookError::Unreadable), "{body}");
        }
        let not_text = [b"{\"type\":\"".as_slice(), &[0xff; 4], b"\"}"].concat();
        let result = read(&sign(SECRET, NOW, &not_text), &not_text);
        assert_eq!(result, Err(WebhookError::Unreadable));
        // Deep in a field that is skipped, in one that is read, and in the lists among these.
        for name in [
            "other",
            "metadata",
            "custom_data",
            "customer",
            "id",
            "lines",
            "items",
            "payments",
        ] {
            let open = "[{\"a\":".repeat(80_000);
            let close = "}]".repeat(80_000);
            let deep = format!(
                r#"{{"type":"invoice.paid","event_type":"transaction.completed","data":{{"object":{{"{name}":{open}1{close}}},"{name}":{open}1{close}}}}}"#
            );
            let result = read(&sign(SECRET, NOW, deep.as_bytes()), deep.as_bytes());
            assert!(
                result.is_ok()
                    || result == Err(WebhookError::TooLarge)
                    || result == Err(WebhookError::Unreadable),
                "{name}: {result:?}"
            );
        }
    });
}
