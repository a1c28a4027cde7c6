//! What happens, in the order of its time.

mod shopping;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tower_referral::VisitorId;
use tower_referral::testing;
use tower_referral_platforms::{Client, Credit, Partnac, ReportService};

use super::clock::{Clock, DAY, HOUR, MINUTE, SECOND};
use super::fleet::{Common, LateIds, Server};
use super::outcome::{Promise, Tally};
use super::peaks::PerSecond;
use super::platform::{Platform, WithoutDuplicates, partnac};
use super::random::Random;
use super::reports::Outbox;
use super::store::{Mode, Stores};
use super::truth::Terms;
use super::visits::{Act, Person};
use super::{Outcome, Settings};

/// Between two servers of a rolling deployment, all of it in an hour.
const ROLL: i64 = HOUR;
/// Campaigns last so long.
const CAMPAIGN: i64 = 4 * SECOND;
/// The key that all of a campaign come with.
const CAMPAIGN_KEY: u16 = 9999;

#[derive(Clone, Debug)]
enum Event {
    Arrive(Option<(usize, u16)>),
    Act(usize, Act),
    /// A deployment begins to roll.
    Deploy(usize),
    Restart(usize, usize),
    Crash,
    Store(usize, Mode),
    FailOver(usize),
    PlatformAway(bool),
    Campaign,
    /// The shop looks up a referral that it couldn't read at sign-up.
    LookUp(Box<Doubt>),
    /// A sale, of which the payment provider tells; nobody visits.
    Sale(u32, usize, Credit),
    Purge,
}

/// A sign-up whose referral couldn't be read, with the ID under which it is kept.
#[derive(Clone, Debug)]
struct Doubt {
    person: u32,
    program: usize,
    region: usize,
    visitor: VisitorId,
    seen: Option<Credit>,
    promise: Promise,
    tries: u32,
}

struct Scheduled {
    at: i64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Everything there is.
pub(crate) struct World {
    settings: Settings,
    clock: Clock,
    browsers: testing::Clock,
    random: Random,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    terms: Terms,
    common: Common,
    servers: Vec<Server>,
    /// By region, the servers' numbers.
    regions: Vec<Vec<usize>>,
    stages: Vec<usize>,
    people: Vec<Option<Box<Person>>>,
    free: Vec<usize>,
    arrived: u32,
    /// When each region lost what it had not handed on.
    failovers: Vec<(i64, usize)>,
    campaign_ends: i64,
    landings: u32,
    /// The first platform recognises duplicates and takes the clicks, the second does neither.
    platforms: [Platform; 2],
    partnac: ReportService<Partnac, Platform>,
    tracker: ReportService<WithoutDuplicates, Platform>,
    outboxes: [Outbox; 2],
    sending: JoinSet<()>,
    /// Clicks wanted of each layer, and those of them with the campaign's key.
    busiest: Vec<(PerSecond, PerSecond)>,
    arrivals: PerSecond,
    writes: PerSecond,
    tally: Tally,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let clock = Clock::start();
        let mut random = Random(settings.seed);
        let mut fork = || Random(random.next());
        let limit = settings.platform_limit;
        let platforms = [true, false].map(|it| Platform::new(clock, fork(), limit, it));
        let outboxes = [fork(), fork()].map(|random| Outbox::new(clock, random));
        let [first, second] = platforms.clone();
        let client = Client::new(partnac()?, first);
        let tracker = Client::new(WithoutDuplicates(partnac()?), second);
        let window = Duration::from_secs(settings.window as u64 * 86_400);
        let common = Common {
            clock,
            window,
            stores: Stores::new(clock, settings.regions, settings.lag),
            clicks: client.clone(),
            late: LateIds::default(),
            random: Arc::new(Mutex::new(fork())),
        };
        let mut servers = Vec::new();
        let mut regions = vec![Vec::new(); settings.regions];
        for number in 0..settings.servers {
            let region = number % settings.regions;
            let skew = random.between(-settings.skew * SECOND, settings.skew * SECOND + 1);
            servers.push(Server::start(&common, region, skew, 0)?);
            regions[region].push(number);
        }
        let mut world = Self {
            settings: settings.clone(),
            clock,
            browsers: testing::Clock::at(clock.skewed(0)),
            random,
            events: BinaryHeap::new(),
            scheduled: 0,
            terms: Terms {
                window: settings.window * DAY,
                lag: settings.lag,
                skew: 2 * settings.skew * SECOND,
            },
            common,
            busiest: vec![<(PerSecond, PerSecond)>::default(); 2 * servers.len()],
            stages: vec![0; servers.len()],
            servers,
            regions,
            people: Vec::new(),
            free: Vec::new(),
            arrived: 0,
            failovers: Vec::new(),
            campaign_ends: 0,
            landings: 0,
            platforms,
            partnac: client.reports(),
            tracker: tracker.reports(),
            outboxes,
            sending: JoinSet::new(),
            arrivals: PerSecond::default(),
            writes: PerSecond::default(),
            tally: Tally::default(),
        };
        world.schedule_all();
        Ok(world)
    }

    fn schedule(&mut self, at: i64, event: Event) {
        self.scheduled += 1;
        self.events.push(Scheduled {
            at,
            number: self.scheduled,
            event,
        });
    }

    /// Plans everything but what visitors do.
    fn schedule_all(&mut self) {
        let end = self.settings.days * DAY;
        self.schedule(0, Event::Arrive(None));
        self.schedule(DAY, Event::Deploy(1));
        for at in (1..self.settings.days).map(|day| day * DAY) {
            self.schedule(at, Event::Purge);
        }
        for region in 0..self.settings.regions {
            let mut at = 0;
            loop {
                at += self.random.wait(1.5 * DAY as f64);
                if at > end {
                    break;
                }
                let modes = [Mode::Failing, Mode::Hanging, Mode::ReadOnly];
                let mode = modes[self.random.below(modes.len())];
                self.schedule(at, Event::Store(region, mode));
                at += self.random.spread(MINUTE, 6 * HOUR);
                self.schedule(at, Event::Store(region, Mode::Up));
            }
            let mut at = 0;
            loop {
                at += self.random.wait(DAY as f64 / 2.0);
                if at > end {
                    break;
                }
                self.schedule(at, Event::FailOver(region));
            }
        }
        let mut at = 0;
        loop {
            at += self.random.wait(3.0 * DAY as f64);
            if at > end {
                break;
            }
            self.schedule(at, Event::PlatformAway(true));
            at += self.random.spread(10 * MINUTE, 20 * HOUR);
            self.schedule(at, Event::PlatformAway(false));
        }
        for _ in 0..5 {
            let at = self.random.between(DAY, end);
            self.schedule(at, Event::Campaign);
        }
        let mut at = 0;
        loop {
            at += self.random.wait(6.0 * HOUR as f64);
            if at > end {
                break;
            }
            self.schedule(at, Event::Crash);
        }
    }

    /// Runs until nobody has anything left to do, and every report has come to an end.
    pub(crate) async fn run(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(Scheduled { at, event, .. }) = self.events.pop() {
            self.clock.sleep_until(at).await;
            self.handle(event).await?;
        }
        while self.sending.join_next().await.is_some() {}
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), Box<dyn Error>> {
        let now = self.clock.now();
        match event {
            Event::Arrive(campaign) => self.arrive(now, campaign).await,
            Event::Act(person, act) => self.act(person, act).await,
            Event::Deploy(stage) => self.deploy(now, stage),
            Event::Restart(server, stage) => self.restart(server, stage, false)?,
            Event::Crash => {
                let server = self.random.below(self.servers.len());
                self.tally.crashes += 1;
                self.restart(server, self.stages[server], true)?;
            }
            Event::Store(region, mode) => {
                // In a campaign, requests that hang one after the other would last for hours.
                let hangs = mode == Mode::Hanging && now < self.campaign_ends;
                let mode = if hangs { Mode::Failing } else { mode };
                self.common.stores.set_mode(region, mode);
                self.tally.outages += u64::from(mode != Mode::Up);
            }
            Event::FailOver(region) => {
                self.common.stores.fail_over(region);
                self.failovers.push((now, region));
                self.tally.failovers += 1;
            }
            Event::PlatformAway(is_away) => {
                for platform in &self.platforms {
                    platform.set_away(is_away);
                }
                self.tally.platform_outages += u64::from(is_away);
            }
            Event::Campaign => self.campaign(now),
            Event::LookUp(doubt) => self.look_up(*doubt).await,
            Event::Sale(person, program, credit) => self.sell(person, program, &credit),
            Event::Purge => {
                self.common.stores.purge();
                let oldest = now - DAY;
                self.failovers
                    .retain(|(at, _)| *at > oldest - self.terms.window);
            }
        }
        Ok(())
    }

    /// Begins to roll a deployment out: the keys of the next stage, server after server.
    fn deploy(&mut self, now: i64, stage: usize) {
        let count = self.servers.len() as i64;
        for server in 0..self.servers.len() {
            let at = now + server as i64 * ROLL / count;
            self.schedule(at, Event::Restart(server, stage));
        }
        self.tally.deployments += 1;
        // The former key is dropped a window after it has signed for the last time on any server.
        let wait = match stage % 3 {
            2 => ROLL + self.terms.window + self.terms.skew + HOUR,
            _ => DAY,
        };
        let next = now + wait;
        if next < self.settings.days * DAY {
            self.schedule(next, Event::Deploy(stage + 1));
        }
    }

    fn restart(
        &mut self,
        server: usize,
        stage: usize,
        crashes: bool,
    ) -> Result<(), Box<dyn Error>> {
        self.stages[server] = stage;
        let (dropped, interrupted) = self.servers[server].restart(&self.common, stage, crashes)?;
        self.tally.dropped_clicks += dropped;
        self.tally.interrupted_clicks += interrupted;
        Ok(())
    }

    fn campaign(&mut self, now: i64) {
        let region = self.random.below(self.settings.regions);
        if self.common.stores.mode(region) == Mode::Hanging {
            self.common.stores.set_mode(region, Mode::Failing);
        }
        self.campaign_ends = now + CAMPAIGN + MINUTE;
        for _ in 0..self.settings.campaign {
            let at = now + self.random.between(0, CAMPAIGN);
            self.schedule(at, Event::Arrive(Some((region, CAMPAIGN_KEY))));
        }
    }

    /// Says what it came to, once everything is over.
    pub(crate) fn outcome(mut self) -> Result<Outcome, Box<dyn Error>> {
        for server in &self.servers {
            self.tally.dropped_clicks += server.dropped();
        }
        let busiest = |of: fn(&(PerSecond, PerSecond)) -> u64| self.busiest.iter().map(of).max();
        let clicks = busiest(|(all, _)| all.most()).unwrap_or_default();
        let of_key = busiest(|(_, of_key)| of_key.most()).unwrap_or_default();
        let (records, store, store_total) = self.common.stores.counts();
        let peaks = BTreeMap::from([
            ("landings", self.arrivals.most()),
            ("clicks wanted of a server", clicks),
            ("clicks wanted of a key", of_key),
            ("store operations", store),
            ("database rows", self.writes.most()),
        ]);
        Outcome::new(
            &self.settings,
            self.tally,
            &peaks,
            (records, store_total),
            self.common.late.len(),
            self.landings,
            &self.platforms,
            &self.outboxes,
        )
    }
}
