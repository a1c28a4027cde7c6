//! FirstPromoter, by version 2 of its tracking API. It makes no clicks from a server, and it knows
//! customers by the shop's own ID, so that sales and refunds need no ID of its own.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower_referral::{ClickId, ReferralKey};

use crate::answer::is_something;
use crate::endpoint::Endpoint;
use crate::json::{self, pick};
use crate::{
    Answer, BaseUrl, Cancellation, ConfigError, Error, Money, PlatformId, PlatformIds, Receipt,
    Refund, Report, ReportApi, Sale, SignUp, Step, Unsupported,
};

/// The landing parameters with the referral key.
pub const PARAMS: [&str; 3] = ["fpr", "via", "ref"];

const ACCOUNT_ID: HeaderName = HeaderName::from_static("account-id");

/// The FirstPromoter platform, version 2: `https://api.firstpromoter.com/api/v2/track`, with the API
/// key as a bearer token and the account's ID in `Account-ID`.
///
/// | report | becomes |
/// |---|---|
/// | [`SignUp`] with credit | a lead of the promoter whose `ref_id` is the referral key; a click ID is sent as `tid`, the visitor's ID in the cookie of FirstPromoter's script, and gives way to the key if it is refused |
/// | [`SignUp`] without credit | nothing |
/// | [`Sale`] | a sale under the order's ID, whoever is credited: FirstPromoter finds the lead by the customer |
/// | [`Refund`] | a refund of the sale; it needs [the customer](Refund::with_customer), and for a whole one [the sale's amount](Refund::with_sale_amount) |
/// | [`Cancellation`] | the end of the lead's subscription |
///
/// The customer's ID is sent as `uid`, beside the e-mail address where there is one. Amounts are sent
/// in minor units and should be [without taxes](Sale). A coupon of a sale is its `promo_code`, the
/// product its `plan`. Names, the time of payment and a subscription's interval aren't sent.
///
/// FirstPromoter takes 400 requests a minute; a 429 pauses the queue. It recognises duplicates of
/// everything: a lead that has signed up by a 422, an event's ID by a 409.
///
/// A success has the ID of the event that it made, or, of a sign-up, that of the lead. A 404 says that
/// nobody referred the customer, as most aren't:
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed).
///
/// *Documented nowhere:* whether a sale and a refund may have the same event's ID. They never do here:
/// that of a refund is its [`Report::id`].
#[derive(Clone)]
pub struct FirstPromoter {
    endpoint: Endpoint,
    account_id: HeaderValue,
}

impl FirstPromoter {
    /// Creates FirstPromoter, with an API key and the ID of your account.
    ///
    /// # Errors
    ///
    /// One of them is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>, account_id: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.firstpromoter.com/api/v2/track";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        let account_id = account_id.as_ref();
        let is_id = !account_id.is_empty() && account_id.bytes().all(|b| b.is_ascii_graphic());
        match HeaderValue::from_str(account_id) {
            Ok(account_id) if is_id => Ok(Self {
                endpoint,
                account_id,
            }),
            _ => Err(ConfigError::InvalidSetting { name: "account ID" }),
        }
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
}

/// Shows neither the API key nor the account.
impl fmt::Debug for FirstPromoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstPromoter")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The customer: by the shop's ID, by e-mail address, or both.
#[derive(Serialize)]
struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

impl<'a> Person<'a> {
    /// A shop may know its customers by nothing but their e-mail address.
    fn new(customer: Option<&'a str>, email: Option<&'a str>) -> Self {
        Self {
            uid: customer,
            email: email.or(customer.filter(|customer| customer.contains('@'))),
        }
    }
}

#[derive(Serialize)]
struct SignUpBody<'a> {
    #[serde(flatten)]
    person: Person<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ref_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

#[derive(Serialize)]
struct SaleBody<'a> {
    event_id: &'a str,
    amount: u64,
    currency: &'a str,
    #[serde(flatten)]
    person: Person<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ref_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promo_code: Option<&'a str>,
}

#[derive(Serialize)]
struct RefundBody<'a> {
    event_id: &'a str,
    amount: u64,
    #[serde(flatten)]
    person: Person<'a>,
    sale_event_id: &'a str,
}

/// Where an exchange with FirstPromoter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A sign-up was sent, credited by the visitor's ID,
    SignUpByVisitor,
    /// or by the referral key.
    SignUpByKey,
    Sale,
    Refund,
    Cancellation,
}

impl FirstPromoter {
    fn post(&self, path: &str, body: &impl Serialize) -> Request<Bytes> {
        let mut request = self.endpoint.post(path, body);
        let account_id = self.account_id.clone();
        request.headers_mut().insert(ACCOUNT_ID, account_id);
        request
    }

    /// Returns the sign-up, credited by the visitor's ID where there is one and that is wanted.
    fn sign_up(&self, sign_up: &SignUp, by_visitor: bool) -> Step<Stage> {
        let credit = sign_up.credit();
        let visitor = credit.and_then(|credit| credit.click_id());
        let visitor = visitor.filter(|_| by_visitor).map(ClickId::as_str);
        let key = credit.and_then(|credit| credit.key());
        let key = key.filter(|_| visitor.is_none()).map(ReferralKey::as_str);
        let at = match (visitor, key) {
            (Some(_), _) => At::SignUpByVisitor,
            (None, Some(_)) => At::SignUpByKey,
            (None, None) => return Receipt::not_attributed().into(),
        };
        let body = SignUpBody {
            person: Person::new(sign_up.customer(), sign_up.contact().email.as_deref()),
            tid: visitor,
            ref_id: key,
            ip: sign_up.ip(),
            created_at: sign_up.signed_up_at().and_then(rfc3339),
        };
        Step::send(self.post("/signup", &body), Stage(at))
    }

    fn sale(&self, sale: &Sale) -> Result<Step<Stage>, Error> {
        if sale.order().starts_with("refund:") {
            // A refund's event would be taken for it.
            return Err(Error::Unsupported(Unsupported::Value("order")));
        }
        let key = sale.credit().and_then(|credit| credit.key());
        let amount = sale.amount();
        let body = SaleBody {
            event_id: sale.order(),
            amount: minor(amount)?,
            currency: amount.currency(),
            person: Person::new(Some(sale.customer()), sale.contact().email.as_deref()),
            ref_id: key.map(ReferralKey::as_str),
            plan: sale.product(),
            promo_code: sale.coupon(),
        };
        Ok(Step::send(self.post("/sale", &body), Stage(At::Sale)))
    }

    fn refund(&self, report: &Report, refund: &Refund) -> Result<Step<Stage>, Error> {
        let missing = |field| Error::Unsupported(Unsupported::MissingField(field));
        let customer = refund.customer().ok_or_else(|| missing("customer"))?;
        let amount = refund.known_amount();
        let amount = amount.ok_or_else(|| missing("sale_amount"))?;
        let body = RefundBody {
            event_id: &report.id(),
            amount: minor(amount)?,
            person: Person::new(Some(customer), None),
            sale_event_id: refund.order(),
        };
        Ok(Step::send(self.post("/refund", &body), Stage(At::Refund)))
    }

    fn cancellation(&self, end: &Cancellation) -> Step<Stage> {
        let body = Person::new(Some(end.customer()), end.contact().email.as_deref());
        Step::send(self.post("/cancellation", &body), Stage(At::Cancellation))
    }
}

fn minor(amount: Money) -> Result<u64, Error> {
    let unknown = Error::Unsupported(Unsupported::Value("amount"));
    amount.to_minor().ok_or(unknown)
}

fn rfc3339(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

/// Returns `true` for the 422 of a lead that has signed up already. One that finds fault with fields
/// is another.
fn has_signed_up(answer: &Answer) -> bool {
    let names_fields = pick(answer.body(), ["errors"])
        .is_some_and(|[errors]| errors.is_some_and(|errors| is_something(errors.get())));
    answer.status() == StatusCode::UNPROCESSABLE_ENTITY
        && answer.refusal().is_some()
        && !names_fields
}

/// Returns the ID of the lead, under `referral` or `lead`.
fn lead_of(answer: &Answer) -> Option<PlatformId> {
    let leads = pick(answer.body(), ["referral", "lead"])?;
    let mut leads = leads.into_iter().flatten();
    leads.find_map(|lead| {
        let [id] = pick(lead.get().as_bytes(), ["id"])?;
        json::id(id?)
    })
}

impl ReportApi for FirstPromoter {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        let taken: &[&str] = match report {
            Report::SignUp(_) => &["ip", "signed_up_at"],
            Report::Sale(_) => &["coupon", "product", "interval", "paid_at"],
            _ => &[],
        };
        report.refuse_fields_except(taken)?;
        match report {
            Report::SignUp(sign_up) => Ok(self.sign_up(sign_up, true)),
            Report::Sale(sale) => self.sale(sale),
            Report::Refund(refund) => self.refund(report, refund),
            Report::Cancellation(end) => Ok(self.cancellation(end)),
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        if answer.is_not_found() {
            return match (stage.0, report) {
                (At::SignUpByVisitor, Report::SignUp(sign_up)) => Ok(self.sign_up(sign_up, false)),
                _ => Ok(Receipt::not_attributed().into()),
            };
        }
        let mut ids = PlatformIds::default();
        let mark = match stage.0 {
            At::SignUpByVisitor | At::SignUpByKey => {
                if has_signed_up(answer) {
                    return Ok(Receipt::duplicate().into());
                }
                let mark = answer.shows(["/id", "/referral/id", "/lead/id"])?;
                ids.customer = lead_of(answer);
                mark
            }
            At::Sale | At::Refund if answer.is_conflict() => return Ok(Receipt::duplicate().into()),
            At::Sale => {
                let mark = answer.shows(["/id"])?;
                ids.sale = mark.id();
                mark
            }
            At::Refund => {
                if answer.status() == StatusCode::NO_CONTENT {
                    // There is nothing to take back.
                    return Ok(Receipt::not_attributed().into());
                }
                let mark = answer.shows(["/id"])?;
                ids.refund = mark.id();
                mark
            }
            At::Cancellation => answer.shows(["/id"])?,
        };
        Ok(Receipt::recorded(mark).with_ids(ids).into())
    }

    /// Leads are unique by the customer, sales and refunds by their event's ID, and a cancellation
    /// twice is one.
    fn deduplicates(&self, _: &Report) -> bool {
        true
    }
}
