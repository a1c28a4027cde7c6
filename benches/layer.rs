//! What the layer costs a request, in time, beside the bare service in the same run.
//!
//! Measured are `call` and the polling of its future to the end, which is the whole work on one
//! request, dropping the request included. Left out are making the request (a clone of a
//! template) and dropping the response. Every future is ready at its first poll; there is no
//! executor, no socket and no HTTP parser, so that the difference between two lines is the layer.
//!
//! The last two groups are yardsticks: a bare HMAC, and cookies through the `cookie` crate beside
//! what this crate does instead.

mod traffic;

use std::fmt::Write as _;
use std::future::ready;
use std::hint::black_box;
use std::time::Duration;

use cookie::{Cookie, SameSite};
use criterion::{BatchSize, Criterion};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Request};
use memchr::memmem::Finder;
use sha2::Sha256;
use tower::{Layer, Service};
use tower_referral::ClickId;
use tower_referral::click::Clicks;

use crate::traffic::{asking, bare, finish, referrals, route, routers, visits};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    plain(&mut criterion);
    axum(&mut criterion);
    clicks(&mut criterion);
    hmac(&mut criterion);
    cookies(&mut criterion);
    criterion.final_summary();
}

/// A `tower::service_fn`, without and with the layer around it.
fn plain(criterion: &mut Criterion) {
    let referrals = referrals();
    for visit in visits(&referrals) {
        let mut group = criterion.benchmark_group(format!("plain/{}", visit.name));
        let mut bench = |name, call: &mut dyn FnMut(Request<()>)| {
            group.bench_function(name, |bencher| {
                bencher.iter_batched(|| visit.request(), &mut *call, BatchSize::SmallInput);
            });
        };
        let mut service = bare();
        bench("bare", &mut |request| {
            black_box(finish(service.call(request)));
        });
        if visit.asks {
            let mut service = referrals.layer(asking());
            bench("referrals", &mut |request| {
                black_box(finish(service.call(request)));
            });
        } else {
            let mut service = referrals.layer(bare());
            bench("referrals", &mut |request| {
                black_box(finish(service.call(request)));
            });
        }
        group.finish();
    }
}

/// An axum `Router`, without a layer, with one that does nothing, and with ours.
fn axum(criterion: &mut Criterion) {
    let referrals = referrals();
    for visit in visits(&referrals) {
        let mut group = criterion.benchmark_group(format!("axum/{}", visit.name));
        for (name, mut router) in routers(&visit, &referrals) {
            group.bench_function(name, |bencher| {
                bencher.iter_batched(
                    || visit.request(),
                    |request| route(&mut router, request),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

/// A landing that creates a click, beside one that creates none. The click service answers at once,
/// on a thread of the runtime, so that what is measured here is what the page's thread does: ask
/// who is visiting, draw the touch's name, spawn one task.
fn clicks(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let _in_runtime = runtime.enter();
    let answering = |bound| {
        let answer = |_| ready("clk_1".parse::<ClickId>());
        let clicks = Clicks::from_fn(answer)
            .max_in_flight(bound)
            .max_per_second(u32::MAX);
        traffic::builder().clicks(clicks).build().expect("a layer")
    };
    let layers = [
        ("without clicks", referrals()),
        ("with clicks", answering(1 << 20)),
        ("too many in flight", answering(0)),
    ];
    let [.., landing] = visits(&layers[0].1);
    let mut group = criterion.benchmark_group("clicks/d landing");
    for (name, layer) in layers {
        let mut service = layer.layer(bare());
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || landing.request(),
                |request| finish(service.call(request)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// One HMAC-SHA256 of 55 bytes under a prepared key: the least that signing or verifying a usual
/// referral can take.
fn hmac(criterion: &mut Criterion) {
    let prepared = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).expect("a valid key");
    let message = [42; 55];
    criterion.bench_function("hmac-sha256 of 55 bytes", |bencher| {
        bencher.iter(|| {
            let mut mac = prepared.clone();
            mac.update(black_box(&message));
            mac.finalize().into_bytes()
        });
    });
}

/// Reading and writing a cookie through the `cookie` crate, beside the way of this crate. Ours
/// isn't public, so its steps stand here once more.
fn cookies(criterion: &mut Criterion) {
    const NAME: &str = "__Host-referral";
    let value = "x".repeat(130);

    let mut group = criterion.benchmark_group("write a cookie");
    group.bench_function("cookie crate", |bencher| {
        bencher.iter(|| {
            let cookie = Cookie::build((NAME, black_box(value.as_str())))
                .path("/")
                .http_only(true)
                .same_site(SameSite::Lax)
                .secure(true)
                .max_age(time::Duration::days(30));
            HeaderValue::try_from(cookie.to_string())
        });
    });
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let mut line = String::with_capacity(256);
            line.push_str(NAME);
            line.push('=');
            line.push_str(black_box(&value));
            line.push_str("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=");
            let _ = write!(line, "{}", black_box(2_592_000));
            HeaderValue::try_from(line)
        });
    });
    group.finish();

    let lines = [
        ("absent", traffic::foreign_cookies()),
        ("present", traffic::line_with(&[&format!("{NAME}={value}")])),
    ];
    let finder = Finder::new(NAME);
    for (name, line) in lines {
        let mut group = criterion.benchmark_group(format!("find a cookie, {name}"));
        group.bench_function("cookie crate", |bencher| {
            bencher.iter(|| {
                Cookie::split_parse(black_box(line.as_str()))
                    .filter_map(Result::ok)
                    .find(|cookie| cookie.name() == NAME)
                    .map(|cookie| cookie.value().len())
            });
        });
        group.bench_function("ours", |bencher| {
            bencher.iter(|| {
                let line = black_box(line.as_bytes());
                finder.find_iter(line).find_map(|at| {
                    let starts_pair = line[..at]
                        .iter()
                        .rfind(|byte| !matches!(byte, b' ' | b'\t'))
                        .is_none_or(|byte| *byte == b';');
                    let value = line[at + NAME.len()..].strip_prefix(b"=")?;
                    let end = memchr::memchr(b';', value).unwrap_or(value.len());
                    starts_pair.then_some(end)
                })
            });
        });
        group.finish();
    }
}
