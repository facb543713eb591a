//! What the tests of deliveries stand on: a receiver of webhooks, a mail server, and a library that
//! knows signatures. Each is met by a client that is not ours.

#[path = "support/smtp.rs"]
mod smtp;
#[path = "support/standard_webhooks.rs"]
mod standard_webhooks;
#[path = "support/webhook.rs"]
mod webhook;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smtp::{At, Security, Sink};
use standard_webhooks::Library;
use webhook::{Answer, Receiver};

/// A POST with this body; everything that came back.
fn post(receiver: &Receiver, headers: &str, body: &str) -> String {
    let url = receiver.url();
    let (address, path) = url["http://".len()..].split_once('/').expect("a path");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let length = body.len();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\n{headers}content-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_receiver_keeps_requests_as_they_came_and_answers_as_told() {
    let receiver = Receiver::start();
    receiver.next(2, &Answer::Status(500));
    receiver.next(1, &Answer::Status(410));
    receiver.next(1, &Answer::RetryAfter(429, 7));
    receiver.next(1, &Answer::Redirect("http://127.0.0.1:9/".to_owned()));
    receiver.next(1, &Answer::HangUp);
    receiver.next(1, &Answer::Long(3));
    let pause = Duration::from_millis(150);
    receiver.next(1, &Answer::Slow(pause));

    let body = "{\"a\":  1}\n";
    let send = || post(&receiver, "Webhook-Id: msg_1\r\n", body);
    let answers: Vec<String> = (0..7).map(|_| send()).collect();
    let begun = Instant::now();
    assert!(send().starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() >= pause);
    assert!(send().starts_with("HTTP/1.1 200"));

    for (answer, status) in answers.iter().zip([500, 500, 410, 429, 307]) {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    assert!(answers[3].contains("retry-after: 7\r\n"), "{}", answers[3]);
    assert!(answers[4].contains("location: http://127.0.0.1:9/\r\n"));
    assert_eq!(answers[5], "");
    assert!(answers[6].ends_with("\r\n\r\nxxx"), "{}", answers[6]);

    let received = receiver.wait_for(9);
    assert_eq!(received.len(), 9);
    for delivery in &received {
        assert_eq!(delivery.method, "POST");
        assert_eq!(delivery.path, "/hooks/meetlink");
        assert_eq!(delivery.header("webhook-id"), "msg_1");
        assert_eq!(delivery.body, body.as_bytes());
        assert_eq!(delivery.json()["a"], 1);
    }
}

#[test]
fn a_receiver_that_is_given_up_leaves_nobody_waiting() {
    let receiver = Receiver::start();
    receiver.next(1, &Answer::Slow(Duration::from_secs(600)));
    let url = receiver.url();
    let address = url["http://".len()..]
        .split('/')
        .next()
        .expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("a request");
    receiver.wait_for(1);
    drop(receiver);
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a limit");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    assert!(
        TcpStream::connect(address).is_err(),
        "the port is still open"
    );
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[test]
fn the_library_knows_right_signatures_from_wrong_ones() {
    let Some(library) = Library::find() else {
        return;
    };
    // The example that src/domain/webhook.rs is tested with.
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    assert_eq!(
        library.sign(SECRET, id, 1_614_265_330, r#"{"test": 2432232314}"#),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );

    let receiver = Receiver::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
    let now = i64::try_from(now.as_secs()).expect("now");
    let body = r#"{"type":"tutor.must_act","name":"Jürgen"}"#;
    let deliver = |timestamp: i64, signature: &str, body: &str| {
        let headers = format!(
            "webhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
             webhook-signature: {signature}\r\n"
        );
        post(&receiver, &headers, body);
        let delivery = receiver.received().pop().expect("a delivery");
        library.verify(SECRET, &delivery.headers, &delivery.body)
    };
    let good = library.sign(SECRET, id, now, body);
    let foreign = library.sign(OTHER, id, now, body);
    let old = library.sign(SECRET, id, now - 3600, body);

    let verified = deliver(now, &good, body).expect("a right signature");
    assert_eq!(verified["name"], "Jürgen");
    assert!(deliver(now, &format!("{foreign} {good}"), body).is_ok());
    for (what, outcome) in [
        ("another secret's", deliver(now, &foreign, body)),
        (
            "another body",
            deliver(now, &good, &body.replace("type", "tope")),
        ),
        ("one byte more", deliver(now, &good, &format!("{body} "))),
        ("another time", deliver(now + 1, &good, body)),
        ("no signature", deliver(now, "v1,", body)),
    ] {
        let error = outcome.expect_err(what);
        assert!(error.contains("No matching signature"), "{what}: {error}");
    }
    let error = deliver(now - 3600, &old, body).expect_err("an old one");
    assert!(error.contains("too old"), "{error}");
}

/// Python's client: a letter with these words, or what the server said.
const CLIENT: &str = r#"
import json, smtplib, ssl, sys
from email.message import EmailMessage
task = json.load(sys.stdin)
context = ssl.create_default_context(cadata=task["ca"]) if task["ca"] else None
letter = EmailMessage()
letter["From"], letter["To"], letter["Subject"] = "links@example.org", task["to"], "Grüße"
letter.set_content("Zoom fehlt.\n.\n..zwei\n")
try:
    if task["security"] == "tls":
        client = smtplib.SMTP_SSL("localhost", task["port"], timeout=10, context=context, local_hostname="client")
    else:
        client = smtplib.SMTP("localhost", task["port"], timeout=10, local_hostname="client")
    with client:
        if task["security"] == "starttls":
            client.starttls(context=context)
        if task["user"]:
            client.login(task["user"], task["password"])
        client.send_message(letter)
    print("sent")
except (smtplib.SMTPException, ssl.SSLError) as error:
    print(type(error).__name__, error)
"#;

fn mail(sink: &Sink, security: &str, ca: Option<&str>, login: (&str, &str)) -> String {
    let task = serde_json::json!({
        "port": sink.port(), "security": security, "ca": ca, "to": "ann@example.org",
        "user": login.0, "password": login.1,
    });
    let mut python = Command::new("python3")
        .args(["-c", CLIENT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut input = python.stdin.take().expect("its input");
    write!(input, "{task}").expect("a task");
    drop(input);
    let output = python.wait_with_output().expect("python3 ends");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_sink_keeps_letters_with_envelope_and_login() {
    for (security, name, mechanism) in [
        (Security::Plain, "plain", "PLAIN"),
        (Security::StartTls, "starttls", "LOGIN"),
        (Security::Tls, "tls", "PLAIN"),
    ] {
        let sink = Sink::with_login(security, ("ann@x", "p:ss word"), mechanism);
        assert!(sink.url().contains("ann%40x:p%3Ass%20word@"));
        let mail = |user, password| mail(&sink, name, sink.ca_pem(), (user, password));
        let refused = mail("ann@x", "wrong");
        assert!(refused.contains("535"), "{name}: {refused}");
        assert!(mail("", "").contains("530"), "{name}");
        assert_eq!(sink.letters().len(), 0);
        assert_eq!(mail("ann@x", "p:ss word"), "sent", "{name}");
        let [letter] = <[_; 1]>::try_from(sink.wait_for(1)).expect("one letter");
        assert_eq!(letter.from, "links@example.org");
        assert_eq!(letter.to, ["ann@example.org"]);
        let login = Some(("ann@x".to_owned(), mechanism.to_owned()));
        assert_eq!(letter.login, login);
        assert_eq!(letter.tls, security != Security::Plain);
        let parsed = letter.parsed();
        assert_eq!(parsed["headers"]["subject"], "Grüße");
        assert_eq!(parsed["text"], "Zoom fehlt.\n.\n..zwei\n");
    }
}

#[test]
fn the_sink_proves_who_it_is_to_those_alone_who_trust_it() {
    let other = Sink::start(Security::Tls);
    for (security, name) in [(Security::StartTls, "starttls"), (Security::Tls, "tls")] {
        let sink = Sink::start(security);
        let answer = mail(&sink, name, other.ca_pem(), ("", ""));
        assert!(answer.contains("CERTIFICATE_VERIFY_FAILED"), "{answer}");
        assert_eq!(mail(&sink, name, sink.ca_pem(), ("", "")), "sent");
    }
    let sink = Sink::start(Security::StartTls);
    assert!(mail(&sink, "plain", None, ("", "")).contains("530"));
}

#[test]
fn the_sink_refuses_as_told_and_goes_on() {
    let sink = Sink::start(Security::Plain);
    for (at, reply) in [
        (At::Greeting, "421 later"),
        (At::Sender, "451 later"),
        (At::Recipient, "550 5.1.1 unknown"),
        (At::Data, "554 no"),
        (At::Content, "452 full"),
    ] {
        sink.refuse(1, at, reply);
        let answer = mail(&sink, "plain", None, ("", ""));
        assert!(answer.contains(&reply[..3]), "{at:?}: {answer}");
        assert_eq!(sink.refusals_left(), 0, "{at:?}");
    }
    sink.refuse(2, At::Content, "");
    for _ in 0..2 {
        let answer = mail(&sink, "plain", None, ("", ""));
        assert!(answer.contains("Disconnected"), "{answer}");
        assert!(!answer.contains("timed out"), "{answer}");
    }
    assert_eq!(sink.letters().len(), 0);
    assert_eq!(mail(&sink, "plain", None, ("", "")), "sent");
    assert_eq!(sink.wait_for(1).len(), 1);
    assert_eq!(sink.connections(), 8);
}
