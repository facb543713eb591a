//! Key files and settings that cannot be used: said clearly, nothing lost, mended by a reload.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, KEY, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider;
use support::{Witness, assert_no_secrets, assert_plain, last_error, retry};

/// Breaks the key file in one way; the argument is its proper text.
fn break_key_file(app: &mut App, how: &str, proper: &str) {
    let name = "meetlink.keys";
    match how {
        "missing" => {
            let file = app.cluster.base().join(name);
            std::fs::remove_file(file).expect("the file goes");
        }
        "world-readable" => drop(app.cluster.write_file(name, proper, 0o644)),
        "group-readable" => drop(app.cluster.write_file(name, proper, 0o640)),
        "empty" => drop(app.cluster.write_file(name, "", 0o600)),
        "comments alone" => drop(app.cluster.write_file(name, "\n\n", 0o600)),
        "a short key" => drop(app.cluster.write_file(name, "k1 0001aabbcc", 0o600)),
        "not hex" => {
            let line = format!("k1 {}", "zz".repeat(32));
            app.cluster.write_file(name, &line, 0o600);
        }
        "the same id twice" => {
            let line = format!("{proper}{} {}\n", KEY.0, "ee".repeat(32));
            app.cluster.write_file(name, &line, 0o600);
        }
        "binary" => drop(app.cluster.write_file(name, "k1 \u{0}\u{fffd}\u{1}", 0o600)),
        "endless" => app.cluster.set("meetlink.key_file", "/dev/zero"),
        "a folder" => app.cluster.set("meetlink.key_file", "/tmp"),
        "not set" => app.cluster.set("meetlink.key_file", ""),
        "relative" => app.cluster.set("meetlink.key_file", "meetlink.keys"),
        _ => panic!("unknown way {how}"),
    }
    app.cluster.reload();
}

#[test]
fn a_session_keeps_its_place_until_the_key_file_is_mended() {
    // So long that nothing but the operator's act can end the wait within the test.
    let mut app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let student = app.person("student", "Sam");
    let tutors = [Provider::Google, Provider::Zoom].map(|p| app.tutor(p, &format!("{p:?}")));
    let proper = format!("{} {}\n", KEY.0, KEY.1);
    let path = app
        .cluster
        .base()
        .join("meetlink.keys")
        .display()
        .to_string();
    for how in [
        "missing",
        "world-readable",
        "group-readable",
        "empty",
        "comments alone",
        "a short key",
        "not hex",
        "the same id twice",
        "binary",
        "endless",
        "a folder",
        "not set",
        "relative",
    ] {
        break_key_file(&mut app, how, &proper);
        app.wait_until(
            &format!("the worker to complain about {how}"),
            "SELECT bool_or(last_error LIKE 'meetlink.key_file cannot be used: %')
               FROM meetlink.workers",
        );
        let sessions = tutors.map(|tutor| app.book(tutor, student));
        for session in sessions {
            let status = app.wait_for_state(session, "retrying");
            assert_eq!(status["attempts"], 0, "{how}: {status}");
            assert_plain(&status);
            let error = last_error(&app, session).expect("an error");
            assert!(error.contains("meetlink.key_file"), "{how}: {error}");
        }
        // A retry does not help, and does no harm.
        retry(&app, sessions[0]);

        app.cluster.write_file("meetlink.keys", &proper, 0o600);
        app.cluster.set("meetlink.key_file", &path);
        for session in sessions {
            app.wait_for_link(session);
        }
    }
    assert_eq!(app.simulator.meetings(Provider::Zoom).len(), 13);
    assert_eq!(app.simulator.meetings(Provider::Google).len(), 13);
    assert!(!app.cluster.log().contains(KEY.1), "the key is in the log");
    assert_no_secrets(
        &app,
        &[(Provider::Google, "Google"), (Provider::Zoom, "Zoom")],
    );
}

#[test]
fn connecting_without_a_key_says_what_to_do_and_stores_nothing() {
    let mut app = App::start();
    let tutor = app.person("tutor", "Ann").0;
    break_key_file(&mut app, "missing", "");
    for (call, table) in [
        (
            format!("meetlink_connect('{tutor}', 'zoom', 'a-secret-token')"),
            "tutor_video_provider_connections",
        ),
        (
            "meetlink_configure_provider('zoom', 'new-id', 'a-secret-token')".to_owned(),
            "meetlink.providers WHERE client_id = 'new-id'",
        ),
    ] {
        let error = app
            .cluster
            .try_psql("app", "postgres", &format!("SELECT {call}"));
        let error = error.expect_err("there is no key").to_string();
        assert!(
            error.contains("meetlink.key_file") && error.contains("HINT:"),
            "{error}"
        );
        assert!(!error.contains("a-secret-token"), "{error}");
        let stored: i64 = app.value(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(stored, 0);
    }
}

#[test]
fn a_malformed_setting_is_refused_with_the_reason() {
    let app = App::start();
    let witness = Witness::new(&app, Provider::Zoom);
    for (setting, value) in [
        ("zoom_api_url", "ftp://x"),
        ("zoom_api_url", "http://api.zoom.us/v2"),
        ("zoom_api_url", "http://127.0.0.1.example.org/v2"),
        ("zoom_api_url", "https://api.zoom.us/v2/"),
        ("zoom_api_url", "https://user:a-secret@api.zoom.us/v2"),
        ("zoom_api_url", "https://api.zoom.us/v2?x=1"),
        ("zoom_api_url", "https://api.zoom.us:99999/v2"),
        ("zoom_token_url", "https://zoom.us/oauth token"),
        ("google_api_url", ""),
        ("google_api_url", "https://"),
        ("google_token_url", "file:///etc/passwd"),
    ] {
        let statement = format!("ALTER SYSTEM SET meetlink.{setting} = '{value}'");
        let error = app.cluster.try_psql("app", "postgres", &statement);
        let error = error.expect_err(value).to_string();
        assert!(error.contains("invalid value for parameter"), "{error}");
        assert!(error.contains("DETAIL:"), "{value}: {error}");
    }
    for (setting, value) in [
        ("concurrency", "0"),
        ("concurrency", "many"),
        ("request_timeout", "0"),
        ("max_attempts", "-1"),
        ("backoff_base", "1 fortnight"),
        ("no_such_setting", "1"),
    ] {
        let statement = format!("ALTER SYSTEM SET meetlink.{setting} = '{value}'");
        let error = app.cluster.try_psql("app", "postgres", &statement);
        error.expect_err(&statement);
    }
    witness.still_served(&app);
}

/// What is written into the file past ALTER SYSTEM is refused by every process at the reload; the
/// old value stays.
#[test]
fn a_malformed_setting_in_the_file_leaves_the_old_value_in_force() {
    let mut app = App::start();
    let witness = Witness::new(&app, Provider::Zoom);
    let mark = app.cluster.log_mark();
    app.cluster.set("meetlink.zoom_api_url", "ftp://x");
    wait::until_true(SOON, "the refusal in the log", || {
        let log = app.cluster.log_from(mark);
        log.contains("invalid value for parameter \"meetlink.zoom_api_url\"")
    });
    witness.still_served(&app);
    assert_eq!(
        app.cluster.psql("app", "SHOW meetlink.zoom_api_url"),
        app.simulator.zoom_api_url()
    );
}

#[test]
fn only_a_superuser_sees_where_the_keys_are_or_changes_a_setting() {
    let app = App::start();
    app.cluster.psql("app", "CREATE ROLE nobody LOGIN");
    let see = app
        .cluster
        .try_psql("app", "nobody", "SHOW meetlink.key_file");
    assert!(
        see.expect_err("it is hidden")
            .to_string()
            .contains("superuser")
    );
    for statement in [
        "SET meetlink.zoom_api_url = 'https://evil.example'",
        "ALTER ROLE nobody SET meetlink.zoom_api_url = 'https://evil.example'",
        "ALTER DATABASE app SET meetlink.zoom_api_url = 'https://evil.example'",
        "ALTER SYSTEM SET meetlink.zoom_api_url = 'https://evil.example'",
    ] {
        let refused = app.cluster.try_psql("app", "nobody", statement);
        refused.expect_err(statement);
    }
}
