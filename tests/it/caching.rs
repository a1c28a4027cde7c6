//! No shared cache may keep a response that carries our cookie, or that a landing got.

use crate::common::{Shop, page_visit};
use http::{HeaderMap, Response, StatusCode};

in_every_way! {
    a_response_with_our_cookie_is_private_whatever_the_handler_said,
    so_is_a_response_to_our_parameter_captured_or_not,
    a_response_without_our_cookie_or_parameter_is_left_alone,
    the_cookie_goes_on_every_final_status,
    a_1xx_is_untouched,
}

/// The header lines that a handler sends, and what is left of them.
type Lines = &'static [(&'static str, &'static str)];

fn answering(lines: Lines) -> Shop {
    Shop::new().answering(move |_| {
        let mut response = Response::new(String::new());
        for (name, value) in lines {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    })
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    headers
        .iter()
        .filter(|(name, _)| *name != "set-cookie")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

#[rustfmt::skip]
const CASES: &[(Lines, &[&str])] = &[
    (&[], &["cache-control: private, no-cache"]),
    (&[("cache-control", "public, max-age=600")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "s-maxage=600")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "PUBLIC"), ("cache-control", "S-MaxAge=9")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "private=\"set-cookie\"")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "no-cache=\"set-cookie\"")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "immutable, must-revalidate, stale-while-revalidate=60")], &["cache-control: private, no-cache"]),
    (&[("cache-control", "no-store")], &["cache-control: private, no-cache, no-store"]),
    (&[("cache-control", "public"), ("cache-control", "max-age=0,No-Store")], &["cache-control: private, no-cache, no-store"]),
    (&[("cache-control", "no-transform, public")], &["cache-control: private, no-cache, no-transform"]),
    (&[("cache-control", "no-transform ,no-store")], &["cache-control: private, no-cache, no-store, no-transform"]),
    (&[("cache-control", "x-no-store-x")], &["cache-control: private, no-cache"]),
    (&[("cdn-cache-control", "max-age=600"), ("x-other", "1")], &["x-other: 1", "cache-control: private, no-cache"]),
    (&[("cloudflare-cdn-cache-control", "max-age=600")], &["cache-control: private, no-cache"]),
    (&[("vercel-cdn-cache-control", "max-age=600"), ("netlify-cdn-cache-control", "public")], &["cache-control: private, no-cache"]),
    (&[("surrogate-control", "max-age=600")], &["cache-control: private, no-cache"]),
    (&[("edge-control", "cache-maxage=600")], &["cache-control: private, no-cache"]),
    (&[("x-accel-expires", "600")], &["cache-control: private, no-cache"]),
    (&[("surrogate-control", "a"), ("surrogate-control", "b"), ("cdn-cache-control", "c")], &["cache-control: private, no-cache"]),
];

fn a_response_with_our_cookie_is_private_whatever_the_handler_said() {
    for (sent, expected) in CASES {
        let page = answering(sent).send(page_visit("/?aff=K"));
        assert!(page.changed(), "{sent:?}");
        let mut left = lines(page.response.headers());
        left.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(left, expected, "{sent:?}");
    }
}

fn so_is_a_response_to_our_parameter_captured_or_not() {
    // (case, request)
    let mut head = page_visit("/?aff=K");
    *head.method_mut() = http::Method::HEAD;
    let mut image = page_visit("/x.gif?aff=K");
    image
        .headers_mut()
        .insert("sec-fetch-dest", "image".parse().unwrap());
    let cases = [
        ("an invalid key", page_visit("/?aff=%zz")),
        ("an empty key", page_visit("/?ref")),
        ("HEAD", head),
        ("an image", image),
    ];
    let shop = Shop::new().answering(|_| {
        let mut response = Response::new(String::new());
        let headers = response.headers_mut();
        headers.insert("cache-control", "public, s-maxage=600".parse().unwrap());
        headers.insert("cdn-cache-control", "max-age=600".parse().unwrap());
        response
    });
    for (case, request) in cases {
        let page = shop.send(request);
        assert!(!page.changed(), "{case}");
        let left = lines(page.response.headers());
        assert_eq!(left, ["cache-control: private, no-cache"], "{case}");
    }
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=K");
    let page = visitor.visit("/?aff=K");
    assert_eq!(page.reason(), "same_key");
    assert!(!page.changed() && page.is_private());
}

fn a_response_without_our_cookie_or_parameter_is_left_alone() {
    for (sent, _) in CASES {
        let shop = answering(sent);
        let unchanged: Vec<_> = sent
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let stranger = shop.send(page_visit("/?q=1"));
        assert_eq!(lines(stranger.response.headers()), unchanged, "{sent:?}");
        let mut visitor = shop.visitor();
        visitor.visit("/?aff=K");
        let page = visitor.visit("/");
        assert_eq!(page.key(), Some("K"));
        assert_eq!(
            lines(page.response.headers()),
            unchanged,
            "{sent:?}, returning"
        );
    }
}

fn the_cookie_goes_on_every_final_status() {
    for status in [
        200, 201, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 418, 429, 500,
        502, 503, 599, 999,
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let shop = Shop::new().answering(move |_| {
            let mut response = Response::new("body".to_owned());
            *response.status_mut() = status;
            response
        });
        let mut visitor = shop.visitor();
        let page = visitor.visit("/?aff=K");
        assert_eq!(page.response.status(), status);
        assert!(page.changed() && page.is_private(), "{status}");
        assert_eq!(
            page.response.body(),
            "body",
            "{status}: the body is never touched"
        );
        assert_eq!(visitor.visit("/").key(), Some("K"), "{status}");
    }
}

fn a_1xx_is_untouched() {
    for status in [100, 101, 102, 103] {
        let shop = Shop::new().answering(move |_| {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
                .headers_mut()
                .insert("link", "</a.css>".parse().unwrap());
            response
        });
        let page = shop.send(page_visit("/?aff=K"));
        assert_eq!(page.key(), Some("K"), "{status}: seen all the same");
        assert_eq!(
            lines(page.response.headers()),
            ["link: </a.css>"],
            "{status}"
        );
        assert!(!page.changed(), "{status}");
    }
}
