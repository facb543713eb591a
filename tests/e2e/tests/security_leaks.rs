//! What is said in errors and views to those who may not read what it is about.

use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Provider::Zoom;
use postgres::Client;

fn role(app: &App, name: &str, grants: &str) -> Client {
    app.client()
        .batch_execute(&format!("CREATE ROLE {name} LOGIN; {grants}"))
        .unwrap();
    app.cluster.connect(DATABASE, name)
}

#[test]
fn a_refused_write_shows_its_caller_nothing_of_the_row() {
    let app = App::start();
    let tutor = app.tutor(Zoom, "Tess");
    app.client()
        .batch_execute(
            "UPDATE tutor_video_provider_connections SET provider_account_email = 'canary@private.example';
             ALTER TABLE tutor_video_provider_connections
               ADD CONSTRAINT sane CHECK (length(refresh_token_encrypted) < 2048)",
        )
        .unwrap();
    let mut callback = role(
        &app,
        "callback",
        "GRANT EXECUTE ON FUNCTION meetlink_connect(uuid, text, text, text, timestamptz) TO callback",
    );
    let error = callback
        .query(
            "SELECT meetlink_connect($1, 'zoom', $2)",
            &[&tutor.0, &"r".repeat(4_000)],
        )
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    let said = format!(
        "{} {:?} {:?} {:?}",
        error.message(),
        error.detail(),
        error.hint(),
        error.where_()
    );
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn monitoring_is_not_shown_what_a_trigger_says_about_a_row() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "CREATE FUNCTION quote_all() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               RAISE EXCEPTION 'refused: %', NEW;
             END $$;
             UPDATE tutor_video_provider_connections
                SET token_expires_at = now() - interval '1 h',
                    provider_account_email = 'canary@private.example';
             CREATE TRIGGER quote_all BEFORE UPDATE ON tutor_video_provider_connections
               FOR EACH ROW EXECUTE FUNCTION quote_all();",
        )
        .unwrap();
    app.book(tutor, student);
    app.wait_until(
        "the worker's trouble",
        "SELECT EXISTS (SELECT FROM meetlink.workers WHERE last_error IS NOT NULL)
             OR EXISTS (SELECT FROM meetlink.attempts)",
    );
    let mut monitor = role(&app, "monitor", "GRANT pg_monitor TO monitor");
    let seen: String = monitor
        .query_one(
            "SELECT COALESCE((SELECT string_agg(w::text, ' ') FROM meetlink.workers w), '')
                 || COALESCE((SELECT string_agg(h::text, ' ') FROM meetlink_health() h), '')
                 || COALESCE((SELECT string_agg(h::text, ' ') FROM meetlink.holds h), '')",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(!seen.contains("canary") && !seen.contains("ml1."), "{seen}");
    let log = app.cluster.log();
    let log: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("canary") && l.contains("meetlink"))
        .collect();
    assert!(log.is_empty(), "{log:?}");
}

/// A student reads missing_links; a trigger on the tutor's side talks about other people.
#[test]
fn readers_of_missing_links_are_not_shown_what_a_trigger_says() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "GRANT USAGE ON SCHEMA meetlink TO authenticated;
             GRANT SELECT ON meetlink.missing_links, meetlink.tutor_connections TO authenticated;
             GRANT EXECUTE ON FUNCTION meetlink.read_missing_sessions(), meetlink.read_tutors(),
               meetlink.read_visible(uuid[]) TO authenticated;
             CREATE FUNCTION quote_all() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.join_url IS NOT NULL THEN
                 RAISE EXCEPTION 'refused: canary of somebody else at %', NEW.join_url;
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER quote_all BEFORE UPDATE ON sessions
               FOR EACH ROW EXECUTE FUNCTION quote_all();",
        )
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    let mut client = app.client();
    let mut transaction = client.transaction().unwrap();
    app.act_as(&mut transaction, student);
    let seen: Option<String> = transaction
        .query_one(
            "SELECT COALESCE((SELECT string_agg(m::text, ' ') FROM meetlink.missing_links m), '')
                 || COALESCE((SELECT string_agg(t::text, ' ') FROM meetlink.tutor_connections t), '')",
            &[],
        )
        .unwrap()
        .get(0);
    let seen = seen.unwrap_or_default();
    assert!(seen.contains(&session.to_string()), "{seen}");
    assert!(!seen.contains("canary"), "{seen}");
}
