//! Many sessions at once: how near the worker keeps all its slots busy.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Effort;
use super::stage::{ANSWER, Ear, Stage, TUTORS};
use super::table::Table;

const GOAL: f64 = 1.15;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(effort: Effort, table: &mut Table) {
    for (concurrency, goal) in [(32, Some(GOAL)), (128, None)] {
        let stage = Stage::new(&[("meetlink.concurrency", &concurrency.to_string())]);
        let ideal = ANSWER.as_secs_f64() * effort.sessions as f64 / f64::from(concurrency);
        let mut ratios = Vec::new();
        for run in 1..=effort.runs {
            stage.reset();
            stage.resume();
            let took = once(&stage, effort.sessions);
            let most = stage.most_in_flight();
            println!(
                "{} sessions at concurrency {concurrency}, run {run}: {took:.2} s, ideal {ideal:.2} s, ratio {:.3} (at most {most} at the providers at once)",
                effort.sessions,
                took / ideal
            );
            ratios.push(took / ideal);
        }
        let name = format!(
            "{} sessions at concurrency {concurrency}: ratio to ideal {ideal:.2} s",
            effort.sessions
        );
        table.add(&name, "", goal, ratios);
    }
}

/// Confirms all bookings in one transaction; seconds from its COMMIT to the last link.
fn once(stage: &Stage, sessions: usize) -> f64 {
    let ear = Ear::new(&stage.app);
    let mut client = stage.app.client();
    client
        .execute(
            "INSERT INTO bookings (tutor_id, student_id, confirmed_start_at, confirmed_end_at)
             SELECT ('00000000-0000-4000-8000-' || lpad((1 + n % $2)::text, 12, '0'))::uuid, $3,
                    now() + interval '1 day' + n * interval '1 s',
                    now() + interval '1 day 1 hour' + n * interval '1 s'
               FROM generate_series(1, $1::bigint) n",
            &[&(sessions as i64), &(TUTORS as i64), &stage.student],
        )
        .expect("bookings are made");
    let mut transaction = client.transaction().expect("a transaction");
    transaction
        .batch_execute("UPDATE bookings SET status = 'CONFIRMED'")
        .expect("bookings are confirmed");
    transaction.commit().expect("the bookings commit");
    let begun = Instant::now();
    let mut ready = HashSet::new();
    let mut last = begun;
    while ready.len() < sessions {
        let Some((session, at)) = ear.next_ready(PATIENCE) else {
            println!("only {} links came: this run does not count", ready.len());
            return f64::NAN;
        };
        ready.insert(session);
        last = at;
    }
    assert_eq!(stage.sessions_with_link(), sessions as i64);
    (last - begun).as_secs_f64()
}
