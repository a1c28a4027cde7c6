//! From a payment provider's webhook to the reports: every trap that integrators fall into, by its
//! number, and a model of random lives.
#![cfg(all(feature = "stripe", feature = "paddle", feature = "polar"))]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a JSON value is made where it is given; some objects are alike in both shapes"
)]

mod common;
mod lives;
mod model;
mod paddle;
mod paddle_events;
mod polar;
mod polar_events;
mod reading;
mod reversals;
mod shared_ids;
mod stripe_events;
mod support;
mod traps;
mod webhooks;
