//! What a user sees of a referral's way, the same whichever way it is kept: in a signed cookie, on
//! the server in any store, or with a copy in the application's session. Each test runs over all.

#[path = "../common/mod.rs"]
mod common;
#[path = "../servers/mod.rs"]
mod servers;
#[macro_use]
mod ways;

mod attribution;
mod caching;
mod clean_url;
mod consent;
mod endpoint;
mod extract;
mod fallback_cookies;
mod landing;
mod programs;
mod respond;
