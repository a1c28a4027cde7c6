//! What a store that fails looks like in the log: the fault in its own words, aloud at the first, the
//! second, the fourth and so on since all was well. One test, because the faults of a process are
//! counted together.
#![cfg(all(feature = "tower-sessions-0_15", feature = "tracing"))]

mod common;
mod log;
mod scripted_store;

use std::convert::Infallible;

use common::{keyring, page_visit};
use http::{Request, Response};
use log::Log;
use scripted_store::{Mood, Scripted};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::{ReferralLayer, ServerSide};
use tracing::Level;

/// What was told of the store since the last time, without the decisions.
fn told(log: &Log) -> Vec<String> {
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

#[tokio::test(start_paused = true)]
async fn faults_are_told_in_the_stores_words_and_ever_less_aloud() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .init();
    let store = Scripted::default();
    let layer = ReferralLayer::builder(ServerSide::new(store.clone(), keyring()))
        .build()
        .unwrap();
    let line = |level: &str, fault: &str, faults: u32| {
        format!(
            "{level} tower_referral: store unavailable what=\"write\" fault={fault} faults={faults}"
        )
    };
    let down = "it is as the script says";
    for _ in 0..2 {
        store.is(Mood::Down);
        for faults in 1..=9 {
            land(&layer).await;
            let level = match faults {
                1 | 2 | 4 | 8 => "WARN",
                _ => "DEBUG",
            };
            assert_eq!(told(&log), [line(level, down, faults)]);
        }
        // Once a call succeeds, the next fault is the first again.
        store.is(Mood::Well);
        land(&layer).await;
        assert_eq!(told(&log), [""; 0]);
    }
    store.is(Mood::Hanging);
    land(&layer).await;
    let late = line("WARN", "no answer within the time limit", 1);
    assert_eq!(told(&log), [late]);
}
