use crate::settings::Settings;

/// What a cluster is to be like. The default has meetlink preloaded and is as quick as tests want
/// it: `fsync` is off, which loses nothing when a server is killed, only when the machine is. A
/// benchmark turns it on.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub(crate) preload: bool,
    pub(crate) settings: Settings,
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) own_installation: bool,
    pub(crate) environment: Vec<(String, String)>,
}

impl ClusterOptions {
    /// meetlink preloaded, no key file, `fsync` off.
    pub fn new() -> Self {
        let mut settings = Settings::default();
        for (name, value) in [
            ("fsync", "off"),
            ("log_line_prefix", "%m [%p] %b %d "),
            ("max_connections", "100"),
            ("max_worker_processes", "16"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ] {
            settings.set(name, value);
        }
        ClusterOptions {
            preload: true,
            settings,
            keys: Vec::new(),
            own_installation: false,
            environment: Vec::new(),
        }
    }

    /// Leaves `shared_preload_libraries` empty: a server where meetlink is installed, not loaded.
    pub fn without_preload(mut self) -> Self {
        self.preload = false;
        self
    }

    /// Gives the cluster a copy of PostgreSQL and meetlink for itself, whose files a test may
    /// change: see [`crate::Cluster::library`] and [`crate::Cluster::extension_dir`].
    pub fn own_installation(mut self) -> Self {
        self.own_installation = true;
        self
    }

    /// A variable of the server's environment, at each of its starts.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of postgresql.conf; takes the place of an earlier one of that name.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.set(name, value);
        self
    }

    /// A line of the key file, which is made with the first of them and set as
    /// `meetlink.key_file`. The first key encrypts.
    pub fn key(mut self, id: &str, hex: &str) -> Self {
        self.keys.push((id.to_owned(), hex.to_owned()));
        self
    }
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How a server is told to stop, as in `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to go away by themselves.
    Smart,
    /// Ends clients and background workers in order.
    Fast,
    /// A crash as far as the database is concerned: recovery at the next start.
    Immediate,
}
