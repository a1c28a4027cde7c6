//! Everything that can go wrong with a server, done to whatever a shop depends on: to the platform while
//! it is told of landings and of sales, and to the store that referrals or sessions are in. What the
//! shop depends on is well but for the server that stands before it.
//!
//! A failure lasts until all answers are there, so that a page that waits for its end never comes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::thread;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::counting::{Kind, Platform};
use crate::fault_server::{Fault, FaultServer, Protocol};
use crate::servers::Server;
use crate::shop_process::{Answer, Form, Json, KEY_A, Shop, Visitor, shown, words};
use crate::support::eventually;

/// Where the servers run that stand before others.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

const PATHS: [&str; 5] = ["/", "/features", "/pricing", "/about", "/nope"];

/// Starts a server that stands before another one on this machine.
fn before(address: SocketAddr, protocol: Protocol) -> FaultServer {
    RUNTIME.block_on(FaultServer::before(address, protocol))
}

fn start(options: &[String]) -> Shop {
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    Shop::start_as_told(&options, &[("REFERRAL_KEY", KEY_A)])
}

// --- Pages -------------------------------------------------------------------------------------------

/// A way to keep referrals, and what it depends on.
struct Mode {
    hurt: FaultServer,
    options: Vec<String>,
    /// The same without the server that may be hurt.
    well: Vec<String>,
    has_sessions: bool,
    /// What was kept may be out of reach while the store is.
    is_on_the_server: bool,
}

#[test]
fn no_failure_of_the_platform_changes_a_page_or_loses_a_referral() {
    for wait in [0, 200] {
        let platform = Platform::start(Kind::Partnac);
        let hurt = before(platform.address, Protocol::Http);
        let options = |address: SocketAddr| {
            let mut options = platform.options().to_vec();
            options[3] = format!("http://{address}/v1/tracking");
            options.extend(["--click-wait".to_owned(), wait.to_string()]);
            options
        };
        hurt_pages(&Mode {
            options: options(hurt.address()),
            well: options(platform.address),
            hurt,
            has_sessions: false,
            is_on_the_server: false,
        });
    }
}

#[test]
fn no_failure_of_redis_changes_a_page_or_loses_a_referral() {
    for keep in ["server", "session"] {
        if let Some(redis) = Server::redis() {
            hurt_store(&redis, keep, Protocol::Redis);
        }
    }
}

#[test]
fn no_failure_of_postgresql_changes_a_page_or_loses_a_referral() {
    if let Some(postgres) = Server::postgres() {
        hurt_store(&postgres, "server", Protocol::Postgres);
    }
}

fn hurt_store(store: &Server, keep: &str, protocol: Protocol) {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, store.port));
    let hurt = before(at, protocol);
    let options = |address: SocketAddr| {
        let url = store.url();
        let url = url.replace(&at.to_string(), &address.to_string());
        ["--platform", "none", "--keep", keep, "--store", &url]
            .map(str::to_owned)
            .to_vec()
    };
    hurt_pages(&Mode {
        options: options(hurt.address()),
        well: options(at),
        hurt,
        has_sessions: keep == "session",
        is_on_the_server: keep == "server",
    });
}

fn hurt_pages(mode: &Mode) {
    let reference = Reference::of(&start(&mode.well));
    let shop = start(&mode.options);
    for fault in Fault::ALL {
        // Who landed before, who then lands again with another key, and who is new.
        let mut old = Guest::new(mode, &shop, format!("OLD-{fault:?}"));
        old.visitor.get(&format!("/pricing?aff={}", old.key));
        let mut over = Guest::new(mode, &shop, format!("FIRST-{fault:?}"));
        over.visitor.get(&format!("/pricing?aff={}", over.key));
        over.key = format!("OVER-{fault:?}");
        let mut new = Guest::new(mode, &shop, format!("NEW-{fault:?}"));

        mode.hurt.inflict(fault);
        let landings = [&over, &new].map(|guest| format!("/pricing?aff={}", guest.key));
        thread::scope(|scope| {
            scope.spawn(|| old.looks(&reference, &["/about"]));
            scope.spawn(|| {
                // What was kept at first may be shown until the next landing.
                over.visitor.get("/about");
                over.looks(&reference, &[&landings[0], "/"]);
            });
            new.looks(&reference, &[&landings[1], "/", "/features", "/nope"]);
        });
        mode.hurt.lift();
        for guest in [&mut old, &mut over, &mut new] {
            guest.is_kept(fault);
        }
    }
}

/// The shop's answers where nothing is ever hurt, by their paths.
struct Reference(BTreeMap<&'static str, Page>);

struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    words: String,
}

impl Reference {
    fn of(shop: &Shop) -> Self {
        let answer = |path| {
            let answer = shop.get(path);
            let page = Page {
                status: answer.status,
                headers: others_headers(&answer),
                words: words(&answer),
            };
            (path, page)
        };
        Self(PATHS.into_iter().map(answer).collect())
    }

    /// Asserts that it is that path's answer, but for the card that says who referred the visitor.
    fn compare(&self, path: &str, answer: &Answer) {
        let page = &self.0[path.split('?').next().unwrap()];
        assert_eq!(answer.status, page.status, "{path}");
        assert_eq!(others_headers(answer), page.headers, "{path}");
        assert_eq!(words(answer), page.words, "{path}");
    }
}

/// All headers but the time, the length, which changes with the card, and the referral's cookie.
fn others_headers(answer: &Answer) -> Vec<(String, String)> {
    let is_other = |(name, value): &&(String, String)| match &**name {
        "date" | "content-length" => false,
        "set-cookie" => !value.starts_with("__Host-referral="),
        _ => true,
    };
    answer.headers.iter().filter(is_other).cloned().collect()
}

/// A visitor, and who referred them.
struct Guest<'s> {
    visitor: Visitor<'s>,
    key: String,
    has_session: bool,
    is_on_the_server: bool,
}

impl<'s> Guest<'s> {
    fn new(mode: &Mode, shop: &'s Shop, key: String) -> Self {
        let mut visitor = shop.browser();
        if mode.has_sessions {
            sign_in(&mut visitor, &key);
        }
        Self {
            visitor,
            key,
            has_session: mode.has_sessions,
            is_on_the_server: mode.is_on_the_server,
        }
    }

    /// Opens pages, which must be as ever and show this visitor's referral, or nobody's where the
    /// store is out of reach.
    fn looks(&mut self, reference: &Reference, paths: &[&str]) {
        for path in paths {
            let answer = self.visitor.get(path);
            reference.compare(path, &answer);
            let is_landing = path.contains('?');
            match shown(&answer).flatten() {
                None if self.is_on_the_server && !is_landing => {}
                key => assert_eq!(key.as_ref(), Some(&self.key), "{path}"),
            }
        }
    }

    /// The referral is there, and the copy of it where there is to be one, once all is well.
    fn is_kept(&mut self, fault: Fault) {
        eventually(&format!("{} is lost by {fault:?}", self.key), || {
            (self.visitor.key().as_ref() == Some(&self.key)).then_some(())
        });
        if !self.has_session {
            return;
        }
        // The copy goes along with the application's next save.
        eventually(&format!("{} has no copy after {fault:?}", self.key), || {
            sign_in(&mut self.visitor, &self.key);
            self.has_copy().then_some(())
        });
    }

    fn has_copy(&mut self) -> bool {
        let accept = [("Accept", "application/json")];
        let account = self.visitor.request("GET", "/account", &accept, b"").json();
        account["referrals"]["default"]["key"] == *self.key
    }
}

/// The store may be new to its client again.
fn sign_in(visitor: &mut Visitor<'_>, customer: &str) {
    eventually("nobody can sign in", || {
        let answer = visitor.post("/login", &[], Form(&[("customer", customer)]));
        (answer.status == 303).then_some(())
    });
}

// --- Reports -----------------------------------------------------------------------------------------

#[test]
fn no_failure_of_partnac_loses_a_report_or_delays_a_page() {
    hurt_reports(Kind::Partnac);
}

#[test]
fn no_failure_of_partnero_loses_or_doubles_a_report_or_delays_a_page() {
    hurt_reports(Kind::Partnero);
}

fn hurt_reports(kind: Kind) {
    let platform = Platform::start(kind);
    let hurt = before(platform.address, Protocol::Http);
    let mut options = platform.options().to_vec();
    let well = platform.address.to_string();
    options[3] = options[3].replace(&well, &hurt.address().to_string());
    let shop = start(&options);
    let mut customers = Vec::new();
    for fault in Fault::ALL {
        let mut visitor = shop.browser();
        visitor.get("/?aff=PARTNER_1");
        let customer = format!("c-{fault:?}").to_lowercase();
        let mut payment = json!({"customer": customer, "order": format!("o-{customer}"),
            "amount": "5", "currency": "EUR"});
        let started = visitor.post("/checkout", &[], Json(&payment)).json();
        payment["client_reference_id"] = started["client_reference_id"].clone();

        let before = platform.open().calls.len();
        let connections = hurt.connections();
        hurt.inflict(fault);
        // Both answers are there while the failure lasts.
        let sign_up = visitor.post("/signup", &[], Json(&json!({"customer": customer})));
        assert_eq!(sign_up.report().0, "queued", "{fault:?}");
        let paid = visitor.post("/webhooks/payment", &[], Json(&payment));
        assert_eq!(paid.report().0, "queued", "{fault:?}");
        if fault != Fault::Refused {
            eventually("nobody asked the platform", || {
                let is_asked = hurt.connections() > connections
                    || platform.open().calls.len() > before
                    || hurt.has_held_something();
                is_asked.then_some(())
            });
        }
        hurt.lift();
        customers.push(customer);
    }
    // A failure of the connection as a whole pauses everything until the next probe.
    let probe: Value = json!({"all": true});
    if kind == Kind::Partnac {
        shop.visitor().post("/outbox", &[], Json(&probe));
    }
    let outbox = shop.settles();
    let problems = outbox["problems"].as_array().unwrap();
    let ledger = platform.open();
    for customer in &customers {
        for id in [format!("signup:{customer}"), format!("sale:o-{customer}")] {
            let count = ledger.recorded.iter().filter(|recorded| **recorded == id);
            let count = count.count();
            let is_listed = problems
                .iter()
                .any(|problem| problem["id"] == *id && problem["state"] == "ambiguous");
            if kind == Kind::Partnac || id.starts_with("signup:") {
                assert_eq!(count, 1, "{id}: {outbox}");
            } else {
                assert!(
                    count == 1 || count == 0 && is_listed,
                    "{id}: {count}, {outbox}"
                );
            }
        }
    }
}
