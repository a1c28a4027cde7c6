//! Keys, requests and responses that the tests of this binary have in common.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderValue, Request, Response};
use time::OffsetDateTime;
use tower_referral::testing::Clock;
use tower_referral::{Decisions, Keyring, SigningKey};

/// The cookie of the default program in the default mode.
pub(crate) const COOKIE_NAME: &str = "__Host-referral";
/// What a click is created for: a request that names a browser.
pub(crate) const FIREFOX: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// The key `k1`, whose secret is the bytes 0 to 31.
pub(crate) fn keyring() -> Keyring {
    Keyring::new(signing_key("k1", 0))
}

pub(crate) fn signing_key(id: &str, first: u8) -> SigningKey {
    SigningKey::new(id, (first..first + 32).collect::<Vec<u8>>()).unwrap()
}

/// A clock that stands at 2 October 2096.
pub(crate) fn clock() -> Clock {
    Clock::at(OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap())
}

/// A page visit from another site, as a current browser makes it.
pub(crate) fn page_visit(uri: &str) -> Request<String> {
    with_headers(
        Request::get(uri).body(String::new()).unwrap(),
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ],
    )
}

/// Sets headers of a request, in place of those that it has.
pub(crate) fn with_headers<B>(
    mut request: Request<B>,
    headers: &[(&'static str, &str)],
) -> Request<B> {
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(*name, value);
    }
    request
}

/// Every decision that a response tells of, as `program: reason`.
pub(crate) fn reasons<B>(response: &Response<B>) -> Vec<String> {
    let decisions = response.extensions().get::<Decisions>();
    decisions.map_or_else(Vec::new, |decisions| {
        let text = |decision: &tower_referral::Decision| {
            format!("{}: {}", decision.program(), decision.reason())
        };
        decisions.iter().map(text).collect()
    })
}

/// Polls once. Whatever isn't ready then has waited for something.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request waited for something"),
    }
}
