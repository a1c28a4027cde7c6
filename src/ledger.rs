//! What is known about one visitor in the course of one request: for each program what is kept,
//! what changed, and why. Every touch and every word of a handler goes through here, on the way in
//! and on the way out, so that one set of rules decides over all of them.

use http::header::{HeaderMap, SET_COOKIE};
use smol_str::SmolStr;

use crate::attribution::{Ruling, Touch};
use crate::click::{Answer, Clicker, Facts, Pending};
use crate::config::Config;
use crate::consent::Permission;
use crate::keep::check_age;
use crate::keep::cookie::Jar;
use crate::reason::{Decisions, Reason};
use crate::referral::{Click, Referral, Source, TouchId, UnixMillis};

#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    now: UnixMillis,
    /// By the program's index.
    accounts: Vec<Account>,
    decisions: Decisions,
}

/// A touch that took a program's place.
#[derive(Debug)]
pub(crate) struct Win {
    index: usize,
    replaced: Option<Referral>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    /// What is kept, or will be once the response is out.
    kept: Option<Referral>,
    /// What a handler is to see instead, though it may not be kept.
    shown: Option<Box<Referral>>,
    /// The browser doesn't hold what is kept.
    changed: bool,
}

impl Ledger {
    /// Verifies what the browser sent.
    pub(crate) fn open(config: &Config, jar: &Jar) -> Self {
        let ledger = Self::reopen(config, jar);
        ledger.decisions.tell();
        ledger
    }

    /// Verifies it again on the way back. A handler that asked has been told of it already.
    pub(crate) fn reopen(config: &Config, jar: &Jar) -> Self {
        let now = config.now();
        let mut decisions = Decisions::default();
        let accounts = config.programs.iter().enumerate().map(|(index, program)| {
            let kept = config.cookies.open(jar, index, program, now);
            Account {
                kept: kept.unwrap_or_else(|fault| {
                    decisions.push_untold(&program.name, fault);
                    None
                }),
                ..Account::default()
            }
        });
        Self {
            now,
            accounts: accounts.collect(),
            decisions,
        }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.now
    }

    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    pub(crate) fn into_decisions(self) -> Decisions {
        self.decisions
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
            Permission::Denied(reason) => reason,
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
                        win = Some(Win {
                            index,
                            replaced: account.kept.replace(touch.referral),
                        });
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
        let Some(referral) = &mut account.kept else {
            return;
        };
        if ![Click::Started(touch), Click::Due(touch)].contains(&referral.click) {
            return;
        }
        account.changed = true;
        let reason = match answer {
            Answer::Click(click_id) => {
                referral.click = Click::None;
                referral.click_id = Some(click_id);
                Reason::ClickJoined
            }
            Answer::Undo(replaced) => {
                account.kept =
                    replaced.and_then(|replaced| check_age(*replaced, program, self.now).ok());
                Reason::UnknownKey
            }
        };
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
        self.accounts[index] = Account {
            changed: true,
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

    /// Appends a `Set-Cookie` for each program whose account changed. Says whether there was one.
    pub(crate) fn write(&self, config: &Config, headers: &mut HeaderMap) -> bool {
        let mut written = false;
        for (index, account) in self.accounts.iter().enumerate() {
            if account.changed {
                let kept = account.kept.as_ref();
                headers.append(SET_COOKIE, config.cookies.write(index, kept, self.now));
                written = true;
            }
        }
        written
    }
}
