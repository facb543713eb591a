//! Writing the link into a table that is the application's: its locks, its triggers, its rights.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use life::{link, seed_one};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};

#[test]
fn a_locked_session_waits_alone_and_gets_its_link_when_the_lock_goes() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (google, zoom) = (app.tutor(Google, "Gia"), app.tutor(Zoom, "Zoe"));
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 300 }));
    let locked = app.book(google, student);
    let mut client = app.client();
    let mut holder = client.transaction().unwrap();
    holder
        .execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", &[&locked])
        .unwrap();
    wait::until_true(SOON, "a write-back that waits for the lock", || {
        app.value::<bool>("SELECT EXISTS (SELECT FROM meetlink.queue WHERE last_error IS NOT NULL)")
    });
    let status = app.status(locked);
    assert_eq!(status["state"], "retrying", "{status}");
    let begun = Instant::now();
    for tutor in [zoom, google, zoom, google] {
        let other = app.book(tutor, student);
        app.wait_for_link(other);
    }
    let took = begun.elapsed();
    println!("four other links beside a locked session: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(link(&mut app.client(), locked), None);
    holder.commit().unwrap();
    app.wait_for_link(locked);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 3);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn a_session_changed_while_its_link_is_made_keeps_both_changes() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 300 }));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    app.client()
        .execute(
            "UPDATE sessions SET status = 'JOIN_OPEN' WHERE id = $1",
            &[&session],
        )
        .unwrap();
    app.wait_for_link(session);
    let status: String = app
        .client()
        .query_one("SELECT status FROM sessions WHERE id = $1", &[&session])
        .unwrap()
        .get(0);
    assert_eq!(status, "JOIN_OPEN");
}

#[test]
fn a_whole_table_locked_for_a_migration_holds_up_no_stop_and_no_other_table() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 300 }));
    let first = app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    let mut client = app.client();
    client
        .batch_execute("BEGIN; ALTER TABLE sessions ADD COLUMN room text")
        .unwrap();
    let mut watcher = app.cluster.connect("postgres", "postgres");
    wait::until_true(SOON, "the answer", || {
        app.simulator.in_flight(Google).now == 0
    });
    let begun = Instant::now();
    watcher.batch_execute("CREATE DATABASE other").unwrap();
    watcher.batch_execute("DROP DATABASE other").unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    // meetlink's own tables can be looked at by a person who wonders.
    app.cluster.psql(
        "app",
        "SET statement_timeout = '2 s'; TABLE meetlink.queue; TABLE meetlink.workers",
    );
    client.batch_execute("COMMIT").unwrap();
    app.wait_for_link(first);

    client
        .batch_execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let mut asking = app.client();
    // Wakes the worker, which finds the table locked.
    asking
        .execute(
            "SELECT meetlink_connect($1, 'google_meet', 'anything')",
            &[&tutor.0],
        )
        .unwrap();
    let took = app.cluster.stop(StopMode::Fast);
    println!("pg_ctl stop -m fast beside a locked table: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_trigger_that_refuses_one_session_leaves_the_others_alone() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let refused = seed_one(&mut client, (tutor, student), Zoom);
    let others = life::seed(&mut client, (tutor, student), Zoom, 10);
    client
        .batch_execute(&format!(
            "CREATE FUNCTION no_links() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.id = '{refused}' AND NEW.join_url IS NOT NULL THEN
                 RAISE EXCEPTION 'this one is not to change';
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER no_links BEFORE UPDATE ON sessions
               FOR EACH ROW EXECUTE FUNCTION no_links();
             SELECT meetlink_resume()"
        ))
        .unwrap();
    for session in others {
        app.wait_for_link(session);
    }
    app.wait_until(
        "the refused one to say why",
        "SELECT bool_and(last_error ~ 'this one is not to change') AND count(*) = 1
           FROM meetlink.queue",
    );
    let status = app.status(refused);
    assert_eq!(status["state"], "retrying", "{status}");
    assert!(!status.to_string().contains("this one is not to change"));
    client
        .batch_execute("DROP TRIGGER no_links ON sessions")
        .unwrap();
    app.wait_for_link(refused);
    assert_eq!(
        app.simulator.meetings_ever(Zoom).len(),
        11,
        "no second meeting"
    );
}

/// A trigger function that notes who it runs as, and tries to become more.
const CURIOUS: &str = r#"
    CREATE TABLE seen (what text, name text, rolsuper boolean, became text);
    ALTER TABLE seen OWNER TO app_owner;
    SET ROLE app_owner;
    CREATE FUNCTION curious() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      became text := '';
      attempt text;
    BEGIN
      FOREACH attempt IN ARRAY ARRAY['SET ROLE postgres', 'RESET ROLE',
                                     'SET SESSION AUTHORIZATION postgres',
                                     'SET ROLE NONE',
                                     'ALTER ROLE app_owner SUPERUSER',
                                     'UPDATE pg_authid SET rolsuper = true',
                                     'COPY seen TO PROGRAM ''true'''] LOOP
        BEGIN
          EXECUTE attempt;
          IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            became := became || attempt || '; ';
          END IF;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
      END LOOP;
      INSERT INTO public.seen
        SELECT TG_NAME, current_user, r.rolsuper, became FROM pg_roles r
         WHERE r.rolname = current_user;
      RETURN NEW;
    END $$;
    CREATE TRIGGER before_row BEFORE UPDATE ON sessions
      FOR EACH ROW EXECUTE FUNCTION curious();
    CREATE TRIGGER after_row AFTER UPDATE ON sessions
      FOR EACH ROW EXECUTE FUNCTION curious();
    CREATE TRIGGER after_statement AFTER UPDATE ON sessions
      FOR EACH STATEMENT EXECUTE FUNCTION curious();
    CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON sessions
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION curious();
    CREATE TRIGGER connections_row AFTER UPDATE ON tutor_video_provider_connections
      FOR EACH ROW EXECUTE FUNCTION curious();
    RESET ROLE;
"#;

#[test]
fn the_applications_triggers_run_as_the_tables_owner_and_never_as_superuser() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    client.batch_execute(CURIOUS).unwrap();
    // So that a rotated token is written, too.
    client
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE tutor_video_provider_connections SET token_expires_at = now()",
        )
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    let rows = client
        .query(
            "SELECT DISTINCT what, name, rolsuper, became FROM seen ORDER BY 1",
            &[],
        )
        .unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        names,
        [
            "after_row",
            "after_statement",
            "at_commit",
            "before_row",
            "connections_row"
        ],
        "each has fired"
    );
    for row in &rows {
        let what: String = row.get(0);
        assert_eq!(row.get::<_, String>(1), "app_owner", "{what}");
        assert!(!row.get::<_, bool>(2), "{what} ran as superuser");
        assert_eq!(row.get::<_, String>(3), "", "{what} became superuser");
    }
    let supers: String = app.value("SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper");
    assert_eq!(supers, "postgres");
}

#[test]
fn a_trigger_cannot_put_itself_off_to_the_superusers_commit() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    client.batch_execute(CURIOUS).unwrap();
    client
        .batch_execute(
            "SET ROLE app_owner;
             CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$;
             CREATE TRIGGER a_first BEFORE UPDATE ON sessions
               FOR EACH ROW EXECUTE FUNCTION put_off();
             RESET ROLE",
        )
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_until(
        "the write-back to be tried",
        "SELECT EXISTS (SELECT FROM sessions WHERE join_url IS NOT NULL)
             OR EXISTS (SELECT FROM meetlink.queue WHERE last_error IS NOT NULL)",
    );
    let as_super: i64 = app.value("SELECT count(*) FROM seen WHERE rolsuper");
    assert_eq!(as_super, 0);
    client
        .batch_execute("DROP TRIGGER a_first ON sessions")
        .unwrap();
    app.wait_for_link(session);
}
