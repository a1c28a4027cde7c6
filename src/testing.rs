//! For tests of an application behind the layer, without a browser: a clock to set, and a visitor
//! who keeps cookies. Everything in here goes through the layer as a browser would.
//!
//! Turn the feature on for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! tower-referral = { version = "0.1", features = ["testing"] }
//! ```
//!
//! A sign-up's handler, and what becomes of its referral:
//!
//! ```
//! use http::{Request, Response};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_referral::testing::{Clock, Visitor};
//! use tower_referral::{Forget, Keyring, MissingLayer, Referrals, ReferralLayer, SignedCookie, SigningKey};
//!
//! // What is tested: it greets, and forgets the referral, which has done its work.
//! async fn sign_up(request: Request<()>) -> Result<Response<String>, MissingLayer> {
//!     let referrals = Referrals::from_extensions(request.extensions()).await?;
//!     let key = referrals.first().map_or("nobody", |referral| referral.key().unwrap().as_str());
//!     let mut response = Response::new(format!("sent by {key}"));
//!     response.extensions_mut().insert(Forget);
//!     Ok(response)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Clock::new();
//! let keyring = Keyring::new(SigningKey::generate("test")?);
//! let referrals = ReferralLayer::builder(SignedCookie::new(keyring))
//!     .clock(clock.reader())
//!     .build()?;
//! let app = referrals.layer(service_fn(sign_up)); // an axum `Router` is a service as well
//!
//! // A visitor lands, and signs up nine days later.
//! let mut visitor = Visitor::new();
//! visitor.lands(&referrals, "/pricing?aff=PARTNER_123").await;
//! clock.advance(Duration::from_secs(9 * 86_400));
//! let request = visitor.sends(Request::post("/signup").body(())?);
//! let response = app.clone().oneshot(request).await?;
//! assert_eq!(response.body(), "sent by PARTNER_123");
//!
//! // The response forgets the referral.
//! visitor.receives(&response);
//! assert!(visitor.referrals(&referrals).await.first().is_none());
//!
//! // Another one comes a day too late.
//! let mut visitor = Visitor::new();
//! visitor.lands(&referrals, "/?aff=PARTNER_123").await;
//! clock.advance(Duration::from_secs(31 * 86_400));
//! let response = app.oneshot(visitor.sends(Request::post("/signup").body(())?)).await?;
//! assert_eq!(response.body(), "sent by nobody");
//! # Ok(())
//! # }
//! ```

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use time::OffsetDateTime;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::clock::{from_unix_millis, system_now};
use crate::extract::Referrals;
use crate::layer::ReferralLayer;
use crate::missing_layer::MissingLayer;
use crate::reason::Decisions;

/// A clock that stands still until it is told to go on. Clones show the same time.
///
/// Hand it to [`ReferralLayerBuilder::clock`](crate::ReferralLayerBuilder::clock) and, if there are carry tokens, to
/// [`CarryBuilder::clock`](crate::carry::CarryBuilder::clock).
#[derive(Clone)]
pub struct Clock(Arc<Mutex<OffsetDateTime>>);

impl Clock {
    /// Creates a clock that shows the system's time of now.
    #[must_use]
    pub fn new() -> Self {
        Self::at(from_unix_millis(system_now()))
    }

    /// Creates a clock that shows `now`.
    #[must_use]
    pub fn at(now: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Returns what it shows.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it, forwards or back.
    pub fn set(&self, now: OffsetDateTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves it forwards.
    pub fn advance(&self, duration: Duration) {
        self.set(self.now() + duration);
    }

    /// Returns the clock as [`ReferralLayerBuilder::clock`](crate::ReferralLayerBuilder::clock) wants it.
    pub fn reader(&self) -> impl Fn() -> OffsetDateTime + Send + Sync + 'static + use<> {
        let clock = self.clone();
        move || clock.now()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A visitor's browser, as far as it matters here: it keeps the cookies of all responses that it
/// receives and sends them with every request.
///
/// A cookie is dropped when a response deletes it (`Max-Age=0`), and at the end of its `Max-Age` if the
/// visitor has a [clock](Self::with_clock). Otherwise it stays, whatever its domain and path: whether a
/// referral still counts is for the layer to say, by its clock.
#[derive(Clone, Default)]
pub struct Visitor {
    cookies: Vec<Cookie>,
    clock: Option<Clock>,
}

#[derive(Clone)]
struct Cookie {
    name: String,
    value: String,
    /// `None` for a cookie that stays.
    expires: Option<OffsetDateTime>,
}

impl Visitor {
    /// Creates a visitor who was never here.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a visitor whose browser drops cookies at the end of their `Max-Age`, by this clock.
    #[must_use]
    pub fn with_clock(clock: &Clock) -> Self {
        Self {
            cookies: Vec::new(),
            clock: Some(clock.clone()),
        }
    }

    /// Lands on a page as by a link on another site: `page` is path and query, for instance
    /// `/pricing?aff=PARTNER_123`. It goes through the layer, not to the application.
    ///
    /// Everything that is configured happens, clicks included. Returns what was decided.
    ///
    /// # Panics
    ///
    /// If the visitor holds no referral afterwards, with the layer's reason; if `page` isn't a path
    /// and query. To test that a landing is *not* captured, send the request of
    /// [`visits`](Self::visits) to the application and look at the response.
    pub async fn lands(&mut self, layer: &ReferralLayer, page: &str) -> Decisions {
        let response = call(layer, self.visits(page)).await;
        self.receives(&response);
        let decisions = response.extensions().get::<Decisions>();
        let decisions = decisions.cloned().unwrap_or_default();
        let reasons = decisions.iter().map(|it| it.reason().as_str());
        assert!(
            call(layer, self.sends(Request::new(())))
                .await
                .body()
                .as_ref()
                // What is in an application's session can be seen only where there is one.
                .map_or(!self.cookies.is_empty(), |kept| kept.first().is_some()),
            "the layer kept nothing of {page}: {:?}",
            reasons.collect::<Vec<_>>()
        );
        decisions
    }

    /// Creates the request of a landing, with the visitor's cookies, for the application: `page` is path and
    /// query, and the headers are those of a current browser after a link on another site.
    ///
    /// # Panics
    ///
    /// If `page` isn't a path and query.
    #[must_use]
    pub fn visits<B: Default>(&self, page: &str) -> Request<B> {
        let mut request = Request::new(B::default());
        *request.uri_mut() = page.parse().expect("a path and query, such as `/?aff=KEY`");
        for (name, value) in [
            ("host", "localhost"),
            // Nobody creates a click for a request that names no browser.
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        self.sends(request)
    }

    /// Holds a cookie of the application's own, for instance the consent banner's.
    pub fn holds(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.keep(name.into(), value.into(), None);
    }

    fn keep(&mut self, name: String, value: String, expires: Option<OffsetDateTime>) {
        self.cookies.retain(|cookie| cookie.name != name);
        self.cookies.push(Cookie {
            name,
            value,
            expires,
        });
    }

    /// Returns the cookies, as names and values, in the order in which they are sent.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let now = self.clock.as_ref().map(Clock::now);
        let is_alive = move |cookie: &&Cookie| match (cookie.expires, now) {
            (Some(expires), Some(now)) => expires > now,
            _ => true,
        };
        let alive = self.cookies.iter().filter(is_alive);
        alive.map(|cookie| (&*cookie.name, &*cookie.value))
    }

    /// Returns a cookie's value.
    #[must_use]
    pub fn cookie(&self, name: impl AsRef<str>) -> Option<&str> {
        let name = name.as_ref();
        let mut cookies = self.cookies();
        cookies.find_map(|(held, value)| (held == name).then_some(value))
    }

    /// Puts the visitor's cookies on a request.
    ///
    /// # Panics
    ///
    /// If a cookie that the visitor [`holds`](Self::holds) can't be in a header.
    #[must_use]
    pub fn sends<B>(&self, mut request: Request<B>) -> Request<B> {
        let pairs = self
            .cookies()
            .map(|(name, value)| format!("{name}={value}"));
        let line = pairs.collect::<Vec<_>>().join("; ");
        if !line.is_empty() {
            let line = HeaderValue::try_from(line).expect("cookies without controls");
            request.headers_mut().append(COOKIE, line);
        }
        request
    }

    /// Keeps a response's cookies, and drops those that it deletes.
    pub fn receives<B>(&mut self, response: &Response<B>) {
        for line in response.headers().get_all(SET_COOKIE) {
            let mut parts = line.to_str().unwrap_or_default().split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let mut max_age = parts.filter_map(|attribute| {
                let (name, value) = attribute.split_once('=')?;
                let is_max_age = name.trim().eq_ignore_ascii_case("max-age");
                value.trim().parse::<i64>().ok().filter(|_| is_max_age)
            });
            // The last one counts (RFC 6265 section 5.3).
            let max_age = max_age.next_back();
            let (name, value) = (name.trim(), value.trim());
            if max_age.is_some_and(|seconds| seconds <= 0) {
                self.cookies.retain(|cookie| cookie.name != name);
                continue;
            }
            let now = self.clock.as_ref().map(Clock::now);
            let expires = now
                .zip(max_age)
                .and_then(|(now, seconds)| now.checked_add(time::Duration::seconds(seconds)));
            self.keep(name.to_owned(), value.to_owned(), expires);
        }
    }

    /// Returns the referrals that the layer finds with this visitor now: what a handler would see.
    ///
    /// # Panics
    ///
    /// With `AppSession`, whose sessions are the application's: send a request to a handler of yours
    /// there.
    pub async fn referrals(&self, layer: &ReferralLayer) -> Referrals {
        let response = call(layer, self.sends(Request::new(()))).await;
        response
            .into_body()
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Shows no cookie's value.
impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.cookies.iter().map(|cookie| &cookie.name);
        f.debug_set().entries(names).finish()
    }
}

/// Sends a request through the layer to a service that tells what a handler would see.
async fn call(
    layer: &ReferralLayer,
    request: Request<()>,
) -> Response<Result<Referrals, MissingLayer>> {
    let mut service = layer.layer(Handler);
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(response) = service.call(request).await;
    response
}

/// What the layer is put around here: it answers with what it sees.
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<Result<Referrals, MissingLayer>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(async move {
            let seen = Referrals::from_extensions(request.extensions()).await;
            Ok(Response::new(seen))
        })
    }
}
