//! What visitors do, what they see, and what the shop makes of it.

use tower_referral::testing::Visitor;
use tower_referral::{Reason, Referral as SeenReferral, Referrals, VisitorId};
use tower_referral_platforms::{Credit, Money, Report, Sale, SignUp};

use super::{CAMPAIGN_KEY, Doubt, Event, World};
use crate::sim::clock::{DAY, MINUTE};
use crate::sim::fleet::{Keep, PROGRAMS};
use crate::sim::outcome::{LANDING, Promise};
use crate::sim::platform::landing_of;
use crate::sim::store::Mode;
use crate::sim::truth::{Expected, Place, Rule, Touch};
use crate::sim::visits::{Act, Person};

impl World {
    pub(super) async fn arrive(&mut self, now: i64, campaign: Option<(usize, u16)>) {
        if campaign.is_none() && self.landings < self.settings.landings {
            // 1.6 landings a visitor.
            let mean = self.settings.days as f64 * DAY as f64 / f64::from(self.settings.landings);
            let wait = self.random.wait(mean * 1.6);
            self.schedule(now + wait.max(1), Event::Arrive(None));
        }
        let home = campaign.map(|(region, _)| region);
        let home = home.unwrap_or_else(|| self.random.below(self.settings.regions));
        let browser = Visitor::with_clock(&self.browsers);
        let key = campaign.map(|(_, key)| key);
        let person = Person::new(self.arrived, browser, home, key, &mut self.random);
        let mut person = Box::new(person);
        self.arrived += 1;
        let act = person.first(&mut self.random);
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.people.push(None);
                self.people.len() - 1
            }
        };
        self.people[place] = Some(person);
        self.act(place, act).await;
    }

    /// A person does something, and the answer is judged.
    pub(super) async fn act(&mut self, place: usize, act: Act) {
        let Some(mut person) = self.people[place].take() else {
            return;
        };
        let now = self.clock.now();
        self.browsers.set(self.clock.skewed(0));
        let roams = self.random.chance(self.settings.roaming);
        let region = if roams {
            self.random.below(self.settings.regions)
        } else {
            person.home
        };
        let of_region = &self.regions[region];
        let server = of_region[self.random.below(of_region.len())];
        let landing = match act {
            Act::Land { program, key } => {
                self.landings += 1;
                self.arrivals.count(now);
                let landing = self.landings;
                let touch = Touch {
                    key,
                    landing,
                    at: now,
                };
                Some((program, touch))
            }
            Act::View | Act::SignUp => None,
        };
        let mode = self.common.stores.mode(region);
        let request = person.request(act, self.landings);
        let response = self.servers[server].answer(person.keep, request).await;
        person.browser.receives(&response);
        let Some(seen) = response.into_body() else {
            self.tally.wrong("a handler saw no layer".to_owned());
            return;
        };
        self.tally.requests += 1;
        let expected = self.judge(&mut person, now, region, mode, landing, &seen);
        if let Some((_, touch)) = landing {
            let wins = expected.as_ref().map(|it| it.iter().any(|it| it.wins));
            self.tally.note_landing(touch.landing, wins);
            if wins != Some(false) {
                let layer = 2 * server + usize::from(person.keep == Keep::Server);
                let (all, of_key) = &mut self.busiest[layer];
                all.count(now);
                if touch.key == CAMPAIGN_KEY {
                    of_key.count(now);
                }
                // A late click ID is a row.
                self.writes.count(now);
            }
        }
        if act == Act::SignUp {
            self.sign_up(&person, region, &seen, expected.as_ref());
        }
        match person.next(act, &mut self.random) {
            Some((wait, next)) => {
                self.people[place] = Some(person);
                self.schedule(now + wait, Event::Act(place, next));
            }
            None => self.free.push(place),
        }
    }

    /// Compares what a handler saw with what it should see; `None` if the person isn't judged.
    fn judge(
        &mut self,
        person: &mut Person,
        now: i64,
        region: usize,
        mode: Mode,
        landing: Option<(usize, Touch)>,
        seen: &Referrals,
    ) -> Option<[Expected; 2]> {
        if person.unjudged.is_some() {
            self.tally.unjudged_requests += 1;
            return None;
        }
        let place = Place {
            now,
            region,
            store: (person.keep == Keep::Server).then_some(mode),
            failovers: &self.failovers,
        };
        let mut judged = [None; 2];
        for (program, judged) in judged.iter_mut().enumerate() {
            let touch = landing.filter(|(of, _)| *of == program);
            let touch = touch.map(|(_, touch)| touch);
            match person.referrals[program].request(&self.terms, place, touch) {
                Ok(expected) => *judged = Some(expected),
                Err(why) => {
                    person.unjudged = Some(why);
                    *self.tally.unjudged.entry(why).or_default() += 1;
                    return None;
                }
            }
        }
        let [Some(first), Some(last)] = judged else {
            return None;
        };
        for (program, expected) in [first, last].into_iter().enumerate() {
            let shown = seen.get(PROGRAMS[program]).map(touch_of);
            let should = expected.seen.map(|touch| (touch.key, touch.landing));
            if shown != should {
                let (number, keep) = (person.number, person.keep);
                self.tally.wrong(format!(
                    "visitor {number}, {keep:?}, {} touch, at {now} ms in region {region}, store \
                     {mode:?}, landing {landing:?}: saw {shown:?}, should see {should:?}; {:?}",
                    PROGRAMS[program],
                    seen.decisions()
                ));
            }
            if expected.seen != expected.ought {
                match (person.keep, expected.cause) {
                    (Keep::Server, Some(cause)) => {
                        *self.tally.views.entry(cause).or_default() += 1;
                    }
                    _ => self.tally.wrong(format!(
                        "visitor {}: a referral is lost without a cause: {expected:?}",
                        person.number
                    )),
                }
            }
        }
        Some([first, last])
    }

    /// Books a sign-up with whom it credits. What couldn't be read is looked up later.
    fn sign_up(
        &mut self,
        person: &Person,
        region: usize,
        seen: &Referrals,
        expected: Option<&[Expected; 2]>,
    ) {
        self.tally.sign_ups += 1;
        let is_unread = seen
            .decisions()
            .iter()
            .any(|decision| decision.reason() == Reason::StoreUnavailable);
        for program in 0..2 {
            let referral = seen.get(PROGRAMS[program]);
            let credit = referral.map(credit_of);
            let promise = match expected {
                Some(expected) => Promise::Judged {
                    ought: expected[program].ought,
                    cause: expected[program].cause,
                },
                None => Promise::Unjudged,
            };
            let visitor = Self::visitor_of(person, program, seen);
            match visitor.filter(|_| is_unread) {
                Some(visitor) => {
                    self.tally.doubts += 1;
                    let doubt = Doubt {
                        person: person.number,
                        program,
                        region,
                        visitor,
                        seen: credit,
                        promise,
                        tries: 0,
                    };
                    let at = self.clock.now() + 10 * MINUTE;
                    self.schedule(at, Event::LookUp(Box::new(doubt)));
                }
                None => self.credit(person.number, program, credit, promise),
            }
        }
    }

    /// Returns the ID under which a program's referral is kept. Those that are known come in the order of
    /// the programs, so that one alone may be of either.
    fn visitor_of(person: &Person, program: usize, seen: &Referrals) -> Option<VisitorId> {
        match (seen.visitor_ids(), program) {
            ([first, last], program) => Some([*first, *last][program]),
            ([one], program) => {
                let other = &person.referrals[1 - program];
                other.is_kept_nowhere().then_some(*one)
            }
            _ => None,
        }
    }

    pub(super) async fn look_up(&mut self, mut doubt: Doubt) {
        let of_region = &self.regions[doubt.region];
        let server = of_region[self.random.below(of_region.len())];
        let layer = self.servers[server].layer(Keep::Server).clone();
        let found = match layer.look_up(doubt.visitor).await {
            Ok(found) => found,
            Err(_) if doubt.tries < 100 => {
                doubt.tries += 1;
                let at = self.clock.now() + 10 * MINUTE;
                return self.schedule(at, Event::LookUp(Box::new(doubt)));
            }
            Err(_) => None,
        };
        let found = found.as_ref().map(credit_of);
        let credit = match [Rule::First, Rule::Last][doubt.program] {
            Rule::First => found.or(doubt.seen),
            Rule::Last => doubt.seen.or(found),
        };
        self.credit(doubt.person, doubt.program, credit, doubt.promise);
    }

    /// Reports a sign-up and, for one in five, plans a sale.
    fn credit(&mut self, person: u32, program: usize, credit: Option<Credit>, promise: Promise) {
        let key = credit.as_ref().and_then(|credit| credit.key());
        let key = key.map(ToString::to_string);
        self.tally.judge_sign_up(program, key.as_deref(), promise);
        let Some(credit) = credit else {
            return;
        };
        let credit = match credit.reference().and_then(|it| self.common.late.get(it)) {
            Some(late) if credit.click_id().is_none() => credit.with_click_id(late),
            _ => credit,
        };
        let customer = format!("customer-{person}");
        if let Ok(sign_up) = SignUp::new(&customer) {
            let sign_up = sign_up.with_credit(Some(credit.clone()));
            self.report(&format!("signup:{customer}"), program, &credit, sign_up);
        }
        if self.random.chance(0.2) {
            let at = self.clock.now() + self.random.between(MINUTE, 5 * DAY);
            self.schedule(at, Event::Sale(person, program, credit));
        }
    }

    pub(super) fn sell(&mut self, person: u32, program: usize, credit: &Credit) {
        let order = format!("order-{person}");
        let amount = Money::new("9.99", "EUR");
        let sale = amount.map(|it| Sale::new(&order, format!("customer-{person}"), it));
        if let Ok(Ok(sale)) = sale {
            self.tally.sales += 1;
            let sale = sale.with_credit(Some(credit.clone()));
            self.report(&order, program, credit, sale);
        }
    }

    fn report(&mut self, id: &str, program: usize, credit: &Credit, report: impl Into<Report>) {
        let now = self.clock.now();
        // The order's row, the report's, and the outbox's two changes of it. Its content goes later.
        for _ in 0..4 {
            self.writes.count(now);
        }
        let outbox = self.outboxes[program].clone();
        if !outbox.enqueue(id, report) {
            self.tally.wrong(format!("{id} was reported before"));
            return;
        }
        self.tally.promise_report(program, id, credit, now);
        let id = id.to_owned();
        if program == 0 {
            self.sending.spawn(outbox.send(id, self.partnac.clone()));
        } else {
            self.sending.spawn(outbox.send(id, self.tracker.clone()));
        }
        while self.sending.try_join_next().is_some() {}
    }
}

/// The key's number and the landing's.
fn touch_of(referral: &SeenReferral) -> (u16, u32) {
    let key = referral
        .key()
        .map(|key| key.as_str().trim_start_matches('K'));
    let page = referral.landing_page().unwrap_or_default();
    (
        key.and_then(|key| key.parse().ok()).unwrap_or_default(),
        landing_of(&page).unwrap_or_default(),
    )
}

/// The credit, with the number of its landing.
fn credit_of(referral: &SeenReferral) -> Credit {
    Credit::from(referral).with_extra(LANDING, touch_of(referral).1.to_string())
}
