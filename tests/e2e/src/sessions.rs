//! Talking to a cluster.

use crate::account::clean_command;
use crate::cluster::Cluster;
use crate::failure::{Context, Failure, Result};
use postgres::{Client, Config, NoTls};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

impl Cluster {
    /// How to connect, for those who want more than [`Cluster::connect`] does.
    pub fn config(&self, database: &str, user: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.socket_dir())
            .port(Self::PORT)
            .dbname(database)
            .user(user)
            .application_name("meetlink-e2e")
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// A connection.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn connect(&self, database: &str, user: &str) -> Client {
        self.try_connect(database, user)
            .unwrap_or_else(|error| panic!("connecting to {database} as {user}: {error}"))
    }

    /// [`Cluster::connect`] where being refused is what is tested.
    ///
    /// # Errors
    /// The server's, or the socket's.
    pub fn try_connect(
        &self,
        database: &str,
        user: &str,
    ) -> std::result::Result<Client, postgres::Error> {
        self.config(database, user).connect(NoTls)
    }

    /// What psql prints for `sql`, run as the superuser: unaligned, tuples only, fields separated
    /// by `|`, without the line's end after the last row. psql's own commands work.
    ///
    /// # Panics
    /// At the first statement that fails, with psql's message.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, "postgres", sql)
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// [`Cluster::psql`] as a user, where failing is what is tested.
    ///
    /// # Errors
    /// psql's stderr, with detail and hint.
    pub fn try_psql(&self, database: &str, user: &str, sql: &str) -> Result<String> {
        let mut psql = self
            .psql_command(database, user)
            .args(["-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(|| "starting psql".to_owned())?;
        let mut input = psql
            .stdin
            .take()
            .ok_or_else(|| Failure::new("psql has no stdin"))?;
        let output = std::thread::scope(|scope| {
            // Both at once: psql stops reading while nobody reads what it writes. It may also end
            // before the end of its input, which is no failure of ours.
            scope.spawn(move || input.write_all(sql.as_bytes()));
            psql.wait_with_output()
        })
        .context(|| "running psql".to_owned())?;
        if !output.status.success() {
            return Err(Failure::new(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// psql with its connection options set and no ~/.psqlrc, for more arguments.
    pub fn psql_command(&self, database: &str, user: &str) -> Command {
        let mut command = clean_command(&self.bin_dir().join("psql"));
        command.arg("-X").arg("-h").arg(self.socket_dir());
        command.args(["-p", &Self::PORT.to_string(), "-d", database, "-U", user]);
        command
    }

    /// An empty database.
    #[track_caller]
    pub fn create_database(&self, name: &str) {
        self.psql(
            "postgres",
            &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")),
        );
    }
}
