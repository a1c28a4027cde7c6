//! A stand-in for Tapfiliate: a slash at the end of every path, a page in HTML for whoever sends no
//! API key, and refusals under statuses that its documentation leaves open.

use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict, number};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// How many conversions are on a page.
const PAGE_LEN: usize = 25;
/// What credits a customer or a conversion: one of these.
const CREDITS: [&str; 3] = ["click_id", "referral_code", "coupon"];

/// Everything that Tapfiliate remembers.
pub(super) struct Tapfiliate {
    account: Account,
    /// Click IDs and the code of each.
    clicks: Vec<(String, String)>,
    /// Customers and who is credited with each.
    customers: Vec<(String, String)>,
    conversions: Vec<Conversion>,
    refunds: Vec<String>,
}

struct Conversion {
    /// Tapfiliate's own ID.
    id: u64,
    external_id: Option<String>,
    amount: Decimal,
    currency: Option<String>,
    credit: String,
}

impl Tapfiliate {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            clicks: Vec::new(),
            customers: Vec::new(),
            conversions: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn click(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("referral_code", Kind::Text),
                optional("source_id", Kind::Text),
                optional("meta_data", Kind::Object),
                optional("referrer", Kind::Text),
                optional("landing_page", Kind::Text),
                optional("user_agent", Kind::Text),
                optional("ip", Kind::Text),
            ],
        )?;
        let code = fields.required_text("referral_code");
        if is_unknown(code) {
            return Err(refused(StatusCode::NOT_FOUND, "referral_code not found"));
        }
        let id = format!("{:06}-0afe3c", call.number);
        self.clicks.push((id.clone(), code.to_owned()));
        Ok(Answer::json(StatusCode::CREATED, json!({ "id": id })))
    }

    fn customer(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("customer_id", Kind::Text),
                optional("click_id", Kind::Text),
                optional("referral_code", Kind::Text),
                optional("coupon", Kind::Text),
                optional("meta_data", Kind::Object),
            ],
        )?;
        let Some(credit) = self.credit(&fields)? else {
            let message = format!("send one of {}", CREDITS.join(", "));
            return Err(refused(StatusCode::BAD_REQUEST, &message));
        };
        let id = fields.required_text("customer_id");
        if self.customers.iter().any(|(known, _)| known == id) {
            let message = "a customer with this customer_id exists";
            return Err(refused(StatusCode::CONFLICT, message));
        }
        self.customers.push((id.to_owned(), credit));
        let customer = json!({
            "id": format!("cu_{:06}", call.number),
            "customer_id": id,
            "status": "new",
            "meta_data": fields.value("meta_data"),
        });
        Ok(Answer::json(StatusCode::CREATED, customer))
    }

    fn convert(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                optional("external_id", Kind::Text),
                optional("amount", Kind::Amount),
                optional("currency", Kind::Currency),
                optional("customer_id", Kind::Text),
                optional("click_id", Kind::Text),
                optional("referral_code", Kind::Text),
                optional("coupon", Kind::Text),
                optional("commission_type", Kind::Text),
                optional("meta_data", Kind::Object),
            ],
        )?;
        if let Some(parameter) = call.parameter("override_max_cookie_time")
            && !["true", "false"].contains(&&*parameter)
        {
            let message = "override_max_cookie_time is true or false";
            return Err(refused(StatusCode::BAD_REQUEST, message));
        }
        let external_id = fields.text("external_id").map(str::to_owned);
        let is_same = |sale: &Conversion| sale.external_id == external_id;
        if external_id.is_some() && self.conversions.iter().any(is_same) {
            let message = "external_id must be unique";
            return Err(refused(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        let customer = fields.text("customer_id").map(str::to_owned);
        let known = |customer: &String| self.customers.iter().find(|known| known.0 == *customer);
        let known = customer.as_ref().and_then(known);
        let known = known.map(|(_, credit)| credit.clone());
        let credit = match (self.credit(&fields)?, known) {
            (Some(credit), None) => {
                // The first conversion of a customer ties the customer to the affiliate.
                if let Some(customer) = customer {
                    self.customers.push((customer, credit.clone()));
                }
                credit
            }
            (_, Some(credit)) => credit,
            (None, None) => {
                let message = "nobody can be credited with this conversion";
                return Err(refused(StatusCode::BAD_REQUEST, message));
            }
        };
        let conversion = Conversion {
            id: call.number,
            external_id,
            amount: fields.amount("amount").unwrap_or_default(),
            currency: fields.text("currency").map(str::to_owned),
            credit,
        };
        let answer = Answer::json(StatusCode::CREATED, shown(&conversion));
        self.conversions.push(conversion);
        Ok(answer)
    }

    /// Returns whom the one field that names somebody credits, if there is one.
    fn credit(&self, fields: &Fields) -> Result<Option<String>, Answer> {
        let name = match fields.which(&CREDITS)[..] {
            [] => return Ok(None),
            [name] => name,
            _ => {
                let message = format!("send only one of {}", CREDITS.join(", "));
                return Err(refused(StatusCode::BAD_REQUEST, &message));
            }
        };
        let value = fields.required_text(name);
        if name == "click_id" {
            let click = self.clicks.iter().find(|(id, _)| id == value);
            let message = "the click_id is invalid or expired";
            let (_, code) = click.ok_or_else(|| refused(StatusCode::BAD_REQUEST, message))?;
            return Ok(Some(code.clone()));
        }
        if is_unknown(value) {
            let message = format!("{name} not found");
            return Err(refused(StatusCode::NOT_FOUND, &message));
        }
        Ok(Some(value.to_owned()))
    }

    fn find(&self, id: &str) -> Result<usize, Answer> {
        let mut conversions = self.conversions.iter();
        conversions
            .position(|conversion| conversion.id.to_string() == id)
            .ok_or_else(|| refused(StatusCode::NOT_FOUND, "no such conversion"))
    }

    fn delete(&mut self, id: &str) -> Verdict {
        let at = self.find(id)?;
        let sale = self.conversions.remove(at);
        self.note_refund(sale.external_id.as_deref(), sale.amount);
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    fn update(&mut self, call: &Call<'_>, id: &str) -> Verdict {
        let fields = object(call, &[required("amount", Kind::Amount)])?;
        if let Some(parameter) = call.parameter("recalculate_commissions")
            && !["true", "false"].contains(&&*parameter)
        {
            let message = "recalculate_commissions is true or false";
            return Err(refused(StatusCode::BAD_REQUEST, message));
        }
        let amount = fields.amount("amount").unwrap_or_default();
        let at = self.find(id)?;
        let less = self.conversions[at].amount - amount;
        let external_id = self.conversions[at].external_id.clone();
        self.note_refund(external_id.as_deref(), less);
        self.conversions[at].amount = amount;
        Ok(Answer::json(StatusCode::OK, shown(&self.conversions[at])))
    }

    fn note_refund(&mut self, external_id: Option<&str>, amount: Decimal) {
        let id = external_id.unwrap_or("a conversion");
        self.refunds.push(format!("{id}: {amount}"));
    }

    fn list(&self, call: &Call<'_>) -> Answer {
        let external_id = call.parameter("external_id");
        let page = call.parameter("page").and_then(|page| page.parse().ok());
        let page = page.unwrap_or(1_usize);
        let conversions = self.conversions.iter();
        let wanted = conversions
            .filter(|sale| external_id.is_none() || sale.external_id == external_id)
            .skip(page.saturating_sub(1).saturating_mul(PAGE_LEN))
            .take(PAGE_LEN);
        Answer::json(StatusCode::OK, wanted.map(shown).collect())
    }
}

impl StandIn for Tapfiliate {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        match call.header("x-api-key") {
            Some(key) if key == self.account.api_key => {}
            Some(_) => return Err(refused(StatusCode::UNAUTHORIZED, "invalid API key")),
            None => {
                let page = "<!DOCTYPE html><title>Not Found</title>";
                return Err(Answer::page(StatusCode::NOT_FOUND, page));
            }
        }
        let route = call.route("/1.6");
        let Some((method, path)) = &route else {
            return Err(refused(StatusCode::NOT_FOUND, "no such resource"));
        };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        // The empty segment is the slash at the end.
        match (*method, &path[..]) {
            ("POST", ["clicks", ""]) => self.click(call),
            ("POST", ["customers", ""]) => self.customer(call),
            ("POST", ["conversions", ""]) => self.convert(call),
            ("GET", ["conversions", ""]) => Ok(self.list(call)),
            ("DELETE", ["conversions", id, ""]) => self.delete(id),
            ("PATCH", ["conversions", id, ""]) => self.update(call, id),
            _ => Err(refused(StatusCode::NOT_FOUND, "no such resource")),
        }
    }

    fn records(&self) -> Records {
        let by = |(id, credit): &(String, String)| format!("{id} by {credit}");
        let conversions = self.conversions.iter().map(|sale| {
            let id = sale.external_id.as_deref().unwrap_or("without an ID");
            let currency = sale.currency.as_deref().unwrap_or_default();
            format!("sale {id}: {} {currency} by {}", sale.amount, sale.credit)
        });
        vec![
            ("Clicks", self.clicks.iter().map(by).collect()),
            ("Customers", self.customers.iter().map(by).collect()),
            ("Conversions", conversions.collect()),
            ("Refunds", self.refunds.clone()),
        ]
    }
}

fn object(call: &Call<'_>, known: &[Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|invalid| {
        let message = format!("{}: {}", invalid.name(), invalid.problem());
        let status = match invalid {
            Invalid::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Invalid::Json | Invalid::Field { .. } => StatusCode::BAD_REQUEST,
        };
        let errors = json!([{ "message": message }]);
        Answer::json(status, json!({ "errors": errors }))
    })
}

fn refused(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, json!({ "message": message }))
}

fn shown(conversion: &Conversion) -> Value {
    json!({
        "id": conversion.id,
        "external_id": conversion.external_id,
        "amount": number(conversion.amount),
        "currency": conversion.currency,
        "commissions": [],
    })
}
