//! Running `meetlink.key_command`, whose output is what a key file would hold.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::keyfile::{KeyFileError, LIMIT};
use crate::pg::{child, process};

/// Longest time that it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked after. Interrupts are served meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// The process, ended with whatever it started when this is dropped, on whatever path.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        child::end_group(self.0.id());
        child::remember_group(0);
        let _ = self.0.wait();
    }
}

impl Running {
    fn end(&mut self) -> Result<ExitStatus, KeyFileError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() >= deadline => {
                    return Err(KeyFileError::CommandSlow(PATIENCE.as_secs()));
                }
                Ok(None) => process::rest(LOOK),
                Err(error) => return Err(KeyFileError::Unreadable(error.kind())),
            }
        }
    }
}

/// Runs it with /bin/sh and gives its output. What it says to stderr is thrown away: nobody knows
/// what is in it. Main thread only.
pub fn run(command: &str) -> Result<Zeroizing<String>, KeyFileError> {
    let unreadable = |error: std::io::Error| KeyFileError::Unreadable(error.kind());
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let started = child::tie(&mut shell).spawn().map_err(unreadable)?;
    child::remember_group(started.id());
    let mut running = Running(started);
    // Keys fit into the pipe; a command that writes more than that waits, and is ended as too slow.
    let status = running.end()?;
    if !status.success() {
        return Err(KeyFileError::CommandFailed(status.code()));
    }
    // What it may have left running ends with it, but for what has left its group. That may hold the
    // pipe open for ever: the keys are in it by now, and nothing more is waited for.
    child::end_group(running.0.id());
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(output) = running.0.stdout.take() {
        child::never_wait(&output).map_err(unreadable)?;
        match output.take(LIMIT).read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(unreadable(error)),
            _ => {}
        }
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| KeyFileError::Unreadable(ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}
