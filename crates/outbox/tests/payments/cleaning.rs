//! A customer is erased from what is stored of payments, and what nobody needs goes.

use std::time::Duration;

use tower_referral_platforms::Report;
use tower_referral_platforms::payment::{Event, PaymentLink, Reason};

use crate::books::{enter, records, told_ids};
use crate::common::{credit, stripe_event};
use crate::database::{on_both, start};
use crate::platform::Platform;
use crate::stripe_events::{Shape, session, subscription_session};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn signed_up(customer: &str, key: &str) -> Event {
    let link = PaymentLink::of_customer(customer).unwrap();
    link.with_credit(credit(key)).into()
}

fn events() -> Vec<Event> {
    let shape = Shape::New;
    let session = subscription_session("cs_1", "in_1");
    vec![
        signed_up("C1", "SECRET-KEY"),
        stripe_event(&shape.event("checkout.session.completed", session)),
        renewal("in_1"),
        stripe_event(&shape.invoice_payment("in_1").unwrap()),
    ]
}

fn renewal(id: &str) -> Event {
    stripe_event(&Shape::New.event("invoice.paid", Shape::New.invoice(id, 11_900, 10_000)))
}

/// A renewal that says only which subscription it is of.
fn bare_renewal(id: &str) -> Event {
    let mut object = Shape::New.invoice(id, 11_900, 10_000);
    object["parent"]["subscription_details"]["metadata"] = serde_json::json!({});
    object["lines"]["data"] = serde_json::json!([]);
    stripe_event(&Shape::New.event("invoice.paid", object))
}

fn refund(of: &str) -> Event {
    let object = Shape::New.refund("re_1", of, 3_000, "succeeded");
    stripe_event(&Shape::New.event("refund.created", object))
}

/// Reads all that is stored of payments, as text.
macro_rules! text {
    ($db:expr) => {{
        let mut text = String::new();
        for all in [
            "SELECT coalesce(customer, '') || record FROM referral_payments",
            "SELECT link || id FROM referral_payment_links",
            "SELECT CAST(report AS text) || coalesce(blocked_by, '') FROM referral_outbox",
        ] {
            let rows: Vec<(String,)> = sqlx::query_as(all).fetch_all(&$db.pool).await.unwrap();
            rows.iter().for_each(|(row,)| text.push_str(row));
        }
        text
    }};
}

on_both! {
    async fn an_erased_customer_is_nowhere_and_a_refund_still_finds_the_order(db) {
        for event in events() {
            let _ = enter(&db.pool, &db.outbox, &event).await.unwrap();
        }
        let _ = enter(&db.pool, &db.outbox, &signed_up("C2", "KEY-2")).await.unwrap();
        assert!(text!(db).contains("C1") && text!(db).contains("SECRET-KEY"));
        // Undone with the caller's transaction.
        let mut tx = db.pool.begin().await.unwrap();
        db.outbox.erase(&mut *tx, "C1").await.unwrap();
        tx.rollback().await.unwrap();
        assert!(text!(db).contains("SECRET-KEY"));
        db.outbox.erase(&db.pool, "C1").await.unwrap();
        let text = text!(db);
        assert!(!text.contains("C1") && !text.contains("SECRET-KEY"), "{text}");
        assert!(text.contains("C2") && text.contains("KEY-2"), "{text}");
        let booked = enter(&db.pool, &db.outbox, &refund("in_1")).await.unwrap();
        assert_eq!(booked.reports.iter().map(Report::id).collect::<Vec<_>>(), ["refund:in_1:re_1"]);
        let booked = enter(&db.pool, &db.outbox, &renewal("in_1")).await.unwrap();
        assert_eq!(booked.reports, []);
    }

    async fn a_customer_who_paid_as_a_guest_is_erased_by_the_providers_id_too(db) {
        let mut guest = session("cs_1", 11_900, 1_900);
        guest["metadata"] = serde_json::json!({ "order": "O1", "referral": "token-SECRET-KEY" });
        guest["customer"] = "cus_1".into();
        let guest = Shape::New.event("checkout.session.completed", guest);
        let _ = enter(&db.pool, &db.outbox, &stripe_event(&guest)).await.unwrap();
        let _ = enter(&db.pool, &db.outbox, &renewal("in_1")).await.unwrap();
        assert!(text!(db).contains("C1") && text!(db).contains("SECRET-KEY"));
        for name in ["C1", "cus_1"] {
            assert_eq!(db.outbox.erase(&db.pool, name).await.unwrap(), 1);
        }
        let text = text!(db);
        assert!(!text.contains("C1") && !text.contains("SECRET-KEY"), "{text}");
        let named = "SELECT count(*) FROM referral_outbox WHERE CAST(report AS text) LIKE '%cus_1%'";
        let (named,): (i64,) = sqlx::query_as(named).fetch_one(&db.pool).await.unwrap();
        assert_eq!(named, 0);
    }

    async fn no_event_that_comes_again_brings_an_erased_customer_back(db) {
        for event in events() {
            let _ = enter(&db.pool, &db.outbox, &event).await.unwrap();
        }
        db.outbox.erase(&db.pool, "C1").await.unwrap();
        let mut again = events();
        again.remove(0); // a sign-up is the shop's own word, and new
        for event in again.iter().chain(again.iter().rev()) {
            let booked = enter(&db.pool, &db.outbox, event).await.unwrap();
            assert_eq!(booked.reports, []);
        }
        for event in [renewal("in_2"), bare_renewal("in_3")] {
            let booked = enter(&db.pool, &db.outbox, &event).await.unwrap();
            assert_eq!((booked.reports, booked.reason), (vec![], Some(Reason::Erased)));
        }
        let text = text!(db);
        assert!(!text.contains("C1") && !text.contains("SECRET-KEY"), "{text}");
        // A sign-up after that is new, and so is what is bought then.
        let _ = enter(&db.pool, &db.outbox, &signed_up("C1", "NEW-KEY")).await.unwrap();
        let mut invoice = Shape::New.invoice("in_4", 11_900, 10_000);
        invoice["parent"]["subscription_details"]["subscription"] = "sub_2".into();
        invoice["lines"]["data"] = serde_json::json!([]);
        let event = stripe_event(&Shape::New.event("invoice.paid", invoice));
        let booked = enter(&db.pool, &db.outbox, &event).await.unwrap();
        assert_eq!(booked.reports[0].credit(), Some(&credit("NEW-KEY")));
    }

    async fn a_customer_who_is_called_as_anothers_key_erases_nothing_of_the_others(db) {
        let victim = "漢".repeat(100);
        let _ = enter(&db.pool, &db.outbox, &signed_up(&victim, "HONEST")).await.unwrap();
        let keys: Vec<(String,)> = sqlx::query_as("SELECT link FROM referral_payment_links")
            .fetch_all(&db.pool).await.unwrap();
        for (key,) in keys {
            for prefix in ["owner:", "customer:"] {
                let Some(attacker) = key.strip_prefix(prefix) else { continue };
                let _ = enter(&db.pool, &db.outbox, &signed_up(attacker, "OTHER")).await.unwrap();
                db.outbox.erase(&db.pool, attacker).await.unwrap();
                assert!(text!(db).contains("HONEST"), "{}", text!(db));
                assert!(!text!(db).contains("OTHER"), "{}", text!(db));
            }
        }
        db.outbox.erase(&db.pool, &victim).await.unwrap();
        assert!(!text!(db).contains("HONEST"), "{}", text!(db));
    }

    async fn what_nobody_needs_goes_and_a_subscription_that_pays_stays(db) {
        let clean = async || {
            let worker = db.outbox.worker(Platform::new(true).reports());
            let worker = start(worker.keep_payments(100 * DAY));
            db.until_empty().await;
            worker.stop().await;
        };
        for event in events() {
            let _ = enter(&db.pool, &db.outbox, &event).await.unwrap();
        }
        clean().await;
        let before = records!(db).len();
        assert_eq!(before, 4);
        // Paid again and again: its accounts are needed, the first payment isn't.
        for month in 2..6 {
            db.outbox.advance_clock(45 * DAY);
            let event = bare_renewal(&format!("in_{month}"));
            let booked = enter(&db.pool, &db.outbox, &event).await.unwrap();
            assert_eq!(booked.reports[0].credit(), Some(&credit("SECRET-KEY")), "{month}");
        }
        clean().await;
        let gone = async {
            while records!(db).iter().any(|record| record.id().ends_with(":in_1")) {
                clean().await;
            }
        };
        tokio::time::timeout(crate::database::PATIENCE, gone).await.unwrap();
        let ids: Vec<String> = records!(db).iter().map(|it| it.id().to_owned()).collect();
        assert_eq!(ids, [
            "customer:C1", "stripe:customer:cus_1", "stripe:invoice:in_3", "stripe:invoice:in_4",
            "stripe:invoice:in_5", "stripe:subscription:sub_1",
        ]);
        let links = "SELECT count(*) FROM referral_payment_links
            WHERE id NOT IN (SELECT id FROM referral_payments)";
        let (orphans,): (i64,) = sqlx::query_as(links).fetch_one(&db.pool).await.unwrap();
        assert_eq!(orphans, 0);
        // A refund of what is gone waits, and takes nothing.
        let booked = enter(&db.pool, &db.outbox, &refund("in_1")).await.unwrap();
        assert_eq!(booked.reason, Some(Reason::WaitsForSale));
        assert_eq!(told_ids!(db).len(), 5);
    }
}
