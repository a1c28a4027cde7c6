//! A single-page app, or any page that a CDN answers: its landings never reach the layer. The page
//! loads the capture endpoint's script, which sends them.
//!
//! ```sh
//! cargo run --example spa
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>.

use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse};
use axum::{Router, routing::get, routing::post};
use tower_referral::{Keyring, ReferralKey, ReferralLayer, SigningKey};

/// The same for everybody, so that any cache may keep it. The script sends nothing where the URL has no
/// parameter of the program.
const PAGE: &str = r#"<!doctype html><title>A single-page app</title>
<script src="/api/track-landing"></script>
<p>This page comes from a cache. <button id=sign-up>Sign up</button> <output id=answer></output>
<script>
document.getElementById("sign-up").onclick = async () => {
    const response = await fetch("/api/sign-up", {method: "POST"});
    document.getElementById("answer").textContent = await response.text();
};
</script>
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let referrals = ReferralLayer::builder(keyring).build()?;
    let app = Router::new()
        .route_service("/api/track-landing", referrals.capture_endpoint())
        .route("/api/sign-up", post(sign_up))
        .layer(referrals)
        // Added after the layer, and so outside it: as if a CDN had answered.
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
