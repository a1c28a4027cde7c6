//! IDs that a platform returns between two calls of one report: whatever ends the attempt after them, the
//! next one goes on with them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tower::Service;
use tower_referral_platforms::{
    Affonso, Client, Delivery, DeliveryOutcome, DeliveryStore, Money, Outcome, Report, ReportApi,
    Retries, Sale, SignUp, Tolt, deliver,
};

use crate::stand_in::credit;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// It is refused for now.
    Unavailable,
    /// The connection breaks after it was taken.
    Breaks,
    /// It hangs, and the worker is killed.
    Killed,
}

/// Takes every call but one of them, and counts them by their paths.
#[derive(Clone)]
struct Platform {
    fails: Option<(usize, Ends)>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Platform {
    fn count(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for path in self.calls.lock().unwrap().iter() {
            *count.entry(path.clone()).or_default() += 1;
        }
        count
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
        let mut calls = self.calls.lock().unwrap();
        let number = calls.len();
        calls.push(request.uri().path().to_owned());
        let ends = self.fails.filter(|(at, _)| *at == number);
        Box::pin(async move {
            let (status, body) = match ends.map(|(_, ends)| ends) {
                None => {
                    let id = format!("id_{number}");
                    let data = json!({"id": id, "partner_id": "part_1"});
                    (201, json!({"success": true, "data": data}))
                }
                Some(Ends::Unavailable) => (503, json!({"success": false})),
                Some(Ends::Breaks) => return Err("the connection broke".into()),
                Some(Ends::Killed) => std::future::pending().await,
            };
            Ok(Response::builder().status(status).body(body.to_string())?)
        })
    }
}

/// Keeps what was saved last.
#[derive(Default)]
struct Row(Option<Value>);

impl DeliveryStore for Row {
    type Error = Infallible;

    async fn save(&mut self, delivery: &Delivery) -> Result<(), Infallible> {
        self.0 = Some(serde_json::to_value(delivery).unwrap());
        Ok(())
    }
}

impl Row {
    /// What the next worker reads, once its time has come.
    fn read(&self) -> Delivery {
        let mut value = self.0.clone().unwrap();
        if value["state"] == "waiting" {
            value["not_before"] = json!(0);
        }
        serde_json::from_value(value).unwrap()
    }
}

/// Delivers a report of which one call fails, and then again. Returns what was called, how often.
fn delivered<P>(api: P, report: Report, fails: Option<(usize, Ends)>) -> BTreeMap<String, usize>
where
    P: ReportApi + Send + Sync + 'static,
{
    let platform = Platform {
        fails,
        calls: Arc::default(),
    };
    let reports = Client::new(api, platform.clone()).reports();
    let (mut row, mut delivery) = (Row::default(), Delivery::new(report));
    for _ in 0..2 {
        let retries = Retries::default();
        let poll = {
            let attempt = deliver(&mut delivery, reports.clone(), &retries, &mut row);
            pin!(attempt).poll(&mut Context::from_waker(Waker::noop()))
        };
        if let Poll::Ready(Ok(DeliveryOutcome::Done(receipt))) = &poll {
            assert_eq!(receipt.outcome(), Outcome::Recorded);
            return platform.count();
        }
        let is_killed = matches!(fails, Some((_, Ends::Killed)));
        assert_eq!(poll.is_pending(), is_killed, "{poll:?}");
        delivery = row.read();
    }
    panic!("{fails:?}: {:?}", platform.calls.lock().unwrap());
}

fn each_report<P>(api: &P, reports: &[(Report, usize)])
where
    P: ReportApi + Clone + Send + Sync + 'static,
{
    for (report, calls) in reports {
        let once = delivered(api.clone(), report.clone(), None);
        assert_eq!(once.len(), *calls, "{once:?}");
        for at in 0..*calls {
            for ends in [Ends::Unavailable, Ends::Breaks, Ends::Killed] {
                let count = delivered(api.clone(), report.clone(), Some((at, ends)));
                let twice: Vec<_> = count.iter().filter(|(_, count)| **count > 1).collect();
                assert_eq!(twice.len(), 1, "only the call that failed: {count:?}");
                assert_eq!(count.values().sum::<usize>(), calls + 1, "{at} {ends:?}");
            }
        }
    }
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_credit(credit("KEY"))
}

fn sale() -> Sale {
    let amount = Money::new("9.99", "EUR").unwrap();
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", amount).unwrap();
    sale.with_credit(credit("KEY"))
}

#[test]
fn affonso_makes_one_click_for_a_sign_up_however_its_calls_end() {
    let affonso = Affonso::new("k", "prog_1").unwrap();
    let amount = Money::new("9.99", "EUR").unwrap();
    let guest = Sale::guest("ORDER-1", sign_up(), amount).unwrap();
    each_report(&affonso, &[(sign_up().into(), 2), (guest.into(), 2)]);
}

#[test]
fn tolt_makes_one_click_and_one_customer_however_its_calls_end() {
    let tolt = Tolt::new("k").unwrap();
    each_report(&tolt, &[(sign_up().into(), 2), (sale().into(), 3)]);
}

/// Somebody else has the report, which shows when its IDs are to be stored.
struct Lost;

impl DeliveryStore for Lost {
    type Error = &'static str;

    async fn save(&mut self, _: &Delivery) -> Result<(), &'static str> {
        Ok(())
    }

    async fn save_ids(&mut self, delivery: &Delivery) -> Result<(), &'static str> {
        assert!(delivery.ids().click.is_some());
        Err("somebody else has it")
    }
}

#[test]
fn no_further_call_is_made_for_a_report_that_somebody_else_has() {
    let platform = Platform {
        fails: None,
        calls: Arc::default(),
    };
    let affonso = Affonso::new("k", "prog_1").unwrap();
    let reports = Client::new(affonso, platform.clone()).reports();
    let mut delivery = Delivery::new(sign_up());
    let (retries, mut lost) = (Retries::default(), Lost);
    let attempt = deliver(&mut delivery, reports, &retries, &mut lost);
    let poll = pin!(attempt).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll, Poll::Ready(Err("somebody else has it")));
    assert_eq!(
        platform.count().into_keys().collect::<Vec<_>>(),
        ["/v1/clicks"]
    );
}
