//! How the cost of a request grows with what a request or a configuration can have more of: others'
//! cookies, somebody else's query, programs, parameter names, kept fields.
//!
//! Measured like the four cases in `layer`, without axum. What isn't ours is to cost as much as a
//! scan through memory, and a program or a name a few nanoseconds; so each group has the service
//! without the layer beside it, which pays for dropping the longer request too.

mod traffic;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion};
use http::Request;
use tower::{Layer, Service};
use tower_referral::{Program, ReferralLayer};

use crate::traffic::{BROWSER_URI, Visit, asking, bare, finish, foreign_cookie, referrals};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    foreign_cookies(&mut criterion);
    query_length(&mut criterion);
    programs(&mut criterion);
    parameter_names(&mut criterion);
    kept_fields(&mut criterion);
    criterion.final_summary();
}

/// Ten to a hundred cookies of others, 60 bytes each.
fn foreign_cookies(criterion: &mut Criterion) {
    let visits = [10, 25, 50, 100].map(|count| {
        let cookies: Vec<_> = (0..count).map(foreign_cookie).collect();
        let visit = Visit::browser("", BROWSER_URI).with_cookies(&cookies.join("; "));
        (count, visit)
    });
    for (count, visit) in visits {
        compare(criterion, "foreign cookies", count, &visit, &referrals());
    }
}

/// Up to 8 KiB of somebody else's query, in pairs of 32 bytes.
fn query_length(criterion: &mut Criterion) {
    for len in [64, 512, 2048, 8192] {
        let query = "filter_colour=dark-blue-and-red&".repeat(len / 32);
        let visit = Visit::browser("", &format!("/pricing?{}", &query[..len - 1]))
            .with_cookies(&traffic::foreign_cookies());
        compare(criterion, "query length", len, &visit, &referrals());
    }
}

/// One to eight programs with a parameter each, none of which is in the query; then the landing
/// of the last one.
fn programs(criterion: &mut Criterion) {
    for count in [1, 2, 4, 8] {
        let program = |at| Program::new(format!("program-{at}")).params([format!("aff{at}")]);
        let layer = (0..count)
            .map(program)
            .fold(
                traffic::builder(),
                tower_referral::ReferralLayerBuilder::program,
            )
            .build()
            .expect("a layer");
        let passing = Visit::browser("", BROWSER_URI).with_cookies(&traffic::foreign_cookies());
        compare(criterion, "programs, passing", count, &passing, &layer);
        let landing = Visit::browser("", &format!("/pricing?aff{}=PARTNER_123", count - 1))
            .with_cookies(&traffic::foreign_cookies());
        compare(criterion, "programs, landing", count, &landing, &layer);
        let line = traffic::cookie_of(&finish(layer.layer(bare()).call(landing.request())));
        let mut returning =
            Visit::browser("", BROWSER_URI).with_cookies(&traffic::line_with(&[&line]));
        returning.asks = true;
        compare(criterion, "programs, returning", count, &returning, &layer);
    }
}

/// One to eight names of one program's parameter, none of which is in the query.
fn parameter_names(criterion: &mut Criterion) {
    for count in [1, 2, 4, 8] {
        let names = (0..count).map(|at| format!("aff{at}"));
        let layer = traffic::builder()
            .program(Program::new("partners").params(names))
            .build()
            .expect("a layer");
        let visit = Visit::browser("", BROWSER_URI).with_cookies(&traffic::foreign_cookies());
        compare(criterion, "parameter names", count, &visit, &layer);
    }
}

/// None to eight fields kept beside the key, 16 bytes each: captured on a landing, and read again.
fn kept_fields(criterion: &mut Criterion) {
    for count in [0, 1, 2, 4, 8] {
        let names: Vec<_> = (0..count).map(|at| format!("sub{at}")).collect();
        let fields = names.iter().map(|name| format!("&{name}=0123456789ab"));
        let uri = format!("/pricing?aff=PARTNER_123{}", fields.collect::<String>());
        let layer = traffic::builder()
            .program(Program::default().extra_params(names.iter().map(String::as_str)))
            .build()
            .expect("a layer");
        let landing = Visit::browser("", &uri).with_cookies(&traffic::foreign_cookies());
        compare(criterion, "kept fields, landing", count, &landing, &layer);
        let line = traffic::cookie_of(&finish(layer.layer(bare()).call(landing.request())));
        let mut returning =
            Visit::browser("", BROWSER_URI).with_cookies(&traffic::line_with(&[&line]));
        returning.asks = true;
        compare(
            criterion,
            "kept fields, returning",
            count,
            &returning,
            &layer,
        );
    }
}

/// The visit without the layer and with it.
fn compare(
    criterion: &mut Criterion,
    group: &str,
    size: usize,
    visit: &Visit,
    layer: &ReferralLayer,
) {
    let mut group = criterion.benchmark_group(group);
    let mut bench = |name: &str, call: &mut dyn FnMut(Request<()>)| {
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            bencher.iter_batched(|| visit.request(), &mut *call, BatchSize::SmallInput);
        });
    };
    let mut service = bare();
    bench("bare", &mut |request| {
        black_box(finish(service.call(request)));
    });
    if visit.asks {
        let mut service = layer.layer(asking());
        bench("referrals", &mut |request| {
            black_box(finish(service.call(request)));
        });
    } else {
        let mut service = layer.layer(bare());
        bench("referrals", &mut |request| {
            black_box(finish(service.call(request)));
        });
    }
    group.finish();
}
