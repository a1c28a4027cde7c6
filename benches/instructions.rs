//! The requests of the four cases, one kind at a time, for an instruction count.
//!
//! `.ci/instructions.py` runs this under valgrind's callgrind, which counts what happens inside of
//! `measured`, and compares with `instructions.toml`. Run by itself, it only shows that it runs.
//!
//! What is counted is `call`, the polling of its future to the end, and dropping the response: a
//! request with nothing of ours leaves nothing else behind. The first requests aren't counted,
//! because they set up what is set up once in a process.

mod traffic;

use std::fmt::Debug;
use std::hint::black_box;

use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use sha2::Sha256;
use tower::{Layer, Service};

use crate::traffic::{Visit, asking, bare, finish, referrals, visits};

/// How many calls are counted. `.ci/instructions.py` divides by it.
const COUNTED: usize = 64;
/// How many go before them.
const UNCOUNTED: usize = 16;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["hmac"] => hmac(),
        [case, with @ ("bare" | "referrals")] => {
            let referrals = referrals();
            let mut visits = visits(&referrals).into_iter();
            let visit = visits.find(|visit| visit.name.starts_with(case));
            let visit = visit.expect("a case: a, b, c or d");
            match (with, visit.asks) {
                ("bare", _) => send(bare(), &visit),
                (_, false) => send(referrals.layer(bare()), &visit),
                (_, true) => send(referrals.layer(asking()), &visit),
            }
        }
        _ => println!("needs `hmac`, or a case and `bare` or `referrals`, under callgrind"),
    }
}

fn send<S>(mut service: S, visit: &Visit)
where
    S: Service<Request<()>, Error: Debug>,
{
    for _ in 0..UNCOUNTED {
        drop(black_box(finish(service.call(visit.request()))));
    }
    for _ in 0..COUNTED {
        let request = visit.request();
        measured(|| drop(black_box(finish(service.call(request)))));
    }
}

/// One HMAC-SHA256 of 55 bytes under a prepared key, the unit of the others. Valgrind's processor
/// has no SHA instructions, so this is several times what it is elsewhere.
fn hmac() {
    let prepared = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).expect("a valid key");
    let message = [42; 55];
    let sign = || {
        let mut mac = prepared.clone();
        mac.update(black_box(&message));
        mac.finalize().into_bytes()
    };
    black_box(sign());
    for _ in 0..COUNTED {
        measured(|| {
            black_box(sign());
        });
    }
}

/// Callgrind knows this function by its name.
#[inline(never)]
fn measured(call: impl FnOnce()) {
    call();
}
