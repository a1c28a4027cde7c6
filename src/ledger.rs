//! What is known about one visitor in the course of one request: for each program what is kept,
//! what changed, and why. Every touch and every word of a handler goes through here, on the way in
//! and on the way out, so that one set of rules decides over all of them.

use std::ops::{Index, IndexMut};

use http::header::{HeaderMap, SET_COOKIE};
use smol_str::SmolStr;

use crate::attribution::{Ruling, Touch};
use crate::click::{Answer, Clicker, Facts, Pending};
use crate::config::Config;
use crate::consent::Permission;
use crate::keep::cookie::{Held, HeldPass, Jar};
use crate::keep::server::Shelf;
use crate::reason::{Decisions, Reason};
use crate::referral::{Click, Referral, Source, TouchId, UnixMillis};
use crate::visitor::VisitorId;

/// Made by `default` and then filled where it lies, because it is large and every landing makes one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    now: UnixMillis,
    accounts: Accounts,
    decisions: Decisions,
}

/// By the program's index. There is always one, and nearly always no other.
#[derive(Clone, Debug, Default)]
struct Accounts {
    first: Account,
    more: Vec<Account>,
}

/// A touch that took a program's place.
#[derive(Debug)]
pub(crate) struct Win {
    index: usize,
    /// Boxed, because nearly every touch replaces nothing.
    replaced: Option<Box<Referral>>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    /// What is kept, or will be once the response is out.
    kept: Option<Referral>,
    /// What a handler is to see instead, though it may not be kept.
    shown: Option<Box<Referral>>,
    /// The browser doesn't hold what is kept.
    changed: bool,
    /// Where the referral is on the server, if it is kept there.
    shelf: Option<Box<Shelf>>,
}

impl Accounts {
    #[inline]
    fn len(&self) -> usize {
        1 + self.more.len()
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&Account> {
        match index.checked_sub(1) {
            None => Some(&self.first),
            Some(index) => self.more.get(index),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Account> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }
}

impl Index<usize> for Accounts {
    type Output = Account;

    #[inline]
    fn index(&self, index: usize) -> &Account {
        match index.checked_sub(1) {
            None => &self.first,
            Some(index) => &self.more[index],
        }
    }
}

impl IndexMut<usize> for Accounts {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut Account {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.more[index],
        }
    }
}

impl Ledger {
    /// Nothing is known yet, but the time.
    pub(crate) fn new(config: &Config) -> Self {
        let mut ledger = Self::default();
        ledger.begin(config);
        ledger
    }

    /// Makes a new one of what is the default yet.
    #[inline]
    pub(crate) fn begin(&mut self, config: &Config) {
        self.now = config.now();
        let more = config.programs.len() - 1;
        // Nearly all layers have one program.
        if more > 0 {
            self.accounts.more.resize_with(more, Account::default);
        }
    }

    /// Verifies what the browser sent.
    pub(crate) fn open(&mut self, config: &Config, jar: &Jar) {
        self.reopen(config, jar);
        self.decisions.tell();
    }

    /// The same without telling, on the way back: a handler that asked has been told already.
    pub(crate) fn reopen(&mut self, config: &Config, jar: &Jar) {
        if jar.is_empty() && config.records.is_none() {
            return;
        }
        let found = &config.cookies.all(jar);
        for (index, program) in config.programs.iter().enumerate() {
            let account = &mut self.accounts[index];
            let fault = if config.records.is_none() {
                let kept = config.cookies.open(found, index, program, self.now);
                kept.map(|kept| account.kept = kept).err()
            } else {
                let passes = config.cookies.open_passes(found, index, program);
                let fault = passes.as_ref().err().copied();
                account.shelf = Some(Box::new(Shelf::new(passes.unwrap_or_default())));
                fault
            };
            if let Some(fault) = fault {
                self.decisions.push_untold(&program.name, fault);
            }
        }
    }

    /// What comes of the only cookie, if that doesn't count.
    pub(crate) fn at_fault(config: &Config, index: usize, fault: Reason) -> Self {
        let mut ledger = Self::new(config);
        ledger.note(config, index, fault);
        ledger
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.now
    }

    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// What a handler gets to see of a program.
    pub(crate) fn shown(&self, index: usize) -> Option<&Referral> {
        let account = self.accounts.get(index)?;
        account.shown.as_deref().or(account.kept.as_ref())
    }

    /// What handlers get to see, in the configured order of the programs.
    pub(crate) fn all_shown(&self) -> impl Iterator<Item = &Referral> {
        (0..self.accounts.len()).filter_map(|index| self.shown(index))
    }

    pub(crate) fn is_kept(&self, index: usize) -> bool {
        self.accounts[index].kept.is_some()
    }

    /// Notes why nothing came of a program's parameter or a handler's word.
    pub(crate) fn note(&mut self, config: &Config, index: usize, reason: Reason) {
        self.decisions.push(&config.programs[index].name, reason);
    }

    /// Notes that a handler named a program that isn't configured.
    pub(crate) fn note_unknown(&mut self, program: &SmolStr) {
        self.decisions.push(program, Reason::UnknownProgram);
    }

    pub(crate) fn keeps_anything(&self) -> bool {
        self.accounts.iter().any(|account| account.kept.is_some())
    }

    /// A touch of the program: the one place where a referral is captured. Says whether it is kept.
    #[inline(always)] // as `Arrival::landing_touch`
    pub(crate) fn touch(
        &mut self,
        config: &Config,
        index: usize,
        touch: Touch,
        permission: Permission,
    ) -> Option<Win> {
        let program = &config.programs[index];
        let account = &mut self.accounts[index];
        let mut win = None;
        let reason = match permission {
            Permission::Denied(refusal) => refusal.reason(),
            Permission::Granted | Permission::NotYet => {
                match program.attribution.decide(account.kept.as_ref(), &touch) {
                    Ruling::Keep(reason) => reason,
                    Ruling::Replace(_) if permission == Permission::NotYet => {
                        account.shown = Some(Box::new(touch.referral));
                        Reason::NoConsent
                    }
                    Ruling::Replace(reason) => {
                        account.shown = None;
                        account.changed = true;
                        if let Some(shelf) = &mut account.shelf {
                            shelf.fills_only = touch.fills_only.is_some();
                            shelf.visitor = shelf.visitor.or_else(VisitorId::draw);
                        }
                        let replaced = match &mut account.kept {
                            Some(kept) => Some(Box::new(std::mem::replace(kept, touch.referral))),
                            empty => {
                                *empty = Some(touch.referral);
                                None
                            }
                        };
                        win = Some(Win { index, replaced });
                        reason
                    }
                }
            }
        };
        self.decisions.push(&program.name, reason);
        win
    }

    /// Starts the click of a touch that won.
    pub(crate) fn start_click(
        &mut self,
        clicker: &Clicker,
        facts: Facts,
        win: Win,
    ) -> Option<(usize, Pending)> {
        let referral = self.accounts[win.index].kept.as_mut()?;
        let touch = clicker.name_touch()?;
        let pending = clicker.start(referral, touch, facts, win.replaced)?;
        referral.click = Click::Started(touch);
        Some((win.index, pending))
    }

    /// Leaves the click of a touch that won to the visitor's first real page view.
    pub(crate) fn defer_click(&mut self, clicker: &Clicker, win: &Win) {
        if let Some(referral) = &mut self.accounts[win.index].kept
            && let Some(touch) = clicker.name_touch()
        {
            referral.click = Click::Due(touch);
        }
    }

    pub(crate) fn has_due_clicks(&self) -> bool {
        let mut kept = self
            .accounts
            .iter()
            .filter_map(|account| account.kept.as_ref());
        kept.any(|referral| matches!(referral.click, Click::Due(_)))
    }

    /// Starts the clicks that waited for a real page view. Of several views at once, in as many
    /// tabs, the first one claims the click, and the others wait for its answer.
    pub(crate) fn start_due_clicks(
        &mut self,
        clicker: &Clicker,
        facts: &Facts,
    ) -> Vec<(usize, Pending)> {
        let mut started = Vec::new();
        for (index, account) in self.accounts.iter_mut().enumerate() {
            if let Some(referral) = &mut account.kept
                && let Click::Due(touch) = referral.click
            {
                referral.click = Click::Started(touch);
                account.changed = true;
                if clicker.claim(touch) {
                    match clicker.start(referral, touch, facts.clone(), None) {
                        Some(pending) => started.push((index, pending)),
                        None => referral.click = Click::None,
                    }
                }
            }
        }
        started
    }

    /// Takes in what has come since for the clicks that were started earlier.
    pub(crate) fn join_late_answers(&mut self, config: &Config, clicker: &Clicker) {
        for index in 0..self.accounts.len() {
            if let Some(referral) = &self.accounts[index].kept
                && let Click::Started(touch) | Click::Due(touch) = referral.click
                && let Some(answer) = clicker.late_answer(touch)
            {
                self.answer(config, index, touch, answer);
            }
        }
    }

    /// Takes in the platform's answer, if the touch is still the one that is kept.
    pub(crate) fn answer(&mut self, config: &Config, index: usize, touch: TouchId, answer: Answer) {
        let program = &config.programs[index];
        let account = &mut self.accounts[index];
        let is_awaited = |referral: &mut Referral| {
            [Click::Started(touch), Click::Due(touch)].contains(&referral.click)
        };
        let Some(referral) = account.kept.take_if(is_awaited) else {
            return;
        };
        account.changed = true;
        let reason = answer.reason();
        account.kept = answer.apply(referral, program, self.now);
        self.decisions.push(&program.name, reason);
    }

    /// May another script's key take the place of what is kept? Asked beforehand, because such a
    /// key comes with every request and is worth a note only if it changes something.
    pub(crate) fn yields_to_script(&self, index: usize, script: &Referral) -> bool {
        self.shown(index)
            .is_none_or(|shown| shown.source == Source::Script && shown.key != script.key)
    }

    /// Shows a referral to the handler where nothing better is known, without keeping it.
    pub(crate) fn show(&mut self, index: usize, referral: Referral) {
        let account = &mut self.accounts[index];
        if account.kept.is_none() && account.shown.is_none() {
            account.shown = Some(Box::new(referral));
        }
    }

    /// Forgets whatever is kept for the program, even if the browser held it back this time.
    pub(crate) fn forget(&mut self, config: &Config, index: usize, reason: Reason) {
        let account = std::mem::take(&mut self.accounts[index]);
        self.accounts[index] = Account {
            changed: true,
            shelf: account.shelf.map(|shelf| Box::new(shelf.discard())),
            ..Account::default()
        };
        self.decisions.push(&config.programs[index].name, reason);
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&mut self, config: &Config, reason: Reason) {
        for index in 0..self.accounts.len() {
            self.forget(config, index, reason);
        }
    }

    /// Forgets what there is to forget.
    pub(crate) fn forget_kept(&mut self, config: &Config, reason: Reason) {
        for index in 0..self.accounts.len() {
            if self.is_kept(index) {
                self.forget(config, index, reason);
            }
        }
    }

    /// Does something wait for any next request, whatever it is about?
    pub(crate) fn is_due(&self) -> bool {
        self.shelves().any(Shelf::is_due)
    }

    fn shelves(&self) -> impl Iterator<Item = &Shelf> {
        self.accounts
            .iter()
            .filter_map(|account| account.shelf.as_deref())
    }

    pub(crate) fn shelf_mut(&mut self, index: usize) -> Option<&mut Shelf> {
        self.accounts[index].shelf.as_deref_mut()
    }

    /// What is to be kept of a program, and where, if that changed.
    pub(crate) fn changed_shelf_mut(
        &mut self,
        index: usize,
    ) -> Option<(Option<&Referral>, &mut Shelf)> {
        let account = &mut self.accounts[index];
        let shelf = account.shelf.as_deref_mut().filter(|_| account.changed)?;
        Some((account.kept.as_ref(), shelf))
    }

    /// Takes in what the server has.
    pub(crate) fn set_kept(&mut self, index: usize, kept: Option<Referral>, changed: bool) {
        let account = &mut self.accounts[index];
        account.kept = kept;
        account.changed |= changed;
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.accounts.iter().any(|account| account.changed)
    }

    pub(crate) fn all_kept(&self) -> impl Iterator<Item = &Referral> {
        self.accounts
            .iter()
            .filter_map(|account| account.kept.as_ref())
    }

    /// Under which the programs' referrals are, or will be, on the server.
    pub(crate) fn visitors(&self) -> impl Iterator<Item = VisitorId> {
        self.shelves().filter_map(|shelf| shelf.visitor)
    }

    /// The same, if it is there by now and waits for the click of this touch.
    pub(crate) fn awaits_on_server(&self, index: usize, touch: TouchId) -> Option<VisitorId> {
        let account = &self.accounts[index];
        let kept = account.kept.as_ref()?;
        let shelf = account.shelf.as_ref()?;
        let is_there = kept.click == Click::Started(touch) && shelf.holds(kept);
        shelf.visitor.filter(|_| is_there)
    }

    /// Appends a `Set-Cookie` for each program whose account changed. Says whether there was one.
    pub(crate) fn write(&self, config: &Config, headers: &mut HeaderMap) -> bool {
        let mut written = false;
        for (index, account) in self.accounts.iter().enumerate() {
            if account.changed {
                let held = account.kept.as_ref().map(|referral| Held {
                    referral,
                    pass: account.pass(referral),
                });
                headers.append(SET_COOKIE, config.cookies.write(index, held, self.now));
                written = true;
            }
        }
        written
    }
}

impl Account {
    fn pass(&self, kept: &Referral) -> Option<HeldPass> {
        let shelf = self.shelf.as_ref()?;
        Some(HeldPass {
            visitor: shelf.visitor?,
            carries: !shelf.holds(kept),
            fills_only: shelf.fills_only,
        })
    }
}
