//! What a handler says to the layer: `Capture`, `Forget`, `ForgetProgram`.

use crate::common::{COOKIE_NAME, Clock, DAY, MILLISECOND, Shop, keyring, page_visit, storage};
use http::{Request, Response};
use tower_referral::carry::Carry;
use tower_referral::{
    Attribution, Capture, Forget, ForgetProgram, KeyRule, Program, Referral, Source,
};

in_every_way! {
    a_typed_in_code_is_captured_under_the_same_rules_as_a_landing,
    any_method_and_status_carries_a_word,
    a_handlers_word_comes_after_the_requests_own_url,
    forget_comes_before_capture_in_one_response,
    forgetting_deletes_the_cookie_even_if_it_was_not_sent,
    a_program_that_is_not_configured_is_noted_and_changes_nothing,
    a_code_must_be_a_key_by_the_programs_rule,
    skip_and_stand_down_are_about_landings_and_not_about_a_handlers_word,
    a_referral_that_comes_back_keeps_its_moment_and_never_displaces_a_later_one,
    a_referral_that_comes_back_too_late_or_too_early_is_none,
    a_carry_token_brings_a_referral_over_the_consent_banner,
    the_word_itself_does_not_leave_the_layer,
}

/// Answers `/say` with the word, and anything else without one.
fn saying<T: Clone + Send + Sync + 'static>(shop: Shop, word: T) -> Shop {
    shop.answering(move |request: &Request<String>| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/say" {
            response.extensions_mut().insert(word.clone());
        }
        response
    })
}

fn code(key: &str) -> Capture {
    Capture::key(key.parse().unwrap())
}

fn a_typed_in_code_is_captured_under_the_same_rules_as_a_landing() {
    // (attribution, what was kept, reason, what is kept then)
    let cases = [
        (Attribution::LastTouch, None, "captured", "CODE"),
        (Attribution::LastTouch, Some("K"), "captured", "CODE"),
        (Attribution::LastTouch, Some("CODE"), "same_key", "CODE"),
        (Attribution::FirstTouch, None, "captured", "CODE"),
        (Attribution::FirstTouch, Some("K"), "kept_first_touch", "K"),
        (Attribution::FirstTouch, Some("CODE"), "same_key", "CODE"),
    ];
    for (attribution, before, reason, after) in cases {
        let case = format!("{attribution:?}, {before:?}");
        let shop = saying(
            Shop::program(Program::default().attribution(attribution)),
            code("CODE"),
        );
        let mut visitor = shop.visitor();
        if let Some(key) = before {
            visitor.visit(&format!("/?aff={key}"));
        }
        let page = visitor.visit("/say");
        assert_eq!(page.reason(), reason, "{case}");
        assert_eq!(page.changed(), reason == "captured", "{case}");
        assert_eq!(page.is_private(), page.changed(), "{case}");
        assert_eq!(visitor.visit("/").key(), Some(after), "{case}");
    }
    let shop = saying(Shop::new(), code("CODE"));
    let mut visitor = shop.visitor();
    visitor.visit("/say");
    let page = visitor.visit("/");
    let referral = page.referral().unwrap();
    assert_eq!(referral.source(), Source::Handler);
    assert_eq!(
        (referral.parameter(), referral.landing_page()),
        (None, None)
    );
    assert_eq!(referral.captured_at(), shop.clock.now());
}

fn any_method_and_status_carries_a_word() {
    let shop = Shop::new().answering(|request| {
        let mut response = Response::new(String::new());
        *response.status_mut() = request.headers()["x-status"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        response.extensions_mut().insert(code("CODE"));
        response
    });
    for (method, status) in [
        ("POST", "200"),
        ("PUT", "303"),
        ("DELETE", "404"),
        ("HEAD", "304"),
        ("GET", "500"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("x-status", status);
        let page = shop.send(request.body(String::new()).unwrap());
        assert_eq!(page.set_cookies().len(), 1, "{method} {status}");
    }
}

fn a_handlers_word_comes_after_the_requests_own_url() {
    let mut visitor = saying(Shop::new(), code("CODE")).visitor();
    let page = visitor.visit("/say?aff=URL");
    assert_eq!(page.key(), Some("URL"), "what the handler saw");
    assert_eq!(page.reasons(), ["default: captured", "default: captured"]);
    assert_eq!(page.set_cookies().len(), 1);
    assert_eq!(visitor.visit("/").key(), Some("CODE"));

    let first = Program::default().attribution(Attribution::FirstTouch);
    let mut visitor = saying(Shop::program(first), code("CODE")).visitor();
    visitor.visit("/say?aff=URL");
    assert_eq!(visitor.visit("/").key(), Some("URL"));

    let mut visitor = saying(Shop::new(), Forget).visitor();
    visitor.visit("/?aff=KEPT");
    let page = visitor.visit("/say?aff=URL");
    assert_eq!(page.set_cookies().len(), 1);
    assert!(visitor.holds_nothing(), "the handler's word is the last");
}

fn forget_comes_before_capture_in_one_response() {
    let shop = Shop::program(Program::default().attribution(Attribution::FirstTouch)).answering(
        |request| {
            let mut response = Response::new(String::new());
            if request.uri().path() == "/say" {
                response.extensions_mut().insert(code("CODE"));
                response.extensions_mut().insert(Forget);
            }
            response
        },
    );
    let mut visitor = shop.visitor();
    visitor.visit("/?aff=FIRST");
    let page = visitor.visit("/say");
    assert_eq!(page.reasons(), ["default: forgotten", "default: captured"]);
    assert_eq!(
        page.set_cookies().len(),
        1,
        "one cookie, not a deletion and another"
    );
    assert_eq!(visitor.visit("/").key(), Some("CODE"));
}

fn forgetting_deletes_the_cookie_even_if_it_was_not_sent() {
    let page = saying(Shop::new(), Forget).send(page_visit("/say"));
    assert_eq!(page.set_cookies().len(), 1);
    assert!(page.set_cookies()[0].contains("Max-Age=0"));
    assert!(page.is_private());
    assert_eq!(page.reasons(), ["default: forgotten"]);

    let page = saying(Shop::new(), ForgetProgram::new("default")).send(page_visit("/say"));
    assert_eq!(page.set_cookies().len(), 1);
}

fn a_program_that_is_not_configured_is_noted_and_changes_nothing() {
    let nobody = || Capture::key_for("nobody", "K".parse().unwrap());
    for page in [
        saying(Shop::new(), nobody()).send(page_visit("/say")),
        saying(Shop::new(), ForgetProgram::new("nobody")).send(page_visit("/say")),
    ] {
        assert_eq!(page.reasons(), ["nobody: unknown_program"]);
        assert!(!page.changed());
        assert_eq!(page.header("cache-control"), None);
    }
}

fn a_code_must_be_a_key_by_the_programs_rule() {
    let rule = KeyRule::ascii().only_if(|key| key.starts_with("P_"));
    let shop = Shop::program(Program::default().key_rule(rule));
    let mut visitor = saying(shop.clone(), code("THIEF")).visitor();
    visitor.visit("/?aff=P_1");
    let page = visitor.visit("/say");
    assert_eq!((page.reason(), page.changed()), ("invalid_key", false));
    let page = saying(shop, code("P_2")).send(page_visit("/say"));
    assert_eq!(page.reason(), "captured");
}

fn skip_and_stand_down_are_about_landings_and_not_about_a_handlers_word() {
    let shop = Shop::with(|builder| builder.skip(|_| true).stand_down("/say"));
    let mut visitor = saying(shop, code("CODE")).visitor();
    assert_eq!(visitor.visit("/say").reason(), "captured");
    assert_eq!(visitor.visit("/").key(), Some("CODE"));
}

/// A referral of a landing at the shop's present time.
fn landed(shop: &Shop, key: &str) -> Referral {
    let page = shop.send(page_visit(&format!("/p?aff={key}")));
    page.referral().unwrap().clone()
}

fn a_referral_that_comes_back_keeps_its_moment_and_never_displaces_a_later_one() {
    use Attribution::{FirstTouch, LastTouch};
    // (attribution, key and day of what is kept, day of what comes back, reason)
    let cases = [
        (LastTouch, None, 2, "captured"),
        (LastTouch, Some(("A", 1)), 2, "captured"),
        (LastTouch, Some(("A", 3)), 2, "kept_newer"),
        (LastTouch, Some(("BACK", 3)), 2, "same_key"),
        (FirstTouch, None, 2, "captured"),
        (FirstTouch, Some(("A", 1)), 2, "kept_first_touch"),
        (FirstTouch, Some(("A", 3)), 2, "kept_newer"),
    ];
    for (attribution, kept, day, reason) in cases {
        let case = format!("{attribution:?}, {kept:?}");
        let clock = Clock::new();
        let shop = Shop::at(clock.clone(), storage(), |builder| {
            builder.program(Program::default().attribution(attribution))
        });
        let mut visitor = shop.visitor();
        let mut back = None;
        for today in 1..=3 {
            clock.pass(DAY);
            if today == day {
                back = Some(landed(&shop, "BACK"));
            }
            if let Some((key, _)) = kept.filter(|(_, day)| *day == today) {
                visitor.visit(&format!("/?aff={key}"));
            }
        }
        let back = back.unwrap();
        visitor.moves_to(&saying(shop, Capture::referral(back.clone())));
        let page = visitor.visit("/say");
        assert_eq!(page.reason(), reason, "{case}");
        if reason == "captured" {
            let line = page.set_cookies()[0];
            assert!(
                line.ends_with("Max-Age=2505600"),
                "what is left of its window: {line}"
            );
            let page = visitor.visit("/");
            assert_eq!(
                page.referral(),
                Some(&back),
                "{case}: nothing of it is lost"
            );
        } else {
            assert!(!page.changed(), "{case}");
        }
    }
}

fn a_referral_that_comes_back_too_late_or_too_early_is_none() {
    let shop = Shop::new();
    let back = landed(&shop, "BACK");
    let shop = saying(shop, Capture::referral(back.clone()));
    shop.clock.pass(DAY * 30 - MILLISECOND);
    let page = shop.send(page_visit("/say"));
    assert_eq!(page.reason(), "captured");
    assert!(page.set_cookies()[0].ends_with("Max-Age=1"), "rounded up");
    shop.clock.pass(MILLISECOND);
    let page = shop.send(page_visit("/say"));
    assert_eq!((page.reason(), page.changed()), ("expired", false));

    for (ahead, reason) in [(300, "captured"), (301, "from_the_future")] {
        let early = Shop::new();
        early.clock.pass(crate::common::SECOND * ahead);
        let back = landed(&early, "BACK");
        let page = saying(Shop::new(), Capture::referral(back)).send(page_visit("/say"));
        assert_eq!(page.reason(), reason, "{ahead} s");
    }

    let short = Shop::program(Program::default().window(DAY));
    let page = saying(short, Capture::referral(back.clone())).send(page_visit("/say"));
    assert!(
        page.set_cookies()[0].ends_with("Max-Age=86400"),
        "the shorter window"
    );
    let strict = KeyRule::ascii().only_if(|key| key != "BACK");
    let strict = Shop::program(Program::default().key_rule(strict));
    let page = saying(strict, Capture::referral(back)).send(page_visit("/say"));
    assert_eq!((page.reason(), page.changed()), ("invalid_key", false));
}

fn a_carry_token_brings_a_referral_over_the_consent_banner() {
    let clock = Clock::new();
    let carry = Carry::builder(keyring())
        .clock(clock.reader())
        .build()
        .unwrap();
    let reader = carry.clone();
    let shop = Shop::at(clock.clone(), storage(), |builder| {
        builder.consent(|_| tower_referral::Consent::Unknown)
    })
    .answering(move |request| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/consent" {
            let referral = reader.open(request.body()).unwrap();
            let capture = Capture::referral(referral).consent(tower_referral::Consent::Granted);
            response.extensions_mut().insert(capture);
        }
        response
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/p?aff=K");
    let landed_at = clock.now();
    let token = page.referral().unwrap().carry_token(&carry).unwrap();
    clock.pass(DAY);
    let banner = Request::post("/consent").body(token.to_string()).unwrap();
    assert_eq!(visitor.send(banner).reason(), "captured");
    let page = visitor.visit("/");
    assert_eq!(page.key(), Some("K"));
    assert_eq!(page.referral().unwrap().captured_at(), landed_at);
    assert!(visitor.held(COOKIE_NAME).is_some());
}

fn the_word_itself_does_not_leave_the_layer() {
    let page = saying(Shop::new(), code("CODE")).send(page_visit("/say"));
    assert!(page.response.extensions().get::<Capture>().is_none());
    let page = saying(Shop::new(), Forget).send(page_visit("/say"));
    assert!(page.response.extensions().get::<Forget>().is_none());
}

#[cfg(feature = "axum")]
mod axum_parts {
    use axum::response::IntoResponse;
    use http::Response;

    use super::*;

    /// What a shop of two programs says about a response that axum made.
    fn reasons(make: impl Fn() -> axum::response::Response + Send + Sync + 'static) -> Vec<String> {
        let shop = Shop::with(|builder| {
            builder
                .program(Program::new("a").params(["a"]))
                .program(Program::new("b").params(["b"]))
        })
        .answering(move |_| {
            let (parts, _) = make().into_parts();
            Response::from_parts(parts, String::new())
        });
        shop.send(page_visit("/")).reasons()
    }

    #[test]
    fn words_are_parts_of_a_response_and_add_up() {
        let key = |name: &str, key: &str| Capture::key_for(name, key.parse().unwrap());
        assert_eq!(
            reasons(|| (Forget, "").into_response()),
            ["a: forgotten", "b: forgotten"]
        );
        assert_eq!(
            reasons(move || (key("a", "K"), key("b", "L"), "").into_response()),
            ["a: captured", "b: captured"]
        );
        assert_eq!(
            reasons(move || (key("a", "K"), Forget, "").into_response()),
            ["a: forgotten", "b: forgotten", "a: captured"]
        );
        assert_eq!(
            reasons(|| (ForgetProgram::new("b"), "").into_response()),
            ["b: forgotten"]
        );
    }

    #[test]
    fn two_programs_can_be_forgotten_in_one_response() {
        assert_eq!(
            reasons(|| (ForgetProgram::new("a"), ForgetProgram::new("b"), "").into_response()),
            ["a: forgotten", "b: forgotten"]
        );
    }
}
