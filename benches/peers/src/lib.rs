//! What does the job of this crate elsewhere, each written as its documentation suggests, and the
//! ways to send all of them the same requests.
//!
//! The job: on a landing (`?aff=` or `?ref=` with a valid key) keep the key for 30 days, in a
//! signed cookie or a session; on later requests give it to a handler that asks for it.

mod floor;
mod hand_written;
mod referred;
mod sessions;
mod signed_cookies;

#[path = "../../traffic/mod.rs"]
mod traffic;

use std::fmt::Debug;
use std::hint::black_box;

use axum::Router;
use axum::body::Body;
use axum::response::Html;
use axum::routing::get;
use hmac::{Hmac, KeyInit, Mac};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Request};
use sha2::Sha256;
use tower::layer::util::Identity;
use tower::{Layer, Service};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_referral::ReferralKey;

use crate::traffic::{LANDING_URI, Visit, asking, bare, finish, referrals, visits, visits_of};

/// The four cases, as the tables call them, and the landing of a browser that has no cookies at all
/// of the shop.
pub const CASES: [&str; 5] = [
    "a plain",
    "b browser",
    "c returning",
    "d landing",
    "d no cookies",
];

/// The contender that all of this is about.
pub const OURS: &str = "tower-referral";
/// The same in an axum `Router`.
pub const OURS_AXUM: &str = "tower-referral on axum";
/// What its users would otherwise write themselves.
pub const HAND_WRITTEN: &str = "hand-written";

/// A service under measurement, with each kind of request that it is sent.
pub struct Contender {
    pub name: &'static str,
    /// The contender without any layer that this one is compared with; none for that one itself.
    pub bare: Option<&'static str>,
    pub cases: [Case; 5],
}

/// Makes so many requests, then has the meter measure the sending of all of them.
pub type Case = Box<dyn FnMut(usize, Meter<'_>)>;

/// Runs what it is given, once, and measures it.
pub type Meter<'m> = &'m mut dyn FnMut(&mut dyn FnMut());

/// Everything that is compared.
pub fn contenders() -> Vec<Contender> {
    let layer = referrals();
    let our_visits = and_without_cookies(visits(&layer));
    let plain = "bare plain service";
    let axum = "bare axum";
    let no_cache = SetResponseHeaderLayer::overriding(
        CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );

    vec![
        Contender {
            name: plain,
            bare: None,
            cases: our_visits.clone().map(|visit| sending(visit, bare())),
        },
        Contender {
            name: OURS,
            bare: Some(plain),
            cases: our_visits.clone().map(|visit| match visit.asks {
                false => sending(visit, layer.layer(bare())),
                true => sending(visit, layer.layer(asking())),
            }),
        },
        Contender {
            name: "the least there is to do",
            bare: Some(plain),
            cases: our_visits
                .clone()
                .map(|visit| sending(visit, floor::under(bare()))),
        },
        Contender {
            name: "tower-http SetResponseHeader",
            bare: Some(plain),
            cases: our_visits
                .clone()
                .map(|visit| sending(visit, no_cache.layer(bare()))),
        },
        Contender {
            name: axum,
            bare: None,
            cases: our_visits
                .clone()
                .map(|visit| through(visit, shop(get(silent)))),
        },
        Contender {
            name: "an empty layer on axum",
            bare: Some(axum),
            cases: our_visits
                .clone()
                .map(|visit| through(visit, shop(get(silent)).layer(Identity::new()))),
        },
        Contender {
            name: OURS_AXUM,
            bare: Some(axum),
            cases: our_visits.map(|visit| {
                let handler = if visit.asks { get(asks) } else { get(silent) };
                through(visit, shop(handler).layer(layer.clone()))
            }),
        },
        on_axum(HAND_WRITTEN, get(hand_written::asks), hand_written::around),
        on_axum(
            "tower-cookies, signed",
            get(signed_cookies::asks),
            signed_cookies::around,
        ),
        on_axum(
            "tower-sessions, in memory",
            get(sessions::asks),
            sessions::around(),
        ),
    ]
}

/// A peer on axum, which gets its own cookie to see in case c.
fn on_axum(
    name: &'static str,
    asking: axum::routing::MethodRouter,
    around: impl Fn(Router) -> Router,
) -> Contender {
    let visits = visits_of(|landing| {
        let mut router = around(shop(get(silent)));
        traffic::route(&mut router, landing.request())
    });
    Contender {
        name,
        bare: Some("bare axum"),
        cases: and_without_cookies(visits).map(|visit| {
            let handler = if visit.asks {
                asking.clone()
            } else {
                get(silent)
            };
            through(visit, around(shop(handler)))
        }),
    }
}

fn and_without_cookies(visits: [Visit; 4]) -> [Visit; 5] {
    let [a, b, c, d] = visits;
    [a, b, c, d, Visit::browser("d no cookies", LANDING_URI)]
}

fn shop(page: axum::routing::MethodRouter) -> Router {
    Router::new().route("/pricing", page)
}

async fn silent() {}

async fn asks(key: Option<ReferralKey>) {
    black_box(key);
}

/// As `axum::serve` has it: without `with_state`, the layers would be applied anew to every request.
fn through(visit: Visit, router: Router) -> Case {
    sending::<Body, Router>(visit, router.with_state(()))
}

/// Measured are the calls, the polling of their futures to the end, and the dropping of the
/// responses. Each request is a clone that was made beforehand.
fn sending<B, S>(visit: Visit, mut service: S) -> Case
where
    B: Default,
    S: Service<Request<B>, Error: Debug> + 'static,
{
    Box::new(move |count, meter| {
        let mut requests: Vec<Request<B>> = (0..count).map(|_| visit.request()).collect();
        meter(&mut || {
            for request in requests.drain(..) {
                drop(black_box(finish(service.call(request))));
            }
        });
    })
}

/// One HMAC-SHA256 of 55 bytes under a prepared key, so many times.
pub fn hmac() -> Case {
    let prepared = <Hmac<Sha256> as KeyInit>::new_from_slice(&[7; 32]).expect("a valid key");
    let message = [42; 55];
    Box::new(move |count, meter| {
        meter(&mut || {
            for _ in 0..count {
                let mut mac = prepared.clone();
                mac.update(black_box(&message));
                black_box(mac.finalize().into_bytes());
            }
        });
    })
}

/// Checks that every peer does the job: keeps the key on a landing, in a cookie, and gives it to
/// the handler later, but not if the cookie was tampered with.
pub fn check() {
    const LANDING: &str = "/checkout?utm_source=news&aff=PARTNER_123";
    for variant in ["layer", "hand", "cookies", "sessions"] {
        let mut router = whole_shop(variant).expect("a variant");
        let mut send = |uri: &str, cookie: &str| {
            let visit = Visit::browser("", uri).with_cookies(cookie);
            let response = traffic::route(&mut router, visit.request());
            (response.headers().clone(), text(response))
        };
        let (headers, page) = send(LANDING, &traffic::foreign_cookies());
        assert!(page.contains("PARTNER_123"), "{variant}: {page}");
        let line = headers[http::header::SET_COOKIE].to_str().expect("ASCII");
        assert!(line.contains("Max-Age=2592000"), "{variant}: {line}");
        let pair = line.split(';').next().unwrap_or_default();

        let (headers, page) = send("/checkout", &traffic::line_with(&[pair]));
        assert!(page.contains("PARTNER_123"), "{variant}: {page}");
        assert!(!headers.contains_key("set-cookie"), "{variant}");
        let (name, value) = pair.split_once('=').expect("a pair");
        let (head, tail) = value.split_at(7);
        let forged = if tail.starts_with('x') { 'y' } else { 'x' };
        let forged = format!("{name}={head}{forged}{}", &tail[1..]);
        let (_, page) = send("/checkout", &traffic::line_with(&[&forged]));
        assert!(!page.contains("PARTNER_123"), "{variant}: {page}");
        let (_, page) = send("/checkout?aff=", "");
        assert!(!page.contains("PARTNER_123"), "{variant}: {page}");
    }
}

fn text(response: http::Response<Body>) -> String {
    let body = finish(axum::body::to_bytes(response.into_body(), 1 << 20));
    String::from_utf8_lossy(&body).into_owned()
}

/// A shop to be served for real: `/pricing`, which asks for nothing, and `/checkout`, which asks
/// for the key.
pub fn whole_shop(variant: &str) -> Option<Router> {
    let with = |checkout| {
        Router::new()
            .route("/pricing", get(async || page("nobody asked")))
            .route("/checkout", checkout)
    };
    let router = match variant {
        "bare" => with(get(async || page("nobody asked"))),
        "empty" => with(get(async || page("nobody asked"))).layer(Identity::new()),
        "layer" => with(get(async |key: Option<ReferralKey>| {
            page(key.as_ref().map_or("nobody", ReferralKey::as_str))
        }))
        .layer(referrals()),
        "hand" => hand_written::around(with(get(hand_written::shows))),
        "cookies" => signed_cookies::around(with(get(signed_cookies::shows))),
        "sessions" => sessions::around()(with(get(sessions::shows))),
        _ => return None,
    };
    Some(router.with_state(()))
}

/// A page of some 2 KiB.
fn page(referrer: &str) -> Html<String> {
    const FILLER: &str = "<p>Our prices are as low as they are honest, and so is this page.</p>\n";
    Html(format!(
        "<!doctype html><title>Shop</title><p>You were sent by {referrer}.</p>\n{}",
        FILLER.repeat(28)
    ))
}
