//! The storefront as its visitors, its payment provider and its platform know it: the built program
//! on a free port, driven over sockets.

#[path = "../shop_process/mod.rs"]
mod shop_process;

mod clicks;
mod input;
mod landing;
mod orders;
mod pages;
mod reporting;
mod sandboxes;
mod start;
mod support;
