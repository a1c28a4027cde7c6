//! The storefront as its visitors, its payment provider and its platform know it: the built program
//! on a free port, driven over sockets.

#[path = "../shop_process/mod.rs"]
mod shop_process;

#[path = "../../../../tests/servers/mod.rs"]
mod servers;

#[path = "../../../../crates/platforms/tests/it/fault_server/mod.rs"]
mod fault_server;

mod clicks;
mod counting;
mod failures;
mod input;
mod kills;
mod landing;
mod lives;
mod orders;
mod outbox;
mod pages;
mod payments;
mod reporting;
mod sandboxes;
mod start;
mod stores;
mod support;
