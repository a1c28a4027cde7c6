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
use tower_referral_platforms::payment::{
    Books, Changes, Event, Link, PaymentLink, Reason, Record, WebhookError, book, paddle, polar,
    stripe,
};
use tower_referral_platforms::{ConfigError, Credit, Report};

use crate::answer::{Accept, Problem};
use crate::database::{Transaction, execute, query};
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
        let booked = book(&mut transaction, &event).await?;
        let ids: Vec<_> = booked.reports.iter().map(Report::id).collect();
        for report in booked.reports {
            note(&shop, &mut transaction, &report).await?;
            shop.report(&mut transaction, &report, true).await?;
        }
        transaction.commit().await?;
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

/// Books at sign-up who is credited with all payments of the customer, those included that came
/// before.
pub(crate) async fn credit_customer(
    transaction: &mut Transaction,
    customer: &str,
    credit: Option<&Credit>,
) -> Result<(), Error> {
    let (Some(credit), Ok(link)) = (credit, PaymentLink::of_customer(customer)) else {
        return Ok(());
    };
    let event = Event::from(link.with_credit(credit.clone()));
    for report in book(transaction, &event).await?.reports {
        transaction.enqueue(report).await?;
    }
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

/// Removes customer and referral from what is stored of a customer's payments. What is left finds the
/// order of a later refund.
pub(crate) async fn erase(transaction: &mut Transaction, customer: &str) -> Result<(), Error> {
    const OF_CUSTOMER: &str = "SELECT record FROM payments WHERE customer = $1";
    let rows: Vec<(String,)> = query!(transaction, fetch_all, OF_CUSTOMER, customer);
    for record in read(&rows)? {
        let id = record.id().to_owned();
        match record.erase() {
            Some(record) => transaction.save_record(&record).await?,
            None => transaction.remove_record(&id).await?,
        }
    }
    Ok(())
}

fn read(rows: &[(String,)]) -> Result<Vec<Record>, Error> {
    rows.iter()
        .map(|(json,)| serde_json::from_str(json).map_err(Error::Report))
        .collect()
}

/// What is stored of payments: a table of records, and one of the IDs by which they are found.
impl Books for Transaction {
    type Error = Error;

    async fn find(&mut self, links: &[Link]) -> Result<Vec<Record>, Error> {
        const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))";
        const FIND: &str = "SELECT p.record FROM payments p
            JOIN payment_links l ON l.id = p.id WHERE l.link = $1";
        let mut links: Vec<&str> = links.iter().map(Link::as_str).collect();
        // In one order, so that no two transactions wait for each other.
        links.sort_unstable();
        if let Self::Postgres(transaction, _) = self {
            // Events about one payment come one after the other, the first ones too. SQLite has one
            // writer at a time anyway.
            for link in &links {
                sqlx::query(LOCK)
                    .bind(*link)
                    .execute(&mut **transaction)
                    .await?;
            }
        }
        let mut found: Vec<Record> = Vec::new();
        for link in links {
            let rows: Vec<(String,)> = query!(self, fetch_all, FIND, link);
            for record in read(&rows)? {
                if !found.iter().any(|known| known.id() == record.id()) {
                    found.push(record);
                }
            }
        }
        Ok(found)
    }

    async fn save(&mut self, changes: &Changes) -> Result<(), Error> {
        for id in &changes.removed {
            self.remove_record(id).await?;
        }
        for record in &changes.saved {
            self.save_record(record).await?;
        }
        Ok(())
    }

    async fn credit(&mut self, customer: &str) -> Result<Option<Credit>, Error> {
        let row = self.customer(customer).await?;
        Ok(row.and_then(|row| row.credit()))
    }
}

impl Transaction {
    async fn save_record(&mut self, record: &Record) -> Result<(), Error> {
        const SAVE: &str = "INSERT INTO payments (id, customer, record) VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, record = excluded.record";
        const LINK: &str = "INSERT INTO payment_links (link, id) VALUES ($1, $2)
            ON CONFLICT DO NOTHING";
        self.remove_record(record.id()).await?;
        let json = serde_json::to_string(record).map_err(Error::Report)?;
        execute!(self, SAVE, record.id(), record.customers().next(), &json);
        for link in record.links() {
            execute!(self, LINK, link.as_str(), record.id());
        }
        Ok(())
    }

    async fn remove_record(&mut self, id: &str) -> Result<(), Error> {
        const REMOVE: [&str; 2] = [
            "DELETE FROM payment_links WHERE id = $1",
            "DELETE FROM payments WHERE id = $1",
        ];
        for statement in REMOVE {
            execute!(self, statement, id);
        }
        Ok(())
    }
}
