//! The calls themselves: one task for a winning touch, within the bounds, beside the page.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::CreateClick;
use super::facts::{Facts, FactsRule};
use super::late::{Answer, ClickCounts, Desk};
use crate::boxed::BoxFuture;
use crate::referral::{Referral, TouchId};
use crate::request::RequestRef;

/// The prepared form of [`Clicks`](super::Clicks), one for each layer.
pub(crate) struct Clicker {
    pub(super) service: Arc<dyn CreateClick>,
    pub(super) facts: FactsRule,
    pub(super) wait: Duration,
    pub(super) time_limit: Duration,
    pub(super) undo_unknown_keys: bool,
    pub(super) max_in_flight: usize,
    /// One for each call that may still be started.
    pub(super) permits: Arc<Semaphore>,
    pub(super) desk: Arc<Desk>,
}

/// A click on its way, as the response of its landing sees it.
pub(crate) struct Pending {
    touch: TouchId,
    receiver: oneshot::Receiver<Answer>,
    /// What came while the response was held back.
    received: Option<Option<Answer>>,
    late: Late,
}

/// A click whose answer comes after the response. Dropped, it leaves the answer to the visitor's
/// next request.
pub(crate) struct Late {
    touch: TouchId,
    sender: oneshot::Sender<Destination>,
}

/// Where a late answer goes instead; it gives back what couldn't be taken there.
pub(crate) type Destination = Box<dyn FnOnce(Answer) -> BoxFuture<'static, Option<Answer>> + Send>;

impl Pending {
    pub(crate) fn touch(&self) -> TouchId {
        self.touch
    }

    /// Is the call over, whatever came of it?
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.received.is_none() {
            self.received = Some(ready!(Pin::new(&mut self.receiver).poll(cx)).ok());
        }
        Poll::Ready(())
    }

    /// The answer, if it has come by now. From here on it goes to the late ones.
    pub(crate) fn close(mut self) -> Result<Answer, Late> {
        self.receiver.close();
        self.received
            .unwrap_or_else(|| self.receiver.try_recv().ok())
            .ok_or(self.late)
    }
}

impl Late {
    pub(crate) fn touch(&self) -> TouchId {
        self.touch
    }

    /// Lets the answer go there when it comes.
    pub(crate) fn send_to(self, destination: Destination) {
        // Nobody listens if the call is over and has no answer.
        let _ = self.sender.send(destination);
    }
}

impl Clicker {
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// What the platform would be told of this request; `None` if of nothing.
    pub(crate) fn facts(&self, request: RequestRef<'_>) -> Option<Facts> {
        self.facts.read(request)
    }

    /// Draws a name for a touch; `None` if the operating system has no randomness.
    pub(crate) fn name_touch(&self) -> Option<TouchId> {
        let mut touch = TouchId::default();
        match getrandom::fill(&mut touch) {
            Ok(()) => Some(touch),
            Err(_) => {
                self.desk.drop_click("no_randomness");
                None
            }
        }
    }

    /// Claims a click that was due. Only the first claim is granted.
    pub(crate) fn claim(&self, touch: TouchId) -> bool {
        self.desk.claim(touch)
    }

    /// Starts the call for a winning touch. `replaced` is what the touch had replaced.
    pub(crate) fn start(
        &self,
        referral: &Referral,
        touch: TouchId,
        facts: Facts,
        replaced: Option<Box<Referral>>,
    ) -> Option<Pending> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.desk.drop_click("too_many_in_flight");
            return None;
        };
        // Outside a Tokio runtime there is nothing to spawn on, and Tower doesn't promise one.
        let Ok(runtime) = Handle::try_current() else {
            self.desk.drop_click("no_runtime");
            return None;
        };
        self.desk.count_start();
        let call = self.service.create(facts.into_request(referral));
        let time_limit = self.time_limit;
        let desk = Arc::clone(&self.desk);
        let undo = self.undo_unknown_keys.then_some(Answer::Undo(replaced));
        let (sender, receiver) = oneshot::channel();
        let (late_sender, late) = oneshot::channel::<Destination>();
        runtime.spawn(async move {
            let result = timeout(time_limit, call).await;
            if let Some(answer) = desk.judge(result.ok(), undo) {
                desk.answer_claim(touch, &answer);
                if let Err(answer) = sender.send(answer) {
                    // The landing's response is out already, or as good as out.
                    let left = match late.await {
                        Ok(destination) => destination(answer).await,
                        Err(_) => Some(answer),
                    };
                    // The visitor's next request asks for it.
                    left.into_iter().for_each(|answer| desk.keep(touch, answer));
                }
            }
            drop(permit);
        });
        Some(Pending {
            touch,
            receiver,
            received: None,
            late: Late {
                touch,
                sender: late_sender,
            },
        })
    }

    /// What has come for a touch since its landing.
    pub(crate) fn late_answer(&self, touch: TouchId) -> Option<Answer> {
        self.desk.look_up(touch)
    }

    pub(crate) fn counts(&self) -> ClickCounts {
        self.desk.counts()
    }

    /// Waits until no call is in flight, up to the limit. Says whether that was reached.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        let all = u32::try_from(self.max_in_flight).unwrap_or(u32::MAX);
        timeout(limit, self.permits.acquire_many(all)).await.is_ok()
    }
}
