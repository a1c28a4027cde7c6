//! What is counted through the `metrics` facade: every outcome of a report and of a click under its own
//! labels, and that the Grafana dashboard and the guide name just these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use serde_json::Value;
use tower_referral::click::ClickRequest;
use tower_referral_platforms::{Money, Partnac, Refund, Report, Sale, SignUp};

use crate::stand_in::{StandIn, credit};

const REPORTS: &str = "tower_referral_reports_total";
const CLICKS: &str = "tower_referral_platform_clicks_total";
const KINDS: [&str; 6] = [
    "sign_up",
    "sale",
    "refund",
    "refund_reversal",
    "sale_update",
    "cancellation",
];
const OUTCOMES: [&str; 6] = [
    "ambiguous",
    "duplicate",
    "not_attributed",
    "permanent",
    "recorded",
    "retry",
];

/// Keeps counters by name and labels.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<Vec<String>, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let name = std::iter::once(key.name().to_owned()).chain(labels);
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry(name.collect()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        unreachable!("there are counters only")
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("there are counters only")
    }
}

impl Counters {
    /// Returns each counter with its labels, and its count.
    fn counted(&self) -> Vec<(String, u64)> {
        let counters = self.0.lock().unwrap();
        let read = |(name, count): (&Vec<String>, &Arc<AtomicU64>)| {
            (name.join(" "), count.load(Ordering::Relaxed))
        };
        counters.iter().map(read).collect()
    }
}

#[tokio::test]
async fn reports_are_counted_by_kind_and_outcome() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let sale = || {
        let amount = Money::new("99.99", "EUR").unwrap();
        let sale = Sale::new("ORDER-1", "CUSTOMER-1", amount).unwrap();
        Report::from(sale.with_credit(credit("PARTNER_1")))
    };
    let refund = || Report::from(Refund::whole("ORDER-1").unwrap());
    let nobodys = Report::from(SignUp::new("CUSTOMER-1").unwrap());
    let created = (201, r#"{"data":{"id":"conv_1"}}"#);
    for (report, answer) in [
        (sale(), created),
        (sale(), created),
        (sale(), (409, r#"{"message":"anything"}"#)),
        (nobodys, created),
        (refund(), (404, "<h1>Not Found</h1>")),
        (refund(), (404, "[999]")),
        (refund(), (200, "<h1>Log in</h1>")),
    ] {
        let platform = StandIn::new([answer]);
        let client = platform.client(Partnac::new("s3cret-key").unwrap());
        let _ = client.report(report).await;
    }
    let expected = [
        ("kind=refund outcome=ambiguous", 1),
        ("kind=refund outcome=permanent", 1),
        ("kind=refund outcome=retry", 1),
        ("kind=sale outcome=duplicate", 1),
        ("kind=sale outcome=recorded", 2),
        ("kind=sign_up outcome=not_attributed", 1),
    ];
    let expected = expected.map(|(labels, count)| (format!("{REPORTS} {labels}"), count));
    assert_eq!(counters.counted(), expected);
}

#[tokio::test]
async fn clicks_are_counted_by_the_answer() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    let click = ClickRequest::new("PARTNER_1".parse().unwrap(), "https://shop.example/");
    for answer in [
        (201, r#"{"click_id":"clk_1"}"#),
        (422, r#"{"message":"no"}"#),
        (401, r#"{"message":"no"}"#),
    ] {
        let platform = StandIn::new([answer]);
        let client = platform.client(Partnac::new("s3cret-key").unwrap());
        let _ = client.create_click(&click).await;
    }
    let expected = ["created", "rejected", "unauthorized"];
    let expected = expected.map(|outcome| (format!("{CLICKS} outcome={outcome}"), 1));
    assert_eq!(counters.counted(), expected);
}

/// The counters that the code names.
fn counter_names() -> BTreeSet<String> {
    let code = repository_file("crates/platforms/src/telemetry.rs");
    let names = code
        .split('"')
        .filter(|text| text.starts_with("tower_referral_"));
    names.map(str::to_owned).collect()
}

#[test]
fn every_counter_is_in_the_guide_and_on_the_dashboard() {
    let guide = repository_file("docs/guide/troubleshooting.md");
    let dashboard = serde_json::from_str(&repository_file("docs/grafana.json")).unwrap();
    let queries = queries(&dashboard);
    let names = counter_names();
    assert!(names.iter().eq([CLICKS, REPORTS]), "{names:?}");
    for name in names {
        let row = format!("| `{name}` |");
        assert!(guide.lines().any(|line| line.starts_with(&row)), "{row}");
        assert!(queries.iter().any(|query| query.contains(&name)), "{name}");
    }
}

/// The queries of the dashboard's panels.
fn queries(of: &Value) -> Vec<&str> {
    match of {
        Value::Array(parts) => parts.iter().flat_map(queries).collect(),
        Value::Object(parts) => parts
            .iter()
            .flat_map(|(name, part)| match (name.as_str(), part) {
                ("expr", Value::String(query)) => vec![query.as_str()],
                _ => queries(part),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn repository_file(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    std::fs::read_to_string(format!("{root}/{path}")).unwrap()
}

#[test]
fn the_dashboard_shows_every_outcome_of_a_report_and_no_other() {
    let dashboard: Value = serde_json::from_str(&repository_file("docs/grafana.json")).unwrap();
    let mut shown = BTreeSet::new();
    for query in queries(&dashboard) {
        for (at, _) in query.match_indices(REPORTS) {
            let labels = query[at + REPORTS.len()..].strip_prefix('{').unwrap();
            let (labels, _) = labels.split_once('}').unwrap();
            for label in labels.split(',') {
                let (label, values) = label.split_once('=').unwrap();
                let values = values.trim_start_matches('~').trim_matches('"').split('|');
                match label {
                    "kind" => assert!(values.clone().all(|kind| KINDS.contains(&kind)), "{query}"),
                    "outcome" => shown.extend(values.map(str::to_owned)),
                    _ => panic!("{REPORTS} has no label {label}: {query}"),
                }
            }
        }
    }
    assert!(shown.iter().eq(OUTCOMES), "{shown:?}");
}

#[test]
fn the_guide_names_every_outcome_of_a_report() {
    let guide = repository_file("docs/guide/troubleshooting.md");
    let row = guide
        .lines()
        .find(|line| line.starts_with(&format!("| `{REPORTS}` |")))
        .expect("a row");
    let (_, outcomes) = row.split_once("`outcome`:").expect("the label");
    let named: BTreeSet<_> = outcomes.split('`').skip(1).step_by(2).collect();
    assert!(named.into_iter().eq(OUTCOMES), "{row}");
}
