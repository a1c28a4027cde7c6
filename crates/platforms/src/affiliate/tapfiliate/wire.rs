//! Tapfiliate's bodies: clicks, customers, conversions and their amounts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower_referral::click::{Click, ClickRequest};
use tower_referral::{ClickId, ReferralKey};

use super::Tapfiliate;
use crate::endpoint::encoded;
use crate::json::Number;
use crate::{Answer, ClickApi, Error, ListedConversion, Money, Report, Unsupported};

#[derive(Serialize)]
struct ClickBody<'a> {
    referral_code: &'a str,
    landing_page: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<std::net::IpAddr>,
}

impl ClickApi for Tapfiliate {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = ClickBody {
            referral_code: click.key().as_str(),
            landing_page: click.landing_url(),
            referrer: click.referrer(),
            user_agent: click.user_agent(),
            ip: click.ip(),
        };
        self.endpoint.post("/clicks/", &body)
    }

    fn read_click(&self, answer: &Answer) -> Result<Click, Error> {
        answer.accepted()?;
        answer.click(["id"])
    }
}

/// By what a report is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Click,
    Key,
    Coupon,
    /// A sale by its customer, whom Tapfiliate may know.
    Customer,
}

/// The one thing by which a report is credited.
#[derive(Default, Serialize)]
pub(super) struct CreditBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referral_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coupon: Option<&'a str>,
}

impl<'a> CreditBody<'a> {
    /// Returns the credit of this kind, if the report has it.
    fn by(by: By, report: &'a Report) -> Option<Self> {
        let details = report.details()?;
        let credit = details.credit();
        let mut body = Self::default();
        match by {
            By::Click => body.click_id = Some(credit?.click_id().map(ClickId::as_str)?),
            By::Key => body.referral_code = Some(credit?.key().map(ReferralKey::as_str)?),
            By::Coupon => body.coupon = Some(details.coupon.as_deref()?),
            By::Customer if matches!(report, Report::Sale(_)) => {}
            By::Customer => return None,
        }
        Some(body)
    }
}

#[derive(Serialize)]
struct CustomerBody<'a> {
    customer_id: &'a str,
    #[serde(flatten)]
    credit: CreditBody<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta_data: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct ConversionBody<'a> {
    external_id: &'a str,
    amount: Number,
    currency: &'a str,
    customer_id: &'a str,
    #[serde(flatten)]
    credit: CreditBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commission_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta_data: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct AmountBody {
    amount: Number,
}

impl Tapfiliate {
    /// Returns what a report can be credited by, in the order in which it is tried.
    pub(super) fn tries(&self, report: &Report) -> Vec<By> {
        let order = if self.coupon_wins {
            [By::Coupon, By::Click, By::Key, By::Customer]
        } else {
            [By::Click, By::Key, By::Coupon, By::Customer]
        };
        let has = |by: &By| CreditBody::by(*by, report).is_some();
        order.into_iter().filter(has).collect()
    }

    /// Returns the request that creates the customer or the conversion.
    pub(super) fn create(&self, report: &Report, by: By) -> Result<Request<Bytes>, Error> {
        let credit = CreditBody::by(by, report).unwrap_or_default();
        let facts = facts(report);
        match report {
            Report::SignUp(sign_up) => {
                let missing = Error::Unsupported(Unsupported::MissingField("customer"));
                let body = CustomerBody {
                    customer_id: sign_up.customer().ok_or(missing)?,
                    credit,
                    meta_data: &facts,
                };
                Ok(self.endpoint.post("/customers/", &body))
            }
            Report::Sale(sale) => {
                let amount = sale.amount();
                let body = ConversionBody {
                    external_id: sale.order(),
                    amount: Number(amount),
                    currency: amount.currency(),
                    customer_id: sale.customer(),
                    credit,
                    commission_type: sale.commission_type(),
                    user_agent: sale.user_agent(),
                    ip: sale.ip(),
                    meta_data: &facts,
                };
                let path = if self.override_max_cookie_time {
                    "/conversions/?override_max_cookie_time=true"
                } else {
                    "/conversions/"
                };
                Ok(self.endpoint.post(path, &body))
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    /// Returns the request for what is listed of a report: its customer, or its order's conversion.
    pub(super) fn look_up(&self, report: &Report) -> Request<Bytes> {
        match report {
            Report::SignUp(sign_up) => {
                let customer = sign_up.customer().unwrap_or_default();
                let path = format!("/customers/?customer_id={}", encoded(customer));
                self.endpoint.get_list(&path, CUSTOMERS)
            }
            report => {
                let order = report.order().unwrap_or_default();
                let path = format!("/conversions/?external_id={}", encoded(order));
                self.endpoint.get_list(&path, CONVERSIONS)
            }
        }
    }

    pub(super) fn set_amount(&self, id: &str, amount: Money, recalculate: bool) -> Request<Bytes> {
        let query = if recalculate {
            "?recalculate_commissions=true"
        } else {
            ""
        };
        let path = format!("/conversions/{}/{query}", encoded(id));
        let body = AmountBody {
            amount: Number(amount),
        };
        self.endpoint.patch(&path, &body)
    }

    pub(super) fn remove(&self, id: &str) -> Request<Bytes> {
        let path = format!("/conversions/{}/", encoded(id));
        self.endpoint.delete(&path)
    }

    /// Returns the request that approves a commission, or takes its approval back.
    pub(super) fn approve(&self, commission: &str, is_approved: bool) -> Request<Bytes> {
        let path = format!("/commissions/{}/approved/", encoded(commission));
        if is_approved {
            self.endpoint.put(&path)
        } else {
            self.endpoint.delete(&path)
        }
    }
}

/// The shop's own facts, and those that Tapfiliate has no field for.
fn facts(report: &Report) -> Cow<'_, BTreeMap<String, Value>> {
    let time = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
    let (own, more) = match report {
        Report::SignUp(sign_up) => (
            sign_up.metadata(),
            vec![("signed_up_at", time(sign_up.signed_up_at()))],
        ),
        Report::Sale(sale) => {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let facts = vec![
                ("product_id", text(sale.product())),
                ("product_type", text(sale.product_type())),
                ("interval", text(sale.interval())),
                ("paid_at", time(sale.paid_at())),
            ];
            (sale.metadata(), facts)
        }
        _ => return Cow::Owned(BTreeMap::new()),
    };
    let mut facts = Cow::Borrowed(own);
    for (name, fact) in more {
        if let Some(fact) = fact {
            facts.to_mut().insert(name.to_owned(), fact.into());
        }
    }
    facts
}

/// Where the list of conversions may be in an answer.
pub(super) const CONVERSIONS: [&str; 2] = ["conversions", "data"];
/// Where the list of customers may be in an answer.
const CUSTOMERS: [&str; 2] = ["customers", "data"];

/// Returns the order's conversion of a list that may show others.
pub(super) fn conversion_of(
    order: &str,
    answer: &Answer,
) -> Result<Option<ListedConversion>, Error> {
    answer.accepted()?;
    let list = answer.list(CONVERSIONS);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let mut conversions = list.iter();
    Ok(conversions.find_map(|raw| ListedConversion::read_if(raw, order)))
}

/// Returns `true` if the list shows the customer.
pub(super) fn has_customer(customer: &str, answer: &Answer) -> Result<bool, Error> {
    answer.accepted()?;
    let list = answer.list(CUSTOMERS);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let is_it = |raw: &&serde_json::value::RawValue| {
        if !raw.get().contains(customer) && !raw.get().contains('\\') {
            return false;
        }
        let ids = crate::json::pick(raw.get().as_bytes(), ["customer_id"]);
        let id = ids.and_then(|[id]| crate::json::text(id?));
        id.is_some_and(|id| id == customer)
    };
    Ok(list.iter().any(is_it))
}
