//! Chromium, driven through chromedriver: one browser with a profile of its own for each test, and
//! gone with the test, however that ends.
//!
//! Where there is no Chromium with its driver, what needs it is skipped, aloud; under `CI=true` that
//! is a failure.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::cookies::Cookie;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::servers::skipped;

/// How long anything may take that the browser does. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it says it is. A browser without a window calls itself `HeadlessChrome`, which the platform
/// isn't told of.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/142.0.0.0 Safari/537.36";

/// What a person reads on a page that is there.
const TEXT: &str = "return document.readyState == 'complete' ? document.body.innerText : ''";

/// A browser with one tab.
pub(crate) struct Chromium {
    /// The tab that is in front.
    pub(crate) tab: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts a browser that has never been anywhere; `None` where none is installed.
    pub(crate) async fn start() -> Option<Self> {
        let found = installed(&["chromedriver"]).zip(installed(&[
            "chromium",
            "chromium-browser",
            "google-chrome",
        ]));
        let Some((driver, browser)) = found else {
            skipped("no Chromium with its chromedriver here, which Debian has in chromium-driver");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let (driver, address) = start_driver(&driver, profile.path());

        let arguments = [
            "--headless",
            // Root's browser doesn't start with one, and there are pages of ours only.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--window-size=1000,1200",
            // It finds the sites of the test and nothing else.
            "--host-resolver-rules=MAP *.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            &format!("--user-agent={USER_AGENT}"),
            &format!("--user-data-dir={}", profile.path().join("data").display()),
        ];
        let options = json!({ "binary": browser, "args": arguments });
        let capabilities = json!({ "goog:chromeOptions": options });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is written above")
        };
        let tab = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&address)
            .await
            .expect("Chromium starts");
        Some(Self {
            tab,
            driver,
            _profile: profile,
        })
    }

    /// Goes to a page, as if its URL were typed in.
    pub(crate) async fn visit(&self, url: &str) {
        self.tab.goto(url).await.unwrap();
    }

    /// Clicks a link or a button, as a person does, and waits for the page that it leads to.
    pub(crate) async fn follow(&self, selector: &str, to: &str) {
        self.click(selector).await;
        self.arrives_at(to).await;
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.tab.find(Locator::Css(selector)).await.unwrap();
        element.click().await.unwrap();
    }

    /// Waits until the tab shows a page, whole.
    pub(crate) async fn arrives_at(&self, url: &str) {
        let page = json!([url, "complete"]);
        eventually(url, async || {
            let script = "return [location.href, document.readyState]";
            // While one page gives way to the other, there may be none to run a script in.
            let shown = self.tab.execute(script, vec![]).await;
            shown.is_ok_and(|shown| shown == page)
        })
        .await;
    }

    /// Waits until a page says something.
    pub(crate) async fn reads(&self, words: &str) {
        eventually(words, async || {
            let shown = self.tab.execute(TEXT, vec![]).await;
            shown.is_ok_and(|shown| shown.as_str().is_some_and(|shown| shown.contains(words)))
        })
        .await;
    }

    /// What a person reads.
    pub(crate) async fn text(&self) -> String {
        let text = self.tab.execute(TEXT, vec![]).await.unwrap();
        text.as_str().unwrap().to_owned()
    }

    /// Runs the body of an asynchronous function in the page and waits for what it returns.
    pub(crate) async fn script(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {body} }})().then(done, e => done(`${{e}}`))"
        );
        self.tab.execute_async(&script, vec![]).await.unwrap()
    }

    /// Types into a field of a form, in place of what was in it.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        let selector = format!("input[name={name}]");
        let field = self.tab.find(Locator::Css(&selector)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// The cookies that the page's site has, those that no script sees included.
    pub(crate) async fn cookies(&self) -> Vec<Cookie<'static>> {
        self.tab.get_all_cookies().await.unwrap()
    }

    /// The one cookie of that name, if it is there.
    pub(crate) async fn cookie(&self, name: &str) -> Option<Cookie<'static>> {
        let cookies = self.cookies().await;
        let mut named = cookies.into_iter().filter(|cookie| cookie.name() == name);
        let cookie = named.next();
        assert_eq!(named.next(), None);
        cookie
    }

    /// Puts a cookie in place of the page's host's of that name. It has no domain, so that it stays
    /// this host's alone, which the library's own call can't say.
    pub(crate) async fn put_cookie(&self, cookie: &Cookie<'_>) {
        let command = AddCookie(json!({"cookie": {
            "name": cookie.name(),
            "value": cookie.value(),
            "path": cookie.path(),
            "secure": cookie.secure(),
            "httpOnly": cookie.http_only(),
            "sameSite": cookie.same_site().map(|same_site| same_site.to_string()),
            "expiry": cookie.expires_datetime().map(time::OffsetDateTime::unix_timestamp),
        }}));
        self.tab.issue_cmd(command).await.unwrap();
    }

    /// Opens a tab behind the one in front, and brings it there.
    pub(crate) async fn open_tab(&self) {
        let tab = self.tab.new_window(true).await.unwrap();
        self.tab.switch_to_window(tab.handle).await.unwrap();
    }

    /// Brings a tab to the front, by its place.
    pub(crate) async fn turn_to_tab(&self, place: usize) {
        let tabs = self.tab.windows().await.unwrap();
        self.tab
            .switch_to_window(tabs[place].clone())
            .await
            .unwrap();
    }

    /// Ends browser and driver.
    pub(crate) async fn close(self) {
        let closed = self.tab.clone().close().await;
        drop(self);
        closed.unwrap();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The browser's processes end with it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// [Add Cookie](https://www.w3.org/TR/webdriver2/#add-cookie)
#[derive(Debug)]
struct AddCookie(Value);

impl WebDriverCompatibleCommand for AddCookie {
    fn endpoint(&self, driver: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        driver.join(&format!("session/{}/cookie", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a driver, which ends when the test's thread does, whatever becomes of that, and gives its
/// address.
fn start_driver(driver: &Path, files: &Path) -> (Child, String) {
    let mut said = Vec::new();
    // It wants one free port at two addresses, and gives up where it finds that at the first alone.
    for _ in 0..10 {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(driver);
        command.arg("--port=0").env("TMPDIR", files);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut driver = command.stderr(Stdio::null()).spawn().unwrap();
        for line in BufReader::new(driver.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let port = port.trim_end_matches('.');
                return (driver, format!("http://127.0.0.1:{port}"));
            }
            said.push(line);
        }
        driver.wait().unwrap();
    }
    panic!("chromedriver doesn't start: {said:#?}");
}

/// The first of some programs that is in the path.
fn installed(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&folders).collect();
    let mut paths = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.find(|path| path.exists())
}
