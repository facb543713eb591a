//! The tables' owner tries to have his code run as whoever asks meetlink something.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::Zoom;

/// A cast of the owner's own type, which meetlink asks for (`::text`) and the caller never wrote.
#[test]
fn a_superuser_who_asks_runs_no_cast_of_the_owner() {
    let mut betrayed = Vec::new();
    for question in [
        "SELECT meetlink_status(id) FROM (SELECT id FROM sessions LIMIT 1) s",
        "SELECT * FROM meetlink.missing_links",
        "SELECT meetlink_wait(id, '0 s') FROM (SELECT id FROM sessions LIMIT 1) s",
        "SELECT meetlink_create_missing()",
        "SELECT * FROM meetlink.tutor_connections",
        "SELECT * FROM meetlink_rotate_keys()",
        "SELECT meetlink_disconnect((SELECT tutor_id FROM sessions LIMIT 1), 'zoom')",
    ] {
        let app = App::with(|options| options.set("meetlink.enabled", "off"));
        let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
        app.book(tutor, student);
        app.client()
            .batch_execute(
                "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
                 CREATE TABLE trap.seen (who text); GRANT INSERT ON trap.seen TO PUBLIC;
                 SET ROLE app_owner;
                 CREATE TYPE public.phase AS ENUM ('SCHEDULED', 'JOIN_OPEN', 'CANCELLED');
                 CREATE FUNCTION public.evil(public.phase) RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN INSERT INTO trap.seen VALUES (current_user); RETURN 'SCHEDULED'; END $$;
                 CREATE CAST (public.phase AS text) WITH FUNCTION public.evil(public.phase);
                 CREATE TYPE public.link AS ENUM ('connected', 'needs_reauth', 'disconnected');
                 CREATE FUNCTION public.evil(public.link) RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN INSERT INTO trap.seen VALUES (current_user); RETURN 'connected'; END $$;
                 CREATE CAST (public.link AS text) WITH FUNCTION public.evil(public.link);
                 ALTER TABLE sessions DROP CONSTRAINT sessions_status_check, ALTER status DROP DEFAULT;
                 ALTER TABLE sessions ALTER status TYPE public.phase USING 'SCHEDULED'::public.phase;
                 ALTER TABLE tutor_video_provider_connections
                   DROP CONSTRAINT tutor_video_provider_connections_connection_status_check,
                   ALTER connection_status DROP DEFAULT;
                 ALTER TABLE tutor_video_provider_connections
                   ALTER connection_status TYPE public.link USING 'connected'::public.link;
                 RESET ROLE; SELECT meetlink_attach(); TRUNCATE trap.seen;",
            )
            .unwrap();
        let done = app.client().batch_execute(question);
        let who: Option<String> =
            app.value("SELECT string_agg(DISTINCT who, ',') FROM trap.seen WHERE who = 'postgres'");
        done.unwrap_or_else(|error| panic!("{question}: {error:?}"));
        if who.is_some() {
            betrayed.push(question);
        }
    }
    assert!(betrayed.is_empty(), "{betrayed:#?}");
}

/// A schema whose name begins like that of one of PostgreSQL's types.
#[test]
fn a_type_that_is_called_like_a_text_is_not_cast() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    app.client()
        .batch_execute(
            "CREATE SCHEMA characters AUTHORIZATION app_owner;
             GRANT USAGE ON SCHEMA characters, meetlink TO PUBLIC;
             GRANT SELECT ON ALL TABLES IN SCHEMA meetlink TO authenticated;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, meetlink TO authenticated;
             SET ROLE app_owner;
             CREATE TYPE characters.phase AS ENUM ('SCHEDULED', 'JOIN_OPEN', 'CANCELLED');
             CREATE FUNCTION characters.evil(characters.phase) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN RAISE WARNING 'cast as %', current_user; RETURN 'SCHEDULED'; END $$;
             CREATE CAST (characters.phase AS text) WITH FUNCTION characters.evil(characters.phase);
             ALTER TABLE sessions DROP CONSTRAINT sessions_status_check, ALTER status DROP DEFAULT;
             ALTER TABLE sessions
               ALTER status TYPE characters.phase USING 'SCHEDULED'::characters.phase;
             RESET ROLE; SELECT meetlink_attach();",
        )
        .unwrap();
    for question in [
        format!("SELECT meetlink_status('{session}')"),
        "SELECT * FROM meetlink.missing_links".to_owned(),
        "SELECT * FROM meetlink.at_risk".to_owned(),
        format!("SELECT meetlink_retry('{session}')"),
    ] {
        for person in [None, Some(tutor)] {
            let mark = app.cluster.log_mark();
            let mut client = app.client();
            let mut asking = client.transaction().unwrap();
            if let Some(person) = person {
                app.act_as(&mut asking, person);
            }
            asking.batch_execute(&question).unwrap();
            let log = app.cluster.log_from(mark);
            assert!(!log.contains("cast as"), "{question} {person:?}: {log}");
        }
    }
}
