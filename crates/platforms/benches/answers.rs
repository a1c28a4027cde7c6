//! What it costs to read a platform's answer: CPU time per KiB for every reader, over answers of the
//! most that is read, in the shapes that hurt readers. Ends with a failure if one of them takes a
//! millisecond or more.
//!
//! ```sh
//! cargo bench -p tower-referral-platforms --all-features --bench answers
//! ```
//!
//! Each figure is the least of several runs: what the reader takes, and not what the machine had to do
//! meanwhile.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::affiliate::partnero::Webhook;
use tower_referral_platforms::affiliate::postback::Body;
use tower_referral_platforms::{
    Affonso, Answer, Awin, Client, Credit, Dub, FirstPromoter, Money, Partnac, Partnero,
    PartneroFriends, Postback, Refund, Report, Sale, SignUp, Tapfiliate, Tolt,
};

/// The longest answer that is read.
const LEN: usize = 64 * 1024;
const LIMIT: Duration = Duration::from_millis(1);
const RUNS: usize = 15;

/// Answers everything with the same status and body.
#[derive(Clone)]
struct Same(StatusCode, Bytes);

impl tower::Service<Request<Bytes>> for Same {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let mut response = Response::new(Full::new(self.1.clone()));
        *response.status_mut() = self.0;
        ready(Ok(response))
    }
}

/// Fills a text up to the length that is read.
fn filled(start: &str, item: impl Fn(usize) -> String, end: &str) -> String {
    let mut text = start.to_owned();
    let mut n = 0;
    loop {
        let next = item(n);
        if text.len() + next.len() + end.len() + 1 > LEN {
            break;
        }
        if n > 0 {
            text.push(',');
        }
        text.push_str(&next);
        n += 1;
    }
    text + end
}

/// The shapes, by name.
fn shapes() -> Vec<(&'static str, String)> {
    let long = "x".repeat(LEN / 2);
    let secret = "PARTNER_1 ORDER-1 ada@shop.example ";
    let deep = 120;
    vec![
        ("plain", r#"{"message":"no"}"#.to_owned()),
        (
            "long name over a list of empty texts",
            filled(
                &format!(r#"{{"errors":{{"{long}":["#),
                |_| r#""""#.into(),
                "]}}",
            ),
        ),
        (
            "wide: many names",
            filled(r#"{"errors":{"#, |n| format!(r#""n{n}":"t""#), "}}"),
        ),
        (
            "deep: objects in objects",
            filled(
                r#"{"errors":["#,
                |_| format!("{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep)),
                "]}",
            ),
        ),
        (
            "deeper than is read",
            format!("{}{}", "[".repeat(LEN / 2), "]".repeat(LEN / 2)),
        ),
        (
            "many secrets",
            format!(
                r#"{{"message":"{}"}}"#,
                secret.repeat(LEN / secret.len() - 1)
            ),
        ),
        (
            "almost a secret, over and over",
            format!(r#"{{"message":"{}"}}"#, "PARTNER_".repeat(LEN / 8 - 4)),
        ),
        (
            "escapes",
            format!(r#"{{"message":"{}"}}"#, r"\u00e4\n".repeat(LEN / 8 - 4)),
        ),
        (
            "at signs",
            format!(r#"{{"message":"{}"}}"#, "@".repeat(LEN - 32)),
        ),
        (
            "the same name again and again",
            filled("{", |_| r#""errors":{"a":"b"}"#.into(), "}"),
        ),
        (
            "data in data",
            filled(
                r#"{"data":{"data":["#,
                |n| format!(r#"{{"id":{n},"external_id":"O{n}","key":"O{n}"}}"#),
                r#"],"id":7}}"#,
            ),
        ),
        (
            "a list of empty lists",
            filled(r#"{"data":["#, |_| "[]".into(), "]}"),
        ),
        ("a list of empty objects", filled("[", |_| "{}".into(), "]")),
        (
            "a list of small objects",
            filled(r#"{"data":["#, |_| r#"{"id":1}"#.into(), "]}"),
        ),
        (
            "the order in every item",
            filled("[", |_| r#"{"a":"ORDER-1"}"#.into(), "]"),
        ),
        ("numbers", filled("[", |_| "1e9".into(), "]")),
        ("no JSON", "\u{202e}ä @ ".repeat(LEN / 8)),
        ("never closed", format!(r#"{{"errors":{{"{long}"#)),
    ]
}

fn reports() -> Vec<(&'static str, Report)> {
    let credit = || {
        let credit = Credit::new("PARTNER_1".parse().expect("a key"));
        credit.with_click_id("clk_1".parse::<tower_referral::ClickId>().expect("an ID"))
    };
    let amount = || Money::new("99.99", "EUR").expect("money");
    let sign_up = SignUp::new("CUSTOMER-1")
        .expect("an ID")
        .with_credit(credit());
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", amount()).expect("IDs");
    vec![
        ("sign-up", sign_up.with_email("ada@shop.example").into()),
        ("sale", sale.with_credit(credit()).into()),
        ("refund", Refund::whole("ORDER-1").expect("an ID").into()),
    ]
}

/// Returns how long it takes at the least, for each answer that is read.
fn least(mut read: impl FnMut() -> usize) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        let answers = read();
        least = least.min(start.elapsed() / answers.max(1) as u32);
    }
    least
}

/// A tracker whose answers are searched for a text and a value.
fn postback() -> Postback {
    Postback::builder("https://tracker.example/sale?c={click_id}&o={order}")
        .sign_ups("https://tracker.example/lead?c={click_id}&u={customer}")
        .without_refunds()
        .success_if(Body::contains("success=true;"))
        .duplicate_if(Body::json("/error_code", 8))
        .build()
        .expect("templates")
}

/// One reader over one shape: the time for each answer.
fn readers(status: StatusCode, body: &str) -> Vec<(String, Duration)> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut times = Vec::new();
    let answer = Answer::new(status, body.clone());
    times.push((
        "Answer".to_owned(),
        least(|| {
            let _ = black_box(answer.accepted());
            let _ = black_box(answer.id(["click_id", "id", "session_id"]));
            if let Some(refusal) = answer.refusal() {
                black_box(refusal.message_is("Duplicate key"));
                black_box(refusal.field_is("key", "Duplicate key"));
                black_box(refusal.is_only_about(&["partner", "partner.key"]));
            }
            1
        }),
    ));
    macro_rules! platform {
        ($name:literal, $platform:expr) => {
            for (kind, report) in reports() {
                let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
                let count = std::sync::Arc::clone(&asked);
                let same = Same(status, body.clone());
                let transport = tower::service_fn(move |request| {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tower::Service::call(&mut same.clone(), request)
                });
                let client = Client::new($platform, transport);
                let time = least(|| {
                    asked.store(0, std::sync::atomic::Ordering::Relaxed);
                    let _ = black_box(runtime.block_on(client.report(report.clone())));
                    asked.load(std::sync::atomic::Ordering::Relaxed)
                });
                times.push((format!("{} {kind}", $name), time));
            }
        };
    }
    platform!("Partnac", Partnac::new("sk-1").expect("a key"));
    platform!("Partnero", Partnero::new("sk-1").expect("a key"));
    platform!("friends", PartneroFriends::new("sk-1").expect("a key"));
    platform!("Tapfiliate", Tapfiliate::new("sk-1").expect("a key"));
    platform!("Affonso", Affonso::new("sk-1", "prg-1").expect("a key"));
    platform!("Awin", Awin::new("sk-1", "1234").expect("a key"));
    platform!("Dub", Dub::new("sk-1").expect("a key"));
    platform!(
        "FirstPromoter",
        FirstPromoter::new("sk-1", "acc-1").expect("a key")
    );
    platform!("Tolt", Tolt::new("sk-1").expect("a key"));
    platform!("Postback", postback());

    // A list that is asked again after a 429 would wait.
    let same = Same(status, body.clone());
    let partnac = Client::new(Partnac::new("sk-1").expect("a key"), same.clone());
    times.push((
        "list of conversions".to_owned(),
        least(|| {
            let items = partnac.list_conversions(Filter::all());
            black_box(runtime.block_on(items.count()));
            // The same page comes twice, and then the list ends.
            if status.is_success() { 2 } else { 1 }
        }),
    ));
    let friends = Client::new(PartneroFriends::new("sk-1").expect("a key"), same);
    times.push((
        "a friend's page".to_owned(),
        least(|| {
            let _ = black_box(runtime.block_on(friends.friend("CUSTOMER-1")));
            1
        }),
    ));
    let webhook = Webhook::new("secret").expect("a secret");
    let mut headers = HeaderMap::new();
    headers.insert("signature", "00".repeat(32).parse().expect("a value"));
    times.push((
        "a webhook".to_owned(),
        least(|| {
            let _ = black_box(webhook.read(&headers, &body));
            1
        }),
    ));
    times
}

fn main() -> ExitCode {
    let mut worst: std::collections::BTreeMap<String, (Duration, f64, &str, u16)> =
        std::collections::BTreeMap::new();
    for (shape, body) in shapes() {
        assert!(body.len() <= LEN, "{shape}: {}", body.len());
        for status in [200, 422, 500] {
            let code = StatusCode::from_u16(status).expect("a status");
            for (reader, time) in readers(code, &body) {
                let per_kib = time.as_secs_f64() * 1e6 / (body.len() as f64 / 1024.0).max(1.0);
                let entry = worst
                    .entry(reader)
                    .or_insert((time, per_kib, shape, status));
                if time > entry.0 {
                    *entry = (time, per_kib, shape, status);
                }
            }
        }
    }
    let mut table = format!("{:22} {:>9} {:>9}  worst shape\n", "reader", "µs", "µs/KiB");
    for (reader, (time, per_kib, shape, status)) in &worst {
        let micros = time.as_secs_f64() * 1e6;
        let _ = writeln!(
            table,
            "{reader:22} {micros:9.1} {per_kib:9.2}  {shape} ({status})"
        );
    }
    print!("{table}");
    let is_slow = worst.values().any(|(time, ..)| *time >= LIMIT);
    // A build without optimisations says nothing.
    if is_slow && !cfg!(debug_assertions) {
        eprintln!("an answer took {LIMIT:?} or more");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
