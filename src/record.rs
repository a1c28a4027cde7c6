//! What is known of a referral's record on the server in one request.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::reason::Reason;
use crate::referral::Referral;
use crate::visitor::VisitorId;

/// What names a record on the server: the visitor, and the signing key that the record's own ID is
/// derived by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRef {
    pub(crate) key_id: SmolStr,
    pub(crate) visitor: VisitorId,
}

/// Where a referral is on the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordSlot {
    /// The record that has it, or will have it; `None` until one is drawn.
    pub(crate) current: Option<RecordRef>,
    pub(crate) on_server: OnServer,
    /// Whose record a carried referral takes the place of: the ID of the new one follows from it.
    pub(crate) follows: Option<VisitorId>,
    /// What the cookie carries meanwhile replaces nothing that the server has.
    pub(crate) fills_only: bool,
    /// What the server has and a carried referral takes the place of: if that one's platform doesn't know
    /// its key, this is put back.
    pub(crate) displaced: Option<Arc<Referral>>,
    /// Records of no use any more.
    pub(crate) discarded: Vec<RecordRef>,
}

/// What the server has of a referral.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnServer {
    #[default]
    Nothing,
    Referral(Arc<Referral>),
    /// The store couldn't be asked.
    Unknown,
}

/// What was loaded from the server for one program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) record: RecordSlot,
    pub(crate) kept: Option<Arc<Referral>>,
    /// What the cookie carried is to be moved to the server.
    pub(crate) changed: bool,
    pub(crate) failures: Vec<Reason>,
}

impl RecordSlot {
    /// Returns an empty one that knows what is to be deleted.
    pub(crate) fn emptied(mut self) -> Self {
        self.discarded.extend(self.current.take());
        Self {
            discarded: self.discarded,
            ..Self::default()
        }
    }

    /// Returns `true` if the server has exactly this referral.
    pub(crate) fn holds(&self, referral: &Arc<Referral>) -> bool {
        matches!(&self.on_server, OnServer::Referral(held) if held == referral)
    }
}
