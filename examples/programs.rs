//! Several programs side by side: partners, who are paid and keep a visitor for 60 days by first
//! touch, and friends, who bring friends. Each has its own parameters, rule, window and cookie.
//!
//! ```sh
//! cargo run --example programs
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>, then <http://127.0.0.1:3000/?ref=ada>: both are
//! kept. Then <http://127.0.0.1:3000/?aff=PARTNER_456>: the first partner keeps the credit.

use axum::response::{Html, IntoResponse};
use axum::{Router, routing::get};
use time::Duration;
use tower_referral::{
    Attribution, ForgetProgram, KeyRule, Keyring, Program, Referral, ReferralLayer, Referrals,
    SignedCookie, SigningKey,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let partners = Program::new("partners")
        .params(["aff", "via"])
        .attribution(Attribution::FirstTouch)
        .window(Duration::days(60))
        // `?aff=footer` is somebody's label and no partner.
        .key_rule(KeyRule::ascii().only_if(|key| key.starts_with("PARTNER_")));
    let friends = Program::new("friends").params(["ref"]);

    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    // Where a handler asks for one `Referral` only, the first program that holds one answers.
    let referrals = ReferralLayer::builder(SignedCookie::new(keyring))
        .program(partners)
        .program(friends)
        .build()?;
    let app = Router::new()
        .route("/", get(home))
        .route("/redeemed", get(redeemed))
        .layer(referrals);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123 and then http://127.0.0.1:3000/?ref=ada");
    Ok(axum::serve(listener, app).await?)
}

async fn home(referrals: Referrals) -> Html<String> {
    let of = |program| match referrals.get(program).map(Referral::key) {
        Some(key) => key.to_string(), // of `A-Z a-z 0-9 . _ ~ - @ + : =`: nothing to escape
        None => "nobody".to_owned(),
    };
    Html(format!(
        "<p>Partner: {}. Friend: {}.<p><a href=/redeemed>Thank the friend</a>\n",
        of("partners"),
        of("friends")
    ))
}

/// The friend has had their reward; the partner's referral stays.
async fn redeemed() -> impl IntoResponse {
    (
        ForgetProgram::new("friends"),
        Html("<p>Your friend was rewarded. <a href=/>Back</a>\n"),
    )
}
