//! Clicks: server to server, never in the way. Time is the runtime's, paused: a response takes
//! exactly the virtual time that the inner service and the wait budget take, whatever the platform
//! does, so every latency here is an equation and no test sleeps.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_referral::carry::Carry;
use tower_referral::click::{
    Click, ClickRequest, ClickTiming, Clicks, LateClick, UnknownKey, trusted_header,
};
use tower_referral::testing::Clock;
use tower_referral::{
    Attribution, Capture, ClickId, Consent, Decisions, Forget, Program, Reason, Referral,
    ReferralLayer, ReferralService, Referrals, ServerSide,
};
use tracing::Level;

use crate::log::Log;
use crate::support::{FIREFOX, keyring};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<String>;

const DAY: Duration = Duration::from_secs(86_400);
const PAGE: Duration = Duration::from_millis(70);

/// What the handler saw: key and click ID.
fn describe(referrals: &Referrals) -> String {
    match referrals.first() {
        None => "-".to_owned(),
        Some(referral) => {
            let click_id = referral.click_id().map_or("?", ClickId::as_str);
            format!("{}/{click_id}", referral.key().unwrap())
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

fn layer(clicks: Clicks) -> ReferralLayer {
    ReferralLayer::builder(keyring())
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
        headers.insert("user-agent", FIREFOX.parse().unwrap());
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

/// What a click service can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Platform {
    Fast,
    Slow,
    Silent,
    NeverReady,
    Failing,
    Panicking,
}

/// A click service that counts its calls.
#[derive(Clone)]
struct Scripted(Platform, Arc<AtomicU64>);

impl Service<ClickRequest> for Scripted {
    type Response = ClickId;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ClickId, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0 {
            Platform::NeverReady => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: ClickRequest) -> Self::Future {
        self.1.fetch_add(1, Ordering::SeqCst);
        let platform = self.0;
        Box::pin(async move {
            match platform {
                Platform::Fast => Ok("fast".parse()?),
                Platform::Slow => {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    Ok("slow".parse()?)
                }
                Platform::Silent | Platform::NeverReady => std::future::pending().await,
                Platform::Failing => Err("connection refused".into()),
                Platform::Panicking => panic!("the platform's client has a bug"),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_takes_its_own_time_whatever_the_platform_does() {
    use Platform::{Failing, Fast, NeverReady, Panicking, Silent, Slow};
    for platform in [Fast, Slow, Silent, NeverReady, Failing, Panicking] {
        for wait in [0, 300] {
            let wait = Duration::from_millis(wait);
            let calls = Arc::new(AtomicU64::new(0));
            let clicks = Clicks::new(Scripted(platform, Arc::clone(&calls)));
            let layer = layer(clicks.wait(wait));
            let mut browser = Browser::new(&layer, service_fn(page));

            let (seen, took) = browser.open("/pricing?aff=K1").await;
            assert_eq!(seen, "K1/?", "{platform:?}");
            let budget = match platform {
                Slow | Silent | NeverReady => wait,
                _ => Duration::ZERO,
            };
            assert_eq!(took, PAGE + budget, "{platform:?}, wait {wait:?}");

            settle().await;
            let (seen, took) = browser.open("/").await;
            let expected = match platform {
                Fast => "K1/fast",
                Slow => "K1/slow",
                _ => "K1/?",
            };
            assert_eq!(seen, expected, "{platform:?}, wait {wait:?}");
            assert_eq!(took, PAGE, "{platform:?}");

            browser.open("/").await;
            settle().await;
            let expected_calls = u64::from(platform != NeverReady);
            assert_eq!(calls.load(Ordering::SeqCst), expected_calls, "{platform:?}");
            assert!(layer.drain_clicks(Duration::ZERO).await, "{platform:?}");
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
    let clock = Clock::new();
    let (clicks, calls) = counting(Duration::from_secs(1));
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.late_results(100, 30 * DAY))
        .clock(clock.reader())
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
    clock.advance(10 * DAY);
    assert_eq!(second.open("/").await.0, "K1/c2");
    assert_eq!(first.open("/").await.0, "K1/c1");
    assert_eq!(third.open("/").await.0, "-");
    assert_eq!(calls.load(Ordering::SeqCst), 2);

    // Captured-at stayed, and so did the end of the window.
    clock.advance(19 * DAY);
    assert_eq!(first.open("/").await.0, "K1/c1");
    clock.advance(1 * DAY);
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
    let layer = ReferralLayer::builder(keyring())
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
    let layer = layer(clicks.max_per_second(2));
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
    assert_eq!(
        layer.click_counts().dropped,
        0,
        "one key may start one call a second, and the other tabs start none"
    );
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

#[tokio::test(start_paused = true)]
async fn a_late_click_id_is_not_written_while_consent_is_unknown() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let layer = ReferralLayer::builder(keyring())
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
    let mut crawler = Browser::new(&layer(clicks.exclude(|_| false)), service_fn(page));
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
        let layer = ReferralLayer::builder(keyring())
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
    let layer = ReferralLayer::builder(keyring())
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
    let carry = Carry::builder(keyring()).build().unwrap();
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

/// A shop whose pages are a token of the referral, and which captures what it is to hand back.
#[derive(Clone)]
struct Tokens {
    carry: Carry,
    back: Arc<Mutex<Option<Capture>>>,
    /// What was kept before is to be forgotten first.
    forget: Arc<Mutex<Option<Forget>>>,
}

impl Tokens {
    fn new() -> Self {
        Self {
            carry: Carry::builder(keyring()).build().unwrap(),
            back: Arc::default(),
            forget: Arc::default(),
        }
    }

    fn site(
        &self,
    ) -> impl Service<Request<()>, Response = Reply, Error = Infallible> + Clone + use<> {
        let tokens = self.clone();
        service_fn(move |request: Request<()>| {
            let tokens = tokens.clone();
            async move {
                let referrals = Referrals::from_extensions(request.extensions()).await;
                let token = referrals.unwrap().first().map(|it| {
                    let token = it.carry_token(&tokens.carry).unwrap();
                    token.to_string()
                });
                let mut response = Response::new(token.unwrap_or_default());
                if let Some(capture) = tokens.back.lock().unwrap().take() {
                    response.extensions_mut().insert(capture);
                }
                if let Some(forget) = tokens.forget.lock().unwrap().take() {
                    response.extensions_mut().insert(forget);
                }
                Ok::<_, Infallible>(response)
            }
        })
    }
}

/// A referral as the application's own table gives it back.
fn through_json(referral: &Referral) -> Referral {
    let json = serde_json::to_string(referral).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// What is known of a click goes along with a token. In JSON it doesn't, and none is created.
#[tokio::test(start_paused = true)]
async fn a_click_that_failed_is_not_repeated_for_a_referral_that_is_handed_back() {
    for platform in [Platform::Failing, Platform::Silent] {
        let calls = Arc::new(AtomicU64::new(0));
        let clicks = Clicks::new(Scripted(platform, Arc::clone(&calls)));
        let layer = layer(clicks.timing(ClickTiming::BeforeResponse));
        let tokens = Tokens::new();
        let mut browser = Browser::new(&layer, tokens.site());
        let started = browser.open("/?aff=K1").await.0;
        settle().await;
        let failed = browser.open("/").await.0;
        assert_ne!(started, failed, "{platform:?}");
        let referral = tokens.carry.open(&failed).unwrap();
        let of_json = through_json(&referral);
        for referral in [tokens.carry.open(&started).unwrap(), referral, of_json] {
            let mut other = Browser::new(&layer, tokens.site());
            *tokens.back.lock().unwrap() = Some(Capture::referral(referral));
            other.open("/back").await;
            assert!(other.cookie.is_some());
            for _ in 0..2 {
                other.open("/").await;
                settle().await;
            }
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{platform:?}");
    }
}

/// The page is all that holds it until the visitor agrees, and so says what is to be done.
#[tokio::test(start_paused = true)]
async fn what_waits_for_consent_says_in_a_token_that_its_click_is_due() {
    for (by_json, created) in [(false, 1), (true, 0)] {
        let (clicks, calls) = counting(Duration::ZERO);
        let layer = ReferralLayer::builder(keyring())
            .clicks(clicks)
            .consent(|request| {
                if request.headers().contains_key("x-agreed") {
                    Consent::Granted
                } else {
                    Consent::Unknown
                }
            })
            .build()
            .unwrap();
        let tokens = Tokens::new();
        let mut browser = Browser::new(&layer, tokens.site());
        let token = browser.open("/?aff=K1").await.0;
        let mut referral = tokens.carry.open(&token).unwrap();
        if by_json {
            referral = through_json(&referral);
        }
        let capture = Capture::referral(referral).consent(Consent::Granted);
        *tokens.back.lock().unwrap() = Some(capture);
        browser.open("/agreed").await;
        settle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 0, "no page view");
        browser.headers.insert("x-agreed", "1".parse().unwrap());
        for _ in 0..2 {
            browser.open("/").await;
            settle().await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), created, "JSON: {by_json}");
    }
}

/// A tool's landing creates no click, and its token none later.
#[tokio::test(start_paused = true)]
async fn what_an_excluded_request_brought_is_never_due() {
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.exclude(|request| request.headers().contains_key("x-excluded")))
        .consent(|request| {
            if request.headers().contains_key("x-excluded") {
                Consent::Unknown
            } else {
                Consent::Granted
            }
        })
        .build()
        .unwrap();
    let tokens = Tokens::new();
    let mut browser = Browser::new(&layer, tokens.site());
    browser.headers.insert("x-excluded", "1".parse().unwrap());
    let token = browser.open("/?aff=K1").await.0;
    browser.headers.remove("x-excluded");
    let referral = tokens.carry.open(&token).unwrap();
    *tokens.back.lock().unwrap() = Some(Capture::referral(referral));
    browser.open("/back").await;
    assert!(browser.cookie.is_some());
    browser.open("/").await;
    settle().await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
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

/// Three visitors who have landed, by `K0`, `K1` and `K2`, once what was started for them is over.
async fn three_landed<S>(layer: &ReferralLayer, site: S) -> [Browser<ReferralService<S>>; 3]
where
    S: Service<Request<()>, Response = Reply, Error = Infallible> + Copy,
{
    let mut visitors = [0; 3].map(|_| Browser::new(layer, site));
    for (number, visitor) in visitors.iter_mut().enumerate() {
        visitor.open(&format!("/?aff=K{number}")).await;
    }
    settle().await;
    visitors
}

#[tokio::test(start_paused = true)]
async fn late_results_are_bounded_in_number_and_time() {
    let clock = Clock::new();
    let (clicks, _) = counting(Duration::from_secs(1));
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.late_results(2, Duration::from_secs(60)))
        .clock(clock.reader())
        .build()
        .unwrap();
    let mut visitors = three_landed(&layer, service_fn(page)).await;
    assert_eq!(layer.click_counts().late_dropped, 1);
    assert_eq!(
        visitors[0].open("/").await.0,
        "K0/?",
        "the oldest was dropped"
    );
    assert_eq!(visitors[1].open("/").await.0, "K1/c2");
    clock.advance(Duration::from_secs(60));
    assert_eq!(visitors[2].open("/").await.0, "K2/?", "it has expired");
}

#[tokio::test(start_paused = true)]
async fn page_views_that_the_bounds_turn_away_cost_nobody_a_late_result() {
    let clock = Clock::new();
    let (clicks, calls) = counting(Duration::from_secs(1));
    let clicks = clicks.late_results(2, Duration::from_secs(600));
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.max_per_second(2))
        .clock(clock.reader())
        .build()
        .unwrap();
    let mut visitors = three_landed(&layer, service_fn(page)).await;
    for _ in 0..20 {
        assert_eq!(visitors[2].open("/").await.0, "K2/?");
    }
    let counts = layer.click_counts();
    assert_eq!(
        (counts.started, counts.dropped, counts.late_dropped),
        (2, 21, 0)
    );
    assert_eq!(visitors[0].open("/").await.0, "K0/c1");
    assert_eq!(visitors[1].open("/").await.0, "K1/c2");

    clock.advance(Duration::from_secs(1));
    visitors[2].open("/").await;
    settle().await;
    assert_eq!(visitors[2].open("/").await.0, "K2/c3", "it is put off only");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
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
        if *request.key() == "TYPO" {
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
async fn what_an_unknown_key_had_replaced_is_not_put_back_after_its_window() {
    let clock = Clock::new();
    let clicks = Clicks::from_fn(|request: ClickRequest| async move {
        if *request.key() == "TYPO" {
            // Later than the landing's page.
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Err::<ClickId, BoxError>(UnknownKey.into());
        }
        Ok("c".parse().unwrap())
    });
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.undo_unknown_keys())
        .clock(clock.reader())
        .build()
        .unwrap();
    let window = Duration::from_secs(30 * 86_400);
    for (seconds_later, seen) in [(0, "GOOD/c"), (2, "-")] {
        let mut browser = Browser::new(&layer, service_fn(page));
        browser.open("/?aff=GOOD").await;
        settle().await;
        assert_eq!(browser.open("/").await.0, "GOOD/c");
        clock.advance(window - Duration::from_secs(1));
        assert_eq!(browser.open("/?aff=TYPO").await.0, "TYPO/?");
        settle().await;
        clock.advance(Duration::from_secs(seconds_later));
        assert_eq!(browser.open("/").await.0, seen);
        assert_eq!(browser.decisions, [Reason::UnknownKey]);
        assert_eq!(browser.cookie.is_some(), seen != "-");
    }
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

/// The call of one landing is under way while a handler puts another referral in its place, whose own call
/// isn't over either.
#[tokio::test(start_paused = true)]
async fn a_late_answer_never_lands_on_what_a_handler_puts_in_its_place() {
    let clicks = Clicks::from_fn(|request: ClickRequest| async move {
        if *request.key() == "P1" {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        format!("c-of-{}", request.key()).parse::<ClickId>()
    });
    let store = tower_sessions::MemoryStore::default();
    let layer = ReferralLayer::builder(ServerSide::new(store, keyring()).store_expires_records())
        .clicks(clicks)
        .build()
        .unwrap();
    let tokens = Tokens::new();
    let mut browser = Browser::new(&layer, tokens.site());
    let token = browser.open("/?aff=P1").await.0;
    settle().await;
    let referral = tokens.carry.open(&token).unwrap();
    *tokens.back.lock().unwrap() = Some(Capture::referral(referral));
    *tokens.forget.lock().unwrap() = Some(Forget);
    browser.open("/cb?aff=E").await;
    settle().await;
    let mut seen = Browser::new(&layer, service_fn(page));
    seen.cookie = browser.cookie;
    assert_eq!(seen.open("/").await.0, "P1/?");
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
    assert_eq!(*request.key(), "K+1");
    assert_eq!(request.program(), "default");
    assert_eq!(
        request.landing_url(),
        "https://shop.example/pricing?aff=K%2B1"
    );
    assert_eq!(request.referrer(), Some("https://blog.example:8443"));
    assert_eq!((request.ip(), request.user_agent()), (None, None));
    assert!(!format!("{request:?}").contains("K+1"));

    let everything = |clicks: Clicks| {
        clicks
            .ip(trusted_header("x-real-ip"))
            .user_agent()
            .base_url("https://www.shop.example/")
    };
    listen(everything).open("/?aff=K").await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip(), Some(IpAddr::from([203, 0, 113, 0])));
    assert_eq!(request.user_agent(), Some(FIREFOX));
    assert_eq!(request.landing_url(), "https://www.shop.example/?aff=K");

    listen(|clicks| clicks.ip(trusted_header("x-real-ip")).unmasked_ip())
        .open("/?aff=K")
        .await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip(), Some(IpAddr::from([203, 0, 113, 99])));

    listen(|clicks| clicks.ip(|_| Some("2001:db8:1:2:3::4".parse().unwrap())))
        .open("/?aff=K")
        .await;
    let request = told.lock().unwrap().pop().unwrap();
    assert_eq!(request.ip(), Some("2001:db8:1::".parse().unwrap()));
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

// ===== The bounds =====

/// Calls that never end.
fn hanging() -> Clicks {
    Clicks::from_fn(|_| std::future::pending::<Result<ClickId, Infallible>>())
}

#[tokio::test(start_paused = true)]
async fn l1_one_busy_key_leaves_room_for_the_late_results_of_others() {
    let (clicks, _) = counting(Duration::from_millis(100));
    let clicks = clicks
        .late_results(10, Duration::from_secs(600))
        .max_per_second(u32::MAX);
    let layer = layer(clicks.max_in_flight(1000));
    let site = service_fn(page);
    let mut honest = Browser::new(&layer, site);
    honest.open("/?aff=HONEST").await;
    settle().await;
    for _ in 0..100 {
        Browser::new(&layer, site).open("/?aff=BUSY").await;
    }
    settle().await;
    assert_eq!(honest.open("/").await.0, "HONEST/c1");
}

#[tokio::test(start_paused = true)]
async fn l2_a_click_that_finds_no_room_is_created_at_the_next_page_view() {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let clicks = Clicks::from_fn(move |request: ClickRequest| {
        let call = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if request.key().as_str().starts_with("FLOOD") {
                std::future::pending::<()>().await;
            }
            Ok::<ClickId, Infallible>(format!("c{call}").parse().unwrap())
        }
    });
    let layer = layer(clicks.max_in_flight(4));
    let site = service_fn(page);
    for key in ["FLOOD1", "FLOOD2", "FLOOD3", "FLOOD4"] {
        Browser::new(&layer, site)
            .open(&format!("/?aff={key}"))
            .await;
    }
    let mut honest = Browser::new(&layer, site);
    assert_eq!(honest.open("/pricing?aff=HONEST").await.0, "HONEST/?");
    assert_eq!(layer.click_counts().dropped, 1);
    // Still no room, and nothing is lost.
    honest.open("/").await;
    assert_eq!(
        (layer.click_counts().dropped, calls.load(Ordering::SeqCst)),
        (2, 4)
    );
    settle().await;
    honest
        .headers
        .insert("sec-fetch-dest", "image".parse().unwrap());
    honest.open("/logo.png").await;
    assert_eq!(calls.load(Ordering::SeqCst), 4, "an image is no page view");
    honest.headers.remove("sec-fetch-dest");
    honest.open("/").await;
    assert_eq!(honest.open("/").await.0, "HONEST/c5");
    settle().await;
    honest.open("/").await;
    assert_eq!(calls.load(Ordering::SeqCst), 5, "once");
}

#[tokio::test(start_paused = true)]
async fn l2_a_click_that_failed_or_was_refused_is_not_tried_again() {
    for unknown in [true, false] {
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let clicks = Clicks::from_fn(move |_: ClickRequest| {
            counter.fetch_add(1, Ordering::SeqCst);
            let error: BoxError = if unknown {
                UnknownKey.into()
            } else {
                "500".into()
            };
            async { Err::<ClickId, BoxError>(error) }
        });
        let mut browser = Browser::new(&layer(clicks), service_fn(page));
        browser.open("/?aff=K1").await;
        for _ in 0..3 {
            settle().await;
            assert_eq!(browser.open("/").await.0, "K1/?");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn l3_calls_are_bounded_by_the_second_and_one_key_gets_half() {
    let clock = Clock::new();
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks.max_per_second(10))
        .clock(clock.reader())
        .build()
        .unwrap();
    let site = service_fn(page);
    for second in 1..=3 {
        let mut busy: Vec<_> = (0..20).map(|_| Browser::new(&layer, site)).collect();
        for browser in &mut busy {
            browser.open("/?aff=BUSY").await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 10 * second - 5, "half");
        for visitor in 0..20 {
            Browser::new(&layer, site)
                .open(&format!("/?aff=K{visitor}"))
                .await;
        }
        settle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 10 * second);
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn l3_by_default_50_calls_a_second_and_64_at_once() {
    let clock = Clock::new();
    let layer = ReferralLayer::builder(keyring())
        .clicks(hanging().timeout(Duration::from_secs(3600)))
        .clock(clock.reader())
        .build()
        .unwrap();
    let site = service_fn(page);
    for expected in [50, 64, 64] {
        for visitor in 0..100 {
            Browser::new(&layer, site)
                .open(&format!("/?aff=K{visitor}"))
                .await;
        }
        assert_eq!(layer.click_counts().started, expected);
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_gets_half_of_the_calls_in_flight() {
    let layer = layer(hanging().max_in_flight(4));
    let site = service_fn(page);
    for _ in 0..5 {
        Browser::new(&layer, site).open("/?aff=BUSY").await;
    }
    assert_eq!(layer.click_counts().started, 2);
    Browser::new(&layer, site).open("/?aff=OTHER").await;
    assert_eq!(layer.click_counts().started, 3);
}

#[tokio::test(start_paused = true)]
async fn l4_a_hook_shortens_the_path_that_the_platform_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listening = Arc::clone(&told);
    let clicks = Clicks::from_fn(move |request: ClickRequest| {
        listening
            .lock()
            .unwrap()
            .push(request.landing_url().to_owned());
        async { Ok::<ClickId, Infallible>("c".parse().unwrap()) }
    });
    let layer = layer(
        clicks.shorten_path(|path| match path.strip_prefix("/reset/") {
            Some(_) => "/reset".to_owned(),
            None => path.to_owned(),
        }),
    );
    let kept = service_fn(async |request: Request<()>| {
        let referrals = Referrals::from_extensions(request.extensions())
            .await
            .unwrap();
        let page = referrals.first().and_then(Referral::landing_page);
        Ok::<_, Infallible>(Response::new(page.unwrap_or_default().clone()))
    });
    let mut browser = Browser::new(&layer, kept);
    let (page, _) = browser.open("/reset/SECRET?aff=P").await;
    assert_eq!(page, "/reset/SECRET?aff=P", "what is kept stays");
    Browser::new(&layer, kept).open("/pricing?aff=P").await;
    // A click that was put off is told of no more.
    let mut prefetching = Browser::new(&layer, kept);
    prefetching
        .headers
        .insert("sec-purpose", "prefetch".parse().unwrap());
    prefetching.open("/reset/SECRET2?aff=P").await;
    prefetching.headers.remove("sec-purpose");
    prefetching.open("/").await;
    settle().await;
    assert_eq!(
        *told.lock().unwrap(),
        [
            "https://shop.example/reset?aff=P",
            "https://shop.example/pricing?aff=P",
            "https://shop.example/reset?aff=P"
        ]
    );
}

/// What was logged, at which level, while a layer with this platform had three landings.
async fn logged_by<E: Into<BoxError> + Send + 'static>(
    fail: impl Fn(ClickRequest) -> E + Clone + Send + Sync + 'static,
) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let clicks = Clicks::from_fn(move |request: ClickRequest| {
        let error: BoxError = fail(request).into();
        async { Err::<ClickId, BoxError>(error) }
    });
    let layer = layer(clicks);
    for _ in 0..3 {
        Browser::new(&layer, service_fn(page))
            .open("/secret?aff=PARTNER_123")
            .await;
        settle().await;
    }
    log.take()
}

#[tokio::test(start_paused = true)]
async fn l6_a_failed_click_is_logged_with_its_cause() {
    let text = logged_by(|_| "401: the API key is wrong").await;
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("click failed"))
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (at, line) in lines.into_iter().enumerate() {
        let level = if at < 2 { "WARN" } else { "DEBUG" };
        assert!(line.trim().starts_with(level), "{line}");
        assert!(line.contains("401: the API key is wrong"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn l6_no_cause_shows_what_came_from_the_visitor() {
    let text = logged_by(|request: ClickRequest| {
        format!(
            "no {} of {}\nFORGED {}",
            request.key(),
            request.landing_url(),
            "x".repeat(9999)
        )
    })
    .await;
    assert!(text.contains("click failed"), "{text}");
    assert!(
        !text.contains("PARTNER_123") && !text.contains("secret?"),
        "{text}"
    );
    assert!(
        text.lines()
            .all(|line| !line.starts_with("FORGED") && line.len() < 600)
    );
}

#[tokio::test(start_paused = true)]
async fn l7_only_an_unknown_key_takes_a_capture_back() {
    #[derive(Debug)]
    struct Wrapped(UnknownKey);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    for (code, seen) in [
        (r#"{"code":"invalid_request"}"#, "K1/?"),
        ("unknown key", "K1/?"),
        ("404", "K1/?"),
        ("UnknownKey", "-"),
        ("wrapped UnknownKey", "-"),
    ] {
        let clicks = Clicks::from_fn(move |_: ClickRequest| async move {
            let error: BoxError = match code {
                "UnknownKey" => UnknownKey.into(),
                "wrapped UnknownKey" => Box::new(Wrapped(UnknownKey)),
                other => other.into(),
            };
            Err::<ClickId, BoxError>(error)
        });
        let mut browser = Browser::new(&layer(clicks.undo_unknown_keys()), service_fn(page));
        browser.open("/?aff=K1").await;
        settle().await;
        assert_eq!(browser.open("/").await.0, seen, "{code}");
    }
}

// ===== Late results elsewhere, other runtimes, second IDs =====

#[tokio::test(start_paused = true)]
async fn a_late_result_is_handed_on_under_its_reference() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&stored);
    let (clicks, _) = counting(Duration::from_secs(1));
    let late_layer = layer(clicks.on_late_result(move |late: LateClick| {
        store
            .lock()
            .unwrap()
            .push((late.reference, late.click.id().to_string()));
        async {}
    }));
    let reference = service_fn(async |request: Request<()>| {
        let referrals = Referrals::from_extensions(request.extensions())
            .await
            .unwrap();
        let reference = referrals.first().and_then(Referral::click_reference);
        Ok::<_, Infallible>(Response::new(reference.unwrap_or_default()))
    });
    let (reference, _) = Browser::new(&late_layer, reference).open("/?aff=K1").await;
    assert!(!reference.is_empty() && stored.lock().unwrap().is_empty());
    settle().await;
    assert_eq!(*stored.lock().unwrap(), [(reference, "c1".to_owned())]);

    // What came in time is in the cookie, and handed to nobody else.
    let (clicks, _) = counting(Duration::ZERO);
    let clicks = clicks.on_late_result(|_| async { panic!("it isn't late") });
    let in_time = layer(clicks);
    let mut browser = Browser::new(&in_time, service_fn(page));
    browser.open("/?aff=K1").await;
    assert_eq!(browser.decisions, [Reason::Captured, Reason::ClickJoined]);
    assert!(in_time.drain_clicks(Duration::ZERO).await);
}

/// CASES.md L5: a tab at another server has a cookie that doesn't know the ID.
#[tokio::test(start_paused = true)]
async fn a_click_that_was_put_off_is_handed_on_even_if_it_comes_in_time() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&stored);
    let (clicks, calls) = counting(Duration::ZERO);
    let layer = layer(clicks.on_late_result(move |late: LateClick| {
        store.lock().unwrap().push(late.click.id().to_string());
        async {}
    }));
    let mut browser = Browser::new(&layer, service_fn(page));
    let real = browser.headers.clone();
    let prefetch = "prefetch".parse().unwrap();
    browser.headers.insert("sec-purpose", prefetch);
    browser.open("/pricing?aff=K1").await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    browser.headers = real;
    browser.open("/a").await;
    assert_eq!(browser.decisions, [Reason::ClickJoined], "it is in time");
    settle().await;
    assert_eq!(*stored.lock().unwrap(), ["c1"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_or_panics_takes_no_late_id_from_the_visitor() {
    for panics in [false, true] {
        let (clicks, _) = counting(Duration::from_secs(1));
        let layer = layer(clicks.on_late_result(move |_| {
            assert!(!panics, "the hook has a bug");
            std::future::pending()
        }));
        let mut browser = Browser::new(&layer, service_fn(page));
        browser.open("/?aff=K1").await;
        settle().await;
        assert_eq!(browser.open("/").await.0, "K1/c1", "panics: {panics}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_that_hang_hold_up_no_click_and_do_not_pile_up() {
    let hooks = Arc::new(AtomicU64::new(0));
    let running = Arc::clone(&hooks);
    let (clicks, _) = counting(Duration::from_secs(1));
    let clicks = clicks.on_late_result(move |_| {
        running.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let layer = layer(clicks.max_in_flight(2));
    let site = service_fn(page);
    for (visitor, started, hooks_running) in [
        (1, 1, 1),
        (2, 2, 2),
        // They have their place still while they wait for room to be handed on.
        (3, 3, 2),
        (4, 4, 2),
        (5, 4, 2),
    ] {
        let mut browser = Browser::new(&layer, site);
        browser.open(&format!("/?aff=K{visitor}")).await;
        settle().await;
        assert_eq!(layer.click_counts().started, started, "{visitor}");
        assert_eq!(hooks.load(Ordering::SeqCst), hooks_running, "{visitor}");
        let seen = browser.open("/").await.0;
        let is_created = started == visitor;
        let id = if is_created {
            format!("c{visitor}")
        } else {
            "?".into()
        };
        assert_eq!(seen, format!("K{visitor}/{id}"));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_hooks() {
    let (clicks, _) = counting(Duration::from_secs(1));
    let stored = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&stored);
    let layer = layer(clicks.on_late_result(move |_| {
        let count = Arc::clone(&count);
        async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    }));
    Browser::new(&layer, service_fn(page)).open("/?aff=K").await;
    let before = Instant::now();
    assert!(!layer.drain_clicks(Duration::from_secs(2)).await);
    assert!(layer.drain_clicks(Duration::from_secs(10)).await);
    assert_eq!(before.elapsed(), Duration::from_secs(4) - PAGE);
    assert_eq!(stored.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_id_of_the_click_is_kept_with_it() {
    let clicks = Clicks::from_fn(|_: ClickRequest| async {
        let click = Click::new("clk".parse().unwrap());
        Ok::<_, Infallible>(click.with_partner_id("prt".parse::<ClickId>().unwrap()))
    });
    let ids = service_fn(async |request: Request<()>| {
        tokio::time::sleep(PAGE).await;
        let referrals = Referrals::from_extensions(request.extensions())
            .await
            .unwrap();
        let ids = referrals.first().map(|it| {
            let text = |id: Option<&ClickId>| id.map(ToString::to_string).unwrap_or_default();
            text(it.click_id()) + &text(it.partner_id())
        });
        Ok::<_, Infallible>(Response::new(ids.unwrap_or_default()))
    });
    let mut browser = Browser::new(&layer(clicks), ids);
    browser.open("/?aff=K1").await;
    let shown = browser.open("/").await.0;
    assert_eq!(shown, "clkprt");
}

#[test]
fn without_a_runtime_calls_run_where_the_spawner_puts_them() {
    let tasks = Arc::new(Mutex::new(Vec::new()));
    let spawned = Arc::clone(&tasks);
    let (clicks, calls) = counting_at_once();
    let layer = ReferralLayer::builder(keyring())
        .clicks(clicks)
        .spawner(move |task| spawned.lock().unwrap().push(task))
        .build()
        .unwrap();
    let site = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let request = Request::get("/?aff=K")
        .header("user-agent", FIREFOX)
        .body(())
        .unwrap();
    let response = crate::support::at_once(layer.layer(site).call(request)).unwrap();
    assert!(response.headers().contains_key(SET_COOKIE));
    for task in tasks.lock().unwrap().drain(..) {
        crate::support::at_once(task);
    }
    assert_eq!(
        (calls.load(Ordering::SeqCst), layer.click_counts().created),
        (1, 1)
    );
}

/// The same as `counting` without a timer, which needs a runtime.
fn counting_at_once() -> (Clicks, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let clicks = Clicks::from_fn(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok::<ClickId, Infallible>("c".parse().unwrap()) }
    });
    (clicks, calls)
}

/// A click that fails as HTTP clients word it, with the URL that was asked.
async fn logged(landing: &str, spelled: fn(&str) -> String) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let clicks = Clicks::from_fn(move |request: ClickRequest| {
        let (key, page) = (request.key().as_str(), request.landing_url());
        let error: BoxError = format!(
            "error sending request for url (https://platform.test/click?code={}&page={})",
            spelled(key),
            spelled(page)
        )
        .into();
        async { Err::<ClickId, BoxError>(error) }
    });
    Browser::new(&layer(clicks), service_fn(page))
        .open(landing)
        .await;
    settle().await;
    log.take()
}

#[tokio::test(start_paused = true)]
async fn no_spelling_of_what_came_from_the_visitor_is_logged() {
    let spellings: [fn(&str) -> String; 4] = [
        |text| {
            text.replace('@', "%40")
                .replace(':', "%3A")
                .replace('/', "%2F")
        },
        |text| {
            text.replace('@', "%40")
                .replace('?', "%3f")
                .replace('/', "%2f")
        },
        |text| text.replace('@', "\\u0040").replace('/', "\\/"),
        |text| text.to_uppercase(),
    ];
    for spelled in spellings {
        let text = logged("/secret?aff=ada@shop.example", spelled).await;
        let text = text.to_ascii_lowercase();
        assert!(text.contains("error sending request for url"), "{text}");
        for secret in ["ada", "shop.example", "secret"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
