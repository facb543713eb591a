//! The Standard Webhooks library of the specification's authors, for JavaScript: it says whether a
//! request that was received is signed as it should be. None of our own code takes part.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

const VERSION: &str = "1.1.1";

/// Reads one task from its input and writes what became of it.
const PROGRAM: &str = r#"
const { Webhook } = require("standardwebhooks");
const task = JSON.parse(require("fs").readFileSync(0, "utf8"));
const webhook = new Webhook(task.secret);
let answer;
try {
    answer = task.sign
        ? { ok: webhook.sign(task.id, new Date(task.timestamp * 1000), task.body) }
        : { ok: webhook.verify(task.body, task.headers) };
} catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
}
process.stdout.write(JSON.stringify(answer));
"#;

/// The library, installed.
pub struct Library {
    folder: PathBuf,
}

impl Library {
    /// Installs it if need be; `None` is said on stderr, past the captured output of a test.
    pub fn find() -> Option<Self> {
        match install() {
            Ok(folder) => Some(Self { folder }),
            Err(why) => {
                meetlink_e2e::skip(&format!("Standard Webhooks library: {why}"));
                None
            }
        }
    }

    /// Whether a request, its headers and its body byte for byte, is signed with a secret
    /// (`whsec_...`) and recent: the body as JSON, or what the library says.
    pub fn verify(
        &self,
        secret: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Value, String> {
        let body = std::str::from_utf8(body).map_err(|error| error.to_string())?;
        let headers: Value = headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        self.run(&json!({"secret": secret, "headers": headers, "body": body}))
    }

    /// The value of `webhook-signature` as the library makes it.
    pub fn sign(&self, secret: &str, id: &str, timestamp: i64, body: &str) -> String {
        let task = json!({
            "sign": true, "secret": secret, "id": id, "timestamp": timestamp, "body": body,
        });
        let signature = self.run(&task).expect("a message is signed");
        signature.as_str().expect("a signature").to_owned()
    }

    fn run(&self, task: &Value) -> Result<Value, String> {
        // Modules are looked for from the working directory.
        let mut node = Command::new("node")
            .args(["-e", PROGRAM])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node starts");
        let input = task.to_string();
        let mut stdin = node.stdin.take().expect("its input");
        stdin.write_all(input.as_bytes()).expect("a task");
        drop(stdin);
        let output = node.wait_with_output().expect("node ends");
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("node: {}", String::from_utf8_lossy(&output.stderr)));
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }
}

/// The folder with the library, filled once, in the private folder of the set-up.
fn install() -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let home = std::env::var_os("MEETLINK_HOME")
        .map(PathBuf::from)
        .ok_or("MEETLINK_HOME is not set; run `. scripts/env.sh` first")?;
    let folder = home.join(format!("standardwebhooks-{VERSION}"));
    if folder.exists() {
        return Ok(folder);
    }
    // Made aside and moved: a folder of this name is whole.
    let aside = home.join(format!("standardwebhooks-{VERSION}-{}", std::process::id()));
    let output = Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--loglevel=error"])
        .args(["--ignore-scripts", "--prefix"])
        .arg(&aside)
        .arg(format!("standardwebhooks@{VERSION}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if !output.status.success() {
        let _ = std::fs::remove_dir_all(&aside);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!(
            "npm could not install it: {}",
            complaint.lines().next().unwrap_or("without a word")
        ));
    }
    if std::fs::rename(&aside, &folder).is_err() {
        // Somebody else was quicker.
        let _ = std::fs::remove_dir_all(&aside);
    }
    Ok(folder)
}
