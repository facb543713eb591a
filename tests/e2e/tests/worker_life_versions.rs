//! Library and SQL objects that do not fit each other: the worker waits and says what to do, and
//! bookings never notice.

#[path = "support/life.rs"]
mod life;

use std::time::Duration;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::{LogMark, StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use uuid::Uuid;

fn own_installation() -> App {
    App::with(|options| options.own_installation())
}

fn people(app: &App) -> (Person, Person) {
    (app.tutor(Google, "Tia"), app.person("student", "Sam"))
}

fn version(app: &App) -> String {
    app.value("SELECT extversion FROM pg_extension WHERE extname = 'meetlink'")
}

/// Makes the SQL objects another version's, and has the worker look.
fn pretend(app: &mut App, version: &str) {
    app.client()
        .execute(
            "UPDATE pg_catalog.pg_extension SET extversion = $1 WHERE extname = 'meetlink'",
            &[&version],
        )
        .expect("a superuser may do so");
    app.cluster.reload();
}

/// Waits until the worker says what to do; gives its words.
fn wait_for_words(app: &App, words: &[&str]) -> String {
    let mut client = app.client();
    wait::until(
        Duration::from_secs(8),
        &format!("the worker to say {words:?}"),
        || {
            let query = "SELECT COALESCE(last_error, '') FROM meetlink.workers WHERE pid > 0";
            let said: String = client.query_opt(query, &[]).ok()??.get(0);
            words.iter().all(|word| said.contains(word)).then_some(said)
        },
    )
}

/// Bookings commit, and nothing is made of them.
fn assert_queues(app: &App, people: (Person, Person), bookings: usize) -> Vec<Uuid> {
    let calls = app.simulator.journal_len();
    let sessions: Vec<Uuid> = (0..bookings)
        .map(|_| app.book(people.0, people.1))
        .collect();
    for session in &sessions {
        assert_eq!(app.status(*session)["state"], "pending");
    }
    assert_eq!(app.simulator.journal_len(), calls, "nobody is called");
    sessions
}

/// A worker that only waits has nothing to tell the log again and again.
fn assert_quiet(app: &App, mark: LogMark) {
    let log = app.cluster.log_from(mark);
    let lines = log.lines().filter(|line| line.contains("meetlink"));
    assert!(lines.count() <= 4, "{log}");
    assert!(!log.contains("exited with exit code"), "{log}");
}

#[test]
fn objects_older_than_the_library_wait_for_their_update() {
    let mut app = own_installation();
    let people = people(&app);
    app.wait_for_link(app.book(people.0, people.1));
    let (pid, now) = (app.worker_pid(), version(&app));
    // What an update brings is not the subject; that one came is.
    let script = format!("meetlink--0.0.9--{now}.sql");
    std::fs::write(app.cluster.extension_dir().join(script), "SELECT 1;\n").unwrap();

    let mark = app.cluster.log_mark();
    pretend(&mut app, "0.0.9");
    let said = wait_for_words(&app, &["ALTER EXTENSION meetlink UPDATE", "0.0.9", &now]);
    println!("{said}");
    let sessions = assert_queues(&app, people, 5);
    assert_eq!(app.worker_pid(), pid, "it waits, and does not come and go");
    assert_quiet(&app, mark);

    app.cluster.psql("app", "ALTER EXTENSION meetlink UPDATE");
    assert_eq!(version(&app), now);
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!(app.worker_pid(), pid, "by itself");
    let left: Option<String> = app.value("SELECT NULLIF(last_error, '') FROM meetlink.workers");
    assert_eq!(left, None);
}

#[test]
fn an_update_that_is_rolled_back_changes_nothing() {
    let mut app = own_installation();
    let people = people(&app);
    let now = version(&app);
    let script = format!("meetlink--0.0.9--{now}.sql");
    std::fs::write(app.cluster.extension_dir().join(script), "SELECT 1;\n").unwrap();
    pretend(&mut app, "0.0.9");
    wait_for_words(&app, &["ALTER EXTENSION meetlink UPDATE"]);
    app.cluster
        .psql("app", "BEGIN; ALTER EXTENSION meetlink UPDATE; ROLLBACK");
    let sessions = assert_queues(&app, people, 2);
    wait_for_words(&app, &["ALTER EXTENSION meetlink UPDATE"]);
    app.cluster.psql("app", "ALTER EXTENSION meetlink UPDATE");
    sessions.into_iter().for_each(|s| {
        app.wait_for_link(s);
    });
}

#[test]
fn objects_newer_than_the_library_wait_for_a_restart_with_theirs() {
    let mut app = App::start();
    let people = people(&app);
    app.wait_for_link(app.book(people.0, people.1));
    let (pid, now) = (app.worker_pid(), version(&app));
    let mark = app.cluster.log_mark();
    pretend(&mut app, "99.0");
    let said = wait_for_words(&app, &["99.0", &now, "restart"]);
    println!("{said}");
    let mut sessions = assert_queues(&app, people, 3);
    assert_eq!(app.worker_pid(), pid);
    assert_quiet(&app, mark);

    // A restart with the old library changes nothing, and is no crash loop either.
    app.cluster.restart(StopMode::Fast);
    let mark = app.cluster.log_mark();
    wait_for_words(&app, &["99.0", "restart"]);
    sessions.extend(assert_queues(&app, people, 2));
    assert_quiet(&app, mark);
    let pid = app.worker_pid();
    pretend(&mut app, &now);
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!(app.worker_pid(), pid);
}

#[test]
fn a_request_under_way_when_the_versions_part_is_not_lost() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::once(Zoom, Call::Create, Action::Delay { ms: 1_500 }));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the request", || {
        app.simulator.in_flight(Zoom).now == 1
    });
    let now = version(&app);
    pretend(&mut app, "99.0");
    wait_for_words(&app, &["99.0"]);
    wait::until_true(SOON, "the answer", || {
        app.simulator.in_flight(Zoom).now == 0
    });
    pretend(&mut app, &now);
    let link = app.wait_for_link(session);
    let meetings = app.simulator.meetings_ever(Zoom);
    assert_eq!(meetings.len(), 1);
    assert_eq!(meetings[0].join_url.as_deref(), Some(link.as_str()));
}

#[test]
fn health_tells_versions_that_do_not_fit() {
    let mut app = App::start();
    let now = version(&app);
    pretend(&mut app, "0.0.9");
    wait_for_words(&app, &["0.0.9"]);
    let said = app.cluster.psql(
        "app",
        "SELECT concat_ws(' ', check_name, detail, hint) FROM meetlink_health() WHERE NOT ok",
    );
    assert!(said.contains("0.0.9") && said.contains(&now), "{said}");
    assert!(said.contains("ALTER EXTENSION meetlink UPDATE"), "{said}");
}

#[test]
fn a_library_that_is_replaced_takes_effect_at_the_next_start_only() {
    // As a package manager does it: another file under the same name.
    let app = own_installation();
    let people = people(&app);
    app.wait_for_link(app.book(people.0, people.1));
    let library = app.cluster.library();
    let new = library.with_extension("new");
    std::fs::write(&new, "no library at all").unwrap();
    std::fs::rename(&new, &library).unwrap();
    // Each booking is made by a connection of its own, which loads what its server has loaded.
    for _ in 0..3 {
        app.wait_for_link(app.book(people.0, people.1));
    }
    let pid = app.worker_pid();
    app.cluster.psql(
        "postgres",
        &format!("SELECT pg_terminate_backend({pid}, 5000)"),
    );
    app.wait_for_link(app.book(people.0, people.1));
    assert_ne!(app.worker_pid(), pid, "a new worker, the old library");
    assert!(!app.cluster.log().contains("could not load library"));
}

#[test]
fn a_library_that_is_removed_is_missed_by_new_connections_only() {
    let app = own_installation();
    let (tutor, student) = people(&app);
    let mut client = app.client();
    let first = life::seed_one(&mut client, (tutor, student), Google);
    app.wait_for_link(first);
    let (library, away) = (app.cluster.library(), app.cluster.base().join("away.so"));
    std::fs::rename(&library, &away).unwrap();
    let worker = life::worker_of(&app.cluster, "app");
    let session = life::seed_one(&mut client, (tutor, student), Google);
    wait::until_true(SOON, "the link", || {
        life::link(&mut client, session).is_some()
    });
    assert_eq!(life::worker_of(&app.cluster, "app"), worker);
    // PostgreSQL's rule for every function in C: a new connection looks for the file.
    let touch = format!("UPDATE sessions SET status = status WHERE id = '{session}'");
    let failure = app.cluster.try_psql("app", "postgres", &touch).unwrap_err();
    assert!(
        failure.to_string().contains("could not access file"),
        "{failure}"
    );
    std::fs::rename(&away, &library).unwrap();
    app.wait_for_link(app.book(tutor, student));
}
