//! Keys that another script keeps in a cookie of its own: a touch of a lower claim.

use crate::common::{COOKIE_NAME, DAY, Shop, bare_get, page_visit, with_headers};
use http::{Request, Response};
use tower_referral::{Attribution, Consent, Forget, Program, Source};

in_every_way! {
    a_scripts_cookie_fills_an_empty_slot,
    it_is_read_by_the_rules_of_a_parameters_value,
    it_gives_way_to_any_landing_and_never_replaces_one,
    a_landing_beats_the_scripts_cookie_of_the_same_request,
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
