//! A platform that takes many reports in one request: what goes in one, and what a broken one leaves.

use std::collections::HashSet;
use std::time::Duration;

use tower_referral_outbox::State;
use tower_referral_platforms::{Report, Retries};

use crate::database::{PATIENCE, on_both, start};
use crate::platform::{Does, Platform, sale};

const REPORTS: usize = 100;
/// The most in one request: more than a worker has under way by default.
const MAX: usize = 40;
const INTERVAL: Duration = Duration::from_millis(200);

/// The IDs of these sales, and the sales.
fn sales() -> (HashSet<String>, Vec<Report>) {
    let reports: Vec<Report> = (0..REPORTS).map(|order| sale(order, "C1").into()).collect();
    (reports.iter().map(Report::id).collect(), reports)
}

/// Fails if something was recorded twice, and returns what was.
fn recorded_once(platform: &Platform) -> HashSet<String> {
    let recorded = platform.recorded();
    let distinct: HashSet<String> = recorded.iter().cloned().collect();
    assert_eq!(
        recorded.len(),
        distinct.len(),
        "nothing twice: {recorded:?}"
    );
    distinct
}

on_both! {
    async fn reports_go_in_batches_that_are_larger_than_what_goes_one_by_one(db) {
        for deduplicates in [true, false] {
            let platform = Platform::new(deduplicates).in_batches(MAX, INTERVAL);
            let (ids, sales) = sales();
            sqlx::query("DELETE FROM referral_outbox").execute(&db.pool).await.unwrap();
            db.outbox.enqueue_all(&db.pool, sales).await.unwrap();
            let worker = start(db.outbox.worker(platform.reports()));
            db.until_empty().await;
            worker.stop().await;
            assert_eq!(recorded_once(&platform), ids);
            let batches = platform.batches();
            assert!(batches.iter().any(|count| *count > 16), "{batches:?}");
            assert!(batches.len() < REPORTS / 4, "{batches:?}");
        }
    }

    async fn a_batch_that_broke_is_sent_again_where_that_does_no_harm(db) {
        let platform = Platform::new(true).in_batches(MAX, INTERVAL);
        platform.next([Does::Work, Does::RecordAndBreak]);
        let (ids, sales) = sales();
        db.outbox.enqueue_all(&db.pool, sales).await.unwrap();
        let retries = Retries::default().initial_backoff(Duration::from_millis(5));
        let worker = start(db.outbox.worker(platform.reports()).retries(retries));
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(recorded_once(&platform), ids);
        assert!(platform.calls().len() > REPORTS, "some went twice");
        assert!(db.outbox.problems(0, 1).await.unwrap().is_empty());
    }

    async fn elsewhere_a_batch_that_broke_is_shown_to_a_person_and_not_sent_again(db) {
        let platform = Platform::new(false).in_batches(MAX, INTERVAL);
        platform.next([Does::Work, Does::RecordAndBreak]);
        let (ids, sales) = sales();
        db.outbox.enqueue_all(&db.pool, sales).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(recorded_once(&platform), ids);
        assert_eq!(platform.calls().len(), REPORTS, "each is sent once");
        let problems = db.outbox.problems(0, 1000).await.unwrap();
        assert_eq!(problems.len(), platform.batches()[1]);
        assert!(problems.iter().all(|problem| problem.state == State::Ambiguous));
    }

    async fn a_killed_worker_leaves_a_batch_at_most(db) {
        for deduplicates in [true, false] {
            let platform = Platform::new(deduplicates).in_batches(MAX, INTERVAL);
            platform.next([Does::Work, Does::Hang]);
            let (ids, sales) = sales();
            sqlx::query("DELETE FROM referral_outbox").execute(&db.pool).await.unwrap();
            db.outbox.enqueue_all(&db.pool, sales).await.unwrap();
            let worker = start(db.outbox.worker(platform.reports()));
            platform.until_batches(2).await;
            // What became of the first one is saved, which may take longer than the second one's turn.
            let open = (REPORTS - platform.batches()[0]) as u64;
            let saved = async {
                while db.outbox.status().await.unwrap().open > open {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, saved).await.unwrap();
            worker.kill().await;
            db.outbox.advance_clock(Duration::from_secs(60));
            let worker = start(db.outbox.worker(platform.reports()));
            db.until_empty().await;
            worker.stop().await;
            let problems = db.outbox.problems(0, 1000).await.unwrap();
            let unknown: HashSet<String> = problems.into_iter().filter_map(|one| one.id).collect();
            assert!(unknown.len() <= if deduplicates { 0 } else { MAX }, "{unknown:?}");
            let recorded = recorded_once(&platform);
            assert!(recorded.is_disjoint(&unknown), "what hung wasn't recorded");
            assert_eq!(&recorded | &unknown, ids, "nothing is lost");
        }
    }
}
