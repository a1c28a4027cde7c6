//! An event is booked, and what follows is enqueued, in the caller's transaction.

use sqlx::Pool;
use tower_referral_outbox::{Database, Error, Outbox};
use tower_referral_platforms::payment::{
    Booked, Event, Link, Payment, PaymentLink, Reason, Record, book,
};
use tower_referral_platforms::{Money, Report};

use crate::common::{credit, stripe_event};
use crate::database::on_both;
use crate::platform::Platform;
use crate::stripe_events::{Shape, session};

pub(crate) const CREDIT: &str = "SELECT credit FROM users WHERE id = $1 OR payer = $1 ;";

/// Creates the application's own table.
macro_rules! users {
    ($db:expr) => {
        sqlx::raw_sql("CREATE TABLE users (id text PRIMARY KEY, payer text, credit text)")
            .execute(&$db.pool)
            .await
            .unwrap()
    };
}

/// Writes the application's own row of a customer.
macro_rules! user {
    ($db:expr, $id:expr, $key:expr) => {
        sqlx::query("INSERT INTO users (id, credit) VALUES ($1, $2)")
            .bind($id)
            .bind(serde_json::to_string(&crate::common::credit($key)).unwrap())
            .execute(&$db.pool)
            .await
            .unwrap()
    };
}

/// Reads what is stored of payments, by ID.
macro_rules! records {
    ($db:expr) => {{
        let rows: Vec<(String,)> = sqlx::query_as("SELECT record FROM referral_payments")
            .fetch_all(&$db.pool)
            .await
            .unwrap();
        let records = rows
            .iter()
            .map(|(json,)| serde_json::from_str(json).unwrap());
        crate::books::sorted(records.collect())
    }};
}

/// Reads what the outbox was told, in that order.
macro_rules! told {
    ($db:expr) => {{
        let all = "SELECT CAST(report AS text) FROM referral_outbox ORDER BY seq";
        let rows: Vec<(String,)> = sqlx::query_as(all).fetch_all(&$db.pool).await.unwrap();
        let reports = rows
            .iter()
            .map(|(json,)| serde_json::from_str(json).unwrap());
        reports.collect::<Vec<tower_referral_platforms::Report>>()
    }};
}

/// Reads the IDs of the reports in the outbox, also of those whose content is gone.
macro_rules! told_ids {
    ($db:expr) => {{
        let all = "SELECT id FROM referral_outbox ORDER BY seq";
        let rows: Vec<(String,)> = sqlx::query_as(all).fetch_all(&$db.pool).await.unwrap();
        rows.into_iter().map(|(id,)| id).collect::<Vec<_>>()
    }};
}
pub(crate) use {records, told, told_ids, user, users};

pub(crate) fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|one, other| one.id().cmp(other.id()));
    records
}

/// All that a webhook handler does.
pub(crate) async fn enter<D: Database>(
    pool: &Pool<D>,
    outbox: &Outbox<D>,
    event: &Event,
) -> Result<Booked, Error> {
    let mut tx = pool.begin().await?;
    let booked = outbox.book(&mut tx, event).await?;
    tx.commit().await?;
    Ok(booked)
}

fn ids(booked: &Booked) -> Vec<String> {
    booked.reports.iter().map(Report::id).collect()
}

fn paid(id: &str) -> Event {
    let json = Shape::New.event("checkout.session.completed", session(id, 11_900, 1_900));
    stripe_event(&json)
}

fn invoice(id: &str) -> Event {
    stripe_event(&Shape::New.event("invoice.paid", Shape::New.invoice(id, 11_900, 10_000)))
}

fn refund(id: &str, of: &str, amount: i64) -> Event {
    let object = Shape::New.refund(id, of, amount, "succeeded");
    stripe_event(&Shape::New.event("refund.created", object))
}

on_both! {
    async fn an_event_and_its_reports_are_committed_together(db) {
        let mut tx = db.pool.begin().await.unwrap();
        let booked = db.outbox.book(&mut tx, &paid("cs_1")).await.unwrap();
        assert_eq!(ids(&booked), ["sale:O1"]);
        tx.rollback().await.unwrap();
        assert_eq!((told!(db), records!(db)), (vec![], vec![]));
        let booked = enter(&db.pool, &db.outbox, &paid("cs_1")).await.unwrap();
        assert_eq!(ids(&booked), ["sale:O1"]);
        assert_eq!(told!(db), booked.reports);
        assert_eq!(records!(db).len(), 1);
        // Repeated, and refunded in part and in whole.
        let booked = enter(&db.pool, &db.outbox, &paid("cs_1")).await.unwrap();
        assert_eq!(booked.reason, Some(Reason::AlreadyBooked));
        for (id, amount) in [("re_1", 3_000), ("re_2", 8_900), ("re_2", 8_900)] {
            let _ = enter(&db.pool, &db.outbox, &refund(id, "cs_1", amount)).await.unwrap();
        }
        let told: Vec<String> = told!(db).iter().map(Report::id).collect();
        assert_eq!(told, ["sale:O1", "refund:O1:re_1", "refund:O1:re_2"]);
    }

    async fn a_refund_before_its_payment_waits_for_it(db) {
        let booked = enter(&db.pool, &db.outbox, &refund("re_1", "cs_1", 11_900)).await.unwrap();
        assert_eq!(booked.reason, Some(Reason::WaitsForSale));
        assert_eq!(told!(db), []);
        let booked = enter(&db.pool, &db.outbox, &paid("cs_1")).await.unwrap();
        assert_eq!(ids(&booked), ["sale:O1", "refund:O1:re_1"]);
        assert_eq!(told!(db), booked.reports);
    }

    async fn two_invoices_of_one_payment_intent_stay_two_sales(db) {
        let link = |invoice: &str| {
            let mut json = Shape::New.invoice_payment(invoice).unwrap();
            json["data"]["object"]["payment"]["payment_intent"] = "pi_in_1".into();
            stripe_event(&json)
        };
        for event in [invoice("in_1"), invoice("in_2"), link("in_1")] {
            let _ = enter(&db.pool, &db.outbox, &event).await.unwrap();
        }
        let (shared, again) = (Reason::SharedPayment, Reason::AlreadyBooked);
        for (event, reason) in [
            (link("in_2"), shared),
            (refund("re_1", "in_1", 3_000), shared),
            (link("in_2"), again),
            (invoice("in_2"), again),
        ] {
            let booked = enter(&db.pool, &db.outbox, &event).await.unwrap();
            assert_eq!((booked.reports, booked.reason), (vec![], Some(reason)));
        }
        let told: Vec<String> = told!(db).iter().map(Report::id).collect();
        assert_eq!(told, ["sale:in_1", "sale:in_2"]);
        // One for each sale, and one for each account: of the refund nothing is kept.
        assert_eq!(records!(db).len(), 4);
    }

    async fn the_credit_is_in_the_applications_own_row(db) {
        users!(db);
        user!(db, "C1", "P7");
        let outbox = db.outbox.clone().with_credit_query(CREDIT);
        let booked = enter(&db.pool, &outbox, &invoice("in_1")).await.unwrap();
        assert_eq!(booked.reports[0].credit(), Some(&credit("P7")));
        // Nobody has a row, or the row has no credit: a sale without credit, until there is one.
        sqlx::query("DELETE FROM users").execute(&db.pool).await.unwrap();
        let booked = enter(&db.pool, &outbox, &invoice("in_2")).await.unwrap();
        assert_eq!(booked.reports[0].credit(), None);
        sqlx::query("INSERT INTO users (id) VALUES ('C1')").execute(&db.pool).await.unwrap();
        let booked = enter(&db.pool, &outbox, &invoice("in_3")).await.unwrap();
        assert_eq!(booked.reports[0].credit(), None);
        let link = PaymentLink::of_customer("C1").unwrap().with_credit(credit("P8"));
        let booked = enter(&db.pool, &outbox, &link.into()).await.unwrap();
        assert_eq!(ids(&booked), ["sale:in_2", "sale:in_3"]);
        let told = told!(db);
        assert_eq!(told[1].credit(), Some(&credit("P8")));
        assert_eq!(told.len(), 3);
    }

    async fn a_customer_may_be_known_by_the_providers_id(db) {
        users!(db);
        user!(db, "42", "P7");
        sqlx::query("UPDATE users SET payer = 'cus_1'").execute(&db.pool).await.unwrap();
        let outbox = db.outbox.clone().with_credit_query(CREDIT);
        let mut object = Shape::New.invoice("in_1", 11_900, 10_000);
        object["parent"]["subscription_details"]["metadata"] = serde_json::json!({});
        object["lines"]["data"] = serde_json::json!([]);
        let renewal = stripe_event(&Shape::New.event("invoice.paid", object));
        let booked = enter(&db.pool, &outbox, &renewal).await.unwrap();
        assert_eq!(booked.reports[0].credit(), Some(&credit("P7")));
    }

    async fn an_answer_that_is_no_credit_fails_and_shows_nothing(db) {
        users!(db);
        sqlx::query("INSERT INTO users (id, credit) VALUES ('C1', 'SECRET-KEY')")
            .execute(&db.pool).await.unwrap();
        let outbox = db.outbox.clone().with_credit_query(CREDIT);
        let error = enter(&db.pool, &outbox, &invoice("in_1")).await.unwrap_err();
        assert!(matches!(error, Error::Credit), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        assert_eq!((told!(db), records!(db)), (vec![], vec![]));
        let outbox = db.outbox.clone().with_credit_query("SELECT nothing FROM nowhere");
        let error = enter(&db.pool, &outbox, &invoice("in_1")).await.unwrap_err();
        assert!(matches!(error, Error::Database(_)), "{error:?}");
    }

    async fn reports_may_go_another_way_than_into_the_outbox(db) {
        let mut tx = db.pool.begin().await.unwrap();
        let mut books = db.outbox.payment_books(&mut tx);
        let booked = book(&mut books, &paid("cs_1")).await.unwrap();
        assert_eq!(ids(&booked), ["sale:O1"]);
        // Several events in one transaction.
        let booked = book(&mut books, &refund("re_1", "cs_1", 3_000)).await.unwrap();
        assert_eq!(ids(&booked), ["refund:O1:re_1"]);
        let booked = book(&mut books, &paid("cs_1")).await.unwrap();
        assert_eq!(booked.reason, Some(Reason::AlreadyBooked));
        tx.commit().await.unwrap();
        assert_eq!(told!(db), []);
        assert_eq!(records!(db).len(), 1);
    }

    async fn ids_of_any_length_and_any_character_are_stored(db) {
        let eur = Money::from_minor(100, "EUR").unwrap();
        let link = |end: &str| Link::new("shop", "payment", format!("{}{end}", "ü\0'\"%:".repeat(300)));
        for (order, end) in [("1", "a"), ("2", "b")] {
            let payment = Payment::new(order, link(end), eur, eur).unwrap();
            let booked = enter(&db.pool, &db.outbox, &payment.into()).await;
            let booked = booked.unwrap();
            assert_eq!(ids(&booked), [format!("sale:{order}")]);
        }
        let records = records!(db);
        assert_eq!(records.len(), 2);
    }

    async fn tables_of_an_older_version_are_named_and_brought_up(db) {
        for table in ["referral_payment_links", "referral_payments"] {
            let text = format!("DROP TABLE {table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&db.pool).await.unwrap();
        }
        let error = enter(&db.pool, &db.outbox, &paid("cs_1")).await.unwrap_err();
        assert!(matches!(error, Error::NotMigrated), "{error:?}");
        let _ = sqlx::raw_sql("DROP FUNCTION referral_payments_find").execute(&db.pool).await;
        let error = enter(&db.pool, &db.outbox, &paid("cs_1")).await.unwrap_err();
        assert!(matches!(error, Error::NotMigrated), "{error:?}");
        let older = "UPDATE referral_outbox_schema SET version = 1";
        sqlx::query(older).execute(&db.pool).await.unwrap();
        let worker = db.outbox.worker(Platform::new(true).reports());
        let error = worker.run(std::future::pending()).await.unwrap_err();
        assert!(matches!(error, Error::NotMigrated), "{error:?}");
        let outbox = db.outbox.clone().migrate().await.unwrap();
        let booked = enter(&db.pool, &outbox, &paid("cs_1")).await.unwrap();
        assert_eq!(ids(&booked), ["sale:O1"]);
    }
}

#[tokio::test]
async fn a_transaction_that_does_not_see_what_others_commit_is_refused() {
    let Some(db) = crate::database::postgres().await else {
        return;
    };
    for (level, is_taken) in [
        ("REPEATABLE READ", false),
        ("SERIALIZABLE", true),
        ("READ COMMITTED", true),
    ] {
        let mut tx = db.pool.begin().await.unwrap();
        let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set))
            .execute(&mut *tx)
            .await
            .unwrap();
        let booked = db.outbox.book(&mut tx, &paid("cs_1")).await;
        assert_eq!(booked.is_ok(), is_taken, "{level}: {booked:?}");
        if let Err(error) = booked {
            assert!(error.to_string().contains("use READ COMMITTED"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_credit_may_be_json_of_any_kind() {
    let Some(db) = crate::database::postgres().await else {
        return;
    };
    for (n, query) in [
        "SELECT '{\"key\": \"P7\"}'::jsonb WHERE $1 = 'C1'",
        "SELECT '{\"key\": \"P7\"}'::json WHERE $1 = 'C1'; ",
        "SELECT json_build_object('key', 'P7') WHERE $1 = 'C1' -- of the row",
        "WITH user_row(k) AS (SELECT 'P7') SELECT json_build_object('key', k) FROM user_row WHERE $1 = 'C1'",
    ]
    .into_iter()
    .enumerate()
    {
        let outbox = db.outbox.clone().with_credit_query(query);
        let booked = enter(&db.pool, &outbox, &invoice(&format!("in_{n}"))).await.unwrap();
        assert_eq!(booked.reports[0].credit(), Some(&credit("P7")), "{query}");
    }
}
