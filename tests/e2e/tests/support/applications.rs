//! Applications that encrypt their tutors' tokens themselves, in real Node and real Python.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use chrono::{DateTime, Utc};
use meetlink_e2e::app::{App, DATABASE, KEY, Person, name_of};
use meetlink_simulator::{Account, AccountSpec, Provider};
use serde_json::{Value, json};

/// The application's own key, as the key file names it.
pub const OWN_KEY: &str = "app";
/// The key as 64 hex digits.
pub const HEX: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf";
/// The key as a passphrase.
pub const PASSPHRASE: &str = "sha256:correct horse: battery staple";

/// The columns with tokens, and what an `ml1` binding calls them.
pub const SLOTS: [&str; 2] = ["access", "refresh"];

/// A form of encrypted tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// `options.token_format`.
    pub name: &'static str,
    /// Bytes of the initialization vector.
    pub iv: usize,
}

pub const ML1: Form = form("ml1", 12);
pub const GCM_HEX: Form = form("gcm_hex", 12);
pub const GCM_BASE64: Form = form("gcm_base64", 12);
pub const CBC_HEX: Form = form("cbc_hex", 16);

/// A form with another length of its initialization vector.
pub const fn form(name: &'static str, iv: usize) -> Form {
    Form { name, iv }
}

impl Form {
    /// The options that tell meetlink of it.
    pub fn options(self) -> Value {
        match self {
            ML1 => json!({}),
            Form { name, .. } => json!({"token_format": name, "token_key": OWN_KEY}),
        }
    }

    /// The key that it is encrypted with.
    pub fn key(self) -> &'static str {
        if self == ML1 { KEY.0 } else { OWN_KEY }
    }

    /// Whether a text looks like it, down to the length of the initialization vector.
    pub fn fits(self, stored: &str, token: &str) -> bool {
        let hex = |text: &str, bytes: usize| {
            text.len() == 2 * bytes && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let parts: Vec<&str> = stored.split(':').collect();
        match (self.name, parts.as_slice()) {
            ("ml1", [_]) => stored.starts_with(&format!("ml1.{}.", KEY.0)),
            ("gcm_hex", [iv, tag, sealed]) => {
                hex(iv, self.iv) && hex(tag, 16) && hex(sealed, token.len())
            }
            ("gcm_base64", [all]) => {
                !stored.starts_with("ml1.")
                    && all.len() == (self.iv + token.len() + 16).div_ceil(3) * 4
            }
            ("cbc_hex", [iv, sealed]) => {
                hex(iv, self.iv) && hex(sealed, (token.len() / 16 + 1) * 16)
            }
            _ => false,
        }
    }
}

static NO_NODE: Once = Once::new();
static NO_PYTHON: Once = Once::new();

/// One of the programs in `tests/e2e/apps`, and the key file that it reads.
pub struct Application {
    pub language: &'static str,
    interpreter: &'static str,
    script: PathBuf,
    keys: PathBuf,
}

/// Says loudly, past the test's captured output, what is not shown; once.
fn not_run(said: &Once, why: &str) {
    said.call_once(|| say(why));
}

fn say(why: &str) {
    let line = format!("NOT RUN: tokens of applications: {why}\n");
    let written = File::options().append(true).open("/dev/stderr");
    if written
        .and_then(|mut e| e.write_all(line.as_bytes()))
        .is_err()
    {
        eprint!("{line}");
    }
}

fn runs(interpreter: &str, arguments: &[&str]) -> bool {
    let ran = Command::new(interpreter)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success())
}

impl Application {
    /// Those that this machine can run; what it cannot is said on stderr.
    pub fn all(app: &App) -> Vec<Self> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps");
        let keys = app.cluster.base().join("meetlink.keys");
        let made = |language, interpreter, script: &str| Self {
            language,
            interpreter,
            script: scripts.join(script),
            keys: keys.clone(),
        };
        let mut found = Vec::new();
        if runs("node", &["-e", "require('node:crypto')"]) {
            found.push(made("Node", "node", "tokens.mjs"));
        } else {
            not_run(&NO_NODE, "this machine has no node with crypto");
        }
        // Debian's own has Debian's python3-cryptography, whatever else comes first in the path.
        let mut pythons = ["python3", "/usr/bin/python3"].into_iter();
        match pythons.find(|python| runs(python, &["-c", "import cryptography"])) {
            Some(python) => found.push(made("Python", python, "tokens.py")),
            None => not_run(
                &NO_PYTHON,
                "this machine has no python3 that imports cryptography",
            ),
        }
        found
    }

    fn run(&self, operation: &str, form: Form, binding: &str, input: &str) -> String {
        let mut command = Command::new(self.interpreter);
        command.arg(&self.script).args([operation, form.name]);
        command.arg(&self.keys).args([form.key(), binding]);
        if form.iv == 16 {
            command.arg("--iv=16");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("its stdin");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let what = format!("{} does {operation} {}", self.language, form.name);
        assert!(output.status.success(), "{what}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Encrypts a token as the application would.
    pub fn encrypt(&self, form: Form, tutor: Person, of: Provider, slot: &str, t: &str) -> String {
        self.run("encrypt", form, &binding(tutor, of, slot), t)
    }

    /// Decrypts what is stored, as the application would.
    pub fn decrypt(&self, form: Form, tutor: Person, of: Provider, slot: &str, s: &str) -> String {
        self.run("decrypt", form, &binding(tutor, of, slot), s)
    }

    /// A tutor whose tokens the application encrypted; the access token is over.
    pub fn stale_tutor(&self, app: &App, form: Form, of: Provider, name: &str) -> Person {
        let tutor = app.person("tutor", name);
        let account = app.simulator.add_account(of, AccountSpec::named(name));
        let over = Utc::now() - chrono::Duration::minutes(5);
        self.store(app, form, tutor, &account, over);
        tutor
    }

    /// Writes a connection into the application's table.
    pub fn store(&self, app: &App, form: Form, tutor: Person, of: &Account, end: DateTime<Utc>) {
        let [access, refresh] = [(SLOTS[0], &of.access_token), (SLOTS[1], &of.refresh_token)]
            .map(|(slot, token)| self.encrypt(form, tutor, of.provider, slot, token));
        store(app, tutor, of.provider, [&access, &refresh], end);
    }

    /// Decrypts both of a tutor's stored tokens, and wants them to be what the provider has.
    #[track_caller]
    pub fn assert_reads(&self, app: &App, form: Form, tutor: Person, of: Provider, name: &str) {
        let account = app.simulator.account(of, name).expect("an account");
        let tokens = [account.access_token, account.refresh_token];
        for ((slot, stored), token) in SLOTS.into_iter().zip(stored(app, tutor)).zip(tokens) {
            let what = format!("{} {form:?} {slot}: {stored}", self.language);
            assert!(form.fits(&stored, &token), "{what}");
            assert_eq!(
                self.decrypt(form, tutor, of, slot, &stored),
                token,
                "{what}"
            );
        }
    }
}

/// Whose token an `ml1` envelope holds.
pub fn binding(tutor: Person, of: Provider, slot: &str) -> String {
    format!("meetlink|{}|{}|{slot}", tutor.0, name_of(of))
}

/// Writes a connection as the application does: encrypted access and refresh token.
pub fn store(app: &App, tutor: Person, of: Provider, tokens: [&str; 2], end: DateTime<Utc>) {
    let written = app.client().execute(
        "INSERT INTO tutor_video_provider_connections
                (tutor_id, provider, connection_status, access_token_encrypted,
                 refresh_token_encrypted, token_expires_at)
         VALUES ($1, $2, 'connected', $3, $4, $5)",
        &[&tutor.0, &name_of(of), &tokens[0], &tokens[1], &end],
    );
    assert_eq!(written.expect("a connection"), 1);
}

/// A tutor's stored access and refresh token.
pub fn stored(app: &App, tutor: Person) -> [String; 2] {
    let row = app.client().query_one(
        "SELECT access_token_encrypted, refresh_token_encrypted
           FROM tutor_video_provider_connections WHERE tutor_id = $1",
        &[&tutor.0],
    );
    let row = row.expect("a connection");
    [row.get(0), row.get(1)]
}

/// All stored access tokens are over by now, as far as the table says.
pub fn expire_all(app: &App) {
    app.cluster.psql(
        DATABASE,
        "UPDATE tutor_video_provider_connections SET token_expires_at = now() - interval '1 min'",
    );
}

/// Attaches with options.
pub fn attach(app: &App, options: &Value) {
    let attached = app
        .client()
        .execute("SELECT meetlink_attach(options => $1)", &[options]);
    attached.expect("meetlink_attach");
}

/// The application, its own key beside meetlink's.
pub fn app_with_key(key: &str) -> App {
    App::with(|options| {
        // So long that nothing but what an operator does sets a waiting job going.
        let options = options.set("meetlink.backoff_max", "15min");
        options.key(OWN_KEY, key)
    })
}
