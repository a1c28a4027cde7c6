//! Which keys were refused as links of the own site.

use sha2::{Digest as _, Sha256};

use crate::key::{ClickId, ReferralKey};

/// The keys that one visitor's cookie remembers as refused, to know them again when their page leads to
/// itself.
///
/// A [Bloom filter] of 32 bits, three for each key, which has room for four at least: it takes another for
/// refused by mistake once in 4,960 times where one is in it, in 248 where two are, in 22 where it is full.
/// Such a mistake costs a touch from behind an interstitial its credit, and so a key that doesn't fit takes
/// the place of those before it: their pages' next visit from themselves then counts as one from outside. A key
/// can be made to be mistaken for another, which earns its maker nothing.
///
/// [Bloom filter]: https://doi.org/10.1145/362686.362692
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefusedKeys(u32);

impl RefusedKeys {
    pub(crate) const LEN: usize = 4;
    /// The most bits that are set: those of four keys.
    const MAX_BITS: u32 = 12;

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

    /// Returns these keys and later ones, or the later ones alone where there is no room for both.
    pub(crate) fn and(self, later: Self) -> Self {
        let both = self.0 | later.0;
        if both.count_ones() > Self::MAX_BITS {
            later
        } else {
            Self(both)
        }
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

    fn one(n: u32) -> RefusedKeys {
        let key = format!("PARTNER_{n}").parse().unwrap();
        RefusedKeys::one(Some(&key), None)
    }

    #[test]
    fn it_never_fills_up_and_knows_the_latest() {
        let mut refused = RefusedKeys::default();
        for n in 0..10_000 {
            refused = refused.and(one(n));
            assert!(refused.contain(one(n)), "{n}");
            assert!(refused.0.count_ones() <= 12, "{n}");
        }
        // Four fit, whichever they are.
        for n in 0..10_000 {
            let four = (n..n + 4).map(one).reduce(RefusedKeys::and).unwrap();
            assert!((n..n + 4).all(|n| four.contain(one(n))), "{n}");
        }
        // One that was full before there was a bound.
        assert_eq!(RefusedKeys(u32::MAX).and(one(1)), one(1));
    }

    #[test]
    fn what_was_refused_stays_known_and_little_else_is() {
        let refused = one(0).and(one(1));
        assert!(refused.contain(one(0)));
        assert!(refused.contain(one(1)));
        let mistaken = (2..10_000).filter(|n| refused.contain(one(*n)));
        assert!(mistaken.count() < 100);
        assert!(!RefusedKeys::default().contain(one(0)));
    }
}
