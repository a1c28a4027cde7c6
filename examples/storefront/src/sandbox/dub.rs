//! A stand-in for Dub. Clicks come from its short links, so any click ID is known but those that
//! begin with `UNKNOWN`; an invoice that begins with `PAID` has a commission that is paid out.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// How long a lead is recognised when it comes again, in seconds.
const LEADS_KNOWN_FOR: i64 = 7 * 24 * 60 * 60;
/// The longest metadata, in characters of JSON.
const MAX_METADATA: usize = 10_000;
const PROCESSORS: &[&str] = &[
    "stripe",
    "shopify",
    "polar",
    "paddle",
    "revenuecat",
    "custom",
];

/// Everything that Dub remembers.
pub(super) struct Dub {
    account: Account,
    customers: Vec<Customer>,
    leads: Vec<Lead>,
    sales: Vec<Sale>,
    refunds: Vec<String>,
}

struct Customer {
    external_id: String,
    name: Option<String>,
    email: Option<String>,
    click: String,
}

struct Lead {
    customer: String,
    event: String,
    at: i64,
}

struct Sale {
    id: String,
    invoice: Option<String>,
    customer: String,
    amount: u64,
    currency: String,
    status: &'static str,
    answer: Value,
}

impl Dub {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            customers: Vec::new(),
            leads: Vec::new(),
            sales: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn lead(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("clickId", Kind::TextUpTo(255)),
                required("eventName", Kind::TextUpTo(255)),
                required("customerExternalId", Kind::TextUpTo(100)),
                optional("customerName", Kind::TextUpTo(100)),
                optional("customerEmail", Kind::TextUpTo(100)),
                optional("customerAvatar", Kind::Text),
                optional("mode", Kind::OneOf(&["async", "wait", "deferred"])),
                optional("eventQuantity", Kind::Integer),
                optional("metadata", Kind::Object),
            ],
        )?;
        check_metadata(&fields)?;
        let id = not_empty(&fields, "customerExternalId")?;
        let event = not_empty(&fields, "eventName")?;
        let click = match fields.required_text("clickId") {
            "" => {
                let message = "The customer is unknown: send a click ID.";
                let customer = self.customer(id);
                customer.ok_or_else(|| bad_request(message))?.click.clone()
            }
            click if is_unknown(click) => return Err(not_found("Click event not found.")),
            click => click.to_owned(),
        };
        let is_repeated = self.leads.iter().any(|lead| {
            lead.customer == id && lead.event == event && call.now - lead.at < LEADS_KNOWN_FOR
        });
        if self.customer(id).is_none() {
            self.customers.push(Customer::new(&fields, id, &click));
        }
        // A lead that comes again isn't recorded and has no link.
        let link = if is_repeated {
            Value::Null
        } else {
            link(&click)
        };
        if !is_repeated {
            self.leads.push(Lead {
                customer: id.to_owned(),
                event: event.to_owned(),
                at: call.now,
            });
        }
        let customer = self.customer(id).map(Customer::shown);
        let lead = json!({ "click": { "id": click }, "link": link, "customer": customer });
        Ok(Answer::json(StatusCode::OK, lead))
    }

    fn sale(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("customerExternalId", Kind::TextUpTo(100)),
                required("amount", Kind::Integer),
                optional("currency", Kind::Currency),
                optional("paymentProcessor", Kind::OneOf(PROCESSORS)),
                optional("invoiceId", Kind::Text),
                optional("eventName", Kind::TextUpTo(255)),
                optional("leadEventName", Kind::TextUpTo(255)),
                optional("clickId", Kind::TextUpTo(255)),
                optional("customerName", Kind::TextUpTo(100)),
                optional("customerEmail", Kind::TextUpTo(100)),
                optional("customerAvatar", Kind::Text),
                optional("metadata", Kind::Object),
            ],
        )?;
        check_metadata(&fields)?;
        let id = not_empty(&fields, "customerExternalId")?;
        let event = fields.text("eventName").unwrap_or("Purchase");
        let invoice = fields.text("invoiceId").map(str::to_owned);
        let is_same = |sale: &&Sale| sale.invoice == invoice;
        if invoice.is_some()
            && let Some(sale) = self.sales.iter().find(is_same)
        {
            return Ok(Answer::json(StatusCode::OK, sale.answer.clone()));
        }
        if let Some(lead) = fields.text("leadEventName")
            && !self.leads.iter().any(|known| known.event == lead)
        {
            return Err(not_found("Lead event not found."));
        }
        if self.customer(id).is_none() {
            match fields.text("clickId").filter(|click| !click.is_empty()) {
                None => {
                    let nobody = json!({ "eventName": event, "customer": null, "sale": null });
                    return Ok(Answer::json(StatusCode::OK, nobody));
                }
                Some(click) if is_unknown(click) => {
                    return Err(not_found("Link not found."));
                }
                Some(click) => self.customers.push(Customer::new(&fields, id, click)),
            }
        }
        let currency = fields.text("currency").unwrap_or("usd");
        let currency = currency.to_ascii_lowercase();
        let amount = fields.integer("amount").unwrap_or_default();
        let answer = json!({
            "eventName": event,
            "customer": self.customer(id).map(Customer::shown),
            "sale": {
                "amount": amount,
                "currency": currency,
                "paymentProcessor": fields.text("paymentProcessor").unwrap_or("custom"),
                "invoiceId": invoice,
                "metadata": fields.value("metadata"),
            },
        });
        let is_paid = invoice.as_ref().is_some_and(|id| id.starts_with("PAID"));
        self.sales.push(Sale {
            id: format!("cm_{:06}", call.number),
            customer: id.to_owned(),
            amount,
            currency,
            status: if is_paid { "paid" } else { "pending" },
            invoice,
            answer: answer.clone(),
        });
        Ok(Answer::json(StatusCode::OK, answer))
    }

    fn commissions(&self, call: &Call<'_>) -> Answer {
        let wanted = call.parameter("invoiceId");
        let sales = self.sales.iter();
        let sales = sales.filter(|sale| wanted.is_none() || sale.invoice == wanted);
        Answer::json(StatusCode::OK, sales.map(Sale::shown).collect())
    }

    fn update(&mut self, call: &Call<'_>, id: &str) -> Verdict {
        const STATUSES: &[&str] = &["refunded", "duplicate", "canceled", "fraud"];
        let fields = object(
            call,
            &[
                optional("status", Kind::OneOf(STATUSES)),
                optional("saleAmount", Kind::Integer),
                optional("modifySaleAmount", Kind::Integer),
                optional("currency", Kind::Currency),
            ],
        )?;
        let sale = self.sales.iter_mut().find(|sale| sale.id == id);
        let sale = sale.ok_or_else(|| not_found("Commission not found."))?;
        if sale.status == "paid" {
            return Err(bad_request("A paid commission can't be changed."));
        }
        let before = sale.amount;
        if let Some(amount) = fields.integer("saleAmount") {
            sale.amount = amount;
        }
        if let Some(more) = fields.integer("modifySaleAmount") {
            sale.amount += more;
        }
        if let Some(status) = fields.text("status") {
            let mut statuses = STATUSES.iter();
            sale.status = statuses
                .find(|known| **known == status)
                .unwrap_or(&"refunded");
        }
        let invoice = sale.invoice.as_deref().unwrap_or("without an invoice");
        let change = format!("{invoice}: {before} to {}, {}", sale.amount, sale.status);
        self.refunds.push(change);
        Ok(Answer::json(StatusCode::OK, sale.shown()))
    }

    fn customer(&self, id: &str) -> Option<&Customer> {
        let mut customers = self.customers.iter();
        customers.find(|customer| customer.external_id == id)
    }
}

impl Customer {
    fn new(fields: &Fields, id: &str, click: &str) -> Self {
        Self {
            external_id: id.to_owned(),
            name: fields.text("customerName").map(str::to_owned),
            email: fields.text("customerEmail").map(str::to_owned),
            click: click.to_owned(),
        }
    }

    fn shown(&self) -> Value {
        json!({
            "id": format!("cus_{}", self.external_id),
            "externalId": self.external_id,
            "name": self.name,
            "email": self.email,
            "avatar": null,
        })
    }
}

impl Sale {
    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "type": "sale",
            "amount": self.amount,
            "earnings": self.amount / 10,
            "currency": self.currency,
            "status": self.status,
            "invoiceId": self.invoice,
            "customer": { "externalId": self.customer },
        })
    }
}

impl StandIn for Dub {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        if call.bearer() != Some(&self.account.api_key) {
            let status = StatusCode::UNAUTHORIZED;
            return Err(error(status, "unauthorized", "Invalid API key."));
        }
        let route = call.route("").unwrap_or_default();
        let path: Vec<_> = route.1.iter().map(String::as_str).collect();
        match (route.0, &path[..]) {
            ("POST", ["track", "lead"]) => self.lead(call),
            ("POST", ["track", "sale"]) => self.sale(call),
            ("GET", ["commissions"]) => Ok(self.commissions(call)),
            ("PATCH", ["commissions", id]) => self.update(call, id),
            _ => Err(not_found("No such resource.")),
        }
    }

    fn records(&self) -> Records {
        let customers = self.customers.iter();
        let customers = customers.map(|one| format!("{} by {}", one.external_id, one.click));
        let sales = self.sales.iter().map(|sale| {
            let invoice = sale.invoice.as_deref().unwrap_or("without an invoice");
            let (customer, amount, currency) = (&sale.customer, sale.amount, &sale.currency);
            format!(
                "sale {invoice}: {amount} {currency} of {customer}, {}",
                sale.status
            )
        });
        vec![
            ("Customers", customers.collect()),
            ("Conversions", sales.collect()),
            ("Refunds", self.refunds.clone()),
        ]
    }
}

fn link(click: &str) -> Value {
    json!({ "id": format!("link_{click}"), "domain": "dub.sh", "key": click })
}

fn check_metadata(fields: &Fields) -> Result<(), Answer> {
    let length = fields
        .value("metadata")
        .map(|value| value.to_string().chars().count());
    if length.is_some_and(|length| length > MAX_METADATA) {
        let problem = format!("must have at most {MAX_METADATA} characters");
        return Err(invalid(&Invalid::field("metadata", problem)));
    }
    Ok(())
}

fn not_empty<'f>(fields: &'f Fields, name: &str) -> Result<&'f str, Answer> {
    let text = fields.required_text(name);
    if text.is_empty() {
        return Err(invalid(&Invalid::field(name, "must not be empty")));
    }
    Ok(text)
}

fn object(call: &Call<'_>, known: &[Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|error| invalid(&error))
}

fn invalid(invalid: &Invalid) -> Answer {
    let message = format!("{}: {}", invalid.name(), invalid.problem());
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    error(status, "unprocessable_entity", &message)
}

fn bad_request(message: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn not_found(message: &str) -> Answer {
    error(StatusCode::NOT_FOUND, "not_found", message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let doc_url = format!("https://dub.co/docs/api-reference/errors#{code}");
    let error = json!({ "code": code, "message": message, "doc_url": doc_url });
    Answer::json(status, json!({ "error": error }))
}
