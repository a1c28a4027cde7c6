//! What a handler hears that isn't behind the layer. In a process of its own: once a layer has passed on a
//! request without anything in its extensions, a missing mark proves nothing any more.
#![cfg(feature = "axum")]

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request};
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_referral::{
    Keyring, MissingLayer, Referral, ReferralKey, ReferralLayer, ReferralRejection, Referrals,
    SigningKey,
};

fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request waited for something"),
    }
}

fn layer() -> ReferralLayer {
    let keyring = Keyring::new(SigningKey::generate("local").unwrap());
    ReferralLayer::builder(keyring).build().unwrap()
}

const PATHS: [&str; 5] = [
    "/key",
    "/referral",
    "/maybe-key",
    "/maybe-referral",
    "/referrals",
];

/// Routes with every extractor.
fn app() -> Router {
    Router::new()
        .route("/key", get(async |key: ReferralKey| key.to_string()))
        .route("/referral", get(async |_: Referral| "a referral"))
        .route("/maybe-key", get(async |_: Option<ReferralKey>| "maybe"))
        .route("/maybe-referral", get(async |_: Option<Referral>| "maybe"))
        .route("/referrals", get(async |_: Referrals| "all"))
}

fn request(uri: &str) -> Request {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn ask(app: Router, uri: &str) -> (StatusCode, String) {
    let Ok(response) = at_once(app.oneshot(request(uri)));
    let status = response.status();
    let body = at_once(response.into_body().collect()).unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[track_caller]
fn assert_missing(app: Router, uri: &str) {
    let (status, body) = ask(app, uri);
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{uri}: {body}");
    assert!(body.contains("ReferralLayer"), "{uri}: {body}");
    assert!(
        body.contains(".layer("),
        "{uri}: it says what to do: {body}"
    );
}

#[test]
fn outside_the_layer_every_extractor_names_it() {
    for path in PATHS {
        assert_missing(app(), path);
        assert_missing(app(), &format!("{path}?aff=K"));
    }
    // A route that was added behind the layer isn't covered by it.
    let late = Router::new()
        .route("/early", get(async |_: Option<ReferralKey>| "early"))
        .layer(layer())
        .route("/late", get(async |_: Option<ReferralKey>| "late"));
    assert_eq!(ask(late.clone(), "/early").0, StatusCode::OK);
    assert_missing(late, "/late");
}

#[test]
fn c18_an_unlayered_router_inside_a_handler_behind_the_layer_fails_as_it_does_alone() {
    for path in PATHS {
        for query in ["", "?aff=K"] {
            let calling = move |outer: Request| async move {
                // With what the outer handler found, and without.
                let found = Referrals::from_extensions(outer.extensions()).await;
                assert_eq!(
                    found.unwrap().iter().count(),
                    usize::from(!query.is_empty())
                );
                let Ok(response) = app().oneshot(request(path)).await;
                response
            };
            let outer = Router::new().route("/outer", get(calling)).layer(layer());
            assert_missing(outer, &format!("/outer{query}"));
        }
    }
}

#[test]
fn c20_a_middleware_that_builds_a_new_request_is_an_error_where_it_can_be_seen() {
    async fn anew(request: Request, next: Next) -> Response<Body> {
        next.run(Request::new(request.into_body())).await
    }
    for (path, query) in PATHS.iter().zip(["", "?aff=K", "", "?aff=K", "?q=1"]) {
        // The path is gone as well, so that one route answers all.
        let inner = match *path {
            "/key" => get(async |_: ReferralKey| ""),
            "/referral" => get(async |_: Referral| ""),
            "/maybe-key" => get(async |_: Option<ReferralKey>| ""),
            "/maybe-referral" => get(async |_: Option<Referral>| ""),
            _ => get(async |_: Referrals| ""),
        };
        let app = Router::new().route(path, inner).layer(from_fn(anew));
        assert_missing(app.layer(layer()), &format!("{path}{query}"));
    }
}

#[test]
fn without_axum_a_request_with_extensions_and_without_a_mark_is_an_error() {
    let mut marked = http::Request::new(());
    marked.extensions_mut().insert("something of others");
    let missing = at_once(Referrals::from_extensions(marked.extensions())).unwrap_err();
    assert!(missing.to_string().contains("ReferralLayer"));
    assert_eq!(format!("{missing:?}"), missing.to_string());
    assert!(at_once(ReferralKey::from_extensions(marked.extensions())).is_err());
    assert!(at_once(Referral::from_extensions(marked.extensions())).is_err());
    // Nobody can know.
    let empty = http::Request::new(());
    let found = at_once(Referrals::from_extensions(empty.extensions()));
    assert_eq!(found, Ok(Referrals::default()));
    assert_eq!(
        at_once(ReferralKey::from_extensions(empty.extensions())),
        Ok(None)
    );
}

#[test]
fn the_rejections_are_errors_that_say_what_they_are() {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let rejection = at_once(ReferralKey::from_request_parts(&mut parts, &())).unwrap_err();
    assert!(matches!(rejection, ReferralRejection::MissingLayer(_)));
    assert_eq!(format!("{rejection:?}"), rejection.to_string());
    parts.extensions.insert("something of others");
    let missing: MissingLayer = at_once(Referrals::from_extensions(&parts.extensions)).unwrap_err();
    assert_eq!(missing.to_string(), rejection.to_string());
    let error: Box<dyn std::error::Error> = Box::new(rejection);
    assert!(error.to_string().contains("ReferralLayer"));
}

#[cfg(feature = "endpoint")]
#[test]
fn the_capture_endpoint_outside_the_layer_says_so() {
    for app in [
        Router::new().route_service("/track", layer().capture_endpoint()),
        Router::new().fallback_service(layer().capture_endpoint()),
    ] {
        let request = Request::post("/track")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("aff=K"))
            .unwrap();
        let Ok(response): Result<_, Infallible> = at_once(app.oneshot(request));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = at_once(response.into_body().collect()).unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("ReferralLayer"));
    }
}
