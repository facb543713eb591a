//! strace on a live process: system calls that fail as they do on a full disk.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

pub use meetlink_e2e::skip;

/// Runs strace until our end of its input is closed, also by our being killed.
const LEASH: &str =
    r#"exec 3<&0; "$@" </dev/null & pid=$!; read -r _ <&3; kill -INT "$pid"; wait "$pid""#;

/// strace at work. Dropping it lets the process go on undisturbed.
pub struct Strace {
    leash: Child,
    log: std::path::PathBuf,
}

impl Strace {
    /// Attaches to a process and its threads, and to the children it starts; returns when it has.
    /// `None`, said on stderr, where that cannot be done.
    pub fn attach(folder: &std::path::Path, pid: u32, inject: &str) -> Option<Self> {
        Self::attach_to_files(folder, pid, inject, &[])
    }

    /// The same for calls on these files alone, if any are named.
    pub fn attach_to_files(
        folder: &std::path::Path,
        pid: u32,
        inject: &str,
        files: &[String],
    ) -> Option<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = folder.join(format!("strace-{number}.log"));
        let calls = inject.split(':').next().unwrap_or_default();
        let spawned = Command::new("sh")
            .args(["-c", LEASH, "strace-on-a-leash", "strace", "-f", "-y"])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&log)
            .arg(format!("--trace={calls}"))
            .arg(format!("--inject={inject}"))
            .args(files.iter().flat_map(|file| ["-P", file]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut leash = spawned.expect("sh starts");
        let mut said = BufReader::new(leash.stderr.take().expect("its stderr"));
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains("attached") {
                // Read on, so that strace never waits for somebody to read.
                std::thread::spawn(move || said.read_to_string(&mut String::new()));
                return Some(Self { leash, log });
            }
        }
        skip(&format!("strace cannot be used here: {}", line.trim()));
        drop(leash.stdin.take());
        let _ = leash.wait();
        None
    }

    /// How many calls it has made fail.
    pub fn injected(&self) -> usize {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.matches("(INJECTED)").count()
    }

    /// What it saw.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}
