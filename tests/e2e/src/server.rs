//! The postmaster as a child process of ours: we know its pid, and see the moment it ends.

use crate::account::server_command;
use crate::failure::{Context, Failure, Result};
use crate::logs;
use crate::options::StopMode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Recovery after a crash included; on a machine that is busy compiling.
const START_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server and returns when it accepts connections.
    pub(crate) fn start(
        bin: &Path,
        data: &Path,
        log: &Path,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let log_file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(|| format!("opening {}", log.display()))?;
        let log_file_too = log_file
            .try_clone()
            .context(|| "sharing the log file".to_owned())?;
        let child = server_command(&bin.join("postgres"))?
            .arg("-D")
            .arg(data)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(log_file_too)
            // Ctrl-C in a terminal is for us, who then stop it in order.
            .process_group(0)
            .spawn()
            .context(|| "starting postgres".to_owned())?;
        let mut server = Server {
            child,
            log: log.to_owned(),
        };
        match server.wait_until_ready(data) {
            Ok(()) => Ok(server),
            Err(failure) => {
                server.end();
                Err(failure)
            }
        }
    }

    fn wait_until_ready(&mut self, data: &Path) -> Result<()> {
        let begun = Instant::now();
        let own_pid = self.pid().to_string();
        loop {
            if let Some(status) = self.exit_status()? {
                let tail = logs::tail(&self.log);
                return Err(Failure::new(format!(
                    "the server did not start ({status}){tail}"
                )));
            }
            // What pg_ctl reads: the pid in the first line, the state in the eighth. An older
            // server's file may still lie there after a crash.
            let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = pid_file.lines().map(str::trim).collect();
            if lines.first() == Some(&own_pid.as_str())
                && matches!(lines.get(7), Some(&"ready" | &"standby"))
            {
                return Ok(());
            }
            if begun.elapsed() > START_DEADLINE {
                let tail = logs::tail(&self.log);
                return Err(Failure::new(format!(
                    "the server was not ready in {START_DEADLINE:?}{tail}"
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    fn exit_status(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.child
            .try_wait()
            .context(|| "asking for the server's state".to_owned())
    }

    /// Until the postmaster and all its children are gone; how long that took.
    pub(crate) fn stop(&mut self, mode: StopMode, deadline: Duration) -> Result<Duration> {
        let signal = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        let begun = Instant::now();
        self.signal(signal)?;
        while self.exit_status()?.is_none() {
            if begun.elapsed() > deadline {
                let tail = logs::tail(&self.log);
                return Err(Failure::new(format!(
                    "the server did not stop ({mode:?}) in {deadline:?}{tail}"
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(begun.elapsed())
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status()?.is_some() {
            let tail = logs::tail(&self.log);
            return Err(Failure::new(format!("the server ended by itself{tail}")));
        }
        // Not reaped yet, so the pid is still its own.
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the server has no pid"))?;
        kill_process(pid, signal)
            .map_err(|error| Failure::new(format!("signalling the server: {error}")))
    }

    /// Ends it whatever state it is in.
    pub(crate) fn end(&mut self) {
        if self.is_running()
            && self
                .stop(StopMode::Immediate, Duration::from_secs(10))
                .is_err()
        {
            // Its children notice that the postmaster is gone, and end.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
