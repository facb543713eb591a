//! The wall clock is stepped, forth or back, while the worker waits for something or after a restart
//! with a wrong clock. Waits are meant in real time; dates that a wrong clock has written hold
//! nothing up.

#[path = "support/clock.rs"]
mod clock;
#[path = "support/strace.rs"]
mod strace;
#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use clock::Clock;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{ClusterOptions, StopMode, wait};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Provider, RateLimit, Rule};
use support::{count, creates, wait_for_attempts};

/// The application, on a server with a clock of its own that its worker follows. `None`, said on
/// stderr, where what that takes is not installed.
fn start(settings: &[(&str, &str)]) -> Option<(App, Clock)> {
    let clock = Clock::new()?;
    let app = App::with(|options| {
        let with = |options: ClusterOptions, (name, value): &(&str, &str)| options.set(name, value);
        settings.iter().fold(clock.options(options), with)
    });
    clock.lead_the_worker(&app)?;
    Some((app, clock))
}

/// Steps the clock; returns when a new session of the server sees it.
fn step(app: &App, clock: &Clock, offset: &str) {
    let seen = |app: &App| app.value::<f64>("SELECT extract(epoch FROM clock_timestamp())::float8");
    let before = seen(app);
    clock.set(offset);
    wait::until_true(SOON, "the clock to be stepped", || {
        (seen(app) - before).abs() > 3_600.0
    });
}

/// Seconds between two requests of an account that make something, in real time.
fn gap(app: &App, provider: Provider, account: &str) -> f64 {
    let calls = creates(app, provider, account);
    (calls[1].received_at.mono_ns - calls[0].received_at.mono_ns) as f64 / 1e9
}

/// An answer that asks for a wait, so that it does not hang on chance.
fn busy_for(seconds: u32) -> Action {
    Action::Status {
        status: 503,
        headers: vec![("retry-after".into(), seconds.to_string())],
        body: String::new(),
        effect: false,
    }
}

/// A retry that is due in five seconds is due in five seconds whatever the clock says meanwhile.
#[test]
fn a_retry_is_due_in_real_time_whatever_the_clock_does() {
    for offset in ["-1d", "+1d"] {
        let Some((app, clock)) = start(&[("meetlink.backoff_max", "10s")]) else {
            return;
        };
        let student = app.person("student", "Sam");
        let tutor = app.tutor(Google, "Ann");
        let limit = busy_for(4);
        app.simulator.fault(Rule::once(Google, Call::Create, limit));
        let session = app.book_in(tutor, student, Duration::from_secs(3 * 86_400));
        wait_for_attempts(&app, session, 1);
        step(&app, &clock, offset);
        app.wait_for_link(session);
        let waited = gap(&app, Google, "Ann");
        assert!((3.9..7.0).contains(&waited), "{offset}: after {waited} s");
        assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
    }
}

/// The limit of a tutor, or of a provider, ends in real time as well.
#[test]
fn a_limit_ends_in_real_time_whatever_the_clock_does() {
    for offset in ["-1d", "+1d"] {
        let Some((app, clock)) = start(&[]) else {
            return;
        };
        let student = app.person("student", "Sam");
        let tutor = app.tutor(Google, "Ann");
        let form = RateLimit::Seconds(4);
        let limit = Action::RateLimit { form };
        app.simulator.fault(Rule::once(Google, Call::Create, limit));
        let far = Duration::from_secs(3 * 86_400);
        let session = app.book_in(tutor, student, far);
        wait_for_attempts(&app, session, 1);
        step(&app, &clock, offset);
        // A second session of the same tutor waits for the same limit.
        let second = app.book_in(tutor, student, far);
        for session in [session, second] {
            app.wait_for_link(session);
        }
        let waited = gap(&app, Google, "Ann");
        assert!((3.9..7.0).contains(&waited), "{offset}: after {waited} s");
        assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
    }
}

/// Zoom's list shows nothing for a while: a clock that says that the while is over must not have
/// the meeting made again before it is.
#[test]
fn doubt_settles_in_real_time_whatever_the_clock_does() {
    for offset in ["+1d", "-1d"] {
        let Some((app, clock)) = start(&[("meetlink.settle_time", "3s")]) else {
            return;
        };
        let student = app.person("student", "Sam");
        let tutor = app.tutor(Zoom, "Zoe");
        let closed = Action::Close { effect: false };
        app.simulator.fault(Rule::once(Zoom, Call::Create, closed));
        let session = app.book_in(tutor, student, Duration::from_secs(3 * 86_400));
        app.wait_for_state(session, "in_doubt");
        step(&app, &clock, offset);
        // A person who is in a hurry changes nothing about it.
        support::retry(&app, session);
        app.wait_for_link(session);
        let waited = gap(&app, Zoom, "Zoe");
        assert!((2.9..8.0).contains(&waited), "{offset}: after {waited} s");
        assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
    }
}

/// A machine that boots with its clock a day off, and has it put right later: what was written with
/// the wrong time holds nothing up, and takes no doubt as settled.
#[test]
fn what_a_wrong_clock_wrote_before_a_restart_holds_nothing_up() {
    for (wrong, right) in [("+1d", "+0"), ("-1d", "+0")] {
        let Some((mut app, clock)) = start(&[
            ("meetlink.settle_time", "2s"),
            ("meetlink.backoff_max", "10s"),
        ]) else {
            return;
        };
        step(&app, &clock, wrong);
        let student = app.person("student", "Sam");
        let (google, zoom) = (app.tutor(Google, "Gia"), app.tutor(Zoom, "Zoe"));
        let lost = Action::Close { effect: false };
        app.simulator.fault(Rule::once(Zoom, Call::Create, lost));
        let busy = busy_for(3);
        app.simulator.fault(Rule::once(Google, Call::Create, busy));
        let far = Duration::from_secs(5 * 86_400);
        let sessions = [
            app.book_in(google, student, far),
            app.book_in(zoom, student, far),
        ];
        app.wait_for_state(sessions[0], "retrying");
        app.wait_for_state(sessions[1], "in_doubt");
        app.cluster.stop(StopMode::Fast);
        clock.set(right);
        app.cluster.start_again();
        let begun = Instant::now();
        for session in sessions {
            app.wait_for_link(session);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{wrong}: {took:?}");
        for provider in [Google, Zoom] {
            assert_eq!(app.simulator.meetings_ever(provider).len(), 1, "{wrong}");
        }
        let waited = gap(&app, Zoom, "Zoe");
        assert!(waited >= 1.9, "{wrong}: posted again after {waited} s");
    }
}

/// A clock far in the future makes every token look stale and every new one, too: the provider says
/// when a token ends by its own clock. That costs a refresh a session, and no more.
#[test]
fn a_wrong_clock_makes_no_loop_of_refreshes() {
    for offset in ["+1d", "-1d"] {
        let Some((app, clock)) = start(&[]) else {
            return;
        };
        let student = app.person("student", "Sam");
        let tutors = [app.tutor(Google, "Gia"), app.tutor(Zoom, "Zoe")];
        step(&app, &clock, offset);
        for tutor in tutors {
            for _ in 0..3 {
                let far = Duration::from_secs(5 * 86_400);
                app.wait_for_link(app.book_in(tutor, student, far));
            }
        }
        for (provider, name) in [(Google, "Gia"), (Zoom, "Zoe")] {
            let refreshes = count(&app, provider, Call::Token);
            assert!(refreshes <= 3, "{name} {offset}: {refreshes} refreshes");
            assert_eq!(app.simulator.total_token_use(provider).killed_token_used, 0);
            assert_eq!(count(&app, provider, Call::Create), 3);
        }
    }
}

/// The clock jumps while the list is being read: what began before the step is judged by the clock
/// that it began with.
#[test]
fn a_step_while_the_list_is_read_settles_nothing() {
    let Some((app, clock)) = start(&[("meetlink.settle_time", "3s")]) else {
        return;
    };
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Zoom, "Zoe");
    let closed = Action::Close { effect: false };
    app.simulator.fault(Rule::once(Zoom, Call::Create, closed));
    let slow = Action::Delay { ms: 1_000 };
    let look = app.simulator.fault(Rule::once(Zoom, Call::List, slow));
    let session = app.book_in(tutor, student, Duration::from_secs(3 * 86_400));
    app.wait_for_state(session, "in_doubt");
    // So that it looks before the settling time is over.
    support::retry(&app, session);
    wait::until_true(SOON, "the list", || app.simulator.fired(look) == 1);
    step(&app, &clock, "+1d");
    app.wait_for_link(session);
    let waited = gap(&app, Zoom, "Zoe");
    assert!((2.9..8.0).contains(&waited), "after {waited} s");
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
}

/// For a moment the clock says that the session is over. When it is right again, so is the session:
/// nobody has to notice that it was left without a link.
#[test]
fn a_session_that_a_wrong_clock_took_for_over_gets_its_link() {
    let Some((app, clock)) = start(&[]) else {
        return;
    };
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Google, "Gia");
    let busy = busy_for(2);
    app.simulator.fault(Rule::once(Google, Call::Create, busy));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    step(&app, &clock, "+1d");
    app.wait_for_state(session, "not_needed");
    step(&app, &clock, "+0");
    // Something else wakes the worker, which sees the step.
    app.wait_for_link(app.book(tutor, student));
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
}
