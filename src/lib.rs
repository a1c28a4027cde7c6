//! Server-side affiliate and refer-a-friend attribution, as one [Tower] layer for axum, hyper and
//! anything else that speaks Tower.
//!
//! A visitor lands on `/pricing?aff=PARTNER_123`, signs up days later and pays later still. The
//! layer captures the referral key from the landing request, keeps it for 30 days in a signed
//! `HttpOnly` cookie or on the server, and hands it to the handlers that need it. It never breaks a page,
//! and adds a few microseconds to a request that has to do with referrals.
//!
//! # Quick start
//!
//! ```no_run
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, response::IntoResponse, routing::{get, post}};
//! use tower_referral::{Keyring, ReferralKey, ReferralLayer};
//!
//! async fn home() -> &'static str {
//!     "Hello"
//! }
//!
//! async fn sign_up(referral: Option<ReferralKey>) -> impl IntoResponse {
//!     match referral {
//!         Some(key) => format!("Thank you, and thanks to {key}."),
//!         None => "Thank you.".to_owned(),
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // REFERRAL_KEY=2026-11:…, 32 random bytes in base64: `cargo run --example generate_key`
//! let referrals = ReferralLayer::builder(Keyring::from_env()?).build()?;
//!
//! let app: Router = Router::new()
//!     .route("/", get(home))
//!     .route("/signup", post(sign_up))
//!     .layer(referrals); // ?aff= and ?ref=, last touch, 30 days
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # What happens to a request
//!
//! 1. **Read.** The layer scans the `Cookie` headers for its cookie's name and the query for its
//!    parameters. Where there is neither, as on most requests, request and response pass unchanged.
//! 2. **Load.** The cookie is verified, or the record on the server loaded, when a handler asks or a
//!    landing must know.
//! 3. **Decide.** A landing is a `GET` that a browser makes as a page visit and whose query has a key.
//!    Its rank and the program's [`Attribution`] decide against what is kept. If it wins, a click is
//!    created at the affiliate platform ([`click::Clicks`], optional), in the background.
//! 4. **Handler.** It sees the result: [`ReferralKey`], [`Referral`] or [`Referrals`].
//! 5. **Store and write.** If anything changed, by the landing or by a handler's command ([`Capture`],
//!    [`Forget`]), one `Set-Cookie` is appended, and the response is marked `private, no-cache`.
//!
//! Every decision has a [`Reason`]: in the response's extensions ([`Decisions`]), in a handler's
//! [`Referrals::decisions`], and in a `tracing` event of level `DEBUG`. Keys, click IDs and cookie values
//! are never logged.
//!
//! # Where referrals are kept
//!
//! - [`SignedCookie`], or a [`Keyring`] for one with its default settings: no server, no set-up, scales
//!   with the web tier; what most services want.
//! - `ServerSide` (features `tower-sessions-0_14`, `tower-sessions-0_15`): a record in any store of
//!   tower-sessions, under an ID that the cookie holds.
//! - `AppSession` (the same features): in the signed cookie, with a copy in the application's own
//!   tower-sessions session.
//!
//! Extractors and commands are the same in all three. A page never fails because of a store and never
//! waits for one longer than its timeout.
//!
//! | store | newest | tower-sessions | feature |
//! |---|---|---|---|
//! | `tower_sessions::MemoryStore` | 0.15.0 | 0.15 | `tower-sessions-0_15` |
//! | `tower-sessions-sqlx-store` (SQLite, PostgreSQL, MySQL) | 0.15.0 | 0.14 | `tower-sessions-0_14` |
//! | `tower-sessions-redis-store` | 0.16.0 | 0.14 | `tower-sessions-0_14` |
//! | `tower-sessions-moka-store` | 0.15.0 | 0.14 | `tower-sessions-0_14` |
//! | an application with `axum-login` | 0.18.0 | 0.14 | `tower-sessions-0_14` |
//! | a `SessionStore` of your own | | the one that it implements | of that version |
//!
//! # Without axum
//!
//! The layer speaks through the extensions of request and response, whatever the framework:
//!
//! ```
//! use http::{Request, Response};
//! use tower_referral::{Forget, MissingLayer, ReferralKey};
//!
//! async fn handle<B>(request: Request<B>) -> Result<Response<String>, MissingLayer> {
//!     let key = ReferralKey::from_extensions(request.extensions()).await?;
//!     let mut response = Response::new(key.map(|key| key.to_string()).unwrap_or_default());
//!     response.extensions_mut().insert(Forget);
//!     Ok(response)
//! }
//! ```
//!
//! # Reports, and the guide
//!
//! `tower-referral-platforms` reports sign-ups, sales and refunds to affiliate platforms;
//! `tower-referral-outbox` does so out of the application's own database transaction. Layer order,
//! sub-domains, consent, caches, payment webhooks, key rotation, testing and troubleshooting are in the
//! [`guide`].
//!
//! # Features
//!
//! | feature | default | what for |
//! |---|---|---|
//! | `axum` | yes | [`ReferralKey`], [`Referral`], [`Referrals`] as extractors; [`Capture`], [`Forget`] as response parts. Depends on `axum-core` 0.5, which axum 0.8 uses. |
//! | `endpoint` | yes | [`CaptureEndpoint`], for cached pages and single-page apps. |
//! | `metrics` | no | Counters through the [`metrics`](https://docs.rs/metrics) facade: see [counters](guide::troubleshooting#counters). |
//! | `serde` | no | [`Referral`], [`ReferralKey`], [`ClickId`] and [`VisitorId`] to and from JSON and the like. |
//! | `testing` | no | [`testing`]: a clock to set and a visitor who keeps cookies, for your own tests. |
//! | `tower-sessions-0_14`, `tower-sessions-0_15` | no | `ServerSide` and `AppSession` over the stores of that version of tower-sessions. |
//! | `tracing` | no | An event for every decision, and the cause of every failed click: a warning for the 1st, 2nd, 4th, 8th and so on, `DEBUG` for the others. |
//! | `wasm` | no | Clock and randomness of JavaScript on `wasm32-unknown-unknown`, through wasm-bindgen; nothing elsewhere. See [serverless](guide::serverless). |
//!
//! [Tower]: https://docs.rs/tower
#![cfg_attr(docsrs, feature(doc_cfg))]
// Without a store its types can't exist, and what is done with them is unreachable.
#![cfg_attr(
    not(feature = "_store"),
    allow(dead_code, unreachable_code, unused_variables)
)]

mod attribution;
mod cache;
pub mod carry;
mod clean_url;
pub mod click;
mod clock;
mod commands;
mod config;
mod consent;
mod cookie;
#[cfg(feature = "endpoint")]
mod endpoint;
mod error;
mod exchange;
mod extract;
pub mod guide;
mod inbound;
mod key;
mod layer;
mod missing_layer;
mod names;
mod outgoing;
mod page_visit;
mod program;
mod query;
mod reason;
mod record;
mod referral;
mod refused_keys;
mod request;
mod request_clicks;
mod response;
mod runtime;
mod seal;
mod service;
mod stand_down;
mod state;
mod storage;
#[cfg(feature = "_store")]
mod store;
#[cfg(not(feature = "_store"))]
#[path = "store/absent.rs"]
mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod visitor;
mod window;

/// The crate of the moments in this API, re-exported: [`time::OffsetDateTime`].
pub use time;

pub use crate::attribution::{Attribution, Rule, Verdict};
pub use crate::clean_url::{CleanUrlFuture, CleanUrlLayer, CleanUrlService};
pub use crate::commands::{Capture, Forget, ForgetProgram};
pub use crate::consent::Consent;
pub use crate::cookie::SignedCookie;
#[cfg(feature = "endpoint")]
pub use crate::endpoint::CaptureEndpoint;
pub use crate::error::ConfigError;
#[cfg(feature = "axum")]
pub use crate::extract::axum::ReferralRejection;
pub use crate::extract::{ReadOnlyRequest, Referrals, ReferralsIter};
pub use crate::key::{ClickId, InvalidClickId, InvalidKey, KeyRule, ReferralKey};
pub use crate::layer::{ReferralLayer, ReferralLayerBuilder};
pub use crate::missing_layer::MissingLayer;
pub use crate::program::Program;
pub use crate::reason::{Decision, Decisions, Reason};
pub use crate::referral::{Referral, Source};
pub use crate::request::RequestRef;
pub use crate::response::ResponseFuture;
pub use crate::runtime::Spawner;
pub use crate::seal::keyring::{Keyring, KeyringError, SigningKey};
pub use crate::service::ReferralService;
pub use crate::storage::Storage;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use crate::store::{
    backend::StoreUnavailable,
    server_side::ServerSide,
    session::AppSession,
    tower_sessions::{AnyExpiredDeletion, AnySessionStore},
};
pub use crate::visitor::{InvalidVisitorId, VisitorId};

/// Compiles the README's examples.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
