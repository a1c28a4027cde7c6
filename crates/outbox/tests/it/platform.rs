//! A platform at hand: it remembers what it was told, and answers as a test wants it to.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tower::Service;
use tower_referral_platforms::{
    Answer, Batch, Client, Error, Money, PlatformIds, Receipt, Refund, Report, ReportApi,
    ReportRequest, ReportService, Sale, SignUp, Step,
};

use crate::database::PATIENCE;

/// What the platform does with a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Records it, or says that it is a duplicate, or that nobody is credited.
    Work,
    /// Answers with this status, and nothing else.
    Status(u16),
    /// 429 with `Retry-After`, in seconds.
    Slower(u64),
    /// An HTML page of this status.
    Page(u16),
    /// Records it, and the connection breaks.
    RecordAndBreak,
    /// Never answers, and didn't record it.
    Hang,
    /// Nobody is there.
    Unreachable,
}

#[derive(Debug)]
struct Books {
    does: Does,
    /// For the next calls, before `does`.
    next: VecDeque<Does>,
    /// What was asked, in order: ID and whole report.
    calls: Vec<(String, Value)>,
    recorded: Vec<String>,
    under_way: Vec<String>,
    /// Keys of which two were under way at a time.
    overlapping: Vec<String>,
    /// How many reports each batch had.
    batches: Vec<usize>,
}

/// Cheap to clone: one platform.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    deduplicates: bool,
    batch: Option<Batch>,
    latency: Duration,
    gate: Option<Arc<Semaphore>>,
    books: Arc<Mutex<Books>>,
    changed: Arc<watch::Sender<()>>,
}

impl Platform {
    pub(crate) fn new(deduplicates: bool) -> Self {
        Self {
            deduplicates,
            latency: Duration::ZERO,
            gate: None,
            books: Arc::new(Mutex::new(Books {
                does: Does::Work,
                next: VecDeque::new(),
                calls: Vec::new(),
                recorded: Vec::new(),
                under_way: Vec::new(),
                overlapping: Vec::new(),
                batches: Vec::new(),
            })),
            batch: None,
            changed: Arc::default(),
        }
    }

    pub(crate) fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Answers no call before it is [let](Self::let_answer).
    pub(crate) fn gated(mut self) -> Self {
        self.gate = Some(Arc::new(Semaphore::new(0)));
        self
    }

    /// Lets so many calls be answered.
    pub(crate) fn let_answer(&self, calls: usize) {
        self.gate.as_ref().unwrap().add_permits(calls);
    }

    /// Takes so many reports in one request, with so much time between two.
    pub(crate) fn in_batches(mut self, max: usize, interval: Duration) -> Self {
        self.batch = Some(Batch::new(max, interval));
        self
    }

    /// How many reports each batch had, in order.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.books.lock().unwrap().batches.clone()
    }

    pub(crate) fn does(&self, does: Does) {
        self.books.lock().unwrap().does = does;
    }

    pub(crate) fn next(&self, does: impl IntoIterator<Item = Does>) {
        self.books.lock().unwrap().next.extend(does);
    }

    pub(crate) fn reports(&self) -> ReportService<Api, Self> {
        let api = Api {
            deduplicates: self.deduplicates,
            batch: self.batch,
        };
        Client::new(api, self.clone()).reports()
    }

    /// The IDs of what it was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let books = self.books.lock().unwrap();
        books.calls.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The last report that it was told under this ID.
    pub(crate) fn told(&self, id: &str) -> Value {
        let books = self.books.lock().unwrap();
        let told = books.calls.iter().rev().find(|(told, _)| told == id);
        told.map(|(_, report)| report.clone()).unwrap_or_default()
    }

    /// What it has recorded, in order; an ID twice if it was.
    pub(crate) fn recorded(&self) -> Vec<String> {
        self.books.lock().unwrap().recorded.clone()
    }

    pub(crate) fn overlapping(&self) -> Vec<String> {
        self.books.lock().unwrap().overlapping.clone()
    }

    pub(crate) async fn until_calls(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while self.calls().len() < count {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "only {:?}", self.calls());
    }

    /// A batch is recorded as a whole, or not at all.
    async fn answer_batch(self, reports: Vec<Report>) -> Result<Response<String>, tower::BoxError> {
        let does = {
            let mut books = self.books.lock().unwrap();
            books.batches.push(reports.len());
            for report in &reports {
                books.calls.push((report.id(), Value::Null));
            }
            books.next.pop_front().unwrap_or(books.does)
        };
        self.changed.send_replace(());
        let record = || {
            let mut books = self.books.lock().unwrap();
            for id in reports.iter().map(Report::id) {
                if !(self.deduplicates && books.recorded.contains(&id)) {
                    books.recorded.push(id);
                }
            }
        };
        match does {
            Does::Work => record(),
            Does::RecordAndBreak => {
                record();
                return Err("the connection broke".into());
            }
            Does::Hang => std::future::pending().await,
            _ => panic!("no test of batches has {does:?}"),
        }
        Ok(Response::new(r#"{"batch": 1}"#.to_owned()))
    }

    pub(crate) async fn until_batches(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while self.batches().len() < count {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "only {:?}", self.batches());
    }

    async fn answer(self, report: Value) -> Result<Response<String>, tower::BoxError> {
        let parsed: Report = serde_json::from_value(report.clone()).unwrap();
        let (id, key) = (parsed.id(), parsed.sequence_key());
        let does = {
            let mut books = self.books.lock().unwrap();
            books.calls.push((id.clone(), report));
            if books.under_way.contains(&key) {
                books.overlapping.push(key.clone());
            }
            books.under_way.push(key.clone());
            books.next.pop_front().unwrap_or(books.does)
        };
        self.changed.send_replace(());
        let _leaving = Leaving(self.clone(), key);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let answer = |status: u16, body: &str| {
            let response = Response::builder().status(status);
            Ok(response.body(body.to_owned()).unwrap())
        };
        match does {
            Does::Work => {
                let needs_credit = matches!(parsed, Report::Sale(_) | Report::SignUp(_));
                if needs_credit && parsed.credit().is_none() {
                    return answer(200, r#"{"outcome": "not_attributed"}"#);
                }
                let mut books = self.books.lock().unwrap();
                if let Some(sale) = parsed.depends_on()
                    && !needs_credit
                    && !books.recorded.contains(&sale)
                {
                    return answer(200, r#"{"outcome": "not_attributed"}"#);
                }
                if self.deduplicates && books.recorded.contains(&id) {
                    return answer(409, "{}");
                }
                books.recorded.push(id.clone());
                answer(
                    200,
                    &serde_json::json!({"id": format!("at-{id}")}).to_string(),
                )
            }
            Does::Status(status) => answer(status, r#"{"message": "No, Ann Example!"}"#),
            Does::Slower(seconds) => Ok(Response::builder()
                .status(429)
                .header("retry-after", seconds)
                .body("{}".to_owned())
                .unwrap()),
            Does::Page(status) => Ok(Response::builder()
                .status(status)
                .header("content-type", "text/html")
                .body("<!doctype html><html><body>Please wait</body></html>".to_owned())
                .unwrap()),
            Does::RecordAndBreak => {
                self.books.lock().unwrap().recorded.push(id);
                Err("the connection broke".into())
            }
            Does::Hang => std::future::pending().await,
            Does::Unreachable => Err(Box::new(tower_referral_platforms::NotSent)),
        }
    }
}

struct Leaving(Platform, String);

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut books = self.0.books.lock().unwrap();
        let place = books.under_way.iter().position(|key| *key == self.1);
        books.under_way.remove(place.unwrap());
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
        if let Ok(reports) = serde_json::from_slice::<Vec<Report>>(request.body()) {
            return Box::pin(self.clone().answer_batch(reports));
        }
        let report = serde_json::from_slice(request.body()).unwrap();
        Box::pin(self.clone().answer(report))
    }
}

/// How it takes reports: as they are.
#[derive(Debug)]
pub(crate) struct Api {
    deduplicates: bool,
    batch: Option<Batch>,
}

impl ReportApi for Api {
    type Stage = ();

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
        let mut request = Request::new(Bytes::from(serde_json::to_vec(report).unwrap()));
        *request.method_mut() = http::Method::POST;
        Ok(Step::send(request, ()))
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        if answer.is_conflict() {
            return Ok(Receipt::duplicate().into());
        }
        if answer
            .shows_value("/outcome", r#""not_attributed""#)
            .is_ok()
        {
            return Ok(Receipt::not_attributed().into());
        }
        let mark = answer.shows(["/id"])?;
        let id = mark.id();
        let mut ids = PlatformIds::default();
        match report {
            Report::SignUp(_) => ids.customer = id,
            Report::Sale(_) => ids.sale = id,
            _ => ids.refund = id,
        }
        Ok(Receipt::recorded(mark).with_ids(ids).into())
    }

    fn deduplicates(&self, _: &Report) -> bool {
        self.deduplicates
    }

    fn batch(&self) -> Option<Batch> {
        self.batch
    }

    fn batch_request(&self, reports: &[ReportRequest]) -> Result<Request<Bytes>, Error> {
        let reports: Vec<_> = reports.iter().map(ReportRequest::report).collect();
        let mut request = Request::new(Bytes::from(serde_json::to_vec(&reports).unwrap()));
        *request.method_mut() = http::Method::POST;
        Ok(request)
    }

    fn read_batch(
        &self,
        reports: &[ReportRequest],
        answer: &Answer,
    ) -> Vec<Result<Receipt, Error>> {
        let result = answer.shows(["/batch"]).map(Receipt::recorded);
        vec![result; reports.len()]
    }
}

pub(crate) fn credit(key: &str) -> tower_referral_platforms::Credit {
    tower_referral_platforms::Credit::new(key.parse().unwrap())
}

/// A sale with credit.
pub(crate) fn sale(order: impl std::fmt::Display, customer: &str) -> Sale {
    bare_sale(order, customer).with_credit(credit("P1"))
}

pub(crate) fn bare_sale(order: impl std::fmt::Display, customer: &str) -> Sale {
    let amount = Money::new("99.99", "EUR").unwrap();
    Sale::new(order, customer, amount).unwrap()
}

pub(crate) fn sign_up(customer: &str) -> SignUp {
    SignUp::new(customer).unwrap().with_credit(credit("P1"))
}

pub(crate) fn refund(order: impl std::fmt::Display) -> Refund {
    Refund::whole(order).unwrap()
}
