//! The shop that the layer is put around: a service that says what it sees, with a clock and keys
//! that the targets know, polled by hand. And what must be equal where the crate and an oracle
//! speak of the same referral.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use time::{Duration, OffsetDateTime};
use tower_layer::Layer as _;
use tower_referral::{
    CleanUrlService, Decisions, Keyring, Reason, Referral, ReferralLayer, ReferralService,
    Referrals, SigningKey, Source,
};
use tower_service::Service as _;

use crate::message::Plain;

/// The signing key, an older one, and one that isn't on the keyring.
pub const KEYS: [(&str, [u8; 32]); 3] = [
    ("2026-11", secret(1)),
    ("k", secret(2)),
    ("gone", secret(3)),
];

/// How many of [`KEYS`] are on the keyring.
pub const KNOWN_KEYS: usize = 2;

const fn secret(first: u8) -> [u8; 32] {
    let mut secret = [first; 32];
    let mut at = 0;
    while at < secret.len() {
        secret[at] = first + at as u8;
        at += 1;
    }
    secret
}

/// The keyring.
pub fn keyring() -> Keyring {
    let [signing, old, _] = KEYS.map(|(id, secret)| SigningKey::new(id, secret).expect("a key"));
    Keyring::new(signing).verify_with(old).expect("another key")
}

/// When it usually is, in milliseconds since the epoch.
pub const NOON: i64 = 1_800_000_000_000;

static NOW: AtomicI64 = AtomicI64::new(NOON);

/// Sets the clock, in milliseconds since the epoch.
pub fn set_clock(now: i64) {
    NOW.store(now, Ordering::Relaxed);
}

/// The clock that every layer and every carry goes by.
pub fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(NOW.load(Ordering::Relaxed))
}

/// The layer around a page that answers with what it sees.
#[derive(Clone)]
pub enum Shop {
    /// Whose page answers everything.
    Plain(ReferralService<Page>),
    /// That redirects landings to the URL without our parameters.
    CleanUrl(ReferralService<CleanUrlService<Page>>),
}

/// The page.
#[derive(Clone)]
pub struct Page {
    asks_twice: bool,
}

impl tower_service::Service<Request<()>> for Page {
    type Response = Response<Referrals>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let ask = || now_ready(Referrals::from_extensions(request.extensions()));
        let seen = ask().expect("the layer is there");
        if self.asks_twice {
            assert_eq!(ask().as_ref(), Ok(&seen), "asked twice, told twice");
        }
        ready(Ok(Response::new(seen)))
    }
}

impl Shop {
    /// A shop behind this layer. `asks_twice`: its page asks for the referrals a second time.
    pub fn new(layer: &ReferralLayer, asks_twice: bool) -> Self {
        Self::Plain(layer.layer(Page { asks_twice }))
    }

    /// A shop behind this layer that redirects landings.
    pub fn with_clean_url(layer: &ReferralLayer) -> Self {
        let page = Page { asks_twice: false };
        Self::CleanUrl(layer.clone().with_clean_url().layer(page))
    }

    /// What the page sees, and what the layer makes of the response.
    pub fn send(&self, request: Request<()>) -> Response<Referrals> {
        let Ok(response) = match self {
            Self::Plain(service) => now_ready(service.clone().call(request)),
            Self::CleanUrl(service) => now_ready(service.clone().call(request)),
        };
        response
    }
}

/// What comes of a future that has nothing to wait for.
pub fn now_ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

/// What an oracle expects of a response.
pub struct Expected<'a> {
    /// The programs' names, in order.
    pub programs: &'a [&'static str],
    /// The referral of each that the page sees.
    pub shown: &'a [Option<Plain<'a>>],
    /// Each program's name, and what was decided.
    pub decisions: &'a [(&'static str, Reason)],
    /// Each `Set-Cookie` of ours, in order.
    pub written: &'a [String],
    /// Does the query have a parameter of ours?
    pub has_parameter: bool,
}

/// Is the response what the oracle expects, in all that the page sees and in every header of ours?
pub fn assert_expected(response: &Response<Referrals>, expected: &Expected<'_>) {
    let seen = response.body();
    let said = response
        .extensions()
        .get::<Decisions>()
        .into_iter()
        .flatten();
    let said: Vec<_> = said.map(|said| (said.program(), said.reason())).collect();
    assert_eq!(said, expected.decisions);
    let mut referrals = seen.iter();
    for (program, plain) in expected.programs.iter().zip(expected.shown) {
        if let Some(plain) = plain {
            let referral = referrals.next().expect("a referral that counts");
            assert_same(referral, plain, program);
        }
    }
    assert_eq!(referrals.next(), None, "a referral that doesn't count");
    let written = expected.written;
    let set = response.headers().get_all(SET_COOKIE).iter();
    assert!(set.eq(written.iter()), "{written:?}");
    assert!(written.iter().all(|line| line.len() < 1024));
    let is_private = expected.has_parameter || !written.is_empty();
    let caching = response.headers().get(CACHE_CONTROL);
    assert_eq!(
        caching.map(HeaderValue::as_bytes),
        is_private.then_some(&b"private, no-cache"[..])
    );
}

/// Does the crate say of a referral what the oracle says, in every field that the API shows?
pub fn assert_same(referral: &Referral, plain: &Plain<'_>, program: &str) {
    let optional = |text: &'static str, said: Option<&str>, expected: &str| {
        assert_eq!(said.unwrap_or_default(), expected, "{text}");
        assert_eq!(said.is_some(), !expected.is_empty(), "{text}");
    };
    assert_eq!(referral.program(), program);
    optional(
        "key",
        referral.key().map(tower_referral::ReferralKey::as_str),
        plain.key,
    );
    let click_id = referral.click_id().map(tower_referral::ClickId::as_str);
    optional("click ID", click_id, plain.click_id);
    let partner_id = referral.partner_id().map(tower_referral::ClickId::as_str);
    optional("partner ID", partner_id, plain.partner_id);
    optional("parameter", referral.parameter(), plain.parameter);
    let source = match plain.source {
        1 => Source::Landing,
        2 => Source::Handler,
        _ => Source::Script,
    };
    assert_eq!(referral.source(), source);
    let captured_at = referral.captured_at();
    let millis = captured_at.unix_timestamp() * 1000 + i64::from(captured_at.millisecond());
    assert_eq!(millis, plain.captured_at);
    assert_eq!(referral.window().as_secs(), u64::from(plain.window));
    let page = referral.landing_page();
    if plain.path.is_empty() || plain.parameter.is_empty() {
        assert_eq!(page, None);
    } else {
        let page = page.expect("a landing page");
        let rest = page.strip_prefix(plain.path).expect("the path");
        let rest = rest.strip_prefix('?').expect("a query");
        let rest = rest.strip_prefix(plain.parameter).expect("the parameter");
        let key = rest.strip_prefix('=').expect("a value");
        let decoded = percent_encoding::percent_decode_str(key).decode_utf8();
        let value = if plain.key.is_empty() {
            plain.click_id
        } else {
            plain.key
        };
        assert_eq!(decoded.expect("UTF-8"), value);
        assert!(!key.contains(['+', '&', '#', ' ']));
    }
    assert!(referral.extra().eq(plain.extra.iter().copied()), "extra");
}
