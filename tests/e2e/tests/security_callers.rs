//! Roles that try to gain what they do not have, through functions of meetlink that work as
//! somebody else.

use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Options;
use meetlink_simulator::Provider::Zoom;
use postgres::Client;

/// A role that may log in and nothing else, with these grants.
fn role(app: &App, name: &str, grants: &str) -> Client {
    app.client()
        .batch_execute(&format!("CREATE ROLE {name} LOGIN; {grants}"))
        .unwrap();
    app.cluster.connect(DATABASE, name)
}

/// What code of an attacker ran as, in the table that it writes to.
fn ran_as(app: &App) -> String {
    app.value("SELECT COALESCE(string_agg(DISTINCT who, ','), 'nobody') FROM trap.seen")
}

/// A place where an attacker's code leaves word of whom it runs as.
fn trap(app: &App) {
    app.client()
        .batch_execute(
            "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
             CREATE TABLE trap.seen (who text); GRANT INSERT ON trap.seen TO PUBLIC;",
        )
        .unwrap();
}

const EVIL_TYPES: &str = "
    CREATE FUNCTION pg_temp.evil(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
      BEGIN
        IF current_user <> session_user THEN
          INSERT INTO trap.seen VALUES (current_user);
        END IF;
        RETURN true;
      END $$;
    CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.evil(VALUE));";

#[test]
fn a_callers_temporary_type_is_never_run_as_the_owner_of_the_connections() {
    let app = App::start();
    trap(&app);
    let tutor = app.tutor(Zoom, "Tess");
    let mut callback = role(
        &app,
        "callback",
        "GRANT EXECUTE ON FUNCTION meetlink_connect(uuid, text, text, text, timestamptz),
           meetlink_disconnect(uuid, text), meetlink_rotate_keys(integer) TO callback",
    );
    callback.batch_execute(EVIL_TYPES).unwrap();
    for call in [
        format!("SELECT meetlink_connect('{}', 'zoom', 'r')", tutor.0),
        format!("SELECT meetlink_disconnect('{}', 'zoom')", tutor.0),
        "SELECT * FROM meetlink_rotate_keys()".to_owned(),
    ] {
        let done = callback.batch_execute(&call);
        assert_eq!(ran_as(&app), "nobody", "{call}: {done:?}");
    }
}

#[test]
fn a_callers_temporary_table_is_not_what_the_owners_trigger_writes_to() {
    let app = App::start();
    trap(&app);
    // What applications do: names without a schema, in a trigger without a search_path.
    app.client()
        .batch_execute(
            "SET ROLE app_owner;
             CREATE FUNCTION tell_tutor() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               INSERT INTO notifications (user_id, type, title, message)
               VALUES (NEW.tutor_id, 'connected', 'Connected', NEW.provider);
               RETURN NEW;
             END $$;
             CREATE TRIGGER tell_tutor AFTER UPDATE ON tutor_video_provider_connections
               FOR EACH ROW EXECUTE FUNCTION tell_tutor();",
        )
        .unwrap();
    let tutor = app.tutor(Zoom, "Tess");
    let mut callback = role(
        &app,
        "callback",
        "GRANT EXECUTE ON FUNCTION meetlink_connect(uuid, text, text, text, timestamptz)
           TO callback",
    );
    callback
        .batch_execute(
            "CREATE TEMP TABLE notifications (user_id uuid, type text, title text, message text);
             GRANT ALL ON notifications TO PUBLIC;
             CREATE FUNCTION pg_temp.evil() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               INSERT INTO trap.seen VALUES (current_user);
               RETURN NEW;
             END $$;
             CREATE TRIGGER evil BEFORE INSERT ON notifications
               FOR EACH ROW EXECUTE FUNCTION pg_temp.evil();",
        )
        .unwrap();
    let call = format!("SELECT meetlink_connect('{}', 'zoom', 'r')", tutor.0);
    let done = callback.batch_execute(&call);
    assert_eq!(ran_as(&app), "nobody", "{done:?}");
}

/// Supabase has such default privileges in schema public, for functions and tables alike.
#[test]
fn default_privileges_of_the_database_open_nothing() {
    let app = App::unattached(Options::default(), |options| options);
    app.client()
        .batch_execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public
               GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon;
             CREATE EXTENSION meetlink;",
        )
        .unwrap();
    let open: String = app.value(
        "SELECT COALESCE(string_agg(what, ', ' ORDER BY what), '') FROM (
           SELECT p.proname::text AS what FROM pg_proc p
            WHERE (p.proname LIKE 'meetlink%' OR p.pronamespace = 'meetlink'::regnamespace)
              AND has_function_privilege('anon', p.oid, 'EXECUTE')
           UNION ALL
           SELECT c.relname FROM pg_class c
            WHERE c.relnamespace = 'meetlink'::regnamespace AND c.relkind IN ('r', 'v')
              AND has_table_privilege('anon', c.oid, 'SELECT, INSERT, UPDATE, DELETE')
           UNION ALL
           SELECT 'schema' WHERE has_schema_privilege('anon', 'meetlink', 'USAGE')) o",
    );
    assert_eq!(open, "", "anon may use these");
}
