//! Partnero. An affiliate program and a refer-a-friend program are two types, because a sign-up
//! means another thing in each.

mod friends;
mod webhooks;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};

pub use self::friends::Friend;
pub use self::webhooks::{Event, InvalidWebhook, Webhooks};
use super::client::{Client, Transport};
use super::endpoint::Endpoint;
use super::json::Object;
use super::report::{Contact, Refund, Report, Sale, SignUp};
use super::{
    Answer, Error, Outcome, ReportError, SafeToRepeat, Step, TakeReports, Unsupported,
    percent_encoded,
};
use crate::ConfigError;

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
/// use tower_referral_platforms::{Client, Https, PartneroFriends};
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
}
