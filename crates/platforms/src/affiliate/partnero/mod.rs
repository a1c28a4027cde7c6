//! Partnero. An affiliate program and a refer-a-friend program are two types, because a sign-up
//! means another thing in each.

mod friends;
mod program;
mod webhooks;
mod wire;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use tower_referral::ReferralKey;

pub use self::friends::Friend;
pub use self::program::PartneroFriends;
pub use self::webhooks::{Event, InvalidWebhook, Webhooks};
use self::wire::{
    Customer, NewCustomer, Options, Person, Transaction, Transactions, credited, is_duplicate,
    is_unknown_customer, is_unknown_referrer, refuse_fields, taken_back, whole_refund,
};
use crate::endpoint::{Endpoint, encoded};
use crate::json::list_in;
use crate::{
    Answer, Client, ConfigError, Error, ListedConversion, Outcome, PlatformIds, Receipt, Report,
    ReportApi, ReportError, Sale, SignUp, Step, Transport, Unsupported,
};

const BASE_URL: &str = "https://api.partnero.com/v1";
/// The most pages of a customer's transactions that are looked through for one.
const MAX_PAGES: u8 = 20;

/// An affiliate program at Partnero: `https://api.partnero.com/v1`, with the program's API key as a
/// bearer token.
///
/// A sign-up is a customer of the partner whom the referral names; without a referral nothing is
/// sent, and a partner whom Partnero doesn't know is [`Outcome::NotAttributed`]. A sale names its
/// customer, whom Partnero knows from the sign-up. If it doesn't, and the sale has a referral, or if
/// the customer is a [guest](Sale::guest) with one, customer and sale are made in one call. Partnero
/// credits by the partner only: coupons and click IDs aren't sent.
///
/// Partnero's own documents disagree on whether it detects a duplicate sale. It is taken not to: a
/// sale whose outcome is unknown is looked for in the customer's transactions, and is for a person
/// to look at if it isn't there. It takes back whole sales only.
#[derive(Clone, Debug)]
pub struct Partnero {
    endpoint: Endpoint,
    partner_by: PartnerBy,
}

/// What a referral key is to Partnero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartnerBy {
    /// The partner's key.
    #[default]
    Key,
    /// The partner's e-mail address.
    Email,
    /// Partnero's ID of the partner.
    Id,
}

impl Partnero {
    /// Creates an affiliate program, with its API key.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(BASE_URL, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            partner_by: PartnerBy::Key,
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

    /// Sets what a referral key is to Partnero: the partner's key by default.
    #[must_use]
    pub fn partner_by(mut self, by: PartnerBy) -> Self {
        self.partner_by = by;
        self
    }

    fn partner<'a>(&self, report: &'a Report) -> Option<Person<'a>> {
        let key = report.credit()?.key().map(ReferralKey::as_str)?;
        Some(match self.partner_by {
            PartnerBy::Key => Person::by_key(key),
            PartnerBy::Email => Person::by_email(key),
            PartnerBy::Id => Person::by_id(key),
        })
    }

    fn sign_up(&self, report: &Report, sign_up: &SignUp) -> Result<Step<Stage>, Error> {
        let Some(partner) = self.partner(report) else {
            return Ok(Outcome::NotAttributed.into());
        };
        refuse_fields(&sign_up.details, true)?;
        let missing = Error::Unsupported(Unsupported::MissingField("customer"));
        let key = sign_up.customer().ok_or(missing)?;
        let body = NewCustomer {
            partner: Some(partner),
            key: Some(key),
            tags: sign_up.tags(),
            options: Options::referral_url(sign_up.referral_url()),
            ..NewCustomer::of(sign_up.contact())
        };
        let request = self.endpoint.post("/customers", &body);
        Ok(Step::send(request, Stage(At::SignUp)))
    }

    /// Returns customer and sale in one call. Without a referral the customer would be nobody's.
    fn sale_with_customer(&self, report: &Report, sale: &Sale) -> Result<Step<Stage>, Error> {
        let Some(partner) = self.partner(report) else {
            return Ok(Outcome::NotAttributed.into());
        };
        refuse_fields(&sale.details, true)?;
        let customer = Customer {
            partner: Some(partner),
            tags: sale.tags(),
            ..Customer::of(sale.customer(), sale.contact())
        };
        let body = Transaction {
            customer: Some(customer),
            options: Some(Options::create_customer(sale.referral_url())),
            ..Transaction::of(sale)
        };
        let request = self.endpoint.post("/transactions", &body);
        Ok(Step::send(request, Stage(At::Customer)))
    }
}

/// Returns the sale to a customer whom Partnero knows.
fn known_sale(endpoint: &Endpoint, sale: &Sale, at: At) -> Result<Step<Stage>, Error> {
    refuse_fields(&sale.details, true)?;
    let body = Transaction {
        customer: Some(Customer::known(sale.customer())),
        ..Transaction::of(sale)
    };
    let request = endpoint.post("/transactions", &body);
    Ok(Step::send(request, Stage(at)))
}

/// Returns the request for the transactions of a sale's customer.
fn look_up(endpoint: &Endpoint, report: &Report) -> Option<Step<Stage>> {
    let Report::Sale(sale) = report else {
        return None;
    };
    let path = format!("/customers/{}/transactions", encoded(sale.customer()));
    Some(Step::send(endpoint.get(&path), Stage(At::LookUp(1))))
}

/// Looks for a sale among a customer's transactions, page by page.
fn looked_up(
    endpoint: &Endpoint,
    report: &Report,
    page: u8,
    answer: &Answer,
) -> Result<Step<Stage>, Error> {
    if answer.is_not_found() {
        return Err(Error::NotListed);
    }
    answer.accepted()?;
    let list = list_in(answer.body(), ["transactions", "data"]);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let mut listed = list.iter().filter_map(|raw| ListedConversion::read(raw));
    if listed.any(|listed| listed.external_id() == report.order()) {
        return Ok(Outcome::Duplicate.into());
    }
    match wire::next_page(endpoint, answer)? {
        Some(request) if page < MAX_PAGES => Ok(Step::send(request, Stage(At::LookUp(page + 1)))),
        _ => Err(Error::NotListed),
    }
}

fn recorded(answer: &Answer) -> Result<Step<Stage>, Error> {
    answer.accepted_json()?;
    // What Partnero calls the key is our own ID.
    Ok(Outcome::Recorded.into())
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
    /// The customer's transactions are looked through, this page of them.
    LookUp(u8),
}

impl ReportApi for Partnero {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        match report {
            Report::SignUp(sign_up) => self.sign_up(report, sign_up),
            Report::Sale(sale) if sale.is_guest() => self.sale_with_customer(report, sale),
            Report::Sale(sale) => known_sale(&self.endpoint, sale, At::Sale),
            Report::Refund(refund) => whole_refund(&self.endpoint, refund),
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
        let nobody = Ok(Outcome::NotAttributed.into());
        match (stage.0, report) {
            (At::LookUp(page), _) => looked_up(&self.endpoint, report, page, answer),
            (At::Refund, _) => taken_back(answer),
            // A guest who bought before: if it is the sale that is there already, the same answer
            // comes again.
            (At::Customer, Report::Sale(sale)) if is_duplicate(answer) => {
                known_sale(&self.endpoint, sale, At::LastSale)
            }
            (_, _) if is_duplicate(answer) => Ok(Outcome::Duplicate.into()),
            (At::Sale, Report::Sale(sale)) if is_unknown_customer(answer) => {
                self.sale_with_customer(report, sale)
            }
            (At::LastSale, _) if is_unknown_customer(answer) => nobody,
            (_, _) if is_unknown_referrer(answer) => nobody,
            // "Ignored" may be a 2xx that credits nobody.
            (At::SignUp, _) => Ok(credited(answer, "partner")?.into()),
            _ => recorded(answer),
        }
    }

    /// Customers are unique by their key, and what was taken back isn't there any more. Of sales
    /// nobody knows.
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Sale(_))
    }

    fn settle(&self, report: &Report, _: &PlatformIds) -> Option<Step<Stage>> {
        look_up(&self.endpoint, report)
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/test"))
    }
}

impl<T: Transport> Client<Partnero, T> {
    /// Reports several sales of one customer, whom Partnero knows, in one request. What happens to
    /// the others if it refuses one is documented nowhere. None at all are
    /// [`Outcome::NotAttributed`].
    ///
    /// # Errors
    ///
    /// The sales aren't of one customer, or as [`Client::report`] for a sale.
    pub async fn report_sales(&self, sales: &[Sale]) -> Result<Receipt, ReportError> {
        report_sales(self, &self.platform().endpoint, sales).await
    }
}

async fn report_sales<P, T>(
    client: &Client<P, T>,
    endpoint: &Endpoint,
    sales: &[Sale],
) -> Result<Receipt, ReportError>
where
    T: Transport,
{
    let refuse = |error| ReportError::new(error, false);
    let Some(first) = sales.first() else {
        return Ok(Outcome::NotAttributed.into());
    };
    if sales.iter().any(|sale| sale.customer() != first.customer()) {
        return Err(refuse(Error::Unsupported(Unsupported::Value("customer"))));
    }
    for sale in sales {
        refuse_fields(&sale.details, true).map_err(refuse)?;
    }
    let body = Transactions {
        customer: Customer::known(first.customer()),
        transactions: sales.iter().map(Transaction::of).collect(),
    };
    let secrets = sales
        .iter()
        .flat_map(|sale| [sale.customer(), sale.order()]);
    let request = endpoint.post("/transactions", &body);
    let answer = client.tell(request, secrets, false).await?;
    answer.accepted_json().map_err(refuse)?;
    Ok(Outcome::Recorded.into())
}
