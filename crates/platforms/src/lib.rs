#![doc = include_str!("../README.md")]
//! # In code
//!
//! ```no_run
//! # #[cfg(feature = "https")] {
//! use tower_referral::click::Clicks;
//! use tower_referral_platforms::{Client, Https, Partnac};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let partnac = Client::new(Partnac::new(std::env::var("PARTNAC_API_KEY")?)?, Https::new());
//! let clicks = Clicks::new(partnac.clicks());
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! What only one platform has is on its client: see [`affiliate`]. A field that has no place there is
//! [`Unsupported::Field`]. [`deliver`] says what a queue may do with a report. Where the reports of payments come
//! from is in [`payment`]. What takes more than a paragraph is in the [`guide`].
//!
//! Which parameters of a landing carry a platform's key and click ID is in constants beside its client
//! (Partnac's are your own choice):
//!
//! ```
//! # #[cfg(feature = "dub")] {
//! use tower_referral::Program;
//! use tower_referral_platforms::affiliate::dub;
//!
//! let program = Program::new("partners").params(dub::PARAMS).click_params(dub::CLICK_PARAMS);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod advice;
pub mod affiliate;
mod answer;
mod api;
mod base_url;
mod batches;
mod boxed;
mod client;
mod config_error;
mod delivery;
mod endpoint;
mod error;
pub mod guide;
#[cfg(feature = "https")]
mod https;
mod json;
mod listed;
mod mark;
mod message;
mod money;
mod pages;
pub mod payment;
mod redact;
mod report;
mod report_error;
mod report_request;
mod retries;
mod sequence;
mod services;
mod signature;
mod telemetry;
mod transport;
mod unsupported;
mod webhook_error;

pub use self::advice::Advice;
#[cfg(feature = "affonso")]
pub use self::affiliate::affonso::Affonso;
#[cfg(feature = "awin")]
pub use self::affiliate::awin::Awin;
#[cfg(feature = "dub")]
pub use self::affiliate::dub::Dub;
#[cfg(feature = "firstpromoter")]
pub use self::affiliate::firstpromoter::FirstPromoter;
pub use self::affiliate::partnac::Partnac;
pub use self::affiliate::partnero::{Partnero, PartneroFriends};
pub use self::affiliate::postback::Postback;
pub use self::affiliate::tapfiliate::Tapfiliate;
#[cfg(feature = "tolt")]
pub use self::affiliate::tolt::Tolt;
pub use self::answer::{Answer, Refusal};
pub use self::api::{Batch, ClickApi, Repeat, ReportApi, Step};
pub use self::base_url::BaseUrl;
pub use self::client::Client;
pub use self::config_error::ConfigError;
pub use self::delivery::{
    Delivery, DeliveryOutcome, DeliveryState, DeliveryStore, Failure, deliver, deliver_by_clock,
};
pub use self::error::Error;
#[cfg(feature = "https")]
pub use self::https::Https;
pub use self::listed::ListedConversion;
pub use self::mark::Mark;
pub use self::message::Message;
pub use self::money::{InvalidMoney, Money};
pub use self::pages::Pages;
pub use self::report::{
    Cancellation, Contact, Credit, InvalidId, OptionalText, Outcome, PlatformId, PlatformIds,
    Receipt, Refund, RefundReversal, Report, Sale, SaleUpdate, SignUp,
};
pub use self::report_error::ReportError;
pub use self::report_request::ReportRequest;
pub use self::retries::Retries;
pub use self::services::{ClickService, ReportService};
pub use self::transport::{NotSent, Transport};
pub use self::unsupported::Unsupported;
pub use self::webhook_error::WebhookError;
