//! Workers, and their database, that are killed at random points: everything is recorded once where the
//! platform deduplicates, and sent at most once where it doesn't.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tower_referral_outbox::{Outbox, State};

use crate::database::{on_both, start};
use crate::platform::{Platform, refund, sale, sign_up};
use crate::servers::Server;

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
                let distinct: HashSet<_> = calls.iter().collect();
                assert_eq!(calls.len(), distinct.len(), "each is sent once");
            }
            assert!(ambiguous < expected.len() / 2);
        }
    }
}

/// The database is killed while orders come in and workers deliver. The application's own rows are what
/// counts.
#[tokio::test]
async fn a_database_that_is_killed_loses_nothing_and_sends_nothing_twice() {
    let server = tokio::task::spawn_blocking(Server::postgres).await.unwrap();
    let Some(mut server) = server else {
        return;
    };
    for deduplicates in [true, false] {
        let url = server.empty_database();
        let pool = PgPoolOptions::new().max_connections(4);
        let pool = pool.connect_lazy(&url).unwrap();
        let outbox = Outbox::postgres(pool.clone()).migrate().await.unwrap();
        let table = "CREATE TABLE orders (id text PRIMARY KEY)";
        sqlx::query(table).execute(&pool).await.unwrap();
        let platform = Platform::new(deduplicates).latency(Duration::from_millis(1));
        let workers: Vec<_> = (0..2)
            .map(|_| start(outbox.worker(platform.reports())))
            .collect();
        let (is_over, over) = tokio::sync::watch::channel(false);
        let (booked, mut until_booked) = tokio::sync::watch::channel(0);
        let shop = tokio::spawn({
            let (outbox, pool) = (outbox.clone(), pool.clone());
            async move {
                let mut acknowledged = HashSet::new();
                for number in 0.. {
                    if *over.borrow() {
                        break;
                    }
                    let order = format!("{deduplicates}-{number}");
                    let book = async {
                        let mut tx = pool.begin().await?;
                        let row = sqlx::query("INSERT INTO orders VALUES ($1)").bind(&order);
                        row.execute(&mut *tx).await?;
                        outbox.enqueue(&mut *tx, sale(&order, "C1")).await?;
                        tx.commit().await?;
                        Ok::<_, tower_referral_outbox::Error>(())
                    };
                    if book.await.is_ok() {
                        acknowledged.insert(format!("sale:{order}"));
                        booked.send_replace(acknowledged.len());
                    }
                    tokio::task::yield_now().await;
                }
                acknowledged
            }
        });
        for round in 0..6 {
            let is_loaded = until_booked.wait_for(|count| *count > 20 * round);
            tokio::time::timeout(crate::database::PATIENCE, is_loaded)
                .await
                .unwrap()
                .unwrap();
            // At any moment: nothing depends on which.
            let random = RandomState::new().hash_one(round) % 80;
            tokio::time::sleep(Duration::from_millis(random)).await;
            server = tokio::task::spawn_blocking(move || {
                server.kill();
                server.run();
                server
            })
            .await
            .unwrap();
        }
        is_over.send_replace(true);
        let acknowledged = shop.await.unwrap();
        for worker in workers {
            worker.stop().await;
        }
        // What was in hand when the database went is taken up once the lease is over.
        outbox.advance_clock(Duration::from_secs(60));
        let worker = start(outbox.worker(platform.reports()));
        let is_empty = async {
            while outbox.status().await.unwrap().open > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(crate::database::PATIENCE, is_empty).await;
        assert!(waited.is_ok(), "{:?}", outbox.status().await);
        worker.stop().await;
        let orders: Vec<(String,)> = sqlx::query_as("SELECT 'sale:' || id FROM orders")
            .fetch_all(&pool)
            .await
            .unwrap();
        let orders: HashSet<String> = orders.into_iter().map(|(id,)| id).collect();
        let lost: Vec<_> = acknowledged.difference(&orders).collect();
        assert!(lost.is_empty(), "{lost:?}");
        let problems = outbox.problems(0, 10_000).await.unwrap();
        assert!(
            problems
                .iter()
                .all(|problem| problem.state == State::Ambiguous)
        );
        let unknown: HashSet<String> = problems.into_iter().filter_map(|one| one.id).collect();
        assert!(!deduplicates || unknown.is_empty(), "{unknown:?}");
        let recorded = platform.recorded();
        let distinct: HashSet<String> = recorded.iter().cloned().collect();
        assert_eq!(recorded.len(), distinct.len(), "nothing twice");
        assert_eq!(&distinct | &unknown, orders);
        if !deduplicates {
            assert_eq!(platform.calls().len(), distinct.len(), "each is sent once");
        }
    }
}
