//! A mailer against a little mail server on loopback, in plaintext.

mod hostile;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::DateTime;

use super::{Letter, Mailer};
use crate::domain::failure::{Class, Failure, Reason};

const SOON: Duration = Duration::from_secs(5);
const HELLO: &str = "250-loopback\r\n250-8bitmime\r\n250 AUTH LOGIN PLAIN\r\n";
const CANARY: &str = "canary";

/// What the server says: to the connection, then to each line whose beginning stands here.
type Script = &'static [(&'static str, &'static str)];
const GOOD: Script = &[
    ("", "220 ready\r\n"),
    ("EHLO", HELLO),
    ("AUTH PLAIN", "235 welcome\r\n"),
    ("MAIL", "250 ok\r\n"),
    ("RCPT", "250 ok\r\n"),
    ("DATA", "354 go on\r\n"),
    (".", "250 queued\r\n"),
    ("QUIT", "221 bye\r\n"),
];

/// Answers one connection; gives what the client wrote. The first matching line of `script` counts,
/// then of `GOOD`; an empty answer ends the connection.
fn serve(script: Script) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |line: &str| {
        let mut known = script.iter().chain(GOOD);
        let found = known.find(|(begin, _)| match *begin {
            "" => line.is_empty(),
            "." => line == ".\r\n",
            begin => line.starts_with(begin),
        });
        found.map_or("500 what?\r\n", |(_, answer)| *answer)
    };
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut heard = String::new();
        let mut content = false;
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let say = |text: &str| (&stream).write_all(text.as_bytes()).is_ok();
        let greeting = answer("");
        if greeting.is_empty() || !say(greeting) {
            return heard;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            heard.push_str(&line);
            content &= line != ".\r\n";
            if !content {
                let answer = answer(&line);
                if answer.is_empty() || !say(answer) || line.starts_with("QUIT") {
                    break;
                }
                content = line == "DATA\r\n" && answer.starts_with('3');
            }
            line.clear();
        }
        heard
    });
    (port, server)
}

fn letter() -> Letter {
    Letter {
        from: "Meetlink <links@example.org>".to_owned(),
        to: "ann.canary@example.org".to_owned(),
        subject: "Reconnect Zoom".to_owned(),
        text: "Hello Ann,\nplease reconnect.\n".to_owned(),
        id: "4711".to_owned(),
        sent_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

fn mailer(user: &str, port: u16, timeout: Duration) -> Mailer {
    Mailer::new(&format!("smtp://{user}127.0.0.1:{port}"), timeout, None).unwrap()
}

/// Sends a letter; how that went, and what the server heard.
fn exchange(script: Script, user: &str, letter: &Letter) -> (Result<(), Failure>, String) {
    let (port, server) = serve(script);
    let outcome = mailer(user, port, SOON).send(letter);
    (outcome, server.join().unwrap())
}

/// The failure of a letter, after a look at what it says.
fn failure(script: Script, user: &str, letter: &Letter) -> Failure {
    let (outcome, _) = exchange(script, user, letter);
    let failure = outcome.expect_err("the letter was not refused");
    let printed = format!("{failure:?}");
    assert!(!printed.contains(CANARY), "{printed}");
    assert!(failure.text.ends_with('.'), "{printed}");
    failure
}

#[test]
fn a_letter_is_handed_over_whole() {
    let (outcome, heard) = exchange(&[], "ann:pass%20word@", &letter());
    assert_eq!(outcome, Ok(()));
    let expected = "EHLO [127.0.0.1]\r\n\
        AUTH PLAIN AGFubgBwYXNzIHdvcmQ=\r\n\
        MAIL FROM:<links@example.org>\r\n\
        RCPT TO:<ann.canary@example.org>\r\n\
        DATA\r\n\
        From: Meetlink <links@example.org>\r\n\
        To: ann.canary@example.org\r\n\
        Subject: Reconnect Zoom\r\n\
        Message-ID: <4711@example.org>\r\n\
        Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Auto-Submitted: auto-generated\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        Hello Ann,\r\nplease reconnect.\r\n.\r\nQUIT\r\n";
    assert_eq!(heard, expected);
}

#[test]
fn without_a_user_there_is_no_login() {
    let (outcome, heard) = exchange(&[], "", &letter());
    assert_eq!(outcome, Ok(()));
    assert!(!heard.contains("AUTH"), "{heard}");
}

#[test]
fn login_is_taken_where_there_is_no_plain() {
    let script: Script = &[
        ("EHLO", "250-loopback\r\n250 auth login\r\n"),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"),
        ("YW5u", "334 UGFzc3dvcmQ6\r\n"),
        ("cGFzcw==", "235 welcome\r\n"),
    ];
    let (outcome, heard) = exchange(script, "ann:pass@", &letter());
    assert_eq!(outcome, Ok(()), "{heard}");
    let endless: Script = &[
        ("EHLO", "250 AUTH LOGIN\r\n"),
        ("", "220 ready\r\n"),
        ("AUTH", "334 VXNlcm5hbWU6\r\n"),
        ("YW5u", "334 VXNlcm5hbWU6\r\n"),
    ];
    let failure = failure(endless, "ann:pass@", &letter());
    assert_eq!(failure.class, Class::OperatorMustAct);
}

#[test]
fn every_refusal_has_its_class_and_quotes_nothing() {
    use Class::{OperatorMustAct, Permanent, Retry};
    let cases: &[(Script, Class, Reason, u16)] = &[
        (&[("", "421 canary\r\n")], Retry, Reason::ProviderDown, 421),
        (
            &[("", "554 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            554,
        ),
        (
            &[("EHLO", "550 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            550,
        ),
        (
            &[("AUTH", "535 5.7.8 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            535,
        ),
        (
            &[("AUTH", "454 canary\r\n")],
            Retry,
            Reason::ProviderDown,
            454,
        ),
        (
            &[("MAIL", "530 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            530,
        ),
        (
            &[("MAIL", "553 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            553,
        ),
        (
            &[("RCPT", "450 canary\r\n")],
            Retry,
            Reason::ProviderDown,
            450,
        ),
        (
            &[("RCPT", "530 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            530,
        ),
        (
            &[("RCPT", "550-5.1.1 no\r\n550 canary\r\n")],
            Permanent,
            Reason::RequestRefused,
            550,
        ),
        (
            &[("RCPT", "554 5.7.1 Relay access denied: canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            554,
        ),
        (
            &[("RCPT", "550-5.7.26 canary\r\n550 5.7.26 canary\r\n")],
            OperatorMustAct,
            Reason::Misconfigured,
            550,
        ),
        (
            &[("RCPT", "450 4.7.1 canary\r\n")],
            Retry,
            Reason::ProviderDown,
            450,
        ),
        (
            &[("RCPT", "550 5.71.0 canary\r\n")],
            Permanent,
            Reason::RequestRefused,
            550,
        ),
        (
            &[("RCPT", "571 canary\r\n")],
            Permanent,
            Reason::RequestRefused,
            571,
        ),
        (
            &[("DATA", "451 canary\r\n")],
            Retry,
            Reason::ProviderDown,
            451,
        ),
        (
            &[("DATA", "554 canary\r\n")],
            Permanent,
            Reason::RequestRefused,
            554,
        ),
        (
            &[("DATA", "250 canary\r\n")],
            Retry,
            Reason::AnswerUnreadable,
            250,
        ),
        (&[(".", "452 canary\r\n")], Retry, Reason::ProviderDown, 452),
        (
            &[(".", "552 canary\r\n")],
            Permanent,
            Reason::RequestRefused,
            552,
        ),
    ];
    for (script, class, reason, status) in cases {
        let failure = failure(script, "ann:canary@", &letter());
        let found = (failure.class, failure.reason, failure.status);
        assert_eq!(found, (*class, *reason, Some(*status)), "{script:?}");
    }
    let nothing_known: Script = &[("EHLO", "250 loopback\r\n")];
    let failure = failure(nothing_known, "ann:canary@", &letter());
    assert_eq!(failure.class, OperatorMustAct);
}

#[test]
fn answers_that_make_no_sense_are_met_with_another_try() {
    for script in [
        &[("", "HTTP/1.1 400 canary\r\n")] as Script,
        &[("", "SSH-2.0-canary\r\n")],
        &[("", "22\r\n")],
        &[("", "220?canary\r\n")],
        &[("", "220-one\r\n250 canary\r\n")],
        &[("MAIL", "\u{e9}\u{e9}\u{e9}\r\n")],
        &[("RCPT", "199 canary\r\n")],
    ] {
        let failure = failure(script, "", &letter());
        assert_eq!(failure.class, Class::Retry, "{script:?}");
        assert_eq!(failure.reason, Reason::AnswerUnreadable, "{script:?}");
    }
}

#[test]
fn a_connection_that_breaks_off_is_met_with_another_try() {
    for begin in ["", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let script: Script = Box::leak(Box::new([(begin, "")]));
        let failure = failure(script, "", &letter());
        assert_eq!(failure.class, Class::Retry, "{begin}");
        assert_eq!(failure.status, None, "{begin}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let failure = mailer("", port, SOON).send(&letter()).unwrap_err();
    assert_eq!(failure.class, Class::Retry);
    assert_eq!(failure.reason, Reason::ProviderDown);
}

#[test]
fn names_subjects_and_texts_of_any_script_arrive_as_ascii() {
    let letter = Letter {
        from: "\"Meeting, \\\"links\\\"\" <links@example.org>".to_owned(),
        to: "J\u{fc}rgen \u{5c71}\u{7530} <ann@example.org>".to_owned(),
        subject: format!("Zoom f\u{fc}r {}", "J\u{fc}rgen ".repeat(40)),
        text: format!("Gr\u{fc}\u{df}e\n{}\n", "long ".repeat(1000)),
        id: "4711@elsewhere.example".to_owned(),
        ..letter()
    };
    let (outcome, heard) = exchange(&[], "", &letter);
    assert_eq!(outcome, Ok(()));
    assert!(heard.is_ascii(), "{heard}");
    assert!(heard.lines().all(|line| line.len() <= 998), "{heard}");
    assert!(
        heard.contains("\r\nFrom: =?utf-8?b?TWVldGluZywgImxpbmtzIg==?= <links@example.org>\r\n"),
        "{heard}"
    );
    assert!(heard.contains("RCPT TO:<ann@example.org>"), "{heard}");
    assert!(
        heard.contains("Message-ID: <4711@elsewhere.example>"),
        "{heard}"
    );
    assert!(heard.contains("=?utf-8?"), "{heard}");
}

#[test]
fn an_address_outside_ascii_goes_only_where_it_is_taken() {
    let to = Letter {
        to: "j\u{fc}rgen.canary@example.org".to_owned(),
        ..letter()
    };
    assert_eq!(failure(&[], "", &to).class, Class::Permanent);
    let script: Script = &[("EHLO", "250-loopback\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")];
    let (outcome, heard) = exchange(script, "", &to);
    assert_eq!(outcome, Ok(()));
    assert!(heard.contains("> SMTPUTF8 BODY=8BITMIME\r\n"), "{heard}");
}

#[test]
fn dates_that_no_calendar_has_are_no_reason_to_panic() {
    for sent_at in [
        DateTime::<chrono::Utc>::MIN_UTC,
        DateTime::<chrono::Utc>::MAX_UTC,
    ] {
        let (outcome, _) = exchange(
            &[],
            "",
            &Letter {
                sent_at,
                ..letter()
            },
        );
        assert_eq!(outcome, Ok(()));
    }
}

#[test]
fn a_server_without_tls_is_the_operators_affair() {
    let (port, server) = serve(&[]);
    let url = format!("smtps://ann:canary@localhost:{port}");
    let failure = Mailer::new(&url, SOON, None)
        .unwrap()
        .send(&letter())
        .unwrap_err();
    assert_eq!(failure.class, Class::OperatorMustAct);
    drop(server);
}

#[test]
fn further_certificates_must_be_some() {
    for pem in [
        &b""[..],
        b"canary",
        b"-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
    ] {
        let why = Mailer::new("smtps://mail.example", SOON, Some(pem))
            .err()
            .unwrap();
        assert!(!why.contains(CANARY), "{why}");
    }
}
