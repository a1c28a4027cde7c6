//! Sends clicks: one task for each winning touch, within bounds of number and rate, while the page is
//! made and after it.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Semaphore, SetOnce, watch};

use super::bounds::{Bounds, KeyHash, Permit};
use super::cause;
use super::context::{ClickContext, ClickContextConfig};
use super::late::{ClickCounts, ClickResult, Counters, LateClicks, Place};
use super::request::{
    BoxError, BoxFuture, Click, ClickRequest, CreateClick, LateClick, UnknownKey,
};
use super::timing::ClickTiming;
use crate::clock::UnixMillis;
use crate::key::ReferralKey;
use crate::referral::{Referral, TouchId, click_reference};
use crate::request::RequestRef;
use crate::runtime::{Runtime, Sleep, Spawner};
use crate::telemetry::{self, Dropped};

pub(crate) type OnLateResult = Arc<dyn Fn(LateClick) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long after its timeout a call that still isn't over is taken for one that nothing runs.
const NOT_RUN: Duration = Duration::from_millis(100);

/// Sends the clicks of one layer; the prepared form of [`Clicks`](super::Clicks).
#[derive(Clone)]
pub(crate) struct ClickDispatcher(Arc<Inner>);

struct Inner {
    settings: DispatcherSettings,
    bounds: Bounds,
    late: LateClicks,
    counters: Counters,
    /// Makes the hashes of keys differ from process to process.
    hash_secret: [u8; 16],
    /// Where the hooks of late results find room, as many as calls do.
    hooks: Semaphore,
    tasks: Arc<Tasks>,
}

/// How clicks are sent: what [`Clicks`](super::Clicks) was told, checked.
pub(crate) struct DispatcherSettings {
    pub(crate) service: Arc<dyn CreateClick>,
    pub(crate) context: ClickContextConfig,
    pub(crate) wait: Duration,
    pub(crate) timeout: Duration,
    pub(crate) undo_unknown_keys: bool,
    pub(crate) timing: ClickTiming,
    pub(crate) on_late_result: Option<OnLateResult>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_per_second: u32,
    pub(crate) late_capacity: usize,
    pub(crate) late_ttl: Duration,
    pub(crate) runtime: Runtime,
}

/// A click that was started, as the response of its landing sees it.
#[derive(Debug)]
pub(crate) struct ClickCall {
    result: SetOnce<ClickResult>,
    /// The response is out: a result that comes now is late.
    is_late: AtomicBool,
    /// What runs it.
    spawner: Spawner,
}

impl ClickCall {
    fn new(spawner: Spawner) -> Self {
        Self {
            result: SetOnce::new(),
            is_late: AtomicBool::new(false),
            spawner,
        }
    }

    /// Waits until the call is over.
    pub(crate) async fn wait(&self) -> &ClickResult {
        self.result.wait().await
    }

    /// Returns the result, if it is there by now. From here on it is late.
    pub(crate) fn close(&self) -> Option<ClickResult> {
        if let Some(result) = self.result.get() {
            return Some(result.clone());
        }
        self.is_late.store(true, Ordering::SeqCst);
        self.result.get().cloned()
    }
}

impl ClickDispatcher {
    pub(crate) fn new(settings: DispatcherSettings) -> Self {
        Self(Arc::new(Inner {
            bounds: Bounds::new(settings.max_in_flight, settings.max_per_second),
            late: LateClicks::new(settings.late_capacity, settings.late_ttl),
            counters: Counters::default(),
            // Without randomness a busy key could be made up that shares another's bounds, and no more.
            hash_secret: settings.runtime.draw().unwrap_or_default(),
            hooks: Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS)),
            tasks: Arc::default(),
            settings,
        }))
    }

    /// Returns how long the head of the response to a request that starts a click may be held back for it.
    pub(crate) fn wait(&self) -> Duration {
        match self.0.settings.timing {
            ClickTiming::BesideResponse => self.0.settings.wait,
            // The call ends by itself within its timeout, and is over then.
            ClickTiming::BeforeResponse => self.0.settings.timeout.saturating_add(NOT_RUN),
            #[cfg(feature = "endpoint")]
            ClickTiming::AtEndpoint => self.0.settings.timeout.saturating_add(NOT_RUN),
        }
    }

    /// Returns a timer of that length; `None` where nothing measures time.
    pub(crate) fn wait_timer(&self) -> Option<Sleep> {
        self.0.settings.runtime.sleep(self.wait())
    }

    /// Returns `true` if a landing's click is created at the capture endpoint.
    pub(crate) fn is_at_endpoint(&self) -> bool {
        match self.0.settings.timing {
            ClickTiming::BesideResponse | ClickTiming::BeforeResponse => false,
            #[cfg(feature = "endpoint")]
            ClickTiming::AtEndpoint => true,
        }
    }

    /// Reads what the platform would be told of this request; `None` if it isn't told of it.
    pub(crate) fn context(&self, request: RequestRef<'_>) -> Option<ClickContext> {
        self.0.settings.context.read(request)
    }

    /// Returns what came for a touch after its landing's response.
    pub(crate) fn late_result(&self, touch: TouchId, now: UnixMillis) -> Option<ClickResult> {
        self.0.late.get(touch, now)
    }

    /// Starts the call for a winning touch; `replaced` is what the touch had replaced. `None` where our
    /// own bounds turn it away, or where there is nothing to run it on.
    pub(crate) fn start(
        &self,
        referral: &Referral,
        touch: TouchId,
        context: ClickContext,
        replaced: Option<Arc<Referral>>,
    ) -> Option<Arc<ClickCall>> {
        let admitted = self.admit(referral, context)?;
        Some(self.call(admitted, touch, None, replaced))
    }

    /// Starts the call for a touch whose click was due. Of several page views at once only the first
    /// starts it: the others get `Ok(None)`. `Err` where it can't be started now.
    pub(crate) fn start_due(
        &self,
        referral: &Referral,
        touch: TouchId,
        context: ClickContext,
    ) -> Result<Option<Arc<ClickCall>>, ()> {
        let Inner { late, counters, .. } = &*self.0;
        let now = self.0.settings.runtime.now();
        // A view that comes second takes nothing of the bounds.
        if late.holds(touch, now) {
            return Ok(None);
        }
        let admitted = self.admit(referral, context).ok_or(())?;
        // Only now, so that a view that the bounds turn away leaves nothing behind. Of views that came
        // this far at once, the others give their permits back.
        let claim = late.claim(touch, admitted.key, now, &counters.late_dropped);
        Ok(claim.map(|claim| self.call(admitted, touch, Some(claim), None)))
    }

    /// Gets a call what it needs. `None`, which is counted, where our own bounds turn it away, or where
    /// there is nothing to run it on.
    fn admit(&self, referral: &Referral, context: ClickContext) -> Option<Admitted> {
        let inner = &self.0;
        let runtime = &inner.settings.runtime;
        let spawner = runtime.spawner(context.spawner.as_ref());
        let request = inner.settings.context.request(context, referral)?;
        let key = inner.hash(request.key());
        let admitted = spawner.ok_or(Dropped::NoRuntime).and_then(|spawner| {
            let permit = inner.bounds.acquire(key, runtime.now())?;
            Ok(Admitted {
                request,
                key,
                spawner,
                permit,
            })
        });
        admitted
            .inspect_err(|why| telemetry::click_dropped(&inner.counters.dropped, *why))
            .ok()
    }

    /// Makes the call in a task of its own; `claim` is that of a click that was due.
    fn call(
        &self,
        admitted: Admitted,
        touch: TouchId,
        claim: Option<Place>,
        replaced: Option<Arc<Referral>>,
    ) -> Arc<ClickCall> {
        let Admitted {
            request,
            key,
            spawner,
            permit,
        } = admitted;
        let inner = &self.0;
        let runtime = &inner.settings.runtime;
        inner.counters.started.fetch_add(1, Ordering::Relaxed);
        telemetry::click("started");
        let hidden = request.visitor_texts();
        let created = WithTimeout {
            call: inner.settings.service.create(request),
            timeout: inner.settings.timeout,
            // From now on, so that a response that waits for the call sees its end.
            timer: runtime.sleep(inner.settings.timeout).map(Box::pin),
            is_begun: false,
            runtime: runtime.clone(),
        };
        let call = Arc::new(ClickCall::new(spawner.clone()));
        let running = Running {
            dispatcher: self.clone(),
            call: Arc::clone(&call),
            claim,
            is_begun: false,
            is_over: false,
            permit: Some(permit),
            _task: inner.tasks.begin(),
        };
        spawner.spawn(Box::pin(async move {
            // Whole: a block takes no more than the fields that it names.
            let mut running = running;
            running.is_begun = true;
            let inner = &running.dispatcher.0;
            let result = inner.judge(created.await, replaced, &hidden);
            let now = inner.settings.runtime.now();
            let dropped = &inner.counters.late_dropped;
            let was_due = running.claim.is_some();
            if was_due {
                // Even if a response takes it along: a tab that doesn't know it yet may write the
                // browser's cookie after that one.
                inner.late.keep(touch, key, result.clone(), now, dropped);
            }
            // Only this task sets it, once.
            let _ = running.call.result.set(result.clone());
            let is_late = running.call.is_late.load(Ordering::SeqCst);
            if is_late && !was_due && !matches!(result, ClickResult::None) {
                inner.late.keep(touch, key, result.clone(), now, dropped);
            }
            // Last, because it may take its time or fail: the visitor has the result without it.
            if (is_late || was_due)
                && let ClickResult::Created(click) = result
                && let Some(on_late) = &inner.settings.on_late_result
            {
                // As long as there is no room for another hook, the call keeps its place: so neither calls
                // nor hooks pile up. The semaphore is never closed.
                let _room = inner.hooks.acquire().await;
                running.permit = None;
                let reference = click_reference(touch);
                on_late(LateClick { reference, click }).await;
            }
            running.is_over = true;
        }));
        call
    }

    /// Runs a task where a call runs.
    #[cfg(feature = "_store")]
    pub(crate) fn spawn(&self, call: &ClickCall, task: BoxFuture<'static, ()>) {
        let running = self.0.tasks.begin();
        call.spawner.spawn(Box::pin(async move {
            task.await;
            drop(running);
        }));
    }

    /// Counts a click that can't be named.
    pub(crate) fn note_unnamed(&self) {
        telemetry::click_dropped(&self.0.counters.dropped, Dropped::NoRandomness);
    }

    pub(crate) fn counts(&self) -> ClickCounts {
        self.0.counters.read()
    }

    /// Waits until no call is in flight, and what came late is written and handed on.
    pub(crate) async fn drain(&self) {
        self.0.tasks.wait_for_all().await;
    }
}

impl Inner {
    fn hash(&self, key: &ReferralKey) -> KeyHash {
        let mut hasher = DefaultHasher::new();
        (self.hash_secret, key).hash(&mut hasher);
        hasher.finish()
    }

    /// Counts what became of a call, `None` being a timeout, and says what it means for the referral.
    fn judge(
        &self,
        result: Option<Result<Click, BoxError>>,
        replaced: Option<Arc<Referral>>,
        hidden: &[String],
    ) -> ClickResult {
        match result {
            Some(Ok(click)) => {
                self.counters.created.fetch_add(1, Ordering::Relaxed);
                telemetry::click("created");
                ClickResult::Created(click)
            }
            Some(Err(error)) if is_unknown_key(&*error) => {
                self.counters.unknown_key.fetch_add(1, Ordering::Relaxed);
                telemetry::click("unknown_key");
                if self.settings.undo_unknown_keys {
                    ClickResult::Undo(replaced)
                } else {
                    ClickResult::None
                }
            }
            Some(Err(error)) => {
                let cause = cause::of(&*error, hidden);
                telemetry::click_failed(&self.counters.failed, "failed", &cause);
                ClickResult::None
            }
            None => {
                let cause = "no answer within the timeout";
                telemetry::click_failed(&self.counters.timed_out, "timed_out", &cause);
                ClickResult::None
            }
        }
    }
}

fn is_unknown_key(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error + 'static>::is::<UnknownKey>)
}

/// What a call needs before it is made.
struct Admitted {
    request: ClickRequest,
    key: KeyHash,
    spawner: Spawner,
    permit: Permit,
}

/// A call in its task. Dropped before it is over, it says so: the spawner didn't run it, or the runtime was
/// shut down.
struct Running {
    dispatcher: ClickDispatcher,
    call: Arc<ClickCall>,
    /// Of a click that was due.
    claim: Option<Place>,
    is_begun: bool,
    is_over: bool,
    /// Given back before the hook of a late result runs.
    permit: Option<Permit>,
    _task: Task,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let inner = &self.dispatcher.0;
        let (result, why) = if self.is_begun {
            (ClickResult::None, Dropped::Ended)
        } else {
            if let Some(claim) = self.claim {
                inner.late.unclaim(claim, inner.settings.runtime.now());
            }
            (ClickResult::PutOff, Dropped::NotRun)
        };
        // Where the answer was there already, what followed it was ended.
        let _ = self.call.result.set(result);
        telemetry::click_dropped(&inner.counters.dropped, why);
    }
}

/// How many tasks of clicks aren't over.
struct Tasks(watch::Sender<usize>);

/// One of them.
struct Task(Arc<Tasks>);

impl Default for Tasks {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Tasks {
    fn begin(self: &Arc<Self>) -> Task {
        self.0.send_modify(|count| *count += 1);
        Task(Arc::clone(self))
    }

    async fn wait_for_all(&self) {
        // Its sender is here.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A call with a timeout, where something measures it. Elsewhere the service sees to its own.
struct WithTimeout {
    call: BoxFuture<'static, Result<Click, BoxError>>,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Where the call runs there may be a timer, even if there was none where it was started.
    is_begun: bool,
    runtime: Runtime,
}

impl Future for WithTimeout {
    type Output = Option<Result<Click, BoxError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.timer.is_none() && !self.is_begun {
            self.timer = self.runtime.sleep(self.timeout).map(Box::pin);
        }
        self.is_begun = true;
        // A service that panics has failed, and no page waits for it. It isn't polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(cx)));
        let polled =
            polled.unwrap_or_else(|_| Poll::Ready(Err("the click service panicked".into())));
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}
