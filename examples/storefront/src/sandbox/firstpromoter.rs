//! A stand-in for `FirstPromoter`'s tracking API, version 2: leads and their sales in minor units,
//! and a 404 for whoever wasn't referred.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// Everything that `FirstPromoter` remembers.
pub(super) struct FirstPromoter {
    account: Account,
    leads: Vec<Lead>,
    sales: Vec<Sale>,
    /// The refund's event ID, and what it took back.
    refunds: Vec<(String, String)>,
}

struct Lead {
    id: u64,
    email: Option<String>,
    uid: Option<String>,
    /// The promoter, by `ref_id` or `tid`.
    credit: String,
    is_cancelled: bool,
}

struct Sale {
    event_id: String,
    lead: u64,
    /// What is left of it.
    amount: u64,
    currency: Option<String>,
}

impl FirstPromoter {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            leads: Vec::new(),
            sales: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn sign_up(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                optional("email", Kind::Text),
                optional("uid", Kind::Text),
                optional("tid", Kind::Text),
                optional("ref_id", Kind::Text),
                optional("ip", Kind::Text),
                optional("created_at", Kind::Text),
                optional("skip_email_notification", Kind::Flag),
            ],
        )?;
        if fields.which(&["tid", "ref_id"]).is_empty() {
            return Err(invalid(&Invalid::field("tid", "or ref_id is required")));
        }
        if let Some(lead) = self.find(&fields)? {
            let message = format!("Referral {} has signed up already", self.leads[lead].id);
            return Err(refused(StatusCode::UNPROCESSABLE_ENTITY, &message));
        }
        let credit = credit(&fields)?.ok_or_else(not_found)?;
        let lead = self.add(&fields, credit, call.number);
        let event = self.event("signup", call, lead, None);
        Ok(Answer::json(StatusCode::OK, event))
    }

    fn sale(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("event_id", Kind::Text),
                required("amount", Kind::Integer),
                optional("email", Kind::Text),
                optional("uid", Kind::Text),
                optional("quantity", Kind::Integer),
                optional("plan", Kind::Text),
                optional("currency", Kind::Currency),
                optional("mrr", Kind::Text),
                optional("promo_code", Kind::Text),
                optional("tid", Kind::Text),
                optional("ref_id", Kind::Text),
                optional("skip_email_notification", Kind::Flag),
            ],
        )?;
        let event_id = fields.required_text("event_id");
        if self.sales.iter().any(|sale| sale.event_id == event_id) {
            let message = "There is a sale with this event_id";
            return Err(refused(StatusCode::CONFLICT, message));
        }
        let lead = match self.find(&fields)? {
            Some(lead) => lead,
            None => {
                let credit = credit(&fields)?.ok_or_else(not_found)?;
                self.add(&fields, credit, call.number)
            }
        };
        let amount = fields.integer("amount").unwrap_or_default();
        self.sales.push(Sale {
            event_id: event_id.to_owned(),
            lead: self.leads[lead].id,
            amount,
            currency: fields.text("currency").map(str::to_owned),
        });
        let event = self.event("sale", call, lead, Some(amount as i64));
        Ok(Answer::json(StatusCode::OK, event))
    }

    fn refund(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("event_id", Kind::Text),
                required("amount", Kind::Integer),
                optional("email", Kind::Text),
                optional("uid", Kind::Text),
                optional("quantity", Kind::Integer),
                optional("sale_event_id", Kind::Text),
                optional("currency", Kind::Currency),
                optional("skip_email_notification", Kind::Flag),
            ],
        )?;
        let event_id = fields.required_text("event_id");
        let is_known = self.refunds.iter().any(|(known, _)| known == event_id)
            || self.sales.iter().any(|sale| sale.event_id == event_id);
        if is_known {
            let message = "There is an event with this event_id";
            return Err(refused(StatusCode::CONFLICT, message));
        }
        let lead = self.find(&fields)?.ok_or_else(not_found)?;
        let lead_id = self.leads[lead].id;
        let wanted = fields.text("sale_event_id");
        let sale = self.sales.iter_mut().find(|sale| {
            sale.lead == lead_id && wanted.is_none_or(|wanted| sale.event_id == wanted)
        });
        let amount = fields.integer("amount").unwrap_or_default();
        let Some(sale) = sale.filter(|sale| sale.amount > 0) else {
            return Ok(Answer::empty(StatusCode::NO_CONTENT));
        };
        let taken = amount.min(sale.amount);
        sale.amount -= taken;
        let note = format!("{}: {taken}", sale.event_id);
        self.refunds.push((event_id.to_owned(), note));
        let event = self.event("refund", call, lead, Some(-(taken as i64)));
        Ok(Answer::json(StatusCode::OK, event))
    }

    fn cancel(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[optional("email", Kind::Text), optional("uid", Kind::Text)],
        )?;
        let lead = self.find(&fields)?.ok_or_else(not_found)?;
        self.leads[lead].is_cancelled = true;
        let event = self.event("cancellation", call, lead, None);
        Ok(Answer::json(StatusCode::OK, event))
    }

    /// Finds the lead by `uid`, else by `email`; one of them must be there.
    fn find(&self, fields: &Fields) -> Result<Option<usize>, Answer> {
        if fields.which(&["email", "uid"]).is_empty() {
            return Err(invalid(&Invalid::field("email", "or uid is required")));
        }
        let by = |of: fn(&Lead) -> &Option<String>, name| {
            let wanted = fields.text(name)?;
            let mut leads = self.leads.iter();
            leads.position(|lead| of(lead).as_deref() == Some(wanted))
        };
        Ok(by(|lead| &lead.uid, "uid").or_else(|| by(|lead| &lead.email, "email")))
    }

    fn add(&mut self, fields: &Fields, credit: String, id: u64) -> usize {
        self.leads.push(Lead {
            id,
            email: fields.text("email").map(str::to_owned),
            uid: fields.text("uid").map(str::to_owned),
            credit,
            is_cancelled: false,
        });
        self.leads.len() - 1
    }

    fn event(&self, kind: &str, call: &Call<'_>, lead: usize, amount: Option<i64>) -> Value {
        let lead = &self.leads[lead];
        json!({
            "id": call.number,
            "etype": kind,
            "sale_amount": amount,
            "created_at": super::partnero::moment(call.now),
            "referral": { "id": lead.id, "email": lead.email, "uid": lead.uid },
            "commissions": [],
        })
    }
}

impl StandIn for FirstPromoter {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        let is_known = call.bearer() == Some(&self.account.api_key)
            && call.header("account-id") == Some(&self.account.account_id);
        if !is_known {
            let message = "API key or Account-ID is missing or wrong";
            return Err(refused(StatusCode::UNAUTHORIZED, message));
        }
        let route = call.route("/api/v2/track").unwrap_or_default();
        let path: Vec<_> = route.1.iter().map(String::as_str).collect();
        match (route.0, &path[..]) {
            ("POST", ["signup"]) => self.sign_up(call),
            ("POST", ["sale"]) => self.sale(call),
            ("POST", ["refund"]) => self.refund(call),
            ("POST", ["cancellation"]) => self.cancel(call),
            _ => Err(refused(StatusCode::NOT_FOUND, "no such resource")),
        }
    }

    fn records(&self) -> Records {
        let name = |lead: &Lead| {
            let name = lead.uid.as_ref().or(lead.email.as_ref());
            name.cloned().unwrap_or_default()
        };
        let leads = self.leads.iter().map(|lead| {
            let cancelled = if lead.is_cancelled { ", cancelled" } else { "" };
            format!("{} by {}{cancelled}", name(lead), lead.credit)
        });
        let sales = self.sales.iter().map(|sale| {
            let lead = self.leads.iter().find(|lead| lead.id == sale.lead);
            let credit = lead.map_or("nobody", |lead| &lead.credit);
            let currency = sale.currency.as_deref().unwrap_or("USD");
            format!(
                "sale {}: {} {currency} by {credit}",
                sale.event_id, sale.amount
            )
        });
        let refunds = self.refunds.iter().map(|(_, note)| note.clone());
        vec![
            ("Customers", leads.collect()),
            ("Conversions", sales.collect()),
            ("Refunds", refunds.collect()),
        ]
    }
}

/// Returns the promoter that `ref_id` or `tid` stands for, if one of them is there.
fn credit(fields: &Fields) -> Result<Option<String>, Answer> {
    match fields.text("ref_id").or(fields.text("tid")) {
        Some(unknown) if is_unknown(unknown) => Err(not_found()),
        credit => Ok(credit.map(str::to_owned)),
    }
}

fn object(call: &Call<'_>, known: &[Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|error| invalid(&error))
}

fn not_found() -> Answer {
    let body = json!({ "message": "Not found", "code": "not_found" });
    Answer::json(StatusCode::NOT_FOUND, body)
}

fn invalid(invalid: &Invalid) -> Answer {
    let message = format!("{} {}", invalid.name(), invalid.problem());
    refused(StatusCode::BAD_REQUEST, &message)
}

fn refused(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, json!({ "message": message }))
}
