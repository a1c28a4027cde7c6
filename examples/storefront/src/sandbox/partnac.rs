//! A stand-in for Partnac. Its documentation has the fields and neither statuses nor the shape of
//! answers: these are likely ones.

use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::answer::{Answer, Verdict, number};
use super::call::{Call, Fields, Invalid, Kind, optional, required};
use super::{Account, Records, StandIn, is_unknown};

/// Everything that Partnac remembers.
pub(super) struct Partnac {
    account: Account,
    /// Click IDs and the code of each.
    clicks: Vec<(String, String)>,
    conversions: Vec<Conversion>,
    refunds: Vec<Refund>,
}

struct Conversion {
    id: String,
    unique_id: String,
    kind: String,
    /// What is left of it.
    amount: Decimal,
    code: String,
    metadata: Value,
}

struct Refund {
    unique_id: String,
    amount: Decimal,
}

impl Partnac {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            clicks: Vec::new(),
            conversions: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn click(&mut self, call: &Call<'_>) -> Verdict {
        let fields = object(
            call,
            &[
                required("partnership_code", Kind::Text),
                required("click_url", Kind::Text),
                optional("referrer_url", Kind::Text),
                optional("screen_width", Kind::Integer),
                optional("ip_address", Kind::Text),
            ],
        )?;
        let code = known_code(&fields)?;
        let id = format!("clk_{:06}", call.number);
        self.clicks.push((id.clone(), code.to_owned()));
        let click = json!({ "data": { "click_id": id } });
        Ok(Answer::json(StatusCode::CREATED, click))
    }

    fn convert(&mut self, call: &Call<'_>) -> Verdict {
        const KINDS: &[&str] = &["sale", "lead", "referral", "subscription", "custom"];
        let fields = object(
            call,
            &[
                required("partnership_code", Kind::Text),
                required("unique_id", Kind::Text),
                required("conversion_type", Kind::OneOf(KINDS)),
                required("amount", Kind::Amount),
                optional("campaign_id", Kind::Text),
                optional("session_id", Kind::Text),
                optional("metadata", Kind::Object),
            ],
        )?;
        let code = known_code(&fields)?;
        if let Some(session) = fields.text("session_id")
            && !self.clicks.iter().any(|(id, _)| id == session)
        {
            return Err(invalid(&Invalid::field("session_id", "is no click ID")));
        }
        let unique_id = fields.required_text("unique_id");
        if self.find(unique_id).is_some() {
            let message = "a conversion of this unique_id exists";
            return Err(refused(StatusCode::CONFLICT, message));
        }
        let id = format!("conv_{:06}", call.number);
        self.conversions.push(Conversion {
            id: id.clone(),
            unique_id: unique_id.to_owned(),
            kind: fields.required_text("conversion_type").to_owned(),
            amount: fields.amount("amount").unwrap_or_default(),
            code: code.to_owned(),
            metadata: metadata(&fields)?,
        });
        let conversion = json!({ "data": { "id": id } });
        Ok(Answer::json(StatusCode::CREATED, conversion))
    }

    /// Takes money back. That a refund's own ID is recognised when it comes again is documented
    /// nowhere.
    fn refund(&mut self, call: &Call<'_>, unique_id: &str) -> Verdict {
        let fields = object(
            call,
            &[
                optional("amount", Kind::Amount),
                optional("reason", Kind::Text),
                optional("external_refund_id", Kind::Text),
                optional("reverse_paid_earnings", Kind::Flag),
            ],
        )?;
        let sale = self.find(unique_id).ok_or_else(unknown_conversion)?;
        let amount = fields.amount("amount").unwrap_or(sale.amount);
        if amount > sale.amount || amount.is_zero() {
            let problem = "is more than what is left, or nothing";
            return Err(invalid(&Invalid::field("amount", problem)));
        }
        sale.amount -= amount;
        self.refunds.push(Refund {
            unique_id: unique_id.to_owned(),
            amount,
        });
        let refund = json!({ "data": { "refund_id": format!("ref_{:06}", call.number) } });
        Ok(Answer::json(StatusCode::OK, refund))
    }

    fn update(&mut self, call: &Call<'_>, unique_id: &str) -> Verdict {
        let fields = object(
            call,
            &[
                optional("amount", Kind::Amount),
                optional("unique_id", Kind::Text),
                optional("metadata", Kind::Object),
                optional("recalculate_commissions", Kind::Flag),
            ],
        )?;
        if fields.text("unique_id").is_some_and(|id| id != unique_id) {
            let problem = "must be the one that the conversion was made with";
            return Err(invalid(&Invalid::field("unique_id", problem)));
        }
        let merged = metadata(&fields)?;
        let sale = self.find(unique_id).ok_or_else(unknown_conversion)?;
        if let Some(amount) = fields.amount("amount") {
            sale.amount = amount;
        }
        if let (Some(kept), Some(merged)) = (sale.metadata.as_object_mut(), merged.as_object()) {
            kept.extend(merged.clone());
        }
        let sale = shown(sale);
        Ok(Answer::json(StatusCode::OK, json!({ "data": sale })))
    }

    fn find(&mut self, unique_id: &str) -> Option<&mut Conversion> {
        let mut conversions = self.conversions.iter_mut();
        conversions.find(|conversion| conversion.unique_id == unique_id)
    }
}

impl StandIn for Partnac {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        if call.bearer() != Some(&self.account.api_key) {
            return Err(refused(StatusCode::UNAUTHORIZED, "invalid API key"));
        }
        let route = call.route("/v1/tracking");
        let Some((method, path)) = &route else {
            return Err(refused(StatusCode::NOT_FOUND, "no such resource"));
        };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match (*method, &path[..]) {
            ("POST", ["clicks"]) => self.click(call),
            ("GET", ["clicks"]) => {
                let clicks = self.clicks.iter();
                let clicks =
                    clicks.map(|(id, code)| json!({ "click_id": id, "partnership_code": code }));
                list(call, clicks.collect())
            }
            ("POST", ["conversions"]) => self.convert(call),
            ("GET", ["conversions"]) => list(call, self.conversions.iter().map(shown).collect()),
            ("PATCH", ["conversions", id]) => self.update(call, id),
            ("POST", ["conversions", id, "refund"]) => self.refund(call, id),
            _ => Err(refused(StatusCode::NOT_FOUND, "no such resource")),
        }
    }

    fn records(&self) -> Records {
        let clicks = self.clicks.iter();
        let clicks = clicks.map(|(id, code)| format!("{id} by {code}"));
        let conversions = self.conversions.iter().map(|sale| {
            let (kind, id, code) = (&sale.kind, &sale.unique_id, &sale.code);
            if sale.kind == "lead" {
                return format!("{kind} {id} by {code}");
            }
            let currency = sale.metadata["currency"].as_str().unwrap_or("USD");
            format!("{kind} {id}: {} {currency} by {code}", sale.amount)
        });
        let refunds = self.refunds.iter();
        let refunds = refunds.map(|refund| format!("{}: {}", refund.unique_id, refund.amount));
        vec![
            ("Clicks", clicks.collect()),
            ("Conversions", conversions.collect()),
            ("Refunds", refunds.collect()),
        ]
    }
}

fn object(call: &Call<'_>, known: &[super::call::Field]) -> Result<Fields, Answer> {
    call.object(known).map_err(|error| invalid(&error))
}

/// The metadata that Partnac reads has its own types; the rest is the user's.
fn metadata(fields: &Fields) -> Result<Value, Answer> {
    const READ: [&str; 8] = [
        "currency",
        "customer_id",
        "coupon_code",
        "ip_address",
        "user_agent",
        "country",
        "city",
        "region",
    ];
    let metadata = fields.value("metadata").cloned();
    let metadata = metadata.unwrap_or_else(|| json!({}));
    for name in READ {
        if metadata.get(name).is_some_and(|value| !value.is_string()) {
            let name = format!("metadata.{name}");
            return Err(invalid(&Invalid::field(name, "must be a text")));
        }
    }
    let currency = metadata.get("currency").and_then(Value::as_str);
    if currency.is_some_and(|currency| !super::call::is_currency(currency)) {
        let problem = "must be a currency's code of three letters";
        return Err(invalid(&Invalid::field("metadata.currency", problem)));
    }
    Ok(metadata)
}

fn known_code(fields: &Fields) -> Result<&str, Answer> {
    let code = fields.required_text("partnership_code");
    if is_unknown(code) {
        return Err(refused(StatusCode::NOT_FOUND, "partnership not found"));
    }
    Ok(code)
}

fn unknown_conversion() -> Answer {
    refused(StatusCode::NOT_FOUND, "no conversion of this unique_id")
}

fn refused(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, json!({ "message": message }))
}

fn invalid(invalid: &Invalid) -> Answer {
    let errors = json!({ invalid.name(): [invalid.problem()] });
    let status = match invalid {
        Invalid::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Invalid::Json => StatusCode::BAD_REQUEST,
        Invalid::Field { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let message = "validation failed";
    Answer::json(status, json!({ "message": message, "errors": errors }))
}

fn shown(conversion: &Conversion) -> Value {
    json!({
        "id": conversion.id,
        "unique_id": conversion.unique_id,
        "conversion_type": conversion.kind,
        "amount": number(conversion.amount),
        "partnership_code": conversion.code,
        "metadata": conversion.metadata,
    })
}

fn list(call: &Call<'_>, all: Vec<Value>) -> Verdict {
    let number = |name, default| match call.parameter(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| invalid(&Invalid::field(name, "is no number"))),
    };
    let (limit, offset) = (number("limit", 20)?, number("offset", 0)?);
    if !(1..=100).contains(&limit) {
        return Err(invalid(&Invalid::field("limit", "is 1 to 100")));
    }
    let page: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
    Ok(Answer::json(StatusCode::OK, json!({ "data": page })))
}
