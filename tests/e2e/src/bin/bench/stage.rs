//! The cluster that is measured: durable commits, PostgreSQL's own defaults, meetlink's too.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, DATABASE, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::{AccountSpec, EffectKind, Latency, Options, Provider};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use uuid::Uuid;

use super::contender::Contender;
use super::machine;
use super::peers::Peers;

/// What the simulated providers take for an answer, where nothing else is said.
pub const ANSWER: Duration = Duration::from_millis(100);
/// Tutors, every other with Google, the rest with Zoom.
pub const TUTORS: usize = 100;

/// Differs from what the tests run with: nothing is shortened or left out here.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("meetlink.backoff_base", "2s"),
    ("meetlink.backoff_max", "15min"),
    ("meetlink.settle_time", "30s"),
    ("meetlink.request_timeout", "10s"),
];

pub struct Stage {
    pub app: App,
    pub student: Uuid,
    /// Access tokens of the tutors' accounts.
    pub tokens: Vec<(Provider, String)>,
    /// Who can make links here: meetlink, and the peers after [`Stage::add_peers`].
    pub contenders: Vec<Contender>,
    pub(super) peers: Option<Peers>,
}

/// The id of a tutor by number, from 1: pgbench has to make it too.
pub fn tutor(number: usize) -> Uuid {
    let text = format!("00000000-0000-4000-8000-{number:012}");
    text.parse().expect("a uuid")
}

fn latency(time: Duration) -> Latency {
    let ms = u64::try_from(time.as_millis()).unwrap_or(0);
    Latency {
        api_ms: ms,
        token_ms: ms,
    }
}

impl Stage {
    pub fn new(settings: &[(&str, &str)]) -> Self {
        println!("starting a cluster and the simulator");
        let latency = latency(ANSWER);
        let simulator = Options {
            google_latency: latency,
            zoom_latency: latency,
            keep_bodies: false,
            ..Options::default()
        };
        let app = App::with_simulator(simulator, |options| {
            let all = SETTINGS.iter().chain(settings);
            all.fold(options, |options, (name, value)| options.set(name, value))
        });
        machine::describe_disk(app.cluster.base());
        let shown = app.value::<String>(
            "SELECT string_agg(name || '=' || current_setting(name), ', ' ORDER BY n)
               FROM unnest(ARRAY['server_version', 'fsync', 'synchronous_commit', 'shared_buffers',
                                 'wal_sync_method', 'meetlink.concurrency'])
                    WITH ORDINALITY AS u(name, n)",
        );
        println!("settings  {shown}");
        let student = app.person("student", "Sam Student").0;
        let mut stage = Self {
            app,
            student,
            tokens: Vec::new(),
            contenders: vec![Contender::Meetlink],
            peers: None,
        };
        stage.add_tutors();
        stage.app.worker_pid();
        stage
    }

    fn add_tutors(&mut self) {
        let mut client = self.app.client();
        for number in 1..=TUTORS {
            let provider = [Provider::Google, Provider::Zoom][number % 2];
            let name = format!("Tutor {number}");
            let account = AccountSpec {
                access_lifetime_s: 86_400,
                ..AccountSpec::named(&name)
            };
            let account = self.app.simulator.add_account(provider, account);
            let token = account.access_token.clone();
            self.tokens.push((provider, token));
            let id = tutor(number);
            client
                .execute(
                    "INSERT INTO profiles (id, full_name, role) VALUES ($1, $2, 'tutor')",
                    &[&id, &name],
                )
                .expect("a tutor is made");
            client
                .execute(
                    "SELECT meetlink_connect($1, $2, $3, $4, $5)",
                    &[
                        &id,
                        &name_of(provider),
                        &account.refresh_token,
                        &account.access_token,
                        &account.expires_at,
                    ],
                )
                .expect("a tutor is connected");
        }
    }

    /// Forgets all sessions, with the worker away meanwhile.
    pub fn reset(&self) {
        self.pause();
        let mut client = self.app.client();
        client
            .batch_execute(
                "TRUNCATE sessions, bookings, meetlink.jobs, meetlink.inbox, meetlink.attempts",
            )
            .expect("tables are emptied");
        self.empty_peers();
        client.batch_execute("CHECKPOINT").expect("a checkpoint");
        self.app.simulator.clear_journal();
    }

    /// What the providers take for an answer from now on.
    pub fn set_answer(&self, time: Duration) {
        for provider in [Provider::Google, Provider::Zoom] {
            self.app.simulator.set_latency(provider, latency(time));
        }
    }

    /// Sends meetlink's worker away.
    pub fn pause(&self) {
        self.app
            .client()
            .batch_execute("SELECT meetlink_pause()")
            .expect("meetlink pauses");
        self.wait_for_worker(false);
    }

    pub fn resume(&self) {
        self.app
            .client()
            .batch_execute("SELECT meetlink_resume()")
            .expect("meetlink resumes");
        self.wait_for_worker(true);
    }

    fn wait_for_worker(&self, there: bool) {
        let query = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND backend_type ILIKE '%meetlink%'";
        let mut client = self.app.client();
        wait::until_true(Duration::from_secs(20), "the worker to come or go", || {
            let row = client.query_one(query, &[]).expect("a count");
            (row.get::<_, i64>(0) > 0) == there
        });
    }

    /// The provider's own time for each session's meeting, and when its request arrived and its
    /// answer left.
    pub fn provider_times(&self) -> HashMap<Uuid, Served> {
        let epoch = self.app.simulator.epoch();
        let mut made = HashMap::new();
        for entry in self.app.simulator.journal() {
            let (Some(effect), Some(answered)) = (&entry.effect, entry.answered_at) else {
                continue;
            };
            if effect.kind == EffectKind::Created {
                let served = Served {
                    received: epoch + Duration::from_nanos(entry.received_at.mono_ns),
                    answered: epoch + Duration::from_nanos(answered.mono_ns),
                };
                made.insert(effect.id.clone(), served);
            }
        }
        let rows = self
            .app
            .client()
            .query(
                "SELECT id, meeting_external_id FROM sessions WHERE join_url IS NOT NULL",
                &[],
            )
            .expect("sessions are read");
        rows.iter()
            .filter_map(|row| Some((row.get(0), *made.get(row.get::<_, &str>(1))?)))
            .collect()
    }

    /// The most requests that the providers had in hand at once, by the journal.
    pub fn most_in_flight(&self) -> usize {
        let mut edges = Vec::new();
        for entry in self.app.simulator.journal() {
            edges.push((entry.received_at.mono_ns, 1));
            edges.extend(entry.answered_at.map(|at| (at.mono_ns, -1)));
        }
        edges.sort_unstable();
        let mut now = 0i64;
        let levels = edges.iter().map(|(_, step)| {
            now += step;
            now
        });
        usize::try_from(levels.max().unwrap_or(0)).unwrap_or(0)
    }

    pub fn sessions_with_link(&self) -> i64 {
        self.app
            .value("SELECT count(*) FROM sessions WHERE join_url IS NOT NULL")
    }
}

/// One creation at the provider.
#[derive(Clone, Copy)]
pub struct Served {
    pub received: Instant,
    pub answered: Instant,
}

/// Hears `NOTIFY meetlink` on a connection of its own. A notification leaves the server after the
/// commit that made the link visible, so it can only make a link look later than it was.
pub struct Ear {
    pub heard: Receiver<(String, Instant)>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ear {
    pub fn new(app: &App) -> Self {
        let mut client = app.cluster.connect(DATABASE, "postgres");
        client.batch_execute("LISTEN meetlink").expect("LISTEN");
        let (sender, heard) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || listen(&mut client, &sender, &told));
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// The next session that is ready, and when that was heard.
    pub fn next_ready(&self, patience: Duration) -> Option<(Uuid, Instant)> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (payload, at) = self.heard.recv_timeout(left).ok()?;
            let event: serde_json::Value = serde_json::from_str(&payload).unwrap_or_default();
            if event["state"] == "ready"
                && let Some(id) = event["session_id"].as_str().and_then(|id| id.parse().ok())
            {
                return Some((id, at));
            }
        }
    }
}

fn listen(client: &mut Client, sender: &Sender<(String, Instant)>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut notifications = client.notifications();
        let mut iterator = notifications.timeout_iter(Duration::from_millis(200));
        while let Ok(Some(notification)) = iterator.next() {
            let now = Instant::now();
            if sender
                .send((notification.payload().to_owned(), now))
                .is_err()
            {
                return;
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
