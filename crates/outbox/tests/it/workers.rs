//! Several workers, several versions, and what they share.

use std::time::Duration;

use tower_referral_outbox::{Outbox, State};

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

    async fn tables_that_are_missing_are_named(db) {
        sqlx::query("DROP TABLE referral_outbox").execute(&db.pool).await.unwrap();
        let ended = db.outbox.worker(Platform::new(true).reports()).run(async {}).await;
        assert!(ended.unwrap_err().to_string().contains("migrate"));
    }
}

mod fresh {
    use super::*;

    /// CASES.md R21: neither a start nor a report reads what was delivered before.
    #[tokio::test]
    async fn what_was_delivered_is_not_read_again() {
        const DELIVERED: i64 = 20_000;
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let fill = "INSERT INTO referral_outbox (report, state, outcome, finished_at)
            SELECT jsonb_build_object('kind', 'sale', 'order', 'old-' || n, 'customer', 'C' || n,
                'amount', '1.00 EUR'), 'done', CASE n % 2 WHEN 0 THEN 'recorded'
                ELSE 'not_attributed' END, (extract(epoch FROM now()) * 1000)::bigint
            FROM generate_series(1, $1) AS n";
        let fill = sqlx::query(fill).bind(DELIVERED);
        fill.execute(&db.pool).await.unwrap();
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(Platform::new(true).reports()));
        db.until_done("sale:1").await;
        worker.stop().await;
        // What a connection has read is counted when it is closed.
        db.pool.close().await;
        let pool = sqlx::PgPool::connect(&db.url).await.unwrap();
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let alone = async {
            while sqlx::query_as::<_, (i64,)>(others)
                .fetch_one(&pool)
                .await
                .unwrap()
                .0
                > 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::database::PATIENCE, alone)
            .await
            .unwrap();
        let read = "SELECT n_tup_ins, seq_tup_read, coalesce(idx_tup_fetch, 0)
            FROM pg_stat_user_tables WHERE relname = 'referral_outbox'";
        let read = sqlx::query_as(read).fetch_one(&pool).await.unwrap();
        let (inserted, in_sequence, by_index): (i64, i64, i64) = read;
        assert_eq!(inserted, DELIVERED + 1, "it is counted");
        assert!(
            in_sequence + by_index < DELIVERED / 4,
            "{in_sequence} and {by_index} rows"
        );
    }

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
