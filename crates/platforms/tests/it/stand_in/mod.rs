//! A platform at hand: a transport that gives the answers it was told to, in order, and keeps what
//! it was asked. What the wire does to a request is tested elsewhere.

#![allow(dead_code)] // No test needs all of it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Ready;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tower::Service;
use tower_referral::Referral;
use tower_referral_platforms::{Client, Credit, Outcome, Report, ReportApi, ReportError};

/// Gives its answers one by one; it is a mistake to ask it once too often.
#[derive(Clone, Debug, Default)]
pub(crate) struct StandIn {
    answers: Arc<Mutex<VecDeque<Response<String>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path, for instance `POST /v1/customers`.
    pub(crate) line: String,
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

impl StandIn {
    /// Answers so, in this order: status and body.
    pub(crate) fn new<'a>(answers: impl IntoIterator<Item = (u16, &'a str)>) -> Self {
        let stand_in = Self::default();
        for (status, body) in answers {
            stand_in.then(
                Response::builder()
                    .status(status)
                    .body(body.to_owned())
                    .unwrap(),
            );
        }
        stand_in
    }

    pub(crate) fn then(&self, answer: Response<String>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// The one thing that was asked.
    pub(crate) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }

    pub(crate) fn client<P>(&self, platform: P) -> Client<P, Self> {
        Client::new(platform, self.clone())
    }
}

impl Service<Request<Bytes>> for StandIn {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let uri = request.uri();
        self.asked.lock().unwrap().push(Asked {
            line: format!("{} {}", request.method(), uri.path_and_query().unwrap()),
            host: uri.authority().unwrap().to_string(),
            headers: request.headers().clone(),
            text: String::from_utf8(request.body().to_vec()).unwrap(),
        });
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.expect("one request too many").map(Into::into);
        std::future::ready(Ok(answer))
    }
}

pub(crate) fn credit(key: &str) -> Credit {
    Credit::new(key.parse().unwrap())
}

pub(crate) fn clicked(key: &str, click_id: &str) -> Credit {
    credit(key).with_click_id(click_id.parse::<tower_referral::ClickId>().unwrap())
}

pub(crate) const NOBODY: Option<&Referral> = None;

/// Reports where only the outcome matters.
pub(crate) trait ReportOutcome {
    async fn outcome(&self, report: impl Into<Report>) -> Result<Outcome, ReportError>;
}

impl<P: ReportApi> ReportOutcome for Client<P, StandIn> {
    async fn outcome(&self, report: impl Into<Report>) -> Result<Outcome, ReportError> {
        Ok(self.report(report).await?.outcome())
    }
}
