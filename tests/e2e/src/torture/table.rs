//! The table at the end of a sweep.

use super::sweep::{Report, Row};

fn line(names: [&str; 3], calls: &str, row: Row) -> String {
    let [scenario, way, strand] = names;
    format!(
        "{scenario:<12} {way:<15} {strand:<6} {calls:>5} {:>6} {:>11} {:>11} {:>6} {:>11} {:>6}\n",
        row.tried, row.one, row.found, row.parked, row.not_reached, row.failed
    )
}

pub(super) fn of(report: &Report) -> String {
    let mut text = format!(
        "{:<12} {:<15} {:<6} {:>5} {:>6} {:>11} {:>11} {:>6} {:>11} {:>6}\n",
        "scenario",
        "way to die",
        "thread",
        "calls",
        "tried",
        "one meeting",
        "found again",
        "parked",
        "not reached",
        "failed"
    );
    let mut sum = Row::default();
    for (&(scenario, way, strand), &row) in &report.rows {
        let calls = report
            .calls
            .get(&(scenario, strand))
            .map(|calls| calls.len() - 1);
        let names = [scenario.name(), way.name(), strand.name()];
        text += &line(names, &calls.unwrap_or_default().to_string(), row);
        sum.tried += row.tried;
        sum.one += row.one;
        sum.found += row.found;
        sum.parked += row.parked;
        sum.not_reached += row.not_reached;
        sum.failed += row.failed;
    }
    text += &line(["in all", "", ""], "", sum);
    text
}
