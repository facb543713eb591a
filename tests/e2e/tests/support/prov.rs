//! What the tests of tokens, providers and failures share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use meetlink_e2e::app::{App, DATABASE, Person, name_of};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::{Account, AccountSpec, Call, Entry, Provider, Simulator};
use serde_json::Value;
use uuid::Uuid;

/// A line of the ledger.
#[derive(Debug)]
pub struct Attempt {
    pub number: i32,
    pub provider: Option<String>,
    pub class: String,
    pub status: Option<i32>,
    pub code: Option<String>,
    pub error: Option<String>,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

/// The ledger of one session, in order.
pub fn ledger(app: &App, session: Uuid) -> Vec<Attempt> {
    let rows = app.client().query(
        "SELECT number, provider, class, http_status, code, error, started_at, ended_at
           FROM meetlink.attempts WHERE session_id = $1 ORDER BY id",
        &[&session],
    );
    rows.expect("the ledger")
        .iter()
        .map(|row| Attempt {
            number: row.get(0),
            provider: row.get(1),
            class: row.get(2),
            status: row.get(3),
            code: row.get(4),
            error: row.get(5),
            started_at: row.get(6),
            ended_at: row.get(7),
        })
        .collect()
}

/// Waits until the ledger has so many lines.
pub fn wait_for_attempts(app: &App, session: Uuid, count: usize) -> Vec<Attempt> {
    let what = format!("{count} attempts of session {session}");
    wait::until(Duration::from_secs(20), &what, || {
        let attempts = ledger(app, session);
        (attempts.len() >= count).then_some(attempts)
    })
}

/// The classes of a session's attempts, in order.
pub fn classes(app: &App, session: Uuid) -> Vec<String> {
    ledger(app, session).into_iter().map(|a| a.class).collect()
}

/// What the operator sees about a session's job.
pub fn last_error(app: &App, session: Uuid) -> Option<String> {
    let row = app.client().query_one(
        "SELECT COALESCE(q.last_error, j.last_error)
           FROM meetlink.jobs j LEFT JOIN meetlink.queue q USING (session_id)
          WHERE j.session_id = $1",
        &[&session],
    );
    row.expect("a job").get(0)
}

/// `connection_status` of a tutor who has one connection.
pub fn connection_status(app: &App, tutor: Person) -> String {
    let row = app.client().query_one(
        "SELECT connection_status FROM tutor_video_provider_connections WHERE tutor_id = $1",
        &[&tutor.0],
    );
    row.expect("a connection").get(0)
}

/// The provider that stands in a session.
pub fn provider_of(app: &App, session: Uuid) -> String {
    let row = app
        .client()
        .query_one("SELECT provider FROM sessions WHERE id = $1", &[&session]);
    row.expect("a session").get(0)
}

/// `meetlink_retry` as a superuser.
pub fn retry(app: &App, session: Uuid) -> Value {
    let row = app
        .client()
        .query_one("SELECT meetlink_retry($1)", &[&session]);
    row.expect("meetlink_retry").get(0)
}

/// Connects with tokens of one's own choice.
pub fn connect(
    app: &App,
    tutor: Person,
    provider: Provider,
    refresh: &str,
    access: Option<(&str, DateTime<Utc>)>,
) {
    let connected = app.client().execute(
        "SELECT meetlink_connect($1, $2, $3, $4, $5)",
        &[
            &tutor.0,
            &name_of(provider),
            &refresh,
            &access.map(|(token, _)| token),
            &access.map(|(_, end)| end),
        ],
    );
    connected.expect("the tutor is connected");
}

/// A tutor whose access token is over and whose refresh token is good.
pub fn stale_tutor(app: &App, provider: Provider, name: &str) -> (Person, Account) {
    let tutor = app.person("tutor", name);
    let account = app
        .simulator
        .add_account(provider, AccountSpec::named(name));
    let over = Utc::now() - chrono::Duration::minutes(5);
    let access = Some((account.access_token.as_str(), over));
    connect(app, tutor, provider, &account.refresh_token, access);
    (tutor, account)
}

/// Confirms many bookings of one tutor in one statement, sooner than others; gives their sessions.
pub fn book_many(app: &App, tutor: Person, student: Person, count: i64) -> Vec<Uuid> {
    let mut client = app.client();
    client
        .execute(
            "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at, confirmed_end_at)
             SELECT $1, $2, 'CONFIRMED', now() + n * interval '1 min',
                    now() + interval '2 hours'
               FROM generate_series(1, $3::bigint) n",
            &[&tutor.0, &student.0, &count],
        )
        .expect("bookings");
    let rows = client.query("SELECT id FROM sessions WHERE tutor_id = $1", &[&tutor.0]);
    rows.expect("sessions").iter().map(|r| r.get(0)).collect()
}

/// How many requests of a kind the provider received.
pub fn count(app: &App, provider: Provider, call: Call) -> usize {
    app.simulator.calls(provider, call).len()
}

/// The requests that make a meeting, of one account.
pub fn creates(app: &App, provider: Provider, account: &str) -> Vec<Entry> {
    let mut calls = app.simulator.calls(provider, Call::Create);
    calls.retain(|entry| entry.account.as_deref() == Some(account));
    calls
}

/// The live meetings of one account.
pub fn meetings_of(app: &App, provider: Provider, account: &str) -> usize {
    let meetings = app.simulator.meetings(provider);
    meetings.iter().filter(|m| m.account == account).count()
}

/// What people read must hold no code, no markup, no address and nothing a provider wrote.
pub fn assert_plain(status: &Value) {
    let message = status["message"].as_str().expect("a message");
    assert!(message.ends_with('.') && message.len() < 200, "{message}");
    for sign in ['_', '{', '<', '"', ':', '\n'] {
        assert!(!message.contains(sign), "{message}");
    }
    assert!(!message.bytes().any(|b| b.is_ascii_digit()), "{message}");
    for word in ["Bearer", "Backend", "Validation", "Invalid", "http"] {
        assert!(!message.contains(word), "{message}");
    }
}

/// Everything that the database holds, as pg_dump writes it.
pub fn dump(cluster: &Cluster) -> String {
    let output = Command::new(cluster.bin_dir().join("pg_dump"))
        .args(["-h", &cluster.socket_dir().display().to_string()])
        .args(["-p", &Cluster::PORT.to_string(), "-U", "postgres", DATABASE])
        .output()
        .expect("pg_dump runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// No secret of an account or of the operator is in the database or in the server's log.
pub fn assert_no_secrets(app: &App, accounts: &[(Provider, &str)]) {
    let (dumped, log) = (dump(&app.cluster), app.cluster.log());
    assert!(dumped.contains("\tml1."), "the dump holds the envelopes");
    let mut secrets = Vec::new();
    for provider in [Provider::Google, Provider::Zoom] {
        secrets.push(app.simulator.client(provider).1);
    }
    for (provider, name) in accounts {
        let account = app.simulator.account(*provider, name).expect("an account");
        secrets.extend([account.access_token, account.refresh_token]);
    }
    for secret in secrets {
        assert!(secret.len() > 5, "a secret that proves something");
        assert!(!dumped.contains(&secret), "{secret} is in the database");
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}

/// A tutor whose sessions show that the worker goes on whatever happens to others.
pub struct Witness {
    tutor: Person,
    student: Person,
}

impl Witness {
    pub fn new(app: &App, provider: Provider) -> Self {
        let tutor = app.tutor(provider, &format!("{provider:?} Witness"));
        let student = app.person("student", "Witness Student");
        Self { tutor, student }
    }

    /// A new session of the witness gets its link, from the worker that was there before.
    pub fn still_served(&self, app: &App) {
        let pid = app.worker_pid();
        app.wait_for_link(app.book(self.tutor, self.student));
        assert_eq!(app.worker_pid(), pid, "the worker was replaced");
    }
}

/// A request of somebody else to the simulator, as a tutor makes in a browser; gives the status.
pub fn call(
    simulator: &Simulator,
    method: &str,
    url: &str,
    account: &Account,
    body: Option<&Value>,
) -> u16 {
    let path = url.strip_prefix(simulator.url()).expect("a path");
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n\
         {body}",
        host = simulator.address(),
        token = account.access_token,
        length = body.len(),
    );
    let mut stream = TcpStream::connect(simulator.address()).expect("the simulator");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    status.expect("a status")
}
