//! Partnac. Paths and request fields are documented; statuses, error bodies and the shape of
//! answers are not.

mod lists;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use serde::Serialize;
use serde_json::Value;
use tower_referral::{ClickId, ClickRequest, ReferralKey};

pub use self::lists::{Filter, ListedClick};
use crate::endpoint::{Endpoint, encoded};
use crate::json::Number;
use crate::report::Details;
use crate::{
    Answer, ClickApi, ConfigError, CreatedClick, Error, Outcome, PlatformIds, Receipt, Refund,
    Report, ReportApi, Sale, SaleUpdate, SignUp, Step, Unsupported,
};

/// The Partnac platform: `https://api.partnac.com/v1/tracking`, with the API key as a bearer token.
///
/// A sign-up is a conversion of type `lead` under the unique ID `signup:CUSTOMER`, so that a
/// customer and an order of the same ID are two things; a sale is a conversion of type `sale`, or
/// `subscription` where it is a payment of one, under the order's ID. A report's
/// [action](Sale::with_action) is another type: `sale`, `lead`, `referral`, `subscription` or
/// `custom`. Both are credited by the referral key together with the click ID; without a key, by the
/// coupon. E-mail addresses and names aren't sent.
///
/// *Documented nowhere:* the statuses and shapes of all answers. A JSON 409 is
/// [`Outcome::Duplicate`]. A JSON refusal (400, 404, 422) of a conversion with a click ID is
/// followed by one repeat without it, and then by one with the coupon in the key's place, where
/// there is one; a refusal that stays is a permanent failure, for a person to look at.
#[derive(Clone, Debug)]
pub struct Partnac {
    endpoint: Endpoint,
    keep_paid_earnings: bool,
}

impl Partnac {
    /// Creates Partnac, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.partnac.com/v1/tracking";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            keep_paid_earnings: false,
        })
    }

    /// Sets another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The URL isn't `https`, nor plain `http` to this machine.
    pub fn base_url(self, url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url.as_ref())?;
        Ok(Self { endpoint, ..self })
    }

    /// Leaves partners what was paid out to them already when money goes back
    /// (`reverse_paid_earnings`, on by Partnac's default), unless a refund
    /// [says otherwise](Refund::with_reverse_paid_earnings).
    #[must_use]
    pub fn keep_paid_earnings(mut self) -> Self {
        self.keep_paid_earnings = true;
        self
    }
}

#[derive(Serialize)]
struct ClickBody<'a> {
    partnership_code: &'a str,
    click_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<std::net::IpAddr>,
}

impl ClickApi for Partnac {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let body = ClickBody {
            partnership_code: click.key.as_str(),
            click_url: &click.landing_url,
            referrer_url: click.referrer.as_deref(),
            ip_address: click.ip,
        };
        self.endpoint.post("/clicks", &body)
    }

    /// Where the click ID is in the answer is documented nowhere: `click_id`, `id` and `session_id`
    /// are tried, at the top and under `data`.
    fn read_click(&self, answer: &Answer) -> Result<CreatedClick, Error> {
        answer.accepted()?;
        CreatedClick::read(answer, ["click_id", "id", "session_id"])
    }
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

/// Where an exchange with Partnac is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    /// A conversion was sent, credited by key and click ID,
    ByClick,
    /// by the key alone,
    ByKey,
    /// by the coupon in the key's place.
    ByCoupon,
    Refund,
    Update,
}

/// What Partnac takes as a conversion's type.
const TYPES: [&str; 5] = ["sale", "lead", "referral", "subscription", "custom"];

impl Partnac {
    /// Returns the conversion, credited by the first of what it has from `first` on.
    fn convert(&self, report: &Report, first: At) -> Result<Step<Stage>, Error> {
        let Some(details) = report.details() else {
            return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
        };
        let credit = details.credit();
        let key = credit
            .and_then(|credit| credit.key())
            .map(ReferralKey::as_str);
        let click_id = credit.and_then(|credit| credit.click_id());
        let click_id = click_id.map(ClickId::as_str);
        let coupon = details.coupon.as_deref();
        let (at, code, session_id) = match (key, click_id, coupon) {
            (Some(key), Some(click_id), _) if first <= At::ByClick => {
                (At::ByClick, key, Some(click_id))
            }
            (Some(key), _, _) if first <= At::ByKey => (At::ByKey, key, None),
            (_, _, Some(coupon)) if first <= At::ByCoupon => (At::ByCoupon, coupon, None),
            _ => return Ok(Outcome::NotAttributed.into()),
        };
        let request = match report {
            Report::SignUp(sign_up) => self.lead(sign_up, code, session_id)?,
            Report::Sale(sale) => self.sale(sale, code, session_id)?,
            _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        };
        Ok(Step::send(request, Stage(at)))
    }

    fn lead(
        &self,
        sign_up: &SignUp,
        code: &str,
        session_id: Option<&str>,
    ) -> Result<Request<Bytes>, Error> {
        let missing = Error::Unsupported(Unsupported::MissingField("customer"));
        let customer = sign_up.customer().ok_or(missing)?;
        let mut metadata = metadata(&sign_up.details);
        metadata.insert("customer_id".to_owned(), customer.into());
        let body = ConversionBody {
            partnership_code: code,
            unique_id: &format!("signup:{customer}"),
            conversion_type: type_of(sign_up.action(), "lead")?,
            amount: Amount::Nothing(0),
            campaign_id: sign_up.campaign(),
            session_id,
            metadata,
        };
        Ok(self.endpoint.post("/conversions", &body))
    }

    fn sale(
        &self,
        sale: &Sale,
        code: &str,
        session_id: Option<&str>,
    ) -> Result<Request<Bytes>, Error> {
        if sale.order().starts_with("signup:") {
            // It would be taken for a customer's sign-up.
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
        if let Some(paid_at) = sale.paid_at() {
            metadata.insert("paid_at".to_owned(), rfc3339(paid_at).into());
        }
        let usual = if sale.is_subscription() {
            "subscription"
        } else {
            "sale"
        };
        let body = ConversionBody {
            partnership_code: code,
            unique_id: sale.order(),
            conversion_type: type_of(sale.action(), usual)?,
            amount: Amount::Of(Number(sale.amount())),
            campaign_id: sale.campaign(),
            session_id,
            metadata,
        };
        Ok(self.endpoint.post("/conversions", &body))
    }

    fn refund(&self, refund: &Refund) -> Request<Bytes> {
        let keep = self.keep_paid_earnings.then_some(false);
        let body = RefundBody {
            amount: refund.amount().map(Number),
            reason: refund.reason(),
            external_refund_id: refund.id(),
            reverse_paid_earnings: refund.reverse_paid_earnings().or(keep),
        };
        let path = format!("/conversions/{}/refund", encoded(refund.order()));
        self.endpoint.post(&path, &body)
    }

    fn update(&self, update: &SaleUpdate) -> Request<Bytes> {
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

fn type_of<'a>(action: Option<&'a str>, usual: &'a str) -> Result<&'a str, Error> {
    match action {
        None => Ok(usual),
        Some(action) if TYPES.contains(&action) => Ok(action),
        Some(_) => Err(Error::Unsupported(Unsupported::Value("action"))),
    }
}

fn rfc3339(at: time::OffsetDateTime) -> String {
    // Years of five digits have no such form.
    at.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}

/// Returns what follows from a refused conversion: another credit to try.
fn is_refused(answer: &Answer) -> bool {
    answer
        .refusal()
        .is_some_and(|refusal| matches!(refusal.status().as_u16(), 400 | 404 | 422))
}

impl ReportApi for Partnac {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        match report {
            Report::Refund(refund) => Ok(Step::send(self.refund(refund), Stage(At::Refund))),
            Report::SaleUpdate(update) => Ok(Step::send(self.update(update), Stage(At::Update))),
            _ => self.convert(report, At::ByClick),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let mut ids = PlatformIds::default();
        match stage.0 {
            At::ByClick | At::ByKey | At::ByCoupon => {
                if answer.is_conflict() {
                    return Ok(Outcome::Duplicate.into());
                }
                let rest = match stage.0 {
                    At::ByClick => Some(At::ByKey),
                    At::ByKey => Some(At::ByCoupon).filter(|_| report.coupon().is_some()),
                    _ => None,
                };
                if let Some(rest) = rest
                    && is_refused(answer)
                {
                    return self.convert(report, rest);
                }
                answer.accepted_json()?;
                ids.sale = answer.id(["conversion_id", "id"]);
            }
            // No such conversion: it was credited to nobody, or isn't there yet.
            At::Refund | At::Update if answer.is_not_found() => {
                return Ok(Outcome::NotAttributed.into());
            }
            At::Refund => {
                // Nothing is said about the answer, so it may be empty; a page is none.
                answer.read_or_default::<Option<serde::de::IgnoredAny>>()?;
                ids.refund = answer.id(["refund_id", "id"]);
            }
            At::Update => answer.accepted()?,
        }
        Ok(Receipt::new(Outcome::Recorded).with_ids(ids).into())
    }

    /// Conversions are unique by `unique_id`, and the same change twice is one change; nothing is
    /// said about refunds.
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Refund(_))
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/conversions?limit=1&offset=0"))
    }
}
