//! Late click IDs that are being written to records, and deletions of the same records meanwhile.
//!
//! A store has no way to write a record only if it is still there, and many create it anew. So a join that
//! overlaps with a deletion in this process learns of it, and deletes once more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The records that are being joined or deleted, by their IDs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joins(Arc<Mutex<BTreeMap<i128, Overlap>>>);

#[derive(Debug, Default)]
struct Overlap {
    joins: usize,
    deletions: usize,
    /// Both were there at once.
    is_deleted: bool,
}

/// One that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Underway {
    all: Joins,
    id: i128,
    count: fn(&mut Overlap) -> &mut usize,
}

impl Joins {
    /// Notes that a click ID is being written to a record.
    pub(crate) fn join(&self, id: i128) -> Underway {
        self.begin(id, |overlap| &mut overlap.joins)
    }

    /// Notes that a record is being deleted.
    pub(crate) fn delete(&self, id: i128) -> Underway {
        self.begin(id, |overlap| &mut overlap.deletions)
    }

    fn begin(&self, id: i128, count: fn(&mut Overlap) -> &mut usize) -> Underway {
        let mut all = self.lock();
        let overlap = all.entry(id).or_default();
        *count(overlap) += 1;
        overlap.is_deleted |= overlap.joins > 0 && overlap.deletions > 0;
        drop(all);
        Underway {
            all: self.clone(),
            id,
            count,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i128, Overlap>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Underway {
    /// Returns `true` if the record was deleted while a click ID was being written to it.
    pub(crate) fn is_deleted(&self) -> bool {
        let all = self.all.lock();
        all.get(&self.id).is_some_and(|overlap| overlap.is_deleted)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(overlap) = all.get_mut(&self.id) {
            *(self.count)(overlap) -= 1;
            if overlap.joins == 0 && overlap.deletions == 0 {
                all.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_known_if_it_overlaps_and_nothing_stays() {
        let joins = Joins::default();
        let join = joins.join(1);
        assert!(!join.is_deleted());
        drop(joins.delete(2));
        assert!(!join.is_deleted(), "another record's");
        drop(joins.delete(1));
        assert!(join.is_deleted());
        drop(join);
        assert!(!joins.join(1).is_deleted(), "it was over");

        let deletion = joins.delete(1);
        let join = joins.join(1);
        drop(deletion);
        assert!(join.is_deleted(), "it was under way already");
        drop(join);
        assert!(joins.lock().is_empty());
    }
}
