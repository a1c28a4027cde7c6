//! The layer in an axum application, as short as it gets: who sent this visitor?
//!
//! ```sh
//! cargo run --example axum
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>, then <http://127.0.0.1:3000/>.

use axum::{Router, routing::get};
use tower_referral::{Keyring, ReferralKey, ReferralLayer, SigningKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let referrals = ReferralLayer::builder(keyring).build()?;

    let app = Router::new().route("/", get(home)).layer(referrals);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123");
    Ok(axum::serve(listener, app).await?)
}

async fn home(referral: Option<ReferralKey>) -> String {
    match referral {
        Some(key) => format!("Welcome! {key} sent you."),
        None => "Welcome!".to_owned(),
    }
}
