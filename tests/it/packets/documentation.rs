//! docs/data-path.md tells what the packet table shows: each row names its cases, and the counter that they reach.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use lb_common::verdict::Reason;

use super::*;

const TEXT: &str = include_str!("../../../docs/data-path.md");

/// Of a table whose last column names cases: `new_flows::data_survives`.
struct Row {
    line: usize,
    /// Those of the last column but one; none is "any".
    counters: Vec<&'static str>,
    cases: Vec<&'static str>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let lines = TEXT.lines().enumerate();
    let rows = lines.filter_map(|(index, line)| {
        let cells: Vec<_> = line
            .strip_prefix('|')?
            .trim_end()
            .trim_end_matches('|')
            .split('|')
            .collect();
        let cases = quoted(cells.last()?);
        cases.iter().any(|name| name.contains("::")).then(|| Row {
            line: index + 1,
            counters: quoted(cells[cells.len() - 2]),
            cases,
        })
    });
    rows.collect()
});

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A case reached the counter of each row that names it.
pub fn check(test: &str, reached: &BTreeSet<&str>) {
    let case = case_of(test);
    for row in ROWS.iter().filter(|row| row.cases.contains(&case.as_str())) {
        for counter in &row.counters {
            let told = format!(
                "docs/data-path.md:{} says that {case} is counted as {counter}",
                row.line
            );
            assert!(reached.contains(counter), "{told}, but it was {reached:?}");
        }
    }
}

/// `file::case`, of a test's whole name.
fn case_of(test: &str) -> String {
    let words: Vec<_> = test
        .split("::")
        .skip_while(|word| *word != "packets")
        .skip(1)
        .take(2)
        .collect();
    words.join("::")
}

fn all_cases() -> BTreeSet<String> {
    let files = [
        ("algorithms", algorithms::CASES),
        ("answers", answers::CASES),
        ("fragments", fragments::CASES),
        ("icmp", icmp::CASES),
        ("known_flows", known_flows::CASES),
        ("leases", leases::CASES),
        ("life", life::CASES),
        ("lost_backends", lost_backends::CASES),
        ("new_flows", new_flows::CASES),
        ("not_ours", not_ours::CASES),
        ("port_rest", port_rest::CASES),
        ("ports", ports::CASES),
        ("signs", signs::CASES),
    ];
    let names = files
        .into_iter()
        .map(|(file, cases)| cases.iter().map(move |case| format!("{file}::{case}")));
    names.flatten().collect()
}

#[test]
fn each_case_stands_in_a_row_and_each_row_has_cases() {
    let named: BTreeSet<_> = ROWS
        .iter()
        .flat_map(|row| &row.cases)
        .map(|case| (*case).to_owned())
        .collect();
    let there = all_cases();
    let missing: Vec<_> = there.difference(&named).collect();
    let unknown: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "docs/data-path.md has no row for {missing:#?}");
    assert!(
        unknown.is_empty(),
        "docs/data-path.md names no case of the packet table: {unknown:#?}"
    );
}

/// And each case that a row names reaches its counter, as `check` sees to: so every reason is reached.
#[test]
fn each_reason_has_a_row() {
    for reason in Reason::ALL.iter().map(|reason| reason.name()) {
        let told = ROWS.iter().any(|row| row.counters.contains(&reason));
        assert!(told, "docs/data-path.md says nothing of {reason}");
    }
}
