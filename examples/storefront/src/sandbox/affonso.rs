//! A stand-in for Affonso: clicks in camel case, everything else in snake case, and answers that say
//! `success` themselves.

use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict, number};
use super::call::{Call, Field, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// What names the customer of a conversion: at least one of these.
const IDENTIFIERS: [&str; 4] = ["click_id", "referral_id", "customer_id", "external_user_id"];
const SALES_STATUSES: &[&str] = &[
    "open",
    "complete",
    "trialing",
    "failed",
    "refunded",
    "partial_refunded",
];
const STATUSES: &[&str] = &[
    "pending",
    "pending_manual_approval",
    "ready_for_payment",
    "processing_payout",
    "paid",
    "declined",
    "refunded",
    "dispute",
];

/// Everything that Affonso remembers.
pub(super) struct Affonso {
    account: Account,
    /// A click, which becomes a lead: the ID stays.
    referrals: Vec<Referral>,
    conversions: Vec<Conversion>,
    /// The refund's event ID, the conversion's ID and what the answer was.
    refunds: Vec<(Option<String>, String, Answer)>,
}

struct Referral {
    id: String,
    tracking_id: String,
    is_lead: bool,
    email: Option<String>,
    external_user_id: Option<String>,
    customer_id: Option<String>,
    name: Option<String>,
}

struct Conversion {
    id: String,
    referral: String,
    event: String,
    /// What is left of it.
    amount: Decimal,
    currency: String,
    sales_status: &'static str,
}

impl Affonso {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            referrals: Vec::new(),
            conversions: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn click(&mut self, call: &Call<'_>) -> Verdict {
        let mut known = vec![
            required("programId", Kind::Text),
            required("trackingId", Kind::Text),
            optional("referrer", Kind::TextUpTo(2000)),
            optional("ip", Kind::TextUpTo(45)),
            optional("userAgent", Kind::TextUpTo(1000)),
        ];
        known.extend(
            [
                "sub1",
                "sub2",
                "sub3",
                "sub4",
                "sub5",
                "utmSource",
                "utmMedium",
                "utmCampaign",
                "utmTerm",
                "utmContent",
                "gclid",
                "fbclid",
                "msclkid",
                "ttclid",
            ]
            .map(|name| optional(name, Kind::TextUpTo(255))),
        );
        let fields = object(call, &known)?;
        if fields.text("programId") != Some(&self.account.program_id) {
            return Err(refused(StatusCode::NOT_FOUND, "program not found"));
        }
        let tracking_id = fields.required_text("trackingId");
        if is_unknown(tracking_id) {
            return Err(refused(StatusCode::NOT_FOUND, "affiliate not found"));
        }
        let id = format!("ref_clk_{:06}", call.number);
        self.referrals.push(Referral {
            id: id.clone(),
            tracking_id: tracking_id.to_owned(),
            is_lead: false,
            email: None,
            external_user_id: None,
            customer_id: None,
            name: None,
        });
        let click = json!({ "id": id, "trackingId": tracking_id, "createdAt": moment(call) });
        Ok(success(StatusCode::CREATED, &click))
    }

    fn sign_up(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("click_id", Kind::Text),
                optional("email", Kind::Text),
                optional("external_user_id", Kind::Text),
                optional("name", Kind::TextUpTo(255)),
            ],
        )?;
        if fields.which(&["email", "external_user_id"]).is_empty() {
            let problem = "or external_user_id is required";
            return Err(invalid(&Invalid::field("email", problem)));
        }
        let click = fields.required_text("click_id");
        let referral = self.referrals.iter_mut().find(|known| known.id == click);
        let referral = referral.ok_or_else(|| refused(StatusCode::NOT_FOUND, "click not found"))?;
        let status = if referral.is_lead {
            StatusCode::OK
        } else {
            referral.is_lead = true;
            referral.email = fields.text("email").map(str::to_owned);
            referral.external_user_id = fields.text("external_user_id").map(str::to_owned);
            referral.name = fields.text("name").map(str::to_owned);
            StatusCode::CREATED
        };
        let lead = json!({
            "id": referral.id,
            "affiliate_id": format!("aff_{}", referral.tracking_id),
            "program_id": self.account.program_id,
            "email": referral.email,
            "customer_id": referral.customer_id,
            "subscription_id": null,
            "status": "lead",
            "name": referral.name,
            "metadata": null,
            "created_at": moment(call),
            "converted_at": null,
        });
        Ok(success(status, &lead))
    }

    fn convert(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                optional("click_id", Kind::Text),
                optional("referral_id", Kind::Text),
                optional("customer_id", Kind::Text),
                optional("external_user_id", Kind::Text),
                required("sale_amount", Kind::Amount),
                required("sale_amount_currency", Kind::Currency),
                required("external_event_id", Kind::Text),
                optional("sales_status", Kind::OneOf(SALES_STATUSES)),
                optional("status", Kind::OneOf(STATUSES)),
                optional("is_subscription", Kind::Flag),
                optional("interval", Kind::OneOf(&["monthly", "yearly"])),
                optional("product_ids", Kind::Texts),
                optional("price_ids", Kind::Texts),
                optional("created_at", Kind::Text),
                optional("metadata", Kind::Object),
            ],
        )?;
        if fields.which(&IDENTIFIERS).is_empty() {
            let problem = format!("is required, or another of {}", IDENTIFIERS.join(", "));
            return Err(invalid(&Invalid::field("click_id", problem)));
        }
        let amount = fields.amount("sale_amount").unwrap_or_default();
        if amount.is_zero() {
            let problem = "must be a positive number";
            return Err(invalid(&Invalid::field("sale_amount", problem)));
        }
        let event = fields.required_text("external_event_id");
        if let Some(first) = self.conversions.iter().find(|known| known.event == event) {
            return Ok(success(StatusCode::OK, &self.shown(first, call)));
        }
        let referral = self.referral(&fields);
        let referral =
            referral.ok_or_else(|| refused(StatusCode::NOT_FOUND, "referral not found"))?;
        let conversion = Conversion {
            id: format!("com_{:06}", call.number),
            referral,
            event: event.to_owned(),
            amount,
            currency: fields
                .required_text("sale_amount_currency")
                .to_ascii_uppercase(),
            sales_status: "complete",
        };
        let shown = self.shown(&conversion, call);
        self.conversions.push(conversion);
        Ok(success(StatusCode::CREATED, &shown))
    }

    /// Finds the referral that the first known identifier names, and keeps the customer's ID with it.
    fn referral(&mut self, fields: &Fields) -> Option<String> {
        let text = |name| fields.text(name);
        let is_meant = |known: &Referral| {
            text("referral_id").or(text("click_id")) == Some(&known.id)
                || text("customer_id").is_some_and(|id| known.customer_id.as_deref() == Some(id))
                || text("external_user_id")
                    .is_some_and(|id| known.external_user_id.as_deref() == Some(id))
        };
        let referral = self.referrals.iter_mut().find(|known| is_meant(known))?;
        if let Some(customer) = text("customer_id") {
            referral
                .customer_id
                .get_or_insert_with(|| customer.to_owned());
        }
        if let Some(user) = text("external_user_id") {
            referral
                .external_user_id
                .get_or_insert_with(|| user.to_owned());
        }
        Some(referral.id.clone())
    }

    fn refund(&mut self, call: &Call<'_>, id: &str) -> Verdict {
        let fields = object(
            call,
            &[
                optional("amount", Kind::Amount),
                optional("currency", Kind::Currency),
                optional("reason", Kind::Text),
                optional("external_event_id", Kind::Text),
                optional("refunded_at", Kind::Text),
            ],
        )?;
        let event = fields.text("external_event_id").map(str::to_owned);
        if event.is_some() {
            let mut refunds = self.refunds.iter();
            if let Some((_, _, answer)) = refunds.find(|(known, _, _)| *known == event) {
                return Ok(answer.clone());
            }
        }
        let conversion = self.conversions.iter_mut().find(|known| known.id == id);
        let message = "conversion not found";
        let conversion = conversion.ok_or_else(|| refused(StatusCode::NOT_FOUND, message))?;
        let currency = fields.text("currency");
        if currency.is_some_and(|currency| !currency.eq_ignore_ascii_case(&conversion.currency)) {
            let problem = "must be the conversion's";
            return Err(invalid(&Invalid::field("currency", problem)));
        }
        let amount = fields.amount("amount").unwrap_or(conversion.amount);
        if amount.is_zero() || amount > conversion.amount {
            let problem = "must be above zero and at most what is left";
            return Err(invalid(&Invalid::field("amount", problem)));
        }
        conversion.amount -= amount;
        conversion.sales_status = if conversion.amount.is_zero() {
            "refunded"
        } else {
            "partial_refunded"
        };
        let note = format!("{}: {amount} {}", conversion.event, conversion.currency);
        let conversions = self.conversions.iter();
        let updated = conversions.filter(|known| known.id == id);
        let shown = updated.map(|known| self.shown(known, call)).next();
        let answer = success(StatusCode::OK, &shown.unwrap_or_default());
        self.refunds.push((event, note, answer.clone()));
        Ok(answer)
    }

    fn shown(&self, conversion: &Conversion, call: &Call<'_>) -> Value {
        json!({
            "id": conversion.id,
            "referral_id": conversion.referral,
            "program_id": self.account.program_id,
            "sale_amount": number(conversion.amount),
            "sale_amount_currency": conversion.currency,
            "status": "ready_for_payment",
            "sales_status": conversion.sales_status,
            "external_event_id": conversion.event,
            "calculation_mode": "auto",
            "created_at": moment(call),
            "updated_at": moment(call),
        })
    }
}

impl StandIn for Affonso {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        if call.bearer() != Some(&self.account.api_key) {
            return Err(refused(StatusCode::UNAUTHORIZED, "invalid API key"));
        }
        let route = call.route("/v1").unwrap_or_default();
        let path: Vec<_> = route.1.iter().map(String::as_str).collect();
        match (route.0, &path[..]) {
            ("POST", ["clicks"]) => self.click(call),
            ("POST", ["signups"]) => self.sign_up(call),
            ("POST", ["conversions"]) => self.convert(call),
            ("POST", ["conversions", id, "refund"]) => self.refund(call, id),
            _ => Err(refused(StatusCode::NOT_FOUND, "no such resource")),
        }
    }

    fn records(&self) -> Records {
        let clicks = self.referrals.iter();
        let clicks = clicks.map(|known| format!("{} by {}", known.id, known.tracking_id));
        let leads = self.referrals.iter().filter(|known| known.is_lead);
        let leads = leads.map(|known| {
            let user = known.external_user_id.as_ref().or(known.email.as_ref());
            let user = user.map_or("somebody", |user| user);
            format!("{user} by {}", known.tracking_id)
        });
        let conversions = self.conversions.iter().map(|sale| {
            let (event, amount, currency) = (&sale.event, sale.amount, &sale.currency);
            format!("sale {event}: {amount} {currency} by {}", sale.referral)
        });
        let refunds = self.refunds.iter().map(|(_, note, _)| note.clone());
        vec![
            ("Clicks", clicks.collect()),
            ("Customers", leads.collect()),
            ("Conversions", conversions.collect()),
            ("Refunds", refunds.collect()),
        ]
    }
}

fn moment(call: &Call<'_>) -> String {
    super::partnero::moment(call.now)
}

fn object(call: &Call<'_>, known: &[Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|error| invalid(&error))
}

fn success(status: StatusCode, data: &Value) -> Answer {
    Answer::json(status, json!({ "success": true, "data": data }))
}

fn invalid(invalid: &Invalid) -> Answer {
    let message = format!("{} {}", invalid.name(), invalid.problem());
    refused(StatusCode::BAD_REQUEST, &message)
}

fn refused(status: StatusCode, message: &str) -> Answer {
    let error = json!({ "message": message });
    Answer::json(status, json!({ "success": false, "error": error }))
}
