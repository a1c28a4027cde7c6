//! Which of two touches keeps the credit: what is kept + a new touch -> keep or replace. Pure.

use std::{fmt, sync::Arc};

use crate::reason::Reason;
use crate::referral::{Referral, Source};

/// The rule that decides between the referral that is kept and a new one with another key.
///
/// The same key again never changes anything, whatever the rule.
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
    /// A rule of your own. It sees the referral that is kept and the new one, whose keys differ.
    ///
    /// It runs before the page is made, so it must be quick and must not block.
    ///
    /// ```
    /// use time::Duration;
    /// use tower_referral::{Attribution, Verdict};
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

/// A referral on its way in.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    pub(crate) referral: Referral,
    /// Why it may fill an empty slot only, if it may not replace anything.
    pub(crate) fills_only: Option<Reason>,
    /// It was captured earlier, elsewhere, and comes back in a carry token.
    pub(crate) carried: bool,
}

impl Touch {
    /// A touch of this very moment, free to replace what is kept.
    #[inline(always)] // as `Arrival::landing_touch`
    pub(crate) fn new(referral: Referral) -> Self {
        Self {
            referral,
            fills_only: None,
            carried: false,
        }
    }
}

/// What becomes of a touch, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Keep(Reason),
    Replace(Reason),
}

impl Attribution {
    /// Decides over `touch`, given what is `kept`.
    pub(crate) fn decide(&self, kept: Option<&Referral>, touch: &Touch) -> Ruling {
        use Ruling::{Keep, Replace};

        let new = &touch.referral;
        let Some(kept) = kept else {
            return Replace(Reason::Captured);
        };
        if kept.key == new.key {
            return Keep(Reason::SameKey);
        }
        if let Some(reason) = touch.fills_only {
            return Keep(reason);
        }
        if touch.carried && new.captured_at < kept.captured_at {
            return Keep(Reason::KeptNewer);
        }
        match (kept.source, new.source) {
            (Source::Script, Source::Landing | Source::Handler) => Replace(Reason::Captured),
            (Source::Landing | Source::Handler, Source::Script) => Keep(Reason::KeptHigherClaim),
            _ => self.between(kept, new),
        }
    }

    /// Decides between two referrals of different keys and equal claim.
    fn between(&self, kept: &Referral, new: &Referral) -> Ruling {
        match self {
            Self::FirstTouch => Ruling::Keep(Reason::KeptFirstTouch),
            Self::LastTouch => Ruling::Replace(Reason::Captured),
            Self::Rule(Rule(decide)) => match decide(kept, new) {
                Verdict::Keep(reason) => Ruling::Keep(Reason::Rule(reason)),
                Verdict::Replace(reason) => Ruling::Replace(Reason::Rule(reason)),
            },
        }
    }

    /// Picks among several things that the browser sent for one program, by their referrals, as if
    /// these had come in the order of their capture.
    pub(crate) fn pick<T>(
        &self,
        mut valid: Vec<T>,
        referral: impl Fn(&T) -> &Referral,
    ) -> Option<T> {
        valid.sort_by_key(|one| referral(one).captured_at);
        valid.into_iter().reduce(|kept, one| {
            let touch = Touch::new(referral(&one).clone());
            match self.decide(Some(referral(&kept)), &touch) {
                Ruling::Keep(_) => kept,
                Ruling::Replace(_) => one,
            }
        })
    }
}
