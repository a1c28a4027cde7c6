//! A payment webhook: the payment provider calls, and its request has no visitor's cookie. The
//! checkout seals the referral into a carry token and gives it to the provider with the payment
//! (Stripe: `client_reference_id`), and the webhook opens it.
//!
//! ```sh
//! cargo run --example webhook
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>, go to the checkout, pay, and read what the webhook
//! prints in the terminal.

use std::collections::HashMap;

use axum::extract::{Form, State};
use axum::response::Html;
use axum::{Router, routing::get, routing::post};
use tower_referral::{Keyring, Referral, ReferralLayer, SigningKey, carry::Carry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let carry = Carry::builder(keyring.clone())
        .purpose("payment")
        .audience("shop.example")
        .build()?;
    let referrals = ReferralLayer::builder(keyring)
        .stand_down("/checkout") // there a landing overwrites nothing
        .build()?;
    let app = Router::new()
        .route(
            "/",
            get(async || Html("<p><a href=/checkout>Checkout</a>\n")),
        )
        .route("/checkout", get(checkout))
        .layer(referrals)
        // Outside the layer: whatever it learns comes from the token.
        .route("/webhook", post(webhook))
        .with_state(carry);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123");
    Ok(axum::serve(listener, app).await?)
}

async fn checkout(State(carry): State<Carry>, referral: Option<Referral>) -> Html<String> {
    let token = referral.and_then(|referral| referral.carry_token(&carry).ok());
    let token = token.map_or(String::new(), |token| token.to_string());
    // In a shop this goes into the call that creates the payment. The form stands in for the provider.
    Html(format!(
        "<form method=post action=/webhook><input type=hidden name=order value=ORDER-1>\
         <input name=client_reference_id size=100 value=\"{token}\"> <button>Pay</button></form>\n"
    ))
}

/// A real one checks the provider's signature first.
async fn webhook(State(carry): State<Carry>, Form(event): Form<HashMap<String, String>>) -> String {
    let order = event.get("order").map_or("", String::as_str);
    let token = event.get("client_reference_id").map_or("", String::as_str);
    // A token that doesn't open counts as no referral: the payment goes on.
    let answer = match carry.open(token) {
        Ok(referral) => format!(
            "{order:?} is paid, and {} gets the credit since {}.\n",
            referral.key().map_or("a click", |key| key.as_str()),
            referral.captured_at()
        ),
        Err(_) if token.is_empty() => format!("{order:?} is paid. Nobody referred it.\n"),
        Err(error) => format!("{order:?} is paid. Nobody gets credit: {error}.\n"),
    };
    print!("{answer}");
    answer
}
