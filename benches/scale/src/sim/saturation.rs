//! What a run wanted the most in a second, and what to do where that was more than there is.

use crate::resource::Resource;

/// What was wanted in the busiest second, whether or not it was given, and how much of it there is.
#[derive(Debug)]
pub(super) struct Peak {
    pub(super) resource: Resource,
    pub(super) wanted: u64,
    pub(super) capacity: u64,
}

/// Says what was wanted the most, as a share of what there is, and what to do about it.
pub(super) fn saturation(mut peaks: Vec<Peak>) -> String {
    peaks.sort_by(|one, other| {
        let share = |peak: &Peak| peak.wanted as f64 / peak.capacity.max(1) as f64;
        share(other).total_cmp(&share(one))
    });
    let mut text = String::from(
        "\nWanted in the busiest second, and what there is; what is used up first comes first:\n",
    );
    for peak in peaks {
        let share = peak.wanted as f64 / peak.capacity.max(1) as f64;
        let advice = if share >= 1.0 {
            peak.resource.advice()
        } else {
            ""
        };
        let (name, wanted, capacity) = (peak.resource.name(), peak.wanted, peak.capacity);
        text.push_str(&format!(
            "  {name:<36} {wanted:>6} wanted of {capacity:>6}  {advice}\n"
        ));
    }
    text
}
