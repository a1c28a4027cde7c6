//! What is sent before what, and what new knowledge reopens.

use std::time::Duration;

use tower_referral_outbox::{Database, Enqueued, Entry, State};
use tower_referral_platforms::{Money, Outcome, Sale, SaleUpdate, SignUp};

use crate::database::{Db, Running, on_both, start};
use crate::platform::{Does, Platform, bare_sale, refund, sale, sign_up};

fn is_recorded(entry: &Entry) -> bool {
    entry.outcome.as_deref() == Some("recorded")
}

/// Checks that the sale waits for the end of its refund's call, and lets both end.
async fn sale_waits_for_its_refund<D: Database>(db: &Db<D>, platform: &Platform, worker: Running) {
    let is_looked_at = |entry: &Entry| entry.waits_for.is_some() || entry.state != State::Waiting;
    let waiting = db.until("sale:1", is_looked_at).await;
    assert_eq!(waiting.waits_for.as_deref(), Some("refund:1"));
    platform.let_answer(3);
    db.until("refund:1", is_recorded).await;
    worker.stop().await;
    assert!(platform.overlapping().is_empty());
    assert_eq!(platform.recorded(), ["sale:1", "refund:1"]);
}

on_both! {
    async fn reports_of_one_order_go_one_after_another_and_after_the_sign_up(db) {
        let platform = Platform::new(true).latency(Duration::from_millis(3));
        for customer in 0..10 {
            let name = format!("C{customer}");
            db.outbox.enqueue(&db.pool, sign_up(&name)).await.unwrap();
            for order in 0..3 {
                let order = format!("{customer}-{order}");
                db.outbox.enqueue(&db.pool, sale(&order, &name)).await.unwrap();
                for update in 0..3 {
                    let update = SaleUpdate::new(&order, update).unwrap();
                    db.outbox.enqueue(&db.pool, update).await.unwrap();
                }
                db.outbox.enqueue(&db.pool, refund(&order)).await.unwrap();
            }
        }
        let workers: Vec<_> =
            (0..2).map(|_| start(db.outbox.worker(platform.reports()))).collect();
        db.until_empty().await;
        for worker in workers {
            worker.stop().await;
        }
        let recorded = platform.recorded();
        assert_eq!(recorded.len(), 10 * (1 + 3 * 5));
        assert_eq!(platform.calls().len(), recorded.len(), "nothing twice");
        assert!(platform.overlapping().is_empty());
        let place = |id: String| recorded.iter().position(|told| *told == id).unwrap();
        for customer in 0..10 {
            let sign_up = place(format!("signup:C{customer}"));
            for order in 0..3 {
                let order = format!("{customer}-{order}");
                let updates = (0..3).map(|n| place(format!("sale_update:{order}:{n}")));
                let refund = place(format!("refund:{order}"));
                let expected: Vec<usize> =
                    [place(format!("sale:{order}"))].into_iter().chain(updates).chain([refund]).collect();
                assert!(sign_up < expected[0]);
                assert!(expected.is_sorted(), "{order}: {expected:?}");
            }
        }
    }

    async fn an_id_that_the_platform_gave_is_handed_on(db) {
        let platform = Platform::new(true);
        for report in [sign_up("C1").into(), sale(1, "C1").into(), refund(1).into()] {
            let report: tower_referral_platforms::Report = report;
            db.outbox.enqueue(&db.pool, report).await.unwrap();
        }
        let worker = start(db.outbox.worker(platform.reports()));
        let refund = db.until_done("refund:1").await;
        worker.stop().await;
        let ids = refund.platform_ids.unwrap();
        assert_eq!(ids["sale"], "at-sale:1");
        assert_eq!(ids["customer"], "at-signup:C1");
    }

    /// CASES.md R12.
    async fn a_refund_that_comes_before_its_sale_waits_and_goes_after_it(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        let held = db.until_state("refund:1", State::Held).await;
        assert_eq!(held.waits_for.as_deref(), Some("sale:1"));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let done = db.until_done("refund:1").await;
        worker.stop().await;
        assert_eq!(done.outcome.as_deref(), Some("recorded"));
        assert_eq!(platform.recorded(), ["sale:1", "refund:1"]);
    }

    async fn a_refund_in_front_of_its_sale_does_not_hold_it_up(db) {
        let platform = Platform::new(true);
        let both = [refund(1).into(), sale(1, "C1").into()];
        db.outbox.enqueue_all(&db.pool, both).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("refund:1").await;
        worker.stop().await;
        assert_eq!(platform.recorded(), ["sale:1", "refund:1"]);
    }

    async fn a_refund_of_a_sale_from_before_the_outbox_goes_after_some_days(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let worker = start(db.outbox.worker(platform.reports()).refund_patience(3 * day));
        db.until_state("refund:1", State::Held).await;
        assert!(platform.calls().is_empty());
        db.outbox.advance_clock(3 * day);
        let done = db.until_done("refund:1").await;
        worker.stop().await;
        assert_eq!(done.outcome.as_deref(), Some("not_attributed"));
    }

    /// CASES.md R11.
    async fn a_sale_without_credit_is_sent_again_with_it(db) {
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap();
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        for id in ["sale:1", "refund:1"] {
            let done = db.until_done(id).await;
            assert_eq!(done.outcome.as_deref(), Some("not_attributed"));
        }
        let changed = db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        assert_eq!(changed, Enqueued::Changed);
        let sale = db.until("sale:1", is_recorded).await;
        assert_eq!(sale.history.len(), 2, "{:?}", sale.history);
        // What found no sale goes again, too.
        db.until("refund:1", is_recorded).await;
        worker.stop().await;
        assert_eq!(platform.recorded(), ["sale:1", "refund:1"]);
        assert_eq!(db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap(), Enqueued::Known);
    }

    async fn a_refund_of_a_guest_names_the_customer_to_whom_the_sale_is_credited(db) {
        let platform = Platform::new(true);
        let amount = Money::new("99.99", "EUR").unwrap();
        let guest = Sale::guest(1, SignUp::new("cus_1").unwrap(), amount).unwrap();
        let of_guest = refund(1).with_customer("cus_1").unwrap();
        db.outbox.enqueue_all(&db.pool, [guest.into(), of_guest.into()]).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        db.until("refund:1", is_recorded).await;
        worker.stop().await;
        assert_eq!(platform.told("refund:1")["customer"], "C1");
    }

    async fn credit_that_comes_while_the_call_is_under_way_waits_for_its_end(db) {
        let platform = Platform::new(true).latency(Duration::from_millis(50));
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        let changed = db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        assert_eq!(changed, Enqueued::Changed);
        db.until("sale:1", is_recorded).await;
        worker.stop().await;
        assert!(platform.overlapping().is_empty());
        assert_eq!(platform.calls(), ["sale:1", "sale:1"]);
        assert_eq!(platform.told("sale:1")["credit"]["key"], "P1");
    }

    async fn a_sale_that_gets_credit_waits_for_its_refund_that_is_under_way(db) {
        let platform = Platform::new(true).gated();
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.let_answer(1);
        db.until_done("sale:1").await;
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        platform.until_calls(2).await;
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        sale_waits_for_its_refund(&db, &platform, worker).await;
    }

    async fn a_sale_that_comes_late_waits_for_its_refund_that_is_under_way(db) {
        let platform = Platform::new(true).gated();
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).refund_patience(Duration::ZERO));
        platform.until_calls(1).await;
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        sale_waits_for_its_refund(&db, &platform, worker).await;
    }

    async fn credit_that_comes_later_changes_nothing_that_is_recorded(db) {
        let platform = Platform::new(true);
        platform.next([Does::RecordAndBreak]);
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1").with_coupon("SUMMER")).await.unwrap();
        assert!(db.outbox.settle("sale:1", Outcome::Recorded).await.is_ok_and(|is| !is));
        let worker = start(db.outbox.worker(Platform::new(true).reports()));
        db.until_done("sale:1").await;
        worker.stop().await;
        let set = "UPDATE referral_outbox SET outcome = 'recorded' WHERE id = 'sale:1'";
        sqlx::query(set).execute(&db.pool).await.unwrap();
        assert_eq!(db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap(), Enqueued::Known);
    }

    async fn a_queue_under_one_key_does_not_hold_up_the_others(db) {
        let platform = Platform::new(true);
        platform.next([Does::Hang]);
        db.outbox.enqueue(&db.pool, sale("long", "C1")).await.unwrap();
        for update in 0..300 {
            let update = SaleUpdate::new("long", update).unwrap();
            db.outbox.enqueue(&db.pool, update).await.unwrap();
        }
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        for order in 0..20 {
            db.outbox.enqueue(&db.pool, sale(order, "C2")).await.unwrap();
        }
        for order in 0..20 {
            db.until_done(&format!("sale:{order}")).await;
        }
        assert_eq!(platform.calls().len(), 21);
        drop(worker);
    }
}

mod late {
    use super::*;

    /// Two transactions about one order are in the order of their commits.
    #[tokio::test]
    async fn a_report_that_commits_late_is_not_overtaken() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let platform = Platform::new(true);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:1").await;
        let mut first = db.pool.begin().await.unwrap();
        let update = |n: u32| SaleUpdate::new("1", n).unwrap();
        db.outbox.enqueue(&mut *first, update(1)).await.unwrap();
        let (outbox, pool) = (db.outbox.clone(), db.pool.clone());
        let second = tokio::spawn(async move { outbox.enqueue(&pool, update(2)).await.unwrap() });
        // Another order isn't held up by it.
        db.outbox.enqueue(&db.pool, sale(2, "C1")).await.unwrap();
        db.until_done("sale:2").await;
        assert!(!second.is_finished());
        first.commit().await.unwrap();
        second.await.unwrap();
        db.until_done("sale_update:1:2").await;
        worker.stop().await;
        let updates: Vec<String> = platform
            .calls()
            .into_iter()
            .filter(|id| id.starts_with("sale_update"))
            .collect();
        assert_eq!(updates, ["sale_update:1:1", "sale_update:1:2"]);
    }

    /// A payment's webhook commits while the worker saves that nobody was credited.
    #[tokio::test]
    async fn credit_that_commits_while_the_result_is_saved_is_sent() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let platform = Platform::new(true).gated();
        let bare = bare_sale(1, "C1");
        db.outbox.enqueue(&db.pool, bare).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        let mut webhook = db.pool.begin().await.unwrap();
        let changed = db.outbox.enqueue(&mut *webhook, sale(1, "C1"));
        assert_eq!(changed.await.unwrap(), Enqueued::Changed);
        platform.let_answer(2);
        db.until_statement_waits().await;
        webhook.commit().await.unwrap();
        db.until("sale:1", is_recorded).await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["sale:1", "sale:1"]);
    }

    #[tokio::test]
    async fn an_erasure_that_commits_while_the_result_is_saved_is_not_undone() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let platform = Platform::new(true).gated();
        let bare = bare_sale(1, "C1");
        db.outbox.enqueue(&db.pool, bare).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let mut erasure = db.pool.begin().await.unwrap();
        db.outbox.erase(&mut *erasure, "C1").await.unwrap();
        platform.let_answer(1);
        db.until_statement_waits().await;
        erasure.commit().await.unwrap();
        let is_saved = |entry: &Entry| !entry.history.is_empty();
        let entry = db.until("sale:1", is_saved).await;
        worker.stop().await;
        assert_eq!(entry.state, State::Done, "{entry:?}");
    }

    #[tokio::test]
    async fn a_refund_that_is_erased_while_its_sale_is_saved_is_not_sent() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let platform = Platform::new(true).gated();
        let bare = bare_sale(1, "C1");
        db.outbox.enqueue(&db.pool, bare).await.unwrap();
        let refund = refund(1).with_customer("C2").unwrap();
        db.outbox.enqueue(&db.pool, refund).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.let_answer(2);
        db.until_done("refund:1").await;
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        platform.until_calls(3).await;
        let mut erasure = db.pool.begin().await.unwrap();
        db.outbox.erase(&mut *erasure, "C2").await.unwrap();
        platform.let_answer(1);
        db.until_statement_waits().await;
        erasure.commit().await.unwrap();
        db.until("sale:1", is_recorded).await;
        worker.stop().await;
        let refund = db.outbox.find("refund:1").await.unwrap().unwrap();
        assert_eq!(
            refund.state,
            State::Failed,
            "without its amount: {refund:?}"
        );
    }
}
