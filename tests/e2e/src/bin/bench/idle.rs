//! What a worker costs that has nothing to do.

use std::path::PathBuf;
use std::time::Duration;

use super::Effort;
use super::stage::{Ear, Stage};
use super::table::Table;

/// Of all threads of a process.
#[derive(Clone, Copy, Default)]
struct Cost {
    cpu_ms: f64,
    switches: f64,
    threads: usize,
}

pub fn run(effort: Effort, table: &mut Table) {
    let stage = Stage::new(&[]);
    // Not a worker that never worked: connections, threads and caches are there.
    let ear = Ear::new(&stage.app);
    stage
        .app
        .client()
        .execute(
            "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at, confirmed_end_at)
             SELECT id, $1, 'CONFIRMED', now() + interval '1 day', now() + interval '1 day 1 hour'
               FROM profiles WHERE role = 'tutor'",
            &[&stage.student],
        )
        .expect("bookings are confirmed");
    for _ in 0..super::stage::TUTORS {
        ear.next_ready(Duration::from_secs(30)).expect("a link");
    }
    let pid = stage.app.worker_pid();
    println!(
        "after 100 links and 5 s of rest, measured for {} s",
        effort.idle_seconds
    );
    std::thread::sleep(Duration::from_secs(5));
    let before = cost(pid);
    std::thread::sleep(Duration::from_secs(effort.idle_seconds));
    let after = cost(pid);
    println!(
        "{} threads; {:.3} ms of CPU, {} context switches",
        after.threads,
        after.cpu_ms - before.cpu_ms,
        after.switches - before.switches
    );
    let seconds = effort.idle_seconds;
    let name = format!("idle worker: CPU in {seconds} s");
    table.add(&name, "ms", None, vec![after.cpu_ms - before.cpu_ms]);
    let name = format!("idle worker: context switches in {seconds} s");
    table.add(&name, "", None, vec![after.switches - before.switches]);
}

fn cost(pid: i32) -> Cost {
    let mut cost = Cost::default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the worker runs");
    let tasks: Vec<PathBuf> = tasks.flatten().map(|task| task.path()).collect();
    for task in tasks {
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        // The first number is the time on a CPU in nanoseconds.
        let nanoseconds = read("schedstat")
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        cost.cpu_ms += nanoseconds / 1e6;
        cost.threads += 1;
        for line in read("status").lines() {
            if let Some((name, value)) = line.split_once(':')
                && name.ends_with("ctxt_switches")
            {
                cost.switches += value.trim().parse().unwrap_or(0.0);
            }
        }
    }
    cost
}
