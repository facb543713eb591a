//! How often a link has the disk flush: what limits the rate where flushes are slow.

use std::time::Duration;

use super::Effort;
use super::booker::{Arrivals, Booker};
use super::burst;
use super::contender::{Contender, Rows};
use super::peers::Purpose;
use super::stage::{Ear, Stage};
use super::table::Table;

const CONCURRENCY: usize = 32;
/// For processes that are just ending.
const LATE: Duration = Duration::from_millis(500);

/// Of the whole server.
#[derive(Clone, Copy)]
struct Wal {
    syncs: f64,
    kilobytes: f64,
}

pub fn run(effort: Effort, table: &mut Table) {
    // Flushes of others are not counted with ours.
    let mut stage = Stage::new(&[("autovacuum", "off"), ("checkpoint_timeout", "1h")]);
    stage.add_peers();
    stage.set_answer(Duration::ZERO);
    let (few, many) = (effort.sequential * 5, effort.sessions);
    println!(
        "pg_stat_wal before the start and after the end of a worker, providers that answer at once; each\n\
         booking's own flush is taken off, and what starting and ending without work takes"
    );
    let contenders = stage.contenders.clone();
    let blank = || -> Vec<(&'static str, Vec<f64>)> {
        contenders.iter().map(|c| (c.name(), Vec::new())).collect()
    };
    let (mut alone, mut at_once, mut kilobytes) = (blank(), blank(), blank());
    for run in 1..=effort.runs {
        for (at, contender) in contenders.iter().enumerate() {
            let nothing = cost(&mut stage, *contender, Work::None);
            let single = cost(&mut stage, *contender, Work::OneByOne(few));
            let burst = cost(&mut stage, *contender, Work::AtOnce(many));
            // One transaction books the whole burst.
            let single_syncs = (single.syncs - nothing.syncs) / few as f64 - 1.0;
            let burst_syncs = (burst.syncs - nothing.syncs - 1.0) / many as f64;
            let written = (single.kilobytes - nothing.kilobytes) / few as f64;
            println!(
                "run {run}, {:<16} {single_syncs:.2} flushes a link one by one, {burst_syncs:.3} of {many} at once; {written:.1} kB",
                contender.name()
            );
            alone[at].1.push(single_syncs);
            at_once[at].1.push(burst_syncs);
            kilobytes[at].1.push(written);
        }
    }
    table.compare("WAL flushes a link, one after another", "", None, &alone);
    table.compare(
        &format!("WAL flushes a link, {many} at once"),
        "",
        None,
        &at_once,
    );
    let name = "WAL of a booking with its link, one by one";
    table.compare(name, "kB", None, &kilobytes);
}

#[derive(Clone, Copy)]
enum Work {
    None,
    OneByOne(usize),
    AtOnce(usize),
}

/// From before the worker starts until it has ended: processes keep their statistics back for up to
/// ten seconds, but not beyond their end.
fn cost(stage: &mut Stage, contender: Contender, work: Work) -> Wal {
    stage.set(contender, Rows::One);
    if let Work::AtOnce(sessions) = work {
        burst::propose(stage, sessions);
    }
    let before = settled(stage);
    let purpose = match work {
        Work::OneByOne(_) => Purpose::Latency,
        _ => Purpose::Burst,
    };
    let working = stage.start(contender, purpose, CONCURRENCY);
    match work {
        Work::None => {}
        Work::OneByOne(count) => {
            let ear = Ear::new(&stage.app);
            Booker::new(stage).follow(&ear, Arrivals::OneAfterAnother { count }, 0);
        }
        Work::AtOnce(sessions) => {
            burst::confirm(stage, &working, sessions);
        }
    }
    drop(working);
    stage.pause();
    let after = settled(stage);
    Wal {
        syncs: after.syncs - before.syncs,
        kilobytes: after.kilobytes - before.kilobytes,
    }
}

/// What all processes have handed over.
fn settled(stage: &Stage) -> Wal {
    std::thread::sleep(LATE);
    let row = stage
        .app
        .client()
        .query_one(
            "SELECT wal_sync::double precision, wal_bytes::double precision / 1024 FROM pg_stat_wal",
            &[],
        )
        .expect("statistics");
    Wal {
        syncs: row.get(0),
        kilobytes: row.get(1),
    }
}
