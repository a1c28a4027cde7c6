//! Several workers, several versions, and what they share.

use std::time::Duration;

use tower_referral_outbox::{LateClick, Outbox, State};

use crate::database::{on_both, start};
use crate::platform::{Does, Platform, sale};

on_both! {
    async fn two_workers_send_nothing_twice(db) {
        for deduplicates in [true, false] {
            let platform = Platform::new(deduplicates).latency(Duration::from_millis(2));
            let workers: Vec<_> =
                (0..2).map(|_| start(db.outbox.worker(platform.reports()))).collect();
            for order in 0..200 {
                let order = format!("{deduplicates}-{order}");
                db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
            }
            db.until_empty().await;
            for worker in workers {
                worker.stop().await;
            }
            assert_eq!(platform.calls().len(), 200);
            assert_eq!(platform.recorded().len(), 200);
        }
    }

    async fn a_newer_row_is_left_to_a_newer_worker(db) {
        let newer = r#"{"version": 2, "kind": "sale", "order": "new"}"#;
        let insert = if db.url.starts_with("postgres") {
"INSERT INTO referral_outbox (report) VALUES ($1::text::jsonb)"
} else {
"INSERT INTO referral_outbox (report) VALUES ($1)"
};
        sqlx::query(insert).bind(newer).execute(&db.pool).await.unwrap();
        db.outbox.enqueue(&db.pool, sale("old", "C1")).await.unwrap();
        let platform = Platform::new(true);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:old").await;
        worker.stop().await;
        let newer = db.outbox.find("sale:new").await.unwrap().unwrap();
        assert_eq!((newer.state, newer.attempts), (State::Waiting, 0));
    }

    async fn what_a_killed_worker_had_in_hand_is_taken_up(db) {
        for (deduplicates, state) in [(true, State::Done), (false, State::Ambiguous)] {
            let platform = Platform::new(deduplicates);
            platform.next([Does::Hang]);
            let order = format!("{deduplicates}");
            db.outbox.enqueue(&db.pool, sale(&order, "C1")).await.unwrap();
            let worker = start(db.outbox.worker(platform.reports()));
            platform.until_calls(1).await;
            worker.kill().await;
            let worker = start(db.outbox.worker(platform.reports()));
            let id = format!("sale:{order}");
            assert!(!db.outbox.find(&id).await.unwrap().unwrap().state.is_finished());
            // The default lease.
            db.outbox.advance_clock(Duration::from_secs(60));
            db.until_state(&id, state).await;
            worker.stop().await;
            assert_eq!(platform.calls().len(), if deduplicates { 2 } else { 1 });
        }
    }

    async fn a_worker_that_stops_gives_back_what_it_did_not_begin(db) {
        let platform = Platform::new(true).latency(Duration::from_millis(20));
        for order in 0..30 {
            db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
        }
        let worker = start(db.outbox.worker(platform.reports()).concurrency(2));
        platform.until_calls(1).await;
        worker.stop().await;
        let first = platform.calls().len();
        assert_eq!(platform.recorded().len(), first, "what was begun came to its end");
        let claimed = "SELECT count(*) FROM referral_outbox WHERE claimed_by IS NOT NULL";
        let (claimed,): (i64,) = sqlx::query_as(claimed).fetch_one(&db.pool).await.unwrap();
        assert_eq!(claimed, 0);
    }

    async fn processes_may_migrate_at_once_and_again(db) {
        let again: Vec<_> = (0..8)
            .map(|_| tokio::spawn(db.outbox.clone().migrate()))
            .collect();
        for migrated in again {
            migrated.await.unwrap().unwrap();
        }
    }

    async fn a_click_that_came_late_goes_with_the_report_that_needs_it(db) {
        let report = r#"{"kind": "sale", "order": "1", "customer": "C1", "amount": "9.99 EUR",
            "credit": {"key": "P1", "reference": "r-1"}}"#;
        let insert = if db.url.starts_with("postgres") {
tower_referral_outbox::sql::POSTGRES_ENQUEUE
} else {
tower_referral_outbox::sql::SQLITE_ENQUEUE
};
        let other = report.replace(r#""1""#, r#""2""#).replace("r-1", "r-2");
        sqlx::query(insert).bind(report).fetch_all(&db.pool).await.unwrap();
        sqlx::query(insert).bind(other).fetch_all(&db.pool).await.unwrap();
        let platform = Platform::new(true);
        let worker = db.outbox.worker(platform.reports());
        let worker = start(worker.click_patience(Duration::from_secs(3600)));
        // It waits for its click.
        db.outbox.enqueue(&db.pool, sale("other", "C1")).await.unwrap();
        db.until_done("sale:other").await;
        let click = click("clk-1");
        let ttl = Duration::from_secs(60);
        db.outbox.put_click(&db.pool, "r-1", click.clone(), ttl).await.unwrap();
        assert_eq!(db.outbox.click("r-1").await.unwrap(), Some(click));
        db.until_done("sale:1").await;
        assert_eq!(platform.told("sale:1")["credit"]["click_id"], "clk-1");
        assert_eq!(platform.told("sale:1")["credit"]["partner_id"], "part-1");
        // One whose click never comes goes by its key.
        db.outbox.advance_clock(Duration::from_secs(3600));
        db.until_done("sale:2").await;
        assert_eq!(platform.told("sale:2")["credit"]["key"], "P1");
        worker.stop().await;
        assert_eq!(db.outbox.click("r-1").await.unwrap(), None, "its time is over");
    }

    async fn tables_that_are_missing_are_named(db) {
        sqlx::query("DROP TABLE referral_outbox").execute(&db.pool).await.unwrap();
        let ended = db.outbox.worker(Platform::new(true).reports()).run(async {}).await;
        assert!(ended.unwrap_err().to_string().contains("migrate"));
    }
}

fn click(id: &str) -> LateClick {
    LateClick::new(id, Some("part-1"))
}

mod fresh {
    use super::*;

    #[tokio::test]
    async fn many_processes_create_the_tables_at_once() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        for table in [
            "referral_outbox",
            "referral_clicks",
            "referral_workers",
            "referral_payments",
            "referral_payment_links",
            "referral_outbox_schema",
        ] {
            let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
            sqlx::query(drop).execute(&db.pool).await.unwrap();
        }
        for function in ["referral_sequence_key", "referral_payments_find"] {
            let drop = sqlx::AssertSqlSafe(format!("DROP FUNCTION {function}"));
            sqlx::query(drop).execute(&db.pool).await.unwrap();
        }
        let tasks: Vec<_> = (0..8)
            .map(|_| tokio::spawn(Outbox::postgres(db.pool.clone()).migrate()))
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }
}
