//! From COMMIT of one booking to its link, less the provider's own time.

use std::time::{Duration, Instant};

use super::booker::{Arrivals, Booker, PATIENCE, Seen};
use super::contender::Rows;
use super::numbers::{median, percentile};
use super::peers::Purpose;
use super::stage::{Ear, Stage};
use super::table::{Goal, Table};
use super::{Effort, machine};

const GOAL_P50_MS: f64 = 2.0;
const GOAL_P99_MS: f64 = 5.0;
const PROVIDER_MS: [u64; 3] = [0, 20, 100];
/// Jobs at once: meetlink's default.
const CONCURRENCY: usize = 32;

/// One line of the table, a value a run for each contender.
struct Measure {
    provider_ms: u64,
    arrivals: Arrivals,
    p50: Vec<(&'static str, Vec<f64>)>,
    p99: Vec<(&'static str, Vec<f64>)>,
    /// meetlink's, with the booking's own flush.
    from_sending: Vec<f64>,
}

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[]);
    stage.add_peers();
    let ear = Ear::new(&stage.app);
    println!(
        "a link counts as visible when NOTIFY meetlink, which leaves after the commit of the link, is\n\
         heard on another connection (peers: by a trigger of the benchmark); concurrency {CONCURRENCY}"
    );
    hearing(&stage, &ear);
    let kinds = [
        Arrivals::OneAfterAnother {
            count: effort.sequential,
        },
        Arrivals::AtRandom {
            a_second: 5.0,
            seconds: effort.random_seconds,
        },
        Arrivals::AtRandom {
            a_second: 50.0,
            seconds: effort.busy_seconds,
        },
    ];
    let blank = || -> Vec<(&'static str, Vec<f64>)> {
        let names = stage.contenders.iter().map(|c| (c.name(), Vec::new()));
        names.collect()
    };
    let mut measures = Vec::new();
    for provider_ms in PROVIDER_MS {
        for arrivals in kinds {
            let (p50, p99) = (blank(), blank());
            measures.push(Measure {
                provider_ms,
                arrivals,
                p50,
                p99,
                from_sending: Vec::new(),
            });
        }
    }
    for run in 1..=effort.runs {
        for (at, contender) in stage.contenders.clone().into_iter().enumerate() {
            let flush = machine::flush(stage.app.cluster.base(), 20);
            println!(
                "run {run}, {}; a flush takes {flush:.2} ms",
                contender.name()
            );
            stage.set(contender, Rows::One);
            let working = stage.start(contender, Purpose::Latency, CONCURRENCY);
            let mut booker = Booker::new(&stage);
            stage.set_answer(Duration::ZERO);
            booker.follow(&ear, Arrivals::OneAfterAnother { count: 20 }, 0);
            for measure in &mut measures {
                stage.set_answer(Duration::from_millis(measure.provider_ms));
                stage.app.simulator.clear_journal();
                let seen = booker.follow(&ear, measure.arrivals, run as u64);
                let figures = Figures::new(&stage, &seen);
                println!("  {}: {figures}", measure.title());
                measure.p50[at].1.push(median(&figures.own));
                measure.p99[at].1.push(percentile(&figures.own, 0.99));
                if at == 0 {
                    measure.from_sending.push(median(&figures.own_from_sending));
                }
            }
            let complaints = working.complaints();
            if !complaints.is_empty() {
                println!("{} complained:\n{complaints}", contender.name());
            }
        }
    }
    for measure in measures {
        let name = measure.title();
        let (p50, p99) = (Goal::AtMost(GOAL_P50_MS), Goal::AtMost(GOAL_P99_MS));
        table.compare(&format!("{name}: p50"), "ms", Some(p50), &measure.p50);
        table.compare("   p99", "ms", Some(p99), &measure.p99);
        let name = "   meetlink's p50 from sending COMMIT";
        table.add(name, "ms", None, measure.from_sending);
    }
}

impl Measure {
    fn title(&self) -> String {
        let how = match self.arrivals {
            Arrivals::OneAfterAnother { .. } => "one after another".to_owned(),
            Arrivals::AtRandom { a_second, .. } => format!("{a_second:.0} a second"),
        };
        format!("provider {} ms, {how}", self.provider_ms)
    }
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

/// All in milliseconds.
struct Figures {
    own: Vec<f64>,
    own_from_sending: Vec<f64>,
    out: Vec<f64>,
    back: Vec<f64>,
}

impl Figures {
    fn new(stage: &Stage, seen: &Seen) -> Self {
        let served = stage.provider_times();
        let mut figures = Self {
            own: Vec::new(),
            own_from_sending: Vec::new(),
            out: Vec::new(),
            back: Vec::new(),
        };
        for (session, booked) in &seen.booked {
            let (Some(seen), Some(served)) = (seen.links.get(session), served.get(session)) else {
                println!("session {session} has no link or no entry in the journal: left out");
                continue;
            };
            let provider = milliseconds(served.answered - served.received);
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
            "{} bookings, p50 {:.2} p99 {:.2} ms = {:.2} to request + {:.2} from answer",
            self.own.len(),
            median(&self.own),
            percentile(&self.own, 0.99),
            median(&self.out),
            median(&self.back),
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
