//! What is removed: content after a while, a customer on request.

use std::time::Duration;

use tower_referral_outbox::{Enqueued, Entry, State};
use tower_referral_platforms::{Money, Outcome, Refund, RefundReversal, Report};

use crate::database::{on_both, start};
use crate::platform::{Does, Platform, bare_sale, refund, sale, sign_up};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

on_both! {
    async fn content_goes_after_a_while_and_id_and_outcome_stay(db) {
        let platform = Platform::new(true);
        let part = Refund::part("1", Money::new("5", "EUR").unwrap()).unwrap();
        db.outbox.enqueue(&db.pool, sign_up("C1").with_email("ann@example.com")).await.unwrap();
        db.outbox.enqueue(&db.pool, sale(1, "C1").with_email("ann@example.com")).await.unwrap();
        db.outbox.enqueue(&db.pool, part.clone()).await.unwrap();
        db.outbox.enqueue(&db.pool, bare_sale(2, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        db.outbox.advance_clock(91 * DAY);
        let worker = start(db.outbox.worker(platform.reports()));
        for (id, outcome) in [
            ("signup:C1", "recorded"),
            ("sale:1", "recorded"),
            ("refund:1::5.00 EUR", "recorded"),
            ("sale:2", "not_attributed"),
        ] {
            let entry = db.until(id, |entry| entry.report.is_none()).await;
            assert_eq!(entry.outcome.as_deref(), Some(outcome));
            assert_eq!(entry.credit, None);
        }
        worker.stop().await;
        let text = "SELECT count(*) FROM referral_outbox WHERE CAST(report AS text) LIKE '%ann@%'";
        let (found,): (i64,) = sqlx::query_as(text).fetch_one(&db.pool).await.unwrap();
        assert_eq!(found, 0);
        // A repeated webhook is still known; credit that nobody had is still news.
        assert_eq!(db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap(), Enqueued::Known);
        assert_eq!(db.outbox.enqueue(&db.pool, part).await.unwrap(), Enqueued::Known);
        assert_eq!(db.outbox.enqueue(&db.pool, sale(2, "C1")).await.unwrap(), Enqueued::Changed);
    }

    async fn a_refund_whose_content_went_before_its_sale_is_credited_is_a_problem(db) {
        let platform = Platform::new(true);
        let part = Refund::part("1", Money::new("5", "EUR").unwrap()).unwrap();
        let part = part.with_id("re_1").unwrap();
        let both = [bare_sale(1, "C1").into(), part.into()];
        db.outbox.enqueue_all(&db.pool, both).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        db.outbox.advance_clock(91 * DAY);
        let worker = start(db.outbox.worker(platform.reports()));
        for id in ["sale:1", "refund:1:re_1"] {
            db.until(id, |entry| entry.report.is_none()).await;
        }
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let refund = db.until_state("refund:1:re_1", State::Failed).await;
        worker.stop().await;
        assert!(refund.reason.unwrap().contains("by hand"));
        let problems = db.outbox.problems(0, 10).await.unwrap();
        assert_eq!((problems.len(), problems[0].row), (1, refund.row));
        assert!(!db.outbox.resend("refund:1:re_1").await.unwrap(), "as a whole one");
        assert!(db.outbox.settle("refund:1:re_1", Outcome::Recorded).await.unwrap());
    }

    async fn rows_go_where_the_user_wants_it(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        db.outbox.enqueue(&db.pool, refund("unknown")).await.unwrap();
        let worker = db.outbox.worker(platform.reports()).keep_content(DAY).keep_rows(2 * DAY);
        let worker = start(worker.refund_patience(300 * DAY));
        db.until_done("sale:1").await;
        worker.stop().await;
        for _ in 0..2 {
            db.outbox.advance_clock(3 * DAY);
            let worker = db.outbox.worker(platform.reports()).keep_content(DAY).keep_rows(2 * DAY);
            let worker = start(worker.refund_patience(300 * DAY));
            db.until("refund:unknown", |entry| entry.state == State::Held).await;
            let gone = async {
                loop {
                    match db.outbox.find("sale:1").await.unwrap() {
                        Some(entry) if entry.report.is_some() => {}
                        _ => break,
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(crate::database::PATIENCE, gone).await.unwrap();
            worker.stop().await;
        }
        assert!(db.outbox.find("sale:1").await.unwrap().is_none());
        assert!(db.outbox.find("refund:unknown").await.unwrap().is_some());
    }

    /// CASES.md R26.
    async fn an_erased_customer_is_gone_everywhere(db) {
        let platform = Platform::new(true);
        platform.next([Does::Work, Does::Work, Does::Status(422)]);
        let email = "ann@example.com";
        db.outbox.enqueue(&db.pool, sign_up("C1").with_email(email)).await.unwrap();
        db.outbox.enqueue(&db.pool, sale(1, "C1").with_email(email)).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        db.outbox.enqueue(&db.pool, sale(2, "C1").with_email(email)).await.unwrap();
        db.until_state("sale:2", State::Failed).await;
        worker.stop().await;
        db.outbox.enqueue(&db.pool, sale(3, "C1").with_email(email)).await.unwrap();
        db.outbox.enqueue(&db.pool, sale(4, "C2")).await.unwrap();

        let mut tx = db.pool.begin().await.unwrap();
        assert_eq!(db.outbox.erase(&mut *tx, "C1").await.unwrap(), 4);
        tx.commit().await.unwrap();
        for text in ["ann", "Ann", "C1"] {
            for column in ["report", "details", "history", "customer_id", "next_report", "id",
                "platform_ids", "sequence_key", "depends_on", "blocked_by", "reason"] {
                let query = format!(
                    "SELECT count(*) FROM referral_outbox WHERE CAST({column} AS text) LIKE '%{text}%'"
                );
                let query = sqlx::query_as(sqlx::AssertSqlSafe(query));
                let (found,): (i64,) = query.fetch_one(&db.pool).await.unwrap();
                assert_eq!(found, 0, "{text} in {column}");
            }
        }
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!((entry.state, entry.outcome.as_deref()), (State::Done, Some("recorded")));
        let entry = db.outbox.find("sale:3").await.unwrap().unwrap();
        assert_eq!(entry.state, State::Withdrawn);
        // Whatever webhooks repeat brings nothing back.
        for order in 1..4 {
            let again = db.outbox.enqueue(&db.pool, sale(order, "C1")).await.unwrap();
            assert_eq!(again, Enqueued::Known);
        }
        assert_eq!(db.outbox.resend_all().await.unwrap(), 0);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:4").await;
        worker.stop().await;
        assert!(!platform.calls().contains(&"sale:3".to_owned()));
    }

    async fn what_waits_for_an_erased_customers_report_goes_on_and_does_not_name_it(db) {
        let platform = Platform::new(true);
        // The platform answers nothing else, so the sign-up stays open.
        platform.next(std::iter::repeat_n(Does::Status(503), 1000));
        db.outbox.enqueue(&db.pool, sign_up("SECRET")).await.unwrap();
        db.outbox.enqueue(&db.pool, bare_sale(1, "SECRET")).await.unwrap();
        db.outbox.enqueue(&db.pool, bare_sale(2, "SECRET")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        for id in ["sale:1", "sale:2"] {
            let entry = db.until(id, |entry| entry.waits_for.is_some()).await;
            assert_eq!(entry.waits_for.as_deref(), Some("signup:SECRET"));
        }
        worker.stop().await;
        // It was another's order after all.
        db.outbox.enqueue(&db.pool, sale(2, "C2")).await.unwrap();
        assert_eq!(db.outbox.erase(&db.pool, "SECRET").await.unwrap(), 2);
        let query = "SELECT count(*) FROM referral_outbox WHERE blocked_by IS NOT NULL";
        let (found,): (i64,) = sqlx::query_as(query).fetch_one(&db.pool).await.unwrap();
        assert_eq!(found, 0);
        assert_eq!(db.outbox.find("sale:1").await.unwrap().unwrap().state, State::Withdrawn);
        // What goes on goes in order all the same.
        db.outbox.enqueue(&db.pool, sign_up("C2")).await.unwrap();
        let platform = Platform::new(true);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:2").await;
        worker.stop().await;
        assert_eq!(platform.recorded(), ["signup:C2", "sale:2"]);
    }

    async fn a_refund_that_waits_is_sent_without_the_erased_customer(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        db.outbox.enqueue_all(&db.pool, refund_and_reversal()).await.unwrap();
        assert_eq!(db.outbox.erase(&db.pool, "C1").await.unwrap(), 2);
        let named = "SELECT count(*) FROM referral_outbox
            WHERE CAST(report AS text) LIKE '%C1%' OR CAST(report AS text) LIKE '%Ann%'";
        let (named,): (i64,) = sqlx::query_as(named).fetch_one(&db.pool).await.unwrap();
        assert_eq!(named, 0);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(platform.recorded(), ["sale:1", "refund:1:re_1", "refund_reversal:1:re_1"]);
        let told = platform.told("refund:1:re_1");
        assert_eq!((&told["amount"], told.get("customer")), (&"5.00 EUR".into(), None));
    }

    async fn nothing_is_sent_about_a_sale_that_is_withdrawn(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        db.outbox.enqueue_all(&db.pool, refund_and_reversal()).await.unwrap();
        assert_eq!(db.outbox.erase(&db.pool, "C1").await.unwrap(), 2);
        let worker = start(db.outbox.worker(platform.reports()));
        for id in ["sale:1", "refund:1:re_1", "refund_reversal:1:re_1"] {
            db.until_state(id, State::Withdrawn).await;
        }
        // Nor about it later.
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        db.until_state("refund:1", State::Withdrawn).await;
        worker.stop().await;
        assert_eq!(platform.calls(), [""; 0]);
    }

    async fn a_refund_of_a_sale_that_is_on_its_way_at_the_erasure_is_sent_after_it(db) {
        for (does, outcome) in [(Does::Work, "recorded"), (Does::Status(500), "not_attributed")] {
            let platform = Platform::new(true).gated();
            platform.next([does]);
            let order = format!("{does:?}");
            db.outbox.enqueue(&db.pool, sale(&order, "C1")).await.unwrap();
            let worker = start(db.outbox.worker(platform.reports()));
            platform.until_calls(1).await;
            let id = format!("refund:{order}");
            db.outbox.enqueue(&db.pool, refund(&order).with_customer("C1").unwrap()).await.unwrap();
            assert!(db.outbox.erase(&db.pool, "C1").await.unwrap() > 0);
            db.until(&id, |entry| entry.waits_for.is_some()).await;
            platform.let_answer(2);
            let refund = db.until_done(&id).await;
            worker.stop().await;
            assert_eq!(refund.outcome.as_deref(), Some(outcome));
            assert_eq!(platform.calls(), [format!("sale:{order}"), id]);
            assert!(platform.overlapping().is_empty());
        }
    }

    async fn a_refund_that_failed_keeps_its_amount_for_a_person(db) {
        let platform = Platform::new(true);
        platform.next([Does::Work, Does::Status(422)]);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        db.outbox.enqueue_all(&db.pool, refund_and_reversal()).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_state("refund:1:re_1", State::Failed).await;
        assert_eq!(db.outbox.erase(&db.pool, "C1").await.unwrap(), 2);
        let problem = db.outbox.problems(0, 10).await.unwrap().remove(0);
        assert_eq!((problem.details, problem.report.as_ref().unwrap().customer()), (None, None));
        assert!(db.outbox.resend("refund:1:re_1").await.unwrap());
        db.until_done("refund:1:re_1").await;
        worker.stop().await;
        assert_eq!(platform.told("refund:1:re_1")["amount"], "5.00 EUR");
    }

    async fn what_is_on_its_way_is_not_written_back(db) {
        for does in [Does::Work, Does::Status(500), Does::Status(422)] {
            let platform = Platform::new(true).latency(Duration::from_millis(50));
            platform.next([does]);
            let id = format!("{does:?}");
            db.outbox.enqueue(&db.pool, sale(&id, "C1").with_email("ann@example.com")).await.unwrap();
            let worker = start(db.outbox.worker(platform.reports()));
            platform.until_calls(1).await;
            assert!(db.outbox.erase(&db.pool, "C1").await.unwrap() > 0);
            let id = format!("sale:{id}");
            let entry = db.until(&id, |entry| !entry.history.is_empty()).await;
            worker.stop().await;
            assert!(entry.state.is_finished(), "{entry:?}");
            assert!(entry.report.is_none() && entry.details.is_none());
            assert_eq!(platform.calls().len(), 1);
            let text = "SELECT count(*) FROM referral_outbox WHERE CAST(report AS text) LIKE '%ann@%'
                OR CAST(history AS text) LIKE '%Ann%'";
            let (found,): (i64,) = sqlx::query_as(text).fetch_one(&db.pool).await.unwrap();
            assert_eq!(found, 0);
        }
    }
}

/// A part of what C1 paid for order 1 goes back, and doesn't after all.
fn refund_and_reversal() -> [Report; 2] {
    let amount = Money::new("5", "EUR").unwrap();
    let refund = Refund::part("1", amount).unwrap().with_id("re_1").unwrap();
    let refund = refund.with_customer("C1").unwrap();
    let reversal = RefundReversal::part("1", amount).unwrap();
    [
        refund.with_reason("Ann sent it back").into(),
        reversal.with_refund("re_1").unwrap().into(),
    ]
}

mod late {
    use super::*;

    /// Credit comes while what is left of old rows is deleted.
    #[tokio::test]
    async fn a_sale_that_gets_credit_while_old_rows_are_deleted_is_sent() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let platform = Platform::new(true);
        let bare = [1, 2].map(|order| bare_sale(order, "C1").into());
        db.outbox.enqueue_all(&db.pool, bare).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        let old = "UPDATE referral_outbox SET finished_at = 1, reduced_at = 1";
        sqlx::query(old).execute(&db.pool).await.unwrap();
        let mut webhook = db.pool.begin().await.unwrap();
        let changed = db.outbox.enqueue(&mut *webhook, sale(1, "C1"));
        assert_eq!(changed.await.unwrap(), Enqueued::Changed);
        let worker = start(db.outbox.worker(platform.reports()).keep_rows(DAY));
        let cleaned = async {
            while db.outbox.find("sale:2").await.unwrap().is_some()
                && !db.has_waiting_statement().await
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let cleaned = tokio::time::timeout(crate::database::PATIENCE, cleaned).await;
        cleaned.unwrap();
        webhook.commit().await.unwrap();
        let is_recorded = |entry: &Entry| entry.outcome.as_deref() == Some("recorded");
        db.until("sale:1", is_recorded).await;
        worker.stop().await;
    }
}
