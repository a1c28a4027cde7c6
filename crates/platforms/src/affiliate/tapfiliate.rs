//! Tapfiliate. Every path ends in a slash, and the API key goes into a header of its own. It has no
//! refunds: a conversion is found by the order, and deleted or lowered.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use serde::Serialize;
use serde_json::Value;
use tower_referral::{ClickId, ClickRequest, ReferralKey};

use crate::endpoint::{Endpoint, encoded};
use crate::json::{Number, list_in};
use crate::report::Details;
use crate::{
    Answer, ClickApi, Client, ConfigError, CreatedClick, Error, ListedConversion, Money, Outcome,
    Pages, PlatformIds, Receipt, Refund, Report, ReportApi, Step, Transport, Unsupported,
};

/// The Tapfiliate platform: `https://api.tapfiliate.com/1.6`, with the API key in `X-Api-Key`.
///
/// A sign-up is a customer, a sale a conversion whose `external_id` is the order and whose
/// `customer_id` is always sent, by which Tapfiliate ties a payment to its customer. Each is
/// credited by one more thing: by the click ID; if there is none or it is refused, by the referral
/// key; then by the coupon. E-mail addresses and names aren't sent.
///
/// A refund is looked up by the order. All of it deletes the conversion; a part of it lowers the
/// amount and has commissions worked out again, for which there must be no other refund of the order
/// under way at the same time ([`Report::sequence_key`]), and of which a duplicate isn't detected.
///
/// *Documented nowhere:* the status of a duplicate and of a click ID that is refused. After a 400,
/// 404, 409 or 422 to a conversion its list is asked for the order: there it is a duplicate; not
/// there, the conversion is sent once more without the click ID, by key, then by coupon. A refusal
/// that stays is a permanent failure, for a person to look at.
#[derive(Clone, Debug)]
pub struct Tapfiliate {
    endpoint: Endpoint,
}

impl Tapfiliate {
    /// Creates Tapfiliate, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let header = HeaderName::from_static("x-api-key");
        let base_url = "https://api.tapfiliate.com/1.6";
        let endpoint = Endpoint::new(base_url, header, "", api_key.as_ref())?;
        Ok(Self { endpoint })
    }

    /// Sets another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The URL isn't `https`, nor plain `http` to this machine.
    pub fn base_url(self, url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url.as_ref())?;
        Ok(Self { endpoint })
    }
}

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
            referral_code: click.key.as_str(),
            landing_page: &click.landing_url,
            referrer: click.referrer.as_deref(),
            user_agent: click.user_agent.as_deref(),
            ip: click.ip,
        };
        self.endpoint.post("/clicks/", &body)
    }

    fn read_click(&self, answer: &Answer) -> Result<CreatedClick, Error> {
        answer.accepted()?;
        CreatedClick::read(answer, ["id"])
    }
}

/// By what a report is credited. In this order, which is that of the documentation: the surest
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Click,
    Key,
    Coupon,
    /// A sale by its customer, whom Tapfiliate may know.
    Customer,
}

impl By {
    const ALL: [Self; 4] = [Self::Click, Self::Key, Self::Coupon, Self::Customer];
}

/// The one thing by which a report is credited.
#[derive(Default, Serialize)]
struct CreditBody<'a> {
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
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta_data: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct AmountBody {
    amount: Number,
}

/// Where an exchange with Tapfiliate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// A customer or a conversion was sent, credited by this.
    Told(By),
    /// It was refused with this error, and the list is asked whether the order is there.
    Refused(By, Error),
    /// The order's conversion was asked for.
    LookedUp,
    /// The conversion was deleted or lowered.
    TakenBack,
}

impl Tapfiliate {
    /// Returns the report, credited by the first of what it has from `first` on.
    fn tell(&self, report: &Report, first: By) -> Result<Step<Stage>, Error> {
        let mut rest = By::ALL.iter().filter(|by| **by >= first);
        let Some((by, credit)) = rest.find_map(|by| Some((*by, CreditBody::by(*by, report)?)))
        else {
            return Ok(Outcome::NotAttributed.into());
        };
        let request = match report {
            Report::SignUp(sign_up) => {
                refuse_fields(&sign_up.details)?;
                let missing = Error::Unsupported(Unsupported::MissingField("customer"));
                let body = CustomerBody {
                    customer_id: sign_up.customer().ok_or(missing)?,
                    credit,
                    meta_data: sign_up.metadata(),
                };
                self.endpoint.post("/customers/", &body)
            }
            Report::Sale(sale) => {
                refuse_fields(&sale.details)?;
                let amount = sale.amount();
                let body = ConversionBody {
                    external_id: sale.order(),
                    amount: Number(amount),
                    currency: amount.currency(),
                    customer_id: sale.customer(),
                    credit,
                    commission_type: sale.commission_type(),
                    meta_data: sale.metadata(),
                };
                self.endpoint.post("/conversions/", &body)
            }
            _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        };
        Ok(Step::send(request, Stage(At::Told(by))))
    }

    fn told(&self, report: &Report, by: By, answer: &Answer) -> Result<Step<Stage>, Error> {
        let Err(error) = answer.accepted_json() else {
            let id = answer.id(["id"]);
            let ids = match report {
                Report::SignUp(_) => PlatformIds {
                    customer: id,
                    ..PlatformIds::default()
                },
                _ => PlatformIds {
                    sale: id,
                    ..PlatformIds::default()
                },
            };
            return Ok(Receipt::new(Outcome::Recorded).with_ids(ids).into());
        };
        let refusal = answer.refusal().map(|refusal| refusal.status().as_u16());
        if !matches!(refusal, Some(400 | 404 | 409 | 422)) {
            return Err(error);
        }
        match report {
            Report::Sale(sale) => {
                let request = self.look_up(sale.order());
                Ok(Step::send(request, Stage(At::Refused(by, error))))
            }
            _ if answer.is_conflict() => Ok(Outcome::Duplicate.into()),
            _ => self.tell_next(report, by, error),
        }
    }

    /// Credits the report by the next of what it has, or fails with what the platform said.
    fn tell_next(&self, report: &Report, by: By, error: Error) -> Result<Step<Stage>, Error> {
        let next = By::ALL.iter().find(|next| **next > by);
        match next.map(|next| self.tell(report, *next)) {
            Some(Ok(step @ Step::Send { .. })) => Ok(step),
            _ => Err(error),
        }
    }

    fn look_up(&self, order: &str) -> Request<Bytes> {
        let path = format!("/conversions/?external_id={}", encoded(order));
        self.endpoint.get(&path)
    }

    fn take_back(&self, refund: &Refund, answer: &Answer) -> Result<Step<Stage>, Error> {
        // It was credited to nobody, or taken back before.
        let Some(conversion) = conversion_of(refund.order(), answer)? else {
            return Ok(Outcome::NotAttributed.into());
        };
        let id = conversion.id().ok_or_else(|| answer.unreadable())?;
        let path = format!("/conversions/{}/", encoded(id));
        let left = match refund.amount() {
            None => None,
            Some(amount) => {
                let is_other = |currency: &str| !currency.eq_ignore_ascii_case(amount.currency());
                if conversion.currency().is_some_and(is_other) {
                    return Err(Error::Unsupported(Unsupported::RefundInOtherCurrency));
                }
                let sale = conversion.amount().ok_or_else(|| answer.unreadable())?;
                let sale = Money::new(sale, amount.currency()).map_err(|_| answer.unreadable())?;
                let over = Error::Unsupported(Unsupported::RefundOverSale);
                Some(sale.checked_sub(&amount).ok_or(over)?)
            }
        };
        let request = match left {
            Some(left) if !left.is_zero() => {
                let body = AmountBody {
                    amount: Number(left),
                };
                let path = format!("{path}?recalculate_commissions=true");
                self.endpoint.patch(&path, &body)
            }
            _ => self.endpoint.delete(&path),
        };
        Ok(Step::send(request, Stage(At::TakenBack)))
    }
}

/// Returns the order's conversion of a list that may show others.
fn conversion_of(order: &str, answer: &Answer) -> Result<Option<ListedConversion>, Error> {
    answer.accepted()?;
    let list = list_in(answer.body(), ["conversions", "data"]);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let mut conversions = list.iter().filter_map(|raw| ListedConversion::read(raw));
    Ok(conversions.find(|conversion| conversion.external_id() == Some(order)))
}

/// Tapfiliate's conversions and customers have no place for these.
fn refuse_fields(details: &Details) -> Result<(), Error> {
    let fields = [
        ("tags", !details.tags.is_empty()),
        ("campaign", details.campaign.is_some()),
        ("action", details.action.is_some()),
        ("referral_url", details.referral_url.is_some()),
    ];
    match fields.iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(Error::Unsupported(Unsupported::Field(field))),
        None => Ok(()),
    }
}

impl ReportApi for Tapfiliate {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        match report {
            Report::Refund(refund) => {
                let request = self.look_up(refund.order());
                Ok(Step::send(request, Stage(At::LookedUp)))
            }
            _ => self.tell(report, By::Click),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        match (stage.0, report) {
            (At::Told(by), _) => self.told(report, by, answer),
            (At::Refused(by, error), Report::Sale(sale)) => {
                match conversion_of(sale.order(), answer)? {
                    Some(_) => Ok(Outcome::Duplicate.into()),
                    None => self.tell_next(report, by, error),
                }
            }
            (At::Refused(_, error), _) => Err(error),
            (At::LookedUp, Report::Refund(refund)) => self.take_back(refund, answer),
            (At::LookedUp | At::TakenBack, _) => {
                // Somebody else was faster.
                if answer.status() == StatusCode::NOT_FOUND && !answer.is_html() {
                    return Ok(Outcome::Duplicate.into());
                }
                answer.accepted()?;
                Ok(Outcome::Recorded.into())
            }
        }
    }

    /// Customers and conversions are unique by our IDs, and a whole refund finds nothing the second
    /// time; a partial one would be taken off twice.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::Refund(refund) => refund.amount().is_none(),
            _ => true,
        }
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/conversions/?page=1"))
    }
}

impl<T: Transport> Client<Tapfiliate, T> {
    /// Lists all conversions. *Documented nowhere:* where the list ends; it is read until a page is
    /// empty or the same as the one before.
    pub fn list_conversions(&self) -> Pages<ListedConversion> {
        let endpoint = self.platform().endpoint.clone();
        let ask = move |page, _| endpoint.get(&format!("/conversions/?page={page}"));
        Pages::counted(self, ask, ["conversions", "data"], ListedConversion::read)
    }
}
