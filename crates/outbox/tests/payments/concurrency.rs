//! Two processes that book events of the same payments at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{Pool, Postgres, Sqlite};
use tower_referral::click::Click;
use tower_referral_outbox::{Database, Outbox};
use tower_referral_platforms::payment::{Event, Link, MoneyBack, Payment, PaymentLink};
use tower_referral_platforms::{Money, Report};

use crate::books::{CREDIT, enter, records, told, told_ids, users};
use crate::common::{Sums, credit, stripe_event};
use crate::database::{Db, on_both};
use crate::lives::{Random, paddle_life, stripe_life};
use crate::stripe_events::{Shape, session, subscription_session};

/// Books events as a payment provider sends them: what fails comes again.
async fn send<D: Database>(pool: Pool<D>, outbox: Outbox<D>, events: Vec<Event>) {
    for event in events {
        let mut failures = 0;
        while let Err(error) = enter(&pool, &outbox, &event).await {
            failures += 1;
            assert!(failures < 100, "{error}");
        }
    }
}

/// Connects to the same database once more, as another process would.
async fn again<D: Database>(db: &Db<D>) -> Pool<D> {
    Pool::connect(&db.url).await.unwrap()
}

/// Opens the outbox on either database.
fn outbox<D: Openable>(pool: &Pool<D>) -> Outbox<D> {
    D::open(pool.clone())
}

trait Openable: Database {
    fn open(pool: Pool<Self>) -> Outbox<Self>;
}

impl Openable for Sqlite {
    fn open(pool: Pool<Self>) -> Outbox<Self> {
        Outbox::sqlite(pool)
    }
}

impl Openable for Postgres {
    fn open(pool: Pool<Self>) -> Outbox<Self> {
        Outbox::postgres(pool)
    }
}

/// Has two processes send these events, each in orders of its own, and returns what the platform was
/// told.
macro_rules! at_once {
    ($db:expr, $random:expr, $events:expr) => {{
        let events: Vec<Event> = $events;
        let other = again(&$db).await;
        let mut tasks = Vec::new();
        for pool in [&$db.pool, &other, &$db.pool, &other] {
            let mut events = events.clone();
            $random.shuffle(&mut events);
            let outbox = outbox(pool).with_credit_query(CREDIT);
            tasks.push(tokio::spawn(send(pool.clone(), outbox, events)));
        }
        for task in tasks {
            task.await.unwrap();
        }
        // Nothing of it is news any more.
        let outbox = $db.outbox.clone().with_credit_query(CREDIT);
        for event in &events {
            let booked = enter(&$db.pool, &outbox, event).await.unwrap();
            assert_eq!(booked.reports, [], "{event:?}");
        }
        let (mut sums, mut seen) = (Sums::default(), BTreeSet::new());
        for report in told!($db) {
            sums.add(&mut seen, &report);
        }
        sums
    }};
}

on_both! {
    async fn all_events_of_one_payment_at_once(db) {
        users!(db);
        let mut random = Random::new(1);
        for n in 0..10 {
            let (shape, id) = (Shape::New, format!("in_{n}"));
            let link = PaymentLink::of_customer("C1").unwrap().with_credit(credit("P1"));
            let mut bare = shape.invoice(&id, 11_900, 10_000);
            bare["parent"]["subscription_details"]["metadata"] = serde_json::json!({});
            bare["lines"]["data"] = serde_json::json!([]);
            let bought = subscription_session("cs_1", &id);
            let refund = shape.refund(&format!("re_{n}"), &id, 3_000, "succeeded");
            let dispute = shape.dispute(&format!("re_{n}"), &id, 8_900, "needs_response");
            let mut once = session(&format!("cs_{n}"), 11_900, 1_900);
            once["metadata"]["order"] = format!("O{n}").into();
            let events = vec![
                link.into(),
                stripe_event(&shape.event("invoice.paid", bare)),
                stripe_event(&shape.invoice_payment(&id).unwrap()),
                stripe_event(&shape.event("checkout.session.completed", bought)),
                stripe_event(&shape.event("refund.created", refund)),
                stripe_event(&shape.event("charge.dispute.created", dispute)),
                stripe_event(&shape.event("checkout.session.completed", once)),
            ];
            let sums = at_once!(db, random, events);
            let owed = |back| (1_000_000, back, Some("P1".to_owned()));
            assert_eq!(sums.0[&id], owed(1_000_000), "{n}");
            assert_eq!(sums.0[&format!("O{n}")], owed(0), "{n}");
        }
    }

    async fn a_life_at_once(db) {
        users!(db);
        let mut random = Random::new(2);
        // The credit comes with the events.
        let mut lives = std::iter::repeat_with(|| stripe_life(&mut random));
        let life = lives.find(|life| life.credits.is_empty()).unwrap();
        assert_eq!(at_once!(db, random, life.events.clone()), life.owed());
    }

    async fn a_life_at_paddle_at_once(db) {
        users!(db);
        let mut random = Random::new(3);
        let life = paddle_life(&mut random);
        assert_eq!(at_once!(db, random, life.events.clone()), life.owed());
    }

    async fn an_erasure_at_the_same_time_is_not_undone(db) {
        let shape = Shape::New;
        let invoice = stripe_event(&shape.event("invoice.paid", shape.invoice("in_1", 11_900, 10_000)));
        let link = stripe_event(&shape.invoice_payment("in_1").unwrap());
        let _ = enter(&db.pool, &db.outbox, &invoice).await.unwrap();
        let _ = enter(&db.pool, &db.outbox, &link).await.unwrap();
        let refunds: Vec<Event> = (0..40)
            .map(|n| {
                let object = shape.refund(&format!("re_{n}"), "in_1", 100, "succeeded");
                stripe_event(&shape.event("refund.created", object))
            })
            .collect();
        let sending = tokio::spawn(send(db.pool.clone(), db.outbox.clone(), refunds));
        while let Err(error) = db.outbox.erase(&db.pool, "C1").await {
            assert!(!error.to_string().contains("can't be read"), "{error}");
        }
        sending.await.unwrap();
        let rows: Vec<(String,)> = sqlx::query_as("SELECT record FROM referral_payments")
            .fetch_all(&db.pool).await.unwrap();
        assert!(rows.iter().all(|(record,)| !record.contains("C1")), "{rows:?}");
        assert_eq!(told_ids!(db).len(), 41);
    }

    async fn a_click_of_what_was_booked_while_an_erasure_waited_does_not_come_back(db) {
        let link = Link::new("shop", "payment", "1");
        let price = Money::from_minor(300, "EUR").unwrap();
        let payment = Payment::new("O1", link, price, price).unwrap();
        let payment = payment.with_customer("C1").unwrap();
        let payment = payment.with_credit(credit("P1").with_reference("late"));
        let mut tx = db.pool.begin().await.unwrap();
        let _ = db.outbox.book(&mut tx, &payment.into()).await.unwrap();
        let (outbox, other) = (db.outbox.clone(), again(&db).await);
        let mut erasure = tokio::spawn(async move { outbox.erase(&other, "C1").await });
        let waits = tokio::time::timeout(Duration::from_millis(100), &mut erasure).await;
        assert!(waits.is_err());
        tx.commit().await.unwrap();
        assert_eq!(erasure.await.unwrap().unwrap(), 1);
        let click = Click::new("clk-1".parse().unwrap());
        db.outbox.put_click(&db.pool, "late", &click, Duration::from_secs(60)).await.unwrap();
        assert_eq!(db.outbox.click("late").await.unwrap(), None);
    }

    async fn a_refund_that_waits_for_its_record_finds_it_joined_with_another(db) {
        let link = |id: u8| Link::new("shop", "payment", id);
        let price = Money::from_minor(300, "EUR").unwrap();
        let sale = Payment::new("O1", link(1), price, price).unwrap();
        let sale = sale.with_link(link(2)).with_customer("C1").unwrap();
        let other = PaymentLink::of_payment([link(3), link(4)]);
        for event in [sale.into(), other.into()] {
            let _ = enter(&db.pool, &db.outbox, &event).await.unwrap();
        }
        let mut tx = db.pool.begin().await.unwrap();
        let joined = PaymentLink::of_payment([link(1), link(3)]);
        let _ = db.outbox.book(&mut tx, &joined.into()).await.unwrap();
        let (outbox, pool) = (db.outbox.clone(), again(&db).await);
        let refund = Event::Refunded(MoneyBack::new("re_1", link(2), price).unwrap());
        let mut refunded = tokio::spawn(async move { enter(&pool, &outbox, &refund).await });
        let waits = tokio::time::timeout(Duration::from_millis(100), &mut refunded).await;
        assert!(waits.is_err());
        tx.commit().await.unwrap();
        let booked = refunded.await.unwrap().unwrap();
        assert_eq!(booked.reports.iter().map(Report::id).collect::<Vec<_>>(), ["refund:O1:re_1"]);
        assert_eq!(records!(db).len(), 1);
    }

    async fn a_renewal_at_the_time_of_an_erasure_names_nobody_after_it(db) {
        let shape = Shape::New;
        let renewals: Vec<Event> = (0..40)
            .map(|n| shape.invoice(&format!("in_{n}"), 11_900, 10_000))
            .map(|invoice| stripe_event(&shape.event("invoice.paid", invoice)))
            .collect();
        let _ = enter(&db.pool, &db.outbox, &renewals[0]).await.unwrap();
        let sending = tokio::spawn(send(db.pool.clone(), db.outbox.clone(), renewals));
        while db.outbox.erase(&db.pool, "C1").await.is_err() {}
        sending.await.unwrap();
        for all in [
            "SELECT record FROM referral_payments",
            "SELECT CAST(report AS text) FROM referral_outbox",
        ] {
            let rows: Vec<(String,)> = sqlx::query_as(all).fetch_all(&db.pool).await.unwrap();
            assert!(rows.iter().all(|(row,)| !row.contains("C1")), "{rows:?}");
        }
    }
}
