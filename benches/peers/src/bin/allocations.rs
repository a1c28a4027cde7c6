//! Heap allocations that each contender adds to the bare service of its kind.
//!
//!     cargo run --release --bin allocations

use dhat::HeapStats;
use peers::{CASES, Case, contenders};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    peers::check();
    let counted: Vec<_> = contenders()
        .into_iter()
        .map(|mut contender| {
            let blocks = contender.cases.each_mut().map(blocks);
            (contender.name, contender.bare, blocks)
        })
        .collect();

    println!("heap allocations of one request, beyond the bare service's\n");
    let [a, b, c, d, e] = CASES;
    println!(
        "| {:30} | {a:>12} | {b:>12} | {c:>12} | {d:>12} | {e:>12} |",
        ""
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, bare, blocks) in &counted {
        let Some((_, _, less)) = counted.iter().find(|(name, ..)| Some(*name) == *bare) else {
            continue;
        };
        print!("| {name:30} |");
        for (with, without) in blocks.iter().zip(less) {
            print!(" {:12} |", with - without);
        }
        println!();
    }
}

/// The blocks of one call, after others that may have to set something up.
fn blocks(case: &mut Case) -> i64 {
    case(4, &mut |send| send());
    let mut counted = 0;
    case(1, &mut |send| {
        let before = HeapStats::get().total_blocks;
        send();
        counted = HeapStats::get().total_blocks - before;
    });
    counted as i64
}
