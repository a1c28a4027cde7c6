//! What a returning visitor and a landing cost where referrals are kept on the server, beside a
//! bare tower-sessions session on the same store: one read, and one write.
//!
//! On memory; and on a Redis, if `REDIS_URL` names one.

use std::convert::Infallible;
use std::hint::black_box;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use tokio::runtime::Runtime;
use tower::Service;
use tower_referral::{Keyring, ReferralKey, ReferralLayer, ServerSide, SigningKey};
use tower_sessions_0_14::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Client, ClientLike as _, Config};

fn bare() -> Router {
    Router::new()
        .route("/", get(async || "page"))
        .with_state(())
}

/// The key in a session, as one would keep it by hand.
fn session(store: impl SessionStore + Clone) -> Router {
    let read = async |session: Session| -> String {
        session.get("key").await.ok().flatten().unwrap_or_default()
    };
    let write = async |session: Session| drop(session.insert("key", "PARTNER_123").await);
    Router::new()
        .route("/", get(read))
        .route("/pricing", get(write))
        .route("/about", get(async || ()))
        .layer(SessionManagerLayer::new(store))
        .with_state(())
}

fn referral(store: impl SessionStore + Clone) -> Router {
    let keyring = Keyring::new(SigningKey::generate("bench").unwrap());
    let layer = ReferralLayer::builder(ServerSide::new(store, keyring).store_expires_records())
        .build()
        .unwrap();
    let read = async |key: Option<ReferralKey>| key.map(|key| key.to_string()).unwrap_or_default();
    Router::new()
        .route("/", get(read))
        .route("/pricing", get(async || ()))
        .route("/about", get(async || ()))
        .layer(layer)
        .with_state(())
}

fn request(uri: &str, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::get(uri).header("host", "shop.example");
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    request.body(Body::empty()).unwrap()
}

async fn send(app: &mut Router, request: Request<Body>) -> Response<Body> {
    let result: Result<_, Infallible> = Service::call(app, request).await;
    result.unwrap_or_default()
}

/// The cookie of a visitor who has landed.
async fn landed(app: &mut Router) -> String {
    let response = send(app, request("/pricing?aff=PARTNER_123", None)).await;
    let line = response.headers()[SET_COOKIE].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

fn compare(c: &mut Criterion, runtime: &Runtime, name: &str, store: impl SessionStore + Clone) {
    let mut group = c.benchmark_group(name);
    let apps = [
        ("session", session(store.clone())),
        ("referral", referral(store)),
    ];
    for (what, app) in apps {
        let cookie = runtime.block_on(landed(&mut app.clone()));
        measure(
            &mut group,
            runtime,
            &format!("returning/{what}"),
            &app,
            || request("/", Some(&cookie)),
        );
        measure(
            &mut group,
            runtime,
            &format!("landing/{what}"),
            &app,
            || request("/pricing?aff=PARTNER_123", None),
        );
        measure(
            &mut group,
            runtime,
            &format!("nothing of ours/{what}"),
            &app,
            || request("/about", Some("theme=dark; lang=en")),
        );
    }
    group.finish();
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    app: &Router,
    request: impl Fn() -> Request<Body>,
) {
    group.bench_function(name, |b| {
        let mut app = app.clone();
        b.iter_batched(
            &request,
            |request| black_box(runtime.block_on(send(&mut app, request))),
            criterion::BatchSize::SmallInput,
        );
    });
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    measure(
        &mut c.benchmark_group("bare"),
        &runtime,
        "page",
        &bare(),
        || request("/", None),
    );
    compare(c, &runtime, "memory", MemoryStore::default());
    let Ok(url) = std::env::var("REDIS_URL") else {
        return println!("REDIS_URL is not set: only memory was measured");
    };
    let client = Client::new(Config::from_url(&url).unwrap(), None, None, None);
    runtime.block_on(client.init()).unwrap();
    compare(c, &runtime, "redis", RedisStore::new(client));
}

criterion_group!(stores, benches);
criterion_main!(stores);
