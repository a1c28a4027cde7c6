//! A shop with a service worker that answers navigations with `fetch(event.request)`: C1. What a
//! visitor does through it arrives as `Sec-Fetch-Dest: empty`.

use crate::chromium::eventually;
use crate::sites::Cached;
use crate::stage::{Stage, on_stage};
use crate::{COOKIE, NOBODY};

const WORKER: &str = "\
    addEventListener('install', () => skipWaiting());\
    addEventListener('activate', event => event.waitUntil(clients.claim()));\
    addEventListener('fetch', event => event.respondWith(fetch(event.request)));";

/// A page that has the worker installed, and says so to whoever frames it.
const INSTALL: &str = "<script>\
    navigator.serviceWorker.register('/worker.js');\
    (async () => {\
        if (!navigator.serviceWorker.controller) {\
            await new Promise(done => navigator.serviceWorker.oncontrollerchange = done);\
        }\
        document.body.append(' The worker is there');\
        parent.postMessage('The worker is there', '*');\
    })()</script>";

/// Puts the worker and the page that installs it on the shop.
fn with_worker(stage: &Stage) {
    stage.cache("/worker.js", Cached::script(WORKER));
    stage.cache("/install", Cached::html(INSTALL));
}

/// Has the browser install the worker, as a visitor who was there before.
async fn installs(stage: &Stage) {
    with_worker(stage);
    stage.browser.visit(&stage.shop("/install")).await;
    stage.browser.reads("The worker is there").await;
}

/// What came to that path and query, once, through the worker.
async fn through_worker(stage: &Stage, target: &str) -> crate::Seen {
    let seen = stage.awaits(target).await;
    assert_eq!(
        seen.fetch_metadata()[1..],
        ["navigate", "empty"],
        "{seen:?}"
    );
    seen
}

#[test]
fn c1_a_landing_through_a_service_worker_is_captured_and_its_click_fires_at_the_next_page_view() {
    on_stage(&[], async |stage| {
        installs(stage).await;
        stage.lands("/pricing?aff=PARTNER_123").await;
        let text = stage.browser.text().await;
        assert!(text.contains("You were referred by PARTNER_123"), "{text}");
        assert!(text.contains("told once you look at another"), "{text}");
        let landing = through_worker(stage, "/pricing?aff=PARTNER_123").await;
        assert!(landing.sets_cookie(), "{landing:?}");
        assert_eq!(stage.clicks(), NOBODY);

        let features = stage.shop("/features");
        stage
            .browser
            .follow("nav a[href='/features']", &features)
            .await;
        let view = through_worker(stage, "/features").await;
        assert_eq!(view.cookie_names(), [COOKIE]);
        assert_eq!(stage.awaits_clicks(1).await, ["PARTNER_123"]);
        stage.browser.visit(&stage.shop("/about")).await;
        let referral = stage.referral().await;
        assert_eq!(referral["click_id"], "clk_000001");
        assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123"]);
    });
}

#[test]
fn c1_a_landing_through_a_service_worker_that_stays_alone_creates_no_click() {
    on_stage(&[], async |stage| {
        installs(stage).await;
        stage.lands("/pricing?aff=PARTNER_123").await;
        assert!(stage.browser.cookie(COOKIE).await.is_some());
        assert_eq!(stage.clicks_in_the_end(), NOBODY);
    });
}

#[test]
fn c1_a_mailed_link_through_a_service_worker_is_an_outside_touch_and_an_own_link_is_not() {
    on_stage(&[], async |stage| {
        installs(stage).await;
        stage.lands("/pricing?aff=P1").await;

        // A link of the shop's own, with its `Referer`.
        stage.cache(
            "/own",
            Cached::html("<a href='/features?ref=footer'>a lamp</a>"),
        );
        stage.browser.visit(&stage.shop("/own")).await;
        let own = "/features?ref=footer";
        stage.browser.follow("a", &stage.shop(own)).await;
        let link = through_worker(stage, own).await;
        assert_eq!(link.header("sec-fetch-site"), "same-origin");
        assert!(link.header("referer").ends_with("/own"), "{link:?}");
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));

        // As if it were opened from an e-mail: the worker hides that it came from nowhere.
        let mailed = "/pricing?aff=MAILED";
        stage.browser.visit(&stage.shop(mailed)).await;
        let landing = through_worker(stage, mailed).await;
        assert_eq!(landing.header("sec-fetch-site"), "same-origin");
        assert_eq!(landing.header("referer"), "");
        assert_eq!(stage.credited().await.as_deref(), Some("MAILED"));
        assert_eq!(stage.clicks_in_the_end(), ["P1", "MAILED"]);
    });
}

#[test]
fn c1_a_frame_in_a_foreign_page_through_a_service_worker_captures_nothing() {
    on_stage(&[], async |stage| {
        with_worker(stage);
        let target = "/pricing?aff=EVIL";
        // A worker of a frame is its own for each site around it, so the frame installs it first.
        let page = format!(
            "<iframe src='{}'></iframe><script>addEventListener('message', () => {{\
             const frame = document.createElement('iframe');\
             frame.src = '{}';\
             frame.onload = () => document.body.append(' It is framed');\
             document.body.append(frame)}}, {{once: true}})</script>",
            stage.shop("/install"),
            stage.shop(target),
        );
        let page = stage.sites.page("blog", "/frame", &page);
        stage.browser.visit(&page).await;
        stage.browser.reads("It is framed").await;
        let frame = through_worker(stage, target).await;
        assert_ne!(frame.header("sec-fetch-storage-access"), "", "{frame:?}");
        assert!(!frame.sets_cookie(), "{frame:?}");
        assert_eq!(stage.credited().await, None);

        // Nor does it with somebody else's credit there, which it is no proof of a view for.
        stage.lands("/pricing?aff=P1").await;
        stage.browser.visit(&page).await;
        eventually("the second frame", async || {
            stage.wire.seen_at(target).len() > 1
        })
        .await;
        assert!(!stage.wire.seen_at(target)[1].sets_cookie());
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
        assert_eq!(stage.clicks_in_the_end(), ["P1"]);
    });
}

#[test]
fn c1_a_frame_in_a_page_of_a_sub_domain_through_a_service_worker_takes_no_credit() {
    on_stage(&[], async |stage| {
        installs(stage).await;
        stage.lands("/pricing?aff=P1").await;
        let target = "/features?aff=EVIL";
        let page = format!(
            "<iframe src='{}' onload=\"document.body.append(' It is framed')\"></iframe>",
            stage.shop(target)
        );
        stage
            .wire
            .cache("www.shop.localhost", "/frame", Cached::html(&page));
        stage.browser.visit(&stage.sub_domain("/frame")).await;
        stage.browser.reads("It is framed").await;
        let frame = through_worker(stage, target).await;
        assert!(!frame.sets_cookie(), "{frame:?}");
        // The landing of P1 isn't seen to have been seen by this frame.
        assert_eq!(stage.clicks(), NOBODY);
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
        assert_eq!(stage.clicks_in_the_end(), ["P1"]);
    });
}
