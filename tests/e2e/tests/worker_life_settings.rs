//! Settings that change under a running worker, and several workers and bookers at once.

#[path = "support/life.rs"]
mod life;

use std::time::Duration;

use life::{REFERENCE_APP, seed, wait_for_links, wait_for_worker};
use meetlink_e2e::app::{App, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Latency, Options};

fn slow(api_ms: u64) -> Options {
    let latency = Latency {
        api_ms,
        token_ms: 0,
    };
    Options {
        google_latency: latency,
        zoom_latency: latency,
        ..Options::default()
    }
}

#[test]
fn a_reload_switches_meetlink_off_and_on() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let pid = app.worker_pid();
    app.cluster.set("meetlink.enabled", "off");
    app.wait_until(
        "the worker to be switched off",
        "SELECT state = 'disabled' FROM meetlink.workers",
    );
    let calls = app.simulator.journal_len();
    let session = app.book(tutor, student);
    app.wait_until(
        "the worker to have seen the booking",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    assert_eq!(app.status(session)["state"], "pending");
    assert_eq!(app.simulator.journal_len(), calls, "nobody is called");
    app.cluster.set("meetlink.enabled", "on");
    app.wait_for_link(session);
    assert_eq!(app.worker_pid(), pid, "the same worker");
}

#[test]
fn a_reload_in_the_moment_in_which_a_worker_starts_is_not_lost() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    let first = app.worker_pid();
    // Postgres waits this long before a new process serves signals.
    app.cluster.set("post_auth_delay", "1");
    client
        .execute("SELECT pg_terminate_backend($1)", &[&first])
        .unwrap();
    wait::until_true(SOON, "the next worker's process", || {
        workers_of(app.cluster.pid())
            .into_iter()
            .any(|pid| pid != first)
    });
    client
        .batch_execute("ALTER SYSTEM SET meetlink.enabled = off")
        .unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait::until_true(SOON, "the worker to be switched off", || {
        let query = "SELECT pid <> $1 AND state = 'disabled' FROM meetlink.workers";
        let row = client.query_opt(query, &[&first]).unwrap();
        row.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
    });
}

/// Processes of workers, those that only begin included.
fn workers_of(postmaster: u32) -> Vec<i32> {
    let found = std::process::Command::new("pgrep")
        .args(["-P", &postmaster.to_string(), "-f", "meetlink worker"])
        .output()
        .expect("pgrep runs");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_request_under_way_when_meetlink_is_switched_off_still_brings_its_link() {
    let mut app = App::with_simulator(slow(500), |options| options);
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    app.cluster.set("meetlink.enabled", "off");
    app.wait_for_link(session);
}

#[test]
fn concurrency_changes_at_a_reload() {
    let mut app = App::with_simulator(slow(100), |options| {
        options.set("meetlink.concurrency", "2")
    });
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    // A provider that is alone may use every place.
    client
        .batch_execute("DELETE FROM meetlink.providers WHERE provider = 'google_meet'")
        .unwrap();
    seed(&mut client, people, Zoom, 10);
    wait_for_links(&app, 10, SOON);
    assert_eq!(app.simulator.in_flight(Zoom).max, 2);

    app.cluster.set("meetlink.concurrency", "6");
    app.simulator.clear_journal();
    seed(&mut client, people, Zoom, 18);
    wait_for_links(&app, 28, SOON);
    assert_eq!(app.simulator.in_flight(Zoom).max, 6);

    app.cluster.set("meetlink.concurrency", "1");
    app.simulator.clear_journal();
    seed(&mut client, people, Zoom, 4);
    wait_for_links(&app, 32, SOON);
    assert_eq!(app.simulator.in_flight(Zoom).max, 1);
}

#[test]
fn two_databases_have_their_own_workers_and_mix_nothing_up() {
    let app = App::with_simulator(slow(50), |options| options);
    app.cluster.create_database("second");
    app.cluster.psql("second", REFERENCE_APP);
    let mut second = app.cluster.connect("second", "postgres");
    second
        .batch_execute("CREATE EXTENSION meetlink; SELECT meetlink_attach()")
        .unwrap();
    let (id, secret) = app.simulator.client(Zoom);
    second
        .execute(
            "SELECT meetlink_configure_provider('zoom', $1, $2)",
            &[&id, &secret],
        )
        .unwrap();
    let mut person = |role: &str| {
        let query = "INSERT INTO profiles (full_name, role) VALUES ($1, $1) RETURNING id";
        meetlink_e2e::app::Person(second.query_one(query, &[&role]).unwrap().get(0))
    };
    let people = (person("tutor"), person("student"));
    let account = app
        .simulator
        .add_account(Zoom, AccountSpec::named("second"));
    second
        .execute(
            "SELECT meetlink_connect($1, $2, $3)",
            &[&people.0.0, &name_of(Zoom), &account.refresh_token],
        )
        .unwrap();
    let first = (app.tutor(Google, "Tia"), app.person("student", "Sam"));

    let pids = (
        wait_for_worker(&app.cluster, "app"),
        wait_for_worker(&app.cluster, "second"),
    );
    assert_ne!(pids.0, pids.1);
    seed(&mut second, people, Zoom, 20);
    seed(&mut app.client(), first, Google, 20);
    wait_for_links(&app, 20, SOON);
    wait::until_true(SOON, "the other database's links", || {
        let query = "SELECT count(DISTINCT join_url) = 20 FROM sessions";
        second.query_one(query, &[]).unwrap().get(0)
    });
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 20);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 20);
    let seen: i32 = second
        .query_one("SELECT pid FROM meetlink.workers", &[])
        .unwrap()
        .get(0);
    assert_eq!(seen, pids.1, "each database sees its own");
}

#[test]
fn bookings_from_many_connections_at_once_all_get_their_links() {
    let app = App::with_simulator(slow(5), |options| options);
    let student = app.person("student", "Sam");
    let tutors = [
        app.tutor(Google, "Gia"),
        app.tutor(Zoom, "Zoe"),
        app.tutor(Google, "Gus"),
        app.tutor(Zoom, "Zac"),
    ];
    let book = |tutor: meetlink_e2e::app::Person, client: &mut postgres::Client| {
        let mut transaction = client.transaction().unwrap();
        app.act_as(&mut transaction, tutor);
        transaction
            .execute(
                "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at,
                                       confirmed_end_at)
                 VALUES ($1, $2, 'CONFIRMED', now() + interval '1 h', now() + interval '2 h')",
                &[&tutor.0, &student.0],
            )
            .unwrap();
        transaction.commit().unwrap();
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (book, tutor) = (&book, tutors[thread % 4]);
            let mut client = app.client();
            scope.spawn(move || (0..50).for_each(|_| book(tutor, &mut client)));
        }
    });
    wait_for_links(&app, 400, Duration::from_secs(30));
    for provider in [Google, Zoom] {
        assert_eq!(app.simulator.meetings_ever(provider).len(), 200);
    }
    let left: i64 = app.value("SELECT count(*) FROM meetlink.queue");
    assert_eq!(left, 0);
}
