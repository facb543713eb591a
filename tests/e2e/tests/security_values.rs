//! Values that somebody writes into mapped columns to stop or blow up what works on them.

use meetlink_e2e::app::{App, KEY};
use meetlink_simulator::Provider::Zoom;

fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[test]
fn one_huge_name_does_not_blow_the_worker_up() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let pid = app.worker_pid();
    let before = memory(pid);
    app.client()
        .execute(
            "UPDATE profiles SET full_name = repeat('x', 250000000) WHERE id = $1",
            &[&student.0],
        )
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(app.worker_pid(), pid);
    let after = memory(pid);
    assert!(
        after < before + 100,
        "{before} MB before, {after} MB after a name of 250 MB"
    );
}

#[test]
fn one_huge_token_does_not_blow_the_worker_up() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let pid = app.worker_pid();
    let before = memory(pid);
    app.client()
        .execute(
            "UPDATE tutor_video_provider_connections SET refresh_token_encrypted = repeat('x', 250000000),
                    access_token_encrypted = NULL WHERE tutor_id = $1",
            &[&tutor.0],
        )
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_until(
        "the attempt",
        &format!("SELECT EXISTS (SELECT FROM meetlink.attempts WHERE session_id = '{session}')"),
    );
    let after = memory(pid);
    assert!(
        after < before + 100,
        "{before} MB before, {after} MB after a token of 250 MB"
    );
}

/// As in the interface: `provider text CHECK (...)`, which lets NULL pass.
#[test]
fn a_connection_without_a_provider_does_not_stop_the_rotation_of_all_others() {
    let mut app = App::start();
    app.tutor(Zoom, "Tess");
    let odd = app.person("tutor", "Odd");
    app.client()
        .execute(
            "INSERT INTO profiles (id, full_name, role)
             VALUES ('00000000-0000-4000-8000-000000000001', 'First', 'tutor')",
            &[],
        )
        .unwrap();
    app.client()
        .batch_execute(&format!(
            "ALTER TABLE tutor_video_provider_connections ALTER provider DROP NOT NULL, ALTER tutor_id DROP NOT NULL;
             INSERT INTO tutor_video_provider_connections (tutor_id, provider, refresh_token_encrypted)
             VALUES ('00000000-0000-4000-8000-000000000001', NULL, 'ml1.k1.AAAA.AAAA'),
                    (NULL, 'zoom', 'ml1.k1.AAAA.AAAA'), ('{}', 'zoom', 'ml1.k1.AAAA.AAAA')",
            odd.0
        ))
        .unwrap();
    let new = "f".repeat(64);
    app.cluster.write_key_file(&[("k2", &new), KEY]);
    app.cluster.reload();
    let done = app.client().query(
        "SELECT what, reencrypted, remaining, unreadable FROM meetlink_rotate_keys()",
        &[],
    );
    let rows = done.unwrap_or_else(|error| panic!("{error:?}"));
    let numbers: Vec<i64> = (1..4).map(|at| rows[0].get(at)).collect();
    assert_eq!(numbers[0], 1, "{numbers:?}");
    assert_eq!(numbers[1], 0, "what remains for ever: {numbers:?}");
}

/// `unnoticed` is for the rows that rotation writes, not for what triggers of the application do to others.
#[test]
fn what_the_applications_trigger_changes_during_a_rotation_is_noticed() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    let waiting = app.tutor(Zoom, "Wim");
    app.client()
        .execute(
            "UPDATE tutor_video_provider_connections SET connection_status = 'needs_reauth' WHERE tutor_id = $1",
            &[&waiting.0],
        )
        .unwrap();
    let session = app.book(waiting, student);
    app.wait_for_state(session, "needs_action");
    app.client()
        .batch_execute(&format!(
            "CREATE FUNCTION revive() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.tutor_id = '{}' THEN
                 UPDATE tutor_video_provider_connections SET connection_status = 'connected'
                  WHERE tutor_id = '{}';
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER revive AFTER UPDATE ON tutor_video_provider_connections
               FOR EACH ROW EXECUTE FUNCTION revive();",
            tutor.0, waiting.0
        ))
        .unwrap();
    let new = "f".repeat(64);
    app.cluster.write_key_file(&[("k2", &new), KEY]);
    app.cluster.reload();
    if std::env::var_os("CONTROL").is_some() {
        app.client()
            .batch_execute(
                "UPDATE tutor_video_provider_connections SET provider_account_name = 'x'",
            )
            .unwrap();
    } else {
        app.client()
            .query("SELECT * FROM meetlink_rotate_keys()", &[])
            .unwrap();
    }
    let revived: i64 = app.value(
        "SELECT count(*) FROM tutor_video_provider_connections WHERE connection_status = 'connected'",
    );
    assert_eq!(revived, 2);
    app.wait_for_link(session);
}

/// A token with a line break would be a header of its own.
#[test]
fn a_token_with_a_line_break_is_not_taken() {
    let app = App::start();
    let tutor = app.tutor(Zoom, "Tess");
    for odd in ["x\r\nX-Evil: 1", "x\ty", "tökén", &"x".repeat(9_000)] {
        let refused = app
            .client()
            .execute(
                "SELECT meetlink_connect($1, 'zoom', 'good', $2)",
                &[&tutor.0, &odd],
            )
            .expect_err(odd);
        let refused = refused.as_db_error().expect("an error of the server");
        assert_eq!(refused.code().code(), "22023");
        assert!(!refused.message().contains("Evil"), "{refused}");
    }
}

#[test]
fn a_link_that_is_no_https_link_is_passed_on_by_nobody() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    app.client()
        .execute(
            "UPDATE sessions SET join_url = 'javascript:alert(1)' WHERE id = $1",
            &[&session],
        )
        .unwrap();
    let status = app.status_as(student, session);
    let waited: Option<String> = app.value(&format!("SELECT meetlink_wait('{session}', '0 s')"));
    assert_eq!(status["join_url"], serde_json::Value::Null, "{status}");
    assert_eq!(waited, None);
}
