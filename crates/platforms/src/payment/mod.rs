//! From payment to report: the webhooks of payment providers, and what affiliate platforms are to be
//! told because of them.
//!
//! | provider | feature | `Webhook` |
//! |---|---|---|
//! | Stripe | `stripe` | `stripe::Webhook` |
//! | Paddle Billing | `paddle` | `paddle::Webhook` |
//! | Polar | `polar` | `polar::Webhook` |
//! | any other | none | make [`Event`]s of your own |
//!
//! A webhook handler checks and reads the event, books it, enqueues the reports, commits, and answers
//! 200. `Outbox::book` of `tower-referral-outbox` books and enqueues in one call, on PostgreSQL and SQLite;
//! with books of one's own:
//!
//! ```
//! # #[cfg(feature = "stripe")] {
//! use http::{HeaderMap, StatusCode};
//! use tower_referral_platforms::payment::{Books, Booked, book, stripe::Webhook};
//!
//! async fn handler<B: Books>(
//!     webhook: &Webhook,
//!     books: &mut B, // on the transaction of this request
//!     headers: &HeaderMap,
//!     body: &[u8],
//! ) -> Result<Booked, StatusCode> {
//!     let event = webhook.read(headers, body).map_err(|error| error.status())?;
//!     book(books, &event).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
//! }
//! # }
//! ```
//!
//! [`erase`] removes a customer; an event that comes again after that brings nothing back.
//!
//! Reading is pure: bytes and headers in, an [`Event`] out. Deciding is pure, too; what must be stored
//! between two events is behind the trait [`Books`].

mod amounts;
mod book;
mod books;
mod entry;
mod event;
#[cfg(any(feature = "stripe", feature = "paddle", feature = "polar"))]
mod fields;
#[cfg(any(feature = "stripe", feature = "paddle", feature = "polar"))]
mod json;
mod memory;
#[cfg(feature = "paddle")]
pub mod paddle;
#[cfg(feature = "polar")]
pub mod polar;
mod reason;
mod record;
#[cfg(any(feature = "stripe", feature = "paddle", feature = "polar"))]
mod settings;
mod settle;
#[cfg(feature = "stripe")]
pub mod stripe;
mod unit_of_work;

pub use self::book::{book, erase};
pub use self::books::{Booked, Books, Changes};
pub use self::event::{Event, Link, MoneyBack, Payment, PaymentKind, PaymentLink};
#[cfg(any(feature = "stripe", feature = "paddle", feature = "polar"))]
pub use self::fields::Fields;
pub use self::memory::MemoryBooks;
pub use self::reason::Reason;
pub use self::record::Record;
