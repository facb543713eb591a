//! The sweep as a whole: measure, choose the points, try them on one or two clusters at once.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::aftermath;
use super::point::{self, Point};
use super::stage::Stage;
use super::strace::Nth;
use super::table;
use super::verdict::{self, End};
use super::{Random, Result, Scenario, Strand, Way, check_strace};

const PROGRESS: Duration = Duration::from_secs(10);

/// One call of a thread.
#[derive(Clone, Debug)]
pub enum At {
    /// By its number among all.
    Number(u64),
    /// By its name, and its number among those of the name: the same one on every run.
    Nth(Nth),
}

/// What was measured of a thread: the names of its calls.
type Calls = BTreeMap<(Scenario, Strand), Vec<Nth>>;

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the worker is busy with.
    pub scenarios: Vec<Scenario>,
    /// How it dies.
    pub ways: Vec<Way>,
    /// Whose calls are counted.
    pub strands: Vec<Strand>,
    /// This call only.
    pub at: Option<At>,
    /// Every so many-th call,
    pub every: u64,
    /// beginning with this one; by chance when there is none.
    pub offset: Option<u64>,
    /// So many points at most of each scenario, way and thread, chosen by chance.
    pub each: Option<usize>,
    /// So many points at most in all, chosen by chance.
    pub points: Option<usize>,
    /// Clusters at once.
    pub jobs: usize,
    /// `synchronous_commit`; when it is not said, on for Google, where a lost claim does no harm, and
    /// off for Zoom, where claims and tokens have to be durable all the same.
    pub durable: Option<bool>,
    /// What chance hangs on.
    pub seed: u64,
    /// End with the first duplicate.
    pub until_duplicate: bool,
    /// Make the worker forget what it has sent: a sweep that finds nothing then is worth nothing.
    pub forgetful: bool,
}

impl Plan {
    /// Every call, in every way, in every scenario.
    pub fn new(seed: u64) -> Self {
        Plan {
            scenarios: Scenario::ALL.to_vec(),
            ways: Way::ALL.to_vec(),
            strands: Strand::ALL.to_vec(),
            at: None,
            every: 1,
            offset: None,
            each: None,
            points: None,
            jobs: 2,
            durable: None,
            seed,
            until_duplicate: false,
            forgetful: false,
        }
    }

    fn durable(&self, scenario: Scenario) -> bool {
        self.durable.unwrap_or(scenario == Scenario::Google)
    }

    /// All points, those of a scenario together, its ways taking turns.
    fn choose(&self, calls: &Calls) -> VecDeque<Point> {
        let mut random = Random::new(self.seed);
        let mut chosen = Vec::new();
        for (&(scenario, strand), calls) in calls {
            for &way in &self.ways {
                let point = |at: u64, call: &Nth| Point {
                    scenario,
                    way,
                    strand,
                    at,
                    call: call.clone(),
                    durable: self.durable(scenario),
                };
                if let Some(At::Nth(call)) = &self.at {
                    chosen.push(point(0, call));
                    continue;
                }
                let first = match (&self.at, self.offset) {
                    (Some(At::Number(at)), _) => *at,
                    (_, Some(offset)) => offset.max(1),
                    (_, None) => 1 + random.below(self.every),
                };
                let numbered = (1..).zip(calls).skip_while(|(at, _)| *at < first);
                let step = match self.at {
                    Some(_) => calls.len(),
                    None => usize::try_from(self.every).unwrap_or(1),
                };
                let mut numbered: Vec<_> = numbered.step_by(step.max(1)).collect();
                if let Some(each) = self.each {
                    random.thin(&mut numbered, each);
                }
                chosen.extend(numbered.iter().map(|(at, call)| point(*at, call)));
            }
        }
        if let Some(points) = self.points {
            random.thin(&mut chosen, points);
        }
        chosen.sort_by_key(|point| (point.scenario, point.strand, point.at, point.way));
        chosen.into()
    }
}

/// A point that did not end as it should.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Which.
    pub point: Point,
    /// What was wrong.
    pub why: String,
    /// What the provider saw, what the ledger says, and the end of the server's log.
    pub story: Vec<String>,
}

impl Failed {
    /// Whether there was more than one meeting.
    pub fn is_duplicate(&self) -> bool {
        self.why.starts_with(verdict::DUPLICATE)
    }
}

/// Counts of one scenario, way and thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub tried: u64,
    pub one: u64,
    pub found: u64,
    pub parked: u64,
    pub not_reached: u64,
    pub failed: u64,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Report {
    /// Measured calls from wake to sleep.
    pub(super) calls: Calls,
    pub(super) rows: BTreeMap<(Scenario, Way, Strand), Row>,
    /// Points that did not end as they should.
    pub failed: Vec<Failed>,
    /// How many were tried.
    pub tried: u64,
}

impl Report {
    /// The table, no wider than 100 columns.
    pub fn table(&self) -> String {
        table::of(self)
    }

    /// Points at which a meeting had been made before the death and was found again after it.
    pub fn found_again(&self) -> u64 {
        self.rows.values().map(|row| row.found).sum()
    }

    /// Points at which the worker died.
    pub fn deaths(&self) -> u64 {
        self.tried - self.rows.values().map(|row| row.not_reached).sum::<u64>()
    }

    fn row(&mut self, point: &Point) -> &mut Row {
        let key = (point.scenario, point.way, point.strand);
        self.rows.entry(key).or_default()
    }

    fn enter(&mut self, point: &Point, end: &Result<End>) {
        let row = self.row(point);
        let count = match end {
            Ok(End::One) => &mut row.one,
            Ok(End::Found) => &mut row.found,
            Ok(End::Parked) => &mut row.parked,
            Ok(End::NotReached) => &mut row.not_reached,
            Err(_) => &mut row.failed,
        };
        *count += 1;
        row.tried += 1;
        self.tried += 1;
    }
}

/// What the clusters share.
struct Shared<'a> {
    plan: &'a Plan,
    points: Mutex<VecDeque<Point>>,
    report: Mutex<Report>,
    said: Mutex<Instant>,
    begun: Instant,
    say: &'a (dyn Fn(&str) + Sync),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the sweep; `say` gets lines of progress.
///
/// # Errors
/// When it cannot be made at all: strace is missing, or an undisturbed session gets no link. Points
/// that fail are in the report.
pub fn sweep(plan: &Plan, say: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    check_strace()?;
    let mut stage = guarded(|| Ok(Stage::new(plan.forgetful)))?;
    let calls = guarded(|| measure(plan, &mut stage))?;
    for ((scenario, strand), calls) in &calls {
        let (scenario, strand) = (scenario.name(), strand.name());
        let calls = calls.len() - 1;
        say(&format!(
            "{scenario}, thread {strand}: {calls} system calls from wake to sleep"
        ));
    }
    let points = plan.choose(&calls);
    say(&format!(
        "{} points, on {} clusters at once, seed {}",
        points.len(),
        plan.jobs,
        plan.seed
    ));
    let shared = Shared {
        plan,
        points: Mutex::new(points),
        report: Mutex::new(Report {
            calls,
            ..Report::default()
        }),
        said: Mutex::new(Instant::now()),
        begun: Instant::now(),
        say,
    };
    std::thread::scope(|scope| {
        for _ in 1..plan.jobs {
            scope.spawn(|| shared.work(None));
        }
        shared.work(Some(stage));
    });
    Ok(shared
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// The harness panics when it cannot do its own work: here that is a failure like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a word")))
    })
}

fn measure(plan: &Plan, stage: &mut Stage) -> Result<Calls> {
    let mut calls = Calls::new();
    for &scenario in &plan.scenarios {
        stage.set_durable(plan.durable(scenario))?;
        for &strand in &plan.strands {
            calls.insert((scenario, strand), stage.measure(scenario, strand)?);
        }
    }
    Ok(calls)
}

impl Shared<'_> {
    /// Tries points until there are none left.
    fn work(&self, stage: Option<Stage>) {
        let mut stage = stage;
        let next = || lock(&self.points).pop_front();
        while let Some(point) = next() {
            let mut at_work = match stage
                .take()
                .map_or_else(|| guarded(|| Ok(Stage::new(self.plan.forgetful))), Ok)
            {
                Ok(stage) => stage,
                Err(why) => {
                    self.enter(point, Err(why), Vec::new());
                    continue;
                }
            };
            let end = guarded(|| point::run(&mut at_work, &point));
            if end.is_ok() {
                self.enter(point, end, Vec::new());
                stage = Some(at_work);
            } else {
                // Whatever is left there must not disturb the next point.
                let mut story = guarded(|| Ok(verdict::story(&at_work))).unwrap_or_default();
                story.extend(at_work.end_of_log());
                self.enter(point, end, story);
            }
            self.say_progress();
        }
        if let Some(mut stage) = stage {
            let last = stage.tried.last().map(|tried| tried.point.clone());
            let failed = guarded(|| aftermath::look(&mut stage))
                .unwrap_or_else(|why| last.into_iter().map(|point| (point, why.clone())).collect());
            for (point, why) in failed {
                let mut report = lock(&self.report);
                report.row(&point).failed += 1;
                self.condemn(&mut report, point, why, Vec::new());
            }
        }
    }

    fn enter(&self, point: Point, end: Result<End>, story: Vec<String>) {
        let mut report = lock(&self.report);
        report.enter(&point, &end);
        if let Err(why) = end {
            self.condemn(&mut report, point, why, story);
        }
    }

    fn condemn(&self, report: &mut Report, point: Point, why: String, story: Vec<String>) {
        (self.say)(&format!("FAILED: {why}"));
        (self.say)(&format!("  again: torture {point}"));
        let failed = Failed { point, why, story };
        if self.plan.until_duplicate && failed.is_duplicate() {
            lock(&self.points).clear();
        }
        report.failed.push(failed);
    }

    fn say_progress(&self) {
        let mut said = lock(&self.said);
        if said.elapsed() > PROGRESS {
            *said = Instant::now();
            let left = lock(&self.points).len();
            let report = lock(&self.report);
            (self.say)(&format!(
                "{:>5.0} s  {} points tried, {left} to go, {} failed",
                self.begun.elapsed().as_secs_f64(),
                report.tried,
                report.failed.len()
            ));
        }
    }
}
