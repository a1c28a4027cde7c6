//! What happens on the way back: what the handler said, then one `Set-Cookie` for each account
//! that changed, and the mark that keeps shared caches away from it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use pin_project_lite::pin_project;

use crate::boxed::BoxFuture;
use crate::cache;
use crate::click::{Destination, Late, Pending};
use crate::config::Config;
use crate::consent::Permission;
use crate::keep::cookie::Jar;
use crate::keep::session::SessionVisit;
use crate::ledger::Ledger;
use crate::reading::Reading;
use crate::referral::TouchId;
use crate::respond::Word;
use crate::visit::Inside;
use crate::visitor::VisitorId;

pin_project! {
    /// The future of [`ReferralService`](crate::ReferralService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        stage: Stage<F::Output>,
    }
}

/// Where a request is.
enum Stage<T> {
    /// With the inner service; what comes back is somebody else's business.
    HandedOn,
    /// With the inner service, and nothing of ours came with it; its handler may speak yet.
    Listening(Arc<Config>),
    /// With the inner service.
    Away(WayBack),
    /// Answered.
    Held(Box<Held<T>>),
}

/// A finished response that is held back, within a budget, until what is to be said in it is known.
struct Held<T> {
    result: T,
    config: Arc<Config>,
    known: BoxFuture<'static, Settled>,
}

impl<F: Future> ResponseFuture<F> {
    /// The response is somebody else's business.
    #[inline]
    pub(crate) fn handed_on(inner: F) -> Self {
        let stage = Stage::HandedOn;
        Self { inner, stage }
    }

    /// Nothing of ours came, which is nearly all traffic.
    #[inline]
    pub(crate) fn listening(inner: F, config: Arc<Config>) -> Self {
        let stage = Stage::Listening(config);
        Self { inner, stage }
    }

    #[inline]
    pub(crate) fn away(inner: F, way_back: WayBack) -> Self {
        let stage = Stage::Away(way_back);
        Self { inner, stage }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.stage {
            Stage::HandedOn | Stage::Listening(_) => {}
            Stage::Away(way_back) => way_back.poll_reading(cx),
            Stage::Held(_) => return poll_held(this.stage, cx),
        }
        let inside = Inside::enter();
        // Left as it is, because nearly always it is also the answer.
        let mut polled = this.inner.poll(cx);
        drop(inside);
        let Poll::Ready(Ok(response)) = &mut polled else {
            return polled;
        };
        if let Stage::Listening(config) = this.stage {
            if response.extensions().is_empty() {
                return polled;
            }
            *this.stage = Stage::Away(WayBack::new(Arc::clone(config), Jar::Empty));
        }
        let Stage::Away(way_back) = &mut *this.stage else {
            return polled;
        };
        if !way_back.has_business_with(response) {
            return polled;
        }
        let word = Word::take(response.extensions_mut());
        if !way_back.must_wait(word.as_ref()) {
            way_back.leave(word, response);
            return polled;
        }
        hold(this.stage, polled, word, cx)
    }
}

/// Holds a finished response back until it is known what to say in it.
#[cold]
fn hold<R, E>(
    stage: &mut Stage<Result<Response<R>, E>>,
    polled: Poll<Result<Response<R>, E>>,
    word: Option<Word>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<R>, E>> {
    match (polled, std::mem::replace(stage, Stage::HandedOn)) {
        (Poll::Ready(result), Stage::Away(way_back)) => {
            *stage = Stage::Held(Box::new(Held {
                result,
                config: Arc::clone(&way_back.config),
                known: Box::pin(way_back.settle(word)),
            }));
            poll_held(stage, cx)
        }
        (polled, _) => polled,
    }
}

/// Gives the response that is held back once it is known what to say in it.
#[cold]
fn poll_held<R, E>(
    stage: &mut Stage<Result<Response<R>, E>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<R>, E>> {
    let Stage::Held(held) = stage else {
        return Poll::Pending;
    };
    let settled = ready!(held.known.as_mut().poll(cx));
    let Stage::Held(mut held) = std::mem::replace(stage, Stage::HandedOn) else {
        return Poll::Pending;
    };
    if let Ok(response) = &mut held.result {
        settled.write(&held.config, response);
    }
    Poll::Ready(held.result)
}

impl<F: Future + fmt::Debug> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// What the way back has to know of the way in. Small, because every request moves one about.
pub(crate) struct WayBack {
    config: Arc<Config>,
    pub(crate) permission: Permission,
    /// The request's query has a parameter of ours.
    pub(crate) has_parameter: bool,
    known: Known,
}

/// What is known of the visitor.
enum Known {
    /// What the browser sent, unverified. Nearly always that is nothing.
    Jar(Jar),
    /// What was decided.
    Decided(Decided),
    /// Either, and more is kept elsewhere.
    KeptElsewhere(Box<KeptElsewhere>),
}

/// What came of the way in.
pub(crate) struct Decided {
    /// Shared with the handlers for as long as they hold the request.
    pub(crate) ledger: Arc<Ledger>,
    /// What else came of it. Boxed, because mostly there is nothing.
    pub(crate) effects: Option<Box<Effects>>,
}

/// What comes of a request beside what is known of its visitor.
pub(crate) struct Effects {
    /// The clicks that were started, with the program's index.
    pub(crate) clicks: Vec<(usize, Pending)>,
    /// The URL without our parameters, if the browser is to go there.
    pub(crate) clean_url: Option<HeaderValue>,
}

struct KeptElsewhere {
    elsewhere: Elsewhere,
    jar: Jar,
    decided: Option<Decided>,
}

/// Where else than in the cookie something is kept of this visitor.
pub(crate) enum Elsewhere {
    Server {
        reading: Arc<Reading>,
        /// Reads beside the inner service, where the layer itself must know.
        beside: Option<BoxFuture<'static, ()>>,
    },
    Session {
        session: SessionVisit,
        /// The copy in the session is looked after even if nothing changed.
        is_looked_after: bool,
    },
}

impl Elsewhere {
    /// Something on the server is to be read.
    pub(crate) fn server(reading: Arc<Reading>) -> Self {
        let beside = reading.must_be_read().then(|| -> BoxFuture<'static, ()> {
            let reading = Arc::clone(&reading);
            Box::pin(async move {
                reading.ledger().await;
            })
        });
        Self::Server { reading, beside }
    }
}

/// What is to be said in the response.
struct Settled {
    has_parameter: bool,
    /// Something was decided, or said, or joined.
    is_news: bool,
    ledger: Arc<Ledger>,
    effects: Option<Box<Effects>>,
}

impl WayBack {
    #[inline]
    pub(crate) fn new(config: Arc<Config>, jar: Jar) -> Self {
        Self {
            config,
            permission: Permission::Granted,
            has_parameter: false,
            known: Known::Jar(jar),
        }
    }

    /// The cookies of ours, unless something was decided by them.
    #[inline]
    pub(crate) fn jar(&self) -> &Jar {
        match &self.known {
            Known::Jar(jar) => jar,
            Known::Decided(_) => Jar::EMPTY,
            Known::KeptElsewhere(kept) => &kept.jar,
        }
    }

    /// Takes in what the way in has come to.
    #[inline]
    pub(crate) fn learn(&mut self, decided: Option<Decided>, elsewhere: Option<Elsewhere>) {
        if let Some(elsewhere) = elsewhere {
            let jar = self.jar().clone();
            self.known = Known::KeptElsewhere(Box::new(KeptElsewhere {
                elsewhere,
                jar,
                decided,
            }));
        } else if let Some(decided) = decided {
            self.known = Known::Decided(decided);
        }
    }

    fn elsewhere(&self) -> Option<&Elsewhere> {
        match &self.known {
            Known::KeptElsewhere(kept) => Some(&kept.elsewhere),
            Known::Jar(_) | Known::Decided(_) => None,
        }
    }

    fn decided(&self) -> Option<&Decided> {
        match &self.known {
            Known::Jar(_) => None,
            Known::Decided(decided) => Some(decided),
            Known::KeptElsewhere(kept) => kept.decided.as_ref(),
        }
    }

    fn decided_mut(&mut self) -> Option<&mut Decided> {
        match &mut self.known {
            Known::Jar(_) => None,
            Known::Decided(decided) => Some(decided),
            Known::KeptElsewhere(kept) => kept.decided.as_mut(),
        }
    }

    fn take_decided(&mut self) -> Option<Decided> {
        match &mut self.known {
            Known::KeptElsewhere(kept) => kept.decided.take(),
            Known::Jar(_) => None,
            known @ Known::Decided(_) => match std::mem::replace(known, Known::Jar(Jar::Empty)) {
                Known::Decided(decided) => Some(decided),
                Known::Jar(_) | Known::KeptElsewhere(_) => None,
            },
        }
    }

    /// Is there something to do about the response? Nearly always there isn't.
    #[inline]
    fn has_business_with<R>(&self, response: &Response<R>) -> bool {
        let may_be_said = !response.extensions().is_empty();
        (may_be_said || !matches!(self.known, Known::Jar(_)))
            && !response.status().is_informational()
    }

    /// Reads beside the inner service, so that a click starts early and the page waits the less.
    #[inline]
    fn poll_reading(&mut self, cx: &mut Context<'_>) {
        if let Known::KeptElsewhere(kept) = &mut self.known
            && let Elsewhere::Server { beside, .. } = &mut kept.elsewhere
            && let Some(reading) = beside
            && reading.as_mut().poll(cx).is_ready()
        {
            *beside = None;
        }
    }

    /// Must something be waited for, within its budget, before it is known what to say?
    fn must_wait(&self, word: Option<&Word>) -> bool {
        let is_of_interest = word.is_some() || self.decided().is_some();
        let elsewhere = match self.elsewhere() {
            None => false,
            Some(Elsewhere::Server { reading, .. }) => {
                let is_changed = |ledger: &Arc<Ledger>| ledger.is_changed();
                word.is_some()
                    || reading.must_be_read()
                    || reading.read_by_now().is_some_and(is_changed)
            }
            Some(Elsewhere::Session {
                is_looked_after, ..
            }) => is_of_interest || (*is_looked_after && !self.jar().is_empty()),
        };
        let writes_to_server = self.config.records.is_some() && is_of_interest;
        elsewhere || writes_to_server || self.click_budget().is_some()
    }

    /// How long the response may be held back, if there is a click to wait for.
    fn click_budget(&self) -> Option<Duration> {
        let wait = self.config.clicks.as_ref()?.wait();
        let effects = self.decided()?.effects.as_ref()?;
        let has_clicks = !effects.clicks.is_empty();
        (has_clicks && !wait.is_zero()).then_some(wait)
    }

    /// Finishes a response at once.
    fn leave<R>(&mut self, word: Option<Word>, response: &mut Response<R>) {
        if self.decided().is_some() || word.is_some() {
            let (settled, _) = self.decide(word);
            settled.write(&self.config, response);
        }
    }

    /// Finds out what is to be said in the response, with all that has to be waited for.
    async fn settle(mut self, word: Option<Word>) -> Settled {
        if let Known::KeptElsewhere(kept) = &mut self.known
            && let Elsewhere::Server { reading, beside } = &mut kept.elsewhere
            && (reading.must_be_read() || word.as_ref().is_some_and(Word::captures))
        {
            if let Some(beside) = beside.take() {
                beside.await;
            }
            reading.ledger().await;
            kept.decided = reading.take_decided();
        }
        self.wait_for_clicks().await;
        let (mut settled, late) = self.decide(word);
        self.write_elsewhere(&mut settled, late).await;
        settled
    }

    async fn wait_for_clicks(&mut self) {
        let budget = self.click_budget();
        let decided = self.decided_mut();
        let effects = decided.and_then(|decided| decided.effects.as_mut());
        let (Some(budget), Some(effects)) = (budget, effects) else {
            return;
        };
        let over = poll_fn(|cx| {
            for (_, pending) in &mut effects.clicks {
                ready!(pending.poll_over(cx));
            }
            Poll::Ready(())
        });
        let _ = tokio::time::timeout(budget, over).await;
    }

    /// Takes in the answers that have come, then what the handler said.
    fn decide(&mut self, word: Option<Word>) -> (Settled, Vec<(usize, Late)>) {
        let decided = self.take_decided();
        let config = &*self.config;
        let is_looked_after = matches!(self.elsewhere(), Some(Elsewhere::Session { .. }));
        let is_news = !is_looked_after || word.is_some() || decided.is_some();
        let (mut ledger, mut effects) = match decided {
            Some(decided) => (decided.ledger, decided.effects),
            None => (self.known(), None),
        };
        let clicks = effects
            .as_mut()
            .map(|effects| std::mem::take(&mut effects.clicks));
        let clicks = clicks.unwrap_or_default();
        let mut late = Vec::new();
        let mut close = |ledger: &mut Ledger, clicks: Vec<(usize, Pending)>| {
            for (index, pending) in clicks {
                let touch = pending.touch();
                match pending.close() {
                    Ok(answer) => ledger.answer(config, index, touch, answer),
                    Err(unanswered) => late.push((index, unanswered)),
                }
            }
        };
        // Copied only where a handler still has its request.
        if !clicks.is_empty() {
            close(Arc::make_mut(&mut ledger), clicks);
        }
        if let Some(word) = word {
            let ledger = Arc::make_mut(&mut ledger);
            let clicks = word.apply(config, self.permission, ledger);
            close(ledger, clicks);
        }
        let settled = Settled {
            has_parameter: self.has_parameter,
            is_news,
            ledger,
            effects,
        };
        (settled, late)
    }

    /// What is known without having decided anything. A handler that asked has been told already.
    fn known(&self) -> Arc<Ledger> {
        match self.elsewhere() {
            Some(Elsewhere::Server { reading, .. }) => match reading.read_by_now() {
                Some(ledger) => Arc::clone(ledger),
                None => Arc::new(reading.unread()),
            },
            _ => {
                let mut ledger = Ledger::new(&self.config);
                ledger.reopen(&self.config, self.jar());
                Arc::new(ledger)
            }
        }
    }

    /// Writes to the server or the session what is to be there, and says where late answers go.
    async fn write_elsewhere(&mut self, settled: &mut Settled, late: Vec<(usize, Late)>) {
        if let Some(records) = &self.config.records {
            let ledger = Arc::make_mut(&mut settled.ledger);
            match self.elsewhere() {
                Some(Elsewhere::Server { reading, .. }) => {
                    records.write(ledger, &self.config, &reading.budget).await;
                }
                _ => records.write(ledger, &self.config, &records.budget()).await,
            }
            for (index, late) in late {
                if let Some(visitor) = ledger.awaits_on_server(index, late.touch()) {
                    let record = (index, visitor, late.touch());
                    late.send_to(to_record(Arc::clone(&self.config), record));
                }
            }
        }
        if let Some(Elsewhere::Session { session, .. }) = self.elsewhere()
            && self.permission != Permission::NotYet
        {
            session.reflect(&settled.ledger).await;
        }
    }
}

/// Where a late answer goes whose referral is on the server: straight to its record.
fn to_record(config: Arc<Config>, record: (usize, VisitorId, TouchId)) -> Destination {
    Box::new(move |answer| {
        Box::pin(async move {
            let (index, visitor, touch) = record;
            let is_written = match &config.records {
                None => false,
                Some(records) => {
                    records
                        .answer(&config, index, visitor, touch, &answer)
                        .await
                }
            };
            (!is_written).then_some(answer)
        })
    })
}

impl Settled {
    fn write<R>(self, config: &Config, response: &mut Response<R>) {
        let written = self.ledger.write(config, response.headers_mut());
        if written || self.has_parameter {
            cache::make_private(response.headers_mut());
        }
        if let Some(effects) = self.effects
            && let Some(location) = effects.clean_url
            && response.status().is_success()
            && self.ledger.keeps_anything()
        {
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(LOCATION, location);
        }
        if self.is_news && !self.ledger.decisions().is_empty() {
            response
                .extensions_mut()
                .insert(self.ledger.decisions().clone());
        }
    }
}
