//! A stand-in for Partnero's refer-a-friend programs: every customer is in them, referred or not,
//! and has a link to share.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict, number};
use super::call::{Call, Invalid, Kind, checked, optional, required};
use super::partnero::{
    Books, Customer, check_headers, duplicate, invalid, moment, named, not_found, page, success,
};
use super::{Account, Records, StandIn};

/// Everything that Partnero remembers of a refer-a-friend program.
pub(super) struct Friends {
    account: Account,
    books: Books,
    /// By customer and unit.
    balances: BTreeMap<(String, String), Decimal>,
}

impl Friends {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            books: Books::default(),
            balances: BTreeMap::new(),
        }
    }

    fn customer(&mut self, call: &Call<'_>) -> Verdict {
        let mut body = call.unchecked().map_err(|error| invalid(&error))?;
        let referrer = match body.remove("referring_customer") {
            None => None,
            Some(Value::Object(object)) => {
                let is_empty = object.is_empty();
                let referrer = named(object, "referring_customer", &["key", "id"])?;
                if is_empty {
                    let problem = "must have a key or an id";
                    return Err(invalid(&Invalid::field("referring_customer", problem)));
                }
                referrer
            }
            Some(_) => {
                // `null` is no way to say that there is none: leave it out.
                let problem = "must be an object";
                return Err(invalid(&Invalid::field("referring_customer", problem)));
            }
        };
        let known = [
            optional("key", Kind::Text),
            optional("id", Kind::Text),
            optional("email", Kind::Text),
            optional("name", Kind::Text),
            optional("surname", Kind::Text),
            optional("metadata", Kind::Object),
        ];
        let fields = checked(body, "", &known).map_err(|error| invalid(&error))?;
        let metadata = fields.object("metadata", &[optional("date_of_birth", Kind::Text)]);
        let metadata = metadata
            .map_err(|error| invalid(&error))?
            .unwrap_or_default();
        let birth = metadata.text("date_of_birth");
        if birth.is_some_and(|birth| !is_date(birth)) {
            let problem = "must be written as YYYY-MM-DD";
            return Err(invalid(&Invalid::field("metadata.date_of_birth", problem)));
        }
        let mut customer = Customer::new(&fields, referrer, call.now);
        if let Some(id) = fields.text("id") {
            id.clone_into(&mut customer.key);
        } else if customer.key.is_empty() {
            customer.key = format!("customer_{:06}", call.number);
        }
        if self.books.find(&customer.key).is_some() {
            return Err(duplicate());
        }
        let mut shown = self.shown(&customer);
        shown["metadata"] = json!({ "date_of_birth": birth });
        self.books.customers.push(customer);
        Ok(success(&shown))
    }

    fn shown(&self, customer: &Customer) -> Value {
        let link = format!("https://yoursite.com?ref={}", customer.key);
        json!({
            "id": customer.key,
            "email": customer.email,
            "name": customer.name,
            "surname": customer.surname,
            "status": "active",
            "approved": true,
            "referring_customer": customer.credit,
            "referrals_count": self.referred_by(&customer.key).count(),
            "referral_link": link,
            "referral_links": [link],
            "metadata": { "date_of_birth": null },
            "created_at": moment(customer.created_at),
            "updated_at": moment(customer.created_at),
        })
    }

    fn referred_by<'f>(&'f self, key: &'f str) -> impl Iterator<Item = &'f Customer> {
        let customers = self.books.customers.iter();
        customers.filter(move |customer| customer.credit.as_deref() == Some(key))
    }

    fn dashboard(&self, call: &Call<'_>, key: &str, part: &[&str]) -> Verdict {
        let customer = self.books.find(key).ok_or_else(not_found)?;
        match part {
            [] => Ok(success(&self.shown(customer))),
            ["stats"] => Ok(success(&json!({
                "clicks": 0,
                "referrals": self.referred_by(key).count(),
                "social_links": {},
            }))),
            ["balance"] => {
                let balances = self.balances.iter();
                let balances = balances.filter(|((customer, _), _)| customer == key);
                let credits: Vec<_> = balances
                    .map(|((_, units), amount)| {
                        json!({ "amount": number(*amount), "amount_units": units })
                    })
                    .collect();
                Ok(success(&json!({ "credits": credits })))
            }
            ["referrals"] => {
                let friends = self.referred_by(key).map(|friend| self.shown(friend));
                Ok(page(call, &friends.collect::<Vec<_>>()))
            }
            ["transactions"] => self.books.transactions_of(call, key),
            _ => Err(not_found()),
        }
    }

    fn credit(&mut self, call: &Call<'_>, key: &str) -> Verdict {
        let known = [
            required("amount", Kind::Amount),
            required("amount_units", Kind::Text),
            required("is_currency", Kind::Flag),
        ];
        let fields = call.object(&known).map_err(|error| invalid(&error))?;
        let units = fields.required_text("amount_units");
        let is_currency = fields.flag("is_currency") == Some(true);
        if is_currency && !super::call::is_currency(units) {
            let problem = "must be a currency's code of three letters";
            return Err(invalid(&Invalid::field("amount_units", problem)));
        }
        self.books.find(key).ok_or_else(not_found)?;
        let of = (key.to_owned(), units.to_owned());
        *self.balances.entry(of).or_default() += fields.amount("amount").unwrap_or_default();
        Ok(Answer::json(
            StatusCode::OK,
            json!({ "data": {}, "status": 1 }),
        ))
    }
}

impl StandIn for Friends {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        check_headers(call, &self.account)?;
        let route = call.route("/v1");
        let (method, path) = route.as_ref().ok_or_else(not_found)?;
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match (*method, &path[..]) {
            ("GET", ["test"]) => Ok(success(&json!({}))),
            ("POST", ["customers"]) => self.customer(call),
            ("GET", ["customers", key, part @ ..]) => self.dashboard(call, key, part),
            ("POST", ["customers", key, "balance", "credit"]) => self.credit(call, key),
            ("POST", ["transactions"]) => self.books.transactions(call, true),
            ("DELETE", ["transactions", key]) => self.books.delete(key),
            _ => Err(not_found()),
        }
    }

    fn records(&self) -> Records {
        self.books.records()
    }
}

/// `YYYY-MM-DD`, a day that exists.
fn is_date(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let month = month.parse::<u8>().ok();
    let month = month.and_then(|month| time::Month::try_from(month).ok());
    let date = match (year.parse(), month, day.parse()) {
        (Ok(year), Some(month), Ok(day)) => time::Date::from_calendar_date(year, month, day),
        _ => return false,
    };
    text.len() == 10 && date.is_ok()
}
