//! Whether jobs that wait for another day slow down those that are due.

use super::Effort;
use super::burst;
use super::contender::{Contender, Rows};
use super::numbers::zip;
use super::peers::Purpose;
use super::stage::{Stage, TUTORS};
use super::table::{Goal, Table};

use std::time::Duration;

/// Of the rate with the fewest.
const FLAT: f64 = 0.90;
const CONCURRENCY: usize = 32;
/// Seconds of a run after which no further one is made.
const TOO_LONG: f64 = 15.0;

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[
        ("max_wal_size", "4GB"),
        // Loading is not what is measured.
        ("checkpoint_timeout", "1h"),
    ]);
    // The providers answer at once: what is left is the queue.
    stage.set_answer(Duration::ZERO);
    stage.set(Contender::Meetlink, Rows::One);
    println!(
        "{} sessions at once, concurrency {CONCURRENCY}, providers that answer at once; what waits was\n\
         refused once and is due in 30 days",
        effort.sessions
    );
    let mut before = 0;
    let mut first: Option<Vec<f64>> = None;
    for waiting in effort.waiting {
        fill(&stage, before + 1, waiting);
        before = waiting;
        let working = stage.start(Contender::Meetlink, Purpose::Burst, CONCURRENCY);
        let mut rates = Vec::new();
        // Once before it counts: the first burst reads everything into memory.
        for run in 0..=effort.runs {
            burst::propose(&stage, effort.sessions);
            let took = burst::confirm(&stage, &working, effort.sessions);
            let rate = effort.sessions as f64 / took;
            if run > 0 {
                println!("{waiting} waiting, run {run}: {took:.2} s, {rate:.0} links/s");
                rates.push(rate);
            }
            if took > TOO_LONG && run > 0 {
                println!("one run of these is enough to see");
                break;
            }
        }
        let name = format!("links with {waiting} jobs waiting");
        table.add(&name, "/s", None, rates.clone());
        match &first {
            None => first = Some(rates),
            Some(first) => {
                let flat = zip(&rates, first, |now, first| now / first);
                let name = format!("   / with {}", effort.waiting[0]);
                table.add(&name, "", Some(Goal::AtLeast(FLAT)), flat);
            }
        }
        stage.pause();
    }
}

/// Sessions without a link, with jobs that wait.
fn fill(stage: &Stage, from: i64, to: i64) {
    println!("filling in jobs {from} to {to}");
    let sql = format!(
        "SET session_replication_role = replica; SET synchronous_commit = off;
         CREATE TEMP TABLE drawn AS
           SELECT gen_random_uuid() AS id, n,
                  ('00000000-0000-4000-8000-' || lpad((1 + n % {TUTORS})::text, 12, '0'))::uuid AS tutor,
                  CASE n % {TUTORS} % 2 WHEN 0 THEN 'zoom' ELSE 'google_meet' END AS provider,
                  now() + interval '30 days' + n * interval '1 s' AS start
             FROM generate_series({from}::bigint, {to}) n;
         INSERT INTO sessions (id, booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes, created_at)
           SELECT id, gen_random_uuid(), tutor, '{}', provider, start, start + interval '1 hour', 60,
                  now() - interval '1 day' FROM drawn;
         INSERT INTO meetlink.jobs (session_id, state, lane, provider, tutor_id, account_id,
             starts_at, queued_at, due_at, attempts, setbacks, reason, last_error)
           SELECT id, 'retrying', provider, provider, tutor, tutor, start, now() - interval '1 day',
                  start - interval '2 hours', 1, 1, 'provider_down', 'The provider answers 503.'
             FROM drawn;
         DROP TABLE drawn",
        stage.student
    );
    let mut client = stage.app.client();
    client.batch_execute(&sql).expect("jobs are filled in");
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(sql).expect("tables are tidied");
    }
}
