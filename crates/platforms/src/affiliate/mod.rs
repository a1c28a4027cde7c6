//! The affiliate platforms, each in a module of its own: how it is told of clicks and reports, and
//! what only it has.

pub mod affonso;
#[cfg(feature = "awin")]
pub mod awin;
pub mod dub;
#[cfg(feature = "firstpromoter")]
pub mod firstpromoter;
pub mod partnac;
pub mod partnero;
pub mod postback;
pub mod tapfiliate;
#[cfg(feature = "tolt")]
pub mod tolt;

/// Refuses a report by the first field that is set and that the platform has no place for.
#[cfg(any(feature = "awin", feature = "firstpromoter", feature = "tolt"))]
fn refuse(fields: &[(&'static str, bool)]) -> Result<(), crate::Error> {
    match fields.iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(crate::Error::Unsupported(crate::Unsupported::Field(field))),
        None => Ok(()),
    }
}
