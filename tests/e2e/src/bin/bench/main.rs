//! How fast meetlink is, on this machine: from COMMIT to link, throughput, the trigger's price, what
//! an idle worker costs, and how long the views take after years. Prints figures and judges nothing:
//! it ends well whatever they are.

mod idle;
mod latency;
mod machine;
mod numbers;
mod stage;
mod table;
mod throughput;
mod trigger;
mod views;

use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
Usage: bench [PART]... [--quick]      (make bench BENCH_ARGS='latency --quick')

  latency      from COMMIT of one booking to the link, less the provider's own time
  throughput   2,000 sessions at once, at concurrency 32 and 128
  trigger      inserts into sessions with and without meetlink's triggers
  idle         what the worker costs with nothing to do
  views        the views after 1,000,000 sessions and 5,000,000 attempts, with their plans
  --quick      one short run of each instead of three or more: to see it work, not to quote

Without a PART all of them run, in about 12 minutes. The providers are a simulator on this machine.";

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Measurements of each kind.
    pub runs: usize,
    /// Bookings one after another in a run.
    pub sequential: usize,
    /// Seconds of bookings at random times in a run.
    pub random_seconds: f64,
    /// Sessions that are booked at once.
    pub sessions: usize,
    /// Seconds of a pgbench run.
    pub pgbench_seconds: u32,
    /// Statements of 10,000 rows, with and without each.
    pub big_inserts: usize,
    /// Seconds of idleness.
    pub idle_seconds: u64,
    /// Sessions that the views look back on.
    pub history: i64,
    /// Times that each view is looked at.
    pub looks: usize,
}

const FULL: Effort = Effort {
    runs: 3,
    sequential: 100,
    random_seconds: 20.0,
    sessions: 2_000,
    pgbench_seconds: 10,
    big_inserts: 7,
    idle_seconds: 30,
    history: 1_000_000,
    looks: 50,
};

const QUICK: Effort = Effort {
    runs: 1,
    sequential: 20,
    random_seconds: 4.0,
    sessions: 500,
    pgbench_seconds: 2,
    big_inserts: 3,
    idle_seconds: 5,
    history: 100_000,
    looks: 10,
};

type Part = fn(Effort, &mut table::Table);

const PARTS: [(&str, Part); 5] = [
    ("latency", latency::run),
    ("throughput", throughput::run),
    ("trigger", trigger::run),
    ("idle", idle::run),
    ("views", views::run),
];

fn main() -> ExitCode {
    let mut effort = FULL;
    let mut wanted: Vec<String> = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            "--help" | "-h" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            part if PARTS.iter().any(|(name, _)| *name == part) => wanted.push(argument),
            other => {
                eprintln!("bench: there is no part or option {other}\n\n{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    let begun = Instant::now();
    machine::describe();
    let mut table = table::Table::default();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            println!("\n== {name}");
            part(effort, &mut table);
        }
    }
    table.print(effort.runs);
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
