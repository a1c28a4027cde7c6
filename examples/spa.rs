//! A single-page app, or any page that a CDN answers: its landings never reach the layer. The page
//! tells them to the capture endpoint, in one line of script.
//!
//! ```sh
//! cargo run --example spa
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>.

use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse};
use axum::{Router, routing::get, routing::post};
use tower_referral::{Keyring, ReferralKey, ReferralLayer, SignedCookie, SigningKey};

/// The same for everybody, so that any cache may keep it. Nothing is sent where there is no query.
const PAGE: &str = r#"<!doctype html><title>A single-page app</title>
<p>This page comes from a cache. <button id=sign-up>Sign up</button> <output id=answer></output>
<script>
const told = location.search
    ? fetch("/api/track-landing", {method: "POST", body: new URLSearchParams(location.search)})
    : Promise.resolve();
document.getElementById("sign-up").onclick = async () => {
    await told;
    const response = await fetch("/api/sign-up", {method: "POST"});
    document.getElementById("answer").textContent = await response.text();
};
</script>
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let referrals = ReferralLayer::builder(SignedCookie::new(keyring)).build()?;
    let app = Router::new()
        .route_service("/api/track-landing", referrals.capture_endpoint())
        .route("/api/sign-up", post(sign_up))
        .layer(referrals)
        // Added behind the layer, and so outside it: as if a CDN had answered.
        .route("/", get(page));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123");
    Ok(axum::serve(listener, app).await?)
}

async fn page() -> impl IntoResponse {
    ([(CACHE_CONTROL, "public, max-age=3600")], Html(PAGE))
}

async fn sign_up(referral: Option<ReferralKey>) -> String {
    match referral {
        Some(key) => format!("Welcome, and thanks to {key}.\n"),
        None => "Welcome.\n".to_owned(),
    }
}
