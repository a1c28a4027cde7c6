//! A transport that gives a platform's answers in order, and notes what was asked.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::answer::Answer;

/// The base URL of every platform.
pub const URL: &str = "http://127.0.0.1:9";

/// A request, and the answer that it got.
pub struct Asked {
    /// The request's method.
    pub method: Method,
    /// The request's path.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's body.
    pub body: Bytes,
}

impl Asked {
    /// What came back.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            body: &self.body,
        }
    }
}

struct Wire {
    /// The answers to come, the next one last.
    answers: Vec<(u16, Bytes)>,
    asked: Vec<Asked>,
}

static WIRE: Mutex<Wire> = Mutex::new(Wire {
    answers: Vec::new(),
    asked: Vec::new(),
});

fn wire() -> MutexGuard<'static, Wire> {
    WIRE.lock().expect("one thread")
}

/// Sets the answers to come, in order.
pub fn set_answers(mut answers: Vec<(u16, Bytes)>) {
    answers.reverse();
    *wire() = Wire {
        answers,
        asked: Vec::new(),
    };
}

/// Takes what was asked.
#[must_use]
pub fn take_asked() -> Vec<Asked> {
    std::mem::take(&mut wire().asked)
}

/// The transport. Once it has run out of answers, it gives 500.
#[derive(Clone)]
pub struct StandIn;

impl tower_service::Service<Request<Bytes>> for StandIn {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut wire = wire();
        let uri = request.uri();
        let origin = (uri.scheme_str(), uri.authority().map(|it| it.as_str()));
        assert_eq!(
            origin,
            (Some("http"), Some("127.0.0.1:9")),
            "the key goes nowhere else"
        );
        let (status, body) = wire.answers.pop().unwrap_or((500, Bytes::new()));
        wire.asked.push(Asked {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            status,
            body: body.clone(),
        });
        assert!(wire.asked.len() < 64, "an exchange that doesn't end");
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        ready(Ok(response))
    }
}
