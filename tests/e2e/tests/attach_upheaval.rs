//! The application changes its tables under an attached meetlink: nothing is in its way, and the
//! worker lives on.

#[path = "support/life.rs"]
mod life;

use life::{REFERENCE_APP, listening, seed_one};
use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Google;

/// The definition of one table of the reference application.
fn definition(table: &str) -> &'static str {
    let from = REFERENCE_APP
        .find(&format!("CREATE TABLE {table} ("))
        .expect("the table is there");
    let rest = &REFERENCE_APP[from..];
    &rest[..rest.find(";\n").expect("its end") + 1]
}

#[test]
fn the_sessions_table_can_be_dropped_and_the_worker_says_so_and_lives_on() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let pid = app.worker_pid();
    let mut client = app.client();
    client.batch_execute("DROP TABLE sessions").unwrap();
    // Somebody asks meanwhile, which wakes it.
    let refused = client.batch_execute("SELECT meetlink_create_missing()");
    let (code, message, hint) = life::refusal(refused);
    assert_eq!(code, "42P01");
    assert!(message.contains("sessions table") && hint.contains("meetlink_attach"));
    for view in ["missing_links", "tutor_connections", "queue", "workers"] {
        client
            .batch_execute(&format!("TABLE meetlink.{view}"))
            .unwrap_or_else(|error| panic!("{view}: {error}"));
    }
    let wake = "UPDATE tutor_video_provider_connections SET is_active = NOT is_active";
    client.batch_execute(&format!("{wake}; {wake}")).unwrap();
    app.wait_until(
        "the worker to say what is gone",
        "SELECT COALESCE(last_error, '') ~ 'sessions table is gone' FROM meetlink.workers",
    );
    assert_eq!(app.worker_pid(), pid, "the same worker");

    client
        .batch_execute(&format!(
            "SET ROLE app_owner; {} RESET ROLE; SELECT meetlink_attach()",
            definition("sessions")
        ))
        .unwrap();
    let session = seed_one(&mut client, (tutor, student), Google);
    app.wait_for_link(session);
    let row = client
        .query_one("SELECT pid, last_error FROM meetlink.workers", &[])
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), pid);
    assert_eq!(row.get::<_, Option<String>>(1), None, "the trouble is over");
}

#[test]
fn a_request_under_way_survives_the_drop_of_its_table() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.simulator.fault(meetlink_simulator::Rule::once(
        Google,
        meetlink_simulator::Call::Insert,
        meetlink_simulator::Action::Delay { ms: 700 },
    ));
    let session = app.book(tutor, student);
    meetlink_e2e::wait::until_true(meetlink_e2e::app::SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    let pid = app.worker_pid();
    let mut client = app.client();
    client
        .batch_execute("ALTER TABLE sessions RENAME TO sittings")
        .unwrap();
    app.wait_until(
        "the link in the renamed table",
        "SELECT join_url IS NOT NULL FROM sittings",
    );
    client.batch_execute("DROP TABLE sittings").unwrap();
    assert_eq!(app.worker_pid(), pid);
    assert!(life::is_queued(&mut client, session), "the history stays");
}

#[test]
fn columns_can_be_changed_and_renamed_and_bookings_go_on() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let (mut client, notices) = listening(&app.cluster, "app");
    client
        .batch_execute(
            "ALTER TABLE sessions ALTER COLUMN join_url TYPE varchar(500);
             ALTER TABLE sessions ALTER COLUMN duration_minutes TYPE bigint;
             ALTER TABLE sessions ADD COLUMN note text;
             ALTER TABLE sessions DROP COLUMN meeting_created_at",
        )
        .unwrap();
    let first = seed_one(&mut client, (tutor, student), Google);
    app.wait_until(
        "the worker to find the dropped column, or the link",
        "SELECT bool_or(join_url IS NOT NULL) OR
                EXISTS (SELECT FROM meetlink.queue WHERE last_error IS NOT NULL) FROM sessions",
    );
    client.batch_execute("SELECT meetlink_attach()").unwrap();
    app.wait_for_link(first);
    notices.lock().unwrap().clear();

    client
        .batch_execute("ALTER TABLE sessions RENAME COLUMN join_url TO meeting_link")
        .unwrap();
    let pid = app.worker_pid();
    let second = seed_one(&mut client, (tutor, student), Google);
    let said = notices.lock().unwrap().join("\n");
    assert!(said.contains("renamed or dropped"), "{said}");
    client
        .batch_execute(
            r#"SELECT meetlink_attach(columns => '{"sessions": {"join_url": "meeting_link"}}');
               SELECT meetlink_create_missing()"#,
        )
        .unwrap();
    app.wait_for_link(second);
    assert_eq!(app.worker_pid(), pid, "the worker lived through it");
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
}

#[test]
fn a_renamed_column_keeps_its_jobs_until_it_is_mapped_again() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let waiting = app.book(tutor, student);
    let mut app = app;
    let mut client = app.client();
    client
        .batch_execute("ALTER TABLE sessions RENAME COLUMN tutor_id TO teacher_id")
        .unwrap();
    app.cluster.set("meetlink.enabled", "on");
    app.wait_until(
        "the worker to say what it cannot read",
        "SELECT COALESCE(last_error, '') ~ 'tutor_id' FROM meetlink.workers",
    );
    client
        .batch_execute(
            r#"SELECT meetlink_attach(columns => '{"sessions": {"tutor_id": "teacher_id"}}')"#,
        )
        .unwrap();
    app.wait_for_link(waiting);
}

#[test]
fn the_extension_goes_without_cascade_and_the_tables_stay() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    client.batch_execute("DROP EXTENSION meetlink").unwrap();
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM pg_trigger WHERE tgname ~ 'meetlink'"),
        0
    );
    app.book(tutor, student);
    assert_eq!(app.value::<i64>("SELECT count(*) FROM sessions"), 2);
    app.attach();
    client
        .batch_execute("SELECT meetlink_create_missing()")
        .unwrap();
    life::wait_for_links(&app, 2, meetlink_e2e::app::SOON);
}

/// A call without arguments would take the mapping back to the defaults.
#[test]
fn who_is_told_to_attach_again_is_told_with_what() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    let mark = app.cluster.log_mark();
    client
        .batch_execute("ALTER TABLE sessions RENAME COLUMN join_url TO meeting_link")
        .unwrap();
    let session = seed_one(&mut client, people, Google);
    let log = app.cluster.log_from(mark);
    assert!(log.contains("HINT:"), "{log}");
    assert!(log.contains("the same arguments as before"), "{log}");
    client.batch_execute("DROP TABLE sessions CASCADE").unwrap();
    let asked = client.query_one("SELECT meetlink_status($1)", &[&session]);
    let (_, _, hint) = life::refusal(asked);
    assert!(hint.contains("same arguments as before"), "{hint}");
}
