//! The redirect to the same URL without our parameters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Shop, bare_get, page_visit, with_headers};
use http::{Response, StatusCode};
use tower_referral::{Attribution, Capture, Consent, Program};

in_every_way! {
    the_same_url_without_our_parameters_and_every_other_byte,
    beyond_the_bound_of_reading_there_is_no_redirect,
    a_visitor_who_refuses_cookies_is_not_sent_round_in_a_loop,
    the_handler_runs_once_at_the_clean_url,
    a_page_that_is_no_landing_is_not_redirected,
    where_nothing_is_kept_there_is_no_redirect,
    a_landing_that_waits_for_consent_is_not_redirected_away,
    the_same_key_again_is_redirected_too_without_a_cookie,
    a_key_that_loses_under_first_touch_leaves_the_url_too,
    what_only_fetches_links_is_not_redirected,
    behind_a_prefix_that_was_stripped_the_location_is_still_right,
}

fn shop() -> Shop {
    Shop::new().cleaning_urls()
}

fn the_same_url_without_our_parameters_and_every_other_byte() {
    // (request target, location)
    #[rustfmt::skip]
    let cases: &[(&str, Option<&str>)] = &[
        ("/?aff=K", Some("./")),
        ("/pricing?aff=K", Some("./pricing")),
        ("/p?a=1&aff=K&b=2", Some("?a=1&b=2")),
        ("/p?aff=K&a=%zz&b=+&c=a/b?c", Some("?a=%zz&b=+&c=a/b?c")),
        ("/p?aff=K&ref=L&aff=M", Some("./p")),
        ("/p?%61ff=K&x", Some("?x")),
        ("/p?aff=K&affx=1&AFF=2", Some("?affx=1&AFF=2")),
        ("/p?ref=&aff=K", Some("./p")),
        ("/p?a=1&&b=2&aff=K", Some("?a=1&&b=2")),
        ("/p?a=1&amp;aff=K", Some("?a=1")),
        ("/a%20b/%2F?aff=K", Some("./%2F")),
        ("/a//b?aff=K", Some("./b")),
        ("/a/b/?aff=K", Some("./")),
        ("/p;x=1?aff=K", Some("./p;x=1")),
        ("/a/b:c?aff=K", Some("./b:c")),
        ("https://shop.example:444/p?aff=K&a=1", Some("?a=1")),
        // Whatever the path is, the location stays on the host.
        ("//evil.example?aff=K", Some("./evil.example")),
        ("//evil.example/p?aff=K&a=1", Some("?a=1")),
        ("/https://evil.example?aff=K", Some("./evil.example")),
        ("/javascript:alert(1)?aff=K", Some("./javascript:alert(1)")),
        ("/p?aff=K&//evil.example", Some("?//evil.example")),
        ("/?aff=%zz", None),
        ("/?a=1", None),
        ("/", None),
    ];
    for (target, location) in cases {
        let mut visitor = shop().visitor();
        let page = visitor.visit(target);
        assert_eq!(page.header("location"), *location, "{target}");
        let status = page.response.status();
        assert_eq!(page.is_handled, location.is_none(), "{target}");
        if location.is_some() {
            assert_eq!(status, StatusCode::SEE_OTHER, "{target}");
            assert!(page.changed() && page.is_private(), "{target}");
            assert_eq!(page.response.body(), "", "{target}");
        } else {
            assert_eq!(status, StatusCode::OK, "{target}");
        }
    }
}

fn beyond_the_bound_of_reading_there_is_no_redirect() {
    let flood = "a=1&".repeat(3000);
    let page = shop().send(page_visit(&format!("/?aff=K&{flood}aff=L&ref=M")));
    assert_eq!(page.response.status(), StatusCode::OK);
    assert_eq!((page.header("location"), page.key()), (None, Some("K")));
    let fits = "x".repeat(8192 - "aff=K&".len());
    let page = shop().send(page_visit(&format!("/?aff=K&{fits}")));
    assert_eq!(page.header("location"), Some(&*format!("?{fits}")));
    let page = shop().send(page_visit(&format!("/?aff=K&{fits}x")));
    assert_eq!(page.header("location"), None);
}

fn a_visitor_who_refuses_cookies_is_not_sent_round_in_a_loop() {
    let shop = shop();
    let page = shop.send(page_visit("/p?aff=K&a=1"));
    assert_eq!(page.header("location"), Some("?a=1"));
    let page = shop.send(page_visit("/p?a=1"));
    assert_eq!(page.response.status(), StatusCode::OK);
    assert_eq!(page.header("location"), None);
}

fn the_handler_runs_once_at_the_clean_url() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let shop = shop().answering(move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new("made".to_owned());
        if request.uri().path() == "/code" {
            let capture = Capture::key("CODE".parse().unwrap());
            response.extensions_mut().insert(capture);
        }
        response
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/code?aff=K");
    assert_eq!(page.header("location"), Some("./code"));
    assert_eq!(page.set_cookies().len(), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let page = visitor.visit("/code");
    assert_eq!(
        (page.key(), page.response.body().as_str()),
        (Some("K"), "made")
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(visitor.visit("/").key(), Some("CODE"));
}

fn a_page_that_is_no_landing_is_not_redirected() {
    let mut post = page_visit("/?aff=K");
    *post.method_mut() = http::Method::POST;
    let mut head = page_visit("/?aff=K");
    *head.method_mut() = http::Method::HEAD;
    let image = with_headers(bare_get("/?aff=K"), &[("sec-fetch-dest", "image")]);
    for (case, request) in [("POST", post), ("HEAD", head), ("an image", image)] {
        let page = shop().send(request);
        assert_eq!(page.response.status(), StatusCode::OK, "{case}");
        assert_eq!(page.header("location"), None, "{case}");
    }
}

fn where_nothing_is_kept_there_is_no_redirect() {
    for consent in [Consent::Denied, Consent::Unknown] {
        let shop = Shop::with(|b| b.consent(move |_| consent)).cleaning_urls();
        let page = shop.send(page_visit("/?aff=K"));
        assert_eq!(page.response.status(), StatusCode::OK, "{consent:?}");
    }
    let skipping = Shop::with(|b| b.skip(|_| true)).cleaning_urls();
    let page = skipping.send(page_visit("/?aff=K"));
    assert_eq!(page.response.status(), StatusCode::OK);
}

/// The page is all that holds the new referral until the visitor consents: redirecting to a URL
/// without it, because an older one is kept, would lose it.
fn a_landing_that_waits_for_consent_is_not_redirected_away() {
    let shop = Shop::with(|b| {
        b.consent(|request| {
            if request.headers().contains_key("x-not-yet") {
                Consent::Unknown
            } else {
                Consent::Granted
            }
        })
    })
    .cleaning_urls();
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=OLD");
    let page = visitor.send(with_headers(page_visit("/?aff=NEW"), &[("x-not-yet", "1")]));
    assert_eq!(
        page.key(),
        Some("NEW"),
        "the page can hold a carry token for it"
    );
    assert_eq!(page.response.status(), StatusCode::OK);
    assert_eq!(page.header("location"), None);
}

fn the_same_key_again_is_redirected_too_without_a_cookie() {
    let mut visitor = shop().visitor();
    visitor.visit("/?aff=K");
    let page = visitor.visit("/p?aff=K");
    assert_eq!(page.response.status(), StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), Some("./p"));
    assert!(!page.changed() && page.is_private());
}

fn a_key_that_loses_under_first_touch_leaves_the_url_too() {
    let shop = Shop::with(|b| b.program(Program::default().attribution(Attribution::FirstTouch)))
        .cleaning_urls();
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=FIRST");
    let page = visitor.visit("/p?aff=SECOND");
    assert_eq!(page.header("location"), Some("./p"));
    assert_eq!(visitor.visit("/p").key(), Some("FIRST"));
}

/// Such a program hands on the last URL that it saw, and the referral would be lost.
fn what_only_fetches_links_is_not_redirected() {
    #[rustfmt::skip]
    let agents = [
        ("Mozilla/4.0 (compatible; ms-office; MSOffice 16)", false),
        ("Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; ms-office; MSOffice rmj)", false),
        ("Microsoft Office Excel 2014", false),
        ("Microsoft Office Word/16.0.5", false),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", false),
        ("WhatsApp/2.23.20.0 A", false),
        ("curl/8.5.0", false),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", true),
    ];
    for (agent, is_redirected) in agents {
        let mut request = page_visit("/?aff=K");
        let agent_value = agent.parse().unwrap();
        request.headers_mut().insert("user-agent", agent_value);
        let page = shop().send(request);
        assert_eq!(page.header("location").is_some(), is_redirected, "{agent}");
        assert!(page.changed(), "{agent}: captured all the same");
    }
}

fn behind_a_prefix_that_was_stripped_the_location_is_still_right() {
    // The browser is at /shop/pricing; the layer sees /pricing, and the location is relative.
    let shop = Shop::with(|b| b.original_uri(|request| request.extensions().get::<http::Uri>()))
        .cleaning_urls();
    for (original, seen, location) in [
        ("/shop/pricing?aff=K&a=1", "/pricing?aff=K&a=1", "?a=1"),
        ("/shop/pricing?aff=K", "/pricing?aff=K", "./pricing"),
        ("/shop/?aff=K", "/?aff=K", "./"),
        // axum's `nest` gives `/shop` the path `/`, and a browser that is at `/shop` resolves by that.
        ("/shop?aff=K", "/?aff=K", "./shop"),
    ] {
        let mut request = page_visit(seen);
        let original: http::Uri = original.parse().unwrap();
        request.extensions_mut().insert(original.clone());
        let mut visitor = shop.visitor();
        let page = visitor.send(request);
        assert_eq!(page.header("location"), Some(location));
        let page = visitor.visit("/");
        let landing_page = page.referral().unwrap().landing_page();
        let path = original.path();
        assert_eq!(landing_page, Some(format!("{path}?aff=K")));
    }
}
