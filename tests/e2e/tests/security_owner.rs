//! Owners of the database or of a schema, who are neither superusers nor owners of the tables, try
//! to have their code run as the tables' owner.

use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Action, Call, Rule};
use postgres::Client;

/// The database's owner, and a place where code of his leaves word of whom it runs as.
fn database_owner(app: &App) -> Client {
    app.client()
        .batch_execute(
            "CREATE ROLE dbo LOGIN; ALTER DATABASE app OWNER TO dbo;
             CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
             CREATE TABLE trap.seen (who text, process text);
             GRANT INSERT ON trap.seen TO PUBLIC;",
        )
        .unwrap();
    app.cluster.connect(DATABASE, "dbo")
}

const LEAVE_WORD: &str = "IF current_user <> session_user THEN
       INSERT INTO trap.seen VALUES (current_user, pg_catalog.current_setting('application_name'));
     END IF";

/// Who books is not asked: the path is his own session's too.
fn ran_as(app: &App) -> String {
    app.value(
        "SELECT COALESCE(string_agg(DISTINCT who || ' in ' || process, ', '), 'nobody')
           FROM trap.seen WHERE who <> 'authenticated'",
    )
}

#[test]
fn operators_before_pg_catalog_in_the_databases_path_are_never_run_as_the_owner() {
    let app = App::start();
    let tutor = app.tutor(Zoom, "Tess");
    let mut dbo = database_owner(&app);
    dbo.batch_execute(&format!(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
         CREATE FUNCTION evil.eq(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
           {LEAVE_WORD};
           RETURN $1 OPERATOR(pg_catalog.=) $2;
         END $$;
         CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = uuid, RIGHTARG = uuid);
         ALTER DATABASE app SET search_path = evil, pg_catalog, public;"
    ))
    .unwrap();
    app.client()
        .batch_execute(&format!(
            "SELECT public.meetlink_connect('{}', 'zoom', 'r')",
            tutor.0
        ))
        .unwrap();
    assert_eq!(ran_as(&app), "nobody", "in the caller's session");
    // A worker that comes anew starts with the database's settings.
    let tutor = app.tutor(Zoom, "Tom");
    let student = app.person("student", "Sam");
    let mut client = app.client();
    client
        .batch_execute("SELECT public.meetlink_pause()")
        .unwrap();
    app.wait_until(
        "the worker to leave",
        "SELECT NOT EXISTS (SELECT FROM meetlink.workers WHERE pid IS NOT NULL)",
    );
    client
        .batch_execute("SELECT public.meetlink_resume()")
        .unwrap();
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(ran_as(&app), "nobody", "in the worker");
}

#[test]
fn a_schema_swapped_for_another_of_its_name_is_never_read_as_the_owner_of_the_tables() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    let mut dbo = database_owner(&app);
    // Tries go on all the time meanwhile.
    app.simulator.fault(Rule::always(
        Zoom,
        Call::Create,
        Action::ServerError { status: 500 },
    ));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    dbo.batch_execute(&format!(
        "BEGIN;
         ALTER SCHEMA public RENAME TO away;
         CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;
         CREATE FUNCTION public.evil() RETURNS text LANGUAGE plpgsql AS $$
         BEGIN {LEAVE_WORD}; RETURN 'zoom'; END $$;
         CREATE VIEW public.sessions AS
           SELECT '{session}'::uuid AS id, NULL::uuid AS tutor_id, NULL::uuid AS student_id,
                  public.evil() AS provider, now() AS scheduled_start_at,
                  now() AS scheduled_end_at, 60 AS duration_minutes, NULL::text AS join_url,
                  NULL::text AS meeting_external_id, NULL::timestamptz AS meeting_created_at,
                  'SCHEDULED'::text AS status, NULL::uuid AS booking_id;
         CREATE VIEW public.profiles AS
           SELECT NULL::uuid AS id, public.evil() AS full_name, NULL::text AS email,
                  'tutor'::text AS role;
         CREATE VIEW public.tutor_video_provider_connections AS
           SELECT '{tutor}'::uuid AS tutor_id, public.evil() AS provider, true AS is_active,
                  'connected'::text AS connection_status, NULL::text AS access_token_encrypted,
                  NULL::text AS refresh_token_encrypted, NULL::timestamptz AS token_expires_at;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
         COMMIT;",
        tutor = tutor.0
    ))
    .unwrap();
    // Whatever it does with a session in a schema that is gone: it has looked.
    let mut client = app.client();
    client
        .batch_execute("SELECT away.meetlink_create_missing()")
        .ok();
    app.wait_until(
        "the worker to look, or to say what is wrong",
        "SELECT EXISTS (SELECT FROM trap.seen)
             OR EXISTS (SELECT FROM meetlink.workers WHERE last_error IS NOT NULL)
             OR EXISTS (SELECT FROM meetlink.jobs WHERE attempts > 8)
             OR EXISTS (SELECT FROM meetlink.jobs WHERE state NOT IN ('retrying', 'creating', 'pending'))",
    );
    assert_eq!(ran_as(&app), "nobody");
}
