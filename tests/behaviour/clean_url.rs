//! The redirect to the same URL without our parameters.

use crate::common::{Shop, bare_get, page_visit, with_headers};
use http::{Response, StatusCode};
use tower_referral::{Attribution, Capture, Consent, Forget, Program};

in_every_way! {
    the_same_url_without_our_parameters_and_every_other_byte,
    nothing_of_ours_stays_behind_the_bounds_of_reading,
    a_visitor_who_refuses_cookies_is_not_sent_round_in_a_loop,
    only_a_success_becomes_a_redirect,
    a_page_that_is_no_landing_is_not_redirected,
    where_nothing_is_kept_there_is_no_redirect,
    a_landing_that_waits_for_consent_is_not_redirected_away,
    the_same_key_again_is_redirected_too_without_a_cookie,
    a_key_that_loses_under_first_touch_leaves_the_url_too,
    the_handler_runs_first_and_its_word_counts,
    the_browsers_own_uri_is_the_one_to_go_back_to,
}

fn shop() -> Shop {
    Shop::with(tower_referral::Builder::clean_url)
}

fn the_same_url_without_our_parameters_and_every_other_byte() {
    // (request target, location)
    #[rustfmt::skip]
    let cases: &[(&str, Option<&str>)] = &[
        ("/?aff=K", Some("/")),
        ("/pricing?aff=K", Some("/pricing")),
        ("/p?a=1&aff=K&b=2", Some("/p?a=1&b=2")),
        ("/p?aff=K&a=%zz&b=+&c=a/b?c", Some("/p?a=%zz&b=+&c=a/b?c")),
        ("/p?aff=K&ref=L&aff=M", Some("/p")),
        ("/p?%61ff=K&x", Some("/p?x")),
        ("/p?aff=K&affx=1&AFF=2", Some("/p?affx=1&AFF=2")),
        ("/p?ref=&aff=K", Some("/p")),
        ("/p?a=1&&b=2&aff=K", Some("/p?a=1&&b=2")),
        ("/a%20b/%2F?aff=K", Some("/a%20b/%2F")),
        ("/a//b?aff=K", Some("/a//b")),
        ("/p;x=1?aff=K", Some("/p;x=1")),
        ("https://shop.example:444/p?aff=K&a=1", Some("/p?a=1")),
        ("//evil.example?aff=K", None),
        ("//evil.example/p?aff=K&a=1", None),
        ("///evil.example?aff=K", None),
        ("/\\evil.example?aff=K", None),
        ("/\\/evil.example?aff=K", None),
        ("https://shop.example//evil.example?aff=K", None),
        ("/?aff=%zz", None),
        ("/?a=1", None),
        ("/", None),
    ];
    for (target, location) in cases {
        let mut visitor = shop().visitor();
        let page = visitor.visit(target);
        assert_eq!(page.header("location"), *location, "{target}");
        let status = page.response.status();
        if location.is_some() {
            assert_eq!(status, StatusCode::SEE_OTHER, "{target}");
            assert!(page.changed() && page.is_private(), "{target}");
            assert_eq!(page.response.body(), "page", "{target}: the body stays");
        } else {
            assert_eq!(status, StatusCode::OK, "{target}");
        }
    }
}

fn nothing_of_ours_stays_behind_the_bounds_of_reading() {
    let flood = "a=1&".repeat(3000);
    let page = shop().send(page_visit(&format!("/?aff=K&{flood}aff=L&ref=M")));
    let expected = format!("/?{}", flood.trim_end_matches('&'));
    assert_eq!(page.header("location"), Some(&*expected));
}

fn a_visitor_who_refuses_cookies_is_not_sent_round_in_a_loop() {
    let shop = shop();
    let page = shop.send(page_visit("/p?aff=K&a=1"));
    let location = page.header("location").unwrap();
    let page = shop.send(page_visit(location));
    assert_eq!(page.response.status(), StatusCode::OK);
    assert_eq!(page.header("location"), None);
}

fn only_a_success_becomes_a_redirect() {
    for status in [
        200, 201, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 500, 503,
    ] {
        let shop = shop().answering(move |_| {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if (300..400).contains(&status) {
                response
                    .headers_mut()
                    .insert("location", "/own".parse().unwrap());
            }
            response
        });
        let page = shop.send(page_visit("/?aff=K"));
        assert!(page.changed(), "{status}: kept all the same");
        let redirected = page.header("location") == Some("/");
        assert_eq!(redirected, (200..300).contains(&status), "{status}");
        if !redirected {
            assert_eq!(page.response.status(), status);
        }
    }
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
        let shop = Shop::with(|b| b.clean_url().consent(move |_| consent));
        let page = shop.send(page_visit("/?aff=K"));
        assert_eq!(page.response.status(), StatusCode::OK, "{consent:?}");
    }
    let skipping = Shop::with(|b| b.clean_url().skip(|_| true));
    assert_eq!(
        skipping.send(page_visit("/?aff=K")).response.status(),
        StatusCode::OK
    );
    let forgetting = shop().answering(|_| {
        let mut response = Response::new(String::new());
        response.extensions_mut().insert(Forget);
        response
    });
    let page = forgetting.send(page_visit("/?aff=K"));
    assert_eq!(
        page.response.status(),
        StatusCode::OK,
        "the handler forgot it"
    );
}

/// The page is all that holds the new referral until the visitor consents: redirecting to a URL
/// without it, because an older one is kept, would lose it.
fn a_landing_that_waits_for_consent_is_not_redirected_away() {
    let shop = Shop::with(|b| {
        b.clean_url().consent(|request| {
            if request.headers().contains_key("x-not-yet") {
                Consent::Unknown
            } else {
                Consent::Granted
            }
        })
    });
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
    assert_eq!(page.header("location"), Some("/p"));
    assert!(!page.changed() && page.is_private());
}

fn a_key_that_loses_under_first_touch_leaves_the_url_too() {
    let shop = Shop::with(|b| {
        b.clean_url()
            .program(Program::default().attribution(Attribution::FirstTouch))
    });
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=FIRST");
    let page = visitor.visit("/p?aff=SECOND");
    assert_eq!(page.header("location"), Some("/p"));
    assert_eq!(visitor.visit("/p").key(), Some("FIRST"));
}

fn the_handler_runs_first_and_its_word_counts() {
    let shop = shop().answering(|request| {
        let mut response = Response::new("made".to_owned());
        response
            .headers_mut()
            .append("set-cookie", "sid=1".parse().unwrap());
        if request.uri().path() == "/code" {
            response
                .extensions_mut()
                .insert(Capture::key("CODE".parse().unwrap()));
        }
        response
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/code?aff=K");
    assert_eq!(page.header("location"), Some("/code"));
    assert_eq!(page.set_cookies().len(), 2);
    assert_eq!(page.set_cookies()[0], "sid=1");
    assert_eq!(visitor.visit("/").key(), Some("CODE"));
}

fn the_browsers_own_uri_is_the_one_to_go_back_to() {
    let shop = Shop::with(|b| {
        b.clean_url()
            .original_uri(|request| request.extensions().get::<http::Uri>())
    });
    let mut request = page_visit("/pricing?aff=K");
    let original: http::Uri = "/shop/pricing?aff=K&a=1".parse().unwrap();
    request.extensions_mut().insert(original);
    let page = shop.send(request);
    assert_eq!(page.header("location"), Some("/shop/pricing?a=1"));
    let landing_page = page.referral().unwrap().landing_page();
    assert_eq!(landing_page.as_deref(), Some("/shop/pricing?aff=K"));
    let page = shop.send(page_visit("/pricing?aff=K"));
    assert_eq!(
        page.header("location"),
        Some("/pricing"),
        "where there is none"
    );
}
