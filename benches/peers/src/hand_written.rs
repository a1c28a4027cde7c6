//! What a shop writes today: an axum middleware with axum-extra's `SignedCookieJar` and
//! `Query<HashMap>`. The jar verifies while it is extracted; the key rides on as an extension.

use std::hint::black_box;

use axum::extract::{FromRef, Request};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Router};
use axum_extra::extract::SignedCookieJar;
use axum_extra::extract::cookie::{Cookie, Key, SameSite};

use crate::page;
use crate::referred::{COOKIE, DAYS, Parameters, ReferredBy, landing_key};

#[derive(Clone)]
struct Shop {
    key: Key,
}

impl FromRef<Shop> for Key {
    fn from_ref(shop: &Shop) -> Self {
        shop.key.clone()
    }
}

pub(crate) fn around(router: Router) -> Router {
    let secret: Vec<u8> = (0..64).collect();
    let shop = Shop {
        key: Key::from(&secret),
    };
    router.layer(from_fn_with_state(shop, keep_referral))
}

async fn keep_referral(
    jar: SignedCookieJar,
    parameters: Parameters,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(key) = landing_key(parameters) {
        let cookie = Cookie::build((COOKIE, key.clone()))
            .path("/")
            .http_only(true)
            .secure(true)
            .same_site(SameSite::Lax)
            .max_age(DAYS);
        request.extensions_mut().insert(ReferredBy(key));
        (jar.add(cookie), next.run(request).await).into_response()
    } else {
        if let Some(cookie) = jar.get(COOKIE) {
            let kept = ReferredBy(cookie.value().to_owned());
            request.extensions_mut().insert(kept);
        }
        next.run(request).await
    }
}

pub(crate) async fn asks(referred_by: Option<Extension<ReferredBy>>) {
    black_box(referred_by);
}

pub(crate) async fn shows(referred_by: Option<Extension<ReferredBy>>) -> Html<String> {
    page(
        referred_by
            .as_ref()
            .map_or("nobody", |Extension(by)| by.0.as_str()),
    )
}
