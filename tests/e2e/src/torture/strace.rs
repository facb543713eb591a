//! strace on one thread of a living process.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Result, proc};

/// The advice where strace is missing or may not do its work.
const NEEDED: &str = "the kill sweep needs strace, and the right to trace other processes \
                      (Debian package `strace`; in a container the capability SYS_PTRACE; \
                      kernel.yama.ptrace_scope 0, or root)";

/// A call of a thread: the so many-th of its name since strace was attached. strace counts the calls
/// of each name by themselves, also where all are to be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nth {
    /// Such as `epoll_wait`.
    pub name: String,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for Nth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.number)
    }
}

/// What is done to a thread at a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injection<'a> {
    /// `SIGKILL` or `SIGSTOP`.
    pub signal: &'static str,
    pub at: &'a Nth,
}

/// A strace that is attached to one thread. Dropping it lets the thread go.
pub(super) struct Tracer {
    child: Child,
    log: PathBuf,
    /// Kept open: strace must not die of a closed pipe while it says good-bye.
    _words: BufReader<ChildStderr>,
}

impl Tracer {
    /// Attaches; returns when every further call of the thread is counted.
    pub fn attach(tid: i32, log: &Path, injection: Option<Injection<'_>>) -> Result<Self> {
        let _ = std::fs::remove_file(log);
        let mut command = Command::new("strace");
        command
            .args(["-s", "12", "-p", &tid.to_string(), "-o"])
            .arg(log);
        if let Some(Injection { signal, at }) = injection {
            let Nth { name, number } = at;
            command.args([
                "-e",
                &format!("inject={name}:signal={signal}:when={number}"),
            ]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace cannot be started ({error})\nHINT: {NEEDED}"))?;
        let mut words = BufReader::new(child.stderr.take().ok_or("strace has no stderr")?);
        let mut said = String::new();
        loop {
            let begun = said.len();
            match words.read_line(&mut said) {
                Ok(0) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let said = said.trim();
                    return Err(format!(
                        "strace did not attach to {tid}: {said}\nHINT: {NEEDED}"
                    ));
                }
                Ok(_) if said[begun..].contains("attached") => break,
                Ok(_) => {}
            }
        }
        Ok(Self {
            child,
            log: log.to_owned(),
            _words: words,
        })
    }

    /// Whether strace has ended, as it does when its thread has.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether the process stands still by the injected `SIGSTOP`.
    pub fn stands(&self) -> bool {
        self.text().contains("--- stopped by SIGSTOP ---")
    }

    /// Calls seen so far.
    pub fn calls(&self) -> Vec<Nth> {
        let mut seen: HashMap<String, u64> = HashMap::new();
        let text = self.text();
        let names = text.lines().filter_map(call).map(|name| {
            let number = seen.entry(name.to_owned()).or_default();
            *number += 1;
            Nth {
                name: name.to_owned(),
                number: *number,
            }
        });
        names.collect()
    }

    /// Lets the thread go. One that stands still goes on standing.
    pub fn end(mut self) {
        self.let_go();
    }

    fn let_go(&mut self) {
        if self.has_ended() {
            return;
        }
        let pid = i32::try_from(self.child.id()).unwrap_or_default();
        let _ = proc::send(pid, Signal::TERM);
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while !self.has_ended() {
            if std::time::Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Name of the call that a line of the log shows; a line may be about a signal instead.
fn call(line: &str) -> Option<&str> {
    let name = line.split('(').next()?;
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    (line.contains('(') && is_name(name)).then_some(name)
}

/// Tries strace on a process that does not matter, in the way in which the sweep uses it.
///
/// # Errors
/// Says that strace is missing or may not trace, and what helps. A sweep that cannot be made must
/// not look like one that found nothing.
pub fn check_strace() -> Result<()> {
    let mut target = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting sleep: {error}"))?;
    let log = std::env::temp_dir().join(format!("meetlink-strace-{}", std::process::id()));
    let at = Nth {
        name: "all".to_owned(),
        number: 1,
    };
    let injection = Injection {
        signal: "SIGKILL",
        at: &at,
    };
    let tid = i32::try_from(target.id()).unwrap_or_default();
    let outcome = Tracer::attach(tid, &log, Some(injection)).and_then(|mut tracer| {
        // Attaching interrupts its sleep, so that its first call follows at once.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !tracer.has_ended() {
            if std::time::Instant::now() > deadline {
                return Err("strace injected no signal within 10 s".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    });
    let _ = target.kill();
    let _ = target.wait();
    let _ = std::fs::remove_file(&log);
    outcome
}
