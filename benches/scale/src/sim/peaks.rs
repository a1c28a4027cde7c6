//! How often something happens in a second, at most.

#[derive(Clone, Debug, Default)]
pub(crate) struct PerSecond {
    second: i64,
    in_it: u64,
    most: u64,
}

impl PerSecond {
    /// Counts one, and returns how many there were in this second by now.
    pub(crate) fn count(&mut self, now: i64) -> u64 {
        let second = now.div_euclid(1000);
        if second != self.second {
            self.second = second;
            self.in_it = 0;
        }
        self.in_it += 1;
        self.most = self.most.max(self.in_it);
        self.in_it
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }
}
