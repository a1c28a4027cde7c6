//! The storefront as a real browser knows it: Chromium, with its own idea of sites, cookies, frames,
//! prefetching and history, comes in from other sites, and the shop and the platform are asked
//! afterwards what they made of it.
//!
//! The browser goes through a wire that writes down what it sent, so that a test which says "this
//! image earned nothing" also shows that the image was asked for. And where it says "no click", the
//! shop has ended by then, having waited for every click of its own.
#[path = "../../../../tests/servers/mod.rs"]
mod servers;
#[path = "../shop_process/mod.rs"]
mod shop_process;

mod chromium;
mod ranks;
mod script;
mod sites;
mod stage;
mod worker;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use chromium::eventually;
use sites::Seen;
use stage::{Stage, on_stage, on_stage_with_a_clock};

const COOKIE: &str = "__Host-referral";

const NOBODY: &[String] = &[];

// --- From the landing to the sale --------------------------------------------------------------

#[test]
fn a_visitor_from_a_blog_returns_days_later_signs_up_and_buys() {
    on_stage_with_a_clock(&[], async |stage| {
        stage.lands("/pricing?aff=PARTNER_123").await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");
        assert!(text.contains("just now"), "{text}");
        let landing = &stage.wire.seen_at("/pricing?aff=PARTNER_123")[0];
        let metadata = landing.fetch_metadata();
        assert_eq!(metadata, ["cross-site", "navigate", "document"]);
        stage.awaits_clicks(1).await;
        // The click ID joins.
        let features = stage.shop("/features");
        stage
            .browser
            .follow("nav a[href='/features']", &features)
            .await;

        stage.browser_lets_days_pass(9, COOKIE).await;
        stage.shop_lets_days_pass(9);
        stage.browser.visit(&stage.shop("/")).await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");
        assert!(text.contains("9 days ago"), "{text}");

        signs_up(stage, "queued").await;
        let checkout = stage.shop("/checkout");
        stage
            .browser
            .follow("nav a[href='/checkout']", &checkout)
            .await;
        stage.browser.fill("customer", "ada").await;
        stage.browser.fill("order", "order-1").await;
        stage.browser.click("form[action='/checkout'] button").await;
        stage.browser.reads("Your payment is on its way").await;
        stage
            .browser
            .click("form[action='/webhooks/payment'] button")
            .await;
        stage.browser.reads("Payment: queued").await;

        let told = stage.awaits_told(3).await;
        let bodies: Vec<&Value> = told.iter().map(|(_, body)| body).collect();
        let [click, sign_up, sale] = bodies[..] else {
            panic!("the platform was told {told:#?}");
        };
        assert_eq!(click["partnership_code"], "PARTNER_123");
        assert_eq!(click["referrer_url"], stage.sites.origin("blog"));
        for (report, kind, id) in [(sign_up, "lead", "signup:ada"), (sale, "sale", "order-1")] {
            assert_eq!(report["partnership_code"], "PARTNER_123", "{report}");
            assert_eq!(report["session_id"], "clk_000001", "{report}");
            assert_eq!(report["conversion_type"], kind, "{report}");
            assert_eq!(report["unique_id"], id, "{report}");
        }
    });
}

#[test]
fn the_window_ends_on_the_server_and_in_the_browser() {
    on_stage_with_a_clock(&[], async |stage| {
        stage.lands("/pricing?aff=PARTNER_123").await;
        stage.awaits_clicks(1).await;
        stage.browser.visit(&stage.shop("/")).await;

        // The last day but one. Nothing is written, so the window doesn't slide.
        stage.shop_lets_days_pass(29);
        stage.browser.visit(&stage.shop("/features")).await;
        assert!(!stage.wire.seen_at("/features")[0].sets_cookie());
        assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_123"));

        // The browser's clock is behind: it still sends the cookie.
        stage.shop_lets_days_pass(2);
        stage.browser.visit(&stage.shop("/about")).await;
        assert_eq!(stage.wire.seen_at("/about")[0].cookie_names(), [COOKIE]);
        let text = stage.browser.text().await;
        assert!(text.contains("Nobody referred you"), "{text}");
        assert!(text.contains("expired"), "{text}");
        signs_up(stage, "not attributed").await;

        stage.browser_lets_days_pass(29, COOKIE).await;
        assert!(stage.browser.cookie(COOKIE).await.is_some());
        stage.browser_lets_days_pass(2, COOKIE).await;
        assert_eq!(stage.browser.cookie(COOKIE).await, None);
        stage.browser.visit(&stage.shop("/pricing")).await;
        let later = &stage.wire.seen_at("/pricing")[0];
        assert_eq!(later.cookie_names(), [""; 0]);
        assert_eq!(stage.told().len(), 1, "a click and no sign-up");
    });
}

#[test]
fn a_landing_counts_by_way_of_redirects_and_without_a_referrer() {
    on_stage(&[], async |stage| {
        let shop = stage.shop("/pricing?aff=TRACKED");
        let second = stage.sites.redirect("second", "/go", &shop);
        let first = stage.sites.redirect("first", "/go", &second);
        let link = format!("<a href='{first}' rel=noreferrer>a lamp</a>");
        let post = stage.sites.page("blog", "/post", &link);
        stage.browser.visit(&post).await;
        stage.browser.follow("a", &shop).await;
        assert_eq!(stage.wire.seen()[0].header("referer"), "");
        assert_eq!(stage.credited().await.as_deref(), Some("TRACKED"));

        let shop = stage.shop("/pricing?aff=SCRIPTED");
        let script = format!("<script>location.href = '{shop}'</script>");
        let post = stage.sites.page("blog", "/script", &script);
        stage.browser.visit(&post).await;
        stage.browser.arrives_at(&shop).await;
        assert_eq!(stage.credited().await.as_deref(), Some("SCRIPTED"));
        assert_eq!(stage.clicks_in_the_end(), ["TRACKED", "SCRIPTED"]);
    });
}

#[test]
fn consent_that_is_given_on_the_landing_page_keeps_its_referral() {
    on_stage(&["--consent", "cookie"], async |stage| {
        stage.lands("/pricing?aff=PARTNER_123").await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");
        assert!(text.contains("May we remember who sent you"), "{text}");
        assert!(stage.browser.cookies().await.is_empty());
        assert_eq!(stage.clicks(), NOBODY);

        stage
            .browser
            .click("form.banner button[value=granted]")
            .await;
        stage.browser.arrives_at(&stage.shop("/")).await;
        let text = stage.browser.text().await;
        assert!(text.contains("as you allowed"), "{text}");
        assert!(stage.browser.cookie(COOKIE).await.is_some());
        assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_123"));
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123"]);
    });
}

/// By the form, as a person does, and reads what came of it.
async fn signs_up(stage: &Stage, outcome: &str) {
    let form = stage.shop("/signup");
    stage.browser.follow("nav a[href='/signup']", &form).await;
    stage.browser.fill("customer", "ada").await;
    stage.browser.click("form[action='/signup'] button").await;
    stage.browser.reads(&format!("Sign-up: {outcome}")).await;
}

// --- What earns nothing ------------------------------------------------------------------------

/// What another site's page can ask for without the visitor's going there: the markup, in which `{}`
/// is the URL, and the `Sec-Fetch-Dest` that Chromium sends.
const HIDDEN: [(&str, &str); 14] = [
    ("<iframe src='{}' style='display:none'></iframe>", "iframe"),
    (
        "<iframe src='{}' sandbox width=1 height=1></iframe>",
        "iframe",
    ),
    (
        "<iframe srcdoc=\"<meta http-equiv=refresh content='0;url={}'>\"></iframe>",
        "iframe",
    ),
    ("<img src='{}' width=1 height=1>", "image"),
    ("<p style='background: url({})'>.</p>", "image"),
    ("<object data='{}' type='text/html'></object>", "object"),
    ("<embed src='{}' type='text/html'>", "embed"),
    ("<script src='{}'></script>", "script"),
    ("<link rel=stylesheet href='{}'>", "style"),
    ("<link rel=prefetch href='{}'>", "empty"),
    ("<link rel=preload as=image href='{}'>", "image"),
    ("<video src='{}' preload=auto></video>", "video"),
    (
        "<script>fetch('{}', {mode: 'no-cors', credentials: 'include'})</script>",
        "empty",
    ),
    ("<script>navigator.sendBeacon('{}')</script>", "empty"),
];

#[test]
fn a_hidden_frame_and_an_image_of_another_site_earn_nothing() {
    on_stage(&[], async |stage| {
        let target = |kind: usize| format!("/pricing?aff=EVIL_{kind}");
        let hidden = HIDDEN.iter().enumerate();
        let hidden =
            hidden.map(|(kind, (markup, _))| markup.replace("{}", &stage.shop(&target(kind))));
        let link = format!("<a href='{}'>a lamp</a>", stage.shop("/pricing?aff=GOOD"));
        let page = hidden.chain([link]).collect::<String>();
        let page = stage.sites.page("blog", "/post", &page);

        let asks_for_all = async |times: usize| {
            stage.browser.visit(&page).await;
            for kind in 0..HIDDEN.len() {
                let target = target(kind);
                eventually(&target, async || stage.wire.seen_at(&target).len() >= times).await;
            }
        };
        asks_for_all(1).await;
        for (kind, (_, destination)) in HIDDEN.iter().enumerate() {
            for seen in stage.wire.seen_at(&target(kind)) {
                let metadata = seen.fetch_metadata();
                assert_eq!(
                    (metadata[0], metadata[2]),
                    ("cross-site", *destination),
                    "{seen:?}"
                );
                assert!(!seen.sets_cookie(), "{seen:?}");
            }
        }
        assert_eq!(stage.credited().await, None);

        // From the same page, a link that the visitor follows is a landing.
        asks_for_all(2).await;
        stage
            .browser
            .follow("a", &stage.shop("/pricing?aff=GOOD"))
            .await;
        assert_eq!(stage.credited().await.as_deref(), Some("GOOD"));

        // Nor does anything hidden take the credit from whom it belongs to.
        asks_for_all(3).await;
        assert_eq!(stage.credited().await.as_deref(), Some("GOOD"));
        let seen = stage.wire.seen().into_iter();
        let targets = seen.filter(Seen::sets_cookie).map(|seen| seen.target);
        let mut targets: Vec<_> = targets.collect();
        // The click ID joins on the next page.
        targets.dedup();
        assert_eq!(targets[0], "/pricing?aff=GOOD");
        assert!(
            targets.iter().all(|target| !target.contains("EVIL")),
            "{targets:?}"
        );
        assert_eq!(stage.clicks_in_the_end(), ["GOOD"]);
    });
}

#[test]
fn a_form_that_another_site_posts_earns_nothing() {
    on_stage(&[], async |stage| {
        for target in [
            "/pricing?aff=EVIL",
            "/signup?aff=EVIL",
            "/api/track-landing",
        ] {
            let form = format!(
                "<form method=post action='{}'><input name=aff value=EVIL>\
                 <input name=customer value=mallory><button>Win</button></form>",
                stage.shop(target)
            );
            let page = stage.sites.page("blog", "/form", &form);
            stage.browser.visit(&page).await;
            stage.browser.follow("button", &stage.shop(target)).await;
            let seen = &stage.wire.seen_at(target)[0];
            assert_eq!(seen.method, "POST");
            assert_eq!(
                seen.fetch_metadata(),
                ["cross-site", "navigate", "document"]
            );
            assert_eq!(seen.status, 403, "{target}");
            assert!(!seen.sets_cookie(), "{target}");
        }
        assert_eq!(stage.credited().await, None);
        assert_eq!(stage.clicks_in_the_end(), NOBODY);
        assert_eq!(stage.told(), []);
    });
}

#[test]
fn the_capture_endpoint_is_for_the_shops_own_pages_only() {
    on_stage(&[], async |stage| {
        let endpoint = stage.shop("/api/track-landing");
        let page = stage.sites.page("blog", "/script", "");
        stage.browser.visit(&page).await;
        let request =
            "method: 'POST', credentials: 'include', body: new URLSearchParams('aff=EVIL')";
        let answer = stage
            .browser
            .script(&format!(
                "return (await fetch('{endpoint}', {{{request}, mode: 'no-cors'}})).type"
            ))
            .await;
        assert_eq!(answer, "opaque");
        let answer = stage
            .browser
            .script(&format!(
                "return (await fetch('{endpoint}', {{{request}}})).status"
            ))
            .await;
        assert_eq!(answer, "TypeError: Failed to fetch");
        let seen = stage.wire.seen();
        assert_eq!(seen.len(), 2);
        for seen in &seen {
            assert_eq!((seen.status.as_u16(), seen.sets_cookie()), (403, false));
        }
        assert_eq!(stage.credited().await, None);

        stage.browser.visit(&stage.shop("/about")).await;
        let answer = stage
            .browser
            .script(
                "const body = new URLSearchParams('?utm_source=x&aff=PARTNER_9');\
                 return (await fetch('/api/track-landing', {method: 'POST', body})).status",
            )
            .await;
        assert_eq!(answer, 204);
        assert!(stage.browser.cookie(COOKIE).await.is_some());
        assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_9"));
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_9"]);
    });
}

// --- Pages that are fetched ahead of time ------------------------------------------------------

/// A blog's page that has the browser fetch a page of the shop's at once, and a link to it.
fn with_speculation_rules(stage: &Stage, target: &str) -> String {
    let url = stage.shop(target);
    let rules = json!({"prefetch": [{"source": "list", "urls": [url], "eagerness": "immediate"}]});
    let page = format!("<script type=speculationrules>{rules}</script><a href='{url}'>a lamp</a>");
    stage.sites.page("blog", "/ahead", &page)
}

#[test]
fn a_page_that_is_prefetched_by_speculation_rules_counts_once_and_when_it_is_seen() {
    on_stage(&[], async |stage| {
        let target = "/pricing?aff=AHEAD";
        let page = with_speculation_rules(stage, target);
        stage.browser.visit(&page).await;
        eventually("the prefetch", async || !stage.wire.seen().is_empty()).await;
        let ahead = &stage.wire.seen()[0];
        assert_eq!(ahead.target, target);
        assert_eq!(ahead.header("sec-purpose"), "prefetch");
        assert_eq!(ahead.fetch_metadata()[1..], ["navigate", "document"]);
        assert!(ahead.sets_cookie());

        // The browser shows the very response that it has.
        stage.browser.follow("a", &stage.shop(target)).await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by AHEAD"), "{text}");
        assert!(text.contains("told once you look at another"), "{text}");
        assert!(stage.browser.cookie(COOKIE).await.is_some());
        assert_eq!(stage.wire.seen().len(), 1);
        assert_eq!(stage.clicks(), NOBODY);

        let features = stage.shop("/features");
        stage
            .browser
            .follow("nav a[href='/features']", &features)
            .await;
        assert_eq!(stage.awaits_clicks(1).await, ["AHEAD"]);
        stage.browser.visit(&stage.shop("/about")).await;
        let referral = stage.referral().await;
        assert_eq!(referral["key"], "AHEAD");
        assert_eq!(referral["click_id"], "clk_000001");
        assert_eq!(stage.clicks_in_the_end(), ["AHEAD"]);
    });
}

#[test]
fn a_prefetched_page_that_nobody_looks_at_earns_nothing() {
    on_stage(&[], async |stage| {
        let page = with_speculation_rules(stage, "/pricing?aff=AHEAD");
        stage.browser.visit(&page).await;
        eventually("the prefetch", async || !stage.wire.seen().is_empty()).await;
        stage.browser.visit(&stage.shop("/about")).await;
        assert_eq!(stage.credited().await, None);
        assert_eq!(stage.clicks_in_the_end(), NOBODY);
    });
}

// --- Sessions and cookies ----------------------------------------------------------------------

#[test]
fn a_login_by_a_strict_session_survives_a_landing() {
    on_stage(&["--keep", "session"], async |stage| {
        let account = stage.shop("/account");
        stage.browser.visit(&account).await;
        stage.browser.fill("customer", "ada").await;
        stage.browser.click("form[action='/login'] button").await;
        stage.browser.reads("You are signed in as ada").await;
        let session = stage.browser.cookie("id").await.unwrap();
        assert_eq!(session.same_site().unwrap().to_string(), "Strict");

        // The browser holds the session's cookie back, and keeps it.
        stage.lands("/pricing?aff=PARTNER_123").await;
        let landing = &stage.wire.seen_at("/pricing?aff=PARTNER_123")[0];
        assert_eq!(landing.cookie_names(), [""; 0]);
        let cookies = landing.answer.get_all("set-cookie").iter();
        let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
        assert_eq!(cookies.len(), 1, "{cookies:?}");
        assert!(cookies[0].starts_with("__Host-referral="), "{cookies:?}");
        assert_eq!(stage.browser.cookie("id").await, Some(session));

        stage
            .browser
            .follow("nav a[href='/account']", &account)
            .await;
        let text = stage.browser.text().await;
        assert!(text.contains("You are signed in as ada"), "{text}");
        assert!(text.contains("Your session has no referral"), "{text}");
        // The copy comes along with the next save of the application's own.
        let signs_in = "const body = new URLSearchParams('customer=ada');\
            return (await fetch('/login', {method: 'POST', body})).status";
        assert_eq!(stage.browser.script(signs_in).await, 200);
        stage.browser.visit(&account).await;
        let text = stage.browser.text().await;
        assert!(text.contains("You are signed in as ada"), "{text}");
        assert!(text.contains("Your session has a copy"), "{text}");
        assert!(text.contains("\"PARTNER_123\""), "{text}");
        signs_up(stage, "queued").await;
        let told = stage.awaits_told(2).await;
        let (_, sign_up) = told.last().unwrap();
        assert_eq!(sign_up["partnership_code"], "PARTNER_123");
    });
}

#[test]
fn the_cookie_as_the_browser_sees_it() {
    for (args, name, is_secure) in [
        (&[][..], COOKIE, true),
        (&["--keep", "server"], COOKIE, true),
        (&["--keep", "session"], COOKIE, true),
        (&["--plain-http"], "referral", false),
    ] {
        on_stage(args, async |stage| {
            stage.lands("/pricing?aff=PARTNER_123").await;
            let cookies = stage.browser.cookies().await;
            let [cookie] = &cookies[..] else {
                panic!("{args:?}: {cookies:?}");
            };
            assert_eq!(cookie.name(), name);
            assert_eq!(cookie.http_only(), Some(true), "{args:?}");
            assert_eq!(cookie.secure(), Some(is_secure), "{args:?}");
            assert_eq!(cookie.same_site().unwrap().to_string(), "Lax", "{args:?}");
            assert_eq!(cookie.path(), Some("/"), "{args:?}");
            assert_eq!(cookie.domain(), Some("shop.localhost"), "{args:?}");
            let left = cookie.expires_datetime().unwrap() - OffsetDateTime::now_utc();
            let (thirty_days, a_while) = (Duration::days(30), Duration::minutes(5));
            assert!(left <= thirty_days + Duration::SECOND, "{args:?}: {left}");
            assert!(left > thirty_days - a_while, "{args:?}: {left}");

            let script = "return [document.cookie, (await cookieStore.getAll()).length]";
            assert_eq!(
                stage.browser.script(script).await,
                json!(["", 0]),
                "{args:?}"
            );

            // It is this host's alone, and the whole host's.
            let elsewhere = stage.shop("/features").replace("shop.", "www.shop.");
            stage.browser.visit(&elsewhere).await;
            assert_eq!(stage.wire.seen_at("/features")[0].cookie_names(), [""; 0]);
            stage.browser.visit(&stage.shop("/deep/er/about")).await;
            assert_eq!(
                stage.wire.seen_at("/deep/er/about")[0].cookie_names(),
                [name]
            );
        });
    }
}

#[test]
fn a_cookie_for_all_sub_domains_is_seen_by_all() {
    on_stage(&["--domain", "shop.localhost"], async |stage| {
        stage.lands("/pricing?aff=PARTNER_123").await;
        let app = stage.shop("/about").replace("shop.", "app.shop.");
        stage.browser.visit(&app).await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");
        assert_eq!(
            stage.wire.seen_at("/about")[0].cookie_names(),
            ["__Secure-referral"]
        );
    });
}

// --- Tabs, history and the address bar ---------------------------------------------------------

#[test]
fn clean_url_leaves_the_address_bar_without_the_key_and_back_does_not_loop() {
    on_stage(&["--clean-url"], async |stage| {
        let target = "/pricing?color=red&aff=PARTNER_123&size=2";
        let link = format!("<a href='{}#plans'>a lamp</a>", stage.shop(target));
        let page = stage.sites.page("blog", "/post", &link);
        let clean = stage.shop("/pricing?color=red&size=2#plans");
        stage.browser.visit(&page).await;
        let entries = "return history.length";
        let before = stage.browser.script(entries).await.as_u64().unwrap();
        stage.browser.follow("a", &clean).await;
        assert_eq!(stage.browser.script(entries).await, before + 1);
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");

        let seen = stage.wire.seen();
        let [landing, shown] = &seen[..] else {
            panic!("{seen:#?}");
        };
        assert_eq!(landing.target, target);
        assert!(landing.status.is_redirection() && landing.sets_cookie());
        assert_eq!(shown.target, "/pricing?color=red&size=2");
        assert_eq!(shown.cookie_names(), [COOKIE]);

        stage.browser.tab.back().await.unwrap();
        stage.browser.arrives_at(&page).await;
        stage.browser.tab.forward().await.unwrap();
        stage.browser.arrives_at(&clean).await;
        stage.browser.tab.refresh().await.unwrap();
        stage.browser.arrives_at(&clean).await;
        assert_eq!(stage.wire.seen_at(target).len(), 1);
        assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_123"));
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123"]);
    });
}

#[test]
fn going_back_reloading_and_coming_again_capture_nothing_anew() {
    on_stage(&[], async |stage| {
        let landing = stage.shop("/pricing?aff=PARTNER_123");
        stage.lands("/pricing?aff=PARTNER_123").await;
        stage.awaits_clicks(1).await;
        let features = stage.shop("/features");
        stage
            .browser
            .follow("nav a[href='/features']", &features)
            .await;
        let cookie = stage.browser.cookie(COOKIE).await;
        assert!(cookie.is_some());

        stage.browser.tab.back().await.unwrap();
        stage.browser.arrives_at(&landing).await;
        stage.browser.tab.refresh().await.unwrap();
        stage.browser.arrives_at(&landing).await;
        stage.lands("/pricing?aff=PARTNER_123").await;
        assert!(stage.wire.seen_at("/pricing?aff=PARTNER_123").len() >= 3);
        assert_eq!(stage.browser.cookie(COOKIE).await, cookie);
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123"]);
    });
}

#[test]
fn going_back_to_an_earlier_partners_page_takes_no_credit() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=EARLIER").await;
        stage.lands("/features?aff=LATER").await;
        for url in [
            stage.post("/features?aff=LATER"),
            stage.shop("/pricing?aff=EARLIER"),
        ] {
            stage.browser.tab.back().await.unwrap();
            stage.browser.arrives_at(&url).await;
        }
        assert_eq!(stage.credited().await.as_deref(), Some("LATER"));
        assert_eq!(stage.clicks_in_the_end(), ["EARLIER", "LATER"]);
    });
}

#[test]
fn tabs_share_one_referral() {
    for (attribution, credited) in [("last", "SECOND"), ("first", "FIRST")] {
        on_stage(&["--attribution", attribution], async |stage| {
            stage.lands("/pricing?aff=FIRST").await;
            stage.browser.open_tab().await;
            stage.lands("/pricing?aff=SECOND").await;
            for tab in [0, 1] {
                stage.browser.turn_to_tab(tab).await;
                assert_eq!(stage.credited().await.as_deref(), Some(credited), "{tab}");
            }
            let mut expected = vec!["FIRST", "SECOND"];
            expected.truncate(if attribution == "last" { 2 } else { 1 });
            assert_eq!(stage.clicks_in_the_end(), expected);
        });
    }
}
