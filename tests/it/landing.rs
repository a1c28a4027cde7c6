//! Which requests are landings, and which key they carry.

use crate::common::{Shop, bare_get, page_visit, with_headers};
use http::{Method, Request};
use tower_referral::{KeyRule, Program};

in_every_way! {
    only_a_get_is_a_landing,
    what_the_browser_says_about_itself_must_say_a_page_visit,
    a_subresource_neither_overwrites_nor_forgets,
    a_link_within_the_site_fills_an_empty_slot_and_never_overwrites,
    stand_down_paths_fill_an_empty_slot_and_never_overwrite,
    parameters_are_read_from_the_query_by_one_set_of_rules,
    the_configured_order_decides_between_names,
    a_key_is_nowhere_but_in_the_query,
    an_invalid_key_neither_overwrites_nor_locks_nor_is_echoed,
    reading_is_bounded_and_a_flood_of_others_does_not_disturb_ours,
    a_key_rule_narrows_or_widens_what_a_key_is,
    a_predicate_decides_over_captures_and_not_over_what_is_kept,
    skipped_requests_capture_nothing_and_read_what_is_kept,
    the_landing_page_is_the_path_and_our_parameter_and_nothing_else,
    extra_parameters_are_kept_in_the_configured_order,
}

type Headers = &'static [(&'static str, &'static str)];

const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");

fn only_a_get_is_a_landing() {
    let shop = Shop::new();
    for method in [
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::from_bytes(b"get").unwrap(),
        Method::from_bytes(b"PURGE").unwrap(),
    ] {
        let mut request = page_visit("/?aff=K");
        *request.method_mut() = method.clone();
        let page = shop.send(request);
        assert_eq!(page.key(), None, "{method}");
        assert!(!page.changed(), "{method}");
        assert_eq!(page.reason(), "not_a_page_visit", "{method}");
        assert!(page.is_private(), "{method}: our parameter was there");
    }
    assert_eq!(shop.send(page_visit("/?aff=K")).key(), Some("K"));
}

fn what_the_browser_says_about_itself_must_say_a_page_visit() {
    // (case, headers, captured)
    #[rustfmt::skip]
    let cases: &[(&str, Headers, bool)] = &[
        ("an old browser, curl", &[], true),
        ("a link", &[DOCUMENT, NAVIGATE], true),
        ("only the destination", &[DOCUMENT], true),
        ("only the mode", &[NAVIGATE], true),
        ("a hidden image", &[("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")], false),
        ("an image that claims to navigate", &[("sec-fetch-dest", "image"), NAVIGATE], false),
        ("a hidden frame", &[("sec-fetch-dest", "iframe"), NAVIGATE], false),
        ("an old frame", &[("sec-fetch-dest", "frame"), NAVIGATE], false),
        ("an embedded object", &[("sec-fetch-dest", "object"), NAVIGATE], false),
        ("an embed", &[("sec-fetch-dest", "embed"), NAVIGATE], false),
        ("a script's fetch", &[("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors")], false),
        ("a fetch that calls itself a document", &[DOCUMENT, ("sec-fetch-mode", "cors")], false),
        ("a stylesheet", &[("sec-fetch-dest", "style"), ("sec-fetch-mode", "no-cors")], false),
        ("a mode without destination", &[("sec-fetch-mode", "no-cors")], false),
        ("another spelling", &[("sec-fetch-dest", "Document"), NAVIGATE], false),
        ("an empty destination", &[("sec-fetch-dest", ""), NAVIGATE], false),
        ("two destinations", &[DOCUMENT, ("sec-fetch-dest", "image"), NAVIGATE], false),
        ("two destinations, the other way", &[("sec-fetch-dest", "image"), DOCUMENT, NAVIGATE], false),
        ("a list of destinations", &[("sec-fetch-dest", "document, image"), NAVIGATE], false),
        ("a speculative page visit", &[DOCUMENT, NAVIGATE, ("sec-purpose", "prefetch")], true),
        ("a prerendered page", &[DOCUMENT, NAVIGATE, ("sec-purpose", "prefetch;prerender")], true),
        ("a speculative page with the old hint too", &[DOCUMENT, NAVIGATE, ("sec-purpose", "prefetch"), ("purpose", "prefetch")], true),
        ("an old prefetch", &[("purpose", "prefetch")], true),
        ("an old Firefox prefetch", &[("x-moz", "prefetch")], true),
        ("through a service worker", &[("sec-fetch-dest", "empty"), NAVIGATE], true),
        ("through a service worker of Firefox", &[("sec-fetch-dest", "empty"), ("sec-fetch-mode", "same-origin")], false),
        ("an empty destination without a mode", &[("sec-fetch-dest", "empty")], false),
        ("two modes", &[DOCUMENT, NAVIGATE, ("sec-fetch-mode", "cors")], false),
        ("WebSocket", &[("upgrade", "websocket"), ("connection", "Upgrade")], false),
        ("another purpose", &[("purpose", "view")], true),
        ("no user activation", &[DOCUMENT, NAVIGATE, ("sec-fetch-site", "cross-site")], true),
        ("a sister site", &[DOCUMENT, NAVIGATE, ("sec-fetch-site", "same-site")], true),
        ("typed or bookmarked", &[DOCUMENT, NAVIGATE, ("sec-fetch-site", "none")], true),
        ("within the site, empty slot", &[DOCUMENT, NAVIGATE, ("sec-fetch-site", "same-origin")], true),
        ("a crawler", &[("user-agent", "Googlebot/2.1")], true),
        ("a link preview", &[("user-agent", "WhatsApp/2.23")], true),
    ];
    let shop = Shop::new();
    for (case, headers, captured) in cases {
        let page = shop.send(with_headers(bare_get("/?aff=K"), headers));
        assert_eq!(page.key(), captured.then_some("K"), "{case}");
        assert_eq!(page.changed(), *captured, "{case}");
        let reason = if *captured {
            "captured"
        } else {
            "not_a_page_visit"
        };
        assert_eq!(page.reason(), reason, "{case}");
    }
}

fn a_subresource_neither_overwrites_nor_forgets() {
    let mut visitor = Shop::new().visitor();
    visitor.visit("/?aff=HONEST");
    let image = with_headers(
        bare_get("/pixel.gif?aff=THIEF"),
        &[("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")],
    );
    let page = visitor.send(image);
    assert!(!page.changed());
    assert_eq!(page.key(), Some("HONEST"));
    assert_eq!(visitor.visit("/").key(), Some("HONEST"));
}

fn a_link_within_the_site_fills_an_empty_slot_and_never_overwrites() {
    let within = |uri| {
        let headers = [DOCUMENT, NAVIGATE, ("sec-fetch-site", "same-origin")];
        with_headers(bare_get(uri), &headers)
    };
    let mut visitor = Shop::new().visitor();
    assert_eq!(visitor.send(within("/?ref=footer")).reason(), "captured");
    let page = visitor.send(within("/?ref=header"));
    assert_eq!(
        (page.key(), page.reason()),
        (Some("footer"), "kept_own_link")
    );
    assert!(page.changed(), "that it was refused is remembered once");
    let page = visitor.send(within("/?ref=header"));
    assert!(!page.changed());
    let page = visitor.visit("/?aff=PARTNER");
    assert_eq!((page.key(), page.reason()), (Some("PARTNER"), "captured"));
    let page = visitor.send(within("/?ref=footer"));
    assert_eq!(
        (page.key(), page.reason()),
        (Some("PARTNER"), "kept_own_link")
    );

    let mut mixed = within("/?ref=footer");
    mixed
        .headers_mut()
        .append("sec-fetch-site", "cross-site".parse().unwrap());
    let page = visitor.send(mixed);
    assert_eq!(
        page.key(),
        Some("PARTNER"),
        "one line that says so is enough"
    );
}

fn stand_down_paths_fill_an_empty_slot_and_never_overwrite() {
    let shop = Shop::with(|builder| builder.stand_down("/checkout").stand_down("/pay/now/"));
    // (path, stands down)
    let cases = [
        ("/checkout", true),
        ("/checkout/", true),
        ("/checkout/step/2", true),
        ("//checkout", true),
        ("/%63heckout", true),
        ("/pay/now", true),
        ("/pay/now/3", true),
        ("/pay", false),
        ("/pay/nowhere", false),
        ("/checkouts", false),
        ("/checkout-help", false),
        ("/Checkout", true),
        ("/checkout;x=1", true),
        ("/checkout%2Fpay", true),
        ("/shop/checkout", false),
        ("/", false),
    ];
    for (path, stands_down) in cases {
        let landing = format!("{path}?aff=COUPON");
        let mut visitor = shop.visitor();
        assert_eq!(visitor.visit(&landing).key(), Some("COUPON"), "{path}");

        let mut visitor = shop.visitor();
        visitor.visit("/?aff=PARTNER");
        let page = visitor.visit(&landing);
        let expected = if stands_down {
            (Some("PARTNER"), "kept_stand_down", false)
        } else {
            (Some("COUPON"), "captured", true)
        };
        assert_eq!(
            (page.key(), page.reason(), page.changed()),
            expected,
            "{path}"
        );
    }
}

fn parameters_are_read_from_the_query_by_one_set_of_rules() {
    // (query, parameter and key, or the reason)
    let long = "K".repeat(128);
    let fits = format!("aff={long}");
    let too_long = format!("aff={long}K");
    #[rustfmt::skip]
    let cases: &[(&str, Result<&str, &str>)] = &[
        ("aff=K", Ok("aff=K")),
        ("ref=K", Ok("ref=K")),
        ("ref=R&aff=A", Ok("aff=A")),
        ("aff=A&ref=R", Ok("aff=A")),
        ("aff=A&aff=B", Ok("aff=A")),
        ("aff=&aff=B", Ok("aff=B")),
        ("aff&ref=R", Ok("ref=R")),
        ("aff=&ref=R", Ok("ref=R")),
        ("aff=bad%20key&ref=R", Ok("ref=R")),
        ("aff=bad%20key&aff=B&ref=R", Ok("aff=B")),
        ("aff=%ZZ&ref=R", Ok("ref=R")),
        ("aff=%4&ref=R", Ok("ref=R")),
        ("aff=%&ref=R", Ok("ref=R")),
        ("aff=K%00&ref=R", Ok("ref=R")),
        ("aff=K%0d%0aSet-Cookie:x&ref=R", Ok("ref=R")),
        ("aff=%ff&ref=R", Ok("ref=R")),
        ("aff=%c3%a9&ref=R", Ok("ref=R")),
        ("aff=%E2%80%AE&ref=R", Ok("ref=R")),
        ("aff=%4b", Ok("aff=K")),
        ("aff=%4B", Ok("aff=K")),
        ("aff=%254b", Err("invalid_key")),
        ("%61ff=K", Ok("aff=K")),
        ("a%66%66=K", Ok("aff=K")),
        ("%2561ff=K", Err("none")),
        ("aff=a+b", Ok("aff=a+b")),
        ("aff=a%2Bb", Ok("aff=a+b")),
        ("aff=a=b=", Ok("aff=a=b=")),
        ("aff==", Ok("aff==")),
        ("aff=a%26ref=b", Err("invalid_key")),
        ("aff=azAZ09._~-@+:=", Ok("aff=azAZ09._~-@+:=")),
        ("aff=partner&x=1", Ok("aff=partner")),
        ("aff=Partner", Ok("aff=Partner")),
        ("aff=a/b", Err("invalid_key")),
        ("aff=a,b", Err("invalid_key")),
        ("aff=a;b", Err("invalid_key")),
        ("x=1;aff=K", Err("none")),
        ("aff=a*b", Err("invalid_key")),
        ("aff=a%22b", Err("invalid_key")),
        ("aff=%3Cscript%3E", Err("invalid_key")),
        ("aff", Err("invalid_key")),
        ("aff=", Err("invalid_key")),
        (&fits, Ok(&fits)),
        (&too_long, Err("invalid_key")),
        ("AFF=K", Err("none")),
        ("Aff=K", Err("none")),
        ("affx=K", Err("none")),
        ("xaff=K", Err("none")),
        ("aff[]=K", Err("none")),
        ("aff%00=K", Err("none")),
        ("aff%20=K", Err("none")),
        ("aff+=K", Err("none")),
        ("x=aff=K", Err("none")),
        ("x?aff=K", Err("none")),
        ("?aff=K", Ok("aff=K")),
        ("x=1&amp;aff=K", Ok("aff=K")),
        ("amp;aff=K", Ok("aff=K")),
        ("aff=K?utm_source=mail", Ok("aff=K")),
        ("aff=K%20", Ok("aff=K")),
        ("aff=K/", Ok("aff=K")),
        ("=K", Err("none")),
        ("&&&aff=K&&&", Ok("aff=K")),
        ("%zz=1&%=2&%ff=3&=&aff=K", Ok("aff=K")),
        ("q=%zz%ff&aff=K&q=%", Ok("aff=K")),
    ];
    let shop = Shop::new();
    for (query, expected) in cases {
        let page = shop.send(page_visit(&format!("/p?{query}")));
        let found = page.referral().map(|referral| {
            let parameter = referral.parameter().unwrap();
            format!("{parameter}={}", referral.key().unwrap())
        });
        assert_eq!(found.as_deref(), expected.ok(), "{query}");
        assert_eq!(
            page.reason(),
            expected.err().unwrap_or("captured"),
            "{query}"
        );
        assert_eq!(page.changed(), expected.is_ok(), "{query}");
        let has_parameter = *expected != Err("none");
        assert_eq!(page.is_private(), has_parameter, "{query}");
    }
}

fn the_configured_order_decides_between_names() {
    let shop = Shop::program(Program::new("default").params(["via", "aff", "ref"]));
    for (query, key) in [
        ("ref=R&aff=A&via=V", "V"),
        ("ref=R&aff=A", "A"),
        ("ref=R&aff=A&via=", "A"),
        ("ref=R&ref=S", "R"),
    ] {
        let page = shop.send(page_visit(&format!("/?{query}")));
        assert_eq!(page.key(), Some(key), "{query}");
    }
}

fn a_key_is_nowhere_but_in_the_query() {
    let shop = Shop::new();
    let mut form = Request::post("/").body("aff=K".to_owned()).unwrap();
    form.headers_mut().insert(
        "content-type",
        "application/x-www-form-urlencoded".parse().unwrap(),
    );
    let cases = [
        ("the path", page_visit("/aff=K")),
        ("a path parameter", page_visit("/p;aff=K")),
        ("an encoded question mark", page_visit("/p%3Faff=K")),
        ("the body", form),
        (
            "the referrer",
            with_headers(
                page_visit("/"),
                &[("referer", "https://blog.example/?aff=K")],
            ),
        ),
        (
            "a cookie",
            with_headers(page_visit("/"), &[("cookie", "aff=K; ref=K")]),
        ),
    ];
    for (case, request) in cases {
        let page = shop.send(request);
        assert_eq!((page.key(), page.changed()), (None, false), "{case}");
        assert_eq!(page.reason(), "none", "{case}");
        assert!(!page.is_private(), "{case}");
    }
    let page = shop.send(page_visit("https://shop.example/p?aff=K"));
    assert_eq!(page.key(), Some("K"), "a whole URL as request target");
}

fn an_invalid_key_neither_overwrites_nor_locks_nor_is_echoed() {
    let shop =
        Shop::program(Program::default().attribution(tower_referral::Attribution::FirstTouch));
    for query in ["aff=", "aff", "aff=%3Cb%3EWICKED", "aff=WICKED%", "ref=%"] {
        let mut visitor = shop.visitor();
        let page = visitor.visit(&format!("/?{query}"));
        assert_eq!(page.key(), None, "{query}");
        assert!(!format!("{page:?}").contains("WICKED"), "{query}");
        let page = visitor.visit("/?aff=FIRST");
        assert_eq!(page.key(), Some("FIRST"), "{query} must lock nothing");
        let page = visitor.visit(&format!("/?{query}"));
        assert_eq!(page.key(), Some("FIRST"), "{query} must overwrite nothing");
        assert!(!page.changed(), "{query}");
    }
}

fn reading_is_bounded_and_a_flood_of_others_does_not_disturb_ours() {
    let shop = Shop::new();
    // (case, query, key)
    let cases = [
        ("as pair 64", format!("{}aff=K", "a=1&".repeat(63)), true),
        ("as pair 65", format!("{}aff=K", "a=1&".repeat(64)), false),
        (
            "behind empty pairs",
            format!("{}aff=K", "&".repeat(200)),
            true,
        ),
        (
            "ahead of a flood",
            format!("aff=K&{}", "a=1&".repeat(1500)),
            true,
        ),
        (
            "up to 8 KiB",
            format!("{}&aff=K", "x".repeat(8192 - 6)),
            true,
        ),
        (
            "cut by 8 KiB",
            format!("{}&aff=KEY", "x".repeat(8192 - 6)),
            false,
        ),
        ("behind 8 KiB", format!("{}&aff=K", "x".repeat(8192)), false),
        (
            "ahead of 8 KiB",
            format!("aff=K&{}", "x".repeat(20_000)),
            true,
        ),
    ];
    for (case, query, captured) in cases {
        let page = shop.send(page_visit(&format!("/?{query}")));
        assert_eq!(page.key(), captured.then_some("K"), "{case}");
        assert_eq!(page.changed(), captured, "{case}");
        // What is behind the bounds is nothing of ours, and leaves the response as it was.
        assert_eq!(page.is_private(), captured, "{case}");
    }
}

fn a_key_rule_narrows_or_widens_what_a_key_is() {
    let narrow = KeyRule::ascii().only_if(|key| key.starts_with("P_"));
    let narrower = narrow.clone().only_if(|key| key.len() == 4);
    let wide = KeyRule::printable_unicode();
    let long = |n| "é".repeat(n);
    // (rule, text, is a key)
    let cases = [
        ("narrow", &narrow, "P_1".to_owned(), true),
        ("narrow", &narrow, "p_1".to_owned(), false),
        ("narrow", &narrow, "P_é".to_owned(), false),
        ("both predicates", &narrower, "P_12".to_owned(), true),
        ("both predicates", &narrower, "P_1".to_owned(), false),
        ("both predicates", &narrower, "Q_12".to_owned(), false),
        ("wide", &wide, "Zoë".to_owned(), true),
        ("wide", &wide, "ぱーとなー".to_owned(), true),
        ("wide", &wide, "a/b,c;d*".to_owned(), true),
        ("wide", &wide, "a b".to_owned(), false),
        ("wide", &wide, "a\u{a0}b".to_owned(), false),
        ("wide", &wide, "a\u{202e}b".to_owned(), false),
        ("wide", &wide, "a\u{200b}b".to_owned(), false),
        ("wide", &wide, "a\nb".to_owned(), false),
        ("wide", &wide, "a\u{7f}b".to_owned(), false),
        ("wide", &wide, "a\"b".to_owned(), false),
        ("wide", &wide, "a'b".to_owned(), false),
        ("wide", &wide, "a\\b".to_owned(), false),
        ("wide", &wide, String::new(), false),
        ("wide, 254 bytes", &wide, long(127), true),
        ("wide, 256 bytes", &wide, long(128), false),
        ("wide, 128 characters", &wide, "k".repeat(128), true),
        ("wide, 129 characters", &wide, "k".repeat(129), false),
    ];
    for (case, rule, key, is_key) in cases {
        assert_eq!(rule.parse(&key).is_ok(), is_key, "{case}: {key:?}");
        let shop = Shop::program(Program::default().key_rule(rule.clone()));
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut visitor = shop.visitor();
        let page = visitor.visit(&format!("/?aff={encoded}"));
        let expected = is_key.then_some(&*key);
        assert_eq!(page.key(), expected, "{case}: {key:?}");
        assert_eq!(visitor.visit("/").key(), expected, "{case}: {key:?}, kept");
    }
}

fn a_predicate_decides_over_captures_and_not_over_what_is_kept() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let open = Arc::new(AtomicBool::new(true));
    let door = Arc::clone(&open);
    let rule = KeyRule::ascii().only_if(move |_| door.load(Ordering::SeqCst));
    let shop = Shop::program(Program::default().key_rule(rule));
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=OLD");
    open.store(false, Ordering::SeqCst);
    let page = visitor.visit("/?aff=NEW");
    assert_eq!((page.key(), page.reason()), (Some("OLD"), "invalid_key"));
    assert!(!page.changed());
}

fn skipped_requests_capture_nothing_and_read_what_is_kept() {
    let shop = Shop::with(|builder| {
        builder.skip(|request| {
            request.uri().path().starts_with("/admin")
                || request.headers().contains_key("x-skip")
                || request.method() == Method::HEAD
        })
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/admin?aff=K");
    assert_eq!((page.key(), page.reason()), (None, "none"));
    assert!(!page.changed() && !page.is_private(), "untouched");
    let page = visitor.send(with_headers(page_visit("/?aff=K"), &[("x-skip", "1")]));
    assert_eq!((page.key(), page.reason()), (None, "none"));

    visitor.visit("/?aff=K");
    let page = visitor.visit("/admin?aff=L");
    assert_eq!((page.key(), page.changed()), (Some("K"), false));
}

fn the_landing_page_is_the_path_and_our_parameter_and_nothing_else() {
    let shop = Shop::with(|builder| {
        builder.program(
            Program::default()
                .key_rule(KeyRule::printable_unicode())
                .extra_params(["utm_source"]),
        )
    });
    let long = format!("/{}", "p".repeat(254));
    let too_long = format!("/{}", "p".repeat(255));
    let kept = format!("{long}?aff=K");
    // (request target, landing page)
    let cases: &[(&str, Option<&str>)] = &[
        ("/pricing?aff=K", Some("/pricing?aff=K")),
        (
            "/pricing?token=SECRET&aff=K&utm_source=x",
            Some("/pricing?aff=K"),
        ),
        ("/?ref=K", Some("/?ref=K")),
        ("/a%20b?aff=K", Some("/a%20b?aff=K")),
        // Raw UTF-8, with a control character of it: what is captured must be read again.
        ("/ü\u{85}'*?aff=K", Some("/ü\u{85}'*?aff=K")),
        ("/?aff=a%2Bb", Some("/?aff=a%2Bb")),
        ("/?aff=a%26b%3D%23", Some("/?aff=a%26b=%23")),
        ("/?aff=%C3%A9", Some("/?aff=%C3%A9")),
        ("https://shop.example/p?aff=K", Some("/p?aff=K")),
        (&format!("{long}?aff=K"), Some(&kept)),
        (&format!("{too_long}?aff=K"), None),
    ];
    for (target, expected) in cases {
        let mut visitor = shop.visitor();
        let page = visitor.visit(target);
        let landing_page = page.referral().unwrap().landing_page();
        assert_eq!(landing_page.as_deref(), *expected, "{target}");
        let again = visitor.visit("/other");
        let kept = again.referral().unwrap().landing_page();
        assert_eq!(kept.as_deref(), *expected, "{target}, kept");
    }
}

fn extra_parameters_are_kept_in_the_configured_order() {
    let shop = Shop::program(Program::default().extra_params(["utm_source", "sub_id", "utm_term"]));
    let long = "v".repeat(128);
    let too_long = "v".repeat(129);
    let query_fits = format!("sub_id={long}");
    let query_too_long = format!("sub_id={too_long}");
    let fits = format!("sub_id={long};");
    let cases: &[(&str, &str)] = &[
        ("sub_id=7&utm_source=news", "utm_source=news;sub_id=7;"),
        ("utm_source=summer+sale", "utm_source=summer sale;"),
        ("utm_source=a%2Bb%20c", "utm_source=a+b c;"),
        ("utm_source=%C3%A9", "utm_source=é;"),
        ("utm_source=&utm_source=b", "utm_source=b;"),
        ("utm_source=a&utm_source=b", "utm_source=a;"),
        ("utm_source=%0a&sub_id=1", "sub_id=1;"),
        ("utm_source=%zz&sub_id=1", "sub_id=1;"),
        ("utm_campaign=x", ""),
        (&query_fits, &fits),
        (&query_too_long, ""),
    ];
    for (query, expected) in cases {
        let mut visitor = shop.visitor();
        let first = visitor.visit(&format!("/?{query}&aff=K"));
        let second = visitor.visit("/");
        for page in [&first, &second] {
            let extra: String = page
                .referral()
                .unwrap()
                .extra()
                .map(|(name, value)| format!("{name}={value};"))
                .collect();
            assert_eq!(extra, *expected, "{query}");
        }
    }
}
