//! Prometheus exporters from Debian, run beside a cluster, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use meetlink_e2e::{free_address, skip, wait};

const START: Duration = Duration::from_secs(30);

/// Runs a shell line until our end of its input is closed, also by our being killed.
const LEASH: &str =
    r#"exec 3<&0; sh -c "$1" </dev/null & pid=$!; read -r _ <&3; kill "$pid"; wait "$pid""#;

/// The program of a Debian package, fetched into the private folder of the set-up; nothing is
/// installed, so no service of the package starts. `None` is said loudly.
pub fn program(package: &str) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    match fetch(package) {
        Ok(program) => Some(program),
        Err(why) => {
            skip(&format!("{package}: {why}"));
            None
        }
    }
}

fn fetch(package: &str) -> Result<PathBuf, String> {
    let home = std::env::var_os("MEETLINK_HOME")
        .map(PathBuf::from)
        .ok_or("MEETLINK_HOME is not set; run `. scripts/env.sh` first")?;
    let folder = home.join("exporters").join(package);
    let program = folder.join("usr/bin").join(package);
    if program.exists() {
        return Ok(program);
    }
    // Made aside and moved: a folder of this name is whole.
    let aside = home.join(format!("exporters/{package}-{}", std::process::id()));
    std::fs::create_dir_all(&aside).map_err(|error| error.to_string())?;
    let download = format!("timeout 120 apt-get -q download {package}");
    let script = format!(
        "{download} || {{ [ \"$(id -u)\" = 0 ] && timeout 120 apt-get -q update && {download}; }} \
         && dpkg -x {package}_*.deb . && rm {package}_*.deb"
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&aside)
        .stdin(Stdio::null())
        .output();
    let done = output.map_err(|error| format!("sh cannot be run: {error}"))?;
    if !done.status.success() {
        let _ = std::fs::remove_dir_all(&aside);
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        let last = complaint.lines().last().unwrap_or("without a word");
        return Err(format!("the Debian package cannot be fetched: {last}"));
    }
    if std::fs::rename(&aside, &folder).is_err() {
        // Somebody else was quicker.
        let _ = std::fs::remove_dir_all(&aside);
    }
    Ok(program)
}

/// One running exporter. It ends with its value.
pub struct Exporter {
    leash: Child,
    log: PathBuf,
    port: u16,
}

impl Exporter {
    /// Starts it; `line` makes the shell line, given `127.0.0.1:<port>`.
    pub fn start(folder: &Path, line: impl FnOnce(&str) -> String) -> Self {
        let port = free_address().port();
        let log = folder.join("exporter.log");
        let output = File::create(&log).expect("a log");
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let leash = command
            .args(["-c", LEASH, "exporter-on-a-leash"])
            .arg(line(&format!("127.0.0.1:{port}")))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            .spawn()
            .expect("sh starts");
        let exporter = Self { leash, log, port };
        wait::until_true(START, "the exporter to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        exporter
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What its `/metrics` says now.
    pub fn scrape(&self) -> Scrape {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(START)).expect("a time limit");
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\nAccept: text/plain\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 "), "{answer}\n{}", self.log());
        Scrape::parse(body)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

/// Labels of a series, without those of the connection.
pub type Labels = BTreeMap<String, String>;

/// Types and values in the text format.
#[derive(Debug, Default)]
pub struct Scrape {
    pub types: BTreeMap<String, String>,
    pub values: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = match series.split_once('{') {
                    Some((name, labels)) => (name, labels.trim_end_matches('}')),
                    None => (series, ""),
                };
                let value = value.parse().expect("a number");
                let key = (name.to_owned(), labels_of(labels));
                let before = scrape.values.insert(key, value);
                assert_eq!(before, None, "twice: {line}");
            }
        }
        scrape
    }

    /// Names that begin so.
    pub fn names(&self, prefix: &str) -> BTreeSet<&str> {
        let names = self.values.keys().map(|(name, _)| name.as_str());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Value of a series that has no labels.
    pub fn plain(&self, name: &str) -> Option<f64> {
        self.values.get(&(name.to_owned(), Labels::new())).copied()
    }
}

/// No value here holds a comma or a quotation mark.
fn labels_of(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
    pairs.filter(|(name, _)| name != "server").collect()
}
