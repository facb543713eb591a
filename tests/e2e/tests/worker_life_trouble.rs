//! Trouble in the worker's own SQL: it waits, says why, and goes on by itself once it is mended.
//! Bookings commit meanwhile.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Latency, Options, Rule};
use uuid::Uuid;

/// A booking takes as long as always, whatever the worker's trouble is.
const BOOKING: Duration = Duration::from_millis(800);

struct Trouble {
    app: App,
    people: (Person, Person),
    worker: i32,
    booked: Vec<Uuid>,
}

impl Trouble {
    /// An application that works, then `damage`, then bookings until the worker has noticed and
    /// names `word` as its trouble.
    fn after(damage: &str, word: &str) -> Self {
        let app = App::start();
        let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
        app.wait_for_link(app.book(people.0, people.1));
        let worker = app.worker_pid();
        let mark = app.cluster.log_mark();
        app.client()
            .batch_execute(damage)
            .expect("the damage is done");
        let mut this = Self {
            app,
            people,
            worker,
            booked: Vec::new(),
        };
        for _ in 0..3 {
            this.book();
        }
        this.wait_for_word(word);
        // The waits between its tries grow: it has had some of them, and does not log each.
        let begun = Instant::now();
        wait::until_true(SOON, "some tries", || begun.elapsed().as_millis() > 1_500);
        let log = this.app.cluster.log_from(mark);
        let lines = log.lines().filter(|line| line.contains("meetlink worker"));
        let count = lines.filter(|line| !line.contains("STATEMENT")).count();
        assert!(count <= 4, "{count} lines: {log}");
        this.book();
        this.wait_for_word(word);
        assert_eq!(this.pid(), Some(worker), "it waits, it does not die of it");
        this
    }

    fn book(&mut self) {
        let begun = Instant::now();
        let session = self.app.book(self.people.0, self.people.1);
        assert!(begun.elapsed() < BOOKING, "{:?}", begun.elapsed());
        self.booked.push(session);
    }

    fn pid(&self) -> Option<i32> {
        life::worker_of(&self.app.cluster, "app")
    }

    fn wait_for_word(&self, word: &str) {
        let mut client = self.app.client();
        wait::until_true(SOON, &format!("the worker to complain of {word}"), || {
            let query = "SELECT last_error, state FROM meetlink.workers";
            let row = client.query_one(query, &[]).expect("a row for the worker");
            let said: String = row.get::<_, Option<String>>(0).unwrap_or_default();
            said.contains(word) && row.get::<_, String>(1) == "waiting"
        });
    }

    /// Mends it, and does nothing else.
    fn then(self, repair: &str) -> App {
        let mut client = self.app.client();
        client.batch_execute(repair).expect("it is mended");
        let begun = Instant::now();
        for session in &self.booked {
            self.app.wait_for_link(*session);
        }
        println!("all links {:?} after the repair", begun.elapsed());
        assert_eq!(self.pid(), Some(self.worker), "the same worker");
        let links = self.booked.len() + 1;
        assert_eq!(self.app.simulator.meetings_ever(Google).len(), links);
        self.app.wait_until(
            "the worker to be content",
            "SELECT COALESCE(last_error, '') = '' FROM meetlink.workers",
        );
        self.app
    }
}

#[test]
fn a_renamed_column_of_its_own_table() {
    Trouble::after(
        "ALTER TABLE meetlink.jobs RENAME COLUMN setbacks TO failures",
        "setbacks",
    )
    .then("ALTER TABLE meetlink.jobs RENAME COLUMN failures TO setbacks");
}

#[test]
fn a_table_of_its_own_that_is_gone() {
    Trouble::after("ALTER TABLE meetlink.providers RENAME TO gone", "providers")
        .then("ALTER TABLE meetlink.gone RENAME TO providers");
}

#[test]
fn the_table_of_jobs_itself_that_is_gone() {
    Trouble::after("ALTER TABLE meetlink.jobs RENAME TO gone", "jobs")
        .then("ALTER TABLE meetlink.gone RENAME TO jobs");
}

#[test]
fn a_schema_of_its_own_under_another_name() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    client
        .batch_execute("ALTER SCHEMA meetlink RENAME TO elsewhere")
        .unwrap();
    let mark = app.cluster.log_mark();
    // The trigger finds no inbox: it warns, and the booking commits.
    let lost: Vec<Uuid> = (0..5).map(|_| app.book(tutor, student)).collect();
    let log = app.cluster.log_from(mark);
    let ends = log.matches("exited with exit code").count();
    assert!(ends <= 2, "no crash loop: {log}");
    client
        .batch_execute("ALTER SCHEMA elsewhere RENAME TO meetlink")
        .unwrap();
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    client
        .batch_execute("SELECT meetlink_create_missing()")
        .unwrap();
    for session in lost {
        app.wait_for_link(session);
    }
}

#[test]
fn a_constraint_that_refuses_what_it_writes() {
    Trouble::after(
        "ALTER TABLE meetlink.attempts ADD CONSTRAINT quiet CHECK (class <> 'made') NOT VALID;
         ALTER TABLE meetlink.jobs ADD CONSTRAINT still CHECK (state <> 'creating') NOT VALID",
        "still",
    )
    .then(
        "ALTER TABLE meetlink.jobs DROP CONSTRAINT still;
         ALTER TABLE meetlink.attempts DROP CONSTRAINT quiet",
    );
}

#[test]
fn a_trigger_on_its_own_table_that_raises() {
    Trouble::after(
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
         CREATE TRIGGER no BEFORE INSERT OR UPDATE ON meetlink.jobs
           FOR EACH ROW EXECUTE FUNCTION public.no()",
        "not today",
    )
    .then("DROP TRIGGER no ON meetlink.jobs");
}

#[test]
fn a_privilege_that_the_tables_owner_lost() {
    Trouble::after("REVOKE SELECT ON sessions FROM app_owner", "sessions")
        .then("GRANT SELECT ON sessions TO app_owner");
}

#[test]
fn a_mapping_that_is_no_mapping() {
    for columns in [
        r#"{"sessions": 5, "profiles": [null]}"#,
        r#"{"sessions": {"id": "id"}}"#,
    ] {
        let damage = format!("UPDATE meetlink.config SET columns = '{columns}'");
        Trouble::after(&damage, "meetlink_attach").then("SELECT meetlink_attach()");
    }
}

#[test]
fn a_mapping_to_a_column_that_is_not_there() {
    Trouble::after(
        r#"UPDATE meetlink.config SET columns = replace(columns::text,
             '"column": "scheduled_start_at"', '"column": "no_such_column"')::jsonb"#,
        "no_such_column",
    )
    .then("SELECT meetlink_attach()");
}

#[test]
fn privileges_taken_from_everybody_stop_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    app.client()
        .batch_execute(
            "REVOKE ALL ON ALL TABLES IN SCHEMA meetlink FROM postgres;
             REVOKE ALL ON SCHEMA meetlink FROM postgres",
        )
        .unwrap();
    let session = app.book(tutor, student);
    let mut client = app.client();
    wait::until_true(SOON, "the link", || {
        life::link(&mut client, session).is_some()
    });
}

#[test]
fn its_own_table_locked_for_a_while() {
    for table in ["jobs", "attempts"] {
        let app = App::start();
        let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
        let worker = app.worker_pid();
        let mut holder = app.client();
        let mut locking = holder.transaction().unwrap();
        locking
            .batch_execute(&format!(
                "LOCK TABLE meetlink.{table} IN ACCESS EXCLUSIVE MODE"
            ))
            .unwrap();
        let begun = Instant::now();
        let session = app.book(tutor, student);
        assert!(begun.elapsed() < BOOKING, "{:?}", begun.elapsed());
        // As long as the worker needs to give way and say so.
        wait::until_true(SOON, "the worker to have waited for it", || {
            app.cluster
                .log()
                .contains("canceling statement due to lock timeout")
        });
        assert_eq!(life::link(&mut app.client(), session), None);
        locking.rollback().unwrap();
        app.wait_for_link(session);
        assert_eq!(app.worker_pid(), worker, "{table}");
    }
}

#[test]
fn statements_cancelled_again_and_again() {
    let latency = Latency {
        api_ms: 20,
        token_ms: 0,
    };
    let options = Options {
        google_latency: latency,
        zoom_latency: latency,
        ..Options::default()
    };
    let app = App::with_simulator(options, |options| options.set("meetlink.concurrency", "4"));
    let student = app.person("student", "Sam");
    let worker = app.worker_pid();
    for (provider, name) in [(Google, "Gia"), (Zoom, "Zoe")] {
        let tutor = app.tutor(provider, name);
        life::seed(&mut app.client(), (tutor, student), provider, 40);
    }
    let mut client = app.cluster.connect("postgres", "postgres");
    let begun = Instant::now();
    wait::until_true(SOON, "a second of cancelling", || {
        let query = "SELECT pg_cancel_backend($1)";
        client.query(query, &[&worker]).unwrap();
        begun.elapsed() > Duration::from_secs(1)
    });
    assert!(app.cluster.log().contains("canceling statement"));
    life::wait_for_links(&app, 80, SOON);
    assert_eq!(app.worker_pid(), worker);
    for provider in [Google, Zoom] {
        assert_eq!(app.simulator.meetings_ever(provider).len(), 40);
    }
}

/// What a DBA pauses for does not wait for the next try, which may be half a minute away.
#[test]
fn a_pause_comes_in_time_although_a_request_is_under_way() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "60s"));
    let (tutor, student) = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let stall = Action::Stall { effect: false };
    app.simulator.fault(Rule::once(Google, Call::Insert, stall));
    app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(Google).now == 1
    });
    let mut client = app.client();
    client
        .batch_execute("ALTER TABLE meetlink.jobs RENAME COLUMN setbacks TO failures")
        .unwrap();
    app.book(tutor, student);
    app.wait_until(
        "the worker to be in trouble",
        "SELECT state = 'waiting' FROM meetlink.workers",
    );
    // It tries again after 0.1 s, 0.2 s and so on: after these come 12.8 s without a try.
    let begun = Instant::now();
    wait::until_true(SOON, "seven tries", || begun.elapsed().as_millis() > 13_200);
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(6));
}

/// Whatever keeps the outcome of one attempt from being written, all others are.
#[test]
fn an_outcome_that_cannot_be_written_stops_nobody_else() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let refuse = Rule::always(Zoom, Call::Create, Action::ZoomCannotSchedule);
    let slow = Rule::always(Google, Call::Insert, Action::Delay { ms: 300 });
    app.simulator.fault(refuse.account("Zoe"));
    app.simulator.fault(slow);
    let (unlucky, others) = (app.tutor(Google, "Una"), app.tutor(Google, "Tia"));
    let mut client = app.client();
    client
        .batch_execute(&format!(
            "ALTER TABLE meetlink.jobs ADD CONSTRAINT canary
               CHECK (state <> 'failed' AND (state <> 'ready' OR tutor_id <> '{}'))",
            unlucky.0
        ))
        .unwrap();
    // Two whose outcomes cannot be noted down, and one beside them.
    let (refused, held) = (app.book(tutor, student), app.book(unlucky, student));
    app.wait_for_link(app.book(others, student));
    for session in [refused, held] {
        app.wait_for_state(session, "in_doubt");
    }
    app.wait_for_link(app.book(others, student));
    client
        .batch_execute(
            "ALTER TABLE meetlink.jobs DROP CONSTRAINT canary;
             SELECT meetlink_retry(id) FROM sessions WHERE join_url IS NULL",
        )
        .unwrap();
    app.wait_for_link(held);
    app.wait_for_state(refused, "failed");
    assert_eq!(app.simulator.meetings_ever(Google).len(), 3);
}
