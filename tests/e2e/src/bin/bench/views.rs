//! How long the views take after years of sessions: median of many, warm, with their plans.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use meetlink_e2e::app::DATABASE;
use postgres::{Client, NoTls};

use super::Effort;
use super::numbers::{median, percentile};
use super::stage::Stage;
use super::table::{Goal, Table};

const GOAL_MS: f64 = 50.0;
const TUTORS: i64 = 2_000;
const STUDENTS: i64 = 20_000;

/// What people look at, and whether the application's role may, by README's grants.
const VIEWS: [(&str, bool); 4] = [
    ("missing_links", true),
    ("queue", false),
    ("stats", false),
    ("at_risk", true),
];

const GRANTS: &str = "
    GRANT USAGE ON SCHEMA meetlink TO authenticated;
    GRANT SELECT ON meetlink.missing_links, meetlink.at_risk TO authenticated;
    GRANT EXECUTE ON FUNCTION meetlink.read_missing_sessions(), meetlink.read_at_risk()
      TO authenticated;";

/// Shows the statements inside functions as well: the views that show people's names have theirs
/// there, run with the caller's rights.
const PLANS: &str = "
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_analyze = on;
    SET auto_explain.log_buffers = on;
    SET auto_explain.log_timing = on;
    SET auto_explain.log_nested_statements = on;
    SET client_min_messages = log;";

pub fn run(effort: Effort, table: &mut Table) {
    let stage = Stage::new(&[
        ("max_wal_size", "8GB"),
        // Loading is not what is measured.
        ("checkpoint_timeout", "1h"),
    ]);
    stage.reset();
    let begun = Instant::now();
    fill(&stage, effort);
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
    for (view, for_application) in VIEWS {
        measure(&stage, effort, table, view, Caller::Superuser);
        if for_application {
            measure(&stage, effort, table, view, Caller::Tutor);
            measure(&stage, effort, table, view, Caller::Student);
        }
    }
}

#[derive(Clone, Copy)]
enum Caller {
    Superuser,
    Tutor,
    Student,
}

impl Caller {
    fn name(self) -> &'static str {
        match self {
            Self::Superuser => "superuser",
            Self::Tutor => "a tutor",
            Self::Student => "a student",
        }
    }

    /// Becomes this caller: the one with most sessions that wait.
    fn take(self, client: &mut Client) {
        let who = match self {
            Self::Superuser => return,
            Self::Tutor => "tutor_id",
            Self::Student => "student_id",
        };
        client
            .batch_execute(&format!(
                "SELECT set_config('request.jwt.claim.sub', max({who}::text), false)
                   FROM (SELECT {who} FROM sessions WHERE join_url IS NULL
                          GROUP BY 1 ORDER BY count(*) DESC LIMIT 1) waiting_most;
                 SET ROLE authenticated;"
            ))
            .expect("the role is taken");
    }
}

fn measure(stage: &Stage, effort: Effort, table: &mut Table, view: &str, caller: Caller) {
    let mut client = stage.app.client();
    caller.take(&mut client);
    let query = client
        .prepare(&format!("SELECT * FROM meetlink.{view}"))
        .expect("the view is there");
    let mut rows = 0;
    let mut times = Vec::new();
    for turn in 0..effort.looks + 3 {
        let begun = Instant::now();
        rows = client.query(&query, &[]).expect("an answer").len();
        // The first ones fill caches.
        if turn >= 3 {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!(
        "\nmeetlink.{view} as {}: {rows} rows, p50 {:.2} p95 {:.2} ms of {} looks",
        caller.name(),
        median(&times),
        percentile(&times, 0.95),
        times.len()
    );
    let name = format!("meetlink.{view} as {} ({rows} rows)", caller.name());
    table.add(&name, "ms", Some(Goal::AtMost(GOAL_MS)), times);
    print_plans(stage, view, caller);
}

fn print_plans(stage: &Stage, view: &str, caller: Caller) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = heard.clone();
    let mut config = stage.app.cluster.config(DATABASE, "postgres");
    config.notice_callback(move |notice| {
        if notice.message().contains("plan:") {
            let mut kept = kept.lock().expect("nobody panicked");
            kept.push(notice.message().to_owned());
        }
    });
    let mut client = config.connect(NoTls).expect("a connection");
    let text = format!("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM meetlink.{view}");
    client.batch_execute(PLANS).expect("auto_explain is there");
    caller.take(&mut client);
    // The first look of a connection reads the catalogs.
    client.query(&text, &[]).expect("a plan");
    heard.lock().expect("nobody panicked").clear();
    println!("{text}");
    for row in client.query(&text, &[]).expect("a plan") {
        println!("  {}", row.get::<_, String>(0));
    }
    drop(client);
    for message in heard.lock().expect("nobody panicked").iter() {
        // Its own plan is there already, and reading the mapping is not what takes time.
        if message.contains("EXPLAIN (ANALYZE") || message.contains("FROM meetlink.config") {
            continue;
        }
        println!("inside, with the caller's rights:");
        for line in message.lines() {
            println!("  {line}");
        }
    }
}

/// Years of sessions. What is past has its link; of what is to come, half has none and is open.
fn fill(stage: &Stage, effort: Effort) {
    let (sessions, attempts, open) = (effort.history, effort.history * 5, effort.history / 100);
    println!(
        "filling in {sessions} sessions, {attempts} attempts, {open} open jobs, figures of 30 days"
    );
    let mut client = stage.app.client();
    let steps = [
        // No trigger fires and no key is looked up meanwhile.
        "SET session_replication_role = replica; SET synchronous_commit = off;
         SET maintenance_work_mem = '512MB'; SET work_mem = '256MB';"
            .to_owned(),
        "CREATE FUNCTION numbered(place int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
           $$ SELECT format('00000000-0000-4000-%s-%s', 9000 + place, lpad(to_hex(n), 12, '0'))::uuid $$;
         CREATE FUNCTION tutor(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT numbered(1, n)';
         CREATE FUNCTION student(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT numbered(2, n)';"
            .to_owned(),
        format!(
            "INSERT INTO profiles (id, full_name, email, role)
             SELECT tutor(n), 'Tutor ' || n, n || '@tutors.example', 'tutor'
               FROM generate_series(1, {TUTORS}) n
             UNION ALL
             SELECT student(n), 'Student ' || n, n || '@students.example', 'student'
               FROM generate_series(1, {STUDENTS}) n;
             INSERT INTO tutor_video_provider_connections
               (tutor_id, provider, connection_status, access_token_encrypted, refresh_token_encrypted,
                token_expires_at)
             SELECT tutor(n), CASE n % 2 WHEN 0 THEN 'zoom' ELSE 'google_meet' END,
                    CASE WHEN n % 20 = 0 THEN 'needs_reauth' WHEN n % 50 = 1 THEN 'disconnected'
                         ELSE 'connected' END,
                    'ml1.k1.' || repeat('a', 200), 'ml1.k1.' || repeat('r', 200), now()
               FROM generate_series(1, {TUTORS}) n WHERE n % 40 <> 3"
        ),
        // n counts back from the sessions furthest ahead; two in a hundred are to come, in 30 days.
        format!(
            "CREATE TABLE drawn AS
             SELECT n, tutor(1 + (n * 7919) % {TUTORS}) AS tutor,
                    student(1 + (n * 104729) % {STUDENTS}) AS student,
                    CASE (n * 7919) % 2 WHEN 1 THEN 'zoom' ELSE 'google_meet' END AS provider,
                    n <= {open} * 2 AS coming, n <= {open} * 2 AND n / 3 % 2 = 0 AS open,
                    now() + CASE WHEN n <= {open} * 2
                      THEN interval '1 hour' + n * (interval '30 days' / ({open} * 2))
                      ELSE -interval '2 hours' - n * (interval '730 days' / {sessions}) END AS start
               FROM generate_series(1::bigint, {sessions}) n"
        ),
        "INSERT INTO bookings (id, tutor_id, student_id, status, confirmed_start_at, confirmed_end_at)
         SELECT numbered(3, n), tutor, student, 'CONFIRMED', start, start + interval '50 min'
           FROM drawn ORDER BY n DESC"
            .to_owned(),
        // Without them the application's own policy on profiles reads all bookings for each row.
        "CREATE INDEX ON bookings (tutor_id); CREATE INDEX ON bookings (student_id);
         CREATE INDEX ON sessions (student_id)"
            .to_owned(),
        "INSERT INTO sessions (id, booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes, join_url, meeting_external_id,
                               meeting_created_at, status, created_at)
         SELECT numbered(4, n), numbered(3, n), tutor, student, provider, start,
                start + interval '50 min', 50,
                CASE WHEN NOT open THEN 'https://zoom.us/j/' || n END,
                CASE WHEN NOT open THEN n::text END,
                CASE WHEN NOT open THEN start - interval '3 days' END,
                CASE WHEN coming THEN 'SCHEDULED' ELSE 'COMPLETED_ASSUMED' END,
                start - interval '3 days'
           FROM drawn ORDER BY n DESC"
            .to_owned(),
        "INSERT INTO meetlink.jobs (session_id, state, lane, provider, tutor_id, account_id,
           starts_at, queued_at, due_at, attempts, reason, last_error, may_exist_since, external_id,
           join_url, made_at)
         SELECT numbered(4, n), state, provider, provider, tutor, tutor, start,
                start - interval '3 days',
                CASE WHEN state IN ('pending', 'retrying', 'in_doubt') THEN now() + interval '1 h' END,
                CASE state WHEN 'pending' THEN 0 ELSE 3 END,
                CASE state WHEN 'retrying' THEN 'provider_down' WHEN 'needs_action' THEN 'consent_revoked'
                           WHEN 'in_doubt' THEN 'answer_lost' WHEN 'failed' THEN 'request_refused' END,
                CASE WHEN state NOT IN ('ready', 'pending') THEN 'The provider answers 503.' END,
                CASE state WHEN 'in_doubt' THEN now() END,
                CASE state WHEN 'ready' THEN n::text END,
                CASE state WHEN 'ready' THEN 'https://zoom.us/j/' || n END,
                CASE state WHEN 'ready' THEN start - interval '3 days' END
           FROM (SELECT *, CASE WHEN NOT open THEN 'ready'
                   ELSE (ARRAY['pending', 'pending', 'pending', 'pending', 'retrying', 'retrying',
                               'retrying', 'needs_action', 'in_doubt', 'failed'])[1 + n % 10]
                 END AS state FROM drawn) d ORDER BY n DESC"
            .to_owned(),
        "INSERT INTO meetlink.attempts (session_id, provider, number, started_at, ended_at, class,
                                        http_status, code, error)
         SELECT numbered(4, n), provider, k, start - interval '3 days', start - interval '3 days',
                CASE WHEN k = 5 AND NOT open THEN 'made' ELSE 'retry' END,
                CASE WHEN k < 5 OR open THEN 503 END, NULL,
                CASE WHEN k < 5 OR open THEN 'The provider answers 503; meetlink tries again.' END
           FROM drawn, generate_series(1, 5) k ORDER BY n DESC, k"
            .to_owned(),
        // 720 hours, and the minutes of the last three.
        "INSERT INTO meetlink.tallies (grain, since, provider, what, bucket, count, seconds)
         SELECT grain, since, provider, what, bucket, 1 + (bucket * 7 + extract(hour FROM since)::int) % 40,
                CASE what WHEN 'link' THEN 20 * 0.001 * 1.05 ^ bucket ELSE 0 END
           FROM (SELECT 'hour', date_trunc('hour', now()) - h * interval '1 hour'
                   FROM generate_series(0, 719) h
                 UNION ALL
                 SELECT 'minute', date_trunc('minute', now()) - m * interval '1 minute'
                   FROM generate_series(0, 179) m) t(grain, since),
                (VALUES ('google_meet'), ('zoom')) p(provider),
                (SELECT 'link', b FROM generate_series(100, 139) b
                 UNION ALL
                 SELECT what, 0 FROM unnest(ARRAY['session', 'made', 'retry', 'retry_after',
                   'tutor_must_act', 'permanent', 'in_doubt', 'removed']) what) w(what, bucket)"
            .to_owned(),
        "DROP TABLE drawn".to_owned(),
        GRANTS.to_owned(),
        "VACUUM ANALYZE".to_owned(),
        "CHECKPOINT".to_owned(),
    ];
    for step in steps {
        let filled = client.batch_execute(&step);
        filled.unwrap_or_else(|error| panic!("{step}: {error:?}"));
    }
    let counted = stage.app.value::<String>(
        "SELECT format('%s sessions (%s to come, %s of them without a link), %s jobs (%s open), '
                       '%s attempts, %s tallies; %s in all',
                  (SELECT count(*) FROM sessions),
                  (SELECT count(*) FROM sessions WHERE scheduled_start_at > now()),
                  (SELECT count(*) FROM sessions WHERE join_url IS NULL),
                  (SELECT count(*) FROM meetlink.jobs),
                  (SELECT count(*) FROM meetlink.jobs WHERE state NOT IN ('ready', 'not_needed')),
                  (SELECT count(*) FROM meetlink.attempts), (SELECT count(*) FROM meetlink.tallies),
                  pg_size_pretty(pg_database_size(current_database())))",
    );
    println!("{counted}");
}
