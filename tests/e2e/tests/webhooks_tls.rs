//! Webhooks over TLS, and receivers that nobody can reach.

#[path = "support/certificate.rs"]
mod certificate;
#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/notices.rs"]
mod notices;
#[path = "support/webhook.rs"]
mod webhook;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hooks::{posting, wait_for_reload};
use meetlink_e2e::app::App;
use meetlink_e2e::free_address;
use notices::{parked, wait_for_delivery};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use webhook::Receiver;

/// Ends TLS and passes on what is inside, to a receiver that speaks plaintext.
struct Gate {
    port: u16,
    pem: String,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Gate {
    fn before(receiver: &Receiver) -> Self {
        let inside = receiver.url();
        let inside = inside["http://".len()..]
            .split('/')
            .next()
            .expect("an address")
            .to_owned();
        let (config, pem) = certificate::certified();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let accepting = std::thread::spawn(move || {
            for outside in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that trusts nobody ends the handshake; that is for the test to see.
                let _ = pass(outside, &inside, &config);
            }
        });
        Self {
            port,
            pem,
            over,
            accepting: Some(accepting),
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/hooks/meetlink", self.port)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// One request and its answer.
fn pass(outside: TcpStream, inside: &str, config: &Arc<ServerConfig>) -> std::io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut outside = StreamOwned::new(connection, outside);
    let mut inside = TcpStream::connect(inside)?;
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !is_whole(&request) {
        match outside.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    inside.write_all(&request)?;
    let read = inside.read(&mut part)?;
    outside.write_all(&part[..read])?;
    outside.flush()?;
    outside.conn.send_close_notify();
    outside.flush()
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

#[test]
fn a_receiver_is_talked_to_once_its_authority_is_trusted() {
    let receiver = Receiver::start();
    let gate = Gate::before(&receiver);
    let mut app = posting(&gate.url(), |options| {
        options.set("meetlink.max_attempts", "1000")
    });
    let (_, _, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "webhook", "two tries", |d| d.attempts >= 2);
    assert!(receiver.received().is_empty(), "sent to somebody unknown");
    let file = app.cluster.write_file("ca.pem", &gate.pem, 0o644);
    app.cluster
        .set("meetlink.ca_file", &file.display().to_string());
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
    assert_eq!(receiver.received()[0].json()["type"], "meetlink.connect");
}

#[test]
fn plaintext_leaves_the_machine_never() {
    let receiver = Receiver::start();
    let mut app = posting(&receiver.url(), |options| options);
    let mark = app.cluster.log_mark();
    app.cluster
        .set("meetlink.webhook_url", "http://receiver.example/hook");
    assert!(app.cluster.log_from(mark).contains("meetlink.webhook_url"));
    // The server keeps the value that it had.
    wait_for_reload(&app);
    parked(&app, "Ned");
    receiver.wait_for(1);
}

/// Posts to a port on which nobody listens, again and again.
fn posting_nowhere() -> App {
    let url = format!("http://{}/hook", free_address());
    posting(&url, |options| options.set("meetlink.max_attempts", "1000"))
}

#[test]
fn a_receiver_that_is_not_there_costs_nothing_but_tries() {
    let mut app = posting_nowhere();
    let (_, _, notice) = parked(&app, "Ned");
    let failed = wait_for_delivery(&app, notice.id, "webhook", "two tries", |d| d.attempts >= 2);
    assert!(failed.error.expect("why").contains("meetlink.webhook_url"));
    wait_for_reload(&app);
    let receiver = Receiver::start();
    app.cluster.set("meetlink.webhook_url", &receiver.url());
    wait_for_delivery(&app, notice.id, "webhook", "its end", |d| d.delivered);
}

/// The cause goes while the receiver is away: nobody is told what is no longer true.
#[test]
fn what_is_resolved_meanwhile_is_posted_no_more() {
    let mut app = posting_nowhere();
    let (tutor, session, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "webhook", "a try", |d| d.attempts >= 1);
    let account = meetlink_simulator::AccountSpec::named("Ned");
    app.connect(tutor, meetlink_simulator::Provider::Zoom, account);
    app.wait_for_link(session);
    let end = wait_for_delivery(&app, notice.id, "webhook", "its end", |d| !d.due);
    assert!(!end.delivered);
    let receiver = Receiver::start();
    app.cluster.set("meetlink.webhook_url", &receiver.url());
    let (other, _, _) = parked(&app, "Nina");
    let posted = receiver.wait_for(1);
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].json()["data"]["tutor_id"], other.0.to_string());
}
