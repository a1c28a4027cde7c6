//! The pages for people.

use crate::shop_process::{Form, Shop};
use crate::support::{ACCEPT_HTML, ACCEPT_JSON};

#[test]
fn pages_are_for_people_and_never_for_shared_caches() {
    let shop = Shop::start(&[]);
    for path in [
        "/",
        "/pricing",
        "/features",
        "/about",
        "/signup",
        "/checkout",
    ] {
        let page = shop.get(path);
        assert_eq!(page.status, 200, "{path}");
        page.assert_page();
        assert_eq!(page.header("cache-control"), Some("private, no-cache"));
        assert_eq!(page.header("set-cookie"), None, "{path}");
        assert!(page.body.contains("Nobody referred you"), "{path}");
        assert!(page.body.contains("/pricing?aff=PARTNER_123"), "{path}");
        assert!(!page.body.contains("<script"), "{path}");
    }
}

#[test]
fn a_path_that_does_not_exist_is_a_page_of_its_own_and_still_a_landing() {
    let shop = Shop::start(&[]);
    let page = shop.get("/nope");
    assert_eq!(page.status, 404);
    page.assert_page();
    assert_eq!(shop.request("POST", "/nope", &[], b"").status, 404);

    let json = shop.request("GET", "/nope", &[ACCEPT_JSON], b"");
    assert_eq!(json.status, 404);
    assert!(json.error().contains("no such page"));

    let mut visitor = shop.visitor();
    assert_eq!(visitor.get("/gone?aff=PARTNER_123").status, 404);
    assert_eq!(visitor.key(), Some("PARTNER_123".into()));
}

#[test]
fn a_page_says_who_referred_the_visitor_and_why() {
    let shop = Shop::start(&[]);
    let mut visitor = shop.visitor();
    let landing = visitor.get("/pricing?aff=PARTNER_123");
    for text in [
        "You were referred by <strong>PARTNER_123</strong>",
        "just now",
        "/pricing?aff=PARTNER_123",
        "<code>captured</code>",
        "Forget me",
    ] {
        assert!(landing.body.contains(text), "{text}: {}", landing.body);
    }
    let later = visitor.get("/about");
    assert!(later.body.contains("PARTNER_123"));
    assert!(later.body.contains("nothing new"));
    assert_eq!(later.header("set-cookie"), None);
}

#[test]
fn whatever_a_visitor_typed_is_escaped() {
    let shop = Shop::start(&[]);
    let page = shop.visitor().post(
        "/checkout",
        &[ACCEPT_HTML],
        Form(&[
            ("customer", "\"><script>alert(1)</script>"),
            ("order", "<b>1</b>"),
            ("amount", "1"),
            ("currency", "EUR"),
        ]),
    );
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("<script"), "{}", page.body);
    assert!(page.body.contains("&lt;b&gt;1&lt;/b&gt;"), "{}", page.body);
}
