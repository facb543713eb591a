//! Databases that are renamed, dropped and made again with requests under way, places that become
//! free, and an extension that is moved.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use life::{REFERENCE_APP, wait_for_no_worker, wait_for_worker};
use meetlink_e2e::app::{App, Person, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use uuid::Uuid;

/// A Zoom session whose meeting is made and whose answer does not come.
fn stalled(app: &App) -> (Person, Person, Uuid) {
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let stall = Action::Stall { effect: true };
    app.simulator.fault(Rule::once(Zoom, Call::Create, stall));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the meeting to be made", || {
        app.simulator.meetings(Zoom).len() == 1
    });
    (tutor, student, session)
}

#[test]
fn a_database_renamed_with_a_request_under_way_goes_on_without_a_second_one() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "40s"));
    let (tutor, student, session) = stalled(&app);
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    // It waits a while for what is under way, then lets go all the same.
    let begun = Instant::now();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(8));
    println!("it let go of the database after {:?}", begun.elapsed());
    app.cluster
        .psql("postgres", "ALTER DATABASE app RENAME TO school");
    app.cluster.psql("school", "SELECT meetlink_resume()");
    app.cluster
        .psql("postgres", "CREATE DATABASE app TEMPLATE template0");
    let mut school = app.cluster.connect("school", "postgres");
    let link = wait::until(SOON, "the link", || life::link(&mut school, session));
    let meetings = app.simulator.meetings_ever(Zoom);
    assert_eq!(meetings.len(), 1, "the meeting is found, not made again");
    assert_eq!(meetings[0].join_url.as_deref(), Some(link.as_str()));
    let another = life::seed_one(&mut school, (tutor, student), Zoom);
    wait::until_true(SOON, "another link", || {
        life::link(&mut school, another).is_some()
    });
}

#[test]
fn a_database_made_anew_knows_nothing_of_its_predecessors_requests() {
    let app = App::start();
    let (google, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let slow = Action::Delay { ms: 1_500 };
    app.simulator
        .fault(Rule::always(Google, Call::Insert, slow).times(20));
    life::seed(&mut app.client(), (google, student), Google, 20);
    wait::until_true(SOON, "requests under way", || {
        app.simulator.in_flight(Google).now >= 10
    });
    let begun = Instant::now();
    app.cluster
        .psql("postgres", "DROP DATABASE app WITH (FORCE)");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    app.cluster.create_database("app");
    app.client().batch_execute(REFERENCE_APP).unwrap();
    app.attach();
    let (google, student) = (app.tutor(Google, "Gus"), app.person("student", "Sue"));
    let session = app.book(google, student);
    let link = app.wait_for_link(session);
    println!(
        "a link {:?} after the old database was dropped",
        begun.elapsed()
    );
    wait::until_true(SOON, "the old answers", || {
        app.simulator.in_flight(Google).now == 0
    });
    assert_eq!(app.wait_for_link(session), link);
    let known = app.value::<i64>("SELECT count(*) FROM meetlink.jobs");
    assert_eq!(known, 1, "its own session");
    assert!(!app.cluster.log().contains("PANIC"));
}

#[test]
fn a_worker_comes_by_itself_when_a_place_becomes_free() {
    // Four places: PostgreSQL's own launcher, ours, and two workers.
    let app = App::unattached(meetlink_simulator::Options::default(), |options| {
        options.set("max_worker_processes", "4")
    });
    for name in ["one", "two"] {
        app.cluster.create_database(name);
        app.cluster.psql(name, "CREATE EXTENSION meetlink");
        wait_for_worker(&app.cluster, name);
    }
    app.attach();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let sessions = [app.book(tutor, student), app.book(tutor, student)];
    app.wait_until(
        "the missing place to be named",
        "SELECT bool_or(last_error ~ 'max_worker_processes') FROM meetlink.workers",
    );
    assert_eq!(life::worker_of(&app.cluster, "app"), None);
    for session in sessions {
        assert_eq!(app.status(session)["state"], "pending");
    }
    let words = app.cluster.log();
    let said = words.matches("max_worker_processes is used up").count();
    assert_eq!(said, 1, "once, not every five seconds: {words}");

    app.cluster.psql("one", "DROP EXTENSION meetlink");
    let begun = Instant::now();
    for session in sessions {
        app.wait_for_link(session);
    }
    println!("links {:?} after a place became free", begun.elapsed());
    let left: Option<String> = app.value("SELECT NULLIF(last_error, '') FROM meetlink.workers");
    assert_eq!(left, None);
    assert!(life::worker_of(&app.cluster, "two").is_some());
}

#[test]
fn a_worker_whose_place_was_taken_while_it_was_away_comes_back_later() {
    let app = App::with(|options| options.set("max_worker_processes", "4"));
    app.cluster.create_database("two");
    app.cluster.psql("two", "CREATE EXTENSION meetlink");
    wait_for_worker(&app.cluster, "two");
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    app.cluster.create_database("three");
    app.cluster.psql("three", "CREATE EXTENSION meetlink");
    wait_for_worker(&app.cluster, "three");
    let session = app.book(tutor, student);
    app.client()
        .batch_execute("SELECT meetlink_resume()")
        .unwrap();
    app.wait_until(
        "the missing place to be named",
        "SELECT bool_or(last_error ~ 'max_worker_processes') FROM meetlink.workers",
    );
    app.cluster
        .psql("postgres", "DROP DATABASE three WITH (FORCE)");
    app.wait_for_link(session);
}

#[test]
fn an_extension_that_cannot_be_moved_is_not_disturbed_by_the_try() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::once(Zoom, Call::Create, Action::Delay { ms: 500 }));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "a request", || app.simulator.in_flight(Zoom).now == 1);
    let worker = app.worker_pid();
    app.cluster.psql("app", "CREATE SCHEMA api");
    // Its objects lie in two schemas, of which one is fixed.
    let refused = app
        .cluster
        .try_psql("app", "postgres", "ALTER EXTENSION meetlink SET SCHEMA api")
        .unwrap_err();
    assert!(refused.to_string().contains("SET SCHEMA"), "{refused}");
    app.wait_for_link(session);
    assert_eq!(app.worker_pid(), worker);
}

#[test]
fn verbs_that_are_moved_one_by_one_work_where_they_are() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.cluster.psql(
        "app",
        "CREATE SCHEMA api;
         ALTER FUNCTION meetlink_status(uuid) SET SCHEMA api;
         ALTER FUNCTION meetlink_wait(uuid, interval) SET SCHEMA api;
         ALTER FUNCTION meetlink_resume() SET SCHEMA api;
         ALTER FUNCTION meetlink_attach(regclass, regclass, regclass, jsonb, jsonb) SET SCHEMA api",
    );
    let session = app.book(tutor, student);
    let link: String = app
        .client()
        .query_one("SELECT api.meetlink_wait($1)", &[&session])
        .unwrap()
        .get(0);
    let state: serde_json::Value = app
        .client()
        .query_one("SELECT api.meetlink_status($1)", &[&session])
        .unwrap()
        .get(0);
    assert_eq!(state["join_url"], link.as_str());
    app.cluster.psql("app", "SELECT api.meetlink_attach()");
    let provider: String = app.value("SELECT provider FROM sessions");
    assert_eq!(provider, name_of(Google));
}
