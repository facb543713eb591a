//! Servers and letters that mean harm.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::super::{Letter, Mailer};
use super::{CANARY, SOON, Script, exchange, letter, mailer, serve};
use crate::domain::failure::{Class, Reason};

/// A server that writes the same bytes again and again.
fn endless(bytes: &'static [u8], pause: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(bytes).is_ok() {
            std::thread::sleep(pause);
        }
    });
    port
}

#[test]
fn no_server_holds_a_thread_longer_than_the_timeout() {
    let timeout = Duration::from_millis(300);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|a| (a.port(), silent)).unwrap();
    for port in [
        silent.0,
        endless(b"2", Duration::from_millis(20)),
        endless(b"220-x\r\n", Duration::from_millis(20)),
    ] {
        let begun = Instant::now();
        let failure = mailer("", port, timeout).send(&letter()).unwrap_err();
        assert_eq!(failure.class, Class::Retry);
        assert!(failure.text.contains("in time"), "{}", failure.text);
        assert!(begun.elapsed() < timeout * 4, "{:?}", begun.elapsed());
    }
}

#[test]
fn an_endless_answer_is_cut_off_early() {
    for bytes in [&b"2"[..], b"220-x\r\n", b"\n"] {
        let port = endless(bytes, Duration::ZERO);
        let failure = mailer("", port, Duration::from_secs(60))
            .send(&letter())
            .unwrap_err();
        assert_eq!(failure.reason, Reason::AnswerUnreadable);
    }
}

#[test]
fn nothing_can_be_smuggled_into_heads_and_commands() {
    let evil = "x\r\nBcc: canary@example.org\r\n\r\n.\r\nMAIL FROM:<canary@example.org>\r\n";
    let letter = Letter {
        subject: evil.to_owned(),
        text: format!("{evil}.\r\n.\n..\r.\nend"),
        ..letter()
    };
    let (outcome, heard) = exchange(&[], "", &letter);
    assert_eq!(outcome, Ok(()));
    let (head, text) = heard.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("\r\nBcc"), "{heard}");
    assert_eq!(head.matches("MAIL FROM").count(), 2, "{heard}"); // the command, and in the subject
    assert_eq!(heard.matches("\r\n.\r\n").count(), 1, "{heard}");
    assert!(
        text.ends_with("\r\n..\r\n..\r\n...\r\n..\r\nend\r\n.\r\nQUIT\r\n"),
        "{text:?}"
    );
    assert!(
        !heard.replace("\r\n", "").contains(['\r', '\n']),
        "{heard:?}"
    );

    for address in [
        evil,
        "",
        "canary",
        "canary@",
        "@example.org",
        "canary@example.org\r\n",
        "canary@example.org, eve@example.org",
        "canary@exa mple.org",
        "canary@example.org> SIZE=1",
        "Canary\r\nBcc: x <canary@example.org>",
        "Canary <canary@example.org\r\nRCPT TO:<eve@example.org>",
    ] {
        let (to, from) = (address.to_owned(), address.to_owned());
        let mailer = mailer("", 9, SOON);
        let refused = mailer
            .send(&Letter {
                to,
                ..letter.clone()
            })
            .unwrap_err();
        assert_eq!(refused.class, Class::Permanent, "{address:?}");
        assert!(!format!("{refused:?}").contains(CANARY));
        let refused = mailer
            .send(&Letter {
                from,
                ..letter.clone()
            })
            .unwrap_err();
        assert_eq!(refused.class, Class::OperatorMustAct, "{address:?}");
    }
    for id in ["", "a b", "4711>\r\nBcc: x", "a@b@c", "4711\u{e9}"] {
        let id = id.to_owned();
        let refused = mailer("", 9, SOON).send(&Letter {
            id,
            ..letter.clone()
        });
        assert_eq!(refused.unwrap_err().class, Class::Permanent);
    }
}

#[test]
fn without_tls_nothing_is_said_where_tls_is_required() {
    // The server would go on in plaintext; a wire-tapper could have taken STARTTLS out of its offer.
    for script in [
        &[] as Script,
        &[
            ("EHLO", "250-x\r\n250 STARTTLS\r\n"),
            ("STARTTLS", "454 no\r\n"),
        ],
    ] {
        let (port, server) = serve(script);
        let url = format!("smtp://ann:canary@localhost:{port}?tls=required");
        let outcome = Mailer::new(&url, SOON, None).unwrap().send(&letter());
        assert!(outcome.is_err());
        let heard = server.join().unwrap();
        assert!(
            !heard.contains("AUTH") && !heard.contains("MAIL"),
            "{heard}"
        );
    }
}

#[test]
fn what_comes_before_tls_is_no_part_of_what_comes_after() {
    let script: Script = &[
        ("EHLO", "250-x\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go\r\n250-x\r\n250 AUTH PLAIN\r\n"),
    ];
    let (port, server) = serve(script);
    let url = format!("smtp://ann:canary@localhost:{port}?tls=required");
    let failure = Mailer::new(&url, SOON, None)
        .unwrap()
        .send(&letter())
        .unwrap_err();
    assert_eq!(failure.class, Class::OperatorMustAct);
    assert!(failure.text.contains("before TLS"), "{}", failure.text);
    drop(server);
}
