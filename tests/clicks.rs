//! Clicks: server to server, never in the way. Time is the runtime's, paused: a response takes
//! exactly the virtual time that the inner service and the wait budget take, whatever the platform
//! does, so every latency here is an equation and no test sleeps.

#![cfg(feature = "partnac")]

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_referral::{
    Attribution, Capture, Carry, ClickId, ClickRequest, Clicks, Consent, Decisions, Keyring,
    Program, Reason, ReferralLayer, ReferralService, Referrals, SignedCookie, SigningKey,
    UnknownKey, trusted_header,
};
use tower_referral_platforms::{Client, Partnac};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<String>;

const PAGE: Duration = Duration::from_millis(70);

/// What the handler saw: key and click ID.
fn describe(referrals: &Referrals) -> String {
    match referrals.first() {
        None => "-".to_owned(),
        Some(referral) => {
            let click_id = referral.click_id().map_or("?", ClickId::as_str);
            format!("{}/{click_id}", referral.key())
        }
    }
}

async fn page(request: Request<()>) -> Result<Reply, Infallible> {
    tokio::time::sleep(PAGE).await;
    let referrals = Referrals::from_extensions(request.extensions())
        .await
        .unwrap();
    let mut response = Response::new(describe(&referrals));
    if let Some(code) = request.headers().get("x-redeem") {
        let key = code.to_str().unwrap().parse().unwrap();
        response.extensions_mut().insert(Capture::key(key));
    }
    Ok(response)
}

fn cookie() -> SignedCookie {
    let key = SigningKey::new("test", (0..32).collect::<Vec<u8>>()).unwrap();
    SignedCookie::new(Keyring::new(key))
}

fn layer(clicks: Clicks) -> ReferralLayer {
    ReferralLayer::builder(cookie())
        .clicks(clicks)
        .build()
        .unwrap()
}

/// A browser with one cookie jar for one site.
struct Browser<S> {
    site: S,
    cookie: Option<String>,
    /// The headers of every request.
    headers: HeaderMap,
    decisions: Vec<Reason>,
}

impl<S> Browser<ReferralService<S>>
where
    S: Service<Request<()>, Response = Reply, Error = Infallible>,
{
    fn new(layer: &ReferralLayer, site: S) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("host", "shop.example".parse().unwrap());
        headers.insert(
            "user-agent",
            "Mozilla/5.0 (X11; Linux) Firefox/127.0".parse().unwrap(),
        );
        Self {
            site: layer.layer(site),
            cookie: None,
            headers,
            decisions: Vec::new(),
        }
    }

    /// Opens a page: what its handler saw, and how long it took in virtual time.
    async fn open(&mut self, uri: &str) -> (String, Duration) {
        let mut request = Request::get(uri).body(()).unwrap();
        request.headers_mut().extend(self.headers.clone());
        self.send(request).await
    }

    async fn send(&mut self, mut request: Request<()>) -> (String, Duration) {
        if let Some(cookie) = &self.cookie {
            request
                .headers_mut()
                .insert(COOKIE, cookie.parse().unwrap());
        }
        let before = Instant::now();
        let response = self
            .site
            .ready()
            .await
            .unwrap()
            .call(request)
            .await
            .unwrap();
        let took = before.elapsed();
        assert_eq!(response.status(), StatusCode::OK);
        for line in response.headers().get_all(SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let is_deletion = pair.ends_with('=');
            self.cookie = (!is_deletion).then(|| pair.to_owned());
        }
        self.decisions = response
            .extensions()
            .get::<Decisions>()
            .map(|decisions| {
                decisions
                    .iter()
                    .map(tower_referral::Decision::reason)
                    .collect()
            })
            .unwrap_or_default();
        (response.into_body(), took)
    }
}

/// Clicks that count their calls and give `c1`, `c2` and so on after `delay`.
fn counting(delay: Duration) -> (Clicks, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let clicks = Clicks::from_fn(move |_| {
        let call = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            tokio::time::sleep(delay).await;
            Ok::<ClickId, Infallible>(format!("c{call}").parse().unwrap())
        }
    });
    (clicks, calls)
}

/// Lets everything that is under way come to its end or its time limit.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Fast,
    Slow,
    Silent,
    /// No connection, no error: the name server never answers.
    DnsHangs,
    NeverReady,
    Refusing,
    Resetting,
    Dribbling,
    LyingAboutLength,
    Endless,
    Html,
    TooManyRequests,
    ServerError,
    Redirect,
    BadClickId,
    Panicking,
}

const FAULTS: [Fault; 16] = [
    Fault::Fast,
    Fault::Slow,
    Fault::Silent,
    Fault::DnsHangs,
    Fault::NeverReady,
    Fault::Refusing,
    Fault::Resetting,
    Fault::Dribbling,
    Fault::LyingAboutLength,
    Fault::Endless,
    Fault::Html,
    Fault::TooManyRequests,
    Fault::ServerError,
    Fault::Redirect,
    Fault::BadClickId,
    Fault::Panicking,
];

/// An HTTP transport to a platform with a fault.
#[derive(Clone)]
struct FaultyPlatform(Fault, Arc<AtomicU64>);

impl Service<Request<Bytes>> for FaultyPlatform {
    type Response = Response<BoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0 {
            Fault::NeverReady => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        self.1.fetch_add(1, Ordering::SeqCst);
        let fault = self.0;
        Box::pin(async move {
            let full = |text: &str| {
                Full::new(Bytes::copy_from_slice(text.as_bytes()))
                    .map_err(BoxError::from)
                    .boxed()
            };
            let answer = |status: u16, text: &str| {
                let response = Response::builder().status(status).header("location", "/x");
                Ok(response.body(full(text)).unwrap())
            };
            let broken = |parts: usize, pause: Duration, end: Option<&'static str>| {
                let frames = futures_util::stream::unfold(0, move |sent| async move {
                    tokio::time::sleep(pause).await;
                    let frame = match end {
                        Some(error) if sent == parts => Err(BoxError::from(error)),
                        _ => Ok(Frame::data(Bytes::from_static(b"                "))),
                    };
                    (sent <= parts).then_some((frame, sent + 1))
                });
                Ok(Response::new(BodyExt::boxed(StreamBody::new(SyncStream(
                    Box::pin(frames),
                )))))
            };
            match fault {
                Fault::Fast => answer(201, r#"{"click_id": "fast"}"#),
                Fault::Slow => {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    answer(201, r#"{"data": {"id": "slow"}}"#)
                }
                Fault::Silent | Fault::DnsHangs | Fault::NeverReady => std::future::pending().await,
                Fault::Refusing => Err("connection refused".into()),
                Fault::Resetting => broken(1, Duration::ZERO, Some("connection reset")),
                Fault::Dribbling => broken(1000, Duration::from_millis(100), None),
                Fault::LyingAboutLength => broken(2, Duration::ZERO, Some("end before length")),
                Fault::Endless => broken(usize::MAX - 1, Duration::ZERO, None),
                Fault::Html => answer(200, "<html>maintenance</html>"),
                Fault::TooManyRequests => answer(429, "{}"),
                Fault::ServerError => answer(500, "oops"),
                Fault::Redirect => answer(302, ""),
                Fault::BadClickId => answer(200, r#"{"click_id": "a b\r\nSet-Cookie: x=y"}"#),
                Fault::Panicking => panic!("the platform's client has a bug"),
            }
        })
    }
}

/// Bodies have to be `Sync` to be boxed; a stream that is only ever polled mutably is.
struct SyncStream<S>(Pin<Box<S>>);

impl<S> futures_util::Stream for SyncStream<S>
where
    S: futures_util::Stream,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

fn partnac(fault: Fault) -> (Clicks, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let client = Client::new(
        Partnac::new("key").unwrap(),
        FaultyPlatform(fault, Arc::clone(&calls)),
    );
    (Clicks::new(client.clicks()), calls)
}

#[tokio::test(start_paused = true)]
async fn a_page_takes_its_own_time_whatever_the_platform_does() {
    for fault in FAULTS {
        for wait in [0, 300] {
            let wait = Duration::from_millis(wait);
            let (clicks, calls) = partnac(fault);
            let layer = layer(clicks.wait(wait));
            let mut browser = Browser::new(&layer, service_fn(page));

            let (seen, took) = browser.open("/pricing?aff=K1").await;
            assert_eq!(seen, "K1/?", "{fault:?}");
            let is_over_at_once = !matches!(
                fault,
                Fault::Slow
                    | Fault::Silent
                    | Fault::DnsHangs
                    | Fault::NeverReady
                    | Fault::Dribbling
            );
            let budget = if is_over_at_once {
                Duration::ZERO
            } else {
                wait
            };
            assert_eq!(took, PAGE + budget, "{fault:?}, wait {wait:?}");

            settle().await;
            let (seen, took) = browser.open("/").await;
            let expected = match fault {
                Fault::Fast => "K1/fast",
                Fault::Slow => "K1/slow",
                _ => "K1/?",
            };
            assert_eq!(seen, expected, "{fault:?}, wait {wait:?}");
            assert_eq!(took, PAGE, "{fault:?}");

            let expected_calls = u64::from(!matches!(fault, Fault::NeverReady));
            assert_eq!(
                calls.load(Ordering::SeqCst),
                expected_calls,
                "{fault:?}: repeated"
            );
            assert!(
                layer.drain_clicks(Duration::ZERO).await,
                "{fault:?}: still in flight"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_the_page_is_made_is_in_its_cookie() {
    let (clicks, _) = counting(PAGE / 2);
    let mut browser = Browser::new(&layer(clicks), service_fn(page));
    let (_, took) = browser.open("/?aff=K1").await;
    assert_eq!(took, PAGE);
    assert_eq!(browser.decisions, [Reason::Captured, Reason::ClickJoined]);
    let landing_cookie = browser.cookie.clone();

    assert_eq!(browser.open("/").await.0, "K1/c1");
    assert_eq!(browser.cookie, landing_cookie, "nothing was left to write");
}

#[tokio::test(start_paused = true)]
async fn the_wait_budget_ends_with_the_answer() {
    let (clicks, _) = counting(PAGE + Duration::from_millis(40));
    let mut browser = Browser::new(
        &layer(clicks.wait(Duration::from_millis(300))),
        service_fn(page),
    );
    let (_, took) = browser.open("/?aff=K1").await;
    assert_eq!(took, PAGE + Duration::from_millis(40));
    assert_eq!(browser.open("/").await.0, "K1/c1");
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_joins_its_own_visitor_and_keeps_the_clock() {
    let now = Arc::new(Mutex::new(
        time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
    ));
    let clock = Arc::clone(&now);
    let (clicks, calls) = counting(Duration::from_secs(1));
    let layer = ReferralLayer::builder(cookie())
        .clicks(clicks)
        .clock(move || *clock.lock().unwrap())
        .build()
        .unwrap();
    let site = service_fn(page);
    let mut first = Browser::new(&layer, site);
    let mut second = Browser::new(&layer, site);
    let mut third = Browser::new(&layer, site);

    // The same key, page and moment: nothing but the touch tells them apart.
    first.open("/?aff=K1").await;
    second.open("/?aff=K1").await;
    settle().await;
    *now.lock().unwrap() += time::Duration::days(10);
    assert_eq!(second.open("/").await.0, "K1/c2");
    assert_eq!(first.open("/").await.0, "K1/c1");
    assert_eq!(third.open("/").await.0, "-");
    assert_eq!(calls.load(Ordering::SeqCst), 2);

    // Captured-at stayed, and so did the end of the window.
    *now.lock().unwrap() += time::Duration::days(19);
    assert_eq!(first.open("/").await.0, "K1/c1");
    *now.lock().unwrap() += time::Duration::days(1);
    assert_eq!(first.open("/").await.0, "-");
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_that_got_lost_on_its_way_is_sent_again() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let mut browser = Browser::new(&layer(clicks), service_fn(page));
    browser.open("/?aff=K1").await;
    let before = browser.cookie.clone();
    settle().await;
    assert_eq!(browser.open("/").await.0, "K1/c1");
    browser.cookie = before;
    assert_eq!(browser.open("/").await.0, "K1/c1");
}

#[tokio::test(start_paused = true)]
async fn a_winning_touch_makes_one_click_and_nothing_else_makes_any() {
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = ReferralLayer::builder(cookie())
        .clicks(clicks)
        .program(Program::default().attribution(Attribution::FirstTouch))
        .build()
        .unwrap();
    let mut browser = Browser::new(&layer, service_fn(page));
    for (uri, so_far) in [
        ("/", 0),
        ("/?aff=", 0),
        ("/?aff=K1", 1),
        ("/?aff=K1", 1),
        ("/", 1),
        ("/?aff=K2", 1),
    ] {
        browser.open(uri).await;
        settle().await;
        assert_eq!(calls.load(Ordering::SeqCst), so_far, "{uri}");
    }
    assert_eq!(layer.click_counts().created, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_captures_is_no_visit() {
    let (clicks, calls) = counting(Duration::ZERO);
    let mut browser = Browser::new(&layer(clicks), service_fn(page));
    browser
        .headers
        .insert("x-redeem", "FRIEND".parse().unwrap());
    browser.open("/redeem").await;
    browser.headers.remove("x-redeem");
    assert_eq!(browser.open("/").await.0, "FRIEND/?");
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_page_fetched_ahead_of_time_clicks_when_it_is_looked_at() {
    let (clicks, calls) = counting(Duration::ZERO);
    let mut browser = Browser::new(&layer(clicks), service_fn(page));
    let real = browser.headers.clone();
    for (name, value) in [
        ("sec-purpose", "prefetch;prerender"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
    ] {
        browser.headers.insert(name, value.parse().unwrap());
    }
    browser.open("/pricing?aff=K1").await;
    browser.open("/features").await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nobody has looked yet");

    browser.headers = real.clone();
    browser
        .headers
        .insert("sec-fetch-dest", "image".parse().unwrap());
    browser.open("/logo.png").await;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "an image is no page view");

    browser.headers = real;
    assert_eq!(browser.open("/").await.0, "K1/?");
    assert_eq!(browser.open("/").await.0, "K1/c1");
    browser.open("/").await;
    assert_eq!(calls.load(Ordering::SeqCst), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn several_tabs_at_once_make_one_due_click_and_all_learn_of_it() {
    let (clicks, calls) = counting(Duration::from_secs(1));
    let layer = layer(clicks);
    let site = service_fn(page);
    let mut browser = Browser::new(&layer, site);
    let real = browser.headers.clone();
    browser
        .headers
        .insert("sec-purpose", "prefetch".parse().unwrap());
    browser.open("/pricing?aff=K1").await;

    let mut crawler = Browser::new(&layer, site);
    crawler.cookie = browser.cookie.clone();
    crawler
        .headers
        .insert("user-agent", "curl/8.5.0".parse().unwrap());
    crawler.open("/").await;
    assert_eq!(
        calls.load(Ordering::SeqCst),
        0,
        "a tool's view uses nothing up"
    );

    let mut tabs: Vec<_> = (0..5).map(|_| Browser::new(&layer, site)).collect();
    for tab in &mut tabs {
        tab.cookie = browser.cookie.clone();
        tab.headers = real.clone();
        tab.open("/").await;
    }
    settle().await;
    for tab in &mut tabs {
        assert_eq!(tab.open("/").await.0, "K1/c1");
    }
    // A tab whose answers were all lost comes with the first cookie of all.
    tabs[0].cookie = browser.cookie.clone();
    assert_eq!(tabs[0].open("/").await.0, "K1/c1");
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// The browser's tabs share their cookies, and the last response wins, whatever it knows.
#[tokio::test(start_paused = true)]
async fn a_due_click_id_survives_a_tab_that_does_not_know_it_yet() {
    let (clicks, calls) = counting(PAGE / 2);
    let layer = layer(clicks);
    let site = service_fn(page);
    let mut browser = Browser::new(&layer, site);
    let real = browser.headers.clone();
    browser
        .headers
        .insert("sec-purpose", "prefetch".parse().unwrap());
    browser.open("/pricing?aff=K1").await;
    browser.headers = real.clone();

    let mut other_tab = Browser::new(&layer, site);
    other_tab.cookie = browser.cookie.clone();
    other_tab.headers = real;
    tokio::join!(browser.open("/a"), other_tab.open("/b"));
    assert_eq!(
        browser.decisions,
        [Reason::ClickJoined],
        "its page took longer than the click"
    );
    browser.cookie = other_tab.cookie;
    assert_eq!(browser.open("/").await.0, "K1/c1");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// A due click that finds no room is dropped for good, and nothing waits for it any more.
#[tokio::test(start_paused = true)]
async fn a_due_click_that_is_dropped_is_over() {
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = layer(clicks.max_in_flight(0));
    let mut browser = Browser::new(&layer, service_fn(page));
    browser
        .headers
        .insert("sec-purpose", "prefetch".parse().unwrap());
    browser.open("/pricing?aff=K1").await;
    browser.headers.remove("sec-purpose");
    for _ in 0..3 {
        assert_eq!(browser.open("/").await.0, "K1/?");
    }
    assert_eq!(
        (calls.load(Ordering::SeqCst), layer.click_counts().dropped),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_click_id_is_not_written_while_consent_is_unknown() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let layer = ReferralLayer::builder(cookie())
        .clicks(clicks)
        .consent(|request| {
            if request.headers().contains_key("x-unknown") {
                Consent::Unknown
            } else {
                Consent::Granted
            }
        })
        .build()
        .unwrap();
    let mut browser = Browser::new(&layer, service_fn(page));
    browser.open("/?aff=K1").await;
    settle().await;
    let landing_cookie = browser.cookie.clone();
    browser.headers.insert("x-unknown", "1".parse().unwrap());
    assert_eq!(browser.open("/").await.0, "K1/?");
    assert_eq!(browser.cookie, landing_cookie);
    browser.headers.remove("x-unknown");
    assert_eq!(browser.open("/").await.0, "K1/c1");
}

#[tokio::test(start_paused = true)]
async fn crawlers_are_captured_and_click_nothing_unless_the_user_says_otherwise() {
    let (clicks, calls) = counting(Duration::ZERO);
    let mut crawler = Browser::new(&layer(clicks), service_fn(page));
    crawler
        .headers
        .insert("user-agent", "curl/8.5.0".parse().unwrap());
    assert_eq!(crawler.open("/?aff=K1").await.0, "K1/?");
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);

    let (clicks, calls) = counting(Duration::ZERO);
    let mut crawler = Browser::new(&layer(clicks.not_for(|_| false)), service_fn(page));
    crawler
        .headers
        .insert("user-agent", "curl/8.5.0".parse().unwrap());
    crawler.open("/?aff=K1").await;
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn without_consent_nothing_is_sent() {
    for (consent, gpc, expected) in [
        (Consent::Granted, false, 1),
        (Consent::Denied, false, 0),
        (Consent::Unknown, false, 0),
        (Consent::Granted, true, 0),
    ] {
        let (clicks, calls) = counting(Duration::ZERO);
        let layer = ReferralLayer::builder(cookie())
            .clicks(clicks)
            .consent(move |_| consent)
            .global_privacy_control()
            .build()
            .unwrap();
        let mut browser = Browser::new(&layer, service_fn(page));
        if gpc {
            browser.headers.insert("sec-gpc", "1".parse().unwrap());
        }
        browser.open("/?aff=K1").await;
        settle().await;
        assert_eq!(
            calls.load(Ordering::SeqCst),
            expected,
            "{consent:?}, GPC {gpc}"
        );
    }
}

/// The page holds the landing's token until the banner is answered; the platform hears of the
/// landing once the visitor, who has agreed now, looks at a page.
#[tokio::test(start_paused = true)]
async fn a_landing_that_waited_for_consent_clicks_at_the_next_page_view() {
    let (clicks, calls) = counting(Duration::ZERO);
    let has_agreed = |headers: &HeaderMap| headers.contains_key("x-agreed");
    let layer = ReferralLayer::builder(cookie())
        .clicks(clicks)
        .consent(move |request| {
            if has_agreed(request.headers()) {
                Consent::Granted
            } else {
                Consent::Unknown
            }
        })
        .build()
        .unwrap();
    let key = SigningKey::new("test", (0..32).collect::<Vec<u8>>()).unwrap();
    let carry = Carry::builder(Keyring::new(key)).build().unwrap();
    let banner = service_fn(move |request: Request<()>| {
        let carry = carry.clone();
        async move {
            let referrals = Referrals::from_extensions(request.extensions())
                .await
                .unwrap();
            let token = referrals
                .first()
                .map(|r| r.carry_token(&carry).unwrap().to_string());
            let mut response = Response::new(token.unwrap_or_default());
            if let Some(token) = request.headers().get("x-token") {
                let referral = carry.open(token.to_str().unwrap()).unwrap();
                let capture = Capture::referral(referral).consent(Consent::Granted);
                response.extensions_mut().insert(capture);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut browser = Browser::new(&layer, banner);
    let (token, _) = browser.open("/pricing?aff=K1").await;
    settle().await;
    assert_eq!(
        (browser.cookie.as_ref(), calls.load(Ordering::SeqCst)),
        (None, 0)
    );

    browser.headers.insert("x-token", token.parse().unwrap());
    browser.open("/consent").await;
    browser.headers.remove("x-token");
    assert!(browser.cookie.is_some());
    settle().await;
    assert_eq!(
        calls.load(Ordering::SeqCst),
        0,
        "the banner's answer is no page view"
    );

    browser.headers.insert("x-agreed", "1".parse().unwrap());
    browser.open("/").await;
    browser.open("/").await;
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_the_newest_click_is_dropped_and_the_key_is_kept() {
    let clicks = Clicks::from_fn(|_| std::future::pending::<Result<ClickId, Infallible>>());
    let layer = layer(clicks.max_in_flight(3));
    let site = service_fn(page);
    for visitor in 0..10 {
        let mut browser = Browser::new(&layer, site);
        let seen = browser.open(&format!("/?aff=K{visitor}")).await.0;
        assert_eq!(seen, format!("K{visitor}/?"));
        assert!(browser.cookie.is_some());
    }
    let counts = layer.click_counts();
    assert_eq!((counts.started, counts.dropped), (3, 7));
    assert!(!layer.drain_clicks(Duration::from_millis(500)).await);

    settle().await;
    assert_eq!(layer.click_counts().timed_out, 3);
    assert!(layer.drain_clicks(Duration::ZERO).await);
}

#[tokio::test(start_paused = true)]
async fn late_answers_are_bounded_in_number_and_time() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let layer = layer(clicks.late_answers(2, Duration::from_secs(60)));
    let site = service_fn(page);
    let mut visitors: Vec<_> = (0..3).map(|_| Browser::new(&layer, site)).collect();
    for visitor in &mut visitors {
        visitor.open("/?aff=K").await;
    }
    settle().await;
    assert_eq!(layer.click_counts().late_dropped, 1);
    assert_eq!(
        visitors[0].open("/").await.0,
        "K/?",
        "the oldest was dropped"
    );
    assert_eq!(visitors[1].open("/").await.0, "K/c2");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(visitors[2].open("/").await.0, "K/?", "it has expired");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_clicks_in_flight() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let layer = layer(clicks);
    Browser::new(&layer, service_fn(page)).open("/?aff=K").await;
    let before = Instant::now();
    assert!(layer.drain_clicks(Duration::from_secs(10)).await);
    assert_eq!(before.elapsed(), Duration::from_secs(1) - PAGE);
    assert_eq!(layer.click_counts().created, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_taken_back_if_the_user_says_so() {
    let platform = |request: ClickRequest| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if request.key == "TYPO" {
            Err::<ClickId, BoxError>(UnknownKey.into())
        } else {
            Ok("c".parse().unwrap())
        }
    };
    let mut browser = Browser::new(&layer(Clicks::from_fn(platform)), service_fn(page));
    browser.open("/?aff=TYPO").await;
    settle().await;
    assert_eq!(
        browser.open("/").await.0,
        "TYPO/?",
        "by default the key stays"
    );

    let layer = layer(Clicks::from_fn(platform).undo_unknown_keys());
    let mut browser = Browser::new(&layer, service_fn(page));
    browser.open("/?aff=TYPO").await;
    settle().await;
    assert_eq!(browser.open("/").await.0, "-");
    assert_eq!(browser.decisions, [Reason::UnknownKey]);
    assert_eq!(browser.cookie, None);

    // What a typo had replaced is put back.
    browser.open("/?aff=GOOD").await;
    settle().await;
    assert_eq!(browser.open("/").await.0, "GOOD/c");
    browser.open("/?aff=TYPO").await;
    settle().await;
    assert_eq!(browser.open("/").await.0, "GOOD/c");
    assert_eq!(layer.click_counts().unknown_key, 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_never_lands_on_a_later_touch() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let mut browser = Browser::new(&layer(clicks), service_fn(page));
    browser.open("/?aff=K1").await;
    browser.open("/?aff=K2").await;
    settle().await;
    assert_eq!(browser.open("/").await.0, "K2/c2");
}

#[tokio::test(start_paused = true)]
async fn the_platform_is_told_what_it_may_know_and_no_more() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listen = |configure: fn(Clicks) -> Clicks| {
        let told = Arc::clone(&told);
        let clicks = Clicks::from_fn(move |request: ClickRequest| {
            told.lock().unwrap().push(request);
            async { Ok::<ClickId, Infallible>("c".parse().unwrap()) }
        });
        let mut browser = Browser::new(&layer(configure(clicks)), service_fn(page));
        for (name, value) in [
            ("referer", "https://blog.example:8443/secret?draft=1"),
            ("x-forwarded-for", "203.0.113.77"),
            ("x-real-ip", "203.0.113.99"),
        ] {
            browser.headers.insert(name, value.parse().unwrap());
        }
        browser
    };

    listen(|clicks| clicks)
        .open("/pricing?utm_source=x&aff=K+1&token=secret")
        .await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.key, "K+1");
    assert_eq!(request.program, "default");
    assert_eq!(
        request.landing_url,
        "https://shop.example/pricing?aff=K%2B1"
    );
    assert_eq!(
        request.referrer.as_deref(),
        Some("https://blog.example:8443")
    );
    assert_eq!((request.ip, &request.user_agent), (None, &None));
    assert!(!format!("{request:?}").contains("K+1"));

    let everything = |clicks: Clicks| {
        clicks
            .ip(trusted_header("x-real-ip"))
            .user_agent()
            .base_url("https://www.shop.example/")
    };
    listen(everything).open("/?aff=K").await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip, Some(IpAddr::from([203, 0, 113, 0])));
    assert_eq!(
        request.user_agent.as_deref(),
        Some("Mozilla/5.0 (X11; Linux) Firefox/127.0")
    );
    assert_eq!(request.landing_url, "https://www.shop.example/?aff=K");

    listen(|clicks| clicks.ip(trusted_header("x-real-ip")).whole_ip())
        .open("/?aff=K")
        .await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip, Some(IpAddr::from([203, 0, 113, 99])));

    listen(|clicks| clicks.ip(|_| Some("2001:db8:1:2:3::4".parse().unwrap())))
        .open("/?aff=K")
        .await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip, Some("2001:db8:1::".parse().unwrap()));
}

#[test]
fn outside_a_runtime_the_key_is_kept_and_the_click_dropped() {
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = layer(clicks);
    let site = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let request = Request::get("/?aff=K").body(()).unwrap();
    let mut future = Box::pin(layer.layer(site).call(request));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        panic!("the page was held up");
    };
    assert!(response.headers().contains_key(SET_COOKIE));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    // curl-like clients click nothing, so this one had a browser's name missing: not even tried.
    assert_eq!(layer.click_counts().dropped, 0);

    let request = Request::get("/?aff=K")
        .header("user-agent", "Mozilla/5.0 Firefox/127.0")
        .body(())
        .unwrap();
    let mut future = Box::pin(layer.layer(site).call(request));
    assert!(future.as_mut().poll(&mut cx).is_ready());
    assert_eq!(layer.click_counts().dropped, 1);
}
