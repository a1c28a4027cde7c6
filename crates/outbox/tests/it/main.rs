//! The outbox on SQLite, and on PostgreSQL where a server can be started.

#[path = "../../../../tests/servers/mod.rs"]
mod servers;

mod batches;
mod cleaning;
mod clicks;
mod dashboard;
mod database;
mod enqueue;
mod ids;
mod kill;
mod order;
mod pause;
mod platform;
mod problems;
mod refunds;
mod workers;
