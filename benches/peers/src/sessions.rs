//! The same with tower-sessions and its store in memory: the key is in the session, and the cookie
//! holds the session's random ID, unsigned, as is its default.

use std::hint::black_box;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, Response};
use tower_sessions::cookie::SameSite;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

use crate::page;
use crate::referred::{COOKIE, DAYS, Parameters, landing_key};

const FIELD: &str = "referral";

/// All routers have one store.
pub(crate) fn around() -> impl Fn(Router) -> Router {
    let sessions = SessionManagerLayer::new(MemoryStore::default())
        .with_name(COOKIE)
        .with_same_site(SameSite::Lax)
        .with_expiry(Expiry::OnInactivity(DAYS));
    move |router| router.layer(from_fn(keep_referral)).layer(sessions.clone())
}

async fn keep_referral(
    session: Session,
    parameters: Parameters,
    request: Request,
    next: Next,
) -> Response {
    if let Some(key) = landing_key(parameters) {
        // The page goes out without it, if it must.
        let _ = session.insert(FIELD, key).await;
    }
    next.run(request).await
}

async fn kept(session: &Session) -> Option<String> {
    session.get(FIELD).await.ok().flatten()
}

pub(crate) async fn asks(session: Session) {
    black_box(kept(&session).await);
}

pub(crate) async fn shows(session: Session) -> Html<String> {
    page(kept(&session).await.as_deref().unwrap_or("nobody"))
}
