//! A consent banner. Until the visitor has answered, nothing is written: the page itself holds the
//! landing's referral, sealed into a carry token, and hands it back with the answer.
//!
//! ```sh
//! cargo run --example consent
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123> and answer the banner.

use std::collections::HashMap;

use axum::extract::{Form, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Router, routing::get, routing::post};
use tower_http::csrf::CsrfLayer;
use tower_referral::{
    Capture, Consent, Forget, Keyring, Referral, ReferralLayer, SigningKey, carry::Carry,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let carry = Carry::builder(keyring.clone()).purpose("consent").build()?;
    let referrals = ReferralLayer::builder(keyring)
        .consent(|request| choice(request.headers()))
        .global_privacy_control()
        .build()?;
    let app = Router::new()
        .route("/", get(home))
        .route("/consent", post(answer))
        // Or another site gives consent in a visitor's name, with a token of its own.
        .layer(CsrfLayer::new())
        .with_state(carry)
        .layer(referrals);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123");
    Ok(axum::serve(listener, app).await?)
}

/// What the visitor said, by the cookie `consent`. Of two cookies that disagree, the refusal counts.
fn choice(headers: &HeaderMap) -> Consent {
    let has = |pair: &[u8]| {
        let mut lines = headers.get_all(header::COOKIE).iter();
        lines.any(|line| {
            let mut pairs = line.as_bytes().split(|byte| *byte == b';');
            pairs.any(|cookie| cookie.trim_ascii() == pair)
        })
    };
    match (has(b"consent=denied"), has(b"consent=granted")) {
        (true, _) => Consent::Denied,
        (_, true) => Consent::Granted,
        _ => Consent::Unknown,
    }
}

async fn home(
    State(carry): State<Carry>,
    headers: HeaderMap,
    referral: Option<Referral>,
) -> Html<String> {
    let key = referral.as_ref().and_then(Referral::key);
    let key = key.map_or("Nobody", |key| key.as_str());
    let banner = if choice(&headers) == Consent::Unknown {
        let token = referral.as_ref().and_then(|it| it.carry_token(&carry).ok());
        let token = token.map_or(String::new(), |token| token.to_string());
        format!(
            "<form method=post action=/consent><p>May we remember who sent you? \
             <input type=hidden name=landing value=\"{token}\"> \
             <button name=answer value=granted>Yes</button> \
             <button name=answer value=denied>No</button></form>"
        )
    } else {
        String::new()
    };
    Html(format!(
        "<p>{key} sent you.{banner}<p><a href=/>Again</a>\n"
    ))
}

/// This request's own cookies can't say yet what it is about to set, so the handler tells the layer.
async fn answer(State(carry): State<Carry>, Form(form): Form<HashMap<String, String>>) -> Response {
    let remember = |answer| {
        let cookie = format!("consent={answer}; Path=/; Max-Age=15552000; SameSite=Lax; HttpOnly");
        [(header::SET_COOKIE, cookie)]
    };
    if form.get("answer").is_some_and(|answer| answer == "granted") {
        // A token that doesn't open counts as no referral.
        let referral = form.get("landing").and_then(|it| carry.open(it).ok());
        let capture = referral.map(|it| Capture::referral(it).consent(Consent::Granted));
        (remember("granted"), capture, Redirect::to("/")).into_response()
    } else {
        (remember("denied"), Forget, Redirect::to("/")).into_response()
    }
}
