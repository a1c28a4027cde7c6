//! The payment provider's webhooks: an event is verified and booked, and what the platform is to be
//! told because of it is enqueued in the same transaction.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tower_referral_outbox::Error;
use tower_referral_platforms::payment::{Event, PaymentLink, Reason, paddle, polar, stripe};
use tower_referral_platforms::{ConfigError, Credit, Report, WebhookError};

use crate::answer::{Accept, Problem};
use crate::database::Transaction;
use crate::options::Provider;
use crate::orders::report_waiting_refunds;
use crate::shop::{Shop, unavailable};

/// No event is longer, in bytes.
pub(crate) const MAX_EVENT_LEN: usize = 1024 * 1024;

/// Verifies and reads the webhooks of the configured provider.
pub(crate) enum Webhook {
    Stripe(Box<stripe::Webhook>),
    Paddle(Box<paddle::Webhook>),
    Polar(Box<polar::Webhook>),
}

impl Webhook {
    /// Takes the webhooks that are signed by `secret`: live ones, or those of the provider's test
    /// mode. Paddle's and Polar's sandboxes are accounts with secrets of their own.
    pub(crate) fn new(
        provider: Provider,
        secret: &str,
        is_test: bool,
    ) -> Result<Self, ConfigError> {
        Ok(match provider {
            Provider::Stripe => {
                let webhook = stripe::Webhook::new(secret)?.with_test_mode(is_test);
                Self::Stripe(Box::new(webhook))
            }
            Provider::Paddle => Self::Paddle(Box::new(paddle::Webhook::new(secret)?)),
            Provider::Polar => Self::Polar(Box::new(polar::Webhook::new(secret)?)),
        })
    }

    /// Returns the provider's name, as it is in the webhook's path.
    pub(crate) fn provider(&self) -> &'static str {
        match self {
            Self::Stripe(_) => "stripe",
            Self::Paddle(_) => "paddle",
            Self::Polar(_) => "polar",
        }
    }

    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, WebhookError> {
        match self {
            Self::Stripe(webhook) => webhook.read(headers, body),
            Self::Paddle(webhook) => webhook.read(headers, body),
            Self::Polar(webhook) => webhook.read(headers, body),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.provider()).finish()
    }
}

/// `POST /webhooks/stripe` and the like. The body is needed byte for byte as it came: the signature
/// is over that.
pub(crate) async fn take_event(
    State(shop): State<Arc<Shop>>,
    accept: Accept,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let Some(webhook) = &shop.webhook else {
        return Err(Problem::json(
            StatusCode::NOT_FOUND,
            "there is no such page",
        ));
    };
    let event = webhook.read(&headers, &body);
    let event = event.map_err(|error| Problem::json(error.status(), error.to_string()))?;
    let event = event.open_referral(|token| shop.payments.open(token).ok());

    let take = async {
        let mut transaction = shop.database.begin().await?;
        let booked = transaction.book(&event, shop.platform.is_some()).await?;
        for report in &booked.reports {
            note(&shop, &mut transaction, report).await?;
        }
        transaction.commit().await?;
        let ids: Vec<_> = booked.reports.iter().map(Report::id).collect();
        shop.database.wake().await?;
        Ok::<_, Error>((ids, booked.reason))
    };
    // The provider sends the event again after this error.
    let (ids, reason) = take.await.map_err(|error| unavailable(accept, &error))?;
    if let Some(reason) = reason.filter(|reason| reason.needs_attention()) {
        tracing::warn!(%reason, "an event of the payment provider needs a person");
    }
    let reason = reason.map(Reason::as_str);
    Ok(Json(json!({ "reports": ids, "ignored": reason })))
}

/// Books at sign-up who is credited with all payments of the customer: those that came before the
/// sign-up wait for it. Later ones find the credit in the customer's row.
pub(crate) async fn credit_customer(
    shop: &Shop,
    transaction: &mut Transaction,
    customer: &str,
    credit: Option<&Credit>,
) -> Result<(), Error> {
    let (Some(credit), Ok(link)) = (credit, PaymentLink::of_customer(customer)) else {
        return Ok(());
    };
    let event = Event::from(link.with_credit(credit.clone()));
    let _ = transaction.book(&event, shop.platform.is_some()).await?;
    Ok(())
}

/// Writes the shop's own row of a sale that the provider announced.
async fn note(shop: &Shop, transaction: &mut Transaction, report: &Report) -> Result<(), Error> {
    let Report::Sale(sale) = report else {
        return Ok(());
    };
    let (customer, amount) = (sale.customer(), sale.amount().to_string());
    let order = transaction
        .order(
            sale.order(),
            customer,
            &amount,
            sale.coupon(),
            sale.credit(),
        )
        .await?;
    transaction.pays(customer, sale.credit()).await?;
    if order.deliveries == 1 {
        report_waiting_refunds(shop, transaction, &order).await?;
    }
    Ok(())
}
