//! From COMMIT of one booking to its link, less the provider's own time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use meetlink_e2e::app::DATABASE;
use postgres::Client;
use uuid::Uuid;

use super::numbers::{Random, median, percentile};
use super::stage::{ANSWER, Ear, Stage, TUTORS, tutor};
use super::table::Table;
use super::{Effort, machine};

const GOAL_MS: f64 = 5.0;
const ARRIVALS_A_SECOND: f64 = 5.0;
const PATIENCE: Duration = Duration::from_secs(30);

/// When a booking's COMMIT was sent, and when its answer was there.
#[derive(Clone, Copy)]
struct Booked {
    sent: Instant,
    committed: Instant,
}

pub fn run(effort: Effort, table: &mut Table) {
    let stage = Stage::new(&[]);
    let ear = Ear::new(&stage.app);
    println!(
        "the simulator answers in {} ms; a link counts as visible when NOTIFY meetlink, which leaves\nafter the commit of the link, is heard on another connection",
        ANSWER.as_millis()
    );
    hearing(&stage, &ear);
    let mut booker = Booker::new(&stage);
    for _ in 0..10 {
        booker.book();
        ear.next_ready(PATIENCE).expect("a link");
    }
    for (how, arrivals) in [
        ("one after another", Arrivals::Sequential),
        ("at random times", Arrivals::Random),
    ] {
        let mut medians = [Vec::new(), Vec::new()];
        let mut tails = Vec::new();
        for run in 1..=effort.runs {
            stage.app.simulator.clear_journal();
            let (booked, seen) = match arrivals {
                Arrivals::Sequential => sequential(&mut booker, &ear, effort.sequential),
                Arrivals::Random => random(&mut booker, &ear, effort.random_seconds, run as u64),
            };
            let figures = Figures::new(&stage, &booked, &seen);
            let flush = machine::flush(stage.app.cluster.base(), 20);
            println!("{how}, run {run}: {figures}; a flush takes {flush:.2}");
            medians[0].push(median(&figures.own));
            medians[1].push(median(&figures.own_from_sending));
            tails.push(percentile(&figures.own, 0.99));
        }
        let [own, from_sending] = medians;
        let name = format!("COMMIT to link less provider, {how}: p50");
        table.add(&name, "ms", Some(GOAL_MS), own);
        table.add("   p99", "ms", None, tails);
        let name = "   p50 from sending COMMIT (with the booking's flush)";
        table.add(name, "ms", Some(GOAL_MS), from_sending);
    }
}

#[derive(Clone, Copy)]
enum Arrivals {
    Sequential,
    Random,
}

/// What the measuring itself adds: a NOTIFY of somebody else, from the moment it is sent.
fn hearing(stage: &Stage, ear: &Ear) {
    let mut client = stage.app.client();
    let times: Vec<f64> = (0..200)
        .map(|number| {
            let probe = format!("probe {number}");
            let sent = Instant::now();
            client
                .batch_execute(&format!("NOTIFY meetlink, '{probe}'"))
                .expect("NOTIFY");
            loop {
                let (payload, at) = ear.heard.recv_timeout(PATIENCE).expect("a notification");
                if payload == probe {
                    break difference(at, sent);
                }
            }
        })
        .collect();
    println!(
        "hearing adds at most {:.2} ms (a NOTIFY alone, sent to heard: median of {}; not taken off)",
        median(&times),
        times.len()
    );
}

/// Confirms bookings as the application does, in the role `authenticated`.
struct Booker {
    client: Client,
    student: Uuid,
    count: usize,
}

impl Booker {
    fn new(stage: &Stage) -> Self {
        Self {
            client: stage.app.cluster.connect(DATABASE, "postgres"),
            student: stage.student,
            count: 0,
        }
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

type Bookings = HashMap<Uuid, Booked>;
type Sightings = HashMap<Uuid, Instant>;

fn sequential(booker: &mut Booker, ear: &Ear, count: usize) -> (Bookings, Sightings) {
    let (mut booked, mut seen) = (HashMap::new(), HashMap::new());
    for _ in 0..count {
        let (session, at) = booker.book();
        booked.insert(session, at);
        let (ready, at) = ear.next_ready(PATIENCE).expect("a link");
        seen.insert(ready, at);
    }
    (booked, seen)
}

fn random(booker: &mut Booker, ear: &Ear, seconds: f64, seed: u64) -> (Bookings, Sightings) {
    let mut random = Random::new(seed);
    let (mut booked, mut seen) = (HashMap::new(), HashMap::new());
    let begun = Instant::now();
    let mut at = random.gap(ARRIVALS_A_SECOND);
    while at < seconds {
        let due = begun + Duration::from_secs_f64(at);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (session, when) = booker.book();
        booked.insert(session, when);
        at += random.gap(ARRIVALS_A_SECOND);
    }
    while seen.len() < booked.len() {
        let (ready, at) = ear.next_ready(PATIENCE).expect("a link");
        seen.insert(ready, at);
    }
    (booked, seen)
}

/// All in milliseconds.
struct Figures {
    own: Vec<f64>,
    own_from_sending: Vec<f64>,
    provider: Vec<f64>,
    out: Vec<f64>,
    back: Vec<f64>,
}

impl Figures {
    fn new(stage: &Stage, booked: &Bookings, seen: &Sightings) -> Self {
        let served = stage.provider_times();
        let mut figures = Self {
            own: Vec::new(),
            own_from_sending: Vec::new(),
            provider: Vec::new(),
            out: Vec::new(),
            back: Vec::new(),
        };
        for (session, booked) in booked {
            let (Some(seen), Some(served)) = (seen.get(session), served.get(session)) else {
                println!("session {session} has no link or no entry in the journal: left out");
                continue;
            };
            let provider = milliseconds(served.answered - served.received);
            figures.provider.push(provider);
            figures
                .own
                .push(difference(*seen, booked.committed) - provider);
            figures
                .own_from_sending
                .push(difference(*seen, booked.sent) - provider);
            figures
                .out
                .push(difference(served.received, booked.committed));
            figures.back.push(difference(*seen, served.answered));
        }
        figures
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bookings, p50 {:.2} p90 {:.2} p99 {:.2} max {:.2} ms\n    \
             = COMMIT to request {:.2} + answer to link {:.2} (medians; provider {:.1})",
            self.own.len(),
            median(&self.own),
            percentile(&self.own, 0.9),
            percentile(&self.own, 0.99),
            percentile(&self.own, 1.0),
            median(&self.out),
            median(&self.back),
            median(&self.provider),
        )
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// `late - early`, which is negative when the worker was quicker than the client's own COMMIT.
fn difference(late: Instant, early: Instant) -> f64 {
    milliseconds(late.saturating_duration_since(early))
        - milliseconds(early.saturating_duration_since(late))
}
