//! What the tables' owner can try from a trigger that a superuser's call fires, and with triggers of
//! his own on meetlink's function.

use meetlink_e2e::app::{App, KEY};
use meetlink_simulator::Provider::Zoom;

#[test]
fn a_trigger_that_a_superusers_rotation_fires_cannot_get_out() {
    let app = App::start();
    app.tutor(Zoom, "Tess");
    app.client()
        .batch_execute(
            "CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO app_owner;
             CREATE TABLE trap.seen (what text, who text, went text);
             GRANT ALL ON trap.seen TO PUBLIC;
             SET ROLE app_owner;
             CREATE TABLE trap.late (n int);
             CREATE FUNCTION trap.late() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO trap.seen VALUES ('late', current_user, 'ran'); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON trap.late
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap.late();
             CREATE FUNCTION trap.spring() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE
               try text;
             BEGIN
               FOREACH try IN ARRAY ARRAY[
                 'SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres',
                 'RESET SESSION AUTHORIZATION', 'ALTER ROLE app_owner SUPERUSER',
                 'INSERT INTO trap.late VALUES (1)', 'CREATE TEMP TABLE t (n int)',
                 'PREPARE p AS SELECT 1', 'LISTEN meetlink', 'DISCARD ALL',
                 'DECLARE c CURSOR WITH HOLD FOR SELECT trap.spring()',
                 'SELECT * FROM meetlink.providers', 'UPDATE meetlink.config SET paused = true',
                 'SET log_statement_stats = on', 'SELECT pg_read_file(''meetlink.keys'')', 'SHOW meetlink.key_file'] LOOP
                 BEGIN
                   EXECUTE try;
                   INSERT INTO trap.seen VALUES (try, current_user, 'ran');
                 EXCEPTION WHEN OTHERS THEN
                   INSERT INTO trap.seen VALUES (try, current_user, SQLERRM);
                 END;
               END LOOP;
               PERFORM set_config('search_path', 'trap', false);
               RETURN NEW;
             END $$;
             CREATE TRIGGER spring BEFORE UPDATE ON public.tutor_video_provider_connections
               FOR EACH ROW EXECUTE FUNCTION trap.spring();",
        )
        .unwrap();
    let new = "f".repeat(64);
    app.cluster.write_key_file(&[("k2", &new), KEY]);
    let mut client = app.client();
    client
        .query("SELECT * FROM meetlink_rotate_keys()", &[])
        .unwrap();
    let row = client
        .query_one(
            "SELECT current_user || session_user || current_setting('search_path'),
                    (SELECT string_agg(concat_ws(': ', what, who, went), E'\n') FROM trap.seen
                      WHERE went = 'ran' OR who <> 'app_owner'),
                    (SELECT count(*) FROM trap.seen)",
            &[],
        )
        .unwrap();
    let (session, got_out): (String, Option<String>) = (row.get(0), row.get(1));
    assert_eq!(got_out, None);
    assert_eq!(session, "postgrespostgres\"$user\", public");
    assert!(row.get::<_, i64>(2) >= 15, "the trap was sprung");
}

#[test]
fn no_trigger_on_the_queueing_function_harms_the_server() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "GRANT USAGE ON SCHEMA meetlink TO app_owner;
             GRANT EXECUTE ON FUNCTION meetlink.enqueue() TO app_owner;",
        )
        .unwrap();
    let mut owner = app.client();
    owner.batch_execute("SET ROLE app_owner").unwrap();
    let mut server = app.client();
    let arguments = [
        "",
        "'session'",
        "'session', 'id'",
        "'session', 'id', 'url'",
        "'session', 'ctid', 'tableoid'",
        "'session', 'n', 'n', 'n'",
        "'session', 'id', 'id', 'gone'",
        "'tutor', 'id', 'url', 'whole'",
        "'tutor', 'id', ''",
        "'config', 'x'",
        "'\u{e9}'",
    ];
    let shapes = [
        "BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW",
        "AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW",
        "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON t FOR EACH STATEMENT",
        "AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON t FOR EACH STATEMENT",
        "AFTER UPDATE ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT",
        "AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT",
        "AFTER DELETE ON t REFERENCING OLD TABLE AS o FOR EACH STATEMENT",
        "AFTER INSERT ON t REFERENCING NEW TABLE AS n FOR EACH ROW",
        "INSTEAD OF INSERT OR UPDATE OR DELETE ON v FOR EACH ROW",
    ];
    for shape in shapes {
        for arguments in arguments {
            let script = format!(
                "BEGIN;
                 CREATE TABLE public.t (id uuid DEFAULT gen_random_uuid(), n int, gone int, url text,
                   whole text GENERATED ALWAYS AS (url || '!') STORED);
                 ALTER TABLE public.t DROP COLUMN gone;
                 CREATE VIEW public.v AS SELECT * FROM public.t;
                 CREATE TRIGGER odd {shape} EXECUTE FUNCTION meetlink.enqueue({arguments});
                 INSERT INTO t (n, url) VALUES (1, NULL), (2, repeat('x', 100000)), (3, '');
                 UPDATE t SET url = NULLIF(url, ''), id = CASE n WHEN 1 THEN NULL ELSE id END;
                 INSERT INTO v (n) VALUES (4); UPDATE v SET n = 7; DELETE FROM v WHERE n = 7;
                 DELETE FROM t; TRUNCATE t;
                 ROLLBACK;"
            );
            let done = owner.batch_execute(&script);
            owner
                .batch_execute("ROLLBACK")
                .unwrap_or_else(|error| panic!("{shape} ({arguments}): {done:?}, then {error:?}"));
            server.batch_execute("SELECT").unwrap();
        }
    }
    app.wait_for_link(app.book(tutor, student));
}
