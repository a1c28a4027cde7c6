//! A platform that stops the process between two requests, as AWS Lambda does: tasks run only while a
//! response is being made. Nothing is to be left over then.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Request, Response};
use tower::{Layer as _, Service as _, service_fn};
use tower_referral::click::{ClickRequest, ClickTiming, Clicks};
use tower_referral::testing::Visitor;
use tower_referral::{ClickId, ReferralLayer, ServerSide, Storage};

use crate::scripted_store::Scripted;
use crate::support::{FIREFOX, clock, keyring, page_visit, with_headers};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks for as long as it is asked for a response, and not a moment longer.
#[derive(Clone, Default)]
struct Sandbox(Arc<Mutex<Vec<Task>>>);

impl Sandbox {
    fn responds<F: Future>(&self, response: F) -> F::Output {
        let mut response = pin!(response);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(response) = response.as_mut().poll(&mut cx) {
                return response;
            }
            let tasks = std::mem::take(&mut *self.0.lock().unwrap());
            for mut task in tasks {
                if task.as_mut().poll(&mut cx).is_pending() {
                    self.0.lock().unwrap().push(task);
                }
            }
        }
    }

    fn left_over(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Is ready after so many polls.
async fn after(polls: u32) {
    let mut left = polls;
    std::future::poll_fn(move |_| match left {
        0 => Poll::Ready(()),
        _ => {
            left -= 1;
            Poll::Pending
        }
    })
    .await;
}

fn layer(sandbox: &Sandbox, storage: Storage, timing: ClickTiming, answer: u32) -> ReferralLayer {
    let tasks = Arc::clone(&sandbox.0);
    let clicks = Clicks::from_fn(move |_: ClickRequest| async move {
        after(answer).await;
        "click".parse::<ClickId>()
    });
    ReferralLayer::builder(storage)
        .clock(clock().reader())
        .clicks(clicks.timing(timing))
        .spawner(move |task| tasks.lock().unwrap().push(task))
        // A poll is 20 ms.
        .timer(|duration| after(u32::try_from(duration.as_millis() / 20).unwrap()))
        .build()
        .unwrap()
}

/// Lands; returns what the visitor's next request finds at another instance of the function.
fn click_id_elsewhere(
    timing: ClickTiming,
    on_server: bool,
    answer: u32,
) -> (Option<String>, usize) {
    let store = Scripted::default();
    let storage = || {
        if on_server {
            let server = ServerSide::new(store.clone(), keyring());
            return server.store_expires_records().into();
        }
        Storage::from(keyring())
    };
    let sandbox = Sandbox::default();
    let first = layer(&sandbox, storage(), timing, answer);
    let page = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let request = with_headers(page_visit("/?aff=A"), &[("user-agent", FIREFOX)]);
    let response = sandbox.responds(first.layer(page).call(request)).unwrap();
    assert!(response.headers().contains_key(SET_COOKIE));
    let mut visitor = Visitor::new();
    visitor.receives(&response);

    let elsewhere = Sandbox::default();
    let other = layer(&elsewhere, storage(), timing, answer);
    let referrals = elsewhere.responds(visitor.referrals(&other));
    let referral = referrals.first().unwrap();
    assert_eq!(referral.key().unwrap().as_str(), "A");
    (
        referral.click_id().map(ToString::to_string),
        sandbox.left_over(),
    )
}

#[test]
fn before_the_response_nothing_of_a_click_is_left_over() {
    for on_server in [false, true] {
        let (click, left_over) = click_id_elsewhere(ClickTiming::BeforeResponse, on_server, 7);
        assert_eq!(
            (click.as_deref(), left_over),
            (Some("click"), 0),
            "on server: {on_server}"
        );
        // A platform that doesn't answer in time: the page goes out, and its call is over.
        let (click, left_over) = click_id_elsewhere(ClickTiming::BeforeResponse, on_server, 9999);
        assert_eq!((click, left_over), (None, 0), "on server: {on_server}");
    }
}

#[test]
fn beside_the_response_it_would_be_frozen() {
    for on_server in [false, true] {
        let (click, left_over) = click_id_elsewhere(ClickTiming::BesideResponse, on_server, 7);
        assert_eq!(click, None);
        assert!(left_over > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_waits_for_its_click_as_long_as_the_call_may_take_and_no_longer() {
    let millis = Duration::from_millis;
    // (the platform's answer, the handler, how long the response takes, the click ID)
    let cases = [
        (500, 0, 500, Some("click")),
        (500, 300, 500, Some("click")),
        (500, 900, 900, Some("click")),
        (9_000, 0, 2_000, None),
        (9_000, 300, 2_000, None),
        (9_000, 2_500, 2_500, None),
    ];
    for (answer, handler, takes, click) in cases {
        let clicks = Clicks::from_fn(move |_: ClickRequest| async move {
            tokio::time::sleep(millis(answer)).await;
            "click".parse::<ClickId>()
        });
        let layer = ReferralLayer::builder(keyring())
            .clicks(clicks.timing(ClickTiming::BeforeResponse))
            .build()
            .unwrap();
        let page = service_fn(move |_: Request<String>| async move {
            tokio::time::sleep(millis(handler)).await;
            Ok::<_, Infallible>(Response::new(()))
        });
        let start = tokio::time::Instant::now();
        let request = with_headers(page_visit("/?aff=A"), &[("user-agent", FIREFOX)]);
        let response = layer.layer(page).call(request).await.unwrap();
        assert_eq!(start.elapsed(), millis(takes), "{answer} {handler}");
        let mut visitor = Visitor::new();
        visitor.receives(&response);
        let referrals = visitor.referrals(&layer).await;
        let id = referrals.first().unwrap().click_id().map(ClickId::as_str);
        assert_eq!(id, click, "{answer} {handler}");
        assert!(
            layer.drain_clicks(Duration::ZERO).await,
            "nothing is left over"
        );
    }
}
