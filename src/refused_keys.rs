//! Which keys were refused as links of the own site.

use sha2::{Digest as _, Sha256};

use crate::key::{ClickId, ReferralKey};

/// The keys that one visitor's cookie remembers as refused, to know them again when their page leads to
/// itself.
///
/// A [Bloom filter] of 32 bits, three for each key: it forgets none, and takes one more for refused by
/// mistake once in 1,200 times where one is in it, in 150 where two are. Such a mistake costs a touch
/// from behind an interstitial its credit; forgetting would give it to a link of the own site. A key can be made
/// to be mistaken for another, which earns its maker nothing.
///
/// [Bloom filter]: https://doi.org/10.1145/362686.362692
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefusedKeys(u32);

impl RefusedKeys {
    pub(crate) const LEN: usize = 4;

    /// Returns the one key, or click ID where there is no key.
    pub(crate) fn one(key: Option<&ReferralKey>, click_id: Option<&ClickId>) -> Self {
        let key = key.map(ReferralKey::as_str);
        let text = key.or(click_id.map(ClickId::as_str)).unwrap_or_default();
        let hash = Sha256::digest(text.as_bytes());
        let (mut bits, mut at) = (0_u32, 0);
        // Three that differ, so that no key has fewer.
        while bits.count_ones() < 3 && at < hash.len() {
            bits |= 1 << (hash[at] % 32);
            at += 1;
        }
        Self(bits)
    }

    /// Returns these keys and those.
    pub(crate) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns `true` if all those keys are, probably, among these.
    pub(crate) fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_stays_known_and_little_else_is() {
        let one = |n: u32| {
            let key = format!("PARTNER_{n}").parse().unwrap();
            RefusedKeys::one(Some(&key), None)
        };
        let refused = one(0).and(one(1));
        assert!(refused.contain(one(0)));
        assert!(refused.contain(one(1)));
        let mistaken = (2..10_000).filter(|n| refused.contain(one(*n)));
        assert!(mistaken.count() < 100);
        assert!(!RefusedKeys::default().contain(one(0)));
    }
}
