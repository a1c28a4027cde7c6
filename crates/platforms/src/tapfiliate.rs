//! Tapfiliate. Every path ends in a slash, and the API key goes into a header of its own. It has no
//! refunds: a conversion is found by the order, and deleted or lowered.

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};

use super::client::{Client, Transport};
use super::endpoint::Endpoint;
use super::json::{Object, list_in, text_in};
use super::listed::ListedConversion;
use super::pages::Pages;
use super::report::{Credit, Refund, Report};
use super::{
    Answer, CreateClicks, Error, Money, Outcome, Step, TakeReports, Unsupported, percent_encoded,
};
use crate::ConfigError;
use tower_referral::ClickId;
use tower_referral::{ClickRequest, UnknownKey};

/// The Tapfiliate platform: `https://api.tapfiliate.com/1.6`, with the API key in `X-Api-Key`.
///
/// A sign-up is a customer, a sale a conversion whose `external_id` is the order. Each is credited
/// by one thing only: by the click ID; if there is none or it is refused, by the referral key; then
/// by the coupon; a sale, at last, by its customer, whom Tapfiliate may know from the sign-up. E-mail
/// addresses and names aren't sent.
///
/// A refund is looked up by the order. All of it deletes the conversion; a part of it lowers the
/// amount, for which there must be no other refund of the order under way at the same time, and
/// which isn't recognised if it is told twice.
///
/// *Documented nowhere:* the status of a duplicate and of a click ID that is refused. Any of 400,
/// 404, 409 and 422 is taken for a duplicate if its JSON says so, and otherwise for a click ID that
/// is refused, if there was one; anything else is an error, for a person to look at.
#[derive(Clone, Debug)]
pub struct Tapfiliate {
    endpoint: Endpoint,
}

impl Tapfiliate {
    /// Tapfiliate, with an API key of your account.
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

    /// Another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The URL isn't `https`, nor plain `http` to this machine.
    pub fn base_url(self, url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url.as_ref())?;
        Ok(Self { endpoint })
    }
}

impl CreateClicks for Tapfiliate {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let ip = click.ip.map(|ip| ip.to_string());
        let body = Object::new()
            .text("referral_code", click.key.as_str())
            .text("landing_page", &*click.landing_url)
            .text("referrer", click.referrer.as_deref())
            .text("user_agent", click.user_agent.as_deref())
            .text("ip", ip.as_deref());
        self.endpoint.post("/clicks/", body)
    }

    fn read_click(&self, answer: &Answer) -> Result<ClickId, Error> {
        if answer.says_unknown(&["referral_code", "referral code", "affiliate"]) {
            return Err(Error::UnknownKey(UnknownKey));
        }
        let json = answer.success()?;
        let id = text_in(&json, &["id"]).and_then(|id| id.parse().ok());
        id.ok_or(Error::Unreadable {
            status: answer.status(),
        })
    }
}

/// Where an exchange with Tapfiliate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A customer or a conversion was sent, credited by this.
    Told(By),
    /// The order's conversion was asked for.
    LookedUp,
    /// The conversion was deleted or lowered.
    TakenBack,
}

/// By what a report is credited. In this order, which is that of the documentation: the surest
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Click,
    Key,
    Coupon,
    Customer,
}

impl By {
    const ALL: [Self; 4] = [Self::Click, Self::Key, Self::Coupon, Self::Customer];

    /// Name and value of the property that credits a report, if the report has it.
    fn of(self, report: &Report) -> Option<(&'static str, &str)> {
        let (credit, coupon, customer) = match report {
            Report::SignUp(sign_up) => (sign_up.credited_to(), sign_up.coupon_code(), None),
            Report::Sale(sale) => (
                sale.credited_to(),
                sale.coupon_code(),
                Some(sale.customer()),
            ),
            Report::Refund(_) => return None,
        };
        match self {
            Self::Click => Some(("click_id", credit?.click_id()?.as_str())),
            Self::Key => credit
                .map(Credit::key)
                .map(|key| ("referral_code", key.as_str())),
            Self::Coupon => Some(("coupon", coupon?)),
            Self::Customer => Some(("customer_id", customer?)),
        }
    }

    /// How the platform may call it when it doesn't take it.
    fn subjects(self) -> &'static [&'static str] {
        match self {
            Self::Click => &["click"],
            Self::Key => &["referral", "affiliate"],
            Self::Coupon => &["coupon"],
            Self::Customer => &["customer"],
        }
    }
}

impl Tapfiliate {
    /// The report, credited by the first of what it has from `first` on.
    fn tell(&self, report: &Report, first: By) -> Step<Stage> {
        let mut rest = By::ALL.iter().filter(|by| **by >= first);
        let Some((by, (name, value))) = rest.find_map(|by| Some((*by, by.of(report)?))) else {
            return Step::Done(Outcome::NotAttributed);
        };
        let request = match report {
            Report::SignUp(sign_up) => {
                let body = Object::new()
                    .text("customer_id", sign_up.customer())
                    .text(name, value)
                    .object("meta_data", Object::texts(sign_up.all_metadata()));
                self.endpoint.post("/customers/", body)
            }
            Report::Sale(sale) => {
                let body = Object::new()
                    .text("external_id", sale.order())
                    .amount("amount", Some(sale.amount()))
                    .text("currency", sale.amount().currency())
                    .text(name, value)
                    .object("meta_data", Object::texts(sale.all_metadata()));
                self.endpoint.post("/conversions/", body)
            }
            Report::Refund(_) => return Step::Done(Outcome::NotAttributed),
        };
        Step::Send(request, Stage(At::Told(by)))
    }

    fn told(&self, report: &Report, by: By, answer: &Answer) -> Result<Step<Stage>, Error> {
        let own_id: &[_] = match report {
            Report::SignUp(_) => &["customer"],
            Report::Sale(_) | Report::Refund(_) => &["external"],
        };
        if answer.says_duplicate(own_id) {
            return Ok(Step::Done(Outcome::Duplicate));
        }
        let is_refused = match by {
            // Whatever it says: a click that it doesn't want is worth another try.
            By::Click => matches!(answer.status().as_u16(), 400 | 404 | 409 | 422),
            _ => answer.says_unknown(by.subjects()),
        };
        if is_refused {
            let next = By::ALL.iter().find(|next| **next > by);
            return Ok(next.map_or(Step::Done(Outcome::NotAttributed), |next| {
                self.tell(report, *next)
            }));
        }
        let id = text_in(&answer.success()?, &["id"]);
        Ok(Step::Done(Outcome::Recorded { id }))
    }

    fn take_back(&self, refund: &Refund, answer: &Answer) -> Result<Step<Stage>, Error> {
        answer.success()?;
        let unreadable = || Error::Unreadable {
            status: answer.status(),
        };
        let list = list_in(answer.body(), &["conversions"]).ok_or_else(unreadable)?;
        let conversion = list
            .iter()
            .filter_map(|item| ListedConversion::read(item))
            .find(|conversion| conversion.external_id() == Some(refund.order()));
        // It was credited to nobody, or taken back before.
        let Some(conversion) = conversion else {
            return Ok(Step::Done(Outcome::NotAttributed));
        };
        let id = conversion.id().ok_or_else(unreadable)?;
        let path = format!("/conversions/{}/", percent_encoded(id));
        let left = match refund.amount() {
            None => None,
            Some(amount) => {
                let is_other = |currency: &str| !currency.eq_ignore_ascii_case(amount.currency());
                if conversion.currency().is_some_and(is_other) {
                    return Err(Error::Unsupported(Unsupported::RefundInOtherCurrency));
                }
                let sale = conversion.amount().ok_or_else(unreadable)?;
                let sale = Money::new(sale, amount.currency()).map_err(|_| unreadable())?;
                let over = Error::Unsupported(Unsupported::RefundOverSale);
                Some(sale.checked_sub(&amount).ok_or(over)?)
            }
        };
        let request = match left {
            Some(left) if !left.is_zero() => {
                let body = Object::new().amount("amount", Some(left));
                self.endpoint.patch(&path, body)
            }
            _ => self.endpoint.delete(&path),
        };
        Ok(Step::Send(request, Stage(At::TakenBack)))
    }
}

impl TakeReports for Tapfiliate {
    type Stage = Stage;

    fn begin(&self, report: &Report) -> Result<Step<Stage>, Error> {
        Ok(match report {
            Report::Refund(refund) => {
                let order = percent_encoded(refund.order());
                let path = format!("/conversions/?external_id={order}");
                Step::Send(self.endpoint.get(&path), Stage(At::LookedUp))
            }
            Report::SignUp(_) | Report::Sale(_) => self.tell(report, By::Click),
        })
    }

    fn next(&self, report: &Report, stage: Stage, answer: &Answer) -> Result<Step<Stage>, Error> {
        match (stage.0, report) {
            (At::Told(by), _) => self.told(report, by, answer),
            (At::LookedUp, Report::Refund(refund)) => self.take_back(refund, answer),
            (At::LookedUp | At::TakenBack, _) => {
                // Somebody else was faster.
                if answer.status() == StatusCode::NOT_FOUND {
                    return Ok(Step::Done(Outcome::Duplicate));
                }
                answer.accepted()?;
                Ok(Step::Done(Outcome::Recorded { id: None }))
            }
        }
    }

    /// Customers and conversions are unique by our IDs, and a whole refund finds nothing the second
    /// time; a partial one would be taken off twice.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::SignUp(_) | Report::Sale(_) => true,
            Report::Refund(refund) => refund.amount().is_none(),
        }
    }
}

impl<T: Transport> Client<Tapfiliate, T> {
    /// All conversions. *Documented nowhere:* where the list ends; it is read until a page is empty
    /// or the same as the one before.
    pub fn list_conversions(&self) -> Pages<ListedConversion> {
        let endpoint = self.platform().endpoint.clone();
        let ask = move |page, _| endpoint.get(&format!("/conversions/?page={page}"));
        Pages::counted(self, ask, "conversions", ListedConversion::read)
    }
}
