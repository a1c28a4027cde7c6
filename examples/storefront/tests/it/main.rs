//! The storefront as its visitors, its payment provider and its platform know it: the built program
//! on a free port, driven over sockets.

#[path = "../shop_process/mod.rs"]
mod shop_process;

mod sandboxes;
