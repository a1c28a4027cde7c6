//! What the simulation draws, by the generator that the tests use: the same run for the same seed.

#[path = "../../../../tests/random/mod.rs"]
mod generator;

pub(crate) use self::generator::Random;

impl Random {
    /// From 0 up to 1, without the 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Yes, with this probability.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        from + (self.share() * (to - from) as f64) as i64
    }

    /// Between two durations, each of their orders of magnitude as often as another.
    pub(crate) fn spread(&mut self, from: i64, to: i64) -> i64 {
        let ratio = to as f64 / from as f64;
        (from as f64 * ratio.powf(self.share())) as i64
    }

    /// The wait for the next of events that come independently, on average this long.
    pub(crate) fn wait(&mut self, mean: f64) -> i64 {
        (-(1.0 - self.share()).ln() * mean) as i64
    }
}
