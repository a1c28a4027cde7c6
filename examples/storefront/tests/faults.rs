//! Every fault that a server can have, done to whatever a shop depends on, in every mode: to the
//! platform while it is told of landings, to the store that referrals or sessions are in, and to
//! the platform while it is told of sales. The storefront runs as a process of its own, and what it
//! depends on is well but for the server of `tests/fault_server` that stands before it.
//!
//! Counted are the answers that were lost, changed or delayed beyond the mode's budget, the
//! referrals that were there afterwards, and the reports that arrived once, twice and never. As a
//! test it is bounded; as a program it makes the table in `docs/faults.md`:
//!
//! ```sh
//! FAULTS_TABLE=docs/faults.md cargo test --all-features --test faults
//! ```
mod counting_platform;
mod fault_server;
mod random;
mod servers;
mod shop_process;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::counting_platform::{Kind, Platform};
use crate::fault_server::{Fault, FaultServer, Protocol};
use crate::servers::Server;
use crate::shop_process::{Answer, Form, KEY_A, Shop, Visitor, shown, words};

/// What an answer may take on top of its budget, on a machine that is busy with other things. A wait
/// without a limit is longer: it ends with the fault, which ends when all answers are there.
const MARGIN: Duration = Duration::from_secs(5);
/// How long what was kept may take to be there again. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many visitors of each sort there are, for each fault in each mode.
const VISITORS: usize = 6;
/// The same for the table.
const VISITORS_FOR_THE_TABLE: usize = 12;
/// How many of a sort there are at a time.
const AT_A_TIME: usize = 6;
/// How many shops whose platform is hurt run at a time.
const SHOPS_AT_A_TIME: usize = 8;

/// Where the servers run that stand before others.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

#[test]
fn no_fault_loses_changes_or_delays_an_answer_or_loses_a_referral_or_a_report() {
    let table = std::env::var_os("FAULTS_TABLE");
    let visitors = match table {
        Some(_) => VISITORS_FOR_THE_TABLE,
        None => VISITORS,
    };
    // One after the other for the table, whose waits are then their own; else all at once.
    let one_at_a_time = Mutex::new(());
    let turn = || table.as_ref().map(|_| one_at_a_time.lock().unwrap());
    let (pages, reports) = thread::scope(|scope| {
        let pages: Vec<_> = modes()
            .into_iter()
            .map(|mode| {
                scope.spawn(move || {
                    let _turn = turn();
                    (mode.name, hurt_pages(&mode, visitors))
                })
            })
            .collect();
        let reports = {
            let _turn = turn();
            hurt_reports(visitors)
        };
        let pages: Vec<_> = pages.into_iter().map(|mode| mode.join().unwrap()).collect();
        (pages, reports)
    });
    let text = document(&pages, &reports);
    match table {
        Some(file) => std::fs::write(file, text).unwrap(),
        None => say(text.lines().last().unwrap()),
    }
    let wrong: Vec<_> = pages
        .iter()
        .flat_map(|(mode, cells)| cells.iter().flat_map(|cell| cell.wrong(mode)))
        .chain(reports.iter().flat_map(ReportCell::wrong))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Past libtest's capture, so that it is seen.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The faults, and before them none.
fn faults() -> impl Iterator<Item = Option<Fault>> {
    std::iter::once(None).chain(Fault::ALL.map(Some))
}

fn name_of(fault: Option<Fault>) -> &'static str {
    fault.map_or("none", Fault::name)
}

/// A server that stands before another one on this machine.
fn before(address: SocketAddr, protocol: Protocol) -> FaultServer {
    RUNTIME.block_on(FaultServer::before(address, protocol))
}

/// Inflicts it, or nothing, and lets the port be closed if that is it.
fn inflict(server: &FaultServer, fault: Option<Fault>) {
    if let Some(fault) = fault {
        server.inflict(fault);
        thread::sleep(Duration::from_millis(20));
    }
}

// --- Answers -------------------------------------------------------------------------------------

/// What is counted of the answers.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    lost: usize,
    changed: usize,
    delayed: usize,
    longest: Duration,
    /// What exactly was changed or lost.
    remarks: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, budget: Duration, took: Duration, verdict: Verdict) {
        self.requests += 1;
        self.delayed += usize::from(took > budget + MARGIN);
        self.longest = self.longest.max(took);
        match verdict {
            Verdict::Same => {}
            Verdict::Lost(remark) => {
                self.lost += 1;
                self.remarks.insert(remark);
            }
            Verdict::Changed(remark) => {
                self.changed += 1;
                self.remarks.insert(remark);
            }
        }
    }

    fn wrong(&self) -> impl Iterator<Item = String> {
        let figures = [
            ("lost", self.lost),
            ("changed", self.changed),
            ("delayed", self.delayed),
        ];
        let figures = figures.into_iter().filter(|(_, count)| *count > 0);
        figures
            .map(|(what, count)| format!("{count} of {} {what}: {:?}", self.requests, self.remarks))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            changed,
            delayed,
            longest,
            ..
        } = self;
        write!(
            f,
            "{lost} / {changed} / {delayed}, {} ms",
            longest.as_millis()
        )
    }
}

enum Verdict {
    Same,
    Lost(String),
    Changed(String),
}

/// The same shop's answers where nothing is ever hurt, by their paths.
struct Reference(BTreeMap<&'static str, Page>);

struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    words: String,
}

const PATHS: [&str; 5] = ["/", "/features", "/pricing", "/about", "/nope"];

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

    /// Is it that path's answer, but for the card that says who referred the visitor?
    fn compare(&self, path: &str, answer: &Answer) -> Result<(), String> {
        let page = &self.0[path.split('?').next().unwrap()];
        if answer.status != page.status {
            return Err(format!(
                "{path}: {} in the place of {}",
                answer.status, page.status
            ));
        }
        let theirs = others_headers(answer);
        if theirs != page.headers {
            return Err(format!(
                "{path}: {theirs:?} in the place of {:?}",
                page.headers
            ));
        }
        if words(answer) != page.words {
            return Err(format!("{path}: other words"));
        }
        Ok(())
    }
}

/// All headers but the time, the length, which changes with the card, and our cookie.
fn others_headers(answer: &Answer) -> Vec<(String, String)> {
    let is_other = |(name, value): &&(String, String)| match &**name {
        "date" | "content-length" => false,
        "set-cookie" => !value.starts_with("__Host-referral="),
        _ => true,
    };
    answer.headers.iter().filter(is_other).cloned().collect()
}

// --- Pages, while a platform or a store is hurt --------------------------------------------------

/// A way to keep referrals, and what it depends on.
struct Mode {
    name: &'static str,
    /// How long a page may wait for what it depends on, by the documentation.
    budget: Duration,
    hurt: FaultServer,
    options: Vec<String>,
    /// The same without the server that may be hurt.
    well: Vec<String>,
    /// Visitors are signed in, and a copy of the referral is in their sessions.
    has_sessions: bool,
    /// What was kept may be out of reach while the store is.
    is_on_the_server: bool,
    _platform: Option<Platform>,
    _store: Option<Server>,
}

fn modes() -> Vec<Mode> {
    let clicks = |name, wait: u64| {
        let platform = Platform::start(Kind::Partnac);
        let hurt = before(platform.address, Protocol::Http);
        let options = |address| {
            let mut options = platform.options(address).to_vec();
            options.extend(["--click-wait".to_owned(), wait.to_string()]);
            options
        };
        Some(Mode {
            name,
            budget: Duration::from_millis(wait),
            options: options(hurt.address()),
            well: options(platform.address),
            hurt,
            has_sessions: false,
            is_on_the_server: false,
            _platform: Some(platform),
            _store: None,
        })
    };
    let store = |name, keep: &str, store: Option<Server>, protocol| {
        let store = store?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let hurt = before(at(store.port), protocol);
        let options = |address: SocketAddr| {
            let url = store.url();
            let url = url.replace(&at(store.port).to_string(), &address.to_string());
            ["--platform", "none", "--keep", keep, "--store", &url]
                .map(str::to_owned)
                .to_vec()
        };
        Some(Mode {
            name,
            // Over all the calls of a request.
            budget: Duration::from_millis(250),
            options: options(hurt.address()),
            well: options(at(store.port)),
            hurt,
            has_sessions: keep == "session",
            is_on_the_server: keep == "server",
            _platform: None,
            _store: Some(store),
        })
    };
    [
        clicks("cookie, clicks", 0),
        clicks("cookie, a click waited for", 200),
        store(
            "on the server, Redis",
            "server",
            Server::redis(),
            Protocol::Redis,
        ),
        store(
            "on the server, PostgreSQL",
            "server",
            Server::postgres(),
            Protocol::Postgres,
        ),
        store(
            "in the session, Redis",
            "session",
            Server::redis(),
            Protocol::Redis,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What came of one fault in one mode.
#[derive(Debug, Default)]
struct PageCell {
    fault: Option<Fault>,
    tally: Tally,
    /// Pages that showed nobody, because what had been kept was out of reach.
    unknown: usize,
    referrals: usize,
    kept: usize,
}

impl PageCell {
    fn wrong(&self, mode: &str) -> Vec<String> {
        let mut wrong: Vec<_> = self.tally.wrong().collect();
        if self.kept != self.referrals {
            wrong.push(format!(
                "{} of {} referrals kept",
                self.kept, self.referrals
            ));
        }
        let what = format!("{mode}, {}", name_of(self.fault));
        wrong
            .iter()
            .map(|wrong| format!("{what}: {wrong}"))
            .collect()
    }
}

/// Hurts what one shop depends on in every way, one after the other, and lets it recover in between.
fn hurt_pages(mode: &Mode, visitors: usize) -> Vec<PageCell> {
    let variables = [("REFERRAL_KEY", KEY_A)];
    let start = |options: &[String]| {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        Shop::start_as_told(&options, &variables)
    };
    let reference = Reference::of(&start(&mode.well));
    let shop = start(&mode.options);
    let cells = faults().enumerate().map(|(number, fault)| {
        let (mut returning, mut new) = (Vec::new(), Vec::new());
        for guest in 0..visitors {
            // Who landed before, and every other one lands again; and who is new.
            let mut old = Guest::new(mode, &shop, format!("OLD-{number}-{guest}"));
            old.visitor.get(&format!("/pricing?aff={}", old.key));
            returning.push(old);
            new.push(Guest::new(mode, &shop, format!("NEW-{number}-{guest}")));
        }
        inflict(&mode.hurt, fault);
        let cell = Mutex::new(PageCell {
            fault,
            ..PageCell::default()
        });
        let look = |guest: &mut Guest<'_>, path: &str| {
            let (took, unknown, verdict) = guest.look(&reference, path);
            let mut cell = cell.lock().unwrap();
            cell.tally.add(mode.budget, took, verdict);
            cell.unknown += usize::from(unknown);
        };
        let arrive = |_: usize, guest: &mut Guest<'_>| {
            let landing = format!("/pricing?aff={}", guest.key);
            for path in [&*landing, "/", "/features", "/nope"] {
                look(guest, path);
            }
        };
        let come_back = |number: usize, guest: &mut Guest<'_>| {
            look(guest, "/about");
            if number.is_multiple_of(2) {
                guest.key = guest.key.replace("OLD", "OVER");
                look(guest, &format!("/pricing?aff={}", guest.key));
                look(guest, "/");
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| each(&mut new, arrive));
            each(&mut returning, come_back);
        });
        mode.hurt.lift();
        new.append(&mut returning);
        let kept = AtomicUsize::new(0);
        each(&mut new, |_, guest| {
            kept.fetch_add(usize::from(guest.is_kept()), Ordering::SeqCst);
        });
        PageCell {
            referrals: new.len(),
            kept: kept.into_inner(),
            ..cell.into_inner().unwrap()
        }
    });
    cells.collect()
}

/// Lets some of them act at a time.
fn each<T: Send>(guests: &mut [T], act: impl Fn(usize, &mut T) + Sync) {
    let share = guests.len().div_ceil(AT_A_TIME).max(1);
    thread::scope(|scope| {
        for (worker, guests) in guests.chunks_mut(share).enumerate() {
            let act = &act;
            scope.spawn(move || {
                for (number, guest) in guests.iter_mut().enumerate() {
                    act(worker * share + number, guest);
                }
            });
        }
    });
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

    /// Opens a page: how long it took, whether it showed nobody because the store was out of
    /// reach, and what else there is to say of it.
    fn look(&mut self, reference: &Reference, path: &str) -> (Duration, bool, Verdict) {
        let started = Instant::now();
        let answer = self.visitor.try_request("GET", path, &[], b"");
        let took = started.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return (took, false, Verdict::Lost(format!("{path}: {error}"))),
        };
        if let Err(change) = reference.compare(path, &answer) {
            return (took, false, Verdict::Changed(change));
        }
        let is_landing = path.contains('?');
        match shown(&answer).flatten() {
            Some(key) if key == self.key => (took, false, Verdict::Same),
            None if self.is_on_the_server && !is_landing => (took, true, Verdict::Same),
            other => {
                let change = format!("{path}: shows {other:?}");
                (took, false, Verdict::Changed(change))
            }
        }
    }

    /// Is the referral there, and the copy of it where there is to be one, once all is well?
    fn is_kept(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let there = self.visitor.key().as_ref() == Some(&self.key);
            if there && (!self.has_session || self.has_copy()) {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn has_copy(&mut self) -> bool {
        let accept = [("Accept", "application/json")];
        let account = self.visitor.request("GET", "/account", &accept, b"").json();
        account["referrals"]["default"]["key"] == *self.key
    }
}

/// The store may be new to its client again, and a sign-in waits no longer for it than a page.
fn sign_in(visitor: &mut Visitor<'_>, customer: &str) {
    let started = Instant::now();
    loop {
        let answer = visitor.post("/login", &[], Form(&[("customer", customer)]));
        if answer.status == 303 {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}", answer.body);
    }
}

// --- Reports, while the platform is hurt ---------------------------------------------------------

/// What came of one fault at one platform.
#[derive(Debug)]
struct ReportCell {
    kind: Kind,
    fault: Option<Fault>,
    tally: Tally,
    reports: usize,
    once: usize,
    twice: usize,
    /// Neither at the platform nor on the list for a person.
    lost: usize,
    /// On that list, arrived or not.
    undecided: usize,
    /// Undecided and not arrived: there once the person has had them sent again.
    sent_again: usize,
}

impl ReportCell {
    fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<_> = self.tally.wrong().collect();
        if self.once != self.reports || self.twice + self.lost > 0 {
            wrong.push(format!(
                "{} of {} reports once, {} twice, {} lost",
                self.once, self.reports, self.twice, self.lost
            ));
        }
        // Whoever recognises what it was told twice is told until it has it.
        if self.kind == Kind::Partnac && self.undecided > 0 {
            wrong.push(format!("{} reports undecided", self.undecided));
        }
        let what = format!("{:?}, {}", self.kind, name_of(self.fault));
        wrong
            .iter()
            .map(|wrong| format!("{what}: {wrong}"))
            .collect()
    }
}

fn hurt_reports(visitors: usize) -> Vec<ReportCell> {
    let kinds = [Kind::Partnac, Kind::Partnero];
    let all: Vec<_> = kinds
        .into_iter()
        .flat_map(|kind| faults().map(move |fault| (kind, fault)))
        .collect();
    let next = AtomicUsize::new(0);
    let cells = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SHOPS_AT_A_TIME {
            scope.spawn(|| {
                while let Some((kind, fault)) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let cell = hurt_platform(*kind, *fault, visitors);
                    cells.lock().unwrap().push(cell);
                }
            });
        }
    });
    cells.into_inner().unwrap()
}

/// Customers sign up and pay while the platform is hurt, each in a shop of its own for each fault.
fn hurt_platform(kind: Kind, fault: Option<Fault>, visitors: usize) -> ReportCell {
    /// The shop's own patience with the platform.
    const BUDGET: Duration = Duration::from_secs(2);

    let platform = Platform::start(kind);
    let hurt = before(platform.address, Protocol::Http);
    let options = platform.options(hurt.address());
    let mut options: Vec<_> = options.iter().map(String::as_str).collect();
    // A disk that is busy makes a page wait, and no platform can help that. What a shop that is
    // killed leaves on its disk is for `tests/outbox.rs`.
    options.extend(["--outbox", "memory:"]);
    let shop = Shop::start_as_told(&options, &[("REFERRAL_KEY", KEY_A)]);
    let mut customers: Vec<_> = (0..visitors)
        .map(|number| Customer::new(&shop, number))
        .collect();

    inflict(&hurt, fault);
    let tally = Mutex::new(Tally::default());
    each(&mut customers, |_, customer| {
        for what in Customer::ACTS {
            let started = Instant::now();
            let verdict = match what(customer) {
                Ok(outcome) if ["recorded", "queued", "failed"].contains(&&*outcome) => {
                    Verdict::Same
                }
                Ok(other) => Verdict::Changed(other),
                Err(error) => Verdict::Lost(error.to_string()),
            };
            tally
                .lock()
                .unwrap()
                .add(BUDGET, started.elapsed(), verdict);
        }
    });
    hurt.lift();

    // The provider, and the visitor, say everything again until the shop says what became of it.
    each(&mut customers, |_, customer| {
        for what in Customer::ACTS {
            let started = Instant::now();
            while what(customer).is_ok_and(|outcome| outcome == "queued") {
                assert!(
                    started.elapsed() < PATIENCE,
                    "{kind:?}, {fault:?}: never settled"
                );
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let listed = listed(&shop);
    let arrived = counts(&platform);
    let reports: Vec<_> = customers.iter().flat_map(Customer::reports).collect();
    let is_lost = |id: &&String| !arrived.contains_key(*id) && !listed.contains(*id);
    let lost = reports.iter().filter(is_lost).count();
    // A person looks at the platform for what is on the list, and has the rest sent again.
    let missing: Vec<_> = listed
        .iter()
        .filter(|id| !arrived.contains_key(*id))
        .collect();
    for id in &missing {
        let answer = shop.visitor().post("/outbox", &[], Form(&[("id", id)]));
        assert_eq!(answer.status, 303, "{}", answer.body);
    }
    let started = Instant::now();
    while missing
        .iter()
        .any(|id| !counts(&platform).contains_key(*id))
        && started.elapsed() < PATIENCE
    {
        thread::sleep(Duration::from_millis(20));
    }
    let arrived = counts(&platform);
    let times = |times: &dyn Fn(usize) -> bool| {
        let count = |id: &String| arrived.get(id).copied().unwrap_or_default();
        reports.iter().filter(|id| times(count(id))).count()
    };
    ReportCell {
        kind,
        fault,
        tally: tally.into_inner().unwrap(),
        reports: reports.len(),
        once: times(&|count| count == 1),
        twice: times(&|count| count > 1),
        lost,
        undecided: listed.len(),
        sent_again: missing.len(),
    }
}

/// How often each report was recorded.
fn counts(platform: &Platform) -> BTreeMap<String, usize> {
    let ledger = platform.open();
    let mut counts = ledger.count("signup:");
    counts.extend(ledger.count("sale:"));
    counts
}

/// What the shop's page for a person lists.
fn listed(shop: &Shop) -> BTreeSet<String> {
    let accept = [("Accept", "application/json")];
    let json = shop.request("GET", "/outbox", &accept, b"").json();
    let problems = json["problems"].as_array().unwrap().iter();
    problems
        .map(|problem| problem["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Somebody whom a partner sent, and who signs up and pays.
struct Customer<'s> {
    visitor: Visitor<'s>,
    id: String,
    /// What the payment carries.
    token: Value,
}

impl<'s> Customer<'s> {
    fn new(shop: &'s Shop, number: usize) -> Self {
        let (mut visitor, id) = (shop.browser(), format!("c-{number}"));
        visitor.get("/pricing?aff=PARTNER_1");
        let payment = [
            ("customer", &*id),
            ("order", &id),
            ("amount", "99.99"),
            ("currency", "EUR"),
        ];
        let accept = [("Accept", "application/json")];
        let checkout = visitor.post("/checkout", &accept, Form(&payment)).json();
        let token = checkout["client_reference_id"].clone();
        Self { visitor, id, token }
    }

    /// In this order, because a sale waits for its sign-up, if there has been one, and would find the
    /// platform well again.
    const ACTS: [fn(&mut Self) -> std::io::Result<String>; 2] = [Self::pay, Self::sign_up];

    fn reports(&self) -> [String; 2] {
        [format!("signup:{}", self.id), format!("sale:{}", self.id)]
    }

    fn sign_up(&mut self) -> std::io::Result<String> {
        let fields = json!({"customer": self.id, "email": "ada@example.com", "name": "Ada"});
        self.post("/signup", &fields)
    }

    /// The payment provider's word.
    fn pay(&mut self) -> std::io::Result<String> {
        let fields = json!({
            "customer": self.id,
            "order": self.id,
            "amount": "99.99",
            "currency": "EUR",
            "client_reference_id": self.token,
        });
        self.post("/webhooks/payment", &fields)
    }

    /// The outcome, or what was answered in its place.
    fn post(&mut self, path: &str, fields: &Value) -> std::io::Result<String> {
        let headers = [("Content-Type", "application/json")];
        let body = fields.to_string();
        let answer = self
            .visitor
            .try_request("POST", path, &headers, body.as_bytes())?;
        Ok(match answer.status {
            200 => answer.report().0,
            status => format!("{path}: {status} {}", answer.body),
        })
    }
}

// --- The table -----------------------------------------------------------------------------------

fn document(pages: &[(&str, Vec<PageCell>)], reports: &[ReportCell]) -> String {
    let mut text = String::new();
    write_document(&mut text, pages, reports).unwrap();
    text
}

fn write_document(
    text: &mut String,
    pages: &[(&str, Vec<PageCell>)],
    reports: &[ReportCell],
) -> fmt::Result {
    let today = time::OffsetDateTime::now_utc().date();
    writeln!(
        text,
        "# Faults\n\n\
         What becomes of the storefront's answers, referrals and reports while a platform or a store \
         misbehaves. Made on {today} by\n\n\
         ```sh\nFAULTS_TABLE=docs/faults.md cargo test --all-features --test faults\n```\n\n\
         which runs the storefront with one server before whatever it depends on \
         (`tests/fault_server`), lets visitors come and go while that server hurts every answer, and \
         ends with an error unless all is as it should be. `cargo test` runs the same with fewer \
         visitors.\n\n\
         ## Answers and referrals\n\n\
         In each field: answers **lost / changed / delayed**, the longest wait, and the referrals that \
         were there afterwards, of all. *Lost* is an answer that didn't come, or not whole. *Changed* \
         is one whose status, headers (ours and the date apart) or words aren't those of the same \
         shop with nothing hurt, or that shows another's referral. *Delayed* is one that took over \
         {} s more than the mode's budget, which is what the documentation allows: that margin is \
         for a busy machine, and what has no limit at all takes longer. *Out of reach* counts pages \
         that could not show a referral which only the store had; it is there afterwards.\n",
        MARGIN.as_secs()
    )?;
    write!(text, "| what is hurt")?;
    for (mode, _) in pages {
        write!(text, " | {mode}")?;
    }
    writeln!(text, " |\n|---{}|", "|---".repeat(pages.len()))?;
    for (row, fault) in faults().enumerate() {
        write!(text, "| {}", name_of(fault))?;
        for cell in pages.iter().map(|(_, cells)| &cells[row]) {
            write!(
                text,
                " | {}, {} of {}",
                cell.tally, cell.kept, cell.referrals
            )?;
            if cell.unknown > 0 {
                write!(text, " ({} out of reach)", cell.unknown)?;
            }
        }
        writeln!(text, " |")?;
    }
    writeln!(
        text,
        "\nThe budgets: no wait at all for a click (`Clicks::wait` isn't set), 200 ms where it is set to \
         that, and 250 ms for a store, over all calls of a request.\n\n\
         ## Reports\n\n\
         Customers sign up and pay while the platform is hurt; the shop waits for it for 2 s at most, \
         and its outbox sees to the rest. Answers as above, then the **reports**: how many of all \
         arrived **once**, how many **twice**, how many were **lost**. Partnac recognises what it was \
         told twice, so it is told until it answers. Partnero recognises a customer and no sale, so a \
         sale that may have arrived isn't sent again by itself: it is *undecided* and on the list for \
         a person, who had sent again what hadn't arrived.\n\n\
         | what is hurt | Partnac | Partnero |\n|---|---|---|"
    )?;
    for fault in faults() {
        write!(text, "| {}", name_of(fault))?;
        for kind in [Kind::Partnac, Kind::Partnero] {
            let is_it = |cell: &&ReportCell| cell.kind == kind && cell.fault == fault;
            let cell = reports.iter().find(is_it).unwrap();
            let ReportCell {
                tally,
                reports,
                once,
                twice,
                lost,
                ..
            } = cell;
            write!(text, " | {tally}, of {reports}: {once} / {twice} / {lost}")?;
            if cell.undecided > 0 {
                write!(
                    text,
                    " ({} undecided, {} sent again)",
                    cell.undecided, cell.sent_again
                )?;
            }
        }
        writeln!(text, " |")?;
    }
    let tallies = pages
        .iter()
        .flat_map(|(_, cells)| cells.iter().map(|cell| &cell.tally));
    let tallies: Vec<_> = tallies
        .chain(reports.iter().map(|cell| &cell.tally))
        .collect();
    let sum = |of: &dyn Fn(&Tally) -> usize| tallies.iter().map(|tally| of(tally)).sum::<usize>();
    let cells = || pages.iter().flat_map(|(_, cells)| cells);
    writeln!(
        text,
        "\nIn all {} answers: {} lost, {} changed, {} delayed. {} of {} referrals kept. {} reports: {} \
         once, {} twice, {} lost.",
        sum(&|tally| tally.requests),
        sum(&|tally| tally.lost),
        sum(&|tally| tally.changed),
        sum(&|tally| tally.delayed),
        cells().map(|cell| cell.kept).sum::<usize>(),
        cells().map(|cell| cell.referrals).sum::<usize>(),
        reports.iter().map(|cell| cell.reports).sum::<usize>(),
        reports.iter().map(|cell| cell.once).sum::<usize>(),
        reports.iter().map(|cell| cell.twice).sum::<usize>(),
        reports.iter().map(|cell| cell.lost).sum::<usize>(),
    )
}
