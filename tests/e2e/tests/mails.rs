//! Notifications as letters, at a real mail server.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/smtp.rs"]
mod smtp;
#[path = "support/prov.rs"]
mod support;
#[path = "support/webhook.rs"]
mod webhook;

use meetlink_e2e::ClusterOptions;
use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use notices::{delivery, link_within, parked, private_file, refused, wait_for_delivery};
use smtp::{At, Received, Security, Sink};
use webhook::{Answer, Receiver};

const PAGE: &str = "https://app.example/settings?video=1";

/// Everything up, and notifications go to this mail server.
fn mailing(sink: &Sink, change: impl FnOnce(ClusterOptions) -> ClusterOptions) -> App {
    let mut app = App::with(change);
    app.client()
        .execute(
            "SELECT meetlink_attach(options => jsonb_build_object('reconnect_url', $1::text))",
            &[&PAGE],
        )
        .expect("attached");
    let file = private_file(&app, "smtp.url", &format!("{}\n", sink.url()));
    let mut settings = vec![
        ("meetlink.smtp_file", file.as_str()),
        ("meetlink.mail_from", "Links <links@app.example>"),
        ("meetlink.mail_operator", "ops@app.example"),
    ];
    let ca;
    if let Some(pem) = sink.ca_pem() {
        ca = app
            .cluster
            .write_file("ca.pem", pem, 0o644)
            .display()
            .to_string();
        settings.push(("meetlink.ca_file", &ca));
    }
    app.cluster.reload_with(&settings);
    go_on(&app);
    app
}

/// A session that is booked after a reload is handled with the new settings.
fn go_on(app: &App) {
    let tutor = app.tutor(Google, "Reloaded");
    app.wait_for_link(app.book(tutor, app.person("student", "Reloaded Student")));
}

fn header(letter: &Received, name: &str) -> String {
    letter.parsed()["headers"][name]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn text(letter: &Received) -> String {
    letter.parsed()["text"].as_str().expect("a text").to_owned()
}

#[test]
fn a_tutor_gets_a_letter_with_name_message_and_the_way_back() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| options);
    let (_, _, notice) = parked(&app, "Jürgen Ohnekonto");
    let letter = sink.wait_for(1).remove(0);
    assert_eq!(letter.from, "links@app.example");
    assert_eq!(letter.to, ["jürgen.ohnekonto@example.org"]);
    assert_eq!(header(&letter, "from"), "Links <links@app.example>");
    let subject = header(&letter, "subject");
    assert!(subject.to_lowercase().contains("connect"), "{subject}");
    let body = text(&letter);
    for part in ["Jürgen Ohnekonto", notice.message.as_str(), PAGE] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(!body.contains('{'), "{body}");
    assert_eq!(letter.parsed()["defects"].as_array().map(Vec::len), Some(0));
    wait_for_delivery(&app, notice.id, "mail", "its end", |d| d.delivered);

    let (_, session, failed) = refused(&app, "Zoe");
    let letter = sink.wait_for(2).remove(1);
    assert_eq!(letter.to, ["zoe@example.org"]);
    let body = text(&letter);
    assert!(
        body.contains(&failed.message) && body.contains(&session.to_string()),
        "{body}"
    );
    let ids: Vec<_> = sink
        .letters()
        .iter()
        .map(|l| header(l, "message-id"))
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn the_operator_gets_what_is_the_operators() {
    let sink = Sink::start(Security::Plain);
    let mut app = mailing(&sink, |options| options.set("meetlink.backoff_max", "1h"));
    app.cluster.psql(
        DATABASE,
        "DELETE FROM meetlink.providers WHERE provider = 'zoom'",
    );
    let (tutor, _) = support::stale_tutor(&app, Zoom, "Zoe");
    app.book(tutor, app.person("student", "Sam"));
    let letter = sink.wait_for(1).remove(0);
    assert_eq!(letter.to, ["ops@app.example"]);
    assert!(text(&letter).contains("meetlink_configure_provider"));

    // Nobody to write to: no letter, and nothing waits.
    app.cluster.set("meetlink.mail_operator", "");
    app.cluster.psql(DATABASE, "DELETE FROM meetlink.providers");
    let (tutor, _) = support::stale_tutor(&app, Google, "Ann");
    app.book(tutor, app.person("student", "Sam"));
    let notice = notices::wait_for(&app, "the operators", |n| {
        n.provider.as_deref() == Some("google_meet")
    });
    let waits = || delivery(&app, notice.id, "mail").is_some_and(|d| d.due);
    wait::until_true(SOON, "nothing to wait", || !waits());
    assert_eq!(sink.letters().len(), 1);
}

/// What stands in a name is text: it fills in nothing, adds no header and no recipient.
#[test]
fn names_and_templates_inject_nothing() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| options);
    app.client()
        .execute(
            "INSERT INTO meetlink.mail_templates
             VALUES ('connect', 'For {name}: {unknown} {', 'Dear {name},
.
{message}{message} {link} [{session}] {nam e} {{name}}')",
            &[],
        )
        .expect("a template");
    let evil = "{link} Mallory\r\nBcc: all@victims.example\r\n\r\n.\r\nMAIL FROM:<x@y>";
    let tutor = app.person("tutor", "Mallory");
    app.client()
        .execute(
            "UPDATE profiles SET full_name = $2 WHERE id = $1",
            &[&tutor.0, &evil],
        )
        .expect("a name");
    let session = app.book(tutor, app.person("student", "Sam"));
    let letter = sink.wait_for(1).remove(0);
    assert_eq!(letter.to, ["mallory@example.org"]);
    let parsed = letter.parsed();
    assert_eq!(parsed["headers"].get("bcc"), None);
    assert_eq!(parsed["defects"].as_array().map(Vec::len), Some(0));
    let subject = header(&letter, "subject");
    assert!(subject.starts_with("For {link} Mallory"), "{subject}");
    assert!(subject.ends_with(": {unknown} {"), "{subject}");
    let body = text(&letter);
    assert!(body.contains("Dear {link} Mallory"), "{body}");
    assert!(body.contains("\n.\n"), "{body}");
    assert!(
        body.contains(&format!("{PAGE} [{session}] {{nam e}} {{{{link}} Mallory")),
        "{body}"
    );
    assert_eq!(sink.letters().len(), 1, "the letter ended at its own end");
    assert_eq!(sink.connections(), 1);
}

#[test]
fn an_address_that_is_none_is_given_up_and_harms_nobody() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| options);
    for (n, address) in [
        None,
        Some(""),
        Some("not an address"),
        Some("a@b.example\r\nRCPT TO:<c@victims.example>"),
        Some("a@b.example, c@victims.example"),
    ]
    .into_iter()
    .enumerate()
    {
        let tutor = app.person("tutor", &format!("Ned {n}"));
        app.cluster
            .psql(DATABASE, "ALTER TABLE profiles ALTER email DROP NOT NULL");
        app.client()
            .execute(
                "UPDATE profiles SET email = $2 WHERE id = $1",
                &[&tutor.0, &address],
            )
            .expect("an address");
        app.book(tutor, app.person("student", "Sam"));
        let notice = notices::wait_for(&app, "a notice", |n| n.tutor == Some(tutor.0));
        let end = wait_for_delivery(&app, notice.id, "mail", "its end", |d| !d.due);
        assert!(!end.delivered, "{address:?}");
        let why = end.error.expect("why");
        assert!(!why.contains("victims"), "{why}");
    }
    assert!(sink.letters().is_empty());
    parked(&app, "Nina");
    assert_eq!(sink.wait_for(1)[0].to, ["nina@example.org"]);
}

#[test]
fn passing_trouble_is_tried_again_and_a_refusal_is_not() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| options);
    sink.refuse(1, At::Greeting, "421 4.3.2 later");
    sink.refuse(1, At::Content, "452 4.2.2 full, ned@example.org");
    sink.refuse(1, At::Content, "");
    let (_, _, notice) = parked(&app, "Ned");
    let done = wait_for_delivery(&app, notice.id, "mail", "its end", |d| d.delivered);
    assert_eq!(done.attempts, 4);
    assert_eq!(sink.wait_for(1).len(), 1);

    for (n, at) in [At::Recipient, At::Content].into_iter().enumerate() {
        sink.refuse(1, at, "550 5.1.1 no such mailbox nobody@example.org");
        let (_, _, notice) = parked(&app, &format!("Nobody {n}"));
        let end = wait_for_delivery(&app, notice.id, "mail", "its end", |d| !d.due);
        assert_eq!((end.attempts, end.delivered), (1, false), "{at:?}: {end:?}");
        assert!(!end.error.expect("why").contains("nobody"));
    }
    assert_eq!(sink.letters().len(), 1);
}

#[test]
fn letters_go_through_tls_and_after_a_login() {
    let login = ("ann@x", "p:ss wörd");
    for security in [Security::StartTls, Security::Tls] {
        let sink = Sink::with_login(security, login, "PLAIN LOGIN");
        let app = mailing(&sink, |options| options.set("log_min_messages", "debug1"));
        parked(&app, "Ned");
        let letter = sink.wait_for(1).remove(0);
        assert!(letter.tls, "{security:?}");
        assert_eq!(
            letter.login.as_ref().map(|(user, _)| user.as_str()),
            Some("ann@x")
        );
        for place in [app.cluster.log(), support::dump(&app.cluster)] {
            for secret in [login.1, "p%3Ass", "p:ss"] {
                assert!(!place.contains(secret), "{secret}");
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_shown_and_stops_no_links() {
    let sink = Sink::with_login(Security::Plain, ("ann", "tops3cret"), "PLAIN");
    let mut app = mailing(&sink, |options| options);
    let good = sink.url();
    for (n, (contents, mode)) in [
        (good.as_str(), 0o644),
        ("http://ann:tops3cret@mail.example/", 0o600),
        ("smtp://ann:tops3cret@", 0o600),
    ]
    .into_iter()
    .enumerate()
    {
        app.cluster.write_file("smtp.url", contents, mode);
        app.cluster.reload();
        for query in [
            "SELECT COALESCE(max(last_error), '') FROM meetlink.workers",
            "SELECT COALESCE(string_agg(detail, ' '), '') FROM meetlink_health() WHERE NOT ok",
        ] {
            let said = wait::until(SOON, &format!("{n}: {query}"), || {
                let said: String = app.value(query);
                said.contains("meetlink.smtp_file").then_some(said)
            });
            assert!(
                !said.contains("tops3cret") && !said.contains("mail.example"),
                "{said}"
            );
        }
        go_on(&app);
        let (_, _, notice) = parked(&app, &format!("Ned {n}"));
        app.cluster.write_file("smtp.url", &good, 0o600);
        app.cluster.reload();
        wait_for_delivery(&app, notice.id, "mail", "its end", |d| d.delivered);
    }
    assert!(!app.cluster.log().contains("tops3cret"));
    // A sender is needed.
    app.cluster.set("meetlink.mail_from", "");
    app.wait_until(
        "the worker to complain",
        "SELECT bool_or(last_error LIKE '%meetlink.mail_from%') FROM meetlink.workers",
    );
}

/// A mail server that says nothing holds up no link.
#[test]
fn a_silent_mail_server_takes_no_thread_from_links() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let sink = Sink::start(Security::Plain);
    let mut app = mailing(&sink, |options| options.set("meetlink.concurrency", "1"));
    let (tutor, student) = (app.tutor(Google, "Ann"), app.person("student", "Sam"));
    let url = format!("smtp://{}", silent.local_addr().expect("an address"));
    private_file(&app, "smtp.url", &url);
    app.cluster.reload();
    go_on(&app);
    for n in 0..5 {
        parked(&app, &format!("Ned {n}"));
    }
    // The server's system has taken the connection: somebody waits for a greeting.
    let waiting = silent.accept().expect("a connection");
    for _ in 0..3 {
        link_within(
            &app,
            tutor,
            student,
            std::time::Duration::from_millis(1_500),
        );
    }
    drop(waiting);
}

/// One way that hangs holds up no other, however much waits for it.
#[test]
fn a_receiver_that_hangs_holds_up_neither_letters_nor_the_applications_table() {
    let (receiver, sink) = (Receiver::start(), Sink::start(Security::Plain));
    let mut app = mailing(&sink, |options| {
        options.set("meetlink.request_timeout", "60s")
    });
    let secret = private_file(
        &app,
        "webhook.secret",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    app.cluster.reload_with(&[
        ("meetlink.webhook_secret_file", &secret),
        ("meetlink.webhook_url", &receiver.url()),
    ]);
    go_on(&app);
    receiver.next(100, &Answer::Slow(std::time::Duration::from_secs(60)));
    // More than are looked at at once.
    for n in 0..25 {
        let (_, _, notice) = parked(&app, &format!("Ned {n}"));
        for way in ["application", "mail"] {
            wait_for_delivery(&app, notice.id, way, way, |d| d.delivered);
        }
    }
    assert_eq!(receiver.received().len(), 2, "webhooks at once");
}

/// Somebody who locks the people for a moment costs nobody a letter.
#[test]
fn an_address_that_cannot_be_read_now_is_read_later() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| {
        options
            .set("log_lock_waits", "on")
            .set("deadlock_timeout", "10ms")
            .set("meetlink.max_attempts", "100")
    });
    sink.refuse(1_000, At::Greeting, "421 4.3.2 later");
    let told: Vec<_> = (0..5)
        .map(|n| parked(&app, &format!("Ned {n}")).2)
        .collect();
    let mut client = app.client();
    let mut lock = client.transaction().expect("a transaction");
    let mark = app.cluster.log_mark();
    lock.batch_execute("LOCK profiles IN ACCESS EXCLUSIVE MODE")
        .expect("the lock");
    // Once it has met it again, it did not wait for its end.
    wait::until_true(SOON, "the worker to meet the lock", || {
        let log = app.cluster.log_from(mark);
        log.matches("still waiting for").count() >= 3
    });
    lock.rollback().expect("the lock's end");
    sink.relent();
    for notice in told {
        wait_for_delivery(&app, notice.id, "mail", "its end", |d| d.delivered);
    }
    assert_eq!(sink.wait_for(5).len(), 5);
}

#[test]
fn letters_are_off_by_default() {
    let app = App::start();
    let (_, _, notice) = parked(&app, "Ned");
    assert!(delivery(&app, notice.id, "mail").is_none());
}

/// A rule of the server's, or one about this recipient: nobody writes there for ever.
#[test]
fn a_letter_that_is_refused_by_a_rule_is_given_up_as_any() {
    let sink = Sink::start(Security::Plain);
    let app = mailing(&sink, |options| {
        options
            .set("meetlink.max_attempts", "3")
            .set("meetlink.backoff_max", "1s")
    });
    sink.refuse(5, At::Recipient, "554 5.7.1 access denied");
    let (_, _, notice) = parked(&app, "Ned");
    let ended = wait_for_delivery(&app, notice.id, "mail", "its end", |d| !d.due);
    assert_eq!((ended.attempts, ended.delivered), (3, false));
    assert_eq!(sink.refusals_left(), 2);
}
