//! What a store that fails looks like in the log: the fault in its own words, aloud at the first, the
//! second, the fourth and so on since all was well. One test, because the faults of a process are
//! counted together.
#![cfg(all(feature = "tower-sessions-0_15", feature = "tracing"))]

mod common;
mod scripted_store;

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use common::{keyring, page_visit};
use http::{Request, Response};
use scripted_store::{Mood, Scripted};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::{ReferralLayer, ServerSide};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// What was told of the store since the last time, without the decisions.
    fn told(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains("store unavailable"));
        lines.map(|line| line.trim().to_owned()).collect()
    }
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
            assert_eq!(log.told(), [line(level, down, faults)]);
        }
        // Once a call succeeds, the next fault is the first again.
        store.is(Mood::Well);
        land(&layer).await;
        assert_eq!(log.told(), [""; 0]);
    }
    store.is(Mood::Hanging);
    land(&layer).await;
    let late = line("WARN", "no answer within the time limit", 1);
    assert_eq!(log.told(), [late]);
}
