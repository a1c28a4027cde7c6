//! The store of referrals and the shop's own database, stopped and started again while visitors land
//! and buy; several shops on one store; and a shop that starts while its store is down.
//!
//! What needs a server that isn't installed is skipped, aloud: see `servers`.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::counting::{Kind, Platform};
use crate::outbox::{pay, sign_up};
use crate::servers::Server;
use crate::shop_process::{Form, Json, KEY_A, Shop, Visitor, shown};
use crate::support::{ACCEPT_JSON, eventually, refusal};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A store that a test stops and starts again.
enum Store {
    Server(Server),
    /// A file is stopped by another writer, who doesn't end.
    File(TempDir, Option<SqliteConnection>),
}

impl Store {
    fn sqlite() -> Self {
        Self::File(tempfile::tempdir().unwrap(), None)
    }

    /// Those that are installed here.
    fn all() -> Vec<Self> {
        let servers = [Server::redis(), Server::postgres()];
        let servers = servers.into_iter().flatten().map(Self::Server);
        servers.chain([Self::sqlite()]).collect()
    }

    fn url(&self) -> String {
        match self {
            Self::Server(server) => server.url(),
            Self::File(directory, _) => {
                format!("sqlite://{}/store.db", directory.path().display())
            }
        }
    }

    fn stop(&mut self) {
        let url = self.url();
        match self {
            Self::Server(server) => {
                if url.starts_with("redis") {
                    // As one with persistence would, it has what it had when it is back.
                    assert_eq!(server.command("SAVE"), "+OK\r\n");
                }
                server.kill();
            }
            Self::File(_, writer) => {
                *writer = Some(RUNTIME.block_on(async {
                    let mut writer = SqliteConnection::connect(&url).await.unwrap();
                    let begin = sqlx::query("BEGIN IMMEDIATE");
                    begin.execute(&mut writer).await.unwrap();
                    writer
                }));
            }
        }
    }

    fn go_on(&mut self) {
        match self {
            Self::Server(server) => server.run(),
            Self::File(_, writer) => RUNTIME.block_on(writer.take().unwrap().close()).unwrap(),
        }
    }
}

fn start(options: &[&str]) -> Shop {
    Shop::start_as_told(options, &[("REFERRAL_KEY", KEY_A)])
}

/// Visitors who land, look, sign up and buy, one after another, until the stream ends.
struct Stream<'s> {
    shop: &'s Shop,
    ends: AtomicBool,
    visitors: AtomicUsize,
}

impl<'s> Stream<'s> {
    fn new(shop: &'s Shop) -> Self {
        Self {
            shop,
            ends: AtomicBool::new(false),
            visitors: AtomicUsize::new(0),
        }
    }

    /// Runs `visit` for one visitor after another, each with a number, by several at a time.
    fn run(&self, visit: impl Fn(Visitor<'_>, usize) + Sync, meanwhile: impl FnOnce()) {
        thread::scope(|scope| {
            // Whatever fails here, the stream ends.
            let _ends = OnDrop(|| self.ends.store(true, Ordering::Relaxed));
            for stream in 0..3 {
                let visit = &visit;
                scope.spawn(move || {
                    let mut number = stream;
                    while !self.ends.load(Ordering::Relaxed) {
                        visit(self.shop.visitor(), number);
                        self.visitors.fetch_add(1, Ordering::Relaxed);
                        number += 3;
                    }
                });
            }
            meanwhile();
        });
    }

    /// Waits until some have come that weren't there before.
    fn flows(&self) {
        let before = self.visitors.load(Ordering::Relaxed);
        eventually("nobody comes", || {
            (self.visitors.load(Ordering::Relaxed) >= before + 6).then_some(())
        });
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_store_that_stops_and_comes_back_changes_no_page_and_loses_no_referral() {
    for keep in ["server", "session"] {
        for store in Store::all() {
            interrupt(store, keep);
        }
    }
}

fn interrupt(mut store: Store, keep: &str) {
    let platform = Platform::start(Kind::Partnero);
    let (url, at) = (store.url(), platform.options());
    let options = ["--keep", keep, "--store", &url];
    let at: Vec<&str> = at.iter().map(String::as_str).collect();
    let shop = start(&[&options[..], &at].concat());
    let lands = |key: &str| {
        let mut visitor = shop.visitor();
        let answer = visitor.get(&format!("/pricing?aff={key}"));
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(shown(&answer), Some(Some(key.to_owned())), "{url}");
        visitor
    };
    let mut before: Vec<_> = (0..4).map(|n| lands(&format!("BEFORE_{n}"))).collect();
    for (n, visitor) in before.iter_mut().enumerate() {
        assert_eq!(sign_up(visitor, &format!("before-{n}")), "queued", "{url}");
    }
    let stream = Stream::new(&shop);
    let visit = |mut visitor: Visitor<'_>, number: usize| {
        let landing = visitor.get("/pricing?aff=PARTNER_1");
        assert_eq!(landing.status, 200, "{url}");
        assert_eq!(shown(&landing), Some(Some("PARTNER_1".to_owned())), "{url}");
        let page = visitor.get("/about");
        assert_eq!(page.status, 200, "{url}");
        page.assert_page();
        // Who landed right before the store stopped may be credited to nobody meanwhile.
        let customer = format!("c-{number}");
        for outcome in [
            sign_up(&mut visitor, &customer),
            pay(&mut visitor, &customer, &format!("o-{number}")),
        ] {
            assert!(
                ["queued", "not_attributed"].contains(&&*outcome),
                "{outcome}"
            );
        }
    };
    let mut during = Vec::new();
    stream.run(visit, || {
        stream.flows();
        store.stop();
        stream.flows();
        during = (0..4).map(|n| lands(&format!("DURING_{n}"))).collect();
        // Who signed up before is credited by the customer's row, whatever the store does.
        for (n, visitor) in before.iter_mut().enumerate() {
            assert_eq!(
                pay(visitor, &format!("before-{n}"), &format!("b-{n}")),
                "queued"
            );
        }
        store.go_on();
        stream.flows();
    });
    for (name, visitors) in [("BEFORE", before), ("DURING", during)] {
        for (n, mut visitor) in visitors.into_iter().enumerate() {
            let key = format!("{name}_{n}");
            if keep == "server" && name == "BEFORE" {
                assert!(is_in_a_store(&visitor), "{url}");
            }
            eventually(&format!("{key} is lost: {url}, {keep}"), || {
                (visitor.key().as_deref() == Some(&*key)).then_some(())
            });
        }
    }
    let outbox = shop.settles();
    assert_eq!(outbox["problems"], json!([]), "{url}");
    let ledger = platform.open();
    for kind in ["signup:", "sale:"] {
        let counts = ledger.count(kind);
        assert!(
            counts.values().all(|count| *count == 1),
            "{url}: {counts:?}"
        );
    }
    let sales = ledger.count("sale:b-");
    assert_eq!(sales.len(), 4, "{url}: {sales:?}");
}

#[test]
fn a_database_that_stops_and_comes_back_loses_and_doubles_no_report() {
    let postgres = Server::postgres().map(Store::Server);
    for mut store in [Store::sqlite()].into_iter().chain(postgres) {
        let platform = Platform::start(Kind::Partnac);
        let (url, at) = (store.url(), platform.options());
        let at: Vec<&str> = at.iter().map(String::as_str).collect();
        let shop = start(&[&["--database", &url][..], &at].concat());
        let stream = Stream::new(&shop);
        let refused = AtomicUsize::new(0);
        let visit = |mut visitor: Visitor<'_>, number: usize| {
            // The pages don't need it.
            let landing = visitor.get("/pricing?aff=PARTNER_1");
            assert_eq!(landing.status, 200, "{url}");
            let mut payment = json!({"customer": format!("c-{number}"),
                "order": format!("o-{number}"), "amount": "5", "currency": "EUR"});
            let started = visitor.post("/checkout", &[], Json(&payment)).json();
            payment["client_reference_id"] = started["client_reference_id"].clone();
            let customer = json!({"customer": format!("c-{number}")});
            for (path, body) in [("/signup", &customer), ("/webhooks/payment", &payment)] {
                // As a person and a payment provider do, again until it is taken.
                eventually("it is never taken", || {
                    let answer = visitor.post(path, &[], Json(body));
                    if answer.status == 503 {
                        assert!(answer.error().contains("try again"), "{}", answer.body);
                        refused.fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                    assert_eq!(answer.status, 200, "{url}: {}", answer.body);
                    Some(())
                });
            }
        };
        stream.run(visit, || {
            stream.flows();
            store.stop();
            eventually("nobody notices", || {
                (refused.load(Ordering::Relaxed) > 0).then_some(())
            });
            assert_eq!(shop.get("/pricing?aff=PARTNER_2").status, 200, "{url}");
            store.go_on();
            stream.flows();
        });
        let outbox = eventually("the outbox isn't empty", || {
            let answer = shop.request("GET", "/outbox", &[ACCEPT_JSON], b"");
            let outbox = (answer.status == 200).then(|| answer.json());
            outbox.filter(|outbox| outbox["waiting"] == 0)
        });
        assert_eq!(outbox["problems"], json!([]), "{url}");
        let booked = stream.visitors.load(Ordering::Relaxed);
        for kind in ["signup:", "sale:"] {
            let counts = platform.open().count(kind);
            assert_eq!(counts.len(), booked, "{url}: {kind}");
            assert!(
                counts.values().all(|count| *count == 1),
                "{url}: {counts:?}"
            );
        }
    }
}

#[test]
fn a_visitor_who_hops_between_two_shops_on_one_store_has_one_referral() {
    for store in Store::all() {
        let url = store.url();
        let options = ["--platform", "none", "--keep", "server", "--store", &url];
        let (one, two) = (start(&options), start(&options));
        let mut visitor = one.visitor();
        visitor.get("/?aff=PARTNER_1");
        assert!(is_in_a_store(&visitor), "{url}");
        let mut visitor = visitor.moves_to(&two);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_1"), "{url}");
        visitor.get("/pricing?aff=PARTNER_2");
        let mut visitor = visitor.moves_to(&one);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_2"), "{url}");
        assert_eq!(
            visitor.request("DELETE", "/api/referral", &[], b"").status,
            204
        );
        let mut visitor = visitor.moves_to(&two);
        assert_eq!(visitor.key(), None, "{url}");
    }
}

#[test]
fn who_signs_in_at_one_shop_is_signed_in_at_the_other_with_the_referral() {
    for store in Store::all() {
        let url = store.url();
        let options = ["--platform", "none", "--keep", "session", "--store", &url];
        let (one, two) = (start(&options), start(&options));
        let mut visitor = one.visitor();
        visitor.get("/?aff=PARTNER_1");
        let answer = visitor.post("/login", &[], Form(&[("customer", "ada")]));
        assert_eq!(answer.status, 303, "{url}: {}", answer.body);
        let mut visitor = visitor.moves_to(&two);
        let account = visitor
            .request("GET", "/account", &[ACCEPT_JSON], b"")
            .json();
        assert_eq!(account["customer"], "ada", "{url}");
        assert_eq!(account["referrals"]["default"]["key"], "PARTNER_1", "{url}");
        visitor.post("/logout", &[], Form(&[]));
        let mut visitor = visitor.moves_to(&one);
        let account = visitor
            .request("GET", "/account", &[ACCEPT_JSON], b"")
            .json();
        assert!(account["customer"].is_null(), "{url}");
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_1"), "{url}");
    }
}

/// The cookie holds an ID, of which a shop with another store can make nothing, and not the referral.
fn is_in_a_store(visitor: &Visitor<'_>) -> bool {
    let options = ["--platform", "none", "--keep", "server"];
    let other = start(&options);
    let mut there = other.visitor();
    there.cookies.clone_from(&visitor.cookies);
    there.key().is_none()
}

#[test]
fn a_shop_starts_without_the_server_of_its_store_and_uses_it_once_it_is_there() {
    for keep in ["server", "session"] {
        for mut server in [Server::redis(), Server::postgres()].into_iter().flatten() {
            let url = server.url();
            server.kill();
            let options = ["--platform", "none", "--keep", keep, "--store", &url];
            let shop = start(&options);
            let mut visitor = shop.visitor();
            let landing = visitor.get("/pricing?aff=PARTNER_1");
            assert_eq!(landing.status, 200, "{url}");
            assert_eq!(visitor.key().as_deref(), Some("PARTNER_1"), "{url}");
            assert!(!is_in_a_store(&visitor), "there is none: {url}");
            server.run();
            if keep == "session" {
                eventually("nobody can sign in", || {
                    let answer = visitor.post("/login", &[], Form(&[("customer", "ada")]));
                    (answer.status == 303).then_some(())
                });
            } else {
                eventually(&format!("the store isn't used: {url}"), || {
                    let mut visitor = shop.visitor();
                    visitor.get("/pricing?aff=PARTNER_2");
                    is_in_a_store(&visitor).then_some(())
                });
            }
            assert_eq!(visitor.key().as_deref(), Some("PARTNER_1"), "{url}");
        }
    }
}

#[test]
fn a_shop_does_not_start_without_its_own_database() {
    let Some(mut server) = Server::postgres() else {
        return;
    };
    let url = server.url();
    server.kill();
    let error = refusal(&["--database", &url], &[]);
    assert!(
        error.starts_with("error: can't open --database: "),
        "{error}"
    );
    server.run();
    assert_eq!(start(&["--database", &url]).get("/").status, 200);
}
