//! `meetlink.concurrency` counts requests: sessions that only wait for something take no room.

#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{Action, Call, Conference, Provider, Rule};
use support::{Witness, book_many, count, stale_tutor};

/// Ten sessions of one tutor wait for one refresh, which is one request.
#[test]
fn sessions_that_wait_for_a_refresh_hold_nobody_up() {
    let app = App::with(|options| options.set("meetlink.concurrency", "4"));
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Provider::Google);
    let (tutor, zoe) = stale_tutor(&app, Provider::Zoom, "Zoe");
    let slow = Action::Delay { ms: 3_000 };
    let rule = app
        .simulator
        .fault(Rule::once(Provider::Zoom, Call::Token, slow));
    let sessions: Vec<_> = (0..10).map(|_| app.book(tutor, student)).collect();
    wait::until_true(SOON, "the refresh to arrive", || {
        app.simulator.fired(rule) == 1
    });
    let begun = Instant::now();
    witness.still_served(&app);
    let waited = begun.elapsed();
    assert!(
        waited < Duration::from_secs(2),
        "the witness waited {waited:?}"
    );
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!(app.simulator.token_use(&zoe).refreshes, 1);
}

/// Google makes conferences at its leisure; nothing is asked meanwhile.
#[test]
fn sessions_that_wait_for_a_conference_hold_nobody_up() {
    let app = App::with(|options| options.set("meetlink.concurrency", "2"));
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Provider::Zoom);
    let tutor = app.tutor(Provider::Google, "Ann");
    app.simulator
        .set_conference(Conference::PendingForMs(4_000));
    // In one transaction: nothing but the events themselves wakes the worker for the later ones.
    let sessions = book_many(&app, tutor, student, 4);
    wait::until_true(SOON, "two events", || {
        count(&app, Provider::Google, Call::Insert) >= 2
    });
    let begun = Instant::now();
    witness.still_served(&app);
    let waited = begun.elapsed();
    assert!(
        waited < Duration::from_secs(2),
        "the witness waited {waited:?}"
    );
    app.simulator.set_conference(Conference::Immediate);
    for session in sessions {
        app.wait_for_link(session);
    }
}

#[test]
fn no_more_requests_are_under_way_than_the_setting_allows() {
    let app = App::with(|options| options.set("meetlink.concurrency", "3"));
    let student = app.person("student", "Sam");
    let tutors = [
        app.tutor(Provider::Zoom, "Zoe"),
        app.tutor(Provider::Google, "Gus"),
    ];
    let slow = Action::Delay { ms: 100 };
    app.simulator
        .fault(Rule::always(Provider::Zoom, Call::Create, slow.clone()));
    app.simulator
        .fault(Rule::always(Provider::Google, Call::Insert, slow));
    let sessions: Vec<_> = (0..12).map(|n| app.book(tutors[n % 2], student)).collect();
    for session in sessions {
        app.wait_for_link(session);
    }
    let [zoom, google] = [Provider::Zoom, Provider::Google].map(|p| app.simulator.in_flight(p).max);
    // One place is kept from each for the sake of the other.
    assert_eq!((zoom, google), (2, 2));
}

#[test]
fn a_provider_that_is_alone_may_use_every_place() {
    let app = App::with(|options| options.set("meetlink.concurrency", "3"));
    app.client()
        .batch_execute("DELETE FROM meetlink.providers WHERE provider = 'google_meet'")
        .unwrap();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let slow = Action::Delay { ms: 100 };
    app.simulator
        .fault(Rule::always(Provider::Zoom, Call::Create, slow));
    let sessions: Vec<_> = (0..12).map(|_| app.book(tutor, student)).collect();
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!(app.simulator.in_flight(Provider::Zoom).max, 3);
}
