//! How often a webhook request goes to the database: counted on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_referral_outbox::Outbox;
use tower_referral_platforms::payment::{Event, PaymentLink};

use crate::books::{CREDIT, user, users};
use crate::common::{credit, paddle_event, stripe_event};
use crate::paddle_events;
use crate::stripe_events::{Shape, session, subscription_session};

/// A way to PostgreSQL that counts: each `Sync` and each simple query is answered, and waited for.
async fn counting(port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
            });
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut is_started = false;
                loop {
                    // Only what opens a connection has no kind.
                    let mut kind = [0];
                    if is_started && from_client.read_exact(&mut kind).await.is_err() {
                        return;
                    }
                    let Ok(len) = from_client.read_u32().await else {
                        return;
                    };
                    let mut message = vec![0; len as usize - 4];
                    from_client.read_exact(&mut message).await.unwrap();
                    if matches!(kind[0], b'S' | b'Q') {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    if is_started {
                        to_server.write_all(&kind).await.unwrap();
                    }
                    is_started = true;
                    to_server.write_u32(len).await.unwrap();
                    to_server.write_all(&message).await.unwrap();
                }
            });
        }
    });
    (own, count)
}

async fn order(tx: &mut Transaction<'_, Postgres>) {
    sqlx::query("INSERT INTO orders (name) VALUES ($1)")
        .bind("one")
        .execute(&mut **tx)
        .await
        .unwrap();
}

/// The round trips of a request that writes an order and books these events.
async fn trips(
    pool: &PgPool,
    outbox: &Outbox<Postgres>,
    count: &AtomicUsize,
    events: &[Event],
) -> usize {
    let mut connection = pool.acquire().await.unwrap();
    count.store(0, Ordering::SeqCst);
    let mut tx = sqlx::Connection::begin(&mut *connection).await.unwrap();
    order(&mut tx).await;
    for event in events {
        let booked = outbox.book(&mut tx, event).await.unwrap();
        assert!(!booked.reports.is_empty(), "{event:?}");
    }
    tx.commit().await.unwrap();
    count.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_webhook_takes_at_most_three_round_trips_more_than_the_bare_order() {
    let Some(db) = crate::database::postgres().await else {
        return;
    };
    users!(db);
    user!(db, "C1", "P1");
    sqlx::raw_sql("CREATE TABLE orders (name text)")
        .execute(&db.pool)
        .await
        .unwrap();
    let options: PgConnectOptions = db.url.parse().unwrap();
    let (port, count) = counting(options.get_port()).await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options.port(port)).await.unwrap();
    let asking = Outbox::postgres(pool.clone()).with_credit_query(CREDIT);
    let plain = Outbox::postgres(pool.clone());
    let shape = Shape::New;
    let bought = subscription_session("cs_0", "in_0");
    let bought = stripe_event(&shape.event("checkout.session.completed", bought));
    let link = PaymentLink::of_customer("C1")
        .unwrap()
        .with_credit(credit("P1"));
    for event in [bought, link.into()] {
        let mut tx = pool.begin().await.unwrap();
        let _ = plain.book(&mut tx, &event).await.unwrap();
        tx.commit().await.unwrap();
    }

    let invoice = |n: u32, reason: &str, has_metadata: bool| {
        let mut object = shape.invoice(&format!("in_{n}_{reason}_{has_metadata}"), 11_900, 10_000);
        object["billing_reason"] = reason.into();
        if !has_metadata {
            object["parent"]["subscription_details"]["metadata"] = serde_json::json!({});
            object["lines"]["data"] = serde_json::json!([]);
        }
        stripe_event(&shape.event("invoice.paid", object))
    };
    // The first time prepares the statements.
    for n in 0..2 {
        let bare = trips(&pool, &plain, &count, &[]).await;
        assert!(n == 0 || bare == 3, "{bare}");
        for outbox in [&plain, &asking] {
            for reason in [
                "subscription_create",
                "subscription_cycle",
                "subscription_update",
            ] {
                for has_metadata in [true, false] {
                    let kind = if std::ptr::eq(outbox, &plain) {
                        n
                    } else {
                        n + 10
                    };
                    let event = invoice(kind, reason, has_metadata);
                    let taken = trips(&pool, outbox, &count, &[event]).await;
                    assert!(
                        n == 0 || taken <= bare + 3,
                        "{reason}, {has_metadata}: {taken}"
                    );
                }
            }
            let kind = if std::ptr::eq(outbox, &plain) {
                n
            } else {
                n + 10
            };
            let mut once = session(&format!("cs_{kind}"), 11_900, 1_900);
            once["metadata"]["order"] = format!("O{kind}").into();
            let once = stripe_event(&shape.event("checkout.session.completed", once));
            let taken = trips(&pool, outbox, &count, &[once]).await;
            assert!(n == 0 || taken <= bare + 3, "one-time: {taken}");
            let refund = shape.refund("re_1", &format!("cs_{kind}"), 3_000, "succeeded");
            let refund = stripe_event(&shape.event("refund.created", refund));
            let taken = trips(&pool, outbox, &count, &[refund]).await;
            assert!(n == 0 || taken <= bare + 2, "refund: {taken}");
            let data = paddle_events::transaction(
                &format!("txn_{kind}"),
                10_000,
                1_900,
                "subscription_recurring",
            );
            let paid = paddle_event(&paddle_events::event(
                "transaction.completed",
                "2026-11-26T10:00:00Z",
                data,
            ));
            let taken = trips(&pool, outbox, &count, &[paid]).await;
            assert!(n == 0 || taken <= bare + 3, "paddle: {taken}");
        }
    }
}
