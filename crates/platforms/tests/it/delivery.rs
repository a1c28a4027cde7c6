//! The delivery of one report: what is kept before and after an attempt, what is tried again and
//! when, and what becomes of a report whose worker was killed. Any queue may be around it.
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::service_fn;
use tower_referral::ClickId;
use tower_referral::click::Click;
use tower_referral_platforms::{
    Advice, Answer, Client, Delivery, DeliveryOutcome, DeliveryState, DeliveryStore, Error, Money,
    NotSent, Outcome, PlatformId, PlatformIds, Receipt, Refund, Report, ReportApi, ReportError,
    ReportRequest, Retries, Sale, Step, Unsupported, deliver, deliver_by_clock,
};
use tower_service::Service;

#[test]
fn that_an_attempt_begins_is_kept_before_anything_is_sent() {
    let mut journal = Notes::default();
    let mut delivery = sale();
    let pages = Arc::clone(&journal.pages);
    let reports = platform(move |_| {
        // At this moment the process could be killed: this is what it would leave.
        assert_eq!(pages.lock().unwrap().last().unwrap()["state"], "sending");
        Ok(answer(201, None))
    });
    let verdict = now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
    assert_eq!(verdict, recorded());
    assert_eq!(journal.states(), ["sending", "done"]);
    assert_eq!(delivery.attempts(), 1);
    assert!(delivery.is_finished());
}

#[test]
fn what_is_finished_is_never_sent_again() {
    for status in [201, 409, 404, 500] {
        let mut journal = Notes::default();
        let mut delivery = sale();
        let calls = Calls::default();
        let mut step = || {
            let calls = calls.clone();
            let reports = platform(move |_| {
                calls.count();
                Ok(answer(status, None))
            });
            now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap()
        };
        let first = step();
        assert_eq!(step(), first, "{status}");
        assert_eq!(calls.get(), 1, "{status}");
        assert_eq!(journal.states().len(), 2, "{status}");
    }
}

#[test]
fn a_killed_worker_leaves_it_undecided_where_the_platform_does_not_recognise_it() {
    for is_deduplicated in [false, true] {
        let mut journal = Notes::default();
        let mut delivery = sale();
        {
            let hanging = service_fn(|_| std::future::pending::<Result<_, ReportError>>());
            let rules = retries();
            let killed = pin!(deliver(&mut delivery, hanging, &rules, &mut journal));
            assert!(once(killed).is_pending());
        }
        // The next process reads what the journal has.
        let mut delivery = journal.last();
        assert_eq!(*delivery.state(), DeliveryState::Sending);
        let calls = Calls::default();
        let counted = calls.clone();
        let reports = platform_with(is_deduplicated, move |_| {
            counted.count();
            Ok(answer(409, None))
        });
        let verdict = now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
        if is_deduplicated {
            assert_eq!(verdict, DeliveryOutcome::Done(Receipt::duplicate()));
            assert_eq!((calls.get(), delivery.attempts()), (1, 2));
        } else {
            assert_eq!(verdict, DeliveryOutcome::Ambiguous);
            assert_eq!(calls.get(), 0, "at most once");
            assert_eq!(journal.states(), ["sending", "sending", "ambiguous"]);
            let DeliveryState::Ambiguous { reason } = delivery.state() else {
                panic!("{delivery:?}");
            };
            assert!(reason.to_string().contains("look at the platform"));
        }
    }
}

#[test]
fn a_delivery_whose_parts_are_kept_goes_on_as_one_that_is_kept_whole() {
    for may_have_arrived in [false, true] {
        let mut whole = serde_json::to_value(sale()).unwrap();
        whole["attempts"] = 3.into();
        whole["may_have_arrived"] = may_have_arrived.into();
        let whole: Delivery = serde_json::from_value(whole).unwrap();
        let (report, attempts) = (whole.report().clone(), whole.attempts());
        let mut resumed = Delivery::resumed(report, attempts, whole.may_have_arrived());
        assert_eq!(resumed, whole);
        let calls = Calls::default();
        let counted = calls.clone();
        let reports = platform(move |_| {
            counted.count();
            Ok(answer(201, None))
        });
        let mut journal = Notes::default();
        now(deliver(&mut resumed, reports, &retries(), &mut journal)).unwrap();
        assert_eq!(calls.get() == 0, may_have_arrived, "at most once");
        assert_eq!(resumed.attempts(), 4);
    }
}

#[test]
fn a_click_that_comes_late_joins_the_credit() {
    let add = |report: &str| {
        let report: Report = serde_json::from_str(report).unwrap();
        let click = Click::new("clk-1".parse().unwrap())
            .with_partner_id("part-1".parse::<ClickId>().unwrap());
        let told = report.clone().with_late_click(&click);
        (report, told)
    };
    let (before, told) = add(
        r#"{"kind":"sale","order":"O1","customer":"C1","amount":"9 EUR",
        "credit":{"reference":"r-1"}}"#,
    );
    assert_eq!(before.credit(), None, "it names nobody");
    let credit = told.credit().unwrap();
    assert_eq!(credit.click_id().unwrap().as_str(), "clk-1");
    assert_eq!(credit.partner_id().unwrap(), &"part-1");
    assert_eq!(credit.reference(), Some("r-1"));
    for without in [
        r#"{"kind":"sale","order":"O1","customer":"C1","amount":"9 EUR"}"#,
        r#"{"kind":"refund","order":"O1"}"#,
    ] {
        let (before, told) = add(without);
        assert_eq!(before, told);
    }
}

#[test]
fn the_platforms_advice_is_followed() {
    type Reply = fn() -> Result<Response<Full<Bytes>>, BoxError>;
    let not_sent: Reply = || Err(NotSent.into());
    let lost: Reply = || Err("connection reset".into());
    for (reply, is_deduplicated, state) in [
        (not_sent, false, "waiting"),
        (not_sent, true, "waiting"),
        (lost, false, "ambiguous"),
        (lost, true, "waiting"),
        (|| Ok(answer(429, None)), false, "waiting"),
        (|| Ok(answer(503, None)), false, "ambiguous"),
        (|| Ok(answer(503, None)), true, "waiting"),
        (|| Ok(answer(401, None)), false, "waiting"),
        (|| Ok(answer(303, None)), false, "ambiguous"),
        (|| Ok(answer(303, None)), true, "waiting"),
        (|| Ok(answer(307, None)), false, "waiting"),
        (|| Ok(answer(600, None)), false, "ambiguous"),
        (|| Ok(answer(600, None)), true, "waiting"),
        (|| Ok(answer(422, None)), true, "failed"),
    ] {
        let mut journal = Notes::default();
        let mut delivery = sale();
        let reports = platform_with(is_deduplicated, move |_| reply());
        now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
        assert_eq!(
            journal.states(),
            ["sending", state],
            "{is_deduplicated} {delivery:?}"
        );
    }
}

/// RFC 9110, section 15.4.4: a 303 answers a request that was performed.
#[test]
fn a_303_is_no_reason_to_book_a_sale_again() {
    for status in [300, 302, 303, 304, 101, 102, 600, 999] {
        let mut journal = Notes::default();
        let mut delivery = sale();
        let calls = Calls::default();
        for _ in 0..100 {
            let counted = calls.clone();
            let reports = platform(move |_| {
                counted.count();
                Ok(answer(status, None))
            });
            now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
            delivery = due(&journal);
        }
        assert_eq!(calls.get(), 1, "{status}");
        assert_eq!(delivery.state().as_str(), "ambiguous", "{status}");
    }
}

/// A platform that recognises duplicates and takes batches, and can't take this report any more.
struct NoBatches;

impl ReportApi for NoBatches {
    type Stage = ();

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
        match report {
            Report::Sale(_) => Ok(Step::send(Request::new(Bytes::new()), ())),
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        _: &Report,
        _: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        Err(answer.unreadable())
    }

    fn deduplicates(&self, _: &Report) -> bool {
        true
    }
}

#[test]
fn a_batch_that_cannot_be_sent_fails_nothing_that_may_have_arrived() {
    let transport = service_fn(|_: Request<Bytes>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("nothing is sent"))
    });
    let refund = Refund::whole("ORDER-1").unwrap();
    let sale = sale().report().clone();
    for (may_have_arrived, advice) in [(false, Advice::Permanent), (true, Advice::Ambiguous)] {
        let of = |report: Report| ReportRequest::new(report).may_have_arrived(may_have_arrived);
        let batch = [of(sale.clone()), of(refund.clone().into())];
        let client = Client::new(NoBatches, transport);
        for result in now(client.report_batch(&batch)) {
            assert_eq!(result.unwrap_err().advice(), advice);
        }
    }
}

#[test]
fn a_reason_says_what_to_mend_and_keeps_the_platforms_words_out_of_logs() {
    let mut journal = Notes::default();
    let mut delivery = sale();
    let reports = platform(|_| Ok(answer(422, None)));
    now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
    let DeliveryState::Failed { reason } = journal.last().state().clone() else {
        panic!("{delivery:?}");
    };
    assert!(reason.to_string().contains("422"), "{reason}");
    assert_eq!(reason.message(), Some("says the platform"));
    let shown = format!("{reason} {delivery:?}");
    assert!(!shown.contains("says the platform"), "{shown}");
    assert!(!shown.contains("CUSTOMER-1"), "{shown}");
}

#[test]
fn waits_double_up_to_the_longest_and_the_platforms_word_counts_within_it() {
    let rules = retries()
        .initial_backoff(Duration::from_secs(10))
        .max_backoff(Duration::from_secs(60));
    let mut journal = Notes::default();
    let mut delivery = sale();
    for (retry_after, range) in [
        (None, 7.5..=10.0),
        (None, 15.0..=20.0),
        (None, 30.0..=40.0),
        (None, 45.0..=60.0),
        (None, 45.0..=60.0),
        (Some(55), 55.0..=60.0),
        (Some(100_000), 60.0..=60.0),
    ] {
        let reports = platform(move |_| Ok(answer(429, retry_after)));
        let verdict = now(deliver(&mut delivery, reports, &rules, &mut journal)).unwrap();
        let DeliveryOutcome::Retry { after: wait, .. } = verdict else {
            panic!("{verdict:?}");
        };
        assert!(range.contains(&wait.as_secs_f64()), "{wait:?} {range:?}");
        delivery = due(&journal);
    }
}

#[test]
fn before_its_time_nothing_is_sent_and_nothing_kept() {
    let mut journal = Notes::default();
    let mut delivery = sale();
    let reports = platform(|_| Ok(answer(429, Some(600))));
    now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();

    let mut delivery = journal.last();
    let reports = platform(|_| panic!("nothing may be sent"));
    let verdict = now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
    let DeliveryOutcome::Retry { after: wait, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(wait > Duration::from_secs(590) && wait <= Duration::from_secs(600));
    assert_eq!(journal.states(), ["sending", "waiting"]);
}

#[test]
fn by_another_clock_it_waits_as_long() {
    let mut journal = Notes::default();
    let mut delivery = sale();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut attempt = |after: u64, status| {
        let reports = platform(move |_| Ok(answer(status, Some(600))));
        let at = start + Duration::from_secs(after);
        let store = &mut journal;
        now(deliver_by_clock(
            &mut delivery,
            reports,
            &retries(),
            store,
            || at,
        ))
        .unwrap()
    };
    let seconds = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Retry { after, .. } => after.as_secs(),
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(seconds(&attempt(0, 429)), 600);
    assert_eq!(seconds(&attempt(599, 201)), 1);
    assert_eq!(attempt(600, 201), recorded());
}

#[test]
fn after_the_last_attempt_it_is_dead_with_the_last_reason() {
    let rules = retries().max_attempts(3);
    let mut journal = Notes::default();
    let mut delivery = sale();
    for state in ["waiting", "waiting", "failed"] {
        let reports = platform_with(true, |_| Ok(answer(503, None)));
        now(deliver(&mut delivery, reports, &rules, &mut journal)).unwrap();
        assert_eq!(journal.states().last().unwrap(), state);
        delivery = due(&journal);
    }
    let DeliveryState::Failed { reason } = delivery.state() else {
        panic!("{delivery:?}");
    };
    assert!(reason.to_string().contains("503"), "{reason}");
}

#[test]
fn no_connection_is_never_the_last_attempt() {
    let rules = retries().max_attempts(1);
    let mut journal = Notes::default();
    let mut delivery = sale();
    for attempts in 1..=5 {
        let reports = platform(|_| Err(NotSent.into()));
        now(deliver(&mut delivery, reports, &rules, &mut journal)).unwrap();
        assert_eq!(delivery.attempts(), attempts);
        // Why it waits is there for a person to see.
        let DeliveryState::Waiting { reason, .. } = delivery.state() else {
            panic!("{delivery:?}");
        };
        assert_eq!(reason.as_ref().unwrap().code(), "not_sent");
        delivery = due(&journal);
    }
    let reports = platform(|_| Ok(answer(201, None)));
    let verdict = now(deliver(&mut delivery, reports, &rules, &mut journal)).unwrap();
    assert_eq!(verdict, recorded());
}

#[test]
fn a_person_can_have_it_sent_again_unless_it_is_done() {
    for (status, sent_again) in [(422, true), (503, true), (201, false)] {
        let mut journal = Notes::default();
        let mut delivery = sale();
        let reports = platform(move |_| Ok(answer(status, None)));
        now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
        assert!(delivery.is_finished());
        delivery.send_again();
        assert_eq!(delivery.is_finished(), !sent_again, "{status}");
        let reports = platform(|_| Ok(answer(201, None)));
        let verdict = now(deliver(&mut delivery, reports, &retries(), &mut journal)).unwrap();
        assert_eq!(verdict, recorded());
        assert_eq!(delivery.attempts(), 1);
    }
}

#[test]
fn without_the_journal_nothing_is_sent() {
    let mut delivery = sale();
    let before = delivery.clone();
    let reports = platform(|_| panic!("nothing may be sent"));
    let mut broken = Broken { pages: 0 };
    assert!(now(deliver(&mut delivery, reports, &retries(), &mut broken)).is_err());
    assert_eq!(delivery, before);
}

#[test]
fn a_journal_that_fails_after_the_attempt_leaves_the_truth_with_the_caller() {
    let mut delivery = sale();
    let reports = platform(|_| Ok(answer(201, None)));
    let mut broken = Broken { pages: 1 };
    assert!(now(deliver(&mut delivery, reports, &retries(), &mut broken)).is_err());
    assert!(delivery.is_finished());
}

// --- The stage -----------------------------------------------------------------------------------

fn sale() -> Delivery {
    let amount = Money::new("99.99", "EUR").unwrap();
    Delivery::new(Sale::new("ORDER-1", "CUSTOMER-1", amount).unwrap())
}

fn recorded() -> DeliveryOutcome {
    let mut ids = PlatformIds::default();
    ids.sale = PlatformId::new("con_1");
    DeliveryOutcome::Done(Receipt::stored(Outcome::Recorded).with_ids(ids))
}

fn retries() -> Retries {
    Retries::default()
}

/// A journal that forgets nothing.
#[derive(Default)]
struct Notes {
    pages: Arc<Mutex<Vec<Value>>>,
}

impl Notes {
    fn states(&self) -> Vec<String> {
        let pages = self.pages.lock().unwrap();
        let states = pages
            .iter()
            .map(|page| page["state"].as_str().unwrap().to_owned());
        states.collect()
    }

    /// What a new process reads back.
    fn last(&self) -> Delivery {
        serde_json::from_value(self.pages.lock().unwrap().last().unwrap().clone()).unwrap()
    }
}

impl DeliveryStore for Notes {
    type Error = Infallible;

    async fn save(&mut self, delivery: &Delivery) -> Result<(), Infallible> {
        let page = serde_json::to_value(delivery).unwrap();
        self.pages.lock().unwrap().push(page);
        Ok(())
    }
}

/// The last page, with the wait over.
fn due(journal: &Notes) -> Delivery {
    let mut page = journal.pages.lock().unwrap().last().unwrap().clone();
    if page["state"] == "waiting" {
        page["not_before"] = json!(0);
    }
    serde_json::from_value(page).unwrap()
}

/// A journal with so many pages left.
struct Broken {
    pages: u32,
}

impl DeliveryStore for Broken {
    type Error = &'static str;

    async fn save(&mut self, _: &Delivery) -> Result<(), &'static str> {
        self.pages = self.pages.checked_sub(1).ok_or("no page is left")?;
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Calls(Arc<AtomicU32>);

impl Calls {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A platform that doesn't recognise duplicates, behind a transport of the test's own.
fn platform<F>(reply: F) -> impl Service<ReportRequest, Response = Receipt, Error = ReportError>
where
    F: Fn(Request<Bytes>) -> Result<Response<Full<Bytes>>, BoxError>,
    F: Clone + Send + Sync + 'static,
{
    platform_with(false, reply)
}

fn platform_with<F>(
    is_deduplicated: bool,
    reply: F,
) -> impl Service<ReportRequest, Response = Receipt, Error = ReportError>
where
    F: Fn(Request<Bytes>) -> Result<Response<Full<Bytes>>, BoxError>,
    F: Clone + Send + Sync + 'static,
{
    service_fn(move |request: ReportRequest| {
        let reply = reply.clone();
        let transport = service_fn(move |request| std::future::ready(reply(request)));
        let client = Client::new(InHouse { is_deduplicated }, transport);
        async move { client.send_report(&request).await }
    })
}

struct InHouse {
    is_deduplicated: bool,
}

impl ReportApi for InHouse {
    type Stage = ();

    fn begin(&self, _: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        Ok(Step::send(request, ()))
    }

    fn next(
        &self,
        _: &Report,
        _: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        if answer.is_conflict() {
            return Ok(Receipt::duplicate().into());
        }
        let mark = answer.shows(["/message"])?;
        let mut ids = PlatformIds::default();
        ids.sale = PlatformId::new("con_1");
        Ok(Receipt::recorded(mark).with_ids(ids).into())
    }

    fn deduplicates(&self, _: &Report) -> bool {
        self.is_deduplicated
    }
}

fn answer(status: u16, retry_after: Option<u32>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = json!({ "message": "says the platform" }).to_string();
    response.body(Full::from(body)).unwrap()
}

fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Nothing here waits.
fn now<F: Future>(future: F) -> F::Output {
    match once(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waited for something"),
    }
}
