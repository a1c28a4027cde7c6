//! What each platform is told of sign-ups, sales and refunds, by its sandbox.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::shop_process::{Json, Shop, Visitor, send};
use crate::support::{ACCEPT_HTML, LONG_WAIT, accept, pay, payment, read_call, reported};

/// A visitor lands, signs up, pays and gets all of it back: the outcome of each request, which is
/// made twice.
fn whole_life(shop: &Shop, landing: &str) -> Vec<[String; 2]> {
    let mut visitor = lands(shop, landing);
    let ada = json!({"customer": "cus_1", "email": "ada@example.com", "name": "Ada"});
    let mut twice =
        |path: &str, body: &Value| [(); 2].map(|()| visitor.post(path, &[], Json(body)).report().0);
    let sign_up = twice("/signup", &ada);
    let mut visitor = lands(shop, landing);
    let mut webhook = payment("order-1", "99.99");
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    webhook["client_reference_id"] = started["client_reference_id"].clone();
    let mut nobody = shop.visitor();
    let mut twice =
        |path: &str, body: &Value| [(); 2].map(|()| nobody.post(path, &[], Json(body)).report().0);
    let sale = twice("/webhooks/payment", &webhook);
    let all = json!({"order": "order-1", "amount": "99.99"});
    let refund = twice("/refund", &all);
    vec![sign_up, sale, refund]
}

fn lands<'s>(shop: &'s Shop, landing: &str) -> Visitor<'s> {
    let mut visitor = shop.browser();
    visitor.get(landing);
    visitor
}

fn once_each() -> Vec<[String; 2]> {
    vec![["queued".to_owned(), "duplicate".to_owned()]; 3]
}

fn shop_at(platform: &str) -> Shop {
    Shop::start_as_told(&[&["--platform", platform], &LONG_WAIT[..]].concat(), &[])
}

#[test]
fn partnac_gets_sign_up_sale_and_refund_once_each() {
    let mut shop = shop_at("partnac");
    let sandbox = shop.sandbox();
    assert_eq!(whole_life(&shop, "/?aff=PARTNER_1"), once_each());
    assert_eq!(shop.settles()["outcomes"]["recorded"], 3);
    let reported = reported(&sandbox);
    let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
    assert_eq!(
        lines,
        [
            "POST /v1/tracking/conversions",
            "POST /v1/tracking/conversions",
            "POST /v1/tracking/conversions/order-1/refund",
        ]
    );
    assert_eq!(reported[0].1["conversion_type"], "lead");
    assert_eq!(reported[0].1["session_id"], "clk_000001");
    let id = reported[0].1["unique_id"].as_str().unwrap();
    assert!(id.ends_with("cus_1"), "{id}");
    assert_eq!(reported[1].1["unique_id"], "order-1");
    assert_eq!(reported[1].1["amount"], 99.99);
    assert_eq!(reported[1].1["metadata"]["currency"], "EUR");
    assert_eq!(reported[2].1, json!({}), "all of it");

    let page = send(sandbox.0, "GET", "/", &[], b"").body;
    for shown in [
        "Clicks: 2",
        "sale order-1: 0.00 EUR by PARTNER_1",
        "order-1: 99.99",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
}

#[test]
fn tapfiliate_gets_sign_up_sale_and_refund_once_each() {
    let mut shop = shop_at("tapfiliate");
    let sandbox = shop.sandbox();
    assert_eq!(whole_life(&shop, "/?aff=PARTNER_1"), once_each());
    assert_eq!(shop.settles()["outcomes"]["recorded"], 3);
    let reported = reported(&sandbox);
    let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
    let id = lines[3].strip_prefix("DELETE /1.6/conversions/").unwrap();
    let id = id.strip_suffix('/').unwrap();
    assert!(id.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(
        lines[..3],
        [
            "POST /1.6/customers/",
            "POST /1.6/conversions/",
            "GET /1.6/conversions/?external_id=order-1",
        ]
    );
    assert_eq!(reported[0].1["customer_id"], "cus_1");
    assert_eq!(reported[0].1["click_id"], "000001-0afe3c");
    assert_eq!(reported[1].1["customer_id"], "cus_1");
}

#[test]
fn partnero_gets_sign_up_sale_and_refund_once_each() {
    for (platform, referrer) in [
        ("partnero", "partner"),
        ("partnero-friends", "referring_customer"),
    ] {
        let mut shop = shop_at(platform);
        let sandbox = shop.sandbox();
        let outcomes = whole_life(&shop, "/pricing?utm_source=x&ref=FRIEND_1");
        assert_eq!(outcomes, once_each(), "{platform}");
        assert_eq!(shop.settles()["outcomes"]["recorded"], 3, "{platform}");
        let reported = reported(&sandbox);
        let lines: Vec<_> = reported.iter().map(|(line, _)| &**line).collect();
        assert_eq!(
            lines,
            [
                "POST /v1/customers",
                "POST /v1/transactions",
                "DELETE /v1/transactions/order-1",
            ]
        );
        assert_eq!(reported[0].1[referrer], json!({"key": "FRIEND_1"}));
        assert_eq!(reported[0].1["email"], "ada@example.com");
        assert_eq!(reported[1].1["customer"], json!({"key": "cus_1"}));
        assert_eq!(reported[1].1["amount_units"], "EUR");
        let url = &reported[0].1["options"]["referral_url"];
        if platform == "partnero" {
            let landing = format!("http://{}/pricing?ref=FRIEND_1", shop.address);
            assert_eq!(*url, landing);
        } else {
            assert_eq!(*url, Value::Null);
        }
    }
}

#[test]
fn a_sale_to_a_customer_who_never_signed_up_is_credited_at_partnero_too() {
    for platform in ["partnero", "partnero-friends"] {
        let mut shop = shop_at(platform);
        let sandbox = shop.sandbox();
        let mut visitor = lands(&shop, "/?ref=FRIEND_1");
        pay(&mut visitor, "order-1", "5");
        assert_eq!(shop.settles()["outcomes"]["recorded"], 1, "{platform}");
        let deliver = |order: &str, customer: &str| {
            let mut sale = payment(order, "5");
            sale["customer"] = customer.into();
            let answer = shop.visitor().post("/webhooks/payment", &[], Json(&sale));
            answer.report().0
        };
        assert_eq!(deliver("order-2", "cus_2"), "not_attributed");
        // The customer is known by now.
        assert_eq!(deliver("order-3", "cus_1"), "queued");
        shop.settles();
        let page = send(sandbox.0, "GET", "/", &[], b"").body;
        for shown in [
            "sale order-1: 5 EUR by FRIEND_1",
            "sale order-3: 5 EUR by FRIEND_1",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
}

#[test]
fn a_platform_that_never_answers_does_not_hold_the_friends_page() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", platform.local_addr().unwrap());
    let options = ["--platform", "partnero-friends", "--platform-url", &url];
    let shop = Shop::start_as_told(&options, &[]);
    let answer = shop.request("GET", "/friends?customer=ada", &[], b"");
    assert_eq!(answer.status, 502);
}

#[test]
fn in_a_refer_a_friend_program_everybody_has_a_link() {
    let mut shop = shop_at("partnero-friends");
    let sandbox = shop.sandbox();
    let mut visitor = shop.browser();
    let ada = json!({"customer": "ada", "name": "Ada"});
    assert_eq!(
        visitor.post("/signup", &[], Json(&ada)).report().0,
        "queued"
    );
    shop.settles();
    assert_eq!(reported(&sandbox)[0].1["referring_customer"], Value::Null);
    let mut friend = lands(&shop, "/?ref=ada");
    for name in ["bob", "eve", "joe"] {
        let friend_of_ada = json!({"customer": name, "email": format!("{name}@example.com"),
            "name": if name == "bob" { "Bob" } else { "" }});
        friend.post("/signup", &[], Json(&friend_of_ada));
    }
    shop.settles();

    let json = [("Accept", "application/json")];
    let shown = shop
        .request("GET", "/friends?customer=ada", &json, b"")
        .json();
    assert_eq!(shown["link"], "https://yoursite.com?ref=ada");
    assert_eq!(shown["stats"]["referrals"], 3);
    assert_eq!(shown["balance"]["credits"], json!([]));
    let friends = shown["friends"].as_array().unwrap();
    // Sign-ups of different customers are sent at once.
    let mut ids: Vec<_> = friends.iter().map(|friend| friend["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["bob", "eve", "joe"].map(Some));
    let page = shop.request("GET", "/friends?customer=ada", &[ACCEPT_HTML], b"");
    page.assert_page();
    for shown in [
        "https://yoursite.com?ref=ada",
        "<dt>Referrals</dt><dd>3</dd>",
        "<li>Bob</li>",
    ] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(
        !page.body.contains("@example.com"),
        "an address is for nobody else"
    );

    assert_eq!(
        shop.request("GET", "/friends?customer=x", &json, b"")
            .status,
        404
    );
    assert_eq!(shop.request("GET", "/friends", &json, b"").status, 422);
    let other = Shop::start(&[]);
    assert_eq!(
        other
            .request("GET", "/friends?customer=ada", &json, b"")
            .status,
        404
    );
}

#[test]
fn parts_go_back_where_the_platform_takes_parts() {
    for (platform, takes_parts) in [
        ("partnac", true),
        ("tapfiliate", true),
        ("partnero", false),
        ("partnero-friends", false),
    ] {
        let mut shop = shop_at(platform);
        let sandbox = shop.sandbox();
        let mut visitor = lands(&shop, "/?aff=PARTNER_1");
        visitor.post("/signup", &[], Json(&json!({"customer": "cus_1"})));
        pay(&mut visitor, "order-1", "100");
        let part = json!({"order": "order-1", "amount": "30.5", "refund": "re_1"});
        let (outcome, detail) = visitor.post("/refund", &[], Json(&part)).report();
        if takes_parts {
            assert_eq!(outcome, "queued", "{platform}: {detail}");
            assert_eq!(shop.settles()["outcomes"]["recorded"], 3);
            continue;
        }
        assert_eq!(outcome, "failed", "{platform}: {detail}");
        assert!(detail.contains("whole sales only"), "{detail}");
        let problems = shop.awaits_problems(1);
        assert_eq!(problems[0]["id"], "refund:order-1:re_1");
        assert_eq!(problems[0]["state"], "failed");
        // With the rest all of it has gone back, and that the platform takes.
        let rest = json!({"order": "order-1", "refund": "re_2"});
        let answer = visitor.post("/refund", &[], Json(&rest));
        assert_eq!(answer.report().0, "queued", "{platform}");
        assert_eq!(shop.settles()["outcomes"]["recorded"], 3);
        let last = reported(&sandbox).pop().unwrap();
        assert_eq!(last.0, "DELETE /v1/transactions/order-1");
    }
}

#[test]
fn nobody_is_credited_for_a_key_that_the_platform_does_not_know() {
    for platform in ["partnero", "partnero-friends"] {
        for key in ["UNKNOWN-1", "IGNORED-1"] {
            let shop = shop_at(platform);
            let mut visitor = lands(&shop, &format!("/?aff={key}"));
            let customer = json!({"customer": "cus_1"});
            let report = visitor.post("/signup", &[], Json(&customer)).report();
            assert_eq!(report.0, "queued", "{platform} {key}: {}", report.1);
            let outbox = shop.settles();
            assert_eq!(
                outbox["outcomes"]["not_attributed"], 1,
                "{platform} {key}: {outbox}"
            );
            let again = visitor.post("/signup", &[], Json(&customer)).report();
            assert_eq!(again.0, "not_attributed");
        }
    }
}

#[test]
fn a_bad_api_key_fails_no_page_and_pauses_the_platform() {
    // A sandbox of one shop is the platform of another, which has the wrong key.
    for (platform, base) in [
        ("partnac", "v1/tracking"),
        ("tapfiliate", "1.6"),
        ("partnero", "v1"),
        ("partnero-friends", "v1"),
    ] {
        let mut theirs = shop_at(platform);
        let url = format!("http://{}/{base}", theirs.sandbox().0);
        let args = [
            "--platform",
            platform,
            "--platform-url",
            &url,
            "--api-key",
            "wr0ng",
        ];
        let shop = Shop::start_as_told(&args, &[]);
        let mut visitor = shop.visitor();
        visitor.get("/?aff=PARTNER_1");
        let customer = json!({"customer": "cus_1"});
        let (outcome, _) = visitor.post("/signup", &[], Json(&customer)).report();
        assert_eq!(outcome, "queued");
        let paused = crate::support::eventually("it isn't paused", || {
            shop.outbox()["paused"].as_str().map(str::to_owned)
        });
        assert!(paused.contains("API key"), "{platform}: {paused}");
        assert!(!paused.contains("wr0ng"));
        let outbox = shop.outbox();
        assert_eq!(
            (&outbox["waiting"], &outbox["problems"]),
            (&json!(1), &json!([]))
        );
        let page = visitor.post("/signup", &[ACCEPT_HTML], Json(&customer));
        assert_eq!(page.status, 200);
        page.assert_page();
    }
}

#[test]
fn what_may_have_arrived_is_not_sent_again() {
    let platform = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", platform.local_addr().unwrap());
    let args = ["--platform", "partnero", "--platform-url", &url];
    let shop = Shop::start_as_told(&args, &[]);
    let mut visitor = lands(&shop, "/?aff=PARTNER_1");
    let mut webhook = payment("order-1", "5");
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    webhook["client_reference_id"] = started["client_reference_id"].clone();
    let answer = visitor.post("/webhooks/payment", &[], Json(&webhook));
    assert_eq!(answer.report().0, "queued");
    // It takes the call, and hangs up.
    let mut call = accept(&platform);
    assert!(read_call(&mut call).starts_with("POST /v1/transactions "));
    drop(call);
    // Whoever asks then is told of no such sale.
    platform.set_nonblocking(false).unwrap();
    let asked = std::thread::spawn(move || {
        let mut lines = Vec::new();
        while let Ok((mut stream, _)) = platform.accept() {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap_or(0);
            if count == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            lines.push(text.lines().next().unwrap_or_default().to_owned());
            let body = r#"{"data": [], "links": {"next": null}, "status": 1}"#;
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
        lines
    });
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/v1")
        .unwrap();
    let problems = shop.awaits_problems(1);
    assert_eq!(problems[0]["id"], "sale:order-1");
    assert_eq!(problems[0]["state"], "ambiguous");
    let (outcome, detail) = visitor
        .post("/webhooks/payment", &[], Json(&webhook))
        .report();
    assert_eq!(outcome, "failed");
    assert!(detail.contains("/outbox"), "{detail}");
    // Nothing but an end comes after it.
    drop(std::net::TcpStream::connect(address).unwrap());
    let asked = asked.join().unwrap();
    let posts = asked.iter().filter(|line| line.starts_with("POST"));
    assert_eq!(posts.count(), 0, "it was sent again: {asked:?}");
}
