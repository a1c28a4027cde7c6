//! What the layer costs a request, in heap allocations, beside the bare service.
//!
//! Counted from the call to the end of its future, with the request made beforehand. These numbers
//! don't depend on the machine or its load, so a change in them is a change in the code.

mod traffic;

use dhat::HeapStats;
use tower::{Layer, Service};

use crate::traffic::{asking, bare, finish, referrals, route, routers, visits};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let referrals = referrals();

    println!("heap allocations of one request: number (bytes)\n");
    println!("| {:12} | {:12} | {:12} |", "plain", "bare", "referrals");
    println!("|---|---|---|");
    for visit in visits(&referrals) {
        let mut service = bare();
        let without = count(|| visit.request(), |request| finish(service.call(request)));
        let with = if visit.asks {
            let mut service = referrals.layer(asking());
            count(|| visit.request(), |request| finish(service.call(request)))
        } else {
            let mut service = referrals.layer(bare());
            count(|| visit.request(), |request| finish(service.call(request)))
        };
        println!("| {:12} | {without:12} | {with:12} |", visit.name);
    }

    println!(
        "\n| {:12} | {:12} | {:12} | {:12} |",
        "axum", "bare", "no-op layer", "referrals"
    );
    println!("|---|---|---|---|");
    for visit in visits(&referrals) {
        let [bare, no_op, ours] = routers(&visit, &referrals).map(|(_, mut router)| {
            count(|| visit.request(), |request| route(&mut router, request))
        });
        println!("| {:12} | {bare:12} | {no_op:12} | {ours:12} |", visit.name);
    }
}

/// Counts one call, after another one that may have to set something up.
fn count<Q, R>(request: impl Fn() -> Q, mut call: impl FnMut(Q) -> R) -> String {
    drop(call(request()));
    let request = request();
    let before = HeapStats::get();
    let response = call(request);
    let after = HeapStats::get();
    drop(response);
    format!(
        "{} ({})",
        after.total_blocks - before.total_blocks,
        after.total_bytes - before.total_bytes
    )
}
