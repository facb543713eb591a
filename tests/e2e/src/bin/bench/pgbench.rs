//! Inserts into `sessions` by pgbench.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use meetlink_e2e::Cluster;
use meetlink_e2e::app::DATABASE;

use super::stage::{Stage, TUTORS};

/// Seconds between two looks at the rate within a run.
const EVERY: u32 = 5;

/// What a run gives.
pub struct Rates {
    /// Rows a second, over all of it.
    pub all: f64,
    /// The same for every five seconds.
    pub course: Vec<f64>,
}

/// Runs so many clients, each one statement of so many rows a transaction, one after another.
pub fn insert(stage: &Stage, clients: u32, rows: u32, seconds: u32) -> Rates {
    let values = format!(
        "'{}', 'zoom', now() + interval '1 day', now() + interval '1 day 1 hour', 60",
        stage.student
    );
    let script = if rows == 1 {
        format!(
            "\\set n random(1, {TUTORS})
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             VALUES (gen_random_uuid(),
                     ('00000000-0000-4000-8000-' || lpad(:n::text, 12, '0'))::uuid, {values});"
        )
    } else {
        format!(
            "INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT gen_random_uuid(),
                    ('00000000-0000-4000-8000-' || lpad((1 + n % {TUTORS})::text, 12, '0'))::uuid,
                    {values}
               FROM generate_series(1, {rows}) n;"
        )
    };
    // pgbench's backslash commands end with their line, and its statements with a semicolon.
    let cluster = &stage.app.cluster;
    let script = cluster.write_file("insert.sql", &format!("{script}\n"), 0o644);
    let mut command = Command::new(cluster.bin_dir().join("pgbench"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let mut pgbench = command
        .args([
            "-n",
            "-M",
            "prepared",
            "-U",
            "postgres",
            "-P",
            &EVERY.to_string(),
        ])
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
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pgbench starts");
    let (mut course, mut errors) = (Vec::new(), String::new());
    let stderr = pgbench.stderr.take().into_iter();
    for line in stderr
        .flat_map(|pipe| BufReader::new(pipe).lines())
        .map_while(Result::ok)
    {
        match tps(&line) {
            Some((at, tps)) => {
                let rate = tps * f64::from(rows);
                println!("      {at:>3.0} s  {rate:.0} rows/s");
                course.push(rate);
            }
            None => errors.push_str(&line),
        }
    }
    let output = pgbench.wait_with_output().expect("pgbench ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let all = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("tps = ")?
                .split(' ')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .unwrap_or_else(|| panic!("pgbench gave no rate:\n{text}{errors}"));
    Rates {
        all: all * f64::from(rows),
        course,
    }
}

/// Of `progress: 5.0 s, 1234.5 tps, lat ...`.
fn tps(line: &str) -> Option<(f64, f64)> {
    let rest = line.strip_prefix("progress: ")?;
    let (at, rest) = rest.split_once(" s, ")?;
    Some((at.parse().ok()?, rest.split(' ').next()?.parse().ok()?))
}
