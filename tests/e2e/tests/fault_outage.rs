//! A provider that is down as a whole, and troubles that only look like it.

#[path = "support/life.rs"]
mod life;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use life::{seed, wait_for_links};
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::free_address;
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use proxy::Proxy;
use support::{count, creates, stale_tutor};
use uuid::Uuid;

const ATTEMPTS: i64 = 6;
/// Sessions that wait for the provider that is down.
const WAITING: i64 = 50;

fn start() -> App {
    App::with(|options| {
        options
            .set("meetlink.max_attempts", &ATTEMPTS.to_string())
            .set("meetlink.concurrency", "8")
            .set("meetlink.request_timeout", "1s")
    })
}

/// Fifty sessions of five tutors.
fn fifty(app: &App, provider: Provider, student: Person) -> Vec<Uuid> {
    let mut client = app.client();
    // All of them first: the sessions are to come together.
    let tutors: Vec<Person> = (0..5)
        .map(|n| app.tutor(provider, &format!("{provider:?} {n}")))
        .collect();
    let each = i32::try_from(WAITING / 5).expect("a few");
    tutors
        .into_iter()
        .flat_map(|tutor| seed(&mut client, (tutor, student), provider, each))
        .collect()
}

/// Waits until meetlink knows that a provider is down.
fn opens(app: &App, provider: &str) {
    app.wait_until(
        "the breaker to open",
        &format!(
            "SELECT EXISTS (SELECT FROM meetlink.holds WHERE provider = '{provider}'
                AND tutor_id IS NULL AND reason = 'provider_down')"
        ),
    );
}

/// No attempt is burnt: whatever waits may still be tried as often as ever.
fn assert_nothing_burnt(app: &App) {
    let most: i64 = app.value("SELECT max(attempts)::bigint FROM meetlink.jobs");
    assert!(most < ATTEMPTS, "{most} attempts used up");
    let failed: i64 = app.value("SELECT count(*) FROM meetlink.jobs WHERE state = 'failed'");
    assert_eq!(failed, 0);
}

/// Sessions of another provider, one after another for as long as `time`, get their links at once.
/// Gives the longest wait.
fn others_are_served(app: &App, tutor: Person, student: Person, time: Duration) -> Duration {
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while begun.elapsed() < time {
        let booked = Instant::now();
        app.wait_for_link(app.book(tutor, student));
        longest = longest.max(booked.elapsed());
    }
    assert!(
        longest < Duration::from_secs(1),
        "one waited for {longest:?}"
    );
    longest
}

/// Everything has its link soon after the provider is back, and one meeting.
fn recovers(app: &App, provider: Provider, sessions: &[Uuid], deadline: Duration) {
    let begun = Instant::now();
    let mut client = app.client();
    wait::until_true(deadline, "every link", || {
        let query = "SELECT count(DISTINCT join_url) FROM sessions WHERE id = ANY ($1)";
        let row = client.query_one(query, &[&sessions]);
        row.is_ok_and(|row| row.get::<_, i64>(0) == sessions.len() as i64)
    });
    println!(
        "{} links after the outage: {:?}",
        sessions.len(),
        begun.elapsed()
    );
    assert_eq!(app.simulator.meetings_ever(provider).len(), sessions.len());
    app.wait_until(
        "the breaker to close",
        "SELECT NOT EXISTS (SELECT FROM meetlink.holds WHERE reason = 'provider_down' AND until > now())",
    );
}

/// How long the outages last: more than the time in which the attempts would be used up.
const OUTAGE: Duration = Duration::from_secs(5);
/// Longest wait between two probes here, a settling time, and the work itself.
const BACK: Duration = Duration::from_secs(8);

#[test]
fn a_provider_that_answers_503_is_left_alone_and_nothing_is_burnt() {
    for (down, up) in [(Zoom, Google), (Google, Zoom)] {
        let app = start();
        let student = app.person("student", "Sam");
        let witness = app.tutor(up, "Witness");
        let action = Action::ServerError { status: 503 };
        app.simulator.fault(Rule::always(down, Call::Any, action));
        let sessions = fifty(&app, down, student);
        opens(&app, meetlink_e2e::app::name_of(down));
        // What was under way by then has come back.
        wait::until_true(SOON, "quiet", || app.simulator.in_flight(down).now == 0);
        let before = count(&app, down, Call::Any);
        let longest = others_are_served(&app, witness, student, OUTAGE);
        let probes = count(&app, down, Call::Any) - before;
        println!("{down:?} down: {before} requests, then {probes} probes; {up:?} took {longest:?}");
        // One tutor's twenty sessions in a row, the eight that may be under way then, and a probe or
        // two while it became quiet.
        assert!(before <= 30, "{before} requests until it was noticed");
        assert!(
            (1..=15).contains(&probes),
            "{probes} requests while it was open"
        );
        assert_nothing_burnt(&app);
        let held = app.status(sessions[49]);
        assert!(
            ["pending", "retrying"].contains(&held["state"].as_str().unwrap_or("")),
            "{held}"
        );
        app.simulator.clear_faults();
        recovers(&app, down, &sessions, BACK);
    }
}

#[test]
fn a_provider_that_stalls_takes_no_place_from_the_other() {
    for (down, up) in [(Zoom, Google), (Google, Zoom)] {
        let app = start();
        let student = app.person("student", "Sam");
        let witness = app.tutor(up, "Witness");
        let action = Action::Stall { effect: false };
        app.simulator.fault(Rule::always(down, Call::Any, action));
        let sessions = fifty(&app, down, student);
        // From the first moment on, when it would take every place there is.
        wait::until_true(SOON, "stalled requests", || {
            app.simulator.in_flight(down).now >= 4
        });
        let longest = others_are_served(&app, witness, student, OUTAGE);
        opens(&app, meetlink_e2e::app::name_of(down));
        let asked = count(&app, down, Call::Any);
        println!("{down:?} stalls: {asked} requests; {up:?} took {longest:?}");
        assert!(asked <= 25, "{asked} requests to a provider that stalls");
        assert_nothing_burnt(&app);
        app.simulator.clear_faults();
        recovers(&app, down, &sessions, BACK);
    }
}

/// Nobody listens at Zoom's address, and somebody does later.
#[test]
fn a_provider_that_refuses_connections_is_back_without_anybody_acting() {
    let mut app = start();
    let student = app.person("student", "Sam");
    let witness = app.tutor(Google, "Witness");
    let free = free_address();
    let at = app.simulator.address();
    let nowhere = app
        .simulator
        .zoom_api_url()
        .replace(&at.to_string(), &free.to_string());
    app.cluster.set("meetlink.zoom_api_url", &nowhere);
    let sessions = fifty(&app, Zoom, student);
    opens(&app, "zoom");
    others_are_served(&app, witness, student, OUTAGE);
    assert_nothing_burnt(&app);
    let _back = Proxy::start_at(free, at);
    recovers(&app, Zoom, &sessions, BACK);
    // Nothing was sent, so there was never a doubt.
    let doubts: i64 = app.value("SELECT count(*) FROM meetlink.attempts WHERE class = 'in_doubt'");
    assert_eq!(doubts, 0);
    assert_eq!(count(&app, Zoom, Call::Create), 50);
}

/// The token endpoint is another server: while it is down, tutors whose access tokens are good are
/// served, and nobody's attempts are used up.
#[test]
fn an_outage_of_the_token_endpoint_stops_only_who_needs_it() {
    let app = start();
    let student = app.person("student", "Sam");
    let witness = app.tutor(Zoom, "Witness");
    let action = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::always(Zoom, Call::Token, action));
    // Together, so that five have failed before one has failed often.
    let tutors: Vec<Person> = (0..12)
        .map(|n| stale_tutor(&app, Zoom, &format!("Stale {n}")).0)
        .collect();
    let sessions: Vec<Uuid> = tutors
        .into_iter()
        .map(|tutor| app.book(tutor, student))
        .collect();
    opens(&app, "zoom");
    wait::until_true(SOON, "quiet", || app.simulator.in_flight(Zoom).now == 0);
    let before = count(&app, Zoom, Call::Token);
    others_are_served(&app, witness, student, OUTAGE);
    let probes = count(&app, Zoom, Call::Token) - before;
    println!("{before} refreshes until it was noticed, then {probes}");
    assert!(
        (1..=15).contains(&probes),
        "{probes} refreshes while it was open"
    );
    assert_nothing_burnt(&app);
    app.simulator.clear_faults();
    let others = app.simulator.meetings_ever(Zoom).len();
    for session in &sessions {
        app.wait_for_link(*session);
    }
    assert_eq!(
        app.simulator.meetings_ever(Zoom).len(),
        others + sessions.len()
    );
    assert_eq!(app.simulator.total_token_use(Zoom).refreshes, 12);
    assert_eq!(app.simulator.total_token_use(Zoom).killed_token_used, 0);
    app.wait_until(
        "the breaker to close",
        "SELECT NOT EXISTS (SELECT FROM meetlink.holds WHERE reason = 'provider_down' AND until > now())",
    );
}

/// One session's create fails whenever it is tried, and nothing else does: that is its own trouble.
#[test]
fn a_session_that_always_fails_is_given_up_and_opens_no_breaker() {
    for provider in [Google, Zoom] {
        let app = App::with(|options| {
            options
                .set("meetlink.max_attempts", "6")
                .set("meetlink.settle_time", "100ms")
        });
        let student = app.person("student", "Sam");
        let (poor, witness) = (app.tutor(provider, "Poor"), app.tutor(provider, "Witness"));
        let action = Action::ServerError { status: 500 };
        app.simulator
            .fault(Rule::always(provider, Call::Create, action).account("Poor"));
        let session = app.book(poor, student);
        wait::until_true(SOON, "the session to be given up", || {
            let held: i64 = app.value("SELECT count(*) FROM meetlink.holds WHERE tutor_id IS NULL");
            assert_eq!(held, 0, "{provider:?}: the provider is not down");
            app.status(session)["state"] == "failed"
        });
        let tried = creates(&app, provider, "Poor").len();
        assert!((3..=6).contains(&tried), "{provider:?}: {tried} creates");
        app.wait_for_link(app.book(witness, student));
    }
}

/// A limit of one tutor's: that tutor's sessions wait, all of them, and nobody else's.
#[test]
fn a_limit_of_one_tutor_delays_that_tutor_alone() {
    for provider in [Google, Zoom] {
        let app = start();
        let student = app.person("student", "Sam");
        let (limited, witness) = (
            app.tutor(provider, "Limited"),
            app.tutor(provider, "Witness"),
        );
        let action = Action::Status {
            status: 429,
            headers: vec![("retry-after".into(), "4".into())],
            body: r#"{"code": 429, "message": "You have reached the daily rate limit."}"#.into(),
            effect: false,
        };
        app.simulator
            .fault(Rule::once(provider, Call::Create, action).account("Limited"));
        let first = app.book(limited, student);
        app.wait_for_state(first, "retrying");
        let mut client = app.client();
        let more = seed(&mut client, (limited, student), provider, 5);
        others_are_served(&app, witness, student, Duration::from_secs(3));
        assert_eq!(creates(&app, provider, "Limited").len(), 1, "{provider:?}");
        assert_nothing_burnt(&app);
        for session in more.into_iter().chain([first]) {
            app.wait_for_link(session);
        }
        let gaps = creates(&app, provider, "Limited");
        let gap = gaps[1].received_at.mono_ns - gaps[0].received_at.mono_ns;
        assert!(gap >= 4_000_000_000, "{provider:?}: after {gap} ns");
    }
}

/// Zoom counts the requests of a second by account: whoever meets that limit, and goes on meeting it,
/// is one tutor.
#[test]
fn a_limit_by_the_second_delays_its_tutor_alone() {
    let app = start();
    let student = app.person("student", "Sam");
    let (limited, witness) = (app.tutor(Zoom, "Limited"), app.tutor(Zoom, "Witness"));
    let form = meetlink_simulator::RateLimit::ZoomPerSecond;
    app.simulator
        .fault(Rule::always(Zoom, Call::Create, Action::RateLimit { form }).account("Limited"));
    let session = app.book(limited, student);
    app.wait_for_state(session, "retrying");
    others_are_served(&app, witness, student, Duration::from_secs(3));
    let everybody: i64 = app.value("SELECT count(*) FROM meetlink.holds WHERE tutor_id IS NULL");
    assert_eq!(everybody, 0);
    let calls = creates(&app, Zoom, "Limited");
    for pair in calls.windows(2) {
        let gap = pair[1].received_at.mono_ns - pair[0].received_at.mono_ns;
        assert!(gap >= 1_000_000_000, "after {gap} ns");
    }
    assert_nothing_burnt(&app);
    app.simulator.clear_faults();
    app.wait_for_link(session);
}

/// Everybody's limit is not an outage: it ends when the provider said.
#[test]
fn fifty_sessions_against_a_limit_of_everybody_all_get_through() {
    let app = start();
    let student = app.person("student", "Sam");
    let limit = Action::Status {
        status: 403,
        headers: vec![("retry-after".into(), "1".into())],
        body: r#"{"error": {"code": 403, "errors": [{"reason": "dailyLimitExceeded"}]}}"#.into(),
        effect: false,
    };
    app.simulator
        .fault(Rule::always(Google, Call::Create, limit).times(20));
    let sessions = fifty(&app, Google, student);
    wait_for_links(&app, WAITING, Duration::from_secs(30));
    assert_nothing_burnt(&app);
    assert_eq!(app.simulator.meetings_ever(Google).len(), sessions.len());
    let everybody: i64 = app.value("SELECT count(*) FROM meetlink.holds WHERE tutor_id IS NULL");
    assert_eq!(everybody, 1, "the application as a whole was to wait");
}

/// People who ask for another try meanwhile burn nothing, and a server that is restarted in the
/// middle of it does not forget.
#[test]
fn retries_by_hand_and_a_restart_during_an_outage_burn_nothing() {
    let mut app = start();
    let student = app.person("student", "Sam");
    let action = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::always(Zoom, Call::Any, action));
    let sessions = fifty(&app, Zoom, student);
    opens(&app, "zoom");
    for round in 1..=6 {
        let before = support::ledger(&app, sessions[0]).len();
        support::retry(&app, sessions[0]);
        wait::until_true(SOON, "the try", || {
            support::ledger(&app, sessions[0]).len() > before
        });
        assert_nothing_burnt(&app);
        if round % 2 == 0 {
            app.cluster.restart(meetlink_e2e::StopMode::Fast);
        }
    }
    assert_nothing_burnt(&app);
    let asked = count(&app, Zoom, Call::Any);
    println!("{asked} requests with six retries and three restarts");
    assert!(asked <= 100, "{asked} requests");
    app.simulator.clear_faults();
    recovers(&app, Zoom, &sessions, BACK);
}
