//! Ends a server whose owner was killed before it could drop its cluster.

use crate::failure::{Context, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reads until its owner says a word or is gone. A pid file can outlive its server and its pid can
/// be somebody else's by then: only a process that lives in this data folder is ended.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
if read -r word; then exit 0; fi
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
    kill -QUIT "$pid"
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
fi
[ -n "$2" ] || rm -rf "$1"
"#;

/// A process of its own that outlives ours by the moment it needs.
pub(crate) struct Watchdog(Child);

impl Watchdog {
    /// `base` must be a canonical path.
    pub(crate) fn start(base: &Path, keep_folder: bool) -> Result<Self> {
        Command::new("sh")
            .args(["-c", SCRIPT, "meetlink-watchdog"])
            .arg(base)
            .arg(if keep_folder { "keep" } else { "" })
            .current_dir("/")
            .stdin(Stdio::piped())
            // Not ours: who reads our output to its end must not wait for the watchdog.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to a whole group, and would take the watchdog with us.
            .process_group(0)
            .spawn()
            .context(|| "starting the watchdog".to_owned())
            .map(Watchdog)
    }

    /// Sends it home; it does nothing any more.
    pub(crate) fn dismiss(&mut self) {
        if let Some(mut words) = self.0.stdin.take() {
            let _ = words.write_all(b"done\n");
            let _ = self.0.wait();
        }
    }
}
