//! Clusters that came out of a dump, an upgrade or an archive, and how they behave until somebody
//! says that they are the real one.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::process::Command;
use std::time::Duration;

use meetlink_e2e::app::{App, DATABASE, SOON, options_for};
use meetlink_e2e::{Cluster, ClusterOptions, StopMode, wait};
use uuid::Uuid;

/// The application's cluster, stopped and upgraded to a new one, which is not started yet.
/// PostgreSQL allows that within a major version.
pub fn upgraded(app: &mut App) -> Cluster {
    app.cluster.stop(StopMode::Fast);
    let new = Cluster::initialized(options_for(&app.simulator));
    let (old_data, new_data) = (app.cluster.data_dir(), new.data_dir());
    let output = new
        .server_program("pg_upgrade")
        .current_dir(new.base())
        .args(["--username=postgres", "--no-sync"])
        .arg("--old-bindir")
        .arg(app.cluster.bin_dir())
        .arg("--new-bindir")
        .arg(new.bin_dir())
        .arg("--old-datadir")
        .arg(old_data)
        .arg("--new-datadir")
        .arg(new_data)
        .output()
        .expect("pg_upgrade runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pg_upgrade: {text}{errors}");
    new
}

/// `pg_dump` as text, after the roles that it speaks of.
pub fn dump(cluster: &Cluster) -> String {
    let output = Command::new(cluster.bin_dir().join("pg_dump"))
        .arg("-h")
        .arg(cluster.socket_dir())
        .args(["-p", &Cluster::PORT.to_string(), "-U", "postgres", DATABASE])
        .output()
        .expect("pg_dump runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let roles = cluster.psql(
        DATABASE,
        "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles
          WHERE rolname <> 'postgres' AND rolname !~ '^pg_'",
    );
    let text = String::from_utf8(output.stdout).expect("text");
    format!("{roles}\n{text}")
}

/// Another cluster, with the dump in a database of the same name.
pub fn staging_copy(app: &App, dump: &str) -> Cluster {
    let mut staging = Cluster::initialized(options_for(&app.simulator));
    staging.start_again();
    staging.create_database(DATABASE);
    staging.psql(DATABASE, dump);
    staging
}

/// The same, with the worker in the middle of a step while one table after the other appears:
/// it has seen the configuration, and sees the rest as its own transaction goes on.
pub fn slow_staging_copy(app: &App, dump: &str) -> Cluster {
    let mut staging = Cluster::initialized(options_for(&app.simulator));
    staging.start_again();
    staging.create_database(DATABASE);
    // They make a whole of the text, which is taken apart here.
    let dump: String = dump
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "))
        .collect();
    let is_setting = |line: &&str| line.starts_with("SET ") || line.contains("set_config");
    let settings: Vec<&str> = dump.lines().filter(is_setting).collect();
    let settings = settings.join("\n");
    let pieces: Vec<&str> = dump.split_inclusive("\n\\.\n").collect();
    let at = |table: &str| {
        let found = pieces.iter().position(|piece| piece.contains(table));
        found.unwrap_or_else(|| panic!("{table} is in the dump"))
    };
    let load = |pieces: &[&str]| {
        staging.psql(DATABASE, &format!("{settings}\n{}", pieces.concat()));
    };
    let (config, inbox) = (at("COPY meetlink.config "), at("COPY meetlink.inbox "));
    // What is before the data, then the data up to what wakes the worker.
    let (before, row) = pieces[config].split_once("COPY meetlink.config ").unwrap();
    load(&[&pieces[..config].concat(), before]);
    let mut holder = staging.connect(DATABASE, "postgres");
    let mut held = holder.transaction().expect("a transaction");
    held.batch_execute("LOCK TABLE meetlink.inbox IN ACCESS EXCLUSIVE MODE")
        .expect("a lock");
    load(&[&format!("COPY meetlink.config {row}")]);
    // It waits for the lock, or has looked and found nothing to do.
    let query = "SELECT bool_or(wait_event_type = 'Lock') OR bool_and(state = 'idle')
                   FROM pg_stat_activity WHERE backend_type = 'meetlink worker'";
    wait::until_true(SOON, "the worker to have looked", || {
        staging.psql("postgres", query) == "t"
    });
    load(&pieces[config + 1..inbox]);
    load(&pieces[inbox + 1..]);
    held.rollback().expect("the lock is released");
    load(&pieces[inbox..=inbox]);
    staging
}

/// Settings with which a server archives its WAL into a folder of its own.
pub fn archiving(options: ClusterOptions) -> ClusterOptions {
    options.set("archive_mode", "on").set(
        "archive_command",
        // The server's folder for data is its working directory; beside it there is room.
        "mkdir -p ../archive && cp %p ../archive/%f",
    )
}

/// Has the server archive all that it has written so far.
pub fn archive_all(cluster: &Cluster) {
    let segment = cluster.psql(
        "postgres",
        "SELECT pg_logical_emit_message(true, '', '');
         SELECT pg_walfile_name(pg_switch_wal())",
    );
    let segment = segment.lines().last().expect("a segment").to_owned();
    let path = cluster.base().join("archive").join(segment);
    wait::until_true(SOON, "the archive to have it", || path.exists());
}

/// A cluster recovered from a base backup and the archive of the application's server, as far as
/// `target` (settings) says, or to the archive's end; started, when it is there.
pub fn recovered(app: &App, backup: Cluster, target: &[(&str, &str)]) -> Cluster {
    let mut restored = backup;
    let archive = app.cluster.base().join("archive");
    let command = format!("cp {}/%f %p", archive.display());
    let mut settings = vec![
        ("restore_command", command.as_str()),
        ("recovery_target_action", "promote"),
    ];
    settings.extend_from_slice(target);
    restored.reload_with(&settings);
    restored.write_signal_file("recovery.signal");
    restored.start_again();
    let query = "SELECT pg_is_in_recovery()";
    wait::until_true(SOON, "the end of recovery", || {
        restored.psql("postgres", query) == "f"
    });
    restored
}

/// Waits until the worker says that it waits for the word, and shows that a new worker and new
/// work change nothing: no provider hears of anything, and those who ask are told.
#[track_caller]
pub fn assert_waits_for_the_word(app: &App, book: impl FnOnce() -> Uuid) {
    wait_for_complaint(app);
    let calls = app.simulator.journal_len();
    let session = book();
    let pid = app.worker_pid();
    app.cluster.psql(
        "postgres",
        &format!("SELECT pg_terminate_backend({pid}, 5000)"),
    );
    app.wait_until(
        "the next worker",
        &format!("SELECT COALESCE(pid, {pid}) <> {pid} FROM meetlink.workers"),
    );
    wait_for_complaint(app);
    assert_eq!(app.simulator.journal_len(), calls, "nobody is called");
    let status = app.status(session);
    assert_eq!(status["state"], "pending");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("restored"), "{message}");
}

/// Waits until `meetlink.workers` names the function to call.
pub fn wait_for_complaint(app: &App) -> String {
    let query = "SELECT COALESCE(last_error, '') FROM meetlink.workers";
    wait::until(
        Duration::from_secs(8),
        "the worker to say what it waits for",
        || {
            let row = app.client().query_opt(query, &[]).ok()??;
            let complaint: String = row.get(0);
            complaint.contains("meetlink_resume").then_some(complaint)
        },
    )
}

/// Says the word; it must have been wanted.
#[track_caller]
pub fn resume(app: &App) {
    assert!(app.value::<bool>("SELECT meetlink_resume()"));
}
