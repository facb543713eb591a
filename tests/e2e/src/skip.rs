//! Saying that something was not tested.

use std::fs::File;
use std::io::Write;

/// Says why a test, or the rest of it, does not run here. To cargo it has passed: this goes past its
/// captured output, and `make test` names it in the summary.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: {}: {why}\n", thread.name().unwrap_or("a test"));
    let written = File::options().append(true).open("/dev/stderr");
    if written
        .and_then(|mut stderr| stderr.write_all(line.as_bytes()))
        .is_err()
    {
        eprint!("{line}");
    }
}
