//! `docs/scale.md`, whole: the formulas, the tables that follow from the checked-in costs, and what was
//! seen of the simulation and of ten processes.

use std::fmt::Write as _;

use crate::assumptions::Assumptions;
use crate::costs::Costs;
use crate::model::{Needs, needs};
use crate::resource::Resource;

/// The scales, in landings a second.
const SCALES: [f64; 3] = [1e3, 1e5, 1e6];

/// Writes the document.
pub(crate) fn document(costs: &Costs, assumed: &Assumptions) -> String {
    let rows = SCALES.map(|landings| needs(costs, assumed, landings));
    [
        include_str!("../text/opening.md").to_owned(),
        costs_table(costs),
        assumptions_table(assumed),
        include_str!("../text/formulas.md").to_owned(),
        needs_table(&rows, assumed),
        store_table(&rows),
        saturation_table(&rows, costs, assumed),
        include_str!("../text/advice.md").to_owned(),
        advice_list(),
        include_str!("../text/simulation.md").to_owned(),
        include_str!("../text/ten.md").to_owned(),
    ]
    .join("\n")
}

/// Three significant digits; all of them from a thousand on, and a unit from a million on.
fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e12, "trillion"), (1e9, "billion"), (1e6, "million")];
    if value < 999.5 {
        return digits(value);
    }
    let value = value.round();
    match UNITS.iter().find(|(least, _)| value >= *least) {
        Some((least, name)) => format!("{} {name}", digits(value / least)),
        None => {
            let whole = value as u64;
            format!("{},{:03}", whole / 1000, whole % 1000)
        }
    }
}

fn digits(value: f64) -> String {
    match value {
        it if it >= 100.0 || (it.fract() == 0.0 && it >= 1.0) => format!("{it:.0}"),
        it if it >= 10.0 => format!("{it:.1}"),
        it if it >= 0.1 => format!("{it:.2}"),
        0.0 => "0".to_owned(),
        it => format!("{it:.3}"),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")];
    let unit = UNITS.iter().find(|(least, _)| value >= *least);
    let (least, name) = unit.copied().unwrap_or((1e6, "MB"));
    format!("{} {name}", digits(value / least))
}

fn costs_table(costs: &Costs) -> String {
    let mut text = String::from("| cost | value | of what | measured by |\n|---|---:|---|---|\n");
    for (name, cost) in costs.named() {
        let (value, unit) = (short(cost.value), &cost.unit);
        let (what, source) = (&cost.what, &cost.source);
        let _ = writeln!(text, "| `{name}` | {value} {unit} | {what} | {source} |");
    }
    text
}

fn assumptions_table(assumed: &Assumptions) -> String {
    let mut text = String::from(
        "What is assumed, each of it an option of the program:\n\n| option | value | meaning |\n|---|---:|---|\n",
    );
    for (name, value, meaning) in assumed.named() {
        let _ = writeln!(text, "| `--{name}` | {} | {meaning} |", short(value));
    }
    text
}

/// A row's name, and how its figure is written.
type Line<'a> = (&'a str, &'a dyn Fn(&Needs) -> String);

/// A table with a row for each quantity and a column for each scale.
fn table(head: &str, rows: &[Needs; 3], lines: &[Line<'_>]) -> String {
    let mut text = format!("| {head} |");
    for row in rows {
        let _ = write!(text, " {} landings/s |", short(row.landings));
    }
    text.push_str("\n|---|---:|---:|---:|\n");
    for (name, of) in lines {
        let _ = write!(text, "| {name} |");
        for row in rows {
            let _ = write!(text, " {} |", of(row));
        }
        text.push('\n');
    }
    text
}

fn needs_table(rows: &[Needs; 3], assumed: &Assumptions) -> String {
    let lines: &[Line<'_>] = &[
        ("requests a second", &|it| short(it.requests)),
        ("busy cores, the whole shop", &|it| short(it.busy_cores)),
        ("of these in the layer itself", &|it| short(it.layer_cores)),
        ("servers", &|it| short(it.servers)),
        ("visitors' connections", &|it| short(it.connections)),
        ("connections of one server", &|it| {
            short(it.connections_of_server)
        }),
        ("sign-ups a second", &|it| short(it.sign_ups)),
        ("sales a second", &|it| short(it.sales)),
        ("reports a second", &|it| short(it.reports)),
        ("workers that deliver them", &|it| short(it.workers)),
        ("calls a second to the platform", &|it| {
            short(it.platform_calls)
        }),
        ("calls under way at a time", &|it| short(it.calls_under_way)),
        ("clicks a second of one server", &|it| {
            short(it.clicks_of_server)
        }),
        ("clicks under way of one server", &|it| {
            short(it.clicks_under_way)
        }),
        ("rows a second of PostgreSQL", &|it| short(it.database_rows)),
        ("the same without late click IDs", &|it| {
            short(it.report_rows)
        }),
        ("late click IDs kept in PostgreSQL", &|it| {
            short(it.late_ids)
        }),
        ("disk for them", &|it| bytes(it.late_bytes)),
    ];
    let head = format!("with servers of {} cores", short(assumed.cores));
    table(&head, rows, lines)
}

fn store_table(rows: &[Needs; 3]) -> String {
    let lines: &[Line<'_>] = &[
        ("reads a second", &|it| short(it.store_reads)),
        ("writes a second", &|it| short(it.store_writes)),
        ("connections that are busy", &|it| {
            short(it.store_connections)
        }),
        ("records", &|it| short(it.records)),
        ("memory for them", &|it| bytes(it.store_bytes)),
    ];
    let text = table("with records on the server", rows, lines);
    format!(
        "With the signed cookie there is no store, and nothing of this. With `ServerSide`:\n\n{text}"
    )
}

fn saturation_table(rows: &[Needs; 3], costs: &Costs, assumed: &Assumptions) -> String {
    let mut text = String::from(
        "## What is used up first\n\nHow much of one platform, server, database or store is needed, by the \
         assumptions above; over 1, one isn't enough:\n\n| landings/s | referrals in | share used, the \
         fullest first |\n|---:|---|---|\n",
    );
    for row in rows {
        for (keep, on_server) in [("the cookie", false), ("records", true)] {
            let loads = row.loads(costs, assumed, on_server);
            let loads = loads.iter().map(|load| {
                let (name, share) = (load.resource.name(), short(load.share()));
                format!("{name}: {share}")
            });
            let loads: Vec<_> = loads.collect();
            let landings = short(row.landings);
            let _ = writeln!(text, "| {landings} | {keep} | {} |", loads.join("; "));
        }
    }
    text
}

fn advice_list() -> String {
    const ALL: [Resource; 8] = [
        Resource::PlatformCalls,
        Resource::ClicksOfServer,
        Resource::ClicksUnderWay,
        Resource::ClicksOfKey,
        Resource::StoreMemory,
        Resource::StoreOperations,
        Resource::DatabaseDisk,
        Resource::DatabaseRows,
    ];
    let lines = ALL.map(|it| format!("- **{}**: {}.\n", it.name(), it.advice()));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assumptions::tests::assumed;

    #[test]
    fn the_checked_in_document_is_what_the_program_writes() {
        let checked_in = include_str!("../../../docs/scale.md");
        let written = document(&Costs::checked_in().unwrap(), &assumed(&[]));
        let differs = checked_in
            .lines()
            .zip(written.lines())
            .find(|(one, other)| one != other);
        assert!(
            checked_in == written,
            "docs/scale.md is out of date, first in {differs:?}: run \
             `cargo run -p scale -- tables --write docs/scale.md`"
        );
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.079, "0.079"),
            (1.23, "1.23"),
            (20.0, "20"),
            (307.5, "308"),
            (999.6, "1,000"),
            (1024.0, "1,024"),
            (11_056.5, "11,057"),
            (300_000.0, "300,000"),
            (999_999.6, "1 million"),
            (2.592e9, "2.59 billion"),
            (2.592e12, "2.59 trillion"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(bytes(1.296e12), "1.30 TB");
        assert_eq!(bytes(1.296e15), "1.30 PB");
    }
}
