//! Click IDs that come late: whichever server has the click, the report that needs it goes with it; and a
//! platform whose sign-up can't do without a click gets one at delivery.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tower::Service;
use tower_referral::ClickId;
use tower_referral::click::Click;
use tower_referral_outbox::{Error, State};
use tower_referral_platforms::{Affonso, Client, Report, SignUp};

use crate::database::{on_both, start};
use crate::platform::{Platform, credit, sale};

const HOUR: Duration = Duration::from_secs(3600);

/// As the layer gives it.
fn click(id: &str) -> Click {
    let partner = "part-1".parse::<ClickId>().unwrap();
    Click::new(id.parse().unwrap()).with_partner_id(partner)
}

/// A sale whose landing's click ID wasn't known when it was enqueued.
fn sale_of(order: u32, reference: &str) -> Report {
    let credit = credit("P1").with_reference(reference);
    sale(order, "C1").with_credit(credit).into()
}

/// Affonso, as far as the clicks and sign-ups of these tests go.
#[derive(Clone, Default)]
struct AffonsoSeen(Arc<Mutex<Vec<(String, Value)>>>);

impl Service<Request<Bytes>> for AffonsoSeen {
    type Response = Response<String>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut seen = self.0.lock().unwrap();
        let body = serde_json::from_slice(request.body()).unwrap();
        seen.push((request.uri().path().to_owned(), body));
        let data = json!({"success": true, "data": {"id": format!("made-{}", seen.len())}});
        let response = Response::builder().status(201).body(data.to_string());
        Box::pin(async move { Ok(response.unwrap()) })
    }
}

on_both! {
    /// CASES.md L5.
    async fn a_click_that_comes_late_goes_with_the_report_that_needs_it(db) {
        let platform = Platform::new(true);
        let worker = start(db.outbox.worker(platform.reports()).click_patience(HOUR));
        db.outbox.enqueue(&db.pool, sale_of(1, "r-1")).await.unwrap();
        db.outbox.enqueue(&db.pool, sale_of(2, "r-2")).await.unwrap();
        // They wait for their clicks; this one has none to wait for.
        db.outbox.enqueue(&db.pool, sale("other", "C1")).await.unwrap();
        db.until_done("sale:other").await;
        db.outbox.put_click(&db.pool, "r-1", &click("clk-1"), HOUR).await.unwrap();
        assert_eq!(db.outbox.click("r-1").await.unwrap(), Some(click("clk-1")));
        db.until_done("sale:1").await;
        assert_eq!(platform.told("sale:1")["credit"]["click_id"], "clk-1");
        assert_eq!(platform.told("sale:1")["credit"]["partner_id"], "part-1");
        // A later sale of the same landing has it at once.
        db.outbox.enqueue(&db.pool, sale_of(3, "r-1")).await.unwrap();
        db.until_done("sale:3").await;
        assert_eq!(platform.told("sale:3")["credit"]["click_id"], "clk-1");
        // One whose click never comes goes by its key.
        assert_eq!(platform.told("sale:2"), Value::Null);
        db.outbox.advance_clock(HOUR);
        db.until_done("sale:2").await;
        assert_eq!(platform.told("sale:2")["credit"]["key"], "P1");
        worker.stop().await;
        assert_eq!(db.outbox.click("r-1").await.unwrap(), None, "its time is over");
    }

    async fn affonsos_sign_up_has_the_late_click_or_one_that_is_made_for_it(db) {
        let seen = AffonsoSeen::default();
        let affonso = Affonso::new("k", "prog_1").unwrap();
        let reports = Client::new(affonso, seen.clone()).reports();
        let worker = start(db.outbox.worker(reports).click_patience(HOUR));
        for (customer, reference) in [("C1", "r-1"), ("C2", "r-2")] {
            let sign_up = SignUp::new(customer).unwrap();
            let sign_up = sign_up.with_credit(credit("P1").with_reference(reference));
            db.outbox.enqueue(&db.pool, sign_up).await.unwrap();
        }
        db.outbox.put_click(&db.pool, "r-1", &click("clk-1"), HOUR).await.unwrap();
        db.until_done("signup:C1").await;
        db.outbox.advance_clock(HOUR);
        db.until_done("signup:C2").await;
        worker.stop().await;
        let seen = seen.0.lock().unwrap();
        let calls: Vec<_> = seen.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(calls, ["signups", "clicks", "signups"]);
        assert_eq!(seen[0].1["click_id"], "clk-1");
        assert_eq!(seen[2].1["click_id"], "made-2");
    }

    async fn an_erased_customers_click_is_gone_and_does_not_come_back(db) {
        for (order, reference) in [(1, "kept"), (2, "late"), (3, "of a change")] {
            db.outbox.enqueue(&db.pool, sale_of(order, reference)).await.unwrap();
        }
        let others = sale(4, "C2").with_credit(credit("P1").with_reference("others"));
        db.outbox.enqueue(&db.pool, others).await.unwrap();
        // What came with credit while the call was under way.
        let next = "UPDATE referral_outbox SET next_report = report WHERE id = 'sale:3'";
        sqlx::query(next).execute(&db.pool).await.unwrap();
        for reference in ["kept", "others"] {
            db.outbox.put_click(&db.pool, reference, &click("clk-1"), HOUR).await.unwrap();
        }
        let mut tx = db.pool.begin().await.unwrap();
        assert_eq!(db.outbox.erase(&mut *tx, "C1").await.unwrap(), 3);
        tx.commit().await.unwrap();
        for reference in ["kept", "late", "of a change"] {
            db.outbox.put_click(&db.pool, reference, &click("clk-2"), HOUR).await.unwrap();
            assert_eq!(db.outbox.click(reference).await.unwrap(), None, "{reference}");
        }
        assert!(db.outbox.click("others").await.unwrap().is_some());
        let kept = "SELECT count(*) FROM referral_clicks WHERE click_id IS NOT NULL";
        let (kept,): (i64,) = sqlx::query_as(kept).fetch_one(&db.pool).await.unwrap();
        assert_eq!(kept, 1);
        // Somebody else's report of the same landing doesn't wait for what never comes.
        let platform = Platform::new(true);
        let others = sale(5, "C3").with_credit(credit("P1").with_reference("late"));
        db.outbox.enqueue(&db.pool, others).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()).click_patience(HOUR));
        db.until_done("sale:5").await;
        db.until_done("sale:4").await;
        worker.stop().await;
        assert_eq!(platform.told("sale:4")["credit"]["click_id"], "clk-1");
        assert_eq!(platform.told("sale:5")["credit"].get("click_id"), None);
        // The empty places go, too.
        db.outbox.advance_clock(HOUR * 24 * 401);
        let worker = start(db.outbox.worker(platform.reports()));
        let left = async {
            let count = "SELECT count(*) FROM referral_clicks";
            while sqlx::query_as::<_, (i64,)>(count).fetch_one(&db.pool).await.unwrap().0 > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::database::PATIENCE, left).await.unwrap();
        worker.stop().await;
    }

    /// The content is gone by then, and with it all but the reference.
    async fn a_customer_who_is_erased_after_the_retention_has_no_click_left(db) {
        let sign_up = SignUp::new("C1").unwrap().with_credit(credit("P1").with_reference("r-1"));
        db.outbox.enqueue(&db.pool, sign_up).await.unwrap();
        let done = "UPDATE referral_outbox SET state = 'done', outcome = 'recorded', finished_at = 1";
        sqlx::query(done).execute(&db.pool).await.unwrap();
        db.outbox.put_click(&db.pool, "r-1", &click("clk-1"), HOUR).await.unwrap();
        let worker = start(db.outbox.worker(Platform::new(true).reports()));
        let reduced = db.until("signup:C1", |entry| entry.report.is_none()).await;
        worker.stop().await;
        assert_eq!((reduced.state, reduced.credit), (State::Done, None));
        assert_eq!(db.outbox.erase(&db.pool, "C1").await.unwrap(), 1);
        assert_eq!(db.outbox.click("r-1").await.unwrap(), None);
    }

    async fn what_another_program_stored_as_a_click_is_named_if_it_is_none(db) {
        db.outbox.put_click(&db.pool, "r-1", &click("clk-1"), HOUR).await.unwrap();
        let other = "UPDATE referral_clicks SET partner_id = 'no partner'";
        sqlx::query(other).execute(&db.pool).await.unwrap();
        let error = db.outbox.click("r-1").await.unwrap_err();
        assert!(matches!(error, Error::Database(sqlx::Error::Decode(_))), "{error}");
        assert!(error.to_string().contains("click ID"), "{error}");
    }
}
