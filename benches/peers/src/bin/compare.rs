//! What each contender adds to a request, in time: all of them in turns within one run, beside one
//! HMAC-SHA256, so that what the machine does otherwise meets all alike.
//!
//!     cargo run --release                       prints the tables
//!     cargo run --release -- --svg speed.svg    and draws them
//!     cargo run --release -- --rounds 4000      takes longer, for steadier figures
//!
//! In a round, every contender gets a batch of each kind of request. The figure is the median over
//! the rounds of the batch's mean, and what is added is that less the bare service's.

use std::time::{Duration, Instant};

use peers::{CASES, Case, HAND_WRITTEN, OURS, contenders};

#[path = "../plot.rs"]
mod plot;

/// Requests that are timed together. Their clones are to fit the processor's cache.
const BATCH: usize = 32;
/// Requests before them, for caches and branch predictors.
const WARM_UP: usize = 8;
/// At most so many units for a case, and at least so many times cheaper than the hand-written one.
const TARGETS: [(f64, f64); CASES.len()] = [
    (0.35, 8.0),
    (0.65, 35.0),
    (2.2, 16.0),
    (3.5, 4.5),
    (3.5, 4.5),
];

/// What a contender adds to the bare service of its kind, in nanoseconds.
struct Added {
    name: &'static str,
    cases: [f64; CASES.len()],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut svg) = (1000, None);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--rounds", Some(number)) => rounds = number.parse()?,
            ("--svg", Some(path)) => svg = Some(path),
            _ => return Err("takes --rounds NUMBER and --svg PATH".into()),
        }
    }
    peers::check();

    let (unit, added) = measure(rounds);
    println!("one HMAC-SHA256 of 55 bytes with a prepared key: {unit:.0} ns; {rounds} rounds\n");
    println!("nanoseconds added to the bare service (and in units of that HMAC)\n");
    print_rows(&added, |added| format!("{added:.0} ({:.2})", added / unit));
    println!("\n{OURS}, in units, and times cheaper than {HAND_WRITTEN}\n");
    print_verdict(unit, &added);
    if let Some(path) = svg {
        let rows: Vec<_> = added.iter().map(|row| (row.name, row.cases)).collect();
        std::fs::write(path, plot::svg(unit, &rows))?;
    }
    Ok(())
}

/// The time of one HMAC, and what each contender adds.
fn measure(rounds: usize) -> (f64, Vec<Added>) {
    let mut contenders = contenders();
    let mut hmac = peers::hmac();
    let mut unit = Vec::new();
    let mut times: Vec<[Vec<f64>; CASES.len()]> = vec![Default::default(); contenders.len()];
    for _ in 0..rounds {
        for case in 0..CASES.len() {
            unit.push(time(&mut hmac));
            for (contender, times) in contenders.iter_mut().zip(&mut times) {
                times[case].push(time(&mut contender.cases[case]));
            }
        }
    }
    let times: Vec<[f64; CASES.len()]> = times.into_iter().map(|cases| cases.map(median)).collect();
    let added = contenders
        .iter()
        .zip(&times)
        .filter_map(|(with, times_with)| {
            let bare = contenders.iter().position(|c| Some(c.name) == with.bare)?;
            Some(Added {
                name: with.name,
                cases: std::array::from_fn(|case| times_with[case] - times[bare][case]),
            })
        });
    let added = added.collect();
    (median(unit), added)
}

/// Nanoseconds for one request, in a batch.
fn time(case: &mut Case) -> f64 {
    case(WARM_UP, &mut |send| send());
    let mut took = Duration::ZERO;
    case(BATCH, &mut |send| {
        let start = Instant::now();
        send();
        took = start.elapsed();
    });
    took.as_nanos() as f64 / BATCH as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_rows(rows: &[Added], figure: impl Fn(f64) -> String) {
    let print = |name, [a, b, c, d, e]: [String; CASES.len()]| {
        println!("| {name:28} | {a:>13} | {b:>13} | {c:>13} | {d:>13} | {e:>13} |");
    };
    print("", CASES.map(str::to_owned));
    println!("|---|---:|---:|---:|---:|---:|");
    for row in rows {
        print(row.name, row.cases.map(&figure));
    }
}

fn print_verdict(unit: f64, added: &[Added]) {
    let cases_of = |name| {
        added
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.cases)
    };
    let (Some(ours), Some(theirs)) = (cases_of(OURS), cases_of(HAND_WRITTEN)) else {
        return;
    };
    println!("| {:12} | units | at most | cheaper | at least |", "");
    println!("|---|---:|---:|---:|---:|");
    for (case, (most, least)) in TARGETS.into_iter().enumerate() {
        let (units, factor) = (ours[case] / unit, theirs[case] / ours[case]);
        let mark = |met| if met { "" } else { " missed" };
        println!(
            "| {:12} | {units:.2}{} | {most} | {factor:.1}x{} | {least}x |",
            CASES[case],
            mark(units <= most),
            mark(factor >= least),
        );
    }
}
