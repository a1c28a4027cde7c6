//! Referrals on the server, in any store of tower-sessions, or with a copy in the application's own
//! session.
//!
//! ```sh
//! cargo run --all-features --example sessions             # on the server
//! cargo run --all-features --example sessions -- session  # a copy in the application's session
//! ```
//!
//! Then open <http://127.0.0.1:3000/?aff=PARTNER_123>. With a SQL or Redis store only the line that makes
//! the store differs, and the feature: the released ones are for tower-sessions 0.14. The storefront
//! (`cargo run -p storefront -- --keep server --store sqlite://referrals.db`) shows each of them.

use std::error::Error;

use axum::response::Html;
use axum::routing::get;
use axum::{Extension, Router};
use tower_referral::{
    AppSession, Keyring, Referral, ReferralLayer, Referrals, ServerSide, SigningKey, Storage,
};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keep = std::env::args().nth(1);
    let store = MemoryStore::default();
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let storage: Storage = match keep.as_deref() {
        // A SQL store keeps expired records: there it is `.delete_expired(store.clone())`.
        None | Some("server") => ServerSide::new(store.clone(), keyring)
            .store_expires_records()
            .into(),
        Some("session") => AppSession::new(&store, keyring).into(),
        Some(other) => return Err(format!("`{other}` is neither server nor session").into()),
    };
    let app = Router::new()
        .route("/", get(home))
        .route("/login", get(sign_in))
        .layer(ReferralLayer::builder(storage).build()?)
        // Outside, so that its session is there when a request reaches the layer of the referrals.
        // The application keeps its sessions in the same store as the layer its records.
        .layer(SessionManagerLayer::new(store).with_secure(false));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://{}/?aff=PARTNER_123", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn home(
    referral: Option<Referral>,
    referrals: Referrals,
    Extension(session): Extension<Session>,
) -> Html<String> {
    let key = referral.as_ref().and_then(Referral::key);
    let key = key.map_or("nobody", |key| key.as_str());
    // Store these with the sign-up: `ReferralLayer::erase` deletes what is kept under them.
    let ids = referrals.visitor_ids().iter().map(ToString::to_string);
    let ids = ids.collect::<Vec<_>>().join(", ");
    let user: Option<String> = session.get("user").await.unwrap_or_default();
    let copy: Option<serde_json::Value> = session.get(AppSession::KEY).await.unwrap_or_default();
    Html(format!(
        "<p>You were referred by {key}.<p>On the server under: {ids}.<p>Signed in as {user:?}, \
         and the session's copy is {copy:?}.<p><a href=/>Again</a> <a href=/login>Sign in</a>"
    ))
}

/// Signing in renews the session's ID, and the referral is still there. The application saves its session
/// here, so a copy goes along with it.
async fn sign_in(Extension(session): Extension<Session>) -> Html<&'static str> {
    let renewed = session.cycle_id().await.is_ok();
    let signed_in = renewed && session.insert("user", "ada").await.is_ok();
    Html(if signed_in {
        "<p>Signed in. <a href=/>Back</a>"
    } else {
        "<p>The session store can't be reached: try again in a moment."
    })
}
