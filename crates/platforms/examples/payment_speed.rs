//! How long it takes to verify and read an event of 10 KiB, for each provider, and to book it in
//! memory.
//!
//! ```sh
//! cargo run --release -p tower-referral-platforms --features stripe,paddle,polar --example payment_speed
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;
use tower_referral_platforms::payment::{MemoryBooks, book, paddle, polar, stripe};

const SECRET: &str = "whsec_example";
const SIZE: usize = 10 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at = OffsetDateTime::now_utc().unix_timestamp();
    let tolerance = Duration::from_secs(3600);

    let webhook = stripe::Webhook::new(SECRET)?.with_tolerance(tolerance);
    let body = filled(stripe_event());
    let mac = mac(&[format!("{at}.").as_bytes(), &body]);
    let headers = headers(&[("stripe-signature", format!("t={at},v1={}", hex(&mac)))])?;
    measure("stripe", &body, || webhook.read(&headers, &body).is_ok());

    let event = webhook.read(&headers, &body)?;
    measure("stripe, booked in memory", &body, || {
        let mut books = MemoryBooks::new();
        let booked = std::pin::pin!(book(&mut books, &event));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        Future::poll(booked, &mut context).is_ready()
    });

    let webhook = paddle::Webhook::new(SECRET)?.with_tolerance(tolerance);
    let body = filled(paddle_event());
    let mac = self::mac(&[format!("{at}:").as_bytes(), &body]);
    let headers = self::headers(&[("paddle-signature", format!("ts={at};h1={}", hex(&mac)))])?;
    measure("paddle", &body, || webhook.read(&headers, &body).is_ok());

    let webhook = polar::Webhook::new(SECRET)?.with_tolerance(tolerance);
    let body = filled(polar_event());
    let mac = self::mac(&[format!("msg_1.{at}.").as_bytes(), &body]);
    let mac = base64::engine::general_purpose::STANDARD.encode(mac);
    let headers = self::headers(&[
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", at.to_string()),
        ("webhook-signature", format!("v1,{mac}")),
    ])?;
    measure("polar", &body, || webhook.read(&headers, &body).is_ok());
    Ok(())
}

/// Prints the median of some hundred batches.
fn measure(name: &str, body: &[u8], mut run: impl FnMut() -> bool) {
    const BATCH: u32 = 50;
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                assert!(black_box(run()));
            }
            start.elapsed() / BATCH
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1e6;
    println!("{name:26} {:6} bytes {median:8.2} µs", body.len());
}

/// Adds lines of an invoice, or items, until the event has its size.
fn filled(mut event: Value) -> Vec<u8> {
    let mut lines = Vec::new();
    loop {
        let body = event.to_string().into_bytes();
        if body.len() >= SIZE {
            return body;
        }
        lines.push(json!({
            "id": format!("il_{}", lines.len()), "object": "line_item", "amount": 1000,
            "currency": "eur", "description": "1 × Plan (at €10.00 / month)", "discountable": true,
            "discount_amounts": [], "period": { "start": 1_700_000_000, "end": 1_702_592_000 },
            "metadata": { "customer": "ann", "seat": "17" }, "proration": false, "quantity": 1,
            "tax_amounts": [{ "amount": 190, "inclusive": false, "tax_rate": "txr_1" }],
        }));
        let data = &mut event["data"];
        let object = if data["object"].is_object() {
            &mut data["object"]
        } else {
            data
        };
        object["lines"] = json!({ "object": "list", "data": lines });
    }
}

fn stripe_event() -> Value {
    json!({
        "id": "evt_1", "object": "event", "created": 1_700_000_000, "livemode": true,
        "type": "invoice.paid",
        "data": { "object": {
            "id": "in_1", "object": "invoice", "currency": "eur", "customer": "cus_1",
            "amount_paid": 11_900, "total": 11_900, "total_excluding_tax": 10_000,
            "parent": { "subscription_details": {
                "subscription": "sub_1", "metadata": { "customer": "ann" },
            } },
        } },
    })
}

fn paddle_event() -> Value {
    json!({
        "event_type": "transaction.completed", "occurred_at": "2026-11-26T10:00:00Z",
        "data": {
            "id": "txn_1", "currency_code": "EUR", "custom_data": { "customer": "ann" },
            "details": { "totals": { "total": "11900", "tax": "1900", "grand_total": "11900" } },
        },
    })
}

fn polar_event() -> Value {
    json!({
        "type": "order.paid", "timestamp": "2026-11-26T10:00:00Z",
        "data": {
            "id": "ord-1", "currency": "eur", "net_amount": 10_000, "tax_amount": 1_900,
            "total_amount": 11_900, "metadata": { "customer": "ann" },
        },
    })
}

fn mac(content: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes any key");
    content.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn headers(pairs: &[(&'static str, String)]) -> Result<HeaderMap, Box<dyn std::error::Error>> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, value.parse()?);
    }
    Ok(headers)
}
