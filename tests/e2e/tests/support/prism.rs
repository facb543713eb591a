//! Prism between meetlink and the simulator: it holds both to the providers' published
//! descriptions, and turns what they do not allow into an error of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use meetlink_e2e::wait;
use serde_json::Value;

const VERSION: &str = "5.14.2";
/// Reading a description of 128 paths takes seconds, on a busy machine many.
const START: Duration = Duration::from_secs(90);

/// Runs a program until our end of its input is closed, also by our being killed.
const LEASH: &str =
    r#"exec 3<&0; "$@" </dev/null & pid=$!; read -r _ <&3; kill "$pid"; wait "$pid""#;

/// What is needed to run Prism.
pub struct Tools {
    specs: PathBuf,
    program: PathBuf,
}

/// Says why a test does not run.
pub fn skip(why: &str) {
    meetlink_e2e::skip(&format!("published API descriptions: {why}"));
}

impl Tools {
    /// The descriptions and Prism, installed if need be; `None` is said on stderr.
    pub fn find() -> Option<Self> {
        let specs = match std::env::var_os("MEETLINK_SPECS") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs"),
        };
        if !specs.join("zoom-meetings.openapi3.json").is_file() {
            skip(&format!(
                "they are not in {}; MEETLINK_SPECS names their folder",
                specs.display()
            ));
            return None;
        }
        match install() {
            Ok(program) => Some(Self { specs, program }),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    /// Zoom's description.
    pub fn zoom(&self) -> Value {
        self.read("zoom-meetings.openapi3.json")
    }

    /// Google Calendar's description. It says that a deletion answers 200; the API answers 204.
    pub fn google(&self) -> Value {
        let mut description = self.read("google-calendar.v3.swagger2.json");
        let path = "/calendars/{calendarId}/events/{eventId}";
        let answers = &mut description["paths"][path]["delete"]["responses"];
        answers["204"] = serde_json::json!({"description": "Deleted"});
        description
    }

    fn read(&self, name: &str) -> Value {
        let path = self.specs.join(name);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// Prism's program, installed once into the private folder of the set-up.
fn install() -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let home = std::env::var_os("MEETLINK_HOME")
        .map(PathBuf::from)
        .ok_or("MEETLINK_HOME is not set; run `. scripts/env.sh` first")?;
    let folder = home.join(format!("prism-{VERSION}"));
    let program = folder.join("node_modules/.bin/prism");
    if program.exists() {
        return Ok(program);
    }
    // Made aside and moved: a folder of this name is whole.
    let aside = home.join(format!("prism-{VERSION}-{}", std::process::id()));
    let output = Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--loglevel=error"])
        .arg("--prefix")
        .arg(&aside)
        .arg(format!("@stoplight/prism-cli@{VERSION}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if !output.status.success() {
        let _ = std::fs::remove_dir_all(&aside);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!(
            "npm could not install Prism: {}",
            complaint.lines().next().unwrap_or("without a word")
        ));
    }
    if std::fs::rename(&aside, &folder).is_err() {
        // Somebody else was quicker.
        let _ = std::fs::remove_dir_all(&aside);
    }
    Ok(program)
}

/// One running proxy. It ends with its value.
pub struct Prism {
    leash: Child,
    log: PathBuf,
    pub port: u16,
}

impl Prism {
    /// Starts a proxy that speaks for `upstream`; its files go into `folder`.
    pub fn start(
        tools: &Tools,
        folder: &Path,
        name: &str,
        description: &Value,
        port: u16,
        upstream: &str,
    ) -> Self {
        let spec = folder.join(format!("{name}.json"));
        std::fs::write(&spec, description.to_string()).expect("a description is written");
        let log = folder.join(format!("prism-{name}.log"));
        let output = File::create(&log).expect("a log");
        let leash = Command::new("sh")
            .args(["-c", LEASH, "prism-on-a-leash"])
            .arg(&tools.program)
            .args(["proxy", "-h", "127.0.0.1", "-p", &port.to_string()])
            .arg("--errors")
            .arg(&spec)
            .arg(upstream)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            .spawn()
            .expect("sh starts");
        Self { leash, log, port }
    }

    /// Waits until it serves.
    pub fn ready(&self) {
        wait::until_true(START, "Prism to listen", || {
            self.log_text().contains("Prism is listening")
        });
    }

    /// What it complained about: requests and answers that the description does not allow. A
    /// status that the description does not mention is a warning only, and no complaint:
    /// descriptions leave out most errors.
    pub fn complaints(&self) -> Vec<String> {
        let text = self.log_text();
        let lines = text.lines().filter(|line| {
            line.contains("Request terminated with error")
                || (line.contains("Violation:")
                    && !line.contains("Unable to match the returned status code"))
        });
        lines.map(str::to_owned).collect()
    }

    /// How many requests it has passed on.
    pub fn forwarded(&self) -> usize {
        self.log_text().matches("> Forwarding").count()
    }

    /// One request of our own through it: the status.
    pub fn ask(&self, method: &str, path: &str, bearer: &str, body: &str) -> u16 {
        ask(self.port, method, path, bearer, body).0
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Prism {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

/// One HTTP request, the least there is: status and everything that came.
pub fn ask(port: u16, method: &str, path: &str, bearer: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {bearer}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("a request");
    stream.write_all(body.as_bytes()).expect("a body");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    (status.expect("a status"), answer)
}
