//! A stand-in for Partnero's affiliate programs. A transaction's key isn't unique here: Partnero's
//! own integrations say so, and a second call makes a second commission.

use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Verdict, number};
use super::call::{Call, Field, Fields, Invalid, Kind, checked, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// Everything that Partnero remembers.
pub(super) struct Partnero {
    account: Account,
    pub(super) books: Books,
}

/// Customers and transactions, the same in both kinds of program.
#[derive(Default)]
pub(super) struct Books {
    pub(super) customers: Vec<Customer>,
    transactions: Vec<Transaction>,
    deleted: Vec<String>,
}

pub(super) struct Customer {
    pub(super) key: String,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) surname: Option<String>,
    /// Who referred the customer.
    pub(super) credit: Option<String>,
    pub(super) created_at: i64,
}

struct Transaction {
    key: Option<String>,
    customer: String,
    amount: Decimal,
    currency: String,
    credit: Option<String>,
}

const SALE: [Field; 7] = [
    optional("key", Kind::Text),
    required("amount", Kind::Amount),
    required("action", Kind::Text),
    optional("amount_units", Kind::Currency),
    optional("product_id", Kind::Text),
    optional("product_type", Kind::Text),
    optional("created_at", Kind::Text),
];

impl Partnero {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            books: Books::default(),
        }
    }

    fn customer(&mut self, call: &Call<'_>) -> Verdict {
        let mut body = call.unchecked().map_err(|error| invalid(&error))?;
        let partner = partner(body.remove("partner"))?;
        let fields = checked(body, "", &CUSTOMER).map_err(|error| invalid(&error))?;
        let options = fields.object("options", &[optional("referral_url", Kind::Text)]);
        options.map_err(|error| invalid(&error))?;
        let customer = Customer::new(&fields, partner, call.now);
        if self.books.find(&customer.key).is_some() {
            return Err(duplicate());
        }
        let answer = json!({
            "key": customer.key,
            "partner": customer.credit,
            "name": customer.name,
            "surname": customer.surname,
            "email": customer.email,
            "status": "active",
            "tags": fields.value("tags").unwrap_or(&json!([])),
            "created_at": moment(customer.created_at),
            "updated_at": moment(customer.created_at),
        });
        // Only customers with a valid referral are recorded.
        if customer.credit.is_some() {
            self.books.customers.push(customer);
        }
        Ok(success(&answer))
    }
}

/// The fields of a customer but for the partner, which the documentation's own code sends as `null`
/// or without anything in it.
const CUSTOMER: [Field; 6] = [
    required("key", Kind::Text),
    optional("email", Kind::Text),
    optional("name", Kind::Text),
    optional("surname", Kind::Text),
    optional("tags", Kind::Texts),
    optional("options", Kind::Object),
];

/// Reads who is to be credited. No key at all is ignored, as the guides promise; one that nobody
/// has is refused, as the reference says.
fn partner(partner: Option<Value>) -> Result<Option<String>, Answer> {
    let object = match partner {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(invalid(&Invalid::field("partner", "must be an object"))),
    };
    let known = ["key", "id", "email"];
    named(object, "partner", &known)
}

/// Reads the one who is named by one of these fields.
pub(super) fn named(
    mut object: Map<String, Value>,
    above: &str,
    known: &[&'static str],
) -> Result<Option<String>, Answer> {
    object.retain(|name, value| !(known.contains(&&**name) && value.is_null()));
    let fields: Vec<_> = known
        .iter()
        .map(|name| optional(name, Kind::Text))
        .collect();
    let fields = checked(object, above, &fields).map_err(|error| invalid(&error))?;
    let name = known.iter().find_map(|name| fields.text(name));
    match name {
        Some(key) if is_unknown(key) => {
            let message = "Invalid partner key";
            Err(refused(StatusCode::BAD_REQUEST, message))
        }
        // Nobody has it, and the answer is a success that credits nobody.
        Some(key) if key.starts_with("IGNORED") => Ok(None),
        name => Ok(name.map(str::to_owned)),
    }
}

impl Customer {
    pub(super) fn new(fields: &Fields, credit: Option<String>, created_at: i64) -> Self {
        let text = |name| fields.text(name).map(str::to_owned);
        Self {
            key: fields.required_text("key").to_owned(),
            email: text("email"),
            name: text("name"),
            surname: text("surname"),
            credit,
            created_at,
        }
    }
}

impl Books {
    pub(super) fn find(&self, key: &str) -> Option<&Customer> {
        self.customers.iter().find(|customer| customer.key == key)
    }

    /// `POST /transactions`: one sale, or several of one customer. Those of a customer who isn't
    /// there are ignored.
    pub(super) fn transactions(&mut self, call: &Call<'_>, is_friends: bool) -> Verdict {
        let is_list = call
            .unchecked()
            .is_ok_and(|body| body.contains_key("transactions"));
        if is_list {
            let known = [
                required("customer", Kind::Object),
                required("transactions", Kind::Objects),
            ];
            let fields = call.object(&known).map_err(|error| invalid(&error))?;
            let customer = customer_key(&fields)?;
            let sales = fields
                .objects("transactions", &SALE)
                .map_err(|error| invalid(&error))?;
            let made: Vec<_> = sales
                .iter()
                .map(|sale| self.transaction(sale, &customer))
                .collect();
            return Ok(success(&made.into()));
        }
        let known = [
            &SALE[..],
            &[
                required("customer", Kind::Object),
                optional("options", Kind::Object),
            ],
        ]
        .concat();
        let fields = call.object(&known).map_err(|error| invalid(&error))?;
        let options = fields.object("options", &[optional("create_customer", Kind::Flag)]);
        let options = options
            .map_err(|error| invalid(&error))?
            .unwrap_or_default();
        let customer = if options.flag("create_customer") == Some(true) && !is_friends {
            self.make_customer(&fields, call.now)?
        } else {
            customer_key(&fields)?
        };
        Ok(success(&self.transaction(&fields, &customer)))
    }

    /// Makes a guest a customer within the sale's own call.
    fn make_customer(&mut self, fields: &Fields, now: i64) -> Result<String, Answer> {
        let customer = fields.value("customer").and_then(Value::as_object);
        let mut customer = customer.cloned().unwrap_or_default();
        let partner = partner(customer.remove("partner"))?;
        let known = [
            required("key", Kind::Text),
            optional("name", Kind::Text),
            optional("surname", Kind::Text),
            optional("email", Kind::Text),
            optional("tags", Kind::Texts),
        ];
        let customer = checked(customer, "customer", &known).map_err(|error| invalid(&error))?;
        let customer = Customer::new(&customer, partner, now);
        if self.find(&customer.key).is_some() {
            return Err(duplicate());
        }
        let key = customer.key.clone();
        if customer.credit.is_some() {
            self.customers.push(customer);
        }
        Ok(key)
    }

    fn transaction(&mut self, sale: &Fields, customer: &str) -> Value {
        let known = self.find(customer);
        let credit = known.and_then(|customer| customer.credit.clone());
        let customer = known.map(|customer| customer.key.clone());
        let answer = json!({
            "key": sale.text("key"),
            "amount": sale.amount("amount").map(number),
            "action": sale.text("action"),
            "partner": credit,
            "customer": customer.as_ref().map(|key| json!({ "key": key })),
            "rewards": [],
        });
        if let Some(customer) = customer {
            self.transactions.push(Transaction {
                key: sale.text("key").map(str::to_owned),
                customer,
                amount: sale.amount("amount").unwrap_or_default(),
                currency: sale.text("amount_units").unwrap_or_default().to_owned(),
                credit,
            });
        }
        answer
    }

    /// `DELETE /transactions/{key}`
    pub(super) fn delete(&mut self, key: &str) -> Verdict {
        let mut transactions = self.transactions.iter();
        let at = transactions
            .position(|transaction| transaction.key.as_deref() == Some(key))
            .ok_or_else(not_found)?;
        let sale = self.transactions.remove(at);
        self.deleted.push(format!("{key}: {}", sale.amount));
        Ok(Answer::json(StatusCode::OK, json!({ "status": 1 })))
    }

    /// `GET /customers/{key}/transactions`
    pub(super) fn transactions_of(&self, call: &Call<'_>, customer: &str) -> Verdict {
        self.find(customer).ok_or_else(not_found)?;
        let of_customer = self.transactions.iter();
        let of_customer = of_customer.filter(|transaction| transaction.customer == customer);
        let all = of_customer.map(|sale| {
            json!({
                "key": sale.key,
                "amount": number(sale.amount),
                "amount_units": sale.currency,
                "action": "sale",
            })
        });
        Ok(page(call, &all.collect::<Vec<_>>()))
    }

    pub(super) fn records(&self) -> Records {
        let nobody = "nobody";
        let customers = self.customers.iter().map(|customer| {
            let credit = customer.credit.as_deref().unwrap_or(nobody);
            format!("{} by {credit}", customer.key)
        });
        let sales = self.transactions.iter().map(|sale| {
            let key = sale.key.as_deref().unwrap_or("without a key");
            let credit = sale.credit.as_deref().unwrap_or(nobody);
            format!("sale {key}: {} {} by {credit}", sale.amount, sale.currency)
        });
        vec![
            ("Customers", customers.collect()),
            ("Conversions", sales.collect()),
            ("Refunds", self.deleted.clone()),
        ]
    }
}

impl StandIn for Partnero {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        check_headers(call, &self.account)?;
        let route = call.route("/v1");
        let (method, path) = route.as_ref().ok_or_else(not_found)?;
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match (*method, &path[..]) {
            ("GET", ["test"]) => Ok(success(&json!({}))),
            ("POST", ["customers"]) => self.customer(call),
            ("GET", ["customers", key, "transactions"]) => self.books.transactions_of(call, key),
            ("POST", ["transactions"]) => self.books.transactions(call, false),
            ("DELETE", ["transactions", key]) => self.books.delete(key),
            _ => Err(not_found()),
        }
    }

    fn records(&self) -> Records {
        self.books.records()
    }
}

pub(super) fn check_headers(call: &Call<'_>, account: &Account) -> Result<(), Answer> {
    if call.bearer() != Some(&account.api_key) {
        let message = "Unauthenticated.";
        return Err(refused(StatusCode::UNAUTHORIZED, message));
    }
    if !call.accepts_json() {
        let message = "Accept application/json.";
        return Err(refused(StatusCode::NOT_ACCEPTABLE, message));
    }
    Ok(())
}

fn customer_key(fields: &Fields) -> Result<String, Answer> {
    let customer = fields.object("customer", &[required("key", Kind::Text)]);
    let customer = customer
        .map_err(|error| invalid(&error))?
        .unwrap_or_default();
    Ok(customer.required_text("key").to_owned())
}

pub(super) fn success(data: &Value) -> Answer {
    Answer::json(StatusCode::OK, json!({ "data": data, "status": 1 }))
}

/// How many entries of a list are on a page: few, so that one sees the second page.
const PAGE_LEN: usize = 2;

/// A page of a list, with a link to the next.
pub(super) fn page(call: &Call<'_>, all: &[Value]) -> Answer {
    let page = call.parameter("page").and_then(|page| page.parse().ok());
    let page = page.unwrap_or(1_usize).max(1);
    let from = (page - 1).saturating_mul(PAGE_LEN);
    let has_more = from.saturating_add(PAGE_LEN) < all.len();
    let path = call.uri.path();
    let next = has_more.then(|| format!("{}{path}?page={}", call.origin, page + 1));
    let data: Vec<_> = all.iter().skip(from).take(PAGE_LEN).collect();
    let meta = json!({ "current_page": page, "per_page": PAGE_LEN, "total": all.len() });
    let list = json!({ "data": data, "links": { "next": next }, "meta": meta, "status": 1 });
    Answer::json(StatusCode::OK, list)
}

/// As Partnero writes a moment.
pub(super) fn moment(seconds: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds);
    let moment = moment.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = moment.to_hms();
    format!(
        "{}T{hour:02}:{minute:02}:{second:02}.000000Z",
        moment.date()
    )
}

pub(super) fn not_found() -> Answer {
    refused(StatusCode::NOT_FOUND, "Not found.")
}

pub(super) fn duplicate() -> Answer {
    let errors = json!({ "key": ["Duplicate key"] });
    let body = json!({ "message": "Duplicate key", "errors": errors });
    Answer::json(StatusCode::UNPROCESSABLE_ENTITY, body)
}

pub(super) fn refused(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, json!({ "message": message }))
}

pub(super) fn invalid(invalid: &Invalid) -> Answer {
    let status = match invalid {
        Invalid::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Invalid::Json => StatusCode::BAD_REQUEST,
        Invalid::Field { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let errors = json!({ invalid.name(): [invalid.problem()] });
    let message = "The given data was invalid.";
    Answer::json(status, json!({ "message": message, "errors": errors }))
}
