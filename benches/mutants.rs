//! Tries as many mutants of valid cookies as are asked for, on all cores, and prints how many were
//! accepted, which is none, and how many were tried each second.
//!
//! ```text
//! cargo bench -p benches --bench mutants -- --count 1000000000 --seed 1
//! ```
//!
//! First all that single changes and splices make, then stacks of random changes until the count is
//! reached. The same seed tries the same mutants, whatever the number of cores.

#[path = "../tests/mutator/mod.rs"]
mod mutator;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use mutator::{NAMES, Prober, Random, Specimen, single, specimens, spliced, stacked};

/// Stacks of changes that one seed makes.
const CHUNK: u64 = 1 << 16;
/// After how many it says how far it is.
const STRETCH: u64 = 100_000_000;

#[derive(Default)]
struct Totals {
    tried: u64,
    unaltered: u64,
    accepted: Vec<Specimen>,
}

fn main() -> ExitCode {
    let argument = |name: &str| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        let value = arguments.nth(1)?;
        Some(value.parse::<u64>().expect("a number"))
    };
    let count = argument("--count").unwrap_or(1_000_000);
    let seed = argument("--seed").unwrap_or(1);
    let threads = argument("--threads").unwrap_or_else(|| {
        thread::available_parallelism().map_or(1, |threads| threads.get() as u64)
    });

    let specimens = specimens();
    let pairs = (specimens.len() * specimens.len()) as u64;
    let next_job = AtomicU64::new(0);
    let tried = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut prober = Prober::new(&specimens);
                while tried.load(Ordering::Relaxed) < count {
                    let before = prober.tried;
                    let job = next_job.fetch_add(1, Ordering::Relaxed);
                    match job.checked_sub(pairs) {
                        None => systematic(&specimens, job as usize, &mut prober),
                        Some(chunk) => random(&specimens, seed, chunk, &mut prober),
                    }
                    let more = prober.tried - before;
                    let so_far = tried.fetch_add(more, Ordering::Relaxed);
                    if so_far / STRETCH != (so_far + more) / STRETCH {
                        let seconds = start.elapsed().as_secs();
                        eprintln!("{} tried after {seconds} s", so_far + more);
                    }
                }
                let mut totals = totals.lock().unwrap();
                totals.tried += prober.tried;
                totals.unaltered += prober.unaltered;
                totals.accepted.append(&mut prober.accepted);
            });
        }
    });

    let seconds = start.elapsed().as_secs_f64();
    let totals = totals.into_inner().unwrap();
    let mutants = totals.tried - totals.unaltered;
    println!(
        "{mutants} mutants of {} valid cookies, seed {seed}: {} accepted",
        specimens.len(),
        totals.accepted.len()
    );
    println!(
        "{seconds:.1} s on {threads} threads, {:.0} a second; {} more were a valid cookie again",
        mutants as f64 / seconds,
        totals.unaltered
    );
    for found in totals.accepted.iter().take(20) {
        let value = String::from_utf8_lossy(&found.value);
        println!("ACCEPTED {}={value}", NAMES[found.name]);
    }
    ExitCode::from(u8::from(!totals.accepted.is_empty()))
}

/// All that can be done to one specimen with the help of another, or, for a pair of the same, by
/// itself.
fn systematic(specimens: &[Specimen], job: usize, prober: &mut Prober) {
    let [one, other] = [job / specimens.len(), job % specimens.len()].map(|at| &specimens[at]);
    if one == other {
        single(&one.value, 1, |mutant| prober.attempt(one.name, mutant));
    } else {
        spliced(&one.value, &other.value, 1, |mutant| {
            prober.attempt(one.name, mutant);
        });
    }
    prober.send();
}

fn random(specimens: &[Specimen], seed: u64, chunk: u64, prober: &mut Prober) {
    // The first number of a generator is far from that of its neighbour's.
    let mut random = Random(Random(seed).next() ^ Random(chunk).next());
    let mut mutant = Vec::new();
    for _ in 0..CHUNK {
        let name = stacked(specimens, &mut random, &mut mutant);
        prober.attempt(name, &mutant);
    }
    prober.send();
}
