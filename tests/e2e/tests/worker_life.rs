//! A worker's coming and going: with the extension, and after everything that ends a process.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use life::{launcher, wait_for_no_worker, wait_for_worker, worker_of};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{Cluster, ClusterOptions, StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};

fn terminate(cluster: &Cluster, pid: i32) {
    let ended: bool = cluster
        .connect("postgres", "postgres")
        .query_one("SELECT pg_terminate_backend($1, 5000)", &[&pid])
        .unwrap()
        .get(0);
    assert!(ended, "{pid} ends when it is told to");
}

#[test]
fn a_worker_comes_with_the_extension_and_goes_with_it() {
    let cluster = Cluster::start(ClusterOptions::new());
    for name in ["with", "without"] {
        cluster.create_database(name);
    }
    wait::until(SOON, "the launcher", || launcher(&cluster));
    for round in 0..3 {
        cluster.psql("with", "CREATE EXTENSION meetlink");
        wait_for_worker(&cluster, "with");
        let shown = cluster.psql(
            "with",
            "SELECT pid > 0, started_at <= now() FROM meetlink.workers",
        );
        assert_eq!(shown, "t|t", "round {round}");
        cluster.psql("with", "DROP EXTENSION meetlink");
        wait_for_no_worker(&cluster, "with", Duration::from_secs(1));
    }
    cluster.psql("with", "BEGIN; CREATE EXTENSION meetlink; ROLLBACK");
    cluster.psql("with", "CREATE EXTENSION meetlink");
    let pid = wait_for_worker(&cluster, "with");
    cluster.psql("with", "BEGIN; DROP EXTENSION meetlink; ROLLBACK");
    for name in ["without", "postgres", "template1"] {
        assert_eq!(worker_of(&cluster, name), None, "{name}");
    }
    assert_eq!(
        wait_for_worker(&cluster, "with"),
        pid,
        "nothing was dropped"
    );
}

#[test]
fn workers_come_back_with_the_server_without_being_told_where() {
    let mut cluster = Cluster::start(ClusterOptions::new());
    for name in ["one", "two", "plain"] {
        cluster.create_database(name);
    }
    for name in ["one", "two"] {
        cluster.psql(name, "CREATE EXTENSION meetlink");
        wait_for_worker(&cluster, name);
    }
    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Smart] {
        cluster.restart(mode);
        wait_for_worker(&cluster, "one");
        wait_for_worker(&cluster, "two");
        wait_for_no_worker(&cluster, "plain", Duration::from_secs(5));
    }
}

#[test]
fn a_worker_and_a_launcher_that_are_terminated_come_back_and_go_on() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let worker = wait_for_worker(&app.cluster, "app");
    app.wait_for_link(app.book(tutor, student));

    terminate(&app.cluster, worker);
    let begun = Instant::now();
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    println!(
        "a link {:?} after the worker was terminated",
        begun.elapsed()
    );
    let second = wait_for_worker(&app.cluster, "app");
    assert_ne!(second, worker);

    let old = launcher(&app.cluster).expect("a launcher");
    terminate(&app.cluster, old);
    app.wait_for_link(app.book(tutor, student));
    wait::until_true(Duration::from_secs(5), "another launcher", || {
        launcher(&app.cluster).is_some_and(|pid| pid != old)
    });
    assert_eq!(worker_of(&app.cluster, "app"), Some(second), "it went on");

    // The new launcher knows of the old one's worker.
    terminate(&app.cluster, second);
    app.wait_for_link(app.book(tutor, student));
    assert_ne!(wait_for_worker(&app.cluster, "app"), second);
    // And of databases that it has never seen.
    app.cluster.create_database("later");
    app.cluster.psql("later", "CREATE EXTENSION meetlink");
    wait_for_worker(&app.cluster, "later");
    assert_eq!(app.simulator.meetings_ever(Google).len(), 4);
}

#[test]
fn both_terminated_at_once_come_back_too() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let worker = wait_for_worker(&app.cluster, "app");
    app.client()
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE backend_type LIKE 'meetlink %'",
        )
        .unwrap();
    app.wait_for_link(app.book(tutor, student));
    assert_ne!(wait_for_worker(&app.cluster, "app"), worker);
}

#[test]
fn a_copy_made_while_paused_calls_nobody_until_it_is_allowed_to() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let waiting = app.book(tutor, student);
    drop(client);
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    app.cluster
        .psql("postgres", "CREATE DATABASE copy TEMPLATE app");

    app.client()
        .batch_execute("SELECT meetlink_resume()")
        .unwrap();
    app.wait_for_link(waiting);
    let calls = app.simulator.journal_len();

    // The copy's pause came along; without it there is still the question whose meetings these are.
    app.cluster.psql("copy", "DELETE FROM meetlink.pause");
    let mut copy = app.cluster.connect("copy", "postgres");
    copy.batch_execute(
        "UPDATE sessions SET join_url = NULL, meeting_external_id = NULL;
         SELECT meetlink_create_missing()",
    )
    .unwrap();
    let complaint = wait::until(SOON, "the copy's worker to say what it waits for", || {
        copy.query_opt("SELECT last_error FROM meetlink.workers", &[])
            .unwrap()?
            .get::<_, Option<String>>(0)
    });
    assert!(
        complaint.contains("copy of another database") && complaint.contains("meetlink_resume"),
        "{complaint}"
    );
    assert_eq!(app.simulator.journal_len(), calls, "nobody was called");

    let changed: bool = copy
        .query_one("SELECT meetlink_resume()", &[])
        .unwrap()
        .get(0);
    assert!(changed);
    wait::until_true(SOON, "the copy's links", || {
        let query = "SELECT bool_and(join_url IS NOT NULL) FROM sessions";
        copy.query_one(query, &[]).unwrap().get(0)
    });
}

#[test]
fn bookings_during_a_pause_do_not_keep_the_database_from_being_copied() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    for round in 0..5 {
        app.book(tutor, student);
        app.cluster.psql(
            "postgres",
            &format!("CREATE DATABASE copy{round} TEMPLATE app"),
        );
    }
}

#[test]
fn a_dropped_database_takes_its_worker_along_and_its_successor_gets_one() {
    let cluster = Cluster::start(ClusterOptions::new());
    let mut seen = Vec::new();
    for _ in 0..3 {
        cluster.create_database("shop");
        cluster.psql("shop", "CREATE EXTENSION meetlink");
        let pid = wait_for_worker(&cluster, "shop");
        assert!(!seen.contains(&pid));
        seen.push(pid);
        let begun = Instant::now();
        cluster.psql("postgres", "DROP DATABASE shop WITH (FORCE)");
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
    }
    let log = cluster.log();
    assert!(!log.contains("does not exist"), "it is left alone: {log}");
    assert!(launcher(&cluster).is_some());
}

#[test]
fn a_renamed_database_goes_on_under_its_new_name() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let waiting = app.book(tutor, student);
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    app.cluster
        .psql("postgres", "ALTER DATABASE app RENAME TO school");
    app.cluster.psql("school", "SELECT meetlink_resume()");
    wait_for_worker(&app.cluster, "school");
    let mut school = app.cluster.connect("school", "postgres");
    wait::until_true(SOON, "the link", || {
        life::link(&mut school, waiting).is_some()
    });
}

#[test]
fn a_server_without_a_free_place_for_a_worker_starts_and_says_so() {
    let mut app = App::with(|options| options.set("max_worker_processes", "8"));
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    // Postgres's own logical replication launcher takes one, ours the next.
    for (places, words) in [
        ("0", "too many background workers"),
        ("2", "meetlink could not start a worker"),
    ] {
        app.cluster.stop(StopMode::Fast);
        let mark = app.cluster.log_mark();
        app.cluster.set("max_worker_processes", places);
        app.cluster.start_again();
        wait::until_true(SOON, "a line in the log", || {
            app.cluster.log_from(mark).contains(words)
        });
        let log = app.cluster.log_from(mark);
        assert!(log.contains("HINT:"), "{log}");
        assert!(log.contains("max_worker_processes"), "{log}");
        assert_eq!(worker_of(&app.cluster, "app"), None, "{places} places");
        let session = app.book(tutor, student);
        assert_eq!(app.status(session)["state"], "pending");
    }
    let shown = app
        .cluster
        .psql("app", "SELECT last_error FROM meetlink.workers");
    assert!(shown.contains("max_worker_processes"), "{shown:?}");
    app.cluster.stop(StopMode::Fast);
    app.cluster.set("max_worker_processes", "8");
    app.cluster.start_again();
    life::wait_for_links(&app, 2, SOON);
}

/// What an interrupted DROP DATABASE leaves behind: nobody can connect to it.
#[test]
fn a_database_that_is_invalid_is_left_alone() {
    let mut app = App::start();
    app.cluster.psql("postgres", "CREATE DATABASE half_gone");
    app.cluster.psql(
        "postgres",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_gone'",
    );
    let mark = app.cluster.log_mark();
    app.cluster.restart(meetlink_e2e::StopMode::Fast);
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let log = app.cluster.log_from(mark);
    assert!(!log.contains("half_gone"), "{log}");
}
