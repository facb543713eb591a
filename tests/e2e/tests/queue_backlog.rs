//! Sessions that wait before anybody works on them.

#[path = "support/life.rs"]
mod life;

use std::time::Duration;

use life::{is_queued, listening, seed, wait_for_links};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Call, Options};

#[test]
fn bookings_queue_while_meetlink_is_paused_and_links_come_after_it() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    let pause = |client: &mut postgres::Client, verb: &str| -> bool {
        let query = format!("SELECT meetlink_{verb}()");
        client.query_one(&query, &[]).unwrap().get(0)
    };
    assert!(pause(&mut client, "pause"));
    assert!(!pause(&mut client, "pause"), "it was paused already");
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let session = app.book(people.0, people.1);
    assert!(is_queued(&mut client, session));
    assert_eq!(app.status(session)["state"], "pending");
    assert!(pause(&mut client, "resume"));
    app.wait_for_link(session);
    assert!(!pause(&mut client, "resume"), "nothing was paused");
}

#[test]
fn a_server_without_the_library_queues_and_a_later_one_makes_the_links() {
    let mut app = App::unattached(Options::default(), |options| options.without_preload());
    let (mut client, notices) = listening(&app.cluster, "app");
    client.batch_execute("CREATE EXTENSION meetlink").unwrap();
    let said = notices.lock().unwrap().join("\n");
    assert!(
        said.contains("WARNING: meetlink is installed, but not preloaded")
            && said.contains("HINT: Add meetlink to shared_preload_libraries"),
        "{said}"
    );
    client.batch_execute("DROP EXTENSION meetlink").unwrap();
    drop(client);

    app.attach();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let session = app.book(people.0, people.1);
    assert!(is_queued(&mut app.client(), session));
    assert_eq!(app.status_as(people.1, session)["state"], "pending");
    assert_eq!(app.simulator.journal_len(), 0);

    app.cluster.stop(StopMode::Fast);
    app.cluster.set("shared_preload_libraries", "meetlink");
    app.cluster.start_again();
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings(Google).len(), 1);
}

/// More than one step takes, of which only the last is for the worker.
#[test]
fn a_session_behind_ten_thousand_that_want_no_link_gets_its_own() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let rows = app.client().query(
        "WITH b AS (INSERT INTO bookings (tutor_id, student_id, status)
                    SELECT $1, $2, 'PENDING' FROM generate_series(1, 10500) RETURNING id)
         INSERT INTO sessions (booking_id, tutor_id, student_id, status, provider,
                               scheduled_start_at, scheduled_end_at, duration_minutes)
         SELECT id, $1, $2, CASE WHEN n = 10500 THEN 'SCHEDULED' ELSE 'CANCELLED' END,
                'google_meet', now() + interval '1 day', now() + interval '25 hours', 60
           FROM (SELECT id, row_number() OVER () AS n FROM b) x ORDER BY n
         RETURNING id, status",
        &[&tutor.0, &student.0],
    );
    let rows = rows.expect("sessions");
    let wanted = rows
        .iter()
        .find(|row| row.get::<_, String>(1) == "SCHEDULED");
    app.wait_for_link(wanted.expect("the last one").get(0));
    assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
}

#[test]
fn the_session_that_starts_soonest_comes_first() {
    let mut app = App::with(|options| {
        options
            .set("meetlink.concurrency", "1")
            .set("meetlink.enabled", "off")
    });
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    for minutes in [50, 10, 40, 20, 60, 30] {
        app.book_in(tutor, student, Duration::from_secs(minutes * 60));
    }
    assert_eq!(app.simulator.journal_len(), 0, "meetlink is switched off");
    app.cluster.set("meetlink.enabled", "on");
    wait_for_links(&app, 6, SOON);
    let starts: Vec<String> = app
        .simulator
        .calls(Google, Call::Insert)
        .iter()
        .map(|entry| entry.body["start"]["dateTime"].to_string())
        .collect();
    assert!(starts.is_sorted(), "{starts:#?}");
    assert_eq!(starts.len(), 6);
}

#[test]
fn a_thousand_sessions_from_before_get_one_meeting_each() {
    let app = App::unattached(Options::default(), |options| options);
    let student = app.person("student", "Sam");
    let google = app.person("tutor", "Gus");
    let zoom = app.person("tutor", "Zoe");
    let mut client = app.client();
    seed(&mut client, (google, student), Google, 500);
    seed(&mut client, (zoom, student), Zoom, 500);
    app.attach();
    app.connect(google, Google, AccountSpec::named("Gus"));
    app.connect(zoom, Zoom, AccountSpec::named("Zoe"));
    life::wait_for_worker(&app.cluster, "app");
    assert_eq!(app.simulator.journal_len(), 0, "nobody has asked for them");

    let create_missing = |client: &mut postgres::Client, limit: Option<i32>| -> i64 {
        client
            .query_one("SELECT meetlink_create_missing($1)", &[&limit])
            .unwrap()
            .get(0)
    };
    assert_eq!(create_missing(&mut client, Some(3)), 3);
    assert_eq!(create_missing(&mut client, None), 997);
    assert_eq!(create_missing(&mut client, None), 0, "all are under way");
    wait_for_links(&app, 1_000, Duration::from_secs(30));
    assert_eq!(create_missing(&mut client, None), 0, "all have their links");
    for provider in [Google, Zoom] {
        let made = app.simulator.calls(provider, Call::Create);
        let made = made.iter().filter(|entry| entry.effect.is_some()).count();
        assert_eq!(made, 500, "{provider:?}'s journal");
        assert_eq!(app.simulator.meetings_ever(provider).len(), 500);
    }
}

#[test]
fn the_soonest_of_those_that_are_missing_are_queued_when_only_some_are_wanted() {
    let app = App::unattached(Options::default(), |options| options);
    let (tutor, student) = (app.person("tutor", "Gus"), app.person("student", "Sam"));
    let mut client = app.client();
    seed(&mut client, (tutor, student), Google, 5);
    app.attach();
    app.connect(tutor, Google, AccountSpec::named("Gus"));
    client
        .batch_execute("SELECT meetlink_create_missing(2)")
        .unwrap();
    wait_for_links(&app, 2, SOON);
    wait::until_true(SOON, "an idle worker", || {
        let state: String = app.value("SELECT state FROM meetlink.workers");
        state == "idle"
    });
    let starts: Vec<bool> = client
        .query(
            "SELECT join_url IS NOT NULL FROM sessions ORDER BY scheduled_start_at",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(starts, [true, true, false, false, false]);
}
