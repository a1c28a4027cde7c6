//! The layer on AWS Lambda, behind API Gateway or a function URL.
//!
//! Lambda stops the process as soon as the response is out, and may never let it go on. So a click ends
//! before its landing's response: `ClickTiming::BeforeResponse`.
//!
//! `REFERRAL_KEY` is the signing key, `PLATFORM` the URL that creates a click.

use std::env;
use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower_referral::click::{ClickRequest, ClickTiming, Clicks};
use tower_referral::{ClickId, Keyring, Referral, ReferralLayer};

type HttpClient = Client<HttpConnector, Full<Bytes>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let platform: Uri = env::var("PLATFORM")?.parse()?;
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    let clicks =
        Clicks::from_fn(move |request| create_click(client.clone(), platform.clone(), request));
    let timeout = env::var("CLICK_TIMEOUT").map_or(Ok(2), |seconds| seconds.parse())?;
    let clicks = clicks.timeout(Duration::from_secs(timeout));
    let referrals = ReferralLayer::builder(Keyring::from_env()?)
        .clicks(clicks.timing(timing()))
        .build()?;
    let app = Router::new()
        .route("/", get(async || "Hello"))
        .route("/signup", post(sign_up))
        .layer(referrals);
    lambda_http::run(app).await
}

/// `CLICK_TIMING=beside` is there to see what gets lost.
fn timing() -> ClickTiming {
    match env::var("CLICK_TIMING").as_deref() {
        Ok("beside") => ClickTiming::BesideResponse,
        _ => ClickTiming::BeforeResponse,
    }
}

async fn sign_up(referral: Option<Referral>) -> String {
    let Some(referral) = referral else {
        return "Welcome.".to_owned();
    };
    let key = referral.key().map_or("none", |key| key.as_str());
    let click = referral.click_id().map_or("none yet", ClickId::as_str);
    format!("{key} sent you, click {click}.")
}

/// Creates a click at the platform; a client of `tower-referral-platforms` does the same, over HTTPS.
async fn create_click(
    client: HttpClient,
    platform: Uri,
    request: ClickRequest,
) -> Result<ClickId, Box<dyn Error + Send + Sync>> {
    let key = Full::from(request.key().to_string());
    let answer = client.request(Request::post(platform).body(key)?).await?;
    let id = answer.into_body().collect().await?.to_bytes();
    Ok(str::from_utf8(&id)?.parse()?)
}
