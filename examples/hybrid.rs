//! Together with another script: `PartneroJS`, or the shop's own old code, keeps a key in a cookie of its
//! own, unsigned. The layer reads it where it has seen no landing itself; a landing ranks higher.
//!
//! ```sh
//! cargo run --example hybrid
//! ```
//!
//! Open <http://127.0.0.1:3000/>, let the other script write its cookie, then open
//! <http://127.0.0.1:3000/?aff=PARTNER_123>.

use axum::response::Html;
use axum::{Router, routing::get};
use tower_referral::{Keyring, Program, Referral, ReferralLayer, SigningKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    // The program `default` with its own parameters. To move from an unsigned cookie of your own,
    // name that one here for as long as such cookies live.
    let program = Program::default().fallback_cookies(["partnero_partner"]);
    let referrals = ReferralLayer::builder(keyring).program(program).build()?;
    let app = Router::new().route("/", get(home)).layer(referrals);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/");
    Ok(axum::serve(listener, app).await?)
}

async fn home(referral: Option<Referral>) -> Html<String> {
    let known = match referral {
        Some(referral) => format!(
            "{} sent you, by a {} ({}).",
            referral.key().map_or("a click", |key| key.as_str()),
            referral.source().as_str(),
            referral.parameter().unwrap_or("no parameter")
        ),
        None => "Nobody sent you.".to_owned(),
    };
    Html(format!(
        "<p>{known}<p><button onclick=\"document.cookie = 'partnero_partner=FROM_A_SCRIPT; Path=/'; \
         location = '/'\">Let the other script write its cookie</button>\n"
    ))
}
