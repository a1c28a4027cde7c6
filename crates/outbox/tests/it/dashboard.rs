//! The dashboard shows every metric of the outbox, and no other.

use std::collections::BTreeSet;

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let places = text.match_indices("tower_referral_outbox_");
    let names = places.map(|(at, _)| {
        let name = &text[at..];
        let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        &name[..end.unwrap_or(name.len())]
    });
    names.collect()
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let counted = metrics_in(include_str!("../../src/telemetry.rs"));
    assert_eq!(counted.len(), 7, "{counted:?}");
    assert_eq!(
        metrics_in(include_str!("../../../../docs/grafana.json")),
        counted
    );
}
