//! Adopting the application's tables: what fits, what does not, and other names for all of it.

#[path = "support/life.rs"]
mod life;

use life::refusal;
use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{AccountSpec, Options};
use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

/// The application with the extension created, and `change` made to its tables before attaching.
fn installed(change: &str) -> (App, Client) {
    let app = App::unattached(Options::default(), |options| options);
    let mut client = app.client();
    client
        .batch_execute(&format!("CREATE EXTENSION meetlink; {change}"))
        .expect("the application is changed");
    (app, client)
}

/// Attaches with `call`, and configures what a link from Google needs.
fn attach_with(app: &App, client: &mut Client, call: &str) -> Value {
    let mapping = client
        .query_one(&format!("SELECT {call}"), &[])
        .unwrap_or_else(|error| panic!("{call}: {error:?}"))
        .get(0);
    let (id, secret) = app.simulator.client(Google);
    client
        .execute(
            "SELECT meetlink_configure_provider('google_meet', $1, $2)",
            &[&id, &secret],
        )
        .expect("Google is configured");
    mapping
}

#[test]
fn every_misfit_is_named_at_once() {
    let (_app, mut client) = installed(
        "ALTER TABLE sessions DROP COLUMN join_url;
         ALTER TABLE sessions ALTER COLUMN scheduled_start_at TYPE timestamp;
         ALTER TABLE tutor_video_provider_connections RENAME token_expires_at TO expires;
         ALTER TABLE profiles RENAME TO people",
    );
    let call = r#"SELECT meetlink_attach(columns => '{"sessions": {"tutor_id": "teacher"}}')"#;
    let (code, message, hint) = refusal(client.batch_execute(call));
    assert_eq!(code, "42804");
    for part in [
        "profiles: no such table",
        "\"join_url\" (join_url) is not there",
        "\"scheduled_start_at\" (scheduled_start_at) is of type timestamp without time zone",
        "\"token_expires_at\"",
        "\"teacher\" (tutor_id) is not there",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(hint.contains("columns =>"), "{hint}");
    let triggers: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_trigger WHERE tgname ~ 'meetlink'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(triggers, 0, "nothing is half attached");
}

#[test]
fn what_is_not_an_ordinary_table_is_refused_by_name() {
    let (_app, mut client) = installed(
        "CREATE VIEW a_view AS SELECT * FROM sessions;
         CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM sessions;
         CREATE TEMP TABLE a_temp (LIKE sessions);
         CREATE EXTENSION file_fdw;
         CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE a_foreign (id uuid) SERVER files OPTIONS (filename '/dev/null');
         CREATE INDEX an_index ON sessions (created_at)",
    );
    for name in ["a_view", "a_matview", "a_temp", "a_foreign", "an_index"] {
        for argument in ["sessions", "connections", "profiles"] {
            let call = format!("SELECT meetlink_attach({argument} => '{name}')");
            let (code, message, _) = refusal(client.batch_execute(&call));
            assert_eq!(code, "42804", "{call}: {message}");
            assert!(
                message.contains(&format!("{argument}: ")) && message.contains(name),
                "{call}: {message}"
            );
        }
    }
    // A real table, and the wrong one.
    let (code, message, _) =
        refusal(client.batch_execute("SELECT meetlink_attach(sessions => 'profiles')"));
    assert_eq!(code, "42804");
    assert!(message.contains("\"scheduled_start_at\""), "{message}");
    let (_, message, _) = refusal(client.batch_execute("SELECT meetlink_attach(sessions => NULL)"));
    assert!(message.contains("sessions: no such table"), "{message}");
}

#[test]
fn only_the_tables_owner_attaches_and_needs_no_superuser_for_it() {
    let (app, mut client) = installed(
        "CREATE ROLE stranger;
         GRANT USAGE ON SCHEMA public, meetlink TO stranger, app_owner;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, meetlink TO stranger, app_owner",
    );
    for verb in ["meetlink_attach()", "meetlink_detach()"] {
        client.batch_execute("SET ROLE stranger").unwrap();
        let result = client.batch_execute(&format!("SELECT {verb}"));
        client.batch_execute("RESET ROLE").unwrap();
        let (code, message, _) = refusal(result);
        assert_eq!(code, "42501", "{verb}: {message}");
        assert!(message.contains("must be owner of"), "{message}");
        // So that the second turn has something to detach.
        client
            .batch_execute("SET ROLE app_owner; SELECT meetlink_attach(); RESET ROLE")
            .unwrap();
    }
    attach_with(&app, &mut client, "meetlink_attach()");
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    client
        .batch_execute("SET ROLE app_owner; SELECT meetlink_detach(); RESET ROLE")
        .unwrap();
    assert_eq!(app.value::<i64>("SELECT count(*) FROM meetlink.config"), 0);
}

/// Sessions under other names, with enums for the words.
const LESSONS: &str = r#"
    CREATE SCHEMA "Odd ""Place";
    CREATE TYPE "Odd ""Place".place AS ENUM ('google_meet', 'zoom');
    CREATE TYPE lesson_state AS ENUM ('open', 'under way', 'off');
    CREATE DOMAIN link AS text CHECK (VALUE LIKE 'https://%');
    CREATE TABLE "Odd ""Place"."My Lessons" (
      "Key" uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      "the teacher" uuid NOT NULL, pupil uuid NOT NULL,
      "where" "Odd ""Place".place NOT NULL DEFAULT 'zoom',
      "from" timestamptz NOT NULL, minutes int NOT NULL,
      "Join ""URL""" link, meeting varchar(400), state lesson_state NOT NULL DEFAULT 'open');
    ALTER TABLE tutor_video_provider_connections RENAME COLUMN tutor_id TO "O'Tutor";
    ALTER TABLE tutor_video_provider_connections DROP COLUMN is_active;
    ALTER TABLE profiles RENAME COLUMN full_name TO "Name"
"#;

const LESSONS_CALL: &str = r#"meetlink_attach(
    sessions => '"Odd ""Place"."My Lessons"',
    columns => '{"sessions": {"id": "Key", "tutor_id": "the teacher", "student_id": "pupil",
                   "provider": "where", "scheduled_start_at": "from", "duration_minutes": "minutes",
                   "join_url": "Join \"URL\"", "meeting_external_id": "meeting", "status": "state"},
                 "connections": {"tutor_id": "O''Tutor"},
                 "profiles": {"full_name": "Name"}}',
    options => '{"open_statuses": ["open", "under way"]}')"#;

#[test]
fn other_names_odd_quoting_and_enums_are_taken_as_they_are() {
    let (app, mut client) = installed(LESSONS);
    let mapping = attach_with(&app, &mut client, LESSONS_CALL);
    assert_eq!(mapping["sessions"], r#""Odd ""Place"."My Lessons""#);
    assert_eq!(mapping["columns"]["sessions"]["join_url"], "Join \"URL\"");
    let mut person = |role: &str| -> Uuid {
        client
            .query_one(
                r#"INSERT INTO profiles ("Name", role) VALUES ($1, $1) RETURNING id"#,
                &[&role],
            )
            .unwrap()
            .get(0)
    };
    let (tutor, student) = (person("tutor"), person("student"));
    app.connect(
        meetlink_e2e::app::Person(tutor),
        Google,
        AccountSpec::named("Tia"),
    );
    let mut lesson = |state: &str| -> Uuid {
        client
            .query_one(
                &format!(
                    r#"INSERT INTO "Odd ""Place"."My Lessons" ("the teacher", pupil, "from", minutes,
                         state) VALUES ($1, $2, now() + interval '1 h', 50, '{state}')
                       RETURNING "Key""#
                ),
                &[&tutor, &student],
            )
            .unwrap()
            .get(0)
    };
    let (off, open) = (lesson("off"), lesson("open"));
    let link = app.wait_for_link(open);
    assert_eq!(app.status(off)["state"], "not_needed");
    let row = client
        .query_one(
            r#"SELECT "Join ""URL"""::text, "where"::text FROM "Odd ""Place"."My Lessons"
                WHERE "Key" = $1"#,
            &[&open],
        )
        .unwrap();
    assert_eq!(row.get::<_, String>(0), link);
    // He was put down for Zoom, and is connected to Google.
    assert_eq!(row.get::<_, String>(1), "google_meet");
    let shown = app.cluster.psql(
        "app",
        "SELECT full_name, provider, connection_status FROM meetlink.tutor_connections",
    );
    assert_eq!(shown, "tutor|google_meet|connected");
}

#[test]
fn attaching_again_changes_the_mapping() {
    let (app, mut client) = installed(
        "CREATE TABLE lessons (LIKE sessions INCLUDING ALL);
         ALTER TABLE lessons RENAME COLUMN join_url TO meeting_link",
    );
    attach_with(&app, &mut client, "meetlink_attach()");
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    app.wait_for_link(session);

    let call = r#"meetlink_attach(sessions => 'lessons',
                    columns => '{"sessions": {"join_url": "meeting_link"}}')"#;
    attach_with(&app, &mut client, call);
    let old = app.book(tutor, student);
    let lesson: Uuid = client
        .query_one(
            "INSERT INTO lessons (booking_id, tutor_id, student_id, provider, scheduled_start_at,
               scheduled_end_at, duration_minutes)
             SELECT booking_id, tutor_id, student_id, provider, scheduled_start_at,
                    scheduled_end_at, duration_minutes FROM sessions WHERE id = $1 RETURNING id",
            &[&old],
        )
        .unwrap()
        .get(0);
    let link = app.wait_for_link(lesson);
    let stored: String = client
        .query_one("SELECT meeting_link FROM lessons WHERE id = $1", &[&lesson])
        .unwrap()
        .get(0);
    assert_eq!(stored, link);
    assert!(
        !life::is_queued(&mut client, old),
        "the old table is let go"
    );
}

#[test]
fn detaching_removes_the_triggers_and_keeps_the_history() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let before = app.book(tutor, student);
    app.wait_for_link(before);
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_detach()").unwrap();
    assert_eq!(
        app.value::<i64>("SELECT count(*) FROM pg_trigger WHERE tgname ~ 'meetlink'"),
        0
    );
    let history: (i64, i64) = (
        app.value("SELECT count(*) FROM meetlink.attempts"),
        app.value("SELECT count(*) FROM meetlink.jobs"),
    );
    assert_eq!(history, (1, 1));
    app.wait_until(
        "the worker to say that it is not attached",
        "SELECT COALESCE(last_error, '') ~ 'meetlink_attach' FROM meetlink.workers",
    );
    let after = app.book(tutor, student);
    assert!(!life::is_queued(&mut client, after));
    assert_eq!(app.status(after)["state"], "not_needed");
    for view in ["missing_links", "tutor_connections"] {
        let rows: i64 = app.value(&format!("SELECT count(*) FROM meetlink.{view}"));
        assert_eq!(rows, 0, "{view}");
    }
    let (code, message, hint) = refusal(client.batch_execute("SELECT meetlink_create_missing()"));
    assert_eq!(code, "55000", "{message}");
    assert!(hint.contains("meetlink_attach"), "{hint}");

    client.batch_execute("SELECT meetlink_attach()").unwrap();
    client
        .batch_execute("SELECT meetlink_create_missing()")
        .unwrap();
    app.wait_for_link(after);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
}

#[test]
fn the_functions_may_live_in_a_schema_of_their_own() {
    let app = App::unattached(Options::default(), |options| options);
    let mut client = app.client();
    client
        .batch_execute(
            "CREATE SCHEMA api; CREATE EXTENSION meetlink SCHEMA api;
             SELECT api.meetlink_attach();
             GRANT USAGE ON SCHEMA api TO authenticated;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA api TO authenticated",
        )
        .unwrap();
    let stray: i64 = app.value(
        "SELECT count(*) FROM pg_proc WHERE proname LIKE 'meetlink%' AND pronamespace <> 'api'::regnamespace",
    );
    assert_eq!(stray, 0);
    let (tutor, student) = (app.person("tutor", "Tia"), app.person("student", "Sam"));
    let (id, secret) = app.simulator.client(Google);
    let account = app.simulator.add_account(Google, AccountSpec::named("Tia"));
    client
        .execute(
            "SELECT api.meetlink_configure_provider('google_meet', $1, $2)",
            &[&id, &secret],
        )
        .unwrap();
    client
        .execute(
            "SELECT api.meetlink_connect($1, 'google_meet', $2)",
            &[&tutor.0, &account.refresh_token],
        )
        .unwrap();
    let session = app.book(tutor, student);
    let link: Option<String> = client
        .query_one("SELECT api.meetlink_wait($1, '20 s')", &[&session])
        .unwrap()
        .get(0);
    assert!(
        link.is_some(),
        "{}",
        app.cluster.psql("app", "TABLE meetlink.queue")
    );
    let status: Value = client
        .query_one("SELECT api.meetlink_status($1)", &[&session])
        .unwrap()
        .get(0);
    assert_eq!(status["state"], "ready");
}
