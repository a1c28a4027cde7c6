//! Reversals from the provider's event to the platform: what the books report is told to a Tapfiliate
//! that keeps amounts and approvals.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::service_fn;
use tower_referral_platforms::{
    Advice, Client, Error, Outcome, Report, ReportError, Tapfiliate, Transport, Unsupported,
};

use crate::common::stripe_event;
use crate::stripe_events::{Shape, session};
use crate::support::{JsonBooks, enter};

/// Tapfiliate as far as money goes back. A conversion and its one commission have the order's ID.
#[derive(Clone, Default)]
struct StandIn(Arc<Mutex<BTreeMap<String, Conversion>>>);

struct Conversion {
    amount: Value,
    is_approved: bool,
}

impl StandIn {
    fn answer(&self, request: &Request<Bytes>) -> (u16, Value) {
        let mut conversions = self.0.lock().unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let uri = request.uri();
        let path: Vec<_> = uri.path().split('/').skip(2).collect();
        match (request.method().as_str(), &path[..]) {
            ("POST", ["conversions", ""]) => {
                let conversion = Conversion {
                    amount: body["amount"].clone(),
                    is_approved: true,
                };
                let order = body["external_id"].as_str().unwrap().to_owned();
                conversions.insert(order, conversion);
                (200, json!({ "id": 1 }))
            }
            ("GET", ["conversions", ""]) => {
                let wanted = uri.query().unwrap().strip_prefix("external_id=").unwrap();
                let listed = conversions.iter().filter(|(order, _)| *order == wanted);
                let listed = listed.map(|(order, conversion)| {
                    json!({
                        "id": order, "external_id": order, "amount": conversion.amount,
                        "currency": "EUR", "commissions": [{ "id": order }],
                    })
                });
                (200, listed.collect())
            }
            ("PATCH", ["conversions", order, ""]) => {
                conversions.get_mut(*order).unwrap().amount = body["amount"].clone();
                (200, json!({ "id": 1 }))
            }
            ("DELETE", ["conversions", order, ""]) => {
                conversions.remove(*order).unwrap();
                (204, Value::Null)
            }
            (method @ ("PUT" | "DELETE"), ["commissions", order, "approved", ""]) => {
                conversions.get_mut(*order).unwrap().is_approved = method == "PUT";
                (204, Value::Null)
            }
            (method, path) => panic!("{method} {path:?}"),
        }
    }

    fn client(&self, platform: Tapfiliate) -> Client<Tapfiliate, impl Transport> {
        let stand_in = self.clone();
        let transport = service_fn(move |request: Request<Bytes>| {
            let (status, json) = stand_in.answer(&request);
            let body = if json.is_null() {
                Bytes::new()
            } else {
                json.to_string().into()
            };
            let answer = Response::builder().status(status).body(Full::new(body));
            ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        Client::new(platform, transport)
    }

    /// What is listed of the order: its amount, and whether its commission is approved.
    fn listed(&self) -> Option<(f64, bool)> {
        let conversions = self.0.lock().unwrap();
        let conversion = conversions.get("O1")?;
        Some((conversion.amount.as_f64()?, conversion.is_approved))
    }
}

/// The reports of an order of 119 euros, 100 of them net, and of what happens to it.
fn reports(events: &[Value]) -> Vec<Report> {
    let paid = Shape::New.event("checkout.session.completed", session("cs_1", 11_900, 1_900));
    let mut books = JsonBooks::default();
    let events = std::iter::once(&paid).chain(events);
    events
        .flat_map(|json| enter(&mut books, &stripe_event(json)).reports)
        .collect()
}

fn refund(id: &str, gross: i64) -> Value {
    let object = Shape::New.refund(id, "cs_1", gross, "succeeded");
    Shape::New.event("refund.created", object)
}

fn failed(id: &str, gross: i64) -> Value {
    let object = Shape::New.refund(id, "cs_1", gross, "failed");
    Shape::New.event("refund.failed", object)
}

/// A dispute over all of it that is won.
fn won() -> [Value; 2] {
    let dispute = |status| Shape::New.dispute("dp_1", "cs_1", 11_900, status);
    [
        Shape::New.event_at("charge.dispute.created", 10, dispute("needs_response")),
        Shape::New.event_at("charge.dispute.closed", 20, dispute("won")),
    ]
}

/// Tells the platform of all these, of the last one twice, and returns what came of that.
async fn told(
    reports: &[Report],
    client: &Client<Tapfiliate, impl Transport>,
) -> [Result<Outcome, ReportError>; 2] {
    let (last, before) = reports.split_last().unwrap();
    for report in before {
        client.report(report.clone()).await.unwrap();
    }
    let tell = async || Ok(client.report(last.clone()).await?.outcome());
    [tell().await, tell().await]
}

fn tapfiliate() -> Tapfiliate {
    Tapfiliate::new("k").unwrap()
}

/// Tells a Tapfiliate at which refunds are disapproved, and returns what it lists then.
async fn disapproved(reports: &[Report]) -> Option<(f64, bool)> {
    let platform = StandIn::default();
    let client = platform.client(tapfiliate().disapprove_refunds());
    let outcomes = told(reports, &client).await;
    assert_eq!(outcomes, [Ok(Outcome::Recorded), Ok(Outcome::Recorded)]);
    platform.listed()
}

#[tokio::test]
async fn what_comes_back_is_approved_again_at_what_is_left() {
    let all = Some((100.0, true));
    assert_eq!(disapproved(&reports(&won())).await, all);
    // Parts that make the whole, of which the last one fails, or the first one.
    let parts = [refund("re_1", 7_140), refund("re_2", 4_760)];
    let events = [&parts[..], &[failed("re_2", 4_760)]].concat();
    assert_eq!(disapproved(&reports(&events)).await, Some((40.0, true)));
    let events = [&parts[..], &[failed("re_1", 7_140)]].concat();
    assert_eq!(disapproved(&reports(&events)).await, Some((60.0, true)));
    // And then the other one as well.
    let events = [&events[..], &[failed("re_2", 4_760)]].concat();
    let (platform, both) = (StandIn::default(), reports(&events));
    let client = platform.client(tapfiliate().disapprove_refunds());
    for result in told(&both, &client).await {
        result.unwrap();
    }
    assert_eq!(platform.listed(), all);
}

#[tokio::test]
async fn a_part_that_comes_back_is_set_once() {
    let events = [
        refund("re_1", 3_570),
        refund("re_2", 1_190),
        failed("re_1", 3_570),
    ];
    let platform = StandIn::default();
    let client = platform.client(tapfiliate());
    let outcomes = told(&reports(&events), &client).await;
    assert_eq!(outcomes, [Ok(Outcome::Recorded), Ok(Outcome::Duplicate)]);
    assert_eq!(platform.listed(), Some((90.0, true)));
}

#[tokio::test]
async fn what_was_deleted_is_for_a_person() {
    for events in [
        &won()[..],
        &[refund("re_1", 11_900), failed("re_1", 11_900)],
        &[
            refund("re_1", 7_140),
            refund("re_2", 4_760),
            failed("re_1", 7_140),
        ],
    ] {
        let platform = StandIn::default();
        let client = platform.client(tapfiliate());
        let kind = Unsupported::Kind("refund_reversal");
        for result in told(&reports(events), &client).await {
            let error = result.unwrap_err();
            assert_eq!(*error.error(), Error::Unsupported(kind));
            assert_eq!(error.advice(), Advice::Permanent);
        }
        assert_eq!(platform.listed(), None);
    }
}

#[tokio::test]
async fn what_a_refund_that_never_arrived_took_is_not_added() {
    for (events, left) in [
        (&won()[..], 100.0),
        (&[refund("re_1", 3_570), failed("re_1", 3_570)], 100.0),
        (
            &[
                refund("re_1", 3_570),
                refund("re_2", 1_190),
                failed("re_1", 3_570),
            ],
            90.0,
        ),
    ] {
        for platform in [tapfiliate(), tapfiliate().disapprove_refunds()] {
            let mut reports = reports(events);
            reports.retain(|report| !matches!(report, Report::Refund(_)));
            let stand_in = StandIn::default();
            let client = stand_in.client(platform);
            for result in told(&reports, &client).await {
                result.unwrap();
            }
            assert_eq!(stand_in.listed(), Some((left, true)));
        }
    }
}
