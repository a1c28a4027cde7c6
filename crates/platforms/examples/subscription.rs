//! A year of a subscription in a second: what Stripe sends, and what each affiliate platform is told
//! because of it. No account, no network.
//!
//! ```sh
//! cargo run -p tower-referral-platforms --features stripe --example subscription
//! ```

use std::convert::Infallible;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;
use tower::{ServiceExt, service_fn};
use tower_referral_platforms::payment::stripe::Webhook;
use tower_referral_platforms::payment::{MemoryBooks, PaymentLink, book};
use tower_referral_platforms::{
    Client, Credit, Partnac, Partnero, Report, ReportApi, SignUp, Tapfiliate,
};

const SECRET: &str = "whsec_example";
const DAY: i64 = 24 * 3600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let webhook = Webhook::new(SECRET)?;
    let mut books = MemoryBooks::new();
    let mut reports = Vec::new();

    // January: Ann signs up by a partner's link. The credit goes into the books.
    let credit = Credit::new("PARTNER_123".parse()?);
    let sign_up = SignUp::new("ann")?.with_credit(credit.clone());
    println!("the shop: ann signed up by the link of PARTNER_123");
    tell_all(&sign_up.into()).await?;
    let link = PaymentLink::of_customer("ann")?.with_credit(credit);
    reports.extend(book(&mut books, &link.into()).await?.reports);

    // The year, as Stripe tells it.
    let start = OffsetDateTime::now_utc().unix_timestamp() - 365 * DAY;
    for (name, object, day) in year() {
        let body = event(name, &object, start + day * DAY);
        let event = webhook.read(&signed(&body), &body)?;
        let booked = book(&mut books, &event).await?;
        let reason = booked.reason.map_or("", |reason| reason.as_str());
        println!(
            "\nstripe: {name} {} {reason}",
            object["id"].as_str().unwrap_or_default()
        );
        for report in &booked.reports {
            tell_all(report).await?;
        }
        reports.extend(booked.reports);
    }
    println!("\n{} reports in {} events", reports.len(), year().len());
    Ok(())
}

/// A trial, a first payment whose events come twice and in the wrong order, ten renewals, an upgrade, a
/// partial refund, a dispute that is won, and a refund that fails.
fn year() -> Vec<(&'static str, Value, i64)> {
    let paid = |month, reason, gross| ("invoice.paid", invoice(month, reason, gross));
    let renewed = |month| paid(month, "subscription_cycle", 3451);
    let refund =
        |name, id, month, amount, status| (name, money_back("refund", id, month, amount, status));
    let dispute = |name, status| (name, money_back("dispute", "dp_1", 5, 3451, status));
    let joined = |month| ("invoice_payment.paid", paid_by(month));
    let session = ("checkout.session.completed", session());
    let mut events = vec![
        (paid(0, "subscription_create", 0), 0),
        (session, 0),
        (joined(1), 14),
        (renewed(1), 14),
        (renewed(1), 14),
        (refund("refund.created", "re_1", 1, 1000, "succeeded"), 20),
    ];
    for month in 2..=11 {
        events.push((renewed(month), 30 * month - 16));
        events.push((joined(month), 30 * month - 16));
    }
    events.extend([
        (dispute("charge.dispute.created", "needs_response"), 320),
        (paid(12, "subscription_update", 1190), 330),
        (dispute("charge.dispute.closed", "won"), 340),
        (refund("refund.created", "re_2", 11, 3451, "pending"), 350),
        (refund("refund.failed", "re_2", 11, 3451, "failed"), 355),
    ]);
    events
        .into_iter()
        .map(|((name, object), day)| (name, object, day))
        .collect()
}

fn session() -> Value {
    json!({
        "id": "cs_1", "object": "checkout.session", "mode": "subscription", "payment_status": "paid",
        "subscription": "sub_1", "customer": "cus_1", "metadata": { "customer": "ann" },
    })
}

fn invoice(month: i64, reason: &str, gross: i64) -> Value {
    json!({
        "id": format!("in_{month}"), "object": "invoice", "billing_reason": reason,
        "customer": "cus_1", "currency": "eur",
        "amount_paid": gross, "total": gross, "total_excluding_tax": gross * 100 / 119,
        "parent": {
            "type": "subscription_details",
            "subscription_details": { "subscription": "sub_1", "metadata": { "customer": "ann" } },
        },
    })
}

fn paid_by(month: i64) -> Value {
    json!({
        "id": format!("inpay_{month}"), "object": "invoice_payment", "invoice": format!("in_{month}"),
        "payment": { "type": "payment_intent", "payment_intent": format!("pi_{month}") },
        "status": "paid",
    })
}

fn money_back(object: &str, id: &str, month: i64, amount: i64, status: &str) -> Value {
    json!({
        "id": id, "object": object, "amount": amount, "currency": "eur", "status": status,
        "payment_intent": format!("pi_{month}"), "charge": format!("ch_{month}"),
    })
}

fn event(name: &str, object: &Value, at: i64) -> Vec<u8> {
    let event = json!({
        "id": "evt_1", "object": "event", "api_version": "2025-03-31.basil", "type": name,
        "created": at, "livemode": true, "data": { "object": object },
    });
    event.to_string().into_bytes()
}

/// What Stripe does before it sends.
fn signed(body: &[u8]) -> HeaderMap {
    let at = OffsetDateTime::now_utc().unix_timestamp();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes any key");
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let v1: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut headers = HeaderMap::new();
    let value = format!("t={at},v1={v1}")
        .try_into()
        .expect("hex is a header's value");
    headers.insert("stripe-signature", value);
    headers
}

async fn tell_all(report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    println!("  {}", report.id());
    tell("partnac", Partnac::new("example")?, report).await;
    tell("partnero", Partnero::new("example")?, report).await;
    tell("tapfiliate", Tapfiliate::new("example")?, report).await;
    Ok(())
}

/// Reports it to a platform that takes everything.
async fn tell<P: ReportApi + Send + Sync + 'static>(
    name: &'static str,
    platform: P,
    report: &Report,
) {
    let answer = move |request: Request<Bytes>| async move {
        let body = String::from_utf8_lossy(request.body());
        println!("    {name}: {} {} {body}", request.method(), request.uri());
        let query = request.uri().query().unwrap_or_default();
        let order = query.strip_prefix("external_id=").unwrap_or_default();
        let answer = match request.method().as_str() {
            "GET" => json!([{ "id": 1, "external_id": order, "amount": 29, "currency": "EUR" }]),
            _ => json!({ "id": 1, "status": 1, "data": { "key": "1", "partner": { "id": "1" } } }),
        };
        let answer = Response::builder()
            .header("content-type", "application/json")
            .body(answer.to_string());
        Ok::<_, Infallible>(answer.expect("a response"))
    };
    let reports = Client::new(platform, service_fn(answer)).reports();
    match reports.oneshot(report.clone().into()).await {
        Ok(receipt) => println!("    {name}: {}", receipt.outcome().as_str()),
        Err(error) => println!("    {name}: {error}"),
    }
}
