//! A cluster with a simulator on which one point after another is tried.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::Utc;
use meetlink_simulator::{Account, AccountSpec, Provider, Simulator};
use postgres::{Client, NoTls};
use uuid::Uuid;

use super::point::Point;
use super::proc;
use super::strace::{Nth, Tracer};
use super::{Result, Scenario, Strand, Way, revive};
use crate::app::{App, DATABASE, Person, name_of};
use crate::{Cluster, StopMode};

/// Far beyond what a start or a wake takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A worker that was not scheduled for so long has nothing to do.
const QUIET: Duration = Duration::from_millis(30);
const PAUSE: Duration = Duration::from_millis(3);

pub(super) struct Stage {
    pub app: App,
    student: Person,
    /// The tutors whose sessions warm a new worker up.
    warm: [Person; 2],
    /// `synchronous_commit` of the database, once it was set.
    durable: Option<bool>,
    /// Whether the next point wants a server that was started anew: the launcher has seen a worker end
    /// and would wait longer with each, or the worker lives on and is warmer than it was.
    stale: bool,
    /// What was tried here.
    pub tried: Vec<Tried>,
    tutors: usize,
}

/// A point that was tried, and with whom.
pub(super) struct Tried {
    pub point: Point,
    pub session: Uuid,
    pub tutor: Person,
    pub account: Account,
}

/// What makes the worker forget: the date of a request is gone as soon as the job is claimed.
const FORGET: &str = "
    CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF NEW.state = ''creating'' THEN NEW.may_exist_since := NULL; END IF; RETURN NEW; END';
    CREATE TRIGGER forget BEFORE UPDATE ON meetlink.jobs FOR EACH ROW EXECUTE FUNCTION forget()";

/// A worker that is asleep, and a tutor who is about to have a session.
pub(super) struct Target {
    pub pid: i32,
    main: i32,
    http: i32,
    tutor: Person,
    pub account: Account,
    /// The refresh token as it was stored at first.
    envelope: String,
}

impl Target {
    /// The thread whose calls are counted.
    pub fn thread(&self, strand: Strand) -> i32 {
        match strand {
            Strand::Main => self.main,
            Strand::Http => self.http,
        }
    }
}

impl Scenario {
    pub(super) fn provider(self) -> Provider {
        match self {
            Scenario::Google => Provider::Google,
            Scenario::Zoom | Scenario::ZoomRefresh => Provider::Zoom,
        }
    }
}

impl Stage {
    pub fn new(forgetful: bool) -> Self {
        let app = App::with(|options| {
            options
                .set("meetlink.concurrency", "1")
                .set("meetlink.settle_time", "200ms")
                .set("meetlink.backoff_base", "30ms")
                .set("meetlink.backoff_max", "500ms")
                // Its processes come and go, and would only change the number of calls.
                // The calls of a real flush are points too.
                .set("fsync", "on")
                .set("autovacuum", "off")
        });
        if forgetful {
            app.client()
                .batch_execute(FORGET)
                .expect("a trigger is made");
        }
        let student = app.person("student", "Sam");
        let warm = [Provider::Google, Provider::Zoom]
            .map(|provider| app.tutor(provider, &format!("Warm {provider:?}")));
        Self {
            app,
            student,
            warm,
            durable: None,
            stale: false,
            tried: Vec::new(),
            tutors: 0,
        }
    }

    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.app.cluster
    }

    pub fn simulator(&self) -> &Simulator {
        &self.app.simulator
    }

    /// A connection whose own commits are durable, whatever the database's default is: what is
    /// tried is whether the worker's are.
    pub fn connect(&self) -> std::result::Result<Client, postgres::Error> {
        self.app
            .cluster
            .config(DATABASE, "postgres")
            .options("-c synchronous_commit=on")
            .connect(NoTls)
    }

    /// Looks until it finds something; what fails meanwhile is no matter, a server may be dying.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(format!("waited {PATIENCE:?} in vain for {what}"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Starts the server if it is down, and waits until it answers.
    pub fn wake_server(&mut self) -> Result<Client> {
        if !self.app.cluster.is_running() {
            revive(&mut self.app.cluster)?;
            self.stale = false;
        }
        self.wait("the server to answer", |stage| stage.connect().ok())
    }

    /// Sets `synchronous_commit` for everybody who connects from now on, the worker included.
    pub fn set_durable(&mut self, durable: bool) -> Result<()> {
        if self.durable == Some(durable) {
            return Ok(());
        }
        let value = if durable { "on" } else { "off" };
        let alter = format!("ALTER DATABASE {DATABASE} SET synchronous_commit = {value}");
        self.wake_server()?
            .batch_execute(&alter)
            .map_err(|error| format!("{alter}: {error}"))?;
        self.restart();
        self.durable = Some(durable);
        Ok(())
    }

    fn restart(&mut self) {
        self.app.cluster.restart(StopMode::Fast);
        self.stale = false;
    }

    /// To be said when the server lived on.
    pub fn lived_on(&mut self) {
        self.stale = true;
    }

    /// A worker that has done such a session before and is asleep, and a fresh tutor for the next.
    pub fn prepare(&mut self, scenario: Scenario) -> Result<Target> {
        if self.stale {
            self.restart();
        }
        let mut client = self.wake_server()?;
        let provider = scenario.provider();
        let warm = self.warm[usize::from(provider == Provider::Zoom)];
        self.worker(&mut client)?;
        // One session makes the HTTP thread; further ones change the number of calls, since Postgres
        // keeps the plans of statements that it has seen a few times.
        let session = Uuid::new_v4();
        self.book(&mut client, session, warm, provider)?;
        self.wait("the link of the session that warms up", |_| {
            link(&mut client, session)
        })?;
        let pid = self.worker(&mut client)?;
        let (tutor, account) = self.tutor(scenario);
        let http = match proc::threads_named(pid, "meetlink http")[..] {
            [one] => one,
            ref many => return Err(format!("the worker has {} HTTP threads", many.len())),
        };
        self.wait_until_quiet(pid)?;
        let envelope = envelope(&mut client, tutor)?;
        Ok(Target {
            pid,
            main: pid,
            http,
            tutor,
            account,
            envelope,
        })
    }

    /// Whether another refresh token was stored than the one that the tutor brought.
    pub fn has_new_token(&self, client: &mut Client, target: &Target) -> Result<bool> {
        Ok(envelope(client, target.tutor)? != target.envelope)
    }

    fn worker(&self, client: &mut Client) -> Result<i32> {
        self.wait("a worker that is idle", |_| {
            let query = "SELECT pid FROM meetlink.workers WHERE state = 'idle'";
            client.query_opt(query, &[]).ok()??.get(0)
        })
    }

    fn wait_until_quiet(&self, pid: i32) -> Result<()> {
        self.wait("the worker to be quiet", |_| {
            is_quiet(pid, QUIET).then_some(())
        })
    }

    fn tutor(&mut self, scenario: Scenario) -> (Person, Account) {
        let provider = scenario.provider();
        self.tutors += 1;
        let name = format!("Tutor {}", self.tutors);
        let tutor = self.app.person("tutor", &name);
        let account = self
            .app
            .simulator
            .add_account(provider, AccountSpec::named(&name));
        let mut expires_at = account.expires_at;
        if scenario == Scenario::ZoomRefresh {
            self.app.simulator.expire_access_tokens(&account);
            expires_at = Utc::now() - chrono::TimeDelta::hours(1);
        }
        self.app
            .client()
            .execute(
                "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                &[
                    &tutor.0,
                    &name_of(provider),
                    &account.refresh_token,
                    &account.access_token,
                    &expires_at,
                ],
            )
            .expect("the tutor is connected");
        (tutor, account)
    }

    /// Inserts a session as an application without a trigger of its own would.
    pub fn book(
        &self,
        client: &mut Client,
        session: Uuid,
        tutor: Person,
        provider: Provider,
    ) -> Result<()> {
        client
            .execute(
                "WITH b AS (INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2)
                            RETURNING id)
                 INSERT INTO sessions (id, booking_id, tutor_id, student_id, provider,
                                       scheduled_start_at, scheduled_end_at, duration_minutes)
                 SELECT $4, id, $1, $2, $3, now() + interval '1 h', now() + interval '2 h', 60
                   FROM b",
                &[&tutor.0, &self.student.0, &name_of(provider), &session],
            )
            .map_err(|error| format!("booking a session: {error}"))
            .map(drop)
    }

    /// Books the session that a target was prepared for.
    pub fn strike(&mut self, client: &mut Client, target: &Target, point: &Point) -> Result<Uuid> {
        let session = Uuid::new_v4();
        self.tried.push(Tried {
            point: point.clone(),
            session,
            tutor: target.tutor,
            account: target.account.clone(),
        });
        let provider = point.scenario.provider();
        let booked = self.book(client, session, target.tutor, provider);
        // A worker that is killed may take our connection along before we hear of the commit.
        if point.way != Way::KillWorker {
            booked?;
        }
        Ok(session)
    }

    /// What the server said last.
    pub fn end_of_log(&self) -> Vec<String> {
        let log = self.app.cluster.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(12);
        lines[from..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }

    pub fn strace_log(&self) -> PathBuf {
        self.app.cluster.base().join("strace.log")
    }

    /// The calls of a thread from its wake until it sleeps again, nothing disturbing it, and one that
    /// is not made any more.
    pub fn measure(&mut self, scenario: Scenario, strand: Strand) -> Result<Vec<Nth>> {
        let target = self.prepare(scenario)?;
        let mut client = self.wake_server()?;
        let log = self.strace_log();
        let tracer = Tracer::attach(target.thread(strand), &log, None)?;
        let session = Uuid::new_v4();
        self.book(&mut client, session, target.tutor, scenario.provider())?;
        self.wait("a link while nothing disturbs", |_| {
            link(&mut client, session)
        })?;
        self.wait_until_quiet(target.pid)?;
        self.lived_on();
        let mut calls = tracer.calls();
        // The call in which it slept, which attaching interrupts and which is made again then.
        calls.remove(0);
        let beyond = calls.last().map(|last| Nth {
            name: last.name.clone(),
            number: last.number + 1,
        });
        calls.extend(beyond);
        Ok(calls)
    }
}

fn envelope(client: &mut Client, tutor: Person) -> Result<String> {
    let query = "SELECT refresh_token_encrypted FROM tutor_video_provider_connections
                  WHERE tutor_id = $1";
    let row = client.query_one(query, &[&tutor.0]);
    row.map(|row| row.get(0))
        .map_err(|error| format!("{query}: {error}"))
}

/// Whether a process does nothing for a while.
pub(super) fn is_quiet(pid: i32, how_long: Duration) -> bool {
    let before = proc::switches(pid);
    std::thread::sleep(how_long);
    proc::switches(pid) == before
}

/// A session's link, if it is there.
pub(super) fn link(client: &mut Client, session: Uuid) -> Option<String> {
    let query = "SELECT join_url FROM sessions WHERE id = $1";
    client.query_opt(query, &[&session]).ok()??.get(0)
}
