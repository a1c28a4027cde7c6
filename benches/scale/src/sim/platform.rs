//! The affiliate platform, as a transport under the real clients: it answers late, fails, loses answers,
//! limits the rate, and remembers every click and conversion.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower_referral_platforms::{
    Answer, ConfigError, Error, NotSent, Partnac, PlatformIds, Report, ReportApi, Step,
};
use tower_service::Service;

use super::clock::{Clock, SECOND, sleep};
use super::peaks::PerSecond;
use super::random::Random;

/// A conversion as the platform has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) key: String,
    pub(crate) click_id: Option<String>,
    pub(crate) times: u32,
}

/// What the platform knows of a landing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Click {
    pub(crate) times: u8,
    pub(crate) answered_at: Option<i64>,
}

/// How the platform was called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) most_in_a_second: u64,
    pub(crate) total: u64,
    pub(crate) refused_by_rate: u64,
    pub(crate) lost_answers: u64,
    pub(crate) clicks_not_taken: u64,
}

#[derive(Debug)]
struct Records {
    clock: Clock,
    random: Random,
    limit: u64,
    is_away: bool,
    deduplicates: bool,
    calls: PerSecond,
    total: u64,
    refused_by_rate: u64,
    lost_answers: u64,
    /// Calls about clicks that the platform recorded nothing of.
    clicks_not_taken: u64,
    /// By the landing's number: how often the platform was told of it, and when the answer was there.
    clicks: Vec<Click>,
    conversions: HashMap<String, Conversion>,
}

/// A platform's records, shared by all who call it.
#[derive(Clone, Debug)]
pub(crate) struct Platform(Arc<Mutex<Records>>);

impl Platform {
    pub(crate) fn new(clock: Clock, random: Random, limit: u64, deduplicates: bool) -> Self {
        Self(Arc::new(Mutex::new(Records {
            clock,
            random,
            limit,
            is_away: false,
            deduplicates,
            calls: PerSecond::default(),
            total: 0,
            refused_by_rate: 0,
            lost_answers: 0,
            clicks_not_taken: 0,
            clicks: Vec::new(),
            conversions: HashMap::new(),
        })))
    }

    fn open(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.open().is_away = is_away;
    }

    /// Returns what the platform was told of a landing.
    pub(crate) fn click(&self, landing: u32) -> Click {
        let records = self.open();
        let click = records.clicks.get(landing as usize);
        click.copied().unwrap_or_default()
    }

    fn note_answer(&self, landing: u32) {
        let mut records = self.open();
        let now = records.clock.now();
        if let Some(click) = records.clicks.get_mut(landing as usize) {
            click.answered_at.get_or_insert(now);
        }
    }

    pub(crate) fn conversion(&self, id: &str) -> Option<Conversion> {
        self.open().conversions.get(id).cloned()
    }

    pub(crate) fn conversions(&self) -> usize {
        self.open().conversions.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        let records = self.open();
        Counts {
            most_in_a_second: records.calls.most(),
            total: records.total,
            refused_by_rate: records.refused_by_rate,
            lost_answers: records.lost_answers,
            clicks_not_taken: records.clicks_not_taken,
        }
    }
}

/// What becomes of a call, before the platform has looked at it.
enum Fate {
    NotSent,
    /// The platform works on it, for so many milliseconds.
    Arrives(i64),
    Status(StatusCode, i64),
    Hangs,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The answer didn't come.
#[derive(Debug)]
struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection broke before the answer")
    }
}

impl std::error::Error for Lost {}

impl Records {
    fn fate(&mut self) -> Fate {
        let now = self.clock.now();
        self.total += 1;
        if self.calls.count(now) > self.limit {
            self.refused_by_rate += 1;
            return Fate::Status(StatusCode::TOO_MANY_REQUESTS, 20);
        }
        let chance = self.random.share();
        if self.is_away {
            return match chance {
                it if it < 0.5 => Fate::NotSent,
                it if it < 0.75 => Fate::Status(StatusCode::SERVICE_UNAVAILABLE, 30),
                _ => Fate::Hangs,
            };
        }
        match chance {
            it if it < 0.002 => Fate::NotSent,
            it if it < 0.004 => Fate::Status(StatusCode::INTERNAL_SERVER_ERROR, 50),
            it if it < 0.01 => Fate::Arrives(3 * SECOND),
            _ => Fate::Arrives(self.random.spread(30, 400)),
        }
    }

    /// Records what a request says. `None` if the answer gets lost on its way.
    fn take(&mut self, path: &str, body: &Value) -> Option<Response<String>> {
        let is_lost = self.random.chance(0.003);
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (status, answer) = if path.ends_with("/clicks") {
            let landing = landing_of(&text("click_url")).unwrap_or_default();
            let at = landing as usize;
            if self.clicks.len() <= at {
                self.clicks.resize(at + 1, Click::default());
            }
            self.clicks[at].times = self.clicks[at].times.saturating_add(1);
            let click_id = format!("clk_{landing}");
            (
                StatusCode::CREATED,
                json!({ "data": { "click_id": click_id } }),
            )
        } else {
            let id = text("unique_id");
            match self.conversions.get_mut(&id) {
                Some(_) if self.deduplicates => {
                    (StatusCode::CONFLICT, json!({ "message": "it exists" }))
                }
                Some(known) => {
                    known.times += 1;
                    (StatusCode::CREATED, json!({ "data": { "id": id } }))
                }
                None => {
                    let conversion = Conversion {
                        key: text("partnership_code"),
                        click_id: body["session_id"].as_str().map(str::to_owned),
                        times: 1,
                    };
                    self.conversions.insert(id.clone(), conversion);
                    (StatusCode::CREATED, json!({ "data": { "id": id } }))
                }
            }
        };
        if is_lost {
            self.lost_answers += 1;
            return None;
        }
        Some(json_answer(status, answer.to_string()))
    }
}

fn json_answer(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// The number of the landing whose page this is, `…/p/NUMBER?…`.
pub(crate) fn landing_of(url: &str) -> Option<u32> {
    let (_, rest) = url.split_once("/p/")?;
    let end = rest.find('?').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl Service<Request<Bytes>> for Platform {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let platform = self.clone();
        Box::pin(async move {
            let fate = platform.open().fate();
            let is_click = request.uri().path().ends_with("/clicks");
            if is_click && !matches!(fate, Fate::Arrives(_)) {
                platform.open().clicks_not_taken += 1;
            }
            match fate {
                Fate::NotSent => Err(NotSent.into()),
                Fate::Hangs => {
                    sleep(30 * SECOND).await;
                    Err(Lost.into())
                }
                Fate::Status(status, millis) => {
                    sleep(millis).await;
                    let mut response = Response::new("<html>sorry</html>".to_owned());
                    *response.status_mut() = status;
                    if status == StatusCode::TOO_MANY_REQUESTS {
                        let after = http::HeaderValue::from_static("1");
                        let headers = response.headers_mut();
                        headers.insert(http::header::RETRY_AFTER, after);
                    }
                    Ok(response)
                }
                Fate::Arrives(millis) => {
                    // It is recorded half-way, so that a caller who leaves may leave before or after.
                    sleep(millis / 2).await;
                    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
                    let answer = platform.open().take(request.uri().path(), &body);
                    sleep(millis / 2).await;
                    let landing = body["click_url"].as_str().and_then(landing_of);
                    if let (Some(_), Some(landing)) = (&answer, landing) {
                        platform.note_answer(landing);
                    }
                    answer.ok_or_else(|| Lost.into())
                }
            }
        })
    }
}

/// Partnac's interface at a platform that recognises no duplicates: each report may be told once.
#[derive(Clone, Debug)]
pub(crate) struct WithoutDuplicates(pub(crate) Partnac);

impl ReportApi for WithoutDuplicates {
    type Stage = <Partnac as ReportApi>::Stage;

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<Self::Stage>, Error> {
        self.0.begin(report, ids)
    }

    fn next(
        &self,
        report: &Report,
        ids: &PlatformIds,
        stage: Self::Stage,
        answer: &Answer,
    ) -> Result<Step<Self::Stage>, Error> {
        self.0.next(report, ids, stage, answer)
    }

    fn deduplicates(&self, _: &Report) -> bool {
        false
    }
}

pub(crate) fn partnac() -> Result<Partnac, ConfigError> {
    Partnac::new("simulated")
}
