//! The deaths, in turn, and what else stops the worker.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use meetlink_e2e::torture::{alive, revive, send};
use meetlink_e2e::{Cluster, StopMode, wait};
use rustix::process::Signal;

use super::World;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long meetlink is switched off, or paused.
const STOPPED: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    KillWorker,
    KillPostmaster,
    Immediate,
    TerminateWorker,
    TerminateLauncher,
    FastRestart,
    SwitchOff,
    Pause,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::KillWorker,
        Kind::KillPostmaster,
        Kind::SwitchOff,
        Kind::Immediate,
        Kind::TerminateWorker,
        Kind::Pause,
        Kind::TerminateLauncher,
        Kind::FastRestart,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::KillWorker => "SIGKILL to the worker",
            Kind::KillPostmaster => "SIGKILL to the postmaster",
            Kind::Immediate => "immediate stop, start",
            Kind::TerminateWorker => "pg_terminate_backend of the worker",
            Kind::TerminateLauncher => "pg_terminate_backend of the launcher",
            Kind::FastRestart => "fast restart",
            Kind::SwitchOff => "meetlink.enabled off and on",
            Kind::Pause => "meetlink_pause, meetlink_resume",
        }
    }
}

pub struct Kill {
    pub kind: Kind,
    pub at: DateTime<Utc>,
    /// Until there was a worker again.
    pub back_after: Duration,
}

#[derive(Default)]
pub struct Kills(pub Vec<Kill>);

impl Kills {
    /// The next one in turn; returns when there is a worker again.
    pub fn strike(&mut self, world: &World<'_>, cluster: &mut Cluster) {
        let kind = Kind::ALL[self.0.len() % Kind::ALL.len()];
        let worker = backend(world, "meetlink worker");
        let launcher = backend(world, "meetlink launcher");
        let at = Utc::now();
        let begun = Instant::now();
        let must = |sent: Result<(), String>| sent.expect("a signal is sent");
        match kind {
            Kind::KillWorker => must(send(worker, Signal::KILL)),
            Kind::KillPostmaster => {
                let postmaster = i32::try_from(cluster.pid()).expect("a pid");
                must(send(postmaster, Signal::KILL));
                revive(cluster).expect("the server starts again");
            }
            Kind::Immediate => drop(cluster.restart(StopMode::Immediate)),
            Kind::FastRestart => drop(cluster.restart(StopMode::Fast)),
            Kind::TerminateWorker => terminate(world, worker),
            Kind::TerminateLauncher => terminate(world, launcher),
            Kind::SwitchOff => {
                cluster.set("meetlink.enabled", "off");
                std::thread::sleep(STOPPED);
                cluster.set("meetlink.enabled", "on");
            }
            Kind::Pause => {
                call(world, "SELECT meetlink_pause()");
                std::thread::sleep(STOPPED);
                call(world, "SELECT meetlink_resume()");
            }
        }
        let victim = match kind {
            Kind::TerminateLauncher => Some(launcher),
            // A pause that ends soon may find the worker still there.
            Kind::SwitchOff | Kind::Pause => None,
            _ => Some(worker),
        };
        if let Some(victim) = victim {
            wait::until_true(PATIENCE, "the victim to be gone", || !alive(victim));
        }
        backend(world, "meetlink worker");
        backend(world, "meetlink launcher");
        self.0.push(Kill {
            kind,
            at,
            back_after: begun.elapsed(),
        });
    }
}

/// Pid of the one process of a kind, once the server has it.
fn backend(world: &World<'_>, kind: &str) -> i32 {
    wait::until(PATIENCE, kind, || {
        let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = $1";
        let pid: i32 = world.connect()?.query_opt(query, &[&kind]).ok()??.get(0);
        alive(pid).then_some(pid)
    })
}

fn terminate(world: &World<'_>, pid: i32) {
    call(world, &format!("SELECT pg_terminate_backend({pid})"));
}

fn call(world: &World<'_>, statement: &str) {
    wait::until_true(PATIENCE, statement, || {
        let Some(mut client) = world.connect() else {
            return false;
        };
        client.batch_execute(statement).is_ok()
    });
}
