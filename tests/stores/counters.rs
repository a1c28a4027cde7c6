//! What is counted through the `metrics` facade, that no label comes from a visitor, and that the
//! Grafana dashboard and the guide name just that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::click::{Click, ClickRequest, Clicks, UnknownKey};
use tower_referral::{Capture, ReferralLayer};

use crate::support::{COOKIE_NAME, FIREFOX, at_once, keyring, page_visit, with_headers};

/// Keeps counters by their written form, `name{label=value}`.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn counted(&self) -> Vec<(String, u64)> {
        let counters = self.0.lock().unwrap();
        let read = |(name, count): (&String, &Arc<AtomicU64>)| {
            (name.clone(), count.load(Ordering::Relaxed))
        };
        counters.iter().map(read).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let name = format!("{}{{{}}}", key.name(), labels.collect::<Vec<_>>().join(","));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        unreachable!("there are counters only")
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("there are counters only")
    }
}

/// Sends a request through the layer to a page that captures a key for the program that the request
/// names, if any. Returns the cookie that is set.
fn send(layer: &ReferralLayer, request: Request<String>) -> Option<String> {
    let page = service_fn(async |request: Request<String>| {
        let mut response = Response::new(());
        if let Some(name) = request.headers().get("x-name") {
            let capture = Capture::key_for(name.to_str().unwrap(), "K".parse().unwrap());
            response.extensions_mut().insert(capture);
        }
        Ok::<_, std::convert::Infallible>(response)
    });
    let Ok(response) = at_once(layer.layer(page).oneshot(request));
    let line = response.headers().get("set-cookie")?;
    Some(line.to_str().unwrap().split(';').next()?.to_owned())
}

#[test]
fn decisions_are_counted_by_program_and_reason() {
    let counters = Counters::default();
    with_local_recorder(&counters, || {
        let layer = ReferralLayer::builder(keyring()).build().unwrap();
        let pair = send(&layer, page_visit("/?aff=A")).unwrap();
        assert!(pair.starts_with(COOKIE_NAME));
        send(
            &layer,
            with_headers(page_visit("/?aff=A"), &[("cookie", &pair)]),
        );
        send(&layer, page_visit("/?aff=B"));
        send(&layer, page_visit("/?aff=no%20key"));
        // Nothing of the layer's: nothing to count.
        send(&layer, page_visit("/"));
        for name in ["one", "two"] {
            send(&layer, with_headers(page_visit("/"), &[("x-name", name)]));
        }
    });
    let of = |program, reason| {
        format!("tower_referral_decisions_total{{program={program},reason={reason}}}")
    };
    assert_eq!(
        counters.counted(),
        [
            (of("", "unknown_program"), 2),
            (of("default", "captured"), 2),
            (of("default", "invalid_key"), 1),
            (of("default", "same_key"), 1),
        ]
    );
}

#[test]
fn clicks_are_counted_by_their_outcome() {
    let counters = Counters::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    with_local_recorder(&counters, || {
        runtime.block_on(async {
            let clicks = Clicks::from_fn(async |click: ClickRequest| {
                if *click.key() == "GOOD" {
                    Ok(Click::new("click-1".parse().unwrap()))
                } else {
                    Err(UnknownKey)
                }
            });
            let layer = ReferralLayer::builder(keyring())
                .clicks(clicks)
                .build()
                .unwrap();
            for uri in ["/?aff=GOOD", "/?aff=BAD"] {
                let page = service_fn(async |_: Request<String>| {
                    Ok::<_, std::convert::Infallible>(Response::new(()))
                });
                let request = with_headers(page_visit(uri), &[("user-agent", FIREFOX)]);
                layer.layer(page).oneshot(request).await.unwrap();
            }
            assert!(layer.drain_clicks(Duration::from_secs(5)).await);
        });
    });
    let counted = counters.counted();
    let clicks: Vec<_> = counted
        .iter()
        .filter_map(|(name, count)| {
            let outcome = name.strip_prefix("tower_referral_clicks_total{outcome=")?;
            Some((outcome.trim_end_matches('}'), *count))
        })
        .collect();
    assert_eq!(clicks, [("created", 1), ("started", 2), ("unknown_key", 1)]);
    let shown = format!("{counted:?}");
    assert!(!shown.contains("GOOD") && !shown.contains("BAD"), "{shown}");
}

/// Labels, each with the values that a query asks for, if it asks for any.
type Labels<'query> = Vec<(&'query str, Vec<&'query str>)>;

/// What of our counters a query asks for: `name{label="value",label=~"value|value"}`, and the labels
/// that it groups by.
fn asked_for(query: &str) -> Vec<(&str, Labels<'_>)> {
    let mut selectors = Vec::new();
    for (start, _) in query.match_indices("tower_referral_") {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let mut labels: Labels<'_> = matchers
            .into_iter()
            .flat_map(|(matchers, _)| matchers.split(','))
            .map(|matcher| {
                let (label, values) = matcher.split_once('=').unwrap();
                let values = values.trim_start_matches('~').trim_matches('"');
                (label, values.split('|').collect())
            })
            .collect();
        let groups = query.split("by (").skip(1);
        labels.extend(
            groups
                .flat_map(|rest| rest.split_once(')').unwrap().0.split(", "))
                .map(|label| (label, Vec::new())),
        );
        selectors.push((name, labels));
    }
    selectors
}

/// Every query in the dashboard: those of the panels, and that of the variable.
fn queries(of: &serde_json::Value) -> Vec<&str> {
    match of {
        serde_json::Value::Array(parts) => parts.iter().flat_map(queries).collect(),
        serde_json::Value::Object(parts) => parts
            .iter()
            .flat_map(|(name, part)| match (name.as_str(), part.as_str()) {
                ("expr" | "query" | "definition", Some(query)) => vec![query],
                _ => queries(part),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The words in backticks of a row in the guide's table of counters.
fn words_of(counter: &str) -> BTreeSet<&'static str> {
    let guide = include_str!("../../docs/guide/troubleshooting.md");
    let row = guide
        .lines()
        .find(|line| line.starts_with(&format!("| `{counter}` |")));
    let row = row.unwrap_or_else(|| panic!("the guide has no {counter}"));
    row.split('`').skip(3).step_by(2).collect()
}

/// The counters of the platforms' package and of the outbox, which their own tests hold against the
/// dashboard.
fn is_of_another_crate(name: &str) -> bool {
    let platforms = [
        "tower_referral_platform_clicks_total",
        "tower_referral_reports_total",
    ];
    platforms.contains(&name) || name.starts_with("tower_referral_outbox_")
}

#[test]
fn the_dashboard_asks_for_what_is_counted_and_for_nothing_else() {
    // Each counter once.
    let counters = Counters::default();
    with_local_recorder(&counters, || {
        let clicks = Clicks::from_fn(async |_: ClickRequest| Err::<Click, _>(UnknownKey));
        let layer = ReferralLayer::builder(keyring())
            .clicks(clicks)
            .build()
            .unwrap();
        let landing = || with_headers(page_visit("/?aff=A"), &[("user-agent", FIREFOX)]);
        // Outside of a runtime a click can't be started, and is dropped.
        send(&layer, landing());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            send(&layer, landing());
            assert!(layer.drain_clicks(Duration::from_secs(5)).await);
        });
    });
    let counted = counters.counted();
    let counted: BTreeMap<&str, BTreeSet<&str>> = counted
        .iter()
        .filter_map(|(name, _)| name.trim_end_matches('}').split_once('{'))
        .map(|(name, labels)| {
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            (name, labels.map(|(label, _)| label).collect())
        })
        .collect();

    let dashboard = serde_json::from_str(include_str!("../../docs/grafana.json")).unwrap();
    let selectors: Vec<_> = queries(&dashboard)
        .into_iter()
        .flat_map(asked_for)
        .filter(|(name, _)| !is_of_another_crate(name))
        .collect();
    let asked: BTreeSet<_> = selectors.iter().map(|(name, _)| *name).collect();
    assert_eq!(asked, counted.keys().copied().collect());

    let reasons = include_str!("../../src/reason.rs");
    let mut missing: BTreeSet<_> = reasons
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(_, reason)| reason.trim_end_matches("\","))
        .collect();
    let reasons = missing.clone();
    for (name, labels) in selectors {
        for (label, values) in labels {
            assert!(counted[name].contains(label), "{name} has no label {label}");
            for value in values.into_iter().filter(|value| *value != "$program") {
                let known = if name == "tower_referral_decisions_total" {
                    missing.remove(value);
                    reasons.contains(value)
                } else {
                    words_of(name).contains(value)
                };
                assert!(known, "{name} never has {label}={value}");
            }
        }
    }
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}
