//! Confirms bookings as the application does, and follows them until their links are heard of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use meetlink_e2e::app::DATABASE;
use postgres::Client;
use uuid::Uuid;

use super::numbers::Random;
use super::stage::{Ear, Stage, TUTORS, tutor};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// When a booking's COMMIT was sent, and when its answer was there.
#[derive(Clone, Copy)]
pub struct Booked {
    pub sent: Instant,
    pub committed: Instant,
}

/// How bookings come.
#[derive(Clone, Copy, PartialEq)]
pub enum Arrivals {
    OneAfterAnother { count: usize },
    AtRandom { a_second: f64, seconds: f64 },
}

/// Bookings, and when the link of each was heard of.
#[derive(Default)]
pub struct Seen {
    pub booked: HashMap<Uuid, Booked>,
    pub links: HashMap<Uuid, Instant>,
}

/// A client of the application, in the role `authenticated`.
pub struct Booker {
    client: Client,
    student: Uuid,
    count: usize,
}

impl Booker {
    pub fn new(stage: &Stage) -> Self {
        Self {
            client: stage.app.cluster.connect(DATABASE, "postgres"),
            student: stage.student,
            count: 0,
        }
    }

    /// Books as told and waits for every link.
    pub fn follow(&mut self, ear: &Ear, arrivals: Arrivals, seed: u64) -> Seen {
        let mut seen = Seen::default();
        match arrivals {
            Arrivals::OneAfterAnother { count } => {
                for _ in 0..count {
                    self.book_into(&mut seen);
                    if !hear(ear, &mut seen) {
                        break;
                    }
                }
            }
            Arrivals::AtRandom { a_second, seconds } => {
                let mut random = Random::new(seed);
                let begun = Instant::now();
                let mut at = random.gap(a_second);
                while at < seconds {
                    let due = begun + Duration::from_secs_f64(at);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    self.book_into(&mut seen);
                    at += random.gap(a_second);
                }
                while seen.links.len() < seen.booked.len() && hear(ear, &mut seen) {}
            }
        }
        seen
    }

    fn book_into(&mut self, seen: &mut Seen) {
        let (session, at) = self.book();
        seen.booked.insert(session, at);
    }

    fn book(&mut self) -> (Uuid, Booked) {
        self.count += 1;
        let tutor = tutor(1 + self.count % TUTORS);
        let mut transaction = self.client.transaction().expect("a transaction");
        transaction
            .batch_execute(&format!(
                "SET LOCAL ROLE authenticated; SET LOCAL request.jwt.claim.sub = '{tutor}'"
            ))
            .expect("the role is taken");
        let row = transaction
            .query_one(
                "WITH b AS (
                   INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at,
                                         confirmed_end_at)
                   VALUES ($1, $2, 'CONFIRMED', now() + interval '1 day',
                           now() + interval '1 day 1 hour') RETURNING id)
                 SELECT id FROM b",
                &[&tutor, &self.student],
            )
            .expect("a booking is confirmed");
        let booking: Uuid = row.get(0);
        let session = transaction
            .query_one("SELECT id FROM sessions WHERE booking_id = $1", &[&booking])
            .expect("a session")
            .get(0);
        let sent = Instant::now();
        transaction.commit().expect("the booking commits");
        let committed = Instant::now();
        (session, Booked { sent, committed })
    }
}

/// False, and said, when no link comes: a peer that failed must not end the benchmark.
fn hear(ear: &Ear, seen: &mut Seen) -> bool {
    match ear.next_ready(PATIENCE) {
        Some((session, at)) => {
            seen.links.insert(session, at);
            true
        }
        None => {
            println!("no link for {} s: given up", PATIENCE.as_secs());
            false
        }
    }
}
