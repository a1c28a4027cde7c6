//! A shop of hundreds of servers in virtual time. The layer, the platform's client and the delivery of
//! reports are the real ones; servers' clocks, stores, networks and the platform are simulated. What
//! visitors see is compared in every request with what they ought to see.

mod clock;
mod fleet;
mod outcome;
mod peaks;
mod platform;
mod random;
mod reports;
mod saturation;
mod store;
mod truth;
mod visits;
mod world;

use std::error::Error;

use clap::Args;

pub(crate) use self::outcome::Outcome;
use self::world::World;

/// What is simulated.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The same run for the same number
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// How many landings
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) landings: u32,

    /// In how many days
    #[arg(long, default_value_t = 42)]
    pub(crate) days: i64,

    /// How many servers
    #[arg(long, default_value_t = 300)]
    pub(crate) servers: usize,

    /// In how many regions, each with a store of its own; at least 2
    #[arg(long, default_value_t = 3)]
    pub(crate) regions: usize,

    /// By how many seconds a server's clock may be wrong, either way; at most 149
    #[arg(long, default_value_t = 120)]
    pub(crate) skew: i64,

    /// After how many milliseconds a region has what another one wrote
    #[arg(long, default_value_t = 2000)]
    pub(crate) lag: i64,

    /// How many days a referral counts
    #[arg(long, default_value_t = 10)]
    pub(crate) window: i64,

    /// How often a visitor's request goes to another region than the visitor's own
    #[arg(long, default_value_t = 0.02)]
    pub(crate) roaming: f64,

    /// How many calls a second the platform takes
    #[arg(long, default_value_t = 400)]
    pub(crate) platform_limit: u64,

    /// How many landings one campaign brings in four seconds, all with one key and in one region
    #[arg(long, default_value_t = 10_000)]
    pub(crate) campaign: u32,

    /// How many operations a second one store is taken to do
    #[arg(long, default_value_t = 50_000)]
    pub(crate) store_limit: u64,
}

impl Settings {
    /// Refuses what the simulation can't judge.
    fn check(&self) -> Result<(), &'static str> {
        if !(0..150).contains(&self.skew) {
            return Err(
                "--skew must be under 150: a referral captured over 300 s in the future is refused, \
                 so clocks may differ by 300 s at most. Give less, and keep your servers' clocks right",
            );
        }
        if self.regions < 2 || self.servers < self.regions {
            return Err("--regions must be at least 2, and --servers at least as many");
        }
        if self.landings == 0 || self.days < 1 || self.window < 1 || self.lag < 0 {
            return Err("--landings, --days and --window must be at least 1, --lag at least 0");
        }
        Ok(())
    }
}

/// Runs it, on this thread.
pub(crate) fn run(settings: &Settings) -> Result<Outcome, Box<dyn Error>> {
    settings.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let mut world = World::new(settings)?;
        world.run().await?;
        world.outcome()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Settings {
        Settings {
            seed,
            landings: 2000,
            days: 42,
            servers: 12,
            regions: 3,
            skew: 120,
            lag: 2000,
            window: 10,
            roaming: 0.05,
            platform_limit: 100,
            campaign: 800,
            store_limit: 50_000,
        }
    }

    #[test]
    fn scale_alone_loses_and_doubles_nothing() {
        for seed in 1..=3 {
            let outcome = run(&small(seed)).unwrap();
            assert_eq!(outcome.violations, Vec::<String>::new(), "{outcome}");
            assert!(outcome.happened(), "{outcome}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let [one, other] = [7, 7].map(|seed| run(&small(seed)).unwrap().to_string());
        assert_eq!(one, other);
    }

    #[test]
    fn clocks_further_apart_than_the_layer_takes_are_refused() {
        let settings = Settings {
            skew: 150,
            ..small(1)
        };
        assert!(run(&settings).unwrap_err().to_string().contains("--skew"));
    }
}
