//! Which optional fields a report has, so that a platform refuses by name what it has no place for.

use super::Report;
use crate::{Error, Unsupported};

impl Report {
    /// Returns the names of the optional fields that are set and that change what a platform
    /// records. Not among them is what only helps where a platform wants it: contact data, and a
    /// refund's reason, time, customer and sale amount.
    fn set_fields(&self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        let mut add = |name, is_set| {
            if is_set {
                fields.push(name);
            }
        };
        if let Some(details) = self.details() {
            add("coupon", details.coupon.is_some());
            add("tags", !details.tags.is_empty());
            add("referral_url", details.referral_url.is_some());
            add("campaign", details.campaign.is_some());
            add("action", details.action.is_some());
            add("ip", details.ip.is_some());
            add("user_agent", details.user_agent.is_some());
            add("metadata", !details.metadata.is_empty());
            add("date_of_birth", details.contact.date_of_birth.is_some());
        }
        match self {
            Self::SignUp(sign_up) => add("signed_up_at", sign_up.signed_up_at().is_some()),
            Self::Sale(sale) => {
                add("product", sale.product().is_some());
                add("product_type", sale.product_type().is_some());
                add("interval", sale.interval().is_some());
                add("commission_type", sale.commission_type().is_some());
                add("paid_at", sale.paid_at().is_some());
            }
            Self::Refund(refund) => {
                let reverse = refund.reverse_paid_earnings();
                add("reverse_paid_earnings", reverse.is_some());
            }
            Self::SaleUpdate(update) => {
                add("new_order", update.new_order().is_some());
                add("metadata", !update.metadata().is_empty());
            }
            Self::RefundReversal(_) | Self::Cancellation(_) => {}
        }
        fields
    }

    /// Refuses the report if it has a field other than these.
    pub(crate) fn refuse_fields_except(&self, taken: &[&str]) -> Result<(), Error> {
        self.refuse_fields(taken, false)
    }

    /// Refuses the report if it has a field other than these. A coupon, which none of them is, may be
    /// left out.
    pub(crate) fn refuse_fields(
        &self,
        taken: &[&str],
        leaves_out_coupon: bool,
    ) -> Result<(), Error> {
        let is_taken =
            |field: &&str| taken.contains(field) || leaves_out_coupon && *field == "coupon";
        let mut fields = self.set_fields().into_iter();
        match fields.find(|field| !is_taken(field)) {
            Some(field) => Err(Error::Unsupported(Unsupported::Field(field))),
            None => Ok(()),
        }
    }
}
