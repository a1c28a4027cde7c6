//! The task that deletes the records whose window has ended.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::runtime::Handle;

use super::backend::{Budget, DeleteExpired};

/// How long one deletion may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes the records whose window has ended, again and again.
pub(crate) struct Deletion {
    store: Arc<dyn DeleteExpired>,
    interval: Duration,
    is_running: AtomicBool,
}

impl Deletion {
    pub(crate) fn new(store: Arc<dyn DeleteExpired>, interval: Duration) -> Self {
        Self {
            store,
            interval,
            is_running: AtomicBool::new(false),
        }
    }

    /// Starts the task, once, if there is a runtime to run it on. It ends with its owner.
    pub(crate) fn run_while<T: Send + Sync + 'static>(&self, owner: &Arc<T>) {
        if self.is_running.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_running.swap(true, Ordering::Relaxed) {
            return;
        }
        let owner = Arc::downgrade(owner);
        let (store, interval) = (Arc::clone(&self.store), self.interval);
        runtime.spawn(async move {
            while owner.strong_count() > 0 {
                tokio::time::sleep(interval).await;
                let budget = Budget::new(TIMEOUT);
                if let Err(error) = budget.run(store.delete_expired()).await {
                    error.log("delete expired records from");
                }
            }
        });
    }
}
