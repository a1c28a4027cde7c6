//! What the layer takes from its surroundings: the time, randomness, what runs tasks and what measures
//! timeouts. Each is the user's where one is given. Otherwise it is the system's, or Tokio's where there is
//! a runtime.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::coop::{Unconstrained, unconstrained};

use crate::click::request::BoxFuture;
use crate::clock::UnixMillis;
use crate::telemetry;

pub(crate) type Now = Arc<dyn Fn() -> UnixMillis + Send + Sync>;
pub(crate) type FillRandom = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;
pub(crate) type Timer = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// Runs the tasks of one request: the call that creates its click, and what writes a late click ID.
///
/// For platforms where a task belongs to a request, such as `wait_until` of Cloudflare Workers: put one
/// into the request's extensions before the layer sees it. It comes before the layer's own
/// ([`ReferralLayerBuilder::spawner`](crate::ReferralLayerBuilder::spawner)).
///
/// ```
/// use http::Request;
/// use tower_referral::Spawner;
///
/// # trait Context: Clone + Send + Sync + 'static { fn wait_until(&self, task: impl Future<Output = ()>); }
/// fn arriving<B>(mut request: Request<B>, context: impl Context) -> Request<B> {
///     let spawner = Spawner::new(move |task| context.wait_until(task));
///     request.extensions_mut().insert(spawner);
///     request
/// }
/// ```
#[derive(Clone)]
pub struct Spawner(Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>);

impl Spawner {
    /// Creates one of a function that runs a task to its end, apart from the request. A task that it drops
    /// unrun is logged and counted, and its click is tried again at the visitor's next page view.
    pub fn new(
        spawn: impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(spawn))
    }

    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        (self.0)(task);
    }
}

// Nothing of the function's is looked at after a panic.
impl UnwindSafe for Spawner {}
impl RefUnwindSafe for Spawner {}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner(..)")
    }
}

/// What the layer takes from its surroundings.
#[derive(Clone)]
pub(crate) struct Runtime {
    pub(crate) now: Now,
    pub(crate) fill_random: FillRandom,
    pub(crate) spawner: Option<Spawner>,
    pub(crate) timer: Option<Timer>,
}

impl Runtime {
    pub(crate) fn now(&self) -> UnixMillis {
        (self.now)()
    }

    /// Draws random bytes; `None` without randomness.
    pub(crate) fn draw<const LEN: usize>(&self) -> Option<[u8; LEN]> {
        let mut bytes = [0; LEN];
        (self.fill_random)(&mut bytes).then_some(bytes)
    }

    /// Returns what runs tasks: the request's own, the layer's, or Tokio's where there is a runtime.
    pub(crate) fn spawner(&self, of_request: Option<&Spawner>) -> Option<Spawner> {
        of_request.or(self.spawner.as_ref()).cloned().or_else(|| {
            let tokio = Handle::try_current().ok()?;
            Some(Spawner::new(move |task| drop(tokio.spawn(task))))
        })
    }

    /// Returns a future that ends after `duration`; `None`, which is logged, where nothing measures time.
    pub(crate) fn sleep(&self, duration: Duration) -> Option<Sleep> {
        if let Some(timer) = &self.timer {
            let sleep = Some(timer(duration));
            return Some(Sleep::Given { sleep });
        }
        let tokio = Handle::try_current().ok();
        // It panics in a runtime that was built without its timer. No page is to die of that.
        let sleep = tokio.and_then(|_| catch_unwind(|| tokio::time::sleep(duration)).ok());
        if sleep.is_none() {
            telemetry::no_timer(&UNMEASURED);
        }
        sleep.map(|sleep| Sleep::Tokio {
            sleep: unconstrained(sleep),
        })
    }

    /// Waits for a future, at most for `limit`, and not at all where nothing measures time.
    pub(crate) async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        if let Some(sleep) = self.sleep(limit) {
            return sleep.limit(future).await;
        }
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Starts to measure how long something takes, where [`sleep`](Self::sleep) can measure it.
    #[cfg(feature = "_store")]
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        match &self.timer {
            Some(_) => Stopwatch::Given(self.now()),
            None => Stopwatch::Tokio(tokio::time::Instant::now()),
        }
    }

    /// Returns how long it took.
    #[cfg(feature = "_store")]
    pub(crate) fn elapsed(&self, since: Stopwatch) -> Duration {
        match since {
            Stopwatch::Given(start) => {
                let millis = self.now().saturating_sub(start);
                Duration::from_millis(u64::try_from(millis).unwrap_or(0))
            }
            Stopwatch::Tokio(start) => start.elapsed(),
        }
    }
}

/// When something began, by the clock that the timeouts go by.
#[cfg(feature = "_store")]
#[derive(Clone, Copy)]
pub(crate) enum Stopwatch {
    Given(UnixMillis),
    Tokio(tokio::time::Instant),
}

/// The timeouts that nothing measured, for the log.
static UNMEASURED: AtomicU64 = AtomicU64::new(0);

pin_project! {
    /// A timer that runs.
    #[project = SleepProjection]
    pub(crate) enum Sleep {
        /// Outside Tokio's budget for a task, so that what is waited for can't use it up.
        Tokio { #[pin] sleep: Unconstrained<tokio::time::Sleep> },
        /// `None` once it has ended.
        Given { sleep: Option<BoxFuture<'static, ()>> },
    }
}

impl Sleep {
    /// Waits for a future, at most until the timer ends.
    pub(crate) async fn limit<F: Future>(self, future: F) -> Option<F::Output> {
        until(pin!(self), future).await
    }
}

/// Waits for a future, at most until a timer ends that others may go on with.
pub(crate) async fn until<F: Future>(mut timer: Pin<&mut Sleep>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project() {
            SleepProjection::Tokio { sleep } => sleep.poll(cx),
            SleepProjection::Given { sleep } => {
                if let Some(running) = sleep
                    && running.as_mut().poll(cx).is_pending()
                {
                    return Poll::Pending;
                }
                *sleep = None;
                Poll::Ready(())
            }
        }
    }
}
