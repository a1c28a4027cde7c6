//! A record on the server, under a random visitor ID that our own cookie holds. While the store
//! can't take it, the cookie carries the referral itself, and hands it over when it can.

use std::{fmt, slice, sync::Arc, time::Duration};

use base64_simd::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use super::cookie::SignedCookie;
use super::store::{Budget, Store, StoreFault};
use super::{check_age, seconds_left};
use crate::attribution::{Ruling, Touch};
use crate::click::Answer;
use crate::config::Config;
use crate::consent::Permission;
use crate::ledger::Ledger;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Click, KeyRule, Referral, TouchId, UnixMillis};
use crate::seal::{self, Pass};
use crate::visitor::VisitorId;

/// How long one request may wait for the store, unless the user says otherwise.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub(crate) const DEFAULT_TIME_LIMIT: Duration = Duration::from_millis(250);
/// No referral makes a longer message, in bytes.
const MAX_MESSAGE_LEN: usize = 8 * 1024;
/// When a late click ID is tried again that the store didn't take.
const LATE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Keeps referrals on the server: the browser holds nothing but a sealed random ID.
///
/// Each referral is a record of its own in any [`SessionStore`] of tower-sessions, beside the
/// sessions of the application if you like. The record dies with the referral's window. The
/// cookie is as [`SignedCookie`] describes it.
///
/// # When the store fails
///
/// A request waits for the store for 250 ms at most, over all its calls
/// ([`time_limit`](Self::time_limit)), and goes out unchanged otherwise. While the store is down,
/// hanging, full or read-only, a new referral is sealed into the cookie, as [`SignedCookie`] would
/// keep it; the visitor's next request after that moves it to the server, where the attribution
/// rule decides between it and what is there. What only the store had can't be read until it is
/// back: such a request has [`Reason::StoreUnavailable`] among its decisions, and its
/// [`VisitorId`] all the same. A referral that is forgotten meanwhile is gone from the browser; its
/// record, which nobody has the ID of any more, dies with the window. What the store itself loses is
/// lost.
///
/// # What is touched when
///
/// A request without our cookie reads nothing from the store. One with it reads once, if a
/// handler's extractor asks or a landing must know; a change is one write.
///
/// # Overlapping requests
///
/// Once the browser has processed a response that set the cookie, no later landing displaces a
/// first touch. Of two landings of a new visitor that truly overlap, exactly one survives: the one
/// whose response the browser processes last.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_15")] {
/// use tower_referral::{Keyring, ReferralLayer, ServerSide, SigningKey};
/// use tower_sessions::MemoryStore; // or a SQLite, PostgreSQL, Redis, moka store, or your own
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let store = MemoryStore::default();
/// let referrals = ReferralLayer::builder(ServerSide::new(store, keyring)).build()?;
/// # Ok(())
/// # }
/// # }
/// ```
///
/// [`SessionStore`]: https://docs.rs/tower-sessions/latest/tower_sessions/trait.SessionStore.html
#[derive(Clone)]
#[must_use = "a store does nothing until it is given to `ReferralLayer::builder`"]
#[cfg_attr(not(feature = "_store"), allow(dead_code, unreachable_pub))]
pub struct ServerSide {
    pub(super) cookie: SignedCookie,
    store: Arc<dyn Store>,
    time_limit: Duration,
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl ServerSide {
    /// Keeps records in `store`, and the visitor's ID in a cookie: give a
    /// [`Keyring`](crate::Keyring) for the cookie as it comes, or a [`SignedCookie`] for one with a
    /// domain or another name.
    ///
    /// `Version` is inferred; see [`AnySessionStore`](super::store::AnySessionStore).
    pub fn new<Version>(
        store: impl super::store::AnySessionStore<Version>,
        cookie: impl Into<SignedCookie>,
    ) -> Self {
        Self {
            cookie: cookie.into(),
            store: store.into_store().0,
            time_limit: DEFAULT_TIME_LIMIT,
        }
    }

    /// How long one request may wait for the store, over all its calls; 250 ms without this.
    ///
    /// It needs a Tokio runtime with its timer. Without one, the store is as if down.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }
}

impl fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSide")
            .field("cookie", &self.cookie)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

impl ServerSide {
    pub(super) fn prepare(&self) -> Records {
        Records {
            store: Arc::clone(&self.store),
            time_limit: self.time_limit,
        }
    }
}

/// The records of all visitors.
pub(crate) struct Records {
    store: Arc<dyn Store>,
    time_limit: Duration,
}

/// What is known of one program's record in the course of a request.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// What the browser sent, until it is looked up.
    pub(crate) passes: Vec<Pass>,
    /// Under which the referral is, or will be, on the server.
    pub(crate) visitor: Option<VisitorId>,
    pub(crate) record: Record,
    /// What is kept in the cookie meanwhile replaces nothing that the server has.
    pub(crate) fills_only: bool,
    /// Of no use any more.
    pub(crate) discarded: Vec<VisitorId>,
}

/// What is on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Nothing,
    Referral(Box<Referral>),
    /// The store couldn't be asked.
    Unknown,
}

impl Shelf {
    pub(crate) fn new(passes: Vec<Pass>) -> Self {
        Self {
            passes,
            visitor: None,
            record: Record::Nothing,
            fills_only: false,
            discarded: Vec::new(),
        }
    }

    /// Must it be looked up even if no handler asks?
    pub(crate) fn is_due(&self) -> bool {
        let mut passes = self.passes.iter();
        passes.any(|pass| pass.click_is_due || pass.carried.is_some())
    }

    /// Does the server have exactly this referral?
    pub(crate) fn holds(&self, referral: &Referral) -> bool {
        matches!(&self.record, Record::Referral(record) if **record == *referral)
    }

    /// An empty one, which knows what is to be discarded.
    pub(crate) fn discard(self) -> Self {
        let passes = self.passes.iter().filter_map(|pass| pass.visitor);
        let visitors = passes.chain(self.visitor);
        Self {
            discarded: self.discarded.iter().copied().chain(visitors).collect(),
            ..Self::new(Vec::new())
        }
    }
}

impl Records {
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.time_limit)
    }

    /// Looks up what the browser's passes stand for, and lets what they carry join it.
    pub(crate) async fn read(
        &self,
        ledger: &mut Ledger,
        config: &Config,
        permission: Permission,
        budget: &Budget,
    ) {
        for (index, program) in config.programs.iter().enumerate() {
            let Some(shelf) = ledger.shelf_mut(index) else {
                continue;
            };
            let passes = std::mem::take(&mut shelf.passes);
            if passes.is_empty() {
                continue;
            }
            let now = ledger.now();
            let mut found = Vec::new();
            let mut is_unknown = false;
            for visitor in passes.iter().filter_map(|pass| pass.visitor) {
                match self
                    .load(visitor, slice::from_ref(program), now, budget)
                    .await
                {
                    Ok(Some(Ok(referral))) => found.push((visitor, referral)),
                    Ok(Some(Err(reason))) => ledger.note(config, index, reason),
                    Ok(None) => {}
                    Err(fault) => {
                        is_unknown = true;
                        fault.tell("read");
                        ledger.note(config, index, Reason::StoreUnavailable);
                    }
                }
            }
            let first = passes.iter().find_map(|pass| {
                let is_usable = is_unknown || pass.carried.is_some();
                pass.visitor.filter(|_| is_usable)
            });
            let picked = program.attribution.pick(found, |(_, referral)| referral);
            let (visitor, record, kept) = match picked {
                Some((visitor, referral)) => (
                    Some(visitor),
                    Record::Referral(Box::new(referral.clone())),
                    Some(referral),
                ),
                None if is_unknown => (first, Record::Unknown, None),
                None => (first, Record::Nothing, None),
            };
            let Some(shelf) = ledger.shelf_mut(index) else {
                continue;
            };
            shelf.visitor = visitor;
            shelf.record = record;
            let carried = passes.into_iter().filter_map(|pass| {
                let referral = check_age(pass.carried?, program, now).ok()?;
                Some((referral, pass.fills_only))
            });
            let (kept, fills_only, joined) = join(program, kept, carried);
            shelf.fills_only = fills_only;
            if joined {
                shelf.visitor = shelf.visitor.or_else(VisitorId::draw);
            }
            let moves_in = joined && !is_unknown && permission == Permission::Granted;
            ledger.set_kept(index, kept, moves_in);
        }
    }

    /// Writes what changed. What the store doesn't take, the cookie will carry.
    pub(crate) async fn write(&self, ledger: &mut Ledger, config: &Config, budget: &Budget) {
        let now = ledger.now();
        for index in 0..config.programs.len() {
            let Some((kept, shelf)) = ledger.changed_shelf_mut(index) else {
                continue;
            };
            let result = self.write_one(kept, shelf, now, budget).await;
            if let Err(fault) = result {
                fault.tell("write");
                ledger.note(config, index, Reason::StoreUnavailable);
            }
        }
    }

    async fn write_one(
        &self,
        kept: Option<&Referral>,
        shelf: &mut Shelf,
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<(), StoreFault> {
        let mut result = Ok(());
        for visitor in std::mem::take(&mut shelf.discarded) {
            result = result.and(budget.run(self.store.delete(visitor.record())).await);
        }
        match (kept, &shelf.record, shelf.visitor) {
            (None, Record::Nothing, _) | (None, _, None) => {}
            (None, _, Some(visitor)) => {
                result = result.and(budget.run(self.store.delete(visitor.record())).await);
                shelf.visitor = None;
                shelf.record = Record::Nothing;
            }
            (Some(kept), ..) if shelf.holds(kept) => {}
            // Whoever waits for that record's click may be about to write it back as it was. Another
            // record is out of the way.
            (Some(kept), Record::Referral(record), Some(visitor))
                if matches!(record.click, Click::Started(_)) && !is_same_touch(record, kept) =>
            {
                let Some(new) = VisitorId::draw() else {
                    return result;
                };
                shelf.visitor = Some(self.create(new, kept, now, budget).await?);
                shelf.record = Record::Referral(Box::new(kept.clone()));
                result = result.and(budget.run(self.store.delete(visitor.record())).await);
            }
            (Some(kept), Record::Referral(_), Some(visitor)) => {
                let (text, expiry) = as_record(kept, now);
                let saved = self.store.save(visitor.record(), text, expiry);
                budget.run(saved).await?;
                shelf.record = Record::Referral(Box::new(kept.clone()));
            }
            // A store that couldn't be read isn't written to either. And without randomness there is
            // no visitor's ID. The cookie keeps the referral.
            (Some(_), Record::Unknown, _) | (Some(_), _, None) => {}
            (Some(kept), Record::Nothing, Some(visitor)) => {
                shelf.visitor = Some(self.create(visitor, kept, now, budget).await?);
                shelf.record = Record::Referral(Box::new(kept.clone()));
            }
        }
        result
    }

    /// Makes a record, and says under which ID.
    ///
    /// Stores give another ID where one is taken. Ours are random, so that one is taken only where
    /// another request of the same visitor has just moved the same referral in: then there is to be
    /// one record all the same, or erasing it would leave the other.
    async fn create(
        &self,
        visitor: VisitorId,
        kept: &Referral,
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<VisitorId, StoreFault> {
        let (text, expiry) = as_record(kept, now);
        let created = self.store.create(visitor.record(), text.clone(), expiry);
        let id = budget.run(created).await?;
        if id == visitor.record()
            || budget
                .run(self.store.load(visitor.record()))
                .await?
                .is_none()
        {
            return Ok(VisitorId::from_record(id));
        }
        budget.run(self.store.delete(id)).await?;
        let saved = self.store.save(visitor.record(), text, expiry);
        budget.run(saved).await?;
        Ok(visitor)
    }

    /// Writes a late click ID straight to the record, if the touch is still the one that is kept.
    /// Says whether it is settled, one way or the other.
    pub(crate) async fn answer(
        &self,
        config: &Config,
        index: usize,
        visitor: VisitorId,
        touch: TouchId,
        answer: &Answer,
    ) -> bool {
        for pause in LATE_PAUSES {
            tokio::time::sleep(pause).await;
            match self.try_answer(config, index, visitor, touch, answer).await {
                Ok(()) => return true,
                Err(fault) => fault.tell("write a late click ID to"),
            }
        }
        false
    }

    async fn try_answer(
        &self,
        config: &Config,
        index: usize,
        visitor: VisitorId,
        touch: TouchId,
        answer: &Answer,
    ) -> Result<(), StoreFault> {
        let budget = self.budget();
        let (program, now) = (&config.programs[index], config.now());
        let programs = slice::from_ref(program);
        let Some(Ok(referral)) = self.load(visitor, programs, now, &budget).await? else {
            return Ok(());
        };
        if referral.click != Click::Started(touch) {
            return Ok(());
        }
        match answer.clone().apply(referral, program, now) {
            Some(referral) => {
                let (text, expiry) = as_record(&referral, now);
                let saved = self.store.save(visitor.record(), text, expiry);
                budget.run(saved).await
            }
            None => budget.run(self.store.delete(visitor.record())).await,
        }
    }

    /// `Some(Err(_))` says why the record that is there doesn't count.
    async fn load(
        &self,
        visitor: VisitorId,
        programs: &[Program],
        now: UnixMillis,
        budget: &Budget,
    ) -> Result<Option<Result<Referral, Reason>>, StoreFault> {
        let text = budget.run(self.store.load(visitor.record())).await?;
        Ok(text.map(|text| from_record(&text, programs, now)))
    }

    /// What is kept under a visitor's ID, if it counts still.
    #[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
    pub(crate) async fn look_up(
        &self,
        config: &Config,
        visitor: VisitorId,
    ) -> Result<Option<Referral>, StoreFault> {
        let (now, budget) = (config.now(), self.budget());
        let loaded = self.load(visitor, &config.programs, now, &budget).await?;
        Ok(loaded.and_then(Result::ok))
    }

    /// Deletes a visitor's record, for good.
    #[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
    pub(crate) async fn erase(&self, visitor: VisitorId) -> Result<(), StoreFault> {
        self.budget().run(self.store.delete(visitor.record())).await
    }
}

/// Is one of them a later version of the other?
fn is_same_touch(one: &Referral, other: &Referral) -> bool {
    one.key == other.key && one.captured_at == other.captured_at
}

/// Lets what the browser carried join what is kept on the server. Says which of them is kept,
/// whether it replaces nothing, and whether anything was carried.
fn join(
    program: &Program,
    mut kept: Option<Referral>,
    carried: impl Iterator<Item = (Referral, bool)>,
) -> (Option<Referral>, bool, bool) {
    let mut fills_only = false;
    let mut joined = false;
    for (referral, only_fills) in carried {
        joined = true;
        let is_later_version = kept
            .as_ref()
            .is_some_and(|kept| is_same_touch(kept, &referral));
        let touch = Touch {
            fills_only: only_fills.then_some(Reason::KeptSameOrigin),
            carried: true,
            ..Touch::new(referral)
        };
        let ruling = program.attribution.decide(kept.as_ref(), &touch);
        if is_later_version || matches!(ruling, Ruling::Replace(_)) {
            fills_only = only_fills;
            kept = Some(touch.referral);
        }
    }
    (kept, fills_only, joined)
}

/// A record's text is the referral's message in base64url, and the record lives as long as the
/// referral. The store goes by the real time, whatever clock is injected.
fn as_record(referral: &Referral, now: UnixMillis) -> (String, OffsetDateTime) {
    let mut message = Vec::new();
    seal::encode(referral, &referral.program, MAX_MESSAGE_LEN, &mut message);
    let left = time::Duration::seconds(seconds_left(referral, now).into());
    (
        URL_SAFE_NO_PAD.encode_to_string(message),
        OffsetDateTime::now_utc() + left,
    )
}

fn from_record(text: &str, programs: &[Program], now: UnixMillis) -> Result<Referral, Reason> {
    let decode = || {
        let message = URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let referral = seal::decode(&message, &KeyRule::printable_unicode(), true)?;
        let mut programs = programs.iter();
        let program = programs.find(|program| program.name == referral.program)?;
        let is_key = program.key_rule.is_kept(referral.key.as_str());
        is_key.then_some((referral, program))
    };
    let (referral, program) = decode().ok_or(Reason::Malformed)?;
    check_age(referral, program, now)
}
