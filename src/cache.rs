//! Keeps shared caches away from a response. `Set-Cookie` alone doesn't stop a shared cache from
//! storing a response (RFC 9111 section 7.3), and one partner's cookie must never be served to
//! strangers.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

/// Makes `Cache-Control` say `private, no-cache`, and takes away what would override it for a CDN.
///
/// A `no-store` stays, because it is stricter, and so does a `no-transform`, which is about
/// something else. Every other directive is moot beside `no-cache`.
pub(crate) fn make_private(headers: &mut HeaderMap) {
    let has = |directive: &str| {
        headers.get_all(CACHE_CONTROL).iter().any(|line| {
            line.as_bytes()
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(directive.as_bytes()))
        })
    };
    let value = match (has("no-store"), has("no-transform")) {
        (false, false) => "private, no-cache",
        (true, false) => "private, no-cache, no-store",
        (false, true) => "private, no-cache, no-transform",
        (true, true) => "private, no-cache, no-store, no-transform",
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
    while let Some(name) = headers.keys().find(|name| is_for_cdns(name)).cloned() {
        headers.remove(name);
    }
}

/// Headers that CDNs prefer to `Cache-Control`: the targeted ones of RFC 9213
/// (`CDN-Cache-Control`, `Cloudflare-CDN-Cache-Control` and so on), and those from before it.
fn is_for_cdns(name: &HeaderName) -> bool {
    name.as_str().ends_with("-cache-control")
        || matches!(
            name.as_str(),
            "surrogate-control" | "edge-control" | "x-accel-expires"
        )
}
