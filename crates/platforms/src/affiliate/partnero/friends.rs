//! A refer-a-friend program's customers at Partnero: their links, what they have earned, and whom they
//! have referred.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::PartneroFriends;
use super::links::{is_web_link, without_script_links};
use super::refunds::transactions_of;
use super::wire::{TRANSACTIONS, done, next_page};
use crate::endpoint::{Endpoint, encoded};
use crate::json::Number;
use crate::pages::{Page, Pages};
use crate::report::Id;
use crate::{
    Client, Error, InvalidId, ListedConversion, Money, Receipt, ReportError, Transport, Unsupported,
};

/// A customer of a refer-a-friend program, as Partnero knows one. `Debug` hides all of it.
#[derive(Clone, PartialEq)]
pub struct Friend {
    id: Option<String>,
    referral_link: Option<String>,
    json: Value,
}

impl Friend {
    /// Returns the customer whom the answer to a sign-up shows, to be stored for the customer's
    /// page; `None` if the receipt is of something else.
    #[must_use]
    pub fn of_sign_up(receipt: &Receipt) -> Option<Self> {
        Self::read(receipt.data().clone()).filter(|friend| friend.id.is_some())
    }

    fn read(json: Value) -> Option<Self> {
        let json = match without_script_links(json) {
            Value::Object(mut object) => match object.remove("data") {
                Some(data @ Value::Object(_)) => data,
                Some(_) => return None,
                None => Value::Object(object),
            },
            _ => return None,
        };
        let link_of = |json: &Value| match json {
            Value::String(link) => Some(link.clone()),
            link => text_in(link, &["url", "link"]),
        };
        let link = json.get("referral_link").and_then(link_of);
        let first = || {
            json.get("referral_links")?
                .as_array()?
                .iter()
                .find_map(link_of)
        };
        Some(Self {
            id: text_in(&json, &["id", "key"]),
            referral_link: link.or_else(first).filter(|link| is_web_link(link)),
            json,
        })
    }

    /// Returns the customer's ID, which is the shop's own.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the link by which this customer refers others; the first one if there are several.
    #[must_use]
    pub fn referral_link(&self) -> Option<&str> {
        self.referral_link.as_deref()
    }

    /// Returns how many others this customer has referred.
    #[must_use]
    pub fn referrals_count(&self) -> Option<u64> {
        self.json.get("referrals_count")?.as_u64()
    }

    /// Returns all that Partnero says of the customer, without links that would run a script.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for Friend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Friend").finish_non_exhaustive()
    }
}

impl<T: Transport> Client<PartneroFriends, T> {
    /// Returns a customer, with the link by which they refer others; `None` if Partnero has none of this
    /// ID.
    ///
    /// # Errors
    ///
    /// The text isn't an ID, or Partnero refused or can't be reached.
    pub async fn friend(&self, customer: &str) -> Result<Option<Friend>, Error> {
        let Some(json) = self.page_of(customer, "").await? else {
            return Ok(None);
        };
        let status = StatusCode::OK;
        Friend::read(json)
            .map(Some)
            .ok_or(Error::Unreadable { status })
    }

    /// Returns how a customer's referrals do: Partnero's own JSON, whose fields it documents nowhere;
    /// `None` if Partnero has no such customer.
    ///
    /// # Errors
    ///
    /// As [`friend`](Self::friend).
    pub async fn friend_stats(&self, customer: &str) -> Result<Option<Value>, Error> {
        self.page_of(customer, "/stats").await
    }

    /// Returns what a customer has earned: Partnero's own JSON, whose fields it documents nowhere; `None`
    /// if Partnero has no such customer.
    ///
    /// # Errors
    ///
    /// As [`friend`](Self::friend).
    pub async fn friend_balance(&self, customer: &str) -> Result<Option<Value>, Error> {
        self.page_of(customer, "/balance").await
    }

    /// Gives a customer credit. Partnero doesn't recognise a duplicate.
    ///
    /// # Errors
    ///
    /// As [`Client::report`].
    pub async fn credit_friend(&self, customer: &str, amount: Money) -> Result<(), ReportError> {
        let body = Credit {
            amount: Number(amount),
            amount_units: amount.currency(),
            is_currency: true,
        };
        self.credit(customer, &body).await
    }

    /// Gives a customer points, which are no money (`is_currency: false`): so many of what the program
    /// calls this, for instance `points`. Partnero doesn't recognise a duplicate.
    ///
    /// # Errors
    ///
    /// As [`Client::report`].
    pub async fn credit_friend_points(
        &self,
        customer: &str,
        points: u64,
        units: &str,
    ) -> Result<(), ReportError> {
        let body = Credit {
            amount: points,
            amount_units: units,
            is_currency: false,
        };
        self.credit(customer, &body).await
    }

    async fn credit<A: Serialize>(
        &self,
        customer: &str,
        body: &Credit<'_, A>,
    ) -> Result<(), ReportError> {
        let refuse = |error| ReportError::new(error, false);
        let path = format!("{}/balance/credit", path_of(customer).map_err(refuse)?);
        let request = self.platform().endpoint.post(&path, body);
        let secrets = std::iter::once(customer);
        let answer = self.tell(request, secrets, false).await?;
        done(&answer).map_err(refuse)?;
        Ok(())
    }

    async fn page_of(&self, customer: &str, page: &str) -> Result<Option<Value>, Error> {
        let path = format!("{}{page}", path_of(customer)?);
        let answer = self.ask(self.platform().endpoint.get(&path)).await?;
        let answer = answer.without(std::iter::once(customer));
        if answer.is_not_found() {
            return Ok(None);
        }
        answer.value().map(without_script_links).map(Some)
    }

    /// Lists whom a customer has referred. Partnero names the next page by its URL, which is followed on
    /// the base URL's own origin only, so that the API key goes nowhere else: see
    /// [`Error::ForeignLink`].
    ///
    /// # Errors
    ///
    /// The text isn't an ID.
    pub fn friend_referrals(&self, customer: &str) -> Result<Pages<Friend>, Error> {
        let path = format!("{}/referrals", path_of(customer)?);
        let endpoint = self.platform().endpoint.clone();
        let names = ["referrals", "data"];
        let first = endpoint.get_list(&path, names);
        let friend = |raw: &RawValue| Friend::read(serde_json::from_str(raw.get()).ok()?);
        Ok(linked(self, endpoint, first, names, friend))
    }
}

/// Lists what a customer has bought, page by page, as Partnero names the pages.
pub(super) fn transactions<P, T>(
    client: &Client<P, T>,
    endpoint: &Endpoint,
    customer: &str,
) -> Result<Pages<ListedConversion>, Error>
where
    P: Send + Sync + 'static,
    T: Transport,
{
    path_of(customer)?;
    let first = endpoint.get_list(&transactions_of(customer), TRANSACTIONS);
    let endpoint = endpoint.clone();
    Ok(linked(
        client,
        endpoint,
        first,
        TRANSACTIONS,
        ListedConversion::read,
    ))
}

/// A list whose pages name the next one.
fn linked<P, T, I>(
    client: &Client<P, T>,
    endpoint: Endpoint,
    first: Request<Bytes>,
    names: [&'static str; 2],
    item: fn(&RawValue) -> Option<I>,
) -> Pages<I>
where
    P: Send + Sync + 'static,
    T: Transport,
    I: Send + 'static,
{
    let mut seen = HashSet::from([first.uri().clone()]);
    Pages::new(client, first, move |answer| {
        answer.accepted()?;
        let list = answer.list(names);
        let list = list.ok_or_else(|| answer.unreadable())?;
        let items = list.iter().filter_map(|raw| item(raw)).collect();
        let next = next_page(&endpoint, answer, names)?;
        if let Some(next) = &next
            && !seen.insert(next.uri().clone())
        {
            return Err(Error::EndlessList);
        }
        Ok(Page { items, next })
    })
}

fn path_of(customer: &str) -> Result<String, Error> {
    let id = Id::new(customer).map_err(|InvalidId| Error::Unsupported(Unsupported::NotAnId))?;
    Ok(format!("/customers/{}", encoded(id.as_str())))
}

#[derive(Serialize)]
struct Credit<'a, A> {
    amount: A,
    amount_units: &'a str,
    is_currency: bool,
}

/// The text or whole number in the first of these properties that has one.
fn text_in(json: &Value, properties: &[&str]) -> Option<String> {
    properties.iter().find_map(|name| match json.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    })
}
