//! Tests inside a server: what a single transaction can show. The worker's doings need committed
//! rows and stand in tests/e2e.

use pgrx::pg_schema;

#[pg_schema]
mod tests {
    use pgrx::JsonB;
    use pgrx::prelude::*;

    const TUTOR: &str = "00000000-0000-4000-8000-00000000000a";
    const STUDENT: &str = "00000000-0000-4000-8000-00000000000b";

    fn run(sql: &str) {
        Spi::run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn number(sql: &str) -> i64 {
        Spi::get_one::<i64>(sql).unwrap().unwrap()
    }

    fn text(sql: &str) -> String {
        Spi::get_one::<String>(sql).unwrap().unwrap()
    }

    /// The reference application, in the test's own transaction.
    fn application() {
        let script = include_str!("../sql/reference_app.sql");
        run(&script
            .replace("\nBEGIN;\n", "\n")
            .replace("\nCOMMIT;\n", "\nRESET ROLE;\n"));
        run(&format!(
            "INSERT INTO profiles (id, full_name, role) \
             VALUES ('{TUTOR}', 'Tom Tutor', 'tutor'), ('{STUDENT}', 'Sue Student', 'student')"
        ));
    }

    fn attached() {
        application();
        run("SELECT meetlink_attach()");
    }

    fn bookings(count: i32) {
        run(&format!(
            "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at, \
                                   confirmed_end_at) \
             SELECT '{TUTOR}', '{STUDENT}', 'CONFIRMED', now() + n * interval '1 hour', \
                    now() + (n + 1) * interval '1 hour' FROM generate_series(1, {count}) n"
        ));
    }

    #[pg_test]
    fn a_confirmed_booking_is_queued_in_its_own_transaction() {
        attached();
        bookings(3);
        assert_eq!(number("SELECT count(*) FROM sessions"), 3);
        assert_eq!(
            number("SELECT count(DISTINCT session_id) FROM meetlink.inbox"),
            3
        );
    }

    #[pg_test]
    fn only_an_update_that_concerns_the_link_is_queued() {
        attached();
        bookings(1);
        run("DELETE FROM meetlink.inbox");
        run("UPDATE sessions SET created_at = now() - interval '1 day'");
        assert_eq!(number("SELECT count(*) FROM meetlink.inbox"), 0);
        run("UPDATE sessions SET join_url = 'https://a.example/x', meeting_external_id = 'x'");
        // Somebody filled the link in: whoever waits for it is to be told.
        assert_eq!(number("SELECT count(*) FROM meetlink.inbox"), 1);
        run("DELETE FROM meetlink.inbox");
        run("UPDATE sessions SET join_url = NULL");
        assert_eq!(number("SELECT count(*) FROM meetlink.inbox"), 1);
    }

    #[pg_test]
    fn a_trigger_without_its_table_costs_no_session() {
        attached();
        run("ALTER TABLE meetlink.inbox RENAME TO mislaid");
        bookings(1);
        assert_eq!(number("SELECT count(*) FROM sessions"), 1);
    }

    #[pg_test]
    fn attach_names_every_misfit_at_once() {
        application();
        run("ALTER TABLE sessions RENAME join_url TO link");
        run("ALTER TABLE sessions ALTER scheduled_start_at TYPE timestamp");
        run("ALTER TABLE profiles RENAME TO people");
        let message = text(
            "CREATE FUNCTION pg_temp.attach_error() RETURNS text LANGUAGE plpgsql AS $$ \
             BEGIN PERFORM meetlink_attach(); RETURN ''; \
             EXCEPTION WHEN datatype_mismatch THEN RETURN SQLERRM; END $$; \
             SELECT pg_temp.attach_error()",
        );
        for part in [
            "join_url",
            "timestamp with time zone",
            "profiles: no such table",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[pg_test]
    fn a_renamed_column_is_mapped() {
        application();
        run("ALTER TABLE sessions RENAME join_url TO link");
        let mapping = Spi::get_one::<JsonB>(
            r#"SELECT meetlink_attach(columns => '{"sessions": {"join_url": "link"}}')"#,
        );
        let mapping = mapping.unwrap().unwrap().0;
        assert_eq!(mapping["columns"]["sessions"]["join_url"], "link");
        assert_eq!(mapping["sessions"], "public.sessions");
    }

    #[pg_test]
    fn detach_leaves_no_trigger_behind() {
        attached();
        run("SELECT meetlink_detach()");
        let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'meetlink%'";
        assert_eq!(number(left), 0);
        bookings(1);
        assert_eq!(number("SELECT count(session_id) FROM meetlink.inbox"), 0);
    }

    #[pg_test]
    fn create_missing_queues_each_session_once() {
        application();
        bookings(5);
        run("SELECT meetlink_attach()");
        assert_eq!(number("SELECT meetlink_create_missing(2)"), 2);
        assert_eq!(number("SELECT meetlink_create_missing()"), 3);
        assert_eq!(number("SELECT meetlink_create_missing()"), 0);
    }

    #[pg_test(error = "session 00000000-0000-0000-0000-000000000000 not found")]
    fn an_unknown_session_is_not_found() {
        attached();
        run("SELECT meetlink_status('00000000-0000-0000-0000-000000000000')");
    }

    #[pg_test(error = "unknown provider \"skype\"")]
    fn an_unknown_provider_is_refused() {
        attached();
        run("SELECT meetlink_configure_provider('skype', 'id', 'secret')");
    }

    #[pg_test(error = "meetlink is not attached to the application's tables")]
    fn retrying_needs_a_mapping() {
        run("SELECT meetlink_retry('00000000-0000-0000-0000-000000000000')");
    }

    #[pg_test(
        error = "new row for relation \"jobs\" violates check constraint \"due_when_waiting\""
    )]
    fn a_waiting_job_without_a_date_cannot_be_stored() {
        run("INSERT INTO meetlink.jobs (session_id, state, queued_at) \
             VALUES (gen_random_uuid(), 'pending', now())");
    }

    #[pg_test(
        error = "new row for relation \"jobs\" violates check constraint \"parked_with_a_reason\""
    )]
    fn a_parked_job_without_a_reason_cannot_be_stored() {
        run("INSERT INTO meetlink.jobs (session_id, state, queued_at) \
             VALUES (gen_random_uuid(), 'needs_action', now())");
    }

    #[pg_test]
    fn every_object_has_a_comment_and_no_function_is_public() {
        let bare = text(
            "SELECT coalesce(string_agg(d.description, ', '), '') FROM ( \
               SELECT pg_describe_object(classid, objid, 0) AS description FROM pg_depend \
                WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' \
                  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'meetlink') \
                  AND classid <> 'pg_type'::regclass \
                  AND obj_description(objid, classid::regclass::text::name) IS NULL) d \
              WHERE d.description NOT LIKE '%schema tests%' AND d.description NOT LIKE '% tests.%'",
        );
        assert_eq!(bare, "");
        let public = text(
            "SELECT coalesce(string_agg(p.oid::regprocedure::text, ', '), '') \
               FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' \
               JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'meetlink' \
              WHERE has_function_privilege('public', p.oid, 'EXECUTE') \
                AND p.pronamespace <> 'tests'::regnamespace",
        );
        assert_eq!(public, "");
    }

    #[pg_test]
    fn whoever_takes_over_doubts_only_what_cannot_tell_a_repeat() {
        attached();
        run(
            "INSERT INTO meetlink.jobs (session_id, state, provider, reason, queued_at, due_at) \
             SELECT gen_random_uuid(), s.state, p.provider, 'consent_revoked', now(), \
                    CASE WHEN s.state = 'pending' THEN now() END \
               FROM unnest(ARRAY['google_meet', 'zoom', NULL]) p(provider), \
                    unnest(ARRAY['pending', 'needs_action', 'failed', 'ready']) s(state)",
        );
        bookings(1);
        // As somebody who resumes in a copy: another home.
        run("UPDATE meetlink.home SET system = 'another'");
        run("SELECT meetlink_resume()");
        assert_eq!(
            text(
                "SELECT string_agg(DISTINCT COALESCE(provider, 'none'), ' ' ORDER BY COALESCE(provider, 'none')) \
                   FROM meetlink.jobs WHERE may_exist_since IS NOT NULL"
            ),
            "none zoom"
        );
        let doubted = "SELECT count(*) FROM meetlink.jobs WHERE may_exist_since IS NOT NULL";
        assert_eq!(number(doubted), 6);
        assert_eq!(
            number("SELECT count(*) FROM meetlink.inbox WHERE wish = 5"),
            1
        );
    }
}
