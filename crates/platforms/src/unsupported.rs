//! What a platform can't be told.

use std::fmt;

/// What a platform's interface can't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The platform takes back whole sales only (Partnero).
    PartialRefund,
    /// More goes back than is left of the sale.
    RefundOverSale,
    /// The commission was paid out already, and the platform doesn't change it any more (Dub).
    PaidOut,
    /// The refund, or another change of the amount, isn't in the currency of the sale.
    RefundInOtherCurrency,
    /// The text isn't the ID of anything: see [`InvalidId`](crate::InvalidId).
    NotAnId,
    /// The platform has no call for reports of this kind.
    Kind(&'static str),
    /// The platform has no place for this field, which the report has.
    Field(&'static str),
    /// The platform needs this field, which the report doesn't have.
    MissingField(&'static str),
    /// The platform doesn't know this value of the field.
    Value(&'static str),
    /// The platform cuts this field off, so that two reports could become one.
    TooLong {
        /// The field.
        field: &'static str,
        /// The most characters that it keeps.
        max: usize,
    },
    /// The platform takes one report in a request.
    Batch,
    /// The platform has no request by which a key can be checked.
    Check,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialRefund => f.write_str(
                "this platform takes back whole sales only: make the partial refund by hand there, \
                 or refund the whole order",
            ),
            Self::RefundOverSale => f.write_str(
                "more goes back than the platform knows to be left of the sale: look there what \
                 was refunded before",
            ),
            Self::PaidOut => f.write_str(
                "the commission was paid out already, and this platform doesn't change it any \
                 more: settle it with the partner",
            ),
            Self::RefundInOtherCurrency => f.write_str(
                "the amount isn't in the currency that the sale was reported in: convert it first",
            ),
            Self::NotAnId => f.write_str(
                "not an ID: an ID has 1 to 128 characters, none of them a control character",
            ),
            Self::Kind(kind) => write!(
                f,
                "this platform has no call for a {kind}: don't report it, or do it by hand there"
            ),
            Self::Field(field) => write!(
                f,
                "this platform has no place for `{field}`: leave it out of the report"
            ),
            Self::MissingField(field) => {
                write!(f, "this platform needs `{field}`: set it in the report")
            }
            Self::Value(field) => write!(
                f,
                "this platform doesn't know this value of `{field}`: look at its documentation"
            ),
            Self::TooLong { field, max } => write!(
                f,
                "this platform keeps {max} characters of `{field}`, and this one is longer: give it \
                 a shorter ID"
            ),
            Self::Batch => f.write_str("this platform takes one report in a request"),
            Self::Check => {
                f.write_str("this platform has no request by which a key can be checked")
            }
        }
    }
}
