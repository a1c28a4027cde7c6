//! Partnac's bodies: what a conversion, a refund and an update are made of.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Partnac;
use crate::endpoint::encoded;
use crate::json::Number;
use crate::report::Details;
use crate::{Error, Refund, Report, Sale, SaleUpdate, SignUp, Unsupported};

/// What Partnac takes as a conversion's type.
const TYPES: [&str; 5] = ["sale", "lead", "referral", "subscription", "custom"];
/// What an order's unique ID must not begin with: it would be taken for a customer's sign-up.
const SIGN_UP: &str = "signup:";

/// By whom a conversion is credited.
#[derive(Clone, Copy)]
pub(super) struct Credited<'a> {
    pub(super) code: &'a str,
    pub(super) session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ConversionBody<'a> {
    partnership_code: &'a str,
    unique_id: &'a str,
    conversion_type: &'a str,
    amount: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Amount {
    Of(Number),
    Nothing(u8),
}

#[derive(Serialize)]
struct RefundBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_refund_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse_paid_earnings: Option<bool>,
}

#[derive(Serialize)]
struct UpdateBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recalculate_commissions: bool,
}

/// Returns the unique ID of a sign-up's or a sale's conversion.
pub(super) fn unique_id(report: &Report) -> Option<String> {
    match report {
        Report::SignUp(sign_up) => Some(format!("{SIGN_UP}{}", sign_up.customer()?)),
        report => report.order().map(str::to_owned),
    }
}

impl Partnac {
    pub(super) fn lead(&self, sign_up: &SignUp, by: Credited<'_>) -> Result<Request<Bytes>, Error> {
        let missing = Error::Unsupported(Unsupported::MissingField("customer"));
        let customer = sign_up.customer().ok_or(missing)?;
        let mut metadata = metadata(&sign_up.details);
        metadata.insert("customer_id".to_owned(), customer.into());
        insert_time(&mut metadata, "signed_up_at", sign_up.signed_up_at());
        let body = ConversionBody {
            partnership_code: by.code,
            unique_id: &format!("{SIGN_UP}{customer}"),
            conversion_type: type_of(sign_up.action(), "lead")?,
            amount: Amount::Nothing(0),
            campaign_id: sign_up.campaign(),
            session_id: by.session_id,
            metadata,
        };
        Ok(self.endpoint.post("/conversions", &body))
    }

    pub(super) fn sale(&self, sale: &Sale, by: Credited<'_>) -> Result<Request<Bytes>, Error> {
        if sale.order().starts_with(SIGN_UP) {
            return Err(Error::Unsupported(Unsupported::Value("order")));
        }
        let mut metadata = metadata(&sale.details);
        let facts = [
            ("currency", Some(sale.amount_ref().currency())),
            ("customer_id", Some(sale.customer())),
            ("product_id", sale.product()),
            ("product_type", sale.product_type()),
            ("commission_type", sale.commission_type()),
            ("interval", sale.interval()),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                metadata.insert(name.to_owned(), fact.into());
            }
        }
        insert_time(&mut metadata, "paid_at", sale.paid_at());
        let usual = if sale.is_subscription() {
            "subscription"
        } else {
            "sale"
        };
        let body = ConversionBody {
            partnership_code: by.code,
            unique_id: sale.order(),
            conversion_type: type_of(sale.action(), usual)?,
            amount: Amount::Of(Number(sale.amount())),
            campaign_id: sale.campaign(),
            session_id: by.session_id,
            metadata,
        };
        Ok(self.endpoint.post("/conversions", &body))
    }

    pub(super) fn refund(&self, refund: &Refund) -> Result<Request<Bytes>, Error> {
        // A refund has no currency there: it is in the sale's.
        if let (Some(amount), Some(sale)) = (refund.amount(), refund.sale_amount())
            && amount.currency() != sale.currency()
        {
            return Err(Error::Unsupported(Unsupported::RefundInOtherCurrency));
        }
        let keep = self.keep_paid_earnings.then_some(false);
        let body = RefundBody {
            amount: refund.amount().map(Number),
            reason: refund.reason(),
            external_refund_id: refund.id(),
            reverse_paid_earnings: refund.reverse_paid_earnings().or(keep),
        };
        let path = format!("/conversions/{}/refund", encoded(refund.order()));
        Ok(self.endpoint.post(&path, &body))
    }

    pub(super) fn update(&self, update: &SaleUpdate) -> Request<Bytes> {
        let body = UpdateBody {
            amount: update.amount().map(Number),
            unique_id: update.new_order(),
            metadata: update.metadata(),
            recalculate_commissions: update.recalculates_commissions(),
        };
        let path = format!("/conversions/{}", encoded(update.order()));
        self.endpoint.patch(&path, &body)
    }
}

/// The facts of a report under the names that Partnac knows.
fn metadata(details: &Details) -> BTreeMap<String, Value> {
    let mut metadata = details.metadata.clone();
    let ip = details.ip.map(|ip| ip.to_string());
    let facts = [
        ("coupon_code", details.coupon.as_deref()),
        ("ip_address", ip.as_deref()),
        ("user_agent", details.user_agent.as_deref()),
        ("referral_url", details.referral_url.as_deref()),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            metadata.insert(name.to_owned(), fact.into());
        }
    }
    if !details.tags.is_empty() {
        metadata.insert("tags".to_owned(), details.tags.clone().into());
    }
    metadata
}

fn insert_time(metadata: &mut BTreeMap<String, Value>, name: &str, at: Option<OffsetDateTime>) {
    // Years of five digits have no such form.
    if let Some(text) = at.and_then(|at| at.format(&Rfc3339).ok()) {
        metadata.insert(name.to_owned(), text.into());
    }
}

fn type_of<'a>(action: Option<&'a str>, usual: &'a str) -> Result<&'a str, Error> {
    match action {
        None => Ok(usual),
        Some(action) if TYPES.contains(&action) => Ok(action),
        Some(_) => Err(Error::Unsupported(Unsupported::Value("action"))),
    }
}
