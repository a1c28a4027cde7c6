//! The affiliate platforms, each in a module of its own: how it is told of clicks and reports, and
//! what only it has.

#[cfg(feature = "affonso")]
pub mod affonso;
#[cfg(feature = "awin")]
pub mod awin;
#[cfg(feature = "dub")]
pub mod dub;
#[cfg(feature = "firstpromoter")]
pub mod firstpromoter;
pub mod partnac;
pub mod partnero;
pub mod postback;
pub mod tapfiliate;
#[cfg(feature = "tolt")]
pub mod tolt;
mod webhook_event;

pub use self::webhook_event::WebhookEvent;
