//! What processes cost, from /proc.

use std::collections::HashMap;

/// Threads of several processes, by their ids, with what each has used so far.
pub struct Threads(HashMap<i32, Used>);

#[derive(Clone, Copy, Default)]
struct Used {
    cpu_ms: f64,
    switches: f64,
}

/// What was used between two looks.
pub struct Cost {
    pub cpu_ms: f64,
    pub switches: f64,
    pub threads: usize,
}

impl Threads {
    pub fn of(pids: &[i32]) -> Self {
        let mut threads = HashMap::new();
        for pid in pids {
            // A process that ended meanwhile has none.
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let id = task.file_name().to_string_lossy().parse();
                if let Ok(id) = id {
                    let read = |name: &str| std::fs::read_to_string(task.path().join(name));
                    let (times, status) = (read("schedstat"), read("status"));
                    threads.insert(
                        id,
                        used(&times.unwrap_or_default(), &status.unwrap_or_default()),
                    );
                }
            }
        }
        Self(threads)
    }

    /// What these used since: all of what a new thread did, nothing of one that is gone.
    pub fn since(&self, before: &Self) -> Cost {
        let mut cost = Cost {
            cpu_ms: 0.0,
            switches: 0.0,
            threads: self.0.len(),
        };
        for (id, now) in &self.0 {
            let then = before.0.get(id).copied().unwrap_or_default();
            cost.cpu_ms += now.cpu_ms - then.cpu_ms;
            cost.switches += now.switches - then.switches;
        }
        cost
    }
}

fn used(schedstat: &str, status: &str) -> Used {
    // The first number is the time on a CPU in nanoseconds.
    let nanoseconds = schedstat.split(' ').next();
    let nanoseconds: f64 = nanoseconds.and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let switches = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.ends_with("ctxt_switches"))
        .filter_map(|(_, value)| value.trim().parse::<f64>().ok())
        .sum();
    Used {
        cpu_ms: nanoseconds / 1e6,
        switches,
    }
}

/// Private memory of a process in MB: what it costs the machine. Mappings that are shared by their
/// kind are left out: a page of the server's shared buffers that nobody else has touched yet would
/// count as private.
pub fn private_mb(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut kb, mut own) = (0.0, false);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !first.ends_with(':') {
            own = second.ends_with('p');
        } else if own && first.starts_with("Private_") {
            kb += second.parse().unwrap_or(0.0);
        }
    }
    kb / 1024.0
}
