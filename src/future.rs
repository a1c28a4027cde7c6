//! What happens on the way back: what the handler said, then one `Set-Cookie` for each account
//! that changed, and the mark that keeps shared caches away from it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::cache;
use crate::click::Pending;
use crate::config::Config;
use crate::consent::Permission;
use crate::keep::cookie::Jar;
use crate::ledger::Ledger;
use crate::respond::Word;
use crate::visit::Visit;

pin_project! {
    /// The future of [`ReferralService`](crate::ReferralService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        way_back: Option<WayBack>,
        held: Option<Box<Held<F::Output>>>,
    }
}

/// A finished response that is held back for a click ID, within its budget.
struct Held<T> {
    result: T,
    budget: Pin<Box<Sleep>>,
}

impl<F: Future> ResponseFuture<F> {
    /// Without a way back, the response is somebody else's business.
    pub(crate) fn new(inner: F, way_back: Option<WayBack>) -> Self {
        Self {
            inner,
            way_back,
            held: None,
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut held = match this.held.take() {
            Some(held) => held,
            None => {
                let result = ready!(this.inner.poll(cx));
                let budget = this.way_back.as_ref().and_then(WayBack::click_budget);
                match budget {
                    Some(budget) if result.is_ok() => Box::new(Held {
                        result,
                        budget: Box::pin(tokio::time::sleep(budget)),
                    }),
                    _ => return Poll::Ready(finish(result, this.way_back.as_mut())),
                }
            }
        };
        let waits_for_click = this
            .way_back
            .as_mut()
            .is_some_and(|way_back| way_back.poll_clicks(cx).is_pending());
        if waits_for_click && held.budget.as_mut().poll(cx).is_pending() {
            *this.held = Some(held);
            return Poll::Pending;
        }
        Poll::Ready(finish(held.result, this.way_back.as_mut()))
    }
}

fn finish<R, E>(
    mut result: Result<Response<R>, E>,
    way_back: Option<&mut WayBack>,
) -> Result<Response<R>, E> {
    if let (Ok(response), Some(way_back)) = (&mut result, way_back) {
        way_back.leave(response);
    }
    result
}

impl<F: Future + fmt::Debug> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// What the way back has to know of the way in.
pub(crate) struct WayBack {
    config: Arc<Config>,
    permission: Permission,
    pub(crate) jar: Jar,
    /// The request's query has a parameter of ours.
    pub(crate) has_parameter: bool,
    /// What was decided on the way in, if anything. Boxed, because nearly every request goes
    /// without, and all of them move this about.
    pub(crate) decided: Option<Box<Decided>>,
}

/// What came of the way in.
pub(crate) struct Decided {
    /// Shared with the handlers for as long as they hold the request.
    pub(crate) ledger: Arc<Ledger>,
    /// The clicks that were started, with the program's index.
    pub(crate) clicks: Vec<(usize, Pending)>,
    /// The URL without our parameters, if the browser is to go there.
    pub(crate) clean_url: Option<HeaderValue>,
}

impl WayBack {
    pub(crate) fn new(config: Arc<Config>, permission: Permission) -> Self {
        Self {
            config,
            permission,
            jar: Jar::default(),
            has_parameter: false,
            decided: None,
        }
    }

    /// How long the response may be held back, if there is anything to wait for.
    fn click_budget(&self) -> Option<Duration> {
        let wait = self.config.clicks.as_ref()?.wait();
        let has_clicks = !self.decided.as_ref()?.clicks.is_empty();
        (has_clicks && !wait.is_zero()).then_some(wait)
    }

    /// Are all clicks over, whatever came of them?
    fn poll_clicks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(decided) = &mut self.decided {
            for (_, pending) in &mut decided.clicks {
                ready!(pending.poll_over(cx));
            }
        }
        Poll::Ready(())
    }

    /// What handlers get to see of the way in; `None` if there is nothing of ours.
    pub(crate) fn visit(&self) -> Option<Visit> {
        if self.decided.is_none() && self.jar.is_empty() {
            return None;
        }
        let decided = self.decided.as_ref();
        Some(Visit::new(
            Arc::clone(&self.config),
            self.jar.clone(),
            decided.map(|decided| Arc::clone(&decided.ledger)),
        ))
    }

    fn leave<R>(&mut self, response: &mut Response<R>) {
        if response.status().is_informational() {
            return;
        }
        let word = Word::take(response.extensions_mut());
        if self.decided.is_some() || word.is_some() {
            self.settle(word, response);
        }
    }

    fn settle<R>(&mut self, word: Option<Word>, response: &mut Response<R>) {
        let config = &*self.config;
        let (mut ledger, clicks, clean_url) = match self.decided.take() {
            Some(decided) => (
                Arc::unwrap_or_clone(decided.ledger),
                decided.clicks,
                decided.clean_url,
            ),
            None => (Ledger::reopen(config, &self.jar), Vec::new(), None),
        };
        for (index, pending) in clicks {
            let touch = pending.touch();
            if let Some(answer) = pending.close() {
                ledger.answer(config, index, touch, answer);
            }
        }
        if let Some(word) = word {
            word.apply(config, self.permission, &mut ledger);
        }

        let written = ledger.write(config, response.headers_mut());
        if written || self.has_parameter {
            cache::make_private(response.headers_mut());
        }
        if let Some(location) = clean_url
            && response.status().is_success()
            && ledger.keeps_anything()
        {
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(LOCATION, location);
        }
        if !ledger.decisions().is_empty() {
            response.extensions_mut().insert(ledger.into_decisions());
        }
    }
}
