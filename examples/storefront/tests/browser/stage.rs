//! What every test needs: the storefront in a process, the platform in another, the wire between
//! browser and shop, other people's sites, and the browser itself.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;

use futures_util::FutureExt as _;
use serde_json::Value;

use crate::chromium::{Chromium, eventually};
use crate::servers::skipped;
use crate::shop_process::{KEY_A, Sandbox, Shop};
use crate::sites::{Cached, Seen, Sites, Wire};

pub(crate) struct Stage {
    pub(crate) browser: Chromium,
    pub(crate) wire: Wire,
    pub(crate) sites: Sites,
    shop: Shop,
    platform: Platform,
    clock: Clock,
}

/// What a shop's clock is ahead of ours, in a file that it looks into whenever it wants to know the
/// time, if it was started so.
struct Clock {
    folder: tempfile::TempDir,
    days: u16,
}

impl Clock {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut clock = Self { folder, days: 0 };
        clock.advance(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    fn advance(&mut self, days: u16) {
        self.days += days;
        let next = self.folder.path().join("next");
        std::fs::write(&next, format!("+{}d", self.days)).unwrap();
        // At once, so that nobody looks into half a file.
        std::fs::rename(next, self.file()).unwrap();
    }
}

/// Where the shop's clicks and reports go. It outlives the shop, so that it can be asked when the
/// shop has nothing more to say.
struct Platform {
    sandbox: Sandbox,
    _process: Shop,
}

impl Platform {
    fn start() -> Self {
        let mut process = Shop::start_as_told(&[], &[]);
        Self {
            sandbox: process.sandbox(),
            _process: process,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/v1/tracking", self.sandbox.0)
    }
}

/// Runs a test with a browser that has never been anywhere, and a storefront with these options.
pub(crate) fn on_stage(args: &[&str], test: impl AsyncFnOnce(&mut Stage)) {
    set(args, &[], test);
}

/// The same with a clock that [`Stage::shop_lets_days_pass`] moves.
pub(crate) fn on_stage_with_a_clock(args: &[&str], test: impl AsyncFnOnce(&mut Stage)) {
    let Some(library) = clock_library() else {
        skipped("the clock can't be moved here: Debian has libfaketime in faketime");
        return;
    };
    set(args, &[("LD_PRELOAD", library.to_str().unwrap())], test);
}

fn set(args: &[&str], variables: &[(&str, &str)], test: impl AsyncFnOnce(&mut Stage)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Some(browser) = Chromium::start().await else {
            return;
        };
        let platform = Platform::start();
        let clock = Clock::new();
        let clock_file = clock.file();
        let url = platform.url();
        let args = [&["--platform-url", &url], args].concat();
        let variables = [
            &[
                ("REFERRAL_KEY", KEY_A),
                ("FAKETIME_TIMESTAMP_FILE", clock_file.to_str().unwrap()),
                ("FAKETIME_NO_CACHE", "1"),
                // Only what o'clock it is, not how long things take.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ],
            variables,
        ]
        .concat();
        let shop = Shop::start_as_told(&args, &variables);
        let mut stage = Stage {
            wire: Wire::to(shop.address).await,
            sites: Sites::start().await,
            browser,
            shop,
            platform,
            clock,
        };
        // A browser that is left alone leaves its files behind.
        let result = AssertUnwindSafe(test(&mut stage)).catch_unwind().await;
        if result.is_err() {
            for seen in stage.wire.seen() {
                eprintln!("{seen:#?}");
            }
        }
        stage.browser.close().await;
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// What moves the clock of a process.
fn clock_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut libraries = folders.filter_map(|folder| {
        let library = folder.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    libraries.next()
}

impl Stage {
    /// A page of the shop's, as visitors know it.
    pub(crate) fn shop(&self, target: &str) -> String {
        format!("http://shop.localhost:{}{target}", self.wire.port())
    }

    /// A page of the shop's at a sub-domain.
    pub(crate) fn sub_domain(&self, target: &str) -> String {
        format!("http://www.shop.localhost:{}{target}", self.wire.port())
    }

    /// Has the shop's CDN answer a page, whatever its query.
    pub(crate) fn cache(&self, path: &str, page: Cached) {
        self.wire.cache("shop.localhost", path, page);
    }

    /// Waits for a request with that path and query, and gives the first.
    pub(crate) async fn awaits(&self, target: &str) -> Seen {
        eventually(target, async || !self.wire.seen_at(target).is_empty()).await;
        self.wire.seen_at(target).swap_remove(0)
    }

    /// A page of a blog's with one link to the shop.
    pub(crate) fn post(&self, target: &str) -> String {
        let link = format!("<a href='{}'>a lamp</a>", self.shop(target));
        self.sites.page("blog", &format!("/about{target}"), &link)
    }

    /// The browser lands by the link of a blog's post.
    pub(crate) async fn lands(&self, target: &str) {
        self.browser.visit(&self.post(target)).await;
        self.browser.follow("a", &self.shop(target)).await;
    }

    /// What the shop knows about the browser's referral, by its API.
    pub(crate) async fn referral(&self) -> Value {
        self.browser.visit(&self.shop("/api/referral")).await;
        let script = "return document.querySelector('pre').textContent";
        let text = self.browser.tab.execute(script, vec![]).await.unwrap();
        let answer: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        answer["referral"].clone()
    }

    /// Whom the shop gives the credit, by its API.
    pub(crate) async fn credited(&self) -> Option<String> {
        Some(self.referral().await.get("key")?.as_str()?.to_owned())
    }

    /// What the platform was told so far, the oldest first: the call and its body.
    pub(crate) fn told(&self) -> Vec<(String, Value)> {
        let calls = self.platform.sandbox.calls();
        let calls = calls.iter().rev().map(|call| {
            assert!(call["status"].as_u64().unwrap() < 300, "{call}");
            let text = |name: &str| call[name].as_str().unwrap();
            let body = serde_json::from_str(text("body")).unwrap();
            (text("call").to_owned(), body)
        });
        calls.collect()
    }

    /// Waits until the platform was told that much, and gives it.
    pub(crate) async fn awaits_told(&self, count: usize) -> Vec<(String, Value)> {
        eventually("the platform is told", async || self.told().len() >= count).await;
        self.told()
    }

    /// The keys of the clicks that the platform has so far.
    pub(crate) fn clicks(&self) -> Vec<String> {
        let told = self.told().into_iter();
        told.filter(|(call, _)| call == "POST /v1/tracking/clicks")
            .map(|(_, body)| body["partnership_code"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until the platform has that many clicks, and gives their keys.
    pub(crate) async fn awaits_clicks(&self, count: usize) -> Vec<String> {
        eventually("the platform has the clicks", async || {
            self.clicks().len() >= count
        })
        .await;
        self.clicks()
    }

    /// Ends the shop, which waits for the clicks that are under way, and gives the keys of all that
    /// there ever were.
    pub(crate) fn clicks_in_the_end(&mut self) -> Vec<String> {
        self.shop.terminate();
        assert!(self.shop.child.wait().unwrap().success());
        self.clicks()
    }

    /// Moves the shop's clock on by so many days.
    pub(crate) fn shop_lets_days_pass(&mut self, days: u16) {
        self.clock.advance(days);
    }

    /// Moves the time at which the browser drops a cookie of the shop's nearer by so many days,
    /// since its clock can't be moved. A page of the shop's is in front.
    pub(crate) async fn browser_lets_days_pass(&self, days: u16, name: &str) {
        let mut cookie = self.browser.cookie(name).await.unwrap();
        let expires = cookie.expires_datetime().unwrap();
        cookie.set_expires(expires - time::Duration::days(days.into()));
        self.browser.put_cookie(&cookie).await;
    }
}
