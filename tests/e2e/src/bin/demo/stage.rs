//! The private cluster, the simulator, the reference application and its people.

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, DATABASE, Person};
use meetlink_simulator::{AccountSpec, Latency, Options, Provider};
use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::{Outcome, say};

/// What the simulator takes for an answer: about what the real ones do.
const ANSWER_MS: u64 = 100;
/// A link that takes longer than this does not come.
const PATIENCE: &str = "10 s";

pub struct Stage {
    pub app: App,
    pub google: Person,
    pub zoom: Person,
    pub student: Person,
    /// The connection on which everything is done.
    pub client: Client,
}

/// A confirmed booking: its session, and when COMMIT had returned.
pub struct Booked {
    pub session: Uuid,
    pub committed: Instant,
}

impl Stage {
    /// Starts everything and connects one Google and one Zoom tutor.
    pub fn set() -> Result<Self, String> {
        say::title(
            "1. A private PostgreSQL, the reference application, and a stand-in for the providers",
        );
        let latency = Latency {
            api_ms: ANSWER_MS,
            token_ms: ANSWER_MS,
        };
        let options = Options {
            google_latency: latency,
            zoom_latency: latency,
            control: true,
            ..Options::default()
        };
        let begun = Instant::now();
        let app = App::unattached(options, |options| {
            options
                .set("meetlink.backoff_base", "200ms")
                .set("meetlink.settle_time", "300ms")
        });
        say::took(
            begun.elapsed(),
            &format!("everything runs in {}", app.cluster.base().display()),
        );
        say::line(
            "PostgreSQL 15 is reachable through a socket in that folder only: no port is opened,",
        );
        say::line("and no other cluster of this machine is touched.");
        say::line(
            "The provider is a simulator on this machine: it plays Google and Zoom by their rules",
        );
        say::line(&format!(
            "at {}, and takes {ANSWER_MS} ms for an answer.",
            app.simulator.url()
        ));
        say::line(
            "The application is sql/reference_app.sql: people, bookings, sessions, row security, and",
        );
        say::line(
            "its own trigger that inserts a session when a booking is confirmed. Have a look.",
        );

        say::title("2. meetlink comes in");
        let begun = Instant::now();
        app.attach();
        app.worker_pid();
        say::command("CREATE EXTENSION meetlink;");
        say::command("SELECT meetlink_attach();       -- finds the tables, adds its triggers");
        say::command(
            "SELECT meetlink_configure_provider('zoom', 'id', 'secret');    -- the same for Google",
        );
        say::took(begun.elapsed(), "done, and its background worker runs");

        let google = app.person("tutor", "Greta Google");
        let zoom = app.person("tutor", "Zoe Zoom");
        let student = app.person("student", "Sam Student");
        let client = app.client();
        let mut stage = Self {
            app,
            google,
            zoom,
            student,
            client,
        };
        say::title("3. Two tutors connect their accounts");
        stage.connect(google, Provider::Google, "Greta Google")?;
        stage.connect(zoom, Provider::Zoom, "Zoe Zoom")?;
        say::line("Their tokens are stored encrypted (AES-256-GCM).");
        Ok(stage)
    }

    /// Gives a tutor an account at the simulator and connects it.
    pub fn connect(&mut self, tutor: Person, provider: Provider, name: &str) -> Outcome {
        let account = self
            .app
            .simulator
            .add_account(provider, AccountSpec::named(name));
        let provider = meetlink_e2e::app::name_of(provider);
        let begun = Instant::now();
        self.client
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &tutor.0,
                    &provider,
                    &account.refresh_token,
                    &account.access_token,
                    &account.expires_at,
                ],
            )
            .map_err(|error| format!("{name} could not be connected: {}", plain(&error)))?;
        let took = begun.elapsed();
        say::command(&format!(
            "SELECT meetlink_connect('{}', '{provider}', refresh_token, ...);",
            short(tutor.0)
        ));
        say::took(took, &format!("{name} is connected"));
        Ok(())
    }

    /// Confirms a booking in the role `authenticated`, as the tutor.
    pub fn confirm(&mut self, tutor: Person, show: bool) -> Result<Booked, String> {
        let booking: Uuid = self
            .client
            .query_one(
                "INSERT INTO bookings (tutor_id, student_id, confirmed_start_at, confirmed_end_at)
                 VALUES ($1, $2, now() + interval '1 day', now() + interval '1 day 50 minutes')
                 RETURNING id",
                &[&tutor.0, &self.student.0],
            )
            .map_err(|error| plain(&error))?
            .get(0);
        let become_tutor = format!(
            "SET LOCAL ROLE authenticated; SET LOCAL request.jwt.claim.sub = '{}'",
            tutor.0
        );
        let confirm = format!("UPDATE bookings SET status = 'CONFIRMED' WHERE id = '{booking}'");
        if show {
            say::command(&format!(
                "BEGIN; {};",
                become_tutor.replace(&tutor.0.to_string(), &short(tutor.0))
            ));
            say::command(&format!(
                "{};\nCOMMIT;",
                confirm.replace(&booking.to_string(), &short(booking))
            ));
        }
        let mut transaction = self.client.transaction().map_err(|error| plain(&error))?;
        transaction
            .batch_execute(&format!("{become_tutor}; {confirm}"))
            .map_err(|error| format!("the booking could not be confirmed: {}", plain(&error)))?;
        let row = transaction
            .query_opt("SELECT id FROM sessions WHERE booking_id = $1", &[&booking])
            .map_err(|error| plain(&error))?;
        transaction.commit().map_err(|error| plain(&error))?;
        let committed = Instant::now();
        let session = row
            .ok_or("the application's trigger made no session; the server's log says why")?
            .get(0);
        Ok(Booked { session, committed })
    }

    /// Waits for a session's link; gives it with the time since COMMIT.
    pub fn link(&mut self, booked: &Booked) -> Result<(String, Duration), String> {
        let row = self
            .client
            .query_one(
                &format!("SELECT meetlink_wait($1, '{PATIENCE}')"),
                &[&booked.session],
            )
            .map_err(|error| plain(&error))?;
        let took = booked.committed.elapsed();
        match row.get::<_, Option<String>>(0) {
            Some(link) => Ok((link, took)),
            None => Err(format!(
                "session {} has no link after {PATIENCE}; meetlink_status says\n{:#}",
                booked.session,
                self.status(booked.session)?
            )),
        }
    }

    /// What meetlink_status tells a person of the application.
    pub fn status_as(&mut self, person: Person, session: Uuid) -> Result<Value, String> {
        self.app
            .try_status_as(person, session)
            .map_err(|error| plain(&error))
    }

    pub fn status(&mut self, session: Uuid) -> Result<Value, String> {
        let row = self
            .client
            .query_one("SELECT meetlink_status($1)", &[&session])
            .map_err(|error| plain(&error))?;
        Ok(row.get(0))
    }

    /// Waits for a state.
    pub fn wait_for_state(&mut self, session: Uuid, state: &str) -> Result<Value, String> {
        let begun = Instant::now();
        loop {
            let status = self.status(session)?;
            if status["state"] == state {
                return Ok(status);
            }
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(format!(
                    "session {session} should be {state} by now; meetlink_status says\n{status:#}"
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs psql, and gives what it prints.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        let output = self
            .app
            .cluster
            .psql_command(DATABASE, "postgres")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off"])
            .args(["-P", "null=-", "-P", "footer=off"])
            .args([
                "-P",
                "format=wrapped",
                "-P",
                &format!("columns={}", say::ROOM),
            ])
            .args(["-c", sql])
            .output()
            .map_err(|error| format!("psql could not be started: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn end_of_log(&self) -> String {
        let log = self.app.cluster.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(15);
        format!("The end of the server's log:\n{}", lines[from..].join("\n"))
    }
}

/// A uuid as short as a line of the demo wants it.
pub fn short(id: Uuid) -> String {
    let text = id.to_string();
    format!("{}...", &text[..8])
}

/// The server's message without wrapping.
pub fn plain(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}
