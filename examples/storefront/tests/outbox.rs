//! The storefront's outbox, with a real kill: the built example runs on SQLite, PostgreSQL and Redis
//! against a stand-in for the platform that counts, and is killed between order and report.
//!
//! What needs a server that isn't installed is skipped, aloud: see `servers`.
mod counting_platform;
mod random;
mod servers;
mod shop_process;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use counting_platform::{Kind, Platform};
use random::Random;
use serde_json::{Value, json};
use servers::Server;
use shop_process::{KEY_A, storefront};
use tempfile::TempDir;

/// Nothing takes as long, on any machine.
const LIMIT: Duration = Duration::from_secs(120);

// --- Kills ---------------------------------------------------------------------------------------

#[test]
fn fifty_kills_on_sqlite_and_partnac_has_every_order_once() {
    kills(&Backend::sqlite(), Kind::Partnac, 50, 1);
}

#[test]
fn fifty_kills_on_sqlite_and_partnero_has_no_order_twice() {
    kills(&Backend::sqlite(), Kind::Partnero, 50, 2);
}

#[test]
fn ten_kills_each_on_postgres() {
    for (kind, seed) in [(Kind::Partnac, 3), (Kind::Partnero, 4)] {
        let Some(postgres) = Backend::postgres() else {
            return;
        };
        kills(&postgres, kind, 10, seed);
    }
}

#[test]
fn ten_kills_each_on_redis() {
    for (kind, seed) in [(Kind::Partnac, 5), (Kind::Partnero, 6)] {
        let Some(redis) = Backend::redis() else {
            return;
        };
        kills(&redis, kind, 10, seed);
    }
}

/// A customer who signs up and pays, and how far the shop has acknowledged it.
#[derive(Clone, Debug)]
struct Customer {
    number: usize,
    has_signed_up: bool,
    has_paid: bool,
}

impl Customer {
    fn order(&self) -> String {
        format!("order-{}", self.number)
    }

    fn id(&self) -> String {
        format!("customer-{}", self.number)
    }

    /// As a browser and a payment provider do: again until it is acknowledged. `None` once the shop
    /// is gone.
    fn go_on(&mut self, shop: SocketAddr, visitor: &Visitor) -> Option<()> {
        if !self.has_signed_up {
            visitor.sign_up(shop, &self.id())?;
            self.has_signed_up = true;
        }
        if !self.has_paid {
            visitor.pay(shop, &self.id(), &self.order())?;
            self.has_paid = true;
        }
        Some(())
    }
}

fn kills(backend: &Backend, kind: Kind, kills: usize, seed: u64) {
    let mut random = Random(seed);
    let platform = Platform::start(kind);
    platform.open().most_delay = 60;
    let options = Options::new(backend, &platform);
    let visitor = Visitor::referred(&Shop::start(&options));
    let started = Instant::now();

    let mut settled = Vec::new();
    let mut open = Vec::new();
    let mut number = 0;
    for kill in 0..kills {
        let shop = Shop::start(&options);
        for _ in 0..8 {
            open.push(Customer {
                number,
                has_signed_up: false,
                has_paid: false,
            });
            number += 1;
        }
        // Three at a time, while the shop lives.
        let queue = Mutex::new(open);
        let done = Mutex::new(Vec::new());
        // Now and then long enough for what an earlier kill left to be taken up.
        let life = if kill % 10 == 9 { 4500 } else { 350 };
        let life = Duration::from_millis(random.below(life) as u64);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let Some(mut customer) = queue.lock().unwrap().pop() else {
                            return;
                        };
                        let is_alive = customer.go_on(shop.address, &visitor).is_some();
                        let list = if customer.has_paid { &done } else { &queue };
                        list.lock().unwrap().push(customer);
                        if !is_alive {
                            return;
                        }
                    }
                });
            }
            thread::sleep(life);
            shop.kill();
        });
        open = queue.into_inner().unwrap();
        settled.extend(done.into_inner().unwrap());
    }

    // The last process sees it through. The payment provider delivers everything once more.
    let shop = Shop::start(&options);
    for mut customer in open {
        customer.go_on(shop.address, &visitor).unwrap();
        settled.push(customer);
    }
    let mut undecided = BTreeSet::new();
    for customer in &settled {
        let outcome = wait_for("an order to be settled", || {
            let outcome = visitor.pay(shop.address, &customer.id(), &customer.order())?;
            (outcome != "queued").then_some(outcome)
        });
        match &*outcome {
            "recorded" | "duplicate" => {}
            "failed" => {
                undecided.insert(format!("sale:{}", customer.order()));
            }
            other => panic!("{customer:?}: {other}"),
        }
    }

    let listed: BTreeSet<_> = shop
        .problems()
        .into_iter()
        .map(|problem| problem.id)
        .collect();
    let ledger = platform.open();
    let sales = ledger.count("sale:");
    let sign_ups = ledger.count("signup:");
    say(&format!(
        "{kind:?} on {}: {kills} kills in {:?}; {} orders, {} of them recorded once, {} undecided; \
         {} calls",
        backend.name,
        started.elapsed(),
        settled.len(),
        sales.values().filter(|count| **count == 1).count(),
        undecided.len(),
        ledger.calls.len(),
    ));
    assert_eq!(settled.len(), number);
    for customer in &settled {
        let sale = format!("sale:{}", customer.order());
        let count = sales.get(&sale).copied().unwrap_or_default();
        match kind {
            Kind::Partnac => assert_eq!(count, 1, "{sale} exactly once"),
            Kind::Partnero => {
                assert!(count <= 1, "{sale} at most once");
                assert!(count == 1 || listed.contains(&sale), "{sale} is lost");
            }
        }
        let sign_up = format!("signup:{}", customer.id());
        assert_eq!(sign_ups.get(&sign_up), Some(&1), "{sign_up}");
        let place = |id: &str| ledger.calls.iter().position(|call| call == id);
        assert!(
            place(&sign_up) < place(&sale) || count == 0,
            "{sale} too early"
        );
    }
    assert_eq!(undecided, listed, "what failed is listed, and nothing else");
    if kind == Kind::Partnac {
        assert!(undecided.is_empty());
    }
}

// --- One thing at a time ---------------------------------------------------------------------------

#[test]
fn a_webhook_that_comes_again_after_a_restart_reports_nothing_twice() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        let options = Options::new(backend, &platform);
        let shop = Shop::start(&options);
        let visitor = Visitor::referred(&shop);
        assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), "recorded");
        assert_eq!(
            visitor.pay(shop.address, "c-1", "o-1").unwrap(),
            "duplicate"
        );
        shop.kill();

        let shop = Shop::start(&options);
        assert_eq!(
            visitor.pay(shop.address, "c-1", "o-1").unwrap(),
            "duplicate"
        );
        assert_eq!(platform.open().count("sale:").get("sale:o-1"), Some(&1));
    });
}

#[test]
fn a_refund_after_a_restart_finds_its_sale_and_what_is_left_of_it() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        let options = Options::new(backend, &platform);
        let shop = Shop::start(&options);
        let visitor = Visitor::referred(&shop);
        visitor.pay(shop.address, "c-1", "o-1").unwrap();
        let refund = |shop: &Shop, amount: &str, id: &str| {
            let refund = json!({"order": "o-1", "amount": amount, "refund": id});
            post(shop.address, "/refund", "", &refund).unwrap()
        };
        assert_eq!(refund(&shop, "40.00", "r-1").outcome(), "recorded");
        shop.kill();

        let shop = Shop::start(&options);
        assert_eq!(refund(&shop, "40.00", "r-1").outcome(), "duplicate");
        let too_much = refund(&shop, "60.00", "r-2");
        assert_eq!(too_much.status, 422, "{}", too_much.body);
        assert_eq!(refund(&shop, "59.99", "r-3").outcome(), "recorded");
        assert_eq!(platform.open().count("refund:").len(), 2);
    });
}

#[test]
fn a_sale_waits_for_its_sign_up() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        platform.open().refuse = Some(("signup:", 503));
        let options = Options::new(backend, &platform);
        let shop = Shop::start(&options);
        let visitor = Visitor::referred(&shop);
        assert_eq!(visitor.sign_up(shop.address, "c-1").unwrap(), "queued");
        assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), "queued");
        assert_eq!(platform.open().count("sale:").len(), 0);

        platform.open().refuse = None;
        wait_for("the sale to go", || {
            let count = platform.open().count("sale:").len();
            (count == 1).then_some(())
        });
        let ledger = platform.open();
        assert_eq!(ledger.calls.last().unwrap(), "sale:o-1");
        assert_eq!(ledger.recorded, ["signup:c-1", "sale:o-1"]);
    });
}

#[test]
fn a_sale_goes_once_its_sign_up_is_given_up_and_a_person_sees_what_was() {
    let platform = Platform::start(Kind::Partnac);
    platform.open().refuse = Some(("signup:", 403));
    let backend = Backend::sqlite();
    let options = Options::new(&backend, &platform);
    let shop = Shop::start(&options);
    let visitor = Visitor::referred(&shop);
    assert_eq!(visitor.sign_up(shop.address, "c-1").unwrap(), "failed");
    assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), "recorded");
    let problems = shop.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].id, "signup:c-1");
    assert_eq!(problems[0].state, "dead");
    assert!(problems[0].reason.contains("403"), "{:?}", problems[0]);

    // Somebody mends the API key, and has it sent again.
    platform.open().refuse = None;
    let again = post(shop.address, "/outbox", "", &json!({"id": "signup:c-1"})).unwrap();
    assert_eq!(again.status, 200, "{}", again.body);
    wait_for("the sign-up to go", || {
        let is_there = platform.open().recorded.contains(&"signup:c-1".to_owned());
        (is_there && shop.problems().is_empty()).then_some(())
    });
}

#[test]
fn what_was_being_sent_is_undecided_and_never_sent_again() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        let options = Options::new(backend, &platform);
        let shop = Shop::start(&options);
        let visitor = Visitor::referred(&shop);
        platform.open().is_held = true;
        thread::scope(|scope| {
            scope.spawn(|| visitor.pay(shop.address, "c-1", "o-1"));
            wait_for("the sale to arrive", || {
                (platform.open().count("sale:").len() == 1).then_some(())
            });
            shop.kill();
        });
        platform.open().is_held = false;

        let shop = Shop::start(&options);
        let problems = wait_for("the sale to be listed", || {
            let problems = shop.problems();
            (!problems.is_empty()).then_some(problems)
        });
        assert_eq!(problems[0].id, "sale:o-1");
        assert_eq!(problems[0].state, "undecided");
        assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), "failed");
        assert_eq!(platform.open().count("sale:").get("sale:o-1"), Some(&1));

        let page = get(shop.address, "/outbox", "text/html").unwrap();
        assert_eq!(page.status, 200);
        assert!(page.body.contains("sale:o-1"), "{}", page.body);
    });
}

#[test]
fn two_shops_at_the_same_time_report_an_order_once() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        platform.open().most_delay = 30;
        let options = Options::new(backend, &platform);
        let shops = [Shop::start(&options), Shop::start(&options)];
        let visitor = Visitor::referred(&shops[0]);
        thread::scope(|scope| {
            for shop in &shops {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for order in 0..8 {
                            let order = format!("o-{order}");
                            visitor.pay(shop.address, "c-1", &order).unwrap();
                        }
                    });
                }
            }
        });
        for order in 0..8 {
            let order = format!("o-{order}");
            wait_for("an order to be settled", || {
                let outcome = visitor.pay(shops[1].address, "c-1", &order)?;
                (outcome == "duplicate").then_some(())
            });
        }
        let ledger = platform.open();
        let sales = ledger.count("sale:");
        assert_eq!(sales.len(), 8);
        assert!(sales.values().all(|count| *count == 1), "{sales:?}");
    });
}

#[test]
fn a_shop_that_was_only_slow_has_the_last_word() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnero);
        let options = Options::new(backend, &platform);
        let slow = Shop::start(&options);
        let visitor = Visitor::referred(&slow);
        platform.open().is_held = true;
        thread::scope(|scope| {
            let page = scope.spawn(|| visitor.pay(slow.address, "c-1", "o-1"));
            wait_for("the sale to arrive", || {
                (platform.open().count("sale:").len() == 1).then_some(())
            });
            // It looks dead, and another takes over what it had in hand.
            slow.signal("STOP");
            let other = Shop::start(&options);
            wait_for("the sale to be listed", || {
                let problems = other.problems();
                problems
                    .iter()
                    .any(|problem| problem.state == "undecided")
                    .then_some(())
            });
            // It wasn't.
            platform.open().is_held = false;
            slow.signal("CONT");
            wait_for("the sale to be decided", || {
                other.problems().is_empty().then_some(())
            });
            assert_eq!(
                visitor.pay(other.address, "c-1", "o-1").unwrap(),
                "duplicate"
            );
            page.join().unwrap();
        });
        assert_eq!(platform.open().count("sale:").get("sale:o-1"), Some(&1));
    });
}

#[test]
fn shops_that_start_together_on_an_empty_database_all_start() {
    each_backend(|backend| {
        let platform = Platform::start(Kind::Partnac);
        let options = Options::new(backend, &platform);
        thread::scope(|scope| {
            let shops: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| Shop::start(&options)))
                .collect();
            for shop in shops {
                shop.join().unwrap();
            }
        });
    });
}

#[test]
fn a_shop_that_is_told_to_stop_finishes_what_it_is_sending() {
    let platform = Platform::start(Kind::Partnero);
    let backend = Backend::sqlite();
    let options = Options::new(&backend, &platform);
    let mut shop = Shop::start(&options);
    let visitor = Visitor::referred(&shop);
    platform.open().is_held = true;
    thread::scope(|scope| {
        scope.spawn(|| visitor.pay(shop.address, "c-1", "o-1"));
        wait_for("the sale to arrive", || {
            (platform.open().count("sale:").len() == 1).then_some(())
        });
        shop.signal("TERM");
        // It answers no more once it has heard.
        wait_for("the shop to stop listening", || {
            TcpStream::connect(shop.address).is_err().then_some(())
        });
        platform.open().is_held = false;
    });
    assert!(shop.child.wait().unwrap().success());

    let shop = Shop::start(&options);
    assert_eq!(
        visitor.pay(shop.address, "c-1", "o-1").unwrap(),
        "duplicate"
    );
    assert!(shop.problems().is_empty());
    assert_eq!(platform.open().count("sale:").get("sale:o-1"), Some(&1));
}

#[test]
fn in_memory_it_tries_again_and_without_an_outbox_it_does_not() {
    for (url, outcome) in [("memory:", "queued"), ("off", "failed")] {
        let platform = Platform::start(Kind::Partnac);
        platform.open().refuse = Some(("sale:", 503));
        let options = Options::new(&Backend::url(url), &platform);
        let shop = Shop::start(&options);
        let visitor = Visitor::referred(&shop);
        assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), outcome);
        platform.open().refuse = None;
        if outcome == "queued" {
            wait_for("the sale to go", || {
                (platform.open().recorded == ["sale:o-1"]).then_some(())
            });
        } else {
            // The payment provider's next delivery is the retry.
            assert_eq!(visitor.pay(shop.address, "c-1", "o-1").unwrap(), "recorded");
        }
    }
}

// --- The shop --------------------------------------------------------------------------------------

struct Options(Vec<String>);

impl Options {
    fn new(backend: &Backend, platform: &Platform) -> Self {
        let mut options = vec!["--outbox".to_owned(), backend.url.clone()];
        options.extend(platform.options(platform.address));
        Self(options)
    }
}

/// A storefront's process; killed when dropped.
struct Shop {
    child: Child,
    address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

impl Shop {
    fn start(options: &Options) -> Self {
        let mut child = Command::new(storefront())
            .args(&options.0)
            .args(["--listen", "127.0.0.1:0"])
            .env("REFERRAL_KEY", KEY_A)
            .env_remove("REFERRAL_OLD_KEYS")
            .env_remove("PLATFORM_API_KEY")
            .env(
                "RUST_LOG",
                std::env::var("SHOP_LOG").unwrap_or("off".into()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|address| address.trim_end().parse().ok());
        Self {
            child,
            address: address.unwrap_or_else(|| panic!("the first line is {line:?}")),
            _stdout: stdout,
        }
    }

    /// SIGKILL, which nothing survives.
    fn kill(&self) {
        self.signal("KILL");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// What the page for a person lists.
    fn problems(&self) -> Vec<Problem> {
        let answer = get(self.address, "/outbox", "application/json").unwrap();
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        let problems = json["problems"].as_array().unwrap().iter();
        let text = |problem: &Value, name: &str| problem[name].as_str().unwrap().to_owned();
        problems
            .map(|problem| Problem {
                id: text(problem, "id"),
                state: text(problem, "state"),
                reason: text(problem, "reason"),
            })
            .collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Problem {
    id: String,
    state: String,
    reason: String,
}

/// A visitor whom a partner sent, with the cookie and the payment's token that come of it.
struct Visitor {
    cookie: String,
    token: String,
}

impl Visitor {
    fn referred(shop: &Shop) -> Self {
        let landing = get(shop.address, "/pricing?aff=PARTNER_123", "text/html").unwrap();
        let cookie = landing.cookie.unwrap();
        let payment = payment("c", "o");
        let checkout = post(shop.address, "/checkout", &cookie, &payment).unwrap();
        let json: Value = serde_json::from_str(&checkout.body).unwrap();
        let token = json["client_reference_id"].as_str().unwrap().to_owned();
        Self { cookie, token }
    }

    /// The outcome; `None` if the shop is gone.
    fn sign_up(&self, shop: SocketAddr, customer: &str) -> Option<String> {
        let form = json!({"customer": customer, "email": "ada@example.com", "name": "Ada"});
        post(shop, "/signup", &self.cookie, &form).map(|answer| answer.outcome())
    }

    /// The payment provider's word, without a cookie.
    fn pay(&self, shop: SocketAddr, customer: &str, order: &str) -> Option<String> {
        let mut payment = payment(customer, order);
        payment["client_reference_id"] = (*self.token).into();
        post(shop, "/webhooks/payment", "", &payment).map(|answer| answer.outcome())
    }
}

fn payment(customer: &str, order: &str) -> Value {
    json!({"customer": customer, "order": order, "amount": "99.99", "currency": "EUR"})
}

struct Answer {
    status: u16,
    cookie: Option<String>,
    body: String,
}

impl Answer {
    fn outcome(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let outcome = json["outcome"].as_str();
        outcome
            .unwrap_or_else(|| panic!("{} {}", self.status, self.body))
            .to_owned()
    }
}

fn get(shop: SocketAddr, path: &str, accept: &str) -> Option<Answer> {
    send(
        shop,
        &format!("GET {path} HTTP/1.1\r\nAccept: {accept}\r\n"),
        "",
    )
}

fn post(shop: SocketAddr, path: &str, cookie: &str, json: &Value) -> Option<Answer> {
    let cookie = if cookie.is_empty() {
        String::new()
    } else {
        format!("Cookie: {cookie}\r\n")
    };
    let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n{cookie}");
    send(shop, &head, &json.to_string())
}

/// One request on a connection of its own; `None` if the shop was killed under it.
fn send(shop: SocketAddr, head: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(shop).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    let request = format!(
        "{head}Host: {shop}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let cookie = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let pair = value.split(';').next()?.to_owned();
        name.eq_ignore_ascii_case("set-cookie").then_some(pair)
    });
    Some(Answer {
        status,
        cookie,
        body: body.to_owned(),
    })
}

fn wait_for<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = is_so() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

// --- Databases -------------------------------------------------------------------------------------

/// Where an outbox can be.
struct Backend {
    name: &'static str,
    url: String,
    _server: Option<Arc<Server>>,
    _files: Option<TempDir>,
}

/// Runs a test on all there are.
fn each_backend(test: impl Fn(&Backend)) {
    test(&Backend::sqlite());
    if let Some(postgres) = Backend::postgres() {
        test(&postgres);
    }
    if let Some(redis) = Backend::redis() {
        test(&redis);
    }
}
impl Backend {
    fn url(url: &str) -> Self {
        Self {
            name: "no database",
            url: url.to_owned(),
            _server: None,
            _files: None,
        }
    }

    fn sqlite() -> Self {
        let files = tempfile::tempdir().unwrap();
        Self {
            name: "SQLite",
            url: format!("sqlite://{}", files.path().join("outbox.db").display()),
            _server: None,
            _files: Some(files),
        }
    }

    /// An empty database on a PostgreSQL server that the tests share.
    fn postgres() -> Option<Self> {
        static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        Some(Self::on("PostgreSQL", shared(&SERVER, Server::postgres)?))
    }

    /// An empty database on a Redis server that the tests share.
    fn redis() -> Option<Self> {
        static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        Some(Self::on("Redis", shared(&SERVER, Server::redis)?))
    }

    fn on(name: &'static str, server: Arc<Server>) -> Self {
        Self {
            name,
            url: server.empty_database(),
            _server: Some(server),
            _files: None,
        }
    }
}

/// A server that ends with the last test that needs it.
fn shared(
    shared: &Mutex<Weak<Server>>,
    start: impl FnOnce() -> Option<Server>,
) -> Option<Arc<Server>> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(start()?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// Past the test runner, which keeps what a test prints to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
