//! Node programs that make links as meetlink does, on graphile-worker and on pg-boss: what they
//! need, starting and ending them. `scripts/peers.sh` installs them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use meetlink_e2e::Cluster;
use meetlink_e2e::app::{DATABASE, KEY};
use meetlink_simulator::Simulator;
use serde_json::json;

/// Until a program listens; on a busy machine Node takes its time.
const START: Duration = Duration::from_secs(30);
/// Until it is gone after the end of its input.
const END: Duration = Duration::from_secs(5);
/// Connections to PostgreSQL, for each of two pools of pg-boss and the one of graphile-worker: jobs
/// mostly wait for the provider, and few statements are enough to keep the cores busy.
const POOL: usize = 20;

/// What a program is started for: both recommend other settings for few jobs than for many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Makes its tables and ends.
    Install,
    Latency,
    Burst,
    /// Whatever comes, with the settings that it has if nobody sets any.
    AsItComes,
}

/// Where the programs are.
pub struct Peers {
    folder: PathBuf,
    node: PathBuf,
}

impl Peers {
    /// Says so when they are not there.
    pub fn find() -> Option<Self> {
        let home = std::env::var_os("MEETLINK_HOME").map(PathBuf::from)?;
        let folder = home.join("peers");
        if !folder.join(".lock").exists() {
            println!(
                "SKIPPED   graphile-worker and pg-boss: they are not installed (scripts/peers.sh does that)"
            );
            return None;
        }
        let own = ["x64", "arm64"].map(|cpu| {
            let package = format!("node_modules/node-linux-{cpu}/bin/node");
            folder.join(package)
        });
        let node = own.into_iter().find(|path| path.exists());
        let node = node.unwrap_or_else(|| PathBuf::from("node"));
        Some(Self { folder, node })
    }

    /// Versions, for the heading of a report.
    pub fn describe(&self) -> String {
        let version = |name: &str| {
            let path = self
                .folder
                .join(format!("node_modules/{name}/package.json"));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            format!("{name} {}", package["version"].as_str().unwrap_or("?"))
        };
        let node = Command::new(&self.node).arg("--version").output();
        let node = node.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        format!(
            "{}, {}, {}, Node {}, {POOL} connections a pool",
            version("graphile-worker"),
            version("pg-boss"),
            version("pg"),
            node.unwrap_or_default()
        )
    }

    /// Starts a program and waits until it works; for [`Purpose::Install`]: until it is done.
    pub fn start(
        &self,
        program: &str,
        purpose: Purpose,
        concurrency: usize,
        cluster: &Cluster,
        simulator: &Simulator,
    ) -> Result<Running, String> {
        let task = json!({
            "socket": cluster.socket_dir(),
            "port": Cluster::PORT,
            "database": DATABASE,
            "install": purpose == Purpose::Install,
            "purpose": match purpose {
                Purpose::Install | Purpose::Latency => "latency",
                Purpose::Burst => "burst",
                Purpose::AsItComes => "as it comes",
            },
            "concurrency": concurrency,
            "pool": POOL,
            "keys": { KEY.0: KEY.1 },
            "google_api_url": simulator.google_api_url(),
            "zoom_api_url": simulator.zoom_api_url(),
        });
        let log = cluster.base().join(format!("{program}.log"));
        let errors = File::create(&log).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.node);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg(self.folder.join(format!("{program}.mjs")))
            .env("PEER", task.to_string())
            .env("NODE_ENV", "production")
            .env("NO_LOG_SUCCESS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("node cannot be run: {error}"))?;
        let output = child.stdout.take();
        let running = Running { child, log };
        let (sender, said) = channel();
        // Ends with the program's output, and reads on meanwhile so that it never has to wait.
        std::thread::spawn(move || {
            for line in output.into_iter().flat_map(|o| BufReader::new(o).lines()) {
                if line.is_ok_and(|line| line == "ready") {
                    let _ = sender.send(());
                }
            }
        });
        match said.recv_timeout(START) {
            Ok(()) => Ok(running),
            Err(_) => Err(format!(
                "{program} does not start: {}",
                beginning(&running.log)
            )),
        }
    }
}

/// A program at work. It ends with its value, or with the benchmark.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// What it wrote to stderr.
    pub fn complaints(&self) -> String {
        beginning(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = std::time::Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) {
            if std::time::Instant::now() > until {
                let _ = self.child.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.wait();
    }
}

fn beginning(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().take(6).collect::<Vec<_>>().join("\n")
}
