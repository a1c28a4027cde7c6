//! Which of two touches keeps the credit. Pure: what is kept and a new touch in, a decision out.
//!
//! # The rules, in the order in which they are applied
//!
//! 1. An empty slot takes any touch.
//! 2. The same key again changes nothing, unless a touch from outside follows one of a lower rank: then it is
//!    captured anew.
//! 3. A touch that only fills an empty slot replaces nothing.
//! 4. A referral from a carry token replaces nothing that was captured later.
//! 5. The higher rank keeps the credit.
//! 6. Between touches of one rank the program's [`Attribution`] decides.
//!
//! | touch | rank | only fills an empty slot |
//! |---|---|---|
//! | a landing from another site, typed, mailed or from an app | outside | no |
//! | the same at a stand-down path, as a prefetch, or as a reload | outside | yes |
//! | a landing through a service worker that may be a frame (`same-site`) | outside | yes |
//! | a handler's `Capture` | outside | no |
//! | another script's cookie | script | no |
//! | a link of the own site | own | yes |
//!
//! Outside ranks above script, and script above own.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::reason::Reason;
use crate::referral::{Rank, Referral};
use crate::refused_keys::RefusedKeys;

/// The rule that decides between the referral that is kept and a new one with another key and of the
/// same rank: see [`guide::attribution`](crate::guide::attribution).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Attribution {
    /// The referral that is kept stays until its window ends.
    FirstTouch,
    /// The new referral replaces it. The default.
    #[default]
    LastTouch,
    /// A rule of your own; see [`Attribution::rule`].
    Rule(Rule),
}

/// A rule of the user's own; made by [`Attribution::rule`].
#[derive(Clone)]
pub struct Rule(Arc<Decide>);

type Decide = dyn Fn(&Referral, &Referral) -> Verdict + Send + Sync;

/// What a rule of your own decides, and why. The reason appears as
/// [`Reason::Rule`](crate::Reason::Rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The referral that is kept stays.
    Keep(&'static str),
    /// The new referral takes its place.
    Replace(&'static str),
}

impl Attribution {
    /// Creates a rule of your own. It sees the referral that is kept and the new one, whose keys
    /// differ and whose ranks are the same.
    ///
    /// It runs before the page is made, so it must be quick and must not block.
    ///
    /// ```
    /// use tower_referral::{Attribution, Verdict, time::Duration};
    ///
    /// let a_week_of_grace = Attribution::rule(|kept, new| {
    ///     if new.captured_at() - kept.captured_at() < Duration::days(7) {
    ///         Verdict::Keep("within_a_week")
    ///     } else {
    ///         Verdict::Replace("after_a_week")
    ///     }
    /// });
    /// ```
    pub fn rule(decide: impl Fn(&Referral, &Referral) -> Verdict + Send + Sync + 'static) -> Self {
        Self::Rule(Rule(Arc::new(decide)))
    }
}

impl fmt::Debug for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstTouch => "FirstTouch",
            Self::LastTouch => "LastTouch",
            Self::Rule(_) => "Rule(..)",
        })
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule(..)")
    }
}

/// When the platform is told of a touch that wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClickDue {
    Never,
    Now,
    AtNextPageView,
}

/// One contact of a visitor with a program, not decided yet.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    /// The program's index.
    pub(crate) program: usize,
    /// What would be kept.
    pub(crate) referral: Arc<Referral>,
    /// Why it replaces nothing, if it only fills an empty slot.
    pub(crate) fills_only: Option<Reason>,
    /// The page led to itself, so the touch is what the first visit of that URL was.
    pub(crate) inherits: bool,
    /// It was captured earlier and comes back in a carry token.
    pub(crate) is_carried: bool,
    pub(crate) click: ClickDue,
}

impl Touch {
    /// Creates a touch of this moment that may replace what is kept.
    pub(crate) fn new(program: usize, referral: impl Into<Arc<Referral>>) -> Self {
        Self {
            program,
            referral: referral.into(),
            fills_only: None,
            inherits: false,
            is_carried: false,
            click: ClickDue::Never,
        }
    }

    /// Returns `true` if the touch holds against others whatever came before: it doesn't only fill a slot,
    /// nor is it what the first visit of its page was.
    fn stands_alone(&self) -> bool {
        self.fills_only.is_none() && !self.inherits
    }

    /// Returns `true` if this is a touch of this moment that may replace others, so that the same key, kept
    /// from one that only fills an empty slot, may replace them too.
    pub(crate) fn proves_same_key(&self) -> bool {
        self.stands_alone() && !self.is_carried && self.referral.rank == Rank::Outside
    }
}

impl Attribution {
    /// Decides over a touch. `Ok`: it takes the place of what is kept. `Err`: it doesn't.
    pub(crate) fn decide(&self, kept: Option<&Referral>, touch: &Touch) -> Result<Reason, Reason> {
        let new = &touch.referral;
        let Some(kept) = kept else {
            return Ok(Reason::Captured);
        };
        if kept.credits_same(new) {
            // A script writes its cookie for the key of an own link, too.
            return if touch.stands_alone() && new.rank == Rank::Outside && kept.rank < new.rank {
                Ok(Reason::Captured)
            } else {
                Err(Reason::SameKey)
            };
        }
        if let Some(reason) = touch.fills_only {
            return Err(reason);
        }
        if touch.inherits
            && kept
                .refused
                .is_some_and(|keys| keys.contain(as_refused(new)))
        {
            return Err(Reason::KeptOwnLink);
        }
        if touch.is_carried && new.captured_at < kept.captured_at {
            return Err(Reason::KeptNewer);
        }
        match (new.rank.cmp(&kept.rank), self) {
            (Ordering::Greater, _) | (Ordering::Equal, Self::LastTouch) => Ok(Reason::Captured),
            (Ordering::Less, _) => Err(Reason::KeptHigherRank),
            (Ordering::Equal, Self::FirstTouch) => Err(Reason::KeptFirstTouch),
            (Ordering::Equal, Self::Rule(Rule(decide))) => match decide(kept, new) {
                Verdict::Keep(reason) => Err(Reason::Rule(reason)),
                Verdict::Replace(reason) => Ok(Reason::Rule(reason)),
            },
        }
    }

    /// Picks among several referrals that the browser sent for one program, as if they had come in the
    /// order of their capture.
    pub(crate) fn pick<T>(
        &self,
        mut valid: Vec<T>,
        referral: impl Fn(&T) -> &Arc<Referral>,
    ) -> Option<T> {
        valid.sort_by_key(|one| referral(one).captured_at);
        valid.into_iter().reduce(|kept, one| {
            let touch = Touch::new(0, Arc::clone(referral(&one)));
            match self.decide(Some(referral(&kept)), &touch) {
                Err(_) => kept,
                Ok(_) => one,
            }
        })
    }
}

/// Returns what a touch credits, as a visitor's cookie remembers it once it was refused.
pub(crate) fn as_refused(referral: &Referral) -> RefusedKeys {
    RefusedKeys::one(referral.key.as_ref(), referral.click_id.as_ref())
}

/// Returns what is remembered as refused once a touch is kept: what was before, and a link of the own site
/// that gives way, as if it had come later.
pub(crate) fn refused_with(kept: &Referral, new: &Referral) -> Option<RefusedKeys> {
    let gives_way = kept.rank == Rank::Own && kept.rank < new.rank && !kept.credits_same(new);
    let all = [
        kept.refused,
        new.refused,
        gives_way.then(|| as_refused(kept)),
    ];
    all.into_iter().flatten().reduce(RefusedKeys::and)
}
