//! The summary of `make test`: what was not tested stands there, by name.

use std::path::Path;
use std::process::Command;

/// What `scripts/summary.sh` says of one stage with this output.
fn summary_of(output: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let file = std::env::temp_dir().join(format!("meetlink-summary.{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, output).expect("an output");
    let said = Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(". ./summary.sh; record ok 'some tests' 7 \"$0\"; not_reached others; print_summary")
        .arg(&file)
        .current_dir(folder)
        .output()
        .expect("bash runs");
    std::fs::remove_file(&file).expect("it is there");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    String::from_utf8(said.stdout).expect("text")
}

const PASSED: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";

#[test]
fn tests_that_were_skipped_are_counted_and_named_once_each() {
    let reason = "the clock cannot be stepped: libfaketime is missing";
    // cargo may have begun a line of its own.
    let said = summary_of(&format!(
        "SKIPPED: one: {reason}\ntest two ... SKIPPED: two: {reason}\nSKIPPED: one: {reason}\n{PASSED}"
    ));
    assert!(said.contains("3 passed, 0 failed, 2 SKIPPED"), "{said}");
    for name in ["one", "two"] {
        let line = format!("\nSKIPPED: {name}: {reason}\n");
        assert_eq!(said.matches(&line).count(), 1, "{said}");
    }
}

#[test]
fn second_tries_and_checks_that_did_not_run_are_named() {
    let said = summary_of(&format!(
        "NOT RUN, as this Rust has no: clippy\n{PASSED}\
         test result: FAILED. 1 passed; 1 failed; 0 ignored\n\
         SECOND TRY: idle: sleeps failed among others and passed alone\n"
    ));
    assert!(
        said.contains("5 passed, 0 failed (1 at a second try)\n"),
        "{said}"
    );
    assert!(said.contains("\nNOT RUN, as this Rust"), "{said}");
    assert!(said.contains("\nSECOND TRY: idle: sleeps"), "{said}");
}

#[test]
fn a_summary_without_remarks_has_none_and_fits_in_100_columns() {
    let said = summary_of(PASSED);
    assert!(said.contains("3 passed, 0 failed\n"), "{said}");
    assert!(said.ends_with("others (not reached)\n"), "{said}");
    let long = summary_of(&format!("SKIPPED: one: {}\n{PASSED}", "why ".repeat(60)));
    let widest = long.lines().map(str::len).max();
    assert!(widest <= Some(100), "{long}");
}
