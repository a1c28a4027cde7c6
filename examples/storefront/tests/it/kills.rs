//! Shops and their database, killed at random moments under load: the shop's own rows against what the
//! platform received.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::counting::{Kind, Platform};
use crate::outbox::{Backend, rows};
use crate::servers::Server;
use crate::shop_process::{Shop, try_send};

const ROUNDS: usize = 9;
const BUYERS: usize = 3;

/// What is killed in a round.
#[derive(Clone, Copy, Debug)]
enum Victim {
    OneShop,
    BothShops,
    Database,
}

/// CASES.md R22.
#[test]
fn shops_and_a_database_that_are_killed_under_load_lose_and_double_nothing() {
    let Some(server) = Server::postgres() else {
        return;
    };
    let server = Mutex::new(server);
    for kind in [Kind::Partnac, Kind::Partnero] {
        let url = server.lock().unwrap().empty_database();
        let backend = Backend::at(url);
        let platform = Platform::start(kind);
        let acknowledged = under_load(&backend, &platform, |round, shops| {
            match [Victim::OneShop, Victim::Database, Victim::BothShops][round % 3] {
                Victim::OneShop => {
                    let mut shop = shops[round % 2].write().unwrap();
                    shop.stop();
                    *shop = backend.start(&platform);
                }
                Victim::BothShops => {
                    for shop in shops {
                        shop.write().unwrap().stop();
                    }
                    for shop in shops {
                        *shop.write().unwrap() = backend.start(&platform);
                    }
                }
                Victim::Database => {
                    let mut server = server.lock().unwrap();
                    server.kill();
                    server.run();
                }
            }
        });
        compare(&backend, &platform, kind, &acknowledged);
    }
}

/// The same with the database that is a file.
#[test]
fn shops_on_sqlite_that_are_killed_under_load_lose_and_double_nothing() {
    for kind in [Kind::Partnac, Kind::Partnero] {
        let backend = Backend::sqlite();
        let platform = Platform::start(kind);
        let acknowledged = under_load(&backend, &platform, |round, shops| {
            let mut shop = shops[round % 2].write().unwrap();
            shop.stop();
            *shop = backend.start(&platform);
        });
        compare(&backend, &platform, kind, &acknowledged);
    }
}

/// Has customers sign up and pay at two shops while something is killed now and then. Returns those
/// whose sale was acknowledged.
fn under_load(
    backend: &Backend,
    platform: &Platform,
    kill: impl Fn(usize, &[Arc<RwLock<Shop>>; 2]),
) -> BTreeSet<String> {
    let shops = [(); 2].map(|()| Arc::new(RwLock::new(backend.start(platform))));
    let acknowledged = Mutex::new(BTreeSet::new());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for buyer in 0..BUYERS {
            let (shops, acknowledged, is_over) = (&shops, &acknowledged, &is_over);
            scope.spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let customer = format!("c-{buyer}-{number}");
                    // The shop may be killed meanwhile, and another has its place.
                    let address = shops[number % 2].read().unwrap().address;
                    if buy(address, &customer).is_some() {
                        acknowledged.lock().unwrap().insert(customer);
                    }
                    number += 1;
                }
            });
        }
        for round in 0..ROUNDS {
            // At any moment: nothing depends on which.
            let random = RandomState::new().hash_one(round) % 250;
            thread::sleep(Duration::from_millis(random));
            kill(round, &shops);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    acknowledged.into_inner().unwrap()
}

/// A referred customer signs up and pays. `None` if one of the answers didn't come, or is no success.
fn buy(shop: std::net::SocketAddr, customer: &str) -> Option<()> {
    let landing = try_send(shop, "GET", "/?aff=PARTNER_1", &[], b"").ok()?;
    let cookie = landing.header("set-cookie")?.split(';').next()?.to_owned();
    let post = |path: &str, body: &Value| {
        let headers = [
            ("Content-Type", &b"application/json"[..]),
            ("Cookie", cookie.as_bytes()),
        ];
        let answer = try_send(shop, "POST", path, &headers, body.to_string().as_bytes()).ok()?;
        (answer.status == 200).then(|| answer.json())
    };
    post("/signup", &json!({"customer": customer}))?;
    let order = format!("o-{customer}");
    let mut payment =
        json!({"customer": customer, "order": order, "amount": "5", "currency": "EUR"});
    let started = post("/checkout", &payment)?;
    payment["client_reference_id"] = started["client_reference_id"].clone();
    post("/webhooks/payment", &payment).map(drop)
}

fn compare(backend: &Backend, platform: &Platform, kind: Kind, acknowledged: &BTreeSet<String>) {
    assert!(
        acknowledged.len() >= ROUNDS,
        "there was no load: {acknowledged:?}"
    );
    let shop = backend.start(platform);
    let outbox = shop.settles();
    let problems: BTreeMap<&str, &Value> = outbox["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["id"].as_str().unwrap(), &problem["state"]))
        .collect();
    let ledger = platform.open();
    let mut recorded = ledger.count("");
    let booked = booked(backend);
    for customer in acknowledged {
        for id in [format!("signup:{customer}"), format!("sale:o-{customer}")] {
            assert!(booked.contains(&id), "{id} was acknowledged");
        }
    }
    for id in &booked {
        let count = recorded.remove(id).unwrap_or_default();
        let is_recognised = kind == Kind::Partnac || id.starts_with("signup:");
        match problems.get(id.as_str()) {
            Some(state) => {
                assert!(!is_recognised && *state == "ambiguous", "{id}: {state}");
                assert!(count <= 1, "{id} was recorded {count} times");
            }
            None => assert_eq!(count, 1, "{id}"),
        }
    }
    assert!(recorded.is_empty(), "nobody has booked {recorded:?}");
}

/// The reports that the shop's own rows stand for.
fn booked(backend: &Backend) -> BTreeSet<String> {
    let mut booked = BTreeSet::new();
    for (table, prefix, kind) in [("customers", "c-", "signup"), ("orders", "o-", "sale")] {
        for row in rows(backend, table) {
            let mut words = row.split([' ', ',', '(', ')', '"']);
            let id = words.find(|word| word.starts_with(prefix)).unwrap();
            booked.insert(format!("{kind}:{id}"));
        }
    }
    booked
}
