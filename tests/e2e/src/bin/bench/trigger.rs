//! What a trigger costs the transaction that inserts a session: meetlink's, those of the peers, and
//! the least that plpgsql can do, all against none.

use super::Effort;
use super::contender::{Contender, Rows};
use super::numbers::{median, zip};
use super::peers::Purpose;
use super::pgbench;
use super::stage::Stage;
use super::table::{Goal, Table};

/// Of the rate without a trigger: one client, eight clients.
const GOALS: [f64; 2] = [0.90, 0.95];
/// The last third of a minute to its first.
const FLAT: f64 = 0.95;
/// Each run of single rows is cut into so many, in turn: what else the machine does then weighs on
/// all alike.
const SLICES: u32 = 2;

const BULK: u32 = 1_000;

/// What goes on beside the inserts: nobody works on the jobs, or meetlink makes links of them.
#[derive(Clone, Copy, PartialEq)]
struct Beside {
    contender: Contender,
    at_work: bool,
}

impl Beside {
    fn name(self) -> String {
        let name = self.contender.name();
        let at_work = if self.at_work {
            ", making links meanwhile"
        } else {
            ""
        };
        format!("{name}{at_work}")
    }
}

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[
        // No checkpoint by chance in one slice and not in another.
        ("max_wal_size", "4GB"),
        ("checkpoint_timeout", "1h"),
    ]);
    stage.add_peers();
    // pgbench makes up its bookings.
    stage
        .app
        .client()
        .batch_execute("ALTER TABLE sessions DROP CONSTRAINT sessions_booking_id_fkey")
        .expect("the foreign key is dropped");
    println!(
        "pgbench, prepared, one INSERT INTO sessions a transaction, as superuser and without the\n\
         foreign key to bookings: less work per insert, so a trigger weighs more; {} s each, in\n\
         turn; nobody works on the jobs unless it says so",
        effort.pgbench_seconds
    );
    for (clients, goal) in [1, 8].into_iter().zip(GOALS) {
        against_none(&mut stage, effort, clients, 1, Some(goal), table);
    }
    for clients in [1, 8] {
        against_none(&mut stage, effort, clients, BULK, None, table);
    }
    over_a_minute(&mut stage, effort, table);
}

fn against_none(
    stage: &mut Stage,
    effort: Effort,
    clients: u32,
    rows: u32,
    goal: Option<f64>,
    table: &mut Table,
) {
    let mut all = vec![Contender::Nothing, Contender::PlainTable];
    all.extend(&stage.contenders);
    let mut all: Vec<Beside> = all
        .into_iter()
        .map(|contender| Beside {
            contender,
            at_work: false,
        })
        .collect();
    all.sort_by_key(|beside| beside.contender != Contender::Nothing);
    if rows == 1 {
        all.push(Beside {
            contender: Contender::Meetlink,
            at_work: true,
        });
    }
    let mut rates = vec![Vec::new(); all.len()];
    for run in 1..=effort.runs {
        let mut sums = vec![0.0; all.len()];
        let slices = if rows == 1 { SLICES } else { 1 };
        let seconds = (effort.pgbench_seconds / SLICES).max(1);
        for _ in 0..slices {
            for (sum, beside) in sums.iter_mut().zip(&all) {
                *sum += rate(stage, *beside, clients, rows, seconds) / f64::from(slices);
            }
        }
        print!("{clients} clients, {rows} rows a statement, run {run}:");
        for (sum, beside) in sums.iter().zip(&all) {
            print!(
                "\n   {:<46} {sum:>8.0} rows/s  {:.2}",
                beside.name(),
                sum / sums[0]
            );
        }
        println!();
        for (rates, sum) in rates.iter_mut().zip(sums) {
            rates.push(sum);
        }
    }
    let plural = if clients == 1 { "client" } else { "clients" };
    let every = if rows == 1 { "1 row" } else { "1,000 rows" };
    let name = format!("inserts, {clients} {plural}, {every} each, no trigger");
    table.add(&name, "/s", None, rates[0].clone());
    for (rates_of, beside) in rates.iter().zip(&all).skip(1) {
        let ratios = zip(rates_of, &rates[0], |with, without| with / without);
        let own = beside.contender == Contender::Meetlink && !beside.at_work;
        let goal = goal.filter(|_| own).map(Goal::AtLeast);
        table.add(&format!("   {} / none", beside.name()), "", goal, ratios);
    }
}

/// Rows a second that pgbench inserts.
fn rate(stage: &mut Stage, beside: Beside, clients: u32, rows: u32, seconds: u32) -> f64 {
    let kind = if rows == 1 { Rows::One } else { Rows::Many };
    stage.set(beside.contender, kind);
    let working = beside
        .at_work
        .then(|| stage.start(beside.contender, Purpose::Burst, 32));
    let rate = pgbench::insert(stage, clients, rows, seconds).all;
    drop(working);
    rate
}

/// One connection for a minute: whether the trigger costs more the longer it goes on. The course
/// without a trigger stands beside it, for what the machine and a growing table do to it.
fn over_a_minute(stage: &mut Stage, effort: Effort, table: &mut Table) {
    for contender in [Contender::Nothing, Contender::Meetlink] {
        let seconds = effort.flat_seconds;
        println!("one client for {seconds} s, {}", contender.name());
        stage.set(contender, Rows::One);
        let course = pgbench::insert(stage, 1, 1, seconds).course;
        let third = (course.len() / 3).max(1);
        let first = median(&course[..third.min(course.len())]);
        let last = median(&course[course.len().saturating_sub(third)..]);
        let name = format!("{}: {seconds} s, last third / first", contender.name());
        let own = contender == Contender::Meetlink;
        let goal = own.then_some(Goal::AtLeast(FLAT));
        table.add(&name, "", goal, vec![last / first]);
    }
}
