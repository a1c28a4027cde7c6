//! What is counted through the `metrics` facade, that no label comes from a visitor, and that the
//! Grafana dashboard asks for just that.
#![cfg(feature = "metrics")]

mod common;

use std::collections::BTreeMap;
#[cfg(feature = "partnac")]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Shop, keyring, page_visit, with_cookie_line, with_headers};
use http::{Request, Response};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_referral::{Capture, ClickRequest, Clicks, ReferralLayer, SignedCookie, UnknownKey};

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

#[test]
fn decisions_are_counted_by_program_and_reason() {
    let counters = Counters::default();
    with_local_recorder(&counters, || {
        let shop = Shop::new();
        let line = format!("{}={}", common::COOKIE_NAME, shop.sealed("/?aff=A"));
        shop.send(with_cookie_line("/?aff=A", &line));
        shop.send(page_visit("/?aff=B"));
        shop.send(page_visit("/?aff=no%20key"));
        // Nothing of ours: nothing to count.
        shop.send(page_visit("/"));
        let shop = shop.answering(|request| {
            let mut response = Response::new(String::new());
            let name = request.headers()["x-name"].to_str().unwrap().to_owned();
            let capture = Capture::key_for(name, "K".parse().unwrap());
            response.extensions_mut().insert(capture);
            response
        });
        for name in ["one", "two"] {
            shop.send(with_headers(page_visit("/"), &[("x-name", name)]));
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
fn clicks_are_counted_by_what_came_of_them() {
    let counters = Counters::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    with_local_recorder(&counters, || {
        runtime.block_on(async {
            let clicks = Clicks::from_fn(async |click: ClickRequest| {
                if click.key == "GOOD" {
                    Ok("click-1".parse().unwrap())
                } else {
                    Err(UnknownKey)
                }
            });
            let layer = ReferralLayer::builder(SignedCookie::new(keyring()))
                .clicks(clicks)
                .build()
                .unwrap();
            for uri in ["/?aff=GOOD", "/?aff=BAD"] {
                let page = service_fn(async |_: Request<String>| {
                    Ok::<_, std::convert::Infallible>(Response::new(()))
                });
                let request = with_headers(
                    page_visit(uri),
                    &[(
                        "user-agent",
                        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                    )],
                );
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

#[cfg(feature = "partnac")]
#[test]
fn reports_are_counted_by_kind_and_outcome() {
    use http::StatusCode;
    use http_body_util::Full;
    use tower_referral_platforms::{Client, Credit, Money, Partnac, Sale, SignUp};

    let counters = Counters::default();
    let transport = service_fn(async |_: Request<bytes::Bytes>| {
        let mut response = Response::new(Full::<bytes::Bytes>::default());
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        Ok::<_, std::convert::Infallible>(response)
    });
    let client = Client::new(Partnac::new("key").unwrap(), transport);
    let sale = Sale::new("ORDER-1", "ADA", Money::new("9.99", "EUR").unwrap()).unwrap();
    let sale = sale.credit(Credit::new("PARTNER".parse().unwrap()));
    with_local_recorder(&counters, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            assert!(client.report(sale).await.is_err());
            let sign_up = SignUp::new("ADA").unwrap();
            assert!(client.report(sign_up).await.is_ok());
        });
    });
    let of =
        |kind, outcome| format!("tower_referral_reports_total{{kind={kind},outcome={outcome}}}");
    assert_eq!(
        counters.counted(),
        [
            (of("sale", "dead"), 1),
            (of("sign_up", "not_attributed"), 1)
        ]
    );
}

/// Labels, each with the values that a query asks for, if it asks for any.
#[cfg(feature = "partnac")]
type Labels<'query> = Vec<(&'query str, Vec<&'query str>)>;

/// What of our counters a query asks for: `name{label="value",label=~"value|value"}`, and the labels
/// that it groups by.
#[cfg(feature = "partnac")]
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
#[cfg(feature = "partnac")]
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
#[cfg(feature = "partnac")]
fn words_of(counter: &str) -> BTreeSet<&'static str> {
    let guide = include_str!("../docs/guide/troubleshooting.md");
    let row = guide
        .lines()
        .find(|line| line.starts_with(&format!("| `{counter}` |")));
    let row = row.unwrap_or_else(|| panic!("the guide has no {counter}"));
    row.split('`').skip(3).step_by(2).collect()
}

#[cfg(feature = "partnac")]
#[test]
fn the_dashboard_asks_for_what_is_counted_and_for_nothing_else() {
    use http_body_util::Full;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower_referral_platforms::{Client, Partnac, SignUp};

    // Each counter once, and what an exporter makes of it.
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    with_local_recorder(&recorder, || {
        let clicks = Clicks::from_fn(async |_: ClickRequest| Err(UnknownKey));
        let layer = ReferralLayer::builder(SignedCookie::new(keyring())).clicks(clicks);
        let page = service_fn(async |_: Request<String>| {
            Ok::<_, std::convert::Infallible>(Response::new(()))
        });
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let layer = layer.build().unwrap();
        let landing = || {
            let request = with_headers(page_visit("/?aff=A"), &[("user-agent", firefox)]);
            layer.layer(page).oneshot(request)
        };
        // Outside of a runtime a click can't be started, and is dropped.
        common::at_once(landing()).unwrap();
        let transport = service_fn(async |_: Request<bytes::Bytes>| {
            Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::default()))
        });
        let client = Client::new(Partnac::new("key").unwrap(), transport);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            landing().await.unwrap();
            client.report(SignUp::new("ADA").unwrap()).await.unwrap();
        });
    });
    let scrape = exporter.render();
    let counted: BTreeMap<&str, BTreeSet<&str>> = scrape
        .lines()
        .filter_map(|line| line.split_once('{'))
        .map(|(name, labels)| {
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            (name, labels.map(|(label, _)| label).collect())
        })
        .collect();

    let dashboard = serde_json::from_str(include_str!("../docs/grafana.json")).unwrap();
    let selectors: Vec<_> = queries(&dashboard)
        .into_iter()
        .flat_map(asked_for)
        .collect();
    let asked: BTreeSet<_> = selectors.iter().map(|(name, _)| *name).collect();
    assert_eq!(asked, counted.keys().copied().collect(), "{scrape}");

    let reasons = include_str!("../src/reason.rs");
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
