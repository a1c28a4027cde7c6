//! Keys that another script keeps in a cookie of its own: a touch of a lower claim.

use crate::common::{BROWSER, COOKIE_NAME, DAY, Shop, bare_get, page_visit, with_headers};
use http::{Request, Response};
use tower_referral::click::{ClickRequest, Clicks};
use tower_referral::{Attribution, ClickId, Consent, Forget, Program, Source};

in_every_way! {
    a_scripts_cookie_fills_an_empty_slot,
    it_is_read_by_the_rules_of_a_parameters_value,
    it_gives_way_to_any_landing_and_never_replaces_one,
    a_landing_beats_the_scripts_cookie_of_the_same_request,
    it_takes_the_place_of_a_link_of_the_own_site,
    an_own_link_of_the_same_request_gives_way_and_creates_no_click,
    a_script_that_keeps_an_own_links_key_proves_nothing_new,
    a_key_that_was_known_by_a_script_is_no_refused_own_link,
    between_two_scripts_keys_attribution_decides,
    only_a_page_visit_captures_it_and_any_handler_sees_it,
    consent_and_forgetting_count_for_it_too,
    a_scripts_cookie_overwrites_nothing_on_a_stand_down_path,
}

fn program() -> Program {
    Program::default().fallback_cookies(["partnero_partner", "partnero_referral"])
}

fn shop() -> Shop {
    Shop::program(program())
}

fn a_scripts_cookie_fills_an_empty_slot() {
    let mut visitor = shop().visitor();
    visitor.hold("partnero_partner", "SCRIPT");
    let page = visitor.visit("/pricing");
    assert_eq!((page.key(), page.reason()), (Some("SCRIPT"), "captured"));
    let referral = page.referral().unwrap();
    assert_eq!(referral.source(), Source::Script);
    assert_eq!(referral.source().as_str(), "script");
    assert_eq!(referral.parameter(), Some("partnero_partner"));
    assert_eq!(referral.landing_page(), None);
    assert!(visitor.held(COOKIE_NAME).is_some());

    let page = visitor.visit("/");
    assert_eq!(
        (page.key(), page.changed()),
        (Some("SCRIPT"), false),
        "kept once"
    );
    assert_eq!(page.reason(), "none", "and worth no further note");
    assert_eq!(page.header("cache-control"), None);
}

fn it_is_read_by_the_rules_of_a_parameters_value() {
    // (line, key)
    #[rustfmt::skip]
    let cases: &[(&str, Option<&str>)] = &[
        ("partnero_partner=K", Some("K")),
        ("partnero_referral=K", Some("K")),
        ("partnero_referral=R; partnero_partner=P", Some("P")),
        ("partnero_partner=; partnero_referral=R", Some("R")),
        ("partnero_partner=%zz; partnero_referral=R", Some("R")),
        ("partnero_partner=%; partnero_partner=P2; partnero_referral=R", Some("P2")),
        ("partnero_partner=a%2Bb%3D", Some("a+b=")),
        ("partnero_partner=\"K\"", None),
        ("partnero_partner=a b", None),
        ("partnero_partner=%3Cscript%3E", None),
        ("x=1;partnero_partner=K ;y=2", Some("K")),
        ("xpartnero_partner=K", None),
        ("partnero_partnerx=K", None),
        ("x=partnero_partner=K", None),
        ("Partnero_Partner=K", None),
        ("partnero_partner", None),
        ("other=K", None),
    ];
    for (line, key) in cases {
        let page = shop().send(crate::common::with_cookie_line("/", line));
        assert_eq!(page.key(), *key, "{line}");
        assert_eq!(page.changed(), key.is_some(), "{line}");
    }
    let shop = Shop::new();
    let page = shop.send(crate::common::with_cookie_line("/", "partnero_partner=K"));
    assert_eq!(page.key(), None, "not read unless it is named");
}

fn it_gives_way_to_any_landing_and_never_replaces_one() {
    for attribution in [
        Attribution::FirstTouch,
        Attribution::LastTouch,
        Attribution::rule(|_, _| panic!("the claims differ, so there is nothing to ask")),
    ] {
        let case = format!("{attribution:?}");
        let shop = Shop::program(program().attribution(attribution));
        let mut visitor = shop.visitor();
        visitor.hold("partnero_partner", "SCRIPT");
        visitor.visit("/");
        let page = visitor.visit("/?aff=LANDING");
        assert_eq!(
            (page.key(), page.reason()),
            (Some("LANDING"), "captured"),
            "{case}"
        );
        for _ in 0..2 {
            shop.clock.pass(DAY);
            let page = visitor.visit("/");
            assert_eq!(
                (page.key(), page.changed()),
                (Some("LANDING"), false),
                "{case}"
            );
            assert_eq!(page.reason(), "none", "{case}");
        }
    }
}

fn a_landing_beats_the_scripts_cookie_of_the_same_request() {
    let mut visitor = shop().visitor();
    visitor.hold("partnero_partner", "SCRIPT");
    let page = visitor.visit("/?aff=LANDING");
    assert_eq!(page.key(), Some("LANDING"));
    assert_eq!(page.reasons(), ["default: captured"]);
    assert_eq!(page.set_cookies().len(), 1);
}

/// A page of the own site that a link of it led to.
fn own_link(uri: &str) -> Request<String> {
    let headers = [
        ("host", "shop.example"),
        ("user-agent", BROWSER),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
        ("referer", "https://shop.example/"),
    ];
    with_headers(bare_get(uri), &headers)
}

/// The partner's landing was answered by a cache, so that only the script knows of it.
fn it_takes_the_place_of_a_link_of_the_own_site() {
    for attribution in [
        Attribution::FirstTouch,
        Attribution::LastTouch,
        Attribution::rule(|_, _| panic!("the ranks differ, so there is nothing to ask")),
    ] {
        let case = format!("{attribution:?}");
        let shop = Shop::program(program().attribution(attribution));
        // The own link is the first request that isn't answered by the cache.
        let mut visitor = shop.visitor();
        visitor.hold("partnero_partner", "P1");
        let page = visitor.send(own_link("/pricing?ref=footer"));
        assert_eq!(page.key(), Some("P1"), "{case}");
        assert_eq!(page.set_cookies().len(), 1, "{case}");
        assert_eq!(visitor.visit("/").key(), Some("P1"), "{case}");
        let page = visitor.send(own_link("/pricing?ref=header"));
        assert_eq!(page.key(), Some("P1"), "{case}");
        assert_eq!(page.reason(), "kept_own_link", "{case}");

        // The own link came days before.
        let mut visitor = shop.visitor();
        visitor.send(own_link("/pricing?ref=footer"));
        shop.clock.pass(DAY);
        visitor.hold("partnero_partner", "P1");
        let post = || Request::post("/sign-up").body(String::new()).unwrap();
        let page = visitor.send(post());
        assert_eq!((page.key(), page.changed()), (Some("P1"), false), "{case}");
        let page = visitor.visit("/");
        assert_eq!(
            (page.key(), page.reason()),
            (Some("P1"), "captured"),
            "{case}"
        );
        assert_eq!(page.referral().unwrap().source(), Source::Script, "{case}");
        assert_eq!(visitor.visit("/?aff=P2").key(), Some("P2"), "{case}");
        assert_eq!(visitor.send(post()).key(), Some("P2"), "{case}");
    }
}

fn an_own_link_of_the_same_request_gives_way_and_creates_no_click() {
    let clicks = || {
        Clicks::from_fn(async |_: ClickRequest| "click".parse::<ClickId>())
            .base_url("https://shop.example")
    };
    let shop = || {
        Shop::with(|builder| {
            let builder = builder.program(program()).clicks(clicks());
            builder.spawner(std::mem::forget)
        })
    };
    for (script, started) in [(None, 1), (Some("P1"), 0), (Some("footer"), 1)] {
        let shop = shop();
        let mut visitor = shop.visitor();
        if let Some(script) = script {
            visitor.hold("partnero_partner", script);
        }
        visitor.send(own_link("/pricing?ref=footer"));
        assert_eq!(shop.layer.click_counts().started, started, "{script:?}");
    }
}

/// A script reads the URL of an own link as it reads any other.
fn a_script_that_keeps_an_own_links_key_proves_nothing_new() {
    let mut visitor = shop().visitor();
    visitor.send(own_link("/pricing?ref=footer"));
    visitor.hold("partnero_partner", "footer");
    let page = visitor.visit("/");
    assert_eq!((page.key(), page.changed()), (Some("footer"), false));
    assert_eq!(page.referral().unwrap().source(), Source::Landing);
}

fn a_key_that_was_known_by_a_script_is_no_refused_own_link() {
    let mut visitor = shop().visitor();
    visitor.hold("partnero_partner", "P1");
    visitor.visit("/");
    visitor.visit("/?aff=P2");
    // P1's own landing, behind an interstitial.
    let itself = [("referer", "https://shop.example/?aff=P1")];
    let mut request = own_link("/?aff=P1");
    request.headers_mut().remove("referer");
    let page = visitor.send(with_headers(request, &itself));
    assert_eq!((page.key(), page.reason()), (Some("P1"), "captured"));
}

fn between_two_scripts_keys_attribution_decides() {
    for (attribution, key, reason) in [
        (Attribution::FirstTouch, "ONE", "kept_first_touch"),
        (Attribution::LastTouch, "TWO", "captured"),
    ] {
        let mut visitor = Shop::program(program().attribution(attribution)).visitor();
        visitor.hold("partnero_partner", "ONE");
        visitor.visit("/");
        visitor.hold("partnero_partner", "TWO");
        let page = visitor.visit("/");
        assert_eq!((page.key(), page.reason()), (Some(key), reason));
    }
}

fn only_a_page_visit_captures_it_and_any_handler_sees_it() {
    let shop = Shop::with(|builder| {
        builder
            .program(program())
            .skip(|request| request.uri().path() == "/skip")
    });
    let requests: [(&str, Request<String>); 2] = [
        (
            "POST",
            Request::post("/signup").body(String::new()).unwrap(),
        ),
        (
            "a fetch",
            with_headers(bare_get("/api"), &[("sec-fetch-dest", "empty")]),
        ),
    ];
    for (case, request) in requests {
        let mut visitor = shop.visitor();
        visitor.hold("partnero_partner", "SCRIPT");
        let page = visitor.send(request);
        assert_eq!(
            (page.key(), page.changed()),
            (Some("SCRIPT"), false),
            "{case}"
        );
        assert!(!page.is_private(), "{case}");
    }
    let mut visitor = shop.visitor();
    visitor.hold("partnero_partner", "SCRIPT");
    let page = visitor.send(page_visit("/skip"));
    assert_eq!((page.key(), page.changed()), (None, false), "untouched");

    let mut visitor = shop.visitor();
    visitor.visit("/?aff=LANDING");
    visitor.hold("partnero_partner", "SCRIPT");
    let page = visitor.send(Request::post("/").body(String::new()).unwrap());
    assert_eq!(page.key(), Some("LANDING"), "what is kept comes first");
}

fn consent_and_forgetting_count_for_it_too() {
    for (consent, key) in [(Consent::Denied, None), (Consent::Unknown, Some("SCRIPT"))] {
        let shop = Shop::with(|b| b.program(program()).consent(move |_| consent));
        let mut visitor = shop.visitor();
        visitor.hold("partnero_partner", "SCRIPT");
        let page = visitor.visit("/");
        assert_eq!((page.key(), page.changed()), (key, false), "{consent:?}");
    }
    let shop = shop().answering(|request| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/forget" {
            response.extensions_mut().insert(Forget);
        }
        response
    });
    let mut visitor = shop.visitor();
    visitor.hold("partnero_partner", "SCRIPT");
    visitor.visit("/");
    visitor.visit("/forget");
    assert_eq!(visitor.held(COOKIE_NAME), None);
    assert_eq!(
        visitor.held("partnero_partner"),
        Some("SCRIPT"),
        "not ours to delete"
    );
}

/// A browser extension that writes the script's cookie at the checkout is the last-click hijack that
/// stand-down paths are for.
fn a_scripts_cookie_overwrites_nothing_on_a_stand_down_path() {
    let shop = Shop::with(|b| b.program(program()).stand_down("/checkout"));
    let mut visitor = shop.visitor();
    visitor.hold("partnero_partner", "HONEST");
    visitor.visit("/");
    visitor.hold("partnero_partner", "COUPON");
    let page = visitor.visit("/checkout/pay");
    assert_eq!((page.key(), page.changed()), (Some("HONEST"), false));

    let mut visitor = shop.visitor();
    visitor.hold("partnero_partner", "LATE");
    assert_eq!(
        visitor.visit("/checkout").key(),
        Some("LATE"),
        "it fills an empty slot"
    );
}
