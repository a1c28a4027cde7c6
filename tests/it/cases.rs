//! Inputs that once went wrong, by their numbers, each with other members of its class: landings (C) and
//! the capture endpoint (E). What needs a process of its own (C18, C20) is in `tests/unlayered.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{
    BROWSER, Browser, DAY, Page, Shop, bare_get, keyring, page_visit, with_headers,
};
use http::{Request, Response, StatusCode};
use tower_referral::click::{ClickRequest, Clicks};
use tower_referral::{
    Attribution, ClickId, Consent, Forget, Program, Referrals, SignedCookie, Verdict,
};

in_every_way! {
    c1_a_landing_through_a_service_worker,
    c1_a_link_through_a_service_worker_is_told_by_its_referrer,
    c1_a_frame_through_a_service_worker_earns_nothing,
    c2_an_interstitial_hands_on_what_the_first_visit_was,
    c2_what_was_refused_as_an_own_link_stays_refused,
    c2_every_refused_key_is_remembered,
    c2_what_an_own_page_fetched_is_an_own_link,
    c2_what_a_script_asks_of_an_api_is_no_link,
    c2_what_an_own_page_fetched_for_the_visitors_partner_is_no_link,
    c2_however_many_keys_are_refused_few_others_are,
    c2_the_referrer_tells_an_own_link_too,
    c2_behind_a_proxy_that_changes_the_host_the_original_uri_tells_an_own_link,
    c3_an_own_link_locks_no_partner_out,
    c4_c5_c6_mangled_links_are_read,
    c8_a_reload_replaces_nothing,
    c9_a_websocket_is_no_landing,
    c10_skipped_requests_are_untouched,
    c11_a_landing_is_handled_once,
    c13_a_long_query_is_not_redirected,
    c14_a_prefetch_replaces_nothing,
    c15_the_click_of_a_page_that_nobody_saw_yet_waits,
    c16_stand_down_paths_in_every_spelling,
    c21_a_link_can_not_forget,
}

type Headers<'h> = &'h [(&'static str, &'h str)];

const WORKER: [(&str, &str); 2] = [("sec-fetch-dest", "empty"), ("sec-fetch-mode", "navigate")];
const DOCUMENT: [(&str, &str); 2] = [
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
];

/// A `GET` of a browser at `shop.example`.
fn get(
    uri: &str,
    kind: [(&'static str, &str); 2],
    site: &str,
    more: Headers<'_>,
) -> Request<String> {
    let base = [
        ("host", "shop.example"),
        ("user-agent", BROWSER),
        ("sec-fetch-site", site),
    ];
    let request = with_headers(with_headers(bare_get(uri), &base), &kind);
    with_headers(request, more)
}

fn document(uri: &str, site: &str, more: Headers<'_>) -> Request<String> {
    get(uri, DOCUMENT, site, more)
}

fn worker(uri: &str, site: &str, more: Headers<'_>) -> Request<String> {
    get(uri, WORKER, site, more)
}

fn clicks() -> Clicks {
    // What matters here is whether a click is started.
    Clicks::from_fn(async |_: ClickRequest| "click".parse::<ClickId>())
        .base_url("https://shop.example")
        .max_in_flight(10_000)
}

fn with_clicks() -> Shop {
    Shop::with(|builder| builder.clicks(clicks()).spawner(std::mem::forget))
}

fn started(shop: &Shop) -> u64 {
    shop.layer.click_counts().started
}

/// A visitor whom P1 sent.
fn of_p1(shop: &Shop) -> Browser {
    let mut visitor = shop.visitor();
    assert_eq!(visitor.visit("/?aff=P1").key(), Some("P1"));
    shop.clock.pass(DAY);
    visitor
}

#[track_caller]
fn assert_kept(visitor: &mut Browser, key: &str, case: &str) {
    let page = visitor.send(document("/later", "none", &[]));
    assert_eq!(page.key(), Some(key), "{case}");
}

#[track_caller]
fn assert_lost(page: &Page, reason: &str, case: &str) {
    assert_eq!((page.key(), page.reason()), (Some("P1"), reason), "{case}");
}

fn c1_a_landing_through_a_service_worker() {
    let own = [("referer", "https://shop.example/")];
    for next in [
        worker("/next", "same-origin", &own),
        worker("/next", "same-origin", &[]),
        document("/next", "same-origin", &own),
        document("/next", "none", &[]),
    ] {
        let shop = with_clicks();
        let mut visitor = shop.visitor();
        let page = visitor.send(worker("/?aff=P2", "cross-site", &[]));
        assert_eq!((page.key(), page.reason()), (Some("P2"), "captured"));
        assert_eq!(started(&shop), 0, "the landing proves no view");
        visitor.send(next);
        assert_eq!(started(&shop), 1, "the next page view brings the cookie");
        visitor.send(worker("/again", "same-origin", &own));
        assert_eq!(started(&shop), 1, "once");
    }
    // Without our cookie nobody knows that the page was seen.
    let shop = with_clicks();
    shop.send(worker("/?aff=P2", "cross-site", &[]));
    shop.send(worker("/next", "same-origin", &own));
    assert_eq!(started(&shop), 0);
}

fn c1_a_link_through_a_service_worker_is_told_by_its_referrer() {
    // (referrer, is it an outside touch?)
    let cases: [(Headers<'_>, bool); 6] = [
        (&[], true),
        (&[("referer", "https://blog.example/post")], true),
        (&[("referer", "android-app://com.example.mail/")], true),
        (&[("referer", "https://shop.example/")], false),
        (&[("referer", "https://shop.example/forum?x=1")], false),
        (&[("referer", "https://SHOP.example:443/forum")], false),
    ];
    for (headers, is_outside) in cases {
        let mut visitor = of_p1(&Shop::new());
        let page = visitor.send(worker("/x?aff=P2", "same-origin", headers));
        if is_outside {
            assert_eq!(page.key(), Some("P2"), "{headers:?}");
        } else {
            assert_lost(&page, "kept_own_link", &format!("{headers:?}"));
        }
    }
}

fn c1_a_frame_through_a_service_worker_earns_nothing() {
    for access in ["none", "inactive", "active", ""] {
        for site in ["same-origin", "cross-site", "same-site"] {
            let frame = |uri| worker(uri, site, &[("sec-fetch-storage-access", access)]);
            let case = format!("{access} {site}");
            let page = Shop::new().send(frame("/?aff=P2"));
            assert_eq!(
                (page.key(), page.reason()),
                (None, "not_a_page_visit"),
                "{case}"
            );
            let mut visitor = of_p1(&Shop::new());
            assert_lost(&visitor.send(frame("/?aff=P2")), "not_a_page_visit", &case);

            // It proves no view either.
            let shop = with_clicks();
            let mut visitor = shop.visitor();
            visitor.send(worker("/?aff=P2", "cross-site", &[]));
            visitor.send(frame("/"));
            assert_eq!(started(&shop), 0, "{case}");
        }
    }
    let shop = with_clicks();
    let mut visitor = shop.visitor();
    let page = visitor.send(worker("/?aff=P2", "same-site", &[]));
    assert_eq!(page.key(), Some("P2"), "it fills an empty slot");
    visitor.send(worker("/", "same-site", &[]));
    assert_eq!(started(&shop), 0, "and proves no view");
    let mut visitor = of_p1(&Shop::new());
    let page = visitor.send(worker("/?aff=P2", "same-site", &[]));
    assert_lost(&page, "kept_possible_frame", "same-site");

    // Firefox's worker, and one that builds the request anew.
    let anew = [
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "same-origin"),
    ];
    let page = Shop::new().send(get("/?aff=P2", anew, "same-origin", &[]));
    assert_eq!(page.key(), None);
}

fn c2_an_interstitial_hands_on_what_the_first_visit_was() {
    // (target, referrer)
    for (target, referrer) in [
        ("/x?aff=P2", "https://shop.example/x?aff=P2"),
        ("/x?aff=P2&y=1", "https://shop.example/x?aff=P2&y=1#top"),
        ("/?aff=P2", "https://shop.example/?aff=P2"),
    ] {
        let reload = [
            ("referer", referrer),
            ("cache-control", "max-age=0"),
            ("sec-ch-ua", "\"Chromium\";v=\"140\""),
        ];
        for headers in [&reload[..1], &reload[..]] {
            let mut visitor = of_p1(&Shop::new());
            let page = visitor.send(document(target, "same-origin", headers));
            assert_eq!(page.key(), Some("P2"), "{target}");
            let mut visitor = of_p1(&Shop::new());
            let page = visitor.send(worker(target, "same-origin", headers));
            assert_eq!(page.key(), Some("P2"), "{target}, through a worker");
        }
    }
    // Another page is an own link, and attribution goes on to decide.
    for referrer in [
        "https://shop.example/x?aff=P3",
        "https://shop.example/x",
        "https://shop.example/",
        "https://shop.example/y?aff=P2",
    ] {
        let mut visitor = of_p1(&Shop::new());
        let page = visitor.send(document(
            "/x?aff=P2",
            "same-origin",
            &[("referer", referrer)],
        ));
        assert_lost(&page, "kept_own_link", referrer);
    }
    let first = Shop::program(Program::default().attribution(Attribution::FirstTouch));
    let own = [("referer", "https://shop.example/x?aff=P2")];
    let page = of_p1(&first).send(document("/x?aff=P2", "same-origin", &own));
    assert_lost(&page, "kept_first_touch", "first touch");
}

fn c2_behind_a_proxy_that_changes_the_host_the_original_uri_tells_an_own_link() {
    let shop = Shop::with(|b| b.original_uri(|request| request.extensions().get::<http::Uri>()));
    let own = [("referer", "https://shop.example/forum")];
    let mut request = document("/x?aff=E", "cross-site", &own);
    let backend = "backend:3000".parse().unwrap();
    request.headers_mut().insert("host", backend);
    let original: http::Uri = "https://shop.example/x?aff=E".parse().unwrap();
    request.extensions_mut().insert(original);
    let page = of_p1(&shop).send(request);
    assert_lost(&page, "kept_own_link", "by way of a shortener");
}

fn c2_what_was_refused_as_an_own_link_stays_refused() {
    let forum = [("referer", "https://shop.example/forum")];
    let itself = [("referer", "https://shop.example/x?aff=E")];
    let mut visitor = of_p1(&Shop::new());
    let page = visitor.send(document("/x?aff=E", "same-origin", &forum));
    assert_lost(&page, "kept_own_link", "the link");
    for _ in 0..2 {
        let page = visitor.send(document("/x?aff=E", "same-origin", &itself));
        assert_lost(&page, "kept_own_link", "the page reloads itself");
        assert!(!page.changed(), "it is remembered once");
    }
    // An own link that gave way to an outside touch is refused from then on.
    let mut visitor = Shop::new().visitor();
    visitor.send(document("/x?aff=E", "same-origin", &forum));
    visitor.visit("/?aff=P1");
    let page = visitor.send(document("/x?aff=E", "same-origin", &itself));
    assert_lost(&page, "kept_own_link", "replaced");
    let page = visitor.visit("/x?aff=E");
    assert_eq!(page.key(), Some("E"), "a link from outside is one");
}

fn c2_every_refused_key_is_remembered() {
    let forum = [("referer", "https://shop.example/forum")];
    let link = |key: &str| document(&format!("/x?aff={key}"), "same-origin", &forum);
    let itself = |key: &str| {
        let url = format!("https://shop.example/x?aff={key}");
        document(
            &format!("/x?aff={key}"),
            "same-origin",
            &[("referer", &url)],
        )
    };
    // Several links of one page, and back from the browser's own cache.
    let mut visitor = of_p1(&Shop::new());
    for key in ["E1", "E2", "E3"] {
        assert_lost(&visitor.send(link(key)), "kept_own_link", key);
    }
    for key in ["E1", "E2", "E3"] {
        assert_lost(&visitor.send(itself(key)), "kept_own_link", key);
    }
    // A partner's link in another tab meanwhile.
    let mut visitor = Shop::new().visitor();
    visitor.visit("/?aff=EARLIER");
    visitor.send(link("E1"));
    visitor.visit("/?aff=P1");
    assert_lost(&visitor.send(itself("E1")), "kept_own_link", "another tab");
    let page = visitor.send(itself("P2"));
    assert_eq!(page.key(), Some("P2"), "behind an interstitial");
}

/// What a script asks of the shop.
fn fetched(uri: &str, mode: &str, site: &str, more: Headers<'_>) -> Request<String> {
    let kind = [("sec-fetch-dest", "empty"), ("sec-fetch-mode", mode)];
    get(uri, kind, site, more)
}

fn c2_what_a_script_asks_of_an_api_is_no_link() {
    let forum = ("referer", "https://shop.example/forum");
    let itself = [("referer", "https://shop.example/x?aff=E")];
    // (header, is a page shown)
    let cases = [
        (("accept", "*/*"), false),
        (("accept", "application/json, text/plain, */*"), false),
        (("accept", "text/htmlx"), false),
        (("x-requested-with", "XMLHttpRequest"), false),
        (("accept", "text/html, */*; q=0.01"), true),
        (("accept", "application/xhtml+xml,Text/HTML;q=0.9"), true),
        (("hx-request", "true"), true),
        (("turbo-frame", "main"), true),
    ];
    for (header, is_shown) in cases {
        let mut visitor = of_p1(&Shop::new());
        let page = visitor.send(fetched("/x?aff=E", "cors", "same-origin", &[forum, header]));
        assert_lost(&page, "not_a_page_visit", header.1);
        assert_eq!(page.changed(), is_shown, "{header:?}");
        let page = visitor.send(document("/x?aff=E", "same-origin", &itself));
        let key = if is_shown { "P1" } else { "E" };
        assert_eq!(page.key(), Some(key), "{header:?}");
    }
}

fn c2_what_an_own_page_fetched_for_the_visitors_partner_is_no_link() {
    let headers = [
        ("referer", "https://shop.example/pricing"),
        ("accept", "text/html"),
    ];
    let mut visitor = of_p1(&Shop::new());
    let page = visitor.send(fetched("/x?aff=P1", "cors", "same-origin", &headers));
    assert!(!page.changed());
    visitor.visit("/?aff=P2");
    // P1's own landing, behind an interstitial.
    let itself = [("referer", "https://shop.example/x?aff=P1")];
    let page = visitor.send(document("/x?aff=P1", "same-origin", &itself));
    assert_eq!((page.key(), page.reason()), (Some("P1"), "captured"));
}

fn c2_however_many_keys_are_refused_few_others_are() {
    let forum = [("referer", "https://shop.example/forum")];
    let link = |key: &str| document(&format!("/x?aff={key}"), "same-origin", &forum);
    let itself = |key: &str| {
        let url = format!("https://shop.example/x?aff={key}");
        let referrer = [("referer", url.as_str())];
        document(&format!("/x?aff={key}"), "same-origin", &referrer)
    };
    let mut visitor = of_p1(&Shop::new());
    for n in 0..40 {
        let label = format!("footer-{n}");
        assert_lost(&visitor.send(link(&label)), "kept_own_link", &label);
        assert_lost(&visitor.send(itself(&label)), "kept_own_link", &label);
    }
    // Partners, behind an interstitial.
    let is_refused = |n: &u32| {
        let page = visitor.clone().send(itself(&format!("PARTNER_{n}")));
        page.key() == Some("P1")
    };
    let refused = (0..200).filter(is_refused).count();
    assert!(refused <= 200 / 10, "{refused} of 200");
}

fn c2_what_an_own_page_fetched_is_an_own_link() {
    let fetch = |mode: &str, site: &str, referrer: &str| {
        let turbo = "text/html, application/xhtml+xml";
        fetched(
            "/x?aff=E",
            mode,
            site,
            &[("referer", referrer), ("accept", turbo)],
        )
    };
    let itself = [("referer", "https://shop.example/x?aff=E")];
    let forum = "https://shop.example/forum";
    for mode in ["cors", "same-origin"] {
        let mut visitor = of_p1(&Shop::new());
        let page = visitor.send(fetch(mode, "same-origin", forum));
        assert_lost(&page, "not_a_page_visit", mode);
        let page = visitor.send(document("/x?aff=E", "same-origin", &itself));
        assert_lost(&page, "kept_own_link", mode);
    }
    for (what, other) in [
        (
            "an interstitial's fetch",
            fetch("cors", "same-origin", itself[0].1),
        ),
        (
            "another site's",
            fetch("cors", "cross-site", "https://evil.example/"),
        ),
        (
            "a worker's",
            fetch("same-origin", "same-origin", "https://evil.example/"),
        ),
    ] {
        let mut visitor = of_p1(&Shop::new());
        visitor.send(other);
        let page = visitor.send(document("/x?aff=E", "same-origin", &itself));
        assert_eq!(page.key(), Some("E"), "{what}");
    }
    // It fills no slot.
    let mut visitor = Shop::new().visitor();
    assert_eq!(
        visitor.send(fetch("cors", "same-origin", forum)).key(),
        None
    );
    assert_eq!(visitor.visit("/").key(), None);
}

fn c2_the_referrer_tells_an_own_link_too() {
    let own = [("referer", "https://shop.example/forum")];
    // By way of a shortener, and from a browser that sends no metadata.
    let old = with_headers(bare_get("/x?aff=E"), &[("host", "shop.example"), own[0]]);
    for (what, request) in [
        ("redirected", document("/x?aff=E", "cross-site", &own)),
        ("no metadata", with_headers(old, &[("user-agent", BROWSER)])),
    ] {
        assert_lost(&of_p1(&Shop::new()).send(request), "kept_own_link", what);
    }
}

fn c3_an_own_link_locks_no_partner_out() {
    for attribution in [
        Attribution::FirstTouch,
        Attribution::LastTouch,
        Attribution::rule(|_, _| Verdict::Keep("always")),
    ] {
        let case = format!("{attribution:?}");
        let shop = Shop::program(Program::default().attribution(attribution));
        for own in [
            document("/?ref=welcome-nav", "same-origin", &[]),
            worker(
                "/?ref=welcome-nav",
                "same-origin",
                &[("referer", "https://shop.example/")],
            ),
            document(
                "/?ref=welcome-nav",
                "same-origin",
                &[("sec-purpose", "prefetch")],
            ),
        ] {
            let mut visitor = shop.visitor();
            assert_eq!(visitor.send(own).key(), Some("welcome-nav"), "{case}");
            let page = visitor.visit("/?aff=REAL");
            assert_eq!(
                (page.key(), page.reason()),
                (Some("REAL"), "captured"),
                "{case}"
            );
            assert_kept(&mut visitor, "REAL", &case);
        }
        // The same key from outside is captured anew, and holds against what comes later.
        let mut visitor = shop.visitor();
        visitor.send(document("/?aff=REAL", "same-origin", &[]));
        shop.clock.pass(DAY);
        let page = visitor.visit("/?aff=REAL");
        assert_eq!(page.reason(), "captured", "{case}");
        assert_eq!(
            page.referral().unwrap().captured_at(),
            shop.clock.now(),
            "{case}"
        );
        visitor.send(document("/?ref=welcome-nav", "same-origin", &[]));
        assert_kept(&mut visitor, "REAL", &case);
    }
}

/// Links to P2, mangled as mail programs and careless people do it.
pub(crate) const MANGLED: [&str; 16] = [
    "aff=P2?utm_source=mail",
    "aff=P2?",
    "?aff=P2",
    "utm_source=mail&amp;aff=P2",
    "utm_source=mail&amp;amp;aff=P2",
    "amp;aff=P2&x=1",
    "aff=P2%26amp;utm_source=mail",
    "aff=P2%20",
    "aff=%20P2",
    "aff=P2%C2%A0",
    "aff=P2%E2%80%8B",
    "aff=P2%0A",
    "aff=P2/",
    "aff=P2//",
    "aff=P2/%20",
    "aff=P2/?utm_source=mail",
];

/// Links that nobody can repair.
pub(crate) const BROKEN: [&str; 6] = [
    "aff=P%202",
    "aff=?P2",
    "aff=/P2",
    "aff=%20",
    "aff=/",
    "aff=&amp;",
];

fn c4_c5_c6_mangled_links_are_read() {
    for query in MANGLED {
        let mut visitor = of_p1(&Shop::new());
        let page = visitor.visit(&format!("/x?{query}"));
        assert_eq!(
            (page.key(), page.reason()),
            (Some("P2"), "captured"),
            "{query}"
        );
    }
    for query in BROKEN {
        let mut visitor = of_p1(&Shop::new());
        assert_lost(&visitor.visit(&format!("/x?{query}")), "invalid_key", query);
    }
}

#[test]
fn c7_with_a_domain_a_link_of_a_sister_host_is_one_of_the_own_site() {
    let cookie = SignedCookie::new(keyring()).domain("shop.test");
    let link = || document("/?ref=header-cta", "same-site", &[]);
    let shared = Shop::keeping(cookie, |builder| builder);
    assert_lost(&of_p1(&shared).send(link()), "kept_own_link", "shared");
    assert_eq!(
        shared.send(link()).key(),
        Some("header-cta"),
        "an empty slot"
    );
    let page = of_p1(&Shop::new()).send(link());
    assert_eq!(
        page.key(),
        Some("header-cta"),
        "without a domain it is another site"
    );
}

fn c8_a_reload_replaces_nothing() {
    let hints = ("sec-ch-ua", "\"Chromium\";v=\"140\"");
    // (headers, is it a reload?)
    let cases: [(Headers<'_>, bool); 5] = [
        (&[("cache-control", "max-age=0"), hints], true),
        (&[("cache-control", "no-transform, Max-Age=0"), hints], true),
        (&[("cache-control", "max-age=0")], false),
        (&[hints], false),
        (&[("cache-control", "max-age=00"), hints], false),
    ];
    for (headers, is_reload) in cases {
        for site in ["cross-site", "none"] {
            let mut visitor = Shop::new().visitor();
            visitor.visit("/?aff=OLD");
            visitor.visit("/?aff=NEW");
            let page = visitor.send(document("/?aff=OLD", site, headers));
            let expected = if is_reload { "NEW" } else { "OLD" };
            assert_eq!(page.key(), Some(expected), "{headers:?} {site}");
        }
        let page = Shop::new().send(document("/?aff=OLD", "none", headers));
        assert_eq!(
            page.key(),
            Some("OLD"),
            "{headers:?}: an empty slot is filled"
        );
    }
}

fn c9_a_websocket_is_no_landing() {
    for headers in [
        &[("upgrade", "websocket")][..],
        &[("upgrade", "WebSocket"), ("connection", "Upgrade")],
        &[("upgrade", "h2c, websocket")],
        &[("upgrade", "websocket"), ("sec-fetch-mode", "websocket")],
        &[
            ("sec-fetch-mode", "websocket"),
            ("sec-fetch-dest", "websocket"),
        ],
    ] {
        let shop = with_clicks();
        let request = with_headers(bare_get("/?aff=x"), &[("user-agent", BROWSER)]);
        let page = shop.send(with_headers(request, headers));
        assert_eq!((page.key(), page.changed()), (None, false), "{headers:?}");
        assert_eq!(page.reason(), "not_a_page_visit", "{headers:?}");
        assert_eq!(started(&shop), 0);
    }
    let other = with_headers(bare_get("/?aff=x"), &[("upgrade", "h2c")]);
    assert_eq!(Shop::new().send(other).key(), Some("x"));
}

fn c10_skipped_requests_are_untouched() {
    let shop = Shop::with(|builder| {
        let builder = builder.skip(|request| request.uri().path().starts_with("/assets"));
        builder.consent(|request| match request.headers().get("x-no") {
            Some(_) => Consent::Denied,
            None => Consent::Granted,
        })
    });
    let shop = shop.answering(|_| {
        let mut response = Response::new("script".to_owned());
        let headers = response.headers_mut();
        headers.insert("cache-control", "public, immutable".parse().unwrap());
        headers.insert("cdn-cache-control", "max-age=600".parse().unwrap());
        response
    });
    for no in [false, true] {
        let asset = |uri| {
            let script = [("sec-fetch-dest", "script"), ("sec-fetch-mode", "no-cors")];
            let headers: Headers<'_> = if no { &[("x-no", "1")] } else { &[] };
            [
                get(uri, script, "same-origin", headers),
                document(uri, "cross-site", headers),
            ]
        };
        for request in asset("/assets/app.js?ref=v1") {
            let mut visitor = of_p1(&shop);
            let page = visitor.send(request);
            assert_eq!(page.response.headers().len(), 2);
            assert_eq!(page.header("cache-control"), Some("public, immutable"));
            assert_eq!(page.header("cdn-cache-control"), Some("max-age=600"));
            assert!(page.decisions().is_empty());
            assert_kept(&mut visitor, "P1", "skipped");
        }
        for request in asset("/assets/app.js?ref=v1") {
            assert_eq!(shop.send(request).response.headers().len(), 2);
        }
    }
}

fn c11_a_landing_is_handled_once() {
    let tokens = Arc::new(AtomicUsize::new(1));
    let shop = Shop::new().cleaning_urls().answering(move |_| {
        let mut response = Response::new(String::new());
        let is_left = tokens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if is_left.is_err() {
            *response.status_mut() = StatusCode::GONE;
        }
        response
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/verify?token=T&aff=P");
    assert_eq!(page.response.status(), StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), Some("?token=T"));
    let page = visitor.visit("/verify?token=T");
    assert_eq!(
        (page.response.status(), page.key()),
        (StatusCode::OK, Some("P"))
    );
}

fn c13_a_long_query_is_not_redirected() {
    let shop = Shop::new().cleaning_urls();
    for query in [
        format!("aff=K&x={}", "y".repeat(60_000)),
        format!("aff=K&{}", "x=1&".repeat(15_000)),
        format!("aff=K&{}", "aff=L&".repeat(10_000)),
    ] {
        let page = shop.send(page_visit(&format!("/?{query}")));
        assert_eq!((page.header("location"), page.key()), (None, Some("K")));
    }
}

fn c14_a_prefetch_replaces_nothing() {
    for purpose in [
        "prefetch",
        "prefetch;prerender",
        "prefetch;anonymous-client-ip",
        "Prefetch",
    ] {
        for site in ["none", "same-origin", "same-site", "cross-site"] {
            let headers = [("sec-purpose", purpose)];
            let case = format!("{purpose} {site}");
            let mut visitor = of_p1(&Shop::new());
            let page = visitor.send(document("/?aff=EVIL", site, &headers));
            assert_eq!(page.key(), Some("P1"), "{case}");
            assert_kept(&mut visitor, "P1", &case);

            let shop = with_clicks();
            let mut visitor = shop.visitor();
            let page = visitor.send(document("/?aff=P2", site, &headers));
            assert_eq!(
                (page.key(), started(&shop)),
                (Some("P2"), 0),
                "{case}: fills"
            );
        }
    }
}

fn c15_the_click_of_a_page_that_nobody_saw_yet_waits() {
    for header in [
        ("x-purpose", "preview"),
        ("x-purpose", "prefetch"),
        ("purpose", "prefetch"),
        ("purpose", "Prefetch"),
        ("x-moz", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
    ] {
        let shop = with_clicks();
        let mut visitor = shop.visitor();
        let page = visitor.send(document("/?aff=P2", "cross-site", &[header]));
        assert_eq!((page.key(), started(&shop)), (Some("P2"), 0), "{header:?}");
        visitor.send(document("/", "same-origin", &[header]));
        assert_eq!(started(&shop), 0, "{header:?}: nor is this seen");
        let image = [("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")];
        visitor.send(get("/logo.png", image, "same-origin", &[]));
        assert_eq!(started(&shop), 0, "{header:?}: an image is no page view");
        visitor.send(document("/", "same-origin", &[]));
        assert_eq!(started(&shop), 1, "{header:?}");
        visitor.send(document("/", "same-origin", &[]));
        assert_eq!(started(&shop), 1, "{header:?}: once");
    }
    let shop = with_clicks();
    shop.send(document("/?aff=P2", "cross-site", &[]));
    assert_eq!(started(&shop), 1, "a page that is seen");
}

const CHECKOUTS: [&str; 17] = [
    "/checkout",
    "/Checkout",
    "/CHECKOUT/pay",
    "/checkout;",
    "/checkout;jsessionid=1",
    "/checkout%2Fpay",
    "/checkout%2fpay",
    "/checkout%5Cpay",
    "/%63heckout",
    "//checkout",
    "/checkout/",
    "/checkout//pay",
    "/checkout.",
    "/checkout%20",
    "/checkout%2E",
    "/;x/checkout",
    "/checkout%3Bx",
];

fn c16_stand_down_paths_in_every_spelling() {
    let shop = Shop::with(|builder| builder.stand_down("/checkout"));
    for path in CHECKOUTS {
        let mut visitor = of_p1(&shop);
        assert_lost(
            &visitor.visit(&format!("{path}?aff=E")),
            "kept_stand_down",
            path,
        );
    }
    for path in ["/", "/checkouts", "/shop/checkout", "/check"] {
        let page = of_p1(&shop).visit(&format!("{path}?aff=E"));
        assert_eq!(page.key(), Some("E"), "{path}");
    }
    // However it is configured.
    for configured in ["/Checkout", "/checkout/", "/%63heckout", "//checkout"] {
        let shop = Shop::with(|builder| builder.stand_down(configured));
        let page = of_p1(&shop).visit("/checkout?aff=E");
        assert_lost(&page, "kept_stand_down", configured);
    }
}

#[tokio::test]
async fn c19_outside_axum_another_task_finds_no_referral_rather_than_an_error() {
    use tower::{Layer as _, Service as _, service_fn};

    // As tower's `Buffer` does: the inner service runs in a task of its own.
    let spawning = service_fn(async |request: Request<String>| {
        let task = async move { Referrals::from_extensions(request.extensions()).await };
        Ok::<_, std::convert::Infallible>(Response::new(tokio::spawn(task).await.unwrap()))
    });
    for (uri, count) in [("/", 0), ("/?aff=K", 1)] {
        let mut service = Shop::new().layer.layer(spawning);
        let Ok(response) = service.call(bare_get(uri)).await;
        assert_eq!(response.into_body().unwrap().iter().count(), count, "{uri}");
    }
}

fn c21_a_link_can_not_forget() {
    let first = Program::default().attribution(Attribution::FirstTouch);
    let shop = Shop::program(first).answering(|request| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/order" && request.method() == "POST" {
            response.extensions_mut().insert(Forget);
        }
        response
    });
    let mut visitor = of_p1(&shop);
    visitor.send(document("/order", "cross-site", &[]));
    assert_lost(
        &visitor.visit("/?aff=E"),
        "kept_first_touch",
        "a rival's link",
    );
    visitor.send(Request::post("/order").body(String::new()).unwrap());
    assert!(visitor.holds_nothing());
}

#[cfg(feature = "endpoint")]
mod endpoint {
    use super::*;
    use crate::common::run;
    use crate::endpoint::{FORM, Header, JSON, SAME_ORIGIN, after_p1, layer, request, tell};
    use http_body_util::BodyExt as _;
    use tower::{Layer as _, Service as _};
    use tower_referral::ReferralLayer;

    in_every_way! {
        e1_e2_where_the_path_is_not_known_a_stand_down_means_fill_only,
        e3_a_frame_in_a_foreign_page_is_refused,
        e4_the_script_does_nothing_in_a_frame_and_tells_what_the_layer_would_know,
        e5_a_link_of_the_own_site_replaces_nothing,
        e6_the_host_is_compared_as_browsers_write_it,
        e7_other_origins_can_be_allowed_by_name,
    }

    fn e1_e2_where_the_path_is_not_known_a_stand_down_means_fill_only() {
        let checkout = layer(|builder| builder.stand_down("/checkout"));
        let referer = |url| ("referer", url);
        // (headers beside the usual ones, body, what is kept)
        let cases: &[(&[Header<'_>], &str, &str)] = &[
            // A browser has cut the long `Referer` to the origin.
            (&[referer("https://shop.example/")], "aff=E", "P1"),
            (&[referer("https://shop.example")], "aff=E", "P1"),
            (
                &[referer("https://shop.example/")],
                "aff=E&_path=/checkout",
                "P1",
            ),
            // `no-referrer`, and a proxy that rewrites `Host`.
            (&[], "aff=E", "P1"),
            (&[], "aff=E&_path=/checkout", "P1"),
            (&[], "aff=E&_path=", "P1"),
            (&[], "aff=E&_path=checkout", "P1"),
            (&[referer("https://elsewhere.example/")], "aff=E", "P1"),
            (
                &[
                    ("x-forwarded-host", "shop.example"),
                    referer("https://public.example/pay"),
                ],
                "aff=E",
                "P1",
            ),
            // The path is known.
            (&[], "aff=E&_path=/", "E"),
            (&[], "aff=E&_path=/pricing", "E"),
            (&[referer("https://shop.example/pricing")], "aff=E", "E"),
            (&[referer("https://shop.example/checkout")], "aff=E", "P1"),
            (
                &[referer("https://shop.example/pricing")],
                "aff=E&_path=/checkout/pay",
                "P1",
            ),
        ];
        for (headers, body, key) in cases {
            let all: Vec<_> = headers.iter().copied().chain([FORM, SAME_ORIGIN]).collect();
            let (answer, found) = after_p1(&checkout, &all, body);
            assert_eq!((answer.status, &*found), (204, *key), "{headers:?} {body}");
        }
        for path in CHECKOUTS {
            let json = serde_json::json!({"aff": "E", "_path": path}).to_string();
            let (_, key) = after_p1(&checkout, &[JSON, SAME_ORIGIN], &json);
            assert_eq!(key, "P1", "{path}");
        }
        // An empty slot is filled, and without a stand-down nothing has to be known.
        let answer = tell(&checkout, request(&[FORM, SAME_ORIGIN], "aff=E"));
        assert!(answer.cookie.is_some());
        let plain = layer(|builder| builder);
        assert_eq!(after_p1(&plain, &[FORM, SAME_ORIGIN], "aff=E").1, "E");
    }

    fn e3_a_frame_in_a_foreign_page_is_refused() {
        for access in ["none", "inactive", "active", ""] {
            let shop = layer(|builder| builder.clicks(clicks()).spawner(std::mem::forget));
            let headers = [
                FORM,
                SAME_ORIGIN,
                ("sec-fetch-storage-access", access),
                ("user-agent", BROWSER),
            ];
            let answer = tell(&shop, request(&headers, "aff=E&_path=/"));
            assert_eq!((answer.status, answer.cookie), (403, None), "{access}");
            assert!(answer.body.contains("frame"), "{}", answer.body);
            assert_eq!(shop.click_counts().started, 0, "{access}");
        }
        let shop = layer(|builder| builder.clicks(clicks()).spawner(std::mem::forget));
        tell(
            &shop,
            request(
                &[FORM, SAME_ORIGIN, ("user-agent", BROWSER)],
                "aff=E&_path=/",
            ),
        );
        assert_eq!(shop.click_counts().started, 1);
    }

    fn e4_the_script_does_nothing_in_a_frame_and_tells_what_the_layer_would_know() {
        let layer = layer(|b| b.program(Program::default().click_params(["dub_id"])));
        for method in ["GET", "HEAD"] {
            let mut asked = request(&[], "");
            *asked.method_mut() = method.parse().unwrap();
            let mut service = layer.layer(layer.capture_endpoint());
            let Ok(response) = run(service.call(crate::common::arriving(asked)));
            assert_eq!(response.status(), 200, "{method}");
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), "text/javascript; charset=utf-8");
            assert_eq!(header("cache-control"), "public, max-age=3600");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert!(!response.headers().contains_key("set-cookie"));
            let body = run(response.into_body().collect()).unwrap().to_bytes();
            let script = std::str::from_utf8(&body).unwrap();
            assert!(script.len() < 1024, "{} bytes", script.len());
            for part in [
                "self!==top",
                "of('prerendering')",
                "prerenderingchange",
                "_path:location.pathname",
                "_referrer:of('referrer')",
                r#"["aff","ref","dub_id"]"#,
            ] {
                assert!(script.contains(part), "{part}: {script}");
            }
        }
    }

    fn e5_a_link_of_the_own_site_replaces_nothing() {
        let layer = layer(|builder| builder);
        let of = |referrer: &str| {
            let json = serde_json::json!({"aff": "E", "_path": "/forum", "_referrer": referrer});
            after_p1(&layer, &[JSON, SAME_ORIGIN], &json.to_string())
        };
        for own in [
            "https://shop.example/",
            "https://shop.example",
            "https://SHOP.example:443/forum",
            "https://shop.example/forum",
            "https://shop.example/forum?aff=OTHER",
        ] {
            let (answer, key) = of(own);
            assert_eq!(key, "P1", "{own}");
            assert_eq!(answer.reasons, ["default: kept_own_link"], "{own}");
        }
        for outside in [
            "",
            "https://blog.example/",
            "https://shop.example.evil.example/",
            "android-app://com.example.mail/",
            // The page led to itself: an interstitial.
            "https://shop.example/forum?aff=E",
        ] {
            assert_eq!(of(outside).1, "E", "{outside}");
        }
        // As a form, whose blanks are written `+`.
        let body = "aff=E&_path=%2Fforum&_referrer=https%3A%2F%2Fshop.example%2Fa+b";
        assert_eq!(after_p1(&layer, &[FORM, SAME_ORIGIN], body).1, "P1");
    }

    #[test]
    fn e5_a_page_that_was_reloaded_or_gone_back_to_only_fills_an_empty_slot() {
        let layer = layer(|builder| builder);
        for (kind, key) in [
            ("reload", "P1"),
            ("back_forward", "P1"),
            ("navigate", "E"),
            ("prerender", "E"),
            ("", "E"),
        ] {
            let json = serde_json::json!({"aff": "E", "_path": "/", "_navigation": kind});
            let (answer, found) = after_p1(&layer, &[JSON, SAME_ORIGIN], &json.to_string());
            assert_eq!(found, key, "{kind}");
            let is_kept = answer.reasons == ["default: kept_reload"];
            assert_eq!(is_kept, key == "P1", "{kind}");
            let form = format!("aff=E&_path=%2F&_navigation={kind}");
            assert_eq!(
                after_p1(&layer, &[FORM, SAME_ORIGIN], &form).1,
                key,
                "{kind}"
            );
        }
    }

    #[test]
    fn e5_with_a_domain_a_sister_host_is_the_own_site() {
        let cookie = SignedCookie::new(keyring()).domain("shop.example");
        let layer = ReferralLayer::builder(cookie).build().unwrap();
        for (referrer, key) in [
            ("https://blog.shop.example/", "P1"),
            ("https://shop.example/", "P1"),
            ("https://otherhop.example/", "E"),
            ("https://evilshop.example/", "E"),
        ] {
            let json = serde_json::json!({"aff": "E", "_path": "/", "_referrer": referrer});
            let (_, found) = after_p1(&layer, &[JSON, SAME_ORIGIN], &json.to_string());
            assert_eq!(found, key, "{referrer}");
        }
    }

    fn e6_the_host_is_compared_as_browsers_write_it() {
        let layer = layer(|builder| builder);
        let origin = |text| ("origin", text);
        for (host, origin, is_allowed) in [
            ("shop.example:443", origin("https://shop.example"), true),
            ("SHOP.example", origin("https://shop.example"), true),
            ("shop.example.", origin("https://shop.example"), true),
            ("shop.example", origin("https://SHOP.EXAMPLE:443"), true),
            ("shop.example:80", origin("http://shop.example"), true),
            (
                "shop.example:8443",
                origin("https://shop.example:8443"),
                true,
            ),
            ("[::1]:3000", origin("http://[::1]:3000"), true),
            ("shop.example:8443", origin("https://shop.example"), false),
            ("shop.example", origin("https://shop.example:8443"), false),
            ("shop.example:443", origin("http://shop.example"), false),
            ("shop.example", origin("https://evil.example"), false),
            ("shop.example", origin("null"), false),
            (
                "shop.example@evil.example",
                origin("https://evil.example"),
                false,
            ),
        ] {
            let mut request = request(&[FORM, origin], "aff=K&_path=/");
            request.headers_mut().insert("host", host.parse().unwrap());
            let answer = tell(&layer, request);
            let status = if is_allowed { 204 } else { 403 };
            assert_eq!(answer.status, status, "{host} {origin:?}: {}", answer.body);
        }
    }

    fn e7_other_origins_can_be_allowed_by_name() {
        let layer = layer(|builder| builder);
        let endpoint = layer.capture_endpoint();
        let endpoint = endpoint
            .allow_origins(["https://www.shop.example"])
            .unwrap();
        let ask = |method: &str, origin: &str| {
            let headers = [FORM, ("sec-fetch-site", "same-site"), ("origin", origin)];
            let mut request = request(&headers, "aff=K&_path=/");
            *request.method_mut() = method.parse().unwrap();
            let mut service = layer.layer(endpoint.clone());
            let Ok(response) = run(service.call(crate::common::arriving(request)));
            let allowed = response
                .headers()
                .get("access-control-allow-origin")
                .cloned();
            let allowed = allowed.map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), allowed)
        };
        let www = "https://www.shop.example".to_owned();
        assert_eq!(ask("POST", &www), (204, Some(www.clone())));
        assert_eq!(ask("OPTIONS", &www), (204, Some(www.clone())));
        for other in ["https://evil.example", "http://www.shop.example", "null"] {
            assert_eq!(ask("POST", other), (403, None), "{other}");
            assert_eq!(ask("OPTIONS", other), (405, None), "{other}");
        }
        for bad in ["www.shop.example", "https://www.shop.example/", "*", ""] {
            assert!(
                layer.capture_endpoint().allow_origins([bad]).is_err(),
                "{bad}"
            );
        }
    }

    /// Without a wait of the test's own: Tokio's clock stands still and jumps to the next timer.
    #[tokio::test(start_paused = true)]
    async fn e8_a_slow_body_is_given_up() {
        use std::pin::Pin;
        use std::task::{Context, Poll};

        struct Endless;
        impl http_body::Body for Endless {
            type Data = bytes::Bytes;
            type Error = std::io::Error;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>> {
                Poll::Pending
            }
        }
        let layer = layer(|builder| builder);
        let (parts, _) = request(&[FORM, SAME_ORIGIN], "").into_parts();
        let mut service = layer.layer(layer.capture_endpoint());
        let began = tokio::time::Instant::now();
        let Ok(response) = service.call(Request::from_parts(parts, Endless)).await;
        assert_eq!(response.status(), 408);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert!(!response.headers().contains_key("set-cookie"));
    }
}
