//! Plays Partnero, an affiliate program or a refer-a-friend one. A transaction's key isn't unique
//! here: its own integrations say so, and a second call makes a second commission.

use axum::http::{StatusCode, header};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::call::{Call, Fields, Kind, UNKNOWN, Verdict, check, decimal, text, unescaped};
use super::records::{Conversion, Customer, Records};
use super::{Answer, number};

/// How many referred customers are on a page.
const PAGE_LEN: usize = 2;

pub(super) fn answer(
    records: &mut Records,
    api_key: &str,
    is_friends: bool,
    call: &Call<'_>,
) -> Verdict {
    if !call.has(header::AUTHORIZATION.as_str(), &format!("Bearer {api_key}")) {
        return Err(Answer::refusal(
            StatusCode::UNAUTHORIZED,
            "Unauthenticated.",
        ));
    }
    if !call.has(header::ACCEPT.as_str(), "application/json") {
        let message = "Accept: application/json";
        return Err(Answer::refusal(StatusCode::NOT_ACCEPTABLE, message));
    }
    let route = call.route("/v1");
    let route = route.as_ref().map(|(method, path)| (*method, &path[..]));
    match route {
        Some(("GET", ["test"])) => Ok(success(json!({}))),
        Some(("POST", ["customers"])) if is_friends => friend(records, call),
        Some(("POST", ["customers"])) => customer(records, call),
        Some(("POST", ["transactions"])) => transactions(records, is_friends, call),
        Some(("DELETE", ["transactions", key])) => delete(records, &unescaped(key)),
        Some(("GET", ["customers", id, page @ ..])) if is_friends => {
            friends_page(records, call, &unescaped(id), page)
        }
        Some(("POST", ["customers", id, "balance", "credit"])) if is_friends => {
            credit(records, call, &unescaped(id))
        }
        _ => Err(Answer::refusal(StatusCode::NOT_FOUND, "Not found.")),
    }
}

fn success(data: Value) -> Answer {
    let mut json = json!({"status": 1});
    json["data"] = data;
    Answer::json(StatusCode::OK, json)
}

fn not_found() -> Answer {
    Answer::refusal(StatusCode::NOT_FOUND, "Not found.")
}

fn duplicate() -> Answer {
    Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, "Duplicate key")
}

/// The one who referred a customer, in a field of this name.
fn referrer<'f>(
    fields: &'f Fields,
    name: &str,
    by: &[(&str, Kind)],
) -> Result<Option<&'f str>, Answer> {
    let Some(referrer) = fields.get(name).and_then(Value::as_object) else {
        return Ok(None);
    };
    check(referrer, &format!("{name}."), by)?;
    let mut known = by.iter().filter_map(|(by, _)| text(referrer, by));
    match known.next() {
        Some(key) if key.starts_with(UNKNOWN) => Err(Answer::refusal(
            StatusCode::BAD_REQUEST,
            "Invalid partner key",
        )),
        Some(key) => Ok(Some(key)),
        None => Err(Answer::invalid(name, "must have one of its fields")),
    }
}

const PARTNER: &[(&str, Kind)] = &[
    ("key", Kind::Text),
    ("id", Kind::Text),
    ("email", Kind::Text),
];

fn customer(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("partner", Kind::RequiredObject),
        ("key", Kind::RequiredText),
        ("email", Kind::Text),
        ("name", Kind::Text),
        ("surname", Kind::Text),
        ("tags", Kind::List),
        ("options", Kind::Object),
    ])?;
    let partner = referrer(&fields, "partner", PARTNER)?;
    let key = text(&fields, "key").unwrap_or_default();
    add_customer(records, key, partner)?;
    Ok(success(json!({"key": key, "partner": {"key": partner}})))
}

fn friend(records: &mut Records, call: &Call<'_>) -> Verdict {
    let fields = call.fields(&[
        ("referring_customer", Kind::Object),
        ("key", Kind::Text),
        ("id", Kind::Text),
        ("email", Kind::Text),
        ("name", Kind::Text),
        ("surname", Kind::Text),
        ("metadata", Kind::Object),
    ])?;
    let by = [("key", Kind::Text), ("id", Kind::Text)];
    let friend = referrer(&fields, "referring_customer", &by)?;
    let id = text(&fields, "id").or_else(|| text(&fields, "key"));
    let id = id.ok_or_else(|| Answer::invalid("key", "is required"))?;
    add_customer(records, id, friend)?;
    Ok(success(shown(records, id)))
}

fn add_customer(records: &mut Records, id: &str, credit: Option<&str>) -> Result<(), Answer> {
    if records.customer(id).is_some() {
        return Err(duplicate());
    }
    records.customers.push(Customer {
        id: id.to_owned(),
        credit: credit.map(str::to_owned),
    });
    Ok(())
}

fn shown(records: &Records, id: &str) -> Value {
    let referred = records.customers.iter();
    let referred = referred.filter(|customer| customer.credit.as_deref() == Some(id));
    json!({
        "id": id,
        "referrals_count": referred.count(),
        "referral_link": format!("https://shop.example/?ref={id}"),
        "referral_links": [],
    })
}

const TRANSACTION: &[(&str, Kind)] = &[
    ("customer", Kind::RequiredObject),
    ("key", Kind::Text),
    ("amount", Kind::RequiredAmount),
    ("amount_units", Kind::Text),
    ("action", Kind::RequiredText),
    ("product_id", Kind::Text),
    ("product_type", Kind::Text),
    ("options", Kind::Object),
];

fn transactions(records: &mut Records, is_friends: bool, call: &Call<'_>) -> Verdict {
    let known = [TRANSACTION, &[("transactions", Kind::List)]].concat();
    let is_list = serde_json::from_slice::<Fields>(call.body)
        .is_ok_and(|fields| fields.contains_key("transactions"));
    if !is_list {
        let fields = call.fields(TRANSACTION)?;
        return transaction(records, is_friends, call, &fields).map(success);
    }
    let fields = call.fields(&known[known.len() - 1..])?;
    let mut made = Vec::new();
    for each in fields["transactions"].as_array().into_iter().flatten() {
        let Some(fields) = each.as_object() else {
            return Err(Answer::invalid("transactions", "must be objects"));
        };
        check(fields, "transactions.", TRANSACTION)?;
        made.push(transaction(records, is_friends, call, fields)?);
    }
    Ok(success(made.into()))
}

fn transaction(
    records: &mut Records,
    is_friends: bool,
    call: &Call<'_>,
    fields: &Fields,
) -> Result<Value, Answer> {
    if text(fields, "action") != Some("sale") {
        return Err(Answer::invalid("action", "must be sale"));
    }
    let option = |name| fields.get("options").and_then(|options| options.get(name));
    let makes_customer = option("create_customer") == Some(&Value::Bool(true));
    let no_fields = Fields::new();
    let customer = fields["customer"].as_object().unwrap_or(&no_fields);
    let id = text(customer, "key").unwrap_or_default();
    if makes_customer && !is_friends {
        let known = [
            ("key", Kind::RequiredText),
            ("name", Kind::Text),
            ("surname", Kind::Text),
            ("email", Kind::Text),
            ("tags", Kind::List),
            ("partner", Kind::RequiredObject),
        ];
        check(customer, "customer.", &known)?;
        let partner = referrer(customer, "partner", PARTNER)?;
        add_customer(records, id, partner)?;
    } else {
        check(customer, "customer.", &[("key", Kind::RequiredText)])?;
    }
    let Some(known) = records.customer(id) else {
        return Err(Answer::invalid("customer.key", "is invalid"));
    };
    let credit = known.credit.clone().unwrap_or_else(|| "nobody".to_owned());
    let key = text(fields, "key").unwrap_or_default();
    records.conversions.push(Conversion {
        number: call.number,
        external_id: key.to_owned(),
        kind: "sale".to_owned(),
        amount: decimal(&fields["amount"]).unwrap_or_default(),
        currency: text(fields, "amount_units").unwrap_or_default().to_owned(),
        credit,
    });
    Ok(json!({"key": key, "amount": fields["amount"], "rewards": []}))
}

fn delete(records: &mut Records, key: &str) -> Verdict {
    let mut sales = records.conversions.iter();
    let at = sales
        .position(|sale| sale.external_id == key)
        .ok_or_else(not_found)?;
    let sale = records.conversions.remove(at);
    records.refund(key, None, sale.amount);
    Ok(Answer::json(StatusCode::OK, json!({"status": 1})))
}

fn friends_page(records: &Records, call: &Call<'_>, id: &str, page: &[&str]) -> Verdict {
    records.customer(id).ok_or_else(not_found)?;
    match page {
        [] => Ok(success(shown(records, id))),
        ["stats"] => Ok(success(
            json!({"referrals": shown(records, id)["referrals_count"]}),
        )),
        ["balance"] => {
            let balance = records.balances.get(id).copied().unwrap_or_default();
            Ok(success(json!({ "balance": number(balance) })))
        }
        ["referrals"] => {
            let page = call.parameter("page").and_then(|page| page.parse().ok());
            let page = page.unwrap_or(1_usize).max(1);
            let referred = records.customers.iter();
            let referred = referred.filter(|customer| customer.credit.as_deref() == Some(id));
            let all: Vec<_> = referred
                .map(|customer| json!({"id": customer.id}))
                .collect();
            let (from, to) = ((page - 1) * PAGE_LEN, page * PAGE_LEN);
            let next = format!("{}?page={}", call.uri.path(), page + 1);
            Ok(Answer::json(
                StatusCode::OK,
                json!({
                    "data": all.iter().skip(from).take(PAGE_LEN).collect::<Vec<_>>(),
                    "links": {"next": (to < all.len()).then_some(next)},
                    "meta": {"total": all.len()},
                    "status": 1,
                }),
            ))
        }
        _ => Err(not_found()),
    }
}

fn credit(records: &mut Records, call: &Call<'_>, id: &str) -> Verdict {
    let fields = call.fields(&[
        ("amount", Kind::RequiredAmount),
        ("amount_units", Kind::RequiredText),
        ("is_currency", Kind::Flag),
    ])?;
    records.customer(id).ok_or_else(not_found)?;
    let amount: Decimal = decimal(&fields["amount"]).unwrap_or_default();
    *records.balances.entry(id.to_owned()).or_default() += amount;
    Ok(success(json!({})))
}
