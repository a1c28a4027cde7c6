//! Workers that are killed at random points: everything is recorded once where the platform
//! deduplicates, and sent at most once where it doesn't.

use std::collections::HashMap;
use std::time::Duration;

use tower_referral_outbox::State;

use crate::database::{on_both, start};
use crate::platform::{Platform, refund, sale, sign_up};

const ROUNDS: u64 = 25;

/// Some milliseconds, different ones each time and the same in each run.
fn moment(round: u64) -> Duration {
    Duration::from_micros((round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 15_000)
}

on_both! {
    /// CASES.md R22: what was committed is reported.
    async fn killed_workers_lose_nothing_and_send_nothing_twice(db) {
        for deduplicates in [true, false] {
            let platform = Platform::new(deduplicates).latency(Duration::from_millis(1));
            let mut expected = Vec::new();
            for round in 0..ROUNDS {
                let workers: Vec<_> =
                    (0..2).map(|_| start(db.outbox.worker(platform.reports()))).collect();
                for n in 0..4 {
                    let customer = format!("{deduplicates}-{round}-{n}");
                    let mut tx = db.pool.begin().await.unwrap();
                    db.outbox.enqueue(&mut *tx, sign_up(&customer)).await.unwrap();
                    db.outbox.enqueue(&mut *tx, sale(&customer, &customer)).await.unwrap();
                    db.outbox.enqueue(&mut *tx, refund(&customer)).await.unwrap();
                    if n == 3 {
                        tx.rollback().await.unwrap();
                        continue;
                    }
                    tx.commit().await.unwrap();
                    expected.extend([
                        format!("signup:{customer}"),
                        format!("sale:{customer}"),
                        format!("refund:{customer}"),
                    ]);
                }
                tokio::time::sleep(moment(round)).await;
                for worker in workers {
                    worker.kill().await;
                }
                db.outbox.advance_clock(Duration::from_secs(20));
            }
            let worker = start(db.outbox.worker(platform.reports()));
            db.outbox.advance_clock(Duration::from_secs(3600));
            db.until_empty().await;
            worker.stop().await;

            let mut recorded: HashMap<String, usize> = HashMap::new();
            for id in platform.recorded() {
                *recorded.entry(id).or_default() += 1;
            }
            let twice: Vec<_> = recorded.iter().filter(|(_, count)| **count > 1).collect();
            assert!(twice.is_empty(), "{twice:?}");
            assert!(platform.overlapping().is_empty(), "{:?}", platform.overlapping());
            let mut ambiguous = 0;
            for id in &expected {
                let entry = db.outbox.find(id).await.unwrap().unwrap();
                let is_recorded = recorded.remove(id).is_some();
                match entry.state {
                    State::Done if entry.outcome.as_deref() == Some("not_attributed") => {
                        // A refund whose sale is ambiguous.
                        assert!(!deduplicates && id.starts_with("refund"), "{entry:?}");
                    }
                    State::Done => assert!(is_recorded, "{entry:?}"),
                    State::Ambiguous => {
                        assert!(!deduplicates, "{entry:?}");
                        ambiguous += 1;
                    }
                    _ => panic!("{entry:?}"),
                }
            }
            assert!(recorded.is_empty(), "nobody has committed {recorded:?}");
            if !deduplicates {
                let calls = platform.calls();
                let distinct: std::collections::HashSet<_> = calls.iter().collect();
                assert_eq!(calls.len(), distinct.len(), "each is sent once");
            }
            assert!(ambiguous < expected.len() / 2);
        }
    }
}
