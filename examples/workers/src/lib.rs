//! The layer on Cloudflare Workers. `wrangler` builds it with `worker-build`; `worker.test.mjs` runs it in
//! Node.
#![cfg(target_family = "wasm")]

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::Response;
use tower::ServiceExt as _;
use tower_referral::click::{ClickRequest, Clicks};
use tower_referral::{ClickId, Keyring, Referral, ReferralLayer, SigningKey, Spawner};
use worker::send::SendFuture;
use worker::wasm_bindgen::JsValue;
use worker::{Context, Delay, Env, Fetch, HttpRequest, Method, Request, RequestInit, event};

#[event(fetch)]
async fn fetch(
    mut request: HttpRequest,
    env: Env,
    context: Context,
) -> worker::Result<Response<Body>> {
    // A task belongs to its request here, so each request brings what runs it.
    let context = Arc::new(context);
    let spawner = Spawner::new(move |task| context.wait_until(task));
    request.extensions_mut().insert(spawner);
    let app = app(layer(&env)?);
    let Ok(response) = app.oneshot(request).await;
    Ok(response)
}

fn app(referrals: ReferralLayer) -> Router {
    Router::new()
        .route("/", get(async || "Hello"))
        .route("/signup", post(sign_up))
        .route_service("/api/track-landing", referrals.capture_endpoint())
        .layer(referrals)
}

async fn sign_up(referral: Option<Referral>) -> String {
    let Some(referral) = referral else {
        return "Welcome.".to_owned();
    };
    let key = referral.key().map_or("none", |key| key.as_str());
    let click = referral.click_id().map_or("none yet", ClickId::as_str);
    format!("{key} sent you, click {click}.")
}

/// Returns the layer of this isolate, which serves many requests.
fn layer(env: &Env) -> worker::Result<ReferralLayer> {
    static LAYER: OnceLock<ReferralLayer> = OnceLock::new();
    if let Some(layer) = LAYER.get() {
        return Ok(layer.clone());
    }
    let to_error = |error: &dyn Error| worker::Error::RustError(error.to_string());
    // `wrangler secret put REFERRAL_KEY`
    let key: SigningKey = env
        .secret("REFERRAL_KEY")?
        .to_string()
        .parse()
        .map_err(|error| to_error(&error))?;
    let platform = env.var("PLATFORM")?.to_string();
    let clicks =
        Clicks::from_fn(move |request| SendFuture::new(create_click(platform.clone(), request)));
    let layer = ReferralLayer::builder(Keyring::new(key))
        .clicks(clicks.timeout(Duration::from_secs(1)))
        .timer(|duration| SendFuture::new(Delay::from(duration)))
        .build()
        .map_err(|error| to_error(&error))?;
    Ok(LAYER.get_or_init(|| layer).clone())
}

/// Creates a click at the platform; a client of `tower-referral-platforms` does the same.
async fn create_click(
    platform: String,
    request: ClickRequest,
) -> Result<ClickId, Box<dyn Error + Send + Sync>> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post)
        .with_body(Some(JsValue::from_str(request.key().as_str())));
    let call = Request::new_with_init(&platform, &init).map_err(|error| error.to_string())?;
    let answer = Fetch::Request(call).send().await;
    let mut answer = answer.map_err(|error| error.to_string())?;
    let text = answer.text().await.map_err(|error| error.to_string())?;
    Ok(text.parse()?)
}
