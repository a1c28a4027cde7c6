//! Dub. Its short links make the clicks, whose IDs arrive with the landing; a sign-up is a lead, and
//! money that goes back changes a commission.

mod commission;
mod minor;
mod webhook;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tower_referral::ClickId;

pub use self::webhook::Webhook;
use crate::endpoint::Endpoint;
use crate::json::pick;
use crate::report::Details;
use crate::{
    Answer, BaseUrl, ConfigError, Contact, Error, PlatformIds, Receipt, Report, ReportApi, Sale,
    SignUp, Step, Unsupported,
};

/// The landing parameter with the partner's key.
pub const PARAMS: [&str; 1] = ["via"];
/// The landing parameter with the click ID, which Dub's short links add.
pub const CLICK_PARAMS: [&str; 1] = ["dub_id"];

/// What reports may have. Dub knows renewals by their customer and times by its own clock.
const TAKEN: [&str; 6] = [
    "action",
    "metadata",
    "product",
    "interval",
    "paid_at",
    "signed_up_at",
];
/// The longest ID of a customer, in characters.
const MAX_CUSTOMER_CHARS: usize = 100;
/// The longest name of an event, in characters.
const MAX_EVENT_CHARS: usize = 255;
/// The longest metadata, in characters of its JSON.
const MAX_METADATA_CHARS: usize = 10_000;

/// The Dub platform: `https://api.dub.co`, with the API key as a bearer token.
///
/// The click ID comes with the landing ([`CLICK_PARAMS`]): Dub takes the caller of its click
/// interface for the visitor, so that there are no clicks from a server. A sign-up with a click ID is
/// a lead; without one it is
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed), and so is one whose click Dub doesn't know.
/// Its event is the report's [action](SignUp::with_action), or [`lead_event`](Self::lead_event).
///
/// A sale is always sent, because Dub may know its customer: with the click ID where there is one,
/// and once more without it if Dub doesn't know that (404). The order is its `invoiceId`, by which Dub
/// recognises a duplicate for seven days; after that its counts of sales would grow again, while a commission
/// stays one for an invoice. An answer in which customer or sale is `null` is
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed). Amounts go in cents, but for the currencies that Dub
/// takes whole (yen, for example): it has no other units, so 1 Kuwaiti dinar is 100, and an amount with more
/// digits is [`Unsupported::Value`].
///
/// A refund looks up the order's commission, and marks it as refunded, or sets its `saleAmount` to what
/// is left. That follows from the sale's amount and the
/// [total refunded](crate::Refund::with_total_refunded) where the refund has both. Otherwise the part
/// is taken off what Dub has: only in the currency of the commission, which may be another than that of
/// the sale; not while another refund of the order is under way ([`Report::sequence_key`]); and a
/// duplicate isn't detected. A commission that was paid out is [`Unsupported::PaidOut`]. A
/// [`SaleUpdate`](crate::SaleUpdate) sets the amount.
///
/// E-mail address and name are sent, and metadata; the product goes as `productId` into a sale's
/// metadata. A subscription's interval and times aren't sent, and what else a report may have is refused;
/// so is a coupon, unless [`leave_out_coupons`](Self::leave_out_coupons) says otherwise.
///
/// *Assumed:* a lead whose answer has `"link": null` is a duplicate, as Dub's published source has
/// it. A 404 to a sale without a click ID (the customer is there, and the lead isn't) is a permanent
/// failure, for a person to look at.
#[derive(Clone, Debug)]
pub struct Dub {
    endpoint: Endpoint,
    lead_event: String,
    lead_mode: LeadMode,
    payment_processor: String,
    leaves_out_coupons: bool,
}

/// How Dub records a lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LeadMode {
    /// After its answer. A sale that follows at once may not find it.
    Async,
    /// Before its answer.
    #[default]
    Wait,
    /// Not yet: Dub keeps the click with the customer. A later sign-up report with an
    /// [action](SignUp::with_action) and without a click ID makes a lead of it (report it directly,
    /// because it has the ID of the first one), and so does the first sale.
    Deferred,
}

impl Dub {
    /// Creates Dub, with an API key of the workspace.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.dub.co";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            lead_event: "Sign up".to_owned(),
            lead_mode: LeadMode::Wait,
            payment_processor: "custom".to_owned(),
            leaves_out_coupons: false,
        })
    }

    /// Sets another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The text isn't a [`BaseUrl`]: neither `https`, nor plain `http` to this machine.
    pub fn base_url(
        self,
        url: impl TryInto<BaseUrl, Error: Into<ConfigError>>,
    ) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url)?;
        Ok(Self { endpoint, ..self })
    }

    /// Sets the event of a sign-up that has no [action](SignUp::with_action): `Sign up` by default.
    #[must_use]
    pub fn lead_event(mut self, name: impl Into<String>) -> Self {
        self.lead_event = name.into();
        self
    }

    /// Sets how leads are recorded: before Dub's answer by default.
    #[must_use]
    pub fn lead_mode(mut self, mode: LeadMode) -> Self {
        self.lead_mode = mode;
        self
    }

    /// Sets who took the payments: `stripe`, `shopify`, `polar`, `paddle`, or `custom`, the default.
    #[must_use]
    pub fn payment_processor(mut self, name: impl Into<String>) -> Self {
        self.payment_processor = name.into();
        self
    }

    /// Sends reports that have a coupon without it, for which Dub has no place. By default a coupon is
    /// refused, so that none is lost unnoticed.
    #[must_use]
    pub fn leave_out_coupons(mut self) -> Self {
        self.leaves_out_coupons = true;
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeadBody<'a> {
    click_id: &'a str,
    event_name: &'a str,
    customer_external_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_email: Option<&'a str>,
    mode: LeadMode,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SaleBody<'a> {
    customer_external_id: &'a str,
    amount: u64,
    currency: String,
    payment_processor: &'a str,
    invoice_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_email: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, Value>,
}

/// Where an exchange with Dub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Lead,
    /// The lead of a customer whose click Dub keeps.
    KeptLead,
    /// A sale was sent with its click ID, and goes without it if Dub doesn't know that,
    SaleByClick,
    /// by its customer, whose kept click becomes a lead first if there is none yet,
    Sale,
    /// by making that lead,
    SaleLead,
    /// for the last time.
    LastSale,
    /// The order's commission was asked for,
    LookUp,
    /// and changed.
    Change,
}

impl Dub {
    fn sign_up(&self, report: &Report, sign_up: &SignUp) -> Result<Step<Stage>, Error> {
        let credit = sign_up.credit();
        let click_id = credit.and_then(|credit| credit.click_id());
        let (at, click_id, mode) = match click_id.map(ClickId::as_str) {
            Some(click_id) => (At::Lead, click_id, self.lead_mode),
            None if self.lead_mode == LeadMode::Deferred && sign_up.action().is_some() => {
                (At::KeptLead, "", LeadMode::Wait)
            }
            None => return Ok(Receipt::not_attributed().into()),
        };
        report.refuse_fields(&TAKEN, self.leaves_out_coupons)?;
        let missing = Error::Unsupported(Unsupported::MissingField("customer"));
        let body = LeadBody {
            click_id,
            event_name: event(sign_up.action().unwrap_or(&self.lead_event))?,
            customer_external_id: customer(sign_up.customer().ok_or(missing)?)?,
            customer_name: name(sign_up.contact()),
            customer_email: sign_up.contact().email.as_deref(),
            mode,
            metadata: metadata(&sign_up.details, None)?,
        };
        let request = self.endpoint.post("/track/lead", &body);
        Ok(Step::send(request, Stage(at)))
    }

    fn sale(&self, sale: &Sale, at: At) -> Result<Step<Stage>, Error> {
        let click_id = sale.credit().and_then(|credit| credit.click_id());
        let click_id = click_id.filter(|_| at == At::SaleByClick);
        let at = if at == At::SaleByClick && click_id.is_none() {
            At::Sale
        } else {
            at
        };
        let body = SaleBody {
            customer_external_id: customer(sale.customer())?,
            amount: minor::units(sale.amount_ref())?,
            currency: sale.amount_ref().currency().to_ascii_lowercase(),
            payment_processor: &self.payment_processor,
            invoice_id: sale.order(),
            event_name: sale.action().map(event).transpose()?,
            click_id: click_id.map(ClickId::as_str),
            customer_name: name(sale.contact()),
            customer_email: sale.contact().email.as_deref(),
            metadata: metadata(&sale.details, sale.product())?,
        };
        let request = self.endpoint.post("/track/sale", &body);
        Ok(Step::send(request, Stage(at)))
    }

    /// Returns the lead of a customer whose click Dub keeps, for the first sale.
    fn sale_lead(&self, sale: &Sale) -> Result<Step<Stage>, Error> {
        let body = LeadBody {
            click_id: "",
            event_name: event(&self.lead_event)?,
            customer_external_id: customer(sale.customer())?,
            customer_name: name(sale.contact()),
            customer_email: sale.contact().email.as_deref(),
            mode: LeadMode::Wait,
            metadata: BTreeMap::new(),
        };
        let request = self.endpoint.post("/track/lead", &body);
        Ok(Step::send(request, Stage(At::SaleLead)))
    }
}

/// Reads what Dub made of a lead.
fn lead(at: At, answer: &Answer) -> Result<Receipt, Error> {
    let is_unknown = is_refused(answer, StatusCode::NOT_FOUND, "not_found")
        || at == At::KeptLead && is_refused(answer, StatusCode::BAD_REQUEST, "bad_request");
    if is_unknown {
        return Ok(Receipt::not_attributed());
    }
    let mark = answer.shows(["/customer", "/click"])?;
    let [link] = pick(answer.body(), ["link"]).unwrap_or_default();
    let receipt = match link {
        Some(link) if link.get() == "null" => Receipt::duplicate(),
        _ => Receipt::recorded(mark),
    };
    Ok(receipt.with_ids(customer_id(answer)))
}

/// Reads what Dub made of a sale.
fn sold(answer: &Answer) -> Result<Receipt, Error> {
    answer.accepted_json()?;
    let [customer, sale] = pick(answer.body(), ["customer", "sale"]).unwrap_or_default();
    let (Some(customer), Some(sale)) = (customer, sale) else {
        return Err(answer.unreadable());
    };
    if customer.get() == "null" || sale.get() == "null" {
        return Ok(Receipt::not_attributed());
    }
    answer.shows(["/customer"])?;
    let mark = answer.shows(["/sale"])?;
    Ok(Receipt::recorded(mark).with_ids(customer_id(answer)))
}

/// Returns Dub's ID of the customer.
fn customer_id(answer: &Answer) -> PlatformIds {
    let customer = pick(answer.body(), ["customer"]).and_then(|[customer]| customer);
    let id = customer.and_then(|customer| pick(customer.get().as_bytes(), ["id"]));
    PlatformIds {
        customer: id.and_then(|[id]| crate::json::id(id?)),
        ..PlatformIds::default()
    }
}

fn is_refused(answer: &Answer, status: StatusCode, code: &str) -> bool {
    let refusal = answer.refusal();
    answer.status() == status && refusal.is_some_and(|refusal| refusal.code_is(code))
}

fn is_unknown(answer: &Answer) -> bool {
    is_refused(answer, StatusCode::NOT_FOUND, "not_found")
}

fn bounded<'a>(text: &'a str, max: usize, field: &'static str) -> Result<&'a str, Error> {
    if text.chars().take(max + 1).count() > max {
        return Err(Error::Unsupported(Unsupported::Value(field)));
    }
    Ok(text)
}

fn customer(text: &str) -> Result<&str, Error> {
    bounded(text, MAX_CUSTOMER_CHARS, "customer")
}

fn event(text: &str) -> Result<&str, Error> {
    bounded(text, MAX_EVENT_CHARS, "action")
}

/// Returns the whole name.
fn name(contact: &Contact) -> Option<String> {
    let names = [contact.name.as_deref(), contact.surname.as_deref()];
    let names: Vec<_> = names.into_iter().flatten().collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn metadata<'a>(
    details: &'a Details,
    product: Option<&'a str>,
) -> Result<BTreeMap<&'a str, Value>, Error> {
    let facts = details.metadata.iter();
    let mut metadata: BTreeMap<_, _> = facts
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    if let Some(product) = product {
        metadata
            .entry("productId")
            .or_insert_with(|| product.into());
    }
    let json = serde_json::to_string(&metadata).unwrap_or_default();
    bounded(&json, MAX_METADATA_CHARS, "metadata")?;
    Ok(metadata)
}

impl ReportApi for Dub {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        let look_up = |order| {
            let request = commission::look_up(&self.endpoint, order);
            Ok(Step::send(request, Stage(At::LookUp)))
        };
        match report {
            Report::SignUp(sign_up) => self.sign_up(report, sign_up),
            Report::Sale(sale) => {
                report.refuse_fields(&TAKEN, self.leaves_out_coupons)?;
                self.sale(sale, At::SaleByClick)
            }
            Report::Refund(refund) => {
                report.refuse_fields_except(&[])?;
                look_up(refund.order())
            }
            Report::SaleUpdate(update) => {
                report.refuse_fields_except(&[])?;
                let missing = Error::Unsupported(Unsupported::MissingField("amount"));
                update.amount().ok_or(missing)?;
                look_up(update.order())
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        Stage(at): Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        match (at, report) {
            (At::Lead | At::KeptLead, _) => Ok(lead(at, answer)?.into()),
            (At::SaleByClick, Report::Sale(sale)) if is_unknown(answer) => {
                self.sale(sale, At::Sale)
            }
            (At::Sale, Report::Sale(sale))
                if is_unknown(answer) && self.lead_mode == LeadMode::Deferred =>
            {
                self.sale_lead(sale)
            }
            (At::SaleLead, Report::Sale(sale)) => {
                answer.shows(["/customer", "/click"])?;
                self.sale(sale, At::LastSale)
            }
            (At::LookUp, _) => {
                commission::change(&self.endpoint, report, answer, Stage(At::Change))
            }
            (At::Change, _) => {
                let mark = answer.shows(["/id"])?;
                Ok(Receipt::recorded(mark).into())
            }
            (At::SaleByClick | At::Sale | At::SaleLead | At::LastSale, _) => {
                Ok(sold(answer)?.into())
            }
        }
    }

    /// Leads are unique by customer and event, and sales by the order, for seven days; a whole refund,
    /// an update and a part of which it is known what is left are the same the second time. Any other
    /// part would be taken off twice.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::Refund(refund) => refund.amount().is_none() || refund.left().is_some(),
            _ => true,
        }
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/commissions?pageSize=1"))
    }
}
