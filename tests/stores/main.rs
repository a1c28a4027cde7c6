//! Referrals on the server, copies in the application's session, clicks, and what is counted and logged
//! of all that.
#![cfg(all(
    feature = "metrics",
    feature = "serde",
    feature = "testing",
    feature = "tower-sessions-0_14",
    feature = "tower-sessions-0_15",
    feature = "tracing"
))]

mod app_session;
mod clicks;
mod counters;
mod freeze;
mod log;
mod scripted_store;
mod server_side;
mod store_log;
mod support;
mod surroundings;
