//! Clusters that begin with another one's data: standbys, restored backups, upgraded clusters.

use crate::account::server_command;
use crate::cluster::Cluster;
use crate::failure::{Context, Failure, Result};
use crate::options::ClusterOptions;
use crate::template;
use std::process::Command;

impl Cluster {
    /// A cluster that is not started yet and that shares its system identifier with none of the
    /// others: those begin as copies of one template.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn initialized(options: ClusterOptions) -> Self {
        Self::prepare(options, |cluster| {
            template::init(cluster.bin_dir(), &cluster.data_dir())
        })
        .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// A cluster that begins with a base backup of a running one; not started yet. What it is to
    /// do with it (follow, recover) is for the settings and for files in its data folder to say.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn base_backup(of: &Cluster, options: ClusterOptions) -> Self {
        Self::prepare(options, |cluster| {
            let mut command = of.server_program("pg_basebackup");
            command.args(["--checkpoint=fast", "--no-sync", "--username=postgres"]);
            command.args(["--port", &Self::PORT.to_string()]);
            command.arg("--host").arg(of.socket_dir());
            command.arg("--pgdata").arg(cluster.data_dir());
            run(&mut command)
        })
        .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// An empty file of the server's in the data folder (`standby.signal`, `recovery.signal`).
    #[track_caller]
    pub fn write_signal_file(&self, name: &str) {
        self.write_file(&format!("data/{name}"), "", 0o600);
    }

    /// A program of PostgreSQL's that runs as the server's OS user, in the folder `/`.
    ///
    /// # Panics
    /// When there is no such user.
    #[track_caller]
    pub fn server_program(&self, name: &str) -> Command {
        server_command(&self.bin_dir().join(name)).unwrap_or_else(|failure| panic!("{failure}"))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .context(|| format!("running {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(format!("{command:?} failed: {message}")))
}
