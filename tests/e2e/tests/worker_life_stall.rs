//! A provider that stalls holds up nobody but its own sessions.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use life::seed;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};

const AT_ONCE: Duration = Duration::from_secs(1);

/// An application with 40 requests to Google under way that get no answer for 30 s.
fn stalled() -> App {
    let app = App::with(|options| {
        options
            .set("meetlink.request_timeout", "40s")
            .set("meetlink.concurrency", "40")
    });
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let delay = Action::Delay { ms: 30_000 };
    app.simulator
        .fault(Rule::always(Google, Call::Insert, delay));
    seed(&mut app.client(), people, Google, 60);
    wait::until_true(
        SOON,
        "37 stalled requests: three places are kept for Zoom",
        || app.simulator.in_flight(Google).now == 37,
    );
    app
}

/// Runs `what`, and wants it done in a second.
#[track_caller]
fn at_once(name: &str, what: impl FnOnce()) {
    let begun = Instant::now();
    what();
    let took = begun.elapsed();
    println!("while a provider stalls: {name} took {took:?}");
    assert!(took < AT_ONCE, "{name} took {took:?}");
}

#[test]
fn databases_come_and_go_while_a_provider_stalls() {
    let app = stalled();
    for name in ["plain", "shop"] {
        app.cluster.create_database(name);
    }
    app.cluster.psql("shop", "CREATE EXTENSION meetlink");
    life::wait_for_worker(&app.cluster, "shop");
    let mut client = app.cluster.connect("postgres", "postgres");
    at_once("DROP DATABASE", || {
        client.batch_execute("DROP DATABASE plain").unwrap();
    });
    at_once("DROP DATABASE WITH (FORCE), with a worker in it", || {
        client
            .batch_execute("DROP DATABASE shop WITH (FORCE)")
            .unwrap();
    });
    at_once("CREATE DATABASE", || {
        client.batch_execute("CREATE DATABASE more").unwrap();
    });
    assert_eq!(app.simulator.in_flight(Google).now, 37, "still stalled");
    at_once("DROP DATABASE WITH (FORCE) of the stalled one", || {
        client
            .batch_execute("DROP DATABASE app WITH (FORCE)")
            .unwrap();
    });
}

#[test]
fn the_extension_can_be_dropped_while_a_provider_stalls() {
    let app = stalled();
    let mut client = app.client();
    at_once("DROP EXTENSION", || {
        client.batch_execute("DROP EXTENSION meetlink").unwrap();
    });
    at_once("the worker's leave", || {
        life::wait_for_no_worker(&app.cluster, "app", AT_ONCE);
    });
}

#[test]
fn the_extension_can_be_dropped_in_the_middle_of_the_work() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    for turn in 1..4 {
        app.simulator.clear_journal();
        seed(&mut client, people, Google, 1_000);
        wait::until_true(SOON, "requests to be under way", || {
            app.simulator.journal_len() > turn * 70
        });
        at_once("DROP EXTENSION while links are written", || {
            client.batch_execute("DROP EXTENSION meetlink").unwrap();
        });
        app.attach();
    }
    assert!(!app.cluster.log().contains("deadlock detected"));
}

#[test]
fn a_fast_stop_is_fast_while_a_provider_stalls() {
    let mut app = stalled();
    let took = app.cluster.stop(StopMode::Fast);
    println!("while a provider stalls: pg_ctl stop -m fast took {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    app.cluster.start_again();
    // What was abandoned is taken up again.
    app.simulator.clear_faults();
    life::wait_for_links(&app, 60, Duration::from_secs(30));
    assert_eq!(app.simulator.meetings_ever(Google).len(), 60);
}

#[test]
fn a_stalled_server_that_never_answers_is_as_harmless() {
    let mut app = App::with(|options| options.set("meetlink.request_timeout", "40s"));
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.simulator.fault(Rule::always(
        Zoom,
        Call::Create,
        Action::Stall { effect: false },
    ));
    seed(&mut app.client(), people, Zoom, 3);
    wait::until_true(SOON, "stalled requests", || {
        app.simulator.calls(Zoom, Call::Create).len() == 3
    });
    let pid = life::wait_for_worker(&app.cluster, "app");
    at_once("pg_terminate_backend of the worker", || {
        let ended: bool = app
            .client()
            .query_one("SELECT pg_terminate_backend($1, 5000)", &[&pid])
            .unwrap()
            .get(0);
        assert!(ended);
    });
    life::wait_for_worker(&app.cluster, "app");
    let took = app.cluster.stop(StopMode::Fast);
    println!("while a provider never answers: pg_ctl stop -m fast took {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn one_slow_request_holds_up_no_other_sessions_link() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (slow, quick) = (app.tutor(Google, "Slow"), app.tutor(Zoom, "Quick"));
    app.simulator.fault(Rule::once(
        Google,
        Call::Insert,
        Action::Delay { ms: 3_000 },
    ));
    let begun = Instant::now();
    let held = app.book(slow, student);
    wait::until_true(SOON, "the slow request", || {
        app.simulator.in_flight(Google).now == 1
    });
    // Another provider's, and the same tutor's at the same provider.
    for tutor in [quick, slow] {
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        println!("a link beside a slow request: {:?}", begun.elapsed());
    }
    assert!(
        begun.elapsed() < Duration::from_millis(2_500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(app.status(held)["state"], "creating");
    app.wait_for_link(held);
    assert!(begun.elapsed() > Duration::from_millis(2_900));
}
