//! A server whose wall clock can be set, by libfaketime (Debian: `faketime`). The monotonic clock
//! goes on as it does when a real clock is stepped.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::{ClusterOptions, wait};

use crate::strace::{Strace, skip};

/// A clock that servers follow.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right; `None`, said on stderr, where libfaketime is not installed.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(library) = library() else {
            skip("the clock cannot be stepped: libfaketime is missing (Debian: faketime)");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Its path is known before the cluster has a folder.
        let name = format!("meetlink-clock-{}-{number}", std::process::id());
        let clock = Self {
            library,
            file: Path::new("/tmp").join(name),
        };
        clock.set("+0");
        Some(clock)
    }

    /// For the server's start.
    pub fn options(&self, options: ClusterOptions) -> ClusterOptions {
        options
            .environment("LD_PRELOAD", &self.library.display().to_string())
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
            .environment("NO_FAKE_STAT", "1")
    }

    /// Has the worker follow this clock; it starts anew for that. `None`, said on stderr, where
    /// strace cannot be used.
    ///
    /// PostgreSQL 15's postmaster starts background workers inside a signal handler, as a rule while
    /// it is in `select`; there libfaketime has switched itself off, and the new process inherits
    /// that. So the postmaster is held elsewhere, in `accept`, when it is told to start the worker.
    pub fn lead_the_worker(&self, app: &App) -> Option<()> {
        // Outlasts the half second after which the launcher starts a worker again.
        let hold = "accept,accept4:delay_exit=1500000:when=1";
        let mut client = app.client();
        let old = app.worker_pid();
        self.set("+100d");
        let strace = Strace::attach(app.cluster.base(), app.cluster.pid(), hold)?;
        let gone = "SELECT pg_terminate_backend($1, 5000)";
        client.execute(gone, &[&old]).expect("the worker ends");
        // Held for a while, and served then.
        drop(app.client());
        drop(strace);
        wait::until_true(SOON, "a worker that follows the clock", || {
            let started = "SELECT started_at > now() - interval '1 day' FROM meetlink.workers
                            WHERE pid <> $1";
            let row = client.query_opt(started, &[&old]);
            row.is_ok_and(|row| row.is_some_and(|row| row.get(0)))
        });
        self.set("+0");
        Some(())
    }

    /// Steps it: so far from the real time, such as `+1d`, `-1d` or `+0`.
    pub fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).expect("the clock is written");
        let everybody = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&new, everybody).expect("the clock is readable");
        // In one step: it is read all the time.
        std::fs::rename(&new, &self.file).expect("the clock is set");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketime.so.1")))
        .chain(std::iter::once("/usr/lib/faketime/libfaketime.so.1".into()));
    found.find(|path| path.is_file())
}
