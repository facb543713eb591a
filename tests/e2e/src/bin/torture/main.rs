//! Kills the worker at each of its system calls, in each way it can die, and counts meetings.

mod options;

use std::process::ExitCode;
use std::time::Instant;

use meetlink_e2e::torture::{Report, sweep};

fn main() -> ExitCode {
    let wanted = match options::read(std::env::args().skip(1)) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("torture: {why}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    // What the harness cannot do is a failure of one point, and is reported as such.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let report = match sweep(&wanted.plan, &|line| println!("{line}")) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("torture: NOT DONE: {why}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{}", report.table());
    for failed in &report.failed {
        println!("FAILED  torture {}\n  {}", failed.point, failed.why);
        for line in &failed.story {
            println!("    {line}");
        }
    }
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    println!(
        "torture: {} points, {} failed",
        report.tried,
        report.failed.len()
    );
    if wanted.expect_duplicates {
        return expect_duplicates(&report);
    }
    match report.failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn expect_duplicates(report: &Report) -> ExitCode {
    let duplicates = report.failed.iter().filter(|failed| failed.is_duplicate());
    match duplicates.count() {
        0 => {
            println!("torture: no duplicate was found, and this build should make some");
            ExitCode::FAILURE
        }
        n => {
            println!("torture: {n} duplicates were found, as this build should make them");
            ExitCode::SUCCESS
        }
    }
}
