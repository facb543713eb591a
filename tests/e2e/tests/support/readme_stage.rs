//! README's server, application and people, and how its blocks are run.

use std::path::PathBuf;
use std::process::Command;

use meetlink_e2e::app::{App, DATABASE, Person};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Options, Provider};
use uuid::Uuid;

use crate::blocks::Block;
use crate::envelope;

/// README's tutor and sessions: one that the examples ask about, one in doubt, one that was waiting
/// when meetlink came.
pub const TUTOR: &str = "7b0a0c3e-0000-4000-8000-000000000001";
pub const SESSION: &str = "5e551000-0000-4000-8000-000000000001";
pub const IN_DOUBT: &str = "5e551000-0000-4000-8000-000000000002";
pub const EARLIER: &str = "5e551000-0000-4000-8000-000000000003";

/// What is put in the place of README's words besides ids, tokens and secrets: see `fill_in`.
const REPLACED: [(&str, &str); 2] = [
    // psql 15 has no count for it.
    (" \\watch 1", ";"),
    // Comes with psql 16.
    (" $1) \\bind :token \\g", " :'token');"),
];

/// A name and a value of postgresql.conf.
pub fn settings(block: &Block) -> Vec<(String, String)> {
    let lines = block.text.lines().map(|line| {
        let line = line.split('#').next().unwrap_or(line);
        let (name, value) = line.split_once('=').expect("a setting");
        (
            name.trim().to_owned(),
            value.trim().trim_matches('\'').to_owned(),
        )
    });
    lines.collect()
}

/// README's server, application and people.
pub struct Stage {
    pub app: App,
    /// Where psql stands.
    pub work: PathBuf,
    /// Stored refresh token before the block that is run.
    pub stored: String,
}

impl Stage {
    pub fn new(blocks: &[Block]) -> Self {
        let conf = blocks.iter().find(|block| block.kind == "conf");
        let conf = settings(conf.expect("README says how to preload"));
        let [(preload, library), (key_file, path)] = conf.as_slice() else {
            panic!("two settings: {conf:?}");
        };
        let app = App::unattached(Options::default(), |options| {
            options
                .without_preload()
                .set(preload, library)
                .set("meetlink.settle_time", "1h")
        });
        let work = app.cluster.base().join("work");
        std::fs::create_dir(&work).expect("a folder");
        let mut stage = Self {
            app,
            work,
            stored: String::new(),
        };
        let here = stage.app.cluster.base().display().to_string();
        let path = path.replace("/etc/postgresql", &here);
        stage.app.cluster.reload_with(&[(key_file, &path)]);
        let make_keys = blocks
            .iter()
            .find(|b| b.kind == "sh" && b.has("meetlink.keys"));
        stage.make_keys(&make_keys.expect("README says how to make keys").text);
        stage.people();
        stage
    }

    /// Runs README's line and gives the file to the server's user.
    fn make_keys(&self, line: &str) {
        use std::os::unix::fs::PermissionsExt;
        let line = line.replace("/etc/postgresql/", &format!("{}/", self.work.display()));
        let made = Command::new("sh").args(["-c", &line]).status();
        assert!(made.expect("sh runs").success(), "{line}");
        let path = self.work.join("meetlink.keys");
        let mode = path.metadata().expect("the key file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "nobody else reads it");
        let keys = std::fs::read_to_string(path).expect("the keys");
        self.app.cluster.write_file("meetlink.keys", &keys, 0o600);
    }

    /// The key that encrypts.
    fn first_key(&self) -> String {
        let keys = std::fs::read_to_string(self.app.cluster.base().join("meetlink.keys"));
        let keys = keys.expect("the keys");
        let (_, hex) = keys
            .lines()
            .next()
            .expect("a key")
            .split_once(' ')
            .expect("hex");
        hex.to_owned()
    }

    fn people(&self) {
        let mut client = self.app.client();
        client
            .batch_execute(&format!(
                "INSERT INTO profiles (id, full_name, email, role) VALUES
                   ('{TUTOR}', 'Zoe', 'zoe@example.org', 'tutor'),
                   (gen_random_uuid(), 'Sam', 'sam@example.org', 'student');
                 CREATE PUBLICATION supabase_realtime;"
            ))
            .expect("people of the application");
        self.book(EARLIER);
    }

    pub fn book(&self, session: &str) {
        self.app
            .client()
            .batch_execute(&format!(
                "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                            SELECT '{TUTOR}', id FROM profiles WHERE role = 'student' RETURNING *)
                 INSERT INTO sessions (id, booking_id, tutor_id, student_id, provider,
                   scheduled_start_at, scheduled_end_at, duration_minutes)
                 SELECT '{session}', id, tutor_id, student_id, 'zoom', now() + interval '1 h',
                        now() + interval '2 h', 60 FROM b"
            ))
            .expect("a session");
    }

    pub fn student(&self) -> Person {
        Person(
            self.app
                .value("SELECT id FROM profiles WHERE role = 'student'"),
        )
    }

    /// A refresh token that a provider has just given out.
    pub fn token(&self) -> String {
        let account = AccountSpec::default();
        self.app.simulator.add_account(Zoom, account).refresh_token
    }

    pub fn stored_token(&self) -> String {
        self.app.value(
            "SELECT COALESCE(max(refresh_token_encrypted), '')
               FROM tutor_video_provider_connections",
        )
    }

    /// The block with real secrets, paths of this machine, and `REPLACED`.
    pub fn fill_in(&self, block: &Block) -> String {
        let here = self.app.cluster.base().display().to_string();
        let of = |line: &str| -> Provider {
            if line.contains("google_meet") {
                Google
            } else {
                Zoom
            }
        };
        let lines = block.text.lines().map(|line| {
            let (id, secret) = self.app.simulator.client(of(line));
            line.replace("'client id'", &format!("'{id}'"))
                .replace("'client secret'", &format!("'{secret}'"))
                .replace("'refresh token'", &format!("'{}'", self.token()))
                .replace("8d0f…64 hex digits…", &self.first_key())
                .replace("/etc/postgresql/", &format!("{here}/"))
        });
        let mut text = lines.collect::<Vec<_>>().join("\n") + "\n";
        if text.contains(" envelope'") {
            let account = self.app.simulator.add_account(Zoom, AccountSpec::default());
            let tutor = Person(Uuid::parse_str(TUTOR).expect("an id"));
            for (slot, token) in [
                ("access", account.access_token),
                ("refresh", account.refresh_token),
            ] {
                let key = ("k1", self.first_key());
                let sealed = envelope::seal_with((key.0, &key.1), &token, &tutor, Zoom, slot);
                text = text.replace(&format!("{slot} envelope"), &sealed);
            }
        }
        for (words, others) in REPLACED {
            text = text.replace(words, others);
        }
        text
    }

    /// Runs a block as README says; what psql prints, or its complaint.
    pub fn run(&self, block: &Block) -> Result<String, String> {
        let (user, before) = match block.role.as_str() {
            "" => ("postgres", String::new()),
            "prometheus" => ("prometheus", String::new()),
            "service_role" => ("postgres", "SET ROLE service_role;".to_owned()),
            "authenticated: tutor" => (
                "postgres",
                format!("SET ROLE authenticated; SET request.jwt.claim.sub = '{TUTOR}';"),
            ),
            other => panic!("line {}: nobody is called {other:?}", block.line),
        };
        let file = self.work.join("block.sql");
        std::fs::write(&file, before + "\n" + &self.fill_in(block)).expect("a file");
        let output = self
            .app
            .cluster
            .psql_command(DATABASE, user)
            .current_dir(&self.work)
            .args(["-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "block.sql"])
            .output()
            .expect("psql runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
