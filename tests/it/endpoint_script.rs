//! The endpoint's script, run by Node on pages that are no more than their URL: what it posts is read as the layer
//! reads a landing there.
#![cfg(feature = "endpoint")]

use std::collections::HashMap;
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use crate::cases::{BROKEN, MANGLED};
use crate::common::{Shop, arriving, run};
use crate::endpoint::{FORM, SAME_ORIGIN, after_p1, kept, request};
use crate::servers::skipped;
use http::Method;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tower::{Layer as _, Service as _};
use tower_referral::{ClickId, Program, Referral, ReferralKey, ReferralLayer};

/// Runs a script on pages. Writes for each what it posts, or null.
const PAGES: &str = "
const {script, pages} = JSON.parse(require('fs').readFileSync(0));
console.log(JSON.stringify(pages.map(page => {
    let posted = null;
    class Document {
        get currentScript() { return {src: 'https://shop.example/api/track-landing'}; }
        get prerendering() { return false; }
        get referrer() { return page.referrer; }
    }
    const window = {
        Document, document: new Document(), location: new URL(page.url), URLSearchParams,
        performance: {getEntriesByType: () => page.navigation ? [{type: page.navigation}] : []},
        fetch: async (url, init) => { posted = {url, ...init, body: String(init.body)}; },
    };
    window.self = window.top = window;
    require('vm').runInNewContext(script, window);
    return posted;
})));
";

#[derive(Deserialize)]
struct Post {
    url: String,
    method: String,
    headers: HashMap<String, String>,
    credentials: String,
    body: String,
}

/// A page whose URL has this query.
fn page(query: &str) -> serde_json::Value {
    let url = format!("https://shop.example/x?{query}");
    serde_json::json!({"url": url, "referrer": "https://blog.example/", "navigation": "navigate"})
}

/// What the script posts on each page; `None` where there is no Node.
fn posts(layer: &ReferralLayer, pages: &[serde_json::Value]) -> Option<Vec<Option<Post>>> {
    let mut get = request(&[], "");
    *get.method_mut() = Method::GET;
    let Ok(response) = run(layer.layer(layer.capture_endpoint()).call(arriving(get)));
    let script = run(response.into_body().collect()).unwrap().to_bytes();
    let script = std::str::from_utf8(&script).unwrap();

    let node = Command::new("node")
        .args(["-e", PAGES])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut node = match node {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped("no Node here to run the endpoint's script");
            return None;
        }
        node => node.unwrap(),
    };
    let told = serde_json::json!({"script": script, "pages": pages}).to_string();
    let mut stdin = node.stdin.take().unwrap();
    stdin.write_all(told.as_bytes()).unwrap();
    drop(stdin);
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn program() -> Program {
    Program::default()
        .click_params(["dub_id"])
        .extra_params(["utm_term", "x"])
}

/// By the layer: the key, where it was found, and what else is kept; `None` if the key isn't valid.
fn by_layer(query: &str) -> Option<String> {
    let mut visitor = Shop::program(program()).visitor();
    visitor.visit("/?aff=P1");
    let page = visitor.visit(&format!("/x?{query}"));
    (page.reason() != "invalid_key").then(|| describe(page.referral().unwrap()))
}

/// The same by what the script posted.
fn by_script(layer: &ReferralLayer, post: &Post) -> Option<String> {
    let (answer, _) = after_p1(layer, &[FORM, SAME_ORIGIN], &post.body);
    match answer.status {
        204 => {
            let kept = kept(layer, &answer);
            Some(describe(kept.first().unwrap()))
        }
        422 => None,
        status => panic!("{status}: {}", answer.body),
    }
}

fn describe(referral: &Referral) -> String {
    let (key, click_id) = (referral.key(), referral.click_id());
    let key = key.map(ReferralKey::as_str);
    let click_id = click_id.map(ClickId::as_str);
    let extra: Vec<_> = referral.extra().collect();
    format!(
        "{key:?} {click_id:?} {:?} {extra:?}",
        referral.landing_page()
    )
}

#[test]
fn c4_c5_c6_what_the_script_posts_is_read_as_a_landing() {
    let layer = Shop::program(program()).layer;
    let pairs = |count| format!("{}aff=P2", "a=&".repeat(count));
    let long = |len| format!("x={}&aff=P2", "y".repeat(len));
    let others = [
        "aff=a+b",
        "aff=a%2Bb",
        "aff=P2+",
        "ref=R&aff=P2&aff=P3",
        "aff=&ref=P2",
        "%61ff=P2",
        "a%66f=P2",
        "?%61ff=P2",
        "aff=%50%32",
        "aff=P2&utm_term=a+b%20c%2Bd",
        "utm_term=%zz&aff=P2",
        "dub_id=click%20&aff=P2",
        "dub_id=c+d&aff=P2",
        "aff=%zz",
        "aff",
        "aff=P2&_path=/elsewhere",
        "_referrer=https://shop.example/&aff=P2&_navigation=reload",
        "aff=P2&_path",
        "aff=P%C3%A9",
    ];
    let bounds = [
        pairs(62),
        pairs(63),
        long(8192 - 9),
        format!("aff=P2&x={}", "y".repeat(12_000)),
    ];
    let queries = MANGLED.iter().chain(&BROKEN).chain(&others).copied();
    let queries: Vec<_> = queries.chain(bounds.iter().map(String::as_str)).collect();
    let pages: Vec<_> = queries.iter().map(|query| page(query)).collect();
    let Some(posts) = posts(&layer, &pages) else {
        return;
    };
    for (query, post) in queries.into_iter().zip(posts) {
        let post = post.unwrap_or_else(|| panic!("nothing is posted of {query}"));
        assert_eq!(post.url, "https://shop.example/api/track-landing");
        assert_eq!((&*post.method, &*post.credentials), ("POST", "include"));
        assert_eq!(post.headers[FORM.0], FORM.1, "{query}");
        assert_eq!(by_script(&layer, &post), by_layer(query), "{query}");
    }
}

#[test]
fn the_script_posts_nothing_of_a_query_without_a_parameter() {
    let layer = Shop::program(program()).layer;
    let queries = [
        "",
        "x=1",
        "affx=P2",
        "xaff=P2",
        "AFF=P2",
        "x=aff",
        "x=?aff=P2",
        "utm_term=a",
        "a&b&c=ref",
    ];
    let pages = queries.map(page);
    let Some(posts) = posts(&layer, &pages) else {
        return;
    };
    for (query, post) in queries.iter().zip(posts) {
        assert!(post.is_none(), "{query}");
    }
}

/// Where the browser doesn't say it, the link can't either.
#[test]
fn what_the_script_says_comes_before_what_a_link_says() {
    let layer = Shop::program(program()).layer;
    let mut own = page("_path=/&_referrer=https://blog.example/&_navigation=navigate&aff=P2");
    own["referrer"] = "https://shop.example/forum".into();
    let mut silent = page("_navigation=reload&aff=P2");
    silent["navigation"] = serde_json::Value::Null;
    let Some(posts) = posts(&layer, &[own, silent]) else {
        return;
    };
    for (post, reason) in posts.into_iter().zip(["kept_own_link", "captured"]) {
        let body = post.unwrap().body;
        let (answer, _) = after_p1(&layer, &[FORM, SAME_ORIGIN], &body);
        assert_eq!(answer.reasons, [format!("default: {reason}")], "{body}");
    }
}
