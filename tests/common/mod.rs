//! The stage of the behaviour tests: a shop behind the layer, a clock to move, and a browser that
//! keeps cookies as browsers do.
//!
//! The browser is the public [`Visitor`], and every `Set-Cookie` is judged by the parser of the `cookie`
//! crate as well. With a signed cookie every request is polled exactly once: the layer may never wait.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use http::{Extensions, Request, Response};
use time::OffsetDateTime;
use tower::{Layer as _, Service as _, service_fn};
use tower_referral::testing::{self, Visitor};
use tower_referral::{
    Decisions, Keyring, Program, Referral, ReferralKey, ReferralLayer, ReferralLayerBuilder,
    Referrals, SignedCookie, SigningKey, Storage,
};

/// When every clock starts, in seconds: 2 October 2096.
pub(crate) const START: i64 = 4_000_000_000;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
/// Whoever names no browser is taken for a robot.
pub(crate) const BROWSER: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// The cookie of the default program in the default mode.
pub(crate) const COOKIE_NAME: &str = "__Host-referral";

/// Polls once. Whatever isn't ready then has waited for something.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request waited for something"),
    }
}

/// How a test runs that is about a behaviour and not about one way to keep a referral.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) storage: fn() -> Storage,
    pub(crate) block_on: fn(Pin<&mut dyn Future<Output = ()>>),
    /// Does to a request what layers outside ours do.
    pub(crate) arriving: fn(&mut Extensions),
}

thread_local! {
    /// Without one: in a signed cookie, where nothing of ours may ever wait.
    pub(crate) static STAGE: Cell<Option<Stage>> = const { Cell::new(None) };
}

/// The way to keep a referral in this test.
pub(crate) fn storage() -> Storage {
    match STAGE.get() {
        None => SignedCookie::new(keyring()).into(),
        Some(stage) => (stage.storage)(),
    }
}

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let Some(stage) = STAGE.get() else {
        return at_once(future);
    };
    let mut output = None;
    (stage.block_on)(pin!(async { output = Some(future.await) }));
    output.unwrap()
}

pub(crate) fn arriving<B>(mut request: Request<B>) -> Request<B> {
    if let Some(stage) = STAGE.get() {
        (stage.arriving)(request.extensions_mut());
    }
    request
}

pub(crate) fn secret(first: u8) -> Vec<u8> {
    (first..first + 32).collect()
}

/// The key `k1`, whose secret is the bytes 0 to 31.
pub(crate) fn keyring() -> Keyring {
    Keyring::new(signing_key("k1", 0))
}

pub(crate) fn signing_key(id: &str, first: u8) -> SigningKey {
    SigningKey::new(id, secret(first)).unwrap()
}

/// A clock that begins at [`START`].
#[derive(Clone)]
pub(crate) struct Clock(testing::Clock);

impl Clock {
    pub(crate) fn new() -> Self {
        let start = OffsetDateTime::from_unix_timestamp(START).unwrap();
        Self(testing::Clock::at(start))
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.0.now()
    }

    pub(crate) fn set(&self, now: OffsetDateTime) {
        self.0.set(now);
    }

    pub(crate) fn pass(&self, duration: Duration) {
        self.0.advance(duration);
    }

    /// As the layer and the carry tokens want it.
    pub(crate) fn reader(&self) -> impl Fn() -> OffsetDateTime + Send + Sync + 'static {
        self.0.reader()
    }
}

type Handler = dyn Fn(&Request<String>) -> Response<String> + Send + Sync;

/// A shop behind the layer. Its handler notes what a handler can see, then answers.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) layer: ReferralLayer,
    pub(crate) clock: Clock,
    handler: Arc<Handler>,
    cleans_urls: bool,
}

impl Shop {
    /// The layer as it comes.
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(
        configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
    ) -> Self {
        Self::keeping(storage(), configure)
    }

    pub(crate) fn program(program: Program) -> Self {
        Self::with(|builder| builder.program(program))
    }

    pub(crate) fn keeping(
        storage: impl Into<Storage>,
        configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
    ) -> Self {
        Self::at(Clock::new(), storage, configure)
    }

    /// A shop whose clock is another one's: the same service after a restart.
    pub(crate) fn at(
        clock: Clock,
        storage: impl Into<Storage>,
        configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
    ) -> Self {
        let builder = ReferralLayer::builder(storage).clock(clock.reader());
        Self {
            layer: configure(builder).build().unwrap(),
            clock,
            handler: Arc::new(|_| Response::new("page".to_owned())),
            cleans_urls: false,
        }
    }

    pub(crate) fn answering(
        mut self,
        handler: impl Fn(&Request<String>) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.handler = Arc::new(handler);
        self
    }

    /// Redirects captured landings to their clean URL.
    pub(crate) fn cleaning_urls(mut self) -> Self {
        self.cleans_urls = true;
        self
    }

    pub(crate) fn visitor(&self) -> Browser {
        Browser {
            shop: self.clone(),
            visitor: Visitor::with_clock(&self.clock.0),
        }
    }

    /// Sends a request as it stands.
    pub(crate) fn send(&self, request: Request<String>) -> Page {
        let seen = Arc::new(Mutex::new(None));
        let service = service_fn(|request: Request<String>| {
            let (handler, seen) = (Arc::clone(&self.handler), Arc::clone(&seen));
            async move {
                let referrals = Referrals::from_extensions(request.extensions()).await;
                *seen.lock().unwrap() = Some(referrals.unwrap());
                Ok::<_, Infallible>(handler(&request))
            }
        });
        let request = arriving(request);
        let Ok(response) = run(async {
            if self.cleans_urls {
                let layer = self.layer.clone().with_clean_url();
                layer.layer(service).call(request).await
            } else {
                self.layer.layer(service).call(request).await
            }
        });
        let seen = seen.lock().unwrap().take();
        Page {
            response,
            is_handled: seen.is_some(),
            seen: seen.unwrap_or_default(),
        }
    }

    /// A cookie of a landing here and now: its value.
    pub(crate) fn sealed(&self, uri: &str) -> String {
        self.send(page_visit(uri)).kept_value()
    }
}

/// A page visit from another site, as a current browser makes it.
pub(crate) fn page_visit(uri: &str) -> Request<String> {
    with_headers(
        bare_get(uri),
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-user", "?1"),
            ("user-agent", BROWSER),
        ],
    )
}

/// A `GET` without any header.
pub(crate) fn bare_get(uri: &str) -> Request<String> {
    Request::get(uri).body(String::new()).unwrap()
}

pub(crate) fn with_headers(
    mut request: Request<String>,
    headers: &[(&'static str, &str)],
) -> Request<String> {
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(*name, value);
    }
    request
}

/// A page visit with a `Cookie` line as it stands.
pub(crate) fn with_cookie_line(uri: &str, line: impl AsRef<[u8]>) -> Request<String> {
    let mut request = page_visit(uri);
    let line = HeaderValue::from_bytes(line.as_ref()).unwrap();
    request.headers_mut().append(COOKIE, line);
    request
}

/// What came back, and what the handler saw.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) response: Response<String>,
    /// The handler was called.
    pub(crate) is_handled: bool,
    pub(crate) seen: Referrals,
}

impl Page {
    pub(crate) fn referral(&self) -> Option<&Referral> {
        self.seen.first()
    }

    /// The key that the handler saw.
    pub(crate) fn key(&self) -> Option<&str> {
        self.referral()?.key().map(ReferralKey::as_str)
    }

    /// The key that the handler saw of one program.
    pub(crate) fn key_of(&self, program: &str) -> Option<&str> {
        self.seen.get(program)?.key().map(ReferralKey::as_str)
    }

    pub(crate) fn decisions(&self) -> Decisions {
        let decisions = self.response.extensions().get::<Decisions>();
        decisions.cloned().unwrap_or_default()
    }

    /// Every decision that the response tells of, as `program: reason`.
    pub(crate) fn reasons(&self) -> Vec<String> {
        reasons(&self.decisions())
    }

    /// The last decision about the default program.
    pub(crate) fn reason(&self) -> &'static str {
        let last = self.decisions().last_of(Program::DEFAULT_NAME);
        last.map_or("none", |reason| reason.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.response.headers().get(name)?;
        Some(value.to_str().unwrap())
    }

    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        let lines = self.response.headers().get_all(SET_COOKIE).iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }

    /// The value of the one cookie that was set.
    pub(crate) fn kept_value(&self) -> String {
        let lines = self.set_cookies();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let cookie = cookie::Cookie::parse(lines[0]).unwrap();
        cookie.value().to_owned()
    }

    /// Did the response change what is kept?
    pub(crate) fn changed(&self) -> bool {
        !self.set_cookies().is_empty()
    }

    pub(crate) fn is_private(&self) -> bool {
        self.header("cache-control")
            .is_some_and(|value| value.starts_with("private, no-cache"))
    }
}

pub(crate) fn reasons(decisions: &Decisions) -> Vec<String> {
    decisions
        .iter()
        .map(|decision| format!("{}: {}", decision.program(), decision.reason()))
        .collect()
}

/// A visitor's browser, and the shop that it visits.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) shop: Shop,
    visitor: Visitor,
}

impl Browser {
    /// Follows a link from another site.
    pub(crate) fn visit(&mut self, uri: &str) -> Page {
        self.send(page_visit(uri))
    }

    /// Sends a request with the cookies that are held, and keeps what comes back.
    pub(crate) fn send(&mut self, request: Request<String>) -> Page {
        let page = self.shop.send(self.visitor.sends(request));
        assert_well_formed(page.response.headers());
        self.visitor.receives(&page.response);
        page
    }

    /// Goes on with another shop: the same site after a restart or with another configuration.
    pub(crate) fn moves_to(&mut self, shop: &Shop) {
        self.shop = shop.clone();
    }

    /// Holds a cookie that another script or an attacker wrote.
    pub(crate) fn hold(&mut self, name: &str, value: &str) {
        self.visitor.holds(name, value);
    }

    pub(crate) fn held(&self, name: &str) -> Option<&str> {
        self.visitor.cookie(name)
    }

    pub(crate) fn holds_nothing(&self) -> bool {
        self.visitor.cookies().next().is_none()
    }
}

/// Reads every `Set-Cookie` with the `cookie` crate, and checks that a browser would keep it.
fn assert_well_formed(headers: &HeaderMap) {
    for line in headers.get_all(SET_COOKIE) {
        let line = line.to_str().expect("Set-Cookie is ASCII");
        assert!(line.len() < 1024, "{} bytes: {line}", line.len());
        assert_prefix(&cookie::Cookie::parse(line).expect("Set-Cookie parses"));
    }
}

/// The rules of RFC 6265bis section 4.1.3: a browser drops a cookie that breaks them.
fn assert_prefix(cookie: &cookie::Cookie<'_>) {
    let name = cookie.name();
    let is_secure = cookie.secure() == Some(true);
    if name.starts_with("__Host-") {
        assert!(is_secure, "{cookie}");
        assert_eq!(cookie.path(), Some("/"), "{cookie}");
        assert_eq!(cookie.domain(), None, "{cookie}");
    } else if name.starts_with("__Secure-") {
        assert!(is_secure, "{cookie}");
    }
}
