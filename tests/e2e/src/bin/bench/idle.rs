//! What each costs that has nothing to do, all at the same time.

use std::time::Duration;

use super::Effort;
use super::booker::{Arrivals, Booker};
use super::contender::{Contender, Rows, Working};
use super::peers::Purpose;
use super::process::Threads;
use super::progress::Progress;
use super::stage::{Ear, Stage, TUTORS};
use super::table::{Goal, Table};

/// After work: statistics are handed over late, Node collects its garbage, and the peers' pools close
/// what has been idle for ten seconds.
const REST: Duration = Duration::from_secs(12);

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[]);
    stage.add_peers();
    stage.set_answer(Duration::ZERO);
    let ear = Ear::new(&stage.app);
    let mut contenders = stage.contenders.clone();
    // Setting another contender takes meetlink away, so it comes last and stays.
    contenders.reverse();
    let mut working: Vec<(Contender, Working)> = Vec::new();
    for contender in contenders {
        stage.set(contender, Rows::One);
        let now = stage.start(contender, Purpose::Latency, 32);
        // Not one that never worked: connections, threads and caches are there.
        let count = TUTORS;
        Booker::new(&stage).follow(&ear, Arrivals::OneAfterAnother { count }, 0);
        working.push((contender, now));
    }
    working.reverse();
    drop(ear);
    let seconds = effort.idle_seconds;
    println!(
        "after {TUTORS} links each and {} s of rest, all measured for the same {seconds} s; a peer's\n\
         cost is that of its program and of its server processes",
        REST.as_secs()
    );
    Progress::sleep(REST, "rest");
    let processes = || -> Vec<Vec<i32>> {
        let of_one = |(contender, working): &(Contender, Working)| match contender {
            Contender::Meetlink => vec![working.pid(), launcher(&stage)],
            _ => {
                let mut pids = servers(&stage, working.pid());
                pids.push(working.pid());
                pids
            }
        };
        working.iter().map(of_one).collect()
    };
    let look = || -> Vec<(usize, Threads)> {
        let all = processes();
        all.iter()
            .map(|pids| (pids.len(), Threads::of(pids)))
            .collect()
    };
    let before = look();
    Progress::sleep(Duration::from_secs(seconds), "idle");
    let after = look();
    let (mut cpu, mut switches) = (Vec::new(), Vec::new());
    for (at, (contender, _)) in working.iter().enumerate() {
        let (count, threads) = &after[at];
        let cost = threads.since(&before[at].1);
        println!(
            "{:<16} {count} processes with {} threads: {:.2} ms of CPU, {} context switches",
            contender.name(),
            cost.threads,
            cost.cpu_ms,
            cost.switches
        );
        cpu.push((contender.name(), vec![cost.cpu_ms]));
        switches.push((contender.name(), vec![cost.switches]));
    }
    let nothing = Some(Goal::AtMost(0.0));
    table.compare(&format!("idle {seconds} s: CPU"), "ms", nothing, &cpu);
    let name = format!("idle {seconds} s: context switches");
    table.compare(&name, "", nothing, &switches);
}

/// meetlink's launcher, or 0 when there is none.
fn launcher(stage: &Stage) -> i32 {
    stage.app.value(
        "SELECT COALESCE(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'meetlink launcher'",
    )
}

/// Server processes of a program's connections, which bear its process id.
fn servers(stage: &Stage, pid: i32) -> Vec<i32> {
    let rows = stage
        .app
        .client()
        .query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = $1",
            &[&format!("peer {pid}")],
        )
        .expect("connections are listed");
    rows.iter().map(|row| row.get(0)).collect()
}
