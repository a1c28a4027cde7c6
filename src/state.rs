//! What is known of one visitor in one request: for each program what is kept, what changed, and why.
//! Every touch and every command of a handler goes through here, so that one set of rules decides.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::attribution::{ClickDue, Touch, as_refused, refused_with};
use crate::click::late::ClickResult;
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::consent::{Permission, Permissions};
use crate::cookie::FoundCookies;
use crate::inbound::Inbound;
use crate::program::Program;
use crate::reason::{Decisions, Reason};
use crate::record::{Loaded, OnServer, RecordSlot};
use crate::referral::{ClickState, Rank, Referral, TouchId};
use crate::window::if_counting;

/// What is known of one visitor.
#[derive(Clone, Debug)]
pub(crate) struct RequestState {
    pub(crate) now: UnixMillis,
    /// By the program's index.
    pub(crate) slots: SmallVec<[Slot; 1]>,
    pub(crate) decisions: Decisions,
}

/// What is known of one visitor in one program. Referrals are shared: a request's state is copied for its
/// response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// What is kept, or will be once the response is out.
    pub(crate) kept: Option<Arc<Referral>>,
    /// What a handler is to see in its place, though it may not be kept.
    shown: Option<Arc<Referral>>,
    /// The browser doesn't hold what is kept.
    pub(crate) changed: bool,
    /// The length of the name and value of the program's cookie in the request, where other programs' have
    /// to leave room for it.
    pub(crate) cookie_len: usize,
    /// Where the referral is on the server.
    pub(crate) record: Option<Box<RecordSlot>>,
}

/// A touch that took a program's slot.
#[derive(Debug)]
pub(crate) struct Win {
    pub(crate) program: usize,
    pub(crate) click: ClickDue,
    pub(crate) replaced: Option<Arc<Referral>>,
}

impl RequestState {
    /// Nothing is known yet but the time.
    pub(crate) fn new(config: &Config, now: UnixMillis) -> Self {
        Self {
            now,
            slots: SmallVec::from_elem(Slot::default(), config.programs.len()),
            decisions: Decisions::default(),
        }
    }

    /// Verifies what the browser sent.
    pub(crate) fn open(config: &Config, cookies: &FoundCookies, now: UnixMillis) -> Self {
        let mut state = Self::new(config, now);
        if cookies.is_empty() {
            return state;
        }
        state.measure(config, cookies);
        for (index, program) in config.programs.iter().enumerate() {
            match config.cookies.open(cookies, index, program, now) {
                Ok(kept) => state.slots[index].kept = kept,
                Err(reason) => state.note(config, index, reason),
            }
        }
        state
    }

    /// Notes how long the programs' cookies are, where several have to share their room.
    fn measure(&mut self, config: &Config, cookies: &FoundCookies) {
        if config.programs.len() > 1 {
            let lengths = config.cookies.lengths(cookies);
            let slots = self.slots.iter_mut().zip(lengths);
            slots.for_each(|(slot, len)| slot.cookie_len = len);
        }
    }

    /// Takes in what was loaded from the server.
    pub(crate) fn load(
        config: &Config,
        cookies: &FoundCookies,
        loaded: Vec<Loaded>,
        now: UnixMillis,
    ) -> Self {
        let mut state = Self::new(config, now);
        state.measure(config, cookies);
        for (index, loaded) in loaded.into_iter().enumerate() {
            for reason in loaded.failures {
                state.note(config, index, reason);
            }
            let slot = &mut state.slots[index];
            slot.kept = loaded.kept;
            slot.changed = loaded.changed;
            slot.record = Some(Box::new(loaded.record));
        }
        state
    }

    /// Returns what a handler gets to see of a program.
    pub(crate) fn shown(&self, index: usize) -> Option<&Arc<Referral>> {
        let slot = &self.slots[index];
        slot.shown.as_ref().or(slot.kept.as_ref())
    }

    /// Returns what handlers get to see, in the configured order of the programs.
    pub(crate) fn all_shown(&self) -> impl Iterator<Item = &Arc<Referral>> {
        (0..self.slots.len()).filter_map(|index| self.shown(index))
    }

    pub(crate) fn all_kept(&self) -> impl Iterator<Item = &Referral> {
        self.slots.iter().filter_map(|slot| slot.kept.as_deref())
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.slots.iter().any(|slot| slot.changed)
    }

    pub(crate) fn has_due_clicks(&self) -> bool {
        self.slots.iter().any(|slot| slot.due_click().is_some())
    }

    /// Notes a reason for a program.
    pub(crate) fn note(&mut self, config: &Config, index: usize, reason: Reason) {
        self.decisions.push(&config.programs[index].name, reason);
    }

    /// Decides over everything that a request says. Returns the touches that won.
    pub(crate) fn decide(
        &mut self,
        config: &Config,
        permissions: &Permissions,
        inbound: &Inbound,
    ) -> SmallVec<[Win; 1]> {
        let mut wins = SmallVec::new();
        for (index, landing) in &inbound.landings {
            match landing {
                Err(reason) => self.note(config, *index, *reason),
                Ok(touch) => {
                    let permission = permissions.of(*index);
                    wins.extend(self.touch(config, touch.clone(), permission));
                }
            }
        }
        for (index, fetched) in &inbound.own_fetches {
            self.remember_refused(*index, fetched, permissions.of(*index));
        }
        for script in &inbound.scripts {
            let index = script.program;
            if !inbound.is_page_visit {
                self.show(index, &script.referral);
            } else if self.yields_to_script(index, &script.referral)
                && let Some(win) = self.touch(config, script.clone(), permissions.of(index))
            {
                // The link of the own site that this request followed, if any, has given way.
                wins.retain(|earlier: &mut Win| earlier.program != win.program);
            }
        }
        wins
    }

    /// Applies one touch: the one place where a referral is captured.
    #[inline]
    pub(crate) fn touch(
        &mut self,
        config: &Config,
        mut touch: Touch,
        permission: Permission,
    ) -> Option<Win> {
        let index = touch.program;
        if let Permission::Denied(refusal) = permission {
            self.note(config, index, refusal.reason());
            return None;
        }
        let kept = self.slots[index].kept.as_deref();
        if let Some(kept) = kept
            && let refused = refused_with(kept, &touch.referral)
            && refused != touch.referral.refused
        {
            Arc::make_mut(&mut touch.referral).refused = refused;
        }
        let decision = config.programs[index].attribution.decide(kept, &touch);
        let reason = match decision {
            Err(reason) => {
                match reason {
                    Reason::KeptOwnLink => {
                        self.remember_refused(index, &touch.referral, permission);
                    }
                    Reason::SameKey if touch.proves_same_key() => {
                        self.slots[index].hold_against_server(permission);
                    }
                    _ => {}
                }
                reason
            }
            Ok(_) if permission == Permission::NotYet => {
                self.slots[index].shown = Some(until_consent(touch));
                Reason::NoConsent
            }
            Ok(_) if !self.has_room(config, index, &touch.referral) => Reason::NoRoom,
            Ok(reason) => {
                let win = self.slots[index].replace(touch);
                self.note(config, index, reason);
                return Some(win);
            }
        };
        self.note(config, index, reason);
        None
    }

    /// Remembers that a key came by a link of the own site: if the page leads to itself, it is one again. Not
    /// of the key that a touch from outside has brought.
    fn remember_refused(&mut self, index: usize, link: &Referral, permission: Permission) {
        let slot = &mut self.slots[index];
        if let Some(kept) = &mut slot.kept
            && (kept.rank < Rank::Outside || !kept.credits_same(link))
            && let refused = kept.refused.unwrap_or_default().and(as_refused(link))
            && kept.refused != Some(refused)
            && permission == Permission::Granted
        {
            Arc::make_mut(kept).refused = Some(refused);
            slot.changed = true;
        }
    }

    /// Returns `true` if the cookies of all programs together have room for this referral.
    fn has_room(&self, config: &Config, index: usize, referral: &Referral) -> bool {
        let others = (0..self.slots.len()).filter(|other| *other != index);
        let others = others.map(|other| self.cookie_len(config, other));
        config.cookies.fits(index, referral, others.sum())
    }

    /// Returns the length of a program's cookie after this response, at least: it isn't known yet how long
    /// one will be that is written now.
    pub(crate) fn cookie_len(&self, config: &Config, index: usize) -> usize {
        let slot = &self.slots[index];
        match (&slot.kept, slot.changed) {
            (Some(kept), true) => config.cookies.least_len(index, kept),
            (None, true) => 0,
            (_, false) => slot.cookie_len,
        }
    }

    /// Returns `true` if another script's key may take the place of what is kept. Asked beforehand,
    /// because such a key comes with every request and is worth a note only if it changes something.
    fn yields_to_script(&self, index: usize, script: &Referral) -> bool {
        self.shown(index)
            .is_none_or(|shown| shown.rank <= Rank::Script && shown.key != script.key)
    }

    /// Shows another script's key to the handler where nothing of its rank is known, without keeping it.
    fn show(&mut self, index: usize, script: &Arc<Referral>) {
        let is_better = self
            .shown(index)
            .is_none_or(|shown| shown.rank < Rank::Script && shown.key != script.key);
        if is_better {
            self.slots[index].shown = Some(Arc::clone(script));
        }
    }

    /// Applies the result of a click, if the touch is still the one that is kept.
    pub(crate) fn apply_click(
        &mut self,
        config: &Config,
        index: usize,
        touch: TouchId,
        result: ClickResult,
    ) {
        let slot = &mut self.slots[index];
        let waits = |kept: &mut Arc<Referral>| {
            kept.touch == Some(touch) && kept.click != ClickState::Settled
        };
        let Some(referral) = slot.kept.take_if(waits) else {
            return;
        };
        let undone = matches!(result, ClickResult::Undo(_));
        let (kept, reason) = result.apply(referral);
        if undone {
            slot.put_back(&config.programs[index], kept, self.now);
        } else {
            slot.kept = kept;
            slot.changed = true;
        }
        if let Some(reason) = reason {
            self.note(config, index, reason);
        }
    }

    /// Forgets whatever is kept for the program, even if the browser held it back this time.
    pub(crate) fn forget(&mut self, config: &Config, index: usize, reason: Reason) {
        let slot = std::mem::take(&mut self.slots[index]);
        self.slots[index] = Slot {
            changed: true,
            record: slot.record.map(|record| Box::new(record.emptied())),
            ..Slot::default()
        };
        self.note(config, index, reason);
    }

    /// Forgets whatever is kept for all programs.
    pub(crate) fn forget_all(&mut self, config: &Config, reason: Reason) {
        for index in 0..self.slots.len() {
            self.forget(config, index, reason);
        }
    }

    /// Forgets what is kept for the program, if anything is.
    pub(crate) fn forget_kept(&mut self, config: &Config, index: usize, reason: Reason) {
        if self.slots[index].kept.is_some() {
            self.forget(config, index, reason);
        }
    }
}

/// Returns what a handler sees of a touch that isn't kept for want of consent. It says that its click is to be
/// created, and so does a carry token of it.
fn until_consent(touch: Touch) -> Arc<Referral> {
    let mut referral = touch.referral;
    // A click without a name couldn't be told from another.
    if touch.click != ClickDue::Never && referral.can_click() && referral.touch.is_some() {
        Arc::make_mut(&mut referral).click = ClickState::Due;
    }
    referral
}

impl Slot {
    /// Returns the touch that is kept, if its click is due.
    pub(crate) fn due_click(&self) -> Option<TouchId> {
        let kept = self.kept.as_ref()?;
        kept.touch.filter(|_| kept.click == ClickState::Due)
    }

    /// Keeps a touch in the place of what is kept. With the new referral the server gets a new record, so
    /// that an old cookie shows nothing of it.
    fn replace(&mut self, touch: Touch) -> Win {
        self.shown = None;
        self.changed = true;
        if let Some(record) = &mut self.record {
            record.fills_only = touch.fills_only.is_some();
            // What the server has is decided against once it can be asked.
            if record.on_server != OnServer::Unknown {
                record.discarded.extend(record.current.take());
                record.follows = None;
                record.on_server = OnServer::Nothing;
            }
        }
        let replaced = self.kept.replace(touch.referral);
        Win {
            program: touch.program,
            click: touch.click,
            replaced,
        }
    }

    /// Lets what the cookie carries while the server can't be asked replace what the server has, as a touch
    /// of the same key would that came first.
    fn hold_against_server(&mut self, permission: Permission) {
        if let Some(record) = &mut self.record
            && record.fills_only
            && record.on_server == OnServer::Unknown
            && permission == Permission::Granted
        {
            record.fills_only = false;
            self.changed = true;
        }
    }

    /// Keeps what a capture that is taken back had replaced: in an earlier request, or on the server when the
    /// cookie that had carried it met what the server has.
    fn put_back(&mut self, program: &Program, replaced: Option<Arc<Referral>>, now: UnixMillis) {
        // It may have expired meanwhile.
        let replaced = replaced.and_then(|replaced| if_counting(replaced, program, now).ok());
        let mut record = self.record.as_mut();
        let displaced = record.as_mut().and_then(|record| record.displaced.take());
        let earlier = displaced.into_iter().chain(replaced).collect();
        self.kept = program.attribution.pick(earlier, |it| it);
        // What the server has can't be told: it stays, and so does the cookie that names it. What that
        // carries is taken back again once the server can be asked.
        let is_unknown = record.is_some_and(|record| record.on_server == OnServer::Unknown);
        self.changed = self.kept.is_some() || !is_unknown;
    }
}
