//! Gathers reports for a platform that takes many in one request. Whoever is first in line waits for
//! the time of the next batch, and sends what has come until then.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{Either, select};
use tokio::sync::{Mutex as Line, OwnedMutexGuard, oneshot};
use tokio::time::Instant;

use crate::{
    Batch, Client, Error, Receipt, ReportApi, ReportError, ReportRequest, Transport, telemetry,
};

type ReportResult = Result<Receipt, ReportError>;

/// The reports that wait for the next batch of a platform.
pub(crate) struct Batches {
    waiting: Mutex<VecDeque<(ReportRequest, oneshot::Sender<ReportResult>)>>,
    /// Held by whoever waits for the time of the next batch, and until it is answered.
    line: Arc<Line<Last>>,
}

/// What is known from the last batch.
#[derive(Default)]
struct Last {
    answered_at: Option<Instant>,
    /// The most reports in the next one, where there is such a limit. A batch that was refused halves
    /// it, one that wasn't doubles it, so that in the end a report that spoils every batch is alone.
    max: Option<usize>,
}

impl Batches {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            line: Arc::default(),
        }
    }

    /// Sends the report in the next batch that has room for it. Dropped before that, it isn't sent.
    pub(crate) async fn send<P, T>(
        &self,
        client: Client<P, T>,
        batch: Batch,
        request: ReportRequest,
    ) -> ReportResult
    where
        P: ReportApi + Send + Sync + 'static,
        T: Transport,
    {
        if let Some(answer) = client.without_sending(&request) {
            telemetry::note_report(request.report(), &answer);
            return answer;
        }
        let is_repeatable = client.platform().deduplicates(request.report());
        let unknown = || Err(ReportError::new(Error::UnknownOutcome, is_repeatable));
        let (sender, mut answered) = oneshot::channel();
        self.waiting().push_back((request, sender));
        loop {
            let line = Arc::clone(&self.line).lock_owned();
            let last = match select(&mut answered, pin!(line)).await {
                Either::Left((answer, _)) => return answer.unwrap_or_else(|_| unknown()),
                Either::Right((last, _)) => last,
            };
            if let Some(answered_at) = last.answered_at {
                tokio::time::sleep_until(answered_at + batch.interval).await;
            }
            let max = last.max.unwrap_or(batch.max).clamp(1, batch.max);
            let (requests, senders) = self.take(max);
            if !requests.is_empty() {
                // On a task of its own: a caller who gives up doesn't take the others along.
                tokio::spawn(send_all(client.clone(), last, requests, senders));
            }
        }
    }

    /// Takes at most so many reports, of those whose callers still wait for them.
    fn take(&self, max: usize) -> (Vec<ReportRequest>, Vec<oneshot::Sender<ReportResult>>) {
        let mut waiting = self.waiting();
        waiting.retain(|(_, sender)| !sender.is_closed());
        let count = max.min(waiting.len());
        waiting.drain(..count).unzip()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(ReportRequest, oneshot::Sender<ReportResult>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_all<P, T>(
    client: Client<P, T>,
    mut last: OwnedMutexGuard<Last>,
    requests: Vec<ReportRequest>,
    senders: Vec<oneshot::Sender<ReportResult>>,
) where
    P: ReportApi,
    T: Transport,
{
    let answers = client.report_batch(&requests).await;
    let is_refused = answers.iter().any(|answer| {
        let error = answer.as_ref().err().map(ReportError::error);
        matches!(error, Some(Error::BatchRefused { .. }))
    });
    last.answered_at = Some(Instant::now());
    last.max = if is_refused {
        Some(requests.len() / 2)
    } else {
        last.max.map(|max| max.max(1).saturating_mul(2))
    };
    for (sender, answer) in senders.into_iter().zip(answers) {
        // Somebody who has given up doesn't want it any more.
        let _ = sender.send(answer);
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}
