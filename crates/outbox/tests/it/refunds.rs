//! Refunds at a platform that needs its own ID of the sale, and doesn't always have given one: a tracker
//! that knows a sale by its click.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tower_referral_outbox::{Deduplicates, State};
use tower_referral_platforms::{Client, Credit, Outcome, Postback, Sale};

use crate::database::{on_both, start};
use crate::platform::{bare_sale, refund};

/// A tracker that refuses everything while it is told to.
fn tracker(refuses: &Arc<AtomicBool>) -> impl Deduplicates {
    let refuses = Arc::clone(refuses);
    let transport = tower::service_fn(move |_: Request<Bytes>| {
        let is_refused = refuses.load(Ordering::Relaxed);
        let answer = Response::builder().status(if is_refused { 400 } else { 200 });
        std::future::ready(Ok::<_, Infallible>(answer.body("OK".to_owned()).unwrap()))
    });
    let tracker = Postback::builder("https://tracker.example/sale?c={click_id}&o={order}")
        .refunds("https://tracker.example/refund?c={click_id}&o={order}");
    Client::new(tracker.build().unwrap(), transport).reports()
}

fn clicked_sale(order: u32) -> Sale {
    bare_sale(order, "C1").with_credit(Credit::of_click("clk_1".parse().unwrap()))
}

on_both! {
    async fn a_refund_whose_sale_may_be_there_without_an_id_is_for_a_person(db) {
        let refuses = Arc::new(AtomicBool::new(true));
        let worker = db.outbox.worker(tracker(&refuses));
        let worker = start(worker.refund_patience(Duration::ZERO));
        // A person entered the first sale by hand.
        db.outbox.enqueue(&db.pool, clicked_sale(1)).await.unwrap();
        db.until_state("sale:1", State::Failed).await;
        assert!(db.outbox.settle("sale:1", Outcome::Recorded).await.unwrap());
        // The row of the second is gone.
        refuses.store(false, Ordering::Relaxed);
        db.outbox.enqueue(&db.pool, clicked_sale(2)).await.unwrap();
        db.until_done("sale:2").await;
        let gone = "DELETE FROM referral_outbox WHERE id = 'sale:2'";
        sqlx::query(gone).execute(&db.pool).await.unwrap();
        // Nobody is credited with the third.
        db.outbox.enqueue(&db.pool, bare_sale(3, "C1")).await.unwrap();
        db.until_done("sale:3").await;
        for order in 1..=3 {
            db.outbox.enqueue(&db.pool, refund(order)).await.unwrap();
        }
        for order in 1..=2 {
            let failed = db.until_state(&format!("refund:{order}"), State::Failed).await;
            assert!(failed.reason.as_ref().unwrap().contains("click"), "{failed:?}");
        }
        let nobodys = db.until_done("refund:3").await;
        assert_eq!(nobodys.outcome.as_deref(), Some("not_attributed"));
        worker.stop().await;
    }

    async fn a_refund_of_a_sale_that_failed_goes_once_that_is_recorded(db) {
        let refuses = Arc::new(AtomicBool::new(true));
        let worker = start(db.outbox.worker(tracker(&refuses)));
        db.outbox.enqueue(&db.pool, clicked_sale(1)).await.unwrap();
        db.until_state("sale:1", State::Failed).await;
        db.outbox.enqueue(&db.pool, refund(1)).await.unwrap();
        let early = db.until_done("refund:1").await;
        assert_eq!(early.outcome.as_deref(), Some("not_attributed"));
        refuses.store(false, Ordering::Relaxed);
        assert!(db.outbox.resend("sale:1").await.unwrap());
        let is_recorded = |outcome: Option<&str>| outcome == Some("recorded");
        db.until("refund:1", |refund| is_recorded(refund.outcome.as_deref())).await;
        worker.stop().await;
    }
}
