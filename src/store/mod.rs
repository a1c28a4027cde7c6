//! Referrals on the server: records in any store of tower-sessions, and copies in the application's own
//! session.

pub(crate) mod backend;
mod carried;
mod deletion;
mod joins;
pub(crate) mod records;
pub(crate) mod server_side;
pub(crate) mod session;
mod text;
pub(crate) mod tower_sessions;

pub(crate) use self::records::{Loading, Records};
pub(crate) use self::session::{SessionCopies, SessionHandle};
