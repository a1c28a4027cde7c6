//! A flood: 1,000,000 landings (or as many as `--landings` says), each with a key of its own, while the platform
//! never answers. Checks, and prints, that memory stays bounded, that calls in flight stay
//! within their bound, and that every page is a 200 with its cookie.
//!
//!     cargo bench -p benches --bench click_flood -- --landings 50000
//!
//! Ends with an error if a bound is broken. Memory is read from `/proc`, so on systems without it
//! that one figure is left out, aloud.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, service_fn};
use tower_referral::click::{ClickRequest, Clicks};
use tower_referral::{ClickId, Keyring, ReferralLayer, SigningKey};

const LANDINGS: usize = 1_000_000;
const MAX_IN_FLIGHT: usize = 64;
const MAX_GROWTH: usize = 16 * 1024 * 1024;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test --benches` passes `--test`: a flood is no test.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let landings = landings(std::env::args())?;
    let in_flight = InFlight::default();
    let watched = in_flight.clone();
    let clicks = Clicks::from_fn(move |_: ClickRequest| {
        let call = watched.enter();
        async move {
            let _call = call;
            std::future::pending::<Result<ClickId, Infallible>>().await
        }
    });
    let keyring = Keyring::new(SigningKey::generate("flood")?);
    let layer = ReferralLayer::builder(keyring).clicks(clicks).build()?;
    let mut site = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(()))
    }));

    let before = resident_bytes();
    let start = Instant::now();
    let mut pages = 0;
    for visitor in 0..landings {
        let request = Request::get(format!("/pricing?aff=PARTNER_{visitor}"))
            .header("host", "shop.example")
            .header(
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0",
            )
            .body(())?;
        let response = site.call(request).await?;
        let is_whole = response.status() == StatusCode::OK
            && response.headers().get_all(SET_COOKIE).iter().count() == 1;
        pages += usize::from(is_whole);
        if visitor % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let took = start.elapsed();
    let grown = resident_bytes()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before));
    let most_in_flight = in_flight.most.load(Ordering::SeqCst);
    let in_flight_ended = layer.drain_clicks(Duration::from_secs(10)).await;
    let counts = layer.click_counts();

    println!("landings              {landings}");
    println!("pages 200 with cookie {pages}");
    println!("took                  {took:.1?}");
    println!("clicks started        {}", counts.started);
    println!("clicks dropped        {}", counts.dropped);
    println!("clicks timed out      {}", counts.timed_out);
    println!("calls in flight       {most_in_flight} at most, bound {MAX_IN_FLIGHT}");
    match grown {
        Some(grown) => println!("memory grown          {} KiB", grown / 1024),
        None => println!("memory grown          not measured: this system has no /proc"),
    }

    let held = pages == landings
        && most_in_flight <= MAX_IN_FLIGHT
        && counts.started + counts.dropped == landings as u64
        && in_flight_ended
        && grown.is_none_or(|grown| grown <= MAX_GROWTH);
    if held {
        println!("all bounds held");
        Ok(())
    } else {
        Err("a bound was broken".into())
    }
}

/// Returns how many landings the arguments ask for. Others than `--landings` are cargo's.
fn landings(mut arguments: impl Iterator<Item = String>) -> Result<usize, String> {
    if !arguments.any(|argument| argument == "--landings") {
        return Ok(LANDINGS);
    }
    let number = arguments.next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| "`--landings` needs a number, for instance 50000".to_owned())
}

/// Counts the calls that are under way.
#[derive(Clone, Default)]
struct InFlight {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// A call under way, until it is dropped.
struct Call(Arc<AtomicUsize>);

impl InFlight {
    fn enter(&self) -> Call {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Call(Arc::clone(&self.now))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
