//! The capture endpoint: landings that only the page's script saw.
#![cfg(feature = "endpoint")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{
    BROWSER, COOKIE_NAME, Clock, arriving, page_visit, run, storage, with_headers,
};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_referral::carry::Carry;
use tower_referral::click::{ClickRequest, ClickTiming, Clicks};
use tower_referral::testing::Visitor;
use tower_referral::{
    Attribution, Capture, ClickId, Consent, Decisions, Program, Referral, ReferralLayer,
    ReferralLayerBuilder, Referrals,
};

in_every_way! {
    a_form_or_an_object_of_strings_is_captured_by_the_rules_of_a_landing,
    anything_else_is_refused_with_a_reason_and_nothing_is_captured,
    only_pages_of_the_same_origin_may_tell,
    the_landing_page_is_that_of_the_script_and_stand_down_paths_count,
    what_the_script_says_counts_behind_any_number_of_parameters,
    what_the_script_says_and_nobody_can_read_is_the_worst_that_it_could_be,
    attribution_and_consent_decide_as_over_a_landing,
    several_programs_are_told_in_one_go,
    behind_two_layers_the_outer_one_captures_by_its_own_programs,
    a_body_that_breaks_off_is_a_client_error,
    a_parameter_that_is_no_string_does_not_disturb_the_key,
    a_long_invalid_value_does_not_hide_the_key_behind_it,
    the_script_creates_the_click_within_its_own_request,
    a_click_at_the_endpoint_never_holds_the_script_up_for_longer_than_the_timeout,
    what_the_script_did_not_create_a_later_page_view_does,
    where_the_script_creates_clicks_the_url_keeps_its_parameter,
    a_token_that_a_post_captures_brings_its_click_along,
}

pub(crate) type Body = Full<bytes::Bytes>;

/// The header's name and value.
pub(crate) type Header<'h> = (&'static str, &'h str);

pub(crate) const FORM: Header<'_> = ("content-type", "application/x-www-form-urlencoded");
pub(crate) const JSON: Header<'_> = ("content-type", "application/json");
pub(crate) const SAME_ORIGIN: Header<'_> = ("sec-fetch-site", "same-origin");

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) cookie: Option<String>,
    pub(crate) body: String,
    pub(crate) reasons: Vec<String>,
    pub(crate) private: bool,
}

pub(crate) fn layer(
    configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
) -> ReferralLayer {
    let builder = ReferralLayer::builder(storage()).clock(Clock::new().reader());
    configure(builder).build().unwrap()
}

pub(crate) fn request(headers: &[Header<'_>], body: &str) -> Request<Body> {
    let mut request = Request::post("/api/track-landing")
        .header("host", "shop.example")
        .body(Full::from(body.to_owned()))
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

pub(crate) fn tell(layer: &ReferralLayer, request: Request<Body>) -> Answer {
    let mut service = layer.layer(layer.capture_endpoint());
    let Ok(response) = run(service.call(arriving(request)));
    let (parts, body) = response.into_parts();
    let body = run(body.collect()).unwrap().to_bytes();
    let cookies: Vec<_> = parts.headers.get_all("set-cookie").iter().collect();
    assert!(cookies.len() <= 1);
    let decisions = parts
        .extensions
        .get::<Decisions>()
        .cloned()
        .unwrap_or_default();
    Answer {
        status: parts.status.as_u16(),
        cookie: cookies
            .first()
            .map(|line| line.to_str().unwrap().to_owned()),
        body: String::from_utf8(body.to_vec()).unwrap(),
        reasons: crate::common::reasons(&decisions),
        private: parts
            .headers
            .get("cache-control")
            .is_some_and(|v| v == "private, no-cache"),
    }
}

/// The referral that a `Set-Cookie` keeps, as the next request's handler sees it.
pub(crate) fn kept(layer: &ReferralLayer, answer: &Answer) -> Referrals {
    let pair = answer
        .cookie
        .as_deref()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let (send, receive) = std::sync::mpsc::channel();
    let service = service_fn(move |request: Request<()>| {
        let send = send.clone();
        async move {
            let referrals = Referrals::from_extensions(request.extensions())
                .await
                .unwrap();
            send.send(referrals).unwrap();
            Ok::<_, Infallible>(Response::new(()))
        }
    });
    let request = Request::get("/").header("cookie", pair).body(()).unwrap();
    let Ok(_) = run(layer.layer(service).oneshot(arriving(request)));
    receive.recv().unwrap()
}

fn a_form_or_an_object_of_strings_is_captured_by_the_rules_of_a_landing() {
    let layer = layer(|b| b.program(Program::default().extra_params(["utm_source"])));
    // (media type, body, parameter, key, extra)
    #[rustfmt::skip]
    type Case<'c> = (Header<'c>, &'c str, &'c str, &'c str, Option<&'c str>);
    let cases: &[Case<'_>] = &[
        (FORM, "aff=K", "aff", "K", None),
        (FORM, "ref=R&aff=A&x=1", "aff", "A", None),
        (FORM, "aff=&ref=R", "ref", "R", None),
        (FORM, "aff=%zz&ref=R&y=%zz", "ref", "R", None),
        (FORM, "aff=a%2Bb", "aff", "a+b", None),
        (
            FORM,
            "aff=K&utm_source=summer+sale",
            "aff",
            "K",
            Some("summer sale"),
        ),
        (
            (
                "content-type",
                "application/x-www-form-urlencoded;charset=UTF-8",
            ),
            "aff=K",
            "aff",
            "K",
            None,
        ),
        (
            ("content-type", "Application/JSON; charset=utf-8"),
            r#"{"aff":"K"}"#,
            "aff",
            "K",
            None,
        ),
        (JSON, r#"{"aff":"K"}"#, "aff", "K", None),
        (
            JSON,
            r#"{"ref":"R","aff":"A","x":{"y":[1]}}"#,
            "aff",
            "A",
            None,
        ),
        (JSON, r#"{"aff":null,"ref":"R"}"#, "ref", "R", None),
        (JSON, r#"{"aff":"","ref":"R"}"#, "ref", "R", None),
        (JSON, r#"{"aff":"a&ref=b","ref":"R"}"#, "ref", "R", None),
        (JSON, r#"{"aff":"%4b","ref":"R"}"#, "ref", "R", None),
        (JSON, r#"{"aff":"a+b="}"#, "aff", "a+b=", None),
        (
            JSON,
            r#"{"aff":"K","utm_source":"news"}"#,
            "aff",
            "K",
            Some("news"),
        ),
    ];
    for (media_type, body, parameter, key, extra) in cases {
        let answer = tell(&layer, request(&[*media_type, SAME_ORIGIN], body));
        assert_eq!((answer.status, &*answer.body), (204, ""), "{body}");
        assert_eq!(answer.reasons, ["default: captured"], "{body}");
        assert!(answer.private, "{body}");
        let kept = kept(&layer, &answer);
        let kept = kept.first().unwrap();
        assert_eq!(
            (kept.parameter(), kept.key().unwrap().as_str()),
            (Some(*parameter), *key),
            "{body}"
        );
        assert_eq!(
            kept.extra().next().map(|(_, value)| value),
            *extra,
            "{body}"
        );
        assert_eq!(kept.source().as_str(), "landing", "{body}");
    }
}

fn anything_else_is_refused_with_a_reason_and_nothing_is_captured() {
    let layer = layer(|b| b);
    let method = |method: Method| {
        let mut request = request(&[FORM, SAME_ORIGIN], "aff=K");
        *request.method_mut() = method;
        request
    };
    let large = format!("x={}&aff=K", "y".repeat(32 * 1024));
    #[rustfmt::skip]
    let cases = [
        ("DELETE", method(Method::DELETE), 405, "POST"),
        ("OPTIONS of an origin that isn't allowed", method(Method::OPTIONS), 405, "POST"),
        ("PUT", method(Method::PUT), 405, "POST"),
        ("no media type", request(&[SAME_ORIGIN], "aff=K"), 415, "Content-Type"),
        ("text", request(&[("content-type", "text/plain"), SAME_ORIGIN], "aff=K"), 415, "Content-Type"),
        ("multipart", request(&[("content-type", "multipart/form-data"), SAME_ORIGIN], "aff=K"), 415, "Content-Type"),
        ("too large", request(&[FORM, SAME_ORIGIN], &large), 413, "32768"),
        ("broken JSON", request(&[JSON, SAME_ORIGIN], "{\"aff\":"), 400, "complete"),
        ("a JSON array", request(&[JSON, SAME_ORIGIN], "[\"aff\"]"), 400, "complete"),
        ("a number", request(&[JSON, SAME_ORIGIN], "{\"aff\":7}"), 422, "string"),
        ("no parameter", request(&[FORM, SAME_ORIGIN], "x=1"), 422, "aff, ref"),
        ("an empty form", request(&[FORM, SAME_ORIGIN], ""), 422, "aff, ref"),
        ("no key", request(&[FORM, SAME_ORIGIN], "aff=%3CWICKED%3E"), 422, "no referral key"),
        ("no key in JSON", request(&[JSON, SAME_ORIGIN], "{\"aff\":\"<WICKED>\"}"), 422, "no referral key"),
    ];
    for (case, request, status, word) in cases {
        let answer = tell(&layer, request);
        assert_eq!(answer.status, status, "{case}: {}", answer.body);
        assert!(answer.cookie.is_none(), "{case}");
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(word), "{case}: {error}");
        assert!(!answer.body.contains("WICKED"), "{case}: never echoed");
    }
    let allowed = run(layer
        .layer(layer.capture_endpoint())
        .call(arriving(method(Method::PUT))));
    assert_eq!(allowed.unwrap().headers()["allow"], "GET, HEAD, POST");
}

fn only_pages_of_the_same_origin_may_tell() {
    let layer = layer(|b| b);
    // (headers, allowed)
    let cases: &[(&[Header<'_>], bool)] = &[
        (&[SAME_ORIGIN], true),
        (&[("sec-fetch-site", "same-site")], false),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "none")], false),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://shop.example"),
            ],
            false,
        ),
        (&[("origin", "https://shop.example")], true),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "https://shop.example.evil.example")], false),
        (&[("origin", "https://evil.example/shop.example")], false),
        (&[("origin", "https://shop.example:8443")], false),
        (&[("origin", "https://evil@shop.example")], false),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        (&[("origin", "shop.example")], false),
        (&[], true),
    ];
    for (headers, allowed) in cases {
        let headers: Vec<_> = headers.iter().copied().chain([FORM]).collect();
        let answer = tell(&layer, request(&headers, "aff=K"));
        assert_eq!(
            answer.status,
            if *allowed { 204 } else { 403 },
            "{headers:?}"
        );
        assert_eq!(answer.cookie.is_some(), *allowed, "{headers:?}");
    }
    // HTTP/2 has the host in the request target.
    let mut request = request(&[FORM, ("origin", "https://other.example")], "aff=K");
    *request.uri_mut() = "https://other.example/api".parse().unwrap();
    assert_eq!(tell(&layer, request).status, 204);
}

#[test]
fn behind_a_proxy_that_changes_the_host_the_original_uri_tells_the_origin() {
    let layer = layer(|b| b.original_uri(|request| request.extensions().get::<http::Uri>()));
    for (origin, status) in [("https://shop.example", 204), ("https://backend:3000", 403)] {
        let mut request = request(&[FORM, ("origin", origin)], "aff=K");
        let backend = "backend:3000".parse().unwrap();
        request.headers_mut().insert("host", backend);
        let original: http::Uri = "https://shop.example/api".parse().unwrap();
        request.extensions_mut().insert(original);
        assert_eq!(tell(&layer, request).status, status, "{origin}");
    }
}

fn the_landing_page_is_that_of_the_script_and_stand_down_paths_count() {
    let layer = layer(|b| b.stand_down("/checkout"));
    // (referrer, landing page)
    let cases = [
        (
            Some("https://shop.example/pricing?secret=1&aff=K#x"),
            Some("/pricing?aff=K"),
        ),
        // A browser cuts a long `Referer` to this.
        (Some("https://shop.example/"), None),
        (Some("https://evil.example/pricing"), None),
        (Some("about:blank"), None),
        (Some("not a url"), None),
        (None, None),
    ];
    for (referer, expected) in cases {
        let mut request = request(&[FORM, SAME_ORIGIN], "aff=K");
        if let Some(referer) = referer {
            request
                .headers_mut()
                .insert("referer", referer.parse().unwrap());
        }
        let answer = tell(&layer, request);
        let kept = kept(&layer, &answer);
        let landing_page = kept.first().unwrap().landing_page();
        assert_eq!(landing_page.as_deref(), expected, "{referer:?}");
    }
    let first = tell(&layer, request(&[FORM, SAME_ORIGIN], "aff=HONEST"));
    let cookie = first.cookie.unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let at_the_checkout = ("referer", "https://shop.example/checkout/pay");
    let headers = [FORM, SAME_ORIGIN, ("cookie", cookie), at_the_checkout];
    let answer = tell(&layer, request(&headers, "aff=COUPON"));
    assert_eq!((answer.status, answer.cookie), (204, None));
    assert_eq!(answer.reasons, ["default: kept_stand_down"]);
}

/// What is kept once a visitor of P1 has posted this.
pub(crate) fn after_p1(
    layer: &ReferralLayer,
    headers: &[Header<'_>],
    body: &str,
) -> (Answer, String) {
    let first = tell(layer, request(&[FORM, SAME_ORIGIN], "aff=P1&_path=/"));
    let pair = first.cookie.as_deref().unwrap().split(';').next().unwrap();
    let cookie = ("cookie", pair);
    let all: Vec<_> = headers.iter().copied().chain([cookie]).collect();
    let answer = tell(layer, request(&all, body));
    let found = kept(
        layer,
        if answer.cookie.is_some() {
            &answer
        } else {
            &first
        },
    );
    let key = found.first().unwrap().key().unwrap().to_string();
    (answer, key)
}

/// What the endpoint makes of a body of a visitor whom another partner brought.
fn posted_after_another_partner(layer: &ReferralLayer, body: &str) -> Answer {
    let format = if body.starts_with('{') { JSON } else { FORM };
    after_p1(layer, &[format, SAME_ORIGIN], body).0
}

/// A link of the own site with so many parameters that the rest of the form is beyond what is read of a query.
fn what_the_script_says_counts_behind_any_number_of_parameters() {
    let layer = layer(|b| b);
    for others in [0, 62, 63, 64, 1000] {
        let query = format!("aff=EVIL{}", "&a=".repeat(others));
        for (said, reason) in [
            (
                "_referrer=https%3A%2F%2Fshop.example%2Fforum&_navigation=navigate",
                "kept_own_link",
            ),
            ("_referrer=&_navigation=reload", "kept_reload"),
        ] {
            let body = format!("{query}&_path=%2Fpricing&{said}");
            let answer = posted_after_another_partner(&layer, &body);
            assert_eq!(answer.reasons, [format!("default: {reason}")], "{others}");
        }
        let body = format!("{query}&_path=%2Fpricing&_referrer=&_navigation=navigate");
        let answer = posted_after_another_partner(&layer, &body);
        assert_eq!(answer.reasons, ["default: captured"], "{others}");
    }
    // A link can't speak for the script by fields of its own, be they alone or after many others.
    let own = "_path=%2Fforum&_referrer=https%3A%2F%2Fshop.example%2Fforum&_navigation=navigate";
    let elsewhere = "_referrer=https%3A%2F%2Fblog.example%2F&_path=%2F&_navigation=navigate";
    for link in [
        format!("aff=EVIL&{elsewhere}"),
        format!("{elsewhere}&aff=EVIL"),
        format!("aff=EVIL{}&{elsewhere}", "&a=".repeat(64)),
    ] {
        let answer = posted_after_another_partner(&layer, &format!("{own}&{link}"));
        assert_eq!(answer.reasons, ["default: kept_own_link"], "{link}");
        let reloaded = own.replace("=https%3A%2F%2Fshop.example%2Fforum", "=");
        let reloaded = reloaded.replace("=navigate", "=reload");
        let answer = posted_after_another_partner(&layer, &format!("{reloaded}&{link}"));
        assert_eq!(answer.reasons, ["default: kept_reload"], "{link}");
    }
    // A link can't speak for the script by a name that only reads like its own.
    for name in [
        "%5Freferrer",
        "?_referrer",
        "amp;_referrer",
        "_referrer%00",
        "+_referrer",
    ] {
        let elsewhere = "https%3A%2F%2Fblog.example%2F";
        let own = "https%3A%2F%2Fshop.example%2Fforum";
        let body = format!("aff=EVIL&{name}={elsewhere}&_referrer={own}");
        let answer = posted_after_another_partner(&layer, &body);
        assert_eq!(answer.reasons, ["default: kept_own_link"], "{name}");
    }
}

fn what_the_script_says_and_nobody_can_read_is_the_worst_that_it_could_be() {
    let layer = layer(|b| b);
    let long = format!("https://blog.example/{}", "x".repeat(4096));
    let bodies = [
        // What `<img name="referrer">` makes of `document.referrer`.
        ("_referrer", "[object HTMLImageElement]", "kept_own_link"),
        ("_referrer", "undefined", "kept_own_link"),
        ("_referrer", "//shop.example/", "kept_own_link"),
        ("_referrer", "https:shop.example/", "kept_own_link"),
        ("_referrer", &long, "kept_own_link"),
        ("_navigation", "undefined", "kept_reload"),
        ("_navigation", "", "captured"),
        ("_referrer", "", "captured"),
        ("_referrer", "https://blog.example/", "captured"),
        (
            "_referrer",
            "android-app://com.google.android.gm/",
            "captured",
        ),
        ("_navigation", "prerender", "captured"),
    ];
    for (name, value, reason) in bodies {
        let json = serde_json::json!({"aff": "EVIL", name: value}).to_string();
        let answer = posted_after_another_partner(&layer, &json);
        assert_eq!(answer.reasons, [format!("default: {reason}")], "{json}");
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        let form = format!("aff=EVIL&{name}={value}");
        let answer = posted_after_another_partner(&layer, &form);
        assert_eq!(answer.reasons, [format!("default: {reason}")], "{form}");
    }
    for body in [
        r#"{"aff":"EVIL","_referrer":{"url":"https://blog.example/"}}"#,
        r#"{"aff":"EVIL","_referrer":null}"#,
        "aff=EVIL&_referrer=%zz",
        "aff=EVIL&_referrer=%ff",
    ] {
        let answer = posted_after_another_partner(&layer, body);
        assert_eq!(answer.reasons, ["default: kept_own_link"], "{body}");
        // It is worth something where there is nothing.
        let format = if body.starts_with('{') { JSON } else { FORM };
        assert!(
            tell(&layer, request(&[format, SAME_ORIGIN], body))
                .cookie
                .is_some()
        );
    }
}

#[test]
fn only_an_origin_is_allowed_as_one() {
    let allow = |text| layer(|b| b).capture_endpoint().allow_origins([text]);
    for text in [
        "https://www.shop.example",
        "https://WWW.shop.example:8443",
        "http://[::1]:3000",
        "capacitor://localhost",
        "https://xn--bcher-kva.example",
    ] {
        assert!(allow(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "www.shop.example",
        "https://www.shop.example/",
        "https://www.shop.example/path",
        "https://www.shop.example?x",
        "https://www.shop.example#x",
        "https://*.shop.example",
        "https://:443",
        "https://",
        "https://shop example",
        "https://user@shop.example",
        "https://shop.example:99999",
        "https://b\u{fc}cher.example",
        "https://[::1",
        "https://[x]",
        "ht tp://shop.example",
        "://shop.example",
    ] {
        let error = allow(text).unwrap_err().to_string();
        assert!(error.contains("is no origin"), "{text}: {error}");
    }
}

#[test]
fn what_depends_on_the_origin_says_so_to_caches() {
    let layer = layer(|b| b);
    let shop = "https://www.shop.example";
    let endpoint = layer.capture_endpoint().allow_origins([shop]).unwrap();
    for (origin, allowed) in [
        (None, false),
        (Some(shop), true),
        (Some("https://evil.example"), false),
    ] {
        let mut request = request(&[], "");
        *request.method_mut() = Method::GET;
        if let Some(origin) = origin {
            request
                .headers_mut()
                .insert("origin", origin.parse().unwrap());
        }
        let Ok(script) = run(layer.layer(endpoint.clone()).oneshot(arriving(request)));
        assert_eq!(script.headers()["vary"], "origin", "{origin:?}");
        let headers = script.headers();
        assert_eq!(
            headers.contains_key("access-control-allow-origin"),
            allowed,
            "{origin:?}"
        );
    }
    let mut request = request(&[], "");
    *request.method_mut() = Method::GET;
    let Ok(script) = run(layer
        .layer(layer.capture_endpoint())
        .oneshot(arriving(request)));
    assert!(!script.headers().contains_key("vary"), "the same for all");
}

fn attribution_and_consent_decide_as_over_a_landing() {
    let first_touch = layer(|b| b.program(Program::default().attribution(Attribution::FirstTouch)));
    let answer = tell(&first_touch, request(&[FORM, SAME_ORIGIN], "aff=FIRST"));
    let cookie = answer.cookie.unwrap();
    let cookie = cookie.split(';').next().unwrap();
    assert!(cookie.starts_with(COOKIE_NAME));
    for (body, reason) in [
        ("aff=SECOND", "kept_first_touch"),
        ("ref=FIRST", "same_key"),
    ] {
        let answer = tell(
            &first_touch,
            request(&[FORM, SAME_ORIGIN, ("cookie", cookie)], body),
        );
        assert_eq!(
            (answer.status, answer.cookie),
            (204, None),
            "whatever came of it"
        );
        assert_eq!(answer.reasons, [format!("default: {reason}")]);
    }
    let gpc = layer(ReferralLayerBuilder::global_privacy_control);
    let answer = tell(
        &gpc,
        request(&[FORM, SAME_ORIGIN, ("sec-gpc", "1")], "aff=K"),
    );
    assert_eq!((answer.status, answer.cookie), (204, None));
}

fn several_programs_are_told_in_one_go() {
    let layer = layer(|b| {
        b.program(Program::new("partners").params(["aff"]))
            .program(Program::new("friends").params(["ref"]))
    });
    let mut service = layer.layer(layer.capture_endpoint());
    let response =
        run(service.call(arriving(request(&[FORM, SAME_ORIGIN], "aff=P&ref=F")))).unwrap();
    assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    let mut service = layer.layer(layer.capture_endpoint());
    let response =
        run(service.call(arriving(request(&[FORM, SAME_ORIGIN], "aff=%zz&ref=F")))).unwrap();
    assert_eq!(
        response.status(),
        204,
        "one broken key doesn't take the other with it"
    );
}

/// The outer one of two layers does the work, whichever the endpoint was made by.
fn behind_two_layers_the_outer_one_captures_by_its_own_programs() {
    let one = layer(|b| b);
    let two = layer(|b| {
        b.program(Program::new("partners").params(["aff"]))
            .program(Program::new("friends").params(["ref", "friend"]))
    });
    // (outer, inner, body, what is kept)
    let cases: [(_, _, _, &[_]); 6] = [
        (&one, &two, "aff=P&ref=F", &["default: P"]),
        (&one, &two, "ref=F", &["default: F"]),
        (&one, &two, "friend=F", &[]),
        (&two, &one, "aff=P&ref=F", &["partners: P", "friends: F"]),
        (&two, &one, "friend=F", &["friends: F"]),
        (&two, &two, "aff=P&ref=F", &["partners: P", "friends: F"]),
    ];
    for (outer, inner, body, expected) in cases {
        let mut visitor = Visitor::new();
        let post = visitor.sends(request(&[FORM, SAME_ORIGIN], body));
        let service = outer.layer(inner.layer(inner.capture_endpoint()));
        let Ok(response) = run(service.oneshot(arriving(post)));
        visitor.receives(&response);
        let status = if expected.is_empty() { 422 } else { 204 };
        assert_eq!(response.status(), status, "{body}");

        let page = service_fn(async |request: Request<String>| {
            let referrals = Referrals::from_extensions(request.extensions()).await;
            let text = |it: &Referral| format!("{}: {}", it.program(), it.key().unwrap());
            let kept = referrals.unwrap().iter().map(text).collect::<Vec<_>>();
            Ok::<_, Infallible>(Response::new(kept))
        });
        let request = arriving(visitor.sends(page_visit("/")));
        let Ok(response) = run(outer.layer(page).oneshot(request));
        assert_eq!(response.into_body(), expected, "{body}");
    }
}

fn a_body_that_breaks_off_is_a_client_error() {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    struct Broken;
    impl http_body::Body for Broken {
        type Data = bytes::Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>> {
            Poll::Ready(Some(Err(std::io::Error::other("gone"))))
        }
    }
    let layer = layer(|b| b);
    let (parts, _) = request(&[FORM, SAME_ORIGIN], "").into_parts();
    let mut service = layer.layer(layer.capture_endpoint());
    let response = run(service.call(arriving(Request::from_parts(parts, Broken)))).unwrap();
    assert_eq!(response.status(), 400);
}

/// Other parameters, however broken, never disturb ours: a partner isn't to lose a commission
/// because a campaign's number came as a number.
fn a_parameter_that_is_no_string_does_not_disturb_the_key() {
    let layer = layer(|b| b.program(Program::default().extra_params(["utm_id"])));
    for body in [
        r#"{"aff":"K","utm_id":7}"#,
        r#"{"aff":"K","utm_id":[]}"#,
        r#"{"aff":"K","utm_id":true}"#,
        r#"{"aff":"K","ref":7}"#,
        r#"{"aff":7,"ref":"K"}"#,
    ] {
        let answer = tell(&layer, request(&[JSON, SAME_ORIGIN], body));
        assert_eq!(answer.status, 204, "{body}: {}", answer.body);
        assert!(answer.cookie.is_some(), "{body}");
    }
}

/// An invalid key is as if absent, however long: the other parameter is to be found behind it.
fn a_long_invalid_value_does_not_hide_the_key_behind_it() {
    let layer = layer(|b| b);
    let long = "x".repeat(4000);
    let form = tell(
        &layer,
        request(&[FORM, SAME_ORIGIN], &format!("aff={long}&ref=K")),
    );
    assert_eq!(form.status, 204, "a form: {}", form.body);
    let json = format!(r#"{{"aff":"{long}","ref":"K"}}"#);
    let json = tell(&layer, request(&[JSON, SAME_ORIGIN], &json));
    assert_eq!(json.status, 204, "an object: {}", json.body);
}

/// Runs a request in a runtime with a clock of its own. Returns the response, and how long it took.
fn timed<F: Future>(request: impl FnOnce() -> F) -> (F::Output, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        (request().await, start.elapsed())
    })
}

/// A layer whose platform answers after `answer`, and how often it was called.
fn clicking(answer: Duration) -> (ReferralLayer, Arc<AtomicU32>) {
    clicking_with(answer, ReferralLayerBuilder::clicks)
}

fn clicking_with(
    answer: Duration,
    configure: impl FnOnce(ReferralLayerBuilder, Clicks) -> ReferralLayerBuilder,
) -> (ReferralLayer, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let called = Arc::clone(&calls);
    let clicks = Clicks::from_fn(move |request: ClickRequest| {
        called.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(answer).await;
            format!("click-of-{}", request.key()).parse::<ClickId>()
        }
    });
    let clicks = clicks.timing(ClickTiming::AtEndpoint);
    (layer(|builder| configure(builder, clicks)), calls)
}

fn opens(layer: &ReferralLayer, visitor: &mut Visitor, uri: &str) -> Duration {
    let page = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let request = with_headers(page_visit(uri), &[("host", "shop.example")]);
    let request = arriving(visitor.sends(request));
    let (response, took) = timed(|| layer.layer(page).oneshot(request));
    visitor.receives(&response.unwrap());
    took
}

fn posts(layer: &ReferralLayer, visitor: &mut Visitor, body: &str) -> Duration {
    let headers = [FORM, SAME_ORIGIN, ("user-agent", BROWSER)];
    let request = arriving(visitor.sends(request(&headers, body)));
    let service = layer.layer(layer.capture_endpoint());
    let (response, took) = timed(|| service.oneshot(request));
    let response = response.unwrap();
    assert_eq!(response.status(), 204);
    visitor.receives(&response);
    took
}

/// The click ID that another server finds, which has nothing in common with the first but the keys and
/// the store.
fn click_id_elsewhere(visitor: &Visitor) -> Option<String> {
    let page = service_fn(async |request: Request<String>| {
        let referrals = Referrals::from_extensions(request.extensions()).await;
        let referral = referrals.unwrap().first().cloned();
        let id = referral.and_then(|it| it.click_id().map(ToString::to_string));
        Ok::<_, Infallible>(Response::new(id))
    });
    let (layer, calls) = clicking(Duration::ZERO);
    let request = arriving(visitor.sends(page_visit("/sign-up")));
    let (response, _) = timed(|| layer.layer(page).oneshot(request));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    response.unwrap().into_body()
}

fn the_script_creates_the_click_within_its_own_request() {
    let second = Duration::from_secs(1);
    let (layer, calls) = clicking(second);
    let called = || calls.load(Ordering::SeqCst);

    // A page that the layer serves: the landing and other page views leave the click to the script.
    let mut visitor = Visitor::new();
    for uri in ["/pricing?aff=K", "/other"] {
        assert_eq!(opens(&layer, &mut visitor, uri), Duration::ZERO);
    }
    assert_eq!((called(), click_id_elsewhere(&visitor)), (0, None));
    assert_eq!(posts(&layer, &mut visitor, "aff=K&_path=/pricing"), second);
    assert_eq!(click_id_elsewhere(&visitor).as_deref(), Some("click-of-K"));
    assert_eq!(called(), 1);

    // The same script again, and the same page: there is a click.
    assert_eq!(posts(&layer, &mut visitor, "aff=K"), Duration::ZERO);
    assert_eq!(
        opens(&layer, &mut visitor, "/pricing?aff=K"),
        Duration::ZERO
    );
    assert_eq!((called(), layer.click_counts().started), (1, 1));

    // A page that the layer never saw, and another key.
    for key in ["L", "M"] {
        assert_eq!(posts(&layer, &mut visitor, &format!("aff={key}")), second);
        assert_eq!(
            click_id_elsewhere(&visitor),
            Some(format!("click-of-{key}"))
        );
    }
    assert_eq!((called(), layer.click_counts().created), (3, 3));

    // A robot's post is captured and creates none.
    let mut robot = Visitor::new();
    let request = arriving(robot.sends(request(
        &[FORM, SAME_ORIGIN, ("user-agent", "curl/8")],
        "aff=R",
    )));
    let service = layer.layer(layer.capture_endpoint());
    let (response, took) = timed(|| service.oneshot(request));
    robot.receives(&response.unwrap());
    assert_eq!((took, called()), (Duration::ZERO, 3));
    assert_eq!(robot.cookies().count(), 1);
}

fn a_click_at_the_endpoint_never_holds_the_script_up_for_longer_than_the_timeout() {
    let (layer, calls) = clicking(Duration::from_secs(9));
    let mut visitor = Visitor::new();
    assert_eq!(opens(&layer, &mut visitor, "/?aff=K"), Duration::ZERO);
    assert_eq!(posts(&layer, &mut visitor, "aff=K"), Duration::from_secs(2));
    assert_eq!(layer.click_counts().timed_out, 1);
    // Whether it arrived is unknown, so it isn't sent again.
    assert_eq!(posts(&layer, &mut visitor, "aff=K"), Duration::ZERO);
    assert_eq!(
        (calls.load(Ordering::SeqCst), click_id_elsewhere(&visitor)),
        (1, None)
    );
}

fn what_the_script_did_not_create_a_later_page_view_does() {
    let (second, clock) = (Duration::from_secs(1), Clock::new());
    let (layer, calls) = clicking_with(second, |builder, clicks| {
        let clicks = clicks.max_per_second(2);
        builder.clock(clock.reader()).clicks(clicks)
    });
    let called = || calls.load(Ordering::SeqCst);

    // Without JavaScript. Within ten seconds the script may still be on its way, maybe to another server.
    let mut visitor = Visitor::new();
    opens(&layer, &mut visitor, "/pricing?aff=K");
    clock.pass(Duration::from_millis(9_999));
    assert_eq!(opens(&layer, &mut visitor, "/other"), Duration::ZERO);
    // On a landing there is a script again.
    clock.pass(Duration::from_millis(1));
    let took = opens(&layer, &mut visitor, "/pricing?aff=K");
    assert_eq!((took, called()), (Duration::ZERO, 0));
    assert_eq!(opens(&layer, &mut visitor, "/other"), second);
    assert_eq!(click_id_elsewhere(&visitor).as_deref(), Some("click-of-K"));
    assert_eq!(opens(&layer, &mut visitor, "/other"), Duration::ZERO);
    assert_eq!(posts(&layer, &mut visitor, "aff=K"), Duration::ZERO);
    assert_eq!(called(), 1);

    // One key may start one call in a second.
    clock.pass(second);
    let [mut first, mut turned_away] = [Visitor::new(), Visitor::new()];
    assert_eq!(posts(&layer, &mut first, "aff=K"), second);
    assert_eq!(posts(&layer, &mut turned_away, "aff=K"), Duration::ZERO);
    assert_eq!((called(), layer.click_counts().dropped), (2, 1));
    clock.pass(Duration::from_secs(10));
    assert_eq!(opens(&layer, &mut turned_away, "/other"), second);
    assert_eq!(
        click_id_elsewhere(&turned_away).as_deref(),
        Some("click-of-K")
    );
    assert_eq!(called(), 3);
}

fn where_the_script_creates_clicks_the_url_keeps_its_parameter() {
    let (layer, calls) = clicking(Duration::ZERO);
    let page = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(7)));
    let mut visitor = Visitor::new();
    let request = arriving(visitor.sends(page_visit("/pricing?aff=K")));
    let service = layer.clone().with_clean_url().layer(page);
    let (response, _) = timed(|| service.oneshot(request));
    let response = response.unwrap();
    assert_eq!((response.status().as_u16(), response.body()), (200, &7));
    assert!(!response.headers().contains_key("location"));
    visitor.receives(&response);
    posts(&layer, &mut visitor, "aff=K&_path=/pricing");
    assert_eq!(click_id_elsewhere(&visitor).as_deref(), Some("click-of-K"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// The page of the landing, whose script was told that there is no consent, is gone by then.
fn a_token_that_a_post_captures_brings_its_click_along() {
    let (second, clock) = (Duration::from_secs(1), Clock::new());
    let (layer, calls) = clicking_with(second, |builder, clicks| {
        let builder = builder.clock(clock.reader()).clicks(clicks);
        builder.consent(|request| {
            if request.headers().contains_key("x-agreed") {
                Consent::Granted
            } else {
                Consent::Unknown
            }
        })
    });
    let carry = Carry::builder(crate::common::keyring()).clock(clock.reader());
    let carry = carry.build().unwrap();
    let sends = |visitor: &mut Visitor, request: Request<String>| {
        let page = service_fn(async |request: Request<String>| {
            let referrals = Referrals::from_extensions(request.extensions()).await;
            let token = referrals.unwrap().first().map(|it| it.carry_token(&carry));
            let token = token.map(|token| token.unwrap().to_string());
            let mut response = Response::new(token.unwrap_or_default());
            if let Ok(referral) = carry.open(request.body()) {
                let capture = Capture::referral(referral).consent(Consent::Granted);
                response.extensions_mut().insert(capture);
            }
            Ok::<_, Infallible>(response)
        });
        let request = arriving(visitor.sends(request));
        let (response, took) = timed(|| layer.layer(page).oneshot(request));
        let response = response.unwrap();
        visitor.receives(&response);
        (response.into_body(), took)
    };
    let with_token = |method: Method, token: &str| {
        let request = Request::builder().method(method).uri("/agree");
        let request = request.header("user-agent", BROWSER);
        request.body(token.to_owned()).unwrap()
    };
    let called = || calls.load(Ordering::SeqCst);
    let mut visitor = Visitor::new();
    let (token, _) = sends(&mut visitor, page_visit("/pricing?aff=K"));
    posts(&layer, &mut visitor, "aff=K&_path=/pricing");
    assert_eq!((visitor.cookies().count(), called()), (0, 0));

    let (_, took) = sends(&mut visitor, with_token(Method::POST, &token));
    assert_eq!((took, called()), (second, 1));
    assert_eq!(click_id_elsewhere(&visitor).as_deref(), Some("click-of-K"));
    // The same answer once more, from before it had the cookie.
    let (_, took) = sends(&mut Visitor::new(), with_token(Method::POST, &token));
    assert_eq!((took, called()), (Duration::ZERO, 1));

    // A page waits for nothing: a later one creates it.
    let mut visitor = Visitor::new();
    let (token, _) = sends(&mut visitor, page_visit("/pricing?aff=L"));
    let (_, took) = sends(&mut visitor, with_token(Method::GET, &token));
    assert_eq!(
        (visitor.cookies().count(), took, called()),
        (1, Duration::ZERO, 1)
    );
    clock.pass(Duration::from_secs(10));
    let agreed = with_headers(page_visit("/"), &[("x-agreed", "1")]);
    assert_eq!(sends(&mut visitor, agreed).1, second);
    assert_eq!(click_id_elsewhere(&visitor).as_deref(), Some("click-of-L"));
}
