//! The server's machine runs out of something: room on the disk, file descriptors.

#[path = "support/life.rs"]
mod life;
#[path = "support/strace.rs"]
mod strace;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use life::{launcher, link, seed};
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use strace::Strace;
use uuid::Uuid;

const FULL: &str = "pwrite64,pwritev,write,fallocate,ftruncate:error=ENOSPC";

/// A tutor at each provider, and a student.
fn people(app: &App) -> ([Person; 2], Person) {
    let tutors = [app.tutor(Google, "Gia"), app.tutor(Zoom, "Zoe")];
    (tutors, app.person("student", "Sam"))
}

/// Sessions at both providers, inserted by somebody whose own writes succeed.
fn book_some(app: &App, (tutors, student): &([Person; 2], Person), each: i32) -> Vec<Uuid> {
    let mut client = app.client();
    // One commit: what the worker does with the first must not end the connection of the second.
    client.batch_execute("BEGIN").expect("a transaction");
    let pairs = tutors.iter().zip([Google, Zoom]);
    let sessions = pairs
        .flat_map(|(tutor, provider)| seed(&mut client, (*tutor, *student), provider, each))
        .collect();
    // The answer may be lost where the worker brings the server down; the bookings are not.
    let _ = client.batch_execute("COMMIT");
    sessions
}

/// All sessions get their links, and there is one meeting for each.
fn all_get_one_meeting(app: &App, sessions: &[Uuid]) {
    for session in sessions {
        app.wait_for_link(*session);
    }
    let made: usize = [Google, Zoom]
        .map(|provider| app.simulator.meetings_ever(provider).len())
        .iter()
        .sum();
    assert_eq!(made, sessions.len(), "one meeting each");
}

/// The files of the tables and indexes in some schemas, but for the inbox, which others fill.
fn files_of(app: &App, schemas: &str) -> Vec<String> {
    let files = app.client().query(
        &format!(
            "SELECT current_setting('data_directory') || '/' || pg_relation_filepath(c.oid)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN ({schemas}) AND c.relname <> 'inbox'
                AND pg_relation_filepath(c.oid) IS NOT NULL"
        ),
        &[],
    );
    let files = files.expect("the files");
    files.iter().map(|row| row.get(0)).collect()
}

/// The files of meetlink's own tables cannot grow: the claim raises an error, and nothing is sent
/// that is not on record.
#[test]
fn a_full_disk_at_the_claim_stops_nothing_but_the_claim() {
    let app = App::start();
    let people = people(&app);
    let worker = app.worker_pid();
    let paths = files_of(&app, "'meetlink'");
    let pid = u32::try_from(worker).expect("a pid");
    let Some(full) = Strace::attach_to_files(app.cluster.base(), pid, FULL, &paths) else {
        return;
    };
    // Enough for the tables to have to grow.
    let mut sessions = book_some(&app, &people, 100);
    wait::until_true(SOON, "the disk to be full", || full.injected() >= 3);
    app.wait_until(
        "the worker to say why",
        "SELECT bool_or(last_error ~ 'No space left') FROM meetlink.workers",
    );
    assert_eq!(
        app.simulator.journal_len(),
        0,
        "a request that is not on record"
    );
    // The application goes on booking.
    sessions.extend(book_some(&app, &people, 1));
    let status = app.status(sessions[0]);
    assert_eq!(status["state"], "pending", "{status}");
    assert_eq!(app.worker_pid(), worker, "no crash");
    drop(full);
    all_get_one_meeting(&app, &sessions);
    assert_eq!(app.worker_pid(), worker, "no crash");
    assert!(!app.cluster.log().contains("PANIC"));
}

/// The meetings are made, and neither their links nor the note of them can be stored. They are not
/// asked for again, neither by this worker nor, after a crash, by the next one.
#[test]
fn a_full_disk_at_the_write_back_costs_no_second_meeting() {
    for crash in [false, true] {
        let mut app = App::with(|options| options.set("meetlink.concurrency", "128"));
        let people = people(&app);
        for provider in [Google, Zoom] {
            let slow = Action::Delay { ms: 1_500 };
            app.simulator
                .fault(Rule::always(provider, Call::Create, slow));
        }
        let worker = app.worker_pid();
        let sessions = book_some(&app, &people, 60);
        let under_way =
            |app: &App| app.simulator.in_flight(Google).now + app.simulator.in_flight(Zoom).now;
        wait::until_true(SOON, "requests", || under_way(&app) >= 100);
        let paths = files_of(&app, "'meetlink', 'public'");
        let pid = u32::try_from(worker).expect("a pid");
        let Some(full) = Strace::attach_to_files(app.cluster.base(), pid, FULL, &paths) else {
            return;
        };
        wait::until_true(SOON, "the answers", || under_way(&app) == 0);
        wait::until_true(SOON, "the disk to be full", || full.injected() >= 3);
        if crash {
            app.cluster.crash();
        } else {
            assert_eq!(app.worker_pid(), worker, "no crash");
        }
        drop(full);
        app.simulator.clear_faults();
        if crash {
            app.cluster.start_again();
        }
        all_get_one_meeting(&app, &sessions);
    }
}

/// The same for the write-ahead log, where Postgres itself gives up and recovers: each time it is
/// the worker's commit that fails, after a claim that was never on record.
#[test]
fn a_write_ahead_log_that_cannot_be_written_costs_no_meeting() {
    let app = App::start();
    let people = people(&app);
    let mut sessions = Vec::new();
    for round in 1..=2 {
        let worker = app.worker_pid();
        let mut client = app.client();
        let row = client.query_one(
            "SELECT array_agg(current_setting('data_directory') || '/pg_wal/' || name)
               FROM pg_ls_waldir()",
            &[],
        );
        let paths: Vec<String> = row.expect("the files").get(0);
        let pid = u32::try_from(worker).expect("a pid");
        let Some(full) = Strace::attach_to_files(app.cluster.base(), pid, FULL, &paths) else {
            return;
        };
        let mark = app.cluster.log_mark();
        sessions.extend(book_some(&app, &people, 5));
        wait::until_true(SOON, "the server to come back", || {
            let log = app.cluster.log_from(mark);
            log.contains("PANIC") && log.contains("ready to accept connections")
        });
        assert!(full.injected() >= 1);
        drop(full);
        let panics = app.cluster.log().matches("PANIC").count();
        assert_eq!(panics, round, "one for each round");
        let mut client = wait::until(SOON, "a connection", || {
            app.cluster
                .config("app", "postgres")
                .connect(postgres::NoTls)
                .ok()
        });
        assert_eq!(link(&mut client, sessions[0]).is_some(), round > 1);
        for session in &sessions {
            app.wait_for_link(*session);
        }
    }
    all_get_one_meeting(&app, &sessions);
    assert_eq!(app.cluster.log().matches("PANIC").count(), 2);
    assert!(launcher(&app.cluster).is_some());
}

/// The limit of open files of a live process.
fn limit_files(pid: i32, limit: &str) {
    // Its owner may do that, and root in a container may not.
    let owner = std::fs::metadata(format!("/proc/{pid}")).expect("the process is there");
    let status = Command::new("prlimit")
        .uid(owner.uid())
        .gid(owner.gid())
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")])
        .status()
        .expect("prlimit runs");
    assert!(status.success());
}

/// The lowest number that a new descriptor of a process would get.
fn next_descriptor(pid: i32) -> usize {
    let open: Vec<usize> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    (0..).find(|number| !open.contains(number)).unwrap_or(0)
}

/// Nothing can be opened any more, by the worker itself or by Postgres in it: whether it bears that
/// or ends and comes back, every session has one meeting.
#[test]
fn a_worker_without_file_descriptors_loses_nothing() {
    let app = App::start();
    let people = people(&app);
    let worker = app.worker_pid();
    limit_files(worker, &next_descriptor(worker).to_string());
    let sessions = book_some(&app, &people, 3);
    wait::until_true(SOON, "the limit to be met", || {
        app.cluster.log().contains("Too many open files")
    });
    if life::worker_of(&app.cluster, "app") == Some(worker) {
        limit_files(worker, "1024");
    }
    all_get_one_meeting(&app, &sessions);
    assert!(!app.cluster.log().contains("PANIC"));
}

/// No connection can be opened. That is neither the provider's nor the tutor's fault, and passes: no
/// session is given up for it, however long it lasts.
#[test]
fn without_sockets_sessions_wait_and_none_is_given_up() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
    let people = people(&app);
    let worker = app.worker_pid();
    let pid = u32::try_from(worker).expect("a pid");
    let Some(full) = Strace::attach(app.cluster.base(), pid, "socket:error=EMFILE") else {
        return;
    };
    let sessions = book_some(&app, &people, 3);
    wait::until_true(SOON, "many vain tries", || full.injected() >= 18);
    let said: String = app.value("SELECT string_agg(DISTINCT error, ' ') FROM meetlink.attempts");
    assert!(said.contains("limits of the server's user"), "{said}");
    assert_eq!(app.simulator.journal_len(), 0);
    for session in &sessions {
        let status = app.status(*session);
        assert_ne!(status["state"], "failed", "{status}");
        assert_ne!(status["state"], "in_doubt", "{status}");
    }
    drop(full);
    all_get_one_meeting(&app, &sessions);
    assert_eq!(app.worker_pid(), worker, "the worker lives on");
}
