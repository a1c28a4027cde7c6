//! A shared cache in front of the shop: nobody gets another's referral or `Set-Cookie` from it, and
//! pages without our parameter stay as cacheable as they are without the layer.
//!
//! The cache is a small one of our own, which stores whatever RFC 9111 and RFC 9213 let a shared
//! cache store, and nothing else. It takes every liberty that they leave: it stores responses with
//! `Set-Cookie` (RFC 9111 section 7.3) and updates what it has stored by a 304, headers and all.

use std::collections::HashMap;

use crate::common::{self, Clock, Shop, bare_get, keyring, page_visit, with_headers};
use crate::mutator::Random;
use http::header::{
    CACHE_CONTROL, COOKIE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    LAST_MODIFIED, SET_COOKIE, VARY,
};
use http::{Method, Request, Response, StatusCode};
use tower::{Layer as _, Service as _, service_fn};
use tower_referral::{Capture, Forget, SignedCookie};

// ===== The cache =====

/// The directives of a `Cache-Control`, or of a field that is written like one. What can't be read
/// is none.
#[derive(Clone, Debug, Default, PartialEq)]
struct Directives(Vec<(String, Option<String>)>);

impl Directives {
    /// `None` without a line.
    fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|l| l.to_str().unwrap())
            .collect();
        if lines.is_empty() {
            return None;
        }
        let mut parts = vec![String::new()];
        let mut is_quoted = false;
        for c in lines.join(",").chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => parts.push(String::new()),
                c => parts.last_mut().unwrap().push(c),
            }
        }
        let directives = parts.iter().map(|part| match part.split_once('=') {
            None => (part.trim().to_ascii_lowercase(), None),
            Some((name, value)) => (
                name.trim().to_ascii_lowercase(),
                Some(value.trim().to_owned()),
            ),
        });
        Some(Self(
            directives.filter(|(name, _)| !name.is_empty()).collect(),
        ))
    }

    fn value(&self, name: &str) -> Option<Option<&str>> {
        let found = self.0.iter().find(|(directive, _)| directive == name)?;
        Some(found.1.as_deref())
    }

    /// The directive is there and about the whole response.
    fn says(&self, name: &str) -> bool {
        self.value(name) == Some(None)
    }

    /// The fields that a qualified `private` or `no-cache` names.
    fn withheld(&self) -> impl Iterator<Item = &str> {
        ["private", "no-cache"]
            .into_iter()
            .filter_map(|name| self.value(name)?)
            .flat_map(|fields| fields.split(','))
            .map(str::trim)
    }

    fn seconds(&self, name: &str) -> Option<i64> {
        self.value(name)??.parse().ok()
    }
}

static CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What a shared cache may do with a response, and for how long without asking.
#[derive(Clone, Debug, PartialEq)]
enum Storing {
    MayNot,
    May { fresh: i64, withheld: Vec<String> },
}

/// RFC 9111 section 3, where RFC 9213 section 2.2 puts `CDN-Cache-Control` in the place of
/// `Cache-Control` and `Expires`.
fn storing(method: &Method, status: StatusCode, headers: &HeaderMap) -> Storing {
    let targeted = Directives::of(headers, &CDN_CACHE_CONTROL).filter(|d| !d.0.is_empty());
    let is_targeted = targeted.is_some();
    let directives = targeted
        .or_else(|| Directives::of(headers, &CACHE_CONTROL))
        .unwrap_or_default();
    let has_any = |name: &HeaderName| headers.contains_key(name);
    let is_vary_all = headers.get_all(VARY).iter().any(|vary| vary == "*");
    let explicit = directives
        .seconds("s-maxage")
        .or_else(|| directives.seconds("max-age"))
        .or_else(|| (!is_targeted && has_any(&EXPIRES)).then_some(0));
    let is_heuristic = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    let may_guess = directives.says("public") || is_heuristic.contains(&status.as_u16());
    if method != Method::GET
        || directives.says("no-store")
        || directives.says("private")
        || is_vary_all
        || (explicit.is_none() && !may_guess)
    {
        return Storing::MayNot;
    }
    let guess = if has_any(&LAST_MODIFIED) { 60 } else { 0 };
    let fresh = if directives.says("no-cache") {
        0
    } else {
        explicit.unwrap_or(guess)
    };
    let withheld = directives.withheld().map(str::to_ascii_lowercase).collect();
    Storing::May { fresh, withheld }
}

struct Stored {
    response: Response<String>,
    /// The request's values of the fields that `Vary` names.
    selecting: Vec<(String, Vec<HeaderValue>)>,
    fresh_until: i64,
}

impl Stored {
    fn is_for(&self, request: &Request<String>) -> bool {
        self.selecting
            .iter()
            .all(|(name, values)| *values == lines(request.headers(), name))
    }
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Origin,
    Cache,
    /// From the cache, after the origin said that it is still the same.
    Revalidated,
}

#[derive(Default)]
struct Cache {
    stored: HashMap<String, Vec<Stored>>,
    now: i64,
}

impl Cache {
    fn get(
        &mut self,
        request: &Request<String>,
        origin: impl FnOnce(Request<String>) -> Response<String>,
    ) -> (From, Response<String>) {
        let uri = request.uri().to_string();
        let mut copy = Request::get(&uri).body(String::new()).unwrap();
        *copy.method_mut() = request.method().clone();
        *copy.headers_mut() = request.headers().clone();
        if request.method() != Method::GET {
            // RFC 9111 section 4.4.
            self.stored.remove(&uri);
            return (From::Origin, origin(copy));
        }
        let stored = self.stored.entry(uri.clone()).or_default();
        let found = stored.iter().position(|stored| stored.is_for(request));
        if let Some(found) = found {
            let stored = &mut stored[found];
            if stored.fresh_until > self.now {
                return (From::Cache, stored.response.clone());
            }
            if let Some(etag) = stored.response.headers().get(ETAG) {
                copy.headers_mut().insert(IF_NONE_MATCH, etag.clone());
            }
        }
        let mut response = origin(copy);
        let mut from = From::Origin;
        if let (StatusCode::NOT_MODIFIED, Some(found)) = (response.status(), found) {
            // RFC 9111 section 4.3.4: what the 304 says takes the place of what is stored.
            let old = self.stored.get_mut(&uri).unwrap().remove(found).response;
            let updates = response.headers().clone();
            response = old;
            for name in updates.keys() {
                response.headers_mut().remove(name);
            }
            for (name, value) in &updates {
                response.headers_mut().append(name, value.clone());
            }
            from = From::Revalidated;
        }
        if let Storing::May { fresh, withheld } =
            storing(request.method(), response.status(), response.headers())
        {
            let mut stored = Response::new(response.body().clone());
            *stored.status_mut() = response.status();
            *stored.headers_mut() = response.headers().clone();
            for field in withheld {
                stored.headers_mut().remove(field);
            }
            let vary = response.headers().get_all(VARY).iter();
            let names = vary.flat_map(|line| line.to_str().unwrap().split(','));
            let names = names.map(|name| name.trim().to_ascii_lowercase());
            let selecting = names.map(|name| {
                let values = lines(request.headers(), &name);
                (name, values)
            });
            let stored = Stored {
                response: stored,
                selecting: selecting.collect(),
                fresh_until: self.now + fresh,
            };
            let all = self.stored.entry(uri).or_default();
            all.retain(|other| !other.is_for(request));
            all.push(stored);
        }
        (from, response)
    }

    fn holds(&self) -> impl Iterator<Item = &Stored> {
        self.stored.values().flatten()
    }
}

/// The cache is what everything here rests upon: it stores what it may, and nothing else.
#[test]
fn the_cache_stores_what_a_shared_cache_may_and_nothing_else() {
    let may = |fresh| Storing::May {
        fresh,
        withheld: Vec::new(),
    };
    // (header lines of a 200 to a GET, what the cache may do)
    #[rustfmt::skip]
    let cases: &[(&[(&str, &str)], Storing)] = &[
        (&[("cache-control", "public, max-age=600")], may(600)),
        (&[("cache-control", "max-age=600, s-maxage=5")], may(5)),
        (&[("cache-control", "S-MaxAge=5")], may(5)),
        (&[("cache-control", "max-age=600"), ("set-cookie", "a=1")], may(600)),
        (&[("cache-control", "no-store")], Storing::MayNot),
        (&[("cache-control", "private, max-age=600")], Storing::MayNot),
        (&[("cache-control", "public"), ("cache-control", "Private")], Storing::MayNot),
        (&[("cache-control", "private=\"set-cookie, x-a\", max-age=9")],
            Storing::May { fresh: 9, withheld: vec!["set-cookie".into(), "x-a".into()] }),
        (&[("cache-control", "no-cache, max-age=600")], may(0)),
        (&[], may(0)),
        (&[("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT")], may(60)),
        (&[("vary", "*"), ("cache-control", "max-age=600")], Storing::MayNot),
        (&[("cdn-cache-control", "max-age=600"), ("cache-control", "no-store")], may(600)),
        (&[("cdn-cache-control", "no-store"), ("cache-control", "max-age=600")], Storing::MayNot),
        (&[("cdn-cache-control", "max-age=60"), ("cache-control", "private, no-cache")], may(60)),
        (&[("cdn-cache-control", ""), ("cache-control", "private")], Storing::MayNot),
    ];
    for (sent, expected) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in *sent {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let is = storing(&Method::GET, StatusCode::OK, &headers);
        assert_eq!(is, *expected, "{sent:?}");
        assert_eq!(
            storing(&Method::HEAD, StatusCode::OK, &headers),
            Storing::MayNot
        );
    }
    let bare = storing(&Method::GET, StatusCode::FOUND, &HeaderMap::new());
    assert_eq!(bare, Storing::MayNot, "no guessing at a 302");
}

/// A shop whose responses leave as they are is caught by the same visits.
#[test]
fn the_cache_hands_out_what_a_shop_without_care_lets_it() {
    let mut cache = Cache::default();
    let careless = |_: Request<String>| {
        let response = Response::builder().header(SET_COOKIE, "__Host-referral=P1");
        response
            .header(CACHE_CONTROL, "max-age=600")
            .body(String::new())
            .unwrap()
    };
    cache.get(&bare_get("/?aff=P1"), careless);
    let (from, response) = cache.get(&bare_get("/?aff=P1"), careless);
    assert_eq!(from, From::Cache);
    assert!(response.headers().contains_key(SET_COOKIE));
    let (from, _) = cache.get(&bare_get("/"), careless);
    assert_eq!(from, From::Origin);
}

// ===== The shop =====

/// The shop's pages and what they say of caches.
#[rustfmt::skip]
const PAGES: &[(&str, &[(&str, &str)])] = &[
    ("/", &[("cache-control", "public, max-age=600"), ("etag", "\"1\"")]),
    ("/pricing", &[("cache-control", "s-maxage=300, max-age=0"), ("set-cookie", "theme=dark")]),
    ("/blog", &[("cdn-cache-control", "max-age=600"), ("cache-control", "no-store")]),
    ("/cdn", &[("cloudflare-cdn-cache-control", "max-age=9"), ("cdn-cache-control", "public, max-age=900"), ("cache-control", "private")]),
    ("/about", &[("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT")]),
    ("/terms", &[]),
    ("/news", &[("cache-control", "no-cache"), ("etag", "\"2\"")]),
    ("/short", &[("cache-control", "max-age=5"), ("etag", "\"3\"")]),
    ("/fields", &[("cache-control", "private=\"set-cookie\", max-age=600"), ("set-cookie", "a=1")]),
    ("/language", &[("cache-control", "max-age=600"), ("vary", "Accept-Language")]),
    ("/cookies", &[("cache-control", "max-age=600"), ("vary", "Cookie")]),
    ("/all", &[("cache-control", "max-age=600"), ("vary", "*")]),
    ("/mine", &[("cache-control", "private, max-age=600")]),
    ("/never", &[("cache-control", "no-store")]),
];

/// Answers a conditional request as it should, and is as cacheable as can be.
fn page(request: &Request<String>) -> Response<String> {
    let mut response = Response::new(format!("the page {}", request.uri().path()));
    let path = request.uri().path();
    if let Some((_, lines)) = PAGES.iter().find(|(of, _)| *of == path) {
        for (name, value) in *lines {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
    }
    let etag = response.headers().get(ETAG);
    if etag.is_some() && etag == request.headers().get(IF_NONE_MATCH) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.body_mut().clear();
    }
    match path {
        "/forget" => drop(response.extensions_mut().insert(Forget)),
        "/redeem" => {
            let key = request.headers()["x-code"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            response.extensions_mut().insert(Capture::key(key));
        }
        _ => {}
    }
    response
}

fn shop(clock: &Clock) -> Shop {
    let shop = Shop::at(clock.clone(), SignedCookie::new(keyring()), |builder| {
        builder.global_privacy_control()
    });
    shop.answering(page)
}

#[derive(Clone, Default)]
struct Visitor {
    /// Our cookie's value.
    held: Option<String>,
    /// The partner whose the visitor should be.
    partner: Option<String>,
}

impl Visitor {
    fn ask(&self, mut request: Request<String>) -> Request<String> {
        if let Some(value) = &self.held {
            let line = format!("theme=dark; __Host-referral={value}");
            request.headers_mut().insert(COOKIE, line.parse().unwrap());
        }
        request
    }

    fn take(&mut self, response: &Response<String>) -> usize {
        let ours = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|line| {
                let line = line.to_str().unwrap().strip_prefix("__Host-referral=")?;
                Some(line.split(';').next().unwrap().to_owned())
            });
        let ours: Vec<_> = ours.collect();
        for value in &ours {
            self.held = Some(value.clone()).filter(|value| !value.is_empty());
        }
        ours.len()
    }
}

/// What a visitor does next: the request, and the partner afterwards.
fn next(random: &mut Random, visitor: &Visitor) -> (Request<String>, Option<String>) {
    let path = random.one_of(PAGES).0;
    let partner = format!("P{}", random.below(50));
    let before = visitor.partner.clone();
    let (request, after) = match random.below(20) {
        0..=4 => (page_visit(&format!("{path}?aff={partner}")), Some(partner)),
        5 => (
            bare_get(&format!("{path}?q=1&ref={partner}")),
            Some(partner),
        ),
        // Our parameter, and no landing.
        6 => (page_visit(&format!("{path}?aff=%zz")), before),
        7 => {
            let image = [("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")];
            (
                with_headers(bare_get(&format!("{path}?aff={partner}")), &image),
                before,
            )
        }
        8 => {
            let mut request = with_headers(bare_get("/redeem"), &[("x-code", &*partner)]);
            *request.method_mut() = Method::POST;
            (request, Some(partner))
        }
        9 => {
            let mut request = bare_get("/forget");
            *request.method_mut() = Method::POST;
            (request, None)
        }
        // Who denies has what is kept deleted, if the request reaches us.
        10 => (with_headers(page_visit(path), &[("sec-gpc", "1")]), before),
        _ => {
            let language = [("accept-language", random.one_of(&["en", "de"]))];
            (with_headers(page_visit(path), &language), before)
        }
    };
    (visitor.ask(request), after)
}

#[test]
fn nobody_gets_anothers_referral_through_a_shared_cache() {
    let clock = Clock::new();
    let shop = shop(&clock);
    let mut cache = Cache::default();
    let mut random = Random(1);
    let mut visitors = vec![Visitor::default(); 1000];
    let (mut cached, mut revalidated, mut landings, mut denied) = (0, 0, 0, 0);
    for turn in 0..15_000 {
        let visitor = &mut visitors[random.below(1000)];
        let (request, after) = next(&mut random, visitor);
        let case = format!("turn {turn}: {} {}", request.method(), request.uri());
        let denies = request.headers().contains_key("sec-gpc");
        let query = request.uri().query().unwrap_or_default();
        let has_parameter = query.contains("aff=") || query.contains("ref=");

        let (from, response) = cache.get(&request, |request| shop.send(request).response);
        let set = visitor.take(&response);
        if from == From::Cache {
            assert_eq!(set, 0, "{case}: a cookie out of the cache");
            assert!(!has_parameter, "{case}: a landing that never came to us");
            cached += 1;
        } else if denies {
            assert_eq!(set, usize::from(visitor.partner.is_some()), "{case}");
            visitor.partner = None;
            denied += set;
        } else {
            landings += usize::from(after != visitor.partner && has_parameter);
            visitor.partner = after;
        }
        revalidated += usize::from(from == From::Revalidated);
        // Straight to the shop: whose is the visitor by now?
        let seen = shop.send(visitor.ask(bare_get("/never")));
        assert_eq!(seen.key(), visitor.partner.as_deref(), "{case}");

        for stored in cache.holds() {
            let all = stored.response.headers().get_all(SET_COOKIE);
            let is_ours = |line: &HeaderValue| line.as_bytes().starts_with(b"__Host-referral");
            assert!(!all.iter().any(is_ours), "{case}: ours is stored");
        }
        if turn % 50 == 0 {
            cache.now += 7;
            clock.pass(common::SECOND * 7);
        }
    }
    // Else it would all be about nothing.
    for (what, count) in [
        ("out of the cache", cached),
        ("revalidated", revalidated),
        ("landings", landings),
        ("denied", denied),
    ] {
        assert!(count > 100, "{what}: {count}");
    }
}

#[test]
fn pages_without_our_parameter_are_as_cacheable_as_without_the_layer() {
    let clock = Clock::new();
    let with = shop(&clock);
    let without = |request: Request<String>| {
        let mut bare = tower::layer::util::Identity::new().layer(service_fn(|request| {
            std::future::ready(Ok::<_, std::convert::Infallible>(page(&request)))
        }));
        let Ok(response) = common::at_once(bare.call(request));
        response
    };
    let (mut ours, mut theirs) = (Cache::default(), Cache::default());
    let mut random = Random(2);
    let mut visitors = vec![Visitor::default(); 1000];
    let (mut hits, mut compared) = (0, 0);
    for turn in 0..15_000 {
        let visitor = &mut visitors[random.below(1000)];
        let (request, after) = next(&mut random, visitor);
        if request.headers().contains_key("sec-gpc") {
            continue;
        }
        let is_about_us = request.method() != Method::GET || request.uri().query().is_some();
        if is_about_us {
            let (_, response) = ours.get(&request, |request| with.send(request).response);
            visitor.take(&response);
            visitor.partner = after;
            continue;
        }
        let case = format!("turn {turn}: {}", request.uri());
        let (from, response) = ours.get(&request, |request| with.send(request).response);
        let (from_bare, bare) = theirs.get(&request, without);
        assert_eq!(from, from_bare, "{case}");
        assert_eq!(response.status(), bare.status(), "{case}");
        assert_eq!(response.headers(), bare.headers(), "{case}");
        assert_eq!(response.body(), bare.body(), "{case}");
        hits += usize::from(from == From::Cache);
        compared += 1;
        if turn % 50 == 0 {
            for cache in [&mut ours, &mut theirs] {
                cache.now += 7;
            }
        }
    }
    assert!(hits > compared / 10, "{hits} of {compared}");
}
