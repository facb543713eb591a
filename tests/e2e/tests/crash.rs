//! A server that dies in the middle of many requests loses no session and makes none twice.

#[path = "support/life.rs"]
mod life;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use life::{seed, wait_for_links};
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Latency, Options, Rule};

fn slow(api_ms: u64) -> Options {
    let latency = Latency {
        api_ms,
        token_ms: api_ms,
    };
    Options {
        google_latency: latency,
        zoom_latency: latency,
        keep_bodies: false,
        ..Options::default()
    }
}

/// How many tutors share the sessions of a provider.
const TUTORS: i32 = 5;

fn tutors(app: &App, provider: Provider) -> Vec<Person> {
    (0..TUTORS)
        .map(|n| app.tutor(provider, &format!("{provider:?} {n}")))
        .collect()
}

/// Asserts that each of the provider's sessions has exactly one meeting, which is its own.
fn assert_one_each(app: &App, provider: Provider, sessions: usize) {
    let meetings = app.simulator.meetings_ever(provider);
    let mut by_link: HashMap<String, usize> = HashMap::new();
    for meeting in &meetings {
        *by_link
            .entry(meeting.join_url.clone().unwrap_or_default())
            .or_default() += 1;
    }
    let rows = app
        .client()
        .query(
            "SELECT join_url FROM sessions WHERE provider = $1",
            &[&meetlink_e2e::app::name_of(provider)],
        )
        .unwrap();
    let mut links: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    links.sort();
    links.dedup();
    assert_eq!(
        links.len(),
        sessions,
        "{provider:?}: links are all different"
    );
    let strays = links.iter().filter(|link| by_link.get(*link) != Some(&1));
    assert_eq!(strays.count(), 0, "{provider:?}: every link is a meeting's");
    assert_eq!(meetings.len(), sessions, "{provider:?}: no second meeting");
}

#[test]
fn two_thousand_sessions_survive_crashes_with_one_meeting_each() {
    let mut app = App::with_simulator(slow(100), |options| {
        options
            .set("fsync", "on")
            .set("meetlink.concurrency", "32")
            .set("meetlink.settle_time", "1s")
    });
    let student = app.person("student", "Sam");
    let mut client = app.client();
    for provider in [Google, Zoom] {
        for tutor in tutors(&app, provider) {
            seed(&mut client, (tutor, student), provider, 1_000 / TUTORS);
        }
    }
    drop(client);
    let begun = Instant::now();
    // About a second's worth each time, at 320 requests a second.
    for requests in [300, 700] {
        wait::until_true(Duration::from_secs(30), "requests to be under way", || {
            app.simulator.journal_len() >= requests
        });
        let in_flight = app.simulator.in_flight(Google).now + app.simulator.in_flight(Zoom).now;
        app.cluster.crash();
        println!("crashed with {in_flight} requests in flight");
        app.cluster.start_again();
    }
    wait_for_links(&app, 2_000, Duration::from_secs(60));
    println!("2,000 links, two crashes: {:?}", begun.elapsed());
    for provider in [Google, Zoom] {
        assert_one_each(&app, provider, 1_000);
    }
    app.wait_until(
        "nothing left to do",
        "SELECT NOT EXISTS (SELECT FROM meetlink.queue)",
    );
}

#[test]
fn a_meeting_whose_answer_the_crash_took_is_found_and_not_made_again() {
    let mut app = App::with_simulator(slow(0), |options| {
        options.set("meetlink.settle_time", "200ms")
    });
    let student = app.person("student", "Sam");
    let mut sessions = Vec::new();
    for provider in [Google, Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let action = Action::Stall { effect: true };
        app.simulator
            .fault(Rule::once(provider, Call::Create, action));
        sessions.push(app.book(tutor, student));
        wait::until_true(SOON, "the meeting to be made", || {
            app.simulator.meetings(provider).len() == 1
        });
    }
    app.cluster.crash();
    app.cluster.start_again();
    for session in sessions {
        app.wait_for_link(session);
    }
    for provider in [Google, Zoom] {
        assert_one_each(&app, provider, 1);
    }
}

#[test]
fn a_worker_that_is_terminated_again_and_again_makes_no_meeting_twice() {
    let app = App::with_simulator(slow(20), |options| {
        options
            .set("meetlink.concurrency", "8")
            .set("meetlink.settle_time", "200ms")
    });
    let student = app.person("student", "Sam");
    for provider in [Google, Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        seed(&mut app.client(), (tutor, student), provider, 60);
    }
    let mut client = app.cluster.connect("postgres", "postgres");
    for requests in [20, 45, 70] {
        wait::until_true(SOON, "requests to be under way", || {
            app.simulator.journal_len() >= requests
        });
        client
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE backend_type = 'meetlink worker'",
            )
            .unwrap();
    }
    wait_for_links(&app, 120, Duration::from_secs(30));
    for provider in [Google, Zoom] {
        assert_one_each(&app, provider, 60);
    }
}

#[test]
fn bookings_committed_just_before_a_crash_are_queued_after_it() {
    let mut app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .unwrap();
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let session = app.book(tutor, student);
    app.cluster.restart(StopMode::Immediate);
    assert_eq!(app.status(session)["state"], "pending");
    assert_eq!(
        life::worker_of(&app.cluster, "app"),
        None,
        "the pause holds"
    );
    app.client()
        .batch_execute("SELECT meetlink_resume()")
        .unwrap();
    app.wait_for_link(session);
}
