//! A request without anything of ours, and its response, go through byte for byte.

use std::sync::{Arc, Mutex};

use crate::common::{COOKIE_NAME, Shop, at_once, page_visit, with_cookie_line};
use http::{Request, Response, Version};
use tower::{Layer as _, Service as _, service_fn};

/// Everything of a message that can go over the wire, in order.
fn head_of<T: std::fmt::Debug>(start: &T, version: Version, headers: &http::HeaderMap) -> String {
    let lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes(), value.is_sensitive()))
        .collect();
    format!("{start:?} {version:?} {lines:?}")
}

fn request_head<B>(request: &Request<B>) -> String {
    let start = (request.method(), request.uri());
    head_of(&start, request.version(), request.headers())
}

fn response_head<B>(response: &Response<B>) -> String {
    head_of(&response.status(), response.version(), response.headers())
}

fn odd_response() -> Response<String> {
    let mut response = Response::builder()
        .status(203)
        .version(Version::HTTP_10)
        .header("set-cookie", "a=1; Path=/")
        .header("cache-control", "public, s-maxage=600")
        .header("cdn-cache-control", "max-age=600")
        .header("x-twice", "one")
        .header("etag", "W/\"1\"")
        .header("vary", "cookie")
        .body("body".to_owned())
        .unwrap();
    let headers = response.headers_mut();
    headers.append(
        "set-cookie",
        http::HeaderValue::from_bytes(b"b=\xff; Path=/x").unwrap(),
    );
    headers.append("x-twice", "two".parse().unwrap());
    response.extensions_mut().insert("an extension");
    response
}

#[test]
fn without_our_parameter_and_without_a_change_nothing_is_touched() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    let post = Request::post("/api?q=1")
        .version(Version::HTTP_2)
        .header("x-a", "1")
        .body("sent".to_owned())
        .unwrap();
    let cases = [
        ("a plain page", page_visit("/")),
        ("another query", page_visit("/?q=1&affiliate=2&%zz")),
        ("a post", post),
        (
            "other cookies",
            with_cookie_line("/", b"a=\xff; b=\"2; c".as_slice()),
        ),
        (
            "a returning visitor",
            with_cookie_line("/", format!("x=1; {COOKIE_NAME}={value}; y=2")),
        ),
        (
            "a forged cookie",
            with_cookie_line("/", format!("{COOKIE_NAME}=forged")),
        ),
        ("our parameter in the path", page_visit("/aff=K/ref")),
    ];
    for (case, request) in cases {
        let sent = request_head(&request);
        let body = request.body().clone();
        let received = Arc::new(Mutex::new(String::new()));
        let note = Arc::clone(&received);
        let mut service = shop
            .layer
            .layer(service_fn(move |request: Request<String>| {
                *note.lock().unwrap() = format!("{}{}", request_head(&request), request.body());
                async { Ok::<_, std::convert::Infallible>(odd_response()) }
            }));
        let Ok(response) = at_once(service.call(request));
        assert_eq!(
            *received.lock().unwrap(),
            format!("{sent}{body}"),
            "{case}: the request"
        );
        assert_eq!(
            response_head(&response),
            response_head(&odd_response()),
            "{case}"
        );
        assert_eq!(response.body(), "body", "{case}");
        assert_eq!(response.extensions().get(), Some(&"an extension"), "{case}");
        assert_eq!(response.extensions().len(), 1, "{case}: nothing is added");
    }
}

#[test]
fn even_a_landing_reaches_the_handler_byte_for_byte() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=OLD");
    let request = with_cookie_line(
        "/p?x=1&aff=K&y=%zz",
        format!("a=\"1; {COOKIE_NAME}={value}"),
    );
    let sent = request_head(&request);
    let received = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&received);
    let page = shop
        .answering(move |request| {
            *note.lock().unwrap() = request_head(request);
            odd_response()
        })
        .send(request);
    assert_eq!(*received.lock().unwrap(), sent);
    let response = &page.response;
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (203, Version::HTTP_10)
    );
    assert_eq!(response.body(), "body");
    assert_eq!(response.extensions().get(), Some(&"an extension"));
}

#[test]
fn others_cookies_stay_in_order_and_ours_is_appended() {
    let page = Shop::new()
        .answering(|_| odd_response())
        .send(page_visit("/?aff=K"));
    let lines: Vec<_> = page
        .response
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|line| line.as_bytes().to_vec())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], b"a=1; Path=/");
    assert_eq!(lines[1], b"b=\xff; Path=/x");
    assert!(lines[2].starts_with(COOKIE_NAME.as_bytes()));
    assert_eq!(page.header("etag"), Some("W/\"1\""));
    assert_eq!(page.header("vary"), Some("cookie"));
    assert_eq!(page.response.headers().get_all("x-twice").iter().count(), 2);
}
