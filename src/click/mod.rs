//! Clicks at the affiliate platform, created server to server while the page is made.
//!
//! [`Clicks`] configures them. A click service is any Tower service from [`ClickRequest`] to [`Click`],
//! or any async function; the clients of `tower-referral-platforms` have one ready.

mod bounds;
mod cause;
pub(crate) mod clicks;
pub(crate) mod context;
mod crawler;
pub(crate) mod dispatcher;
pub(crate) mod late;
pub(crate) mod request;
mod timing;

pub use self::clicks::{Clicks, trusted_header};
pub use self::crawler::is_crawler;
pub use self::late::ClickCounts;
pub use self::request::{Click, ClickRequest, LateClick, UnknownKey};
pub use self::timing::ClickTiming;
