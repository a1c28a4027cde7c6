//! The affiliate platforms, each in a module of its own: how it is told of clicks and reports, and
//! what only it has.

pub mod affonso;
pub mod dub;
pub mod partnac;
pub mod partnero;
pub mod postback;
pub mod tapfiliate;
