//! The outbox as people see it: what waits, what came of the rest, what needs a person; and the worker
//! that empties it.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use tower_referral_outbox::{Entry, Error, WorkerBuilder};
use tower_referral_platforms::Retries;

use crate::answer::{Accept, Format, Problem as Refusal};
use crate::database::{Database, Transaction, WorkerSettings, query};
use crate::fields::Fields;
use crate::pages;
use crate::platform::Reports;
use crate::shop::{Visitor, unavailable};

/// How many problems are listed.
const MAX_PROBLEMS: u32 = 1000;

/// What `GET /outbox` shows.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    pub(crate) waiting: u64,
    /// Why nothing is sent at the moment.
    pub(crate) paused: Option<String>,
    pub(crate) outcomes: Outcomes,
    pub(crate) problems: Vec<Problem>,
}

/// How many reports the platform has answered, and how.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) recorded: i64,
    pub(crate) duplicate: i64,
    pub(crate) not_attributed: i64,
}

/// A report that needs a person.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

impl Problem {
    fn new(entry: &Entry) -> Self {
        // A row that isn't a report has no ID.
        let id = entry.id.clone();
        let reason = entry.reason.clone().unwrap_or_default();
        Self {
            id: id.unwrap_or_else(|| format!("row:{}", entry.row)),
            state: entry.state.as_str(),
            reason: match &entry.details {
                Some(details) => format!("{reason} ({details})"),
                None => reason,
            },
        }
    }
}

/// `GET /outbox`. A real shop shows it to its own people only.
pub(crate) async fn show(visitor: Visitor, accept: Accept) -> Result<Response, Refusal> {
    let overview = overview(&visitor.shop.database).await;
    let overview = overview.map_err(|error| unavailable(accept, &error))?;
    Ok(match accept.or(Format::Html) {
        Format::Html => pages::outbox(&visitor, &overview).into_response(),
        Format::Json => Json(&overview).into_response(),
    })
}

async fn overview(database: &Database) -> Result<Overview, Error> {
    let status = database.status().await?;
    let problems = database.problems(0, MAX_PROBLEMS).await?;
    let mut transaction = database.begin().await?;
    let refunds = transaction.waiting_refunds().await?;
    let paused = status.pauses.first();
    Ok(Overview {
        waiting: status.open + refunds.unsigned_abs(),
        paused: paused.map(|paused| paused.reason.clone()),
        outcomes: transaction.outcomes().await?,
        problems: problems.iter().map(Problem::new).collect(),
    })
}

impl Transaction {
    async fn outcomes(&mut self) -> Result<Outcomes, Error> {
        const COUNT: &str = "SELECT outcome, count(*) FROM referral_outbox
            WHERE state = 'done' AND outcome IS NOT NULL GROUP BY outcome";
        let rows: Vec<(String, i64)> = query!(self, fetch_all, COUNT);
        let mut outcomes = Outcomes::default();
        for (outcome, count) in rows {
            match outcome.as_str() {
                "recorded" => outcomes.recorded = count,
                "duplicate" => outcomes.duplicate = count,
                _ => outcomes.not_attributed = count,
            }
        }
        Ok(outcomes)
    }
}

/// `POST /outbox`: somebody has looked at a problem, and it is to be sent again, or all of them are.
pub(crate) async fn send_again(visitor: Visitor, fields: Fields) -> Result<Response, Refusal> {
    let database = &visitor.shop.database;
    let unavailable = |error: Error| unavailable(fields.accept, &error);
    match (fields.flag("all")?, fields.optional_text("id", 1024)?) {
        (true, None) => {
            database.resend_all().await.map_err(unavailable)?;
        }
        (false, Some(id)) => {
            let row = id.strip_prefix("row:").and_then(|row| row.parse().ok());
            let is_sent = match row {
                Some(row) => database.resend_row(row).await,
                None => database.resend(id).await,
            };
            if !is_sent.map_err(unavailable)? {
                let message = "`id` is no report on the list: reload the list";
                return Err(Refusal::new(fields.accept, StatusCode::NOT_FOUND, message));
            }
            // Whoever sends one again has it tried now, a pause or not.
            database.probe().await.map_err(unavailable)?;
        }
        (true, Some(_)) => return Err(fields.refuse("send `id` or `all`, and not both")),
        (false, None) => {
            return Err(
                fields.refuse("`id` is missing: send the ID of a problem, or `all` as true")
            );
        }
    }
    Ok(match fields.accept.or(Format::Json) {
        Format::Html => Redirect::to("/outbox").into_response(),
        Format::Json => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The shop's worker: quick to try again, so that one sees it work.
pub(crate) struct Worker;

impl WorkerSettings for Worker {
    fn set<D: tower_referral_outbox::Database>(
        &self,
        worker: WorkerBuilder<D, Reports>,
    ) -> WorkerBuilder<D, Reports> {
        let retries = Retries::default()
            .initial_backoff(Duration::from_secs(1))
            .max_backoff(Duration::from_secs(60))
            .max_attempts(1000);
        worker
            .retries(retries)
            .lease(Duration::from_secs(10))
            .pause(Duration::from_secs(1), Duration::from_secs(60))
    }
}
