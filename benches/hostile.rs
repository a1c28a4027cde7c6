//! What the most expensive requests that we could think of cost for each byte, through a layer with everything
//! configured that reads them.
//!
//! Prints, for each, its bytes, the nanoseconds that the layer and a handler that asks add, and the quotient:
//! the difference of the medians of 1,000 requests with the layer and of 1,000 without. What a platform's
//! answers cost is measured by `crates/platforms/benches/answers.rs`.

mod traffic;

use std::hint::black_box;
use std::time::Instant;

use http::Request;
use tower::{Layer, Service};
use tower_referral::click::{ClickRequest, Clicks};
use tower_referral::{ClickId, Program, ReferralLayer};

use crate::traffic::{BROWSER_URI, Visit, asking, bare, cookie_of, finish};

/// The longest part of a request that most servers take, in bytes.
const LONG: usize = 16 * 1024;

fn main() {
    // As criterion has it: once, to see that it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { 1_000 };
    let layer = layer();
    println!("| request | bytes | ns | ns per byte |\n|---|---:|---:|---:|");
    for (name, bytes, visit) in requests(&layer) {
        let with = median(layer.layer(asking()), &visit, rounds);
        let without = median(bare(), &visit, rounds);
        let added = with.saturating_sub(without);
        let per_byte = added as f64 / bytes as f64;
        println!("| {name} | {bytes} | {added} | {per_byte:.2} |");
    }
}

/// Builds a layer with everything configured that reads a request.
fn layer() -> ReferralLayer {
    let clicks = Clicks::from_fn(async |_: ClickRequest| "c".parse::<ClickId>());
    let program = Program::default()
        .click_params(["dub_id"])
        .extra_params(["utm_source", "utm_campaign"])
        .fallback_cookies(["tap_vid"]);
    let builder = traffic::builder().program(program).stand_down("/checkout");
    builder.clicks(clicks).build().expect("a layer")
}

/// Each with its name and its hostile bytes.
fn requests(layer: &ReferralLayer) -> Vec<(&'static str, usize, Visit)> {
    let landing = Visit::browser("", "/pricing?aff=PARTNER_123");
    let valid = cookie_of(&finish(layer.layer(bare()).call(landing.request())));
    // A base64url text may end in either.
    let last = if valid.ends_with('A') { 'Q' } else { 'A' };
    let forged = format!("{}{last}", &valid[..valid.len() - 1]);
    let cookies = [
        ("forged cookies", filled(&format!("{forged}; "), LONG)),
        (
            "our cookie's name, empty",
            filled("__Host-referral=;", LONG),
        ),
        ("our cookie's name, nearly", filled("__Host-referra;", LONG)),
        (
            "our cookie's name, in a value",
            filled("x__Host-referral=;", LONG),
        ),
        (
            "another script's cookie, no key",
            filled("tap_vid=%zz;", LONG),
        ),
    ];
    let queries = [
        ("our parameter, no key", filled("aff=%zz&", LONG)),
        ("our parameter, encoded", filled("%61%66f=%&", LONG)),
        ("our parameter, nearly", filled("%61%66%66%66=K&", LONG)),
        (
            "our parameter, mangled",
            format!("{}aff=K", "amp;".repeat(2_000)),
        ),
        ("one long value", format!("aff={}", filled("x", 8_000))),
        (
            "one value of invisible characters",
            format!("aff={}", filled("%E2%80%8B", 8_000)),
        ),
        ("pairs without end", filled("a&", LONG)),
        ("no pairs at all", filled("&", LONG)),
    ];
    let headers = [
        (
            "a user agent like many crawlers'",
            "user-agent",
            filled("bobotspide", LONG),
        ),
        (
            "a long referrer",
            "referer",
            format!("https://{}", filled("shop.example:", LONG)),
        ),
        ("a long host", "host", filled("shop.example:", LONG)),
        (
            "a long list in `Cache-Control`",
            "cache-control",
            filled("max-age=1,", LONG),
        ),
        ("a long list in `Upgrade`", "upgrade", filled("h2c,", LONG)),
    ];
    let path = filled("/%2e%2e/%2fcheckout", LONG);

    let mut all = Vec::new();
    for (name, cookies) in cookies {
        let visit = Visit::browser("", BROWSER_URI).with_cookies(&cookies);
        all.push((name, cookies.len(), visit));
    }
    for (name, query) in queries {
        let visit = Visit::browser("", &format!("/pricing?{query}"));
        all.push((name, query.len(), visit));
    }
    for (name, header, value) in &headers {
        let visit = Visit::new("", "/pricing?aff=K", &[(header, value)]);
        all.push((name, value.len(), visit));
    }
    let visit = Visit::browser("", &format!("{path}?aff=K"));
    all.push(("a path of escapes", path.len(), visit));
    all
}

/// As many of them as fit.
fn filled(part: &str, len: usize) -> String {
    part.repeat(len / part.len())
}

/// Returns the median time of one call in nanoseconds, without the time to build its request.
fn median<S>(mut service: S, visit: &Visit, rounds: usize) -> u64
where
    S: Service<Request<()>, Error: std::fmt::Debug>,
{
    let mut all: Vec<_> = (0..rounds)
        .map(|_| {
            let request = visit.request();
            let start = Instant::now();
            drop(black_box(finish(service.call(request))));
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
        })
        .collect();
    all.sort_unstable();
    all[rounds / 2]
}
