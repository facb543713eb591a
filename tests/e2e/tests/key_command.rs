//! Keys that come from a command instead of a file.

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, KEY, SOON};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::{Google, Zoom};

/// Has the keys come from `command`.
fn command(cluster: &mut Cluster, command: &str) {
    cluster.reload_with(&[("meetlink.key_file", ""), ("meetlink.key_command", command)]);
}

fn complaint(app: &App) -> String {
    app.value::<Option<String>>("SELECT last_error FROM meetlink.workers")
        .unwrap_or_default()
}

fn wait_for_complaint(app: &App, part: &str) -> String {
    wait::until(SOON, &format!("the worker to say {part}"), || {
        Some(complaint(app)).filter(|text| text.contains(part))
    })
}

#[test]
fn keys_from_a_command_serve_as_those_of_a_file_do() {
    let mut app = App::start();
    let before = app.tutor(Google, "Gus");
    let line = format!("echo '{} {}'", KEY.0, KEY.1);
    command(&mut app.cluster, &line);
    let student = app.person("student", "Sam");
    let after = app.tutor(Zoom, "Zoe");
    for tutor in [before, after] {
        let session = app.book(tutor, student);
        app.wait_for_link(session);
    }
}

#[test]
fn a_command_that_fails_is_told_without_a_word_of_its_output() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mark = app.cluster.log_mark();
    for (text, part) in [
        ("echo canary-out; echo canary-err >&2; exit 3", "status 3"),
        ("echo canary-out", "line 1"),
        ("kill -9 $$", "status 137"),
        ("/nonexistent/kms", "status 127"),
    ] {
        // In a file: the server logs a setting that changes.
        let script = app.cluster.write_file("kms.sh", text, 0o700);
        command(&mut app.cluster, &format!("/bin/sh {}", script.display()));
        let told = wait_for_complaint(&app, part);
        assert!(told.contains("meetlink.key_command"), "{told}");
        let refused = app
            .client()
            .batch_execute("SELECT meetlink_configure_provider('zoom', 'id', 'word')")
            .unwrap_err();
        let refused = format!("{:?}", refused.as_db_error());
        assert!(refused.contains(part), "{refused}");
        for shown in [told, refused, app.cluster.log_from(mark)] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    let line = format!("echo '{} {}'", KEY.0, KEY.1);
    command(&mut app.cluster, &line);
    app.wait_for_link(session);
}

#[test]
fn a_command_and_a_file_at_once_are_refused() {
    let mut app = App::start();
    app.cluster.set("meetlink.key_command", "true");
    wait_for_complaint(&app, "both set");
    app.cluster.unset("meetlink.key_command");
    wait::until_true(SOON, "no complaint", || complaint(&app).is_empty());
}

#[test]
fn a_command_that_hangs_holds_up_no_other_database_and_leaves_nothing_running() {
    let mut app = App::start();
    // Its own child keeps the pipe open, and would outlive it.
    let marker = format!("{}9", std::process::id());
    command(
        &mut app.cluster,
        &format!("sleep {marker} & sleep {marker}"),
    );
    let running = || {
        let found = std::process::Command::new("pgrep")
            .args(["-f", &format!("^sleep {marker}$")])
            .output()
            .expect("pgrep runs");
        !found.stdout.is_empty()
    };
    wait::until_true(SOON, "the command to run", running);
    app.cluster.create_database("other");
    let begun = Instant::now();
    app.cluster.psql("postgres", "DROP DATABASE other");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "DROP DATABASE took {took:?}");
    wait_for_complaint(&app, "more than 10 seconds");
    wait::until_true(SOON, "nothing to be left", || !running());
}

/// What a command starts in a session of its own outlives it, with the pipe in its hands.
#[test]
fn a_command_that_leaves_somebody_at_its_output_is_not_waited_for() {
    let mut app = App::start();
    let pids = app.cluster.write_file("pids", "", 0o600);
    let stays = format!(
        "setsid sh -c 'echo $$ >> {}; exec sleep 60' &",
        pids.display()
    );
    let there = format!("until test -s {}; do :; done", pids.display());
    // In a file: the quotes.
    let text = format!("echo '{} {}'\n{stays}\n{there}\n", KEY.0, KEY.1);
    let script = app.cluster.write_file("kms.sh", &text, 0o700);
    let begun = Instant::now();
    command(&mut app.cluster, &format!("/bin/sh {}", script.display()));
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "a link took {took:?}");
    let begun = Instant::now();
    app.cluster.stop(meetlink_e2e::StopMode::Fast);
    let took = begun.elapsed();
    for pid in std::fs::read_to_string(&pids).expect("pids").lines() {
        let _ = std::process::Command::new("kill").arg(pid).status();
    }
    assert!(took < Duration::from_secs(2), "a fast stop took {took:?}");
}

#[test]
fn nobody_but_a_superuser_sees_or_sets_the_command() {
    let mut app = App::start();
    command(&mut app.cluster, "cat /etc/hostname");
    app.cluster.psql("app", "CREATE ROLE nobody LOGIN");
    let denied = app
        .cluster
        .try_psql("app", "nobody", "SHOW meetlink.key_command")
        .unwrap_err();
    assert!(format!("{denied}").contains("must "), "{denied}");
    let set = app
        .cluster
        .try_psql("app", "postgres", "SET meetlink.key_command = 'true'")
        .unwrap_err();
    assert!(format!("{set}").contains("cannot be changed now"), "{set}");
}
