//! One point of the sweep: a session is booked, the worker dies at its N-th call, and is awaited
//! again.

use std::fmt;
use std::time::{Duration, Instant};

use postgres::Client;
use rustix::process::Signal;
use uuid::Uuid;

use super::proc;
use super::stage::{self, Stage, Target};
use super::strace::{Injection, Nth, Tracer};
use super::verdict::{self, End};
use super::{Result, Scenario, Strand, Way};

/// How long the worker may take to come to its N-th call, or to the link.
const PATIENCE: Duration = Duration::from_secs(20);
/// A worker that did nothing for so long, and was not stopped, has passed the call or never made it.
const QUIET: Duration = Duration::from_millis(100);

/// Where and how the worker is to die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it is busy with.
    pub scenario: Scenario,
    /// How it dies.
    pub way: Way,
    /// Whose calls are counted.
    pub strand: Strand,
    /// At which call, from 1 at the wake; 0 where it is known by name only.
    pub at: u64,
    /// The same call by name.
    pub call: Nth,
    /// Whether the database has `synchronous_commit = on`.
    pub durable: bool,
}

impl fmt::Display for Point {
    /// The options that try just this point again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--scenario {} --way {} --thread {} --at {} --synchronous-commit {}",
            self.scenario.name(),
            self.way.name(),
            self.strand.name(),
            self.call,
            if self.durable { "on" } else { "off" },
        )
    }
}

/// Tries a point.
pub(super) fn run(stage: &mut Stage, point: &Point) -> Result<End> {
    stage.set_durable(point.durable)?;
    let target = stage.prepare(point.scenario)?;
    let mut client = stage.wake_server()?;
    stage.simulator().clear_journal();
    let injection = Injection {
        signal: match point.way {
            Way::KillWorker => "SIGKILL",
            _ => "SIGSTOP",
        },
        at: &point.call,
    };
    let tid = target.thread(point.strand);
    let mut tracer = Tracer::attach(tid, &stage.strace_log(), Some(injection))?;
    let session = stage.strike(&mut client, &target, point)?;
    if await_call(point, &target, &mut tracer, &mut client, session)? {
        die(stage, point, &target, tracer, client)?;
        verdict::after_death(stage, point.scenario, session, &target)
    } else {
        tracer.end();
        stage.lived_on();
        verdict::undisturbed(stage, session, &target)
    }
}

/// Waits until the injected signal has come, or until the link is there without it.
fn await_call(
    point: &Point,
    target: &Target,
    tracer: &mut Tracer,
    client: &mut Client,
    session: Uuid,
) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let (mut switches, mut since) = (0, Instant::now());
    while Instant::now() < deadline {
        let reached = match point.way {
            Way::KillWorker => tracer.has_ended(),
            _ => tracer.stands(),
        };
        if reached {
            return Ok(true);
        }
        let now = proc::switches(target.pid);
        if now != switches {
            (switches, since) = (now, Instant::now());
        }
        // A worker that stands still may hold a lock that a query would wait for: so it is asked
        // only when the worker is asleep of its own accord.
        if since.elapsed() > QUIET && stage::link(client, session).is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!(
        "the worker neither came to its call nor made a link in {PATIENCE:?}, after {} calls",
        tracer.calls().len()
    ))
}

/// Has the worker end in the point's way, and returns when it is gone.
fn die(
    stage: &mut Stage,
    point: &Point,
    target: &Target,
    tracer: Tracer,
    client: Client,
) -> Result<()> {
    let postmaster = i32::try_from(stage.cluster().pid()).map_err(|error| error.to_string())?;
    match point.way {
        Way::KillWorker => {}
        Way::KillPostmaster => {
            proc::send(postmaster, Signal::KILL)?;
            wait_for_postmaster(stage)?;
        }
        Way::Immediate => proc::send(postmaster, Signal::QUIT)?,
        Way::Terminate => terminate(client, target.pid)?,
    }
    tracer.end();
    if point.way != Way::KillWorker {
        proc::send(target.pid, Signal::CONT)?;
    }
    match point.way {
        Way::Immediate => wait_for_postmaster(stage)?,
        Way::Terminate => stage.lived_on(),
        Way::KillWorker | Way::KillPostmaster => {}
    }
    stage.wait("the worker to be gone", |_| {
        (!proc::alive(target.pid)).then_some(())
    })
}

fn wait_for_postmaster(stage: &mut Stage) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while stage.cluster().is_running() {
        if Instant::now() > deadline {
            return Err("the postmaster does not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// `pg_terminate_backend`, which only sends a signal: the worker, which stands still, takes it when
/// it goes on. Should the function wait for a lock that the worker holds, it is not waited for.
fn terminate(mut client: Client, pid: i32) -> Result<()> {
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let done = client.query_one("SELECT pg_terminate_backend($1)", &[&pid]);
        let _ = sender.send(done.map(|row| row.get::<_, bool>(0)));
    });
    match answer.recv_timeout(Duration::from_secs(1)) {
        Ok(Ok(true)) | Err(_) => Ok(()),
        Ok(Ok(false)) => Err("pg_terminate_backend found no such process".to_owned()),
        Ok(Err(error)) => Err(format!("pg_terminate_backend: {error}")),
    }
}
