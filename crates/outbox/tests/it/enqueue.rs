//! How reports get in: in the caller's transaction, from any driver, once.

use serde_json::{Value, json};
use sqlx::Row;
use tower_referral_outbox::{Enqueued, Error, sql};
use tower_referral_platforms::{
    Cancellation, Money, Refund, RefundReversal, Report, Sale, SaleUpdate, SignUp,
};

use crate::database::{on_both, start};
use crate::platform::{Platform, bare_sale, credit, refund, sale, sign_up};

/// One of each kind, with everything in its IDs that has to be escaped.
fn all_kinds() -> Vec<Report> {
    let money = || Money::new("5", "EUR").unwrap();
    vec![
        sign_up("C:1%").into(),
        SignUp::by_email("ann@example.com").unwrap().into(),
        sale("O:1%", "C:1%").into(),
        Sale::guest("O2", sign_up("C2"), money()).unwrap().into(),
        refund("O:1%").into(),
        Refund::part("O1", money()).unwrap().into(),
        Refund::part("O1", money())
            .unwrap()
            .with_id("re:1")
            .unwrap()
            .into(),
        RefundReversal::whole("O1").unwrap().into(),
        RefundReversal::part("O1", money()).unwrap().into(),
        RefundReversal::whole("O1")
            .unwrap()
            .with_refund("re:1")
            .unwrap()
            .into(),
        SaleUpdate::new("O1", "U:1").unwrap().into(),
        Cancellation::new("C1").unwrap().into(),
        Cancellation::new("C1")
            .unwrap()
            .with_subscription("S:1")
            .unwrap()
            .into(),
    ]
}

on_both! {
    async fn a_report_is_there_with_its_transaction_or_not_at_all(db) {
        let mut tx = db.pool.begin().await.unwrap();
        assert_eq!(db.outbox.enqueue(&mut *tx, sale(1, "C1")).await.unwrap(), Enqueued::New);
        tx.rollback().await.unwrap();
        assert!(db.outbox.find("sale:1").await.unwrap().is_none());

        let mut tx = db.pool.begin().await.unwrap();
        db.outbox.enqueue(&mut *tx, sale(1, "C1")).await.unwrap();
        tx.commit().await.unwrap();
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!(entry.report, Some(sale(1, "C1").into()));
        assert_eq!(db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap(), Enqueued::Known);
    }

    async fn the_columns_are_what_the_report_says(db) {
        for report in all_kinds() {
            db.outbox.enqueue(&db.pool, report.clone()).await.unwrap();
            let row = sqlx::query(
                "SELECT kind, id, sequence_key, depends_on, customer_id, has_credit
                FROM referral_outbox WHERE id = $1",
            );
            let id = report.id();
            let row = row.bind(&id).fetch_one(&db.pool).await.unwrap_or_else(|_| panic!("{id}"));
            assert_eq!(row.get::<String, _>("kind"), report.kind());
            assert_eq!(row.get::<String, _>("sequence_key"), report.sequence_key(), "{id}");
            assert_eq!(row.get::<Option<String>, _>("depends_on"), report.depends_on(), "{id}");
            assert_eq!(row.get::<bool, _>("has_credit"), report.credit().is_some(), "{id}");
            if report.customer().is_some() {
                let customer: Option<String> = row.get("customer_id");
                assert_eq!(customer.as_deref(), report.customer(), "{id}");
            }
        }
    }

    async fn several_go_in_one_statement(db) {
        let reports = [
            sign_up("C1").into(),
            bare_sale(1, "C1").into(),
            sale(1, "C1").into(),
            sale(2, "C1").into(),
            refund(2).into(),
        ];
        let all = db.outbox.enqueue_all(&db.pool, reports.clone()).await.unwrap();
        let (new, known) = (Enqueued::New, Enqueued::Known);
        assert_eq!(all, [new, known, new, new, new]);
        let again = db.outbox.enqueue_all(&db.pool, reports).await.unwrap();
        assert_eq!(again, [known; 5]);
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert!(entry.credit.is_some(), "the one with credit");
        let rows = sqlx::query("SELECT id FROM referral_outbox ORDER BY seq");
        let rows = rows.fetch_all(&db.pool).await.unwrap();
        let ids: Vec<String> = rows.iter().map(|row| row.get("id")).collect();
        assert_eq!(ids, ["signup:C1", "sale:1", "sale:2", "refund:2"]);
        assert_eq!(db.outbox.enqueue_all(&db.pool, []).await.unwrap(), []);
    }

    async fn credit_that_comes_later_takes_the_place_of_none(db) {
        db.outbox.enqueue(&db.pool, bare_sale(1, "C1")).await.unwrap();
        let changed = db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        assert_eq!(changed, Enqueued::Changed);
        let other = bare_sale(1, "C1").with_credit(credit("P2"));
        assert_eq!(db.outbox.enqueue(&db.pool, other).await.unwrap(), Enqueued::Known);
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!(entry.credit.unwrap()["key"], "P1");
    }

    async fn facts_that_cannot_be_stored_lose_no_order(db) {
        let facts = [
            ("nul", json!("a\0b"), json!("ab")),
            ("name", json!({"a\0b": {"c": "\0"}}), json!({"ab": {"c": ""}})),
            ("escaped", json!("\\u0000"), json!("\\u0000")),
            ("125", nested(125, json!("x")), nested(125, json!("x"))),
            ("126", nested(126, json!("x")), nested(125, Value::Null)),
            ("900", nested(900, json!("a\0b")), nested(125, Value::Null)),
            ("nul-125", nested(125, json!("a\0b")), nested(125, json!("ab"))),
            ("objects", json!({"deep": nested(200, json!({"x": 1}))}), json!({"deep": nested(124, Value::Null)})),
        ];
        let mut reports = Vec::new();
        for (order, fact, stored) in facts {
            let with = |fact| sale(order, "C1").with_metadata("fact", fact);
            let mut tx = db.pool.begin().await.unwrap();
            db.outbox.enqueue(&mut *tx, with(fact.clone())).await.unwrap();
            tx.commit().await.unwrap();
            let entry = db.outbox.find(&format!("sale:{order}")).await.unwrap().unwrap();
            assert_eq!(entry.report, Some(with(stored).into()), "{order}");
            reports.push(with(fact).into());
        }
        let again = db.outbox.enqueue_all(&db.pool, reports).await.unwrap();
        assert_eq!(again, [Enqueued::Known; 8]);
        let platform = Platform::new(true);
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_empty().await;
        worker.stop().await;
        assert_eq!(platform.recorded().len(), 8);
    }

    async fn what_cannot_be_read_back_is_refused_and_leaves_the_transaction_alone(db) {
        let nobody = || SignUp::by_email("ann@example.com").unwrap().with_email("");
        let mut tx = db.pool.begin().await.unwrap();
        db.outbox.enqueue(&mut *tx, sale(1, "C1")).await.unwrap();
        let refused = db.outbox.enqueue(&mut *tx, nobody()).await.unwrap_err();
        assert!(matches!(refused, Error::Report(_)), "{refused:?}");
        assert!(refused.to_string().contains("needs `customer` or `email`"), "{refused}");
        let all = [sale(2, "C1").into(), nobody().into()];
        db.outbox.enqueue_all(&mut *tx, all).await.unwrap_err();
        tx.commit().await.unwrap();
        let ids = db.outbox.history("C1").await.unwrap().into_iter().filter_map(|entry| entry.id);
        assert_eq!(ids.collect::<Vec<_>>(), ["sale:1"]);
    }
}

/// Lists within lists, so many of them.
fn nested(levels: usize, within: Value) -> Value {
    (0..levels).fold(within, |value, _| json!([value]))
}

/// As another language writes it: the natural fields and nothing computed.
const NATURAL: &str = r#"{"kind": "sale", "order": "O1", "customer": "C1", "amount": "99.99 EUR",
    "credit": {"key": "P1"}}"#;

async fn check_natural<D: tower_referral_outbox::Database>(db: &crate::database::Db<D>) {
    let entry = db.outbox.find("sale:O1").await.unwrap().unwrap();
    let report = entry.report.unwrap();
    assert_eq!(report.customer(), Some("C1"));
    assert_eq!(report.credit().unwrap().key().unwrap().as_str(), "P1");
}

mod statements {
    use super::*;

    #[tokio::test]
    async fn plain_sql_on_postgres() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let statement = sql::POSTGRES_ENQUEUE.replace("$1", &format!("'{NATURAL}'"));
        let psql = std::process::Command::new("psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-c", &statement, &db.url])
            .output();
        match psql {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => {
                crate::servers::skipped("psql is not installed");
                return;
            }
        }
        check_natural(&db).await;
    }

    /// As the documentation of `sql` has it.
    #[tokio::test]
    async fn a_report_within_the_orders_own_statement() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let table = "CREATE TABLE orders (id text PRIMARY KEY)";
        sqlx::query(table).execute(&db.pool).await.unwrap();
        let order = "WITH new_order AS (INSERT INTO orders (id) VALUES ($2)), input";
        let statement = sql::POSTGRES_ENQUEUE.replacen("WITH input", order, 1);
        let run = async || {
            let statement = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
            let report = sql::json(sale("1", "C1")).unwrap();
            statement.bind(report).bind("1").execute(&db.pool).await
        };
        run().await.unwrap();
        run().await.unwrap_err(); // There is such an order.
        let (orders,): (i64,) = sqlx::query_as("SELECT count(*) FROM orders")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(orders, 1);
        let entry = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!(entry.state, tower_referral_outbox::State::Waiting);
    }

    #[tokio::test]
    async fn sqlx_0_8_on_postgres() {
        let Some(db) = crate::database::postgres().await else {
            return;
        };
        let pool = sqlx_0_8::PgPool::connect(&db.url).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        let report = sql::json(sale("O1", "C1")).unwrap();
        sqlx_0_8::query(sql::POSTGRES_ENQUEUE)
            .bind(report)
            .execute(&mut *tx)
            .await
            .unwrap();
        assert!(db.outbox.find("sale:O1").await.unwrap().is_none());
        tx.commit().await.unwrap();
        check_natural(&db).await;
        sqlx_0_8::query(sql::POSTGRES_ENQUEUE_ALL)
            .bind(format!("[{NATURAL}, {}]", sql::json(refund("O1")).unwrap()))
            .execute(&pool)
            .await
            .unwrap();
        assert!(db.outbox.find("refund:O1").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn sqlx_0_8_on_sqlite() {
        let db = crate::database::sqlite().await.unwrap();
        let pool = sqlx_0_8::SqlitePool::connect(&db.url).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        sqlx_0_8::query(sql::SQLITE_ENQUEUE)
            .bind(NATURAL)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        check_natural(&db).await;
    }
}
