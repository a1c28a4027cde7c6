//! Turns: what changes one order is sent one after the other, so that two partial refunds at once
//! don't both start from the same amount.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};

/// The keys whose turns somebody has or waits for. Shared by all clones of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequences(Arc<Mutex<HashMap<String, Weak<Turns<()>>>>>);

impl Sequences {
    /// Waits for the turn of this key. The turn ends when the guard is dropped.
    pub(crate) async fn turn(&self, key: String) -> OwnedMutexGuard<()> {
        let turns = {
            let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody has or waits for the others any more.
            keys.retain(|_, turns| turns.strong_count() > 0);
            match keys.get(&key).and_then(Weak::upgrade) {
                Some(turns) => turns,
                None => {
                    let turns = Arc::new(Turns::new(()));
                    keys.insert(key, Arc::downgrade(&turns));
                    turns
                }
            }
        };
        turns.lock_owned().await
    }
}
