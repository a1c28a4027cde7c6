//! Affiliate platforms. A platform does no I/O: it builds requests and reads answers. One
//! [`Client`] sends them over any HTTP transport; `Https` is the ready-made one.
//!
//! | | clicks | [`SignUp`] | [`Sale`] | whole [`Refund`] | partial [`Refund`] |
//! |---|---|---|---|---|---|
//! | [`Affonso`] | yes | yes, with a click that is made where none came | once for each order | yes, its amount is needed | yes |
//! | [`Dub`] | from its own short links only | a lead, with a click ID only | once for each order | yes | yes; duplicates not detected unless it says what is [left](Refund::left) |
//! | [`Partnac`] | yes | a conversion `lead` | a conversion `sale` or `subscription`, once for each order | yes | yes |
//! | [`Partnero`] (affiliate) | from its own script only | with a referral only | yes, duplicates not detected | yes | once the parts make the whole, or by a smaller sale |
//! | [`PartneroFriends`] (refer-a-friend) | from its own script only | always | yes, duplicates not detected | yes | as an affiliate program |
//! | [`Postback`] (any tracker) | from its own links only | by a template of its own | duplicates as its user says | by a template of its own | where that has the amount |
//! | [`Tapfiliate`] | yes | a customer | once for each order | yes | yes; duplicates not detected unless it says what is [left](Refund::left) |
//! | `FirstPromoter` | from its own script only | a lead | once for each order | yes | yes |
//! | `Tolt` | yes | a customer, with a click before it where there is none | once for each order | yes | once the parts make the whole |
//! | `Awin` | `awc` comes with the landing | nothing | an order, duplicates not detected | [`Unsupported`] | [`Unsupported`] |
//!
//! Reports say the same to all of them, so a service changes platform by changing one line. A field
//! that a platform has no place for is refused by name ([`Unsupported::Field`]); e-mail addresses and
//! names are left out where no platform wants them. What only one platform has is on its client: see
//! [`affiliate`]. A report that must not be lost waits in a queue: [`deliver`] says what may be done
//! with it. Where the reports of payments come from is in [`payment`]: the webhooks of Stripe, Paddle
//! and Polar. What takes more than a paragraph is in the [`guide`].
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
//! | feature | what it adds |
//! |---|---|
//! | `awin` | `Awin` |
//! | `firstpromoter` | `FirstPromoter` |
//! | `https` | `Https`, the ready-made transport |
//! | `metrics` | counts reports through the `metrics` facade |
//! | `paddle` | `payment::paddle`: the webhooks of Paddle Billing |
//! | `polar` | `payment::polar`: the webhooks of Polar |
//! | `stripe` | `payment::stripe`: the webhooks of Stripe |
//! | `tolt` | `Tolt` |
//! | `tracing` | tells `tracing` of reports, and warns of failures with their cause |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod advice;
pub mod affiliate;
mod answer;
mod api;
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

pub use self::advice::Advice;
pub use self::affiliate::affonso::Affonso;
#[cfg(feature = "awin")]
pub use self::affiliate::awin::Awin;
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
pub use self::api::{Batch, ClickApi, CreatedClick, Repeat, ReportApi, Step};
pub use self::client::Client;
pub use self::config_error::ConfigError;
pub use self::delivery::{
    Delivery, DeliveryOutcome, DeliveryState, DeliveryStore, Failure, deliver, deliver_by_clock,
};
pub use self::error::Error;
#[cfg(feature = "https")]
pub use self::https::Https;
pub use self::listed::ListedConversion;
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
