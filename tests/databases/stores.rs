//! The storefront with its store hurt: killed, stopped, paused, full, read-only, locked, restarted
//! empty, while visitors land, come back and have themselves forgotten. Every page must go out as
//! if nothing were wrong, and every referral must be there afterwards.
//!
//! What must be there is said by a model of two lines: the attribution rule over what the visitor
//! did, and a store that loses what it alone had. Latencies and memory are printed, past libtest's
//! capture, and bounded so generously that no slow machine fails.
mod fault_server;
mod random;
mod servers;
mod shop_process;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use tower_referral::{AppSession, Keyring, ReferralLayer, SigningKey};
use tower_sessions_0_14::{Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{self as fred, ClientLike as _};
use tower_sessions_sqlx_store::SqliteStore;
use tower_sessions_sqlx_store::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
};
use tower_sessions_sqlx_store::sqlx::{Connection as _, PgConnection};

use fault_server::{Fault as WireFault, FaultServer, Protocol};
use random::Random;
use servers::Server;
use shop_process::{Answer, Form, Json, KEY_A, Shop, Visitor, shown, words};

/// How long the crate waits for a store in one request.
const STORE_LIMIT: Duration = Duration::from_millis(250);
/// However ill the store is, no page takes longer.
const SLOWEST_PAGE: Duration = Duration::from_secs(5);
/// How long a test waits for what must come. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);

const OUR_COOKIE: &str = "__Host-referral";
const SESSION_COOKIE: &str = "id";
const ACCEPT_JSON: (&str, &str) = ("Accept", "application/json");

// --- The store is hurt while visitors come and go ------------------------------------------------

/// What is done to a store, and what can be expected of it meanwhile.
struct Fault<'f> {
    name: &'static str,
    inflict: &'f mut dyn FnMut(),
    lift: &'f mut dyn FnMut(),
    loss: Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// What the store has stays, or is there again afterwards.
    Nothing,
    /// What it alone had is gone, and it takes nothing new for now.
    All,
    /// What it alone had is gone; otherwise it is well.
    AllAtOnce,
}

macro_rules! redis_faults {
    ($($name:ident: $loss:ident, $inflict:expr, $lift:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for attribution in ["last", "first"] {
                    let Some(server) = Server::redis() else { return };
                    let server = Mutex::new(server);
                    let url = server.lock().unwrap().url();
                    let (inflict, lift): (fn(&mut Server), fn(&mut Server)) = ($inflict, $lift);
                    hurt_during_a_stream(&url, attribution, Fault {
                        name: concat!("Redis, ", stringify!($name)),
                        inflict: &mut || inflict(&mut server.lock().unwrap()),
                        lift: &mut || lift(&mut server.lock().unwrap()),
                        loss: Loss::$loss,
                    });
                }
            }
        )*
    };
}

redis_faults! {
    redis_is_killed_and_restarted_empty: All, Server::kill, Server::run;
    redis_is_emptied_while_it_runs: AllAtOnce, |redis| ok(redis, "FLUSHALL"), |_| {};
    redis_is_stopped: Nothing, |redis| redis.signal("STOP"), |redis| redis.signal("CONT");
    redis_is_paused: Nothing,
        |redis| ok(redis, "CLIENT PAUSE 6000 ALL"),
        // Whoever asks while it is paused is answered at the end.
        |redis| assert_eq!(redis.command("PING"), "+PONG\r\n");
    redis_is_paused_for_writes: Nothing,
        |redis| ok(redis, "CLIENT PAUSE 60000 WRITE"),
        |redis| ok(redis, "CLIENT UNPAUSE");
    redis_is_out_of_memory: Nothing,
        |redis| {
            ok(redis, "CONFIG SET maxmemory-policy noeviction");
            ok(redis, "CONFIG SET maxmemory 1");
        },
        |redis| ok(redis, "CONFIG SET maxmemory 0");
    redis_is_a_read_only_replica_of_nobody: Nothing,
        |redis| ok(redis, "REPLICAOF 127.0.0.1 1"),
        |redis| ok(redis, "REPLICAOF NO ONE");
    redis_refuses_reads_and_takes_writes: Nothing,
        |redis| ok(redis, "ACL SETUSER default -get"),
        |redis| ok(redis, "ACL SETUSER default +get");
    redis_lacks_replicas: Nothing,
        |redis| ok(redis, "CONFIG SET min-replicas-to-write 1"),
        |redis| ok(redis, "CONFIG SET min-replicas-to-write 0");
}

fn ok(redis: &mut Server, command: &str) {
    assert_eq!(redis.command(command), "+OK\r\n", "{command}");
}

macro_rules! postgres_faults {
    ($($name:ident: $inflict:expr, $lift:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for attribution in ["last", "first"] {
                    let Some(server) = Server::postgres() else { return };
                    let server = Mutex::new(server);
                    let url = server.lock().unwrap().url();
                    let (inflict, lift): (fn(&mut Server), fn(&mut Server)) = ($inflict, $lift);
                    hurt_during_a_stream(&url, attribution, Fault {
                        name: concat!("PostgreSQL, ", stringify!($name)),
                        inflict: &mut || inflict(&mut server.lock().unwrap()),
                        lift: &mut || lift(&mut server.lock().unwrap()),
                        loss: Loss::Nothing,
                    });
                }
            }
        )*
    };
}

postgres_faults! {
    postgres_is_stopped_and_started: Server::kill, Server::run;
    postgres_hangs:
        |postgres| postgres.signal_all("STOP"),
        |postgres| postgres.signal_all("CONT");
    postgres_is_read_only:
        |postgres| sql(postgres, &[
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        ]),
        |postgres| sql(postgres, &[
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        ]);
}

/// What can't be read may be there all the same, and mustn't be taken for absent.
#[test]
fn postgres_refuses_reads_and_takes_writes() {
    for attribution in ["last", "first"] {
        let Some(postgres) = Server::postgres() else {
            return;
        };
        sql(
            &postgres,
            &[
                "CREATE ROLE shop LOGIN",
                "GRANT CREATE ON DATABASE postgres TO shop",
            ],
        );
        hurt_during_a_stream(
            &postgres.url().replace("postgres@", "shop@"),
            attribution,
            Fault {
                name: "PostgreSQL, postgres_refuses_reads_and_takes_writes",
                inflict: &mut || {
                    sql(
                        &postgres,
                        &["REVOKE SELECT ON tower_sessions.session FROM shop"],
                    );
                },
                lift: &mut || {
                    sql(
                        &postgres,
                        &["GRANT SELECT ON tower_sessions.session TO shop"],
                    );
                },
                loss: Loss::Nothing,
            },
        );
    }
}

fn sql(postgres: &Server, statements: &[&str]) {
    runtime().block_on(async {
        let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
        for statement in statements {
            tower_sessions_sqlx_store::sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    });
}

#[test]
fn sqlite_is_locked_by_another() {
    for attribution in ["last", "first"] {
        let file = TempFile::new();
        let runtime = runtime();
        let other = Mutex::new(None);
        hurt_during_a_stream(
            &file.url(),
            attribution,
            Fault {
                name: "SQLite, locked by another",
                inflict: &mut || {
                    runtime.block_on(async {
                        let mut connection = file.connect().await;
                        execute(&mut connection, "BEGIN EXCLUSIVE").await;
                        *other.lock().unwrap() = Some(connection);
                    });
                },
                lift: &mut || {
                    let connection = other.lock().unwrap().take();
                    runtime.block_on(async { connection.unwrap().close().await.unwrap() });
                },
                loss: Loss::Nothing,
            },
        );
    }
}

/// A disk that is full or read-only shows itself in an error at every write. Making the file itself
/// read-only would do nothing to a shop that has it open, or that runs as root.
#[test]
fn sqlite_takes_no_writes() {
    for attribution in ["last", "first"] {
        let file = TempFile::new();
        let runtime = runtime();
        let run = |statements: &[&'static str]| {
            runtime.block_on(async {
                let mut connection = file.connect().await;
                for statement in statements {
                    execute(&mut connection, statement).await;
                }
                connection.close().await.unwrap();
            });
        };
        hurt_during_a_stream(
            &file.url(),
            attribution,
            Fault {
                name: "SQLite, every write refused",
                inflict: &mut || {
                    run(&[
                        "CREATE TRIGGER full_1 BEFORE INSERT ON tower_sessions \
                         BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
                        "CREATE TRIGGER full_2 BEFORE DELETE ON tower_sessions \
                         BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
                    ]);
                },
                lift: &mut || run(&["DROP TRIGGER full_1", "DROP TRIGGER full_2"]),
                loss: Loss::Nothing,
            },
        );
    }
}

const WORKERS: usize = 6;
const GUESTS_OF_A_WORKER: usize = 4;
/// How many requests there are before the fault, while it lasts, and after it.
const REQUESTS: [usize; 3] = [120, 150, 120];

/// Lets visitors come and go, hurts the store in the midst of it, heals it in the midst of it, and
/// looks at every answer and at every referral that is there in the end.
fn hurt_during_a_stream(store: &str, attribution: &str, fault: Fault<'_>) {
    let Fault {
        name,
        inflict,
        lift,
        loss,
    } = fault;
    let args = [
        "--keep",
        "server",
        "--store",
        store,
        "--attribution",
        attribution,
    ];
    let shop = Shop::start_with(&args, &[("REFERRAL_KEY", KEY_A)]);
    let guests: Vec<_> = (0..WORKERS * GUESTS_OF_A_WORKER)
        .map(|number| Mutex::new(Guest::new(&shop, store, number, attribution)))
        .collect();
    // Taken for every request; taken as a whole, it lets no request be under way.
    let gate = RwLock::new(());
    let health = RwLock::new(Health::Well);
    let requests = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let latencies = Latencies::default();
    std::thread::scope(|scope| {
        for worker in guests.chunks(GUESTS_OF_A_WORKER) {
            let (gate, health, requests) = (&gate, &health, &requests);
            let (is_over, latencies) = (&is_over, &latencies);
            scope.spawn(move || {
                let _alarm = Alarm(is_over);
                for guest in worker.iter().cycle() {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let _entry = gate.read().unwrap();
                    guest.lock().unwrap().act(health, latencies);
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _alarm = Alarm(&is_over);
        let wait_for = |count: usize| {
            let until = requests.load(Ordering::SeqCst) + count;
            while requests.load(Ordering::SeqCst) < until {
                assert!(!is_over.load(Ordering::SeqCst), "a visitor has failed");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for(REQUESTS[0]);
        *health.write().unwrap() = Health::Unclear;
        if loss == Loss::AllAtOnce {
            let _closed = gate.write().unwrap();
            inflict();
            for guest in &guests {
                guest.lock().unwrap().loses_what_the_store_had();
            }
        } else {
            inflict();
        }
        if loss == Loss::All {
            // What the browsers don't carry by now is lost. Nothing else ever is.
            let _closed = gate.write().unwrap();
            for guest in &guests {
                guest.lock().unwrap().loses_what_the_store_had();
            }
        }
        *health.write().unwrap() = Health::Ill;
        wait_for(REQUESTS[1]);
        *health.write().unwrap() = Health::Unclear;
        lift();
        until_well(&shop);
        *health.write().unwrap() = Health::Well;
        wait_for(REQUESTS[2]);
        is_over.store(true, Ordering::SeqCst);
    });
    for guest in &guests {
        guest.lock().unwrap().ends();
    }
    latencies.print(&format!("{name} ({attribution} touch)"));
}

/// Ends the others when one fails, so that the failure is seen and no one waits forever.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// Waits until a new visitor's referral goes to the server.
fn until_well(shop: &Shop) {
    let started = Instant::now();
    loop {
        let mut scout = shop.visitor();
        assert_eq!(scout.get("/?aff=SCOUT").status, 200);
        if carried(&scout).is_none() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the store isn't found again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// Something is being done to it.
    Unclear,
    Ill,
}

/// A visitor, and what is to be expected of the shop.
struct Guest<'s> {
    visitor: Visitor<'s>,
    store: &'s str,
    name: String,
    is_last_touch: bool,
    random: Random,
    /// Who has the credit, by the rule.
    credited: Option<String>,
    /// When each key was captured, at the earliest and the latest, since the guest was forgotten.
    landings: Vec<(String, f64, f64)>,
    /// What was done, for whoever has to find out why it failed.
    log: Vec<String>,
}

impl<'s> Guest<'s> {
    fn new(shop: &'s Shop, store: &'s str, number: usize, attribution: &str) -> Self {
        Self {
            store,
            visitor: shop.visitor(),
            name: format!("PARTNER_{number}"),
            is_last_touch: attribution == "last",
            random: Random(number as u64 + 1),
            credited: None,
            landings: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Makes one request and checks its answer.
    fn act(&mut self, health: &RwLock<Health>, latencies: &Latencies) {
        let before = *health.read().unwrap();
        // What the shop knows without its store.
        let carried_before = carried(&self.visitor);
        let key = match self.random.below(4) {
            0 => self.credited.clone(),
            some => Some(format!("{}.{some}", self.name)),
        };
        let (what, started, wall) = (self.random.below(20), Instant::now(), unix_now());
        let (answer, credited, is_landing) = match (what, key) {
            (0..=8, Some(key)) => {
                let answer = self.visitor.get(&format!("/pricing?aff={key}"));
                (answer, Some(self.touch(&key, wall)), true)
            }
            (9, Some(key)) => {
                let body = json!({ "aff": key });
                let answer = self.visitor.post("/api/track-landing", &[], Json(&body));
                (answer, Some(self.touch(&key, wall)), true)
            }
            (10..=11, _) => {
                let answer = self.visitor.request("DELETE", "/api/referral", &[], b"");
                self.landings.clear();
                (answer, None, false)
            }
            (12..=15, _) => {
                let answer = self.visitor.get("/api/referral");
                (answer, self.credited.clone(), false)
            }
            _ => {
                let answer = self.visitor.get("/pricing");
                (answer, self.credited.clone(), false)
            }
        };
        let took = started.elapsed();
        let after = *health.read().unwrap();
        let health = if before == after {
            before
        } else {
            Health::Unclear
        };
        latencies.add(health, took);
        // On a machine that is busy enough, a store that is well can still come too late.
        let is_well = health == Health::Well && took < STORE_LIMIT;
        self.credited = credited;
        let carries = carried(&self.visitor);
        self.log.push(format!(
            "{what} {health:?} {took:?} -> {} {:?}, carries {carries:?}",
            answer.status, self.credited
        ));
        assert!(took < SLOWEST_PAGE, "{:#?}", self.log);
        assert!(
            [200, 204].contains(&answer.status),
            "{} {:#?}",
            answer.status,
            self.log
        );
        // Without its store, the shop goes by what the browser carries and by this very request.
        let mut possible = vec![self.credited.clone()];
        if !is_well {
            possible.push(match self.landings.last() {
                Some((landed, ..)) if is_landing => {
                    let newest = carried_before.filter(|_| !self.is_last_touch);
                    Some(newest.unwrap_or_else(|| landed.clone()))
                }
                _ => carried_before,
            });
        }
        if let Some(shown) = shown(&answer) {
            assert!(
                possible.contains(&shown),
                "shows {shown:?}, not {possible:?}: {:#?}",
                self.log
            );
        }
        if answer.body.starts_with('<') {
            assert_eq!(words(&answer), words(&self.visitor.shop.get("/pricing")));
        }
        // SQLite lets writers wait for each other, at times longer than we wait for it.
        if is_well && !self.store.starts_with("sqlite") {
            assert_eq!(carries, None, "{:#?}", self.log);
        }
    }

    /// The rule.
    fn touch(&mut self, key: &str, earliest: f64) -> String {
        self.landings.push((key.to_owned(), earliest, unix_now()));
        match &self.credited {
            Some(credited) if !self.is_last_touch => credited.clone(),
            _ => key.to_owned(),
        }
    }

    fn loses_what_the_store_had(&mut self) {
        self.credited = carried(&self.visitor);
        self.log
            .push(format!("the store is emptied: {:?}", self.credited));
    }

    /// The fault is over, and so is everything else.
    fn ends(&mut self) {
        let answer = self.visitor.get("/api/referral");
        let referral = &answer.json()["referral"];
        let key = referral["key"].as_str().map(str::to_owned);
        assert_eq!(key, self.credited, "{:#?}", self.log);
        assert_eq!(carried(&self.visitor), None, "{:#?}", self.log);
        if let Some(key) = key {
            let captured_at = referral["captured_at"].as_str().unwrap();
            let captured_at = as_unix(captured_at);
            let mut landings = self.landings.iter();
            let is_known = landings.any(|(landed, earliest, latest)| {
                *landed == key && (earliest - 0.002..=latest + 0.002).contains(&captured_at)
            });
            assert!(is_known, "{referral}: {:#?}", self.log);
        }
    }
}

/// The key that can be read from the visitor's cookie.
fn carried(visitor: &Visitor<'_>) -> Option<String> {
    let value = visitor.cookies.get(OUR_COOKIE)?;
    let text = String::from_utf8_lossy(&envelope(value)).into_owned();
    // A key comes behind its length, which may be a letter, too; what follows it is none.
    let start = ["PARTNER_", "SCOUT"]
        .iter()
        .find_map(|name| text.find(name))?;
    let is_of_key = |c: &char| c.is_ascii_alphanumeric() || "_.".contains(*c);
    Some(text[start..].chars().take_while(is_of_key).collect())
}

/// What a cookie of ours says, without its tag of 32 bytes.
fn envelope(value: &str) -> Vec<u8> {
    let mut bytes = URL_SAFE_NO_PAD.decode(value).unwrap();
    bytes.truncate(bytes.len() - 32);
    bytes
}

/// How long pages took, by the store's health.
#[derive(Default)]
struct Latencies {
    well: Mutex<Vec<Duration>>,
    ill: Mutex<Vec<Duration>>,
}

impl Latencies {
    fn add(&self, health: Health, took: Duration) {
        match health {
            Health::Well => self.well.lock().unwrap().push(took),
            Health::Ill => self.ill.lock().unwrap().push(took),
            Health::Unclear => {}
        }
    }

    fn print(&self, what: &str) {
        let text = |latencies: &Mutex<Vec<Duration>>| {
            let mut all = latencies.lock().unwrap();
            all.sort();
            match (all.get(all.len() / 2), all.last()) {
                (Some(median), Some(most)) => format!(
                    "median {:.1} ms, most {:.1} ms of {}",
                    median.as_secs_f64() * 1000.0,
                    most.as_secs_f64() * 1000.0,
                    all.len()
                ),
                _ => "none".to_owned(),
            }
        };
        say(&format!(
            "MEASURED: {what}: well {}; ill {}",
            text(&self.well),
            text(&self.ill)
        ));
    }
}

/// Past libtest's capture, so that it is seen.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn unix_now() -> f64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

fn as_unix(rfc_3339: &str) -> f64 {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(rfc_3339, format).unwrap();
    time.unix_timestamp_nanos() as f64 / 1e9
}

// --- One thing at a time ---------------------------------------------------------------------------

/// What both rules make of a landing during the fault, step by step.
#[test]
fn what_lands_while_the_store_is_down_is_moved_in_by_the_very_next_request() {
    for (attribution, later) in [("last", "PARTNER_B"), ("first", "PARTNER_A")] {
        // Any request at all, one that asks for nothing of ours included.
        for path in ["/", "/nope", "/api/track-landing"] {
            let Some(redis) = Server::redis() else { return };
            let args = ["--attribution", attribution];
            let shop = server_shop(&redis.url(), &args);
            let mut visitor = shop.visitor();
            let mut newcomer = shop.visitor();
            visitor.get("/?aff=PARTNER_A");
            assert_opaque(&visitor);

            redis.signal("STOP");
            let page = visitor.get("/pricing?aff=PARTNER_B");
            assert_eq!(shown(&page), Some(Some("PARTNER_B".into())));
            assert_eq!(carried(&visitor).as_deref(), Some("PARTNER_B"));
            assert_eq!(visitor.key().as_deref(), Some("PARTNER_B"));
            newcomer.get("/pricing?aff=PARTNER_N");
            newcomer.get("/pricing?aff=PARTNER_N");
            assert_eq!(newcomer.key().as_deref(), Some("PARTNER_N"));
            redis.signal("CONT");
            until_well(&shop);

            visitor.get(path);
            assert_opaque(&visitor);
            let answer = visitor.get("/api/referral");
            assert_eq!(answer.json()["referral"]["key"], later, "{attribution}");
            assert_eq!(answer.header("set-cookie"), None);
            newcomer.get(path);
            assert_opaque(&newcomer);
            assert_eq!(newcomer.key().as_deref(), Some("PARTNER_N"));
        }
    }
}

/// A landing that fills an empty slot only has no better right because the store was down.
#[test]
fn a_link_within_the_site_takes_nothing_that_the_store_has() {
    let Some(redis) = Server::redis() else { return };
    let shop = server_shop(&redis.url(), &[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_A");
    redis.signal("STOP");
    let same_origin = [
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    visitor.request("GET", "/?aff=PARTNER_FOOTER", &same_origin, b"");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_FOOTER"));
    redis.signal("CONT");
    until_well(&shop);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
    assert_opaque(&visitor);
}

/// The record that a landing is to replace is gone by the time it is written: the store was
/// restarted empty in between. The landing mustn't be.
#[test]
fn a_store_that_is_emptied_between_reading_and_writing_loses_no_landing() {
    let Some(redis) = Server::redis() else { return };
    let platform = Platform::answering_after(Duration::from_millis(700));
    let shop = Shop::start_as_told(
        &[
            &["--keep", "server", "--store", &redis.url()][..],
            &platform.args(),
            &["--click-wait", "3000"],
        ]
        .concat(),
        &[("REFERRAL_KEY", KEY_A)],
    );
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_A");
    assert_opaque(&visitor);
    let calls = platform.calls();
    std::thread::scope(|scope| {
        let landing = scope.spawn(|| visitor.get("/?aff=PARTNER_B"));
        // The click is under way: the record was read by now, and isn't written before the answer.
        wait_until(|| platform.calls() > calls);
        assert_eq!(redis.command("FLUSHALL"), "+OK\r\n");
        assert_eq!(landing.join().unwrap().status, 200);
    });
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_B"));
}

/// The browser holds nothing but an ID: no key, no click ID, no landing page, no partner's name.
#[test]
fn the_browser_holds_nothing_but_an_id() {
    let file = TempFile::new();
    for store in ["memory:", &file.url()] {
        let platform = Platform::answering_after(Duration::ZERO);
        let args = [
            &["--keep", "server", "--store", store][..],
            &platform.args(),
        ]
        .concat();
        let shop = Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
        let (mut visitor, mut other) = (shop.browser(), shop.browser());
        visitor.get("/pricing?aff=PARTNER_A&utm_source=newsletter");
        assert_opaque(&visitor);
        let first = visitor.cookies[OUR_COOKIE].clone();
        let click_id = visitor.awaits_click_id();
        assert!(!as_text(&visitor.cookies[OUR_COOKIE]).contains(&click_id));
        assert_opaque(&visitor);
        other.get("/pricing?aff=PARTNER_A&utm_source=newsletter");
        // Version, key ID, flags and 16 random bytes: nothing that depends on the referral.
        let (one, two) = (envelope(&first), envelope(&other.cookies[OUR_COOKIE]));
        assert_eq!(one.len(), two.len());
        assert!(one.len() <= 24, "{} bytes", one.len());
        let same = one.iter().zip(&two).filter(|(one, two)| one == two);
        assert!(same.count() < one.len() - 10, "it is random");
    }
}

fn as_text(value: &str) -> String {
    format!("{value} {}", String::from_utf8_lossy(&envelope(value)))
}

/// No key, no landing page and no name of anything can be read from the cookie, and it is short.
fn assert_opaque(visitor: &Visitor<'_>) {
    let value = &visitor.cookies[OUR_COOKIE];
    let text = as_text(value);
    // Nothing shorter: random bytes may spell that.
    for word in ["PARTNER", "pricing", "default", "newsletter"] {
        // The sealed text itself is base64url, which has no slash, and may spell anything short.
        let (_, envelope) = text.split_once(' ').unwrap();
        assert!(!envelope.contains(word), "{word} in {text:?}");
    }
    assert!(value.len() < 80, "{} characters", value.len());
}

/// A page and what it fetches come back at once when the store does. One referral is one record, or
/// whoever erases it by its ID leaves others behind.
#[test]
fn requests_that_move_a_referral_in_at_once_leave_one_record() {
    let postgres = Server::postgres();
    let file = TempFile::new();
    for store in [Some(file.url()), postgres.as_ref().map(Server::url)] {
        let Some(store) = store else { continue };
        // A browser with a cookie that carries, as a shop writes it whose store is down.
        let Some(mut redis) = Server::redis() else {
            return;
        };
        let down = server_shop(&redis.url(), &[]);
        redis.kill();
        let mut visitor = down.visitor();
        visitor.get("/?aff=PARTNER_A");
        assert_eq!(carried(&visitor).as_deref(), Some("PARTNER_A"));
        let shop = server_shop(&store, &[]);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                let mut tab = copy_of(&visitor).moves_to(&shop);
                scope.spawn(move || assert_eq!(tab.key().as_deref(), Some("PARTNER_A")));
            }
        });
        // Whatever they left to do is done by one more.
        let mut visitor = visitor.moves_to(&shop);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
        assert_opaque(&visitor);
        let count = |store: &str| -> i64 {
            runtime().block_on(async {
                if store.starts_with("sqlite") {
                    let query = tower_sessions_sqlx_store::sqlx::query_scalar(
                        "select count(*) from tower_sessions",
                    );
                    query.fetch_one(&mut file.connect().await).await.unwrap()
                } else {
                    let mut connection = PgConnection::connect(store).await.unwrap();
                    let query = tower_sessions_sqlx_store::sqlx::query_scalar(
                        "select count(*) from tower_sessions.session",
                    );
                    query.fetch_one(&mut connection).await.unwrap()
                }
            })
        };
        assert_eq!(count(&store), 1, "{store}");
    }
}

// --- Two web servers -------------------------------------------------------------------------------

#[test]
fn two_storefronts_share_one_redis() {
    let Some(redis) = Server::redis() else { return };
    two_storefronts_know_the_same(&redis.url());
}

#[test]
fn two_storefronts_share_one_postgres() {
    let Some(postgres) = Server::postgres() else {
        return;
    };
    two_storefronts_know_the_same(&postgres.url());
}

#[test]
fn two_storefronts_share_one_sqlite_file() {
    let file = TempFile::new();
    two_storefronts_know_the_same(&file.url());
}

fn two_storefronts_know_the_same(store: &str) {
    let platform = Platform::answering_after(Duration::from_millis(300));
    let args = [
        &["--keep", "server", "--store", store][..],
        &platform.args(),
    ]
    .concat();
    let start = || Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
    let (a, b) = (start(), start());

    // The click ID of a landing at A comes after its page, and is shown by B, which has never
    // heard of the click.
    let mut visitor = a.browser();
    visitor.get("/?aff=PARTNER_A");
    assert_opaque(&visitor);
    let mut visitor = visitor.moves_to(&b);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
    let click_id = visitor.awaits_click_id();
    assert!(click_id.starts_with("clk_"), "{click_id}");
    let mut visitor = visitor.moves_to(&a);
    assert_eq!(visitor.click_id(), Some(click_id));

    // Landings alternate.
    for round in 0..10 {
        let key = format!("PARTNER_{round}");
        visitor = visitor.moves_to(if round % 2 == 0 { &b } else { &a });
        visitor.get(&format!("/?aff={key}"));
        assert_eq!(visitor.key(), Some(key.clone()));
        visitor = visitor.moves_to(if round % 2 == 0 { &a } else { &b });
        assert_eq!(visitor.key(), Some(key));
    }

    // A browser that A told to forget keeps its cookie, as if it had been copied: B knows better.
    let copy = visitor.cookies.clone();
    visitor = visitor.moves_to(&a);
    let answer = visitor.request("DELETE", "/api/referral", &[], b"");
    assert_eq!(answer.status, 204);
    assert!(!visitor.cookies.contains_key(OUR_COOKIE));
    visitor = visitor.moves_to(&b);
    visitor.cookies = copy;
    assert_eq!(visitor.key(), None);
    // And the next landing is kept anew, under another ID.
    let old = visitor.cookies[OUR_COOKIE].clone();
    visitor.get("/?aff=PARTNER_Z");
    assert_ne!(visitor.cookies[OUR_COOKIE], old);
    visitor = visitor.moves_to(&a);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_Z"));
}

/// While the store is down, what is carried goes from one web server to the other.
#[test]
fn what_is_carried_is_known_at_every_storefront() {
    let Some(redis) = Server::redis() else { return };
    let (a, b) = (
        server_shop(&redis.url(), &[]),
        server_shop(&redis.url(), &[]),
    );
    let mut visitor = a.visitor();
    visitor.get("/?aff=PARTNER_A");
    redis.signal("STOP");
    visitor.get("/?aff=PARTNER_B");
    let mut visitor = visitor.moves_to(&b);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_B"));
    visitor.get("/?aff=PARTNER_C");
    redis.signal("CONT");
    until_well(&a);
    until_well(&b);
    let mut visitor = visitor.moves_to(&a);
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_C"));
    assert_opaque(&visitor);
    assert_eq!(visitor.moves_to(&b).key().as_deref(), Some("PARTNER_C"));
}

/// The platform answers while the store is down; the click ID isn't lost.
#[test]
fn a_click_id_that_comes_while_the_store_is_down_joins_when_it_is_back() {
    let Some(redis) = Server::redis() else { return };
    let platform = Platform::answering_after(Duration::from_millis(300));
    let url = redis.url();
    let args = [&["--keep", "server", "--store", &url][..], &platform.args()].concat();
    let shop = Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
    // One whose record was written before the store went down, and one whose wasn't.
    let (mut before, mut during) = (shop.browser(), shop.browser());
    before.get("/?aff=PARTNER_A");
    redis.signal("STOP");
    assert_opaque(&before);
    during.get("/?aff=PARTNER_B");
    assert_eq!(carried(&during).as_deref(), Some("PARTNER_B"));
    // Time and again the late answer is tried, and finds the store down.
    assert_eq!(during.awaits_click_id(), "clk_2");
    std::thread::sleep(Duration::from_secs(4));
    redis.signal("CONT");
    until_well(&shop);
    for (visitor, key, click_id) in [
        (&mut before, "PARTNER_A", "clk_1"),
        (&mut during, "PARTNER_B", "clk_2"),
    ] {
        assert_eq!(visitor.key().as_deref(), Some(key));
        assert_eq!(visitor.awaits_click_id(), click_id);
        assert_opaque(visitor);
    }
}

/// The platform's answer comes just when the visitor lands anew: what was read before that landing
/// mustn't be written after it.
#[test]
fn a_late_click_id_takes_no_later_landings_place() {
    let Some(redis) = Server::redis() else { return };
    let platform = Platform::answering_after(Duration::from_millis(300));
    let runtime = Runtime::new().unwrap();
    let before = FaultServer::before(([127, 0, 0, 1], redis.port).into(), Protocol::Redis);
    let wire = runtime.block_on(before);
    let start = |url: &str| {
        let args = [&["--keep", "server", "--store", url][..], &platform.args()].concat();
        Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)])
    };
    // Both know the same Redis; A's answers from it can be held up.
    let (a, b) = (
        start(&format!("redis://{}", wire.address())),
        start(&redis.url()),
    );
    let mut visitor = a.browser();
    visitor.get("/?aff=PARTNER_A");
    assert_opaque(&visitor);
    wait_until(|| platform.calls() > 0);
    wire.inflict(WireFault::Silent);
    // A reads the record that the click ID is for.
    wait_until(|| wire.has_held_something());
    let mut visitor = visitor.moves_to(&b);
    visitor.get("/?aff=PARTNER_B");
    assert_opaque(&visitor);
    wire.lift();
    // A's next command comes behind what it had to write.
    let settled = |visitor: &mut Visitor<'_>| {
        std::thread::sleep(Duration::from_millis(700));
        visitor.key()
    };
    assert_eq!(settled(&mut visitor).as_deref(), Some("PARTNER_B"));
}

/// A record that is absent because the store is full isn't one that the click ID came too late for.
#[test]
fn a_click_id_that_comes_while_the_store_is_full_joins_what_is_carried() {
    let Some(mut redis) = Server::redis() else {
        return;
    };
    let platform = Platform::answering_after(Duration::from_millis(300));
    let url = redis.url();
    let args = [&["--keep", "server", "--store", &url][..], &platform.args()].concat();
    let shop = Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
    let mut visitor = shop.browser();
    ok(&mut redis, "CONFIG SET maxmemory 1");
    visitor.get("/?aff=PARTNER_A");
    assert_eq!(carried(&visitor).as_deref(), Some("PARTNER_A"));
    assert_eq!(visitor.awaits_click_id(), "clk_1");
    ok(&mut redis, "CONFIG SET maxmemory 0");
    visitor.get("/");
    assert_opaque(&visitor);
    assert_eq!(visitor.click_id().as_deref(), Some("clk_1"));
}

/// The answer to a click belongs to its own landing, whatever has landed since.
#[test]
fn a_late_click_id_joins_no_other_landing() {
    let file = TempFile::new();
    let platform = Platform::answering_only(1, Duration::from_millis(300));
    let url = file.url();
    let args = [&["--keep", "server", "--store", &url][..], &platform.args()].concat();
    let shop = Shop::start_as_told(&args, &[("REFERRAL_KEY", KEY_A)]);
    let mut visitor = shop.browser();
    visitor.get("/?aff=PARTNER_A");
    visitor.get("/?aff=PARTNER_B");
    wait_until(|| platform.calls() == 2);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_B"));
    assert_eq!(visitor.click_id(), None);
}

/// A shop that opens while its database is down opens all the same, and finds it later.
#[test]
fn a_shop_opens_without_its_database_and_finds_it_later() {
    let servers = [Server::redis(), Server::postgres()];
    for mut server in servers.into_iter().flatten() {
        server.kill();
        let shop = server_shop(&server.url(), &[]);
        let mut visitor = shop.visitor();
        let page = visitor.get("/pricing?aff=PARTNER_A");
        assert_eq!(shown(&page), Some(Some("PARTNER_A".into())));
        assert_eq!(carried(&visitor).as_deref(), Some("PARTNER_A"));
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
        server.run();
        until_well(&shop);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
        assert_opaque(&visitor);
    }
}

// --- What is touched when --------------------------------------------------------------------------

#[test]
fn a_request_without_our_cookie_touches_no_store() {
    let Some(redis) = Server::redis() else { return };
    let shop = server_shop(&redis.url(), &[]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_A");
    let real = visitor.cookies[OUR_COOKIE].clone();
    let (body, tag) = real.split_at(real.len() - 40);
    let other = if tag.starts_with('A') { "B" } else { "A" };
    let forged = format!("{OUR_COOKIE}={body}{other}{}", &tag[1..]);
    let foreign = format!("theme=dark; {OUR_COOKIE}-2={real}; _ga=GA1.1.2; id=abc");
    let garbage = format!("{OUR_COOKIE}=garbage");
    for cookie in [None, Some(&*foreign), Some(&*forged), Some(&*garbage)] {
        for path in ["/", "/api/referral", "/nope"] {
            let counted = commands(&redis, || {
                for _ in 0..50 {
                    let headers: Vec<_> = cookie.iter().map(|cookie| ("Cookie", *cookie)).collect();
                    let answer = shop.request("GET", path, &headers, b"");
                    assert_eq!(answer.header("set-cookie"), None);
                }
            });
            assert_eq!(counted, BTreeMap::new(), "{cookie:?} {path}");
        }
    }
}

#[test]
fn a_read_is_one_command_and_so_is_a_change() {
    let Some(redis) = Server::redis() else { return };
    let shop = server_shop(&redis.url(), &[]);
    let mut visitor = shop.visitor();
    let mut check =
        |what: &str, expected: &[(&str, u64)], act: &mut dyn FnMut(&mut Visitor<'_>)| {
            let counted = commands(&redis, || act(&mut visitor));
            let expected = expected
                .iter()
                .map(|(name, calls)| ((*name).to_owned(), *calls));
            assert_eq!(counted, expected.collect(), "{what}");
        };
    check("a new visitor's landing", &[("set", 1)], &mut |visitor| {
        visitor.get("/?aff=PARTNER_A");
    });
    check("a page that asks", &[("get", 1)], &mut |visitor| {
        visitor.get("/");
    });
    check("an answer that doesn't ask", &[], &mut |visitor| {
        let json = [ACCEPT_JSON];
        visitor.request("PATCH", "/api/referral", &json, b"");
    });
    check("a landing by the same", &[("get", 1)], &mut |visitor| {
        visitor.get("/?aff=PARTNER_A");
    });
    let both = [("get", 1), ("set", 1)];
    check("a landing by another", &both, &mut |visitor| {
        visitor.get("/?aff=PARTNER_B");
    });
    check("to be forgotten", &[("del", 1)], &mut |visitor| {
        visitor.request("DELETE", "/api/referral", &[], b"");
    });
    check("when all is forgotten", &[], &mut |visitor| {
        visitor.get("/");
        visitor.request("DELETE", "/api/referral", &[], b"");
    });
}

#[test]
fn the_copy_in_the_session_is_one_read_and_written_once() {
    let Some(redis) = Server::redis() else { return };
    let shop = session_shop(&redis.url(), &[]);
    let mut visitor = shop.visitor();
    log_in(&mut visitor, "ada");
    let pages = |visitor: &mut Visitor<'_>, count: usize| {
        let counted = commands(&redis, || {
            for _ in 0..count {
                visitor.get("/");
            }
        });
        let calls = |name: &str| counted.get(name).copied().unwrap_or(0);
        assert_eq!(counted.values().sum::<u64>(), calls("get") + calls("set"));
        (calls("get"), calls("set"))
    };
    assert_eq!(pages(&mut visitor, 5), (0, 0), "nothing to copy");
    comes_from_elsewhere(&mut visitor, "/?aff=PARTNER_A");
    assert_eq!(pages(&mut visitor, 1), (1, 1), "it is missing");
    assert_eq!(pages(&mut visitor, 5), (5, 0), "it is there");
    let image = [("Sec-Fetch-Dest", "image")];
    let counted = commands(&redis, || {
        visitor.request("GET", "/nope.png", &image, b"");
    });
    assert_eq!(counted, BTreeMap::new());
    visitor.cookies.remove(SESSION_COOKIE);
    assert_eq!(pages(&mut visitor, 5), (0, 0), "no session");
}

/// What the shop's requests make Redis do.
fn commands(redis: &Server, act: impl FnOnce()) -> BTreeMap<String, u64> {
    assert_eq!(redis.command("CONFIG RESETSTAT"), "+OK\r\n");
    act();
    let stats = redis.command("INFO commandstats");
    let lines = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_"));
    let calls = lines.filter_map(|line| {
        let (name, rest) = line.split_once(":calls=")?;
        let ours = ["info", "config|resetstat", "ping"];
        let calls = rest.split_once(',')?.0.parse().unwrap();
        (!ours.contains(&name)).then(|| (name.to_owned(), calls))
    });
    calls.collect()
}

#[test]
fn a_record_dies_with_its_window() {
    let Some(redis) = Server::redis() else { return };
    let shop = server_shop(&redis.url(), &["--window", "2"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_A");
    assert_eq!(redis.command("DBSIZE"), ":1\r\n");
    let key = redis.command("RANDOMKEY");
    assert_eq!(key.len(), 22, "{key}");
    let ttl = redis.command(&format!("PTTL {key}"));
    let ttl: i64 = ttl.trim_start_matches(':').trim().parse().unwrap();
    assert!((1..=3000).contains(&ttl), "{ttl}");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
    wait_until(|| visitor.key().is_none());
    wait_until(|| redis.command("DBSIZE") == ":0\r\n");
    assert!(visitor.get("/").body.contains("Nobody referred you"));
    visitor.get("/?aff=PARTNER_B");
    assert_eq!(visitor.key().as_deref(), Some("PARTNER_B"));

    // A shop with a shorter window takes nothing that is older, whatever the record says.
    let strict = server_shop(&redis.url(), &["--window", "1"]);
    let patient = server_shop(&redis.url(), &[]);
    let mut visitor = patient.visitor();
    visitor.get("/?aff=PARTNER_A");
    let mut visitor = visitor.moves_to(&strict);
    wait_until(|| visitor.key().is_none());
    assert_eq!(
        visitor.moves_to(&patient).key().as_deref(),
        Some("PARTNER_A")
    );

    let file = TempFile::new();
    let shop = server_shop(&file.url(), &["--window", "2"]);
    let mut visitor = shop.visitor();
    visitor.get("/?aff=PARTNER_A");
    let live = "select count(*) from tower_sessions where expiry_date > ?";
    let count = || {
        runtime().block_on(async {
            let mut connection = file.connect().await;
            let query = tower_sessions_sqlx_store::sqlx::query_scalar(live)
                .bind(time::OffsetDateTime::now_utc());
            let count: i64 = query.fetch_one(&mut connection).await.unwrap();
            count
        })
    };
    assert_eq!(count(), 1);
    wait_until(|| visitor.key().is_none());
    wait_until(|| count() == 0);
}

// --- A flood -----------------------------------------------------------------------------------------

#[test]
fn a_flood_of_landings_while_the_store_hangs_is_kept_to_the_last_one() {
    const CLIENTS: usize = 100;
    const LANDINGS_OF_A_CLIENT: usize = 20;

    let Some(redis) = Server::redis() else { return };
    let shop = server_shop(&redis.url(), &[]);
    until_well(&shop);
    let before = resident(&shop);
    redis.signal("STOP");
    let latencies = Latencies::default();
    let mut visitors: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (shop, latencies) = (&shop, &latencies);
                let flood = move || -> Vec<_> {
                    let landings = (0..LANDINGS_OF_A_CLIENT).map(|landing| {
                        let key = format!("PARTNER_{client}.{landing}");
                        let mut visitor = shop.visitor();
                        let started = Instant::now();
                        let answer = visitor.get(&format!("/pricing?aff={key}"));
                        latencies.add(Health::Ill, started.elapsed());
                        assert_eq!(answer.status, 200);
                        assert_eq!(shown(&answer), Some(Some(key.clone())));
                        assert_eq!(carried(&visitor).as_ref(), Some(&key));
                        (visitor, key)
                    });
                    landings.collect()
                };
                scope.spawn(flood)
            })
            .collect();
        let visitors = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        visitors.collect()
    });
    let flooded = resident(&shop);
    say(&format!(
        "MEASURED: {} landings while Redis hangs: resident memory {before} KiB before, {flooded} \
         KiB after, {} KiB at most",
        visitors.len(),
        of_process(&shop, "VmHWM:")
    ));
    latencies.print("landings of the flood");
    assert!(flooded < before + 64 * 1024, "{before} -> {flooded} KiB");
    redis.signal("CONT");
    until_well(&shop);
    for (visitor, key) in &mut visitors {
        assert_eq!(visitor.key().as_ref(), Some(&*key));
        assert_opaque(visitor);
    }
}

fn resident(shop: &Shop) -> u64 {
    of_process(shop, "VmRSS:")
}

/// A number of KiB that Linux tells of the shop's process.
fn of_process(shop: &Shop, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shop.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

// --- The application's own session -----------------------------------------------------------------

/// A shop whose visitors sign in by a session of tower-sessions in that store.
fn session_shop(store: &str, args: &[&str]) -> Shop {
    let args = [&["--keep", "session", "--store", store], args].concat();
    Shop::start_with(&args, &[("REFERRAL_KEY", KEY_A)])
}

fn log_in(visitor: &mut Visitor<'_>, customer: &str) {
    let form = Form(&[("customer", customer)]);
    let answer = visitor.post("/login", &[ACCEPT_JSON], form);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let cookies: Vec<_> = session_cookies(&answer).collect();
    assert!(cookies[0].contains("SameSite=Strict"), "{cookies:?}");
}

fn log_out(visitor: &mut Visitor<'_>) {
    let answer = visitor.post("/logout", &[ACCEPT_JSON], Form(&[]));
    assert_eq!(answer.status, 303, "{}", answer.body);
}

fn session_cookies(answer: &Answer) -> impl Iterator<Item = &str> {
    let cookies = answer.headers("set-cookie");
    cookies.filter(|cookie| cookie.starts_with("id="))
}

/// A link on another site leads here: the browser holds the `Strict` cookie back.
fn comes_from_elsewhere(visitor: &mut Visitor<'_>, path: &str) -> Answer {
    let held_back = visitor.cookies.remove(SESSION_COOKIE);
    let cross_site = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    let answer = visitor.request("GET", path, &cross_site, b"");
    assert_eq!(
        session_cookies(&answer).count(),
        0,
        "a landing makes no session"
    );
    if let Some(cookie) = held_back {
        visitor.cookies.insert(SESSION_COOKIE.into(), cookie);
    }
    answer
}

/// Who is signed in, and whose the referral in the session is.
fn account(visitor: &mut Visitor<'_>) -> (Option<String>, Option<String>) {
    let answer = visitor.request("GET", "/account", &[ACCEPT_JSON], b"");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (
        text(&json["customer"]),
        text(&json["referrals"]["default"]["key"]),
    )
}

fn both(customer: &str, key: &str) -> (Option<String>, Option<String>) {
    (Some(customer.into()), Some(key.into()))
}

#[test]
fn a_landing_from_another_site_leaves_the_visitor_signed_in() {
    let file = TempFile::new();
    let redis = Server::redis();
    let postgres = Server::postgres();
    let servers = [&redis, &postgres].into_iter().flatten().map(Server::url);
    for store in ["memory:".into(), file.url()].into_iter().chain(servers) {
        let shop = session_shop(&store, &[]);
        let mut visitor = shop.visitor();
        log_in(&mut visitor, "ada");
        assert_eq!(account(&mut visitor), (Some("ada".into()), None));
        let landing = comes_from_elsewhere(&mut visitor, "/pricing?aff=PARTNER_A");
        assert_eq!(shown(&landing), Some(Some("PARTNER_A".into())));
        // The next request with the session brings the copy, and the one after that sees it.
        let next = visitor.get("/features");
        assert_eq!(session_cookies(&next).count(), 0);
        assert_eq!(account(&mut visitor), both("ada", "PARTNER_A"), "{store}");

        // A rotation keeps it: in the same response.
        let old = visitor.cookies[SESSION_COOKIE].clone();
        log_in(&mut visitor, "grace");
        assert_ne!(visitor.cookies[SESSION_COOKIE], old);
        assert_eq!(account(&mut visitor), both("grace", "PARTNER_A"));

        // The end of the session isn't the end of the referral.
        log_out(&mut visitor);
        assert_eq!(account(&mut visitor), (None, None));
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_A"));
        log_in(&mut visitor, "ada");
        assert_eq!(account(&mut visitor), both("ada", "PARTNER_A"));

        // What is newer replaces the copy, and what is forgotten takes it away.
        comes_from_elsewhere(&mut visitor, "/?aff=PARTNER_B");
        visitor.get("/");
        assert_eq!(account(&mut visitor), both("ada", "PARTNER_B"));
        visitor.request("DELETE", "/api/referral", &[], b"");
        assert_eq!(account(&mut visitor), (Some("ada".into()), None));
    }
}

#[test]
fn a_landing_never_makes_a_session() {
    let shop = session_shop("memory:", &[]);
    for from_elsewhere in [true, false] {
        let mut visitor = shop.visitor();
        for path in [
            "/?aff=PARTNER_A",
            "/",
            "/nope",
            "/?aff=PARTNER_B",
            "/account",
        ] {
            let answer = if from_elsewhere {
                comes_from_elsewhere(&mut visitor, path)
            } else {
                visitor.get(path)
            };
            assert_eq!(session_cookies(&answer).count(), 0, "{path}");
        }
        let body = json!({"aff": "PARTNER_C"});
        let answer = visitor.post("/api/track-landing", &[], Json(&body));
        assert_eq!(session_cookies(&answer).count(), 0);
        assert_eq!(visitor.cookies.len(), 1, "{:?}", visitor.cookies);
        assert_eq!(visitor.key().as_deref(), Some("PARTNER_C"));
        // A session that the shop never made isn't made for a referral's sake, either.
        visitor
            .cookies
            .insert(SESSION_COOKIE.into(), "AAAAAAAAAAAAAAAAAAAAAA".into());
        visitor.get("/?aff=PARTNER_D");
        assert_eq!(account(&mut visitor), (None, None));
    }
}

/// Of two overlapping requests that save one session, tower-sessions keeps what the later one
/// knew. The referral is there all the same, at the latest a page later.
#[test]
fn overlapping_saves_of_one_session_lose_no_referral() {
    const PAIRS: usize = 300;

    let file = TempFile::new();
    let redis = Server::redis();
    let urls = redis.iter().map(Server::url);
    for store in urls.chain([file.url(), "memory:".into()]) {
        let shop = session_shop(&store, &[]);
        let mut lost = 0;
        for pair in 0..PAIRS {
            let mut visitor = shop.visitor();
            log_in(&mut visitor, "ada");
            let key = format!("PARTNER_{pair}");
            comes_from_elsewhere(&mut visitor, &format!("/?aff={key}"));
            // One saves the copy; the other has the session under another ID, with what it read.
            let (mut one, mut two) = (copy_of(&visitor), copy_of(&visitor));
            let page = std::thread::scope(|scope| {
                let page = scope.spawn(|| one.get("/features"));
                log_in(&mut two, "grace");
                page.join().unwrap()
            });
            assert_eq!(page.status, 200);
            visitor.cookies = two.cookies;
            let (customer, copy) = account(&mut visitor);
            assert_eq!(customer.as_deref(), Some("grace"), "{store}");
            lost += usize::from(copy.as_ref() != Some(&key));
            visitor.get("/");
            assert_eq!(account(&mut visitor), both("grace", &key), "{store}");
            assert_eq!(visitor.key(), Some(key));
        }
        let kind = store.split(':').next().unwrap();
        say(&format!(
            "MEASURED: {kind}: of {PAIRS} overlapping pairs {lost} lost the copy, and all got it back"
        ));
    }
}

/// The copy that a page puts into a session must not bring the session back that the visitor has
/// just ended in another tab.
#[test]
fn a_copy_brings_no_ended_session_back() {
    const PAIRS: usize = 300;

    let file = TempFile::new();
    let redis = Server::redis();
    let postgres = Server::postgres();
    let servers = [&redis, &postgres].into_iter().flatten().map(Server::url);
    let stores: Vec<_> = servers.chain([file.url(), "memory:".into()]).collect();
    let mut found = Vec::new();
    for store in stores {
        let shop = session_shop(&store, &[]);
        let pairs = (0..PAIRS).map(|pair| {
            let mut visitor = shop.visitor();
            log_in(&mut visitor, "ada");
            comes_from_elsewhere(&mut visitor, &format!("/?aff=PARTNER_{pair}"));
            let (mut one, mut two) = (copy_of(&visitor), copy_of(&visitor));
            std::thread::scope(|scope| {
                scope.spawn(|| one.get("/features"));
                log_out(&mut two);
            });
            // Whoever has noted the ID of the ended session, and nothing else.
            visitor.cookies.remove(OUR_COOKIE);
            visitor
        });
        let mut visitors: Vec<_> = pairs.collect();
        let is_signed_in = |visitor: &mut Visitor<'_>| account(visitor).0.is_some();
        let mut back = || {
            visitors
                .iter_mut()
                .filter_map(|v| is_signed_in(v).then_some(()))
                .count()
        };
        let at_once = back();
        // Who ends a session again, after a while, has ended it, too.
        std::thread::sleep(Duration::from_secs(2));
        let for_good = back();
        let kind = store.split(':').next().unwrap();
        say(&format!(
            "MEASURED: {kind}: of {PAIRS} sessions that ended beside a page {at_once} came back, \
             {for_good} of them for good"
        ));
        if for_good > 0 {
            found.push(format!("{kind}: {for_good} of {PAIRS}"));
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

/// What the application puts into its session in one request stays there, though the copy is put
/// into the same session beside a page. tower-sessions alone loses nothing here: its page doesn't
/// touch the session.
#[test]
fn a_copy_takes_nothing_that_the_application_puts_into_its_session() {
    let runtime = Runtime::new().unwrap();
    let mut lost = Vec::new();
    let file = TempFile::new();
    runtime.block_on(async {
        file.connect().await.close().await.unwrap();
        let pool = SqlitePool::connect(&file.url()).await.unwrap();
        let store = SqliteStore::new(pool);
        store.migrate().await.unwrap();
        lost.extend(lost_from_carts(store, "sqlite").await);
    });
    if let Some(redis) = Server::redis() {
        runtime.block_on(async {
            let config = fred::Config::from_url(&redis.url()).unwrap();
            let client = fred::Client::new(config, None, None, None);
            client.init().await.unwrap();
            lost.extend(lost_from_carts(RedisStore::new(client), "redis").await);
        });
    }
    assert!(lost.is_empty(), "{lost:?}");
}

/// Of many pairs of a page and a request that fills the cart, how many lost the cart, if any.
async fn lost_from_carts<S: SessionStore + Clone>(store: S, name: &str) -> Option<String> {
    const PAIRS: usize = 300;

    let keyring = Keyring::new(SigningKey::generate("local").unwrap());
    let referrals = ReferralLayer::builder(AppSession::new(store.clone(), keyring));
    let shop = Router::new()
        .route("/", get(async || ()))
        .route(
            "/login",
            get(async |session: Session| session.insert("customer", "ada").await.unwrap()),
        )
        .route(
            "/add",
            get(async |session: Session| session.insert("cart", "lamp").await.unwrap()),
        )
        .route(
            "/cart",
            get(async |session: Session| {
                let cart = session.get::<String>("cart").await.unwrap();
                cart.unwrap_or_default()
            }),
        )
        .layer(referrals.build().unwrap())
        .layer(SessionManagerLayer::new(store));
    let get = |uri: &'static str, cookies: String| {
        let shop = shop.clone();
        async move {
            let request = http::Request::get(uri).header("Cookie", cookies);
            let request = request.body(axum::body::Body::empty()).unwrap();
            let response = shop.oneshot(request).await.unwrap();
            let cookie = response.headers().get("set-cookie").map(|cookie| {
                let pair = cookie.to_str().unwrap().split(';').next();
                pair.unwrap().to_owned()
            });
            let body = axum::body::to_bytes(response.into_body(), 1024).await;
            (cookie, body.unwrap())
        }
    };
    let mut lost = 0;
    for _ in 0..PAIRS {
        let (session, _) = get("/login", String::new()).await;
        let (referral, _) = get("/?aff=PARTNER_A", String::new()).await;
        let (session, referral) = (session.unwrap(), referral.unwrap());
        let cookies = format!("{session}; {referral}");
        let page = tokio::spawn(get("/", cookies.clone()));
        let add = tokio::spawn(get("/add", cookies.clone()));
        page.await.unwrap();
        add.await.unwrap();
        let (_, cart) = get("/cart", session).await;
        lost += usize::from(cart != "lamp");
    }
    say(&format!(
        "MEASURED: {name}: of {PAIRS} carts that were filled beside a page {lost} lost their lamp"
    ));
    // Putting the copy back without a look at who else is at work lost up to 120. A store has no
    // way to write only what hasn't changed, so now and then one falls into the moment of a write.
    (lost > PAIRS / 20).then(|| format!("{name}: {lost} of {PAIRS}"))
}

fn copy_of<'s>(visitor: &Visitor<'s>) -> Visitor<'s> {
    Visitor {
        cookies: visitor.cookies.clone(),
        ..*visitor
    }
}

/// The shop's pages don't need the session, so nothing of ours may make them need it.
#[test]
fn pages_go_out_unchanged_while_the_session_store_is_ill() {
    type Act = fn(&mut Server);
    let faults: [(&str, Act, Act); 4] = [
        ("killed", Server::kill, Server::run),
        (
            "stopped",
            |redis| redis.signal("STOP"),
            |redis| redis.signal("CONT"),
        ),
        (
            "full",
            |redis| ok(redis, "CONFIG SET maxmemory 1"),
            |redis| ok(redis, "CONFIG SET maxmemory 0"),
        ),
        (
            "read-only",
            |redis| ok(redis, "CONFIG SET min-replicas-to-write 1"),
            |redis| ok(redis, "CONFIG SET min-replicas-to-write 0"),
        ),
    ];
    for (name, inflict, lift) in faults {
        let Some(redis) = Server::redis() else {
            return;
        };
        pages_go_out_unchanged(redis, &format!("Redis, {name}"), inflict, lift);
    }
    let Some(postgres) = Server::postgres() else {
        return;
    };
    // Unlike the client of Redis, this one sets itself no limit.
    pages_go_out_unchanged(
        postgres,
        "PostgreSQL, hanging",
        |postgres| postgres.signal_all("STOP"),
        |postgres| postgres.signal_all("CONT"),
    );
}

fn pages_go_out_unchanged(
    mut server: Server,
    name: &str,
    inflict: fn(&mut Server),
    lift: fn(&mut Server),
) {
    let shop = session_shop(&server.url(), &[]);
    let mut visitor = shop.visitor();
    log_in(&mut visitor, "ada");
    let latencies = Latencies::default();
    let visit = |visitor: &mut Visitor<'_>, health: Health, key: &str| {
        for path in [
            "/pricing?aff=",
            "/pricing?ref=",
            "/pricing#",
            "/api/referral#",
        ] {
            let path = match path.strip_suffix('#') {
                Some(path) => path.to_owned(),
                None => format!("{path}{key}"),
            };
            let started = Instant::now();
            let answer = visitor.get(&path);
            let took = started.elapsed();
            latencies.add(health, took);
            assert!(took < SLOWEST_PAGE, "{name} {path}: {took:?}");
            assert_eq!(answer.status, 200, "{name} {path}");
            assert_eq!(shown(&answer), Some(Some(key.into())), "{name} {path}");
            assert_eq!(session_cookies(&answer).count(), 0, "{name} {path}");
            if answer.body.starts_with('<') {
                assert_eq!(words(&answer), words(&shop.get("/pricing")), "{name}");
            }
        }
    };
    visit(&mut visitor, Health::Well, "PARTNER_A");
    assert_eq!(account(&mut visitor), both("ada", "PARTNER_A"));
    inflict(&mut server);
    for round in 0..5 {
        visit(&mut visitor, Health::Ill, &format!("PARTNER_B{round}"));
    }
    // What the session knows can't be read, and so it is as if nobody were signed in; but the
    // browser keeps its cookie.
    account(&mut visitor);
    assert!(visitor.cookies.contains_key(SESSION_COOKIE), "{name}");
    lift(&mut server);
    let started = Instant::now();
    if name.ends_with("killed") {
        // It has lost the session, not us. The referral is in the next one.
        loop {
            let form = Form(&[("customer", "ada")]);
            let answer = visitor.post("/login", &[ACCEPT_JSON], form);
            if answer.status == 303 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "the store isn't found again");
        }
    }
    visit(&mut visitor, Health::Unclear, "PARTNER_C");
    wait_until(|| {
        visitor.get("/");
        account(&mut visitor) == both("ada", "PARTNER_C")
    });
    latencies.print(&format!("the sessions' {name}"));
}

// --- The shop, its platform, its file ------------------------------------------------------------

/// A shop that keeps referrals on the server and has no platform.
fn server_shop(store: &str, args: &[&str]) -> Shop {
    let args = [&["--keep", "server", "--store", store], args].concat();
    Shop::start_with(&args, &[("REFERRAL_KEY", KEY_A)])
}

/// A platform that answers every call after a while.
struct Platform {
    url: String,
    calls: Arc<AtomicUsize>,
}

impl Platform {
    fn answering_after(pause: Duration) -> Self {
        Self::answering_only(usize::MAX, pause)
    }

    /// It answers that many calls, and leaves the others without an answer.
    fn answering_only(answers: usize, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/tracking", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for call in listener.incoming() {
                let mut call = call.unwrap();
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    let mut request = Vec::new();
                    let mut some = [0; 4096];
                    while !request.ends_with(b"}") {
                        match call.read(&mut some) {
                            Ok(0) | Err(_) => return,
                            Ok(count) => request.extend_from_slice(&some[..count]),
                        }
                    }
                    let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::sleep(if number > answers { PATIENCE } else { pause });
                    let body = json!({ "id": format!("clk_{number}") }).to_string();
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\
                         Connection: close\r\n\r\n{body}"
                    );
                    let _ = call.write_all(answer.as_bytes());
                });
            }
        });
        Self { url, calls }
    }

    fn args(&self) -> [&str; 4] {
        ["--platform", "partnac", "--platform-url", &self.url]
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it doesn't come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file for `SQLite`, gone with what that puts beside it.
struct TempFile(PathBuf);

impl TempFile {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(format!("tower-referral-sqlite-{process}-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.0.join("shop.db").display())
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.0.join("shop.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(PATIENCE);
        SqliteConnection::connect_with(&options).await.unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    tower_sessions_sqlx_store::sqlx::query(statement)
        .execute(connection)
        .await
        .unwrap();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
