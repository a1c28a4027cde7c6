//! Mutants of valid cookies: whatever is changed in one, it opens no more.
//!
//! A bounded number of them, the same in every run; `cargo bench -p benches --bench mutants` tries as many as
//! are asked for.

use crate::mutator::{NAMES, Prober, Random, Specimen, single, specimens, spliced, stacked};

fn assert_none_accepted(mut prober: Prober, at_least: u64) {
    prober.send();
    let accepted = prober.accepted.iter().map(|found| {
        let value = String::from_utf8_lossy(&found.value);
        format!("{}={value}", NAMES[found.name])
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(accepted.is_empty(), "accepted: {accepted:#?}");
    assert!(prober.tried >= at_least, "only {} were tried", prober.tried);
}

#[test]
fn every_specimen_opens_unchanged_and_all_differ() {
    let specimens = specimens();
    let prober = Prober::new(&specimens);
    assert_eq!(specimens.len(), 28);
    for (at, Specimen { name, value }) in specimens.iter().enumerate() {
        let line = [NAMES[*name].as_bytes(), b"=", value].concat();
        assert_eq!(prober.seen(&line).body().len(), 1, "{at}");
        assert!(!specimens[..at].contains(&specimens[at]), "{at}");
    }
}

#[test]
fn the_prober_tells_what_opens_from_what_does_not() {
    let specimens = specimens();
    let mut prober = Prober::new(&specimens[1..]);
    prober.attempt(0, &specimens[1].value);
    prober.attempt(0, b"nonsense");
    // The prober doesn't know this one, as it wouldn't know a forged one.
    prober.attempt(0, &specimens[0].value);
    prober.send();
    assert_eq!((prober.tried, prober.unaltered), (3, 1));
    assert!(prober.accepted == [specimens[0].clone()]);
}

#[test]
fn no_single_change_to_a_valid_cookie_is_accepted() {
    let specimens = specimens();
    let mut prober = Prober::new(&specimens);
    for Specimen { name, value } in specimens.iter().step_by(9) {
        single(value, 199, |mutant| prober.attempt(*name, mutant));
    }
    assert_none_accepted(prober, 200_000);
}

#[test]
fn no_splice_of_two_valid_cookies_is_accepted() {
    let specimens = specimens();
    let mut prober = Prober::new(&specimens);
    for one in &specimens {
        for other in &specimens {
            spliced(&one.value, &other.value, 1999, |mutant| {
                prober.attempt(one.name, mutant);
            });
        }
    }
    assert_none_accepted(prober, 25_000);
}

#[test]
fn no_cookie_opens_under_another_programs_name() {
    let specimens = specimens();
    let mut prober = Prober::new(&[]);
    for Specimen { name, value } in &specimens {
        prober.attempt(1 - name, value);
    }
    assert_none_accepted(prober, 28);
}

#[test]
fn no_stack_of_changes_is_accepted() {
    let specimens = specimens();
    let mut prober = Prober::new(&specimens);
    let mut random = Random(7);
    let mut mutant = Vec::new();
    for _ in 0..60_000 {
        let name = stacked(&specimens, &mut random, &mut mutant);
        prober.attempt(name, &mutant);
    }
    assert!(prober.unaltered < 1_000, "most are really mutants");
    assert_none_accepted(prober, 50_000);
}

#[test]
fn beside_a_valid_cookie_a_mutant_changes_nothing() {
    let specimens = specimens();
    let prober = Prober::new(&specimens);
    let mut random = Random(8);
    let mut mutant = Vec::new();
    for _ in 0..10_000 {
        let genuine = &specimens[random.below(specimens.len())];
        let name = stacked(&specimens, &mut random, &mut mutant);
        let is_sendable = mutant.iter().all(|byte| (b' '..0x7f).contains(byte));
        if is_sendable && !prober.opens(&[NAMES[name].as_bytes(), b"=", &mutant].concat()) {
            let genuine = [NAMES[genuine.name].as_bytes(), b"=", &genuine.value].concat();
            let mutant = [NAMES[name].as_bytes(), b"=", &mutant].concat();
            let alone = prober.seen(&genuine);
            for line in [
                [&genuine[..], b"; ", &mutant].concat(),
                [&mutant[..], b"; ", &genuine].concat(),
            ] {
                assert_eq!(prober.seen(&line).body(), alone.body());
            }
        }
    }
}
