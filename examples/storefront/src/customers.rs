//! Customers: their sign-up, what the shop holds of one, its erasure, and the friends they bring.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tower_referral::{ClickId, Referral, ReferralKey};
use tower_referral_outbox::Error;
use tower_referral_platforms::{self as platforms, Credit, Report, SignUp};

use crate::answer::{Accept, Format, Problem, as_asked};
use crate::books::{Customer, Order};
use crate::fields::Fields;
use crate::reports::{self, Booked};
use crate::shop::{Shop, Visitor, unavailable};
use crate::{pages, payments};

/// `POST /signup`: the customer's row and the report are written in one transaction, and the visitor
/// doesn't wait for the platform.
pub(crate) async fn sign_up(
    State(shop): State<Arc<Shop>>,
    referral: Option<Referral>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let customer = fields.text("customer", 128)?;
    let email = fields.optional_email("email")?;
    let name = fields.optional_text("name", 200)?;
    // A mobile app or a single-page app has no cookie, and sends the key that it kept. What the
    // layer kept counts for more: nobody could have typed it.
    let sent = fields.optional_key("aff")?;
    let sent = sent.filter(|_| visitor.may_be_remembered);
    let kept = referral.as_ref().map(Credit::from);
    let credit = kept.or_else(|| sent.map(|key| Credit::new(key).with_source("application")));

    let sign_up = SignUp::new(customer)
        .map_err(|error| fields.refuse(format!("`customer` is {error}")))?
        .with_email(email)
        .with_name(name)
        .with_referral_url(landing_url(&visitor, referral.as_ref()));

    let book = async {
        let mut transaction = shop.database.begin().await?;
        let row = transaction
            .sign_up(customer, email, name, credit.as_ref())
            .await?;
        let is_new = row.sign_ups == 1;
        // Whoever brought a guest to their first payment stays credited with the customer.
        let credit = row.credit();
        let report = Report::from(sign_up.with_credit(credit.clone()));
        let booked = if row.is_erased {
            Booked::InBooks { is_new }
        } else {
            shop.report(&mut transaction, &report, is_new).await?
        };
        if is_new && shop.webhook.is_some() {
            payments::credit_customer(&shop, &mut transaction, customer, credit.as_ref()).await?;
        }
        transaction.commit().await?;
        shop.database.wake().await?;
        let platform = shop.platform.as_ref();
        reports::answer(&shop.database, platform, &report, credit.as_ref(), booked).await
    };
    let answer = book
        .await
        .map_err(|error| unavailable(fields.accept, &error))?;
    Ok(as_asked(&fields, &answer, || {
        pages::report(&visitor, "Sign-up", &answer)
    }))
}

/// Returns the landing's URL with its referral parameter only, for a platform that tells several
/// links of one partner apart by it.
fn landing_url(visitor: &Visitor, referral: Option<&Referral>) -> Option<String> {
    let platform = visitor.shop.platform.as_ref()?;
    if !platform.wants_landing_url() {
        return None;
    }
    let page = referral?.landing_page()?;
    Some(format!("{}{page}", visitor.origin.as_ref()?))
}

/// `GET /customers/{customer}`: what the shop holds of a customer. A real shop shows it to its own
/// people only.
pub(crate) async fn show(
    State(shop): State<Arc<Shop>>,
    CustomerId(customer): CustomerId,
    accept: Accept,
) -> Result<Json<Value>, Problem> {
    let read = async {
        let mut transaction = shop.database.begin().await?;
        let row = transaction.customer(&customer).await?;
        let orders = transaction.orders_of(&customer).await?;
        let mut reports = shop.database.history(&customer).await?;
        // After an erasure the outbox knows orders, and no longer whose they are.
        for order in &orders {
            reports.extend(shop.database.history(&order.order_id).await?);
        }
        reports.sort_by_key(|entry| entry.row);
        reports.dedup_by_key(|entry| entry.row);
        Ok::<_, Error>((row, orders, reports))
    };
    let (row, orders, reports) = read.await.map_err(|error| unavailable(accept, &error))?;
    if row.is_none() && orders.is_empty() {
        let message = "there is no such customer: send the ID that the sign-up had";
        return Err(Problem::json(StatusCode::NOT_FOUND, message));
    }
    let credit = row.as_ref().and_then(Customer::credit);
    let reports = reports.iter().map(|entry| {
        json!({
            "id": entry.id,
            "state": entry.state.as_str(),
            "outcome": entry.outcome,
            "reason": entry.reason,
        })
    });
    Ok(Json(json!({
        "customer": customer,
        "email": row.as_ref().and_then(|row| row.email.as_ref()),
        "name": row.as_ref().and_then(|row| row.name.as_ref()),
        "key": key(credit.as_ref()),
        "click_id": click_id(credit.as_ref()),
        "is_erased": row.is_some_and(|row| row.is_erased),
        "orders": orders.iter().map(order_json).collect::<Vec<_>>(),
        "reports": reports.collect::<Vec<_>>(),
    })))
}

/// The customer's ID in the path.
#[derive(Debug)]
pub(crate) struct CustomerId(String);

impl<S: Send + Sync> FromRequestParts<S> for CustomerId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(customer)| Self(customer)).map_err(|_| {
            let message =
                "the customer's ID in the path isn't UTF-8: percent-encode its UTF-8 bytes";
            Problem::json(StatusCode::BAD_REQUEST, message)
        })
    }
}

fn order_json(order: &Order) -> Value {
    let credit = order.credit();
    json!({
        "order": order.order_id,
        "amount": order.amount().map(|amount| amount.to_string()),
        "coupon": order.coupon,
        "key": key(credit.as_ref()),
        "click_id": click_id(credit.as_ref()),
    })
}

fn key(credit: Option<&Credit>) -> Option<&str> {
    credit?.key().map(ReferralKey::as_str)
}

fn click_id(credit: Option<&Credit>) -> Option<&str> {
    credit?.click_id().map(ClickId::as_str)
}

/// `DELETE /customers/{customer}`: erases what is personal from the shop's rows and from the outbox,
/// where a report that waits is withdrawn.
pub(crate) async fn erase(
    State(shop): State<Arc<Shop>>,
    CustomerId(customer): CustomerId,
    accept: Accept,
) -> Result<StatusCode, Problem> {
    let erase = async {
        let mut transaction = shop.database.begin().await?;
        transaction.erase_rows(&customer).await?;
        transaction.erase_reports(&customer).await?;
        transaction.commit().await
    };
    erase.await.map_err(|error| unavailable(accept, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A customer's link to share and what it has earned, as the platform gave it.
#[derive(Debug, Serialize)]
pub(crate) struct Friends {
    pub(crate) link: Option<String>,
    pub(crate) stats: Value,
    pub(crate) balance: Value,
    pub(crate) friends: Vec<Value>,
}

/// `GET /friends?customer=ID`, in a refer-a-friend program. A real shop shows it to the customer who
/// is signed in.
pub(crate) async fn friends(
    visitor: Visitor,
    accept: Accept,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let query = Fields::of_query(accept, query);
    let customer = query.text("customer", 128)?;
    let shop = &visitor.shop;
    let Some(client) = shop.friends() else {
        return Err(Problem::new(
            accept,
            StatusCode::NOT_FOUND,
            "there is no such page",
        ));
    };
    let unknown = || {
        let message = "the platform has no such customer yet: the sign-up may still be on its way";
        Problem::new(accept, StatusCode::NOT_FOUND, message)
    };
    let failed = |error: platforms::Error| {
        tracing::warn!(%error, "a customer's friends couldn't be read");
        let message = "the platform doesn't answer: try again in a moment";
        Problem::new(accept, StatusCode::BAD_GATEWAY, message)
    };
    let read = tokio::time::timeout(FRIENDS_TIMEOUT, read_friends(client, customer));
    let read = read.await.map_err(|_| {
        let message = "the platform takes too long: try again in a moment";
        Problem::new(accept, StatusCode::BAD_GATEWAY, message)
    })?;
    let friends = read.map_err(failed)?.ok_or_else(unknown)?;
    Ok(match accept.or(Format::Html) {
        Format::Html => pages::friends(&visitor, customer, &friends).into_response(),
        Format::Json => Json(&friends).into_response(),
    })
}

/// How many friends are shown at most.
const MAX_FRIENDS: usize = 1000;
/// How long the page waits for the platform. A list alone may wait minutes for its rate limit.
const FRIENDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the platform; `None` if it has no such customer.
async fn read_friends(
    client: &crate::platform::Friends,
    customer: &str,
) -> Result<Option<Friends>, platforms::Error> {
    let Some(friend) = client.friend(customer).await? else {
        return Ok(None);
    };
    let stats = client.friend_stats(customer).await?;
    let balance = client.friend_balance(customer).await?;
    let friends = client.friend_referrals(customer)?.take(MAX_FRIENDS);
    let friends = friends.try_collect::<Vec<_>>().await?;
    Ok(Some(Friends {
        link: friend.referral_link().map(str::to_owned),
        stats: data(stats),
        balance: data(balance),
        friends: friends.iter().map(|friend| friend.json().clone()).collect(),
    }))
}

/// What is in a platform's envelope.
fn data(answer: Option<Value>) -> Value {
    match answer {
        Some(Value::Object(mut object)) => match object.remove("data") {
            Some(data) => data,
            None => Value::Object(object),
        },
        answer => answer.unwrap_or_default(),
    }
}
