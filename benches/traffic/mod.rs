//! The requests that the benchmarks send, and the services that they send them to.
//!
//! | visit | what it is |
//! |---|---|
//! | `a plain` | a `GET` with two headers, without cookies or a query: a health check, a script |
//! | `b browser` | a browser's page visit: 12 headers, 600 bytes of ten foreign cookies, a query without our parameter |
//! | `c returning` | the same with our cookie among the others; the handler asks for the key |
//! | `d landing` | the same browser on `?utm_source=news&aff=PARTNER_123`, without our cookie |

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{COOKIE, HOST, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{Request, Response};
use tower::layer::util::Identity;
use tower::{Layer, Service, service_fn};
use tower_referral::{
    Keyring, MissingLayer, ReferralKey, ReferralLayer, ReferralLayerBuilder, SignedCookie,
    SigningKey,
};

/// What a browser sends with a page visit, apart from `Cookie`, with which they are twelve.
const BROWSER: [(&str, &str); 11] = [
    ("host", "shop.example"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://news.example/"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "cross-site"),
    ("priority", "u=0, i"),
];

/// Where the browser's visits go that aren't landings.
pub(crate) const BROWSER_URI: &str = "/pricing?page=2&sort=price";
/// Where they land.
pub(crate) const LANDING_URI: &str = "/pricing?utm_source=news&aff=PARTNER_123";

/// One of the measured requests: the head that every single one is a clone of.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) name: &'static str,
    head: Parts,
    /// Does the handler ask for the referral key?
    pub(crate) asks: bool,
}

impl Visit {
    pub(crate) fn new(name: &'static str, uri: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a valid request").into_parts();
        Self {
            name,
            head,
            asks: false,
        }
    }

    /// A browser's page visit, as yet without cookies.
    pub(crate) fn browser(name: &'static str, uri: &str) -> Self {
        Self::new(name, uri, &BROWSER)
    }

    pub(crate) fn with_cookies(mut self, cookies: &str) -> Self {
        let line = HeaderValue::from_str(cookies).expect("a valid header");
        self.head.headers.insert(COOKIE, line);
        self
    }

    pub(crate) fn request<B: Default>(&self) -> Request<B> {
        Request::from_parts(self.head.clone(), B::default())
    }
}

/// The four visits, from the commonest kind to the rarest.
pub(crate) fn visits(referrals: &ReferralLayer) -> [Visit; 4] {
    visits_of(|landing| finish(referrals.layer(bare()).call(landing.request())))
}

/// The four visits to a service that keeps its cookie in its own way: `land` is its answer to the
/// landing.
pub(crate) fn visits_of<B>(land: impl FnOnce(&Visit) -> Response<B>) -> [Visit; 4] {
    let browser = |name, uri| Visit::browser(name, uri).with_cookies(&foreign_cookies());
    let landing = browser("d landing", LANDING_URI);
    let ours = cookie_of(&land(&landing));

    let mut returning =
        Visit::browser("c returning", BROWSER_URI).with_cookies(&line_with(&[&ours]));
    returning.asks = true;
    [
        Visit::new(
            "a plain",
            "/pricing",
            &[(HOST.as_str(), "shop.example"), ("accept", "*/*")],
        ),
        browser("b browser", BROWSER_URI),
        returning,
        landing,
    ]
}

/// The cookie, as `name=value`, that a browser holds after a landing.
pub(crate) fn cookie_of<B>(response: &Response<B>) -> String {
    let line = response.headers()[SET_COOKIE].to_str().expect("ASCII");
    line.split(';').next().unwrap_or(line).to_owned()
}

/// Ten cookies of other scripts, 600 bytes in one line.
pub(crate) fn foreign_cookies() -> String {
    let line = line_with(&[]);
    assert_eq!(line.len(), 600);
    line
}

/// Ten foreign cookies with others in their midst.
pub(crate) fn line_with(others: &[&str]) -> String {
    let mut pairs: Vec<_> = (0..10).map(foreign_cookie).collect();
    pairs.splice(5..5, others.iter().map(|&pair| pair.to_owned()));
    pairs.join("; ")
}

/// 58 or 59 bytes, so that ten of them with nine separators are 600.
pub(crate) fn foreign_cookie(at: usize) -> String {
    let mut pair = format!("_script_{at}_session=GA1.2.1843027541.17000000{at:02}.");
    let len = if at % 10 < 8 { 58 } else { 59 };
    pair.extend("0123456789abcdef".chars().cycle().take(len - pair.len()));
    pair
}

/// The layer as the README's first example has it, with a fixed key.
pub(crate) fn referrals() -> ReferralLayer {
    builder().build().expect("a valid configuration")
}

/// What that layer is made by.
pub(crate) fn builder() -> ReferralLayerBuilder {
    let secret: Vec<u8> = (0..32).collect();
    let key = SigningKey::new("2026-11", secret).expect("a valid key");
    ReferralLayer::builder(SignedCookie::new(Keyring::new(key)))
}

/// The bare service: takes a request and answers with an empty response.
pub(crate) fn bare() -> impl Service<
    Request<()>,
    Response = Response<()>,
    Error = Infallible,
    Future = Ready<Result<Response<()>, Infallible>>,
> + Clone {
    service_fn(|_: Request<()>| ready(Ok(Response::new(()))))
}

/// The same with a handler that asks for the referral key, without axum.
pub(crate) fn asking()
-> impl Service<Request<()>, Response = Response<()>, Error = MissingLayer> + Clone {
    service_fn(async |request: Request<()>| {
        std::hint::black_box(ReferralKey::from_extensions(request.extensions()).await?);
        Ok(Response::new(()))
    })
}

/// The three axum routers that are compared: without a layer, with one that does nothing (which
/// shows what axum itself takes for having one), and with ours.
pub(crate) fn routers(visit: &Visit, referrals: &ReferralLayer) -> [(&'static str, Router); 3] {
    let silent = || Router::new().route("/pricing", get(async || ()));
    let asking =
        || Router::new().route("/pricing", get(async |key: Option<ReferralKey>| drop(key)));
    let ours = if visit.asks { asking() } else { silent() };
    [
        ("bare", silent().with_state(())),
        (
            "no-op layer",
            silent().layer(Identity::new()).with_state(()),
        ),
        ("referrals", ours.layer(referrals.clone()).with_state(())),
    ]
}

/// Sends one request through a router.
pub(crate) fn route(router: &mut Router, request: Request<Body>) -> Response<Body> {
    finish(router.call(request))
}

/// Runs a future to its end on the spot. Nothing measured here ever waits.
pub(crate) fn finish<T, E: std::fmt::Debug>(future: impl Future<Output = Result<T, E>>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.expect("a response"),
        Poll::Pending => panic!("a measured service never waits"),
    }
}
