//! What a run used the most, and what to do where that was too much.

use crate::model::Resource;

/// What was used, and how much of it there is.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) resource: Resource,
    pub(super) peak: u64,
    pub(super) capacity: u64,
}

/// What was used the most, as a share of what there is, and what to do about it.
pub(super) fn saturation(mut loads: Vec<Load>) -> String {
    loads.sort_by(|one, other| {
        let share = |load: &Load| load.peak as f64 / load.capacity.max(1) as f64;
        share(other).total_cmp(&share(one))
    });
    let mut text = String::from("\nThe busiest second, and what saturates first:\n");
    for load in loads {
        let share = load.peak as f64 / load.capacity.max(1) as f64;
        let advice = if share >= 1.0 {
            load.resource.advice()
        } else {
            ""
        };
        let (name, peak, capacity) = (load.resource.name(), load.peak, load.capacity);
        text.push_str(&format!(
            "  {name:<36} {peak:>6} of {capacity:>6}  {advice}\n"
        ));
    }
    text
}
