//! All tests of the crate in one binary: reports and their delivery, each platform, the transport,
//! and the example `reconcile` as people run it.

#[cfg(feature = "https")]
mod failures;
#[cfg(feature = "https")]
mod fault_server;
#[cfg(feature = "https")]
mod hostile_platform;
#[cfg(feature = "https")]
mod reconcile;

mod affonso;
mod answers;
#[cfg(feature = "awin")]
mod awin;
mod base_url;
mod cases;
#[cfg(feature = "metrics")]
mod counters;
mod delivery;
#[cfg(any(feature = "awin", feature = "firstpromoter", feature = "tolt"))]
mod documented;
mod dub;
#[cfg(feature = "firstpromoter")]
mod firstpromoter;
mod golden;
mod guides;
#[cfg(feature = "tracing")]
mod leaks;
#[cfg(feature = "tolt")]
mod learned_ids;
#[cfg(feature = "tracing")]
#[path = "../../../../tests/stores/log.rs"]
mod log;
#[cfg(all(
    feature = "affonso",
    feature = "awin",
    feature = "dub",
    feature = "firstpromoter",
    feature = "tolt"
))]
mod marks;
mod money;
mod partnac;
mod partnero;
mod postback;
mod reports;
mod settings;
mod stand_in;
mod strict;
mod tapfiliate;
#[cfg(feature = "tolt")]
mod tolt;
#[cfg(all(feature = "dub", feature = "tolt"))]
mod webhooks;
mod webhooks_partnero;
