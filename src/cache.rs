//! Keeps shared caches away from a response. `Set-Cookie` alone doesn't stop a shared cache from
//! storing a response (RFC 9111 section 7.3), and one partner's cookie must never be served to
//! strangers.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

/// Makes `Cache-Control` say `private, no-cache`, and takes away what would override it for a CDN.
///
/// A `no-store` stays, because it is stricter, and so does a `no-transform`, which is about
/// something else. Every other directive is moot beside `no-cache`.
pub(crate) fn make_private(headers: &mut HeaderMap) {
    let (mut no_store, mut no_transform) = (false, false);
    let mut for_cdns = Vec::new();
    for (name, value) in headers.iter() {
        if *name == CACHE_CONTROL {
            for part in value.as_bytes().split(|byte| *byte == b',') {
                let part = part.trim_ascii();
                no_store |= part.eq_ignore_ascii_case(b"no-store");
                no_transform |= part.eq_ignore_ascii_case(b"no-transform");
            }
        } else if is_for_cdns(name) {
            for_cdns.push(name.clone());
        }
    }
    // Checked byte by byte when compiling, not in every response.
    let value = match (no_store, no_transform) {
        (false, false) => const { HeaderValue::from_static("private, no-cache") },
        (true, false) => const { HeaderValue::from_static("private, no-cache, no-store") },
        (false, true) => const { HeaderValue::from_static("private, no-cache, no-transform") },
        (true, true) => {
            const { HeaderValue::from_static("private, no-cache, no-store, no-transform") }
        }
    };
    headers.insert(CACHE_CONTROL, value);
    for name in for_cdns {
        headers.remove(name);
    }
}

/// Headers that CDNs prefer to `Cache-Control`: the targeted ones of RFC 9213
/// (`CDN-Cache-Control`, `Cloudflare-CDN-Cache-Control` and so on), and those from before it.
fn is_for_cdns(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control")
        || matches!(
            name,
            "surrogate-control" | "edge-control" | "x-accel-expires"
        )
}
