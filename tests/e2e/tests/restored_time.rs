//! Recovery from an archive: a server that was put back to an earlier time waits for the word, one
//! that only went on where another ended does not.

#[path = "support/life.rs"]
mod life;
#[path = "support/restored.rs"]
mod restored;
#[path = "support/standby.rs"]
mod standby;

use meetlink_e2e::app::{App, Person, options_for};
use meetlink_e2e::{Cluster, StopMode};
use meetlink_simulator::Call;
use meetlink_simulator::Provider::{Google, Zoom};
use restored::{
    archive_all, archiving, assert_waits_for_the_word, recovered, resume, wait_for_complaint,
};
use standby::{AT_ONCE, assert_only_meeting, calls, catch_up, fail_over, standby_of};
use uuid::Uuid;

struct Past {
    app: App,
    student: Person,
    tutors: [Person; 2],
    /// Of Google and Zoom: open when the backup was made, and not claimed.
    sessions: [Uuid; 2],
    backup: Cluster,
}

/// An application whose server archives, with open jobs and a base backup.
fn past() -> Past {
    let app = App::with(|options| archiving(options).set("meetlink.enabled", "off"));
    let student = app.person("student", "Sam");
    let tutors = [Google, Zoom].map(|p| app.tutor(p, &format!("{p:?} Tutor")));
    let sessions = tutors.map(|tutor| app.book(tutor, student));
    app.wait_until(
        "both jobs to be open",
        "SELECT count(*) = 2 FROM meetlink.jobs WHERE state = 'pending'",
    );
    let backup = Cluster::base_backup(&app.cluster, options_for(&app.simulator));
    Past {
        app,
        student,
        tutors,
        sessions,
        backup,
    }
}

impl Past {
    /// The server makes the links; gives them.
    fn go_on(&mut self) -> [String; 2] {
        self.app.cluster.set("meetlink.enabled", "on");
        self.sessions.map(|session| self.app.wait_for_link(session))
    }

    /// Goes back as `target` says. The original stays as it is, and is given back.
    fn go_back(self, target: &[(&str, &str)]) -> (App, Cluster) {
        archive_all(&self.app.cluster);
        let mut app = self.app;
        let restored = recovered(&app, self.backup, target);
        let original = std::mem::replace(&mut app.cluster, restored);
        (app, original)
    }
}

fn restore_point(app: &App) {
    app.cluster
        .psql("postgres", "SELECT pg_create_restore_point('before')");
}

const TO_THE_POINT: &[(&str, &str)] = &[("recovery_target_name", "before")];

fn timeline(cluster: &Cluster) -> String {
    cluster.psql(
        "postgres",
        "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)::int",
    )
}

#[test]
fn a_server_put_back_to_a_restore_point_waits_and_then_adopts() {
    let mut past = past();
    restore_point(&past.app);
    let links = past.go_on();
    let (sessions, tutors, student) = (past.sessions, past.tutors, past.student);
    let (app, original) = past.go_back(TO_THE_POINT);
    assert_eq!(timeline(&app.cluster), "2");
    assert_waits_for_the_word(&app, || app.book(tutors[0], student));
    for session in sessions {
        let link = life::link(&mut app.client(), session);
        assert_eq!(link, None, "it is back before its link");
    }
    resume(&app);
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
    life::wait_for_links(&app, 3, meetlink_e2e::app::SOON);
    assert_only_meeting(&app, Zoom, sessions[1]);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
    drop(original);
}

#[test]
fn a_server_put_back_to_a_time_waits_too() {
    let mut past = past();
    let time = past
        .app
        .cluster
        .psql("postgres", "SELECT clock_timestamp()");
    let links = past.go_on();
    let (sessions, tutors, student) = (past.sessions, past.tutors, past.student);
    let (app, _original) = past.go_back(&[("recovery_target_time", &time)]);
    assert_waits_for_the_word(&app, || app.book(tutors[1], student));
    resume(&app);
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
    life::wait_for_links(&app, 3, meetlink_e2e::app::SOON);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn a_server_recovered_to_the_archives_end_needs_no_word() {
    let mut past = past();
    // The links come after the last segment that the archive has: they are lost.
    archive_all(&past.app.cluster);
    let links = past.go_on();
    let Past {
        mut app,
        student,
        tutors,
        sessions,
        backup,
    } = past;
    app.cluster.crash();
    app.cluster = recovered(&app, backup, &[]);
    let begun = std::time::Instant::now();
    assert_eq!(timeline(&app.cluster), "2");
    app.wait_for_link(app.book(tutors[0], student));
    println!("a link {:?} after recovery", begun.elapsed());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
    assert_only_meeting(&app, Zoom, sessions[1]);
    let creates = calls(&app, Zoom).into_iter().filter(|c| *c == Call::Create);
    assert_eq!(creates.count(), 1);
}

#[test]
fn neither_a_restart_nor_a_failover_says_the_word() {
    let past = past();
    restore_point(&past.app);
    let (tutors, student, sessions) = (past.tutors, past.student, past.sessions);
    let (mut app, _original) = past.go_back(TO_THE_POINT);
    wait_for_complaint(&app);
    app.cluster.restart(StopMode::Fast);
    wait_for_complaint(&app);
    let standby = standby_of(&app);
    catch_up(&app, &standby);
    fail_over(&mut app, standby);
    assert_eq!(timeline(&app.cluster), "3");
    assert_waits_for_the_word(&app, || app.book(tutors[1], student));
    assert_eq!(app.simulator.journal_len(), 0, "nobody was ever called");
    resume(&app);
    for session in sessions {
        app.wait_for_link(session);
    }
    life::wait_for_links(&app, 3, meetlink_e2e::app::SOON);
}

#[test]
fn a_server_that_fails_over_before_its_worker_could_look_waits_all_the_same() {
    let past = past();
    restore_point(&past.app);
    let (tutors, student) = (past.tutors, past.student);
    archive_all(&past.app.cluster);
    let mut app = past.app;
    // Nothing of meetlink runs where the clock was put back, so nobody notes it down.
    let mut backup = past.backup;
    backup.set("shared_preload_libraries", "");
    app.cluster = recovered(&app, backup, TO_THE_POINT);
    let standby = standby_of(&app);
    catch_up(&app, &standby);
    fail_over(&mut app, standby);
    assert_waits_for_the_word(&app, || app.book(tutors[1], student));
}

#[test]
fn a_word_once_said_holds_through_failovers() {
    let past = past();
    restore_point(&past.app);
    let (tutors, student) = (past.tutors, past.student);
    let (mut app, _original) = past.go_back(TO_THE_POINT);
    wait_for_complaint(&app);
    resume(&app);
    life::wait_for_links(&app, 2, meetlink_e2e::app::SOON);
    for tutor in tutors {
        let standby = standby_of(&app);
        catch_up(&app, &standby);
        let promoted = fail_over(&mut app, standby);
        app.wait_for_link(app.book(tutor, student));
        println!("a link {:?} after a failover", promoted.elapsed());
    }
}

#[test]
fn a_second_step_back_asks_for_the_word_again() {
    let past = past();
    restore_point(&past.app);
    let (tutors, student) = (past.tutors, past.student);
    let (mut app, original) = past.go_back(TO_THE_POINT);
    wait_for_complaint(&app);
    resume(&app);
    life::wait_for_links(&app, 2, meetlink_e2e::app::SOON);
    drop(original);

    // What was put back and taken up again is archived now, and put back once more.
    app.cluster.stop(StopMode::Fast);
    app.cluster.unset("recovery_target_name");
    app.cluster.reload_with(&[
        ("archive_mode", "on"),
        (
            "archive_command",
            "mkdir -p ../archive && cp %p ../archive/%f",
        ),
        ("meetlink.enabled", "off"),
    ]);
    app.cluster.start_again();
    let session = app.book(tutors[1], student);
    app.wait_until(
        "the job to be open",
        "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE state = 'pending')",
    );
    let backup = Cluster::base_backup(&app.cluster, options_for(&app.simulator));
    restore_point(&app);
    app.cluster.set("meetlink.enabled", "on");
    let link = app.wait_for_link(session);
    archive_all(&app.cluster);
    app.cluster = recovered(&app, backup, TO_THE_POINT);
    assert_eq!(timeline(&app.cluster), "3");
    assert_waits_for_the_word(&app, || app.book(tutors[0], student));
    resume(&app);
    assert_eq!(app.wait_for_link(session), link);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn a_base_backup_that_is_simply_started_makes_no_second_meeting() {
    // Same system identifier, same timeline: only the backup's label tells.
    let mut past = past();
    let links = past.go_on();
    let Past {
        mut app,
        sessions,
        mut backup,
        ..
    } = past;
    backup.start_again();
    let original = std::mem::replace(&mut app.cluster, backup);
    assert_eq!(timeline(&app.cluster), "1");
    wait_for_complaint(&app);
    resume(&app);
    assert_eq!(sessions.map(|session| app.wait_for_link(session)), links);
    assert_only_meeting(&app, Zoom, sessions[1]);
    drop(original);
}
