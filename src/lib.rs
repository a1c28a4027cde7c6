//! Server-side affiliate and refer-a-friend attribution, as one [Tower] layer for axum, hyper and
//! anything else that speaks Tower.
//!
//! A visitor lands on `/pricing?aff=PARTNER_123`, signs up days later and pays later still. The
//! layer captures the referral key from the landing request, keeps it for 30 days in a signed
//! `HttpOnly` cookie or on the server, and hands it to the handlers that need it. It never breaks a page, never
//! slows one down and never loses a referral.
//!
//! # Quick start
//!
//! ```no_run
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, response::IntoResponse, routing::{get, post}};
//! use tower_referral::{Keyring, ReferralKey, ReferralLayer, SignedCookie};
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
//! let referrals = ReferralLayer::builder(SignedCookie::new(Keyring::from_env()?)).build()?;
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
//! 1. **In.** The layer scans the `Cookie` headers for its cookie's name and the query for its
//!    parameters. Nothing there, as on nearly all requests: both the request and the response go
//!    through untouched.
//! 2. A **landing** is a `GET` that a browser makes as a page visit and whose query has a key: the
//!    [`Program`]'s parameters name it, its [`KeyRule`] says what a key is, its [`Attribution`]
//!    decides against what is kept.
//! 3. If the touch wins, a **click** is created at the affiliate platform ([`Clicks`], optional), on
//!    a task of its own: the page doesn't wait for it.
//! 4. The **handler** sees the result: [`ReferralKey`], [`Referral`] or [`Referrals`].
//! 5. **Out.** If anything changed, by the landing or by the handler's own word ([`Capture`],
//!    [`Forget`]), one `Set-Cookie` is appended, and the response is marked `private, no-cache`.
//!
//! # The guide
//!
//! Layer order and the two usual mistakes, sub-domains, consent and privacy, caches and CDNs, payment
//! webhooks, changing the key, testing your own application, moving from another cookie, and a
//! table of every reason with its cause and mend: [`guide`].
//!
//! # Where to put the layer
//!
//! Around the whole application, landings included, and inside whatever rewrites URLs or cookies. In
//! axum, `Router::layer` covers the routes that were added *before* it: put it last. A handler outside
//! the layer that asks for a referral answers `500` with a text that names `ReferralLayer`, at the
//! first request, rather than quietly losing referrals. More: [`guide::layer_order`].
//!
//! # Where a referral is kept
//!
//! - [`SignedCookie`]: in a signed cookie. No server, no set-up, scales with the web tier; what most
//!   services want.
//! - `ServerSide` (features `tower-sessions-0_14`, `tower-sessions-0_15`): a record in any store of
//!   tower-sessions, under a random ID that the cookie holds. For services that want nothing else in
//!   the browser, and to erase a referral without it.
//! - `AppSession` (the same features): in the signed cookie, with a copy in the application's own
//!   tower-sessions session, for code that reads it there.
//!
//! Extractors and response parts are the same in all three. A page never fails by a store and never
//! waits for one longer than its time limit; a referral that the store can't take is carried by
//! the cookie until it can.
//!
//! A store works with the version of tower-sessions that it was made for. Enable the feature of that
//! version; both may be on.
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
//! SQL stores keep records whose time is over until somebody deletes them: run tower-sessions'
//! `continuously_delete_expired`.
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
//! Read the referrals in the service's own future, as here, and hand them on to whatever task you
//! spawn: outside axum's `Router`, a request with nothing of ours carries no mark of the layer, and
//! another task or a `tower::buffer::Buffer` inside of the layer may find
//! [`MissingLayer`] where there was no referral.
//!
//! # Why wasn't this visit captured?
//!
//! Every decision has a [`Reason`]. It is in the response's extensions as [`Decisions`], in a
//! handler's [`Referrals::decisions`], and in a `tracing` event of level `DEBUG` with the fields
//! `program` and `reason` (feature `tracing`). Keys, click IDs and cookie values are never logged.
//! [`guide::troubleshooting`] has each reason's cause and mend.
//!
//! # What it does not do
//!
//! - A page that a CDN answers never reaches the layer. Such landings are told to a
//!   [`CaptureEndpoint`] by one line of script.
//! - A signature proves that this service stored the value, unaltered, then; not that the visitor
//!   was really referred.
//! - Other sites put `?ref=` on links for their own ends. A [`KeyRule`] tells a key from a label.
//! - Some laws require consent before such a cookie is set. [`Builder::consent`] is there for it;
//!   whether it is needed is a lawyer's question.
//!
//! # Examples
//!
//! Each is one file and runs as it is: `cargo run --all-features --example NAME` in a clone.
//!
//! | what do you need | example |
//! |---|---|
//! | referrals in an axum application | `axum` |
//! | the same without axum | `hyper` |
//! | a signing key for production | `generate_key` |
//! | several programs side by side: partners and friends | `programs` |
//! | visitors who land on `www` and pay on `app` | `subdomains` |
//! | a consent banner | `consent` |
//! | cached pages, a CDN, a single-page app | `spa` |
//! | credit in a payment webhook, which has no cookie | `webhook` |
//! | to go on with `PartneroJS`, or move from a cookie of your own | `hybrid` |
//! | referrals on the server, or a copy in your sessions | `sessions` |
//!
//! # Features
//!
//! | feature | default | what for |
//! |---|---|---|
//! | `axum` | yes | [`ReferralKey`], [`Referral`], [`Referrals`] as extractors; [`Capture`], [`Forget`] as response parts. Depends on `axum-core` only. |
//! | `endpoint` | yes | [`CaptureEndpoint`], the ready-made `POST` endpoint for cached pages and single-page apps. |
//! | `metrics` | no | Counters through the [`metrics`](https://docs.rs/metrics) facade: see [counters](guide::troubleshooting#counters). |
//! | `serde` | no | [`Referral`] as JSON and the like; [`ReferralKey`] and [`ClickId`] both ways. |
//! | `testing` | no | [`testing`]: a clock to set and a visitor who keeps cookies, for your own tests. |
//! | `tower-sessions-0_14`, `tower-sessions-0_15` | no | `ServerSide` and `AppSession` over the stores of that version of tower-sessions. |
//! | `tracing` | no | An event for every decision. |
//!
//! [Tower]: https://docs.rs/tower
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attribution;
mod boxed;
mod cache;
mod carry;
mod click;
mod config;
mod consent;
mod counters;
mod crawler;
#[cfg(feature = "endpoint")]
mod endpoint;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod future;
pub mod guide;
mod keep;
mod keyring;
mod landing;
mod layer;
mod ledger;
mod mac;
mod program;
mod reading;
mod reason;
mod referral;
mod request;
mod respond;
mod seal;
mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod visit;
mod visitor;

pub use crate::attribution::{Attribution, Rule, Verdict};
pub use crate::carry::{Carry, CarryBuilder, CarryError, CarryToken};
pub use crate::click::{ClickCounts, ClickRequest, Clicks, UnknownKey, trusted_header};
pub use crate::consent::Consent;
pub use crate::crawler::is_crawler;
#[cfg(feature = "endpoint")]
pub use crate::endpoint::CaptureEndpoint;
pub use crate::error::ConfigError;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use crate::error::StoreUnavailable;
#[cfg(feature = "axum")]
pub use crate::extract::ReferralRejection;
pub use crate::future::ResponseFuture;
pub use crate::keep::Keep;
pub use crate::keep::cookie::SignedCookie;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use crate::keep::server::ServerSide;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use crate::keep::session::AppSession;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use crate::keep::store::AnySessionStore;
pub use crate::keyring::{Keyring, KeyringError, SigningKey};
pub use crate::layer::{Builder, ReferralLayer};
pub use crate::program::Program;
pub use crate::reason::{Decision, Decisions, Reason};
pub use crate::referral::{
    ClickId, InvalidClickId, InvalidKey, KeyRule, Referral, ReferralKey, Source,
};
pub use crate::request::RequestRef;
pub use crate::respond::{Capture, Forget, ForgetProgram};
pub use crate::service::ReferralService;
pub use crate::visit::{MissingLayer, Referrals, ReferralsIter};
pub use crate::visitor::{InvalidVisitorId, VisitorId};

#[cfg(all(doctest, feature = "axum", feature = "endpoint"))]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
