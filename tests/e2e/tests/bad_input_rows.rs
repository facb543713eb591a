//! Rows of the application that no meeting can be made of: they cost themselves their link, and
//! nobody else theirs.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::App;
use meetlink_simulator::{Options, Provider};
use support::{Witness, assert_plain, connection_status, stale_tutor};

/// Times that Postgres can store and that no calendar knows.
const ODD_TIMES: [(&str, &str); 7] = [
    ("infinity", "infinity"),
    ("-infinity", "infinity"),
    ("now", "infinity"),
    ("294276-12-31 23:59:59+00", "294276-12-31 23:59:59.9+00"),
    ("4713-01-01 00:00:00+00 BC", "9999-12-31 00:00:00+00"),
    ("9999-12-31 23:59:59+00", "20000-01-01 00:00:00+00"),
    ("tomorrow", "tomorrow"),
];

fn insert(app: &App, tutor: uuid::Uuid, student: uuid::Uuid, start: &str, end: &str) -> uuid::Uuid {
    let text = app.cluster.psql(
        "app",
        &format!(
            "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                        VALUES ('{tutor}', '{student}') RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT b.id, '{tutor}', '{student}', 'zoom', '{start}', '{end}', 2147483647 FROM b
             RETURNING id"
        ),
    );
    text.parse().expect("a session's id")
}

#[test]
fn a_session_at_an_impossible_time_stops_nobody_elses() {
    let app = App::start();
    let witness = Witness::new(&app, Provider::Google);
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    for (start, end) in ODD_TIMES {
        let session = insert(&app, tutor.0, student.0, start, end);
        witness.still_served(&app);
        let state = format!(
            "state IN ('ready', 'failed') FROM meetlink.jobs WHERE session_id = '{session}'"
        );
        let wanted: bool = app.value(&format!(
            "SELECT scheduled_end_at > now() FROM sessions WHERE id = '{session}'"
        ));
        if wanted {
            app.wait_until(
                &format!("{start} to {end} to end"),
                &format!("SELECT {state}"),
            );
        }
        let status = app.status(session);
        assert_plain(&status);
        // What is asked for again does no more harm than at first.
        support::retry(&app, session);
        witness.still_served(&app);
    }
    // Who looks meets no error either.
    for view in ["missing_links", "queue", "tutor_connections", "attempts"] {
        app.cluster
            .psql("app", &format!("SELECT * FROM meetlink.{view}"));
    }
}

#[test]
fn a_length_that_leads_beyond_time_stops_nobody_elses() {
    let app = App::unattached(Options::default(), |options| options);
    app.cluster.psql(
        "app",
        "ALTER TABLE sessions ALTER scheduled_end_at DROP NOT NULL,
                              ALTER duration_minutes DROP NOT NULL",
    );
    app.attach();
    let witness = Witness::new(&app, Provider::Google);
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    for start in ["tomorrow", "infinity", "294276-12-31 23:59:59+00"] {
        for (column, value) in [
            ("duration_minutes", "2147483647"),
            ("duration_minutes", "-5"),
            ("duration_minutes", "0"),
            ("status", "'SCHEDULED'"),
        ] {
            app.cluster.psql(
                "app",
                &format!(
                    "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                                VALUES ('{0}', '{1}') RETURNING id)
                     INSERT INTO sessions (booking_id, tutor_id, student_id, provider,
                                           scheduled_start_at, {column})
                     SELECT b.id, '{0}', '{1}', 'zoom', '{start}', {value} FROM b",
                    tutor.0, student.0
                ),
            );
            witness.still_served(&app);
        }
    }
}

#[test]
fn a_token_that_never_ends_is_fresh() {
    let app = App::start();
    let witness = Witness::new(&app, Provider::Google);
    let student = app.person("student", "Sam");
    for end in ["'infinity'", "'294276-12-31'", "NULL"] {
        let tutor = app.tutor(Provider::Zoom, &format!("until {end}"));
        app.cluster.psql(
            "app",
            &format!(
                "UPDATE tutor_video_provider_connections SET token_expires_at = {end}
                  WHERE tutor_id = '{}'",
                tutor.0
            ),
        );
        let session = app.book(tutor, student);
        witness.still_served(&app);
        app.wait_for_link(session);
    }
    assert!(
        app.simulator
            .calls(Provider::Zoom, meetlink_simulator::Call::Token)
            .is_empty()
    );
    let (tutor, _) = stale_tutor(&app, Provider::Zoom, "long over");
    app.cluster.psql(
        "app",
        &format!(
            "UPDATE tutor_video_provider_connections SET token_expires_at = '-infinity'
              WHERE tutor_id = '{}'",
            tutor.0
        ),
    );
    let session = app.book(tutor, student);
    witness.still_served(&app);
    app.wait_for_link(session);
}

#[test]
fn a_stale_token_without_a_refresh_token_asks_the_tutor_to_reconnect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in [Provider::Google, Provider::Zoom] {
        for nothing in ["NULL", "''"] {
            let name = format!("{provider:?} {nothing}");
            let (tutor, _) = stale_tutor(&app, provider, &name);
            app.cluster.psql(
                "app",
                &format!(
                    "UPDATE tutor_video_provider_connections SET refresh_token_encrypted = {nothing}
                      WHERE tutor_id = '{}'",
                    tutor.0
                ),
            );
            let session = app.book(tutor, student);
            let status = app.wait_for_state(session, "needs_action");
            assert_eq!(status["action"]["kind"], "reconnect", "{status}");
            assert_eq!(connection_status(&app, tutor), "needs_reauth", "{name}");
        }
    }
}
