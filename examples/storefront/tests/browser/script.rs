//! The script that the capture endpoint serves, on pages that a CDN answers: what it captures, and
//! what it can't be made to (E1 to E5).

use serde_json::json;

use crate::chromium::eventually;
use crate::sites::{Cached, Seen};
use crate::stage::{Stage, on_stage};
use crate::{COOKIE, NOBODY};

const ENDPOINT: &str = "/api/track-landing";

/// A cached page has the script, and says when that has run.
const SCRIPTED: &str = "<script src=/api/track-landing></script>\
    <script src=/after.js></script>";

/// What runs after the endpoint's script: it asks for a page, which shows that the script is done.
const AFTER: &str = "fetch('/after');";

/// No inline script, nothing from elsewhere.
const STRICT: &str = "default-src 'none'; script-src 'self'; connect-src 'self'";

/// Has the CDN answer a page with the script.
fn with_script(stage: &Stage, path: &str) {
    let page = Cached::html(SCRIPTED).with("content-security-policy", STRICT);
    stage.cache(path, page);
    stage.cache("/after.js", Cached::script(AFTER));
    stage.cache("/after", Cached::html(""));
}

/// What was posted so far.
fn posted(stage: &Stage) -> Vec<Seen> {
    let mut seen = stage.wire.seen_at(ENDPOINT);
    seen.retain(|seen| seen.method == "POST");
    seen
}

/// Waits until that many landings were posted, and gives the last.
async fn awaits_post(stage: &Stage, count: usize) -> Seen {
    eventually("the script posts", async || posted(stage).len() >= count).await;
    let mut posted = posted(stage);
    assert_eq!(posted.len(), count, "{posted:#?}");
    posted.remove(count - 1)
}

/// Waits until the script has run on that many pages.
async fn awaits_end(stage: &Stage, pages: usize) {
    let asked = || stage.wire.seen_at("/after").len();
    eventually("the script has run", async || asked() >= pages).await;
}

#[test]
fn the_script_captures_a_landing_on_a_cached_page() {
    on_stage(&[], async |stage| {
        with_script(stage, "/cached");
        stage.lands("/cached?utm_source=x&aff=PARTNER_123").await;
        let post = awaits_post(stage, 1).await;
        assert_eq!((post.status.as_u16(), post.sets_cookie()), (204, true));
        assert_eq!(post.fetch_metadata(), ["same-origin", "cors", "empty"]);
        let referral = stage.referral().await;
        assert_eq!(referral["key"], "PARTNER_123");
        assert_eq!(referral["landing_page"], "/cached?aff=PARTNER_123");
        assert_eq!(stage.awaits_clicks(1).await, ["PARTNER_123"]);

        // Without a parameter of the shop's there is nothing to post.
        stage
            .browser
            .visit(&stage.shop("/cached?utm_source=x"))
            .await;
        awaits_end(stage, 2).await;
        assert_eq!(posted(stage).len(), 1);

        // A second partner's link is one like any other.
        stage.lands("/cached?aff=SECOND").await;
        awaits_post(stage, 2).await;
        assert_eq!(stage.credited().await.as_deref(), Some("SECOND"));
        let told = stage.told();
        assert_eq!(told[0].1["referrer_url"], stage.sites.origin("blog"));
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123", "SECOND"]);
    });
}

#[test]
fn e1_e2_an_over_long_landing_at_a_stand_down_path_takes_no_credit() {
    for policy in ["strict-origin-when-cross-origin", "no-referrer"] {
        on_stage(&["--stand-down", "/checkout"], async |stage| {
            stage.lands("/pricing?aff=P1").await;
            let page = Cached::html(SCRIPTED).with("referrer-policy", policy);
            with_script(stage, "/checkout");
            stage.cache("/checkout", page);
            // The browser cuts a `Referer` of over 4,096 characters to the origin.
            let target = format!("/checkout?aff=E&x={}", "A".repeat(4_200));
            stage.browser.visit(&stage.shop(&target)).await;
            let post = awaits_post(stage, 1).await;
            let origin = stage.shop("/");
            let referer = if policy == "no-referrer" { "" } else { &origin };
            assert_eq!(post.header("referer"), referer);
            assert_eq!((post.status.as_u16(), post.sets_cookie()), (204, false));

            // By a script of the shop's own, which doesn't say where it is, as well.
            let by_hand = "const body = new URLSearchParams(location.search);\
                return (await fetch('/api/track-landing', {method: 'POST', body})).status";
            assert_eq!(stage.browser.script(by_hand).await, 204);
            let post = awaits_post(stage, 2).await;
            assert_eq!(post.header("referer"), referer);
            assert!(!post.sets_cookie(), "{post:?}");
            assert_eq!(stage.credited().await.as_deref(), Some("P1"));
            assert_eq!(stage.clicks_in_the_end(), ["P1"]);
        });
    }
}

#[test]
fn e3_e4_the_script_does_nothing_in_a_hidden_frame() {
    on_stage(&[], async |stage| {
        with_script(stage, "/cached");
        let frame = format!(
            "<iframe src='{}' style='display:none'></iframe>",
            stage.shop("/cached?aff=EVIL")
        );
        let foreign = stage.sites.page("blog", "/frame", &frame);
        let sub_domain = stage.sub_domain("/frame");
        stage
            .wire
            .cache("www.shop.localhost", "/frame", Cached::html(&frame));
        stage.cache("/frame", Cached::html(&frame));
        for (nth, page) in [foreign, sub_domain, stage.shop("/frame")]
            .iter()
            .enumerate()
        {
            stage.browser.visit(page).await;
            awaits_end(stage, nth + 1).await;
        }
        let framed = stage.wire.seen_at("/cached?aff=EVIL").into_iter();
        let sites: Vec<_> = framed
            .map(|frame| frame.header("sec-fetch-site").to_owned())
            .collect();
        assert_eq!(sites, ["cross-site", "same-site", "same-origin"]);
        assert_eq!(stage.credited().await, None);
        assert_eq!(posted(stage).len(), 0);
        assert_eq!(stage.clicks_in_the_end(), NOBODY);
    });
}

#[test]
fn e3_a_script_of_the_shops_own_in_a_foreign_frame_is_refused() {
    on_stage(&[], async |stage| {
        // Only with credentials does Chromium say that it is a foreign frame's.
        let post = "<script>fetch('/api/track-landing', {method: 'POST', credentials: 'include', \
            body: new URLSearchParams(location.search)})</script>";
        stage.cache("/cached", Cached::html(post));
        let frame = format!("<iframe src='{}'></iframe>", stage.shop("/cached?aff=EVIL"));
        let page = stage.sites.page("blog", "/frame", &frame);
        stage.browser.visit(&page).await;
        let post = awaits_post(stage, 1).await;
        assert_ne!(post.header("sec-fetch-storage-access"), "", "{post:?}");
        assert_eq!((post.status.as_u16(), post.sets_cookie()), (403, false));
        assert_eq!(stage.credited().await, None);
        assert_eq!(stage.clicks_in_the_end(), NOBODY);
    });
}

#[test]
fn e5_an_own_link_to_a_page_with_the_script_takes_no_credit() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=P1").await;
        with_script(stage, "/forum");
        stage.cache("/own", Cached::html("<a href='/forum?aff=E'>a lamp</a>"));
        stage.browser.visit(&stage.shop("/own")).await;
        stage.browser.follow("a", &stage.shop("/forum?aff=E")).await;
        let post = awaits_post(stage, 1).await;
        assert_eq!(post.status, 204);
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));

        // Where the page leads to itself it is the same link still.
        let _ = stage.browser.tab.back().await;
        stage.browser.arrives_at(&stage.shop("/forum?aff=E")).await;
        let posts = posted(stage).len();
        let _ = stage.browser.tab.execute("location.reload()", vec![]).await;
        eventually("the second post", async || posted(stage).len() > posts).await;
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
        assert_eq!(stage.clicks_in_the_end(), ["P1"]);
    });
}

#[test]
fn what_visitors_write_into_a_page_and_its_link_does_not_mislead_the_script() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=P1").await;
        let names = [
            "referrer",
            "currentScript",
            "prerendering",
            "addEventListener",
        ];
        let images = names.map(|name| format!("<img name={name} src=/stolen>"));
        with_script(stage, "/forum");
        let page = images.concat() + SCRIPTED;
        stage.cache("/forum", Cached::html(&page));
        stage.cache("/stolen", Cached::html(""));
        // With so many parameters that what the script says is beyond what is read of a query.
        let many = format!("/forum?aff=E2{}", "&a=".repeat(63));
        for (nth, target) in ["/forum?aff=E1", &many].into_iter().enumerate() {
            stage.cache(
                "/own",
                Cached::html(&format!("<a href='{target}'>a lamp</a>")),
            );
            stage.browser.visit(&stage.shop("/own")).await;
            stage.browser.follow("a", &stage.shop(target)).await;
            assert_eq!(awaits_post(stage, nth + 1).await.status, 204);
            assert_eq!(stage.credited().await.as_deref(), Some("P1"), "{target}");
        }
        let stolen = stage.wire.seen_at("/stolen");
        assert!(!stolen.is_empty() && stolen.iter().all(|seen| seen.method == "GET"));

        stage.lands("/forum?aff=P2").await;
        awaits_post(stage, 3).await;
        assert_eq!(stage.credited().await.as_deref(), Some("P2"));
    });
}

#[test]
fn the_script_waits_while_its_page_is_prerendered() {
    on_stage(&[], async |stage| {
        with_script(stage, "/cached");
        let target = "/cached?aff=AHEAD";
        let rules = json!({"prerender": [{
            "source": "list", "urls": [target], "eagerness": "immediate",
        }]});
        let page =
            format!("<script type=speculationrules>{rules}</script><a href='{target}'>a lamp</a>");
        stage.cache("/own", Cached::html(&page));
        stage.browser.visit(&stage.shop("/own")).await;
        awaits_end(stage, 1).await;
        let ahead = stage.awaits(target).await;
        assert_eq!(ahead.header("sec-purpose"), "prefetch;prerender");
        assert_eq!(posted(stage).len(), 0);

        stage.browser.follow("a", &stage.shop(target)).await;
        awaits_post(stage, 1).await;
        assert_eq!(stage.wire.seen_at(target).len(), 1);
        assert_eq!(stage.credited().await.as_deref(), Some("AHEAD"));
        assert!(stage.browser.cookie(COOKIE).await.is_some());
    });
}

#[test]
fn a_cached_page_that_is_reloaded_in_an_older_tab_replaces_nothing() {
    on_stage(&[], async |stage| {
        with_script(stage, "/cached");
        stage.lands("/cached?aff=OLD").await;
        awaits_post(stage, 1).await;
        stage.browser.open_tab().await;
        stage.lands("/cached?aff=NEW").await;
        awaits_post(stage, 2).await;
        stage.browser.turn_to_tab(0).await;
        stage.browser.tab.refresh().await.unwrap();
        awaits_post(stage, 3).await;
        assert_eq!(stage.credited().await.as_deref(), Some("NEW"));
    });
}
