//! A short kill sweep: some points of every scenario, way to die and thread, other ones each time.
//! `make torture` tries all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use meetlink_e2e::torture::{Plan, Random, Scenario, Strand, Way, sweep};

/// Points of each scenario, way and thread: about a minute on two cores.
const EACH: usize = 12;

/// One sweep after the other: each has its clusters.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_worker_that_dies_at_any_system_call_leaves_one_meeting_and_nothing_stuck() {
    let _turn = turn();
    let mut plan = Plan::new(Random::seed());
    plan.each = Some(EACH);
    println!("again: torture --each {EACH} --seed {}", plan.seed);
    let report = sweep(&plan, &|line| println!("{line}")).expect("the sweep can be made");
    println!("{}", report.table());
    let again: Vec<String> = report
        .failed
        .iter()
        .map(|failed| {
            let story = failed.story.join("\n    ");
            format!("torture {}\n    {}\n    {story}", failed.point, failed.why)
        })
        .collect();
    assert!(again.is_empty(), "points failed:\n{}", again.join("\n"));
    let cells = Scenario::ALL.len() * Way::ALL.len() * Strand::ALL.len();
    assert!(
        report.tried as usize > cells * EACH / 2,
        "points were tried"
    );
    // A sweep that strikes after the deed only, or before it only, would prove little.
    assert!(report.found_again() > 0 && report.deaths() > cells as u64 * EACH as u64 / 2);
}

#[test]
fn a_worker_that_forgets_what_it_has_sent_is_found_out() {
    let _turn = turn();
    let mut plan = Plan::new(Random::seed());
    plan.scenarios = vec![Scenario::Zoom];
    plan.ways = vec![Way::KillWorker];
    plan.strands = vec![Strand::Http];
    plan.jobs = 1;
    plan.forgetful = true;
    plan.until_duplicate = true;
    let report = sweep(&plan, &|line| println!("{line}")).expect("the sweep can be made");
    let duplicates = report.failed.iter().filter(|failed| failed.is_duplicate());
    assert_eq!(duplicates.count(), 1, "{}", report.table());
}
