//! Partnero. An affiliate program and a refer-a-friend program are two types, because a sign-up
//! means another thing in each. Its webhooks are read here too.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use sha2::Sha256;

use super::client::{Client, Transport};
use super::endpoint::Endpoint;
use super::json::{Object, list_in, text_in};
use super::money::Money;
use super::pages::{Page, Pages};
use super::report::{Contact, Id, InvalidId, Refund, Report, Sale, SignUp};
use super::{
    Answer, Error, Outcome, ReportError, SafeToRepeat, Step, TakeReports, Unsupported,
    percent_encoded,
};
use crate::error::ConfigError;

const BASE_URL: &str = "https://api.partnero.com/v1";

/// An affiliate program at Partnero: `https://api.partnero.com/v1`, with the program's API key as a
/// bearer token.
///
/// A sign-up is a customer of the partner whom the referral names; without a referral nothing is
/// sent, and a partner whom Partnero doesn't know is [`Outcome::NotAttributed`]. A sale names its
/// customer, whom Partnero knows from the sign-up. If it doesn't, and the sale has a referral, or if
/// the customer is a [guest](Sale::guest) with one, customer and sale are made in one call. Coupons,
/// click IDs and metadata aren't sent: Partnero takes none.
///
/// Partnero's own documents disagree on whether it recognises a sale that it was told twice. It is
/// taken not to, so a sale whose fate is unknown is for a person to look at. It takes back whole
/// sales only.
#[derive(Clone, Debug)]
pub struct Partnero {
    endpoint: Endpoint,
}

/// A refer-a-friend program at Partnero, where customers refer customers:
/// `https://api.partnero.com/v1`, with the program's API key as a bearer token.
///
/// Every sign-up is sent, because every customer may refer others, with the referring customer where
/// there is one. Our ID of a customer is sent as `id` and as `key`, since pages name customers by
/// the one and sales by the other. If Partnero doesn't know the referring customer, the sign-up is
/// sent without, and the outcome is [`Outcome::NotAttributed`].
///
/// A sale to a [guest](Sale::guest), or to a customer whom Partnero doesn't know although there is a
/// referral, is preceded by the sign-up. For the rest see [`Partnero`].
///
/// ```no_run
/// # #[cfg(feature = "https")] {
/// use tower_referral::platform::{Client, Https, PartneroFriends};
///
/// # async fn invite(api_key: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let friends = Client::new(PartneroFriends::new(api_key)?, Https::new());
/// if let Some(friend) = friends.friend("CUSTOMER-1").await? {
///     println!("your link: {:?}", friend.referral_link());
///     println!("friends so far: {:?}", friend.referrals_count());
/// }
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PartneroFriends {
    endpoint: Endpoint,
}

impl Partnero {
    /// An affiliate program, with its API key.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(BASE_URL, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
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

impl PartneroFriends {
    /// A refer-a-friend program, with its API key.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(BASE_URL, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
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

// --- Requests ----------------------------------------------------------------------------------

fn with_contact(object: Object, contact: &Contact) -> Object {
    object
        .text("email", contact.email.as_deref())
        .text("name", contact.name.as_deref())
        .text("surname", contact.surname.as_deref())
}

fn transaction(sale: &Sale, customer: Object) -> Object {
    Object::new()
        .object("customer", customer)
        .text("key", sale.order())
        .amount("amount", Some(sale.amount()))
        .text("amount_units", sale.amount().currency())
        .text("action", "sale")
        .text("product_id", sale.product_id())
        .text("product_type", sale.kind_of_product())
}

/// What to begin with; without a request there is nobody to credit.
fn first_step(request: Option<Request<Bytes>>, at: At) -> Step<Stage> {
    match request {
        Some(request) => Step::Send(request, Stage(at)),
        None => Step::Done(Outcome::NotAttributed),
    }
}

/// The sale to a customer whom Partnero knows.
fn known_sale(endpoint: &Endpoint, sale: &Sale) -> Request<Bytes> {
    let customer = Object::new().text("key", sale.customer());
    endpoint.post("/transactions", transaction(sale, customer))
}

fn whole_refund(endpoint: &Endpoint, refund: &Refund) -> Result<Request<Bytes>, Error> {
    if refund.amount().is_some() {
        return Err(Error::Unsupported(Unsupported::PartialRefund));
    }
    Ok(endpoint.delete(&format!(
        "/transactions/{}",
        percent_encoded(refund.order())
    )))
}

// --- Answers -----------------------------------------------------------------------------------

/// Customers and transactions are said to be there already by a 409, or by a 422 "Duplicate key".
fn is_duplicate(answer: &Answer) -> bool {
    answer.status() == StatusCode::CONFLICT
        || answer.says_duplicate(&["key", "customer", "transaction"])
}

/// "Invalid partner key", of an affiliate or of a referring customer.
fn is_unknown_referrer(answer: &Answer) -> bool {
    answer.says_unknown(&["partner", "referring", "referrer", "referral"])
}

fn is_unknown_customer(answer: &Answer) -> bool {
    answer.says_unknown(&["customer"])
}

fn recorded(answer: &Answer) -> Result<Step<Stage>, Error> {
    answer.success()?;
    // What Partnero calls the key is our own ID.
    Ok(Step::Done(Outcome::Recorded { id: None }))
}

fn taken_back(answer: &Answer) -> Result<Step<Stage>, Error> {
    if answer.is_not_found() {
        // It was credited to nobody, or taken back before.
        return Ok(Step::Done(Outcome::NotAttributed));
    }
    // `{"status": 1}`, or nothing at all; a page is no answer of Partnero's.
    answer.acknowledged()?;
    Ok(Step::Done(Outcome::Recorded { id: None }))
}

/// Where an exchange with Partnero is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    SignUp,
    /// Friends: the same sign-up, without the referring customer.
    SignUpAlone,
    /// The sale to a known customer; if the customer is unknown after all, it may be made.
    Sale,
    /// The customer was made, or was there already: there is nothing else to try.
    LastSale,
    /// Customer and sale in one call, or, among friends, the customer before the sale.
    Customer,
    Refund,
}

impl Partnero {
    fn sign_up(&self, sign_up: &SignUp) -> Option<Request<Bytes>> {
        let partner = Object::new().text("key", sign_up.credited_to()?.key().as_str());
        let body = Object::new()
            .object("partner", partner)
            .text("key", sign_up.customer());
        let body = with_contact(body, sign_up.contact());
        Some(self.endpoint.post("/customers", body))
    }

    /// Customer and sale in one call. Without a referral the customer would be nobody's.
    fn sale_with_customer(&self, sale: &Sale) -> Option<Request<Bytes>> {
        let partner = Object::new().text("key", sale.credited_to()?.key().as_str());
        let mut customer = Object::new().text("key", sale.customer());
        if let Some(contact) = sale.guest_contact() {
            customer = with_contact(customer, contact);
        }
        let body = transaction(sale, customer.object("partner", partner));
        let body = body.object("options", Object::new().flag("create_customer", true));
        Some(self.endpoint.post("/transactions", body))
    }
}

impl TakeReports for Partnero {
    type Stage = Stage;

    fn begin(&self, report: &Report) -> Result<Step<Stage>, Error> {
        let (request, at) = match report {
            Report::SignUp(sign_up) => (self.sign_up(sign_up), At::SignUp),
            Report::Sale(sale) if sale.is_guest() => (self.sale_with_customer(sale), At::Customer),
            Report::Sale(sale) => (Some(known_sale(&self.endpoint, sale)), At::Sale),
            Report::Refund(refund) => (Some(whole_refund(&self.endpoint, refund)?), At::Refund),
        };
        Ok(first_step(request, at))
    }

    fn next(&self, report: &Report, stage: Stage, answer: &Answer) -> Result<Step<Stage>, Error> {
        let nobody = Ok(Step::Done(Outcome::NotAttributed));
        match (stage.0, report) {
            (At::Refund, _) => taken_back(answer),
            // A guest who bought before: if it is the sale that is there already, the same answer
            // comes again.
            (At::Customer, Report::Sale(sale)) if is_duplicate(answer) => {
                let request = known_sale(&self.endpoint, sale);
                Ok(Step::Send(request, Stage(At::LastSale)))
            }
            (_, _) if is_duplicate(answer) => Ok(Step::Done(Outcome::Duplicate)),
            (At::Sale, Report::Sale(sale)) if is_unknown_customer(answer) => {
                self.sale_with_customer(sale).map_or(nobody, |request| {
                    Ok(Step::Send(request, Stage(At::Customer)))
                })
            }
            (At::LastSale, _) if is_unknown_customer(answer) => nobody,
            (_, _) if is_unknown_referrer(answer) => nobody,
            _ => recorded(answer),
        }
    }

    /// Customers are unique by their key, and what was taken back isn't there any more. Of sales
    /// nobody knows.
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Sale(_))
    }
}

impl PartneroFriends {
    /// The customer of a sign-up or a sale.
    fn customer(
        &self,
        customer: &str,
        contact: Option<&Contact>,
        referrer: Option<&str>,
    ) -> Request<Bytes> {
        let referring = Object::new().text("key", referrer);
        let body = Object::new()
            .object("referring_customer", referring)
            .text("key", customer)
            .text("id", customer);
        let body = match contact {
            Some(contact) => with_contact(body, contact),
            None => body,
        };
        self.endpoint.post("/customers", body)
    }

    fn customer_of(&self, report: &Report, is_referred: bool) -> Option<Request<Bytes>> {
        let (customer, contact, credit) = match report {
            Report::SignUp(sign_up) => (
                sign_up.customer(),
                Some(sign_up.contact()),
                sign_up.credited_to(),
            ),
            Report::Sale(sale) => (sale.customer(), sale.guest_contact(), sale.credited_to()),
            Report::Refund(_) => return None,
        };
        let referrer = credit.map(|credit| credit.key().as_str());
        Some(self.customer(customer, contact, referrer.filter(|_| is_referred)))
    }
}

impl TakeReports for PartneroFriends {
    type Stage = Stage;

    fn begin(&self, report: &Report) -> Result<Step<Stage>, Error> {
        let (request, at) = match report {
            Report::SignUp(_) => (self.customer_of(report, true), At::SignUp),
            Report::Sale(sale) if sale.is_guest() => {
                let request = self.customer_of(report, true).map(|mut request| {
                    request.extensions_mut().insert(SafeToRepeat);
                    request
                });
                (request, At::Customer)
            }
            Report::Sale(sale) => (Some(known_sale(&self.endpoint, sale)), At::Sale),
            Report::Refund(refund) => (Some(whole_refund(&self.endpoint, refund)?), At::Refund),
        };
        Ok(first_step(request, at))
    }

    fn next(&self, report: &Report, stage: Stage, answer: &Answer) -> Result<Step<Stage>, Error> {
        let nobody = Ok(Step::Done(Outcome::NotAttributed));
        match (stage.0, report) {
            (At::Refund, _) => taken_back(answer),
            (At::Customer, Report::Sale(sale)) => {
                if is_unknown_referrer(answer) {
                    return nobody;
                }
                if !is_duplicate(answer) {
                    answer.accepted()?;
                }
                let request = known_sale(&self.endpoint, sale);
                Ok(Step::Send(request, Stage(At::LastSale)))
            }
            (_, _) if is_duplicate(answer) => Ok(Step::Done(Outcome::Duplicate)),
            (At::SignUp, Report::SignUp(sign_up))
                if sign_up.credited_to().is_some() && is_unknown_referrer(answer) =>
            {
                let request = self.customer_of(report, false);
                request.map_or(nobody, |request| {
                    Ok(Step::Send(request, Stage(At::SignUpAlone)))
                })
            }
            (At::SignUpAlone, _) => {
                answer.accepted()?;
                nobody
            }
            (At::Sale, Report::Sale(sale)) if is_unknown_customer(answer) => {
                match self.customer_of(report, true) {
                    Some(mut request) if sale.credited_to().is_some() => {
                        // Nothing is sold yet, and customers are unique.
                        request.extensions_mut().insert(SafeToRepeat);
                        Ok(Step::Send(request, Stage(At::Customer)))
                    }
                    _ => nobody,
                }
            }
            (At::LastSale, _) if is_unknown_customer(answer) => nobody,
            _ => recorded(answer),
        }
    }

    /// As with [`Partnero`].
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Sale(_))
    }
}

// --- What only Partnero has --------------------------------------------------------------------

/// A customer of a refer-a-friend program, as Partnero knows one. `Debug` hides all of it.
#[derive(Clone, PartialEq)]
pub struct Friend {
    id: Option<String>,
    referral_link: Option<String>,
    json: Value,
}

impl Friend {
    fn read(json: Value) -> Option<Self> {
        let json = match json {
            Value::Object(mut object) => match object.remove("data") {
                Some(data @ Value::Object(_)) => data,
                Some(_) => return None,
                None => Value::Object(object),
            },
            _ => return None,
        };
        let link_of = |json: &Value| match json {
            Value::String(link) => Some(link.clone()),
            link => text_in(link, &["url", "link"]),
        };
        let link = json.get("referral_link").and_then(link_of);
        let first = || link_of(json.get("referral_links")?.get(0)?);
        Some(Self {
            id: text_in(&json, &["id", "key"]),
            referral_link: link.or_else(first),
            json,
        })
    }

    /// The customer's ID, which is ours.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The link by which this customer refers others; the first one if there are several.
    #[must_use]
    pub fn referral_link(&self) -> Option<&str> {
        self.referral_link.as_deref()
    }

    /// How many others this customer has referred.
    #[must_use]
    pub fn referrals_count(&self) -> Option<u64> {
        self.json.get("referrals_count")?.as_u64()
    }

    /// All that Partnero says of the customer.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for Friend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Friend").finish_non_exhaustive()
    }
}

impl<T: Transport> Client<Partnero, T> {
    /// Does Partnero take the API key?
    ///
    /// # Errors
    ///
    /// It doesn't, or it can't be reached.
    pub async fn check_key(&self) -> Result<(), Error> {
        let request = self.platform().endpoint.get("/test");
        self.ask(request).await?.accepted()
    }

    /// Reports several sales in one request, all of customers whom Partnero knows. What becomes of
    /// the others if it refuses one is documented nowhere. None at all are
    /// [`Outcome::NotAttributed`].
    ///
    /// # Errors
    ///
    /// As [`Client::report`] for a sale.
    pub async fn report_sales(&self, sales: &[Sale]) -> Result<Outcome, ReportError> {
        report_sales(self, &self.platform().endpoint, sales).await
    }
}

async fn report_sales<P, T>(
    client: &Client<P, T>,
    endpoint: &Endpoint,
    sales: &[Sale],
) -> Result<Outcome, ReportError>
where
    T: Transport,
{
    if sales.is_empty() {
        return Ok(Outcome::NotAttributed);
    }
    let transactions = sales.iter().map(|sale| {
        let customer = Object::new().text("key", sale.customer());
        transaction(sale, customer)
    });
    let body = Object::new().list("transactions", transactions);
    let secrets = sales.iter().map(Sale::customer);
    let request = endpoint.post("/transactions", body);
    let answer = client.tell(request, secrets, false).await?;
    let refuse = |error| ReportError::new(error, false);
    answer.success().map_err(refuse)?;
    Ok(Outcome::Recorded { id: None })
}

impl<T: Transport> Client<PartneroFriends, T> {
    /// Does Partnero take the API key?
    ///
    /// # Errors
    ///
    /// It doesn't, or it can't be reached.
    pub async fn check_key(&self) -> Result<(), Error> {
        let request = self.platform().endpoint.get("/test");
        self.ask(request).await?.accepted()
    }

    /// Reports several sales in one request, as [`Client::<Partnero, _>::report_sales`].
    ///
    /// # Errors
    ///
    /// As [`Client::report`] for a sale.
    pub async fn report_sales(&self, sales: &[Sale]) -> Result<Outcome, ReportError> {
        report_sales(self, &self.platform().endpoint, sales).await
    }

    /// A customer, with the link by which they refer others; `None` if Partnero has none of this
    /// ID.
    ///
    /// # Errors
    ///
    /// The text isn't an ID, or Partnero refused or can't be reached.
    pub async fn friend(&self, customer: &str) -> Result<Option<Friend>, Error> {
        let Some(json) = self.page_of(customer, "").await? else {
            return Ok(None);
        };
        let status = StatusCode::OK;
        Friend::read(json)
            .map(Some)
            .ok_or(Error::Unreadable { status })
    }

    /// How a customer's referrals do: Partnero's own JSON, whose fields it documents nowhere; `None`
    /// if Partnero has no such customer.
    ///
    /// # Errors
    ///
    /// As [`friend`](Self::friend).
    pub async fn friend_stats(&self, customer: &str) -> Result<Option<Value>, Error> {
        self.page_of(customer, "/stats").await
    }

    /// What a customer has earned: Partnero's own JSON, whose fields it documents nowhere; `None` if
    /// Partnero has no such customer.
    ///
    /// # Errors
    ///
    /// As [`friend`](Self::friend).
    pub async fn friend_balance(&self, customer: &str) -> Result<Option<Value>, Error> {
        self.page_of(customer, "/balance").await
    }

    /// Gives a customer credit. Partnero doesn't recognise a credit that it was told twice.
    ///
    /// # Errors
    ///
    /// As [`Client::report`].
    pub async fn credit_friend(&self, customer: &str, amount: Money) -> Result<(), ReportError> {
        let refuse = |error| ReportError::new(error, false);
        let path = format!("{}/balance/credit", path_of(customer).map_err(refuse)?);
        let body = Object::new()
            .amount("amount", Some(amount))
            .text("amount_units", amount.currency())
            .flag("is_currency", true);
        let request = self.platform().endpoint.post(&path, body);
        let secrets = std::iter::once(customer);
        let answer = self.tell(request, secrets, false).await?;
        answer.accepted().map_err(refuse)
    }

    async fn page_of(&self, customer: &str, page: &str) -> Result<Option<Value>, Error> {
        let path = format!("{}{page}", path_of(customer)?);
        let answer = self.ask(self.platform().endpoint.get(&path)).await?;
        let answer = answer.without(std::iter::once(customer));
        if answer.is_not_found() {
            return Ok(None);
        }
        answer.success().map(Some)
    }

    /// Whom a customer has referred. Partnero names the next page by its URL, which is followed on
    /// the base URL's own origin only, so that the API key goes nowhere else: see
    /// [`Error::ForeignLink`].
    ///
    /// # Errors
    ///
    /// The text isn't an ID.
    pub fn friend_referrals(&self, customer: &str) -> Result<Pages<Friend>, Error> {
        let path = format!("{}/referrals", path_of(customer)?);
        let endpoint = self.platform().endpoint.clone();
        let first = endpoint.get(&path);
        let mut seen = HashSet::from([first.uri().clone()]);
        Ok(Pages::new(self, first, move |answer| {
            let json = answer.success()?;
            let unreadable = || Error::Unreadable {
                status: answer.status(),
            };
            let list = list_in(answer.body(), &["referrals"]).ok_or_else(unreadable)?;
            let friend = |json: &str| Friend::read(serde_json::from_str(json).ok()?);
            let items = list.iter().filter_map(|raw| friend(raw.get())).collect();
            let next = match json.get("links").and_then(|links| links.get("next")) {
                None | Some(Value::Null) => None,
                Some(Value::String(url)) => {
                    let next = endpoint.get_next(url).ok_or(Error::ForeignLink)?;
                    // A list that bites its own tail is at its end.
                    seen.insert(next.uri().clone()).then_some(next)
                }
                Some(_) => return Err(unreadable()),
            };
            Ok(Page { items, next })
        }))
    }
}

fn path_of(customer: &str) -> Result<String, Error> {
    let id = Id::new(customer).map_err(|InvalidId| Error::Unsupported(Unsupported::NotAnId))?;
    Ok(format!("/customers/{}", percent_encoded(id.as_str())))
}

// --- Webhooks ----------------------------------------------------------------------------------

/// Reads Partnero's webhooks, which are signed with the webhook's own secret. Answer 2xx within 5
/// seconds.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tower_referral::platform::partnero::Webhooks;
///
/// fn webhook(webhooks: &Webhooks, headers: &HeaderMap, body: &[u8]) -> StatusCode {
///     match webhooks.read(headers, body) {
///         Ok(event) => {
///             println!("{} at {:?}", event.name(), event.created_at());
///             StatusCode::NO_CONTENT
///         }
///         Err(_) => StatusCode::BAD_REQUEST,
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    secret: Box<[u8]>,
}

impl Webhooks {
    /// A reader of the webhooks that are signed with this secret.
    ///
    /// # Errors
    ///
    /// The secret is empty: anybody could sign with that.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let secret: Box<[u8]> = secret.as_ref().into();
        if secret.is_empty() {
            return Err(ConfigError::EmptyWebhookSecret);
        }
        Ok(Self { secret })
    }

    /// Reads a webhook. `body` is the raw body, byte for byte as it came: JSON that was read and
    /// written again has another signature.
    ///
    /// The signature is compared in constant time. It doesn't cover when the webhook was sent, so
    /// one that somebody has recorded can be sent again: handle each event so that it does no harm
    /// twice.
    ///
    /// # Errors
    ///
    /// The webhook isn't signed with this secret, or isn't an event.
    pub fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, InvalidWebhook> {
        let mut signatures = headers.get_all("signature").iter();
        let (Some(signature), None) = (signatures.next(), signatures.next()) else {
            return Err(InvalidWebhook::Unsigned);
        };
        if !constant_time_eq(signature.as_bytes(), self.signature_of(body).as_bytes()) {
            return Err(InvalidWebhook::BadSignature);
        }
        Event::read(body).ok_or(InvalidWebhook::Unreadable)
    }

    /// Lower-case hex HMAC-SHA256.
    fn signature_of(&self, body: &[u8]) -> String {
        let mut signature = String::with_capacity(64);
        // HMAC takes a key of any length.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) {
            mac.update(body);
            for byte in mac.finalize().into_bytes() {
                signature.push_str(&format!("{byte:02x}"));
            }
        }
        signature
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

/// What a webhook tells. `Debug` hides its data.
#[derive(Clone, PartialEq)]
pub struct Event {
    name: String,
    created_at: Option<String>,
    data: Value,
}

impl Event {
    fn read(body: &[u8]) -> Option<Self> {
        let mut json: Value = serde_json::from_slice(body).ok()?;
        Some(Self {
            name: json.get("event")?.as_str()?.to_owned(),
            created_at: text_in(&json, &["created_at"]),
            data: json.get_mut("data").map(Value::take).unwrap_or_default(),
        })
    }

    /// What happened, for instance `transaction.created`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When, in Partnero's own writing.
    #[must_use]
    pub fn created_at(&self) -> Option<&str> {
        self.created_at.as_deref()
    }

    /// To what it happened.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a webhook isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWebhook {
    /// There is no `Signature`, or more than one.
    Unsigned,
    /// The signature is another one: wrong secret, or a body that was changed.
    BadSignature,
    /// It is signed, and isn't an event.
    Unreadable,
}

impl fmt::Display for InvalidWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "the webhook has no `Signature`, or more than one",
            Self::BadSignature => {
                "the webhook's signature is wrong: check that the secret is this webhook's, and \
                 that the body is given as it came, byte for byte"
            }
            Self::Unreadable => "the webhook is signed, but its body is no event",
        })
    }
}

impl std::error::Error for InvalidWebhook {}
