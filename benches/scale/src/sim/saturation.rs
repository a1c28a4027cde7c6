//! What a run wanted the most in a second, and what to do where that was more than there is.

use crate::resource::Resource;

/// What was wanted in the busiest second, whether or not it was given, and how much of it there is.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) resource: Resource,
    pub(super) peak: u64,
    pub(super) capacity: u64,
}

/// Says what was wanted the most, as a share of what there is, and what to do about it.
pub(super) fn saturation(mut loads: Vec<Load>) -> String {
    loads.sort_by(|one, other| {
        let share = |load: &Load| load.peak as f64 / load.capacity.max(1) as f64;
        share(other).total_cmp(&share(one))
    });
    let mut text = String::from(
        "\nWanted in the busiest second, and what there is; what is used up first comes first:\n",
    );
    for load in loads {
        let share = load.peak as f64 / load.capacity.max(1) as f64;
        let advice = if share >= 1.0 {
            load.resource.advice()
        } else {
            ""
        };
        let (name, peak, capacity) = (load.resource.name(), load.peak, load.capacity);
        text.push_str(&format!(
            "  {name:<36} {peak:>6} wanted of {capacity:>6}  {advice}\n"
        ));
    }
    text
}
