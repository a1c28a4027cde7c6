//! What the platform as a whole says: the account's failures, a rate limit, nobody there.

use std::time::Duration;

use tower_referral_outbox::State;
use tower_referral_platforms::Retries;

use crate::database::{on_both, start};
use crate::platform::{Does, Platform, sale};

const MOMENT: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

on_both! {
    /// CASES.md R13.
    async fn a_refused_key_pauses_everything_and_loses_nothing(db) {
        for does in [Does::Status(401), Does::Status(402), Does::Status(403), Does::Status(302),
            Does::Page(503), Does::Unreachable]
        {
            let platform = Platform::new(true);
            platform.does(does);
            for order in 0..20 {
                let order = format!("{does:?}-{order}");
                db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
            }
            let worker = db.outbox.worker(platform.reports());
            // The first attempt of a report is its last, and a pause is none.
            let worker = worker.retries(Retries::default().max_attempts(1));
            let worker = start(worker.pause(MOMENT, 2 * MOMENT));
            // Those that were under way, and some probes.
            platform.until_calls(20).await;
            let status = db.outbox.status().await.unwrap();
            assert_eq!((status.open, status.failed, status.ambiguous), (20, 0, 0), "{does:?}");
            platform.does(Does::Work);
            db.until_empty().await;
            worker.stop().await;
            assert_eq!(platform.recorded().len(), 20, "{does:?}");
            for order in 0..20 {
                let entry = db.until_done(&format!("sale:{does:?}-{order}")).await;
                assert_eq!(entry.attempts, 1, "a pause is no attempt of the report");
            }
        }
    }

    async fn a_pause_is_shown_with_its_reason_and_a_person_ends_it(db) {
        let platform = Platform::new(true);
        platform.does(Does::Status(401));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).pause(HOUR, HOUR).name("shop"));
        platform.until_calls(1).await;
        let paused = loop {
            let status = db.outbox.status().await.unwrap();
            if let Some(paused) = status.pauses.first() {
                break paused.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(paused.worker.starts_with("shop-"), "{paused:?}");
        assert!(paused.reason.contains("API key"), "{paused:?}");
        db.until("sale:1", |entry| entry.reason.is_some() && entry.state == State::Waiting).await;
        platform.does(Does::Work);
        db.outbox.resend_all().await.unwrap();
        db.until_done("sale:1").await;
        assert_eq!(platform.calls().len(), 2);
        worker.stop().await;
        assert!(db.outbox.status().await.unwrap().pauses.is_empty());
    }

    async fn a_person_may_have_it_tried_by_sql(db) {
        let platform = Platform::new(true);
        platform.next([Does::Status(401)]);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).pause(HOUR, HOUR));
        platform.until_calls(1).await;
        let done = async {
            while db.outbox.find("sale:1").await.unwrap().unwrap().state != State::Done {
                let probe = "UPDATE referral_workers SET probe = true";
                sqlx::query(probe).execute(&db.pool).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::database::PATIENCE, done).await.unwrap();
        worker.stop().await;
    }

    async fn a_rate_limit_is_one_brake_and_no_attempt(db) {
        let platform = Platform::new(false);
        platform.next([Does::Slower(0); 5]);
        for order in 0..20 {
            db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
        }
        let worker = start(db.outbox.worker(platform.reports()).pause(MOMENT, MOMENT));
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(platform.calls().len(), 25);
        assert_eq!(platform.recorded().len(), 20);
        let status = db.outbox.status().await.unwrap();
        assert_eq!((status.failed, status.ambiguous), (0, 0));
    }

    /// It may be the answer to a sale that was booked.
    async fn a_303_is_booked_once(db) {
        let platform = Platform::new(false);
        platform.next([Does::Status(303)]);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).pause(MOMENT, MOMENT));
        let entry = db.until_state("sale:1", State::Ambiguous).await;
        assert!(entry.reason.as_ref().unwrap().contains("303"), "{entry:?}");
        db.outbox.enqueue(&db.pool, sale(2, "C1")).await.unwrap();
        db.until_done("sale:2").await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["sale:1", "sale:2"]);
    }

    async fn a_page_in_place_of_an_answer_is_ambiguous_where_nothing_deduplicates(db) {
        let platform = Platform::new(false);
        platform.next([Does::Page(200)]);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).pause(MOMENT, MOMENT));
        db.until_state("sale:1", State::Ambiguous).await;
        db.outbox.enqueue(&db.pool, sale(2, "C1")).await.unwrap();
        db.until_done("sale:2").await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["sale:1", "sale:2"]);
    }
}
