//! Several programs side by side: partners, who are paid and keep a visitor for 60 days by first
//! touch, and friends, who bring friends. Each has its own parameters, rule, window and cookie.
//!
//! ```sh
//! cargo run --example programs
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>, then <http://127.0.0.1:3000/?ref=ada>: both are
//! kept. Then <http://127.0.0.1:3000/?aff=PARTNER_456>: the first partner keeps the credit.

use std::time::Duration;

use axum::response::{Html, IntoResponse, Redirect};
use axum::{Router, routing::get, routing::post};
use tower_referral::{
    Attribution, ForgetProgram, KeyRule, Keyring, Program, Referral, ReferralLayer, Referrals,
    SigningKey,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let partners = Program::new("partners")
        .params(["aff", "via"])
        .attribution(Attribution::FirstTouch)
        .window(Duration::from_secs(60 * 86_400))
        // `?aff=footer` is somebody's label and no partner.
        .key_rule(KeyRule::ascii().only_if(|key| key.starts_with("PARTNER_")));
    let friends = Program::new("friends").params(["ref"]);

    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    // Where a handler asks for one `Referral` only, the first program that holds one answers.
    let referrals = ReferralLayer::builder(keyring)
        .program(partners)
        .program(friends)
        .build()?;
    let app = Router::new()
        .route("/", get(home))
        .route("/redeemed", post(redeemed))
        .layer(referrals);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123 and then http://127.0.0.1:3000/?ref=ada");
    Ok(axum::serve(listener, app).await?)
}

async fn home(referrals: Referrals) -> Html<String> {
    let of = |program| match referrals.get(program).and_then(Referral::key) {
        Some(key) => key.to_string(), // of `A-Z a-z 0-9 . _ ~ - @ + : =`: nothing to escape
        None => "nobody".to_owned(),
    };
    Html(format!(
        "<p>Partner: {}. Friend: {}.<form method=post action=/redeemed><button>Thank the friend</button></form>\n",
        of("partners"),
        of("friends")
    ))
}

/// The friend has had their reward; the partner's referral stays. A `POST`, because anybody's link can
/// open a `GET`.
async fn redeemed() -> impl IntoResponse {
    (ForgetProgram::new("friends"), Redirect::to("/"))
}
