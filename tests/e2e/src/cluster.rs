use crate::account::{give_to_server, temp_dir};
use crate::failure::{Context, Failure, Result};
use crate::installation;
use crate::logs;
use crate::options::{ClusterOptions, StopMode};
use crate::server::Server;
use crate::settings::Settings;
use crate::template;
use crate::wait;
use crate::watchdog::Watchdog;
use rustix::process::Signal;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Far beyond what any stop should take; a test asserts its own bound on the returned duration.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A running (or stopped) PostgreSQL cluster of one's own, which ends with this value.
///
/// Its superuser is `postgres`; everybody may connect as anybody through its socket, which lies in
/// a folder that only its owner can enter. When a test panics and the variable `MEETLINK_KEEP` is
/// set, the folder stays, and stderr says where.
pub struct Cluster {
    base: PathBuf,
    bin: PathBuf,
    settings: Settings,
    environment: Vec<(String, String)>,
    server: Option<Server>,
    watchdog: Watchdog,
    abandoned: bool,
}

/// A place in the server's log: see [`Cluster::log_from`].
#[derive(Clone, Copy, Debug)]
pub struct LogMark(usize);

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When the server does not start, with the end of its log.
    #[track_caller]
    pub fn start(options: ClusterOptions) -> Self {
        Self::try_start(options).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// [`Cluster::start`] for settings with which a server may refuse to start.
    ///
    /// # Errors
    /// Says why, with the end of the server's log.
    pub fn try_start(options: ClusterOptions) -> Result<Self> {
        let mut cluster = Self::prepare(options, |cluster| template::copy_to(&cluster.data_dir()))?;
        cluster.try_start_again()?;
        Ok(cluster)
    }

    /// Everything but the start, with data that `fill` puts into the data folder.
    pub(crate) fn prepare(
        options: ClusterOptions,
        fill: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Self> {
        let bin = template::bin_dir()?;
        let base = make_base()?;
        let watchdog = Watchdog::start(&base, keep_wanted())?;
        let settings = options.settings;
        let mut cluster = Cluster {
            base,
            bin,
            settings,
            environment: options.environment,
            server: None,
            watchdog,
            abandoned: false,
        };
        logs::register(&cluster.log_path());

        if options.own_installation {
            cluster.bin = installation::copy_to(&cluster.base)?;
        }
        fill(&cluster)?;
        std::fs::create_dir(cluster.socket_dir())
            .context(|| "creating the socket's folder".to_owned())?;
        give_to_server(&cluster.socket_dir())?;
        if !options.keys.is_empty() {
            let keys: Vec<_> = options
                .keys
                .iter()
                .map(|(id, hex)| (id.as_str(), hex.as_str()))
                .collect();
            let path = cluster.write_key_file(&keys);
            cluster
                .settings
                .set("meetlink.key_file", &path.display().to_string());
        }
        if options.preload {
            cluster.settings.set("shared_preload_libraries", "meetlink");
        }
        cluster.settings.set("listen_addresses", "");
        cluster.settings.set(
            "unix_socket_directories",
            &cluster.socket_dir().display().to_string(),
        );
        cluster.settings.set("port", &Self::PORT.to_string());
        cluster.write_settings()?;
        Ok(cluster)
    }

    /// Names the socket's file, and is no port of the machine: the server listens on the socket
    /// only, and every cluster has its socket in a folder of its own.
    pub const PORT: u16 = 5432;

    /// Starts the server after a stop, in the same folder with the same data.
    ///
    /// # Panics
    /// When it runs already, or does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.try_start_again()
            .unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// [`Cluster::start_again`] for settings with which a server may refuse to start.
    ///
    /// # Errors
    /// Says why, with the end of the server's log.
    pub fn try_start_again(&mut self) -> Result<()> {
        if self.is_running() {
            return Err(Failure::new("the server runs already"));
        }
        self.server = Some(Server::start(
            &self.bin,
            &self.data_dir(),
            &self.log_path(),
            &self.environment,
        )?);
        Ok(())
    }

    /// Stops the server, and returns how long that took: from the signal until its last process
    /// was gone.
    ///
    /// # Panics
    /// When it is not running, ended by itself, or takes more than a minute.
    #[track_caller]
    pub fn stop(&mut self, mode: StopMode) -> Duration {
        let Some(server) = &mut self.server else {
            panic!("the server is stopped already")
        };
        let took = server
            .stop(mode, STOP_DEADLINE)
            .unwrap_or_else(|failure| panic!("{failure}"));
        self.server = None;
        took
    }

    /// Stops the server as a crash does: the next start begins with recovery.
    #[track_caller]
    pub fn crash(&mut self) {
        self.stop(StopMode::Immediate);
    }

    /// [`Cluster::stop`] and [`Cluster::start_again`]; how long the stop took.
    #[track_caller]
    pub fn restart(&mut self, mode: StopMode) -> Duration {
        let took = self.stop(mode);
        self.start_again();
        took
    }

    /// Whether the server is running, that is: started, and neither stopped nor ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Server::is_running)
    }

    /// The postmaster's pid.
    ///
    /// # Panics
    /// When the server is stopped.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.server
            .as_ref()
            .map(Server::pid)
            .unwrap_or_else(|| panic!("the server is stopped"))
    }

    /// Changes one setting, as [`Cluster::reload_with`] does.
    #[track_caller]
    pub fn set(&mut self, name: &str, value: &str) {
        self.reload_with(&[(name, value)]);
    }

    /// Changes settings and, if the server runs, has it reload; returns when the postmaster has.
    /// Its background workers and other sessions follow at their own next turn.
    ///
    /// A value that the server refuses is in its log, not here; it then keeps the old value.
    #[track_caller]
    pub fn reload_with(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.settings.set(name, value);
        }
        self.reload();
    }

    /// Takes a setting back to its default, and reloads.
    #[track_caller]
    pub fn unset(&mut self, name: &str) {
        self.settings.remove(name);
        self.reload();
    }

    /// Has a running server reload its configuration, files that it names included.
    #[track_caller]
    pub fn reload(&mut self) {
        self.write_settings()
            .unwrap_or_else(|failure| panic!("{failure}"));
        let loaded_at = "SELECT pg_conf_load_time()";
        if self.server.is_none() {
            return;
        }
        let before = self.psql("postgres", loaded_at);
        let mark = self.log_mark();
        if let Some(server) = &mut self.server {
            server
                .signal(Signal::HUP)
                .unwrap_or_else(|failure| panic!("{failure}"));
        }
        wait::until_true(
            Duration::from_secs(10),
            "the server to reload its configuration",
            || {
                // A new session has the time from the postmaster. With an unknown name in the file the
                // time stays, and the log says it.
                self.psql("postgres", loaded_at) != before
                    || self.log_from(mark).contains("contains errors")
            },
        );
    }

    /// Everything the server has written to its log.
    pub fn log(&self) -> String {
        self.log_from(LogMark(0))
    }

    /// The end of the log as it is now.
    pub fn log_mark(&self) -> LogMark {
        LogMark(
            std::fs::metadata(self.log_path())
                .map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(0)),
        )
    }

    /// What the server wrote to its log after `mark` was taken.
    pub fn log_from(&self, mark: LogMark) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(mark.0..).unwrap_or_default()).into_owned()
    }

    /// Writes a key file as `meetlink.key_file` wants it, lines `<key id> <64 hex digits>`, and
    /// returns its path, which is always the same one for a cluster.
    #[track_caller]
    pub fn write_key_file(&self, keys: &[(&str, &str)]) -> PathBuf {
        let lines: String = keys
            .iter()
            .map(|(id, hex)| format!("{id} {hex}\n"))
            .collect();
        self.write_file("meetlink.keys", &lines, 0o600)
    }

    /// Writes a file that belongs to the server's OS user into the cluster's folder.
    ///
    /// # Panics
    /// When that cannot be done.
    #[track_caller]
    pub fn write_file(&self, name: &str, contents: &str, mode: u32) -> PathBuf {
        let path = self.base.join(name);
        let written = std::fs::write(&path, contents)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)))
            .context(|| format!("writing {}", path.display()))
            .and_then(|()| give_to_server(&path));
        written.unwrap_or_else(|failure| panic!("{failure}"));
        path
    }

    /// The cluster's folder, which holds everything else and goes with the cluster.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// `PGDATA`.
    pub fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// What `psql -h` wants.
    pub fn socket_dir(&self) -> PathBuf {
        self.base.join("s")
    }

    /// The server's log file.
    pub fn log_path(&self) -> PathBuf {
        self.base.join("server.log")
    }

    /// The folder with PostgreSQL's programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// Lets the server run on after this process, for somebody who wants to look around. Returns
    /// the shell command that stops it and removes its folder.
    pub fn leave_running(mut self) -> String {
        self.abandoned = true;
        self.watchdog.dismiss();
        // By signal, because pg_ctl refuses to run as root.
        let base = self.base.display();
        match &self.server {
            Some(server) => {
                let pid = server.pid();
                format!(
                    "kill -INT {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done; rm -rf {base}"
                )
            }
            None => format!("rm -rf {base}"),
        }
    }

    fn write_settings(&self) -> Result<()> {
        self.settings.write(&self.data_dir().join("harness.conf"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        logs::forget(&self.log_path());
        if self.abandoned {
            return;
        }
        if let Some(server) = &mut self.server {
            server.end();
        }
        if std::thread::panicking() && keep_wanted() {
            eprintln!("the cluster's folder stays: {}", self.base.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.base) {
            eprintln!("{} could not be removed: {error}", self.base.display());
        }
        // Last: until here it is what ends the server if we are killed.
        self.watchdog.dismiss();
    }
}

fn keep_wanted() -> bool {
    std::env::var_os("MEETLINK_KEEP").is_some_and(|value| !value.is_empty())
}

/// A new folder for one cluster. Creating fails on a name that exists, so nobody's folder is taken.
fn make_base() -> Result<PathBuf> {
    let temp = temp_dir()?;
    let mut number = 0u32;
    loop {
        let base = temp.join(format!("meetlink-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&base) {
            Ok(()) => {
                give_to_server(&base)?;
                return Ok(base);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => {
                return Err(Failure::new(format!(
                    "creating {}: {error}",
                    base.display()
                )));
            }
        }
    }
}
