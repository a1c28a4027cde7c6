//! The task that deletes the records whose window has ended.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::backend::{Budget, DeleteExpired};
use crate::runtime::Runtime;
use crate::telemetry;

/// How long one deletion may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes the records whose window has ended, again and again.
pub(crate) struct Deletion {
    store: Arc<dyn DeleteExpired>,
    interval: Duration,
    is_running: AtomicBool,
    /// It is logged that there was nothing to run it on.
    is_missed: AtomicBool,
}

impl Deletion {
    pub(crate) fn new(store: Arc<dyn DeleteExpired>, interval: Duration) -> Self {
        Self {
            store,
            interval,
            is_running: AtomicBool::new(false),
            is_missed: AtomicBool::new(false),
        }
    }

    /// Starts the task, once, if there is something to run it on. It ends with its owner, or where nothing
    /// measures time.
    pub(crate) fn run_while<T: Send + Sync + 'static>(&self, owner: &Arc<T>, runtime: &Runtime) {
        if self.is_running.load(Ordering::Relaxed) {
            return;
        }
        let Some(spawner) = runtime.spawner(None) else {
            if !self.is_missed.swap(true, Ordering::Relaxed) {
                telemetry::misplaced(
                    "expired records aren't deleted, because there is no Tokio runtime: give \
                     `ReferralLayerBuilder::spawner`, or let the store expire them",
                );
            }
            return;
        };
        if self.is_running.swap(true, Ordering::Relaxed) {
            return;
        }
        let owner = Arc::downgrade(owner);
        let (store, interval) = (Arc::clone(&self.store), self.interval);
        let runtime = runtime.clone();
        spawner.spawn(Box::pin(async move {
            while owner.strong_count() > 0 {
                match runtime.sleep(interval) {
                    Some(sleep) => sleep.await,
                    None => return,
                }
                let budget = Budget::new(TIMEOUT, runtime.clone());
                if let Err(error) = budget.run(store.delete_expired()).await {
                    error.log("delete expired records from");
                }
            }
        }));
    }
}
