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
