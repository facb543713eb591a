//! Who may not see a session cannot tell it from one that is not there: not by what an error says,
//! not by what is left behind, and not by the time that it takes.

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, DATABASE, Person};
use meetlink_simulator::Provider::Google;
use postgres::Client;
use postgres::error::{DbError, ErrorPosition};
use uuid::Uuid;

const CALLS: [&str; 4] = [
    "SELECT meetlink_status($1)",
    "SELECT meetlink_retry($1)",
    "SELECT meetlink_wait($1, '10 s')",
    "SELECT meetlink_resolve($1, 'repost')",
];

/// Sessions of one tutor: with its link, waiting for the tutor, in doubt, and one that nobody has
/// looked at yet.
struct Stage {
    app: App,
    hidden: [Uuid; 4],
    stranger: Person,
}

impl Stage {
    fn new() -> Self {
        let app = App::start();
        let student = app.person("student", "Sam");
        let stranger = app.tutor(Google, "Stan");
        let (tutor, waiting) = (app.tutor(Google, "Gia"), app.person("tutor", "Una"));
        let ready = app.book(tutor, student);
        app.wait_for_link(ready);
        let parked = app.book(waiting, student);
        app.wait_for_state(parked, "needs_action");
        let doubtful = app.book(waiting, student);
        app.wait_for_state(doubtful, "needs_action");
        let mut client = app.client();
        client
            .batch_execute(&format!(
                "SELECT meetlink_pause();
                 UPDATE meetlink.jobs SET state = 'in_doubt', provider = 'zoom', due_at = 'infinity',
                   may_exist_since = now(), reason = 'unknown' WHERE session_id = '{doubtful}';
                 CREATE ROLE passer_by LOGIN;
                 ALTER ROLE authenticated LOGIN;
                 GRANT EXECUTE ON FUNCTION meetlink_status(uuid), meetlink_retry(uuid),
                   meetlink_wait(uuid, interval), meetlink_resolve(uuid, text)
                   TO authenticated, passer_by",
            ))
            .expect("a stage");
        app.wait_until(
            "the worker to be away",
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                                 WHERE backend_type = 'meetlink worker')",
        );
        let fresh = app.book(tutor, student);
        Self {
            app,
            hidden: [ready, parked, doubtful, fresh],
            stranger,
        }
    }

    /// Somebody who may not see them: another tutor, whom row security stops, or a role that may not
    /// read the table at all.
    fn connect(&self, role: &str) -> Client {
        let mut client = self.app.cluster.connect(DATABASE, role);
        let claim = "SELECT set_config('request.jwt.claim.sub', $1, false)";
        client
            .execute(claim, &[&self.stranger.0.to_string()])
            .expect("a claim");
        client
    }

    /// Everything that meetlink holds, to see that nothing was left behind.
    fn books(&self) -> String {
        self.app.value(
            "SELECT (SELECT json_agg(j ORDER BY session_id) FROM meetlink.jobs j)::text
                 || COALESCE((SELECT json_agg(i ORDER BY session_id, queued_at)
                                FROM meetlink.inbox i), '[]')::text",
        )
    }
}

/// All that a client is sent, the session's id aside.
fn told(error: &DbError, session: Uuid) -> String {
    let position = error.position().map(|position| match position {
        ErrorPosition::Original(at) => format!("{at}"),
        ErrorPosition::Internal { position, query } => format!("{position} in {query}"),
    });
    format!(
        "{:?}",
        (
            error.severity(),
            error.code().code(),
            error.message(),
            error.detail(),
            error.hint(),
            position,
            error.where_(),
            (error.schema(), error.table(), error.column()),
            (error.datatype(), error.constraint()),
            (error.file(), error.line(), error.routine()),
        )
    )
    .replace(&session.to_string(), "ID")
}

#[test]
fn an_error_about_a_hidden_session_is_the_one_about_a_missing_session() {
    let stage = Stage::new();
    let before = stage.books();
    for role in ["authenticated", "passer_by"] {
        let mut client = stage.connect(role);
        for call in CALLS {
            let mut ask = |session: Uuid| {
                let error = client
                    .query_one(call, &[&session])
                    .err()
                    .unwrap_or_else(|| panic!("{call} as {role} was answered"));
                told(error.as_db_error().expect("the server's error"), session)
            };
            let missing = ask(Uuid::new_v4());
            assert!(
                missing.contains("\"P0002\", \"session ID not found\""),
                "{missing}"
            );
            for session in stage.hidden {
                assert_eq!(ask(session), missing, "{call} as {role}");
            }
        }
    }
    assert_eq!(stage.books(), before, "nothing was left behind");
}

#[test]
fn a_hidden_session_takes_no_longer_than_a_missing_one() {
    const ROUNDS: usize = 300;
    let stage = Stage::new();
    let mut client = stage.connect("authenticated");
    for call in CALLS {
        let statement = client.prepare(call).expect("a call is prepared");
        let mut time = |session: Uuid| {
            let begun = Instant::now();
            let answer = client.query_one(&statement, &[&session]);
            assert!(answer.is_err(), "{call} was answered");
            begun.elapsed()
        };
        // Turn by turn, so that whatever else the machine does meets all alike.
        let mut times: [Vec<Duration>; 5] = Default::default();
        for _ in 0..ROUNDS {
            for (at, session) in stage.hidden.into_iter().enumerate() {
                times[at].push(time(session));
            }
            times[4].push(time(Uuid::new_v4()));
        }
        let medians = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        println!("{call}: ready, parked, in doubt, fresh, missing: {medians:?}");
        let missing = medians[4].as_secs_f64();
        for hidden in medians.map(|median| median.as_secs_f64()) {
            // Turn by turn they differ by a hundredth.
            assert!(
                hidden < missing * 1.25 + 30e-6 && missing < hidden * 1.25 + 30e-6,
                "{call}: {medians:?}"
            );
        }
    }
}
