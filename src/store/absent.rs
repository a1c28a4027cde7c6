//! Stands in for the stores where no store feature is on: values of these types can't exist.

use std::sync::Arc;

use http::Extensions;

use crate::click::dispatcher::{ClickCall, ClickDispatcher};
use crate::clock::UnixMillis;
use crate::consent::Permissions;
use crate::program::Program;
use crate::reason::Reason;
use crate::record::{Loaded, RecordRef, RecordSlot};
use crate::referral::{Referral, TouchId};
use crate::seal::message::StoredCookie;

pub(crate) enum Records {}
pub(crate) enum Loading {}
pub(crate) enum Budget {}
pub(crate) enum SessionCopies {}
pub(crate) enum SessionHandle {}

/// What became of a save.
pub(crate) struct Saved {
    pub(crate) record: RecordSlot,
    pub(crate) failed: bool,
}

impl Records {
    pub(crate) fn begin(&self, _: Vec<Result<Vec<StoredCookie>, Reason>>) -> Loading {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the stores' own waits")]
    pub(crate) async fn load(
        &self,
        _: &Loading,
        _: &[Program],
        _: &Permissions,
        _: UnixMillis,
    ) -> &[Loaded] {
        match *self {}
    }

    pub(crate) fn draw_record(&self, _: &RecordSlot) -> Option<RecordRef> {
        match *self {}
    }

    pub(crate) fn start_deletion(&self) {
        match *self {}
    }

    pub(crate) fn budget(&self, _: Option<&Loading>) -> Budget {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the stores' own waits")]
    pub(crate) async fn save(
        &self,
        _: Option<&Arc<Referral>>,
        _: RecordSlot,
        _: UnixMillis,
        _: &Budget,
    ) -> Saved {
        match *self {}
    }

    pub(crate) fn join_later(
        &self,
        _: &ClickDispatcher,
        _: Arc<ClickCall>,
        _: RecordRef,
        _: TouchId,
        _: Program,
        _: UnixMillis,
    ) {
        match *self {}
    }
}

impl Loading {
    pub(crate) fn must_load(&self) -> bool {
        match *self {}
    }

    pub(crate) fn unread(&self) -> Vec<Loaded> {
        match *self {}
    }
}

impl SessionCopies {
    pub(crate) fn handle(&self, _: &Extensions) -> Option<SessionHandle> {
        match *self {}
    }
}

impl SessionHandle {
    pub(crate) fn is_modified(&self) -> bool {
        match *self {}
    }

    pub(crate) fn copy<'r>(&self, _: impl Iterator<Item = &'r Referral>) {
        match *self {}
    }
}
