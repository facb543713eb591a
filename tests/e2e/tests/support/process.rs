//! What a process has done so far, as the kernel counts it.

/// Over all threads of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Context switches, voluntary or not: each wake-up ends in one.
    pub switches: u64,
    /// Those of them that it made by falling asleep, which the load of the machine adds none to.
    pub sleeps: u64,
    /// Processor time in clock ticks.
    pub ticks: u64,
    /// Threads at the moment.
    pub threads: usize,
}

/// Reads it. Needs the process to be there.
pub fn done(pid: i32) -> Done {
    let mut done = Done::default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    for task in tasks.map(|task| task.expect("a thread").path()) {
        let status = std::fs::read_to_string(task.join("status")).expect("its status");
        let switches = |kind: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(kind));
            let count = line.and_then(|count| count.trim().parse::<u64>().ok());
            count.unwrap_or_else(|| panic!("no {kind} in {status}"))
        };
        let sleeps = switches("voluntary_ctxt_switches:");
        done.sleeps += sleeps;
        done.switches += sleeps + switches("nonvoluntary_ctxt_switches:");
        let stat = std::fs::read_to_string(task.join("stat")).expect("its times");
        // After the name, which may hold anything but ends with the last bracket: fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let times = fields.split_whitespace().skip(11).take(2);
        done.ticks += times.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
        done.threads += 1;
    }
    done
}
