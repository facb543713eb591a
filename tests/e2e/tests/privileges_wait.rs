//! `meetlink_wait`: back with the link as soon as it is there, and asleep until then.

#[path = "support/life.rs"]
mod life;
#[path = "support/process.rs"]
mod process;

use std::time::{Duration, Instant};

use life::refusal;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{Action, Call, Rule};
use postgres::Client;
use uuid::Uuid;

fn wait_for(client: &mut Client, session: Uuid, timeout: &str) -> Option<String> {
    client
        .query_one(
            &format!("SELECT meetlink_wait($1, '{timeout}')"),
            &[&session],
        )
        .unwrap()
        .get(0)
}

fn pid_of(client: &mut Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0)
}

#[test]
fn it_returns_as_soon_as_the_link_is_there() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 400 }));
    let mut client = app.client();
    let session = app.book(tutor, student);
    let link = wait_for(&mut client, session, "20 s").expect("a link");
    let back = Instant::now();
    assert_eq!(Some(link.clone()), life::link(&mut client, session));
    let answered = app.simulator.calls(Google, Call::Insert)[0]
        .answered_at
        .unwrap();
    let answered = app.simulator.epoch() + Duration::from_nanos(answered.mono_ns);
    let lag = back.duration_since(answered);
    println!("meetlink_wait returned {lag:?} after the provider's answer");
    assert!(lag < Duration::from_millis(500), "{lag:?}");
    let begun = Instant::now();
    assert_eq!(wait_for(&mut client, session, "20 s"), Some(link));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn it_gives_nothing_at_the_timeout_and_sleeps_until_then() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    let mut client = app.client();
    let pid = pid_of(&mut client);
    assert_eq!(wait_for(&mut client, session, "0"), None);
    assert_eq!(wait_for(&mut client, session, "-1 s"), None);
    let (before, begun) = (process::done(pid).sleeps, Instant::now());
    assert_eq!(wait_for(&mut client, session, "1.2 s"), None);
    let (took, woke) = (begun.elapsed(), process::done(pid).sleeps - before);
    println!("a wait of 1.2 s took {took:?} and fell asleep {woke} times");
    assert!(
        took >= Duration::from_millis(1_200) && took < Duration::from_millis(2_500),
        "{took:?}"
    );
    // A look every 25 ms would be 48; the statement itself takes a few.
    assert!(woke < 15, "it fell asleep {woke} times: it polls");
}

#[test]
fn a_link_that_somebody_pastes_by_hand_ends_the_wait() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    let mut client = app.client();
    let pid = pid_of(&mut client);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let begun = Instant::now();
            (wait_for(&mut client, session, "8 s"), begun.elapsed())
        });
        wait::until_true(SOON, "the wait to begin", || {
            app.value::<bool>(&format!(
                "SELECT wait_event IS NOT NULL AND state = 'active' FROM pg_stat_activity
                  WHERE pid = {pid}"
            ))
        });
        app.client()
            .execute(
                "UPDATE sessions SET join_url = 'https://zoom.us/j/1', meeting_external_id = '1'
                  WHERE id = $1",
                &[&session],
            )
            .unwrap();
        let (link, took) = waiting.join().unwrap();
        assert_eq!(link.as_deref(), Some("https://zoom.us/j/1"));
        assert!(
            took < Duration::from_secs(4),
            "it was seen at the time-out only: {took:?}"
        );
    });
}

#[test]
fn in_repeatable_read_it_says_that_it_would_see_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    let mut client = app.client();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .unwrap();
        let result = client.query_one("SELECT meetlink_wait($1, '5 s')", &[&session]);
        let (code, message, hint) = refusal(result);
        assert_eq!(code, "25001", "{message}");
        assert!(hint.contains("READ COMMITTED"), "{hint}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    assert!(wait_for(&mut client, session, "20 s").is_some());
}

#[test]
fn a_wait_can_be_cancelled_and_many_can_wait() {
    let mut app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    let mut cancelled = app.client();
    let token = cancelled.cancel_token();
    let pid = pid_of(&mut cancelled);
    let mut waiters: Vec<Client> = (0..10).map(|_| app.client()).collect();
    std::thread::scope(|scope| {
        let one = scope.spawn(|| cancelled.query_one("SELECT meetlink_wait($1)", &[&session]));
        let many: Vec<_> = waiters
            .iter_mut()
            .map(|client| scope.spawn(move || wait_for(client, session, "20 s")))
            .collect();
        wait::until_true(SOON, "the waits to begin", || {
            app.value::<bool>(&format!(
                "SELECT count(*) = 11 AND bool_or(pid = {pid}) FROM pg_stat_activity
                  WHERE query LIKE '%meetlink_wait(%' AND wait_event_type = 'Extension'"
            ))
        });
        token.cancel_query(postgres::NoTls).unwrap();
        let (code, ..) = refusal(one.join().unwrap());
        assert_eq!(code, "57014");
        app.cluster.set("meetlink.enabled", "on");
        for waiter in many {
            assert!(waiter.join().unwrap().is_some());
        }
    });
    // The connection is as good as before.
    assert!(wait_for(&mut cancelled, session, "20 s").is_some());
}
