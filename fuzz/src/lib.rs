//! The oracles: for everything that comes from outside, a second reading of it, slow and obvious,
//! written from the rules and not from the code; and the means by which the targets in
//! `fuzz_targets/` put the same question to the crate, through its public API alone.
//!
//! The targets compare whatever the two say, to the last field. What a target makes of its input is
//! said at its top.

#[cfg(feature = "platforms")]
pub mod answer;
pub mod cookie_header;
pub mod envelope;
pub mod message;
pub mod pass;
#[cfg(feature = "platforms")]
pub mod platform;
#[cfg(feature = "platforms")]
pub mod promises;
pub mod query;
#[cfg(feature = "platforms")]
pub mod reports;
pub mod script;
pub mod shop;
#[cfg(feature = "platforms")]
pub mod wire;
