//! Many sessions at once: how near each comes to what the providers give at most.

use std::time::Duration;

use super::Effort;
use super::burst;
use super::ceiling;
use super::contender::{Contender, Rows};
use super::numbers::zip;
use super::peers::Purpose;
use super::stage::{ANSWER, Stage};
use super::table::{Goal, Table};

/// Of the ceiling.
const SHARE: f64 = 0.95;
/// meetlink's links a second to graphile-worker's.
const AHEAD: f64 = 1.7;

/// Sessions, requests at once, and whether the peers do it too.
type Burst = (usize, usize, bool);

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[]);
    stage.add_peers();
    println!(
        "the providers answer in {} ms; their ceiling: meetings that a bare loop makes over as many\n\
         kept-alive connections in {:.0} s; concurrency is jobs at once",
        ANSWER.as_millis(),
        effort.ceiling.as_secs_f64()
    );
    let (few, many) = (effort.sessions, effort.many_sessions);
    let bursts: [Burst; 5] = [
        (few, 50, true),
        (few, 200, true),
        (many, 32, false),
        (many, 128, false),
        (many, 256, false),
    ];
    for burst in bursts {
        measure(&mut stage, effort, burst, table);
    }
}

fn measure(stage: &mut Stage, effort: Effort, burst: Burst, table: &mut Table) {
    let (sessions, concurrency, with_peers) = burst;
    let mut contenders = stage.contenders.clone();
    if !with_peers {
        contenders.truncate(1);
    }
    if let Some(at) = contenders
        .iter()
        .position(|c| *c == Contender::GraphileWorker)
    {
        contenders.insert(at + 1, Contender::GraphileAsItComes);
    }
    let mut ceilings = Vec::new();
    let mut rates: Vec<(&'static str, Vec<f64>)> =
        contenders.iter().map(|c| (c.name(), Vec::new())).collect();
    for run in 1..=effort.runs {
        let ceiling = ceiling::rate(stage, concurrency, effort.ceiling);
        println!(
            "{sessions} sessions, concurrency {concurrency}, run {run}: ceiling {ceiling:.0}/s"
        );
        ceilings.push(ceiling);
        for (contender, (_, rates)) in contenders.iter().zip(&mut rates) {
            let took = once(stage, *contender, sessions, concurrency);
            let rate = sessions as f64 / took;
            println!(
                "   {:<27} {took:.2} s, {rate:.0} links/s, {:.2} of the ceiling, at most {} at once",
                contender.name(),
                rate / ceiling,
                stage.most_in_flight()
            );
            rates.push(rate);
        }
    }
    let title = format!("{sessions} at concurrency {concurrency}");
    table.add(&format!("{title}: ceiling"), "/s", None, ceilings.clone());
    table.compare(&format!("{title}: links"), "/s", None, &rates);
    let own = zip(&rates[0].1, &ceilings, |rate, ceiling| rate / ceiling);
    let goal = with_peers.then_some(Goal::AtLeast(SHARE));
    table.add("   meetlink / ceiling", "", goal, own);
    for (contender, (name, theirs)) in contenders.iter().zip(&rates) {
        if contender.is_graphile() {
            let ahead = zip(&rates[0].1, theirs, |own, their| own / their);
            let name = format!("   meetlink / {name}");
            table.add(&name, "", Some(Goal::AtLeast(AHEAD)), ahead);
        }
    }
}

/// Seconds for all links.
fn once(stage: &mut Stage, contender: Contender, sessions: usize, concurrency: usize) -> f64 {
    stage.set(contender, Rows::One);
    let working = stage.start(contender, Purpose::Burst, concurrency);
    // Connections, caches and compiled code are there; then what is measured.
    burst::propose(stage, concurrency);
    burst::confirm(stage, &working, concurrency);
    stage.app.simulator.clear_journal();
    burst::propose(stage, sessions);
    // What was just written is not to be flushed by what is measured.
    stage
        .app
        .client()
        .batch_execute("CHECKPOINT")
        .expect("a checkpoint");
    std::thread::sleep(Duration::from_millis(300));
    burst::confirm(stage, &working, sessions)
}
