//! README's examples, run in their order on a cluster that is set up as README says.

#[path = "support/readme_blocks.rs"]
mod blocks;
#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/readme_stage.rs"]
mod stage;

use blocks::Block;
use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Action, Call, Rule};
use stage::{EARLIER, IN_DOUBT, SESSION, Stage, TUTOR, settings};
use uuid::Uuid;

const README: &str = include_str!("../../../README.md");
const MAKEFILE: &str = include_str!("../../../Makefile");

/// What README takes for granted before a block, and says of it afterwards.
impl Stage {
    /// What README takes for granted at a block.
    fn before(&mut self, block: &Block) {
        self.stored = self.stored_token();
        if block.role == "service_role" && block.has("meetlink_connect") {
            self.book(SESSION);
            self.state(SESSION, "needs_action");
        } else if block.has("'refresh envelope'") {
            self.app.cluster.psql(
                DATABASE,
                "UPDATE tutor_video_provider_connections SET connection_status = 'needs_reauth'",
            );
        } else if block.has("meetlink.missing_links;") {
            let lost = Action::Close { effect: true };
            self.app
                .simulator
                .fault(Rule::once(Zoom, Call::Create, lost));
            let blind = Action::ServerError { status: 503 };
            self.app
                .simulator
                .fault(Rule::once(Zoom, Call::List, blind));
            self.book(IN_DOUBT);
            self.state(IN_DOUBT, "in_doubt");
        } else if block.has("token.txt") {
            self.file("token.txt", &self.token());
        } else if block.has("tokens.tsv") {
            self.file("tokens.tsv", &format!("{TUTOR}\t{}\n", self.token()));
        } else if block.has("zoom.secret") {
            let (_, secret) = self.app.simulator.client(Zoom);
            let secret = format!("{secret}\n");
            self.app.cluster.write_file("zoom.secret", &secret, 0o600);
        } else if block.has("meetlink_rotate_keys") {
            let path = self.app.cluster.base().join("meetlink.keys");
            let old = std::fs::read_to_string(&path).expect("the keys");
            let keys = format!("k2 {}\n{old}", "5a".repeat(32));
            let new = self
                .app
                .cluster
                .write_file("meetlink.keys.new", &keys, 0o600);
            std::fs::rename(new, path).expect("renamed over the old one");
            self.app.cluster.reload();
        }
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.work.join(name), text).expect("a file");
    }

    fn state(&self, session: &str, state: &str) {
        let session = Uuid::parse_str(session).expect("an id");
        self.app.wait_for_state(session, state);
    }

    #[track_caller]
    fn token_is_new(&self) {
        assert_ne!(self.stored_token(), self.stored, "another token is stored");
    }

    /// That a block did what README says about it; whether there was something to look at.
    fn after(&mut self, block: &Block, output: &str) -> bool {
        let status = |person| {
            let session = Uuid::parse_str(SESSION).expect("an id");
            self.app.status_as(person, session)["message"].to_string()
        };
        let has = |wanted: &str| assert!(output.contains(wanted), "{wanted}: {output}");
        let is = |wanted: &str| assert_eq!(output.trim_end(), wanted);
        let shown: &[&str] = match block.text.as_str() {
            text if text.contains("CREATE EXTENSION") => {
                &["public.tutor_video_provider_connections"]
            }
            text if text.contains("'5e551000-0000-4000-8000-000000000001'::uuid, '5 s'") => {
                &["https://"]
            }
            text if text.contains("SELECT meetlink_status('5e") => &["\"ready\"", "|made|"],
            text if text.contains("SELECT meetlink_retry('5e") => &["\"ready\""],
            text if text.contains("meetlink.missing_links;") => {
                &["|in_doubt|", "|Zoe|", "connected"]
            }
            text if text.contains("FROM meetlink.stats") => {
                &["preloaded|t|", "hour|all|", "|made|"]
            }
            _ => &[],
        };
        shown.iter().for_each(|wanted| has(wanted));
        if block.has("'client secret'") {
            let count: i64 = self.app.value("SELECT count(*) FROM meetlink.providers");
            assert_eq!(count, 2);
        } else if block.role == "service_role" && block.has("meetlink_connect") {
            self.state(SESSION, "ready");
        } else if block.has("'refresh envelope'") {
            // The session in doubt shows later that it can be used.
            self.token_is_new();
            let works: bool = self.app.value(
                "SELECT connection_status = 'connected' FROM tutor_video_provider_connections",
            );
            assert!(works);
        } else if block.has("meetlink_status(uuid, text)") {
            assert!(status(self.student()).contains("is ready"));
        } else if block.has("caller_setting") {
            self.app.cluster.psql(DATABASE, "SELECT meetlink_attach()");
        } else if block.has("meetlink_create_missing();") {
            is("1");
            self.state(EARLIER, "ready");
        } else if block.has("meetlink_resolve('") {
            self.state(IN_DOUBT, "ready");
            assert_eq!(self.app.simulator.meetings_ever(Zoom).len(), 3, "one each");
        } else if block.has("SELECT meetlink_pause()") {
            is("t\nt");
        } else if block.has("SELECT meetlink_disconnect") {
            is("t");
            assert_eq!(self.stored_token(), "");
        } else if block.has("TO app_owner;") {
            let call = "SET ROLE app_owner; SELECT meetlink_attach()";
            self.app.cluster.psql(DATABASE, call);
        } else if block.has("CREATE ROLE meetlink_operator") {
            let look = "SET ROLE meetlink_operator; TABLE meetlink.queue; TABLE meetlink.at_risk;
                        TABLE meetlink.tutor_connections; SELECT meetlink_health()";
            self.app.cluster.psql(DATABASE, look);
        } else if block.kind == "psql" {
            self.token_is_new();
        } else if block.has("cbc_hex") {
            // What the application writes from now on has its own form.
            self.app.cluster.psql(
                DATABASE,
                &format!(
                    "SELECT meetlink_connect('{TUTOR}', 'zoom', '{}')",
                    self.token()
                ),
            );
            assert!(self.stored_token().contains(':'), "{}", self.stored_token());
        } else if block.has("meetlink_adopt_tokens()") {
            is("connections|1|0|0");
            assert!(self.stored_token().starts_with("ml1.k1."));
        } else if block.has("meetlink_rotate_keys()") {
            is("connections|1|0|0\nclient secrets|2|0|0");
            assert!(self.stored_token().starts_with("ml1.k2."));
        } else {
            return !shown.is_empty();
        }
        true
    }
}

#[test]
fn every_example_works_in_its_place() {
    let blocks = blocks::of(README);
    let mut stage = Stage::new(&blocks);
    let (mut run, mut checked) = (0, 0);
    for block in &blocks {
        match block.kind.as_str() {
            "sql" | "psql" => {
                stage.before(block);
                let output = stage.run(block);
                let output = output.unwrap_or_else(|complaint| {
                    panic!("README.md, line {}: {}{complaint}", block.line, block.text)
                });
                run += 1;
                checked += usize::from(stage.after(block, &output));
            }
            "keys" => {
                let keys = stage.fill_in(block);
                stage.app.cluster.write_file("meetlink.keys", &keys, 0o600);
                stage.app.cluster.reload();
            }
            "conf" => {
                for (name, value) in settings(block) {
                    if name.starts_with("log_") {
                        stage.app.cluster.set(&name, &value);
                        let now = format!("SHOW {name}");
                        assert_eq!(stage.app.cluster.psql(DATABASE, &now), value);
                    }
                }
            }
            "js" => called_functions_exist(&stage.app, block),
            "sh" => targets_exist(block),
            "" => {}
            other => panic!("README.md, line {}: what is {other:?}?", block.line),
        }
    }
    // An example that changed must not lose its check in silence.
    assert!(run >= 31, "only {run} blocks were run");
    assert_eq!(checked, 22, "blocks that something is known of");
}

/// Names of functions and of their arguments in calls through PostgREST.
fn called_functions_exist(app: &App, block: &Block) {
    for call in block.text.split("rpc('").skip(1) {
        let (name, rest) = call.split_once('\'').expect("a name");
        let arguments = rest
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let arguments = arguments.map_or("", |(arguments, _)| arguments);
        for argument in arguments.split(',') {
            let argument = argument.split(':').next().unwrap_or_default().trim();
            let there: bool = app.value(&format!(
                "SELECT bool_or('{argument}' = ANY (proargnames)) IS TRUE FROM pg_proc
                  WHERE proname = '{name}'"
            ));
            assert!(there, "README.md, line {}: {name}({argument})", block.line);
        }
    }
}

fn targets_exist(block: &Block) {
    for line in block
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("make "))
    {
        let target = line.split_whitespace().next().unwrap_or_default();
        let rule = format!("\n{target}:");
        assert!(
            MAKEFILE.contains(&rule),
            "README.md, line {}: {target}",
            block.line
        );
    }
}

/// The same way of running says so when an example is broken.
#[test]
fn a_broken_example_is_noticed() {
    let mut stage = Stage::new(&blocks::of(README));
    let good = "```sql\nCREATE EXTENSION meetlink;\n```\n<!-- as authenticated: tutor -->\n\
                ```sql\nSELECT meetlink_health();\n```\nand `SELECT meetlink_atach();`\n";
    let blocks = blocks::of(good);
    assert_eq!(blocks.len(), 3);
    stage.before(&blocks[0]);
    stage.run(&blocks[0]).expect("this one is right");
    for (block, wanted) in [
        (&blocks[1], "permission denied"),
        (&blocks[2], "does not exist"),
    ] {
        let complaint = stage.run(block).expect_err("not so this one");
        assert!(complaint.contains(wanted), "{complaint}");
    }
}

/// What can be set, called, looked at and watched stands in README; what stands there can be.
#[test]
fn settings_functions_views_checks_and_metrics_are_all_named() {
    let app = App::start();
    for query in [
        "SELECT '`' || name || '`' FROM pg_settings WHERE name LIKE 'meetlink.%'",
        "SELECT DISTINCT proname || '(' FROM pg_proc WHERE proname LIKE 'meetlink\\_%'",
        "SELECT '`' || relname || '`' FROM pg_class
          WHERE relnamespace = 'meetlink'::regnamespace AND relkind = 'v'",
        "SELECT '`' || check_name || '`' FROM meetlink_health()",
        "SELECT DISTINCT '`' || regexp_replace(name, '_(bucket|sum|count)$', '') || '`'
           FROM meetlink.metrics",
    ] {
        let rows = app.client().query(query, &[]).expect("names");
        assert!(rows.len() > 7, "{query}");
        let names = rows.iter().map(|row| row.get::<_, String>(0));
        let missing: Vec<_> = names.filter(|name| !README.contains(name)).collect();
        assert!(missing.is_empty(), "README does not name {missing:?}");
    }
    let settings = README.split('`').filter(|span| {
        span.starts_with("meetlink.") && span.split_once('.').is_some_and(|(_, n)| !n.contains(' '))
    });
    for name in settings {
        let there: bool = app.value(&format!(
            "SELECT EXISTS (SELECT FROM pg_settings WHERE name = split_part('{name}', ' ', 1))
                 OR to_regclass(replace('{name}', '*', 'jobs')) IS NOT NULL
                 OR '{name}' LIKE '%()'"
        ));
        assert!(
            there,
            "README names {name}, which is neither set nor looked at"
        );
    }
}

/// README's line of the log, but for ids and milliseconds; and silence while all is well.
#[test]
fn the_log_says_what_readme_says() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mark = app.cluster.log_mark();
    app.wait_for_link(app.book(tutor, student));
    let silent = app.cluster.log_from(mark);
    assert!(!silent.contains("meetlink: session"), "{silent}");
    let never = Rule::once(Zoom, Call::Create, Action::ZoomCannotSchedule);
    app.simulator.fault(never);
    let session = app.book(tutor, student);
    app.wait_for_state(session, "failed");
    let log = app.cluster.log_from(mark);
    let begin = format!("meetlink: session {session}: ");
    let seen = log.lines().find_map(|line| line.split_once(&begin));
    let (level, seen) = seen.unwrap_or_else(|| panic!("{log}"));
    assert!(level.contains("WARNING:"), "{level}");
    let shown = README
        .lines()
        .find_map(|line| line.split_once("meetlink: session 5e551000-…: "));
    let (_, shown) = shown.expect("a line in README");
    let plain = |line: &str| {
        let words = line.split(", ").filter(|word| !word.ends_with(" ms"));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(seen), plain(shown));
}
