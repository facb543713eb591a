//! An idle worker sleeps: no query, no wake-up, no processor time of its own. Takes its minute.

#[path = "support/life.rs"]
mod life;
#[path = "support/process.rs"]
mod process;

use std::time::Duration;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use process::done;

/// How long nothing must happen.
const QUIET: Duration = Duration::from_secs(60);

/// Transactions in the application's database so far, asked from another one.
fn transactions(cluster: &Cluster) -> i64 {
    cluster
        .connect("postgres", "postgres")
        .query_one(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'app'",
            &[],
        )
        .expect("statistics")
        .get(0)
}

#[test]
fn an_idle_worker_and_launcher_do_nothing_at_all_for_a_minute() {
    // Another process that works in the database would be counted with its transactions.
    let app = App::with(|options| {
        options
            .set("autovacuum", "off")
            .set("max_prepared_transactions", "5")
    });
    let student = app.person("student", "Sam");
    for provider in [Google, Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        app.simulator.fault(Rule::once(
            provider,
            Call::Create,
            Action::ServerError { status: 503 },
        ));
        for _ in 0..5 {
            let session = app.book(tutor, student);
            app.wait_for_link(session);
        }
    }
    // What waits for somebody else is no reason to wake either.
    let parked = app.book(app.person("tutor", "Ned Nowhere"), student);
    app.wait_for_state(parked, "needs_action");
    let worker = life::wait_for_worker(&app.cluster, "app");
    let launcher = life::launcher(&app.cluster).expect("a launcher");
    let look = || (done(worker), done(launcher), transactions(&app.cluster));

    // Statistics are handed over up to a second late: quiet begins when two looks agree.
    let mut before = look();
    wait::until_true(SOON, "the last traces of work to be gone", || {
        std::thread::sleep(Duration::from_secs(2));
        let now = look();
        std::mem::replace(&mut before, now) == now
    });
    // The measurement itself: this is what the time is for.
    std::thread::sleep(QUIET);
    let after = look();
    println!("worker before {:?}, after {:?}", before.0, after.0);
    println!("launcher before {:?}, after {:?}", before.1, after.1);
    println!("transactions in the database: {}", after.2 - before.2);
    assert_eq!(after, before, "(worker, launcher, transactions)");

    // They sleep, and are not dead.
    let tutor = app.tutor(Google, "Late");
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(life::worker_of(&app.cluster, "app"), Some(worker));
    assert_ne!(done(worker).switches, after.0.switches, "the measure works");
}
