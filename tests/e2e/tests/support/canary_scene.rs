//! The reference application on a server that logs all it can, with canaries for secrets, and every
//! place looked through in the end.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;

use chrono::Utc;
use meetlink_e2e::app::{App, DATABASE, Person, name_of};
use meetlink_e2e::{Cluster, ClusterOptions};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Account, AccountSpec, Options, Provider};
use postgres::Client;

use super::canary::{Finding, Hunt, random_key, random_text, unhex};
use super::canary_places::{Heard, archive_all, dump_all, look_as_everybody, processes};

/// What the simulator puts into Zoom's `start_url`.
const ZAK: &str = "?zak=eyJ.host-secret";

/// Everything that a server can be told to write down about statements.
fn talkative(options: ClusterOptions) -> ClusterOptions {
    let libraries = "meetlink,auto_explain,pg_stat_statements";
    let mut options = options
        .without_preload()
        .set("shared_preload_libraries", libraries);
    for (name, value) in [
        ("log_statement", "all"),
        ("log_min_messages", "debug5"),
        ("log_min_error_statement", "debug5"),
        ("log_min_duration_statement", "0"),
        ("log_error_verbosity", "verbose"),
        ("log_lock_waits", "on"),
        ("log_temp_files", "0"),
        ("log_replication_commands", "on"),
        // What README asks of servers with log_statement: bind parameters stay out of the log.
        ("log_parameter_max_length", "0"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_verbose", "on"),
        ("auto_explain.log_nested_statements", "on"),
        ("auto_explain.log_triggers", "on"),
        ("auto_explain.log_settings", "on"),
        ("pg_stat_statements.track", "all"),
        ("pg_stat_statements.track_planning", "on"),
        ("track_activity_query_size", "100kB"),
        ("track_functions", "all"),
        ("wal_keep_size", "1GB"),
        ("archive_mode", "on"),
        (
            "archive_command",
            "mkdir -p ../archive && cp %p ../archive/%f",
        ),
        ("meetlink.request_timeout", "1s"),
    ] {
        options = options.set(name, value);
    }
    options
}

/// The application, and what is to stay secret.
pub struct Scene {
    pub app: App,
    pub student: Person,
    pub key: String,
    hunt: Hunt,
    heard: Heard,
}

/// Marks in the names of canaries that must be found, so that it is known that the search works.
const CONTROL: &str = "control";

impl Scene {
    /// Server, both OAuth clients, and canaries that must be found.
    pub fn start() -> Self {
        let simulator = Options::default();
        let app = App::unattached(simulator, talkative);
        let key = random_key();
        app.cluster.write_key_file(&[("canary", &key)]);
        let mut hunt = Hunt::default();
        hunt.bytes("key", &unhex(&key));
        hunt.text("key as text", &key);
        hunt.text("zak", ZAK);

        let mut client = careful(&app);
        client
            .batch_execute(
                "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION meetlink;
                 SELECT meetlink_attach();
                 GRANT EXECUTE ON FUNCTION meetlink_status(uuid), meetlink_retry(uuid),
                   meetlink_wait(uuid, interval) TO authenticated, anon;
                 CREATE ROLE monitor; GRANT pg_monitor TO monitor;
                 CREATE ROLE reader; GRANT pg_read_all_data TO reader;
                 CREATE ROLE nobody;
                 GRANT EXECUTE ON FUNCTION meetlink_health(), meetlink_status(uuid)
                   TO monitor, reader, nobody;",
            )
            .expect("meetlink is installed and attached");
        for provider in [Google, Zoom] {
            let (id, secret) = (random_text(20), random_text(40));
            hunt.text(&format!("client secret of {provider:?}"), &secret);
            app.simulator.set_client(provider, &id, &secret);
            client
                .execute(
                    "SELECT meetlink_configure_provider($1, $2, $3)",
                    &[&name_of(provider), &id, &secret],
                )
                .expect("the provider is configured");
        }
        plant_controls(&mut client, &mut hunt);
        let heard = Heard::start(&app.cluster);
        let student = app.person("student", "Sam Student");
        Self {
            app,
            student,
            key,
            hunt,
            heard,
        }
    }

    /// A tutor with tokens that are canaries; `stale` ones have to be refreshed at once.
    pub fn tutor(&mut self, provider: Provider, name: &str, stale: bool) -> (Person, Account) {
        let tutor = self.app.person("tutor", name);
        let account = self.new_tokens(provider, name);
        self.connect(tutor, provider, &account, stale);
        (tutor, account)
    }

    /// An account at the provider, new or in place of the one of this name. Its tokens are long
    /// if its name says so.
    pub fn new_tokens(&mut self, provider: Provider, name: &str) -> Account {
        let length = if name.contains("long") { 4_000 } else { 150 };
        let spec = AccountSpec {
            // As the providers write them; some are stored out of line.
            refresh_token: Some(format!("1//0{}", random_text(length))),
            access_token: Some(format!("ya29.a0{}", random_text(length + 50))),
            ..AccountSpec::named(name)
        };
        self.app.simulator.add_account(provider, spec)
    }

    /// Connects a tutor with bind parameters.
    pub fn connect(&self, tutor: Person, provider: Provider, account: &Account, stale: bool) {
        let end = match stale {
            true => Utc::now() - chrono::Duration::minutes(5),
            false => account.expires_at,
        };
        let provider = name_of(provider);
        let (refresh, access) = (&account.refresh_token, &account.access_token);
        let connected = careful(&self.app).execute(
            "SELECT meetlink_connect($1, $2, $3, $4, $5)",
            &[&tutor.0, &provider, refresh, access, &end],
        );
        connected.expect("the tutor is connected");
    }

    /// A further secret.
    pub fn secret(&mut self, name: &str, text: &str) {
        self.hunt.text(name, text);
    }

    /// Keeps a text that somebody was shown.
    pub fn heard(&self, place: &str, text: &str) {
        self.heard.keep(place, text);
    }

    /// Looks through every place; gives the canaries that must not be there, after it has seen to
    /// it that those are found that must be.
    pub fn findings(mut self) -> BTreeSet<Finding> {
        let app = &self.app;
        for provider in [Google, Zoom] {
            for (n, token) in app.simulator.tokens_ever(provider).iter().enumerate() {
                self.hunt.text(&format!("{provider:?} token {n}"), token);
            }
        }
        look_as_everybody(app, &self.heard);
        let mut found = BTreeSet::new();
        for (place, text) in self.heard.stop() {
            found.extend(self.hunt.search_at(&place, text.as_bytes()));
        }
        found.extend(processes(app, &self.hunt));

        app.cluster.psql(DATABASE, "CHECKPOINT");
        let dump = dump_all(&app.cluster);
        assert!(dump.contains("ml1.canary."), "the dump holds the envelopes");
        found.extend(self.hunt.search_at("dump", dump.as_bytes()));
        let backup = Cluster::base_backup(&app.cluster, ClusterOptions::new());
        archive_all(&app.cluster);
        let log = std::fs::read(app.cluster.log_path()).expect("the log");
        found.extend(self.hunt.search_at("log", &log));
        let mut sizes = vec![("log", log.len() as u64), ("dump", dump.len() as u64)];
        for (place, folder) in [
            ("backup", backup.data_dir()),
            ("data", app.cluster.data_dir()),
            ("archive", app.cluster.base().join("archive")),
        ] {
            let (more, size) = self.hunt.search_folder(place, &folder);
            found.extend(more);
            sizes.push((place, size));
        }
        eprintln!("bytes looked through: {sizes:?}");
        assert_controls(&found);
        found.retain(|(name, ..)| !name.starts_with(CONTROL));
        found
    }
}

/// A connection of which the statements' plans do not show what was bound: auto_explain is at its
/// most verbose here.
pub fn careful(app: &App) -> Client {
    let mut client = app.client();
    client
        .batch_execute("SET plan_cache_mode = force_generic_plan")
        .expect("a setting");
    client
}

/// Canaries in the open, one for each kind of place.
fn plant_controls(client: &mut Client, hunt: &mut Hunt) {
    client
        .batch_execute("CREATE TABLE control (v text)")
        .expect("a table");
    let mut plant = |name: &str, sql: &str, around: &dyn Fn(&str) -> String| {
        let canary = random_text(60);
        hunt.text(&format!("{CONTROL} {name}"), &canary);
        client.execute(sql, &[&around(&canary)]).expect("planted");
    };
    let insert = "INSERT INTO control VALUES ($1)";
    plant("row", insert, &str::to_owned);
    plant("base64", insert, &|text| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("Basic user:{text}"))
    });
    plant("hex", insert, &|text| super::canary::hex(text.as_bytes()));
    // Over 2 kB: compressed.
    plant("compressed", insert, &|text| {
        format!("{}{text}{}", "ab".repeat(3_000), "cd".repeat(3_000))
    });
    plant("deleted", insert, &str::to_owned);
    let delete = "DELETE FROM control WHERE ctid = (SELECT max(ctid) FROM control) AND $1 <> ''";
    plant("delete", delete, &str::to_owned);
    plant(
        "log",
        "SELECT set_config('canary.log', $1, false)",
        &str::to_owned,
    );
    client
        .batch_execute(
            "DO $$ BEGIN RAISE LOG 'a slip: %', current_setting('canary.log'); END $$;
             CREATE FUNCTION slip() RETURNS text LANGUAGE sql AS
               $$ SELECT 'shown to somebody: ' || v FROM control LIMIT 1 $$",
        )
        .expect("a slip");
}

/// What was planted is found where it must be; a name that begins as a place does is enough.
fn assert_controls(found: &BTreeSet<Finding>) {
    let table = [
        "dump",
        "backup: base",
        "backup: pg_wal",
        "data: base",
        "data: pg_wal",
        "archive",
    ];
    let files = &table[1..];
    let wanted: [(&str, &str, &[&str]); 6] = [
        ("row", "plain", &table),
        ("base64", "base64", &table),
        ("hex", "hex", &table),
        ("compressed", "pglz", files),
        ("deleted", "plain", files),
        ("log", "plain", &["log"]),
    ];
    for (name, form, places) in wanted {
        for place in places {
            // The backup's own WAL begins with its checkpoint.
            if *place == "backup: pg_wal" {
                continue;
            }
            let seen = found.iter().any(|(canary, its_form, its_place)| {
                *canary == format!("{CONTROL} {name}")
                    && *its_form == form
                    && its_place.starts_with(place)
            });
            assert!(
                seen,
                "the search misses {name} ({form}) in {place}: {found:#?}"
            );
        }
    }
    let dumped = ("control deleted".to_owned(), "plain", "dump".to_owned());
    assert!(!found.contains(&dumped), "what is deleted is in no dump");
}
