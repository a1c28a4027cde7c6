//! Clock, randomness, spawner and timer replaced: no path of the layer takes the system's own, or Tokio's.
//! And with nothing to run on: nothing panics, and nothing is lost in silence.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Request, Response};
use http_body_util::Full;
use time::OffsetDateTime;
use tower::{Layer as _, Service as _, service_fn};
use tower_referral::carry::Carry;
use tower_referral::click::{ClickRequest, ClickTiming, Clicks};
use tower_referral::testing::Visitor;
use tower_referral::{
    ClickId, Forget, Referral, ReferralLayer, ReferralLayerBuilder, Referrals, ServerSide, Spawner,
    Storage,
};

use crate::log::Log;
use crate::scripted_store::Scripted;
use crate::support::{FIREFOX, at_once, keyring, page_visit, with_headers};

/// Takes in what is logged while `run` runs, on this thread.
fn during<T>(log: &Log, run: impl FnOnce() -> T) -> T {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, run)
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Body = Full<bytes::Bytes>;

/// A world of its own: time passes when it is told to, randomness counts, and tasks wait for their turn.
#[derive(Clone, Default)]
struct World {
    millis: Arc<AtomicU64>,
    drawn: Arc<AtomicU64>,
    tasks: Arc<Mutex<Vec<Task>>>,
    /// How often the clock was looked at, and how many timers were set.
    looks: Arc<AtomicU64>,
    timers: Arc<AtomicU64>,
}

/// 1 January 2100: the system's time is nowhere near.
const START: i64 = 4_102_444_800;

impl World {
    fn now(&self) -> OffsetDateTime {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let millis = self.millis.load(Ordering::SeqCst);
        OffsetDateTime::from_unix_timestamp(START).unwrap() + Duration::from_millis(millis)
    }

    fn surrounds(&self, builder: ReferralLayerBuilder) -> ReferralLayerBuilder {
        let (clock, random, spawner, timer) =
            (self.clone(), self.clone(), self.clone(), self.clone());
        builder
            .clock(move || clock.now())
            .random_source(move |bytes| {
                for byte in bytes {
                    *byte =
                        u8::try_from(random.drawn.fetch_add(1, Ordering::SeqCst) % 251).unwrap();
                }
                true
            })
            .spawner(move |task| spawner.tasks.lock().unwrap().push(task))
            .timer(move |duration| timer.sleep(duration))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.timers.fetch_add(1, Ordering::SeqCst);
        let until =
            self.millis.load(Ordering::SeqCst) + u64::try_from(duration.as_millis()).unwrap();
        let millis = Arc::clone(&self.millis);
        poll_fn(move |_| {
            if millis.load(Ordering::SeqCst) >= until {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// Polls the tasks once. Those that aren't over wait on.
    fn turn(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        for mut task in tasks {
            if task.as_mut().poll(&mut cx).is_pending() {
                self.tasks.lock().unwrap().push(task);
            }
        }
    }

    /// Runs a future and the tasks, a millisecond at a time.
    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..200_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.turn();
            self.millis.fetch_add(1, Ordering::SeqCst);
        }
        panic!("it never ends");
    }

    fn pass(&self, duration: Duration) {
        self.run(self.sleep(duration));
    }
}

/// A platform that takes its time, by the world's clock: 300 ms, and for ever for the key `HANGS`.
fn clicks(world: &World) -> Clicks {
    let world = world.clone();
    Clicks::from_fn(move |request: ClickRequest| {
        let hangs = request.key().as_str() == "HANGS";
        let sleep = world.sleep(Duration::from_millis(if hangs { 1 << 40 } else { 300 }));
        async move {
            sleep.await;
            format!("click-of-{}", request.key()).parse::<ClickId>()
        }
    })
}

/// What a handler sees: key, click, reference, visitor ID and when.
async fn page<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    let referrals = Referrals::from_extensions(request.extensions())
        .await
        .unwrap();
    let text = referrals.first().map(|referral| {
        let id = referral.click_id().map_or("?", ClickId::as_str);
        let reference = referral.click_reference();
        let visitors: Vec<_> = referrals
            .visitor_ids()
            .iter()
            .map(ToString::to_string)
            .collect();
        let at = referral.captured_at();
        format!("{id} {reference:?} {visitors:?} {at}")
    });
    let mut response = Response::new(text.unwrap_or_default().into());
    if request.uri().path() == "/forget" {
        response.extensions_mut().insert(Forget);
    }
    Ok(response)
}

/// Goes through everything that a layer does, and writes down what came out.
fn goes_through_everything(
    world: &World,
    storage: impl Into<Storage>,
    timing: ClickTiming,
) -> Vec<String> {
    let late = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&late);
    let clicks = clicks(world).timing(timing).on_late_result(move |late| {
        told.lock().unwrap().push(late.reference);
        async {}
    });
    let layer = world
        .surrounds(ReferralLayer::builder(storage))
        .clicks(clicks)
        .build()
        .unwrap();
    let clock = world.clone();
    let carry = Carry::builder(keyring())
        .clock(move || clock.now())
        .build()
        .unwrap();
    let mut visitor = Visitor::new();
    let mut notes = Vec::new();
    let mut opens = |visitor: &mut Visitor, request: Request<Body>| {
        let site = service_fn(page::<Body>);
        let response = world
            .run(layer.layer(site).call(visitor.sends(request)))
            .unwrap();
        visitor.receives(&response);
        let cookies: Vec<_> = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .cloned()
            .collect();
        let seen = world
            .run(http_body_util::BodyExt::collect(response.into_body()))
            .unwrap();
        notes.push(format!("{cookies:?} {:?}", seen.to_bytes()));
    };
    let get = |uri: &str| {
        with_headers(
            page_visit(uri),
            &[("user-agent", FIREFOX), ("host", "shop.example")],
        )
        .map(|_| Body::default())
    };
    opens(&mut visitor, get("/pricing?aff=A"));
    world.pass(Duration::from_secs(1));
    opens(&mut visitor, get("/"));
    opens(&mut visitor, get("/?aff=HANGS"));
    world.pass(Duration::from_secs(5));
    opens(&mut visitor, get("/?aff=B"));
    let post = Request::post("/landing")
        .header("host", "shop.example")
        .header("user-agent", FIREFOX)
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded");
    let post = visitor.sends(post.body(Body::from("aff=C")).unwrap());
    let response = world
        .run(layer.layer(layer.capture_endpoint()).call(post))
        .unwrap();
    visitor.receives(&response);
    world.pass(Duration::from_secs(1));
    opens(&mut visitor, get("/"));
    assert!(world.run(layer.drain_clicks(Duration::from_secs(9))));
    let kept = world.run(visitor.referrals(&layer));
    let kept: &Referral = kept.first().unwrap();
    let token = kept.carry_token(&carry).unwrap();
    assert_eq!(
        carry.open(token.as_str()).unwrap().captured_at(),
        kept.captured_at()
    );
    opens(&mut visitor, get("/forget"));
    notes.push(token.to_string());
    notes.push(format!(
        "{:?} {:?}",
        layer.click_counts(),
        late.lock().unwrap()
    ));
    notes
}

/// A store that works without a runtime, with the records' ends in the notes.
fn records(store: &Scripted) -> Storage {
    ServerSide::new(store.clone(), keyring())
        .delete_expired(store.clone())
        .into()
}

#[test]
fn no_path_takes_the_systems_clock_randomness_spawner_or_timer() {
    let timings = [
        ClickTiming::BesideResponse,
        ClickTiming::BeforeResponse,
        ClickTiming::AtEndpoint,
    ];
    for timing in timings {
        for on_server in [false, true] {
            let go = || {
                let (world, store) = (World::default(), Scripted::default());
                let storage = if on_server {
                    records(&store)
                } else {
                    keyring().into()
                };
                let mut notes = goes_through_everything(&world, storage, timing);
                world.pass(Duration::from_secs(120));
                notes.push(format!("{} deletions", store.deletions()));
                let used = [&world.looks, &world.drawn, &world.timers];
                assert!(used.iter().all(|count| count.load(Ordering::SeqCst) > 0));
                notes
            };
            // Without a runtime, so that whatever asks for Tokio fails.
            let first = go();
            assert!(first[0].contains("Max-Age=2592000"), "{first:#?}");
            assert!(
                first.iter().any(|note| note.contains("click-of-C")),
                "{first:#?}"
            );
            assert!(
                first.iter().any(|note| note.contains("2100-01-01")),
                "{first:#?}"
            );
            let deletions = if on_server {
                "1 deletions"
            } else {
                "0 deletions"
            };
            assert_eq!(first.last().unwrap(), deletions);
            // Once more, later by the system's clock: to the last bit the same.
            assert_eq!(first, go());
            // In a runtime whose timer panics, which runs nothing of ours.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let in_runtime = runtime.block_on(async { go() });
            assert_eq!(first, in_runtime);
            assert_eq!(runtime.metrics().num_alive_tasks(), 0);
        }
    }
}

#[test]
fn a_record_ends_by_the_clock_that_was_given() {
    let (world, store) = (World::default(), Scripted::default());
    let layer = world
        .surrounds(ReferralLayer::builder(records(&store)))
        .build()
        .unwrap();
    world
        .run(
            layer
                .layer(service_fn(page::<String>))
                .call(page_visit("/?aff=A")),
        )
        .unwrap();
    let [record] = &store.records()[..] else {
        panic!("one record");
    };
    let captured = OffsetDateTime::from_unix_timestamp(START).unwrap();
    assert_eq!(
        record.expiry_date,
        captured + Duration::from_secs(30 * 86_400)
    );
}

fn landing(key: &str) -> Request<String> {
    with_headers(
        page_visit(&format!("/?aff={key}")),
        &[("user-agent", FIREFOX)],
    )
}

fn answered_at_once(layer: &ReferralLayer, request: Request<String>) -> Response<Body> {
    at_once(layer.layer(service_fn(page::<String>)).call(request)).unwrap()
}

/// A page view of a visitor who has landed.
fn returns(landed: &Response<Body>) -> Request<String> {
    let cookie = landed.headers()[SET_COOKIE].to_str().unwrap();
    with_headers(
        page_visit("/"),
        &[
            ("user-agent", FIREFOX),
            ("cookie", cookie.split(';').next().unwrap()),
        ],
    )
}

#[test]
fn without_a_runtime_a_click_is_put_off_and_says_how_to_fix_it() {
    for timing in [ClickTiming::BesideResponse, ClickTiming::BeforeResponse] {
        let log = Log::default();
        let world = World::default();
        let (landed, layer) = during(&log, || {
            let clicks = clicks(&world).timing(timing).wait(Duration::from_secs(1));
            let layer = ReferralLayer::builder(keyring())
                .clicks(clicks)
                .build()
                .unwrap();
            (answered_at_once(&layer, landing("A")), layer)
        });
        assert!(landed.headers().contains_key(SET_COOKIE), "the key is kept");
        assert_eq!(
            (layer.click_counts().started, layer.click_counts().dropped),
            (0, 1)
        );
        let logged = log.take();
        assert!(
            logged.contains("no_runtime") && logged.contains("ReferralLayerBuilder::spawner"),
            "{logged}"
        );
        assert!(at_once(layer.drain_clicks(Duration::ZERO)));

        // The visitor's next page view, which brings what runs it.
        let tasks: Arc<Mutex<Vec<Task>>> = Arc::default();
        let spawned = Arc::clone(&tasks);
        let mut request = returns(&landed);
        request
            .extensions_mut()
            .insert(Spawner::new(move |task| spawned.lock().unwrap().push(task)));
        answered_at_once(&layer, request);
        assert_eq!(layer.click_counts().started, 1, "{timing:?}");
        assert_eq!(tasks.lock().unwrap().len(), 1);
    }
}

#[test]
fn a_requests_own_spawner_comes_before_the_layers() {
    let (world, own) = (World::default(), World::default());
    let builder = world.surrounds(ReferralLayer::builder(keyring()));
    let layer = builder.clicks(clicks(&world)).build().unwrap();
    let mut request = landing("A");
    let tasks = Arc::clone(&own.tasks);
    request
        .extensions_mut()
        .insert(Spawner::new(move |task| tasks.lock().unwrap().push(task)));
    answered_at_once(&layer, request);
    assert_eq!(
        (
            own.tasks.lock().unwrap().len(),
            world.tasks.lock().unwrap().len()
        ),
        (1, 0)
    );
}

#[test]
fn a_task_that_is_dropped_unrun_is_put_off_and_one_that_is_ended_is_counted() {
    let world = World::default();
    let builder = || ReferralLayer::builder(keyring()).clicks(clicks(&world));
    let log = Log::default();
    let layer = builder().spawner(drop).build().unwrap();
    let landed = during(&log, || answered_at_once(&layer, landing("A")));
    assert_eq!(
        (layer.click_counts().started, layer.click_counts().dropped),
        (1, 1)
    );
    let logged = log.take();
    assert!(logged.contains("not_run"), "{logged}");
    let mut request = returns(&landed);
    let tasks = Arc::clone(&world.tasks);
    request
        .extensions_mut()
        .insert(Spawner::new(move |task| tasks.lock().unwrap().push(task)));
    answered_at_once(&layer, request);
    assert_eq!(layer.click_counts().started, 2, "tried again");

    // Begun, and ended before the answer.
    let log = Log::default();
    during(&log, || {
        world.turn();
        world.tasks.lock().unwrap().clear();
    });
    assert_eq!(layer.click_counts().dropped, 2);
    let logged = log.take();
    assert!(logged.contains("drain_clicks"), "{logged}");
    assert!(
        at_once(layer.drain_clicks(Duration::ZERO)),
        "it left its place"
    );
}

#[test]
fn without_randomness_a_page_is_served_and_its_click_is_counted() {
    let world = World::default();
    let log = Log::default();
    let (landed, layer) = during(&log, || {
        let builder = world
            .surrounds(ReferralLayer::builder(keyring()))
            .random_source(|_| false);
        let layer = builder.clicks(clicks(&world)).build().unwrap();
        (answered_at_once(&layer, landing("A")), layer)
    });
    assert!(landed.headers().contains_key(SET_COOKIE));
    assert_eq!(
        (layer.click_counts().started, layer.click_counts().dropped),
        (0, 1)
    );
    let logged = log.take();
    assert!(logged.contains("random_source"), "{logged}");
}

#[test]
fn a_runtime_without_a_timer_panics_nowhere() {
    let store = Scripted::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let answers: [Storage; 2] = [keyring().into(), records(&store)];
    for storage in answers {
        let log = Log::default();
        let ready = Clicks::from_fn(async |_: ClickRequest| "click".parse::<ClickId>());
        let layer = ReferralLayer::builder(storage)
            .clicks(ready.timing(ClickTiming::BeforeResponse))
            .build()
            .unwrap();
        let response = during(&log, || {
            runtime
                .block_on(async {
                    layer
                        .layer(service_fn(page::<String>))
                        .call(landing("A"))
                        .await
                })
                .unwrap()
        });
        assert!(
            response.headers().contains_key(SET_COOKIE),
            "the key is kept"
        );
        let logged = log.take();
        assert!(logged.contains("ReferralLayerBuilder::timer"), "{logged}");
        // The call itself runs, without a timeout.
        runtime.block_on(async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(layer.click_counts().created, 1);
    }
}
