//! The guide's table of reasons is whole: each reason of `src/reason.rs` has a row, and each row is
//! a reason.

use std::collections::BTreeSet;

#[test]
fn every_reason_has_a_row_in_the_guide() {
    let source = include_str!("../../src/reason.rs");
    let reasons: BTreeSet<_> = source
        .lines()
        .filter_map(|line| {
            let (_, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
            name.strip_suffix("\",")
        })
        .collect();
    assert!(reasons.len() > 20, "{reasons:?}");

    let guide = include_str!("../../docs/guide/troubleshooting.md");
    let tables = guide.split("| reason |").skip(1);
    let rows: BTreeSet<_> = tables
        .flat_map(|table| table.lines().take_while(|line| !line.is_empty()))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(reasons, rows);
}
