//! Which server logs there are, so that a wait that fails can show the end of them without being
//! told which cluster it was about.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

const TAIL_LINES: usize = 40;

static LOGS: Mutex<Vec<(ThreadId, PathBuf)>> = Mutex::new(Vec::new());

pub(crate) fn register(log: &Path) {
    let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.push((thread::current().id(), log.to_owned()));
}

pub(crate) fn forget(log: &Path) {
    let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    logs.retain(|(_, known)| known != log);
}

/// The ends of the logs of this thread's clusters (a test runs in a thread of its own), or of all
/// clusters when this thread started none.
pub(crate) fn tails() -> String {
    let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    let here = thread::current().id();
    let mut chosen: Vec<_> = logs.iter().filter(|(thread, _)| *thread == here).collect();
    if chosen.is_empty() {
        chosen = logs.iter().collect();
    }
    chosen.iter().map(|(_, log)| tail(log)).collect()
}

pub(crate) fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!(
        "\n---- the end of {}\n{}\n----",
        log.display(),
        lines[from..].join("\n")
    )
}
