//! Affonso. A sign-up needs a click, which is made at its delivery where none came with it; a refund
//! goes by the ID that Affonso gave the sale.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use serde::Serialize;
use tower_referral::click::{Click, ClickRequest};
use tower_referral::{ClickId, ReferralKey};

use crate::endpoint::{Endpoint, encoded};
use crate::json::Number;
use crate::{
    Answer, BaseUrl, ClickApi, ConfigError, Error, PlatformId, PlatformIds, Receipt, Refund,
    Repeat, Report, ReportApi, Sale, SignUp, Step, Unsupported,
};

/// The landing parameters with the partner's tracking ID: Affonso's own one, and two that programs
/// are often set to.
pub const PARAMS: [&str; 3] = ["atp", "via", "ref"];

/// What reports may have. Affonso takes times from its own clock.
const TAKEN: [&str; 6] = [
    "ip",
    "user_agent",
    "product",
    "interval",
    "paid_at",
    "signed_up_at",
];

/// The Affonso platform: `https://api.affonso.io/v1`, with the API key as a bearer token. The referral
/// key is the partner's tracking ID.
///
/// A sign-up needs a click. If none came with the visitor, or Affonso refuses it, one is made from the
/// key when the sign-up is delivered; its ID is among the [`PlatformIds`], so that a later attempt
/// uses the same. Should nobody know whether that call arrived, it is made again: a click that nothing
/// follows earns nobody anything.
///
/// A sale is credited by one thing: by its click ID; by its customer, whom Affonso knows from the
/// sign-up; by a click that is made from the key. If one is refused (400, 404, 422), the next one is
/// tried, because the order is its `external_event_id`, of which Affonso keeps the first. A guest's
/// sale isn't credited by the customer.
///
/// A refund needs the ID that Affonso gave the sale ([`PlatformIds::sale`], which a queue hands on),
/// and an amount even where it is whole: [`Refund::with_sale_amount`]. Its `external_event_id` is its
/// [`Report::id`]: the provider's ID of a refund may be that of two orders, of which Affonso would take
/// the second for a duplicate. Without that ID of the sale it is [`Error::MissingId`], for a person to
/// look at, unless [nobody was credited](crate::ReportRequest::sale_is_unrecorded).
///
/// E-mail address and name go with a sign-up, where they are set; IP address and browser with a click
/// that is made at delivery. Times aren't sent, and what else a report may have is refused; so is a
/// coupon, unless [`leave_out_coupons`](Self::leave_out_coupons) says otherwise.
///
/// *Documented nowhere:* what an unknown customer, click or tracking ID is answered with. A JSON 404
/// to a sale that only its customer could credit is read as
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed); every other
/// refusal that stays is a permanent failure, for a person to look at. *Assumed:* intervals are
/// written `monthly`, `yearly`, `weekly`, `daily`; any other is sent as it is.
#[derive(Clone, Debug)]
pub struct Affonso {
    endpoint: Endpoint,
    program_id: String,
    leaves_out_coupons: bool,
}

impl Affonso {
    /// Creates Affonso, with an API key and the ID of the program.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header, or the program's ID is empty.
    pub fn new(
        api_key: impl AsRef<str>,
        program_id: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let base_url = "https://api.affonso.io/v1";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        let program_id = program_id.into();
        if PlatformId::new(&program_id).is_none() {
            return Err(ConfigError::InvalidSetting {
                name: "program's ID",
            });
        }
        Ok(Self {
            endpoint,
            program_id,
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

    /// Sends reports that have a coupon without it, for which Affonso has no place. By default a
    /// coupon is refused, so that none is lost unnoticed.
    #[must_use]
    pub fn leave_out_coupons(mut self) -> Self {
        self.leaves_out_coupons = true;
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClickBody<'a> {
    program_id: &'a str,
    tracking_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<std::net::IpAddr>,
}

impl ClickApi for Affonso {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = ClickBody {
            program_id: &self.program_id,
            tracking_id: click.key().as_str(),
            referrer: click.referrer(),
            user_agent: click.user_agent(),
            ip: click.ip(),
        };
        self.endpoint.post("/clicks", &body)
    }

    fn read_click(&self, answer: &Answer) -> Result<Click, Error> {
        answer.accepted()?;
        answer.click(["id"])
    }
}

#[derive(Serialize)]
struct SignUpBody<'a> {
    click_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize)]
struct ConversionBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_user_id: Option<&'a str>,
    sale_amount: Number,
    sale_amount_currency: &'a str,
    external_event_id: &'a str,
    sales_status: &'a str,
    is_subscription: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_ids: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
struct RefundBody<'a> {
    external_event_id: &'a str,
    amount: Number,
    currency: &'a str,
}

/// Where an exchange with Affonso is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A sign-up or a sale was sent, credited by this.
    Told(By),
    /// A click was made for it.
    Click,
    Refund,
}

/// By what a report is credited, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// By the click ID that came with the visitor,
    Click,
    /// by the customer, whom Affonso may know,
    Customer,
    /// by a click that was made from the key.
    MadeClick,
}

impl By {
    const ALL: [Self; 3] = [Self::Click, Self::Customer, Self::MadeClick];
}

impl Affonso {
    /// Returns the report, credited by the first of what it has from `first` on, or `None`.
    fn tell(
        &self,
        report: &Report,
        ids: &PlatformIds,
        first: By,
    ) -> Result<Option<Step<Stage>>, Error> {
        let credit = report.credit();
        for by in By::ALL.into_iter().filter(|by| *by >= first) {
            let click_id = match by {
                By::Click => {
                    let own = credit.and_then(|credit| credit.click_id());
                    match own.map(ClickId::as_str) {
                        Some(click_id) => Some(click_id),
                        None => continue,
                    }
                }
                By::Customer => match report {
                    Report::Sale(sale) if !sale.is_guest() => None,
                    _ => continue,
                },
                By::MadeClick => {
                    let Some(key) = credit.and_then(|credit| credit.key()) else {
                        continue;
                    };
                    match &ids.click {
                        Some(click_id) => Some(click_id.as_str()),
                        None => return Ok(Some(self.make_click(report, key))),
                    }
                }
            };
            let request = match report {
                Report::SignUp(sign_up) => self.sign_up(sign_up, click_id.unwrap_or_default()),
                Report::Sale(sale) => self.sale(sale, click_id),
                _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
            };
            return Ok(Some(Step::send(request, Stage(At::Told(by)))));
        }
        Ok(None)
    }

    fn make_click(&self, report: &Report, key: &ReferralKey) -> Step<Stage> {
        let details = report.details();
        let body = ClickBody {
            program_id: &self.program_id,
            tracking_id: key.as_str(),
            referrer: None,
            user_agent: details.and_then(|details| details.user_agent.as_deref()),
            ip: details.and_then(|details| details.ip),
        };
        let mut request = self.endpoint.post("/clicks", &body);
        request.extensions_mut().insert(Repeat::Safe);
        Step::send(request, Stage(At::Click))
    }

    fn sign_up(&self, sign_up: &SignUp, click_id: &str) -> Request<Bytes> {
        let contact = sign_up.contact();
        let names = [contact.name.as_deref(), contact.surname.as_deref()];
        let names: Vec<_> = names.into_iter().flatten().collect();
        let body = SignUpBody {
            click_id,
            email: contact.email.as_deref(),
            external_user_id: sign_up.customer(),
            name: (!names.is_empty()).then(|| names.join(" ")),
        };
        self.endpoint.post("/signups", &body)
    }

    fn sale(&self, sale: &Sale, click_id: Option<&str>) -> Request<Bytes> {
        let amount = sale.amount();
        let customer = sale.customer();
        let body = ConversionBody {
            click_id,
            external_user_id: click_id.is_none().then_some(customer),
            sale_amount: Number(amount),
            sale_amount_currency: amount.currency(),
            external_event_id: sale.order(),
            sales_status: "complete",
            is_subscription: sale.is_subscription(),
            interval: sale.interval().map(interval),
            product_ids: sale.product().map(|product| [product]),
        };
        self.endpoint.post("/conversions", &body)
    }

    fn refund(
        &self,
        report: &Report,
        refund: &Refund,
        ids: &PlatformIds,
    ) -> Result<Step<Stage>, Error> {
        let sale = ids.sale.as_ref().ok_or(Error::MissingId("sale"))?;
        let missing = Error::Unsupported(Unsupported::MissingField("sale_amount"));
        let amount = refund.known_amount().ok_or(missing)?;
        let body = RefundBody {
            external_event_id: &report.id(),
            amount: Number(amount),
            currency: amount.currency(),
        };
        let path = format!("/conversions/{}/refund", encoded(sale.as_str()));
        let request = self.endpoint.post(&path, &body);
        Ok(Step::send(request, Stage(At::Refund)))
    }

    /// Reads what Affonso made of a sign-up or a sale, or tries what else could credit it.
    fn told(
        &self,
        report: &Report,
        ids: &PlatformIds,
        by: By,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let is_sign_up = matches!(report, Report::SignUp(_));
        let receipt = match answer.shows(["/data/conversion_id", "/data/id"]) {
            // A sign-up that is new is answered with 201.
            Ok(_) if is_sign_up && answer.status() == StatusCode::OK => Ok(Receipt::duplicate()),
            Ok(mark) => Ok(Receipt::recorded(mark)),
            Err(_) if answer.is_conflict() => Ok(Receipt::duplicate()),
            Err(error) => Err(error),
        };
        let error = match receipt {
            Ok(receipt) => {
                let mut given = PlatformIds::default();
                match report {
                    Report::SignUp(_) => given.customer = answer.id(["id"]),
                    _ => given.sale = answer.id(["conversion_id", "id"]),
                }
                return Ok(receipt.with_ids(given).into());
            }
            Err(error) => error,
        };
        let refusal = answer.refusal().map(|refusal| refusal.status().as_u16());
        if !matches!(refusal, Some(400 | 404 | 422)) {
            return Err(error);
        }
        let next = By::ALL.into_iter().find(|next| *next > by);
        if let Some(next) = next
            && let Some(step) = self.tell(report, ids, next)?
        {
            return Ok(step);
        }
        if by == By::Customer && answer.is_not_found() && report.credit().is_none() {
            return Ok(Receipt::not_attributed().into());
        }
        Err(error)
    }
}

/// Returns how Affonso writes an interval.
fn interval(interval: &str) -> &str {
    match interval {
        "day" => "daily",
        "week" => "weekly",
        "month" => "monthly",
        "year" => "yearly",
        other => other,
    }
}

impl ReportApi for Affonso {
    type Stage = Stage;

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Stage>, Error> {
        match report {
            Report::SignUp(_) | Report::Sale(_) => match self.tell(report, ids, By::Click)? {
                Some(step) => {
                    report.refuse_fields(&TAKEN, self.leaves_out_coupons)?;
                    Ok(step)
                }
                None => Ok(Receipt::not_attributed().into()),
            },
            Report::Refund(refund) => {
                report.refuse_fields_except(&[])?;
                self.refund(report, refund, ids)
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn next(
        &self,
        report: &Report,
        ids: &PlatformIds,
        Stage(at): Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        match at {
            At::Told(by) => self.told(report, ids, by, answer),
            At::Click => {
                let click = self.read_click(answer)?;
                let made = PlatformIds {
                    click: PlatformId::new(click.id().as_str()),
                    ..PlatformIds::default()
                };
                let step = self.tell(report, &made, By::MadeClick)?;
                let step = step.ok_or_else(|| answer.unreadable())?;
                Ok(step.with_ids(made))
            }
            At::Refund if answer.is_conflict() => Ok(Receipt::duplicate().into()),
            At::Refund => {
                let mark = answer.shows(["/data/refund_id", "/data/id"])?;
                let ids = PlatformIds {
                    refund: mark.id(),
                    ..PlatformIds::default()
                };
                Ok(Receipt::recorded(mark).with_ids(ids).into())
            }
        }
    }

    /// Sign-ups, sales and refunds are all unique by our IDs.
    fn deduplicates(&self, _: &Report) -> bool {
        true
    }
}
