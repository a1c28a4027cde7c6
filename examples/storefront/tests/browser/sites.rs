//! What is between the browser and the shop, and around the shop: a wire that writes down what the
//! browser really sent and answers some pages itself, as a CDN does, and sites of other people's that
//! lead to the shop in every way they can think of.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HeaderMap, SET_COOKIE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// No body of a test is longer, in bytes.
const MAX_BODY_LEN: usize = 1 << 20;

/// A request as the browser sent it, and the answer as the shop gave it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) answer: HeaderMap,
}

impl Seen {
    /// A header of the request, empty if it isn't there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// `Sec-Fetch-Site`, `-Mode` and `-Dest`, as far as the browser sent them.
    pub(crate) fn fetch_metadata(&self) -> [&str; 3] {
        ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"].map(|name| self.header(name))
    }

    /// The names of the cookies that came along.
    pub(crate) fn cookie_names(&self) -> Vec<&str> {
        let lines = self.headers.get_all(COOKIE).iter();
        lines
            .flat_map(|line| line.to_str().unwrap().split("; "))
            .map(|pair| pair.split_once('=').unwrap().0)
            .collect()
    }

    pub(crate) fn sets_cookie(&self) -> bool {
        self.answer.contains_key(SET_COOKIE)
    }
}

/// A prefix of paths that the wire strips, as a proxy does in front of a shop that isn't alone.
pub(crate) const PREFIX: &str = "/behind-a-proxy";

/// A page that the wire answers itself, whatever its query: the shop never hears of it.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    content_type: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    is_for_once: bool,
}

impl Cached {
    /// A page, which says that it is there.
    pub(crate) fn html(body: &str) -> Self {
        Self {
            content_type: "text/html; charset=utf-8",
            headers: Vec::new(),
            body: format!(
                "<!DOCTYPE html><html lang=en><title>cached</title>\
                 <link rel=icon href=data:,><body><p>From the cache</p>{body}"
            ),
            is_for_once: false,
        }
    }

    pub(crate) fn script(body: &str) -> Self {
        Self {
            content_type: "text/javascript",
            body: body.to_owned(),
            ..Self::html("")
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The next request gets it, and those after that come to the shop.
    pub(crate) fn once(mut self) -> Self {
        self.is_for_once = true;
        self
    }

    fn answer(self) -> Response {
        let headers = self.headers.into_iter();
        let headers = headers.chain([("content-type", self.content_type)]);
        let mut response = self.body.into_response();
        for (name, value) in headers {
            let value = value.parse().unwrap();
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Hands every request on to the shop as it is, and the answer back.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    shop: Mutex<SocketAddr>,
    seen: Mutex<Vec<Seen>>,
    /// By host name and path.
    cache: Mutex<HashMap<String, Cached>>,
}

impl Wire {
    pub(crate) async fn to(shop: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let wire = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            shop: Mutex::new(shop),
            seen: Mutex::default(),
            cache: Mutex::default(),
        }));
        let app = Router::new().fallback(forward).with_state(wire.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        wire
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// Answers a page of a host itself from now on, as a CDN does, or a bot challenge.
    pub(crate) fn cache(&self, host: &str, path: &str, page: Cached) {
        open(&self.0.cache).insert(format!("{host}{path}"), page);
    }

    fn cached(&self, host: &str, path: &str) -> Option<Cached> {
        let mut cache = open(&self.0.cache);
        let (name, _) = host.split_once(':').unwrap_or((host, ""));
        let page = format!("{name}{path}");
        if cache.get(&page)?.is_for_once {
            cache.remove(&page)
        } else {
            cache.get(&page).cloned()
        }
    }

    /// Everything so far, the oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        open(&self.0.seen).clone()
    }

    /// What was sent to that path and query.
    pub(crate) fn seen_at(&self, target: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.target == target);
        seen
    }
}

async fn forward(State(wire): State<Wire>, request: Request) -> Response {
    let host = request.headers()["host"].to_str().unwrap();
    if let Some(page) = wire.cached(host, request.uri().path()) {
        let response = page.answer();
        open(&wire.0.seen).push(Seen {
            method: request.method().clone(),
            target: request.uri().to_string(),
            headers: request.headers().clone(),
            status: response.status(),
            answer: response.headers().clone(),
        });
        return response;
    }
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_LEN).await.unwrap();
    let (method, headers) = (parts.method.clone(), parts.headers.clone());
    let target = parts.uri.to_string();
    if let Some(rest) = target.strip_prefix(PREFIX) {
        parts.uri = rest.parse::<Uri>().unwrap();
    }

    let shop = *open(&wire.0.shop);
    let stream = TokioIo::new(TcpStream::connect(shop).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::from_parts(parts, Full::new(body));
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body: Bytes = to_bytes(Body::new(body), MAX_BODY_LEN).await.unwrap();

    open(&wire.0.seen).push(Seen {
        method,
        target,
        headers,
        status: parts.status,
        answer: parts.headers.clone(),
    });
    Response::from_parts(parts, body.into())
}

/// A server for other people's sites, which differ by their host name.
pub(crate) struct Sites {
    port: u16,
    pages: Pages,
}

type Pages = Arc<Mutex<HashMap<String, Page>>>;

#[derive(Clone)]
enum Page {
    Html(String),
    Redirect(String),
}

impl Sites {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pages = Pages::default();
        let app = Router::new().fallback(show).with_state(pages.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, pages }
    }

    /// Puts a page on a site and gives its URL.
    pub(crate) fn page(&self, site: &str, path: &str, body: &str) -> String {
        let html = format!(
            "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{site}</title>\
             <link rel=icon href=data:,><body>{body}"
        );
        self.put(site, path, Page::Html(html))
    }

    /// Puts a redirect on a site and gives its URL.
    pub(crate) fn redirect(&self, site: &str, path: &str, to: &str) -> String {
        self.put(site, path, Page::Redirect(to.to_owned()))
    }

    pub(crate) fn origin(&self, site: &str) -> String {
        format!("http://{site}.localhost:{}", self.port)
    }

    fn put(&self, site: &str, path: &str, page: Page) -> String {
        let url = format!("{}{path}", self.origin(site));
        open(&self.pages).insert(url.clone(), page);
        url
    }
}

async fn show(State(pages): State<Pages>, request: Request) -> Response {
    let host = request.headers()["host"].to_str().unwrap();
    let url = format!("http://{host}{}", request.uri());
    let page = open(&pages).get(&url).cloned();
    match page {
        Some(Page::Html(html)) => Html(html).into_response(),
        Some(Page::Redirect(to)) => Redirect::to(&to).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
