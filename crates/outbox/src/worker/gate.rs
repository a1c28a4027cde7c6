//! How much may be sent at a time: everything, one probe, or nothing. A pure state machine over
//! moments that the worker hands in.

use std::time::{Duration, Instant};

use tower_referral_platforms::{Advice, Error};

/// How a pause goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PauseRule {
    /// The first wait, which doubles with each probe that fails.
    pub(super) initial: Duration,
    pub(super) max: Duration,
}

/// What a call says about the platform as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The platform works, whatever it said of this report.
    Works,
    /// It wants fewer calls.
    Slower { after: Option<Duration> },
    /// The account, or the way to the platform, is broken for every report.
    Broken { reason: String },
    /// It isn't known whether anybody was there.
    NoAnswer,
    /// Perhaps nothing was sent, because the report needed no call.
    Silent,
}

impl Signal {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::RateLimited { retry_after } => Self::Slower {
                after: *retry_after,
            },
            // Not sent at all: no connection, or TLS failed.
            Error::NotSent => Self::Broken {
                reason: error.to_string(),
            },
            error if error.pauses_platform() => Self::Broken {
                reason: error.to_string(),
            },
            // Neither taken nor refused, as by a 5xx.
            Error::Rejected { .. } if error.advice(false) == Advice::Ambiguous => {
                match error.retry_after() {
                    Some(after) => Self::Slower { after: Some(after) },
                    None => Self::NoAnswer,
                }
            }
            Error::UnknownOutcome | Error::Unreadable { .. } => Self::NoAnswer,
            _ => Self::Works,
        }
    }

    /// Returns `true` if the report in hand is as it was before the call.
    pub(super) fn spares_report(&self) -> bool {
        matches!(self, Self::Slower { .. } | Self::Broken { .. })
    }
}

/// Successes in a row, for each call at a time, after which twice as many go at a time.
const AFTER_RATE_LIMIT: usize = 16;
const AFTER_PAUSE: usize = 1;

#[derive(Debug)]
pub(super) struct Gate {
    max: usize,
    rule: PauseRule,
    in_batches: bool,
    /// How many calls may be under way.
    limit: usize,
    /// How soon the limit grows.
    growth: usize,
    streak: usize,
    pause: Option<Pause>,
    /// Counts pauses, so that a call that began before one says nothing about it.
    epoch: u64,
}

#[derive(Debug)]
struct Pause {
    since: Instant,
    until: Instant,
    wait: Duration,
    reason: String,
    is_rate_limit: bool,
    is_probing: bool,
}

/// A call that the gate has let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    epoch: u64,
    is_probe: bool,
}

impl Gate {
    /// `in_batches`: what goes at a time goes in one request.
    pub(super) fn new(max: usize, rule: PauseRule, in_batches: bool) -> Self {
        Self {
            max: max.max(1),
            rule,
            in_batches,
            limit: max.max(1),
            growth: AFTER_PAUSE,
            streak: 0,
            pause: None,
            epoch: 0,
        }
    }

    /// Returns how many calls may be under way at this moment.
    pub(super) fn limit(&self, now: Instant) -> usize {
        match &self.pause {
            None => self.limit,
            Some(pause) if pause.is_probing || now < pause.until => 0,
            Some(_) => 1,
        }
    }

    /// Begins a call, if one may begin while so many are under way.
    pub(super) fn begin(&mut self, now: Instant, under_way: usize) -> Option<Ticket> {
        let limit = self.limit(now);
        match &mut self.pause {
            Some(pause) if limit > 0 => {
                pause.is_probing = true;
                Some(Ticket {
                    epoch: self.epoch,
                    is_probe: true,
                })
            }
            None if under_way < limit => Some(Ticket {
                epoch: self.epoch,
                is_probe: false,
            }),
            _ => None,
        }
    }

    /// Ends a call that proves nothing.
    fn cancel(&mut self, ticket: Ticket) {
        if let Some(pause) = &mut self.pause
            && ticket.is_probe
            && ticket.epoch == self.epoch
        {
            pause.is_probing = false;
        }
    }

    /// Takes in what a call said. Returns `true` if a pause has begun or ended.
    pub(super) fn end(&mut self, now: Instant, ticket: Ticket, signal: &Signal) -> bool {
        let is_current = ticket.epoch == self.epoch;
        match signal {
            Signal::Works => self.works(ticket, is_current),
            Signal::Silent => {
                self.cancel(ticket);
                false
            }
            Signal::NoAnswer => {
                if ticket.is_probe && is_current {
                    let reason = self.pause.as_ref().map(|pause| pause.reason.clone());
                    self.pause(now, ticket, None, reason.unwrap_or_default(), false)
                } else {
                    false
                }
            }
            Signal::Slower { after } => {
                let reason = "the platform is rate limiting (429): sending goes on by itself";
                self.pause(now, ticket, *after, reason.to_owned(), true)
            }
            Signal::Broken { reason } => self.pause(now, ticket, None, reason.clone(), false),
        }
    }

    fn works(&mut self, ticket: Ticket, is_current: bool) -> bool {
        if let Some(pause) = &self.pause {
            if !(ticket.is_probe && is_current) {
                return false;
            }
            self.growth = if pause.is_rate_limit {
                AFTER_RATE_LIMIT
            } else {
                AFTER_PAUSE
            };
            self.pause = None;
            // A batch is one call, and the next one is some time away.
            self.limit = if self.in_batches { self.max } else { 1 };
            self.streak = 0;
            return true;
        }
        if is_current && self.limit < self.max {
            self.streak += 1;
            if self.streak >= self.limit * self.growth {
                self.limit = (self.limit * 2).min(self.max);
                self.streak = 0;
            }
        }
        false
    }

    fn pause(
        &mut self,
        now: Instant,
        ticket: Ticket,
        after: Option<Duration>,
        reason: String,
        is_rate_limit: bool,
    ) -> bool {
        let max = self.rule.max.max(after.unwrap_or_default());
        let wait_of = |wait: Duration| after.unwrap_or(Duration::ZERO).max(wait).min(max);
        match &mut self.pause {
            Some(pause) if ticket.is_probe && ticket.epoch == self.epoch => {
                pause.wait = (pause.wait * 2).min(self.rule.max);
                pause.until = now + wait_of(pause.wait);
                pause.reason = reason;
                pause.is_rate_limit = is_rate_limit;
                pause.is_probing = false;
                false
            }
            // One that was under way when the pause began: the platform may want more of a wait.
            Some(pause) => {
                if let Some(after) = after {
                    pause.until = pause.until.max(now + after);
                }
                false
            }
            None if ticket.epoch == self.epoch => {
                let wait = self.rule.initial;
                // The platform's own word counts, also where it is the shorter one.
                let until = now + after.unwrap_or(wait);
                self.pause = Some(Pause {
                    since: now,
                    until,
                    wait,
                    reason,
                    is_rate_limit,
                    is_probing: false,
                });
                self.epoch += 1;
                true
            }
            // It began before a pause that is over by now.
            None => false,
        }
    }

    /// Lets the next call through at once.
    pub(super) fn probe(&mut self, now: Instant) {
        if let Some(pause) = &mut self.pause {
            pause.until = now;
            pause.wait = self.rule.initial;
        }
    }

    /// Returns when the next probe may go, if that is to be waited for.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        let pause = self.pause.as_ref()?;
        (!pause.is_probing).then_some(pause.until)
    }

    /// Returns since when and why nothing is sent.
    pub(super) fn paused(&self) -> Option<(Instant, &str)> {
        let pause = self.pause.as_ref()?;
        Some((pause.since, &pause.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate() -> Gate {
        Gate::new(
            16,
            PauseRule {
                initial: SECOND,
                max: 60 * SECOND,
            },
            false,
        )
    }

    fn broken() -> Signal {
        Signal::Broken {
            reason: "401".to_owned(),
        }
    }

    #[test]
    fn a_broken_account_is_probed_at_doubling_intervals_up_to_a_minute() {
        let (mut gate, mut now) = (gate(), Instant::now());
        let first = gate.begin(now, 0).unwrap();
        assert!(gate.end(now, first, &broken()));
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let almost = now + SECOND * wait - Duration::from_millis(1);
            assert!(gate.begin(almost, 0).is_none());
            now += SECOND * wait;
            assert_eq!(gate.opens_at(), Some(now));
            let probe = gate.begin(now, 0).unwrap();
            assert!(gate.begin(now, 1).is_none(), "one probe at a time");
            gate.end(now, probe, &broken());
        }
        now += SECOND * 60;
        let probe = gate.begin(now, 0).unwrap();
        assert!(gate.end(now, probe, &Signal::Works));
        assert_eq!(gate.limit(now), 1);
        for _ in 0..15 {
            let call = gate.begin(now, 0).unwrap();
            gate.end(now, call, &Signal::Works);
        }
        assert_eq!(gate.limit(now), 16);
    }

    #[test]
    fn a_person_may_probe_at_once() {
        let (mut gate, now) = (gate(), Instant::now());
        let first = gate.begin(now, 0).unwrap();
        gate.end(now, first, &broken());
        assert_eq!(gate.limit(now), 0);
        gate.probe(now);
        assert_eq!(gate.limit(now), 1);
    }

    #[test]
    fn where_reports_go_in_batches_a_whole_one_follows_the_probe() {
        let rule = PauseRule {
            initial: SECOND,
            max: SECOND * 60,
        };
        let (mut gate, now) = (Gate::new(1000, rule, true), Instant::now());
        let first = gate.begin(now, 0).unwrap();
        gate.end(now, first, &broken());
        let now = now + SECOND;
        let probe = gate.begin(now, 0).unwrap();
        assert!(gate.begin(now, 1).is_none(), "one goes first");
        gate.end(now, probe, &Signal::Works);
        assert_eq!(gate.limit(now), 1000);
    }

    #[test]
    fn calls_from_before_a_pause_neither_end_it_nor_begin_another() {
        let (mut gate, now) = (gate(), Instant::now());
        let calls: Vec<Ticket> = (0..3).map(|n| gate.begin(now, n).unwrap()).collect();
        assert!(gate.end(now, calls[0], &broken()));
        assert!(!gate.end(now, calls[1], &Signal::Works));
        assert!(gate.paused().is_some());
        let later = now + SECOND;
        let probe = gate.begin(later, 0).unwrap();
        assert!(gate.end(later, probe, &Signal::Works));
        assert!(!gate.end(later, calls[2], &broken()), "it is over");
        assert!(gate.paused().is_none());
    }

    #[test]
    fn after_a_rate_limit_one_goes_first_and_then_more() {
        let (mut gate, now) = (gate(), Instant::now());
        let slower = Signal::Slower {
            after: Some(SECOND * 3),
        };
        let first = gate.begin(now, 0).unwrap();
        assert!(gate.end(now, first, &slower));
        assert_eq!(gate.opens_at(), Some(now + SECOND * 3));
        let now = now + SECOND * 3;
        let probe = gate.begin(now, 0).unwrap();
        gate.end(now, probe, &Signal::Works);
        for _ in 0..16 {
            assert_eq!(gate.limit(now), 1);
            let call = gate.begin(now, 0).unwrap();
            gate.end(now, call, &Signal::Works);
        }
        assert_eq!(gate.limit(now), 2);
    }

    #[test]
    fn a_platform_that_takes_ten_a_second_is_asked_few_times_too_often() {
        // CASES.md R14, with an answer that comes after ten milliseconds.
        let (mut gate, start) = (gate(), Instant::now());
        let (mut now, mut calls, mut recorded) = (start, 0, 0);
        let (mut window, mut taken) = (start, 0);
        while recorded < 200 {
            let mut tickets = Vec::new();
            while let Some(ticket) = gate.begin(now, tickets.len()) {
                tickets.push(ticket);
            }
            now += Duration::from_millis(10);
            if now >= window + SECOND {
                (window, taken) = (now, 0);
            }
            for ticket in tickets {
                calls += 1;
                let signal = if taken < 10 {
                    taken += 1;
                    recorded += 1;
                    Signal::Works
                } else {
                    Signal::Slower {
                        after: Some(SECOND),
                    }
                };
                gate.end(now, ticket, &signal);
            }
        }
        assert!(calls < 260, "{calls} calls");
        assert!(now - start < Duration::from_secs(30), "{:?}", now - start);
    }
}
