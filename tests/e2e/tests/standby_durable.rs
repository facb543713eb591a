//! A claim is on the disk before its request goes out, whatever `synchronous_commit` says, and the
//! worker can wait for a standby that never comes.

#[path = "support/life.rs"]
mod life;
#[path = "support/standby.rs"]
mod support;

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Account, AccountSpec, Action, Call, Rule};
use support::{assert_only_meeting, calls};
use uuid::Uuid;

/// An application that turned `synchronous_commit` off wherever that can be done, on a server
/// whose WAL stays in memory until somebody flushes it: a kill loses what nobody did.
fn careless() -> App {
    let app = App::with(|options| {
        options
            .set("wal_writer_delay", "10s")
            .set("wal_writer_flush_after", "1GB")
            .set("checkpoint_timeout", "1h")
    });
    app.client()
        .batch_execute(
            "ALTER DATABASE app SET synchronous_commit = off;
             ALTER ROLE postgres SET synchronous_commit = off;
             CREATE TABLE said (word text)",
        )
        .unwrap();
    app.cluster.psql(
        "postgres",
        "ALTER SYSTEM SET synchronous_commit = off; SELECT pg_reload_conf()",
    );
    // Its settings are those of its start.
    let old = app.worker_pid();
    app.cluster
        .psql("postgres", &format!("SELECT pg_terminate_backend({old})"));
    wait::until_true(SOON, "another worker", || {
        life::worker_of(&app.cluster, "app").is_some_and(|pid| pid != old)
    });
    app
}

/// Books as somebody who waits for the disk: the session must not be what the crash takes.
fn book_safely(app: &App, tutor: Person, student: Person) -> Uuid {
    book(app, "on", tutor, student)
}

/// Books with such a `synchronous_commit`.
fn book(app: &App, level: &str, tutor: Person, student: Person) -> Uuid {
    app.client()
        .query_one(
            "WITH safe AS MATERIALIZED (SELECT set_config('synchronous_commit', $3, true)),
                  b AS (INSERT INTO bookings (tutor_id, student_id) SELECT $1, $2 FROM safe
                        RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT id, $1, $2, 'zoom', now() + interval '1 h', now() + interval '2 h', 60 FROM b
             RETURNING id",
            &[&tutor.0, &student.0, &level],
        )
        .expect("a session is booked")
        .get(0)
}

/// Commits a word the application's way, and kills the server: gives whether the word survived.
/// It must not, or the crash shows nothing about what was committed just before.
fn crash_that_takes_a_commit(app: &mut App) {
    let mut client = app.client();
    client
        .batch_execute("INSERT INTO said VALUES ('hello')")
        .unwrap();
    let unflushed: bool = client
        .query_one(
            "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(unflushed, "the word is in memory only");
    drop(client);
    app.cluster.crash();
    app.cluster.start_again();
    let said: i64 = app.value("SELECT count(*) FROM said");
    assert_eq!(said, 0, "the crash takes what is committed the same way");
}

#[test]
fn a_claim_is_flushed_before_its_request_is_sent() {
    let mut app = careless();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let stall = Action::Stall { effect: true };
    app.simulator.fault(Rule::once(Zoom, Call::Create, stall));
    let session = book_safely(&app, tutor, student);
    wait::until_true(SOON, "the meeting to be made", || {
        app.simulator.meetings(Zoom).len() == 1
    });
    crash_that_takes_a_commit(&mut app);
    assert_only_meeting(&app, Zoom, session);
    assert_eq!(
        calls(&app, Zoom)
            .iter()
            .filter(|c| **c == Call::Create)
            .count(),
        1
    );
}

#[test]
fn a_claim_that_goes_out_with_other_results_is_flushed_too() {
    let mut app = careless();
    let student = app.person("student", "Sam");
    let (first, second) = (app.tutor(Zoom, "Zoe"), app.tutor(Zoom, "Zac"));
    // The second request waits for the first one's place: the claim shares its transaction with a
    // link, which alone would need no flush.
    app.cluster.set("meetlink.concurrency", "1");
    app.simulator
        .fault(Rule::once(Zoom, Call::Create, Action::Delay { ms: 300 }).account("Zoe"));
    let stall = Action::Stall { effect: true };
    app.simulator
        .fault(Rule::once(Zoom, Call::Create, stall).account("Zac"));
    book_safely(&app, first, student);
    wait::until_true(SOON, "the first request", || {
        app.simulator.in_flight(Zoom).now == 1
    });
    let session = book_safely(&app, second, student);
    wait::until_true(SOON, "both meetings to be made", || {
        app.simulator.meetings(Zoom).len() == 2
    });
    crash_that_takes_a_commit(&mut app);
    app.wait_for_link(session);
    life::wait_for_links(&app, 2, SOON);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn a_rotated_token_is_flushed_before_it_is_used() {
    let mut app = careless();
    let (tutor, student) = (app.person("tutor", "Zoe"), app.person("student", "Sam"));
    let account = connect_with_a_stale_token(&app, tutor);
    let stall = Action::Stall { effect: false };
    app.simulator.fault(Rule::once(Zoom, Call::Create, stall));
    let session = book_safely(&app, tutor, student);
    wait::until_true(SOON, "a request with the new token", || {
        app.simulator.calls(Zoom, Call::Create).len() == 1
    });
    crash_that_takes_a_commit(&mut app);
    // The token that goes with the lost one would be dead by now; a new refresh must find its own.
    let account_now = app.simulator.account(Zoom, &account.name).unwrap();
    assert_ne!(account_now.refresh_token, account.refresh_token);
    app.simulator.expire_access_tokens(&account);
    assert_only_meeting(&app, Zoom, session);
    let tokens = app.simulator.token_use(&account);
    assert_eq!((tokens.refreshes, tokens.killed_token_used), (2, 0));
}

fn connect_with_a_stale_token(app: &App, tutor: Person) -> Account {
    let account = app.simulator.add_account(Zoom, AccountSpec::named("Zoe"));
    app.client()
        .execute(
            "SELECT meetlink_connect($1, 'zoom', $2, $3, now() - interval '5 min')",
            &[&tutor.0, &account.refresh_token, &account.access_token],
        )
        .expect("the tutor is connected");
    account
}

#[test]
fn a_standby_that_never_comes_holds_up_claims_and_nothing_else() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.cluster.set("synchronous_standby_names", "absent");
    // Whoever books does not wait for the standby; the worker's claim does.
    let begun = Instant::now();
    let session = book(&app, "local", tutor, student);
    println!("a booking that waits for no standby: {:?}", begun.elapsed());
    wait_for_the_claim_to_wait(&app);
    book(&app, "local", tutor, student);
    assert!(begun.elapsed() < Duration::from_secs(5), "bookings go on");
    assert_eq!(app.simulator.journal_len(), 0, "nobody was called");

    let took = app.cluster.stop(StopMode::Fast);
    println!("a fast stop while the claim waits: {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    app.cluster.start_again();
    book(&app, "local", tutor, student);
    wait_for_the_claim_to_wait(&app);
    assert_eq!(app.simulator.journal_len(), 0, "nobody was called");

    app.cluster.unset("synchronous_standby_names");
    life::wait_for_links(&app, 3, SOON);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 3);
    assert_eq!(app.status(session)["state"], "ready");
}

/// As the server lists it: the worker waits in its commit.
fn wait_for_the_claim_to_wait(app: &App) {
    let mut client = app.cluster.connect("postgres", "postgres");
    wait::until_true(SOON, "the worker to wait for the standby", || {
        let query = "SELECT count(*) = 1 FROM pg_stat_activity
                      WHERE backend_type = 'meetlink worker' AND wait_event = 'SyncRep'";
        client.query_one(query, &[]).unwrap().get(0)
    });
}

#[test]
fn a_worker_that_is_terminated_while_it_waits_for_a_standby_sends_nothing() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.cluster.set("synchronous_standby_names", "absent");
    let session = book(&app, "local", tutor, student);
    wait_for_the_claim_to_wait(&app);
    for _ in 0..2 {
        let old = life::wait_for_worker(&app.cluster, "app");
        let ended = app.cluster.psql(
            "postgres",
            &format!("SELECT pg_terminate_backend({old}, 5000)"),
        );
        assert_eq!(ended, "t");
        // The next one commits what it takes back, and waits as well.
        wait_for_the_claim_to_wait(&app);
        assert_eq!(app.simulator.journal_len(), 0, "nobody was called");
    }
    app.cluster.unset("synchronous_standby_names");
    assert_only_meeting(&app, Zoom, session);
}

/// Who commits holds locks until the standby answers: rows of the application, and the one that every
/// NOTIFY of the cluster needs.
#[test]
fn where_the_database_waits_for_no_standby_the_worker_does_not_either() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.client()
        .batch_execute("ALTER DATABASE app SET synchronous_commit = local")
        .unwrap();
    let old = app.worker_pid();
    app.cluster
        .psql("postgres", &format!("SELECT pg_terminate_backend({old})"));
    wait::until_true(SOON, "another worker", || {
        life::worker_of(&app.cluster, "app").is_some_and(|pid| pid != old)
    });
    app.cluster.set("synchronous_standby_names", "absent");
    for _ in 0..3 {
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        app.client()
            .batch_execute("NOTIFY something; UPDATE sessions SET status = status")
            .unwrap();
    }
}
