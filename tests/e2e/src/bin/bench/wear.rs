//! What very many jobs leave behind: dead room in tables and indexes, and memory of the worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Effort;
use super::burst;
use super::contender::{Contender, Rows};
use super::peers::Purpose;
use super::process::private_mb;
use super::stage::{ANSWER, Stage};
use super::table::{Goal, Table};

const CONCURRENCY: usize = 256;
/// Sessions booked at once; the next ones when these have their links.
const WAVE: usize = 10_000;
/// Megabytes in the second half of the jobs: by then the allocator has what it keeps.
const GROWTH_MB: f64 = 2.0;

const RELATIONS: [&str; 5] = [
    "meetlink.jobs",
    "meetlink.attempts",
    "meetlink.inbox",
    "meetlink.tallies",
    "sessions",
];

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[]);
    stage.set(Contender::Meetlink, Rows::One);
    let wave = WAVE.min(effort.jobs);
    println!(
        "{} jobs in waves of {wave}, concurrency {CONCURRENCY}, providers at {} ms, autovacuum as it is",
        effort.jobs,
        ANSWER.as_millis()
    );
    let working = stage.start(Contender::Meetlink, Purpose::Burst, CONCURRENCY);
    let pid = working.pid();
    burst::propose(&stage, 10);
    burst::confirm(&stage, &working, 10);
    let at_first = private_mb(pid);
    let (mut after, mut peak) = (Vec::new(), 0.0f64);
    let waves = effort.jobs / wave;
    for number in 1..=waves {
        burst::propose(&stage, wave);
        let over = AtomicBool::new(false);
        let (took, most) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| watch(pid, &over));
            let took = burst::confirm(&stage, &working, wave);
            over.store(true, Ordering::Relaxed);
            (took, watch.join().unwrap_or(f64::NAN))
        });
        peak = peak.max(most);
        after.push(private_mb(pid));
        println!(
            "wave {number} of {waves}: {:.0} links/s; the worker's private memory {:.1} MB, at most {most:.1}",
            wave as f64 / took,
            private_mb(pid)
        );
        stage.app.simulator.clear_journal();
    }
    let (half, last) = (after[(after.len() - 1) / 2], after[after.len() - 1]);
    table.add(
        "worker's private memory: after 10 links",
        "MB",
        None,
        vec![at_first],
    );
    let name = format!("   at most, at concurrency {CONCURRENCY}");
    table.add(&name, "MB", None, vec![peak]);
    table.add(
        &format!("   after {} jobs", effort.jobs),
        "MB",
        None,
        vec![last],
    );
    table.add(
        "   growth in the second half of them",
        "MB",
        Some(Goal::AtMost(GROWTH_MB)),
        vec![last - half],
    );
    bloat(&stage, table);
}

/// The most private memory of a process meanwhile.
fn watch(pid: i32, over: &AtomicBool) -> f64 {
    let mut most = 0.0f64;
    while !over.load(Ordering::Relaxed) {
        most = most.max(private_mb(pid));
        std::thread::sleep(Duration::from_millis(250));
    }
    most
}

/// Megabytes of a relation.
#[derive(Clone, Copy)]
struct Size {
    table: f64,
    indexes: f64,
}

/// Sizes as the jobs left them, against those of the same rows written anew.
fn bloat(stage: &Stage, table: &mut Table) {
    let mut client = stage.app.client();
    let vacuums: String = stage.app.value(
        "SELECT string_agg(relname || ' ' || autovacuum_count || ' (' || n_dead_tup || ' dead)', ', '
                           ORDER BY relname)
           FROM pg_stat_user_tables WHERE relname IN ('jobs', 'attempts', 'inbox', 'tallies', 'sessions')",
    );
    println!("runs of autovacuum: {vacuums}");
    let before: Vec<Size> = RELATIONS.iter().map(|name| size(stage, name)).collect();
    println!(
        "{:<20} {:>9} {:>22} {:>22}",
        "MB", "rows", "table, anew", "indexes, anew"
    );
    for (name, before) in RELATIONS.iter().zip(before) {
        let full = client.batch_execute(&format!("VACUUM FULL {name}"));
        full.expect("a table is written anew");
        let anew = size(stage, name);
        let rows: i64 = stage.app.value(&format!("SELECT count(*) FROM {name}"));
        println!(
            "{name:<20} {rows:>9} {:>10.2} {:>11.2} {:>10.2} {:>11.2}",
            before.table, anew.table, before.indexes, anew.indexes
        );
        if rows >= 1_000 {
            let ratio = before.table / anew.table;
            table.add(
                &format!("{name}: table / written anew"),
                "",
                None,
                vec![ratio],
            );
            let ratio = before.indexes / anew.indexes;
            table.add("   indexes / built anew", "", None, vec![ratio]);
            let bytes = (before.table + before.indexes) * 1e6 / rows as f64;
            table.add("   bytes a row, with indexes", "", None, vec![bytes]);
        } else {
            table.add(
                &format!("{name}: size"),
                "MB",
                None,
                vec![before.table + before.indexes],
            );
        }
    }
}

fn size(stage: &Stage, name: &str) -> Size {
    let mb = |function: &str| -> f64 {
        let sql = format!("SELECT {function}('{name}')::double precision / 1e6");
        stage.app.value(&sql)
    };
    Size {
        table: mb("pg_table_size"),
        indexes: mb("pg_indexes_size"),
    }
}
