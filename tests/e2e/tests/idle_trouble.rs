//! A worker that waits for somebody else sleeps too: none of these states may keep it busy.

#[path = "support/life.rs"]
mod life;
#[path = "support/process.rs"]
mod process;

use std::time::Duration;

use life::seed;
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use process::done;

/// How long each is watched.
const WATCHED: Duration = Duration::from_secs(3);

/// Asserts that the worker wakes no more than `wakes` times while it is watched.
#[track_caller]
fn assert_asleep(app: &App, why: &str, wakes: u64) {
    let worker = life::wait_for_worker(&app.cluster, "app");
    let mut before = done(worker);
    wait::until_true(SOON, "the worker to have settled", || {
        std::thread::sleep(Duration::from_millis(1_100));
        let now = done(worker);
        let busy = now.switches - std::mem::replace(&mut before, now).switches;
        busy <= wakes
    });
    // The measurement itself.
    std::thread::sleep(WATCHED);
    let after = done(worker);
    let (woke, ticks) = (after.switches - before.switches, after.ticks - before.ticks);
    println!("{why}: {woke} context switches and {ticks} ticks in {WATCHED:?}");
    assert!(
        woke <= wakes,
        "{why}: {woke} context switches in {WATCHED:?}"
    );
    assert!(
        ticks <= 2 + wakes / 4,
        "{why}: {ticks} ticks in {WATCHED:?}"
    );
}

fn people(app: &App) -> (Person, Person) {
    (app.tutor(Google, "Gia"), app.person("student", "Sam"))
}

#[test]
fn switched_off_with_sessions_that_wait() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let people = people(&app);
    seed(&mut app.client(), people, Google, 5);
    app.wait_until(
        "jobs",
        "SELECT count(*) = 5 FROM meetlink.jobs WHERE state = 'pending'",
    );
    assert_asleep(&app, "switched off", 0);
}

#[test]
fn a_providers_every_place_taken_by_a_stalled_request_and_more_sessions_that_wait() {
    let app = App::with(|options| {
        options
            .set("meetlink.concurrency", "4")
            .set("meetlink.request_timeout", "60s")
    });
    let people = people(&app);
    app.simulator.fault(Rule::always(
        Google,
        Call::Insert,
        Action::Stall { effect: false },
    ));
    seed(&mut app.client(), people, Google, 20);
    // The fourth place is kept for the other provider.
    wait::until_true(SOON, "three requests", || {
        app.simulator.calls(Google, Call::Insert).len() == 3
    });
    assert_asleep(&app, "all places taken", 0);
}

#[test]
fn a_refresh_that_stalls_and_sessions_that_wait_for_its_token() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "60s"));
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.client()
        .batch_execute("UPDATE tutor_video_provider_connections SET token_expires_at = now()")
        .unwrap();
    app.simulator.fault(Rule::always(
        Zoom,
        Call::Token,
        Action::Stall { effect: false },
    ));
    seed(&mut app.client(), (tutor, student), Zoom, 10);
    wait::until_true(SOON, "the refresh", || {
        app.simulator.calls(Zoom, Call::Token).len() == 1
    });
    assert_asleep(&app, "a stalled refresh", 0);
    assert_eq!(app.simulator.journal_len(), 1, "one refresh at a time");
}

/// The worker finds out by itself, when it looks after those that wait for a person.
#[test]
fn a_session_that_was_over_before_its_tutor_connected() {
    let mut app = App::start();
    let people = (app.person("tutor", "Tia"), app.person("student", "Sam"));
    let session = seed(&mut app.client(), people, Google, 1)[0];
    app.wait_for_state(session, "needs_action");
    app.client()
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE sessions SET scheduled_start_at = now() - interval '3 hours',
                                 scheduled_end_at = now() - interval '2 hours'",
        )
        .unwrap();
    app.cluster.reload();
    app.wait_for_state(session, "not_needed");
    assert_asleep(&app, "a session that was over", 0);
}

#[test]
fn a_sessions_table_that_is_gone_and_jobs_that_are_not() {
    let mut app = App::with(|options| options.set("meetlink.enabled", "off"));
    let people = people(&app);
    seed(&mut app.client(), people, Google, 5);
    app.wait_until("jobs", "SELECT count(*) = 5 FROM meetlink.jobs");
    app.client().batch_execute("DROP TABLE sessions").unwrap();
    app.cluster.set("meetlink.enabled", "on");
    app.wait_until(
        "the worker to say what is gone",
        "SELECT COALESCE(last_error, '') ~ 'table is gone' FROM meetlink.workers",
    );
    assert_asleep(&app, "a dropped table", 0);
}

#[test]
fn a_key_file_that_is_gone() {
    let app = App::start();
    let people = people(&app);
    let path = app.cluster.base().join("meetlink.keys");
    std::fs::remove_file(path).unwrap();
    app.client()
        .batch_execute("SELECT pg_terminate_backend(pid) FROM meetlink.workers")
        .unwrap();
    seed(&mut app.client(), people, Google, 20);
    app.wait_until(
        "the worker to miss its keys",
        "SELECT COALESCE(last_error, '') ~ 'key_file' FROM meetlink.workers",
    );
    // It tries again now and then.
    assert_asleep(&app, "no key file", 40);
}

#[test]
fn meetlink_detached_and_jobs_left_over() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let people = people(&app);
    seed(&mut app.client(), people, Google, 5);
    app.wait_until("jobs", "SELECT count(*) = 5 FROM meetlink.jobs");
    app.client()
        .batch_execute("SELECT meetlink_detach()")
        .unwrap();
    assert_asleep(&app, "detached", 0);
}

#[test]
fn meetlink_detached_while_the_worker_was_in_trouble() {
    let app = App::start();
    let people = people(&app);
    app.simulator.fault(Rule::always(
        Google,
        Call::Insert,
        Action::ServerError { status: 500 },
    ));
    let mut client = app.client();
    seed(&mut client, people, Google, 5);
    app.wait_until(
        "jobs that are tried again",
        "SELECT count(*) = 5 FROM meetlink.jobs WHERE state = 'retrying'",
    );
    let mut migration = client.transaction().unwrap();
    migration
        .batch_execute("LOCK sessions IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    app.wait_until(
        "the worker to be in trouble",
        "SELECT state = 'waiting' FROM meetlink.workers",
    );
    migration.batch_execute("SELECT meetlink_detach()").unwrap();
    migration.commit().unwrap();
    assert_asleep(&app, "detached in trouble", 0);
}

#[test]
fn a_prepared_transaction_left_open_costs_a_look_a_second() {
    let app = App::with(|options| options.set("max_prepared_transactions", "5"));
    let people = people(&app);
    let mut client = app.client();
    client.batch_execute("BEGIN").unwrap();
    seed(&mut client, people, Google, 1);
    client
        .batch_execute("PREPARE TRANSACTION 'forgotten'")
        .unwrap();
    assert_asleep(&app, "an open prepared transaction", 16);
}

#[test]
fn a_session_row_that_stays_locked() {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_max", "10min")
            .set("meetlink.backoff_base", "30s")
    });
    let people = people(&app);
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 300 }));
    let session = app.book(people.0, people.1);
    let mut holder = app.client();
    holder.batch_execute("BEGIN").unwrap();
    holder
        .execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", &[&session])
        .unwrap();
    app.wait_until(
        "the write-back to wait",
        "SELECT EXISTS (SELECT FROM meetlink.queue WHERE last_error IS NOT NULL)",
    );
    assert_asleep(&app, "a locked row", 12);
}

/// Somebody asks for a session that has its link, and another one is booked in the same moment.
#[test]
fn a_retry_of_what_is_ready_beside_a_booking() {
    let app = App::start();
    let people = people(&app);
    let ready = app.book(people.0, people.1);
    app.wait_for_link(ready);
    let mut client = app.client();
    client.batch_execute("BEGIN").unwrap();
    let booked = seed(&mut client, people, Google, 1)[0];
    client
        .execute(
            "INSERT INTO meetlink.inbox (session_id, wish, queued_at) VALUES ($1, 2, now())",
            &[&ready],
        )
        .unwrap();
    client.batch_execute("COMMIT").unwrap();
    app.wait_for_link(booked);
    assert_asleep(&app, "a needless retry", 0);
}

#[test]
fn meetlink_detached_while_many_are_retried() {
    let app = App::start();
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let refuse = Rule::always(Zoom, Call::Create, Action::ZoomCannotSchedule);
    app.simulator.fault(refuse);
    let mut client = app.client();
    seed(&mut client, people, Zoom, 20);
    app.wait_until(
        "sessions that were refused",
        "SELECT count(*) = 20 FROM meetlink.jobs WHERE state = 'failed'",
    );
    app.simulator.clear_faults();
    let slow = Rule::always(Zoom, Call::Create, Action::Delay { ms: 1_500 });
    app.simulator.fault(slow);
    client
        .batch_execute("SELECT meetlink_retry(id) FROM sessions")
        .unwrap();
    wait::until_true(SOON, "requests", || app.simulator.in_flight(Zoom).now >= 4);
    client.batch_execute("SELECT meetlink_detach()").unwrap();
    wait::until_true(SOON, "what is under way to end", || {
        app.simulator.in_flight(Zoom).now == 0
    });
    assert_asleep(&app, "detached amid retries", 0);
}
