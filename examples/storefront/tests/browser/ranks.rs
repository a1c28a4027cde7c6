//! Which touch keeps the credit in a browser of its own ways: interstitials (C2), links of
//! sub-domains (C7), reloads (C8), prefetches by the shop itself (C14), and redirects to the clean
//! URL.

use serde_json::json;

use crate::NOBODY;
use crate::chromium::eventually;
use crate::sites::{Cached, PREFIX};
use crate::stage::{Stage, on_stage};

/// What an interstitial may do to have the page it stands in front of loaded.
const WAYS_ON: [&str; 4] = [
    "<script>location.reload()</script>",
    "<script>location.replace(location.href)</script>",
    "<script>onload = () => location.href = location.href</script>",
    "<button onclick='location.reload()'>I am over 18</button>",
];

/// Goes on, where a person has to.
async fn passes(stage: &Stage, way_on: &str) {
    if way_on.starts_with("<button") {
        stage.browser.reads("I am over 18").await;
        stage.browser.click("button").await;
    }
}

/// Follows the link of a page of the shop's own to its target.
async fn follows_own_link(stage: &Stage, page: &str, target: &str) {
    stage.cache("/own", Cached::html(page));
    stage.browser.visit(&stage.shop("/own")).await;
    stage.browser.follow("a", &stage.shop(target)).await;
}

#[test]
fn c2_a_landing_behind_an_interstitial_is_an_outside_touch() {
    for way_on in WAYS_ON {
        on_stage(&[], async |stage| {
            stage.lands("/pricing?aff=P1").await;
            let target = "/features?aff=P2";
            stage.cache("/features", Cached::html(way_on).once());
            stage.browser.visit(&stage.post(target)).await;
            stage.browser.click("a").await;
            passes(stage, way_on).await;
            stage.browser.reads("You were referred by P2").await;
            let seen = stage.wire.seen_at(target);
            assert_eq!(seen.len(), 2, "{way_on}: {seen:#?}");
            assert_eq!(seen[1].header("referer"), stage.shop(target), "{way_on}");
            assert_eq!(stage.credited().await.as_deref(), Some("P2"), "{way_on}");
            assert_eq!(stage.clicks_in_the_end(), ["P1", "P2"], "{way_on}");
        });
    }
}

#[test]
fn c2_an_own_link_that_was_refused_stays_refused_when_its_page_leads_to_itself() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=P1").await;
        let target = "/features?ref=footer";
        let link = format!("<a href='{target}'>a lamp</a>");
        follows_own_link(stage, &link, target).await;
        for (visits, script) in [
            (2, "location.reload()"),
            (3, "location.replace(location.href)"),
        ] {
            // What runs the script goes with the page that it ran in.
            let _ = stage.browser.tab.execute(script, vec![]).await;
            eventually(script, async || stage.wire.seen_at(target).len() >= visits).await;
            stage.browser.reads("You were referred by P1").await;
            let again = &stage.wire.seen_at(target)[visits - 1];
            assert_eq!(again.header("referer"), stage.shop(target), "{script}");
        }
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
        assert_eq!(stage.clicks_in_the_end(), ["P1"]);
    });
}

#[test]
fn c7_a_link_of_a_sub_domain_takes_no_credit_where_the_cookie_is_shared() {
    for (args, credited) in [
        (&["--domain", "shop.localhost"][..], "P1"),
        // Without that, another host of the domain may be anybody's.
        (&[], "header-cta"),
    ] {
        on_stage(args, async |stage| {
            stage.lands("/pricing?aff=P1").await;
            let target = "/features?ref=header-cta";
            let link = format!("<a href='{}'>a lamp</a>", stage.shop(target));
            stage
                .wire
                .cache("www.shop.localhost", "/post", Cached::html(&link));
            stage.browser.visit(&stage.sub_domain("/post")).await;
            stage.browser.follow("a", &stage.shop(target)).await;
            let seen = stage.awaits(target).await;
            assert_eq!(seen.fetch_metadata(), ["same-site", "navigate", "document"]);
            assert_eq!(
                stage.credited().await.as_deref(),
                Some(credited),
                "{args:?}"
            );
        });
    }
}

#[test]
fn c8_a_reload_in_an_older_tab_takes_no_credit() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=OLD").await;
        stage.browser.open_tab().await;
        stage.lands("/features?aff=NEW").await;
        stage.browser.turn_to_tab(0).await;
        stage.browser.tab.refresh().await.unwrap();
        stage
            .browser
            .arrives_at(&stage.shop("/pricing?aff=OLD"))
            .await;
        let seen = stage.wire.seen_at("/pricing?aff=OLD");
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].header("cache-control"), "max-age=0");
        assert!(seen[1].headers.contains_key("sec-ch-ua"), "{:?}", seen[1]);
        assert!(seen[1].header("referer").contains("blog"), "{:?}", seen[1]);
        assert_eq!(stage.credited().await.as_deref(), Some("NEW"));
        assert_eq!(stage.clicks_in_the_end(), ["OLD", "NEW"]);
    });
}

#[test]
fn c14_a_page_that_the_shop_itself_prefetches_takes_no_credit() {
    for is_sub_domain in [false, true] {
        on_stage(&["--domain", "shop.localhost"], async |stage| {
            stage.lands("/pricing?aff=P1").await;
            let target = "/features?aff=EVIL";
            let rules = json!({"prefetch": [{
                "source": "list", "urls": [stage.shop(target)], "eagerness": "immediate",
            }]});
            let rules = format!("<script type=speculationrules>{rules}</script>");
            let host = if is_sub_domain {
                "www.shop.localhost"
            } else {
                "shop.localhost"
            };
            stage.wire.cache(host, "/ahead", Cached::html(&rules));
            let page = stage.shop("/ahead").replace("shop.localhost", host);
            stage.browser.visit(&page).await;
            let ahead = stage.awaits(target).await;
            assert!(
                ahead.header("sec-purpose").starts_with("prefetch"),
                "{ahead:?}"
            );
            assert_eq!(ahead.cookie_names(), ["__Secure-referral"]);
            assert_eq!(stage.credited().await.as_deref(), Some("P1"), "{ahead:?}");
            assert_eq!(stage.clicks_in_the_end(), ["P1"]);
        });
    }
}

#[test]
fn clean_url_leads_to_the_same_page_in_any_folder_and_behind_a_proxy_that_strips_a_prefix() {
    for (target, clean) in [
        ("/?aff=PARTNER_123", "/"),
        ("/pricing?aff=PARTNER_123", "/pricing"),
        ("/deep/er/about?aff=PARTNER_123", "/deep/er/about"),
        ("/deep/er/?aff=PARTNER_123", "/deep/er/"),
        ("/deep/a:b?aff=PARTNER_123", "/deep/a:b"),
        ("/deep/er?color=red&aff=PARTNER_123", "/deep/er?color=red"),
    ] {
        on_stage(&["--clean-url"], async |stage| {
            for (nth, prefix) in ["", PREFIX].into_iter().enumerate() {
                let target = format!("{prefix}{target}");
                let clean = format!("{prefix}{clean}");
                stage.browser.visit(&stage.post(&target)).await;
                stage.browser.follow("a", &stage.shop(&clean)).await;
                let landing = stage.awaits(&target).await;
                assert_eq!(landing.status, 303, "{landing:?}");
                // The click ID joins in the second.
                assert!(landing.sets_cookie() || nth > 0, "{landing:?}");
            }
            assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_123"));
            assert_eq!(stage.clicks_in_the_end(), ["PARTNER_123"]);
        });
    }
}

#[test]
fn clean_url_leads_nowhere_but_to_the_shop() {
    on_stage(&["--clean-url"], async |stage| {
        let target = "//evil.localhost?aff=PARTNER_123";
        stage.browser.visit(&stage.post(target)).await;
        stage
            .browser
            .follow("a", &stage.shop("//evil.localhost"))
            .await;
        assert_eq!(stage.credited().await.as_deref(), Some("PARTNER_123"));
        assert_ne!(stage.clicks_in_the_end(), NOBODY);
    });
}

#[test]
fn c2_an_own_link_by_way_of_a_shortener_is_one() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=P1").await;
        let target = "/features?aff=EVIL";
        let short = stage.sites.redirect("short", "/go", &stage.shop(target));
        let link = format!("<a href='{short}'>a lamp</a>");
        follows_own_link(stage, &link, target).await;
        let seen = stage.wire.seen_at(target);
        assert_eq!(seen[0].fetch_metadata()[0], "cross-site");
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
    });
}

/// Shows a link's page in the place of its own, as htmx and Turbo do.
const BOOSTED: &str = "const link = document.querySelector('a');
    link.addEventListener('click', async click => {
        click.preventDefault();
        const headers = {Accept: 'text/html'};
        document.body.innerHTML = await (await fetch(link.href, {headers})).text();
        history.pushState({}, '', link.href);
    });";

#[test]
fn c2_an_own_link_that_a_script_followed_is_one_when_its_page_leads_to_itself() {
    on_stage(&[], async |stage| {
        stage.lands("/pricing?aff=P1").await;
        let target = "/features?aff=EVIL";
        let page = format!("<a href='{target}'>a lamp</a><script>{BOOSTED}</script>");
        follows_own_link(stage, &page, target).await;
        stage.browser.reads("You were referred by P1").await;
        let again = "location.href = location.href";
        stage.browser.tab.execute(again, vec![]).await.unwrap();
        stage.awaits(target).await;
        eventually("the page again", async || {
            stage.wire.seen_at(target).len() == 2
        })
        .await;
        let seen = stage.wire.seen_at(target);
        assert_eq!(seen[1].header("referer"), stage.shop(target));
        assert_eq!(stage.credited().await.as_deref(), Some("P1"));
    });
}
