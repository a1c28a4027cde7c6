//! What needs a person: listed, explained, sent again or settled, by API and by SQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tower_referral_outbox::{State, sql};
use tower_referral_platforms::{Client, Money, Outcome, Partnero, Refund, Retries};

use crate::database::{on_both, start};
use crate::platform::{Does, Platform, bare_sale, refund, sale, sign_up};

const MOMENT: Duration = Duration::from_millis(5);

/// As the documentation of `sql` has it.
const SEND_ALL_AGAIN: &str = "UPDATE referral_outbox SET state = 'waiting', finished_at = NULL,
    claimed_by = NULL, attempts = 0, may_have_arrived = false,
    report = coalesce(next_report, report), next_report = NULL
    WHERE state IN ('failed', 'ambiguous', 'unreadable') AND reduced_at IS NULL";

on_both! {
    async fn what_the_platform_refuses_is_listed_with_the_reason_and_sent_again(db) {
        let platform = Platform::new(true);
        platform.next([Does::Status(422)]);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        let failed = db.until_state("sale:1", State::Failed).await;
        assert!(failed.reason.as_ref().unwrap().contains("422"), "{failed:?}");
        assert!(failed.details.as_ref().unwrap().contains("No,"));
        assert!(!format!("{failed:?}").contains("Ann"));
        let listed = db.outbox.problems(0, 10).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert!(db.outbox.problems(listed[0].row, 10).await.unwrap().is_empty());
        assert!(!db.outbox.resend("sale:2").await.unwrap());
        assert!(db.outbox.resend("sale:1").await.unwrap());
        let done = db.until_done("sale:1").await;
        worker.stop().await;
        assert!(db.outbox.problems(0, 10).await.unwrap().is_empty());
        let history = db.outbox.history("1").await.unwrap();
        assert_eq!(history.len(), 1);
        let states: Vec<&str> = history[0].history.iter().map(|a| a.state.as_str()).collect();
        assert_eq!(states, ["failed", "done"]);
        assert_eq!(done.credit.unwrap()["key"], "P1");
        assert_eq!(done.platform_ids.unwrap()["sale"], "at-sale:1");
    }

    async fn a_broken_connection_is_ambiguous_unless_the_platform_deduplicates(db) {
        for (deduplicates, state) in [(true, State::Done), (false, State::Ambiguous)] {
            let platform = Platform::new(deduplicates);
            platform.next([Does::RecordAndBreak]);
            let order = format!("{deduplicates}");
            db.outbox.enqueue(&db.pool, sale(&order, "C1")).await.unwrap();
            let retries = Retries::default().initial_backoff(MOMENT);
            let worker = start(db.outbox.worker(platform.reports()).retries(retries));
            db.until_state(&format!("sale:{order}"), state).await;
            worker.stop().await;
            assert_eq!(platform.recorded().len(), 1);
        }
        assert!(db.outbox.settle("sale:false", Outcome::Recorded).await.unwrap());
        assert!(!db.outbox.settle("sale:false", Outcome::Recorded).await.unwrap());
        let settled = db.outbox.find("sale:false").await.unwrap().unwrap();
        assert_eq!(settled.state, State::Done);
    }

    /// Partnero books a sale, the connection breaks, and its list can't be read; then credit comes.
    async fn a_sale_that_was_booked_is_not_booked_again(db) {
        let sent = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&sent);
        let transport = tower::service_fn(move |request: Request<Bytes>| {
            let is_booked = request.method() == http::Method::POST;
            counted.fetch_add(u32::from(is_booked), Ordering::Relaxed);
            let list = Response::builder().status(400);
            let list = list.body(r#"{"message": "bad page"}"#.to_owned()).unwrap();
            let broken = std::io::Error::other("the connection broke");
            std::future::ready(if is_booked { Err(broken) } else { Ok(list) })
        });
        let partnero = Client::new(Partnero::new("s3cret").unwrap(), transport);
        let retries = Retries::default().initial_backoff(MOMENT);
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(partnero.reports()).retries(retries));
        let entry = db.until_state("sale:1", State::Ambiguous).await;
        assert!(entry.reason.unwrap().contains("may have arrived"));
        assert_eq!(entry.details.as_deref(), Some("bad page"));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        // Once sale 2 is finished, the worker has looked at sale 1 again.
        db.outbox.enqueue(&db.pool, sale(2, "C2")).await.unwrap();
        db.until_state("sale:2", State::Ambiguous).await;
        worker.stop().await;
        db.until_state("sale:1", State::Ambiguous).await;
        assert_eq!(sent.load(Ordering::Relaxed), 2, "one for each sale");
    }

    async fn everything_is_sent_again_by_sql(db) {
        let platform = Platform::new(false);
        platform.next([Does::Status(422), Does::Status(422), Does::Page(200)]);
        for order in 0..3 {
            db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
        }
        let worker = start(db.outbox.worker(platform.reports()).pause(MOMENT, MOMENT));
        for order in 0..3 {
            let is_problem = |entry: &tower_referral_outbox::Entry| entry.state.is_finished();
            let entry = db.until(&format!("sale:{order}"), is_problem).await;
            assert_ne!(entry.state, State::Done);
        }
        sqlx::query(SEND_ALL_AGAIN).execute(&db.pool).await.unwrap();
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(platform.recorded().len(), 3);
    }

    async fn a_refund_without_its_amount_is_sent_by_no_statement(db) {
        let platform = Platform::new(true);
        platform.next([Does::Work, Does::Status(422)]);
        let part = Refund::part("1", Money::new("5", "EUR").unwrap()).unwrap();
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        db.outbox.enqueue(&db.pool, part.with_id("re_1").unwrap()).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_state("refund:1:re_1", State::Failed).await;
        let removed = "UPDATE referral_outbox SET reduced_at = 1,
            report = '{\"kind\": \"refund\", \"order\": \"1\", \"refund\": \"re_1\"}'
            WHERE kind = 'refund'";
        sqlx::query(removed).execute(&db.pool).await.unwrap();
        sqlx::query(SEND_ALL_AGAIN).execute(&db.pool).await.unwrap();
        assert_eq!(db.outbox.resend_all().await.unwrap(), 0);
        let refund = db.outbox.find("refund:1:re_1").await.unwrap().unwrap();
        assert_eq!(refund.state, State::Failed);
        // Without the condition.
        let again = "UPDATE referral_outbox SET state = 'waiting', finished_at = NULL
            WHERE state = 'failed'";
        sqlx::query(again).execute(&db.pool).await.unwrap();
        db.until_state("refund:1:re_1", State::Withdrawn).await;
        worker.stop().await;
        assert_eq!(platform.calls().len(), 2);
    }

    /// CASES.md R20.
    async fn a_row_that_cannot_be_read_is_set_aside_and_stops_nobody(db) {
        for report in [
            r#"{"kind": "sale", "order": "bad", "customer": "C1"}"#,
            r#"{"kind": "sale"}"#,
            r#"{"kind": "from another world", "order": "1"}"#,
            r#"{"customer": 17}"#,
            "[]",
            "17",
        ] {
            let insert = "INSERT INTO referral_outbox (report) SELECT $1 WHERE 1 = 1";
            let insert = if db.url.starts_with("postgres") {
insert.replace("$1", "$1::text::jsonb")
} else {
insert.to_owned()
};
            let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(report);
            insert.execute(&db.pool).await.unwrap();
        }
        db.outbox.enqueue(&db.pool, sale("good", "C1")).await.unwrap();
        let platform = Platform::new(false);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:good").await;
        db.until_empty().await;
        worker.stop().await;
        let problems = db.outbox.problems(0, 10).await.unwrap();
        assert_eq!(problems.len(), 6);
        for problem in &problems {
            assert_eq!(problem.state, State::Unreadable);
            assert!(problem.reason.as_ref().unwrap().contains("can't read"));
        }
        assert_eq!(platform.calls(), ["sale:good"]);
        assert!(db.outbox.resend_row(problems[1].row).await.unwrap());
        let status = db.outbox.status().await.unwrap();
        assert_eq!((status.open, status.unreadable), (1, 5));
    }

    async fn a_row_that_cannot_be_read_hides_no_other_and_can_be_repaired(db) {
        let is_sqlite = db.url.starts_with("sqlite");
        let (as_text, as_bytes) = if is_sqlite {
            let as_text = sql::SQLITE_ENQUEUE.replace("$1", "CAST($1 AS TEXT)");
            (as_text, sql::SQLITE_ENQUEUE.to_owned())
        } else {
            let as_text = sql::POSTGRES_ENQUEUE.replace("$1", "convert_from($1, 'UTF8')");
            (as_text.clone(), as_text)
        };
        let enqueue = async |statement: &str, report: Vec<u8>| {
            let statement = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).bind(report);
            statement.fetch_all(&db.pool).await.unwrap();
        };
        db.outbox.enqueue(&db.pool, sale("good", "C1")).await.unwrap();
        let unreadable = unreadable_reports(is_sqlite);
        for report in &unreadable {
            enqueue(&as_text, report.clone()).await;
        }
        // JSON in bytes is read as well as any.
        enqueue(&as_bytes, sale_of_another_language("bytes", r#""name":"Ann""#)).await;

        let listed = db.outbox.history("C1").await.unwrap();
        assert_eq!(listed.len(), unreadable.len() + 2);
        assert_eq!(listed.iter().filter(|entry| entry.unreadable.is_some()).count(), unreadable.len());
        for entry in listed.iter().filter(|entry| entry.kind.as_deref() == Some("sale")) {
            assert_eq!(entry.report.is_none(), entry.unreadable.is_some(), "{entry:?}");
            assert_eq!(entry.credit.as_ref().unwrap()["key"], "P1", "{entry:?}");
        }

        let platform = Platform::new(true);
        platform.does(Does::Status(422));
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        let problems = db.outbox.problems(0, 100).await.unwrap();
        assert_eq!(problems.len(), unreadable.len() + 2);
        for problem in &problems {
            let is_unreadable = problem.unreadable.is_some();
            let state = if is_unreadable { State::Unreadable } else { State::Failed };
            assert_eq!(problem.state, state, "{problem:?}");
            assert!(problem.details.is_some(), "{problem:?}");
            assert_eq!(problem.history.len(), 1, "{problem:?}");
        }
        let mut calls = platform.calls();
        calls.sort();
        assert_eq!(calls, ["sale:bytes", "sale:good"]);
        assert_eq!(db.outbox.status().await.unwrap().unreadable, unreadable.len() as u64);

        platform.does(Does::Work);
        let repair = r#"UPDATE referral_outbox SET report = '{"kind":"sale","order":"huge",
            "customer":"C1","amount":"1 EUR","credit":{"key":"P1"}}' WHERE id = 'sale:huge'"#;
        sqlx::query(repair).execute(&db.pool).await.unwrap();
        let huge = db.outbox.find("sale:huge").await.unwrap().unwrap();
        assert!(huge.report.is_some() && huge.state == State::Unreadable);
        assert!(db.outbox.resend_row(huge.row).await.unwrap());
        db.until_done("sale:huge").await;
        worker.stop().await;

        let erased = db.outbox.erase(&db.pool, "C1").await.unwrap();
        assert_eq!(erased, listed.len() as u64);
        let deep = db.outbox.find("sale:deep").await.unwrap().unwrap();
        assert_eq!((deep.report, deep.unreadable, deep.credit), (None, None, None));
    }

    async fn a_history_that_cannot_be_read_hides_no_row(db) {
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        sqlx::query("UPDATE referral_outbox SET history = '{\"at\": 1}', platform_ids = '[]'")
            .execute(&db.pool)
            .await
            .unwrap();
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!(entry.history, []);
        assert!(entry.report.is_some());
    }

    async fn what_an_older_build_could_not_read_is_looked_at_again(db) {
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let aside = "UPDATE referral_outbox SET state = 'unreadable', finished_at = 1,
            unreadable_for = 0";
        sqlx::query(aside).execute(&db.pool).await.unwrap();
        let platform = Platform::new(true);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:1").await;
        worker.stop().await;
    }

    /// A worker is killed while it sends, an older build is deployed, and the newer one again.
    async fn every_build_knows_that_a_report_may_have_arrived(db) {
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let aside = "UPDATE referral_outbox SET state = 'sending', report = '{\"kind\": \"of the future\"}'";
        sqlx::query(aside).execute(&db.pool).await.unwrap();
        let platform = Platform::new(false);
        let worker = start(db.outbox.worker(platform.reports()));
        let wait = async {
            while db.outbox.status().await.unwrap().unreadable == 0 {
                tokio::time::sleep(MOMENT).await;
            }
        };
        tokio::time::timeout(crate::database::PATIENCE, wait).await.unwrap();
        worker.stop().await;
        let readable = "UPDATE referral_outbox SET unreadable_for = 0,
            report = '{\"kind\": \"sale\", \"order\": \"1\", \"customer\": \"C1\", \"amount\": \"9.99 EUR\"}'";
        sqlx::query(readable).execute(&db.pool).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_state("sale:1", State::Ambiguous).await;
        worker.stop().await;
        assert_eq!(platform.calls(), [""; 0]);
    }

    async fn the_history_of_an_order_or_a_customer_has_everything(db) {
        let reports = [
            sign_up("C1").into(),
            sale(1, "C1").into(),
            refund(1).into(),
            sale(2, "C1").into(),
            sign_up("C2").into(),
        ];
        db.outbox.enqueue_all(&db.pool, reports).await.unwrap();
        let ids = async |name: &str| {
            let entries = db.outbox.history(name).await.unwrap();
            entries.into_iter().filter_map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(ids("1").await, ["sale:1", "refund:1"]);
        assert_eq!(ids("C1").await, ["signup:C1", "sale:1", "refund:1", "sale:2"]);
        assert_eq!(ids("C3").await, Vec::<String>::new());
    }

    async fn a_report_is_given_up_after_so_many_attempts(db) {
        let platform = Platform::new(true);
        platform.does(Does::Status(500));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let retries = Retries::default().initial_backoff(MOMENT).max_attempts(60);
        let retries = retries.max_backoff(MOMENT);
        let worker = start(db.outbox.worker(platform.reports()).retries(retries));
        let failed = db.until("sale:1", |entry| entry.state.is_finished()).await;
        worker.stop().await;
        assert_eq!((failed.attempts, platform.calls().len()), (60, 60));
        assert_eq!(failed.history.len(), 50, "the first and the newest");
    }
}

/// What writers in other languages make of a visitor's text, and, in SQLite, what isn't UTF-8.
fn unreadable_reports(is_sqlite: bool) -> Vec<Vec<u8>> {
    let deep = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let mut reports = vec![
        sale_of_another_language("huge", r#""metadata":{"n":1e999}"#),
        sale_of_another_language("deep", &format!(r#""metadata":{{"form":{deep}}}"#)),
        sale_of_another_language("number", r#""amount":1"#),
    ];
    if is_sqlite {
        reports.extend([
            sale_of_another_language("half", r#""name":"\ud800""#),
            sale_of_another_language(r"\ud800", r#""name":"Ann""#),
            sale_of_another_language("twice", r#""name":"Ann","name":"Bea""#),
            sale_of_another_language("latin", r#""name":"Zo@""#),
            sale_of_another_language("Zo@", r#""name":"Ann""#),
            // It waits for the sale, by an ID that isn't UTF-8.
            br#"{"kind":"refund","order":"Zo@","customer":"C1"}"#.to_vec(),
        ]);
    }
    for byte in reports.iter_mut().flatten().filter(|byte| **byte == b'@') {
        *byte = 0xeb;
    }
    reports
}

fn sale_of_another_language(order: &str, field: &str) -> Vec<u8> {
    let report = format!(
        r#"{{"kind":"sale","order":"{order}","customer":"C1","amount":"1 EUR",{field},
        "credit":{{"key":"P1"}}}}"#
    );
    report.into_bytes()
}
