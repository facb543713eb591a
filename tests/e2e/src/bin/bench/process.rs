//! What processes cost, from /proc.

use std::path::PathBuf;

/// Of all threads of a process, or of several processes together.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub cpu_ms: f64,
    pub switches: f64,
    pub threads: usize,
}

impl Cost {
    pub fn of(pids: &[i32]) -> Self {
        let mut cost = Self::default();
        for pid in pids {
            cost.add(*pid);
        }
        cost
    }

    fn add(&mut self, pid: i32) {
        // A process that ended meanwhile has no tasks.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let tasks: Vec<PathBuf> = tasks
            .into_iter()
            .flatten()
            .flatten()
            .map(|t| t.path())
            .collect();
        for task in tasks {
            let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
            // The first number is the time on a CPU in nanoseconds.
            let nanoseconds = read("schedstat")
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0);
            self.cpu_ms += nanoseconds / 1e6;
            self.threads += 1;
            for line in read("status").lines() {
                if let Some((name, value)) = line.split_once(':')
                    && name.ends_with("ctxt_switches")
                {
                    self.switches += value.trim().parse().unwrap_or(0.0);
                }
            }
        }
    }
}

/// Bytes that no other process shares, in MB: what a process costs the machine.
pub fn private_mb(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kb: f64 = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum();
    kb / 1024.0
}
