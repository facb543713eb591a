//! Copies of a database: dumped and restored, and what a pause means for the database it is in.

#[path = "support/life.rs"]
mod life;

use std::process::Command;
use std::time::Duration;

use life::{wait_for_no_worker, wait_for_worker};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::Google;

fn dump(cluster: &Cluster, database: &str) -> String {
    let output = Command::new(cluster.bin_dir().join("pg_dump"))
        .arg("-h")
        .arg(cluster.socket_dir())
        .args(["-p", &Cluster::PORT.to_string(), "-U", "postgres", database])
        .output()
        .expect("pg_dump runs");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_restored_dump_keeps_everything_and_calls_nobody_until_it_is_allowed_to() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let parked = app.book(app.person("tutor", "Ned"), student);
    app.wait_for_state(parked, "needs_action");
    let text = dump(&app.cluster, "app");
    let calls = app.simulator.journal_len();

    app.cluster.create_database("staging");
    app.cluster.psql("staging", &text);
    for table in ["jobs", "attempts", "config", "providers"] {
        let all = format!("SELECT count(*) FROM meetlink.{table}");
        assert_eq!(
            app.cluster.psql("staging", &all),
            app.cluster.psql("app", &all),
            "{table}"
        );
    }
    let triggers = "SELECT tgname, tgrelid::regclass FROM pg_trigger
                     WHERE tgname ~ 'meetlink' ORDER BY 1";
    assert_eq!(
        app.cluster.psql("staging", triggers),
        app.cluster.psql("app", triggers)
    );
    wait_for_worker(&app.cluster, "staging");
    let mut staging = app.cluster.connect("staging", "postgres");
    let people = (tutor, student);
    let session = life::seed_one(&mut staging, people, Google);
    wait::until_true(SOON, "staging's worker to say what it waits for", || {
        let query = "SELECT COALESCE(last_error, '') ~ 'meetlink_resume' FROM meetlink.workers";
        staging.query_one(query, &[]).unwrap().get(0)
    });
    assert_eq!(app.simulator.journal_len(), calls, "nobody was called");
    staging.batch_execute("SELECT meetlink_resume()").unwrap();
    wait::until_true(SOON, "staging's link", || {
        life::link(&mut staging, session).is_some()
    });
    // The ledger's numbers go on where they were.
    let ids: bool = staging
        .query_one(
            "SELECT count(*) = count(DISTINCT id) AND count(*) >= 3 FROM meetlink.attempts",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(ids);
}

#[test]
fn a_pause_that_is_rolled_back_pauses_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.client()
        .batch_execute("BEGIN; SELECT meetlink_pause(); ROLLBACK")
        .unwrap();
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    client
        .batch_execute("BEGIN; SELECT meetlink_resume(); ROLLBACK")
        .unwrap();
    let session = app.book(tutor, student);
    client
        .batch_execute("BEGIN; SELECT meetlink_resume(); COMMIT")
        .unwrap();
    app.wait_for_link(session);
}

#[test]
fn a_pause_and_its_end_in_quick_turns_leave_a_worker() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    for _ in 0..20 {
        client.batch_execute("SELECT meetlink_pause()").unwrap();
        client.batch_execute("SELECT meetlink_resume()").unwrap();
    }
    app.wait_for_link(app.book(tutor, student));
}

#[test]
fn an_extension_dropped_while_paused_starts_unpaused_when_it_is_made_again() {
    let app = App::start();
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    client.batch_execute("DROP EXTENSION meetlink").unwrap();
    app.attach();
    wait_for_worker(&app.cluster, "app");
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
}

#[test]
fn a_pause_waits_for_requests_under_way_and_loses_none() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.simulator.fault(meetlink_simulator::Rule::once(
        Google,
        meetlink_simulator::Call::Insert,
        meetlink_simulator::Action::Delay { ms: 700 },
    ));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(8));
    assert!(life::link(&mut app.client(), session).is_some());
    assert_eq!(
        app.simulator
            .calls(Google, meetlink_simulator::Call::Insert)
            .len(),
        1
    );
}
