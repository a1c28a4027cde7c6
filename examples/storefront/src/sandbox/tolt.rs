//! A stand-in for Tolt's API, version 2: a click answers with the partner that the sign-up needs, and
//! the sign-up with the customer's ID that a payment needs.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// Everything that Tolt remembers.
pub(super) struct Tolt {
    account: Account,
    /// Click IDs and the partner of each.
    clicks: Vec<(String, String)>,
    customers: Vec<Customer>,
    transactions: Vec<Transaction>,
}

struct Customer {
    id: String,
    email: Option<String>,
    customer_id: Option<String>,
    partner: String,
}

struct Transaction {
    id: String,
    customer: String,
    charge: Option<String>,
    amount: u64,
    is_refunded: bool,
}

impl Tolt {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            clicks: Vec::new(),
            customers: Vec::new(),
            transactions: Vec::new(),
        }
    }

    fn click(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                optional("link_id", Kind::Text),
                optional("partner_id", Kind::Text),
                optional("param", Kind::Text),
                optional("value", Kind::Text),
                optional("country", Kind::Text),
                optional("device", Kind::Text),
                optional("page", Kind::Text),
                optional("referrer", Kind::Text),
            ],
        )?;
        if fields.has("param") != fields.has("value") {
            let problem = "goes with value";
            return Err(invalid(&Invalid::field("param", problem)));
        }
        let partner = match partner(&fields)? {
            Some(partner) => partner,
            None => {
                let value = fields.text("value");
                let problem = "or partner_id, or param and value, is required";
                let value = value.ok_or_else(|| invalid(&Invalid::field("link_id", problem)))?;
                known("value", value)?;
                format!("part_{value}")
            }
        };
        let id = format!("clk_{:06}", call.number);
        self.clicks.push((id.clone(), partner.clone()));
        Ok(created(&json!({
            "id": id,
            "partner_id": partner,
            "page": fields.text("page"),
            "referrer": fields.text("referrer"),
            "created_at": super::partnero::moment(call.now),
        })))
    }

    fn customer(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                optional("email", Kind::TextUpTo(255)),
                optional("customer_id", Kind::TextUpTo(255)),
                optional("partner_id", Kind::Text),
                optional("link_id", Kind::Text),
                optional("click_id", Kind::Text),
                optional("promotion_code", Kind::Text),
                optional("name", Kind::Text),
            ],
        )?;
        if fields.which(&["email", "customer_id"]).is_empty() {
            let problem = "or customer_id is required";
            return Err(invalid(&Invalid::field("email", problem)));
        }
        let partner = partner(&fields)?;
        let problem = "or link_id is required";
        let partner = partner.ok_or_else(|| invalid(&Invalid::field("partner_id", problem)))?;
        if let Some(click) = fields.text("click_id")
            && !self.clicks.iter().any(|(id, _)| id == click)
        {
            return Err(unknown_reference("click_id"));
        }
        let email = fields.text("email").map(str::to_lowercase);
        let customer_id = fields.text("customer_id").map(str::to_owned);
        let is_same = |known: &Customer| {
            (email.is_some() && known.email == email)
                || (customer_id.is_some() && known.customer_id == customer_id)
        };
        if self.customers.iter().any(is_same) {
            return Err(already_exists("email"));
        }
        let id = format!("cus_{:06}", call.number);
        let shown = json!({
            "id": id,
            "customer_id": customer_id,
            "email": email,
            "name": fields.text("name"),
            "status": "lead",
            "partner_id": partner,
            "click_id": fields.text("click_id"),
            "created_at": super::partnero::moment(call.now),
        });
        self.customers.push(Customer {
            id,
            email,
            customer_id,
            partner,
        });
        Ok(created(&shown))
    }

    fn transaction(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("customer_id", Kind::Text),
                required("amount", Kind::Integer),
                optional("charge_id", Kind::TextUpTo(255)),
                optional("billing_type", Kind::OneOf(&["subscription", "one_time"])),
                optional("interval", Kind::OneOf(&["month", "year"])),
                optional("product", Kind::Text),
                optional("product_id", Kind::Text),
                optional("product_name", Kind::Text),
                optional("click_id", Kind::Text),
                optional("source", Kind::Text),
                optional("created_at", Kind::Text),
            ],
        )?;
        let customer = fields.required_text("customer_id");
        if !self.customers.iter().any(|known| known.id == customer) {
            return Err(unknown_reference("customer_id"));
        }
        // Nothing is recognised by an empty one.
        let charge = fields.text("charge_id").filter(|charge| !charge.is_empty());
        let charge = charge.map(str::to_owned);
        let is_same = |known: &Transaction| known.customer == customer && known.charge == charge;
        if charge.is_some() && self.transactions.iter().any(is_same) {
            return Err(already_exists("charge_id"));
        }
        let transaction = Transaction {
            id: format!("txn_{:06}", call.number),
            customer: customer.to_owned(),
            charge,
            amount: fields.integer("amount").unwrap_or_default(),
            is_refunded: false,
        };
        let shown = transaction.shown();
        self.transactions.push(transaction);
        Ok(created(&shown))
    }

    /// A whole refund, as version 1 has it; the path in version 2 is documented nowhere.
    fn refund(&mut self, id: &str) -> Verdict {
        let transaction = self.transactions.iter_mut().find(|known| known.id == id);
        let message = "There is no such transaction.";
        let transaction =
            transaction.ok_or_else(|| error(StatusCode::NOT_FOUND, "not_found", message, &[]))?;
        transaction.is_refunded = true;
        let data = json!([transaction.shown()]);
        Ok(Answer::json(
            StatusCode::OK,
            json!({ "success": true, "data": data }),
        ))
    }
}

impl Transaction {
    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "customer_id": self.customer,
            "charge_id": self.charge,
            // Money comes back as a text.
            "amount": self.amount.to_string(),
            "status": if self.is_refunded { "refunded" } else { "paid" },
        })
    }
}

impl StandIn for Tolt {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        if call.bearer() != Some(&self.account.api_key) {
            let message = "The API key is missing or wrong.";
            return Err(error(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                message,
                &[],
            ));
        }
        let route = call.route("").unwrap_or_default();
        let path: Vec<_> = route.1.iter().map(String::as_str).collect();
        match (route.0, &path[..]) {
            ("POST", ["v2", "clicks"]) => self.click(call),
            ("POST", ["v2", "customers"]) => self.customer(call),
            ("POST", ["v2", "transactions"]) => self.transaction(call),
            ("PUT", ["v1", "transactions", id, "refund"]) => self.refund(id),
            _ => {
                let message = "There is no such resource.";
                Err(error(StatusCode::NOT_FOUND, "not_found", message, &[]))
            }
        }
    }

    fn records(&self) -> Records {
        let clicks = self.clicks.iter();
        let clicks = clicks.map(|(id, partner)| format!("{id} by {partner}"));
        let customers = self.customers.iter().map(|one| {
            let name = one.customer_id.as_ref().or(one.email.as_ref());
            let name = name.map_or("somebody", |name| name);
            format!("{name} by {}", one.partner)
        });
        let refunded = self.transactions.iter().filter(|sale| sale.is_refunded);
        let sale = |sale: &Transaction| {
            let charge = sale.charge.as_deref().unwrap_or("without a charge");
            format!("sale {charge}: {} of {}", sale.amount, sale.customer)
        };
        vec![
            ("Clicks", clicks.collect()),
            ("Customers", customers.collect()),
            ("Conversions", self.transactions.iter().map(sale).collect()),
            ("Refunds", refunded.map(sale).collect()),
        ]
    }
}

/// Returns the partner that `partner_id` or `link_id` names, if one of them is there.
fn partner(fields: &Fields) -> Result<Option<String>, Answer> {
    if let Some(partner) = fields.text("partner_id") {
        known("partner_id", partner)?;
        return Ok(Some(partner.to_owned()));
    }
    let Some(link) = fields.text("link_id") else {
        return Ok(None);
    };
    known("link_id", link)?;
    Ok(Some(format!("part_of_{link}")))
}

fn known(name: &str, value: &str) -> Result<(), Answer> {
    let value = value.strip_prefix("part_").unwrap_or(value);
    if is_unknown(value) {
        return Err(unknown_reference(name));
    }
    Ok(())
}

fn object(call: &Call<'_>, known: &[Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|error| invalid(&error))
}

fn created(data: &Value) -> Answer {
    let body = json!({ "success": true, "message": "Request successful", "data": data });
    Answer::json(StatusCode::CREATED, body)
}

fn invalid(invalid: &Invalid) -> Answer {
    let message = format!("{}: {}", invalid.name(), invalid.problem());
    let errors = [(invalid.name(), invalid.problem())];
    error(
        StatusCode::BAD_REQUEST,
        "validation_error",
        &message,
        &errors,
    )
}

fn unknown_reference(name: &str) -> Answer {
    let errors = [(name, "refers to nothing")];
    let message = format!("{name} refers to nothing");
    error(
        StatusCode::BAD_REQUEST,
        "invalid_reference",
        &message,
        &errors,
    )
}

fn already_exists(name: &str) -> Answer {
    let errors = [(name, "exists already")];
    let message = format!("{name} exists already");
    error(StatusCode::CONFLICT, "already_exists", &message, &errors)
}

fn error(status: StatusCode, code: &str, message: &str, errors: &[(&str, &str)]) -> Answer {
    let errors: Vec<_> = errors
        .iter()
        .map(|(field, message)| json!({ "field": field, "message": message }))
        .collect();
    let doc_url = format!("https://docs.tolt.com/errors#{code}");
    let body = json!({
        "success": false,
        "message": message,
        "code": code,
        "doc_url": doc_url,
        "errors": errors,
    });
    Answer::json(status, body)
}
