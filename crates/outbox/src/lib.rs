//! Reports to affiliate platforms, in your own database: an order and its report are written in one
//! transaction, and a worker delivers the report from there. A process that is killed at any moment loses
//! no report, and none is recorded twice.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # async fn shop<S: tower_referral_outbox::Deduplicates>(
//! #     pool: sqlx::PgPool,
//! #     reports: S,
//! #     sale: tower_referral_platforms::Sale,
//! #     shutdown: impl Future<Output = ()> + Send,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use tower_referral_outbox::Outbox;
//!
//! let outbox = Outbox::postgres(pool.clone()).migrate().await?; // or Outbox::sqlite
//!
//! let mut tx = pool.begin().await?; // in the transaction of the order
//! outbox.enqueue(&mut *tx, sale).await?;
//! tx.commit().await?;
//!
//! outbox.worker(reports).run(shutdown).await?; // in any number of processes
//! # Ok(())
//! # }
//! ```
//!
//! `reports` is [`client.reports()`](tower_referral_platforms::Client::reports) of any platform.
//!
//! # Payments
//!
//! [`Outbox::book`] takes the events of a payment provider, stores what must be known of them until the
//! next (which sale a refund belongs to, whose a renewal is), and enqueues the reports, all in the
//! transaction of the webhook. Stripe, Paddle and Polar are read by
//! [`payment`](tower_referral_platforms::payment), whose guide has a chapter for each; events of any other
//! provider are made by the application.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")]
//! # async fn taken(
//! #     pool: sqlx::PgPool,
//! #     outbox: tower_referral_outbox::Outbox<sqlx::Postgres>,
//! #     event: tower_referral_platforms::payment::Event,
//! # ) -> Result<(), tower_referral_outbox::Error> {
//! let mut tx = pool.begin().await?; // after `webhook.read(&headers, &body)`
//! outbox.book(&mut tx, &event).await?;
//! tx.commit().await?; // and answer 200
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - **Transactional.** A report is committed or rolled back with the order. [`sql`] has the same as
//!   one SQL statement, for sqlx 0.8, diesel, sea-orm and other languages.
//! - **Once.** A platform that deduplicates records each report once. Any other is sent each report
//!   at most once: that a call begins is on the disk before it begins, and one whose end isn't known
//!   is [ambiguous](State::Ambiguous) and waits for a person. IDs that the platform returns between
//!   two calls (a click that a sign-up needs) are stored at once, and the next attempt goes on with
//!   them.
//! - **In order.** Reports about one order, and a customer's sign-up before the sales, go one after
//!   another, across all processes. A refund whose sale isn't known waits for it, for three days
//!   ([`WorkerBuilder::refund_patience`]).
//! - **Nothing is final that new knowledge changes.** A sale that had no credit and is enqueued again
//!   with credit is sent again, unless the platform has recorded it, and so are the refunds that
//!   found no sale. A refund whose content went meanwhile needs a person. Once a sign-up is recorded,
//!   the customer's sales that nobody is credited with are sent again, as long as their content is kept
//!   ([`WorkerBuilder::keep_content`]).
//! - **The account's failures pause the platform, not the report.** A refused API key, a redirect, an
//!   HTML page or no connection at all stops sending; one probe goes after 1 s, 2 s, and so on up to
//!   60 s, and everything goes by itself once it works. A report whose answer doesn't say whether it was
//!   taken (a 303, an HTML page) is still ambiguous where the platform doesn't recognise duplicates. 429
//!   is one brake for the process.
//! - **Everything is shown.** [`Outbox::status`], [`Outbox::problems`] and [`Outbox::history`] answer
//!   "why wasn't this partner paid?" A row that can't be read is shown as such, and hides no other.
//! - **A person decides.** [`Outbox::resend`], [`Outbox::resend_row`] and [`Outbox::resend_all`] send
//!   again what a person has put right, [`Outbox::settle`] closes what was looked up at the platform, and
//!   [`Outbox::probe`] tries a paused platform at once.
//! - **Kept clean.** The content of a delivered report goes after 90 days
//!   ([`WorkerBuilder::keep_content`]), its ID and outcome stay ([`WorkerBuilder::keep_rows`]);
//!   [`Outbox::erase`] removes a customer, from what is stored of payments too, which is kept as long as
//!   [`WorkerBuilder::keep_payments`] says.
//!
//! # What a row goes through
//!
//! | state | meaning | next |
//! |---|---|---|
//! | `waiting` | for its time, or for an earlier report (`blocked_by`) | `claimed` |
//! | `held` | a refund or the like waits for a sale that isn't known | `waiting` with the sale, or after three days |
//! | `claimed` | in a worker's hand; at a platform that deduplicates, perhaps on its way | any |
//! | `sending` | on its way to a platform that doesn't deduplicate | any; after a crash `ambiguous`, or settled by the platform's list |
//! | `done` | the platform has answered: `outcome` | `waiting`, if it had no credit and gets some |
//! | `failed` | refused, and would be refused again | `waiting` or `done`, by a person |
//! | `ambiguous` | may have arrived | `waiting` or `done`, by a person |
//! | `unreadable` | isn't a report that this version reads | `waiting` or `done`, by a person; `waiting`, by a newer version |
//! | `withdrawn` | its customer, or that of its sale, was erased before it was sent, or its content was removed | |
//!
//! # Click IDs that come late
//!
//! A landing doesn't wait for the platform, so a visitor may be at another server when the click ID is
//! there. The referral in the cookie, the carry token and the credit of a report have the random
//! reference of the landing; [`Outbox::put_click`] keeps the ID under it, and whichever worker delivers
//! a report with this reference and without a click ID takes it along. It waits for it 10 seconds at
//! most ([`WorkerBuilder::click_patience`]), and then goes by the referral key. A sign-up at a platform
//! that can't do without a click gets one that is made at its delivery.
//!
//! # Batches
//!
//! Where the platform takes [batches](Deduplicates::batch), the worker has as many reports in hand as
//! go in one, and a report may take as long as the time between two. One worker serves such a
//! platform. Reports about one order never share a batch.
//!
//! # Databases
//!
//! PostgreSQL carries any number of web servers and workers. A worker has up to six connections of
//! its own, with the settings of your pool. It listens for [`Outbox::wake`], and looks four times a
//! second where nobody calls that or where a pooler in transaction mode (`PgBouncer`) doesn't let it
//! listen. Rows are claimed with `FOR UPDATE SKIP LOCKED` and a lease; a worker that is killed is
//! replaced within 60 seconds.
//!
//! SQLite needs no server. Use `journal_mode(Wal)` and a `busy_timeout`; with `synchronous(Normal)`
//! a power failure may forget the last orders together with their reports, and what was sent to a
//! platform that doesn't deduplicate is on the disk all the same. Several processes may share the
//! file.
//!
//! A service that has a job engine keeps it, and calls [`deliver`](tower_referral_platforms::deliver)
//! from a job: see the example `graphile`.
//!
//! Old and new workers run side by side in a deploy: a row of a newer version is left to a newer
//! worker, and [`Outbox::migrate`] only adds.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `postgres` | [`Outbox::postgres`], by sqlx 0.9 |
//! | `sqlite` | [`Outbox::sqlite`], by sqlx 0.9 with its own copy of SQLite |
//! | `metrics` | counters and gauges `tower_referral_outbox_…`: `attempts_total` by result, `pauses_total`, `paused`, `database_errors_total`, `depth`, `oldest_seconds`, `problems` by state |
//! | `tracing` | events of target `tower_referral`, without anything that came from a visitor |

#![cfg_attr(docsrs, feature(doc_cfg))]
// Without a database there is nothing that uses the rest.
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports, unused_macros)
)]

mod backend;
mod books;
mod error;
mod outbox;
mod row;
pub mod sql;
mod telemetry;
mod worker;

/// The chapters on payments, whose handlers use this crate, are tested here.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../platforms/docs/guide/stripe.md")]
    mod stripe {}
    #[doc = include_str!("../../platforms/docs/guide/paddle.md")]
    mod paddle {}
    #[doc = include_str!("../../platforms/docs/guide/polar.md")]
    mod polar {}
    #[doc = include_str!("../../platforms/docs/guide/other_payments.md")]
    mod other_payments {}
}

pub use backend::Database;
pub use books::PaymentBooks;
pub use error::Error;
pub use outbox::Outbox;
pub use row::{Attempt, Enqueued, Entry, Paused, State, Status};
pub use worker::{Deduplicates, Layered, WorkerBuilder};
