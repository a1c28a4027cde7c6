//! Partnero. An affiliate program and a refer-a-friend program are two types, because a sign-up
//! means another thing in each. What it makes it answers with the `key` or `id` of, under `data`; what it
//! takes back, with `"status": 1` alone, or a 204.

mod friends;
mod links;
mod program;
mod refunds;
mod settings;
mod webhook;
mod wire;

use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;
use tower_referral::ReferralKey;

pub use self::friends::Friend;
pub use self::settings::PartneroFriends;
pub use self::webhook::Webhook;
use self::wire::{
    Customer, MADE, NewCustomer, Options, Person, TRANSACTIONS, Transaction, Transactions,
    credited, done, is_duplicate, is_unknown_customer, is_unknown_referrer, tags,
};
use crate::endpoint::Endpoint;
use crate::{
    Answer, BaseUrl, Client, ConfigError, Error, ListedConversion, Pages, PlatformIds, Receipt,
    Report, ReportApi, ReportError, Sale, SignUp, Step, Transport, Unsupported,
};

/// The landing parameters with the referral key, of which a program has one: which one is set in Partnero,
/// under *Programs, Settings, Referral links*.
pub const PARAMS: [&str; 3] = ["aff", "ref", "via"];

const BASE_URL: &str = "https://api.partnero.com/v1";
/// The most pages of a customer's transactions that are looked through for one.
const MAX_PAGES: u8 = 20;

/// An affiliate program at Partnero: `https://api.partnero.com/v1`, with the program's API key as a
/// bearer token.
///
/// A sign-up is a customer of the partner whom the referral names; without a referral nothing is
/// sent, and a partner whom Partnero doesn't know is
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed). A sale names its
/// customer, whom Partnero knows from the sign-up. If it doesn't, and the sale has a referral, or if
/// the customer is a [guest](Sale::guest) with one, customer and sale are made in one call: tags and
/// the landing's URL of a sale are for that case, since any other customer has those of the sign-up.
/// A subscription's interval is the `product_type` where the sale has none of its own. Partnero
/// credits by the partner only: click IDs aren't sent, and coupons are refused unless
/// [`leave_out_coupons`](Self::leave_out_coupons) says otherwise.
///
/// Partnero's own documents disagree on whether it detects a duplicate sale. It is taken not to: a
/// sale whose outcome is unknown is looked for in the customer's transactions, and is for a person
/// to look at if it isn't there. It takes back whole sales only: a partial refund is refused, until
/// the parts make the whole ([`Refund::with_total_refunded`](crate::Refund::with_total_refunded)), or
/// done by a [smaller sale](Self::replace_partly_refunded).
#[derive(Clone, Debug)]
pub struct Partnero {
    endpoint: Endpoint,
    partner_by: PartnerBy,
    options: ProgramOptions,
}

/// What both kinds of program have in common.
#[derive(Clone, Copy, Debug, Default)]
struct ProgramOptions {
    leaves_out_coupons: bool,
    replaces_partly_refunded: bool,
}

impl ProgramOptions {
    /// Refuses what Partnero has no place for.
    fn check(self, report: &Report, taken: &[&str]) -> Result<(), Error> {
        report.refuse_fields(taken, self.leaves_out_coupons)
    }
}

/// What a sale may have in any program.
const SALE_FIELDS: [&str; 5] = ["action", "product", "product_type", "interval", "paid_at"];

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
            options: ProgramOptions::default(),
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

    /// Sets what a referral key is to Partnero: the partner's key by default.
    #[must_use]
    pub fn partner_by(mut self, by: PartnerBy) -> Self {
        self.partner_by = by;
        self
    }

    /// Sends reports that have a coupon without it. Partnero knows coupons from a connected checkout
    /// only; by default a coupon is refused, so that none is lost unnoticed.
    #[must_use]
    pub fn leave_out_coupons(mut self) -> Self {
        self.options.leaves_out_coupons = true;
        self
    }

    /// Does a partial refund by deleting the sale and making a smaller one under the same key, of what
    /// is left. The refund has to say its [customer](crate::Refund::with_customer), the
    /// [sale's amount](crate::Refund::with_sale_amount) and the
    /// [total](crate::Refund::with_total_refunded).
    ///
    /// The smaller sale is of the day on which it is made, has no product, and starts the program's
    /// holding period anew. Between the two calls there is no sale: an attempt that ends there goes on
    /// with the smaller sale the next time, unless nobody knows whether that arrived and the
    /// customer's transactions don't show it, which is for a person to look at. So is one of which nobody
    /// knows whether the sale was deleted: sent again, it goes on with the smaller sale, if the sale's
    /// [ID](crate::PlatformIds::sale) is handed in.
    #[must_use]
    pub fn replace_partly_refunded(mut self) -> Self {
        self.options.replaces_partly_refunded = true;
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
            return Ok(Receipt::not_attributed().into());
        };
        self.options
            .check(report, &["tags", "referral_url", "metadata"])?;
        let missing = Error::Unsupported(Unsupported::MissingField("customer"));
        let key = sign_up.customer().ok_or(missing)?;
        let body = NewCustomer {
            partner: Some(partner),
            key: Some(key),
            tags: tags(&sign_up.details)?,
            options: Options::referral_url(sign_up.referral_url()),
            ..NewCustomer::of(sign_up.contact())
        };
        let request = self.endpoint.post("/customers", &body);
        Ok(Step::send(request, Stage(At::SignUp)))
    }

    /// Returns customer and sale in one call. Without a referral the customer would be nobody's.
    fn sale_with_customer(&self, report: &Report, sale: &Sale) -> Result<Step<Stage>, Error> {
        let Some(partner) = self.partner(report) else {
            return Ok(Receipt::not_attributed().into());
        };
        let customer = Customer {
            partner: Some(partner),
            tags: tags(&sale.details)?,
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
fn known_sale(endpoint: &Endpoint, sale: &Sale, at: At) -> Step<Stage> {
    let body = Transaction {
        customer: Some(Customer::known(sale.customer())),
        ..Transaction::of(sale)
    };
    let request = endpoint.post("/transactions", &body);
    Step::send(request, Stage(at))
}

/// Returns the request for the transactions of a sale's customer.
fn look_up(endpoint: &Endpoint, report: &Report) -> Option<Step<Stage>> {
    match report {
        Report::Sale(sale) => {
            let path = refunds::transactions_of(sale.customer());
            let request = endpoint.get_list(&path, TRANSACTIONS);
            Some(Step::send(request, Stage(At::LookUp(1))))
        }
        Report::Refund(refund) => refunds::settle(endpoint, refund),
        _ => None,
    }
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
    let list = answer.list(TRANSACTIONS);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let order = report.order().unwrap_or_default();
    let mut listed = list.iter();
    if listed.any(|raw| ListedConversion::read_if(raw, order).is_some()) {
        return Ok(Receipt::duplicate().into());
    }
    match wire::next_page(endpoint, answer, TRANSACTIONS)? {
        Some(request) if page < MAX_PAGES => Ok(Step::send(request, Stage(At::LookUp(page + 1)))),
        _ => Err(Error::NotListed),
    }
}

/// Reads the answer to a sale. "Ignored" may be a success without a transaction: then nobody is credited.
fn recorded(answer: &Answer) -> Result<Step<Stage>, Error> {
    // What Partnero calls the key is our own ID.
    let mark = match answer.shows(MADE) {
        Ok(mark) => mark,
        Err(error) => {
            let [data] = answer.properties(["data"]).unwrap_or_default();
            let is_empty = data.is_some_and(|data| matches!(data, "null" | "[]" | "{}" | "false"));
            let is_ignored = is_empty && done(answer).is_ok();
            return is_ignored
                .then(|| Receipt::not_attributed().into())
                .ok_or(error);
        }
    };
    // Kept for a refund, which may find no sale because an earlier attempt has deleted it.
    let ids = PlatformIds {
        sale: mark.id(),
        ..PlatformIds::default()
    };
    Ok(Receipt::recorded(mark).with_ids(ids).into())
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
    /// The sale was deleted, to be replaced by a smaller one; `was_there` says that it was there before
    /// this refund.
    ReplacedSale {
        was_there: bool,
    },
    SmallerSale,
    /// The customer's transactions are looked through for what a refund has left, this page of them.
    RefundLookUp(u8),
    /// The customer's transactions are looked through, this page of them.
    LookUp(u8),
}

impl ReportApi for Partnero {
    type Stage = Stage;

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Stage>, Error> {
        match report {
            Report::SignUp(sign_up) => self.sign_up(report, sign_up),
            Report::Sale(sale) => {
                let mut taken = vec!["tags", "referral_url", "metadata"];
                taken.extend(SALE_FIELDS);
                self.options.check(report, &taken)?;
                // Nothing but tags may be in there.
                tags(&sale.details)?;
                if sale.is_guest() {
                    self.sale_with_customer(report, sale)
                } else {
                    Ok(known_sale(&self.endpoint, sale, At::Sale))
                }
            }
            Report::Refund(refund) => {
                self.options.check(report, &[])?;
                let replaces = self.options.replaces_partly_refunded;
                refunds::begin(&self.endpoint, refund, replaces, ids)
            }
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
        let nobody = Ok(Receipt::not_attributed().into());
        match (stage.0, report) {
            (At::LookUp(page), _) => looked_up(&self.endpoint, report, page, answer),
            (at, Report::Refund(refund)) => refunds::next(&self.endpoint, refund, at, answer),
            // A guest who bought before: if it is the sale that is there already, the same answer
            // comes again.
            (At::Customer, Report::Sale(sale)) if is_duplicate(answer) => {
                Ok(known_sale(&self.endpoint, sale, At::LastSale))
            }
            (_, _) if is_duplicate(answer) => Ok(Receipt::duplicate().into()),
            (At::Sale, Report::Sale(sale)) if is_unknown_customer(answer) => {
                self.sale_with_customer(report, sale)
            }
            (At::LastSale, _) if is_unknown_customer(answer) => nobody,
            (_, _) if is_unknown_referrer(answer) => nobody,
            // "Ignored" may be a 2xx that credits nobody.
            (At::SignUp, _) => Ok(credited(answer, "/data/partner")?.into()),
            _ => recorded(answer),
        }
    }

    /// Customers are unique by their key, and what was taken back isn't there any more. Of sales
    /// nobody knows, so not of smaller ones either.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::Refund(refund) => refund.completes_whole(),
            report => !matches!(report, Report::Sale(_)),
        }
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
    /// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed).
    ///
    /// # Errors
    ///
    /// The sales aren't of one customer, or as [`Client::report`] for a sale.
    pub async fn report_sales(&self, sales: &[Sale]) -> Result<Receipt, ReportError> {
        let platform = self.platform();
        report_sales(self, &platform.endpoint, platform.options, sales).await
    }

    /// Lists what a customer has bought: Partnero has no list over all customers that is documented
    /// here.
    ///
    /// # Errors
    ///
    /// The text isn't an ID.
    pub fn list_transactions(&self, customer: &str) -> Result<Pages<ListedConversion>, Error> {
        friends::transactions(self, &self.platform().endpoint, customer)
    }
}

async fn report_sales<P, T>(
    client: &Client<P, T>,
    endpoint: &Endpoint,
    options: ProgramOptions,
    sales: &[Sale],
) -> Result<Receipt, ReportError>
where
    T: Transport,
{
    let refuse = |error| ReportError::new(error, false);
    let Some(first) = sales.first() else {
        return Ok(Receipt::not_attributed());
    };
    if sales.iter().any(|sale| sale.customer() != first.customer()) {
        return Err(refuse(Error::Unsupported(Unsupported::Value("customer"))));
    }
    for sale in sales {
        let report = Report::from(sale.clone());
        options.check(&report, &SALE_FIELDS).map_err(refuse)?;
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
    let made = ["/data/key", "/data/id", "/data/0/key", "/data/0/id"];
    let mark = answer.shows(made).map_err(refuse)?;
    Ok(Receipt::recorded(mark))
}
