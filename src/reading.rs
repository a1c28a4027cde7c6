//! A request whose referrals are on the server: they are read there once, by whoever needs them
//! first, a handler's extractor or the layer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::config::Config;
use crate::consent::Permission;
use crate::future::Decided;
use crate::keep::server::Records;
use crate::keep::store::Budget;
use crate::ledger::Ledger;

/// What is done once the referrals are read. It may be started more than once, if whoever reads
/// gives up, but is finished once.
pub(crate) type Decide = Box<dyn Fn(Ledger) -> Decided + Send + Sync>;

pub(crate) struct Reading {
    config: Arc<Config>,
    permission: Permission,
    /// What the browser sent, verified.
    opened: Ledger,
    /// What the layer has to decide, if anything.
    decide: Option<Decide>,
    pub(crate) budget: Budget,
    read: OnceCell<Arc<Ledger>>,
    decided: Mutex<Option<Decided>>,
}

impl Reading {
    pub(crate) fn new(
        config: Arc<Config>,
        records: &Records,
        permission: Permission,
        opened: Ledger,
        decide: Option<Decide>,
    ) -> Self {
        Self {
            config,
            permission,
            opened,
            decide,
            budget: records.budget(),
            read: OnceCell::new(),
            decided: Mutex::new(None),
        }
    }

    /// Must it be read even if no handler asks?
    pub(crate) fn must_be_read(&self) -> bool {
        self.decide.is_some()
    }

    /// What is known of the visitor.
    pub(crate) async fn ledger(&self) -> &Arc<Ledger> {
        self.read.get_or_init(|| self.read()).await
    }

    async fn read(&self) -> Arc<Ledger> {
        let mut ledger = self.opened.clone();
        // What is to be forgotten needn't be read.
        let is_denied = matches!(self.permission, Permission::Denied(_));
        if let (Some(records), false) = (&self.config.records, is_denied) {
            records
                .read(&mut ledger, &self.config, self.permission, &self.budget)
                .await;
        }
        if let Some(decide) = &self.decide {
            let decided = decide(ledger);
            let ledger = Arc::clone(&decided.ledger);
            let mut place = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(decided);
            ledger
        } else {
            if let (Some(clicker), Permission::Granted) = (&self.config.clicks, self.permission) {
                ledger.join_late_answers(&self.config, clicker);
            }
            Arc::new(ledger)
        }
    }

    /// What the browser sent, without asking the server.
    pub(crate) fn unread(&self) -> Ledger {
        self.opened.clone()
    }

    /// What was read by now.
    pub(crate) fn read_by_now(&self) -> Option<&Arc<Ledger>> {
        self.read.get()
    }

    /// What the layer decided, once.
    pub(crate) fn take_decided(&self) -> Option<Decided> {
        let mut place = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        place.take()
    }
}
