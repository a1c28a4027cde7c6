//! The payment books on SQLite, and on PostgreSQL where a server can be started: with the events, the
//! random lives and the plain bookkeeping of the platforms' own tests.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a JSON value is made where it is given; some objects are alike in both shapes"
)]

#[path = "../../../platforms/tests/payment/common.rs"]
mod common;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/database.rs"]
mod database;
#[path = "../../../platforms/tests/payment/lives.rs"]
mod lives;
#[path = "../../../platforms/tests/payment/paddle_events.rs"]
mod paddle_events;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/platform.rs"]
mod platform;
#[path = "../../../platforms/tests/payment/polar_events.rs"]
mod polar_events;
#[path = "../../../../tests/servers/mod.rs"]
mod servers;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../../../platforms/tests/payment/stripe_events.rs"]
mod stripe_events;

mod books;
mod cleaning;
mod concurrency;
mod model;
mod round_trips;
