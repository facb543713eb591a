//! How fast meetlink is, on this machine, and what a user would pick instead beside it: latency from
//! COMMIT to link, throughput, the trigger's price, what waits, wears and idles. Prints figures and
//! judges nothing: it ends well whatever they are.

mod booker;
mod burst;
mod ceiling;
mod contender;
mod flushes;
mod idle;
mod latency;
mod machine;
mod numbers;
mod peers;
mod pgbench;
mod process;
mod progress;
mod stage;
mod table;
mod throughput;
mod trigger;
mod views;
mod waiting;
mod wear;

use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: bench [PART]... [--quick] [--jobs N]     (make bench BENCH_ARGS='latency --quick')

  latency      from COMMIT of one booking to the link, less the provider's own time, with providers
               at 0, 20 and 100 ms, one after another and at 5 and 50 a second
  throughput   2,000 and 10,000 sessions at once, as a share of what the providers give at most
  waiting      throughput with 1,000, 100,000 and 1,000,000 jobs that are not due
  trigger      inserts into sessions: no trigger, meetlink's, the peers', plpgsql; a minute's course
  wear         bloat, and the worker's memory, after 100,000 jobs
  flushes      WAL flushes a link
  idle         what each costs in 60 s with nothing to do
  views        the views after 1,000,000 sessions and 5,000,000 attempts, with their plans
  --quick      one short run of each instead of three or more: to see it work, not to quote
  --jobs N     jobs of wear (1000000 takes a quarter of an hour)

Without a PART all of them run, in about 25 minutes. latency, throughput, trigger, flushes and idle
have graphile-worker and pg-boss beside meetlink in the same run, where scripts/peers.sh could
install them. The providers are a simulator on this machine.";

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Measurements of each kind.
    pub runs: usize,
    /// Bookings one after another in a run.
    pub sequential: usize,
    /// Seconds of bookings at random times in a run: few, and many a second.
    pub random_seconds: f64,
    pub busy_seconds: f64,
    /// Sessions that are booked at once, with and without the peers.
    pub sessions: usize,
    pub many_sessions: usize,
    /// Time for the providers' ceiling.
    pub ceiling: Duration,
    /// Jobs that wait meanwhile.
    pub waiting: [i64; 3],
    /// Seconds of inserts in a run.
    pub pgbench_seconds: u32,
    /// Seconds on one connection without a pause.
    pub flat_seconds: u32,
    /// Jobs after which bloat and memory are looked at.
    pub jobs: usize,
    /// Seconds of idleness.
    pub idle_seconds: u64,
    /// Sessions that the views look back on.
    pub history: i64,
    /// Times that each view is looked at.
    pub looks: usize,
}

const FULL: Effort = Effort {
    runs: 3,
    sequential: 40,
    random_seconds: 6.0,
    busy_seconds: 3.0,
    sessions: 2_000,
    many_sessions: 10_000,
    ceiling: Duration::from_secs(3),
    waiting: [1_000, 100_000, 1_000_000],
    pgbench_seconds: 4,
    flat_seconds: 60,
    jobs: 100_000,
    idle_seconds: 60,
    history: 1_000_000,
    looks: 50,
};

const QUICK: Effort = Effort {
    runs: 1,
    sequential: 10,
    random_seconds: 2.0,
    busy_seconds: 1.0,
    sessions: 1_000,
    many_sessions: 2_560,
    ceiling: Duration::from_secs(1),
    waiting: [1_000, 10_000, 50_000],
    pgbench_seconds: 2,
    flat_seconds: 15,
    jobs: 3_000,
    idle_seconds: 5,
    history: 100_000,
    looks: 10,
};

type Part = fn(Effort, &mut table::Table);

const PARTS: [(&str, Part); 8] = [
    ("latency", latency::run),
    ("throughput", throughput::run),
    ("waiting", waiting::run),
    ("trigger", trigger::run),
    ("wear", wear::run),
    ("flushes", flushes::run),
    ("idle", idle::run),
    ("views", views::run),
];

/// What the command line asks for.
struct Wish {
    effort: Effort,
    parts: Vec<String>,
}

fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Wish>, String> {
    let (mut effort, mut jobs, mut parts) = (FULL, None, Vec::new());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            "--jobs" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                jobs = Some(number.filter(|n| *n > 0).ok_or("--jobs wants a number")?);
            }
            "--help" | "-h" => return Ok(None),
            part if PARTS.iter().any(|(name, _)| *name == part) => parts.push(argument),
            other => return Err(format!("there is no part or option {other}")),
        }
    }
    effort.jobs = jobs.unwrap_or(effort.jobs);
    Ok(Some(Wish { effort, parts }))
}

fn main() -> ExitCode {
    let Wish { effort, parts } = match read(std::env::args().skip(1)) {
        Ok(Some(wish)) => wish,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("bench: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    machine::describe();
    let mut table = table::Table::default();
    for (name, part) in PARTS {
        if parts.is_empty() || parts.iter().any(|part| part == name) {
            println!("\n== {name}");
            let (from, started) = (table.len(), Instant::now());
            part(effort, &mut table);
            println!("\n{name} took {:.0} s", started.elapsed().as_secs_f64());
            table.print(from);
        }
    }
    if parts.len() != 1 {
        println!("\n== all figures");
        table.print(0);
    }
    println!(
        "{} runs where a spread is given, smallest to largest; ratio: to meetlink's in the same run",
        effort.runs
    );
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
