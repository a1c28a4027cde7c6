//! Partnac. Paths and request fields are documented; statuses, error bodies and the shape of
//! answers are not, and are read leniently.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Client, Transport};
use super::endpoint::Endpoint;
use super::json::{Object, text_in};
use super::listed::ListedConversion;
use super::money::Money;
use super::pages::Pages;
use super::report::{Credit, Id, InvalidId, Refund, Report, Sale, SignUp, filled, pairs};
use super::{
    Answer, CreateClicks, Error, Outcome, ReportError, Step, TakeReports, Unsupported,
    percent_encoded,
};
use crate::ConfigError;
use tower_referral::{ClickId, Referral};
use tower_referral::{ClickRequest, UnknownKey};

/// The most that a page of a list may hold.
const PAGE_LEN: usize = 100;

/// The Partnac platform: `https://api.partnac.com/v1/tracking`, with the API key as a bearer token.
///
/// A sign-up is a conversion of type `lead` under the unique ID `signup:CUSTOMER`, so that a
/// customer and an order of the same ID are two things; a sale is a conversion of type `sale` under
/// the order's ID. Both are credited by the referral key together with the click ID; if there is
/// no key, or Partnac doesn't know it, by the coupon. E-mail addresses and names aren't sent.
///
/// *Documented nowhere:* the statuses and shapes of all answers, and what a second conversion under
/// the same unique ID is answered. A 409, or any refusal whose JSON says that there is one already,
/// is [`Outcome::Duplicate`]; a refusal whose JSON says that there is no such partnership is
/// [`Outcome::NotAttributed`].
#[derive(Clone, Debug)]
pub struct Partnac {
    endpoint: Endpoint,
    keep_paid_earnings: bool,
}

impl Partnac {
    /// Partnac, with an API key of your account.
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

    /// Another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The URL isn't `https`, nor plain `http` to this machine.
    pub fn base_url(self, url: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = self.endpoint.with_base_url(url.as_ref())?;
        Ok(Self { endpoint, ..self })
    }

    /// A refund leaves partners what was paid out to them already (`reverse_paid_earnings`, on by
    /// Partnac's default).
    #[must_use]
    pub fn keep_paid_earnings(mut self) -> Self {
        self.keep_paid_earnings = true;
        self
    }
}

impl CreateClicks for Partnac {
    fn click_request(&self, click: &ClickRequest) -> Request<Bytes> {
        let ip = click.ip.map(|ip| ip.to_string());
        let body = Object::new()
            .text("partnership_code", click.key.as_str())
            .text("click_url", &*click.landing_url)
            .text("referrer_url", click.referrer.as_deref())
            .text("ip_address", ip.as_deref());
        self.endpoint.post("/clicks", body)
    }

    /// Where the click ID stands is documented nowhere: `click_id`, `id` and `session_id` are
    /// tried, at the top and under `data`.
    fn read_click(&self, answer: &Answer) -> Result<ClickId, Error> {
        if answer.says_unknown(&["partnership", "partner", "code"]) {
            return Err(Error::UnknownKey(UnknownKey));
        }
        let json = answer.success()?;
        let id = text_in(&json, &["click_id", "id", "session_id"]);
        id.and_then(|id| id.parse().ok()).ok_or(Error::Unreadable {
            status: answer.status(),
        })
    }
}

/// What a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConversionType {
    /// Something was sold.
    Sale,
    /// Somebody signed up or asked for an offer.
    Lead,
    /// A customer was referred.
    Referral,
    /// A subscription began or went on.
    Subscription,
    /// Anything else.
    Custom,
}

impl ConversionType {
    /// As Partnac calls it, for instance `sale`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Lead => "lead",
            Self::Referral => "referral",
            Self::Subscription => "subscription",
            Self::Custom => "custom",
        }
    }
}

/// A conversion with everything that Partnac takes, for [`Client::record`]. For a plain sign-up or
/// sale, [`Client::report`] does.
///
/// `Debug` hides everything that came from the visitor.
///
/// ```no_run
/// # #[cfg(feature = "https")] {
/// use tower_referral::Referral;
/// use tower_referral_platforms::partnac::{Conversion, ConversionType};
/// use tower_referral_platforms::{Client, Https, Money, Partnac};
///
/// # async fn renewed(
/// #     client: Client<Partnac, Https>,
/// #     referral: Referral,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let amount = Money::new("9.99", "EUR")?;
/// let renewal = Conversion::new("INVOICE-7", ConversionType::Subscription, amount)?
///     .referral(&referral)
///     .campaign("CAMPAIGN-1");
/// let outcome = client.record(&renewal).await?;
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a conversion does nothing until it is given to `Client::record`"]
pub struct Conversion {
    unique_id: Id,
    kind: ConversionType,
    amount: Option<Money>,
    credit: Option<Credit>,
    coupon: Option<String>,
    campaign: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Conversion {
    /// A conversion under your unique ID, by which Partnac recognises it. `None` is an amount of 0,
    /// as for leads.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn new(
        unique_id: impl Into<String>,
        kind: ConversionType,
        amount: impl Into<Option<Money>>,
    ) -> Result<Self, InvalidId> {
        Ok(Self {
            unique_id: Id::new(unique_id)?,
            kind,
            amount: amount.into(),
            credit: None,
            coupon: None,
            campaign: None,
            metadata: BTreeMap::new(),
        })
    }

    /// Who is credited: `&Referral` or `Option<&Referral>`.
    pub fn referral<'r>(self, referral: impl Into<Option<&'r Referral>>) -> Self {
        self.credit(referral.into().map(Credit::from))
    }

    /// The same where no [`Referral`] is at hand: `Credit` or `Option<Credit>`.
    pub fn credit(mut self, credit: impl Into<Option<Credit>>) -> Self {
        self.credit = credit.into();
        self
    }

    /// The coupon that the customer used, which stands in for the referral where there is none; empty
    /// is as if absent.
    pub fn coupon<'t>(mut self, coupon: impl Into<Option<&'t str>>) -> Self {
        self.coupon = filled(coupon.into());
        self
    }

    /// Partnac's ID of the campaign; empty is as if absent.
    pub fn campaign<'t>(mut self, id: impl Into<Option<&'t str>>) -> Self {
        self.campaign = filled(id.into());
        self
    }

    /// The customer's ID, the same through the customer's life.
    pub fn customer(self, id: impl Into<String>) -> Self {
        self.metadata("customer_id", id)
    }

    /// A fact. Partnac knows `customer_id`, `ip_address`, `user_agent`, `country`, `city` and
    /// `region`, and keeps all others; `currency` and `coupon_code` are those of the amount and the
    /// coupon.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    fn of_sign_up(sign_up: &SignUp) -> Self {
        Self {
            // Longer than an ID may be by the prefix, and an ID for Partnac alone.
            unique_id: Id::prefixed("signup:", sign_up.customer()),
            kind: ConversionType::Lead,
            amount: None,
            credit: sign_up.credited_to().cloned(),
            coupon: sign_up.coupon_code().map(str::to_owned),
            campaign: None,
            metadata: owned(sign_up.all_metadata()),
        }
        .customer(sign_up.customer())
    }

    fn of_sale(sale: &Sale) -> Self {
        let mut metadata = owned(sale.all_metadata());
        let facts = [
            ("product_id", sale.product_id()),
            ("product_type", sale.kind_of_product()),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                metadata.insert(name.to_owned(), fact.to_owned());
            }
        }
        Self {
            unique_id: Id::prefixed("", sale.order()),
            kind: ConversionType::Sale,
            amount: Some(sale.amount()),
            credit: sale.credited_to().cloned(),
            coupon: sale.coupon_code().map(str::to_owned),
            campaign: None,
            metadata,
        }
        .customer(sale.customer())
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        let credit = self.credit.iter().flat_map(Credit::secrets);
        let coupon = self.coupon.as_deref().into_iter();
        let unique_id = std::iter::once(self.unique_id.as_str());
        unique_id
            .chain(credit)
            .chain(coupon)
            .chain(self.metadata.values().map(String::as_str))
    }
}

fn owned<'m>(pairs: impl Iterator<Item = (&'m str, &'m str)>) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversion")
            .field("kind", &self.kind)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// Where an exchange with Partnac is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    ByKey,
    ByCoupon,
    TakenBack,
}

impl Partnac {
    /// The conversion, credited by the first of key and coupon that there is from `first` on.
    fn convert(&self, conversion: &Conversion, first: At) -> Step<Stage> {
        let key = conversion.credit.as_ref().filter(|_| first == At::ByKey);
        let (at, code, click_id) = match (key, &conversion.coupon) {
            (Some(credit), _) => (At::ByKey, credit.key().as_str(), credit.click_id()),
            (None, Some(coupon)) => (At::ByCoupon, &**coupon, None),
            (None, None) => return Step::Done(Outcome::NotAttributed),
        };
        let mut metadata = conversion.metadata.clone();
        if let Some(amount) = conversion.amount {
            metadata.insert("currency".to_owned(), amount.currency().to_owned());
        }
        if let Some(coupon) = &conversion.coupon {
            metadata.insert("coupon_code".to_owned(), coupon.clone());
        }
        let body = Object::new()
            .text("partnership_code", code)
            .text("unique_id", conversion.unique_id.as_str())
            .text("conversion_type", conversion.kind.as_str());
        let body = match conversion.amount {
            Some(amount) => body.amount("amount", Some(amount)),
            None => body.zero("amount"),
        };
        let body = body
            .text("campaign_id", conversion.campaign.as_deref())
            .text("session_id", click_id.map(ClickId::as_str))
            .object("metadata", Object::texts(pairs(&metadata)));
        Step::Send(self.endpoint.post("/conversions", body), Stage(at))
    }

    fn converted(
        &self,
        conversion: &Conversion,
        at: At,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        if answer.status() == StatusCode::CONFLICT
            || answer.says_duplicate(&["unique_id", "unique id", "conversion"])
        {
            return Ok(Step::Done(Outcome::Duplicate));
        }
        if answer.says_unknown(&["partnership", "partner", "affiliate", "coupon"]) {
            return Ok(match at {
                At::ByKey => self.convert(conversion, At::ByCoupon),
                At::ByCoupon | At::TakenBack => Step::Done(Outcome::NotAttributed),
            });
        }
        let id = text_in(&answer.success()?, &["conversion_id", "id"]);
        Ok(Step::Done(Outcome::Recorded { id }))
    }

    fn refund(&self, refund: &Refund) -> Request<Bytes> {
        let mut body = Object::new()
            .amount("amount", refund.amount())
            .text("reason", refund.reason_given())
            .text("external_refund_id", refund.refund_id());
        if self.keep_paid_earnings {
            body = body.flag("reverse_paid_earnings", false);
        }
        let path = format!("/conversions/{}/refund", percent_encoded(refund.order()));
        self.endpoint.post(&path, body)
    }
}

/// Partnac has no such conversion: 404, or a refusal that says so.
fn has_no_conversion(answer: &Answer) -> bool {
    answer.is_not_found() || answer.says_unknown(&["conversion", "unique_id"])
}

impl TakeReports for Partnac {
    type Stage = Stage;

    fn begin(&self, report: &Report) -> Result<Step<Stage>, Error> {
        Ok(match report {
            Report::SignUp(sign_up) => self.convert(&Conversion::of_sign_up(sign_up), At::ByKey),
            Report::Sale(sale) => self.convert(&Conversion::of_sale(sale), At::ByKey),
            Report::Refund(refund) => Step::Send(self.refund(refund), Stage(At::TakenBack)),
        })
    }

    fn next(&self, report: &Report, stage: Stage, answer: &Answer) -> Result<Step<Stage>, Error> {
        match report {
            Report::SignUp(sign_up) => {
                self.converted(&Conversion::of_sign_up(sign_up), stage.0, answer)
            }
            Report::Sale(sale) => self.converted(&Conversion::of_sale(sale), stage.0, answer),
            Report::Refund(_) => Ok(Step::Done(if answer.says_duplicate(&["refund"]) {
                Outcome::Duplicate
            } else if has_no_conversion(answer) {
                Outcome::NotAttributed
            } else {
                // Nothing is said about the answer, so it may be empty; a page is none.
                let json = answer.acknowledged()?;
                let id = text_in(&json, &["refund_id", "id"]);
                Outcome::Recorded { id }
            })),
        }
    }

    /// Conversions are unique by `unique_id`; nothing is said about refunds.
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Refund(_))
    }
}

/// What to change about a conversion, for [`Client::update`]; the rest stays.
///
/// ```no_run
/// # #[cfg(feature = "https")] {
/// use tower_referral_platforms::partnac::Update;
/// use tower_referral_platforms::{Client, Https, Money, Partnac};
///
/// # async fn correct(client: Client<Partnac, Https>) -> Result<(), Box<dyn std::error::Error>> {
/// let update = Update::new().amount(Money::new("89.99", "EUR")?).recalculate_commissions();
/// if !client.update("ORDER-1", &update).await? {
///     println!("Partnac has no such order");
/// }
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "a change does nothing until it is given to `Client::update`"]
pub struct Update {
    amount: Option<Money>,
    unique_id: Option<Id>,
    metadata: BTreeMap<String, String>,
    recalculate_commissions: bool,
}

impl Update {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The right amount.
    pub fn amount(mut self, amount: Money) -> Self {
        self.amount = Some(amount);
        self
    }

    /// Another unique ID.
    ///
    /// # Errors
    ///
    /// The text isn't an ID: see [`InvalidId`].
    pub fn unique_id(mut self, id: impl Into<String>) -> Result<Self, InvalidId> {
        self.unique_id = Some(Id::new(id)?);
        Ok(self)
    }

    /// A fact, which joins those that are there or takes the place of one.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Commissions are worked out anew.
    pub fn recalculate_commissions(mut self) -> Self {
        self.recalculate_commissions = true;
        self
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("amount", &self.amount)
            .field("recalculate_commissions", &self.recalculate_commissions)
            .finish_non_exhaustive()
    }
}

/// Which clicks or conversions to list; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a filter does nothing until it is given to a `Client`"]
pub struct Filter {
    campaign: Option<String>,
    partnership: Option<String>,
}

impl Filter {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of one campaign, by Partnac's ID of it.
    pub fn campaign(mut self, id: impl Into<String>) -> Self {
        self.campaign = Some(id.into());
        self
    }

    /// Those of one partnership, by Partnac's ID of it.
    pub fn partnership(mut self, id: impl Into<String>) -> Self {
        self.partnership = Some(id.into());
        self
    }

    fn query(&self, offset: usize) -> String {
        let mut query = format!("limit={PAGE_LEN}&offset={offset}");
        let filters = [
            ("campaign_id", &self.campaign),
            ("partnership_id", &self.partnership),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", percent_encoded(value)));
            }
        }
        query
    }
}

/// A click as Partnac lists it. `Debug` hides everything but its ID.
#[derive(Clone, PartialEq)]
pub struct ListedClick {
    id: Option<String>,
    json: Value,
}

impl ListedClick {
    fn read(raw: &RawValue) -> Option<Self> {
        let json: Value = serde_json::from_str(raw.get()).ok()?;
        json.is_object().then(|| Self {
            id: text_in(&json, &["click_id", "id", "session_id"]),
            json,
        })
    }

    /// The click ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// All that Partnac says of it.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for ListedClick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedClick")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Client<Partnac, T> {
    /// Records a conversion of any type. Without a referral and a coupon nothing is sent, and the
    /// outcome is [`Outcome::NotAttributed`].
    ///
    /// # Errors
    ///
    /// As [`Client::report`]. Partnac recognises a conversion by its unique ID, so that it may be
    /// sent again.
    pub async fn record(&self, conversion: &Conversion) -> Result<Outcome, ReportError> {
        let platform = self.platform();
        let mut step = platform.convert(conversion, At::ByKey);
        loop {
            match step {
                Step::Done(outcome) => return Ok(outcome),
                Step::Send(request, stage) => {
                    let answer = self.tell(request, conversion.secrets(), true).await?;
                    step = platform
                        .converted(conversion, stage.0, &answer)
                        .map_err(|error| ReportError::new(error, true))?;
                }
            }
        }
    }

    /// Changes a conversion. `false` if Partnac has none of this unique ID.
    ///
    /// # Errors
    ///
    /// As [`Client::report`]. To make the same change twice does no harm.
    pub async fn update(&self, unique_id: &str, update: &Update) -> Result<bool, ReportError> {
        let refuse = |error| ReportError::new(error, true);
        let id = Id::new(unique_id)
            .map_err(|InvalidId| refuse(Error::Unsupported(Unsupported::NotAnId)))?;
        let mut body = Object::new()
            .amount("amount", update.amount)
            .text("unique_id", update.unique_id.as_ref().map(Id::as_str))
            .object("metadata", Object::texts(pairs(&update.metadata)));
        if update.recalculate_commissions {
            body = body.flag("recalculate_commissions", true);
        }
        let path = format!("/conversions/{}", percent_encoded(id.as_str()));
        let request = self.platform().endpoint.patch(&path, body);
        let secrets = update.metadata.values().map(String::as_str);
        let answer = self.tell(request, secrets, true).await?;
        if has_no_conversion(&answer) {
            return Ok(false);
        }
        answer.accepted().map_err(refuse)?;
        Ok(true)
    }

    /// The conversions that a filter lets through, a hundred at a time. *Documented nowhere:* where
    /// a list ends; it is read until a page is empty or the same as the one before.
    ///
    /// ```no_run
    /// # #[cfg(feature = "https")] {
    /// use futures_util::TryStreamExt;
    /// use tower_referral_platforms::partnac::Filter;
    /// use tower_referral_platforms::{Client, Error, Https, Partnac};
    ///
    /// # async fn count(client: Client<Partnac, Https>) -> Result<(), Error> {
    /// let filter = Filter::all().campaign("CAMPAIGN-1");
    /// let conversions: Vec<_> = client.list_conversions(filter).try_collect().await?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub fn list_conversions(&self, filter: Filter) -> Pages<ListedConversion> {
        self.list("conversions", filter, ListedConversion::read)
    }

    /// The clicks that a filter lets through, as [`list_conversions`](Self::list_conversions).
    pub fn list_clicks(&self, filter: Filter) -> Pages<ListedClick> {
        self.list("clicks", filter, ListedClick::read)
    }

    fn list<I: 'static>(
        &self,
        what: &'static str,
        filter: Filter,
        item: fn(&RawValue) -> Option<I>,
    ) -> Pages<I> {
        let endpoint = self.platform().endpoint.clone();
        let ask = move |_, offset| endpoint.get(&format!("/{what}?{}", filter.query(offset)));
        Pages::counted(self, ask, what, item)
    }
}
