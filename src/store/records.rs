//! Records on the server, under IDs derived from the random visitor ID that the cookie holds. While the
//! store can't take a referral, the cookie carries it, and hands it over when the store can.

use std::{iter, sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use super::backend::{Budget, RecordStore, StoreError};
use super::deletion::Deletion;
use super::joins::{Joins, Underway};
use super::text::{as_text, of_text};
use crate::click::dispatcher::{ClickCall, ClickDispatcher};
use crate::click::late::ClickResult;
use crate::clock::UnixMillis;
use crate::consent::{Permission, Permissions};
use crate::program::Program;
use crate::reason::Reason;
use crate::record::{Loaded, OnServer, RecordRef, RecordSlot};
use crate::referral::{ClickState, Referral, TouchId};
use crate::runtime::Runtime;
use crate::seal::Seal;
use crate::seal::message::StoredCookie;
use crate::visitor::VisitorId;
use crate::window::if_counting;

/// When a late click ID is tried again that the store didn't take.
const LATE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// The records of all visitors.
#[derive(Clone)]
pub(crate) struct Records(Arc<Inner>);

struct Inner {
    store: Arc<dyn RecordStore>,
    timeout: Duration,
    /// Derives the IDs of records.
    seal: Seal,
    runtime: Runtime,
    deletion: Option<Deletion>,
    joins: Joins,
}

/// What has to be loaded for one request.
pub(crate) struct Loading {
    /// What the browser sent, by the program's index, or why none of it counts.
    stored: Vec<Result<Vec<StoredCookie>, Reason>>,
    loaded: OnceCell<Vec<Loaded>>,
    budget: Arc<Budget>,
}

/// What became of a save.
pub(crate) struct Saved {
    pub(crate) record: RecordSlot,
    pub(crate) failed: bool,
}

impl Records {
    pub(crate) fn new(
        store: Arc<dyn RecordStore>,
        deletion: Option<Deletion>,
        timeout: Duration,
        seal: Seal,
        runtime: Runtime,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            timeout,
            seal,
            runtime,
            deletion,
            joins: Joins::default(),
        }))
    }

    /// Begins the load of one request.
    pub(crate) fn begin(&self, mut stored: Vec<Result<Vec<StoredCookie>, Reason>>) -> Loading {
        for stored in stored.iter_mut().flatten().flatten() {
            self.drop_unknown_key(stored);
        }
        Loading {
            stored,
            loaded: OnceCell::new(),
            budget: Arc::new(self.new_budget()),
        }
    }

    /// A record whose key has left the keyring can't be found any more. What the cookie carries goes under
    /// the same visitor's ID, which handlers have seen, by the signing key.
    fn drop_unknown_key(&self, stored: &mut StoredCookie) {
        let is_carried = stored.carried.is_some();
        stored.record = stored.record.take().and_then(|mut record| {
            if !self.0.seal.has_key(&record.key_id) {
                record.key_id = self.0.seal.signing_key_id().filter(|_| is_carried)?.into();
            }
            Some(record)
        });
    }

    /// Starts the task that deletes expired records, if it isn't running and the layer is to delete them.
    pub(crate) fn start_deletion(&self) {
        if let Some(deletion) = &self.0.deletion {
            deletion.run_while(&self.0, &self.0.runtime);
        }
    }

    /// Returns what is left of a request's budget for the store.
    pub(crate) fn budget(&self, loading: Option<&Loading>) -> Arc<Budget> {
        match loading {
            Some(loading) => Arc::clone(&loading.budget),
            None => Arc::new(self.new_budget()),
        }
    }

    fn new_budget(&self) -> Budget {
        Budget::new(self.0.timeout, self.0.runtime.clone())
    }

    /// Loads what the browser's cookies stand for, once in a request, and lets what they carry join it.
    pub(crate) async fn load<'l>(
        &self,
        loading: &'l Loading,
        programs: &[Program],
        permissions: &Permissions,
        now: UnixMillis,
    ) -> &'l [Loaded] {
        let load = || async {
            let mut all = Vec::with_capacity(programs.len());
            for (index, program) in programs.iter().enumerate() {
                let stored = loading.cookies(index);
                let mut loaded = match permissions.of(index) {
                    Permission::Denied(_) => unread(stored),
                    permission => {
                        let may_move = permission == Permission::Granted;
                        self.load_program(stored, program, may_move, now, &loading.budget)
                            .await
                    }
                };
                let failure = loading.stored.get(index).and_then(|it| it.as_ref().err());
                loaded.failures.extend(failure);
                all.push(loaded);
            }
            all
        };
        loading.loaded.get_or_init(load).await
    }

    async fn load_program(
        &self,
        stored: &[StoredCookie],
        program: &Program,
        may_move: bool,
        now: UnixMillis,
        budget: &Budget,
    ) -> Loaded {
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for record in stored.iter().filter_map(|stored| stored.record.as_ref()) {
            match self.load_record(record, program, now, budget).await {
                Ok(Some(Ok(referral))) => found.push((record.clone(), referral)),
                Ok(Some(Err(reason))) => failures.push(reason),
                Ok(None) => {}
                Err(error) => {
                    error.log("load");
                    failures.push(Reason::StoreUnavailable);
                }
            }
        }
        let is_unknown = failures.contains(&Reason::StoreUnavailable);
        let usable = stored.iter().find_map(|stored| {
            let is_usable = is_unknown || stored.carried.is_some();
            stored.record.clone().filter(|_| is_usable)
        });
        let picked = program.attribution.pick(found, |(_, referral)| referral);
        let (current, on_server, kept) = match picked {
            Some((record, referral)) => {
                let on_server = OnServer::Referral(Arc::clone(&referral));
                (Some(record), on_server, Some(referral))
            }
            None if is_unknown => (usable, OnServer::Unknown, None),
            None => (usable, OnServer::Nothing, None),
        };
        let carried = stored.iter().filter_map(|stored| {
            let carried = Arc::new(stored.carried.clone()?);
            Some((if_counting(carried, program, now).ok()?, stored))
        });
        let mut loaded = Loaded {
            record: RecordSlot {
                current,
                on_server,
                ..RecordSlot::default()
            },
            kept,
            changed: false,
            failures,
        };
        for (referral, stored) in carried {
            loaded.join(program, referral, stored);
            loaded.changed = may_move && !is_unknown;
        }
        loaded
    }

    /// Writes what changed. What the store doesn't take, the cookie will carry.
    pub(crate) async fn save(
        &self,
        kept: Option<&Arc<Referral>>,
        mut record: RecordSlot,
        now: UnixMillis,
        budget: &Budget,
    ) -> Saved {
        let mut result = Ok(());
        for discarded in std::mem::take(&mut record.discarded) {
            result = result.and(self.delete(&discarded, budget).await);
        }
        result = result.and(self.save_current(kept, &mut record, now, budget).await);
        if let Err(error) = result {
            error.log("save");
        }
        Saved {
            record,
            failed: result.is_err(),
        }
    }

    async fn save_current(
        &self,
        kept: Option<&Arc<Referral>>,
        record: &mut RecordSlot,
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<(), StoreError> {
        let Some(kept) = kept else {
            let current = record.current.take();
            record.on_server = OnServer::Nothing;
            return match current {
                None => Ok(()),
                Some(current) => self.delete(&current, budget).await,
            };
        };
        match &record.on_server {
            OnServer::Unknown => Ok(()),
            OnServer::Referral(held) if held == kept => Ok(()),
            OnServer::Referral(_) => {
                if let Some(id) = record.current.as_ref().and_then(|it| self.record_id(it)) {
                    let (text, expiry) = as_text(kept, now);
                    budget.run(self.0.store.save(id, text, expiry)).await?;
                    record.on_server = OnServer::Referral(Arc::clone(kept));
                }
                Ok(())
            }
            OnServer::Nothing => {
                // The visitor's ID that the cookie knows already, but under the key that signs: a former
                // key may be dropped before the window of what is kept now ends.
                let known = record.current.take();
                let known = known.and_then(|it| self.named_by_signing_key(it.visitor.to_bytes()));
                let Some((id, current)) = known.or_else(|| self.draw(record)) else {
                    return Ok(());
                };
                record.current = Some(current);
                self.create(id, kept, now, budget).await?;
                record.on_server = OnServer::Referral(Arc::clone(kept));
                Ok(())
            }
        }
    }

    /// Creates a record under this ID.
    ///
    /// Stores give another ID where one is taken. Ours are random, so that one is taken only where
    /// another request of the same visitor has just moved the same referral in: then there is to be
    /// one record all the same, or erasing it would leave the other.
    async fn create(
        &self,
        id: i128,
        kept: &Referral,
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<(), StoreError> {
        let store = &self.0.store;
        let (text, expiry) = as_text(kept, now);
        let created = budget.run(store.create(id, text.clone(), expiry)).await?;
        if created == id {
            return Ok(());
        }
        budget.run(store.delete(created)).await?;
        budget.run(store.save(id, text, expiry)).await
    }

    async fn delete(&self, record: &RecordRef, budget: &Budget) -> Result<(), StoreError> {
        match self.record_id(record) {
            None => Ok(()),
            Some(id) => self.delete_id(id, budget).await,
        }
    }

    async fn delete_id(&self, id: i128, budget: &Budget) -> Result<(), StoreError> {
        let _underway = self.0.joins.delete(id);
        budget.run(self.0.store.delete(id)).await
    }

    /// `Some(Err(_))` says why the record that is there doesn't count.
    async fn load_record(
        &self,
        record: &RecordRef,
        program: &Program,
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<Option<Result<Arc<Referral>, Reason>>, StoreError> {
        let Some(id) = self.record_id(record) else {
            return Ok(None);
        };
        let text = budget.run(self.0.store.load(id)).await?;
        let programs = std::slice::from_ref(program);
        Ok(text.map(|text| of_text(&text, programs, now)))
    }

    /// Writes a click ID that comes later straight to the record, if its touch is the one that is kept
    /// then.
    pub(crate) fn join_later(
        &self,
        clicks: &ClickDispatcher,
        call: Arc<ClickCall>,
        record: RecordRef,
        touch: TouchId,
        program: Program,
        now: UnixMillis,
    ) {
        let records = self.clone();
        let running = Arc::clone(&call);
        clicks.spawn(
            &running,
            Box::pin(async move {
                let result = call.wait().await.clone();
                if matches!(result, ClickResult::None) {
                    return;
                }
                let Some(id) = records.record_id(&record) else {
                    return;
                };
                let underway = records.0.joins.join(id);
                for pause in LATE_PAUSES {
                    if !pause.is_zero() {
                        match records.0.runtime.sleep(pause) {
                            Some(sleep) => sleep.await,
                            None => return,
                        }
                    }
                    let joined = records.join(&record, touch, &result, &program, now, &underway);
                    match joined.await {
                        Ok(()) => return,
                        Err(error) => error.log("write a late click ID to"),
                    }
                }
            }),
        );
    }

    async fn join(
        &self,
        record: &RecordRef,
        touch: TouchId,
        result: &ClickResult,
        program: &Program,
        now: UnixMillis,
        underway: &Underway,
    ) -> Result<(), StoreError> {
        let budget = self.new_budget();
        let loaded = self.load_record(record, program, now, &budget).await?;
        let Some(Ok(referral)) = loaded else {
            return Ok(());
        };
        if underway.is_deleted() {
            return self.delete(record, &budget).await;
        }
        if referral.touch != Some(touch) || referral.click != ClickState::Started {
            return Ok(());
        }
        let (kept, _) = result.clone().apply(referral);
        let kept = kept.and_then(|kept| if_counting(kept, program, now).ok());
        match (kept, self.record_id(record)) {
            (Some(kept), Some(id)) => {
                let (text, expiry) = as_text(&kept, now);
                let saved = budget.run(self.0.store.save(id, text, expiry)).await;
                if underway.is_deleted() {
                    return self.delete(record, &budget).await;
                }
                saved
            }
            _ => self.delete(record, &budget).await,
        }
    }

    /// Returns what is kept under a visitor's ID, if it still counts.
    pub(crate) async fn look_up(
        &self,
        visitor: VisitorId,
        programs: &[Program],
        now: UnixMillis,
    ) -> Result<Option<Arc<Referral>>, StoreError> {
        let budget = self.new_budget();
        for id in self.all_ids(visitor) {
            if let Some(text) = budget.run(self.0.store.load(id)).await? {
                return Ok(of_text(&text, programs, now).ok());
            }
        }
        Ok(None)
    }

    /// Deletes a visitor's record for good.
    pub(crate) async fn erase(&self, visitor: VisitorId) -> Result<(), StoreError> {
        let budget = self.new_budget();
        for id in self.all_ids(visitor) {
            self.delete_id(id, &budget).await?;
        }
        Ok(())
    }

    /// Returns the record's ID; `None` if its key isn't on the keyring any more.
    fn record_id(&self, record: &RecordRef) -> Option<i128> {
        let visitor = record.visitor.to_bytes();
        let mut derived = self.0.seal.derive(&visitor);
        let (_, id) = derived.find(|(key_id, _)| *key_id == record.key_id.as_bytes())?;
        Some(i128::from_le_bytes(id))
    }

    /// Returns the IDs of all records that a visitor's referral may be in.
    fn all_ids(&self, visitor: VisitorId) -> Vec<i128> {
        let visitors = iter::once(visitor.to_bytes()).chain(self.followers(visitor));
        let of_visitor = |visitor: [u8; 16]| {
            let derived = self.0.seal.derive(&visitor);
            derived
                .map(|(_, id)| i128::from_le_bytes(id))
                .collect::<Vec<_>>()
        };
        visitors.flat_map(of_visitor).collect()
    }

    /// Names the record that a new referral goes to; `None` without randomness.
    pub(crate) fn draw_record(&self, slot: &RecordSlot) -> Option<RecordRef> {
        self.draw(slot).map(|(_, record)| record)
    }

    /// Names a new record, and returns its ID too.
    ///
    /// The name is random, unless the cookie carried the referral beside an earlier visitor's ID, which is
    /// all that handlers could see meanwhile. Then it follows from that ID: so [`look_up`](Self::look_up)
    /// and [`erase`](Self::erase) find the record by either, and requests that move the referral in at once
    /// agree on one record.
    fn draw(&self, slot: &RecordSlot) -> Option<(i128, RecordRef)> {
        let visitor = match slot.follows {
            Some(earlier) => *self.followers(earlier).first()?,
            None => self.0.runtime.draw::<16>()?,
        };
        self.named_by_signing_key(visitor)
    }

    /// Returns the IDs that can follow a visitor's, by each key; the signing key's first. Who knows an old
    /// ID but no key can't tell them.
    fn followers(&self, visitor: VisitorId) -> Vec<[u8; 16]> {
        let message = [&visitor.to_bytes()[..], b"follower"].concat();
        self.0.seal.derive(&message).map(|(_, id)| id).collect()
    }

    /// Returns a visitor's record and its ID, as the key names them that signs.
    fn named_by_signing_key(&self, visitor: [u8; 16]) -> Option<(i128, RecordRef)> {
        let (key_id, id) = self.0.seal.derive(&visitor).next()?;
        let record = RecordRef {
            key_id: std::str::from_utf8(key_id).ok()?.into(),
            visitor: VisitorId::from_bytes(visitor),
        };
        Some((i128::from_le_bytes(id), record))
    }
}

impl Loading {
    /// Returns `true` if the records must be loaded even if no handler asks.
    pub(crate) fn must_load(&self) -> bool {
        let mut stored = self.stored.iter().flatten().flatten();
        stored.any(StoredCookie::must_load)
    }

    fn cookies(&self, index: usize) -> &[StoredCookie] {
        match self.stored.get(index) {
            Some(Ok(stored)) => stored,
            Some(Err(_)) | None => &[],
        }
    }

    /// Returns what is known without asking the store.
    pub(crate) fn unread(&self) -> Vec<Loaded> {
        (0..self.stored.len())
            .map(|index| unread(self.cookies(index)))
            .collect()
    }
}

/// Returns what is known of a program without asking the store: which records there may be.
fn unread(stored: &[StoredCookie]) -> Loaded {
    let mut records = stored.iter().filter_map(|stored| stored.record.clone());
    Loaded {
        record: RecordSlot {
            current: records.next(),
            on_server: OnServer::Unknown,
            discarded: records.collect(),
            ..RecordSlot::default()
        },
        ..Loaded::default()
    }
}
