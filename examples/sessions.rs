//! Referrals on the server, in any store of tower-sessions, or with a copy in the application's own
//! session.
//!
//! ```sh
//! cargo run --all-features --example sessions                           # on the server, in memory
//! cargo run --all-features --example sessions -- server sqlite://referrals.db
//! cargo run --all-features --example sessions -- session redis://127.0.0.1:6379
//! cargo run --all-features --example sessions -- session postgres://postgres@127.0.0.1/postgres
//! ```
//!
//! Then open <http://127.0.0.1:3000/?aff=PARTNER_123>. The released SQL and Redis stores are for
//! tower-sessions 0.14, hence the feature `tower-sessions-0_14`.

use std::error::Error;

use axum::response::Html;
use axum::routing::get;
use axum::{Extension, Router};
use tower_referral::{
    AppSession, Keep, Keyring, Referral, ReferralLayer, Referrals, ServerSide, SigningKey,
};
use tower_sessions_0_14::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{
    Builder, ClientLike as _, Config, ReconnectPolicy,
};
use tower_sessions_sqlx_store::sqlx::postgres::PgPoolOptions;
use tower_sessions_sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let keep = arguments.next().unwrap_or_else(|| "server".to_owned());
    let url = arguments.next().unwrap_or_else(|| "memory:".to_owned());
    if keep != "server" && keep != "session" {
        return Err(format!("`{keep}` is neither server nor session").into());
    }
    match url.split(':').next() {
        Some("memory") => serve(&keep, MemoryStore::default()).await,
        Some("sqlite") => {
            let file = url.trim_start_matches("sqlite:").trim_start_matches("//");
            let file = SqliteConnectOptions::new()
                .filename(file)
                .create_if_missing(true);
            let store = SqliteStore::new(SqlitePoolOptions::new().connect_with(file).await?);
            store.migrate().await?;
            serve(&keep, store).await
        }
        Some("postgres") => {
            let store = PostgresStore::new(PgPoolOptions::new().connect(&url).await?);
            store.migrate().await?;
            serve(&keep, store).await
        }
        Some("redis") => {
            // Without a policy the client never comes back after Redis was away.
            let client = Builder::from_config(Config::from_url(&url)?)
                .set_policy(ReconnectPolicy::new_constant(0, 200))
                .build()?;
            client.init().await?;
            serve(&keep, RedisStore::new(client)).await
        }
        _ => Err(format!("`{url}` is no store: use memory:, sqlite:, postgres: or redis:").into()),
    }
}

async fn serve(keep: &str, store: impl SessionStore + Clone) -> Result<(), Box<dyn Error>> {
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let keep: Keep = if keep == "server" {
        ServerSide::new(store.clone(), keyring).into()
    } else {
        AppSession::new(store.clone(), keyring).into()
    };
    let app = Router::new()
        .route("/", get(home))
        .route("/login", get(sign_in))
        .layer(ReferralLayer::builder(keep).build()?)
        // Outside, so that its session is there when a request reaches the layer of the referrals.
        // The application keeps its sessions in the same store as the layer its records.
        .layer(SessionManagerLayer::new(store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://{}/?aff=PARTNER_123", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn home(
    referral: Option<Referral>,
    referrals: Referrals,
    Extension(session): Extension<Session>,
) -> Html<String> {
    let key = referral.map_or("nobody".to_owned(), |referral| referral.key().to_string());
    // Note these at sign-up: `ReferralLayer::erase` deletes what is kept under them.
    let ids: Vec<_> = referrals
        .visitor_ids()
        .iter()
        .map(ToString::to_string)
        .collect();
    let user: Option<String> = session.get("user").await.unwrap_or_default();
    let copy: Option<serde_json::Value> = session.get(AppSession::KEY).await.unwrap_or_default();
    Html(format!(
        "<p>You were referred by {key}.<p>On the server under {ids:?}.<p>Signed in as {user:?}, \
         and the session's copy is {copy:?}.<p><a href=/>Again</a> <a href=/login>Sign in</a>"
    ))
}

/// Signing in renews the session's ID, and the referral is still there.
async fn sign_in(Extension(session): Extension<Session>) -> Html<&'static str> {
    let renewed = session.cycle_id().await.is_ok();
    let signed_in = renewed && session.insert("user", "ada").await.is_ok();
    Html(if signed_in {
        "<p>Signed in. <a href=/>Back</a>"
    } else {
        "<p>The session store can't be reached: try again in a moment."
    })
}
