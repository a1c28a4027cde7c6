//! The figures of a run as a picture for the README, readable on light and on dark pages.

use std::fmt::Write as _;

use peers::{CASES, OURS, OURS_AXUM};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 210.0;
const ROW: f64 = 18.0;
const PANEL_HEAD: f64 = 34.0;

/// One panel for each case, one bar for each contender, on one scale for all.
pub fn svg(unit: f64, rows: &[(&str, [f64; CASES.len()])]) -> String {
    let longest = rows
        .iter()
        .flat_map(|(_, cases)| cases)
        .fold(1.0_f64, |longest, &added| longest.max(added));
    let scale = (WIDTH - LABELS - 110.0) / longest;
    let panel = PANEL_HEAD + ROW * rows.len() as f64;
    let height = 40.0 + panel * CASES.len() as f64 + 12.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
         role=\"img\" aria-label=\"Time added to one request\">\n\
         <style>\n\
         text {{ fill: #24292f }} .faint {{ fill: #57606a }} .bar {{ fill: #8c959f }} \
         .ours {{ fill: #0969da }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .faint {{ fill: #9198a1 }} \
         .bar {{ fill: #6e7681 }} .ours {{ fill: #4493f8 }} }}\n\
         </style>\n\
         <text x=\"0\" y=\"16\" font-size=\"14\" font-weight=\"600\">Time added to one request, in \
         nanoseconds</text>\n\
         <text class=\"faint\" x=\"0\" y=\"32\">beside the same service without the layer; one \
         HMAC-SHA256 took {unit:.0} ns in the same run; shorter is better</text>\n"
    );
    for (case, name) in CASES.iter().enumerate() {
        let top = 40.0 + panel * case as f64;
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\" font-weight=\"600\">{name}</text>",
            top + 22.0
        );
        for (at, (contender, cases)) in rows.iter().enumerate() {
            let y = top + PANEL_HEAD + ROW * at as f64;
            let added = cases[case].max(0.0);
            let class = match *contender {
                OURS | OURS_AXUM => "ours",
                _ => "bar",
            };
            let width = (added * scale).max(1.0);
            let _ = writeln!(
                svg,
                "<text class=\"faint\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{contender}</text>\
                 <rect class=\"{class}\" x=\"{LABELS}\" y=\"{}\" width=\"{width:.1}\" \
                 height=\"12\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{added:.0} ({:.1})</text>",
                LABELS - 8.0,
                y + 10.0,
                y,
                LABELS + width + 6.0,
                y + 10.0,
                added / unit,
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
