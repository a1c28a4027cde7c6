//! The same with tower-cookies: its layer, a middleware that signs on a landing, and handlers that
//! verify when they ask. So a request whose handler doesn't ask verifies nothing.

use std::hint::black_box;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, Response};
use tower_cookies::cookie::SameSite;
use tower_cookies::{Cookie, CookieManagerLayer, Cookies, Key};

use crate::page;
use crate::referred::{COOKIE, DAYS, Parameters, landing_key};

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let secret: Vec<u8> = (0..64).collect();
    Key::from(&secret)
});

pub(crate) fn around(router: Router) -> Router {
    router
        .layer(from_fn(keep_referral))
        .layer(CookieManagerLayer::new())
}

async fn keep_referral(
    cookies: Cookies,
    parameters: Parameters,
    request: Request,
    next: Next,
) -> Response {
    if let Some(key) = landing_key(parameters) {
        let cookie = Cookie::build((COOKIE, key))
            .path("/")
            .http_only(true)
            .secure(true)
            .same_site(SameSite::Lax)
            .max_age(DAYS)
            .build();
        cookies.signed(&KEY).add(cookie);
    }
    next.run(request).await
}

fn kept(cookies: &Cookies) -> Option<String> {
    let cookie = cookies.signed(&KEY).get(COOKIE)?;
    Some(cookie.value().to_owned())
}

pub(crate) async fn asks(cookies: Cookies) {
    black_box(kept(&cookies));
}

pub(crate) async fn shows(cookies: Cookies) -> Html<String> {
    page(kept(&cookies).as_deref().unwrap_or("nobody"))
}
