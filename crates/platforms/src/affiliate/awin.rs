//! Awin, by its conversion API. It takes nothing but orders, many in one request and the requests ten
//! seconds apart; what it answers is documented nowhere.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use tower_referral::ClickId;

use crate::endpoint::{Endpoint, encoded};
use crate::json::{self, Number, pick};
use crate::{
    Advice, Answer, BaseUrl, Batch, ConfigError, Error, PlatformIds, Receipt, Report, ReportApi,
    ReportRequest, Sale, Step, Unsupported,
};

/// The landing parameter with the click ID. Awin's links carry no referral key.
pub const CLICK_PARAMS: [&str; 1] = ["awc"];

/// The Awin network: `https://api.awin.com/s2s/advertiser/{id}/orders`, with the API key in
/// `x-api-key` and the advertiser's ID in the path.
///
/// | report | becomes |
/// |---|---|
/// | [`Sale`] with a click ID ([`awc`](CLICK_PARAMS)) or a coupon (`voucher`) | an order; both are sent where both are there |
/// | any other [`Sale`] | nothing: a referral key is nobody at Awin |
/// | [`SignUp`](crate::SignUp) | nothing: the order alone carries the click ID |
/// | any other | refused: it is for Awin's own pages |
///
/// The amount is a decimal in major units and should be without taxes and delivery, after discounts.
/// A sale's [commission type](Sale::with_commission_type) is its commission group, `DEFAULT` unless
/// [set](Self::commission_group). The customer, the product and the time of payment aren't sent.
///
/// Awin cuts an order's reference off after 50 characters, which could make two orders one: a longer
/// one is [refused](Unsupported::TooLong).
///
/// A request carries up to 1,000 orders, and there are ten seconds between two.
/// [`Client::reports`](crate::Client::reports) gathers them: each report waits there until its batch
/// goes.
///
/// *Documented nowhere*, and assumed to be:
///
/// - **Answers.** Where an answer has one of the lists `successfulOrders`, `pendingOrders` and
///   `failedOrders`, each order is as they say: in one of the first two it is recorded, in the last it
///   is refused, and in none of them, or on both sides, nobody knows. No other success is known: of an
///   answer without these lists that is no refusal nobody knows what it means for any of the orders.
///   Refused as a whole, several orders are sent again in smaller batches, and one alone has failed.
/// - **Repeats.** Nothing is taken to be deduplicated: an order whose outcome is unknown isn't repeated,
///   for a person to look at.
/// - **Refunds.** There is no call for them.
#[derive(Clone, Debug)]
pub struct Awin {
    endpoint: Endpoint,
    advertiser: String,
    channel: Cow<'static, str>,
    commission_group: Cow<'static, str>,
}

impl Awin {
    /// An order's reference has at most so many characters.
    const MAX_REFERENCE: usize = 50;
    const BATCH: Batch = Batch {
        max: 1000,
        interval: Duration::from_secs(10),
    };

    /// Creates Awin, with an API key and the ID of your advertiser's account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header, or the ID isn't letters and digits.
    pub fn new(
        api_key: impl AsRef<str>,
        advertiser: impl fmt::Display,
    ) -> Result<Self, ConfigError> {
        let header = HeaderName::from_static("x-api-key");
        let endpoint = Endpoint::new("https://api.awin.com", header, "", api_key.as_ref())?;
        let advertiser = advertiser.to_string();
        if advertiser.is_empty() || !advertiser.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ConfigError::InvalidSetting {
                name: "advertiser ID",
            });
        }
        Ok(Self {
            endpoint,
            advertiser,
            channel: Cow::Borrowed("aw"),
            commission_group: Cow::Borrowed("DEFAULT"),
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

    /// Sets the channel that is paid for an order; `aw`, which is Awin's own, by default. An order's
    /// [action](Sale::with_action) is another channel, for shops that pay several networks.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<Cow<'static, str>>) -> Self {
        self.channel = channel.into();
        self
    }

    /// Sets the commission group of orders that have no
    /// [commission type](Sale::with_commission_type); `DEFAULT` by default.
    #[must_use]
    pub fn commission_group(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.commission_group = code.into();
        self
    }
}

/// What an order has a place for, or what tells Awin nothing.
const TAKEN: [&str; 7] = [
    "action",
    "commission_type",
    "coupon",
    "interval",
    "paid_at",
    "product",
    "product_type",
];

#[derive(Serialize)]
struct Orders<'a> {
    orders: Vec<Order<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    order_reference: &'a str,
    amount: Number,
    currency: &'a str,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    awc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voucher: Option<&'a str>,
    commission_groups: [CommissionGroup<'a>; 1],
}

#[derive(Serialize)]
struct CommissionGroup<'a> {
    code: &'a str,
    amount: Number,
}

impl Awin {
    /// Returns the order of a report; `None` if nobody is credited, or there is no call for it and
    /// none is needed.
    fn order<'a>(&'a self, report: &'a Report) -> Result<Option<Order<'a>>, Error> {
        let sale = match report {
            Report::Sale(sale) => sale,
            Report::SignUp(_) => return Ok(None),
            _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        };
        let click = sale.credit().and_then(|credit| credit.click_id());
        let (awc, voucher) = (click.map(ClickId::as_str), sale.coupon());
        if awc.is_none() && voucher.is_none() {
            return Ok(None);
        }
        report.refuse_fields_except(&TAKEN)?;
        if sale.order().chars().count() > Self::MAX_REFERENCE {
            return Err(Error::Unsupported(Unsupported::TooLong {
                field: "order",
                max: Self::MAX_REFERENCE,
            }));
        }
        let amount = Number(sale.amount());
        let code = sale.commission_type().unwrap_or(&self.commission_group);
        Ok(Some(Order {
            order_reference: sale.order(),
            amount,
            currency: currency_of(sale),
            channel: sale.action().unwrap_or(&self.channel),
            awc,
            voucher,
            commission_groups: [CommissionGroup { code, amount }],
        }))
    }

    fn send(&self, orders: Vec<Order<'_>>) -> Request<Bytes> {
        let path = format!("/s2s/advertiser/{}/orders", encoded(&self.advertiser));
        self.endpoint.post(&path, &Orders { orders })
    }
}

fn currency_of(sale: &Sale) -> &str {
    sale.amount_ref().currency()
}

/// Returns what became of each of these orders.
fn read_orders(references: &[&str], answer: &Answer) -> Vec<Result<Receipt, Error>> {
    let accepted = answer.accepted_json();
    let lists = match &accepted {
        // What is said of single orders may not hold where nobody knows what the whole means, and other
        // errors are about the account.
        Err(error @ Error::Rejected { .. }) if error.advice(false) == Advice::Permanent => {
            Lists::read(answer)
        }
        Err(_) => None,
        Ok(()) => Lists::read(answer),
    };
    if let Some(lists) = lists {
        let is_accepted = accepted.is_ok();
        let all = references.iter();
        let results = all.map(|order| lists.result_of(order, answer, is_accepted));
        return results.collect();
    }
    // Nothing says what became of any of them.
    let error = accepted.err().unwrap_or_else(|| answer.unreadable());
    vec![Err(error.of_batch(references.len())); references.len()]
}

/// The orders of an answer, each as it was written.
struct Lists<'j> {
    taken: Vec<&'j RawValue>,
    failed: Vec<&'j RawValue>,
}

impl<'j> Lists<'j> {
    /// Returns `None` if the answer has no lists.
    fn read(answer: &'j Answer) -> Option<Self> {
        let names = ["successfulOrders", "pendingOrders", "failedOrders"];
        let lists = pick(answer.body(), names)?;
        let items = |list: Option<&'j RawValue>| {
            let list = list.and_then(|list| serde_json::from_str::<Vec<_>>(list.get()).ok());
            list.unwrap_or_default()
        };
        lists.iter().any(Option::is_some).then(|| Self {
            taken: [items(lists[0]), items(lists[1])].concat(),
            failed: items(lists[2]),
        })
    }

    /// `is_accepted` says whether the answer as a whole is no refusal.
    fn result_of(&self, order: &str, answer: &Answer, is_accepted: bool) -> Result<Receipt, Error> {
        let is_this = |item: &&&RawValue| reference_of(item).is_some_and(|it| it == order);
        let (taken, failed) = (self.taken.iter(), self.failed.iter());
        match (taken.clone().find(is_this), failed.clone().find(is_this)) {
            (Some(taken), None) if is_accepted => {
                let taken = taken.get().to_owned().into();
                let taken = Answer::new(answer.status(), taken);
                let mark = taken.shows(["/orderReference", "/order/orderReference"]);
                let mark = mark.map_err(|_| answer.unreadable())?;
                Ok(Receipt::recorded(mark))
            }
            (None, Some(failed)) => {
                let refusal = answer.part(StatusCode::UNPROCESSABLE_ENTITY, failed.get());
                Err(refusal.accepted().err().unwrap_or(answer.unreadable()))
            }
            _ => Err(answer.unreadable()),
        }
    }
}

/// Returns an order's reference, at the top or under `order`.
fn reference_of(item: &RawValue) -> Option<Cow<'_, str>> {
    let [reference, order] = pick(item.get().as_bytes(), ["orderReference", "order"])?;
    let within = || pick(order?.get().as_bytes(), ["orderReference"])?[0];
    json::text(reference.or_else(within)?)
}

impl ReportApi for Awin {
    type Stage = ();

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<()>, Error> {
        Ok(match self.order(report)? {
            Some(order) => Step::send(self.send(vec![order]), ()),
            None => Receipt::not_attributed().into(),
        })
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        let mut results = read_orders(&[report.order().unwrap_or_default()], answer);
        let result = results.pop().unwrap_or_else(|| Err(answer.unreadable()));
        result.map(Step::from)
    }

    /// Nothing is: no page of Awin's says otherwise.
    fn deduplicates(&self, _: &Report) -> bool {
        false
    }

    fn batch(&self) -> Option<Batch> {
        Some(Self::BATCH)
    }

    fn batch_request(&self, reports: &[ReportRequest]) -> Result<Request<Bytes>, Error> {
        if reports.len() > Self::BATCH.max {
            return Err(Error::Unsupported(Unsupported::Batch));
        }
        let orders = reports.iter().map(|request| self.order(request.report()));
        let orders = orders.collect::<Result<Vec<_>, _>>()?;
        Ok(self.send(orders.into_iter().flatten().collect()))
    }

    fn read_batch(
        &self,
        reports: &[ReportRequest],
        answer: &Answer,
    ) -> Vec<Result<Receipt, Error>> {
        let orders = reports.iter().map(|request| request.report().order());
        let orders: Vec<_> = orders.map(Option::unwrap_or_default).collect();
        read_orders(&orders, answer)
    }
}
