//! The names of what goes back of a payment, and the IDs of the reports about it: no two refunds,
//! disputes or totals have one in common, whatever the provider calls them.

use serde::{Deserialize, Serialize};

use crate::InvalidId;
use crate::report::Id;

/// What kind of entry it is. Providers number each kind by itself, so that a refund and a dispute may
/// have one ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Refund,
    Dispute,
    /// What gives back what a dispute took.
    Opposite,
    /// All that was refunded so far.
    Total,
}

/// The ID of the refund of a sale that was reported under two orders. No name is like it.
pub(super) const DUPLICATE: &str = ":duplicate";

impl EntryKind {
    /// Returns the name of the entry of this kind and ID. An ID's own `:` is escaped, so that different
    /// kinds or IDs have different names.
    pub(super) fn name(self, id: &str) -> String {
        let id = id.replace('%', "%25").replace(':', "%3A");
        match self {
            Self::Refund => id,
            Self::Dispute => id + ":dispute",
            Self::Opposite => id + ":opposite",
            Self::Total => id + ":total",
        }
    }
}

/// Returns the ID of the report that is the `count`th of its kind about an entry.
pub(super) fn numbered(name: &str, count: u32) -> String {
    match count {
        1 => name.to_owned(),
        _ => format!("{name}:{count}"),
    }
}

/// Checks that all IDs of reports about an entry of this ID can be IDs.
pub(super) fn check(id: &str) -> Result<(), InvalidId> {
    let longest = EntryKind::Opposite.name(id);
    Id::new(id)?;
    Id::new(numbered(&longest, u32::MAX)).map(drop)
}

/// How many refunds and reversals were reported about an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) refunds: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) reversals: u32,
}

impl Told {
    /// Joins what two records say of one entry.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            refunds: self.refunds.max(other.refunds),
            reversals: self.reversals.max(other.reversals),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_reports_have_one_id() {
        use EntryKind::{Dispute, Opposite, Refund, Total};
        let ids = [
            "a",
            "a:2",
            "a:dispute",
            "a%3A2",
            "a:total:2",
            ":duplicate",
            "%",
        ];
        let mut seen = BTreeSet::from([DUPLICATE.to_owned()]);
        for id in ids {
            for kind in [Refund, Dispute, Opposite, Total] {
                for count in 1..=3 {
                    let report = numbered(&kind.name(id), count);
                    assert!(seen.insert(report.clone()), "{report}");
                }
            }
        }
    }

    #[test]
    fn an_id_leaves_room_for_all_that_is_derived_from_it() {
        assert_eq!(check(&"x".repeat(108)), Ok(()));
        assert_eq!(check(&"x".repeat(109)), Err(InvalidId));
        assert_eq!(check(&":".repeat(36)), Ok(()));
        assert_eq!(check(&":".repeat(37)), Err(InvalidId));
        assert_eq!(check(" x"), Err(InvalidId));
    }
}
