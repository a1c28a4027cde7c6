//! What ought to be: who landed when with which key, by the rules of first and last touch alone; and what
//! a visitor's referral can be expected to be where stores fail, lag and lose. Written from the rules, and
//! shares nothing with the layer.

use super::store::Mode;

/// A landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) key: u16,
    pub(crate) landing: u32,
    pub(crate) at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    First,
    Last,
}

impl Rule {
    /// Which of two touches keeps the credit; the same key again changes nothing.
    fn decide(self, kept: Option<Touch>, new: Touch) -> Touch {
        let stays = |kept: &Touch| kept.key == new.key || self == Self::First;
        kept.filter(stays).unwrap_or(new)
    }
}

/// Why what is seen isn't what ought to be, where referrals are kept on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The region's store doesn't answer.
    StoreAway,
    /// What another region wrote isn't here yet.
    Lag,
    /// A failover lost the record.
    Failover,
}

/// Why a visitor isn't judged any more: either answer is right from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unjudged {
    /// A request at the end of the window, where the servers' clocks disagree.
    EndOfWindow,
    /// Two touches closer than the servers' clocks, which an outage made one request compare.
    ClocksDisagree,
    /// A lagging record and one that the cookie carries, at once.
    LagAndOutage,
}

/// What never changes in a run.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) window: i64,
    pub(crate) lag: i64,
    /// The most by which two servers' clocks differ.
    pub(crate) skew: i64,
}

/// Where a request meets the shop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) now: i64,
    pub(crate) region: usize,
    /// `None` where the cookie keeps everything.
    pub(crate) store: Option<Mode>,
    /// When each region lost what it hadn't handed on.
    pub(crate) failovers: &'a [(i64, usize)],
}

/// One visitor's referral of one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referral {
    rule: Rule,
    /// By the rules alone.
    ought: Option<Touch>,
    /// What the server was given under the ID that the cookie holds: when, and in which region.
    record: Option<(Touch, i64, usize)>,
    /// What the cookie holds itself.
    carried: Option<Touch>,
    cause: Option<Cause>,
}

/// What a handler should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) seen: Option<Touch>,
    pub(crate) ought: Option<Touch>,
    /// The landing is one that the platform is to be told of.
    pub(crate) wins: bool,
    /// Why the two differ.
    pub(crate) cause: Option<Cause>,
}

impl Referral {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            ought: None,
            record: None,
            carried: None,
            cause: None,
        }
    }

    /// Returns `true` if neither the server nor the cookie has anything.
    pub(crate) fn is_kept_nowhere(&self) -> bool {
        self.record.is_none() && self.carried.is_none()
    }

    /// Tells what a request should see, and what is kept from then on.
    pub(crate) fn request(
        &mut self,
        terms: &Terms,
        place: Place<'_>,
        landing: Option<Touch>,
    ) -> Result<Expected, Unjudged> {
        let now = place.now;
        for touch in [
            self.ought,
            self.carried,
            self.record.map(|(touch, ..)| touch),
        ] {
            let end = touch.map(|touch| touch.at + terms.window);
            if end.is_some_and(|end| (end - now).abs() <= terms.skew + 2000) {
                return Err(Unjudged::EndOfWindow);
            }
        }
        let counts = |touch: &Touch| now < touch.at + terms.window;
        self.ought = self.ought.filter(counts);
        self.carried = self.carried.filter(counts);
        self.record = self.record.filter(|(touch, ..)| counts(touch));

        if let Some(new) = landing {
            self.ought = Some(self.rule.decide(self.ought, new));
        }
        let (seen, wins) = match place.store {
            None => self.in_cookie(landing),
            Some(mode) if mode.can_read() => self.on_server(terms, place, mode, landing)?,
            Some(_) => {
                if self.record.is_some() {
                    self.cause = Some(Cause::StoreAway);
                }
                self.in_cookie(landing)
            }
        };
        let cause = self.cause.filter(|_| seen != self.ought);
        if seen == self.ought {
            self.cause = None;
        }
        Ok(Expected {
            seen,
            ought: self.ought,
            wins,
            cause,
        })
    }

    fn in_cookie(&mut self, landing: Option<Touch>) -> (Option<Touch>, bool) {
        let before = self.carried;
        if let Some(new) = landing {
            self.carried = Some(self.rule.decide(before, new));
        }
        (self.carried, before != self.carried)
    }

    fn on_server(
        &mut self,
        terms: &Terms,
        place: Place<'_>,
        mode: Mode,
        landing: Option<Touch>,
    ) -> Result<(Option<Touch>, bool), Unjudged> {
        let found = self.record.filter(|(_, written, region)| {
            let is_lost = place.failovers.iter().any(|(at, of)| {
                of == region && (*written..*written + terms.lag).contains(at) && *at <= place.now
            });
            let is_here = *region == place.region || place.now >= written + terms.lag;
            if is_lost {
                self.cause = Some(Cause::Failover);
            } else if !is_here {
                self.cause = Some(Cause::Lag);
            }
            is_here && !is_lost
        });
        if self.carried.is_some() && self.record.is_some() && found.is_none() {
            return Err(Unjudged::LagAndOutage);
        }
        let found = found.map(|(touch, ..)| touch);
        let mut kept = found;
        if let Some(carried) = self.carried {
            if let Some(found) = found
                && self.rule == Rule::Last
                && (found.at - carried.at).abs() <= terms.skew
            {
                return Err(Unjudged::ClocksDisagree);
            }
            kept = Some(self.rule.decide(found, carried));
        }
        let joined = kept;
        if let Some(new) = landing {
            kept = Some(self.rule.decide(kept, new));
        }
        match kept {
            // Nothing to write, and what the cookie carried has come to nothing.
            Some(touch) if Some(touch) == found => self.carried = None,
            Some(touch) if mode == Mode::Up => {
                self.record = Some((touch, place.now, place.region));
                self.carried = None;
            }
            Some(touch) => {
                self.record = None;
                self.carried = Some(touch);
            }
            None => {}
        }
        Ok((kept, kept != joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        window: 1_000_000,
        lag: 1000,
        skew: 10,
    };

    #[expect(clippy::unnecessary_wraps, reason = "it reads as what is passed on")]
    fn touch(key: u16, at: i64) -> Option<Touch> {
        Some(Touch {
            key,
            landing: key.into(),
            at,
        })
    }

    fn at(now: i64, region: usize, store: Option<Mode>) -> Place<'static> {
        Place {
            now,
            region,
            store,
            failovers: &[],
        }
    }

    #[test]
    fn first_and_last_touch_in_a_cookie() {
        for (rule, winner) in [(Rule::First, 1), (Rule::Last, 2)] {
            let mut referral = Referral::new(rule);
            let place = at(0, 0, None);
            let first = referral.request(&TERMS, place, touch(1, 0)).unwrap();
            assert!(first.wins);
            let place = at(10, 0, None);
            let second = referral.request(&TERMS, place, touch(2, 10)).unwrap();
            assert_eq!(second.seen.unwrap().key, winner);
            assert_eq!(second.seen, second.ought);
            let late = referral
                .request(&TERMS, at(2_000_000, 0, None), None)
                .unwrap();
            assert_eq!(late.seen, None);
        }
    }

    #[test]
    fn a_lagging_region_sees_nothing_and_displaces_a_first_touch() {
        let mut referral = Referral::new(Rule::First);
        let up = Some(Mode::Up);
        referral.request(&TERMS, at(0, 0, up), touch(1, 0)).unwrap();
        let there = referral.request(&TERMS, at(10, 1, up), None).unwrap();
        assert_eq!((there.seen, there.cause), (None, Some(Cause::Lag)));
        let back = referral.request(&TERMS, at(2000, 1, up), None).unwrap();
        assert_eq!((back.seen, back.cause), (touch(1, 0), None));
    }

    #[test]
    fn an_outage_costs_neither_rule_its_credit() {
        for (rule, winner) in [(Rule::First, 1), (Rule::Last, 2)] {
            let mut referral = Referral::new(rule);
            let (up, away) = (Some(Mode::Up), Some(Mode::Failing));
            referral.request(&TERMS, at(0, 0, up), touch(1, 0)).unwrap();
            referral
                .request(&TERMS, at(5000, 0, away), touch(2, 5000))
                .unwrap();
            let after = referral.request(&TERMS, at(9000, 0, up), None).unwrap();
            assert_eq!(after.seen.unwrap().key, winner);
            assert_eq!(after.seen, after.ought);
        }
    }

    #[test]
    fn a_failover_loses_what_was_not_handed_on() {
        for (moment, is_lost) in [(500, true), (1500, false)] {
            let mut referral = Referral::new(Rule::Last);
            let up = Some(Mode::Up);
            referral.request(&TERMS, at(0, 0, up), touch(1, 0)).unwrap();
            let place = Place {
                failovers: &[(moment, 0)],
                ..at(5000, 0, up)
            };
            let after = referral.request(&TERMS, place, None).unwrap();
            assert_eq!(after.seen.is_none(), is_lost);
            assert_eq!(after.cause, is_lost.then_some(Cause::Failover));
        }
    }
}
