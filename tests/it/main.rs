//! The layer from outside, by its public API: what a request and its response say, whichever way a
//! referral is kept.
//!
//! One binary, because each takes its time to link. What a behaviour is about runs over every way to keep a
//! referral (`ways`); `cases` are the inputs that once went wrong, by their numbers.

#[path = "../common/mod.rs"]
mod common;
#[path = "../mutator/mod.rs"]
mod mutator;
#[path = "../servers/mod.rs"]
mod servers;
#[macro_use]
mod ways;

mod attribution;
mod caching;
mod carry;
mod cases;
mod clean_url;
mod config;
mod consent;
mod cookie;
mod endpoint;
mod endpoint_script;
mod extract;
mod fallback_cookies;
mod golden;
mod guide;
mod landing;
mod model_browser;
mod mutants;
mod neighbours;
mod pass_through;
mod programs;
mod reasons;
mod respond;
mod rotation;
mod shared_cache;
mod tower;
mod visitor;
