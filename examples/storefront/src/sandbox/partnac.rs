//! Plays Partnac. Neither its statuses nor the shape of its answers are documented: these are likely
//! ones.

use axum::http::{StatusCode, header};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::Answer;
use super::call::{Call, Fields, Kind, UNKNOWN, Verdict, decimal, text, unescaped};
use super::records::{Conversion, Records};

pub(super) fn answer(records: &mut Records, api_key: &str, call: &Call<'_>) -> Verdict {
    if !call.has(header::AUTHORIZATION.as_str(), &format!("Bearer {api_key}")) {
        return Err(Answer::refusal(StatusCode::UNAUTHORIZED, "invalid API key"));
    }
    let route = call.route("/v1/tracking");
    let route = route.as_ref().map(|(method, path)| (*method, &path[..]));
    match route {
        Some(("POST", ["clicks"])) => click(records, call),
        Some(("GET", ["clicks"])) => {
            let clicks = records.clicks.iter();
            let clicks = clicks.map(|(id, code)| json!({"click_id": id, "partnership_code": code}));
            list(call, clicks.collect())
        }
        Some(("POST", ["conversions"])) => convert(records, call),
        Some(("GET", ["conversions"])) => {
            list(call, records.conversions.iter().map(shown).collect())
        }
        Some(("PATCH", ["conversions", id])) => update(records, call, &unescaped(id)),
        Some(("POST", ["conversions", id, "refund"])) => refund(records, call, &unescaped(id)),
        _ => Err(Answer::refusal(StatusCode::NOT_FOUND, "no such resource")),
    }
}

fn check_code(fields: &Fields) -> Result<&str, Answer> {
    let code = text(fields, "partnership_code").unwrap_or_default();
    if code.starts_with(UNKNOWN) {
        return Err(Answer::refusal(
            StatusCode::NOT_FOUND,
            "partnership not found",
        ));
    }
    Ok(code)
}

fn click(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("partnership_code", Kind::RequiredText),
        ("click_url", Kind::RequiredText),
        ("referrer_url", Kind::Text),
        ("screen_width", Kind::Integer),
        ("ip_address", Kind::Text),
    ])?;
    let code = check_code(&fields)?;
    let id = format!("clk_{:06}", call.number);
    records.clicks.push((id.clone(), code.to_owned()));
    let click = json!({ "data": { "click_id": id } });
    Ok(Answer::json(StatusCode::CREATED, click))
}

fn convert(records: &mut Records, call: &Call<'_>) -> Verdict {
    const KINDS: [&str; 5] = ["sale", "lead", "referral", "subscription", "custom"];
    let fields = call.fields(&[
        ("partnership_code", Kind::RequiredText),
        ("unique_id", Kind::RequiredText),
        ("conversion_type", Kind::RequiredText),
        ("amount", Kind::RequiredAmount),
        ("campaign_id", Kind::Text),
        ("session_id", Kind::Text),
        ("metadata", Kind::Object),
    ])?;
    let kind = text(&fields, "conversion_type").unwrap_or_default();
    if !KINDS.contains(&kind) {
        return Err(Answer::invalid("conversion_type", "is none of the five"));
    }
    let code = check_code(&fields)?;
    if text(&fields, "session_id").is_some_and(|id| !records.knows_click(id)) {
        return Err(Answer::invalid("session_id", "is no click ID"));
    }
    let external_id = text(&fields, "unique_id").unwrap_or_default();
    if records.conversion(external_id).is_some() {
        let message = "a conversion of this unique_id exists already";
        return Err(Answer::refusal(StatusCode::CONFLICT, message));
    }
    let currency = fields
        .get("metadata")
        .and_then(|facts| facts.get("currency"));
    records.conversions.push(Conversion {
        number: call.number,
        external_id: external_id.to_owned(),
        kind: kind.to_owned(),
        amount: decimal(&fields["amount"]).unwrap_or_default(),
        currency: currency.and_then(Value::as_str).unwrap_or("USD").to_owned(),
        credit: code.to_owned(),
    });
    let id = format!("conv_{:06}", call.number);
    Ok(Answer::json(
        StatusCode::CREATED,
        json!({"data": {"id": id}}),
    ))
}

fn shown(conversion: &Conversion) -> Value {
    json!({
        "id": format!("conv_{:06}", conversion.number),
        "unique_id": conversion.external_id,
        "conversion_type": conversion.kind,
        "amount": super::number(conversion.amount),
        "partnership_code": conversion.credit,
        "metadata": {"currency": conversion.currency},
    })
}

fn unknown_conversion() -> Answer {
    Answer::refusal(StatusCode::NOT_FOUND, "no conversion of this unique_id")
}

fn refund(records: &mut Records, call: &Call<'_>, external_id: &str) -> Verdict {
    let fields = call.fields(&[
        ("amount", Kind::Amount),
        ("reason", Kind::Text),
        ("external_refund_id", Kind::Text),
        ("reverse_paid_earnings", Kind::Flag),
    ])?;
    let id = text(&fields, "external_refund_id");
    let mut refunds = records.refunds.iter();
    if id.is_some() && refunds.any(|refund| refund.id.as_deref() == id) {
        return Err(Answer::refusal(StatusCode::CONFLICT, "refunded already"));
    }
    let sale = records
        .conversion(external_id)
        .ok_or_else(unknown_conversion)?;
    let amount = fields
        .get("amount")
        .and_then(decimal)
        .unwrap_or(sale.amount);
    if amount > sale.amount || amount == Decimal::ZERO {
        return Err(Answer::invalid(
            "amount",
            "is more than what is left, or nothing",
        ));
    }
    sale.amount -= amount;
    records.refund(external_id, id, amount);
    let refund = json!({"data": {"refund_id": format!("ref_{:06}", call.number)}});
    Ok(Answer::json(StatusCode::OK, refund))
}

fn update(records: &mut Records, call: &Call<'_>, external_id: &str) -> Verdict {
    let fields = call.fields(&[
        ("amount", Kind::Amount),
        ("unique_id", Kind::Text),
        ("metadata", Kind::Object),
        ("recalculate_commissions", Kind::Flag),
    ])?;
    let sale = records
        .conversion(external_id)
        .ok_or_else(unknown_conversion)?;
    if let Some(amount) = fields.get("amount").and_then(decimal) {
        sale.amount = amount;
    }
    if let Some(id) = text(&fields, "unique_id") {
        id.clone_into(&mut sale.external_id);
    }
    let sale = shown(sale);
    Ok(Answer::json(StatusCode::OK, json!({ "data": sale })))
}

fn list(call: &Call<'_>, all: Vec<Value>) -> Verdict {
    let number = |name, default| match call.parameter(name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| Answer::invalid(name, "is no number")),
    };
    let (limit, offset) = (number("limit", 20)?, number("offset", 0)?);
    if !(1..=100).contains(&limit) {
        return Err(Answer::invalid("limit", "is 1 to 100"));
    }
    let page: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
    Ok(Answer::json(StatusCode::OK, json!({ "data": page })))
}
