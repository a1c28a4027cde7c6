//! Why an event leads to no report: a fixed list, each with its name for logs and answers.

use std::fmt;

/// Why an event leads to no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Events of this type say nothing of money.
    OtherType,
    /// A test event at an endpoint that takes live ones.
    TestMode,
    /// A live event at an endpoint that takes test ones.
    LiveMode,
    /// An event of a connected account that wasn't named.
    OtherAccount,
    /// The payment isn't made yet, or failed.
    NotPaid,
    /// Nothing was paid: a trial, a full discount, a credit.
    NothingPaid,
    /// The payment has none of the shop's metadata.
    NotOurs,
    /// Payments without Checkout weren't switched on.
    PaymentIntentsOff,
    /// Another event reports this payment.
    ReportedElsewhere,
    /// No money moves: an inquiry, a warning, a credit.
    NoMoneyMoves,
    /// The dispute was settled before it came to one. An event of its own says whether money moves.
    DisputePrevented,
    /// The refund waits for approval.
    NotApproved,
    /// The state is none of those that are documented.
    UnknownState,
    /// The event lacks an ID or an amount that it should have.
    Incomplete,
    /// The order's or customer's ID in the metadata isn't a valid ID.
    InvalidId,
    /// All of it is booked already.
    AlreadyBooked,
    /// It waits for the sale that it belongs to.
    WaitsForSale,
    /// It waits for an event that says whose payment it is.
    UnknownCustomer,
    /// The amount is in another currency than the sale.
    OtherCurrency,
    /// The sale was booked with another amount, which stays.
    OtherAmount,
    /// Another payment of the same order was reported.
    OrderPaidBefore,
    /// One payment intent paid several invoices: each is a sale, and what goes back can't be assigned.
    SharedPayment,
    /// Its customer was [erased](super::erase).
    Erased,
    /// It changes nothing that a platform is to know.
    NoChange,
}

impl Reason {
    /// Returns the reason in snake case, for logs and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherType => "other_type",
            Self::TestMode => "test_mode",
            Self::LiveMode => "live_mode",
            Self::OtherAccount => "other_account",
            Self::NotPaid => "not_paid",
            Self::NothingPaid => "nothing_paid",
            Self::NotOurs => "not_ours",
            Self::PaymentIntentsOff => "payment_intents_off",
            Self::ReportedElsewhere => "reported_elsewhere",
            Self::NoMoneyMoves => "no_money_moves",
            Self::DisputePrevented => "dispute_prevented",
            Self::NotApproved => "not_approved",
            Self::UnknownState => "unknown_state",
            Self::Incomplete => "incomplete",
            Self::InvalidId => "invalid_id",
            Self::AlreadyBooked => "already_booked",
            Self::WaitsForSale => "waits_for_sale",
            Self::UnknownCustomer => "unknown_customer",
            Self::OtherCurrency => "other_currency",
            Self::OtherAmount => "other_amount",
            Self::OrderPaidBefore => "order_paid_before",
            Self::SharedPayment => "shared_payment",
            Self::Erased => "erased",
            Self::NoChange => "no_change",
        }
    }

    /// Returns `true` if a person should look at it: the event may be about money that is reported
    /// wrongly or not at all.
    #[must_use]
    pub fn needs_attention(self) -> bool {
        matches!(
            self,
            Self::DisputePrevented
                | Self::UnknownState
                | Self::Incomplete
                | Self::InvalidId
                | Self::OtherCurrency
                | Self::OtherAmount
                | Self::OrderPaidBefore
                | Self::SharedPayment
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
