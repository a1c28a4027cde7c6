//! What a run came to: what was lost or doubled, if anything; what failed and was made good; and what was
//! wanted the most.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use tower_referral_platforms::Credit;

use super::Settings;
use super::platform::{Conversion, Platform};
use super::reports::Outbox;
use super::saturation::{Peak, saturation};
use super::truth::{Cause, Touch, Unjudged};
use crate::costs::Costs;
use crate::resource::Resource;

/// The extra of a credit that names its landing.
pub(crate) const LANDING: &str = "landing";
/// So many violations are written out.
const SHOWN: usize = 10;
/// The most of all requests that may go unjudged, or a run says nothing.
const MOST_UNJUDGED: f64 = 0.02;

/// Whom a sign-up ought to credit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Promise {
    Judged {
        ought: Option<Touch>,
        cause: Option<Cause>,
    },
    Unjudged,
}

/// A report that was written.
#[derive(Debug)]
struct Promised {
    program: usize,
    id: String,
    key: String,
    click_id: Option<String>,
    landing: u32,
    at: i64,
}

/// What is known of a landing's click.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Unknown,
    Yes,
    No,
}

/// How many of a program's reports are in a state.
type States = BTreeMap<(usize, &'static str), u64>;

/// What is counted while it runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) unjudged_requests: u64,
    pub(crate) unjudged: BTreeMap<Unjudged, u64>,
    /// Requests that saw something else than they ought to.
    pub(crate) views: BTreeMap<Cause, u64>,
    pub(crate) sign_ups: u64,
    /// Sign-ups whose referral was looked up later.
    pub(crate) doubts: u64,
    pub(crate) sales: u64,
    pub(crate) crashes: u64,
    pub(crate) outages: u64,
    pub(crate) failovers: u64,
    pub(crate) platform_outages: u64,
    pub(crate) deployments: u64,
    pub(crate) dropped_clicks: u64,
    pub(crate) interrupted_clicks: u64,
    credited: u64,
    miscredited: BTreeMap<Cause, u64>,
    landings: Vec<Wanted>,
    reports: Vec<Promised>,
    violations: Vec<String>,
    violated: u64,
}

impl Tally {
    /// Notes what must not be.
    pub(crate) fn wrong(&mut self, what: String) {
        self.violated += 1;
        if self.violations.len() < SHOWN {
            self.violations.push(what);
        }
    }

    /// Notes whether the platform is to be told of a landing; `None` if nobody can say.
    pub(crate) fn note_landing(&mut self, landing: u32, wins: Option<bool>) {
        let at = landing as usize;
        self.landings
            .resize(self.landings.len().max(at + 1), Wanted::Unknown);
        self.landings[at] = match wins {
            None => Wanted::Unknown,
            Some(true) => Wanted::Yes,
            Some(false) => Wanted::No,
        };
    }

    /// Compares whom a sign-up credits with whom it ought to.
    pub(crate) fn judge_sign_up(&mut self, program: usize, key: Option<&str>, promise: Promise) {
        let Promise::Judged { ought, cause } = promise else {
            return;
        };
        let ought = ought.map(|touch| format!("K{}", touch.key));
        if ought.as_deref() == key {
            self.credited += u64::from(key.is_some());
            return;
        }
        match cause {
            Some(cause) => *self.miscredited.entry(cause).or_default() += 1,
            None => self.wrong(format!(
                "a sign-up of program {program} credits {key:?}, and ought to credit {ought:?}"
            )),
        }
    }

    pub(crate) fn promise_report(&mut self, program: usize, id: &str, credit: &Credit, at: i64) {
        let landing = credit.extra(LANDING).and_then(|text| text.parse().ok());
        self.reports.push(Promised {
            program,
            id: id.to_owned(),
            key: credit.key().map(ToString::to_string).unwrap_or_default(),
            click_id: credit.click_id().map(|id| id.as_str().to_owned()),
            landing: landing.unwrap_or_default(),
            at,
        });
    }

    /// Compares the reports that were written with the platforms' records. Returns how many there are in
    /// each state.
    fn check_reports(
        &mut self,
        platforms: &[Platform; 2],
        outboxes: &[Outbox; 2],
    ) -> Result<States, Box<dyn Error>> {
        let mut states = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        for (program, outbox) in outboxes.iter().enumerate() {
            for (id, state) in outbox.states()? {
                *states.entry((program, state)).or_default() += 1;
                by_id.insert((program, id), state);
            }
        }
        for report in std::mem::take(&mut self.reports) {
            let state = by_id.get(&(report.program, report.id.clone()));
            let found = platforms[report.program].conversion(&report.id);
            let times = found.as_ref().map_or(0, |it| it.times);
            let is_right = match (report.program, state.copied()) {
                (_, Some("done")) => times == 1,
                // What can't be sent twice waits for a person to look at the platform.
                (1, Some("ambiguous")) => times <= 1,
                (1, Some("failed")) => times == 0,
                _ => false,
            };
            if !is_right {
                self.wrong(format!(
                    "report {} is {state:?}, and the platform has it {times} times",
                    report.id
                ));
            }
            let Some(Conversion { key, click_id, .. }) = found else {
                continue;
            };
            if key != report.key || click_id != report.click_id {
                self.wrong(format!(
                    "report {} is of {} by {:?}, and the platform has {key} by {click_id:?}",
                    report.id, report.key, report.click_id
                ));
            }
            let click = platforms[0].click(report.landing);
            let is_due = click.answered_at.is_some_and(|at| at < report.at);
            if is_due && click_id != Some(format!("clk_{}", report.landing)) {
                self.wrong(format!(
                    "report {}: the click of landing {} was answered and is lost",
                    report.id, report.landing
                ));
            }
        }
        Ok(states)
    }

    /// Compares the landings with the clicks that the platform has. Returns how many were to be made, and
    /// how many were.
    fn check_clicks(&mut self, platform: &Platform) -> (u64, u64) {
        let (mut wanted, mut made) = (0, 0);
        for (landing, is_wanted) in std::mem::take(&mut self.landings).into_iter().enumerate() {
            let times = platform.click(landing as u32).times;
            if is_wanted == Wanted::Unknown {
                // It may have been told of, once.
                if times > 1 {
                    self.wrong(format!("landing {landing} has {times} clicks"));
                }
                continue;
            }
            wanted += u64::from(is_wanted == Wanted::Yes);
            made += u64::from(times);
            if u64::from(times) > u64::from(is_wanted == Wanted::Yes) {
                self.wrong(format!(
                    "landing {landing} has {times} clicks, wanted: {is_wanted:?}"
                ));
            }
        }
        (wanted, made)
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    violated: u64,
    happened: bool,
    text: String,
}

impl Outcome {
    #[expect(
        clippy::too_many_arguments,
        reason = "it is called once, with all there is"
    )]
    pub(crate) fn new(
        settings: &Settings,
        mut tally: Tally,
        peaks: &BTreeMap<&'static str, u64>,
        (records, store_total): (usize, u64),
        late: usize,
        landings: u32,
        platforms: &[Platform; 2],
        outboxes: &[Outbox; 2],
    ) -> Result<Self, Box<dyn Error>> {
        let states = tally.check_reports(platforms, outboxes)?;
        let (wanted, made) = tally.check_clicks(&platforms[0]);
        let calls = platforms.each_ref().map(Platform::counts);
        let may_miss = tally.dropped_clicks + tally.interrupted_clicks + calls[0].clicks_not_taken;
        if wanted.saturating_sub(made) > may_miss {
            tally.wrong(format!(
                "{wanted} clicks wanted, {made} made, and only {may_miss} had a reason to fail"
            ));
        }
        let unjudged = tally.unjudged_requests as f64 / tally.requests.max(1) as f64;
        if unjudged > MOST_UNJUDGED {
            tally.wrong(format!(
                "{:.1} % of the requests weren't judged",
                unjudged * 100.0
            ));
        }
        let peak = |name| peaks.get(name).copied().unwrap_or_default();
        let resources = vec![
            Peak {
                resource: Resource::ClicksOfServer,
                wanted: peak("clicks wanted of a server"),
                capacity: 50,
            },
            Peak {
                resource: Resource::ClicksOfKey,
                wanted: peak("clicks wanted of a key"),
                capacity: 25,
            },
            Peak {
                resource: Resource::PlatformCalls,
                wanted: calls
                    .iter()
                    .map(|it| it.most_in_a_second)
                    .max()
                    .unwrap_or_default(),
                capacity: settings.platform_limit,
            },
            Peak {
                resource: Resource::StoreOperations,
                wanted: peak("store operations"),
                capacity: settings.store_limit,
            },
            Peak {
                resource: Resource::DatabaseRows,
                wanted: peak("database rows"),
                capacity: Costs::checked_in()?.database_rows() as u64,
            },
        ];
        let attempts = outboxes.each_ref().map(Outbox::counts);
        let happened = tally.outages > 0
            && tally.failovers > 0
            && tally.platform_outages > 0
            && tally.deployments >= 3
            && tally.crashes > 0
            && tally.credited > 0
            && tally.sales > 0
            && tally.dropped_clicks > 0
            && attempts.iter().any(|(_, deaths)| *deaths > 0)
            && calls.iter().all(|it| it.total > 0);
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            text.push_str(&format!("{name:<44} {value}\n"));
        };
        line("landings", landings.to_string());
        line(
            "requests, each compared with the rules",
            tally.requests.to_string(),
        );
        line(
            "of these not judged",
            format!("{} ({:.2} %)", tally.unjudged_requests, unjudged * 100.0),
        );
        for (why, visitors) in &tally.unjudged {
            line(
                &format!("  visitors from then on: {why:?}"),
                visitors.to_string(),
            );
        }
        line(
            "servers, regions",
            format!("{}, {}", settings.servers, settings.regions),
        );
        line(
            "deployments, crashes",
            format!("{}, {}", tally.deployments, tally.crashes),
        );
        line(
            "outages of a store, failovers, of the platform",
            format!(
                "{}, {}, {}",
                tally.outages, tally.failovers, tally.platform_outages
            ),
        );
        for (cause, views) in &tally.views {
            line(
                &format!("views without the right referral: {cause:?}"),
                views.to_string(),
            );
        }
        line(
            "sign-ups, sales",
            format!("{} (each in two programs), {}", tally.sign_ups, tally.sales),
        );
        line("sign-ups looked up later", tally.doubts.to_string());
        line(
            "sign-ups that credit whom they ought to",
            tally.credited.to_string(),
        );
        for (cause, sign_ups) in &tally.miscredited {
            line(
                &format!("sign-ups that don't: {cause:?}"),
                sign_ups.to_string(),
            );
        }
        line("clicks wanted, made", format!("{wanted}, {made}"));
        line(
            "clicks turned away, not taken, interrupted",
            format!(
                "{}, {}, {}",
                tally.dropped_clicks, calls[0].clicks_not_taken, tally.interrupted_clicks
            ),
        );
        line("click IDs kept for any server", late.to_string());
        for (program, name) in ["duplicates recognised", "not recognised"]
            .iter()
            .enumerate()
        {
            let (attempts, deaths) = attempts[program];
            let of = states.iter().filter(|((it, _), _)| *it == program);
            let of: Vec<_> = of.map(|((_, state), n)| format!("{n} {state}")).collect();
            line(
                &format!("reports, {name}"),
                format!(
                    "{}; {attempts} attempts, {deaths} workers lost; the platform has {}",
                    of.join(", "),
                    platforms[program].conversions()
                ),
            );
        }
        line(
            "calls refused by rate, answers lost",
            format!(
                "{}, {}",
                calls.iter().map(|it| it.refused_by_rate).sum::<u64>(),
                calls.iter().map(|it| it.lost_answers).sum::<u64>()
            ),
        );
        line(
            "records in the fullest region, operations",
            format!("{records}, {store_total}"),
        );
        text.push_str(&saturation(resources));
        Ok(Self {
            violations: tally.violations,
            violated: tally.violated,
            happened,
            text,
        })
    }

    /// Returns `true` if everything that a run is about took place in this one.
    #[cfg(test)]
    pub(crate) fn happened(&self) -> bool {
        self.happened
    }

    /// Returns `true` if nothing was lost or doubled.
    pub(crate) fn holds(&self) -> bool {
        self.violated == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.violated == 0 {
            return f.write_str("\nNothing was lost or doubled by scale alone.\n");
        }
        writeln!(f, "\n{} VIOLATIONS:", self.violated)?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        if !self.happened {
            writeln!(f, "  (and not everything took place that a run is about)")?;
        }
        Ok(())
    }
}
