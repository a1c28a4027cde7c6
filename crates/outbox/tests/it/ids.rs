//! IDs that a platform returns between two calls of one report: stored with the row at once, and handed
//! to the next attempt, whatever ended this one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tower::Service;
use tower_referral_outbox::{Entry, State};
use tower_referral_platforms::{
    Answer, Client, Error, PlatformId, PlatformIds, Receipt, Repeat, Report, ReportApi,
    ReportService, Retries, Step,
};

use crate::database::{PATIENCE, on_both, start};
use crate::platform::sale;

/// What becomes of a call.
#[derive(Clone, Debug)]
enum Does {
    Status(u16),
    Break,
    Hang,
    /// Works once it is told to.
    Wait(Arc<Notify>),
}

/// A platform that wants a click before a report.
#[derive(Clone, Debug)]
struct Platform {
    deduplicates: bool,
    calls: Arc<Mutex<Vec<&'static str>>>,
    clicks_do: Arc<Mutex<VecDeque<Does>>>,
    reports_do: Arc<Mutex<VecDeque<Does>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Platform {
    fn new(deduplicates: bool) -> Self {
        Self {
            deduplicates,
            calls: Arc::default(),
            clicks_do: Arc::default(),
            reports_do: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// What becomes of the first click.
    fn click_does(self, does: Does) -> Self {
        self.clicks_do.lock().unwrap().push_back(does);
        self
    }

    /// What becomes of the first report.
    fn report_does(self, does: Does) -> Self {
        self.reports_do.lock().unwrap().push_back(does);
        self
    }

    fn reports(&self) -> ReportService<Self, Self> {
        Client::new(self.clone(), self.clone()).reports()
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    async fn until_calls(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while self.calls().len() < count {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "only {:?}", self.calls());
    }

    fn post(path: &'static str) -> Request<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(path);
        request
    }
}

impl Service<Request<Bytes>> for Platform {
    type Response = Response<String>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, tower::BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (call, queue) = match request.uri().path() {
            "/clicks" => ("click", &self.clicks_do),
            _ => ("report", &self.reports_do),
        };
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call);
            calls.iter().filter(|made| **made == call).count()
        };
        let does = queue.lock().unwrap().pop_front();
        self.changed.send_replace(());
        Box::pin(async move {
            match does {
                Some(Does::Status(status)) => {
                    return Ok(Response::builder().status(status).body("{}".to_owned())?);
                }
                Some(Does::Break) => return Err("the connection broke".into()),
                Some(Does::Hang) => std::future::pending().await,
                Some(Does::Wait(go)) => go.notified().await,
                None => {}
            }
            Ok(Response::new(
                json!({"id": format!("{call}-{number}")}).to_string(),
            ))
        })
    }
}

impl ReportApi for Platform {
    /// Whether the click is the one that was made.
    type Stage = bool;

    fn begin(&self, _: &Report, ids: &PlatformIds) -> Result<Step<bool>, Error> {
        if ids.click.is_some() {
            return Ok(Step::send(Self::post("http://p.example/reports"), false));
        }
        let mut click = Self::post("http://p.example/clicks");
        click.extensions_mut().insert(Repeat::Safe);
        Ok(Step::send(click, true))
    }

    fn next(
        &self,
        _: &Report,
        _: &PlatformIds,
        is_click: bool,
        answer: &Answer,
    ) -> Result<Step<bool>, Error> {
        answer.accepted()?;
        let mut ids = PlatformIds::default();
        if is_click {
            ids.click = answer.id(["id"]);
            let step = Step::send(Self::post("http://p.example/reports"), false);
            return Ok(step.with_ids(ids));
        }
        let mark = answer.shows(["/id"])?;
        ids.sale = mark.id();
        Ok(Receipt::recorded(mark).with_ids(ids).into())
    }

    fn deduplicates(&self, _: &Report) -> bool {
        self.deduplicates
    }
}

fn has_id(entry: &Entry, name: &str, id: &str) -> bool {
    let ids = entry.platform_ids.as_ref();
    ids.is_some_and(|ids| ids[name] == *PlatformId::new(id).unwrap().as_str())
}

on_both! {
    async fn a_retry_goes_on_with_the_ids_of_the_attempt_before(db) {
        let platform = Platform::new(true).report_does(Does::Status(503));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let retries = Retries::default().initial_backoff(Duration::from_millis(5));
        let worker = start(db.outbox.worker(platform.reports()).retries(retries));
        let done = db.until_done("sale:1").await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["click", "report", "report"]);
        assert!(has_id(&done, "click", "click-1") && has_id(&done, "sale", "report-2"), "{done:?}");
    }

    async fn an_ambiguous_report_that_a_person_sends_again_has_its_ids(db) {
        let platform = Platform::new(false).report_does(Does::Break);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        let ambiguous = db.until_state("sale:1", State::Ambiguous).await;
        assert!(has_id(&ambiguous, "click", "click-1"), "{ambiguous:?}");
        assert!(db.outbox.resend("sale:1").await.unwrap());
        db.until_done("sale:1").await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["click", "report", "report"]);
    }

    async fn a_worker_that_is_killed_between_two_calls_leaves_its_ids(db) {
        let platform = Platform::new(true).report_does(Does::Hang);
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(2).await;
        worker.kill().await;
        let left = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert!(has_id(&left, "click", "click-1"), "{left:?}");
        db.outbox.advance_clock(Duration::from_secs(60));
        let worker = start(db.outbox.worker(platform.reports()));
        db.until_done("sale:1").await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["click", "report", "report"]);
    }

    async fn a_worker_that_has_lost_a_row_leaves_its_ids_and_makes_no_further_call(db) {
        let go = Arc::new(Notify::new());
        let platform = Platform::new(true).click_does(Does::Wait(Arc::clone(&go)));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        let taken = "UPDATE referral_outbox SET claimed_by = 'somebody else'";
        sqlx::query(taken).execute(&db.pool).await.unwrap();
        go.notify_one();
        db.until("sale:1", |entry| has_id(entry, "click", "click-1")).await;
        worker.stop().await;
        assert_eq!(platform.calls(), ["click"]);
        let row = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!((row.state, row.history.len()), (State::Claimed, 0));
    }

    async fn ids_of_an_answer_that_comes_too_late_to_count_are_kept(db) {
        let go = Arc::new(Notify::new());
        let platform = Platform::new(true).report_does(Does::Wait(Arc::clone(&go)));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(2).await;
        let taken = "UPDATE referral_outbox SET claimed_by = 'somebody else'";
        sqlx::query(taken).execute(&db.pool).await.unwrap();
        go.notify_one();
        db.until("sale:1", |entry| has_id(entry, "sale", "report-1")).await;
        worker.stop().await;
        let row = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!((row.state, row.outcome), (State::Claimed, None));
        assert!(has_id(&db.outbox.find("sale:1").await.unwrap().unwrap(), "click", "click-1"));
    }

    async fn a_click_that_is_answered_after_an_erasure_is_not_written_back(db) {
        let go = Arc::new(Notify::new());
        let platform = Platform::new(true).click_does(Does::Wait(Arc::clone(&go)));
        db.outbox.enqueue(&db.pool, sale(1, "C1")).await.unwrap();
        let worker = start(db.outbox.worker(platform.reports()));
        platform.until_calls(1).await;
        assert_eq!(db.outbox.erase(&db.pool, "C1").await.unwrap(), 1);
        go.notify_one();
        worker.stop().await;
        assert_eq!(platform.calls(), ["click"], "nothing is sent of an erased customer");
        let row = db.outbox.find("sale:1").await.unwrap().unwrap();
        assert_eq!((row.state, row.platform_ids), (State::Withdrawn, None));
    }
}
