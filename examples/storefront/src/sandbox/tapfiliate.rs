//! Plays Tapfiliate: a slash at the end of every path, a page in HTML for whoever sends no API key,
//! and refusals under the statuses that its documentation leaves open.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::call::{Call, Fields, Kind, UNKNOWN, Verdict, decimal, text, unescaped};
use super::records::{Conversion, Customer, Records};
use super::{Answer, number};

/// How many conversions are on a page.
const PAGE_LEN: usize = 25;

pub(super) fn answer(records: &mut Records, api_key: &str, call: &Call<'_>) -> Verdict {
    match call.headers.get("x-api-key") {
        Some(key) if *key == *api_key => {}
        Some(_) => return Err(Answer::refusal(StatusCode::UNAUTHORIZED, "invalid API key")),
        None => {
            let page = "<!DOCTYPE html><title>Not Found</title>";
            return Err(Answer::page(StatusCode::NOT_FOUND, page));
        }
    }
    let route = call.route("/1.6");
    let route = route.as_ref().map(|(method, path)| (*method, &path[..]));
    match route {
        Some(("POST", ["clicks", ""])) => click(records, call),
        Some(("POST", ["customers", ""])) => customer(records, call),
        Some(("POST", ["conversions", ""])) => convert(records, call),
        Some(("GET", ["conversions", ""])) => Ok(list(records, call)),
        Some(("DELETE", ["conversions", id, ""])) => {
            let (at, _) = find(records, id)?;
            let sale = records.conversions.remove(at);
            records.refund(&sale.external_id, None, sale.amount);
            Ok(Answer::page(StatusCode::NO_CONTENT, ""))
        }
        Some(("PATCH", ["conversions", id, ""])) => {
            let fields = call.fields(&[
                ("amount", Kind::RequiredAmount),
                ("meta_data", Kind::Object),
            ])?;
            let amount = decimal(&fields["amount"]).unwrap_or_default();
            let (at, sale) = find(records, id)?;
            records.refund(&sale.external_id, None, sale.amount - amount);
            records.conversions[at].amount = amount;
            Ok(Answer::json(
                StatusCode::OK,
                shown(&records.conversions[at]),
            ))
        }
        _ => Err(Answer::refusal(StatusCode::NOT_FOUND, "no such resource")),
    }
}

fn click(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("referral_code", Kind::RequiredText),
        ("source_id", Kind::Text),
        ("meta_data", Kind::Object),
        ("referrer", Kind::Text),
        ("landing_page", Kind::Text),
        ("user_agent", Kind::Text),
        ("ip", Kind::Text),
    ])?;
    let code = known(&fields, "referral_code")?.unwrap_or_default();
    let id = format!("{:06}-0afe3c", call.number);
    records.clicks.push((id.clone(), code.to_owned()));
    Ok(Answer::json(StatusCode::CREATED, json!({ "id": id })))
}

/// A code or coupon that is somebody's.
fn known<'f>(fields: &'f Fields, name: &str) -> Result<Option<&'f str>, Answer> {
    let code = text(fields, name);
    if code.is_some_and(|code| code.starts_with(UNKNOWN)) {
        let message = format!("{name} not found");
        return Err(Answer::refusal(StatusCode::NOT_FOUND, &message));
    }
    Ok(code)
}

/// The one thing that credits a customer or a conversion.
fn credit<'f>(records: &Records, fields: &'f Fields, names: &[&str]) -> Result<&'f str, Answer> {
    if names
        .iter()
        .filter(|name| fields.contains_key(**name))
        .count()
        != 1
    {
        let message = format!("send one of {}", names.join(", "));
        return Err(Answer::refusal(StatusCode::BAD_REQUEST, &message));
    }
    if let Some(id) = text(fields, "click_id") {
        if records.knows_click(id) {
            return Ok(id);
        }
        let message = "the click_id is not valid";
        return Err(Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    if let Some(code) = known(fields, "referral_code")?.or(known(fields, "coupon")?) {
        return Ok(code);
    }
    match text(fields, "customer_id") {
        Some(id) if records.customer(id).is_some() => Ok(id),
        _ => Err(Answer::refusal(StatusCode::NOT_FOUND, "customer not found")),
    }
}

fn customer(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("customer_id", Kind::RequiredText),
        ("click_id", Kind::Text),
        ("referral_code", Kind::Text),
        ("coupon", Kind::Text),
        ("meta_data", Kind::Object),
    ])?;
    let credit = credit(records, &fields, &["click_id", "referral_code", "coupon"])?;
    let id = text(&fields, "customer_id").unwrap_or_default();
    if records.customer(id).is_some() {
        let message = "a customer with this customer_id already exists";
        return Err(Answer::refusal(StatusCode::BAD_REQUEST, message));
    }
    records.customers.push(Customer {
        id: id.to_owned(),
        credit: Some(credit.to_owned()),
    });
    let customer = json!({"id": format!("cu_{:06}", call.number), "customer_id": id});
    Ok(Answer::json(StatusCode::CREATED, customer))
}

fn convert(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("external_id", Kind::RequiredText),
        ("amount", Kind::RequiredAmount),
        ("currency", Kind::RequiredText),
        ("click_id", Kind::Text),
        ("referral_code", Kind::Text),
        ("coupon", Kind::Text),
        ("customer_id", Kind::Text),
        ("commission_type", Kind::Text),
        ("meta_data", Kind::Object),
    ])?;
    let names = ["click_id", "referral_code", "coupon", "customer_id"];
    let credit = credit(records, &fields, &names)?.to_owned();
    let external_id = text(&fields, "external_id").unwrap_or_default();
    if records.conversion(external_id).is_some() {
        let message = "the external_id must be unique";
        return Err(Answer::refusal(StatusCode::BAD_REQUEST, message));
    }
    let conversion = Conversion {
        number: call.number,
        external_id: external_id.to_owned(),
        kind: "sale".to_owned(),
        amount: decimal(&fields["amount"]).unwrap_or_default(),
        currency: text(&fields, "currency").unwrap_or_default().to_owned(),
        credit,
    };
    let answer = Answer::json(StatusCode::OK, shown(&conversion));
    records.conversions.push(conversion);
    Ok(answer)
}

fn shown(conversion: &Conversion) -> Value {
    json!({
        "id": conversion.number,
        "external_id": conversion.external_id,
        "amount": number(conversion.amount),
        "currency": conversion.currency,
        "commissions": [],
    })
}

fn find(records: &Records, id: &str) -> Result<(usize, Conversion), Answer> {
    let id = unescaped(id);
    let mut conversions = records.conversions.iter().enumerate();
    let found = conversions.find(|(_, conversion)| conversion.number.to_string() == id);
    let (at, conversion) =
        found.ok_or_else(|| Answer::refusal(StatusCode::NOT_FOUND, "no such conversion"))?;
    Ok((at, conversion.clone()))
}

fn list(records: &Records, call: &Call<'_>) -> Answer {
    let external_id = call.parameter("external_id");
    let page = call
        .parameter("page")
        .and_then(|page| page.parse().ok())
        .unwrap_or(1_usize);
    let conversions = records.conversions.iter().filter(|conversion| {
        let wanted = external_id.as_ref();
        wanted.is_none_or(|wanted| *wanted == conversion.external_id)
    });
    let skipped = page.saturating_sub(1).saturating_mul(PAGE_LEN);
    let page = conversions.skip(skipped).take(PAGE_LEN).map(shown);
    Answer::json(StatusCode::OK, page.collect())
}
