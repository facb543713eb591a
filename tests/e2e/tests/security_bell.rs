//! Who can make the worker run the key command, and what that costs others.

use meetlink_e2e::app::{App, DATABASE, KEY};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider::Zoom;
use std::time::{Duration, Instant};

/// A key command that takes its time and leaves a line for each run.
fn slow_command(cluster: &mut Cluster, seconds: &str) -> std::path::PathBuf {
    let runs = cluster.data_dir().join("runs");
    let (id, hex) = KEY;
    let command = format!(
        "echo x >> {}; sleep {seconds}; echo {id} {hex}",
        runs.display()
    );
    cluster.reload_with(&[
        ("meetlink.key_file", ""),
        ("meetlink.key_command", &command),
    ]);
    wait::until_true(Duration::from_secs(10), "the command to run", || {
        count(&runs) > 0
    });
    runs
}

fn count(runs: &std::path::Path) -> usize {
    std::fs::read_to_string(runs).map_or(0, |text| text.lines().count())
}

#[test]
fn looking_at_health_runs_no_command() {
    let mut app = App::start();
    let runs = slow_command(&mut app.cluster, "0.1");
    app.client()
        .batch_execute("CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor")
        .unwrap();
    let mut monitor = app.cluster.connect(DATABASE, "monitor");
    monitor
        .query("SELECT * FROM meetlink_health()", &[])
        .unwrap();
    let before = count(&runs);
    for _ in 0..5 {
        monitor
            .query("SELECT * FROM meetlink_health()", &[])
            .unwrap();
    }
    assert_eq!(
        count(&runs),
        before,
        "runs of the key command by pg_monitor"
    );
}

/// README grants EXECUTE on meetlink.enqueue() to the tables' owner.
#[test]
fn whoever_rings_again_and_again_does_not_keep_links_from_others() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "GRANT USAGE ON SCHEMA meetlink TO app_owner;
             GRANT EXECUTE ON FUNCTION meetlink.enqueue() TO app_owner;
             SET ROLE app_owner;
             CREATE TABLE public.clicks (n int);
             GRANT INSERT ON public.clicks TO PUBLIC;
             CREATE TRIGGER ring AFTER INSERT ON public.clicks
               FOR EACH STATEMENT EXECUTE FUNCTION meetlink.enqueue('config');
             RESET ROLE; CREATE ROLE low LOGIN;",
        )
        .unwrap();
    let runs = slow_command(&mut app.cluster, "1");
    let before = count(&runs);
    let mut low = app.cluster.connect(DATABASE, "low");
    // A bounded number of commits: they end whatever becomes of the links.
    let begun = Instant::now();
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            while begun.elapsed() < Duration::from_secs(5) {
                low.batch_execute("INSERT INTO public.clicks VALUES (1)")
                    .unwrap();
            }
        });
        let booked = Instant::now();
        for _ in 0..3 {
            app.wait_for_link(app.book(tutor, student));
        }
        booked.elapsed()
    });
    let runs = count(&runs) - before;
    println!(
        "{runs} runs in {:?}, three links took {took:?}",
        begun.elapsed()
    );
    assert!(
        runs <= 2,
        "{runs} runs of the key command in {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_that_stops_leaves_no_key_command_behind() {
    let mut app = App::start();
    let marker = "4242.75";
    slow_command(&mut app.cluster, marker);
    let took = app.cluster.stop(meetlink_e2e::StopMode::Fast);
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            (line.starts_with(&format!("sleep {marker}"))).then_some(pid)
        })
        .collect();
    for pid in &left {
        let _ = std::process::Command::new("kill")
            .arg(pid.to_string())
            .status();
    }
    assert!(left.is_empty(), "{left:?} are left, stop took {took:?}");
}

/// Rows of a rotation stay locked to the end of its caller's transaction.
#[test]
fn a_rotation_that_does_not_commit_holds_up_no_tutor_but_those_it_locks() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let tutors: Vec<_> = (0..40)
        .map(|n| app.tutor(Zoom, &format!("Tutor {n}")))
        .collect();
    app.client()
        .batch_execute("UPDATE tutor_video_provider_connections SET token_expires_at = now()")
        .unwrap();
    let new = "f".repeat(64);
    app.cluster.write_key_file(&[("k2", &new), KEY]);
    app.cluster.reload();
    let mut operator = app.client();
    let mut rotation = operator.transaction().unwrap();
    rotation
        .query("SELECT * FROM meetlink_rotate_keys()", &[])
        .unwrap();
    for tutor in &tutors {
        app.book(*tutor, student);
    }
    app.wait_until(
        "tokens that wait to be stored",
        "SELECT EXISTS (SELECT FROM meetlink.workers WHERE last_error LIKE '%cannot be stored%')",
    );
    let other = app.tutor(Zoom, "Other");
    let begun = Instant::now();
    for _ in 0..5 {
        app.wait_for_link(app.book(other, student));
    }
    let took = begun.elapsed();
    rotation.rollback().unwrap();
    assert!(
        took < Duration::from_secs(2),
        "five links of another tutor took {took:?}"
    );
}
