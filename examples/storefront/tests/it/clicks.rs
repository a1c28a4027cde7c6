//! Clicks: the platform is told of landings, and no page waits for it.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::outbox::each_backend;
use crate::shop_process::{Json, KEY_A, Shop, send};
use crate::support::{LONG_WAIT, accept, answer_one, read_call};

#[test]
fn by_default_a_sandbox_stands_in_for_partnac_and_the_click_id_shows_everywhere() {
    let mut shop = Shop::start_as_told(&LONG_WAIT, &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    let blog = [("Referer", "https://blog.example/lamps?draft=1")];
    let landing = visitor.request("GET", "/pricing?utm_source=x&aff=PARTNER_123", &blog, b"");
    assert!(landing.body.contains("on its way"), "{}", landing.body);
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
    let page = visitor.get("/about");
    assert!(
        page.body.contains("<code>clk_000001</code>"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("on its way"));

    let calls = sandbox.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["call"], "POST /v1/tracking/clicks");
    assert_eq!(calls[0]["status"], 201);
    assert_eq!(
        serde_json::from_str::<Value>(calls[0]["body"].as_str().unwrap()).unwrap(),
        json!({
            "partnership_code": "PARTNER_123",
            "click_url": format!("http://{}/pricing?aff=PARTNER_123", shop.address),
            "referrer_url": "https://blog.example",
        })
    );

    let (outcome, detail) = visitor
        .post("/signup", &[], Json(&json!({"customer": "cus_1"})))
        .report();
    assert_eq!(outcome, "queued");
    assert_eq!(
        detail,
        "Partnac hasn't got the sign-up yet. It waits in the outbox."
    );
    assert_eq!(shop.settles()["outcomes"]["recorded"], 1);
}

#[test]
fn tapfiliate_has_a_sandbox_too() {
    let args = [&["--platform", "tapfiliate"], &LONG_WAIT[..]].concat();
    let mut shop = Shop::start_as_told(&args, &[("PLATFORM_API_KEY", "secret-key")]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/pricing?aff=PARTNER_123");
    assert_eq!(visitor.click_id().as_deref(), Some("000001-0afe3c"));

    let calls = sandbox.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["call"], "POST /1.6/clicks/");
    assert_eq!(
        serde_json::from_str::<Value>(calls[0]["body"].as_str().unwrap()).unwrap(),
        json!({
            "referral_code": "PARTNER_123",
            "landing_page": format!("http://{}/pricing?aff=PARTNER_123", shop.address),
        })
    );
    let page = send(sandbox.0, "GET", "/", &[], b"");
    assert!(page.body.contains("A sandbox for Tapfiliate"));
    assert!(page.body.contains("1 call received"), "{}", page.body);
    assert!(!page.body.contains("secret-key"));
}

#[test]
fn the_referral_goes_on_without_waiting_and_the_click_id_joins_later() {
    let mut shop = Shop::start_as_told(&[], &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_1");
    assert_eq!(visitor.awaits_click_id(), "clk_000001");
    // The same link once more, and a page, are no new touch.
    visitor.get("/?aff=PARTNER_1");
    visitor.get("/");
    // A cached page's script tells of a landing too.
    let mut other = shop.browser();
    let body = json!({"aff": "PARTNER_2"});
    assert_eq!(
        other.post("/api/track-landing", &[], Json(&body)).status,
        204
    );
    assert_eq!(other.awaits_click_id(), "clk_000002");
    assert_eq!(sandbox.calls().len(), 2);
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
}

#[test]
fn the_page_waits_for_nobody_and_says_so() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/tracking", platform.local_addr().unwrap());
    let shop = Shop::start_as_told(&["--platform-url", &url], &[]);
    let mut visitor = shop.browser();
    // Nobody has taken the platform's call, and nobody will before this page is here.
    let landing = visitor.get("/?aff=PARTNER_123");
    assert_eq!(landing.status, 200);
    assert!(landing.body.contains("on its way"), "{}", landing.body);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    assert_eq!(visitor.click_id(), None);

    let call = answer_one(&platform, r#"{"id": "late-1"}"#);
    assert!(
        call.starts_with("POST /v1/tracking/clicks HTTP/1.1\r\n"),
        "{call}"
    );
    assert!(call.contains("Bearer sandbox"), "{call}");
    assert_eq!(visitor.awaits_click_id(), "late-1");
}

#[test]
fn a_platform_that_is_not_there_costs_nobody_the_credit() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{port}/1.6/");
    for args in [
        &["--platform", "tapfiliate", "--platform-url", &url][..],
        &["--platform-url", &url],
    ] {
        let args = [args, &LONG_WAIT].concat();
        let shop = Shop::start_as_told(&args, &[]);
        let mut visitor = shop.browser();
        assert_eq!(visitor.get("/?aff=PARTNER_123").status, 200);
        assert_eq!(visitor.click_id(), None);
        let customer = json!({"customer": "cus_1"});
        let (outcome, detail) = visitor.post("/signup", &[], Json(&customer)).report();
        assert_eq!(outcome, "queued");
        assert!(detail.contains("waits in the outbox"), "{detail}");
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_123"));
    }
}

#[test]
fn a_key_that_the_platform_does_not_know_stays_kept() {
    for platform in ["partnac", "tapfiliate"] {
        let args = [&["--platform", platform], &LONG_WAIT[..]].concat();
        let mut shop = Shop::start_as_told(&args, &[]);
        let sandbox = shop.sandbox();
        let mut visitor = shop.browser();
        visitor.get("/?aff=UNKNOWN-1");
        assert_eq!(visitor.key().as_deref(), Some("UNKNOWN-1"));
        assert_eq!(visitor.click_id(), None);
        assert_eq!(sandbox.calls()[0]["status"], 404);
    }
}

#[test]
fn tools_and_the_undecided_create_no_click_and_the_page_says_why() {
    let mut shop = Shop::start_as_told(&LONG_WAIT, &[]);
    let sandbox = shop.sandbox();
    let tool = shop.visitor().get("/?aff=PARTNER_123");
    assert!(tool.body.contains("tools and crawlers"), "{}", tool.body);
    assert_eq!(sandbox.calls(), [Value::Null; 0]);

    let args = [&["--consent", "cookie"], &LONG_WAIT[..]].concat();
    let mut shop = Shop::start_as_told(&args, &[]);
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    let landing = visitor.get("/?aff=PARTNER_123");
    assert!(
        landing.body.contains("nothing until you agree"),
        "{}",
        landing.body
    );
    assert_eq!(sandbox.calls(), [Value::Null; 0]);
    visitor.cookies.insert("consent".into(), "granted".into());
    visitor.get("/?aff=PARTNER_123");
    assert_eq!(visitor.click_id().as_deref(), Some("clk_000001"));
}

#[test]
fn without_a_platform_there_is_no_word_of_clicks() {
    let mut shop = Shop::start(&["--click-wait", "50"]);
    let mut visitor = shop.browser();
    let landing = visitor.get("/?aff=PARTNER_123");
    assert!(!landing.body.contains("Click ID"), "{}", landing.body);
    assert!(!shop.stop().contains("sandbox"));
}

#[cfg(unix)]
#[test]
fn the_end_waits_for_clicks_that_are_under_way() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/tracking", platform.local_addr().unwrap());
    let mut shop = Shop::start_as_told(&["--platform-url", &url], &[]);
    shop.browser().get("/?aff=PARTNER_123");
    let mut call = accept(&platform);
    shop.terminate();
    // The server is gone when nobody answers at its port any more; the process is still there.
    while TcpStream::connect(shop.address).is_ok() {
        std::thread::yield_now();
    }
    assert!(
        shop.child.try_wait().unwrap().is_none(),
        "it left a click behind"
    );
    read_call(&mut call);
    call.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{\"id\": 1 }")
        .unwrap();
    assert!(shop.child.wait().unwrap().success());
}

/// CASES.md L5.
#[test]
fn a_click_id_that_comes_late_reaches_the_report_of_another_shop() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/tracking", platform.local_addr().unwrap());
    let files = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/shop.db", files.path().display());
    let args = ["--platform-url", &url, "--database", &database];
    let start = || Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
    let (landed_at, buys_at) = (start(), start());
    let mut visitor = landed_at.browser();
    visitor.get("/?aff=PARTNER_1");
    let mut click = accept(&platform);
    assert!(read_call(&mut click).starts_with("POST /v1/tracking/clicks "));
    // The platform takes its time; the visitor is at another server by now.
    let mut visitor = visitor.moves_to(&buys_at);
    let sign_up = json!({"customer": "cus_1"});
    let answer = visitor.post("/signup", &[], Json(&sign_up));
    assert_eq!(answer.report().0, "queued");
    let body = r#"{"id": "late-1"}"#;
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    click.write_all(answer.as_bytes()).unwrap();
    let mut report = accept(&platform);
    let report = read_call(&mut report);
    assert!(
        report.starts_with("POST /v1/tracking/conversions "),
        "{report}"
    );
    assert!(report.contains(r#""session_id":"late-1""#), "{report}");
}

/// CASES.md L5: no balancer keeps a visitor at one of several shops on one database.
#[test]
fn whichever_shop_takes_the_sale_reports_it_with_the_click_of_the_landing() {
    for (platform, path, field) in [
        ("partnac", "/v1/tracking", "session_id"),
        ("tapfiliate", "/1.6", "click_id"),
        ("affonso", "/v1", "click_id"),
        ("tolt", "", "click_id"),
    ] {
        each_backend(|backend| {
            let key = [("REFERRAL_KEY", KEY_A)];
            let mut args = vec!["--platform", platform, "--database", &backend.url];
            let mut first = Shop::start_as_told(&args, &key);
            let sandbox = first.sandbox();
            let url = format!("http://{}{path}", sandbox.0);
            args.extend(["--platform-url", &url]);
            let shops = [first, Shop::start_as_told(&args, &key)];
            const VISITORS: usize = 6;
            for number in 0..VISITORS {
                let mut visitor = shops[number % 2].browser();
                visitor.get(&format!("/?aff=PARTNER_{number}"));
                let mut visitor = visitor.moves_to(&shops[1 - number % 2]);
                let customer = format!("cus_{number}");
                let sign_up =
                    json!({"customer": customer, "email": format!("{customer}@a.example")});
                let answer = visitor.post("/signup", &[], Json(&sign_up));
                assert_eq!(answer.report().0, "queued");
                // The payment's webhook comes without a cookie, to either.
                let payment = json!({"customer": customer, "order": format!("o-{number}"),
                    "amount": "5", "currency": "EUR"});
                let started = visitor.post("/checkout", &[], Json(&payment)).json();
                let mut webhook = payment;
                webhook["client_reference_id"] = started["client_reference_id"].clone();
                let mut provider = shops[number % 2].visitor();
                let answer = provider.post("/webhooks/payment", &[], Json(&webhook));
                assert_eq!(answer.report().0, "queued");
            }
            let outbox = shops[0].settles();
            assert_eq!(outbox["outcomes"]["recorded"], 2 * VISITORS, "{outbox}");
            let calls = sandbox.calls();
            let is_click = |call: &&Value| call["call"].as_str().unwrap().contains("/clicks");
            // None was made for want of one that came late.
            assert_eq!(
                calls.iter().filter(is_click).count(),
                VISITORS,
                "{calls:#?}"
            );
            for call in calls.iter().filter(|call| !is_click(call)) {
                let line = call["call"].as_str().unwrap();
                // Tolt ties a transaction to the customer.
                if !line.ends_with("/transactions") {
                    let body: Value = serde_json::from_str(call["body"].as_str().unwrap()).unwrap();
                    assert!(body[field].is_string(), "{platform}: {line} {body}");
                }
            }
        });
    }
}
