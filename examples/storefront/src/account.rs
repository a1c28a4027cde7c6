//! The visitor's account, with `--keep session`: signing in and out by a session of
//! tower-sessions, as most applications do it, and the copy of the referral in that session.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};
use tower_referral::AppSession;
use tower_sessions::Session;
use tower_sessions::session::Error;

use crate::answer::{Accept, Format, Problem};
use crate::fields::Fields;
use crate::pages;
use crate::shop::Visitor;

const CUSTOMER: &str = "customer";
/// tower-sessions itself waits for its store without end.
const TIME_LIMIT: Duration = Duration::from_millis(250);

/// What the session says.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) customer: Option<String>,
    /// The copy of the referral: each program's under its name.
    pub(crate) referrals: Option<Value>,
}

/// `GET /account`
pub(crate) async fn show(session: Session, accept: Accept, visitor: Visitor) -> Response {
    let read = async {
        Ok::<_, Error>(Account {
            customer: session.get(CUSTOMER).await?,
            referrals: session.get(AppSession::KEY).await?,
        })
    };
    let account = match tokio::time::timeout(TIME_LIMIT, read).await {
        Ok(Ok(account)) => account,
        Ok(Err(_)) | Err(_) => Account::default(),
    };
    match accept.or(Format::Html) {
        Format::Json => Json(json!({
            "customer": account.customer,
            "referrals": account.referrals,
        }))
        .into_response(),
        Format::Html => pages::account(&visitor, &account).into_response(),
    }
}

/// `POST /login`: the session gets a new ID, so that nobody who knew the old one is signed in too.
pub(crate) async fn sign_in(session: Session, fields: Fields) -> Result<Redirect, Problem> {
    let customer = fields.text(CUSTOMER, 128)?;
    let change = async {
        session.cycle_id().await?;
        session.insert(CUSTOMER, customer).await
    };
    finish(change, &fields).await
}

/// `POST /logout`: the session ends. The referral doesn't: it was the visitor's before.
pub(crate) async fn sign_out(session: Session, fields: Fields) -> Result<Redirect, Problem> {
    finish(session.flush(), &fields).await
}

async fn finish(
    change: impl Future<Output = Result<(), Error>>,
    fields: &Fields,
) -> Result<Redirect, Problem> {
    match tokio::time::timeout(TIME_LIMIT, change).await {
        Ok(Ok(())) => Ok(Redirect::to("/account")),
        Ok(Err(_)) | Err(_) => Err(Problem::new(
            fields.accept,
            StatusCode::SERVICE_UNAVAILABLE,
            "the session store can't be reached: try again in a moment",
        )),
    }
}
