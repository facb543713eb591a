//! Notifications at a real receiver of webhooks, judged by an independent library.

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/notices.rs"]
mod notices;
#[path = "support/standard_webhooks.rs"]
mod standard_webhooks;
#[path = "support/prov.rs"]
mod support;
#[path = "support/webhook.rs"]
mod webhook;

use std::time::Duration;

use hooks::{OTHER, SECRET, posting, posting_to, wait_for_reload};
use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::{StopMode, wait};
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{Action, Call, Rule};
use notices::{delivery, link_within, parked, private_file, refused, wait_for_delivery};
use standard_webhooks::Library;
use webhook::{Answer, Receiver};

#[test]
fn a_tutor_who_must_act_is_posted_and_signed_as_the_specification_wants() {
    let receiver = Receiver::start();
    let app = posting_to(&receiver);
    let (tutor, session, notice) = parked(&app, "Ned");
    let posted = receiver.wait_for(1).remove(0);
    assert_eq!(
        (posted.method.as_str(), posted.path.as_str()),
        ("POST", "/hooks/meetlink")
    );
    assert!(
        posted
            .header("content-type")
            .starts_with("application/json")
    );
    let body = posted.json();
    assert_eq!(body["type"], "meetlink.connect");
    let data = &body["data"];
    assert_eq!(data["tutor_id"], tutor.0.to_string());
    assert_eq!(data["session_id"], session.to_string());
    assert_eq!(
        (&data["kind"], &data["reason"]),
        (&"connect".into(), &"not_connected".into())
    );
    assert_eq!(data["message"], notice.message);
    assert_eq!(data["action"]["kind"], "connect");
    assert_eq!(data["notification_id"], notice.id);
    let at: chrono::DateTime<chrono::Utc> = body["timestamp"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("ISO 8601");
    assert!((chrono::Utc::now() - at).num_seconds() < 60);
    assert!(!posted.header("webhook-id").contains('.'));
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);

    let (_, _, _) = refused(&app, "Zoe");
    assert_eq!(receiver.wait_for(2)[1].json()["type"], "meetlink.failed");
    let ids: Vec<_> = receiver
        .received()
        .iter()
        .map(|d| d.header("webhook-id").to_owned())
        .collect();
    assert_ne!(ids[0], ids[1]);

    let Some(library) = Library::find() else {
        return;
    };
    for posted in receiver.received() {
        library
            .verify(SECRET, &posted.headers, &posted.body)
            .expect("a right signature");
        library
            .verify(OTHER, &posted.headers, &posted.body)
            .expect_err("another secret");
    }
}

#[test]
fn every_secret_of_the_file_signs() {
    let receiver = Receiver::start();
    let mut app = posting_to(&receiver);
    private_file(
        &app,
        "webhook.secret",
        &format!("# the new one first\n{OTHER}\n{SECRET}\n"),
    );
    app.cluster.reload();
    wait_for_reload(&app);
    parked(&app, "Ned");
    let posted = receiver.wait_for(1).remove(0);
    assert_eq!(posted.header("webhook-signature").split(' ').count(), 2);
    let Some(library) = Library::find() else {
        return;
    };
    for secret in [SECRET, OTHER] {
        library
            .verify(secret, &posted.headers, &posted.body)
            .expect(secret);
    }
}

#[test]
fn a_receiver_in_trouble_is_tried_again_under_the_same_id_at_a_new_time() {
    let receiver = Receiver::start();
    // Whole seconds apart, since that is what a timestamp has.
    let app = posting(&receiver.url(), |options| {
        options
            .set("meetlink.backoff_base", "2500ms")
            .set("meetlink.backoff_max", "5s")
    });
    receiver.next(1, &Answer::Status(500));
    receiver.next(1, &Answer::HangUp);
    let (_, _, notice) = parked(&app, "Ned");
    let posted = receiver.wait_for(3);
    let done = wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
    assert_eq!((done.attempts, done.due, done.error), (3, false, None));
    for again in &posted {
        assert_eq!(again.header("webhook-id"), posted[0].header("webhook-id"));
        assert_eq!(again.body, posted[0].body);
        let stamp: u64 = again.header("webhook-timestamp").parse().expect("seconds");
        let came = again
            .received_at
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!(
            came.abs_diff(stamp) <= 1,
            "signed for {stamp}, came at {came}"
        );
    }
    let Some(library) = Library::find() else {
        return;
    };
    for again in &posted {
        library
            .verify(SECRET, &again.headers, &again.body)
            .expect("a right signature");
    }
}

#[test]
fn a_receiver_that_says_when_to_come_back_is_left_alone_until_then() {
    let receiver = Receiver::start();
    let app = posting_to(&receiver);
    receiver.next(1, &Answer::RetryAfter(429, 600));
    let (_, _, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "webhook", "a try", |d| d.attempts == 1);
    let wait: f64 = app.value(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM meetlink.deliveries
          WHERE channel = 'webhook'",
    );
    assert!((560.0..=600.0).contains(&wait), "{wait} s");
}

#[test]
fn a_receiver_that_wants_no_more_is_left_alone_and_one_that_never_takes_it_too() {
    let receiver = Receiver::start();
    let app = posting(&receiver.url(), |options| {
        options.set("meetlink.max_attempts", "3")
    });
    receiver.next(1, &Answer::Status(410));
    let (_, _, notice) = parked(&app, "Ned");
    let gone = wait_for_delivery(&app, notice.id, "webhook", "its end", |d| !d.due);
    assert_eq!((gone.attempts, gone.delivered), (1, false));
    assert!(gone.error.expect("why").contains("410"));

    receiver.next(3, &Answer::Status(503));
    let (_, _, notice) = parked(&app, "Nina");
    let failed = wait_for_delivery(&app, notice.id, "webhook", "its end", |d| !d.due);
    assert_eq!((failed.attempts, failed.delivered), (3, false));
    // The next notification is tried as any.
    let (_, _, notice) = parked(&app, "Nora");
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
    assert_eq!(receiver.received().len(), 5);
}

#[test]
fn a_redirect_is_not_followed() {
    let (receiver, elsewhere) = (Receiver::start(), Receiver::start());
    receiver.next(1, &Answer::Redirect(elsewhere.url()));
    let app = posting_to(&receiver);
    let (_, _, notice) = parked(&app, "Ned");
    let set_back = wait_for_delivery(&app, notice.id, "webhook", "a try", |d| d.attempts == 1);
    assert!(
        set_back
            .error
            .expect("why")
            .contains("meetlink.webhook_url")
    );
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
    assert!(elsewhere.received().is_empty());
}

#[test]
fn a_slow_receiver_takes_no_thread_from_links() {
    let receiver = Receiver::start();
    let app = posting(&receiver.url(), |options| {
        options
            .set("meetlink.concurrency", "1")
            .set("meetlink.request_timeout", "30s")
    });
    let (tutor, student) = (app.tutor(Google, "Ann"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    receiver.next(20, &Answer::Slow(Duration::from_secs(20)));
    for n in 0..6 {
        parked(&app, &format!("Ned {n}"));
    }
    receiver.wait_for(1);
    for _ in 0..5 {
        link_within(&app, tutor, student, Duration::from_millis(1_500));
    }
    assert!(receiver.received().len() <= 2, "more than two at once");
}

#[test]
fn a_file_of_secrets_that_cannot_be_used_is_shown_and_stops_no_links() {
    let receiver = Receiver::start();
    let mut app = posting_to(&receiver);
    let path = app
        .cluster
        .base()
        .join("webhook.secret")
        .display()
        .to_string();
    let short = "whsec_TWZLUQ==";
    let spoiled: [(&str, &str, u32, &str); 4] = [
        ("too open", SECRET, 0o640, "640"),
        (
            "malformed",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            0o600,
            "line 1",
        ),
        ("too short", short, 0o600, "line 1"),
        ("empty", "# nothing\n", 0o600, "no secret"),
    ];
    for (index, (what, contents, mode, expected)) in spoiled.into_iter().enumerate() {
        app.cluster.write_file("webhook.secret", contents, mode);
        app.cluster.reload();
        for (place, query) in [
            (
                "meetlink.workers",
                "SELECT COALESCE(max(last_error), '') FROM meetlink.workers",
            ),
            (
                "health",
                "SELECT COALESCE(string_agg(detail, ' '), '') FROM meetlink_health() WHERE NOT ok",
            ),
        ] {
            let said = wait::until(SOON, &format!("{what} in {place}"), || {
                let said: String = app.value(query);
                said.contains("meetlink.webhook_secret_file")
                    .then_some(said)
            });
            assert!(said.contains(expected), "{what}: {said}");
            for secret in [&SECRET[6..], &short[6..]] {
                assert!(!said.contains(secret), "{what}: {said}");
            }
        }
        // Links go on, and what people are to be told waits for the file.
        wait_for_reload(&app);
        let (_, _, notice) = parked(&app, &format!("Ned {index}"));
        assert_eq!(receiver.received().len(), index);
        app.cluster.write_file("webhook.secret", SECRET, 0o600);
        app.cluster.reload();
        wait_for_delivery(&app, notice.id, "webhook", what, |d| d.delivered);
        app.wait_until(
            "nothing to complain about",
            "SELECT bool_and(last_error IS NULL) FROM meetlink.workers",
        );
    }
    assert!(!app.cluster.log().contains(&SECRET[6..]));
    assert!(std::fs::exists(path).unwrap());
}

#[test]
fn no_secret_is_in_payload_tables_or_log() {
    let receiver = Receiver::start();
    let app = posting(&receiver.url(), |options| {
        options.set("log_min_messages", "debug1")
    });
    receiver.next(2, &Answer::Status(500));
    let (_, _, notice) = refused(&app, "Zoe");
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
    support::assert_no_secrets(&app, &[(meetlink_simulator::Provider::Zoom, "Zoe")]);
    let secret = &SECRET[6..];
    assert!(!support::dump(&app.cluster).contains(secret));
    assert!(!app.cluster.log().contains(secret));
    let account = app
        .simulator
        .account(meetlink_simulator::Provider::Zoom, "Zoe")
        .unwrap();
    for posted in receiver.received() {
        let text = format!(
            "{:?} {}",
            posted.headers,
            String::from_utf8_lossy(&posted.body)
        );
        for secret in [secret, &account.access_token, &account.refresh_token] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

/// Handed over, and the server dies before the answer: nobody knows whether it arrived.
#[test]
fn a_server_that_dies_between_hand_over_and_answer_delivers_again_under_the_same_id() {
    let receiver = Receiver::start();
    let mut app = posting(&receiver.url(), |options| {
        options.set("meetlink.request_timeout", "60s")
    });
    receiver.next(2, &Answer::Slow(Duration::from_secs(120)));
    let (_, _, notice) = parked(&app, "Ned");
    receiver.wait_for(1);
    app.cluster.restart(StopMode::Immediate);
    receiver.wait_for(2);

    // The kernel ends the worker alone, and Postgres starts everybody anew.
    let worker = rustix::process::Pid::from_raw(app.worker_pid()).expect("a pid");
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).expect("a signal");
    let posted = receiver.wait_for(3);
    wait::until_true(SOON, "its end", || {
        app.cluster
            .try_psql(DATABASE, "postgres", "SELECT 1")
            .is_ok()
            && delivery(&app, notice.id, "webhook").is_some_and(|d| d.delivered)
    });
    for again in &posted {
        assert_eq!(again.header("webhook-id"), posted[0].header("webhook-id"));
        assert_eq!(again.body, posted[0].body);
    }
}

/// One cluster has one URL for all of its databases, and receivers drop an id that they know.
#[test]
fn two_databases_never_use_the_same_id() {
    let receiver = Receiver::start();
    let app = posting_to(&receiver);
    app.cluster.psql("postgres", "CREATE DATABASE second");
    let reference = include_str!("../../../sql/reference_app.sql");
    let mut second = app.cluster.connect("second", "postgres");
    second.batch_execute(reference).expect("the application");
    second
        .batch_execute("CREATE EXTENSION meetlink; SELECT meetlink_attach();")
        .unwrap();
    second
        .batch_execute(
            "WITH p AS (INSERT INTO profiles (full_name, email, role)
                        VALUES ('Ned', 'ned@example.org', 'tutor'), ('Sam', 's@example.org', 'student')
                        RETURNING id, role)
             INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at, confirmed_end_at)
             SELECT t.id, s.id, 'CONFIRMED', now() + interval '1 h', now() + interval '2 h'
               FROM p t, p s WHERE t.role = 'tutor' AND s.role = 'student'",
        )
        .unwrap();
    receiver.wait_for(1);
    parked(&app, "Nina");
    let posted = receiver.wait_for(2);
    let ids: Vec<_> = posted.iter().map(|d| d.header("webhook-id")).collect();
    assert_ne!(ids[0], ids[1]);
}

/// While nothing is set up, nothing is posted, and nothing waits to be.
#[test]
fn what_an_attempt_ends_in_while_detached_is_posted_once_attached_again() {
    let receiver = Receiver::start();
    let app = posting_to(&receiver);
    let student = app.person("student", "Sam");
    let (tutor, account) = support::stale_tutor(&app, Google, "Gus");
    app.simulator.revoke(&account);
    app.simulator
        .fault(Rule::once(Google, Call::Token, Action::Delay { ms: 1_000 }));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "creating");
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_detach()").unwrap();
    app.wait_until(
        "the attempt to end",
        "SELECT count(*) = 1 FROM meetlink.jobs WHERE state = 'needs_action'",
    );
    assert!(receiver.received().is_empty(), "nobody is called meanwhile");
    client.batch_execute("SELECT meetlink_attach()").unwrap();
    let posted = receiver.wait_for(1).remove(0);
    assert_eq!(posted.json()["data"]["session_id"], session.to_string());
    app.wait_until(
        "a row in the application's own table",
        "SELECT count(*) = 1 FROM notifications",
    );
}

#[test]
fn webhooks_are_off_by_default() {
    let app = App::start();
    let (_, _, notice) = parked(&app, "Ned");
    assert!(delivery(&app, notice.id, "webhook").is_none());
}
