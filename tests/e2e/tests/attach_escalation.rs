//! The owner of the application's tables tries to become superuser through the worker that reads
//! them.

#[path = "support/life.rs"]
mod life;

use life::seed_one;
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{AccountSpec, Options};
use postgres::Client;
use uuid::Uuid;

/// A function of the owner's that makes him superuser if the worker runs it with its rights.
fn evil(argument: &str) -> String {
    format!(
        "CREATE FUNCTION public.evil({argument}) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN
           IF (SELECT backend_type FROM pg_stat_get_activity(pg_backend_pid())) LIKE 'meetlink%'
           THEN
             BEGIN
               EXECUTE 'ALTER ROLE app_owner SUPERUSER';
             EXCEPTION WHEN OTHERS THEN NULL;
             END;
           END IF;
           RETURN 'zoom';
         END $$;"
    )
}

/// A session in a table that may have been renamed.
fn insert(client: &mut Client, table: &str, people: (Person, Person)) -> Uuid {
    client
        .query_one(
            &format!(
                "WITH b AS (INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2)
                            RETURNING id)
                 INSERT INTO {table} (booking_id, tutor_id, student_id, provider,
                   scheduled_start_at, scheduled_end_at, duration_minutes)
                 SELECT id, $1, $2, 'google_meet', now() + interval '1 h', now() + interval '2 h',
                        60 FROM b RETURNING id"
            ),
            &[&people.0.0, &people.1.0],
        )
        .unwrap()
        .get(0)
}

/// Waits until the worker has done what it can for a session.
fn wait_for_the_worker(app: &App, table: &str, session: Uuid) {
    app.wait_until(
        "the link, or the reason why not",
        &format!(
            "SELECT EXISTS (SELECT FROM {table} WHERE id = '{session}' AND join_url IS NOT NULL)
                 OR EXISTS (SELECT FROM meetlink.queue WHERE last_error IS NOT NULL)
                 OR EXISTS (SELECT FROM meetlink.workers WHERE last_error IS NOT NULL)"
        ),
    );
}

#[track_caller]
fn assert_no_new_superuser(app: &App) {
    let supers: String = app.value("SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper");
    assert_eq!(supers, "postgres");
}

#[test]
fn a_view_in_the_place_of_a_mapped_table_is_never_read_as_superuser() {
    for table in ["sessions", "tutor_video_provider_connections", "profiles"] {
        let app = App::start();
        let people = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
        app.wait_for_link(app.book(people.0, people.1));
        let mut client = app.client();
        let column = if table == "profiles" {
            "full_name"
        } else {
            "provider"
        };
        client
            .batch_execute(&format!(
                "SET ROLE app_owner;
                 {}
                 ALTER TABLE {table} RENAME TO hidden;
                 CREATE VIEW {table} AS
                   SELECT * FROM hidden WHERE public.evil({column}) IS NOT NULL;
                 RESET ROLE",
                evil("text")
            ))
            .unwrap();
        let sessions = if table == "sessions" {
            "hidden"
        } else {
            "sessions"
        };
        let session = insert(&mut client, sessions, people);
        wait_for_the_worker(&app, sessions, session);
        assert_no_new_superuser(&app);
    }
}

#[test]
fn a_cast_of_the_owners_own_type_is_never_run_as_superuser() {
    let app = App::unattached(Options::default(), |options| options);
    let mut client = app.client();
    client
        .batch_execute(
            "SET ROLE app_owner;
             CREATE TYPE place AS ENUM ('google_meet', 'zoom');
             ALTER TABLE sessions DROP CONSTRAINT sessions_provider_check;
             ALTER TABLE sessions ALTER COLUMN provider TYPE place USING provider::place;
             RESET ROLE",
        )
        .unwrap();
    app.attach();
    client
        .batch_execute(&format!(
            "SET ROLE app_owner; {}
             CREATE CAST (place AS text) WITH FUNCTION public.evil(place); RESET ROLE",
            evil("place")
        ))
        .unwrap();
    let (tutor, student) = (app.person("tutor", "Gia"), app.person("student", "Sam"));
    app.connect(tutor, Google, AccountSpec::named("Gia"));
    let session = insert(&mut client, "sessions", (tutor, student));
    wait_for_the_worker(&app, "sessions", session);
    assert_no_new_superuser(&app);
}

#[test]
fn a_function_that_the_planner_would_fold_is_never_run_as_superuser() {
    let app = App::start();
    let people = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    // Planning a query over a table folds the constants in its index predicates.
    client
        .batch_execute(&format!(
            "SET ROLE app_owner; {}
             CREATE FUNCTION trap(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
               BEGIN PERFORM public.evil($1); RETURN 'zoom'; END $$;
             CREATE INDEX trap_s ON sessions (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX trap_c ON tutor_video_provider_connections (tutor_id)
               WHERE public.trap('x') = 'zoom';
             CREATE INDEX trap_p ON profiles (id) WHERE public.trap('x') = 'zoom';
             RESET ROLE;
             SELECT pg_terminate_backend(pid) FROM meetlink.workers",
            evil("text")
        ))
        .unwrap();
    let session = insert(&mut client, "sessions", people);
    wait_for_the_worker(&app, "sessions", session);
    assert_no_new_superuser(&app);
}

#[test]
fn a_table_swapped_for_another_of_its_name_is_not_written_to() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    client
        .batch_execute(
            "BEGIN;
             ALTER TABLE sessions RENAME TO sessions_old;
             CREATE TABLE sessions (LIKE sessions_old INCLUDING ALL);
             COMMIT",
        )
        .unwrap();
    // meetlink works on the table that it was attached to, whatever its name.
    client
        .batch_execute("ALTER TABLE sessions RENAME TO sessions_new; ALTER TABLE sessions_old RENAME TO sessions")
        .unwrap();
    let session = seed_one(&mut client, (tutor, student), Google);
    client
        .batch_execute(
            "ALTER TABLE sessions RENAME TO lessons; ALTER TABLE sessions_new RENAME TO sessions",
        )
        .unwrap();
    app.wait_until(
        "the link in the table that meetlink was attached to",
        &format!("SELECT join_url IS NOT NULL FROM lessons WHERE id = '{session}'"),
    );
    client
        .batch_execute("UPDATE lessons SET join_url = NULL, meeting_external_id = NULL")
        .unwrap();
    app.wait_until(
        "the links, once more",
        "SELECT bool_and(join_url IS NOT NULL) FROM lessons",
    );
    let strays: i64 = app.value("SELECT count(*) FROM sessions");
    assert_eq!(strays, 0);
}
