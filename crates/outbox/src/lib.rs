//! An outbox of reports in the database of the application.
mod backend;
mod error;
mod outbox;
mod row;
pub mod sql;
mod telemetry;
mod worker;

pub use backend::Database;
pub use error::Error;
pub use outbox::Outbox;
pub use row::{Attempt, Enqueued, Entry, LateClick, Paused, State, Status};
pub use worker::{Deduplicates, Layered, WorkerBuilder};
