//! Partnero's bodies, and what its answers mean.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Serialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::links::without_script_links;
use crate::endpoint::Endpoint;
use crate::json::{Number, pick, text};
use crate::report::Details;
use crate::{Answer, Contact, Error, Mark, Money, Receipt, Sale, Unsupported};

/// Where the list of a customer's transactions may be in an answer.
pub(super) const TRANSACTIONS: [&str; 2] = ["transactions", "data"];

/// A partner or a customer, by one of their names.
#[derive(Default, Serialize)]
pub(super) struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<&'a str>,
}

impl<'a> Person<'a> {
    pub(super) fn by_key(key: &'a str) -> Self {
        Self {
            key: Some(key),
            ..Self::default()
        }
    }

    pub(super) fn by_id(id: &'a str) -> Self {
        Self {
            id: Some(id),
            ..Self::default()
        }
    }

    pub(super) fn by_email(email: &'a str) -> Self {
        Self {
            email: Some(email),
            ..Self::default()
        }
    }
}

/// `POST /customers`.
#[derive(Default, Serialize)]
pub(super) struct NewCustomer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partner: Option<Person<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) referring_customer: Option<Person<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) surname: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Options<'a>>,
}

impl<'a> NewCustomer<'a> {
    pub(super) fn of(contact: &'a Contact) -> Self {
        Self {
            email: contact.email.as_deref(),
            name: contact.name.as_deref(),
            surname: contact.surname.as_deref(),
            ..Self::default()
        }
    }
}

/// The customer of a sale.
#[derive(Default, Serialize)]
pub(super) struct Customer<'a> {
    pub(super) key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) surname: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partner: Option<Person<'a>>,
}

impl<'a> Customer<'a> {
    pub(super) fn known(key: &'a str) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    pub(super) fn of(key: &'a str, contact: &'a Contact) -> Self {
        Self {
            email: contact.email.as_deref(),
            name: contact.name.as_deref(),
            surname: contact.surname.as_deref(),
            ..Self::known(key)
        }
    }
}

#[derive(Serialize)]
pub(super) struct Options<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    create_customer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    referral_url: Option<&'a str>,
}

impl<'a> Options<'a> {
    pub(super) fn referral_url(url: Option<&'a str>) -> Option<Self> {
        url.map(|url| Self {
            create_customer: false,
            referral_url: Some(url),
        })
    }

    pub(super) fn create_customer(referral_url: Option<&'a str>) -> Self {
        Self {
            create_customer: true,
            referral_url,
        }
    }
}

/// `POST /transactions`, and an item of [`Transactions`].
#[derive(Serialize)]
pub(super) struct Transaction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) customer: Option<Customer<'a>>,
    pub(super) key: &'a str,
    pub(super) amount: Number,
    pub(super) amount_units: &'a str,
    pub(super) action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) product_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) product_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Options<'a>>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(key: &'a str, amount: &'a Money) -> Self {
        Self {
            customer: None,
            key,
            amount: Number(*amount),
            amount_units: amount.currency(),
            action: "sale",
            product_id: None,
            product_type: None,
            created_at: None,
            options: None,
        }
    }

    pub(super) fn of(sale: &'a Sale) -> Self {
        Self {
            action: sale.action().unwrap_or("sale"),
            product_id: sale.product(),
            product_type: sale.product_type().or(sale.interval().map(product_type)),
            created_at: sale.paid_at().and_then(|at| at.format(&Rfc3339).ok()),
            ..Self::new(sale.order(), sale.amount_ref())
        }
    }
}

/// What Partnero's documentation calls a subscription of this interval.
fn product_type(interval: &str) -> &str {
    match interval {
        "month" => "monthly",
        "year" => "yearly",
        interval => interval,
    }
}

/// Several sales of one customer.
#[derive(Serialize)]
pub(super) struct Transactions<'a> {
    pub(super) customer: Customer<'a>,
    pub(super) transactions: Vec<Transaction<'a>>,
}

/// The tags of a customer: those of the report, and those that its metadata has under `tags`, where an
/// affiliate program has no metadata.
pub(super) fn tags(details: &Details) -> Result<Vec<&str>, Error> {
    let mut tags: Vec<_> = details.tags.iter().map(String::as_str).collect();
    let other = || Error::Unsupported(Unsupported::Field("metadata"));
    for (name, value) in &details.metadata {
        match (name.as_str(), value) {
            ("tags", Value::String(tag)) => tags.push(tag),
            ("tags", Value::Array(list)) => {
                for tag in list {
                    tags.push(tag.as_str().ok_or_else(other)?);
                }
            }
            _ => return Err(other()),
        }
    }
    Ok(tags)
}

/// The metadata of a friend: the shop's own facts, and the date of birth.
pub(super) fn customer_data(details: &Details) -> BTreeMap<String, Value> {
    let mut metadata = details.metadata.clone();
    if let Some(date) = &details.contact.date_of_birth {
        metadata.insert("date_of_birth".to_owned(), date.as_str().into());
    }
    metadata
}

/// Customers and transactions are documented to be there already by 422 "Duplicate key"; a JSON 409
/// is taken for the same.
pub(super) fn is_duplicate(answer: &Answer) -> bool {
    answer.is_conflict()
        || answer.refusal().is_some_and(|refusal| {
            refusal.message_is("Duplicate key") || refusal.field_is("key", "Duplicate key")
        })
}

/// A 400 "Invalid partner key", or a 422 whose errors are all about the referrer.
pub(super) fn is_unknown_referrer(answer: &Answer) -> bool {
    const FIELDS: [&str; 8] = [
        "partner",
        "partner.key",
        "partner.id",
        "partner.email",
        "customer.partner.key",
        "referring_customer",
        "referring_customer.key",
        "referring_customer.id",
    ];
    answer.refusal().is_some_and(|refusal| {
        refusal.message_is("Invalid partner key") || refusal.is_only_about(&FIELDS)
    })
}

/// A 422 whose errors are all about the customer of the sale.
pub(super) fn is_unknown_customer(answer: &Answer) -> bool {
    let refusal = answer.refusal();
    refusal.is_some_and(|refusal| refusal.is_only_about(&["customer", "customer.key"]))
}

/// Where an answer has our own ID of what was made.
pub(super) const MADE: [&str; 2] = ["/data/key", "/data/id"];

/// Reads an answer that may have nothing but `"status": 1`, or no body with a 204.
pub(super) fn done(answer: &Answer) -> Result<Mark, Error> {
    answer.accepted()?; // once: a refusal's text costs
    let said = answer.shows_value("/status", "1");
    said.or_else(|_| answer.shows_status(StatusCode::NO_CONTENT))
}

/// Reads the answer to a sign-up with a referrer: where it names none in this property of `data`, nobody
/// is credited.
pub(super) fn credited(answer: &Answer, referrer: &str) -> Result<Receipt, Error> {
    answer.accepted()?; // once: a refusal's text costs
    let receipt = match answer.shows([referrer]) {
        Ok(mark) => Receipt::recorded(mark),
        Err(_) => {
            answer.shows(MADE).or_else(|_| done(answer))?;
            Receipt::not_attributed()
        }
    };
    Ok(receipt.with_data(without_script_links(answer.value()?)))
}

/// Returns the request for the next page of a list: Partnero names it by its URL, which is followed
/// on the base URL's own origin only.
pub(super) fn next_page(
    endpoint: &Endpoint,
    answer: &Answer,
    names: [&'static str; 2],
) -> Result<Option<Request<Bytes>>, Error> {
    let [links] = answer.properties(["links"]).unwrap_or_default();
    let next = links.and_then(|links| pick(links.as_bytes(), ["next"]));
    match next {
        None | Some([None]) => Ok(None),
        Some([Some(next)]) if next.get() == "null" => Ok(None),
        Some([Some(next)]) => {
            let url = text(next).ok_or_else(|| answer.unreadable())?;
            let next = endpoint.get_next(&url, names);
            next.map(Some).ok_or(Error::ForeignLink)
        }
    }
}
