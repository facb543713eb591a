//! What waits for a place or has just got its token, where nothing should begin any more.

#[path = "support/life.rs"]
mod life;
#[path = "support/cases.rs"]
mod support;

use life::seed;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Latency, Options, RateLimit, Rule};
use support::prov::{connect, stale_tutor};
use support::trouble;

/// As the worker writes it when a provider is down.
const HOLD: &str = "INSERT INTO meetlink.holds (provider, side, since, until, reason, error)
     VALUES ('zoom', 'meetings', now(), now() + interval '1 hour', 'provider_down', 'x')";

fn slow(api_ms: u64, token_ms: u64) -> Options {
    let latency = Latency { api_ms, token_ms };
    Options {
        google_latency: latency,
        zoom_latency: latency,
        ..Options::default()
    }
}

/// Sessions in a state.
fn count(app: &App, state: &str) -> i64 {
    app.client()
        .query_one(
            "SELECT count(*) FROM meetlink.jobs WHERE state = $1",
            &[&state],
        )
        .expect("a count")
        .get(0)
}

fn switch_off(app: &mut App) {
    app.cluster.set("meetlink.enabled", "off");
    app.wait_until(
        "the worker to be switched off",
        "SELECT state = 'disabled' FROM meetlink.workers",
    );
}

#[test]
fn what_waits_for_a_place_does_not_leave_once_meetlink_is_switched_off() {
    let mut app = App::with_simulator(slow(1_000, 0), |options| options);
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    seed(&mut app.client(), people, Zoom, 100);
    wait::until_true(SOON, "more to be ready than may be sent", || {
        count(&app, "creating") > 30
    });
    assert!(
        app.simulator.in_flight(Zoom).max <= 30,
        "of 32, two are kept"
    );
    switch_off(&mut app);
    let calls = app.simulator.journal_len();
    wait::until_true(SOON, "what is under way to end", || {
        count(&app, "creating") == 0
    });
    assert_eq!(app.simulator.journal_len(), calls, "nobody is called");
    assert_eq!(count(&app, "in_doubt"), 0, "nothing was sent of the others");
    let made = app.simulator.meetings_ever(Zoom).len();
    assert_eq!(count(&app, "ready"), made as i64);
    assert!(made < 100);

    app.cluster.set("meetlink.enabled", "on");
    wait::until_true(SOON, "the other links", || count(&app, "ready") == 100);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 100);
    let again: bool = app.value("SELECT bool_or(attempts <> 1) FROM meetlink.jobs");
    assert!(!again, "no attempt was used up");
}

#[test]
fn a_pause_leaves_nobody_in_doubt() {
    // Longer than half of the patience: a second round would be cut off.
    let app = App::with_simulator(slow(1_800, 0), |options| options);
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    seed(&mut client, people, Zoom, 60);
    wait::until_true(SOON, "more to be ready than may be sent", || {
        count(&app, "creating") > 30
    });
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    app.wait_until(
        "the worker to be gone",
        "SELECT NOT EXISTS (SELECT FROM meetlink.workers WHERE pid IS NOT NULL)",
    );
    client.batch_execute("SELECT meetlink_resume()").unwrap();
    wait::until_true(SOON, "all links", || count(&app, "ready") == 60);
    let doubts: i64 = app.value("SELECT count(*) FROM meetlink.attempts WHERE class <> 'made'");
    assert_eq!(doubts, 0);
}

#[test]
fn a_token_that_came_while_meetlink_was_off_is_not_kept_until_it_is_over() {
    let mut app = App::with_simulator(slow(0, 1_000), |options| options);
    let student = app.person("student", "Sam");
    let (tutor, account) = stale_tutor(&app, Google, "Gus");
    let session = app.book(tutor, student);
    wait::until_true(SOON, "its refresh", || count(&app, "creating") == 1);
    switch_off(&mut app);
    app.wait_for_state(session, "pending");
    app.simulator.expire_access_tokens(&account);
    app.cluster.set("meetlink.enabled", "on");
    app.wait_for_link(session);
}

#[test]
fn a_retry_by_hand_passes_a_hold_after_its_token_was_renewed_too() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoe");
    // Where something waits, the worker looks at holds that somebody else made.
    let other = app.tutor(Zoom, "Zac");
    app.simulator
        .fault(Rule::always(Zoom, Call::Create, trouble()).account("Zac"));
    app.wait_for_state(app.book(other, student), "retrying");
    let mut client = app.client();
    client.batch_execute(HOLD).unwrap();
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    client
        .execute("SELECT meetlink_retry($1)", &[&session])
        .unwrap();
    app.wait_for_link(session);
}

#[test]
fn a_retry_by_hand_while_its_token_is_renewed_passes_a_hold_that_came_meanwhile() {
    let app = App::with_simulator(slow(0, 1_000), |options| options);
    let student = app.person("student", "Sam");
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoe");
    let session = app.book(tutor, student);
    app.wait_for_state(session, "creating");
    let mut client = app.client();
    client.batch_execute(HOLD).unwrap();
    client
        .execute("SELECT meetlink_retry($1)", &[&session])
        .unwrap();
    app.wait_for_link(session);
}

#[test]
fn a_token_that_is_refused_after_meetlink_was_switched_off_is_not_renewed() {
    let mut app = App::with_simulator(slow(1_000, 0), |options| options);
    let student = app.person("student", "Sam");
    let tutor = app.person("tutor", "Gus");
    let account = app.simulator.add_account(Google, AccountSpec::named("Gus"));
    let later = chrono::Utc::now() + chrono::Duration::hours(1);
    let access = Some((account.access_token.as_str(), later));
    connect(&app, tutor, Google, &account.refresh_token, access);
    app.simulator.expire_access_tokens(&account);
    let session = app.book(tutor, student);
    wait::until_true(SOON, "its request", || {
        app.simulator.in_flight(Google).now == 1
    });
    switch_off(&mut app);
    app.wait_for_state(session, "pending");
    assert_eq!(app.simulator.token_use(&account).refreshes, 0);
    app.cluster.set("meetlink.enabled", "on");
    app.wait_for_link(session);
}

#[test]
fn a_retry_by_hand_does_not_wait_for_a_limit_that_the_attempt_before_it_met() {
    let app = App::with_simulator(slow(1_000, 0), |options| options);
    let (tutor, student) = (app.tutor(Google, "Gus"), app.person("student", "Sam"));
    let limit = Action::RateLimit {
        form: RateLimit::GoogleDailyLimitExceeded,
    };
    app.simulator.fault(Rule::once(Google, Call::Create, limit));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "its request", || {
        app.simulator.in_flight(Google).now == 1
    });
    app.client()
        .execute("SELECT meetlink_retry($1)", &[&session])
        .unwrap();
    app.wait_for_link(session);
    let held: bool = app.value("SELECT EXISTS (SELECT FROM meetlink.holds WHERE tutor_id IS NULL)");
    assert!(held, "the provider as a whole was not to be called");
}

#[test]
fn no_refresh_begins_once_meetlink_is_switched_off() {
    let mut app = App::with_simulator(slow(1_500, 0), |options| options);
    let student = app.person("student", "Sam");
    let busy = (app.tutor(Zoom, "Zoe"), student);
    let stale = (0..10).map(|n| stale_tutor(&app, Zoom, &format!("Tutor {n}")).0);
    let stale: Vec<_> = stale.collect();
    let mut client = app.client();
    seed(&mut client, busy, Zoom, 32);
    wait::until_true(SOON, "all places to be taken", || {
        app.simulator.in_flight(Zoom).now == 30
    });
    for tutor in stale {
        seed(&mut client, (tutor, student), Zoom, 1);
    }
    wait::until_true(SOON, "refreshes that wait for a place", || {
        count(&app, "creating") > 32
    });
    switch_off(&mut app);
    wait::until_true(SOON, "what is under way to end", || {
        count(&app, "creating") == 0
    });
    assert_eq!(app.simulator.total_token_use(Zoom).refreshes, 0);
    app.cluster.set("meetlink.enabled", "on");
    wait::until_true(SOON, "all links", || count(&app, "ready") == 42);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 42);
}

#[test]
fn what_got_its_token_and_meets_a_limit_is_made_once_after_it() {
    let app = App::with_simulator(slow(200, 500), |options| options);
    let student = app.person("student", "Sam");
    let (tutor, _) = stale_tutor(&app, Zoom, "Zoe");
    // More than there are places: the rest wait for one, with the token that came for all.
    let limit = Action::RateLimit {
        form: RateLimit::ZoomPerSecond,
    };
    app.simulator
        .fault(Rule::always(Zoom, Call::Create, limit).times(1));
    seed(&mut app.client(), (tutor, student), Zoom, 40);
    wait::until_true(SOON, "all links", || count(&app, "ready") == 40);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 40);
}

#[test]
fn what_waits_for_a_place_goes_by_the_settings_after_a_reload() {
    let mut app = App::with_simulator(slow(1_000, 0), |options| options);
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    seed(&mut app.client(), people, Zoom, 100);
    wait::until_true(SOON, "more to be ready than may be sent", || {
        count(&app, "creating") > 30
    });
    let there = app.simulator.zoom_api_url();
    app.cluster
        .set("meetlink.zoom_api_url", "http://127.0.0.1:1");
    wait::until_true(SOON, "tries elsewhere", || count(&app, "retrying") > 0);
    wait::until_true(SOON, "what is under way to end", || {
        app.simulator.in_flight(Zoom).now == 0
    });
    let calls = app.simulator.calls(Zoom, Call::Create).len();
    assert!(calls <= 30, "{calls} calls by the settings of before");
    app.cluster.set("meetlink.zoom_api_url", &there);
    app.client()
        .batch_execute("SELECT meetlink_retry(id) FROM sessions WHERE join_url IS NULL")
        .unwrap();
    wait::until_true(SOON, "all links", || count(&app, "ready") == 100);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 100);
}

#[test]
fn nothing_that_waits_for_a_place_leaves_while_the_worker_is_in_trouble() {
    let app = App::with_simulator(slow(1_500, 0), |options| options);
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    seed(&mut client, people, Zoom, 60);
    wait::until_true(SOON, "more to be ready than may be sent", || {
        count(&app, "creating") > 30
    });
    client
        .batch_execute("ALTER TABLE meetlink.jobs RENAME COLUMN setbacks TO failures")
        .unwrap();
    app.book(people.0, people.1);
    app.wait_until(
        "the worker to be in trouble",
        "SELECT state = 'waiting' FROM meetlink.workers",
    );
    wait::until_true(SOON, "what is under way to end", || {
        app.simulator.in_flight(Zoom).now == 0
    });
    let calls = app.simulator.calls(Zoom, Call::Create).len();
    assert!(
        calls <= 30,
        "{calls} calls, of which nothing can be written"
    );
    client
        .batch_execute("ALTER TABLE meetlink.jobs RENAME COLUMN failures TO setbacks")
        .unwrap();
    wait::until_true(SOON, "all links", || count(&app, "ready") == 61);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 61);
    let doubts: i64 = app.value("SELECT count(*) FROM meetlink.attempts WHERE class <> 'made'");
    assert_eq!(doubts, 0);
}

/// The token endpoint has rotated the token: an answer that nobody reads costs the tutor's consent.
#[test]
fn a_pause_waits_for_a_token_that_is_being_renewed() {
    let app = App::with_simulator(slow(0, 5_000), |options| options);
    let student = app.person("student", "Sam");
    let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the refresh", || {
        app.simulator.calls(Zoom, Call::Token).len() == 1
    });
    pause_and_resume(&app, "");
    app.wait_for_link(session);
    let tokens = app.simulator.token_use(&account);
    assert_eq!((tokens.refreshes, tokens.killed_token_used), (1, 0));
}

/// A migration is what one pauses for, and has the table locked.
#[test]
fn a_pause_waits_until_a_renewed_token_can_be_stored() {
    let app = App::with_simulator(slow(0, 500), |options| options);
    let student = app.person("student", "Sam");
    let (tutor, account) = stale_tutor(&app, Zoom, "Zoe");
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the refresh", || {
        app.simulator.calls(Zoom, Call::Token).len() == 1
    });
    pause_and_resume(
        &app,
        "BEGIN; SELECT FROM tutor_video_provider_connections FOR UPDATE; SELECT pg_sleep(5); COMMIT",
    );
    app.wait_for_link(session);
    let tokens = app.simulator.token_use(&account);
    assert_eq!((tokens.refreshes, tokens.killed_token_used), (1, 0));
}

/// Says pause, does something meanwhile, and lets go on once the worker is gone.
fn pause_and_resume(app: &App, meanwhile: &str) {
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    client.batch_execute(meanwhile).unwrap();
    app.wait_until(
        "the worker to be gone",
        "SELECT NOT EXISTS (SELECT FROM meetlink.workers WHERE pid IS NOT NULL)",
    );
    client.batch_execute("SELECT meetlink_resume()").unwrap();
}
