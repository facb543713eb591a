//! A worker that is stopped for longer than its lease, as by a debugger, a frozen container or a
//! machine that sleeps. It is not dead: nobody may take its job, and it goes on when it is let go.

#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use life::launcher;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use rustix::process::{Pid, Signal, kill_process};
use support::{classes, count};

/// A process that is stopped as long as this value lives.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: i32) -> Self {
        let pid = Pid::from_raw(pid).expect("a pid");
        kill_process(pid, Signal::STOP).expect("it is stopped");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended meanwhile.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// How many workers there are for the application's database.
fn workers(app: &App) -> i64 {
    app.value(
        "SELECT count(*) FROM pg_stat_activity
          WHERE backend_type = 'meetlink worker' AND datname = 'app'",
    )
}

/// Makes the lease of everything under way end in the past, and has the launcher come back, so that
/// whoever might take the work over looks at it.
fn age_the_lease(app: &App) {
    let changed = app
        .client()
        .execute(
            "UPDATE meetlink.jobs SET lease_until = now() - interval '1 hour'
              WHERE state = 'creating'",
            &[],
        )
        .expect("an update");
    assert!(changed >= 1, "something is under way");
    let old = launcher(&app.cluster);
    app.client()
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE backend_type = 'meetlink launcher'",
        )
        .expect("the launcher is terminated");
    wait::until_true(SOON, "another launcher", || {
        let now = launcher(&app.cluster);
        now.is_some() && now != old
    });
}

/// The worker is stopped while a request is under way, its answer arrives, the lease ends, sessions
/// are booked, people ask for retries: nobody does anything. Then it goes on.
#[test]
fn a_worker_stopped_past_its_lease_keeps_its_job_and_makes_one_meeting() {
    for provider in [Google, Zoom] {
        for effect in [
            "the answer waits in the socket",
            "the request is still being answered",
        ] {
            let app = App::start();
            let (tutor, student) = (app.tutor(provider, "Ann"), app.person("student", "Sam"));
            let worker = app.worker_pid();
            let slow = Action::Delay { ms: 1_000 };
            app.simulator
                .fault(Rule::once(provider, Call::Create, slow));
            let session = app.book(tutor, student);
            wait::until_true(SOON, "a request", || {
                app.simulator.in_flight(provider).now == 1
            });
            let stopped = Stopped::stop(worker);
            if effect.starts_with("the answer") {
                wait::until_true(SOON, "the answer", || {
                    app.simulator.in_flight(provider).now == 0
                });
            }
            age_the_lease(&app);
            let later = app.book(tutor, student);
            for session in [session, later] {
                let asked = app
                    .client()
                    .query_one("SELECT meetlink_retry($1)", &[&session]);
                asked.expect("a retry can be asked for");
            }
            assert_eq!(workers(&app), 1, "no second worker");
            assert_eq!(life::worker_of(&app.cluster, "app"), Some(worker));
            assert_eq!(count(&app, provider, Call::Any), 1, "{effect}");
            let status = app.status(session);
            assert_eq!(status["state"], "creating", "{effect}: {status}");
            drop(stopped);
            for session in [session, later] {
                app.wait_for_link(session);
            }
            assert_eq!(app.simulator.meetings_ever(provider).len(), 2, "{effect}");
            assert_eq!(count(&app, provider, Call::Create), 2, "{effect}");
            assert_eq!(classes(&app, session), ["made"], "{effect}");
            assert_eq!(app.worker_pid(), worker, "{effect}: the same worker");
        }
    }
}

/// Stopped for so long that the request's time is over when it goes on.
#[test]
fn a_request_whose_time_ran_out_while_the_worker_was_stopped_is_cleared_up() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "500ms"));
    let student = app.person("student", "Sam");
    let sessions = [Google, Zoom].map(|provider| {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let stall = Action::Stall { effect: true };
        app.simulator
            .fault(Rule::once(provider, Call::Create, stall));
        app.book(tutor, student)
    });
    let made = |provider: Provider| app.simulator.meetings_ever(provider).len();
    wait::until_true(SOON, "both meetings", || made(Google) + made(Zoom) == 2);
    let stopped = Stopped::stop(app.worker_pid());
    age_the_lease(&app);
    // The time-out is measured in real time, and it is the worker's own clock that has to show it.
    std::thread::sleep(Duration::from_millis(700));
    drop(stopped);
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!((made(Google), made(Zoom)), (1, 1));
}

/// A stopped worker cannot be ended in order; the server's stop must not lose what it knew.
#[test]
fn a_stopped_worker_and_a_crash_leave_one_meeting() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let sessions = [Google, Zoom].map(|provider| {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let slow = Action::Delay { ms: 300 };
        app.simulator
            .fault(Rule::once(provider, Call::Create, slow));
        app.book(tutor, student)
    });
    wait::until_true(SOON, "both requests", || {
        app.simulator.in_flight(Google).now + app.simulator.in_flight(Zoom).now == 2
    });
    let stopped = Stopped::stop(app.worker_pid());
    wait::until_true(SOON, "both answers", || {
        app.simulator.in_flight(Google).now + app.simulator.in_flight(Zoom).now == 0
    });
    // The postmaster kills who does not heed its SIGQUIT within 5 seconds.
    let took = app.cluster.stop(StopMode::Immediate);
    assert!(took < Duration::from_secs(8), "{took:?}");
    drop(stopped);
    app.cluster.start_again();
    for session in sessions {
        app.wait_for_link(session);
    }
    for provider in [Google, Zoom] {
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
    }
}

/// Asked to end while it is stopped, the worker ends when it is let go, and its successor goes on.
#[test]
fn a_worker_terminated_while_stopped_has_a_successor_that_looks_first() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let sessions = [Google, Zoom].map(|provider| {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let slow = Action::Delay { ms: 300 };
        app.simulator
            .fault(Rule::once(provider, Call::Create, slow));
        app.book(tutor, student)
    });
    wait::until_true(SOON, "both requests", || {
        app.simulator.in_flight(Google).now + app.simulator.in_flight(Zoom).now == 2
    });
    let worker = app.worker_pid();
    let stopped = Stopped::stop(worker);
    app.client()
        .execute("SELECT pg_terminate_backend($1)", &[&worker])
        .expect("it is terminated");
    age_the_lease(&app);
    assert_eq!(workers(&app), 1, "no second worker beside it");
    drop(stopped);
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_ne!(app.worker_pid(), worker);
    for provider in [Google, Zoom] {
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
    }
}
