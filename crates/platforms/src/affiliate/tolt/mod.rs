//! Tolt, by version 2 of its API. A sign-up needs the partner's ID, which a click's answer has, and
//! a sale needs the customer's ID, which a sign-up's answer has.

mod webhook;

use std::borrow::Cow;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower_referral::ClickId;
use tower_referral::click::{Click, ClickRequest};

pub use self::webhook::Webhook;
use crate::endpoint::{Endpoint, encoded};
use crate::json::{self, pick};
use crate::{
    Answer, BaseUrl, ClickApi, ConfigError, Error, InvalidMoney, Money, PlatformId, PlatformIds,
    Receipt, Refund, Repeat, Report, ReportApi, Sale, Step, Unsupported,
};

/// The landing parameters with the referral key. Which one a partner's links have is a setting at Tolt.
pub const PARAMS: [&str; 2] = ["ref", "via"];

/// The Tolt platform, version 2: `https://api.tolt.com`, with the API key as a bearer token.
///
/// | report | becomes |
/// |---|---|
/// | [`SignUp`](crate::SignUp) with credit | a customer of the partner; without [the partner's ID](crate::Credit::with_partner_id) a click is made first, whose answer names the partner |
/// | [`Sale`] | a transaction of the customer, whose ID comes from [the sign-up](PlatformIds::customer); where there is none, the customer is made first from the sale's credit |
/// | [`Refund`] that is whole, or makes the whole | a refund of the transaction, whose ID comes from [the sale](PlatformIds::sale); without it [`Error::MissingId`], unless [nobody was credited](crate::ReportRequest::sale_is_unrecorded) |
///
/// The shop's own customer's ID and the e-mail address are sent; names and the time of payment aren't.
/// The order is the transaction's `charge_id`, by which Tolt recognises a duplicate. Amounts are sent
/// in minor units **without a currency**: Tolt takes them to be in the program's, and
/// [`currency`](Self::currency) refuses any other.
///
/// Where a billing integration (Stripe, Paddle, Chargebee) is connected, Tolt has the sales from
/// there, and each that is reported too pays twice.
///
/// *Documented nowhere:* the host of version 2 in production, so that [`check`](crate::Client::check)
/// is worth its request at start-up; what a second sign-up of one customer answers, where a JSON 409 is
/// taken for [`Outcome::Duplicate`](crate::Outcome::Duplicate). A refund goes by version 1, which takes whole
/// ones only.
#[derive(Clone, Debug)]
pub struct Tolt {
    endpoint: Endpoint,
    param: Cow<'static, str>,
    currency: Option<Money>,
    leaves_out_coupons: bool,
}

impl Tolt {
    /// Creates Tolt, with an API key of your program.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.tolt.com";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            param: Cow::Borrowed(PARAMS[0]),
            currency: None,
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

    /// Sets the parameter of the partners' links, which Tolt wants with a click; `ref` by default. It
    /// counts where the landing's URL isn't known; where it is, the parameter is read from there.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.param = name.into();
        self
    }

    /// Sets the program's currency, in which alone amounts are reported then.
    ///
    /// # Errors
    ///
    /// The code isn't three letters.
    pub fn currency(mut self, code: impl AsRef<str>) -> Result<Self, InvalidMoney> {
        self.currency = Some(Money::from_minor(0, code)?);
        Ok(self)
    }

    /// Sends reports that have a coupon without it, for which Tolt has no place. By default a coupon is
    /// refused, so that none is lost unnoticed.
    #[must_use]
    pub fn leave_out_coupons(mut self) -> Self {
        self.leaves_out_coupons = true;
        self
    }
}

/// What a report may have: the landing's URL goes with a click, the times aren't sent.
const TAKEN: [&str; 5] = [
    "interval",
    "paid_at",
    "product",
    "referral_url",
    "signed_up_at",
];

#[derive(Serialize)]
struct ClickBody<'a> {
    param: &'a str,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<&'a str>,
}

#[derive(Serialize)]
struct CustomerBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    partner_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<&'a str>,
}

#[derive(Serialize)]
struct TransactionBody<'a> {
    customer_id: &'a str,
    amount: u64,
    charge_id: &'a str,
    billing_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<&'a str>,
    source: &'static str,
}

impl ClickApi for Tolt {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let referrer = click.referrer();
        self.click(click.key().as_str(), Some(click.landing_url()), referrer)
    }

    /// A click's answer has the partner's ID too, which the sign-up needs. Where it is longer than a
    /// click can have, the sign-up asks for it.
    fn read_click(&self, answer: &Answer) -> Result<Click, Error> {
        answer.accepted()?;
        let id = |name| id_in_data(answer, name)?.as_str().parse::<ClickId>().ok();
        let click = Click::new(id("id").ok_or_else(|| answer.unreadable())?);
        Ok(click.with_partner_id(id("partner_id")))
    }
}

/// Where the ID is of what was made: `data` is an object, or a list of one.
const MADE: [&str; 2] = ["/data/id", "/data/0/id"];

/// Where an exchange with Tolt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A click was made, because the partner's ID isn't known.
    Click,
    /// The customer was sent, with a click ID,
    Customer,
    /// or without one.
    CustomerWithoutClick,
    Transaction,
    Refund,
}

impl Tolt {
    fn click(&self, key: &str, page: Option<&str>, referrer: Option<&str>) -> Request<Bytes> {
        let param = page.and_then(|page| param_of(page, key));
        let body = ClickBody {
            param: param.as_deref().unwrap_or(&self.param),
            value: key,
            page,
            referrer,
        };
        self.endpoint.post("/v2/clicks", &body)
    }

    /// Returns what makes the customer of a sign-up or a sale: the customer itself, or a click before
    /// it.
    fn customer(
        &self,
        report: &Report,
        ids: &PlatformIds,
        with_click: bool,
    ) -> Result<Step<Stage>, Error> {
        let Some(details) = report.details() else {
            return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
        };
        let Some(credit) = details.credit() else {
            return Ok(Receipt::not_attributed().into());
        };
        let Some(partner) = credit.partner_id().or(ids.partner.as_ref()) else {
            // Without the partner's ID and without a key, there is no way to the partner.
            let missing = Error::Unsupported(Unsupported::MissingField("partner_id"));
            let key = credit.key().ok_or(missing)?;
            let mut request = self.click(key.as_str(), details.referral_url.as_deref(), None);
            // Nothing is credited yet, and a second click earns nobody anything.
            request.extensions_mut().insert(Repeat::Safe);
            return Ok(Step::send(request, Stage(At::Click)));
        };
        let click = credit.click_id().map(ClickId::as_str);
        let click = click.or(ids.click.as_ref().map(PlatformId::as_str));
        let click = click.filter(|_| with_click);
        let body = CustomerBody {
            customer_id: report.customer(),
            email: details.contact.email.as_deref(),
            partner_id: partner.as_str(),
            click_id: click,
        };
        let mut request = self.endpoint.post("/v2/customers", &body);
        if let Report::Sale(_) = report {
            // Nothing is sold yet, and customers are unique.
            request.extensions_mut().insert(Repeat::Safe);
        }
        let at = match click {
            Some(_) => At::Customer,
            None => At::CustomerWithoutClick,
        };
        Ok(Step::send(request, Stage(at)))
    }

    /// Returns the sale's amount in minor units, if Tolt can take the sale.
    fn amount_of(&self, sale: &Sale) -> Result<u64, Error> {
        let wrong = |field| Error::Unsupported(Unsupported::Value(field));
        let amount = sale.amount();
        let is_other = |currency: &Money| currency.currency() != amount.currency();
        if self.currency.as_ref().is_some_and(is_other) {
            return Err(wrong("currency"));
        }
        let mut interval = sale.interval().into_iter();
        if interval.any(|interval| !["month", "year"].contains(&interval)) {
            return Err(wrong("interval"));
        }
        amount.to_minor().ok_or_else(|| wrong("amount"))
    }

    fn transaction(&self, sale: &Sale, customer: &PlatformId) -> Result<Step<Stage>, Error> {
        let body = TransactionBody {
            customer_id: customer.as_str(),
            amount: self.amount_of(sale)?,
            charge_id: sale.order(),
            billing_type: if sale.is_subscription() {
                "subscription"
            } else {
                "one_time"
            },
            interval: sale.interval(),
            product_id: sale.product(),
            source: "api",
        };
        let request = self.endpoint.post("/v2/transactions", &body);
        Ok(Step::send(request, Stage(At::Transaction)))
    }

    fn refund(&self, refund: &Refund, ids: &PlatformIds) -> Result<Step<Stage>, Error> {
        if !refund.completes_whole() {
            return Err(Error::Unsupported(Unsupported::PartialRefund));
        }
        let sale = ids.sale.as_ref().ok_or(Error::MissingId("sale"))?;
        let path = format!("/v1/transactions/{}/refund", encoded(sale.as_str()));
        Ok(Step::send(self.endpoint.put(&path), Stage(At::Refund)))
    }

    /// Takes in the answer to a click that was made for its partner's ID.
    fn clicked(
        &self,
        report: &Report,
        ids: &PlatformIds,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let is_unknown = answer.refusal().is_some_and(|refusal| {
            refusal.code_is("not_found") || refusal.code_is("invalid_reference")
        });
        if is_unknown {
            return Ok(Receipt::not_attributed().into());
        }
        let click = self.read_click(answer)?;
        let partner = id_in_data(answer, "partner_id").ok_or_else(|| answer.unreadable())?;
        let new = PlatformIds {
            click: PlatformId::new(click.id().as_str()),
            partner: Some(partner),
            ..PlatformIds::default()
        };
        let ids = new.clone().or(ids);
        Ok(self.customer(report, &ids, true)?.with_ids(new))
    }

    /// Takes in the answer to a customer.
    fn introduced(
        &self,
        report: &Report,
        ids: &PlatformIds,
        with_click: bool,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let refusal = answer.refusal();
        if refusal.is_some_and(|refusal| refusal.code_is("invalid_reference")) {
            let fields = invalid_fields(answer);
            let is_about = |name| fields.iter().any(|field| field == name);
            if with_click && !is_about("partner_id") {
                return self.customer(report, ids, false);
            }
            return Ok(Receipt::not_attributed().into());
        }
        let new = PlatformIds {
            customer: id_in_data(answer, "id"),
            ..PlatformIds::default()
        };
        let receipt = if answer.is_conflict() {
            Receipt::duplicate()
        } else {
            Receipt::recorded(answer.shows(MADE)?)
        };
        match (report, &new.customer) {
            (Report::Sale(sale), Some(customer)) => {
                Ok(self.transaction(sale, customer)?.with_ids(new))
            }
            (Report::Sale(_), None) => Err(Error::MissingId("customer")),
            _ => Ok(receipt.with_ids(new).into()),
        }
    }
}

/// Returns the parameter of the landing's URL that carried the key.
fn param_of<'a>(url: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (name, _) = pairs.find(|(_, value)| percent_decode_str(value).eq(key.bytes()))?;
    percent_decode_str(name).decode_utf8().ok()
}

/// Returns the ID of this name under `data`, which is an object, or a list of one as in version 1.
fn id_in_data(answer: &Answer, name: &str) -> Option<PlatformId> {
    let [data] = pick(answer.body(), ["data"])?;
    let data = data?;
    let list = serde_json::from_str::<Vec<&RawValue>>(data.get());
    let object = list.map_or(Some(data), |list| list.first().copied())?;
    let [id] = pick(object.get().as_bytes(), [name])?;
    json::id(id?)
}

/// Returns the fields that a refusal names in `errors`, a list of `{"field", "message"}`.
fn invalid_fields(answer: &Answer) -> Vec<String> {
    #[derive(Deserialize)]
    struct Named {
        field: String,
    }
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Named>,
    }
    let errors = serde_json::from_slice::<Errors>(answer.body());
    let fields = errors.map(|errors| errors.errors).unwrap_or_default();
    fields.into_iter().map(|named| named.field).collect()
}

impl ReportApi for Tolt {
    type Stage = Stage;

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Stage>, Error> {
        report.refuse_fields(&TAKEN, self.leaves_out_coupons)?;
        match report {
            Report::SignUp(_) => self.customer(report, ids, true),
            Report::Sale(sale) => {
                self.amount_of(sale)?; // before a customer is made for it
                match &ids.customer {
                    Some(customer) => self.transaction(sale, customer),
                    None => self.customer(report, ids, true),
                }
            }
            Report::Refund(refund) => self.refund(refund, ids),
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        report: &Report,
        ids: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        match stage.0 {
            At::Click => self.clicked(report, ids, answer),
            At::Customer => self.introduced(report, ids, true, answer),
            At::CustomerWithoutClick => self.introduced(report, ids, false, answer),
            At::Transaction => {
                let receipt = if answer.is_conflict() {
                    Receipt::duplicate()
                } else {
                    Receipt::recorded(answer.shows(MADE)?)
                };
                // Without it, a refund finds no way to the sale.
                let ids = PlatformIds {
                    sale: id_in_data(answer, "id"),
                    ..PlatformIds::default()
                };
                Ok(receipt.with_ids(ids).into())
            }
            // It is no longer there.
            At::Refund if answer.is_not_found() => Ok(Receipt::not_attributed().into()),
            At::Refund => {
                let mark = answer.shows(MADE)?;
                Ok(Receipt::recorded(mark).into())
            }
        }
    }

    /// Transactions are unique by `charge_id`, customers by their ID, and a whole refund twice is one.
    fn deduplicates(&self, _: &Report) -> bool {
        true
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/v2/partners?limit=1"))
    }
}
