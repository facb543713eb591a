//! Ten minutes of bookings while providers misbehave, people press every button, and the server is
//! killed or meetlink stopped every 20 seconds;
//! then the books are compared: each session has exactly one meeting, or a reason why not.

mod books;
mod faults;
mod kills;
mod load;
mod options;
mod table;
mod tutors;
mod whims;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, DATABASE};
use meetlink_e2e::torture::Random;
use meetlink_simulator::{Latency, Options, Simulator};
use postgres::{Client, NoTls};

use options::Wanted;

/// How long everything may take to settle once the faults have ended.
const SETTLE: Duration = Duration::from_secs(180);
const BETWEEN_KILLS: Duration = Duration::from_secs(20);

/// What all threads share.
pub struct World<'a> {
    pub simulator: &'a Simulator,
    pub config: postgres::Config,
    pub tutors: Vec<tutors::Tutor>,
    pub student: uuid::Uuid,
    pub wanted: Wanted,
    /// The bookings and the faults end.
    pub over: AtomicBool,
    /// The tutors stop to look after their connections.
    pub settled: AtomicBool,
}

impl World<'_> {
    pub fn connect(&self) -> Option<Client> {
        self.config.connect(NoTls).ok()
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }
}

/// Sends everybody home, also when a wait was in vain and this thread panics: the scope waits for all
/// of its threads.
struct AtEnd<'a>(&'a World<'a>);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.settled.store(true, Ordering::Relaxed);
    }
}

fn main() -> ExitCode {
    let wanted = match options::read(std::env::args().skip(1)) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("soak: {why}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    if run(wanted) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn start() -> App {
    let latency = Latency {
        api_ms: 80,
        token_ms: 80,
    };
    let simulator = Options {
        google_latency: latency,
        zoom_latency: latency,
        keep_bodies: false,
        ..Options::default()
    };
    App::with_simulator(simulator, |options| {
        options
            .set("meetlink.request_timeout", "3s")
            .set("meetlink.settle_time", "2s")
            .set("meetlink.backoff_base", "200ms")
            .set("meetlink.backoff_max", "5s")
    })
}

fn run(wanted: Wanted) -> bool {
    println!(
        "soak: {} minutes, {} sessions a second, seed {}",
        wanted.minutes, wanted.rate, wanted.seed
    );
    let app = start();
    let (tutors, student) = tutors::make(&app);
    let config = app.cluster.config(DATABASE, "postgres");
    let App {
        mut cluster,
        simulator,
    } = app;
    let world = World {
        simulator: &simulator,
        config,
        tutors,
        student,
        wanted,
        over: AtomicBool::new(false),
        settled: AtomicBool::new(false),
    };
    let mut random = Random::new(world.wanted.seed);
    let seeds = [random.number(), random.number(), random.number()];
    let mut kills = kills::Kills::default();
    let (booked, fired, whims, reconnects, settled) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&world, Random::new(seeds[0])));
        let faults = scope.spawn(|| faults::run(&world, Random::new(seeds[1])));
        let whims = scope.spawn(|| whims::run(&world, Random::new(seeds[2])));
        let people = scope.spawn(|| tutors::run(&world));
        let _end = AtEnd(&world);
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(world.wanted.minutes * 60.0);
        let mut next = begun + BETWEEN_KILLS;
        while next < end {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += BETWEEN_KILLS;
            kills.strike(&world, &mut cluster);
            table::progress(&world, begun, &kills);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        world.over.store(true, Ordering::Relaxed);
        let booked = load.join().expect("the bookings end");
        let fired = faults.join().expect("the faults end");
        let whims = whims.join().expect("the whims end");
        println!("bookings, kills and faults have ended: waiting until everything settles");
        let settled = books::wait_until_settled(&world, SETTLE);
        world.settled.store(true, Ordering::Relaxed);
        let reconnects = people.join().expect("the tutors go home");
        (booked, fired, whims, reconnects, settled)
    });
    let mut books = books::compare(&world, &booked, &kills);
    let expected = world.wanted.minutes * 60.0 * world.wanted.rate;
    if (books.sessions as f64) < expected * 0.9 {
        let few = format!("{} sessions instead of {expected:.0}", books.sessions);
        books.wrong.push(few);
    }
    match settled {
        Ok(took) => println!("settled after {:.1} s", took.as_secs_f64()),
        Err(left) => books.wrong.push(left),
    }
    table::print(&world, &books, &fired, &kills, (whims, reconnects));
    let log = std::env::temp_dir().join(format!("soak-{}.log", std::process::id()));
    if !books.wrong.is_empty() && std::fs::write(&log, cluster.log()).is_ok() {
        println!("the server's log is kept: {}", log.display());
    }
    println!(
        "soak: {} sessions, {} not as they should be",
        books.sessions,
        books.wrong.len()
    );
    books.wrong.is_empty()
}
