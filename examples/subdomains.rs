//! Several hosts of one site: visitors land on `www` and sign up on `app`, and both see the
//! referral, because its cookie belongs to the domain above them.
//!
//! ```sh
//! cargo run --example subdomains
//! ```
//!
//! Open <http://www.shop.localhost:3000/?aff=PARTNER_123>, then follow the link to
//! <http://app.shop.localhost:3000/>. Browsers take every name under `localhost` for this machine;
//! where one doesn't, the two names belong into `/etc/hosts`.
//!
//! With several servers, all of them need the same key, program names and domain.

use axum::response::Html;
use axum::{Router, routing::get};
use tower_referral::{Keyring, ReferralKey, ReferralLayer, SignedCookie, SigningKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    // In production `.domain("example.com")` and nothing else: the cookie is then
    // `__Secure-referral`. `plain_http` is for this run without TLS only.
    let cookie = SignedCookie::new(keyring)
        .domain("shop.localhost")
        .plain_http();
    let referrals = ReferralLayer::builder(cookie).build()?;
    let app = Router::new().route("/", get(home)).layer(referrals);

    // One process plays both hosts.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://www.shop.localhost:3000/?aff=PARTNER_123");
    Ok(axum::serve(listener, app).await?)
}

async fn home(referral: Option<ReferralKey>) -> Html<String> {
    let key = referral.map_or("Nobody".to_owned(), |key| key.to_string());
    Html(format!(
        "<p>{key} sent you.<p><a href=http://www.shop.localhost:3000/>www</a> \
         <a href=http://app.shop.localhost:3000/>app</a>\n"
    ))
}
