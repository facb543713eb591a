//! README's grants, the callers that have them, and something to read and to act on for all of them.

use meetlink_e2e::app::{App, DATABASE, Person};
use postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

/// README's grants for the application's role.
pub const APPLICATION: [&str; 7] = [
    "GRANT EXECUTE ON FUNCTION meetlink_status(uuid), meetlink_retry(uuid), \
     meetlink_wait(uuid, interval) TO authenticated;",
    "GRANT EXECUTE ON FUNCTION meetlink_status(uuid, text) TO authenticated;",
    "GRANT USAGE ON SCHEMA meetlink TO authenticated;",
    "GRANT SELECT ON meetlink.missing_links, meetlink.tutor_connections TO authenticated;",
    "GRANT EXECUTE ON FUNCTION meetlink.read_missing_sessions(), meetlink.read_tutors(), \
     meetlink.read_visible(uuid[]) TO authenticated;",
    "GRANT SELECT ON meetlink.at_risk TO authenticated;",
    "GRANT EXECUTE ON FUNCTION meetlink.read_at_risk() TO authenticated;",
];

/// README's grants for the tables' owner.
pub const OWNER: [&str; 2] = [
    "GRANT USAGE ON SCHEMA meetlink TO app_owner;",
    "GRANT EXECUTE ON FUNCTION meetlink_attach(regclass, regclass, regclass, jsonb, jsonb), \
     meetlink.enqueue() TO app_owner;",
];

/// README's grants for the operator.
pub const OPERATOR: [&str; 7] = [
    "CREATE ROLE meetlink_operator BYPASSRLS;",
    "GRANT USAGE ON SCHEMA meetlink TO meetlink_operator;",
    "GRANT SELECT ON meetlink.queue, meetlink.attempts, meetlink.workers, meetlink.holds, \
     meetlink.orphans, meetlink.notifications, meetlink.deliveries, meetlink.stats, \
     meetlink.metrics, meetlink.missing_links, meetlink.at_risk, meetlink.tutor_connections, \
     meetlink.config TO meetlink_operator;",
    "GRANT EXECUTE ON FUNCTION meetlink_health(), meetlink_create_missing(integer), \
     meetlink_pause(), meetlink_resume(), meetlink_status(uuid), meetlink_retry(uuid), \
     meetlink_resolve(uuid, text), meetlink.read_worker(), meetlink.read_missing_sessions(), \
     meetlink.read_at_risk(), meetlink.read_tutors(), meetlink.read_visible(uuid[]) \
     TO meetlink_operator;",
    "GRANT SELECT, UPDATE ON sessions TO meetlink_operator;",
    "GRANT SELECT ON profiles TO meetlink_operator;",
    "GRANT SELECT (tutor_id, provider, connection_status, token_expires_at) \
     ON tutor_video_provider_connections TO meetlink_operator;",
];

/// The columns of the tables below, in this order: a role without any grant, the application's (as a
/// tutor), the tables' owner, a member of pg_monitor, the operator, a superuser.
pub const CALLERS: [&str; 6] = [
    "passer_by",
    "authenticated",
    "app_owner",
    "monitor",
    "meetlink_operator",
    "postgres",
];

/// Stands in everything that monitoring must not read.
pub const CANARY: &str = "Canary Quartermain";

/// The application with two tutors and a session of each, nothing at work on them, a row in each of
/// meetlink's tables, and all six callers.
pub struct Stage {
    pub app: App,
    tutor: Person,
    own: Uuid,
    other: Uuid,
}

impl Stage {
    /// Everything in place.
    pub fn new() -> Self {
        let app = App::with(|options| options.set("meetlink.enabled", "off"));
        let student = app.person("student", CANARY);
        let tutor = app.person("tutor", &format!("{CANARY} I"));
        let other = app.person("tutor", &format!("{CANARY} II"));
        let [own, other] = [tutor, other].map(|tutor| app.book(tutor, student));
        let mut client = app.client();
        app.wait_until("two jobs", "SELECT count(*) = 2 FROM meetlink.jobs");
        client
            .batch_execute(&format!(
                "UPDATE meetlink.jobs SET state = 'in_doubt', provider = 'zoom',
                   account_id = tutor_id, due_at = 'infinity', may_exist_since = now(),
                   reason = 'unknown', last_error = 'a trigger says: {CANARY}',
                   external_id = 'canary-meeting', join_url = 'https://canary.example/',
                   made_at = now();
                 INSERT INTO meetlink.jobs (session_id, wish, state, provider, account_id, queued_at,
                   due_at, external_id, join_url, made_at)
                 SELECT gen_random_uuid(), 'gone', 'pending', 'zoom', gen_random_uuid(), now(),
                        'infinity', 'canary-meeting', 'https://canary.example/', now();
                 INSERT INTO meetlink.attempts (session_id, number, started_at, ended_at, class, error)
                 SELECT session_id, 1, now(), now(), 'retry', 'a trigger says: {CANARY}'
                   FROM meetlink.jobs;
                 INSERT INTO meetlink.holds (provider, until, reason, error)
                 VALUES ('zoom', now() + interval '1 day', 'provider_down', 'Zoom answers 503.');
                 CREATE ROLE passer_by;
                 CREATE ROLE monitor;
                 GRANT pg_monitor TO monitor;
                 {} {} {}",
                APPLICATION.concat(),
                OWNER.concat(),
                OPERATOR.concat()
            ))
            .expect("README's grants can be given");
        // Real sessions of theirs: SET ROLE would leave a superuser behind them.
        for role in CALLERS {
            client
                .batch_execute(&format!("ALTER ROLE {role} LOGIN"))
                .expect("a role logs in");
        }
        Self {
            app,
            tutor,
            own,
            other,
        }
    }

    /// A caller's own connection, with the tutor's claim.
    pub fn connect(&self, role: &str) -> Client {
        let mut client = self.app.cluster.connect(DATABASE, role);
        client
            .execute(
                "SELECT set_config('request.jwt.claim.sub', $1, false)",
                &[&self.tutor.0.to_string()],
            )
            .expect("the tutor's claim");
        client
    }

    /// Rows that a statement gives, or its SQLSTATE; whatever it does is undone.
    pub fn rows(&self, client: &mut Client, text: &str) -> Result<usize, String> {
        let text = text
            .replace("TABLE_OF", "SELECT * FROM")
            .replace("TUTORS", &self.own.to_string())
            .replace("OTHERS", &self.other.to_string())
            .replace("TUTOR", &self.tutor.0.to_string());
        let mut transaction = client.transaction().expect("a transaction");
        let messages = match transaction.simple_query(&text) {
            Ok(messages) => messages,
            Err(error) => {
                let error = error.as_db_error().expect("an error of the server");
                return match error.code().code() {
                    // There is nothing to be done just now: the caller may ask for it.
                    "55000" => Ok(0),
                    code @ ("42501" | "P0002") => Err(code.to_owned()),
                    // Anything else is no answer to the question who may.
                    _ => panic!("{text}: {error}"),
                };
            }
        };
        let is_row = |m: &&SimpleQueryMessage| matches!(m, SimpleQueryMessage::Row(_));
        Ok(messages.iter().filter(is_row).count())
    }

    /// What a caller may do with rows, given how many there are.
    pub fn of_rows(&self, client: &mut Client, text: &str, all: usize) -> char {
        match self.rows(client, text) {
            Err(code) if code == "42501" => '-',
            Ok(n) if n == all => '+',
            Ok(n) if n > 0 && n < all => 'o',
            other => panic!("{text}: {other:?} of {all} rows"),
        }
    }

    /// What a caller may do with a function.
    pub fn of_call(&self, client: &mut Client, text: &str) -> char {
        let of = |session: Uuid, client: &mut Client| {
            self.rows(client, &text.replace("OWN", &session.to_string()))
        };
        let (own, other) = (of(self.own, client), of(self.other, client));
        let code = |result: &Result<usize, String>| result.clone().err().unwrap_or_default();
        match (code(&own).as_str(), code(&other).as_str()) {
            ("", "") => '+',
            ("", "P0002") => 'o',
            ("42501", "42501") => '-',
            other => panic!("{text}: {other:?}"),
        }
    }
}
