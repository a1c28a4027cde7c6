//! The outbox, with real kills: the shop runs on SQLite and PostgreSQL against a platform that counts,
//! and is killed where its report is at a known point.
//!
//! What needs a server that isn't installed is skipped, aloud: see `servers`.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;

use crate::counting::{Kind, Platform, Point};
use crate::servers::Server;
use crate::shop_process::{Json, KEY_A, Shop, Visitor};
use crate::support::{ACCEPT_HTML, eventually};

/// A database that outlives the shop.
pub(crate) struct Backend {
    name: &'static str,
    pub(crate) url: String,
    _keeps: (Option<TempDir>, Option<Arc<Server>>),
}

impl Backend {
    /// A database of a server that the test has.
    pub(crate) fn at(url: String) -> Self {
        Self {
            name: "PostgreSQL",
            url,
            _keeps: (None, None),
        }
    }

    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            name: "SQLite",
            url: format!("sqlite://{}/shop.db", directory.path().display()),
            _keeps: (Some(directory), None),
        }
    }

    /// `None` where no PostgreSQL is installed. The tests of this process share one.
    fn postgres() -> Option<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match shared.upgrade() {
            Some(server) => server,
            None => {
                let server = Arc::new(Server::postgres()?);
                *shared = Arc::downgrade(&server);
                server
            }
        };
        Some(Self {
            name: "PostgreSQL",
            url: server.empty_database(),
            _keeps: (None, Some(server)),
        })
    }

    pub(crate) fn start(&self, platform: &Platform) -> Shop {
        let options = platform.options();
        let mut args = vec!["--database", &self.url];
        args.extend(options.iter().map(String::as_str));
        Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)])
    }
}

pub(crate) fn each_backend(test: impl Fn(&Backend)) {
    test(&Backend::sqlite());
    if let Some(postgres) = Backend::postgres() {
        test(&postgres);
    }
}

/// A visitor with a referral, for any shop with the same key. It is no browser, so that no click
/// comes between the reports.
fn referred(shop: &Shop) -> Visitor<'_> {
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_1");
    visitor
}

pub(crate) fn sign_up(visitor: &mut Visitor<'_>, customer: &str) -> String {
    let sign_up = json!({"customer": customer, "email": format!("{customer}@example.com")});
    visitor.post("/signup", &[], Json(&sign_up)).report().0
}

/// Checks out and delivers the payment's webhook.
pub(crate) fn pay(visitor: &mut Visitor<'_>, customer: &str, order: &str) -> String {
    let mut payment =
        json!({"customer": customer, "order": order, "amount": "5", "currency": "EUR"});
    let started = visitor.post("/checkout", &[], Json(&payment)).json();
    payment["client_reference_id"] = started["client_reference_id"].clone();
    let answer = visitor.post("/webhooks/payment", &[], Json(&payment));
    answer.report().0
}

fn refund(visitor: &mut Visitor<'_>, order: &str) -> String {
    let refund = json!({"order": order, "refund": format!("re-{order}")});
    visitor.post("/refund", &[], Json(&refund)).report().0
}

// --- Kills -----------------------------------------------------------------------------------------

/// CASES.md R22.
#[test]
fn wherever_it_is_killed_partnac_has_everything_once() {
    each_backend(|backend| kills(backend, Kind::Partnac));
}

#[test]
fn wherever_it_is_killed_partnero_has_nothing_twice_and_nothing_is_lost() {
    each_backend(|backend| kills(backend, Kind::Partnero));
}

/// What a platform recognises when it comes again is recorded once; anything else at most once, and
/// where it isn't, a person is told.
fn kills(backend: &Backend, kind: Kind) {
    let platform = Platform::start(kind);
    let customers = kill_at_every_point(backend, &platform, kind);
    let shop = backend.start(&platform);
    let outbox = shop.settles();
    let problems = outbox["problems"].as_array().unwrap();
    let is_ambiguous = |id: &str| {
        let mut problems = problems.iter();
        problems.any(|problem| {
            // A refund that has an ID in the shop has none at Partnero.
            let listed = problem["id"].as_str().unwrap();
            listed.starts_with(id) && problem["state"] == "ambiguous"
        })
    };
    let ledger = platform.open();
    for customer in &customers {
        for (at, id) in ids(kind, customer).iter().enumerate() {
            let recorded = ledger.recorded.iter();
            let count = recorded.filter(|recorded| *recorded == id).count();
            let place = format!("{id} at {kind:?} on {}", backend.name);
            let is_recognised = match kind {
                Kind::Partnac => at < 2,
                Kind::Partnero => at == 0,
            };
            if is_recognised {
                assert_eq!(count, 1, "{place}");
                continue;
            }
            assert!(count <= 1, "{place}: {count}");
            // A refund goes after its sale, and that may need a person first.
            let waits = at == 2 && is_ambiguous(&ids(kind, customer)[1]);
            assert!(count == 1 || is_ambiguous(id) || waits, "{place} is lost");
        }
    }
    assert_order(&ledger.calls, kind, &customers);
}

/// The IDs of a customer's reports, as the counting platform has them.
fn ids(kind: Kind, customer: &str) -> [String; 3] {
    let refund = match kind {
        Kind::Partnac => format!("refund:o-{customer}:re-o-{customer}"),
        Kind::Partnero => format!("refund:o-{customer}"),
    };
    [
        format!("signup:{customer}"),
        format!("sale:o-{customer}"),
        refund,
    ]
}

/// Has the shop killed while each kind of report is at each point, and once after the order was
/// acknowledged but before anything was sent. Returns the customers.
fn kill_at_every_point(backend: &Backend, platform: &Platform, kind: Kind) -> Vec<String> {
    let mut customers = Vec::new();
    for point in [Point::Received, Point::Recorded, Point::Answered] {
        for which in 0..3 {
            let customer = format!("c-{point:?}-{which}").to_lowercase();
            let id = ids(kind, &customer)[which].clone();
            platform.stop_at(&id, point);
            let mut shop = backend.start(platform);
            let mut visitor = referred(&shop);
            assert_eq!(sign_up(&mut visitor, &customer), "queued");
            assert_eq!(
                pay(&mut visitor, &customer, &format!("o-{customer}")),
                "queued"
            );
            assert_eq!(refund(&mut visitor, &format!("o-{customer}")), "queued");
            let stopped = platform.awaits_stop();
            shop.stop();
            drop(stopped);
            customers.push(customer);
        }
    }
    // The order is acknowledged, and the shop is gone at once.
    for number in 0..5 {
        let customer = format!("c-acknowledged-{number}");
        let mut shop = backend.start(platform);
        let mut visitor = referred(&shop);
        sign_up(&mut visitor, &customer);
        pay(&mut visitor, &customer, &format!("o-{customer}"));
        refund(&mut visitor, &format!("o-{customer}"));
        shop.stop();
        customers.push(customer);
    }
    customers
}

/// A sign-up comes before its sale, and a sale before its refund.
fn assert_order(calls: &[String], kind: Kind, customers: &[String]) {
    let place = |id: &String| calls.iter().position(|call| call == id);
    for customer in customers {
        let places: Vec<_> = ids(kind, customer).iter().filter_map(place).collect();
        assert!(places.is_sorted(), "{customer}: {places:?}");
    }
}

#[test]
fn a_shop_that_was_killed_within_a_transaction_has_booked_nothing_of_it() {
    // Whatever the kill leaves, a row of the shop's is there with its report or not at all.
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        platform.open().refuse = Some(("s", 503));
        let mut acknowledged = Vec::new();
        for round in 0..5 {
            let mut shop = backend.start(&platform);
            let mut visitor = referred(&shop);
            for number in 0..3 {
                let customer = format!("c-{round}-{number}");
                sign_up(&mut visitor, &customer);
                acknowledged.push(customer);
            }
            // A request is on its way when the shop is killed.
            let address = shop.address;
            let unlucky = thread::spawn(move || {
                let body = format!(r#"{{"customer": "u-{round}"}}"#);
                let headers = [("Content-Type", &b"application/json"[..])];
                crate::shop_process::try_send(address, "POST", "/signup", &headers, body.as_bytes())
            });
            shop.stop();
            if let Ok(answer) = unlucky.join().unwrap() {
                assert_eq!(answer.status, 200);
            }
        }
        let (rows, reports) = count(backend);
        assert_eq!(rows, reports, "on {}", backend.name);
        assert!(rows >= acknowledged.len());
    });
}

/// How many customers have signed up by the shop's rows, and by the outbox.
fn count(backend: &Backend) -> (usize, usize) {
    let customers = rows(backend, "customers");
    let reports = rows(backend, "referral_outbox");
    let sign_ups = reports.iter().filter(|row| row.contains("sign_up"));
    (customers.len(), sign_ups.count())
}

/// The rows of a table, each as one text.
pub(crate) fn rows(backend: &Backend, table: &'static str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        if backend.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&backend.url).await.unwrap();
            let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let columns: Vec<_> = columns
                .iter()
                .map(|column| format!("coalesce(\"{column}\", '')"))
                .collect();
            let statement = format!("SELECT {} FROM {table}", columns.join(" || ' ' || "));
            let statement = sqlx::AssertSqlSafe(statement);
            let rows = sqlx::query(statement).fetch_all(&mut connection).await;
            rows.unwrap().iter().map(|row| row.get(0)).collect()
        } else {
            let mut connection = sqlx::PgConnection::connect(&backend.url).await.unwrap();
            let statement = format!("SELECT t::text FROM {table} t");
            let statement = sqlx::AssertSqlSafe(statement);
            let rows = sqlx::query(statement).fetch_all(&mut connection).await;
            rows.unwrap().iter().map(|row| row.get(0)).collect()
        }
    })
}

fn execute(backend: &Backend, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        if backend.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&backend.url).await.unwrap();
            sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&backend.url).await.unwrap();
            sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    });
}

// --- One thing at a time -----------------------------------------------------------------------------

#[test]
fn a_webhook_that_comes_again_after_a_restart_reports_nothing_twice() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        let mut shop = backend.start(&platform);
        let mut visitor = referred(&shop);
        assert_eq!(pay(&mut visitor, "c-1", "o-1"), "queued");
        assert_eq!(pay(&mut visitor, "c-1", "o-1"), "duplicate");
        shop.settles();
        drop(visitor);
        shop.stop();
        let shop = backend.start(&platform);
        assert_eq!(pay(&mut referred(&shop), "c-1", "o-1"), "duplicate");
        shop.settles();
        assert_eq!(platform.open().count("sale:")["sale:o-1"], 1);
    });
}

#[test]
fn a_refund_after_a_restart_finds_its_sale_and_what_is_left_of_it() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        let mut shop = backend.start(&platform);
        pay(&mut referred(&shop), "c-1", "o-1");
        let refund = |shop: &Shop, amount: &str, id: &str| {
            let refund = json!({"order": "o-1", "amount": amount, "refund": id});
            shop.visitor().post("/refund", &[], Json(&refund))
        };
        assert_eq!(refund(&shop, "2.00", "r-1").report().0, "queued");
        shop.stop();
        let shop = backend.start(&platform);
        assert_eq!(refund(&shop, "2.00", "r-1").report().0, "duplicate");
        let too_much = refund(&shop, "3.01", "r-2");
        assert_eq!(too_much.status, 422, "{}", too_much.body);
        assert_eq!(refund(&shop, "2.99", "r-3").report().0, "queued");
        shop.settles();
        assert_eq!(platform.open().count("refund:").len(), 2);
    });
}

#[test]
fn a_sale_waits_for_its_sign_up() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        platform.open().refuse = Some(("signup:", 503));
        let shop = backend.start(&platform);
        let mut visitor = referred(&shop);
        assert_eq!(sign_up(&mut visitor, "c-1"), "queued");
        assert_eq!(pay(&mut visitor, "c-1", "o-1"), "queued");
        eventually("the sign-up isn't tried", || {
            (platform.open().calls.len() >= 2).then_some(())
        });
        assert_eq!(platform.open().count("sale:").len(), 0);
        platform.open().refuse = None;
        shop.settles();
        assert_eq!(platform.open().recorded, ["signup:c-1", "sale:o-1"]);
    });
}

/// CASES.md R13.
#[test]
fn a_wrong_key_pauses_the_platform_and_everything_goes_once_it_is_right() {
    for (status, asks) in [(401, false), (402, true), (403, true)] {
        let backend = Backend::sqlite();
        let platform = Platform::start(Kind::Partnac);
        platform.open().refuse = Some(("s", status));
        let shop = backend.start(&platform);
        let mut visitor = referred(&shop);
        for number in 0..20 {
            pay(&mut visitor, "c-1", &format!("o-{number}"));
        }
        let outbox = eventually("it isn't paused", || {
            let outbox = shop.outbox();
            (!outbox["paused"].is_null()).then_some(outbox)
        });
        assert_eq!(outbox["waiting"], 20, "{outbox}");
        assert_eq!(outbox["problems"], json!([]));
        platform.open().refuse = None;
        if asks {
            // A person has it tried at once.
            let all = visitor.post("/outbox", &[], Json(&json!({"all": true})));
            assert_eq!(all.status, 204);
        }
        let outbox = shop.settles();
        assert_eq!(outbox["outcomes"]["recorded"], 20);
        let outbox = eventually("it is still paused", || {
            let outbox = shop.outbox();
            outbox["paused"].is_null().then_some(outbox)
        });
        assert_eq!(outbox["problems"], json!([]));
        assert!(
            platform
                .open()
                .count("sale:")
                .values()
                .all(|count| *count == 1)
        );
    }
}

/// CASES.md R14.
#[test]
fn a_platform_that_wants_fewer_calls_gets_few() {
    let backend = Backend::sqlite();
    let platform = Platform::start(Kind::Partnac);
    platform.open().refuse = Some(("s", 429));
    let shop = backend.start(&platform);
    let mut visitor = referred(&shop);
    for number in 0..50 {
        pay(&mut visitor, "c-1", &format!("o-{number}"));
    }
    eventually("nothing was tried", || {
        (platform.open().calls.len() >= 2).then_some(())
    });
    platform.open().refuse = None;
    let refused = platform.open().calls.len();
    shop.settles();
    let calls = platform.open().calls.len();
    assert!(
        calls <= refused + 60,
        "{refused} refused, {calls} calls for 50 reports"
    );
    assert_eq!(platform.open().count("sale:").len(), 50);
}

#[test]
fn what_the_platform_refuses_is_listed_and_sent_again_by_a_person() {
    let backend = Backend::sqlite();
    let platform = Platform::start(Kind::Partnac);
    platform.open().refuse = Some(("sale:", 422));
    let shop = backend.start(&platform);
    let mut visitor = referred(&shop);
    for order in ["o-1", "o-2", "o-3"] {
        pay(&mut visitor, "c-1", order);
    }
    let problems = shop.awaits_problems(3);
    assert_eq!(problems[0]["id"], "sale:o-1");
    assert_eq!(problems[0]["state"], "failed");
    assert!(
        problems[0]["reason"].as_str().unwrap().contains("422"),
        "{problems:?}"
    );
    let page = shop.request("GET", "/outbox", &[ACCEPT_HTML], b"");
    page.assert_page();
    assert!(page.body.contains("sale:o-1"), "{}", page.body);
    assert_eq!(pay(&mut visitor, "c-1", "o-1"), "failed");

    platform.open().refuse = None;
    let mut post = |body: Value| visitor.post("/outbox", &[], Json(&body));
    assert_eq!(post(json!({"id": "sale:o-1"})).status, 204);
    shop.awaits_problems(2);
    shop.settles();
    assert_eq!(platform.open().recorded, ["sale:o-1"]);
    assert_eq!(post(json!({"all": true})).status, 204);
    shop.awaits_problems(0);
    shop.settles();
    assert_eq!(platform.open().count("sale:").len(), 3);

    assert_eq!(
        post(json!({"id": "sale:o-1"})).status,
        404,
        "it is no problem any more"
    );
    for bad in [
        json!({}),
        json!({"all": false}),
        json!({"id": "x", "all": true}),
    ] {
        let answer = post(bad);
        assert_eq!(answer.status, 422);
        assert!(!answer.error().is_empty());
    }
}

/// CASES.md R26.
#[test]
fn an_erased_customers_report_is_withdrawn_and_nothing_personal_is_left() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        platform.open().refuse = Some(("s", 503));
        let shop = backend.start(&platform);
        let mut visitor = referred(&shop);
        sign_up(&mut visitor, "c-1");
        pay(&mut visitor, "c-1", "o-1");
        assert_eq!(shop.outbox()["waiting"], 2);
        assert_eq!(
            shop.request("DELETE", "/customers/c-1", &[], b"").status,
            204
        );
        assert_eq!(shop.outbox()["waiting"], 0);
        let customer = shop.get("/customers/c-1").json();
        let reports = customer["reports"].as_array().unwrap();
        let sale = reports.iter().find(|report| report["id"] == "sale:o-1");
        assert_eq!(sale.unwrap()["state"], "withdrawn", "{customer}");
        for table in ["customers", "orders", "referral_outbox"] {
            for row in rows(backend, table) {
                for personal in ["c-1@example.com", "PARTNER_1"] {
                    assert!(
                        !row.contains(personal),
                        "{table} on {}: {row}",
                        backend.name
                    );
                }
            }
        }
        // The payment provider announces the payment again.
        platform.open().refuse = None;
        assert_ne!(pay(&mut visitor, "c-1", "o-1"), "queued");
        shop.settles();
        assert_eq!(platform.open().recorded, [""; 0]);
        assert_eq!(
            shop.get("/customers/c-1").json()["orders"][0]["key"],
            Value::Null
        );
    });
}

#[test]
fn a_report_in_flight_is_not_written_back_after_an_erasure() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        platform.stop_at("signup:c-1", Point::Recorded);
        let shop = backend.start(&platform);
        sign_up(&mut referred(&shop), "c-1");
        let stopped = platform.awaits_stop();
        assert_eq!(
            shop.request("DELETE", "/customers/c-1", &[], b"").status,
            204
        );
        drop(stopped);
        shop.settles();
        for row in rows(backend, "referral_outbox") {
            assert!(
                !row.contains("c-1@example.com"),
                "on {}: {row}",
                backend.name
            );
        }
    });
}

/// CASES.md R20.
#[test]
fn a_row_that_cannot_be_read_is_shown_and_stops_nobody() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        let mut shop = backend.start(&platform);
        shop.stop();
        execute(
            backend,
            r#"INSERT INTO referral_outbox (report) VALUES ('{"kind": "sale", "order": "bad"}')"#,
        );
        let shop = backend.start(&platform);
        assert_eq!(pay(&mut referred(&shop), "c-1", "o-1"), "queued");
        let problems = shop.awaits_problems(1);
        assert_eq!(problems[0]["state"], "unreadable", "{problems:?}");
        shop.settles();
        assert_eq!(platform.open().recorded, ["sale:o-1"]);
    });
}

#[test]
fn two_shops_at_the_same_time_report_an_order_once() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        let shops = [backend.start(&platform), backend.start(&platform)];
        thread::scope(|scope| {
            for shop in &shops {
                for _ in 0..2 {
                    scope.spawn(move || {
                        let mut visitor = referred(shop);
                        for order in 0..8 {
                            pay(&mut visitor, "c-1", &format!("o-{order}"));
                        }
                    });
                }
            }
        });
        let outbox = shops[0].settles();
        assert_eq!(outbox["problems"], json!([]));
        let sales = platform.open().count("sale:");
        assert_eq!(sales.len(), 8);
        assert!(sales.values().all(|count| *count == 1), "{sales:?}");
    });
}

#[test]
fn shops_that_start_together_on_an_empty_database_all_start() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| backend.start(&platform));
            }
        });
    });
}

#[test]
fn a_shop_that_is_told_to_stop_finishes_what_it_is_sending() {
    let backend = Backend::sqlite();
    let platform = Platform::start(Kind::Partnero);
    platform.stop_at("sale:o-1", Point::Answered);
    let mut shop = backend.start(&platform);
    pay(&mut referred(&shop), "c-1", "o-1");
    let stopped = platform.awaits_stop();
    shop.terminate();
    // It takes no more visitors once it has heard.
    eventually("it still listens", || {
        TcpStream::connect(shop.address).is_err().then_some(())
    });
    drop(stopped);
    assert!(shop.child.wait().unwrap().success());
    let shop = backend.start(&platform);
    let outbox = shop.settles();
    assert_eq!(outbox["problems"], json!([]));
    assert_eq!(outbox["outcomes"]["recorded"], 1);
    assert_eq!(platform.open().count("sale:")["sale:o-1"], 1);
}

/// CASES.md R23: what it recognises is asked when a report is delivered.
#[test]
fn the_platform_may_change_while_reports_wait() {
    let backend = Backend::sqlite();
    let partnac = Platform::start(Kind::Partnac);
    partnac.open().refuse = Some(("s", 503));
    let mut shop = backend.start(&partnac);
    let mut visitor = referred(&shop);
    sign_up(&mut visitor, "c-1");
    pay(&mut visitor, "c-1", "o-1");
    drop(visitor);
    shop.stop();
    let partnero = Platform::start(Kind::Partnero);
    let shop = backend.start(&partnero);
    shop.settles();
    assert_eq!(partnero.open().recorded, ["signup:c-1", "sale:o-1"]);
}
