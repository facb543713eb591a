//! What meetlink's trigger costs the transaction that inserts a session.

use std::process::Command;
use std::time::Instant;

use meetlink_e2e::Cluster;
use meetlink_e2e::app::DATABASE;
use meetlink_e2e::wait;

use super::Effort;
use super::numbers::{median, spread};
use super::stage::{Stage, TUTORS};
use super::table::Table;

/// What goes on beside the inserts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// meetlink's triggers are disabled.
    NoTrigger,
    /// `meetlink_pause()` keeps the worker away: the trigger's own cost.
    Paused,
    /// `meetlink.enabled` is off: the worker queues, and calls nobody.
    Off,
    /// The worker makes links meanwhile, on the same cores.
    On,
}

/// Each run is cut into so many.
const SLICES: u32 = 5;

const WITH_TRIGGER: [(Beside, &str); 3] = [
    (Beside::Paused, "trigger alone (meetlink paused)"),
    (Beside::Off, "worker queues (meetlink.enabled=off)"),
    (Beside::On, "worker makes links"),
];

pub fn run(effort: Effort, table: &mut Table) {
    let mut stage = Stage::new(&[]);
    // pgbench makes up its bookings.
    stage
        .app
        .client()
        .batch_execute("ALTER TABLE sessions DROP CONSTRAINT sessions_booking_id_fkey")
        .expect("the foreign key is dropped");
    println!(
        "pgbench, prepared, one INSERT INTO sessions a transaction, as superuser and without the\nforeign key to bookings: less work per insert, so the trigger weighs more; {} s each, in {SLICES} slices",
        effort.pgbench_seconds
    );
    for clients in [1, 8] {
        one_row_a_transaction(&mut stage, effort, clients, table);
    }
    many_rows_a_statement(&mut stage, effort, table);
}

fn one_row_a_transaction(stage: &mut Stage, effort: Effort, clients: u32, table: &mut Table) {
    let mut rates = Vec::new();
    let mut ratios = [Vec::new(), Vec::new(), Vec::new()];
    for run in 1..=effort.runs {
        // In slices, in turn: what else the machine does then weighs on all of them alike.
        let mut sums = [0.0; 4];
        let slice = (effort.pgbench_seconds / SLICES).max(1);
        for _ in 0..SLICES {
            sums[0] += rate(stage, Beside::NoTrigger, clients, slice);
            for (sum, (beside, _)) in sums[1..].iter_mut().zip(WITH_TRIGGER) {
                *sum += rate(stage, beside, clients, slice);
            }
        }
        let rate_of = sums.map(|sum| sum / f64::from(SLICES));
        print!(
            "{clients} clients, run {run}: {:.0} rows/s without the trigger",
            rate_of[0]
        );
        for (at, (_, name)) in WITH_TRIGGER.into_iter().enumerate() {
            print!("; {name} {:.0}", rate_of[at + 1]);
            ratios[at].push(rate_of[at + 1] / rate_of[0]);
        }
        println!();
        rates.push(rate_of[0]);
    }
    let plural = if clients == 1 { "client" } else { "clients" };
    let name = format!("inserts into sessions, {clients} {plural}, without the trigger");
    table.add(&name, "/s", None, rates);
    for ((_, name), ratios) in WITH_TRIGGER.into_iter().zip(ratios) {
        table.add(&format!("   with: {name}"), "x", None, ratios);
    }
}

/// Rows a second that pgbench inserts.
fn rate(stage: &mut Stage, beside: Beside, clients: u32, seconds: u32) -> f64 {
    set_up(stage, beside);
    let script = format!(
        "\\set n random(1, {TUTORS})
INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                      scheduled_end_at, duration_minutes)
VALUES (gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad(:n::text, 12, '0'))::uuid,
        '{}', 'zoom', now() + interval '1 day', now() + interval '1 day 1 hour', 60);\n",
        stage.student
    );
    let cluster = &stage.app.cluster;
    let script = cluster.write_file("insert.sql", &script, 0o644);
    let mut command = Command::new(cluster.bin_dir().join("pgbench"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["-n", "-M", "prepared", "-U", "postgres"])
        .args([
            "-c",
            &clients.to_string(),
            "-j",
            &clients.min(2).to_string(),
        ])
        .args(["-T", &seconds.to_string(), "-f"])
        .arg(script)
        .arg("-h")
        .arg(cluster.socket_dir())
        .args(["-p", &Cluster::PORT.to_string(), DATABASE])
        .output()
        .expect("pgbench starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!("pgbench gave no rate:\n{text}{errors}")
        })
}

/// An empty table, and meetlink as it is to be.
fn set_up(stage: &mut Stage, beside: Beside) {
    stage.reset();
    let triggers: Vec<String> = stage
        .app
        .client()
        .query(
            "SELECT quote_ident(tgname) FROM pg_trigger
              WHERE tgrelid = 'sessions'::regclass AND tgfoid = 'meetlink.enqueue'::regproc",
            &[],
        )
        .expect("triggers are listed")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(!triggers.is_empty(), "meetlink is not attached");
    let what = if beside == Beside::NoTrigger {
        "DISABLE"
    } else {
        "ENABLE"
    };
    for trigger in triggers {
        let sql = format!("ALTER TABLE sessions {what} TRIGGER {trigger}");
        stage.app.client().batch_execute(&sql).expect("ALTER TABLE");
    }
    let enabled = if beside == Beside::Off { "off" } else { "on" };
    if stage.app.value::<String>("SHOW meetlink.enabled") != enabled {
        stage.app.cluster.set("meetlink.enabled", enabled);
        let query = format!("SELECT current_setting('meetlink.enabled') = '{enabled}'");
        stage.app.wait_until("the setting", &query);
    }
    if matches!(beside, Beside::Off | Beside::On) {
        stage.resume();
    }
    wait::until_true(meetlink_e2e::app::SOON, "an empty table", || {
        stage.app.value::<i64>("SELECT count(*) FROM sessions") == 0
    });
}

fn many_rows_a_statement(stage: &mut Stage, effort: Effort, table: &mut Table) {
    let statement = format!(
        "INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes)
         SELECT gen_random_uuid(),
                ('00000000-0000-4000-8000-' || lpad((1 + n % {TUTORS})::text, 12, '0'))::uuid,
                '{}', 'zoom', now() + interval '1 day', now() + interval '1 day 1 hour', 60
           FROM generate_series(1, 10000) n",
        stage.student
    );
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..effort.big_inserts {
        for (beside, times) in [Beside::NoTrigger, Beside::Paused]
            .into_iter()
            .zip(&mut times)
        {
            set_up(stage, beside);
            let mut client = stage.app.client();
            let begun = Instant::now();
            client.batch_execute(&statement).expect("10,000 rows");
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [without, with] = times;
    println!(
        "10,000 rows in one statement: {:.0} ms without the trigger ({:.0} .. {:.0}), {:.0} with it ({:.0} .. {:.0})",
        median(&without),
        spread(&without).0,
        spread(&without).1,
        median(&with),
        spread(&with).0,
        spread(&with).1,
    );
    let ratios = with
        .iter()
        .zip(&without)
        .map(|(with, without)| with / without);
    let name = "10,000 rows in one statement: time with / without trigger";
    table.add(name, "x", None, ratios.collect());
}
