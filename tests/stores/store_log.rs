//! What a store that fails looks like in the log: the kind of error only, at WARN for the first, the
//! second, the fourth failure and so on since a call last succeeded. One test, because the failures of a
//! process are counted together: it runs in a process of its own.

use std::convert::Infallible;
use std::process::Command;

use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::{ReferralLayer, ServerSide};
use tracing::Level;

use crate::log::Log;
use crate::scripted_store::{Mood, Scripted};
use crate::support::{keyring, page_visit};

/// What was logged of the store since the last time, without the decisions.
fn logged(log: &Log) -> Vec<String> {
    let text = log.take();
    let lines = text
        .lines()
        .filter(|line| line.contains("store unavailable"));
    lines.map(|line| line.trim().to_owned()).collect()
}

async fn land(layer: &ReferralLayer) {
    let page = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let Ok(_) = layer.layer(page).oneshot(page_visit("/?aff=KEY")).await;
}

/// K6 as well: the store's own text holds the record, and none of it is logged.
#[test]
fn k6_failures_are_logged_by_their_kind_and_less_and_less_loudly() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_log::alone", "--ignored"])
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "is run by the test above, in a process of its own"]
fn alone() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(failures());
}

async fn failures() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .init();
    let store = Scripted::default();
    let server = ServerSide::new(store.clone(), keyring()).store_expires_records();
    let layer = ReferralLayer::builder(server).build().unwrap();
    let line = |level: &str, error: &str, failures: u32| {
        format!(
            "{level} tower_referral: store unavailable what=\"save\" error={error} failures={failures}"
        )
    };
    for _ in 0..2 {
        store.is(Mood::Down);
        for failures in 1..=9 {
            land(&layer).await;
            let level = match failures {
                1 | 2 | 4 | 8 => "WARN",
                _ => "DEBUG",
            };
            assert_eq!(
                logged(&log),
                [line(level, "the store's backend failed", failures)]
            );
        }
        // Once a call succeeds, the next failure is the first again.
        store.is(Mood::Well);
        land(&layer).await;
        assert_eq!(logged(&log), [""; 0]);
    }
    store.is(Mood::Hanging);
    land(&layer).await;
    assert_eq!(
        logged(&log),
        [line("WARN", "no answer within the timeout", 1)]
    );
    store.is(Mood::Panicking);
    land(&layer).await;
    assert_eq!(logged(&log), [line("WARN", "the store panicked", 2)]);
}
